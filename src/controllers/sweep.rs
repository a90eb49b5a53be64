//! The drift sweep: one look at everything a broker has, compared with everything declared on it.
//!
//! The number of requests does not grow with the number of objects: one listing of all topics, one
//! description of the managed ones, and one reading of the config keys that they name (a further
//! request of the latter two for each ten thousand). A Topic that differs is woken; its own
//! pass looks again before it writes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::watch;

use super::context::Context;
use super::dependents;
use super::failure::Failure;
use super::guard;
use super::links::Link;
use super::topic::loss::Lost;
use super::topic::{remembered, words};
use crate::api::broker::DriftPolicy;
use crate::api::conditions;
use crate::api::policy::Policies;
use crate::api::{Topic, annotation};
use crate::brokers::kafka::{
    ConfigEntry, ConfigQuery, ConfigSource, KafkaError, KafkaHandle, TopicDescription, TopicMeta,
};
use crate::topology::kafka::{DesiredTopic, ObservedTopic};

/// How long one listing may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long a pass waits for the sweep that is under way.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a pass may take what a sweep saw for the present. It only ever finds with it that nothing is to be done.
const RECENT: Duration = Duration::from_secs(5);

/// What kind of broker was swept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Swept {
    /// Kafka: its topics.
    #[default]
    Topics,
    /// RabbitMQ: its queues, exchanges and bindings.
    Queues,
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What was swept.
    pub kind: Swept,
    /// Objects that are declared.
    pub managed: usize,
    /// Of these, how many match.
    pub in_sync: usize,
    /// Of these, how many differ.
    pub drifted: usize,
    /// Topics, or queues, that nobody declared.
    pub unmanaged: usize,
}

/// What the sweep of a link saw, for passes that have no other reason to ask: after a restart, thousands of topics
/// that are as declared are looked at in one sweep, not once more each.
pub struct Looked(watch::Sender<Option<Arc<Look>>>);

#[derive(Default)]
struct Look {
    ended: Option<Instant>,
    topics: HashMap<String, ObservedTopic>,
}

impl Default for Looked {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Looked {
    /// The topic, as a sweep saw it that ended just now or is under way. None: it has to be asked for.
    pub async fn topic(&self, name: &str) -> Option<ObservedTopic> {
        let mut look = self.0.subscribe();
        let ended = tokio::time::timeout(PATIENCE, look.wait_for(Option::is_some)).await;
        let look = ended.ok()?.ok()?.clone()?;
        let recent = look.ended.is_some_and(|ended| ended.elapsed() < RECENT);
        look.topics.get(name).filter(|_| recent).cloned()
    }

    /// Keeps what a sweep saw for as long as it is worth something. One that failed is over, too: nobody waits for it
    /// any more.
    fn keep(&self, look: Look) {
        let look = Arc::new(look);
        self.0.send_replace(Some(look.clone()));
        let kept = self.0.clone();
        tokio::spawn(async move {
            tokio::time::sleep(RECENT).await;
            kept.send_if_modified(|last| {
                if let Some(last) = last.as_mut().filter(|last| Arc::ptr_eq(last, &look)) {
                    *last = Arc::default();
                }
                false
            });
        });
    }
}

/// Looks once; wakes what differs.
pub async fn run(ctx: &Arc<Context>, link: &Link, kafka: &KafkaHandle) -> Result<Counts, Failure> {
    let mut look = Look::default();
    let counts = sweep(ctx, link, kafka, &mut look.topics).await;
    look.ended = counts.is_ok().then(Instant::now);
    link.looked.keep(look);
    counts
}

async fn sweep(
    ctx: &Arc<Context>,
    link: &Link,
    kafka: &KafkaHandle,
    look: &mut HashMap<String, ObservedTopic>,
) -> Result<Counts, Failure> {
    let broker = link.key.to_string();
    let asked = Instant::now();
    let listed = kafka.client.list_topics(TIMEOUT).await;
    ctx.metrics.broker_request(&broker, "ListTopics", outcome(&listed), asked.elapsed());
    let listed: HashMap<String, TopicMeta> =
        listed?.into_iter().map(|topic| (topic.name.clone(), topic)).collect();

    let topics = dependents::on::<Topic>(ctx, &link.key);
    let names: Vec<String> = topics
        .iter()
        .map(|topic| topic.topic_name().to_owned())
        .filter(|name| listed.contains_key(name))
        .collect();
    let mut seen = Seen { listed: &listed, described: HashMap::new(), configs: HashMap::new() };
    if !names.is_empty() {
        let asked = Instant::now();
        let answers = kafka.client.describe_topics(&names, TIMEOUT).await;
        ctx.metrics.broker_request(&broker, "DescribeTopics", outcome(&answers), asked.elapsed());
        seen.described =
            answers?.into_iter().filter_map(|(name, answer)| Some((name, answer.ok()?))).collect();
        let queries = queries(&topics, &listed);
        if !queries.is_empty() {
            let asked = Instant::now();
            let answers = kafka.client.describe_config_keys(&queries, TIMEOUT).await;
            ctx.metrics.broker_request(&broker, "DescribeConfigs", outcome(&answers), asked.elapsed());
            seen.configs = answers?.into_iter().collect();
        }
    }

    let mut counts = Counts { managed: topics.len(), ..Counts::default() };
    let drift = guard::drift(ctx, link);
    for topic in &topics {
        let Ok(desired) = DesiredTopic::of(topic) else {
            continue;
        };
        let Ok(observed) = seen.topic(&desired.name) else {
            continue;
        };
        let topic = ctx.newest(topic.clone(), &ctx.topics);
        let (matches, news) = compare(&topic, link, &desired, observed.as_ref(), drift);
        if matches {
            counts.in_sync += 1;
        } else {
            counts.drifted += 1;
        }
        if news {
            ctx.wake_topics.wake(&ObjectRef::from_obj(topic.as_ref()));
        }
        look.extend(observed.map(|observed| (desired.name, observed)));
        // Thousands of comparisons must not keep other work waiting.
        tokio::task::consume_budget().await;
    }
    let declared: HashSet<&str> = topics.iter().map(|topic| topic.topic_name()).collect();
    counts.unmanaged =
        listed.values().filter(|topic| !topic.internal && !declared.contains(topic.name.as_str())).count();
    Ok(counts)
}

/// The keys that matter of each topic that exists: those that its Topics name, or once set. Of a topic without such
/// keys nothing is asked: what else is set there is none of Spillway's business.
fn queries(topics: &[Arc<Topic>], listed: &HashMap<String, TopicMeta>) -> Vec<ConfigQuery> {
    let mut wanted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for topic in topics.iter().filter(|topic| listed.contains_key(topic.topic_name())) {
        let set = topic.status.iter().flat_map(|status| &status.applied_config_keys);
        wanted.entry(topic.topic_name()).or_default().extend(topic.spec.config.keys().chain(set).cloned());
    }
    let named = wanted.into_iter().filter(|(_, keys)| !keys.is_empty());
    named.map(|(topic, keys)| ConfigQuery { topic: topic.to_owned(), keys }).collect()
}

/// The broker did not say: never taken for "not there".
struct Unknown;

/// What one look brought.
struct Seen<'a> {
    listed: &'a HashMap<String, TopicMeta>,
    described: HashMap<String, TopicDescription>,
    /// Of the topics that were asked about.
    configs: HashMap<String, Result<Vec<ConfigEntry>, KafkaError>>,
}

impl Seen<'_> {
    /// What is known of a topic: there, not there (`Ok(None)`), or not known.
    fn topic(&self, name: &str) -> Result<Option<ObservedTopic>, Unknown> {
        if !self.listed.contains_key(name) {
            return Ok(None);
        }
        let described = self.described.get(name).ok_or(Unknown)?;
        let config: BTreeMap<String, String> = self
            .configs
            .get(name)
            .map_or(Ok(&[][..]), |answer| answer.as_deref().map_err(|_| Unknown))?
            .iter()
            .filter(|entry| entry.source == ConfigSource::DynamicTopic)
            .filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?)))
            .collect();
        Ok(Some(ObservedTopic {
            id: described.topic_id.clone(),
            partitions: i32::try_from(described.partitions.len()).unwrap_or(i32::MAX),
            replication_factor: described
                .partitions
                .iter()
                .map(|partition| i32::try_from(partition.replicas.len()).unwrap_or(0))
                .min()
                .unwrap_or(0),
            config,
        }))
    }
}

/// The result of a request, as metrics name it.
pub fn outcome<T>(result: &Result<T, KafkaError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) if error.is_unreachable() => "unreachable",
        Err(_) => "error",
    }
}

/// Whether the topic matches, and whether its own pass would find something that its status does
/// not already say.
fn compare(
    topic: &Topic,
    link: &Link,
    desired: &DesiredTopic,
    observed: Option<&ObservedTopic>,
    drift: DriftPolicy,
) -> (bool, bool) {
    let Some(status) = &topic.status else {
        return (false, true);
    };
    let policies = Policies::resolve(topic.spec.policies(), link.spec.defaults);
    let memory = remembered(status, &link.cluster_id);
    let plan = crate::topology::kafka::plan(&crate::topology::kafka::Input {
        desired,
        observed,
        memory: &memory,
        management: policies.management,
        adoption: policies.adoption,
        drift,
        edited: false,
        approved: topic.annotations().get(annotation::APPROVE_PLAN).map(String::as_str),
    });
    let own_pass_is_coming = status.observed_generation != topic.metadata.generation
        || topic.metadata.deletion_timestamp.is_some();
    let ready = conditions::is_true(&status.conditions, conditions::READY);
    let lost = Lost::of(desired, &memory, observed);
    let said = lost.as_ref().is_none_or(|lost| lost.is_said(&status.conditions));
    let (matches, known) = match plan {
        Ok(plan) => {
            let same = observed.is_none_or(|seen| status.partitions == Some(seen.partitions));
            (plan.steps.is_empty() && lost.is_none(), words(&plan) == status.plan && same && said)
        }
        Err(_) => (false, !ready && said),
    };
    (matches, !known && !own_pass_is_coming)
}
