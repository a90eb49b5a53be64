//! From Consumers to lag as of now: the brokers are asked, with the credentials of their Broker objects. Where that
//! is not possible, what the operator wrote last stands in, and it is said.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use super::{Lag, Part};
use crate::api::consumer::{Isolation as ApiIsolation, KafkaConsumer, OffsetReset, RabbitmqConsumer};
use crate::api::{Consumer, ConsumerStatus};
use crate::brokers::kafka::{
    ErrorCode, GroupState, Isolation, KafkaClient, OffsetQuery, OffsetSpec, TopicPartition,
};
use crate::brokers::rabbitmq::RabbitHandle;
use crate::cli::cluster::Cluster;
use crate::cli::ways::{Way, Ways};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The clients, and what was seen before: rates are differences.
#[derive(Default)]
pub struct Reader {
    ways: Ways,
    before: HashMap<(String, String), Before>,
}

/// Counters of one poll.
struct Before {
    at: Instant,
    came: BTreeMap<String, u64>,
    done: BTreeMap<String, u64>,
}

/// What a broker says of one Consumer.
#[derive(Default)]
struct Seen {
    parts: Vec<Part>,
    came: BTreeMap<String, u64>,
    done: BTreeMap<String, u64>,
}

impl Reader {
    /// One Consumer's lag.
    pub async fn read(&mut self, cluster: &Cluster, consumer: &Consumer) -> Lag {
        let key = (consumer.namespace().unwrap_or_default(), consumer.name_any());
        let status = consumer.status.clone().unwrap_or_default();
        let mut lag = Lag {
            namespace: key.0.clone(),
            consumer: key.1.clone(),
            reads: reads(consumer),
            replicas: status.replicas,
            desired: status.desired_replicas,
            ..Lag::default()
        };
        match self.ask(cluster, consumer, &key.0).await {
            Ok(mut seen) => {
                let rates = self.rates(&key, &seen);
                let capacity = capacity(&status);
                let count = seen.parts.len().max(1);
                for part in &mut seen.parts {
                    let rate =
                        rates.as_ref().map(|(came, done)| (came.get(&part.name), done.get(&part.name)));
                    part.arrival = rate.and_then(|(came, _)| came.copied());
                    part.done = rate.and_then(|(_, done)| done.copied());
                    #[allow(clippy::cast_precision_loss)]
                    let share = capacity.map(|capacity| capacity / count as f64);
                    part.seconds = part.lag.and_then(|lag| seconds(lag, share.or(part.done)));
                }
                let sum = |of: fn(&Part) -> Option<f64>| seen.parts.iter().map(of).sum::<Option<f64>>();
                lag.lag = seen.parts.iter().map(|part| part.lag).sum::<Option<u64>>();
                lag.arrival = sum(|part| part.arrival);
                lag.done = sum(|part| part.done);
                lag.seconds = lag.lag.and_then(|messages| seconds(messages, capacity.or(lag.done)));
                lag.source = "broker";
                lag.parts = seen.parts;
            }
            Err(why) => {
                let figures = status.lag.clone().unwrap_or_default();
                lag.lag = figures.messages.and_then(|messages| u64::try_from(messages).ok());
                #[allow(clippy::cast_precision_loss)]
                let behind = figures.seconds.map(|seconds| seconds as f64);
                lag.seconds = behind;
                lag.arrival = status.rates.as_ref().and_then(|rates| rates.arrival.as_ref()?.parse().ok());
                lag.source = "status";
                lag.note = Some(why);
            }
        }
        lag
    }

    /// Messages per second that came and were done since the last look, by partition.
    fn rates(
        &mut self,
        key: &(String, String),
        seen: &Seen,
    ) -> Option<(BTreeMap<String, f64>, BTreeMap<String, f64>)> {
        let now = Before { at: Instant::now(), came: seen.came.clone(), done: seen.done.clone() };
        let before = self.before.insert(key.clone(), now)?;
        let seconds = before.at.elapsed().as_secs_f64();
        let rate = |now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>| {
            let moved = now.iter().filter_map(|(name, count)| {
                // A count that fell was reset.
                let moved = count.checked_sub(*before.get(name)?)?;
                #[allow(clippy::cast_precision_loss)]
                Some((name.clone(), moved as f64 / seconds))
            });
            moved.collect::<BTreeMap<_, _>>()
        };
        Some((rate(&seen.came, &before.came), rate(&seen.done, &before.done)))
    }

    async fn ask(&mut self, cluster: &Cluster, consumer: &Consumer, namespace: &str) -> Result<Seen, String> {
        let reference = consumer.spec.broker_ref().ok_or("the Consumer says nothing to read")?;
        let place = reference.namespace.as_deref().unwrap_or(namespace);
        let way = self.ways.to(cluster, place, &reference.name).await;
        match (way?, &consumer.spec.kafka, &consumer.spec.rabbitmq) {
            (Way::Kafka(client, _), Some(kafka), _) => group(&client, kafka).await,
            (Way::Rabbitmq(rabbit), _, Some(queue)) => of_queue(&rabbit, queue).await,
            _ => Err("the Broker is of another kind than the Consumer says".into()),
        }
    }
}

/// What a Consumer reads, in words.
fn reads(consumer: &Consumer) -> String {
    if let Some(kafka) = &consumer.spec.kafka {
        return format!("group {}", kafka.group);
    }
    match &consumer.spec.rabbitmq {
        Some(queue) if queue.vhost == "/" => format!("queue {}", queue.queue),
        Some(queue) => format!("queue {} in {}", queue.queue, queue.vhost),
        None => String::new(),
    }
}

/// Messages per second that the ready replicas do, as learned.
fn capacity(status: &ConsumerStatus) -> Option<f64> {
    let each: f64 = status.rates.as_ref()?.per_replica.as_ref()?.parse().ok()?;
    let ready = f64::from(status.ready_replicas?);
    (each * ready > 0.0).then_some(each * ready)
}

#[allow(clippy::cast_precision_loss)]
fn seconds(lag: u64, rate: Option<f64>) -> Option<f64> {
    if lag == 0 {
        return Some(0.0);
    }
    rate.filter(|&rate| rate > 0.0).map(|rate| lag as f64 / rate)
}

/// A group's partitions: committed offsets first, then the ends, so that lag is never too low.
async fn group(client: &KafkaClient, source: &KafkaConsumer) -> Result<Seen, String> {
    let topics: BTreeSet<String> = source.topics.iter().cloned().collect();
    let topics: Vec<String> = topics.into_iter().collect();
    let described = client.describe_topics(&topics, TIMEOUT).await.map_err(|error| error.to_string())?;
    let committed =
        client.committed_offsets(&source.group, TIMEOUT).await.map_err(|error| error.to_string())?;
    let committed: HashMap<TopicPartition, _> = committed.into_iter().collect();
    if !committed.values().any(|answer| matches!(answer, Ok(Some(_)))) {
        is_of_consumers(client, &source.group).await?;
    }
    let mut queries = Vec::new();
    for (topic, answer) in described {
        let count = answer.map_err(|error| error.to_string())?.partitions.len();
        for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
            let query = |spec| OffsetQuery { topic: topic.clone(), partition, spec };
            queries.extend([query(OffsetSpec::Earliest), query(OffsetSpec::Latest)]);
        }
    }
    let isolation = match source.isolation {
        ApiIsolation::ReadCommitted => Isolation::ReadCommitted,
        ApiIsolation::ReadUncommitted => Isolation::ReadUncommitted,
    };
    let ends: HashMap<OffsetQuery, _> = client
        .list_offsets(&queries, isolation, TIMEOUT)
        .await
        .map_err(|error| error.to_string())?
        .into_iter()
        .collect();
    let mut seen = Seen::default();
    for query in queries.iter().filter(|query| query.spec == OffsetSpec::Latest) {
        let offset = |spec| {
            let query = OffsetQuery { spec, ..query.clone() };
            u64::try_from(*ends.get(&query)?.as_ref().ok()?).ok()
        };
        let (start, end) = (offset(OffsetSpec::Earliest), offset(OffsetSpec::Latest));
        let at = TopicPartition { topic: query.topic.clone(), partition: query.partition };
        let position = match committed.get(&at) {
            Some(Ok(Some(offset))) => u64::try_from(*offset).ok(),
            Some(Err(_)) => None,
            Some(Ok(None)) | None => match source.offset_reset {
                OffsetReset::Earliest => start,
                OffsetReset::Latest => end,
            },
        };
        let name = format!("{}/{}", query.topic, query.partition);
        // What retention removed waits no more.
        let lag =
            end.zip(position).map(|(end, position)| end.saturating_sub(position.max(start.unwrap_or(0))));
        seen.came.extend(end.map(|end| (name.clone(), end)));
        seen.done.extend(position.map(|position| (name.clone(), position)));
        seen.parts.push(Part { name, lag, position, end, ..Part::default() });
    }
    seen.parts.sort_by_key(|part| natural(&part.name));
    Ok(seen)
}

/// Refuses a group that has no committed offsets because it is no group of consumers: all that its topics hold would be
/// taken for its lag. Brokers describe such a group like one that does not exist, and list it all the same.
async fn is_of_consumers(client: &KafkaClient, group: &str) -> Result<(), String> {
    let is_described = match client.describe_group(group, TIMEOUT).await {
        Ok(described) => described.state != GroupState::Dead,
        Err(error) if error.code == ErrorCode::GroupIdNotFound => false,
        Err(error) => return Err(error.to_string()),
    };
    if is_described {
        return Ok(());
    }
    let listed = client.list_groups(TIMEOUT).await.map_err(|error| error.to_string())?;
    let is_strange = listed.iter().any(|listed| listed.group == group && listed.is_strange());
    if is_strange {
        return Err(format!(
            "group {group:?} is a share group or a streams group: what it has done is not told"
        ));
    }
    Ok(())
}

/// `orders/10` after `orders/9`.
fn natural(name: &str) -> (String, u64) {
    let (topic, partition) = name.rsplit_once('/').unwrap_or((name, ""));
    (topic.to_owned(), partition.parse().unwrap_or_default())
}

/// A queue, as if it were one partition: what is ready as of now where there is AMQP.
async fn of_queue(rabbit: &RabbitHandle, source: &RabbitmqConsumer) -> Result<Seen, String> {
    let (vhost, queue) = (source.vhost.as_str(), source.queue.as_str());
    let names = BTreeSet::from([queue.to_owned()]);
    let figures = rabbit
        .client
        .with_timeout(TIMEOUT)
        .queue_figures(vhost, &names)
        .await
        .map_err(|error| error.to_string())?;
    let figures = figures
        .get(queue)
        .ok_or_else(|| format!("queue {queue:?} does not exist in virtual host {vhost:?}"))?;
    if figures.kind == "stream" {
        return Err(format!(
            "{queue:?} in virtual host {vhost:?} is a stream: its consumers do not share a backlog"
        ));
    }
    if figures.leader_online == Some(false) {
        return Err(format!("queue {queue:?} in virtual host {vhost:?} has no leader"));
    }
    let depth = match &rabbit.amqp {
        Some(amqp) => amqp.depth_within(vhost, queue, TIMEOUT).await.ok().flatten(),
        None => None,
    };
    let ready = depth.map(|depth| u64::from(depth.ready)).or(figures.ready);
    let lag = ready.zip(figures.unacked).map(|(ready, unacked)| ready.saturating_add(unacked));
    let name = queue.to_owned();
    let mut seen = Seen::default();
    seen.came.extend(figures.publish.map(|count| (name.clone(), count)));
    let done = figures.ack.zip(figures.no_ack).map(|(ack, no_ack)| ack.saturating_add(no_ack));
    seen.done.extend(done.map(|count| (name.clone(), count)));
    seen.parts.push(Part {
        name,
        lag,
        ready,
        unacked: figures.unacked,
        consumers: depth.map(|depth| depth.consumers).or(figures.consumers),
        ..Part::default()
    });
    Ok(seen)
}
