//! Binding: one RabbitMQ binding, from an exchange to a queue or to another exchange.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arguments::{self, Arguments};
use super::broker::BrokerRef;
use super::exchange::default_vhost;
use super::policy::{Adoption, DeletionPolicy, ManagementPolicy, PolicyDefaults};
use super::schema;

/// A RabbitMQ binding as it is to be.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "spillway.dev",
    version = "v1alpha1",
    kind = "Binding",
    namespaced,
    status = "BindingStatus",
    derive = "PartialEq",
    category = "spillway",
    shortname = "swbd",
    doc = "A RabbitMQ binding, kept as declared. When it changes, the new one is made before the old one goes.",
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
    printcolumn(name = "Key", type_ = "string", json_path = ".spec.routingKey"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[x_kube(
    validation = Rule::new("self.brokerRef == oldSelf.brokerRef").message("brokerRef is immutable: delete this Binding and make another"),
    validation = Rule::new("self.vhost == oldSelf.vhost").message("vhost is immutable: delete this Binding and make another"),
    validation = Rule::new("has(self.source) != has(self.sourceRef)").message("set exactly one of source and sourceRef")
)]
#[serde(rename_all = "camelCase")]
pub struct BindingSpec {
    /// The Broker that the binding lives on. Immutable.
    pub broker_ref: BrokerRef,

    /// The virtual host. It must exist. Default `/`. Immutable.
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 255))]
    pub vhost: String,

    /// The exchange that messages come from, by its name at the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub source: Option<String>,

    /// The exchange that messages come from, by the name of its Exchange in this namespace, on the
    /// same Broker and in the same virtual host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<ObjectRef>,

    /// Where messages go.
    pub destination: Destination,

    /// The binding key: what a routing key must match, as the exchange's type understands it.
    /// Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub routing_key: String,

    /// Arguments, such as the headers that a headers exchange matches.
    #[serde(default, skip_serializing_if = "Arguments::is_empty")]
    #[schemars(schema_with = "arguments::schema")]
    pub arguments: Arguments,

    /// Who writes to the broker: Manage, or Observe (never writes, never claims).
    /// Default: the Broker's, else Manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ManagementPolicy", extend("nullable" = true))]
    pub management_policy: Option<ManagementPolicy>,

    /// What to do with a binding that was there before: IfIdentical and Adopt take it over, Never
    /// leaves it alone. Default: the Broker's, else IfIdentical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Adoption", extend("nullable" = true))]
    pub adoption: Option<Adoption>,

    /// What happens to the binding when this object is deleted: Delete or Retain. Default Delete,
    /// whatever the Broker's defaults: a stale binding floods a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BindingDeletionPolicy", extend("nullable" = true))]
    pub deletion_policy: Option<BindingDeletionPolicy>,
}

/// Another object of Spillway's, in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectRef {
    /// The object's metadata.name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where messages go: exactly one of its fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("[has(self.queue), has(self.exchange), has(self.queueRef), has(self.exchangeRef)].filter(x, x).size() == 1").message("set exactly one of queue, exchange, queueRef and exchangeRef"))]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// A queue, by its name at the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub queue: Option<String>,
    /// An exchange, by its name at the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub exchange: Option<String>,
    /// A queue, by the name of its Queue in this namespace, on the same Broker and in the same
    /// virtual host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_ref: Option<ObjectRef>,
    /// An exchange, by the name of its Exchange in this namespace, on the same Broker and in the
    /// same virtual host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_ref: Option<ObjectRef>,
}

/// What happens at the broker when a Binding is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BindingDeletionPolicy {
    /// The binding is deleted.
    #[default]
    Delete,
    /// The broker keeps the binding.
    Retain,
}

impl BindingSpec {
    /// The three choices as this object gives them. The Broker's default for deletion never holds.
    #[must_use]
    pub fn policies(&self) -> PolicyDefaults {
        PolicyDefaults {
            management_policy: self.management_policy,
            adoption: self.adoption,
            deletion_policy: Some(match self.deletion_policy.unwrap_or_default() {
                BindingDeletionPolicy::Delete => DeletionPolicy::Delete,
                BindingDeletionPolicy::Retain => DeletionPolicy::Retain,
            }),
        }
    }
}

/// What Spillway found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingStatus {
    /// Ready, InSync, Reconciling, Stalled, Paused.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Since when this object owns the binding (RFC 3339). Left out: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned_since: Option<String>,
    /// The id of the cluster that `ownedSince`, `applied` and `stale` are about: on another one, which
    /// a person accepted, nothing is owned yet. Left out: the one that was known then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The binding as it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<AppliedBinding>,
    /// Bindings that it was before: they go once the one that the spec asks for is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub stale: Vec<AppliedBinding>,
    /// What is still to be done, in words; empty when the broker is in step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub plan: Vec<String>,
    /// The hash of `plan`: the value for the annotation `spillway.dev/approve-plan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<String>,
}

/// A binding that Spillway made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedBinding {
    /// The exchange that messages come from.
    pub source: String,
    /// The queue that they go to; left out: it is an exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The exchange that they go to; left out: it is a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// The binding key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub routing_key: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Arguments::is_empty")]
    #[schemars(schema_with = "arguments::seen")]
    pub arguments: Arguments,
}
