//! Kafka through a client of the tests' own: what the operator says is never asked.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::groups::GroupInfo;
use rdkafka::message::{OwnedHeaders, OwnedMessage};
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use super::wait::until;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A topic as the broker has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub partitions: usize,
    pub replication: usize,
    /// What is set on the topic itself.
    pub config: BTreeMap<String, String>,
}

pub struct Kafka {
    servers: String,
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
}

impl Kafka {
    pub fn connect(servers: &str) -> Self {
        let config = config(servers);
        Self {
            servers: servers.to_owned(),
            admin: config.create().expect("an admin client"),
            producer: config.create().expect("a producer"),
        }
    }

    /// A topic, read back; None if the broker has none of that name.
    pub async fn topic(&self, name: &str) -> Option<Seen> {
        let metadata = self.metadata(Some(name));
        let topic = metadata.topics().iter().find(|topic| topic.name() == name)?;
        if topic.error().is_some() || topic.partitions().is_empty() {
            return None;
        }
        let resource = [ResourceSpecifier::Topic(name)];
        let mut described = self.admin.describe_configs(&resource, &options()).await.expect("configs");
        let config = described.remove(0).ok()?;
        Some(Seen {
            partitions: topic.partitions().len(),
            replication: topic.partitions()[0].replicas().len(),
            config: config
                .entries
                .into_iter()
                .filter(|entry| entry.source == ConfigSource::DynamicTopic)
                .filter_map(|entry| Some((entry.name, entry.value?)))
                .collect(),
        })
    }

    /// Waits until the topic is there and `is` holds for it.
    pub async fn until_topic(&self, name: &str, what: &str, is: impl Fn(&Seen) -> bool) -> Seen {
        until(&format!("topic {name} {what}"), async || match self.topic(name).await {
            Some(seen) if is(&seen) => Ok(seen),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// Waits until the topic is gone.
    pub async fn until_gone(&self, name: &str) {
        until(&format!("topic {name} is gone"), async || match self.topic(name).await {
            None => Ok(()),
            Some(seen) => Err(format!("{seen:?}")),
        })
        .await;
    }

    /// Makes a topic by hand and waits until it is there.
    pub async fn create(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let new = config.iter().fold(new, |new, (key, value)| new.set(key, value));
        let made = self.admin.create_topics([&new], &options()).await.expect("an answer");
        made[0].clone().expect("the topic is made");
        self.until_topic(name, "is there", |_| true).await;
    }

    /// Sets exactly these configs by hand: what is not named goes back to its default.
    pub async fn set_config(&self, name: &str, config: &[(&str, &str)]) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(name));
        let change = config.iter().fold(change, |change, (key, value)| change.set(key, value));
        let mut changed = self.admin.alter_configs([&change], &options()).await.expect("an answer");
        if let Err((resource, code)) = changed.remove(0) {
            panic!("{resource:?} is not changed: {code}");
        }
    }

    /// Topics that are not Kafka's own.
    pub fn topics(&self) -> usize {
        self.metadata(None).topics().iter().filter(|topic| !topic.name().starts_with("__")).count()
    }

    /// Deletes topics by hand.
    pub async fn delete(&self, names: &[&str]) {
        for (name, code) in self
            .admin
            .delete_topics(names, &options())
            .await
            .expect("an answer")
            .into_iter()
            .filter_map(Result::err)
        {
            assert_eq!(code, RDKafkaErrorCode::UnknownTopicOrPartition, "{name} is not deleted");
        }
    }

    /// `count` messages to one partition.
    pub async fn produce(&self, topic: &str, partition: i32, count: usize) {
        let sent = (0..count).map(|n| {
            let payload = format!("message {n}");
            async move {
                let record = FutureRecord::<(), _>::to(topic).partition(partition).payload(&payload);
                self.producer.send(record, TIMEOUT).await.expect("sent");
            }
        });
        futures::future::join_all(sent).await;
    }

    /// One message with a key and a header.
    pub async fn produce_one(&self, topic: &str, key: &str, payload: &str, header: (&str, &str)) {
        let headers =
            OwnedHeaders::new().insert(rdkafka::message::Header { key: header.0, value: Some(header.1) });
        let record = FutureRecord::to(topic).key(key).payload(payload).headers(headers);
        self.producer.send(record, TIMEOUT).await.expect("sent");
    }

    /// Removes all messages of a topic with one partition.
    pub async fn empty(&self, topic: &str) {
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(topic, 0, Offset::End).expect("an offset");
        self.admin.delete_records(&before, &options()).await.expect("records are deleted");
    }

    /// All records of a topic, as of now.
    pub fn records(&self, topic: &str) -> Vec<OwnedMessage> {
        let reader: BaseConsumer =
            config(&self.servers).set("group.id", "reads-all").create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        let mut left = 0;
        for partition in self.metadata(Some(topic)).topics()[0].partitions() {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
            left += self.messages(topic, partition.id());
        }
        reader.assign(&list).expect("assigned");
        let mut records = Vec::new();
        while left > 0 {
            let record = reader.poll(TIMEOUT).expect("a record in time").expect("a record");
            records.push(record.detach());
            left -= 1;
        }
        records
    }

    /// How many messages a partition holds.
    pub fn messages(&self, topic: &str, partition: i32) -> i64 {
        let (low, high) = self.admin.inner().fetch_watermarks(topic, partition, TIMEOUT).expect("watermarks");
        high - low
    }

    /// The broker that leads a partition, if one does.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let metadata = self.metadata(Some(topic));
        let partitions = metadata.topics().first()?.partitions();
        let leader = partitions.iter().find(|is| is.id() == partition)?.leader();
        (leader >= 0).then_some(leader)
    }

    /// The broker that coordinates a group, if one does: who leads the partition that its offsets are in, by Java's hash
    /// of its name.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        const OFFSETS: &str = "__consumer_offsets";
        let metadata = self.metadata(Some(OFFSETS));
        let partitions =
            i32::try_from(metadata.topics().first()?.partitions().len()).ok().filter(|&n| n > 0)?;
        let hash = group.encode_utf16().fold(0i32, |hash, c| hash.wrapping_mul(31).wrapping_add(c.into()));
        self.leader(OFFSETS, (hash & i32::MAX) % partitions)
    }

    /// The offsets that a group committed, summed over the topic's partitions.
    pub fn committed(&self, group: &str, topic: &str, partitions: i32) -> i64 {
        let consumer: BaseConsumer =
            config(&self.servers).set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(topic, partition);
        }
        let committed = consumer.committed_offsets(list, TIMEOUT).expect("offsets");
        committed
            .elements()
            .iter()
            .filter_map(|element| element.offset().to_raw())
            .map(|offset| offset.max(0))
            .sum()
    }

    /// Waits until a group has committed so many messages of a topic.
    pub async fn until_committed(&self, group: &str, topic: &str, partitions: i32, messages: i64) {
        until("the group has committed what was sent", async || {
            match self.committed(group, topic, partitions) {
                now if now == messages => Ok(()),
                now => Err(format!("{now} of {messages}")),
            }
        })
        .await;
    }

    /// Commits the beginning of each partition, once nobody is in the group any more.
    pub async fn reset_to_the_beginning(&self, group: &str, topic: &str, partitions: i32) {
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Offset(0)).expect("an offset");
        }
        until("the group takes other offsets", async || {
            let outsider: BaseConsumer =
                config(&self.servers).set("group.id", group).create().expect("a consumer");
            let taken = outsider.commit(&list, CommitMode::Sync).map_err(|error| error.to_string());
            taken.and_then(|()| match self.committed(group, topic, partitions) {
                0 => Ok(()),
                other => Err(format!("{other} committed")),
            })
        })
        .await;
    }

    /// Deletes a group, once nobody is in it any more.
    pub async fn delete_group(&self, group: &str) {
        until("the group is deleted", async || {
            let deleted = self.admin.delete_groups(&[group], &options()).await;
            match deleted.expect("an answer").remove(0) {
                // An answer may have been lost.
                Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => Ok(()),
                Err((_, code)) => Err(code.to_string()),
            }
        })
        .await;
    }

    /// The cluster's id and how many brokers it has.
    pub fn cluster(&self) -> (String, usize) {
        let id = self.admin.inner().fetch_cluster_id(TIMEOUT).expect("a cluster id");
        (id, self.metadata(None).brokers().len())
    }

    /// A consumer of this group, for a test to drive.
    pub fn member(&self, group: &str) -> ClientConfig {
        let mut config = config(&self.servers);
        config
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "500");
        config
    }

    /// Removes every topic and group whose name begins with `prefix`.
    pub async fn clean(&self, prefix: &str) {
        let metadata = self.metadata(None);
        let topics: Vec<_> = metadata
            .topics()
            .iter()
            .map(MetadataTopic::name)
            .filter(|name| name.starts_with(prefix))
            .collect();
        if !topics.is_empty() {
            self.delete(&topics).await;
        }
        let consumer: BaseConsumer = config(&self.servers).create().expect("a consumer");
        // A broker that was just started may still be reading who coordinates what.
        let groups = until("the groups are listed", async || {
            consumer.fetch_group_list(None, TIMEOUT).map_err(|error| error.to_string())
        })
        .await;
        let groups: Vec<_> =
            groups.groups().iter().map(GroupInfo::name).filter(|name| name.starts_with(prefix)).collect();
        if !groups.is_empty() {
            let deleted: Result<_, KafkaError> = self.admin.delete_groups(&groups, &options()).await;
            deleted.expect("an answer");
        }
    }

    fn metadata(&self, topic: Option<&str>) -> Metadata {
        self.admin.inner().fetch_metadata(topic, TIMEOUT).expect("metadata")
    }
}

fn config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("client.id", "spillway-e2e");
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}
