//! Queue: one RabbitMQ queue, with its limits, dead letters, retries and bindings as fields.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arguments::{self, Arguments};
use super::binding::{AppliedBinding, ObjectRef};
use super::broker::BrokerRef;
use super::bytes::Bytes;
use super::duration::Duration;
use super::exchange::{default_vhost, yes};
use super::policy::{Adoption, DeletionPolicy, ManagementPolicy, PolicyDefaults};
use super::schema;
use super::topic::{Retry, RetryStatus};

/// A RabbitMQ queue as it is to be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "spillway.dev",
    version = "v1alpha1",
    kind = "Queue",
    namespaced,
    status = "QueueStatus",
    derive = "PartialEq",
    category = "spillway",
    shortname = "swq",
    doc = "A RabbitMQ queue, kept as declared, with its limits, dead letters, retries and bindings.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "InSync",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"InSync\")].status"
    ),
    printcolumn(name = "Broker", type_ = "string", json_path = ".spec.brokerRef.name"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[x_kube(
    validation = Rule::new("self.brokerRef == oldSelf.brokerRef").message("brokerRef is immutable: delete this Queue (its queue stays at the broker under Retain) and make another"),
    validation = Rule::new("self.vhost == oldSelf.vhost").message("vhost is immutable: RabbitMQ cannot move a queue"),
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)").message("name is immutable: RabbitMQ cannot rename a queue"),
    validation = Rule::new("self.type == oldSelf.type").message("type is immutable: make another queue and move its consumers"),
    validation = Rule::new("self.durable || self.type == 'classic'").message("only a classic queue may be durable: false"),
    validation = Rule::new("self.type == 'classic' || !has(self.maxPriority)").message("maxPriority is for classic queues; a quorum queue has two priorities of its own"),
    validation = Rule::new("self.type == 'quorum' || !has(self.deliveryLimit)").message("deliveryLimit is for quorum queues"),
    validation = Rule::new("self.type != 'stream' || !(has(self.maxLength) || has(self.overflow) || has(self.messageTtl) || has(self.expires) || self.singleActiveConsumer || has(self.consumerTimeout) || has(self.deadLetter) || has(self.retry))").message("a stream takes maxLengthBytes, maxAge, maxSegmentSize, leaderLocator and initialGroupSize, but no maxLength, overflow, messageTtl, expires, singleActiveConsumer, consumerTimeout, deadLetter or retry"),
    validation = Rule::new("self.type == 'stream' || !(has(self.maxAge) || has(self.maxSegmentSize) || has(self.leaderLocator) || has(self.initialGroupSize))").message("maxAge, maxSegmentSize, leaderLocator and initialGroupSize are for streams"),
    validation = Rule::new("!has(self.overflow) || self.overflow != 'reject-publish-dlx' || self.type == 'classic'").message("overflow reject-publish-dlx is for classic queues"),
    validation = Rule::new("!has(self.deadLetter) || !has(self.deadLetter.strategy) || self.deadLetter.strategy != 'AtLeastOnce' || (self.type == 'quorum' && has(self.overflow) && self.overflow == 'reject-publish')").message("deadLetter.strategy AtLeastOnce needs a quorum queue with overflow: reject-publish"),
    validation = Rule::new("!has(self.onImmutableChange) || self.onImmutableChange != 'RecreateIfEmpty' || self.type != 'stream'").message("a stream is never recreated: onImmutableChange RecreateIfEmpty is for classic and quorum queues")
)]
#[serde(rename_all = "camelCase")]
pub struct QueueSpec {
    /// The Broker that the queue lives on. Immutable.
    pub broker_ref: BrokerRef,

    /// The virtual host. It must exist. Default `/`. Immutable.
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 255))]
    pub vhost: String,

    /// The queue's name at the broker, at most 255 bytes; names that begin with `amq.` are RabbitMQ's own.
    /// Default: metadata.name. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.startsWith('amq.')").message("names that begin with amq. are RabbitMQ's own"))]
    pub name: Option<String>,

    /// quorum (replicated), classic, or stream. Default quorum. Immutable.
    #[serde(rename = "type", default)]
    pub kind: QueueType,

    /// Whether the queue outlives a restart of the broker; only a classic queue may say false.
    /// Default true. Fixed when the queue is declared.
    #[serde(default = "yes")]
    pub durable: bool,

    /// How many messages may wait. Left out: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_length: Option<i64>,

    /// How many bytes of messages may wait, such as `100Mi`. Left out: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length_bytes: Option<Bytes>,

    /// What happens when a limit is reached: drop-head (the oldest goes to the dead letters),
    /// reject-publish (the publisher is refused), or reject-publish-dlx (classic: refused, and
    /// dead-lettered). Left out: drop-head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Overflow", extend("nullable" = true))]
    pub overflow: Option<Overflow>,

    /// How long a message may wait before it goes to the dead letters. Not for streams. Left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_ttl: Option<Duration>,

    /// How long the queue may be unused (no consumer, no get, no declare) before RabbitMQ deletes
    /// it; Spillway makes it again quietly. At least 1ms. Not for streams. Left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1ms')").message("expires must be at least 1ms"))]
    pub expires: Option<Duration>,

    /// The highest message priority, 1 to 255; more than 10 costs memory. Classic queues only.
    /// Fixed when the queue is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 255))]
    pub max_priority: Option<i32>,

    /// How often a message may be delivered in vain before it goes to the dead letters; -1: without
    /// end. Quorum queues only. Left out: RabbitMQ's own 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub delivery_limit: Option<i64>,

    /// One consumer at a time gets messages, the others stand by. Not for streams. Default false.
    /// Fixed when the queue is declared.
    #[serde(default)]
    pub single_active_consumer: bool,

    /// How long a consumer may hold a message without an acknowledgement. Left out: the broker's 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_timeout: Option<Duration>,

    /// How old a stream's segments may get, such as `168h`; whole seconds. Streams only. Left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("maxAge must be at least 1s"))]
    pub max_age: Option<Duration>,

    /// How large a stream's segment files get. Streams only. Left out: 500 MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_segment_size: Option<Bytes>,

    /// Where a stream's leader is put: client-local or balanced. Streams only; fixed when the stream
    /// is declared. Left out: client-local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LeaderLocator", extend("nullable" = true))]
    pub leader_locator: Option<LeaderLocator>,

    /// How many replicas a stream begins with. Streams only; fixed when the stream is declared.
    /// Left out: one on each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub initial_group_size: Option<i32>,

    /// Further arguments, for what has no field. May not repeat one that has. Fixed when the queue is declared.
    #[serde(default, skip_serializing_if = "Arguments::is_empty")]
    #[schemars(schema_with = "arguments::schema")]
    pub arguments: Arguments,

    /// How limits, times and dead letters reach the queue: Policy (they may change while it lives)
    /// or Arguments (fixed when it is declared; cheaper where a virtual host has thousands of
    /// queues). Default Policy.
    #[serde(default)]
    pub apply_via: ApplyVia,

    /// Where messages go that were rejected, expired, pushed out or delivered too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<QueueDeadLetter>,

    /// The retry queues: where a consumer puts what it shall try again later. Each holds a message
    /// for its delay and gives it back to this queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,

    /// Bindings of this queue, for the common case; at most 64. One that is removed here goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub bindings: Vec<InlineBinding>,

    /// What to do when a setting changes that is fixed at declaration: Refuse, or RecreateIfEmpty
    /// (only without messages and consumers; its bindings are made again, other people's, too).
    /// Default Refuse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnImmutableChange", extend("nullable" = true))]
    pub on_immutable_change: Option<OnImmutableChange>,

    /// Who writes to the broker: Manage, or Observe (never writes, never claims).
    /// Default: the Broker's, else Manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ManagementPolicy", extend("nullable" = true))]
    pub management_policy: Option<ManagementPolicy>,

    /// What to do with a queue that was there before: IfIdentical (take over only if nothing
    /// differs, else wait for approval), Adopt (take over and change it), Never.
    /// Default: the Broker's, else IfIdentical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Adoption", extend("nullable" = true))]
    pub adoption: Option<Adoption>,

    /// What happens to the queue when this object is deleted: Retain, Delete (with its messages) or
    /// DeleteIfEmpty. Default: the Broker's, else Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy", extend("nullable" = true))]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// See [`QueueSpec::kind`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum QueueType {
    /// Replicated by Raft.
    #[default]
    Quorum,
    /// On one node.
    Classic,
    /// An append-only log.
    Stream,
}

impl QueueType {
    /// The value of `x-queue-type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
            Self::Stream => "stream",
        }
    }
}

/// See [`QueueSpec::overflow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The oldest message goes.
    DropHead,
    /// The publisher is refused.
    RejectPublish,
    /// The publisher is refused, and the message is dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    /// The value that RabbitMQ knows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropHead => "drop-head",
            Self::RejectPublish => "reject-publish",
            Self::RejectPublishDlx => "reject-publish-dlx",
        }
    }
}

/// See [`QueueSpec::leader_locator`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LeaderLocator {
    /// On the node that declares it.
    ClientLocal,
    /// On the node that leads least.
    Balanced,
}

impl LeaderLocator {
    /// The value that RabbitMQ knows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientLocal => "client-local",
            Self::Balanced => "balanced",
        }
    }
}

/// See [`QueueSpec::apply_via`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApplyVia {
    /// By a policy of the queue's own, `spillway.q.<queue>`.
    #[default]
    Policy,
    /// By arguments, when the queue is declared.
    Arguments,
}

/// See [`QueueSpec::on_immutable_change`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnImmutableChange {
    /// Say what differs and change nothing.
    #[default]
    Refuse,
    /// Delete the queue and declare it again, if it has no messages and no consumers.
    RecreateIfEmpty,
}

/// Where dead letters go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!(has(self.queue) && has(self.exchange))").message("set queue or exchange, not both"),
    validation = Rule::new("!has(self.routingKey) || has(self.exchange)").message("routingKey belongs to exchange; with a queue it is the queue's name")
)]
#[serde(rename_all = "camelCase")]
pub struct QueueDeadLetter {
    /// The queue that gets them, by its name at the broker. Made as a Queue of its own (quorum,
    /// without a delivery limit, always retained) unless one is declared. Default `<queue>.dlq`,
    /// unless `exchange` is set. Several Queues may share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub queue: Option<String>,
    /// The exchange that gets them instead. It is not made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub exchange: Option<String>,
    /// The routing key that they get on `exchange`. Left out: their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub routing_key: Option<String>,
    /// AtMostOnce (may be lost on the way) or AtLeastOnce (quorum queues with overflow:
    /// reject-publish). Default AtMostOnce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeadLetterStrategy", extend("nullable" = true))]
    pub strategy: Option<DeadLetterStrategy>,
}

/// AtMostOnce (a message may be lost on the way) or AtLeastOnce (kept until the target confirmed it; quorum queues with
/// overflow: reject-publish). Default AtMostOnce. See <https://www.rabbitmq.com/docs/quorum-queues#dead-lettering>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeadLetterStrategy {
    /// Without a confirmation.
    #[default]
    AtMostOnce,
    /// Kept until the target confirmed.
    AtLeastOnce,
}

/// A binding of the queue that it stands in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.source) != has(self.sourceRef)").message("set exactly one of source and sourceRef"))]
#[serde(rename_all = "camelCase")]
pub struct InlineBinding {
    /// The exchange that messages come from, by its name at the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub source: Option<String>,
    /// The exchange that messages come from, by the name of its Exchange in this namespace, on the
    /// same Broker and in the same virtual host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<ObjectRef>,
    /// The binding key. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub routing_key: String,
    /// Arguments, such as the headers that a headers exchange matches.
    #[serde(default, skip_serializing_if = "Arguments::is_empty")]
    #[schemars(schema_with = "arguments::schema")]
    pub arguments: Arguments,
}

impl QueueSpec {
    /// The three choices as this object gives them.
    #[must_use]
    pub const fn policies(&self) -> PolicyDefaults {
        PolicyDefaults {
            management_policy: self.management_policy,
            adoption: self.adoption,
            deletion_policy: self.deletion_policy,
        }
    }
}

impl Queue {
    /// The queue's name at the broker.
    #[must_use]
    pub fn queue_name(&self) -> &str {
        self.spec.name.as_deref().or(self.metadata.name.as_deref()).unwrap_or_default()
    }
}

/// What Spillway found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Ready, InSync, Reconciling, Stalled, Paused, DataLost.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Since when this object owns the queue (RFC 3339). Left out: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_since: Option<String>,
    /// The id of the cluster that `ownedSince`, `appliedBindings` and `pending` are about: on another
    /// one, which a person accepted, nothing is owned yet. Left out: the one that was known then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The inline bindings that Spillway made: one that the spec drops goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub applied_bindings: Vec<AppliedBinding>,
    /// What was about to be done when this was written; work goes on from here after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<QueuePending>,
    /// What is still to be done, in words; empty when the broker is in step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub plan: Vec<String>,
    /// The hash of `plan`: the value for the annotation `spillway.dev/approve-plan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
    /// The name of the dead-letter queue at the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// The retry queues, in the order of their delays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub retries: Vec<RetryStatus>,
}

/// A queue that is being made, or made anew: what is there of it is Spillway's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueuePending {
    /// The bindings that the queue had before it was deleted to be made anew: all of them are made
    /// again, other people's, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub recreate: Vec<AppliedBinding>,
}
