//! From Kafka to observations: reads what all due Consumers need, once.
//!
//! Committed offsets are read first and end offsets after them, so that lag is never too low.
//! What could not be read stays unknown: an error of one group or partition is that one's alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::reflector::ObjectRef;

use super::members::{Members, Signs, Told, Wanted};
use super::offsets::{self, Ends, GroupOffsets, TopicEnds};
use super::outside::Outside;
use super::retention::Retention;
use super::{Side, Trouble, crowd, pods, side};
use crate::api::conditions::Reason;
use crate::api::consumer::Isolation as ApiIsolation;
use crate::brokers::kafka::{
    ErrorCode, GroupKind as Kind, GroupState as Seen, Isolation, KafkaError, KafkaHandle, OffsetQuery,
    OffsetSpec,
};
use crate::controllers::consumer::registry::{self, Registration};
use crate::controllers::consumer::targets::TargetKey;
use crate::controllers::context::Context;
use crate::controllers::links::Link;
use crate::controllers::sweep::outcome;
use crate::scaling::{
    Committed, Group, GroupKind, GroupRead, GroupState, Kafka, Member, Observation, Partition, Pod, ReadAt,
    Retry,
};

/// How long one request of a sweep may take.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How old partitions and topic ids may be. That a topic is not there is asked again at each poll: topics and those
/// who read them are often made in the same second, and there is no lag to see before.
const TOPICS_AGE: Duration = Duration::from_secs(5);
/// For how long a topic that nobody asks for is remembered.
const FORGET: Duration = Duration::from_secs(60);

/// What changes seldom, kept from sweep to sweep.
#[derive(Default)]
pub struct Facts {
    topics: HashMap<String, Described>,
    members: Members,
    outside: Outside,
    strangers: Strangers,
    retention: Retention,
    names: HashMap<(String, i32), Arc<str>>,
}

#[derive(Clone)]
struct Topic {
    id: Arc<str>,
    partitions: i32,
}

/// What a topic was said to be, and when.
struct Described {
    at: Instant,
    known: Result<Topic, KafkaError>,
}

impl Described {
    fn is_stale(&self, now: Instant) -> bool {
        self.known.is_err() || now >= self.at + TOPICS_AGE
    }
}

impl Facts {
    fn name(&mut self, topic: &str, partition: i32) -> Arc<str> {
        self.names
            .entry((topic.to_owned(), partition))
            .or_insert_with(|| format!("{topic}/{partition}").into())
            .clone()
    }
}

/// The members, by group, that were proven to be in none of our pods: they stay so, whatever becomes of our pods.
type Strangers = HashMap<String, HashSet<String>>;

/// What one sweep brought.
#[derive(Default)]
pub struct Sample {
    at: f64,
    committed_at: f64,
    end_at: f64,
    topics: HashMap<String, Result<Topic, KafkaError>>,
    committed: HashMap<String, Result<GroupOffsets, KafkaError>>,
    groups: HashMap<String, Told>,
    /// Groups that are there and no groups of consumers.
    outside: HashSet<String>,
    /// Groups of which that is not known yet.
    unsure: HashSet<String>,
    strangers: Strangers,
    ends: TopicEnds,
    retention: Option<f64>,
    side: HashMap<String, Side>,
}

impl Sample {
    fn partitions_of(&self, topic: &str) -> i32 {
        self.topics.get(topic).and_then(|known| known.as_ref().ok()).map_or(0, |topic| topic.partitions)
    }

    /// Why nothing of what the group reads is known, if that is so.
    pub fn trouble(&self, group: &registry::Group) -> Option<Trouble> {
        if let Some(Err(error)) = self.committed.get(&group.name)
            && error.code != ErrorCode::GroupIdNotFound
        {
            return Some(Trouble::of(&error.clone().into()));
        }
        let troubles = group.topics.iter().map(|topic| self.topic_trouble(topic));
        // What is known of the others is said by the condition PartialData.
        troubles.collect::<Option<Vec<_>>>()?.into_iter().next()
    }

    /// Why nothing is known of a topic, if that is so.
    fn topic_trouble(&self, topic: &str) -> Option<Trouble> {
        match self.topics.get(topic)? {
            Err(error) if error.code == ErrorCode::UnknownTopicOrPartition => {
                Some(Trouble::new(Reason::NotFound, format!("topic {topic:?} does not exist"), ""))
            }
            Err(error) => Some(Trouble::of(&error.clone().into())),
            Ok(_) => {
                let ends = self.ends.get(topic)?;
                let words = ends.iter().map(|ends| ends.error.as_deref()).collect::<Option<Vec<_>>>()?;
                let first = words.first()?;
                let message =
                    format!("failed to read the end of every partition of topic {topic:?}: {first}");
                Some(Trouble::new(Reason::Unknown, message, first))
            }
        }
    }
}

/// Reads what the due Consumers need.
pub async fn read(
    ctx: &Arc<Context>,
    (link, kafka): (&Link, &KafkaHandle),
    due: &[Arc<Registration>],
    facts: &mut Facts,
) -> Result<Sample, KafkaError> {
    let mut sample = Sample::default();
    for registration in due {
        sample.side.insert(registration.uid.clone(), side(ctx, registration));
    }
    topics(ctx, (link, kafka), due, &mut sample, facts).await?;
    sample.committed_at = ctx.now();
    let (broker, intervals) = (link.key.to_string(), intervals(due));
    tokio::join!(
        async {
            sample.committed = committed(ctx, (link, kafka), due).await;
            if kafka.client.is_lost() {
                // A pass of the Broker makes another client; nobody else would come for minutes.
                ctx.wake_brokers.wake(&ObjectRef::new(&link.key.name).within(&link.key.namespace));
            }
        },
        async {
            sample.groups = facts.members.read(ctx, &broker, &kafka.client, &intervals).await;
        },
        async {
            if due.iter().any(|registration| registration.may_rest()) {
                sample.retention = facts.retention.read(ctx, &broker, &kafka.client).await;
            }
        }
    );
    facts.outside.look(ctx, (&broker, &kafka.client), &sample.groups);
    let groups = |is: fn(&Outside, &str) -> bool| -> HashSet<String> {
        let names = all_groups(due).map(|group| &group.name);
        names.filter(|group| is(&facts.outside, group)).cloned().collect()
    };
    (sample.outside, sample.unsure) = (groups(Outside::has), groups(Outside::unsure));
    // Who committed something to Kafka is a group of consumers, whenever it was described.
    let committed = |group: &String| sample.committed.get(group).and_then(|answer| answer.as_ref().ok());
    sample.unsure.retain(|group| committed(group).is_none_or(GroupOffsets::is_empty));
    sample.strangers = strangers(ctx, due, &sample.groups, &mut facts.strangers);
    facts.names.retain(|(topic, _), _| facts.topics.contains_key(topic));
    sample.ends = named(&sample.topics, facts);
    sample.end_at = ctx.now();
    ends(ctx, (link, kafka), due, &mut sample).await;
    sample.at = ctx.now();
    facts.members.prepare(ctx, &broker, &kafka.client, &wanted(ctx, due, &sample, &intervals));
    Ok(sample)
}

/// All partitions by name; of their ends, nothing is known yet.
fn named(topics: &HashMap<String, Result<Topic, KafkaError>>, facts: &mut Facts) -> TopicEnds {
    let known = topics.iter().filter_map(|(name, known)| Some((name, known.as_ref().ok()?)));
    known
        .map(|(name, topic)| {
            let ends = (0..topic.partitions).map(|partition| Ends::of(facts.name(name, partition)));
            (name.clone(), ends.collect())
        })
        .collect()
}

/// The groups of those who read from Kafka.
fn all_groups(due: &[Arc<Registration>]) -> impl Iterator<Item = &registry::Group> {
    due.iter().filter_map(|registration| registration.source.group())
}

/// How many partitions each topic has, and its id.
async fn topics(
    ctx: &Context,
    (link, kafka): (&Link, &KafkaHandle),
    due: &[Arc<Registration>],
    sample: &mut Sample,
    facts: &mut Facts,
) -> Result<(), KafkaError> {
    let mut wanted: BTreeSet<String> = all_groups(due).flat_map(|group| group.topics.clone()).collect();
    for side in sample.side.values() {
        wanted.extend(side.dead_letters.iter().cloned());
        wanted.extend(side.retries.iter().cloned());
    }
    let now = Instant::now();
    facts.topics.retain(|_, topic| now < topic.at + FORGET);
    let stale = |topic: &&String| facts.topics.get(*topic).is_none_or(|topic| topic.is_stale(now));
    let names: Vec<String> = wanted.iter().filter(stale).cloned().collect();
    if !names.is_empty() {
        let asked = Instant::now();
        let answers = kafka.client.describe_topics(&names, TIMEOUT).await;
        ctx.metrics.broker_request(
            &link.key.to_string(),
            "DescribeTopics",
            outcome(&answers),
            asked.elapsed(),
        );
        for (name, answer) in answers? {
            let known = answer.map(|topic| Topic {
                id: topic.topic_id.into(),
                partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            });
            facts.topics.insert(name, Described { at: asked, known });
        }
    }
    for topic in wanted {
        if let Some(described) = facts.topics.get(&topic) {
            sample.topics.insert(topic, described.known.clone());
        }
    }
    Ok(())
}

async fn committed(
    ctx: &Context,
    (link, kafka): (&Link, &KafkaHandle),
    due: &[Arc<Registration>],
) -> HashMap<String, Result<GroupOffsets, KafkaError>> {
    let groups: BTreeSet<String> = all_groups(due).map(|group| group.name.clone()).collect();
    let broker = link.key.to_string();
    let answers = crowd::ask(groups, async |group| {
        let asked = Instant::now();
        let answer = kafka.client.committed_offsets(&group, TIMEOUT).await;
        ctx.metrics.broker_request(&broker, "OffsetFetch", outcome(&answer), asked.elapsed());
        (group, answer.map(|offsets| offsets.into_iter().collect()))
    });
    answers.await.into_iter().collect()
}

/// How many seconds lie between two polls of each group.
fn intervals(due: &[Arc<Registration>]) -> BTreeMap<&str, f64> {
    let mut intervals: BTreeMap<&str, f64> = BTreeMap::new();
    for registration in due {
        if let Some(group) = registration.source.group() {
            let interval = intervals.entry(&group.name).or_insert(f64::INFINITY);
            *interval = interval.min(registration.poll_interval());
        }
    }
    intervals
}

/// The groups with what tells whether their members may have changed.
fn wanted<'a>(
    ctx: &Context,
    due: &'a [Arc<Registration>],
    sample: &Sample,
    intervals: &BTreeMap<&'a str, f64>,
) -> BTreeMap<&'a str, Wanted> {
    let mut wanted = BTreeMap::new();
    for registration in due {
        let Some(group) = registration.source.group() else { continue };
        let Some(&interval) = intervals.get(group.name.as_str()) else { continue };
        let offsets = sample.committed.get(&group.name).and_then(|answer| answer.as_ref().ok());
        let signs = Signs {
            replicas: ctx.targets.get(&registration.target).map_or((0, 0), |is| (is.wanted, is.ready)),
            committed: offsets.map_or(0, GroupOffsets::sum),
        };
        wanted.insert(group.name.as_str(), Wanted { interval, signs });
    }
    wanted
}

/// Members of the groups that were described now that are in none of our pods.
fn strangers(
    ctx: &Context,
    due: &[Arc<Registration>],
    groups: &HashMap<String, Told>,
    known: &mut Strangers,
) -> Strangers {
    for registration in due {
        let Some(group) = registration.source.group() else { continue };
        let Some(Ok(described)) = groups.get(&group.name) else { continue };
        let mut found = known.remove(&group.name).unwrap_or_default();
        found.retain(|id| described.members.iter().any(|member| member.id == *id));
        // Amid a roll-out, some pods may have another client id than the others.
        let target = ctx.targets.get(&registration.target).filter(|target| !target.updating);
        let ready = target.map_or(0, |target| target.ready);
        let proven = pods::strangers(&described.members, &registration.target, ready);
        found.extend(proven.into_iter().map(Into::into));
        if !found.is_empty() {
            known.insert(group.name.clone(), found);
        }
    }
    known
        .iter()
        .filter(|(group, _)| groups.contains_key(*group))
        .map(|(g, ids)| (g.clone(), ids.clone()))
        .collect()
}

/// Both ends of every partition that counts, each asked for once.
async fn ends(
    ctx: &Context,
    (link, kafka): (&Link, &KafkaHandle),
    due: &[Arc<Registration>],
    sample: &mut Sample,
) {
    let mut queries: BTreeSet<OffsetQuery> = BTreeSet::new();
    let mut stable: BTreeSet<OffsetQuery> = BTreeSet::new();
    let query = |topic: &str, partition, spec| OffsetQuery { topic: topic.to_owned(), partition, spec };
    for (topic, known) in &sample.topics {
        for partition in 0..known.as_ref().map_or(0, |topic| topic.partitions) {
            queries.insert(query(topic, partition, OffsetSpec::Earliest));
            queries.insert(query(topic, partition, OffsetSpec::Latest));
        }
    }
    for group in all_groups(due).filter(|group| group.isolation == ApiIsolation::ReadCommitted) {
        for topic in &group.topics {
            for partition in 0..sample.partitions_of(topic) {
                stable.insert(query(topic, partition, OffsetSpec::Latest));
            }
        }
    }
    let ask = async |queries: BTreeSet<OffsetQuery>, isolation| {
        if queries.is_empty() {
            return Vec::new();
        }
        let queries: Vec<_> = queries.into_iter().collect();
        let asked = Instant::now();
        let answers = kafka.client.list_offsets(&queries, isolation, TIMEOUT).await;
        ctx.metrics.broker_request(&link.key.to_string(), "ListOffsets", outcome(&answers), asked.elapsed());
        match answers {
            Ok(answers) => answers,
            Err(error) => queries.into_iter().map(|query| (query, Err(error.clone()))).collect(),
        }
    };
    let (all, stable) =
        tokio::join!(ask(queries, Isolation::ReadUncommitted), ask(stable, Isolation::ReadCommitted));
    for (answers, isolation) in [(all, Isolation::ReadUncommitted), (stable, Isolation::ReadCommitted)] {
        for (query, answer) in answers {
            if let Some(partition) = offsets::partition(&mut sample.ends, &query) {
                partition.take(query.spec, isolation, answer);
            }
        }
    }
}

/// One Consumer's observation, but for its target.
#[must_use]
pub fn observation(sample: &Sample, registration: &Registration, group: &registry::Group) -> Observation {
    let side = sample.side.get(&registration.uid).cloned().unwrap_or_default();
    let ends = |topic: &String| sample.ends.get(topic);
    let committed = sample.committed.get(&group.name).and_then(|answer| answer.as_ref().ok());
    let waiting = |topic: &String| -> Option<u64> {
        (0..)
            .zip(ends(topic)?)
            .map(|(partition, Ends { start, high, .. })| {
                let from = match committed?.at(topic, partition) {
                    // What retention removed waits no more.
                    Committed::At(offset) => (*start)?.max(offset),
                    Committed::None => (*start)?,
                    Committed::Unknown => return None,
                };
                u64::try_from(((*high)? - from).max(0)).ok()
            })
            .sum()
    };
    Observation {
        now: sample.at,
        kafka: Some(kafka(sample, group, &registration.target)),
        dead_letter: side.dead_letter(
            |topic| matches!(sample.topics.get(topic), Some(Ok(_))),
            |topic| ends(topic)?.iter().map(|ends| ends.high).sum(),
        ),
        retry: (!side.retries.is_empty())
            .then(|| Retry { lag: side.retries.iter().map(waiting).sum::<Option<u64>>() }),
        offsets_retention: sample.retention,
        ..Observation::default()
    }
}

fn kafka(sample: &Sample, source: &registry::Group, target: &TargetKey) -> Kafka {
    let committed = sample.committed.get(&source.name);
    let stable = source.isolation == ApiIsolation::ReadCommitted;
    let mut partitions = Vec::new();
    for topic in &source.topics {
        let known = match sample.topics.get(topic) {
            Some(Ok(known)) => known,
            // A topic that is not there has a partition that is not known: nothing is zero.
            missing => {
                let error = missing.and_then(|known| Some(known.as_ref().err()?.message.clone()));
                partitions.push(Partition {
                    tp: format!("{topic}/0").into(),
                    topic_id: None,
                    start: None,
                    end: None,
                    hw: None,
                    committed: Committed::Unknown,
                    error: Some(error.unwrap_or_else(|| "not described".into())),
                });
                continue;
            }
        };
        for (partition, ends) in (0..).zip(sample.ends.get(topic).into_iter().flatten()) {
            partitions.push(Partition {
                tp: ends.name.clone(),
                topic_id: Some(known.id.clone()),
                start: ends.start,
                end: if stable { ends.stable } else { ends.high },
                hw: ends.high,
                committed: match committed {
                    // What it committed, if anything, is not told of a group of another kind.
                    Some(Ok(_)) if sample.unsure.contains(&source.name) => Committed::Unknown,
                    Some(Ok(offsets)) => offsets.at(topic, partition),
                    // A group that does not exist has committed nothing.
                    Some(Err(error)) if error.code == ErrorCode::GroupIdNotFound => Committed::None,
                    _ => Committed::Unknown,
                },
                error: ends.error.clone(),
            });
        }
    }
    Kafka {
        read_at: ReadAt { committed: sample.committed_at - sample.at, end: sample.end_at - sample.at },
        group: group(sample, &source.name, target),
        partitions,
    }
}

fn group(sample: &Sample, name: &str, target: &TargetKey) -> GroupRead {
    if sample.outside.contains(name) {
        let (kind, state) = (GroupKind::Other, GroupState::Dead);
        return GroupRead::Known(Group { kind, state, ..Group::default() });
    }
    let described = match sample.groups.get(name) {
        None => return GroupRead::NotRead,
        Some(Ok(described)) => described,
        Some(Err(error)) if error.code == ErrorCode::GroupIdNotFound => {
            return GroupRead::Known(Group { state: GroupState::Dead, ..Group::default() });
        }
        Some(Err(_)) => return GroupRead::Unreadable,
    };
    let strangers = sample.strangers.get(name);
    let members = described.members.iter().map(|member| Member {
        id: member.id.as_str().into(),
        pod: match pods::named(&member.client_id, target) {
            Some(pod) => Pod::Known(pod.into()),
            None if strangers.is_some_and(|strangers| strangers.contains(&member.id)) => Pod::Foreign,
            // Any other client id may be anybody's, which is not the same as a stranger's.
            None => Pod::Unknown,
        },
        is_static: member.instance_id.is_some(),
        partitions: member
            .assignment
            .iter()
            .map(|tp| {
                let ends = sample.ends.get(&tp.topic);
                let known = ends.and_then(|ends| ends.get(usize::try_from(tp.partition).ok()?));
                let new = || format!("{}/{}", tp.topic, tp.partition).into();
                known.map_or_else(new, |known| known.name.clone())
            })
            .collect(),
    });
    GroupRead::Known(Group {
        kind: match described.kind {
            Kind::Consumer => GroupKind::Consumer,
            _ => GroupKind::Classic,
        },
        state: match described.state {
            Seen::Stable => GroupState::Stable,
            Seen::Empty => GroupState::Empty,
            Seen::Dead => GroupState::Dead,
            Seen::PreparingRebalance => GroupState::PreparingRebalance,
            Seen::CompletingRebalance => GroupState::CompletingRebalance,
            Seen::Unknown => GroupState::Other,
        },
        assignor: described.assignor.as_str().into(),
        members: members.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_was_not_there_is_asked_for_again_at_the_next_poll() {
        let at = Instant::now();
        let error = KafkaError {
            operation: "describe topic".into(),
            code: ErrorCode::UnknownTopicOrPartition,
            message: "unknown topic".into(),
        };
        let missing = Described { at, known: Err(error) };
        let known = Described { at, known: Ok(Topic { id: "a".into(), partitions: 1 }) };
        let soon = at + Duration::from_secs(1);
        assert_eq!((missing.is_stale(soon), known.is_stale(soon)), (true, false));
        assert!(known.is_stale(at + TOPICS_AGE));
    }
}
