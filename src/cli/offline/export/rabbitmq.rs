//! Exchanges, queues and bindings as manifests.
//!
//! A setting that RabbitMQ has as an argument becomes a typed field with `applyVia: Arguments`; one
//! that a policy of Spillway's own gives, a typed field with `applyVia: Policy`. What a person's
//! policy gives is left to that policy. An argument without a field stays an argument.
//!
//! Bindings become Bindings, not fields of a Queue: there may be any number of them, they lead to
//! exchanges, too, and each can go to the team whose it is.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Exporter;
use crate::api::arguments::Arguments;
use crate::api::binding::Destination;
use crate::api::bytes::Bytes;
use crate::api::duration::Duration;
use crate::api::queue::{
    ApplyVia, DeadLetterStrategy, LeaderLocator, Overflow, QueueDeadLetter, QueueSpec, QueueType,
};
use crate::api::{Binding, BindingSpec, Exchange, ExchangeSpec, Queue};
use crate::topology::kafka::companions::metadata_name;
use crate::topology::rabbitmq::force::{age_millis, same_setting};
use crate::topology::rabbitmq::value::same;
use crate::topology::rabbitmq::{
    BindingId, DesiredExchange, DesiredQueue, ObservedExchange, ObservedQueue, Target,
};

/// The argument of an exchange that has a field.
const ALTERNATE: &str = "alternate-exchange";

/// Arguments of a queue that have a field, by the name without `x-`. A queue's `arguments` may not
/// repeat them.
const TYPED: [&str; 17] = [
    "queue-type",
    "max-length",
    "max-length-bytes",
    "overflow",
    "message-ttl",
    "expires",
    "max-priority",
    "delivery-limit",
    "single-active-consumer",
    "consumer-timeout",
    "max-age",
    "stream-max-segment-size-bytes",
    "queue-leader-locator",
    "initial-cluster-size",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "dead-letter-strategy",
];

/// Settings by a policy's keys.
type Settings = BTreeMap<String, Value>;

impl Exporter {
    /// An exchange as an Exchange; none: of a type that an Exchange cannot have. `own` is what
    /// Spillway's own policy for it sets.
    pub fn exchange(
        &mut self,
        vhost: &str,
        name: &str,
        seen: &ObservedExchange,
        own: Option<&Settings>,
    ) -> Option<Exchange> {
        let known = matches!(seen.kind.as_str(), "direct" | "fanout" | "topic" | "headers");
        if !known && !seen.kind.starts_with("x-") {
            return None;
        }
        let mut arguments = seen.arguments.clone();
        let argument = arguments.remove(ALTERNATE);
        let alternate = own.and_then(|own| own.get(ALTERNATE)).or(argument.as_ref());
        let spec = ExchangeSpec {
            broker_ref: self.broker.clone(),
            vhost: vhost.to_owned(),
            name: Some(name.to_owned()),
            kind: seen.kind.clone(),
            durable: seen.durable,
            auto_delete: seen.auto_delete,
            internal: seen.internal,
            alternate_exchange: alternate.and_then(Value::as_str).map(str::to_owned),
            arguments,
            management_policy: Some(self.management),
            adoption: None,
            deletion_policy: None,
        };
        let mut exchange = Exchange::new(&self.object_name("Exchange", vhost, name), spec);
        exchange.metadata.namespace = Some(self.namespace.clone());
        Some(exchange)
    }

    /// A queue as a Queue; none: of a type that a Queue cannot have. `own` is what Spillway's own
    /// policy for it sets; `known` says whether a queue of this name is exported, too: a dead-letter
    /// queue that is not would be made.
    pub fn queue(
        &mut self,
        vhost: &str,
        name: &str,
        seen: &ObservedQueue,
        own: Option<&Settings>,
        known: impl Fn(&str) -> bool,
    ) -> Option<Queue> {
        let kind: QueueType = read(Some(&json!(seen.kind)))?;
        let mut settings = Settings::new();
        let mut arguments = Arguments::new();
        for (argument, value) in &seen.arguments {
            let key = argument.strip_prefix("x-").unwrap_or_default();
            // RabbitMQ knows the locator for all types, a Queue has a field for streams only.
            let other = key == "queue-leader-locator" && kind != QueueType::Stream;
            if TYPED.contains(&key) && !other {
                settings.insert(key.to_owned(), value.clone());
            } else {
                arguments.insert(argument.clone(), value.clone());
            }
        }
        let mut spec = self.plain(vhost, name, kind);
        spec.durable = seen.durable;
        spec.arguments = arguments;
        spec.max_priority = read(settings.get("max-priority")).filter(|_| kind == QueueType::Classic);
        spec.single_active_consumer =
            settings.get("single-active-consumer") == Some(&json!(true)) && kind != QueueType::Stream;
        if kind == QueueType::Stream {
            spec.leader_locator = read::<LeaderLocator>(settings.get("queue-leader-locator"));
            spec.initial_group_size = read(settings.get("initial-cluster-size"));
        }
        let bare = spec.clone();
        fill(&mut spec, own.unwrap_or(&settings), known);
        if own.is_none() && spec != bare {
            spec.apply_via = ApplyVia::Arguments;
        }
        let mut queue = Queue::new(&self.object_name("Queue", vhost, name), spec);
        queue.metadata.namespace = Some(self.namespace.clone());
        Some(queue)
    }

    /// A binding as a Binding.
    pub fn binding(&mut self, vhost: &str, id: &BindingId) -> Binding {
        let mut destination = Destination::default();
        match &id.target {
            Target::Queue(name) => destination.queue = Some(name.clone()),
            Target::Exchange(name) => destination.exchange = Some(name.clone()),
        }
        let spec = BindingSpec {
            broker_ref: self.broker.clone(),
            vhost: vhost.to_owned(),
            source: Some(id.source.clone()),
            source_ref: None,
            destination,
            routing_key: id.routing_key.clone(),
            arguments: id.arguments.clone(),
            management_policy: Some(self.management),
            adoption: None,
            deletion_policy: None,
        };
        let mut readable = format!("{}.{}", id.source, id.target.name());
        for more in [id.routing_key.as_str(), if vhost == "/" { "" } else { vhost }] {
            if !more.is_empty() {
                readable = format!("{readable}.{more}");
            }
        }
        let name = self.name("Binding", &metadata_name(&readable), &[vhost, &id.to_string()]);
        let mut binding = Binding::new(&name, spec);
        binding.metadata.namespace = Some(self.namespace.clone());
        binding
    }

    /// A name for an object that lives in a virtual host: one name in two of them is two objects.
    fn object_name(&mut self, kind: &'static str, vhost: &str, name: &str) -> String {
        let readable = if vhost == "/" { name.to_owned() } else { format!("{name}.{vhost}") };
        self.name(kind, &metadata_name(&readable), &[vhost, name])
    }

    /// A queue that sets nothing.
    fn plain(&self, vhost: &str, name: &str, kind: QueueType) -> QueueSpec {
        QueueSpec {
            broker_ref: self.broker.clone(),
            vhost: vhost.to_owned(),
            name: Some(name.to_owned()),
            kind,
            durable: true,
            max_length: None,
            max_length_bytes: None,
            overflow: None,
            message_ttl: None,
            expires: None,
            max_priority: None,
            delivery_limit: None,
            single_active_consumer: false,
            consumer_timeout: None,
            max_age: None,
            max_segment_size: None,
            leader_locator: None,
            initial_group_size: None,
            arguments: Arguments::new(),
            apply_via: ApplyVia::Policy,
            dead_letter: None,
            retry: None,
            bindings: Vec::new(),
            on_immutable_change: None,
            management_policy: Some(self.management),
            adoption: None,
            deletion_policy: None,
        }
    }
}

/// What a Queue does not say of the queue that it was written for: arguments, and keys of Spillway's own policy. A queue
/// that was made from the Queue would be without them.
#[must_use]
pub fn unsaid_of_queue(queue: &Queue, seen: &ObservedQueue, own: Option<&Settings>) -> Vec<String> {
    // What is no queue is refused when it is planned.
    let Ok(desired) = DesiredQueue::of(queue, &[]) else { return Vec::new() };
    let declaration = desired.declaration();
    let lacks = |said: &Settings, key: &str, value: &Value| {
        !said.get(key).is_some_and(|said| same_setting(key, said, value))
    };
    let arguments = seen.arguments.iter().filter(|(key, value)| {
        // To say false is to say nothing.
        let nothing = *key == "x-single-active-consumer" && **value == json!(false);
        !nothing && lacks(&declaration, key, value)
    });
    let keys = own.into_iter().flatten().filter(|(key, value)| lacks(&desired.settings, key, value));
    told(arguments.map(|(key, _)| key), keys.map(|(key, _)| key))
}

/// The same of an Exchange.
#[must_use]
pub fn unsaid_of_exchange(
    exchange: &Exchange,
    seen: &ObservedExchange,
    own: Option<&Settings>,
) -> Vec<String> {
    let Ok(desired) = DesiredExchange::of(exchange) else { return Vec::new() };
    let says = |key: &String, value: &Value| {
        desired.arguments.get(key).or_else(|| desired.settings.get(key)).is_some_and(|said| same(said, value))
    };
    let arguments = seen.arguments.iter().filter(|(key, value)| !says(key, value));
    let keys = own.into_iter().flatten();
    let keys = keys.filter(|(key, value)| !desired.settings.get(*key).is_some_and(|said| same(said, value)));
    told(arguments.map(|(key, _)| key), keys.map(|(key, _)| key))
}

fn told<'a>(
    arguments: impl Iterator<Item = &'a String>,
    keys: impl Iterator<Item = &'a String>,
) -> Vec<String> {
    let arguments = arguments.map(|argument| format!("argument {argument}"));
    arguments.chain(keys.map(|key| format!("policy key {key}"))).collect()
}

/// Limits, times and dead letters into their fields, as far as the type has them. What cannot be
/// said in a field is not named, and so left alone: [`unsaid_of_queue`].
fn fill(spec: &mut QueueSpec, settings: &Settings, known: impl Fn(&str) -> bool) {
    let number = |key: &str| settings.get(key).and_then(Value::as_i64);
    let bytes = |key: &str| settings.get(key).and_then(Value::as_u64).map(Bytes::new);
    let time = |key: &str, least: u64| {
        settings.get(key).and_then(Value::as_u64).filter(|millis| *millis >= least).and_then(duration)
    };
    spec.max_length_bytes = bytes("max-length-bytes");
    if spec.kind == QueueType::Stream {
        spec.max_age =
            settings.get("max-age").and_then(Value::as_str).and_then(age_millis).and_then(duration);
        spec.max_segment_size = bytes("stream-max-segment-size-bytes");
        return;
    }
    spec.max_length = number("max-length").filter(|n| *n >= 0);
    spec.message_ttl = time("message-ttl", 0);
    spec.expires = time("expires", 1);
    spec.consumer_timeout = time("consumer-timeout", 0);
    if spec.kind == QueueType::Quorum {
        // Any number below zero is none.
        spec.delivery_limit = number("delivery-limit").map(|limit| limit.max(-1));
    }
    spec.overflow = read::<Overflow>(settings.get("overflow"))
        .filter(|overflow| *overflow != Overflow::RejectPublishDlx || spec.kind == QueueType::Classic);
    spec.dead_letter = dead_letter(spec, settings, known);
}

fn dead_letter(
    spec: &QueueSpec,
    settings: &Settings,
    known: impl Fn(&str) -> bool,
) -> Option<QueueDeadLetter> {
    let exchange: String = read(settings.get("dead-letter-exchange"))?;
    let key: Option<String> = read(settings.get("dead-letter-routing-key"));
    let strategy = match settings.get("dead-letter-strategy").and_then(Value::as_str) {
        Some("at-most-once") if spec.kind == QueueType::Quorum => Some(DeadLetterStrategy::AtMostOnce),
        Some("at-least-once")
            if spec.kind == QueueType::Quorum && spec.overflow == Some(Overflow::RejectPublish) =>
        {
            Some(DeadLetterStrategy::AtLeastOnce)
        }
        _ => None,
    };
    if exchange.is_empty() {
        let queue = key.filter(|queue| known(queue) && spec.name.as_ref() != Some(queue))?;
        return Some(QueueDeadLetter { queue: Some(queue), strategy, ..QueueDeadLetter::default() });
    }
    Some(QueueDeadLetter {
        exchange: Some(exchange),
        routing_key: key,
        strategy,
        ..QueueDeadLetter::default()
    })
}

fn read<T: DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    serde_json::from_value(value?.clone()).ok()
}

fn duration(millis: u64) -> Option<Duration> {
    format!("{}s{}ms", millis / 1_000, millis % 1_000).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::policy::ManagementPolicy;

    fn exporter() -> Exporter {
        Exporter::new("default", "default", "rabbit", ManagementPolicy::Observe)
    }

    fn queue(kind: &str, arguments: Value, own: Option<Value>) -> QueueSpec {
        let arguments = serde_json::from_value(arguments).unwrap();
        let seen = ObservedQueue { kind: kind.into(), durable: true, arguments, ..ObservedQueue::default() };
        let own: Option<Settings> = own.map(|own| serde_json::from_value(own).unwrap());
        exporter().queue("/", "q", &seen, own.as_ref(), |name| name == "dead").unwrap().spec
    }

    #[test]
    fn arguments_become_fields_where_there_are_fields() {
        let spec = queue(
            "quorum",
            json!({"x-queue-type": "quorum", "x-max-length": 5, "x-message-ttl": 90_500, "x-quorum-initial-group-size": 3,
                "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-queue-leader-locator": "balanced"}),
            None,
        );
        assert_eq!(spec.apply_via, ApplyVia::Arguments);
        assert_eq!(
            (spec.max_length, spec.message_ttl.unwrap().to_string().as_str()),
            (Some(5), "1m30s500ms")
        );
        assert_eq!(spec.dead_letter.unwrap().queue.as_deref(), Some("dead"));
        assert_eq!(
            spec.arguments.keys().collect::<Vec<_>>(),
            ["x-queue-leader-locator", "x-quorum-initial-group-size"]
        );
    }

    #[test]
    fn spillways_own_policy_becomes_fields_and_arguments_beside_it_are_left_alone() {
        let spec = queue("classic", json!({"x-message-ttl": 5}), Some(json!({"max-length": 7})));
        assert_eq!(spec.apply_via, ApplyVia::Policy);
        assert_eq!((spec.max_length, spec.message_ttl), (Some(7), None));
    }

    #[test]
    fn a_dead_letter_queue_that_is_not_exported_is_not_named() {
        let arguments = json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "elsewhere"});
        assert_eq!(queue("classic", arguments, None).dead_letter, None);
        let exchange = queue("classic", json!({"x-dead-letter-exchange": "dlx"}), None).dead_letter.unwrap();
        assert_eq!((exchange.exchange.as_deref(), exchange.routing_key), (Some("dlx"), None));
    }

    #[test]
    fn what_no_field_can_say_is_named_and_not_lost_without_a_word() {
        let unsaid = |kind: &str, arguments: Value, own: Option<Value>| {
            let arguments = serde_json::from_value(arguments).unwrap();
            let seen =
                ObservedQueue { kind: kind.into(), durable: true, arguments, ..ObservedQueue::default() };
            let own: Option<Settings> = own.map(|own| serde_json::from_value(own).unwrap());
            let queue = exporter().queue("/", "q", &seen, own.as_ref(), |name| name == "dead").unwrap();
            unsaid_of_queue(&queue, &seen, own.as_ref()).join(", ")
        };
        let (exchange, key, strategy) =
            ("x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy");
        let letters = "argument x-dead-letter-exchange, argument x-dead-letter-routing-key";
        for (kind, arguments, lost) in [
            ("quorum", json!({exchange: "", key: "outside"}), letters),
            ("quorum", json!({exchange: "", key: "q"}), letters),
            ("quorum", json!({exchange: ""}), "argument x-dead-letter-exchange"),
            ("quorum", json!({exchange: "x", strategy: "at-least-once"}), "argument x-dead-letter-strategy"),
            (
                "quorum",
                json!({exchange: "", strategy: "at-least-once", "x-overflow": "reject-publish"}),
                "argument x-dead-letter-exchange, argument x-dead-letter-strategy",
            ),
            ("quorum", json!({"x-overflow": "reject-publish-dlx"}), "argument x-overflow"),
            ("stream", json!({"x-consumer-timeout": 5}), "argument x-consumer-timeout"),
            ("stream", json!({"x-single-active-consumer": true}), "argument x-single-active-consumer"),
            // All of it is said.
            (
                "quorum",
                json!({"x-queue-type": "quorum", "x-delivery-limit": -5, exchange: "", key: "dead"}),
                "",
            ),
            ("quorum", json!({exchange: "x", strategy: "at-least-once", "x-overflow": "reject-publish"}), ""),
            ("classic", json!({"x-max-priority": 5, "x-queue-mode": "lazy", "x-expires": 9_000}), ""),
            ("classic", json!({"x-single-active-consumer": false}), ""),
            ("stream", json!({"x-max-age": "7D", "x-initial-cluster-size": 3}), ""),
        ] {
            assert_eq!(unsaid(kind, arguments.clone(), None), lost, "{arguments}");
        }
        let own = json!({"max-length": 7, "queue-version": 2});
        assert_eq!(
            unsaid("classic", json!({"x-message-ttl": 5}), Some(own)),
            "argument x-message-ttl, policy key queue-version"
        );
    }

    #[test]
    fn what_an_exchange_has_beside_its_fields_is_named() {
        let unsaid = |arguments: Value, own: Option<Value>| {
            let arguments = serde_json::from_value(arguments).unwrap();
            let seen = ObservedExchange {
                kind: "topic".into(),
                durable: true,
                arguments,
                ..ObservedExchange::default()
            };
            let own: Option<Settings> = own.map(|own| serde_json::from_value(own).unwrap());
            let exchange = exporter().exchange("/", "x", &seen, own.as_ref()).unwrap();
            unsaid_of_exchange(&exchange, &seen, own.as_ref()).join(", ")
        };
        assert_eq!(unsaid(json!({"alternate-exchange": "a", "n": 1}), None), "");
        assert_eq!(unsaid(json!({"alternate-exchange": 5}), None), "argument alternate-exchange");
        let own = json!({"alternate-exchange": "b", "other": 1});
        let told = unsaid(json!({"alternate-exchange": "a"}), Some(own));
        assert_eq!(told, "argument alternate-exchange, policy key other");
    }

    #[test]
    fn a_stream_has_its_own_fields() {
        let spec = queue(
            "stream",
            json!({"x-max-age": "7D", "x-initial-cluster-size": 3, "x-queue-leader-locator": "balanced"}),
            None,
        );
        assert_eq!(spec.max_age.unwrap().to_string(), "168h");
        assert_eq!((spec.initial_group_size, spec.leader_locator), (Some(3), Some(LeaderLocator::Balanced)));
        assert!(spec.arguments.is_empty());
    }

    #[test]
    fn one_name_in_two_virtual_hosts_is_two_objects() {
        let mut exporter = exporter();
        let seen = ObservedExchange { kind: "topic".into(), durable: true, ..ObservedExchange::default() };
        let name = |exchange: Option<Exchange>| exchange.unwrap().metadata.name.unwrap();
        assert_eq!(name(exporter.exchange("/", "events", &seen, None)), "events");
        assert_eq!(name(exporter.exchange("staging", "events", &seen, None)), "events.staging");
        let other = ObservedExchange { kind: "local".into(), ..seen };
        assert_eq!(exporter.exchange("/", "other", &other, None), None);
    }

    #[test]
    fn bindings_that_differ_in_their_key_only_have_names_of_their_own() {
        let mut exporter = exporter();
        let mut names = std::collections::BTreeSet::new();
        for key in ["", "a", "a.b", "A", "#", "*"] {
            let id = BindingId {
                source: "events".into(),
                target: Target::Queue("q".into()),
                routing_key: key.into(),
                arguments: Arguments::new(),
            };
            let binding = exporter.binding("/", &id);
            names.insert(binding.metadata.name.unwrap());
        }
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(names.contains("events.q") && names.contains("events.q.a.b"), "{names:?}");
    }
}
