//! The broker's side, read directly: this step only looks, except [`clear`].

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Headers, OwnedMessage};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::{DemoError, GROUPS, TOPICS};

const PATIENCE: Duration = Duration::from_secs(10);

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("allow.auto.create.topics", "false");
    config
}

fn reader(bootstrap: &str, group: &str) -> KafkaResult<BaseConsumer> {
    client(bootstrap).set("group.id", group).set("enable.auto.commit", "false").create()
}

/// How a group stands on one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Log end offsets, summed over the partitions: how much was ever published.
    pub end: i64,
    /// Messages that are not committed yet.
    pub lag: i64,
}

/// Looks at one group on one topic without being its member.
pub struct Watcher {
    consumer: BaseConsumer,
    group: &'static str,
    topic: &'static str,
    partitions: TopicPartitionList,
}

impl Watcher {
    pub fn new(bootstrap: &str, group: &'static str, topic: &'static str) -> Result<Self, DemoError> {
        let consumer = reader(bootstrap, group)?;
        let partitions = partitions(&consumer, topic)?;
        Ok(Self { consumer, group, topic, partitions })
    }

    /// Committed offsets first, then the ends, so that lag is never read too small.
    pub fn look(&self) -> Result<Backlog, DemoError> {
        let committed = self.consumer.committed_offsets(self.partitions.clone(), PATIENCE)?;
        let mut backlog = Backlog { end: 0, lag: 0 };
        for place in committed.elements() {
            let (low, high) = self.consumer.fetch_watermarks(self.topic, place.partition(), PATIENCE)?;
            let reached = match place.offset() {
                Offset::Offset(offset) => offset,
                _ => low,
            };
            backlog.end += high;
            backlog.lag += (high - reached).max(0);
        }
        Ok(backlog)
    }

    /// How many members the group has, once it is stable.
    pub fn members(&self) -> Result<Option<usize>, DemoError> {
        let groups = self.consumer.fetch_group_list(Some(self.group), PATIENCE)?;
        let stable =
            groups.groups().iter().find(|group| group.name() == self.group && group.state() == "Stable");
        Ok(stable.map(|group| group.members().len()))
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<TopicPartitionList, DemoError> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut list = TopicPartitionList::new();
    for found in metadata.topics().iter().filter(|found| found.name() == topic) {
        for partition in found.partitions() {
            list.add_partition(topic, partition.id());
        }
    }
    if list.count() == 0 {
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic).into());
    }
    Ok(list)
}

/// Reads what is in topics: a position is taken now, and what came since is read later.
pub struct Log {
    bootstrap: String,
    topic: &'static str,
    from: Vec<(i32, i64)>,
}

impl Log {
    /// Takes the position: what is published from now on.
    pub fn mark(bootstrap: &str, topic: &'static str) -> Result<Self, DemoError> {
        let consumer = reader(bootstrap, "spillway-demo")?;
        Ok(Self { bootstrap: bootstrap.to_owned(), topic, from: ends(&consumer, topic)? })
    }

    /// Every message since the mark.
    pub fn since(&self) -> Result<Vec<OwnedMessage>, DemoError> {
        let consumer = reader(&self.bootstrap, "spillway-demo")?;
        let to = ends(&consumer, self.topic)?;
        let mut left = 0;
        let mut places = TopicPartitionList::new();
        for ((partition, from), (_, to)) in self.from.iter().zip(&to) {
            places.add_partition_offset(self.topic, *partition, Offset::Offset(*from))?;
            left += to - from;
        }
        consumer.assign(&places)?;
        let deadline = Instant::now() + PATIENCE * 3;
        let mut messages = Vec::new();
        while left > 0 && Instant::now() < deadline {
            if let Some(message) = consumer.poll(Duration::from_millis(200)) {
                messages.push(message?.detach());
                left -= 1;
            }
        }
        Ok(messages)
    }
}

fn ends(consumer: &BaseConsumer, topic: &str) -> Result<Vec<(i32, i64)>, DemoError> {
    let read = |place: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        let (_, high) = consumer.fetch_watermarks(topic, place.partition(), PATIENCE)?;
        Ok((place.partition(), high))
    };
    partitions(consumer, topic)?.elements().iter().map(read).collect()
}

/// A header's text.
pub fn header<'a>(message: &'a OwnedMessage, key: &str) -> Option<&'a str> {
    let header = message.headers()?.iter().find(|header| header.key == key)?;
    std::str::from_utf8(header.value?).ok()
}

/// Fails if one of the shop's topics is there.
pub fn absent(bootstrap: &str) -> Result<(), DemoError> {
    let metadata = reader(bootstrap, "spillway-demo")?;
    let metadata = metadata.fetch_metadata(None, PATIENCE)?;
    match metadata.topics().iter().find(|topic| TOPICS.contains(&topic.name())) {
        Some(topic) => Err(DemoError::Taken(format!("topic {}", topic.name()))),
        None => Ok(()),
    }
}

/// Deletes the shop's topics and groups; what is not there is as good as deleted.
pub async fn clear(bootstrap: &str) -> Result<(), DemoError> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for outcome in admin.delete_topics(&TOPICS, &options).await? {
        if let Err((topic, code)) = outcome
            && code != RDKafkaErrorCode::UnknownTopicOrPartition
        {
            eprintln!("demo: failed to delete topic {topic}: {code}");
        }
    }
    for group in GROUPS {
        delete_group(&admin, group, &options).await?;
    }
    Ok(())
}

/// A broker that never had a group has no coordinator either, until it is asked for one; so it is asked again.
async fn delete_group(
    admin: &AdminClient<DefaultClientContext>,
    group: &str,
    options: &AdminOptions,
) -> Result<(), DemoError> {
    use RDKafkaErrorCode::{
        CoordinatorLoadInProgress, CoordinatorNotAvailable, GroupIdNotFound, NotCoordinator,
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match admin.delete_groups(&[group], options).await?.pop() {
            Some(Err((_, CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)))
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Some(Err((_, code))) if code != GroupIdNotFound => {
                eprintln!("demo: failed to delete group {group}: {code}");
                return Ok(());
            }
            _ => return Ok(()),
        }
    }
}
