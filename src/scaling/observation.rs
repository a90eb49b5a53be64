//! What was seen at one moment. Unknown is `None`, never 0.
//!
//! The serde form is that of a replay line. Names are `Arc<str>`, so that whoever builds an observation each
//! second can reuse them.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One Consumer at one poll. At most one of `kafka` and `rabbitmq` is set; neither: nothing could be read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Monotonic seconds; the origin does not matter, but must not change while a state lives.
    #[serde(rename = "t", alias = "now")]
    pub now: f64,
    /// The workload that is scaled.
    pub target: Target,
    /// What Kafka said. `None`: nothing could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<Kafka>,
    /// What `RabbitMQ` said. `None`: nothing could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<RabbitMq>,
    /// The dead-letter topics or queues of the breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// Retry topics or queues, where there are any. What waits there forbids zero and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Seconds after which the broker forgets the offsets of an empty group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets_retention: Option<f64>,
}

/// The Deployment (or the like), as the API server has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// What `/scale` says is wanted.
    pub spec: u32,
    /// Ready replicas. `None`: unknown.
    #[serde(default)]
    pub ready: Option<u32>,
    /// Pods that no node takes. `None`: not known (pods may not be readable).
    #[serde(default)]
    pub unschedulable: Option<u32>,
    /// A rollout is in progress.
    #[serde(default)]
    pub updating: bool,
    /// The template's revision; a change means other code.
    #[serde(default)]
    pub revision: Arc<str>,
    /// How many patches of Spillway's own the API server has accepted, all of which `spec` is from after; 0: not
    /// counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub accepted: u64,
    /// What the last of them asked for, which need not be what was decided last. `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u32>,
    /// Spillway is told to leave this one alone.
    #[serde(default)]
    pub paused: bool,
    /// Another scaler on the same target, as `hpa/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_scaler: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A consumer group and the topics that it reads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// When the offsets were read.
    #[serde(default)]
    pub read_at: ReadAt,
    /// The group's members. Reading them at every poll is not needed.
    #[serde(default, skip_serializing_if = "GroupRead::is_not_read")]
    pub group: GroupRead,
    /// Every partition of every topic, in any order (the same order each time is fastest).
    pub partitions: Vec<Partition>,
}

/// When offsets were read, in seconds relative to `now` (so: not positive).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadAt {
    /// Committed offsets. Read first, so that lag is never too low.
    pub committed: f64,
    /// End offsets.
    pub end: f64,
}

/// Whether the group was described, and what came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum GroupRead {
    /// Not asked this time: the last answer stands.
    #[default]
    NotRead,
    /// Asked, and not answered: nothing is known of the members now.
    Unreadable,
    /// As described.
    Known(Group),
}

/// A described group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The protocol.
    #[serde(rename = "type", default)]
    pub kind: GroupKind,
    /// Its state.
    pub state: GroupState,
    /// The assignor by name (`range`, `roundrobin`, `sticky`, `cooperative-sticky`, `uniform`); empty: unknown.
    #[serde(default)]
    pub assignor: Arc<str>,
    /// Its members, foreign ones too.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// Which rebalance protocol a group speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupKind {
    /// `JoinGroup` and `SyncGroup`.
    #[default]
    Classic,
    /// The consumer protocol of KIP-848.
    Consumer,
    /// Neither: a share group (KIP-932) or a streams group (KIP-1071).
    #[serde(other)]
    Other,
}

/// A group's state. A name that is not listed reads as [`GroupState::Other`], which counts as rebalancing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupState {
    /// Every member has its partitions.
    Stable,
    /// No members; there may be offsets.
    Empty,
    /// No members and no offsets, or no such group.
    Dead,
    /// Members are joining.
    PreparingRebalance,
    /// The assignment is being made.
    CompletingRebalance,
    /// KIP-848: a new target assignment is computed.
    Assigning,
    /// KIP-848: members move to their target assignment.
    Reconciling,
    /// Anything else.
    #[default]
    #[serde(other)]
    Other,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The member id.
    pub id: Arc<str>,
    /// The pod it runs in.
    #[serde(default, skip_serializing_if = "Pod::is_unknown")]
    pub pod: Pod,
    /// Static membership (`group.instance.id`): leaves only after the session timeout.
    #[serde(default, rename = "static")]
    pub is_static: bool,
    /// Its partitions, as `topic/number`.
    #[serde(default)]
    pub partitions: Vec<Arc<str>>,
}

/// Where a member runs. On a replay line: a name, `null` for foreign, absent for unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Pod {
    /// In this pod of ours.
    Known(Arc<str>),
    /// In none of ours.
    Foreign,
    /// Cannot be told; never counted as foreign.
    #[default]
    Unknown,
}

/// One partition's offsets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    /// `topic/number`.
    pub tp: Arc<str>,
    /// The topic's id, where the broker says it.
    #[serde(default)]
    pub topic_id: Option<Arc<str>>,
    /// Log start offset.
    #[serde(default)]
    pub start: Option<i64>,
    /// Log end offset as the application sees it: the last stable offset under `ReadCommitted`.
    #[serde(default)]
    pub end: Option<i64>,
    /// High watermark.
    #[serde(default)]
    pub hw: Option<i64>,
    /// The group's committed offset.
    #[serde(default)]
    pub committed: Committed,
    /// Why this partition could not be read.
    #[serde(default)]
    pub error: Option<String>,
}

/// A committed offset. On a replay line: a number, −1 for none, `null` for unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Committed {
    /// Could not be read.
    #[default]
    Unknown,
    /// The group has none for this partition.
    None,
    /// The next offset that the group will read.
    At(i64),
}

/// A queue. Counters are cumulative; one that falls was reset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RabbitMq {
    /// `classic`, `quorum` or `stream`.
    #[serde(rename = "type", default)]
    pub kind: Arc<str>,
    /// Messages ready for delivery. `None`: unknown (a queue without its leader says 0).
    #[serde(default)]
    pub ready: Option<u64>,
    /// Delivered and not yet acknowledged.
    #[serde(default)]
    pub unacked: Option<u64>,
    /// Published, ever.
    #[serde(default)]
    pub publish: Option<u64>,
    /// Acknowledged, ever.
    #[serde(default)]
    pub ack: Option<u64>,
    /// Delivered without acknowledgement, ever.
    #[serde(default)]
    pub deliver_no_ack: Option<u64>,
    /// Consumers on the queue.
    #[serde(default)]
    pub consumers: Option<u32>,
    /// Only one consumer works at a time.
    #[serde(default)]
    pub single_active: bool,
}

/// The dead-letter topics or queues, all together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Their end offsets, summed over partitions, or messages ever published to them. `None`: unknown.
    #[serde(default)]
    pub end: Option<i64>,
    /// Their names: what is counted from one set of them says nothing about another. Empty: not told.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub of: Arc<str>,
}

/// Retry topics or queues, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Messages waiting in them. `None`: unknown.
    #[serde(default)]
    pub lag: Option<u64>,
}

impl GroupRead {
    fn is_not_read(&self) -> bool {
        matches!(self, Self::NotRead)
    }
}

impl Pod {
    fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

/// A group on a replay line: as described, or `error` instead.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupForm {
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
    #[serde(rename = "type", default)]
    kind: GroupKind,
    #[serde(default)]
    state: GroupState,
    #[serde(default)]
    assignor: Arc<str>,
    #[serde(default)]
    members: Vec<Member>,
}

impl Serialize for GroupRead {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::NotRead => serializer.serialize_none(),
            Self::Unreadable => serializer.collect_map([("error", "unreadable")]),
            Self::Known(group) => group.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for GroupRead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::<GroupForm>::deserialize(deserializer)? {
            None => Self::NotRead,
            Some(GroupForm { error: Some(_), .. }) => Self::Unreadable,
            Some(GroupForm { kind, state, assignor, members, .. }) => {
                Self::Known(Group { kind, state, assignor, members })
            }
        })
    }
}

impl Serialize for Pod {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(name) => serializer.serialize_str(name),
            Self::Foreign | Self::Unknown => serializer.serialize_none(),
        }
    }
}

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Arc<str>>::deserialize(deserializer)?.map_or(Self::Foreign, Self::Known))
    }
}

impl Serialize for Committed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unknown => serializer.serialize_none(),
            Self::None => serializer.serialize_i64(-1),
            Self::At(offset) => serializer.serialize_i64(*offset),
        }
    }
}

impl<'de> Deserialize<'de> for Committed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::<i64>::deserialize(deserializer)? {
            None => Self::Unknown,
            Some(offset) if offset < 0 => Self::None,
            Some(offset) => Self::At(offset),
        })
    }
}
