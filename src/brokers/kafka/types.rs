//! What goes into and comes out of the Kafka client: plain data, no handles.

use std::collections::{BTreeMap, BTreeSet};

use super::error::KafkaError;

/// A topic and one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: String,
    /// Partition number, from 0.
    pub partition: i32,
}

/// The cluster as the broker that answered sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The cluster's own id, fixed when its storage was formatted.
    pub cluster_id: String,
    /// The broker that takes administrative requests, if one is known.
    pub controller_id: Option<i32>,
    /// Brokers that are alive.
    pub nodes: Vec<Node>,
}

/// One broker of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Broker id.
    pub id: i32,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: u16,
    /// `broker.rack`, if set.
    pub rack: Option<String>,
}

/// A topic in the listing of all topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMeta {
    /// Topic name.
    pub name: String,
    /// True for the topics Kafka keeps for itself. Judged by name: the listing does not carry the flag.
    pub internal: bool,
    /// Partitions in ascending order.
    pub partitions: Vec<PartitionMeta>,
    /// Why the broker could not describe the topic, if it could not.
    pub error: Option<KafkaError>,
}

/// Placement of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMeta {
    /// Partition number, from 0.
    pub id: i32,
    /// Broker that leads the partition; `None` while it has no leader.
    pub leader: Option<i32>,
    /// Brokers that hold a replica, the preferred leader first.
    pub replicas: Vec<i32>,
    /// In-sync replicas.
    pub isr: Vec<i32>,
}

/// One topic in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Topic name.
    pub name: String,
    /// Topic id in base64, as Kafka's own tools print it. A re-created topic has a new one.
    pub topic_id: String,
    /// True for the topics Kafka keeps for itself.
    pub internal: bool,
    /// Partitions in ascending order.
    pub partitions: Vec<PartitionMeta>,
}

/// One configuration key of a topic with the value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Key, such as `retention.ms`.
    pub name: String,
    /// Value in force; `None` if the broker withholds it (sensitive) or there is none.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// The key cannot be changed.
    pub read_only: bool,
    /// The broker never tells the value.
    pub sensitive: bool,
}

/// Where a configuration value comes from, most specific first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on this topic.
    DynamicTopic,
    /// Set at run time on this broker.
    DynamicBroker,
    /// Set at run time for all brokers.
    DynamicDefaultBroker,
    /// From the broker's properties file.
    StaticBroker,
    /// Kafka's own default.
    Default,
    /// Set on a consumer group.
    Group,
    /// A source this client does not know, with its number in the protocol.
    Other(i32),
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Topic name.
    pub name: String,
    /// Number of partitions; `None` takes the broker's `num.partitions`.
    pub partitions: Option<i32>,
    /// Copies of each partition; `None` takes the broker's `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// Configuration that differs from the broker's defaults.
    pub config: BTreeMap<String, String>,
}

/// A change to some configuration keys of a topic. Keys not named here keep their value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicConfigChange {
    /// Topic name.
    pub topic: String,
    /// Keys to set.
    pub set: BTreeMap<String, String>,
    /// Keys to take back to the broker's default. A key that is also in `set` is set.
    pub delete: BTreeSet<String>,
}

/// Which configuration of a topic to read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigQuery {
    /// Topic name.
    pub topic: String,
    /// The keys; empty: all there are, some forty.
    pub keys: BTreeSet<String>,
}

/// Which end of a partition to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OffsetSpec {
    /// The first offset that can still be read.
    Earliest,
    /// The log end offset: the one the next record gets. With [`Isolation::ReadCommitted`] the last stable
    /// offset.
    Latest,
}

/// A question for one end of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OffsetQuery {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Which end.
    pub spec: OffsetSpec,
}

/// Whether records of open transactions count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// They count.
    ReadUncommitted,
    /// They do not: the latest offset is the last stable one.
    ReadCommitted,
}

/// A group in the listing of all groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Group id.
    pub group: String,
    /// Its protocol type, `consumer` of classic groups of consumers; empty of groups that `DescribeGroups` knows nothing
    /// of: those of KIP-848, share groups (KIP-932) and streams groups (KIP-1071).
    pub protocol: String,
}

impl GroupListing {
    /// Whether it may be no group of consumers: one that is listed so, and described as absent, is none.
    #[must_use]
    pub fn is_strange(&self) -> bool {
        self.protocol.is_empty()
    }
}

/// State of a consumer group.
///
/// `Assigning` and `Reconciling` of the new consumer protocol (KIP-848) reach this client as `Unknown`:
/// librdkafka has no names for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupState {
    /// Not known, or a state librdkafka has no name for.
    Unknown,
    /// Members are joining.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// All members have their partitions.
    Stable,
    /// The group does not exist, or is being removed.
    Dead,
    /// No members; committed offsets may exist.
    Empty,
}

/// Protocol of a consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupKind {
    /// The client-side protocol.
    Classic,
    /// The broker-side protocol (KIP-848).
    Consumer,
    /// Not told.
    Unknown,
}

/// A consumer group in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Group id.
    pub group: String,
    /// State.
    pub state: GroupState,
    /// Protocol.
    pub kind: GroupKind,
    /// Assignor in use, empty when there are no members.
    pub assignor: String,
    /// Broker that coordinates the group.
    pub coordinator: Option<i32>,
    /// Members that are alive.
    pub members: Vec<GroupMember>,
}

/// One member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Member id, given by the coordinator.
    pub id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// `client.id` the member gave itself.
    pub client_id: String,
    /// Address the member connects from.
    pub host: String,
    /// Partitions the member works on.
    pub assignment: Vec<TopicPartition>,
    /// Partitions the member is to get; only in groups of the consumer protocol.
    pub target: Option<Vec<TopicPartition>>,
}
