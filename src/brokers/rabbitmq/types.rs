//! What goes into and comes out of the RabbitMQ client: plain data, no handles.
//!
//! What RabbitMQ did not say is `None`, never zero.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::api::arguments::Arguments;

/// The cluster as the node that answered sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Overview {
    /// RabbitMQ's version.
    #[serde(rename = "rabbitmq_version")]
    pub version: String,
    /// The cluster's name: no identity, anyone may change it.
    pub cluster_name: String,
    /// Statistics are switched off: operator policies and counts of consumers are then never known.
    #[serde(default)]
    pub disable_stats: bool,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeInfo {
    /// Its name, such as `rabbit@host`.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// How long it had been running when it last renewed its statistics, in milliseconds. `None`: it tells none.
    #[serde(default, deserialize_with = "known")]
    pub uptime: Option<u64>,
}

/// What a message can be routed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A queue, by name.
    Queue(String),
    /// An exchange, by name.
    Exchange(String),
}

impl Target {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Exchange(name) => name,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue {name:?}"),
            Self::Exchange(name) => write!(f, "exchange {name:?}"),
        }
    }
}

/// A queue as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueInfo {
    /// The virtual host it is in.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// What of its declaration RabbitMQ did not tell: then the next five are no more than a guess.
    pub untold: Option<&'static str>,
    /// `classic`, `quorum`, `stream` or the type of a plugin.
    pub kind: String,
    /// It outlives a restart.
    pub durable: bool,
    /// It goes with its last consumer.
    pub auto_delete: bool,
    /// One connection has it to itself.
    pub exclusive: bool,
    /// Its arguments, as it was declared with.
    pub arguments: Arguments,
    /// The policy in force, by name; known at once.
    pub policy: Option<String>,
    /// The operator policy in force, by name. `None`: there is none, or no statistics were asked for or came yet.
    pub operator_policy: Option<String>,
    /// `running`, `down`, `minority`, `stopped`, ….
    pub state: Option<String>,
    /// Whether the node that leads a quorum queue or a stream is up.
    pub leader_online: Option<bool>,
    /// Messages in it, ready and not acknowledged; not in listings. A quorum queue without a leader says 0.
    pub messages: Option<u64>,
    /// Messages given to consumers and not acknowledged yet; not in listings.
    pub unacked: Option<u64>,
    /// Consumers. Only statistics have them.
    pub consumers: Option<u64>,
}

/// What RabbitMQ's statistics say of a queue: as of its last interval (5 seconds, unless configured).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatistics {
    /// The virtual host the queue is in.
    pub vhost: String,
    /// The queue's name.
    pub name: String,
    /// The operator policy in force, by name.
    pub operator_policy: Option<String>,
    /// `running`, `down`, `minority`, `stopped`, ….
    pub state: Option<String>,
    /// Whether the node that leads a quorum queue or a stream is up.
    pub leader_online: Option<bool>,
    /// Messages in it.
    pub messages: Option<u64>,
    /// Messages given to consumers and not acknowledged yet.
    pub unacked: Option<u64>,
    /// Consumers.
    pub consumers: Option<u64>,
}

impl QueueInfo {
    /// Adds what only statistics know. What is known at first hand stays; but of two states the worse one holds, and
    /// a leader that either calls down is down: RabbitMQ is late with one or the other, depending on the type.
    #[must_use]
    pub fn with_statistics(self, statistics: QueueStatistics) -> Self {
        let up = |state: &String| state == "running" || state == "idle";
        let leader_online = match (self.leader_online, statistics.leader_online) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (one, other) => one.or(other),
        };
        Self {
            operator_policy: self.operator_policy.or(statistics.operator_policy),
            leader_online,
            state: self.state.filter(|state| !up(state) || statistics.state.is_none()).or(statistics.state),
            messages: self.messages.or(statistics.messages),
            unacked: self.unacked.or(statistics.unacked),
            consumers: self.consumers.or(statistics.consumers),
            ..self
        }
    }
}

/// What cannot be read is not known: a queue that comes or goes while it is listed is half there, and
/// one odd value must not hide all others.
fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

/// Erlang writes an empty map as an empty list.
fn arguments<'de, D: Deserializer<'de>>(from: D) -> Result<Arguments, D::Error> {
    told_arguments(from).map(Option::unwrap_or_default)
}

fn told_arguments<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Arguments>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Array(none) if none.is_empty() => Some(Arguments::new()),
        value => serde_json::from_value(value).ok(),
    })
}

/// A queue as the management interface writes it: with some keys twice, of which the last one counts.
#[derive(Deserialize)]
#[serde(try_from = "BTreeMap<String, Value>")]
pub(super) struct QueueRecord(Record);

impl TryFrom<BTreeMap<String, Value>> for QueueRecord {
    type Error = serde_json::Error;

    fn try_from(keys: BTreeMap<String, Value>) -> Result<Self, Self::Error> {
        serde_json::from_value(Value::Object(keys.into_iter().collect())).map(Self)
    }
}

#[derive(Deserialize)]
struct Record {
    vhost: String,
    name: String,
    #[serde(rename = "type", default, deserialize_with = "known")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "known")]
    durable: Option<bool>,
    #[serde(default, deserialize_with = "known")]
    auto_delete: Option<bool>,
    #[serde(default, deserialize_with = "known")]
    exclusive: Option<bool>,
    #[serde(default, deserialize_with = "told_arguments")]
    arguments: Option<Arguments>,
    #[serde(default, deserialize_with = "known")]
    policy: Option<String>,
    #[serde(default, deserialize_with = "known")]
    operator_policy: Option<String>,
    #[serde(default, deserialize_with = "known")]
    state: Option<String>,
    #[serde(default, deserialize_with = "known")]
    leader: Option<String>,
    #[serde(default, deserialize_with = "known")]
    online: Option<Vec<String>>,
    #[serde(default, deserialize_with = "known")]
    messages: Option<u64>,
    #[serde(default, deserialize_with = "known")]
    messages_unacknowledged: Option<u64>,
    #[serde(default, deserialize_with = "known")]
    consumers: Option<u64>,
}

impl Record {
    fn leader_online(&self) -> Option<bool> {
        let online = self.online.as_ref()?;
        let leader = self.leader.as_deref()?;
        Some(online.iter().any(|node| node == leader))
    }

    /// Exclusiveness is not asked for: of quorum queues and streams, which never are, it is often null.
    fn untold(&self) -> Option<&'static str> {
        let untold = [
            ("type", self.kind.is_none()),
            ("durable", self.durable.is_none()),
            ("auto_delete", self.auto_delete.is_none()),
            ("arguments", self.arguments.is_none()),
        ];
        untold.iter().find_map(|(what, is)| is.then_some(*what))
    }

    fn named(text: Option<String>) -> Option<String> {
        text.filter(|name| !name.is_empty())
    }
}

impl From<QueueRecord> for QueueInfo {
    fn from(QueueRecord(record): QueueRecord) -> Self {
        Self {
            leader_online: record.leader_online(),
            untold: record.untold(),
            vhost: record.vhost,
            name: record.name,
            kind: record.kind.unwrap_or_default(),
            durable: record.durable.unwrap_or_default(),
            auto_delete: record.auto_delete.unwrap_or_default(),
            exclusive: record.exclusive.unwrap_or_default(),
            arguments: record.arguments.unwrap_or_default(),
            policy: Record::named(record.policy),
            operator_policy: Record::named(record.operator_policy),
            state: record.state,
            messages: record.messages,
            unacked: record.messages_unacknowledged,
            consumers: record.consumers,
        }
    }
}

impl From<QueueRecord> for QueueStatistics {
    fn from(QueueRecord(record): QueueRecord) -> Self {
        Self {
            leader_online: record.leader_online(),
            vhost: record.vhost,
            name: record.name,
            operator_policy: Record::named(record.operator_policy),
            state: record.state,
            messages: record.messages,
            unacked: record.messages_unacknowledged,
            consumers: record.consumers,
        }
    }
}

/// An exchange as it is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ExchangeInfo {
    /// The virtual host it is in.
    pub vhost: String,
    /// Its name; empty for the default exchange.
    pub name: String,
    /// `direct`, `fanout`, `topic`, `headers` or the type of a plugin.
    #[serde(rename = "type")]
    pub kind: String,
    /// It outlives a restart.
    pub durable: bool,
    /// It goes with its last binding.
    pub auto_delete: bool,
    /// Only other exchanges may publish to it.
    pub internal: bool,
    /// Its arguments, as it was declared with.
    #[serde(default, deserialize_with = "arguments")]
    pub arguments: Arguments,
    /// The policy in force, by name.
    #[serde(default)]
    pub policy: Option<String>,
}

/// A binding as it is. Those from the default exchange are never told: RabbitMQ makes them itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "BindingRecord")]
pub struct BindingInfo {
    /// The virtual host it is in.
    pub vhost: String,
    /// The exchange that messages come from.
    pub source: String,
    /// Where they go.
    pub target: Target,
    /// The binding key.
    pub routing_key: String,
    /// Its arguments.
    pub arguments: Arguments,
    /// What RabbitMQ tells it by among those with the same ends.
    pub(super) properties_key: String,
}

#[derive(Deserialize)]
struct BindingRecord {
    vhost: String,
    source: String,
    destination: String,
    destination_type: String,
    routing_key: String,
    #[serde(default, deserialize_with = "arguments")]
    arguments: Arguments,
    properties_key: String,
}

impl TryFrom<BindingRecord> for BindingInfo {
    type Error = &'static str;

    fn try_from(record: BindingRecord) -> Result<Self, Self::Error> {
        let target = match record.destination_type.as_str() {
            "queue" => Target::Queue(record.destination),
            "exchange" => Target::Exchange(record.destination),
            _ => return Err("a binding leads to something that is neither queue nor exchange"),
        };
        Ok(Self {
            vhost: record.vhost,
            source: record.source,
            target,
            routing_key: record.routing_key,
            arguments: record.arguments,
            properties_key: record.properties_key,
        })
    }
}

/// A policy or an operator policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The virtual host it is in; left out of requests.
    #[serde(skip_serializing)]
    pub vhost: String,
    /// Its name; left out of requests.
    #[serde(skip_serializing)]
    pub name: String,
    /// Regular expression over names.
    pub pattern: String,
    /// `queues`, `classic_queues`, `quorum_queues`, `streams`, `exchanges`, `all`, ….
    #[serde(rename = "apply-to")]
    pub apply_to: String,
    /// The highest that matches is in force.
    pub priority: i64,
    /// What it sets.
    pub definition: BTreeMap<String, Value>,
}

/// All policies of a virtual host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VhostPolicies {
    /// Policies.
    pub policies: Vec<Policy>,
    /// Operator policies.
    pub operator: Vec<Policy>,
}

/// A queue to declare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueDeclaration {
    /// Its name; in the address, not in the body.
    #[serde(skip)]
    pub name: String,
    /// It outlives a restart.
    pub durable: bool,
    /// It goes with its last consumer.
    pub auto_delete: bool,
    /// Its arguments, its type as `x-queue-type` among them.
    pub arguments: Arguments,
}

/// An exchange to declare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExchangeDeclaration {
    /// Its name; in the address, not in the body.
    #[serde(skip)]
    pub name: String,
    /// `direct`, `fanout`, `topic`, `headers` or the type of a plugin.
    #[serde(rename = "type")]
    pub kind: String,
    /// It outlives a restart.
    pub durable: bool,
    /// It goes with its last binding.
    pub auto_delete: bool,
    /// Only other exchanges may publish to it.
    pub internal: bool,
    /// Its arguments.
    pub arguments: Arguments,
}

/// What a declaration found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// It was not there before. False: it was, and equal (a policy: it was, and now it is as declared).
    pub created: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(record: Value) -> QueueInfo {
        serde_json::from_value::<QueueRecord>(record).expect("it is a record").into()
    }

    #[test]
    fn what_rabbitmq_leaves_out_or_calls_null_is_unknown_and_never_zero() {
        let queue = queue(serde_json::json!({
            "name": "s", "vhost": "/", "type": "stream", "durable": true, "auto_delete": false, "exclusive": null,
            "arguments": {"x-queue-type": "stream"}, "online": ["rabbit@a"], "state": "running",
            "totals": null, "type_specific": null
        }));
        assert_eq!((queue.messages, queue.unacked, queue.consumers), (None, None, None));
        assert_eq!(queue.leader_online, None);
        assert_eq!(queue.policy, None);
        assert!(!queue.exclusive);
    }

    #[test]
    fn one_odd_value_is_unknown_and_hides_nothing_else() {
        let queue = queue(serde_json::json!({
            "name": "q", "vhost": "/", "type": "quorum", "arguments": [], "messages": -1, "consumers": "",
            "exclusive": "", "online": "rabbit@a", "policy": 7, "state": "running"
        }));
        assert!(queue.arguments.is_empty() && !queue.exclusive);
        assert_eq!((queue.messages, queue.consumers, queue.policy), (None, None, None));
        assert_eq!(queue.state.as_deref(), Some("running"));
    }

    #[test]
    fn a_declaration_that_is_told_in_part_is_said_to_be() {
        let whole = serde_json::json!({
            "name": "q", "vhost": "/", "type": "quorum", "durable": true, "auto_delete": false, "exclusive": null,
            "arguments": []
        });
        assert_eq!(queue(whole.clone()).untold, None);
        for missing in ["type", "durable", "auto_delete", "arguments"] {
            for value in [Value::Null, serde_json::json!(5)] {
                let mut record = whole.clone();
                record[missing] = value;
                assert_eq!(queue(record).untold, Some(missing));
            }
            let mut record = whole.clone();
            record.as_object_mut().expect("an object").remove(missing);
            assert_eq!(queue(record).untold, Some(missing));
        }
    }

    #[test]
    fn a_leader_is_online_when_its_node_is() {
        let record = |online: &[&str]| serde_json::json!({"name": "q", "vhost": "/", "type": "quorum", "leader": "rabbit@a", "online": online});
        assert_eq!(queue(record(&["rabbit@a", "rabbit@b"])).leader_online, Some(true));
        assert_eq!(queue(record(&["rabbit@b"])).leader_online, Some(false));
    }

    #[test]
    fn of_a_key_that_rabbitmq_writes_twice_the_last_one_counts() {
        let text = r#"{"name": "q", "vhost": "/", "leader": "rabbit@a", "online": ["rabbit@a"], "online": ["rabbit@b"],
            "state": "down", "state": "minority"}"#;
        let queue = QueueInfo::from(serde_json::from_str::<QueueRecord>(text).expect("it is a record"));
        assert_eq!((queue.state.as_deref(), queue.leader_online), (Some("minority"), Some(false)));
    }

    #[test]
    fn of_two_states_the_worse_one_holds() {
        let record = |state: &str, online: &[&str]| {
            let record = serde_json::json!({
                "name": "q", "vhost": "/", "state": state, "leader": "rabbit@a", "online": online
            });
            serde_json::from_value::<QueueRecord>(record).expect("it is a record")
        };
        let (well, ill) = (("running", &["rabbit@a"][..]), ("minority", &[][..]));
        for (live, late) in [(well, ill), (ill, well), (ill, ill)] {
            let queue =
                QueueInfo::from(record(live.0, live.1)).with_statistics(record(late.0, late.1).into());
            assert_eq!((queue.state.as_deref(), queue.leader_online), (Some("minority"), Some(false)));
        }
        let queue = QueueInfo::from(record(well.0, well.1)).with_statistics(record(well.0, well.1).into());
        assert_eq!((queue.state.as_deref(), queue.leader_online), (Some("running"), Some(true)));
    }

    #[test]
    fn statistics_add_what_is_unknown_and_overrule_nothing() {
        let live = queue(serde_json::json!({"name": "q", "vhost": "/", "messages": 3, "policy": "p"}));
        let late: QueueStatistics = serde_json::from_value::<QueueRecord>(serde_json::json!({
            "name": "q", "vhost": "/", "messages": 2, "consumers": 1, "operator_policy": "op", "policy": null
        }))
        .expect("it is a record")
        .into();
        let both = live.with_statistics(late);
        assert_eq!((both.messages, both.consumers), (Some(3), Some(1)));
        assert_eq!((both.policy.as_deref(), both.operator_policy.as_deref()), (Some("p"), Some("op")));
    }
}

/// A message that was looked at and put back.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Message {
    /// Its body: text, or base64 where it is none.
    #[serde(default)]
    pub payload: String,
    /// How many bytes the body has.
    #[serde(default)]
    pub payload_bytes: u64,
    /// `string` or `base64`.
    #[serde(default)]
    pub payload_encoding: String,
    /// Whether it was given to somebody before.
    #[serde(default)]
    pub redelivered: bool,
    /// The exchange that it was published to.
    #[serde(default)]
    pub exchange: String,
    /// The routing key that it was published with.
    #[serde(default)]
    pub routing_key: String,
    /// Its properties, headers among them; RabbitMQ writes none as an empty list.
    #[serde(default)]
    pub properties: serde_json::Value,
}

/// What a look at a message costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryLimit {
    /// Nothing: deliveries are not counted, or may be as many as they like.
    None,
    /// So many deliveries, then the message goes to where dead letters go, or is dropped.
    Deliveries(u64),
    /// RabbitMQ does not tell.
    Untold,
}
