//! Topic: one Kafka topic, with its dead letters and retries as fields.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::broker::BrokerRef;
use super::duration::Duration;
use super::policy::{Adoption, DeletionPolicy, ManagementPolicy, PolicyDefaults};
use super::schema;

/// Admission's rule about names that are Kafka's own: see `topology::kafka::desired`, which has them, too.
pub const NOT_KAFKAS_OWN: &str = "!(self in ['__cluster_metadata', '__consumer_offsets', '__remote_log_metadata', '__share_group_state', '__transaction_state'])";

/// A Kafka topic as it is to be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "spillway.dev",
    version = "v1alpha1",
    kind = "Topic",
    namespaced,
    status = "TopicStatus",
    derive = "PartialEq",
    category = "spillway",
    shortname = "swt",
    doc = "A Kafka topic, kept as declared, with its dead-letter and retry topics.",
    validation = Rule::new("!has(self.spec.partitions) || !has(oldSelf.spec.partitions) || self.spec.partitions >= oldSelf.spec.partitions || !has(self.status) || !has(self.status.partitions) || self.spec.partitions >= self.status.partitions").message("spec.partitions may grow but never shrink: Kafka cannot remove partitions; make a new topic and move its consumers"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "InSync", type_ = "string", json_path = ".status.conditions[?(@.type==\"InSync\")].status"),
    printcolumn(name = "Broker", type_ = "string", json_path = ".spec.brokerRef.name"),
    printcolumn(name = "Partitions", type_ = "integer", json_path = ".status.partitions"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1)
)]
#[x_kube(
    validation = Rule::new("self.brokerRef == oldSelf.brokerRef").message("brokerRef is immutable: delete this Topic (its topic stays at the broker under Retain) and make another"),
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)").message("name is immutable: Kafka cannot rename a topic")
)]
#[serde(rename_all = "camelCase")]
pub struct TopicSpec {
    /// The Broker that the topic lives on. Immutable.
    pub broker_ref: BrokerRef,

    /// The topic's name at the broker: letters, digits, `.`, `_` and `-`, at most 249.
    /// Kafka's own topics (`__consumer_offsets` and its like) are refused. Default: metadata.name. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    #[x_kube(validation = Rule::new(NOT_KAFKAS_OWN).message("name is that of a topic which Kafka makes and keeps by itself"))]
    #[x_kube(validation = Rule::new("self.matches('^[a-zA-Z0-9._-]+$') && self != '.' && self != '..'").message("name may hold letters, digits, '.', '_' and '-' only, and may not be '.' or '..' (Kafka's rule for topic names)"))]
    pub name: Option<String>,

    /// How many partitions: at least 1. May grow, never shrink. Default: the broker's
    /// `num.partitions`, and an existing topic's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub partitions: Option<i32>,

    /// How many replicas of each partition. Default: the broker's `default.replication.factor`.
    /// A change on an existing topic is refused with reason `ReassignmentUnsupported`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub replication_factor: Option<i32>,

    /// Topic configs, such as `retention.ms: "604800000"`: all values are strings. A key that is
    /// removed here goes back to the broker's default. Keys that were never named here are left
    /// alone. See <https://kafka.apache.org/documentation/#topicconfigs>.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::config_map")]
    pub config: BTreeMap<String, String>,

    /// The dead-letter topic: where a consumer puts what it cannot process. Made as a Topic of its
    /// own, which always retains its messages at the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,

    /// The retry topics: where a consumer puts what it shall try again later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,

    /// Who writes to the broker: Manage, or Observe (never writes, never claims).
    /// Default: the Broker's, else Manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ManagementPolicy", extend("nullable" = true))]
    pub management_policy: Option<ManagementPolicy>,

    /// What to do with a topic that was there before: IfIdentical (take over only if nothing
    /// differs, else wait for approval), Adopt (take over and change it), Never.
    /// Default: the Broker's, else IfIdentical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Adoption", extend("nullable" = true))]
    pub adoption: Option<Adoption>,

    /// What happens to the topic when this object is deleted: Retain, Delete (with its messages) or
    /// DeleteIfEmpty. Default: the Broker's, else Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy", extend("nullable" = true))]
    pub deletion_policy: Option<DeletionPolicy>,
}

impl TopicSpec {
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

impl Topic {
    /// The topic's name at the broker.
    #[must_use]
    pub fn topic_name(&self) -> &str {
        self.spec.name.as_deref().or(self.metadata.name.as_deref()).unwrap_or_default()
    }
}

/// A dead-letter topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The topic's name at the broker. Default `<topic>.dlq`. Several Topics may share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    #[x_kube(validation = Rule::new(NOT_KAFKAS_OWN).message("deadLetter.name is that of a topic which Kafka makes and keeps by itself"))]
    #[x_kube(validation = Rule::new("self.matches('^[a-zA-Z0-9._-]+$') && self != '.' && self != '..'").message("deadLetter.name may hold letters, digits, '.', '_' and '-' only, and may not be '.' or '..' (Kafka's rule for topic names)"))]
    pub name: Option<String>,

    /// How many partitions. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub partitions: Option<i32>,

    /// Topic configs of the dead-letter topic, such as a longer `retention.ms`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::config_map")]
    pub config: BTreeMap<String, String>,
}

/// Retry topics or queues, one for each delay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// The delays, such as `[10s, 1m, 10m]`; at most 10. Each one is a topic or queue of its own,
    /// `<name>.retry.<delay>`. That of a removed delay stays: it may still hold messages.
    #[schemars(length(min = 1, max = 10))]
    pub delays: Vec<Duration>,
}

/// What Spillway found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// Ready, InSync, Reconciling, Stalled, Paused, DataLost.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Since when this object owns the topic (RFC 3339). Left out: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_since: Option<String>,
    /// The topic's id at the broker (KIP-516). It changes when the topic is deleted and made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// How many partitions the topic has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// How many replicas each partition has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    /// The config keys that Spillway set: only these go back to default when the spec drops them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub applied_config_keys: Vec<String>,
    /// What was about to be done when this was written, where a crash in between would matter:
    /// `create` means that a topic of this name that appears, just as the spec asks for it, is Spillway's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// The id of the Kafka cluster that `pending` is about: it says nothing of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_cluster_id: Option<String>,
    /// What is still to be done, in words; empty when the broker is in step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub plan: Vec<String>,
    /// The hash of `plan`: the value for the annotation `spillway.dev/approve-plan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
    /// The name of the dead-letter topic at the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// The retry topics, in the order of their delays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub retries: Vec<RetryStatus>,
}

/// One retry topic or queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryStatus {
    /// Its name at the broker.
    pub name: String,
    /// How long a message waits there.
    pub delay: Duration,
}
