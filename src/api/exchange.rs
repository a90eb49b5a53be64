//! Exchange: one RabbitMQ exchange.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arguments::{self, Arguments};
use super::broker::BrokerRef;
use super::policy::{Adoption, DeletionPolicy, ManagementPolicy, PolicyDefaults};
use super::schema;

/// A RabbitMQ exchange as it is to be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "spillway.dev",
    version = "v1alpha1",
    kind = "Exchange",
    namespaced,
    status = "ExchangeStatus",
    derive = "PartialEq",
    category = "spillway",
    shortname = "swe",
    doc = "A RabbitMQ exchange, kept as declared.",
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
    validation = Rule::new("self.brokerRef == oldSelf.brokerRef").message("brokerRef is immutable: delete this Exchange (it stays at the broker under Retain) and make another"),
    validation = Rule::new("self.vhost == oldSelf.vhost").message("vhost is immutable: RabbitMQ cannot move an exchange"),
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)").message("name is immutable: RabbitMQ cannot rename an exchange"),
    validation = Rule::new("self.type == oldSelf.type && self.durable == oldSelf.durable && self.autoDelete == oldSelf.autoDelete && self.internal == oldSelf.internal").message("type, durable, autoDelete and internal of an exchange are fixed when it is declared: make another exchange and move its bindings")
)]
#[serde(rename_all = "camelCase")]
pub struct ExchangeSpec {
    /// The Broker that the exchange lives on. Immutable.
    pub broker_ref: BrokerRef,

    /// The virtual host. It must exist. Default `/`. Immutable.
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 255))]
    pub vhost: String,

    /// The exchange's name at the broker, at most 255 bytes; names that begin with `amq.` are RabbitMQ's own.
    /// Default: metadata.name. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.startsWith('amq.')").message("names that begin with amq. are RabbitMQ's own"))]
    pub name: Option<String>,

    /// How messages are routed: direct, fanout, topic, headers, or a plugin's type such as
    /// `x-consistent-hash`. Immutable.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 127))]
    #[x_kube(validation = Rule::new("self in ['direct', 'fanout', 'topic', 'headers'] || self.startsWith('x-')").message("type is direct, fanout, topic, headers, or a plugin's, which begins with x-"))]
    pub kind: String,

    /// Whether the exchange outlives a restart of the broker. Default true. Immutable.
    #[serde(default = "yes")]
    pub durable: bool,

    /// Whether the exchange goes when its last binding goes. Default false. Immutable.
    #[serde(default)]
    pub auto_delete: bool,

    /// Whether only other exchanges may publish to it. Default false. Immutable.
    #[serde(default)]
    pub internal: bool,

    /// The exchange that gets what this one can route nowhere. Kept by a policy, so that it may
    /// change (<https://www.rabbitmq.com/docs/ae>). Left out: such messages are returned or dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub alternate_exchange: Option<String>,

    /// Further arguments, for plugins. May not repeat `alternate-exchange`. Immutable.
    #[serde(default, skip_serializing_if = "Arguments::is_empty")]
    #[schemars(schema_with = "arguments::schema")]
    pub arguments: Arguments,

    /// Who writes to the broker: Manage, or Observe (never writes, never claims).
    /// Default: the Broker's, else Manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ManagementPolicy", extend("nullable" = true))]
    pub management_policy: Option<ManagementPolicy>,

    /// What to do with an exchange that was there before: IfIdentical, Adopt or Never.
    /// Default: the Broker's, else IfIdentical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Adoption", extend("nullable" = true))]
    pub adoption: Option<Adoption>,

    /// What happens to the exchange when this object is deleted: Retain, Delete (with its bindings)
    /// or DeleteIfUnused (only without bindings). Default: the Broker's (its DeleteIfEmpty means
    /// DeleteIfUnused here), else Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ExchangeDeletionPolicy", extend("nullable" = true))]
    pub deletion_policy: Option<ExchangeDeletionPolicy>,
}

/// The virtual host that every RabbitMQ begins with.
#[must_use]
pub fn default_vhost() -> String {
    "/".into()
}

pub(super) const fn yes() -> bool {
    true
}

/// What happens at the broker when an Exchange is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExchangeDeletionPolicy {
    /// The broker keeps the exchange and its bindings.
    #[default]
    Retain,
    /// The exchange is deleted, with its bindings.
    Delete,
    /// The exchange is deleted only when nothing is bound to it.
    DeleteIfUnused,
}

impl From<ExchangeDeletionPolicy> for DeletionPolicy {
    /// "Unused" is an exchange's "empty": rules and defaults of a Broker name both `DeleteIfEmpty`.
    fn from(policy: ExchangeDeletionPolicy) -> Self {
        match policy {
            ExchangeDeletionPolicy::Retain => Self::Retain,
            ExchangeDeletionPolicy::Delete => Self::Delete,
            ExchangeDeletionPolicy::DeleteIfUnused => Self::DeleteIfEmpty,
        }
    }
}

impl ExchangeSpec {
    /// The three choices as this object gives them.
    #[must_use]
    pub fn policies(&self) -> PolicyDefaults {
        PolicyDefaults {
            management_policy: self.management_policy,
            adoption: self.adoption,
            deletion_policy: self.deletion_policy.map(Into::into),
        }
    }
}

impl Exchange {
    /// The exchange's name at the broker.
    #[must_use]
    pub fn exchange_name(&self) -> &str {
        self.spec.name.as_deref().or(self.metadata.name.as_deref()).unwrap_or_default()
    }
}

/// What Spillway found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExchangeStatus {
    /// Ready, InSync, Reconciling, Stalled, Paused.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Since when this object owns the exchange (RFC 3339). Left out: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_since: Option<String>,
    /// The id of the cluster that `ownedSince` is about: on another one, which a person accepted,
    /// nothing is owned yet. Left out: the one that was known then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// What is still to be done, in words; empty when the broker is in step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub plan: Vec<String>,
    /// The hash of `plan`: the value for the annotation `spillway.dev/approve-plan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
}
