//! Consumer: a consumer workload and how it scales.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::broker::{BrokerRef, CredentialsSecretRef};
use super::duration::Duration;
use super::exchange::default_vhost;
use super::schema;

/// A consumer workload, what it reads, and how it scales.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "spillway.dev",
    version = "v1alpha1",
    kind = "Consumer",
    namespaced,
    status = "ConsumerStatus",
    derive = "PartialEq",
    category = "spillway",
    shortname = "swc",
    doc = "A consumer workload, kept at as many replicas as its backlog needs.",
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
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Bound", type_ = "string", json_path = ".status.decision.bound"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag.messages", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Decision", type_ = "string", json_path = ".status.decision.message", priority = 1)
)]
#[x_kube(
    validation = Rule::new("has(self.scaleTargetRef) != has(self.template)").message("exactly one of scaleTargetRef and template: name a Deployment that exists, or let Spillway make one"),
    validation = Rule::new("has(self.kafka) != has(self.rabbitmq)").message("a Consumer reads one thing: set exactly one of kafka and rabbitmq"),
    validation = Rule::new("!has(self.rabbitmq) || (has(self.scaling) && has(self.scaling.maxReplicas))").message("a Consumer of a RabbitMQ queue needs scaling.maxReplicas: a queue sets no limit of its own"),
    validation = Rule::new("has(self.template) || !has(self.credentialsSecretRef)").message("credentialsSecretRef is for the environment of pods that Spillway makes: it needs template")
)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerSpec {
    /// The workload to scale, in the same namespace. Exactly one of scaleTargetRef and template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_target_ref: Option<ScaleTargetRef>,

    /// A pod template: Spillway makes a Deployment of the Consumer's name from it and puts
    /// `SPILLWAY_*` variables into every container (servers, group, topics, client id, security;
    /// or URL, virtual host and queue; dead-letter and retry names). Exactly one of scaleTargetRef
    /// and template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pod_template")]
    pub template: Option<serde_json::Value>,

    /// The Secret that holds the workload's own user name and password, in the Consumer's
    /// namespace: `SPILLWAY_KAFKA_USERNAME` and `SPILLWAY_KAFKA_PASSWORD` (with rabbitmq:
    /// `SPILLWAY_AMQP_USERNAME` and `SPILLWAY_AMQP_PASSWORD`) come from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<CredentialsSecretRef>,

    /// The Kafka consumer group that the workload forms. Exactly one of kafka and rabbitmq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConsumer>,

    /// The RabbitMQ queue that the workload consumes. Exactly one of kafka and rabbitmq.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<RabbitmqConsumer>,

    /// How it scales.
    #[serde(default)]
    pub scaling: Scaling,
}

impl ConsumerSpec {
    /// The Broker that the workload reads from; none where the spec says nothing to read.
    #[must_use]
    pub fn broker_ref(&self) -> Option<&BrokerRef> {
        let kafka = self.kafka.as_ref().map(|kafka| &kafka.broker_ref);
        kafka.or_else(|| self.rabbitmq.as_ref().map(|rabbitmq| &rabbitmq.broker_ref))
    }
}

/// The workload to scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTargetRef {
    /// Its API group and version: `apps/v1`, which is the default.
    #[serde(default)]
    pub api_version: TargetApi,
    /// Deployment or StatefulSet. Default Deployment.
    #[serde(default)]
    pub kind: TargetKind,
    /// The workload's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The API group and version of a scale target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TargetApi {
    /// The only one so far.
    #[default]
    #[serde(rename = "apps/v1")]
    AppsV1,
}

/// The kind of a scale target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// A Deployment.
    #[default]
    Deployment,
    /// A StatefulSet.
    StatefulSet,
}

impl TargetKind {
    /// The kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

/// A Kafka consumer group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaConsumer {
    /// The Broker that the group reads from.
    pub broker_ref: BrokerRef,
    /// The group's id, as the workload's `group.id`.
    #[schemars(length(min = 1, max = 255))]
    pub group: String,
    /// The topics that count: their names at the broker; at most 64.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 249)))]
    #[x_kube(validation = Rule::new("self.all(t, self.exists_one(u, u == t))").message("topics names one topic twice"))]
    pub topics: Vec<String>,
    /// The workload's own `auto.offset.reset`: where it begins in a partition without a committed
    /// offset. earliest counts such a partition's messages as lag, latest counts none.
    pub offset_reset: OffsetReset,
    /// The workload's own `isolation.level`. ReadCommitted counts up to the last stable offset.
    /// Default ReadUncommitted.
    #[serde(default)]
    pub isolation: Isolation,
}

/// Where a consumer begins without a committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OffsetReset {
    /// At the first message that is there.
    Earliest,
    /// After the last.
    Latest,
}

/// What a consumer sees of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Isolation {
    /// Everything that is written.
    #[default]
    ReadUncommitted,
    /// Only what is committed.
    ReadCommitted,
}

/// A RabbitMQ queue, quorum or classic. A stream is refused: each of its consumers reads all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RabbitmqConsumer {
    /// The Broker that the queue is on. With `amqpUrl` it is looked at every second; without, its
    /// depth is as old as RabbitMQ's statistics, 5 seconds.
    pub broker_ref: BrokerRef,
    /// The virtual host. Default `/`.
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 255))]
    pub vhost: String,
    /// The queue's name at the broker.
    #[schemars(length(min = 1, max = 255))]
    pub queue: String,
}

/// How a Consumer scales. Everything has a default: an empty block is a good start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.maxReplicas) || self.maxReplicas >= self.minReplicas").message("maxReplicas must be at least minReplicas")
)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Auto, or DryRun: decides and says so, but does not patch. Default Auto.
    #[serde(default)]
    pub mode: ScalingMode,
    /// The fewest replicas, 0 or more. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min_replicas: u32,
    /// The most replicas; a lower one counts at once, also while nothing is known of the load.
    /// Default: as many as the partitions allow; more could not work. Required for a RabbitMQ
    /// queue, which has no partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: Option<u32>,
    /// How long a message may wait: at least 1s. Default 30s.
    #[serde(default = "target_delay")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s')").message("targetDelay must be at least 1s"))]
    pub target_delay: Duration,
    /// What one replica does, in messages per second, as a first guess such as `"100"` or `"2.5"`;
    /// what is learned replaces it. Default: learned from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]+(\.[0-9]+)?$"))]
    pub rate_per_replica: Option<String>,
    /// How many group members, or consumers of the queue, one replica runs. Default: learned; of a
    /// queue, 1 at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub consumers_per_replica: Option<u32>,
    /// Going down.
    #[serde(default)]
    pub scale_down: ScaleDown,
    /// Going to zero, and what is no lag.
    #[serde(default)]
    pub idle: Idle,
    /// The dead-letter breaker: no scaling up on messages that only fail.
    #[serde(default)]
    pub breaker: Breaker,
    /// What to do when the broker tells nothing.
    #[serde(default)]
    pub on_unknown: OnUnknown,
    /// Fine adjustments that few will need.
    #[serde(default)]
    pub tuning: Tuning,
}

const fn one() -> u32 {
    1
}

const fn target_delay() -> Duration {
    Duration::from_secs(30)
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            mode: ScalingMode::Auto,
            min_replicas: one(),
            max_replicas: None,
            target_delay: target_delay(),
            rate_per_replica: None,
            consumers_per_replica: None,
            scale_down: ScaleDown::default(),
            idle: Idle::default(),
            breaker: Breaker::default(),
            on_unknown: OnUnknown::default(),
            tuning: Tuning::default(),
        }
    }
}

/// Whether decisions are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMode {
    /// Decide and patch.
    #[default]
    Auto,
    /// Decide and say so.
    DryRun,
}

/// Going down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleDown {
    /// For how long fewer replicas must have been enough before any go. Default: 3m; where half of them would have been
    /// enough, and are back within twice targetDelay, twice as long as that takes (learned), but 45s at least, unless
    /// replicas that went were soon wanted back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stabilization: Option<Duration>,
    /// For how long half of the last peak is kept; 0s: not at all. Default: for 15m, and only as much of it as a return
    /// of the peak needs for no message to wait longer than targetDelay: none where replicas are back within that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<Duration>,
}

/// Going to zero, and what is no lag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Idle {
    /// For how long nothing must have come before the last replica goes, with minReplicas: 0.
    /// Default 5m.
    #[serde(default = "idle_after")]
    pub after: Duration,
    /// How many messages a partition may seem to lag, unmoving, without counting: a transaction
    /// marker leaves 1. Default 1. A queue's messages all count.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub lag_tolerance: u32,
}

const fn idle_after() -> Duration {
    Duration::from_secs(300)
}

impl Default for Idle {
    fn default() -> Self {
        Self { after: idle_after(), lag_tolerance: one() }
    }
}

/// The dead-letter breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// The dead-letter topic to watch, or the dead-letter queue, in the same virtual host.
    /// Default: those of all declared Topics, or that of the declared Queue, that this Consumer reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub dead_letter: Option<String>,
    /// The share of dead letters among what is consumed above which it opens. Default `"0.2"`.
    #[serde(default = "max_ratio")]
    #[schemars(length(max = 16), regex(pattern = r"^(0(\.[0-9]+)?|1(\.0+)?)$"))]
    pub max_ratio: String,
    /// The time that the share is measured over. Default 1m.
    #[serde(default = "window")]
    pub window: Duration,
    /// How many dead letters it takes at least. Default 20.
    #[serde(default = "min_count")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_count: u32,
}

fn max_ratio() -> String {
    "0.2".into()
}

const fn window() -> Duration {
    Duration::from_secs(60)
}

const fn min_count() -> u32 {
    20
}

impl Default for Breaker {
    fn default() -> Self {
        Self { dead_letter: None, max_ratio: max_ratio(), window: window(), min_count: min_count() }
    }
}

/// What to do when the broker tells nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnUnknown {
    /// For how long to hold. Default 5m.
    #[serde(default = "idle_after")]
    pub after: Duration,
    /// How many replicas to raise to after that. Default: hold on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: Option<u32>,
}

impl Default for OnUnknown {
    fn default() -> Self {
        Self { after: idle_after(), replicas: None }
    }
}

/// Fine adjustments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tuning {
    /// How busy a replica shall be, in percent, 10 to 100. Default 80.
    #[serde(default = "utilization")]
    #[schemars(range(min = 10, max = 100))]
    pub utilization: u32,
    /// How often to look: 500ms to 1m. Default 1s.
    #[serde(default = "poll_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('500ms') && duration(self) <= duration('1m')").message("pollInterval must be from 500ms to 1m"))]
    pub poll_interval: Duration,
    /// How long a new replica takes until it works. Default: learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<Duration>,
    /// How long a change of members stops the group. Default: learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Duration>,
}

const fn utilization() -> u32 {
    80
}

const fn poll_interval() -> Duration {
    Duration::from_secs(1)
}

impl Default for Tuning {
    fn default() -> Self {
        Self { utilization: utilization(), poll_interval: poll_interval(), cold_start: None, rebalance: None }
    }
}

/// What Spillway sees of a Consumer and decided last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerStatus {
    /// Ready, ScalingActive, and the scaling guards by name.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many replicas the workload is to have, as its `/scale` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many of them are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Since when the workload is to have none (RFC 3339). Left out: it is to have some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero_since: Option<String>,
    /// How many there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// How many partitions the topics have together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// How many replicas can work at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<i32>,
    /// How far behind the group is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagStatus>,
    /// Rates in messages per second, two significant digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<RatesStatus>,
    /// The last decision, with its reason as it was when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionStatus>,
    /// What was learned: where a new leader goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<LearnedStatus>,
}

/// How far behind a group is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LagStatus {
    /// Messages behind, over all partitions, two significant digits. (`spillway lag` shows them to the message.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<i64>,
    /// The partition that is furthest behind, `topic/partition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_partition: Option<String>,
    /// Seconds that the backlog takes at the rate of now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
}

/// Rates in messages per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RatesStatus {
    /// Messages that arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrival: Option<String>,
    /// Messages that one busy replica processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_replica: Option<String>,
}

/// A decision and its reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionStatus {
    /// How many replicas there should be.
    pub replicas: i32,
    /// What the number is bound by.
    pub bound: String,
    /// What else holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Why, for a person.
    pub message: String,
    /// Since when.
    pub since: String,
}

/// What was learned of a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LearnedStatus {
    /// Messages per second that one busy replica processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_replica: Option<String>,
    /// From patch to first commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<Duration>,
    /// From a change of members until all of them work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<Duration>,
    /// Between two commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_gap: Option<Duration>,
    /// Group members per replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumers_per_replica: Option<u32>,
    /// Messages that seem to wait and are none, where nothing else waits: transaction markers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phantom_lag: Option<i64>,
}
