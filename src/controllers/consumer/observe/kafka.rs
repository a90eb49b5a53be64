//! From Kafka to observations: reads what all due Consumers need, once.
//!
//! Committed offsets are read first and end offsets after them, so that lag is never too low.
//! What could not be read stays unknown: an error of one group or partition is that one's alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;

use super::{Side, side};
use crate::api::consumer::Isolation as ApiIsolation;
use crate::brokers::kafka::{
    ErrorCode, GroupDescription, GroupKind as Kind, GroupState as Seen, Isolation, KafkaError, KafkaHandle,
    OffsetQuery, OffsetSpec, TopicPartition,
};
use crate::controllers::consumer::registry::{self, Registration};
use crate::controllers::consumer::targets::TargetKey;
use crate::controllers::context::Context;
use crate::controllers::links::Link;
use crate::controllers::sweep::outcome;
use crate::scaling::{
    Committed, DeadLetter, Group, GroupKind, GroupRead, GroupState, Kafka, Member, Observation, Partition,
    Pod, ReadAt, Retry,
};

/// How long one request of a sweep may take.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How many groups are asked for at once.
const PARALLEL: usize = 64;
/// How old partitions and topic ids may be. That a topic is not there is asked again at each poll: topics and those
/// who read them are often made in the same second, and there is no lag to see before.
const TOPICS_AGE: Duration = Duration::from_secs(5);
/// For how long a topic that nobody asks for is remembered.
const FORGET: Duration = Duration::from_secs(60);
/// How old members may be at least: they cost more than offsets and change seldom.
const MEMBERS_AGE: f64 = 2.5;
/// And how many polls old: with slow polls, half of the groups are described at one, the others at the next.
const MEMBERS_POLLS: f64 = 1.5;

/// What changes seldom, kept from sweep to sweep.
#[derive(Default)]
pub struct Facts {
    topics: HashMap<String, Described>,
    /// When a group's members are to be read next.
    members_due: HashMap<String, Instant>,
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
    known: Result<Topic, String>,
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

/// A group's committed offsets.
type GroupOffsets = HashMap<TopicPartition, Result<Option<i64>, KafkaError>>;

/// What one sweep brought.
#[derive(Default)]
pub struct Sample {
    at: f64,
    committed_at: f64,
    end_at: f64,
    topics: HashMap<String, Result<Topic, String>>,
    committed: HashMap<String, Result<GroupOffsets, KafkaError>>,
    groups: HashMap<String, Result<GroupDescription, KafkaError>>,
    ends: HashMap<OffsetQuery, Result<i64, KafkaError>>,
    stable: HashMap<OffsetQuery, Result<i64, KafkaError>>,
    names: HashMap<(String, i32), Arc<str>>,
    side: HashMap<String, Side>,
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
    tokio::join!(
        async {
            sample.committed = committed(ctx, (link, kafka), due).await;
        },
        async {
            sample.groups = groups(ctx, (link, kafka), due, &mut facts.members_due).await;
        }
    );
    sample.end_at = ctx.now();
    ends(ctx, (link, kafka), due, &mut sample).await;
    sample.at = ctx.now();
    facts.names.retain(|(topic, _), _| facts.topics.contains_key(topic));
    for (topic, known) in &sample.topics {
        for partition in 0..known.as_ref().map_or(0, |topic| topic.partitions) {
            sample.names.insert((topic.clone(), partition), facts.name(topic, partition));
        }
    }
    Ok(sample)
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
        wanted.extend(side.dead_letter.iter().cloned());
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
            facts.topics.insert(name, Described { at: asked, known: known.map_err(|error| error.message) });
        }
    }
    for topic in wanted {
        let known = facts.topics.get(&topic).map(|topic| topic.known.clone());
        sample.topics.insert(topic, known.unwrap_or_else(|| Err("not described".into())));
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
    futures::stream::iter(groups)
        .map(async |group| {
            let asked = Instant::now();
            let answer = kafka.client.committed_offsets(&group, TIMEOUT).await;
            ctx.metrics.broker_request(&broker, "OffsetFetch", outcome(&answer), asked.elapsed());
            (group, answer.map(|offsets| offsets.into_iter().collect()))
        })
        .buffer_unordered(PARALLEL)
        .collect()
        .await
}

/// The groups (and how many seconds lie between two polls of them) whose members are to be read now; says when next.
/// Of those that come together, every second one comes again a poll earlier, so that later halves take turns.
fn turn(wanted: &BTreeMap<&str, f64>, next: &mut HashMap<String, Instant>, now: Instant) -> Vec<String> {
    next.retain(|_, at| now < *at + FORGET);
    let due = wanted.iter().filter(|(group, _)| next.get(**group).is_none_or(|at| *at <= now));
    let due: Vec<_> = due.map(|(&group, &interval)| (group.to_owned(), interval)).collect();
    for (number, (group, interval)) in due.iter().enumerate() {
        let earlier = if number % 2 == 1 && !next.contains_key(group) { *interval } else { 0.0 };
        let age = (MEMBERS_AGE.max(MEMBERS_POLLS * interval) - earlier).max(0.0);
        next.insert(group.clone(), now + Duration::from_secs_f64(age));
    }
    due.into_iter().map(|(group, _)| group).collect()
}

async fn groups(
    ctx: &Context,
    (link, kafka): (&Link, &KafkaHandle),
    due: &[Arc<Registration>],
    next: &mut HashMap<String, Instant>,
) -> HashMap<String, Result<GroupDescription, KafkaError>> {
    let mut wanted: BTreeMap<&str, f64> = BTreeMap::new();
    for registration in due {
        if let Some(group) = registration.source.group() {
            let interval = wanted.entry(&group.name).or_insert(f64::INFINITY);
            *interval = interval.min(registration.poll_interval());
        }
    }
    let asked = Instant::now();
    let stale = turn(&wanted, next, asked);
    if stale.is_empty() {
        return HashMap::new();
    }
    let answers = kafka.client.describe_groups(&stale, TIMEOUT).await;
    ctx.metrics.broker_request(&link.key.to_string(), "DescribeGroups", outcome(&answers), asked.elapsed());
    match answers {
        Ok(answers) => answers.into_iter().collect(),
        Err(error) => stale.into_iter().map(|group| (group, Err(error.clone()))).collect(),
    }
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
            for partition in 0..sample.topics[topic].as_ref().map_or(0, |topic| topic.partitions) {
                stable.insert(query(topic, partition, OffsetSpec::Latest));
            }
        }
    }
    let ask = async |queries: BTreeSet<OffsetQuery>, isolation| {
        if queries.is_empty() {
            return HashMap::new();
        }
        let queries: Vec<_> = queries.into_iter().collect();
        let asked = Instant::now();
        let answers = kafka.client.list_offsets(&queries, isolation, TIMEOUT).await;
        ctx.metrics.broker_request(&link.key.to_string(), "ListOffsets", outcome(&answers), asked.elapsed());
        match answers {
            Ok(answers) => answers.into_iter().collect(),
            Err(error) => queries.into_iter().map(|query| (query, Err(error.clone()))).collect(),
        }
    };
    (sample.ends, sample.stable) =
        tokio::join!(ask(queries, Isolation::ReadUncommitted), ask(stable, Isolation::ReadCommitted));
}

/// One Consumer's observation, but for its target.
#[must_use]
pub fn observation(sample: &Sample, registration: &Registration, group: &registry::Group) -> Observation {
    let side = sample.side.get(&registration.uid).cloned().unwrap_or_default();
    let end = |topic: &str, partition: i32, spec| {
        let query = OffsetQuery { topic: topic.to_owned(), partition, spec };
        sample.ends.get(&query).and_then(|answer| answer.as_ref().ok()).copied()
    };
    let total = |topic: &str, spec| -> Option<i64> {
        let known = sample.topics.get(topic)?.as_ref().ok()?;
        (0..known.partitions).map(|partition| end(topic, partition, spec)).sum()
    };
    let committed = sample.committed.get(&group.name).and_then(|answer| answer.as_ref().ok());
    let waiting = |topic: &String| -> Option<u64> {
        let known = sample.topics.get(topic)?.as_ref().ok()?;
        (0..known.partitions)
            .map(|partition| {
                let last = end(topic, partition, OffsetSpec::Latest)?;
                let at = TopicPartition { topic: topic.clone(), partition };
                let first = end(topic, partition, OffsetSpec::Earliest)?;
                let from = match committed?.get(&at) {
                    // What retention removed waits no more.
                    Some(Ok(Some(offset))) => first.max(*offset),
                    Some(Err(_)) => return None,
                    Some(Ok(None)) | None => first,
                };
                u64::try_from((last - from).max(0)).ok()
            })
            .sum()
    };
    Observation {
        now: sample.at,
        kafka: Some(kafka(sample, group, &registration.target)),
        dead_letter: side
            .dead_letter
            .as_ref()
            .map(|topic| DeadLetter { end: total(topic, OffsetSpec::Latest) }),
        retry: (!side.retries.is_empty())
            .then(|| Retry { lag: side.retries.iter().map(waiting).sum::<Option<u64>>() }),
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
                let error = missing.and_then(|known| known.as_ref().err().cloned());
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
        for partition in 0..known.partitions {
            let query = |spec| OffsetQuery { topic: topic.clone(), partition, spec };
            let answer = |from: &HashMap<OffsetQuery, Result<i64, KafkaError>>, spec| {
                from.get(&query(spec)).and_then(|answer| answer.as_ref().ok()).copied()
            };
            let error = [OffsetSpec::Earliest, OffsetSpec::Latest].into_iter().find_map(|spec| {
                sample.ends.get(&query(spec))?.as_ref().err().map(|error| error.message.clone())
            });
            let high = answer(&sample.ends, OffsetSpec::Latest);
            let at = TopicPartition { topic: topic.clone(), partition };
            partitions.push(Partition {
                tp: sample.names.get(&(topic.clone(), partition)).cloned().unwrap_or_default(),
                topic_id: Some(known.id.clone()),
                start: answer(&sample.ends, OffsetSpec::Earliest),
                end: if stable { answer(&sample.stable, OffsetSpec::Latest) } else { high },
                hw: high,
                committed: match committed {
                    Some(Ok(offsets)) => match offsets.get(&at) {
                        Some(Ok(Some(offset))) => Committed::At(*offset),
                        Some(Ok(None)) | None => Committed::None,
                        Some(Err(_)) => Committed::Unknown,
                    },
                    // A group that does not exist has committed nothing.
                    Some(Err(error)) if error.code == ErrorCode::GroupIdNotFound => Committed::None,
                    _ => Committed::Unknown,
                },
                error,
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
    let described = match sample.groups.get(name) {
        None => return GroupRead::NotRead,
        Some(Ok(described)) => described,
        Some(Err(error)) if error.code == ErrorCode::GroupIdNotFound => {
            return GroupRead::Known(Group { state: GroupState::Dead, ..Group::default() });
        }
        Some(Err(_)) => return GroupRead::Unreadable,
    };
    let members = described.members.iter().map(|member| Member {
        id: member.id.as_str().into(),
        pod: pod(&member.client_id, target),
        is_static: member.instance_id.is_some(),
        partitions: member
            .assignment
            .iter()
            .map(|tp| {
                let known = sample.names.get(&(tp.topic.clone(), tp.partition)).cloned();
                known.unwrap_or_else(|| format!("{}/{}", tp.topic, tp.partition).into())
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

/// The pod of a member: Spillway gives each pod its name as client id. Any other client id may be
/// anybody's, which is not the same as a stranger's.
fn pod(client_id: &str, target: &TargetKey) -> Pod {
    match client_id.strip_prefix(&target.name).and_then(|rest| rest.strip_prefix('-')) {
        Some(_) => Pod::Known(client_id.into()),
        None => Pod::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::consumer::TargetKind;

    #[test]
    fn a_member_is_known_by_its_pods_name_and_never_taken_for_a_stranger() {
        let target = TargetKey { kind: TargetKind::Deployment, namespace: "n".into(), name: "orders".into() };
        assert_eq!(pod("orders-7d4-x", &target), Pod::Known("orders-7d4-x".into()));
        assert_eq!(pod("rdkafka", &target), Pod::Unknown);
        assert_eq!(pod("orders", &target), Pod::Unknown);
    }

    #[test]
    fn a_topic_that_was_not_there_is_asked_for_again_at_the_next_poll() {
        let at = Instant::now();
        let missing = Described { at, known: Err("unknown topic".to_owned()) };
        let known = Described { at, known: Ok(Topic { id: "a".into(), partitions: 1 }) };
        let soon = at + Duration::from_secs(1);
        assert_eq!((missing.is_stale(soon), known.is_stale(soon)), (true, false));
        assert!(known.is_stale(at + TOPICS_AGE));
    }

    #[test]
    fn with_slow_polls_the_members_of_half_of_the_groups_are_read_at_each_and_with_quick_ones_at_every_third()
    {
        let begun = Instant::now();
        let read = |interval: f64| {
            let wanted = BTreeMap::from([("a", interval), ("b", interval), ("c", interval), ("d", interval)]);
            let mut next = HashMap::new();
            let at = |poll: u32| begun + Duration::from_secs_f64(interval) * poll;
            (0..6).map(|poll| turn(&wanted, &mut next, at(poll)).concat()).collect::<Vec<_>>()
        };
        assert_eq!(read(5.0), ["abcd", "bd", "ac", "bd", "ac", "bd"]);
        assert_eq!(read(1.0), ["abcd", "", "bd", "ac", "", "bd"]);
        assert_eq!(read(30.0), ["abcd", "bd", "ac", "bd", "ac", "bd"]);
    }
}
