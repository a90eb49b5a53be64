//! Broker: a connection to a message broker, who may use it, its defaults and guard rails.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::policy::PolicyDefaults;
use super::schema;

/// A message broker and how to reach it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "spillway.dev",
    version = "v1alpha1",
    kind = "Broker",
    namespaced,
    status = "BrokerStatus",
    derive = "PartialEq",
    category = "spillway",
    shortname = "swb",
    doc = "A message broker: how to reach it, who may use it, and its guard rails.",
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
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "Managed", type_ = "integer", json_path = ".status.managed"),
    printcolumn(name = "InSync", type_ = "integer", json_path = ".status.inSync"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[x_kube(validation = Rule::new("has(self.kafka) != has(self.rabbitmq)").message("a Broker needs one connection: set exactly one of kafka and rabbitmq"))]
#[serde(rename_all = "camelCase")]
pub struct BrokerSpec {
    /// A Kafka cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConnection>,

    /// A RabbitMQ cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rabbitmq: Option<RabbitmqConnection>,

    /// Which namespaces' objects may name this Broker. Default: its own only.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,

    /// Guard rails. With none, an allowed namespace may do anything; with some, an object must be
    /// permitted by at least one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub rules: Vec<GuardRule>,

    /// What objects of this Broker do when they do not say it themselves.
    #[serde(default)]
    pub defaults: PolicyDefaults,

    /// What to do when a broker's object no longer matches: Correct it, or Report it.
    /// Default Correct; after 5 reverts of one object in 10 minutes it stops and says `Contended`.
    /// Where several Brokers name one cluster, Report of the oldest holds for all.
    #[serde(default)]
    pub drift_policy: DriftPolicy,

    /// How often all objects are compared with the broker: at least 5s. Default 30s.
    #[serde(default = "default_resync")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s')").message("resyncInterval must be at least 5s"))]
    pub resync_interval: Duration,
}

const fn default_resync() -> Duration {
    Duration::from_secs(30)
}

/// A reference to a Broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerRef {
    /// The Broker's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The Broker's namespace. Default: the object's own. Another namespace must be allowed by the
    /// Broker's `allowedNamespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// How to reach a Kafka cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaConnection {
    /// The addresses to begin with, `host:port` each; at most 32. The cluster tells the others.
    #[schemars(length(min = 1, max = 32), inner(length(min = 3, max = 262)))]
    #[x_kube(validation = Rule::new("self.all(s, s.matches('^[^,\\\\s/]+:[0-9]{1,5}$'))").message("each bootstrap server is host:port, such as kafka-0.kafka:9092, without a scheme"))]
    pub bootstrap_servers: Vec<String>,
    /// TLS to the brokers. Left out: no TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// SASL to the brokers. Left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

/// How to reach a RabbitMQ cluster. All Secrets live in the Broker's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.credentialsSecretRef) != has(self.connectionSecretRef)").message("set exactly one of credentialsSecretRef and connectionSecretRef"),
    validation = Rule::new("!has(self.tls) || self.managementUrl.startsWith('https://') || (has(self.amqpUrl) && self.amqpUrl.startsWith('amqps://'))").message("tls is set, but neither managementUrl is https:// nor amqpUrl amqps://")
)]
#[serde(rename_all = "camelCase")]
pub struct RabbitmqConnection {
    /// The management plugin's address, such as `https://rabbitmq:15671`, without credentials.
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/@?#]+(/[^@?#]*)?$')").message("managementUrl is http(s)://host:port, with a path if the plugin has one, and without user or password"))]
    pub management_url: String,

    /// The AMQP address, such as `amqps://rabbitmq:5671`, without credentials. With it, queue depths
    /// are asked for over AMQP, too, where the management plugin's figures are seconds old.
    /// Default with `connectionSecretRef`: the Secret's host and port; else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^amqps?://[^/@?#]+/?$')").message("amqpUrl is amqp(s)://host:port, without user, password or virtual host"))]
    pub amqp_url: Option<String>,

    /// The user name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<CredentialsSecretRef>,

    /// The Secret that RabbitMQ's cluster operator writes (`<cluster>-default-user`, with the keys
    /// host, port, username and password), instead of `credentialsSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_secret_ref: Option<ConnectionSecretRef>,

    /// TLS, for both addresses. Left out: the system's certificate authorities are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// The Secret that RabbitMQ's cluster operator writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionSecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// TLS settings. All Secrets live in the Broker's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// The certificate authority that signed the broker's certificate. Left out: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<CaSecretRef>,
    /// A client certificate, for brokers that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<ClientSecretRef>,
    /// Accept any certificate. For tests only: whoever is in between reads and changes everything.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// Where a CA certificate is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaSecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key that holds the PEM text. Default `ca.crt`.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".into()
}

/// Where a client certificate and its key are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientSecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key that holds the certificate chain as PEM. Default `tls.crt`.
    #[serde(default = "default_cert_key")]
    #[schemars(length(min = 1, max = 253))]
    pub cert_key: String,
    /// The key that holds the private key as PEM. Default `tls.key`.
    #[serde(default = "default_key_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key_key: String,
}

fn default_cert_key() -> String {
    "tls.crt".into()
}

fn default_key_key() -> String {
    "tls.key".into()
}

/// SASL settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sasl {
    /// How to log in: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    pub mechanism: SaslMechanism,
    /// The user name and password.
    pub credentials_secret_ref: CredentialsSecretRef,
}

/// SASL mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// RFC 4616: the password itself; use it with TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Kafka's stronger SCRAM.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    /// The name that goes over the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Where a user name and a password are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsSecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key that holds the user name. Default `username`.
    #[serde(default = "default_username_key")]
    #[schemars(length(min = 1, max = 253))]
    pub username_key: String,
    /// The key that holds the password. Default `password`.
    #[serde(default = "default_password_key")]
    #[schemars(length(min = 1, max = 253))]
    pub password_key: String,
}

fn default_username_key() -> String {
    "username".into()
}

fn default_password_key() -> String {
    "password".into()
}

/// Which namespaces may use a Broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("selector belongs to from: Selector, and only to it"))]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// Same (the Broker's own), All, or Selector (by the namespace's labels). Default Same.
    #[serde(default)]
    pub from: AllowedFrom,
    /// The labels that a namespace must have, with from: Selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::label_selector")]
    pub selector: Option<LabelSelector>,
}

/// See [`AllowedNamespaces::from`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllowedFrom {
    /// The Broker's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// Namespaces whose labels match `selector`.
    Selector,
}

/// One guard rail: who may name what, and delete how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuardRule {
    /// The namespaces that this rule is for. Globs: `*` is any run of characters, all else literal.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// The broker objects that they may declare, or refer to (as the source or destination of a
    /// binding, as a dead-letter target or an alternate exchange), companions included. Globs as
    /// above; `.` is literal.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)))]
    pub names: Vec<String>,
    /// The virtual hosts that they may use (RabbitMQ). Globs as above. Left out: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub vhosts: Vec<String>,
    /// The deletion policies that they may choose. DeleteIfEmpty covers an Exchange's DeleteIfUnused.
    /// A Queue's expires takes Delete; its onImmutableChange RecreateIfEmpty, and an Exchange's
    /// autoDelete, take DeleteIfEmpty or Delete. Left out: all. (A Binding, which holds nothing, may
    /// always be deleted.)
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub deletion_policies: Vec<super::policy::DeletionPolicy>,
}

/// What to do about drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// Bring the broker back in step.
    #[default]
    Correct,
    /// Say what differs in `InSync` and `status.plan`, and change nothing.
    Report,
}

/// What Spillway knows of a broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// Ready, Paused, ClusterChanged.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The cluster's id, as it says itself. A change of it stops all writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Since when the Broker has been on that cluster. Of several Brokers of one cluster, the one that has been on it for
    /// the longest time decides whose namespaces may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_since: Option<String>,
    /// RabbitMQ's version, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many nodes the cluster has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i32>,
    /// How many objects are declared on this Broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<i32>,
    /// How many of them match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_sync: Option<i32>,
    /// How many differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drifted: Option<i32>,
    /// What the broker has that nobody declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged: Option<Unmanaged>,
}

/// Counts of what nobody declared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unmanaged {
    /// Kafka topics, its internal ones left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<i32>,
    /// RabbitMQ queues, exclusive and auto-delete ones left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<i32>,
}
