//! A Queue's fields as RabbitMQ's keys and arguments: what each queue type takes.

use serde_json::{Value, json};

use crate::api::arguments::Arguments;
use crate::api::duration::Duration;
use crate::api::queue::QueueType::{Classic, Quorum, Stream};
use crate::api::queue::{DeadLetterStrategy, Overflow, QueueDeadLetter, QueueSpec, QueueType};
use crate::topology::Rejection;
use crate::topology::rabbitmq::force::age_text;
use crate::topology::rabbitmq::references::dead_letter_queue;
use crate::topology::rabbitmq::settle::Settings;
use crate::topology::rabbitmq::value::{check_arguments, check_name, invalid};

/// Longest time that RabbitMQ takes, in milliseconds: ten years.
const MAX_MILLIS: u128 = 315_360_000_000;
/// Largest segment file that RabbitMQ takes, in bytes.
const MAX_SEGMENT: u64 = 3_000_000_000;

/// Arguments that have a field: the field, and the types whose queues have it.
const TYPED: [(&str, &str, &[QueueType]); 17] = [
    ("x-queue-type", "type", &[Quorum, Classic, Stream]),
    ("x-max-length", "maxLength", &[Quorum, Classic]),
    ("x-max-length-bytes", "maxLengthBytes", &[Quorum, Classic, Stream]),
    ("x-overflow", "overflow", &[Quorum, Classic]),
    ("x-message-ttl", "messageTtl", &[Quorum, Classic]),
    ("x-expires", "expires", &[Quorum, Classic]),
    ("x-max-priority", "maxPriority", &[Classic]),
    ("x-delivery-limit", "deliveryLimit", &[Quorum]),
    ("x-single-active-consumer", "singleActiveConsumer", &[Quorum, Classic]),
    ("x-consumer-timeout", "consumerTimeout", &[Quorum, Classic]),
    ("x-max-age", "maxAge", &[Stream]),
    ("x-stream-max-segment-size-bytes", "maxSegmentSize", &[Stream]),
    ("x-queue-leader-locator", "leaderLocator", &[Stream]),
    ("x-initial-cluster-size", "initialGroupSize", &[Stream]),
    ("x-dead-letter-exchange", "deadLetter", &[Quorum, Classic]),
    ("x-dead-letter-routing-key", "deadLetter", &[Quorum, Classic]),
    ("x-dead-letter-strategy", "deadLetter", &[Quorum, Classic]),
];

/// The arguments that are fixed at declaration, however settings are applied.
pub fn declared(of: &str, spec: &QueueSpec) -> Result<Arguments, Rejection> {
    check_arguments(of, &spec.arguments)?;
    let twice = TYPED
        .iter()
        .find(|(argument, _, kinds)| spec.arguments.contains_key(*argument) && has(spec, argument, kinds));
    if let Some((argument, field, _)) = twice {
        return Err(invalid(format!("{of}: set the field {field} instead of the argument {argument}")));
    }
    let mut arguments = spec.arguments.clone();
    arguments.insert("x-queue-type".into(), json!(spec.kind.as_str()));
    let mut add = |argument: &str, value: Option<Value>| -> Result<(), Rejection> {
        let Some(value) = value else { return Ok(()) };
        check_type(of, spec.kind, argument)?;
        arguments.insert(argument.to_owned(), value);
        Ok(())
    };
    if spec.max_priority.is_some_and(|n| !(1..=255).contains(&n)) {
        return Err(invalid(format!("{of}: maxPriority must be from 1 to 255")));
    }
    if spec.initial_group_size.is_some_and(|n| n < 1) {
        return Err(invalid(format!("{of}: initialGroupSize must be at least 1")));
    }
    add("x-max-priority", spec.max_priority.map(|n| json!(n)))?;
    add("x-single-active-consumer", spec.single_active_consumer.then_some(Value::Bool(true)))?;
    add("x-queue-leader-locator", spec.leader_locator.map(|locator| json!(locator.as_str())))?;
    add("x-initial-cluster-size", spec.initial_group_size.map(|n| json!(n)))?;
    Ok(arguments)
}

/// Whether an argument has a field that this type may use; one that it may not use is nobody's
/// except where RabbitMQ takes it for other types, too (the leader locator).
fn has(spec: &QueueSpec, argument: &str, kinds: &[QueueType]) -> bool {
    kinds.contains(&spec.kind) || argument != "x-queue-leader-locator"
}

/// Refuses a field that the type does not know: as a policy key it would void the whole policy.
fn check_type(of: &str, kind: QueueType, argument: &str) -> Result<(), Rejection> {
    let Some((_, field, kinds)) = TYPED.iter().find(|(typed, ..)| *typed == argument) else { return Ok(()) };
    if kinds.contains(&kind) {
        return Ok(());
    }
    let names: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
    Err(invalid(format!(
        "{of}: {field} is for {} queues, and this one's type is {}",
        names.join(" and "),
        kind.as_str()
    )))
}

/// What a policy, or arguments, set.
pub fn settings(name: &str, spec: &QueueSpec) -> Result<Settings, Rejection> {
    let of = format!("queue {name:?}");
    let mut settings = Settings::new();
    let mut add = |key: &str, value: Option<Value>| -> Result<(), Rejection> {
        let Some(value) = value else { return Ok(()) };
        check_type(&of, spec.kind, &format!("x-{key}"))?;
        settings.insert(key.to_owned(), value);
        Ok(())
    };
    let millis = |field: &str, duration: Option<Duration>, least: u128| {
        let Some(duration) = duration else { return Ok(None) };
        let millis = duration.get().as_millis();
        if (least..=MAX_MILLIS).contains(&millis) {
            return Ok(Some(json!(u64::try_from(millis).unwrap_or(u64::MAX))));
        }
        Err(invalid(format!("{of}: {field} must be from {least}ms to ten years (87600h)")))
    };
    if spec.max_length.is_some_and(|n| n < 0) {
        return Err(invalid(format!("{of}: maxLength must be at least 0")));
    }
    if spec.delivery_limit.is_some_and(|n| n < -1) {
        return Err(invalid(format!("{of}: deliveryLimit must be at least 0, or -1 for none")));
    }
    if spec.max_length_bytes.is_some_and(|bytes| i64::try_from(bytes.get()).is_err()) {
        return Err(invalid(format!("{of}: maxLengthBytes is too large")));
    }
    if spec.max_segment_size.is_some_and(|size| size.get() > MAX_SEGMENT) {
        return Err(invalid(format!("{of}: maxSegmentSize must be at most 3G")));
    }
    if spec.overflow == Some(Overflow::RejectPublishDlx) && spec.kind != Classic {
        return Err(invalid(format!("{of}: overflow reject-publish-dlx is for classic queues")));
    }
    add("max-length", spec.max_length.map(|n| json!(n)))?;
    add("max-length-bytes", spec.max_length_bytes.map(|bytes| json!(bytes.get())))?;
    add("overflow", spec.overflow.map(|overflow| json!(overflow.as_str())))?;
    add("message-ttl", millis("messageTtl", spec.message_ttl, 0)?)?;
    add("expires", millis("expires", spec.expires, 1)?)?;
    add("delivery-limit", spec.delivery_limit.map(|n| json!(n)))?;
    add("consumer-timeout", millis("consumerTimeout", spec.consumer_timeout, 0)?)?;
    add("max-age", age(&of, spec.max_age)?)?;
    add("stream-max-segment-size-bytes", spec.max_segment_size.map(|size| json!(size.get())))?;
    if let Some(wish) = &spec.dead_letter {
        for (key, value) in dead_letter(name, &of, spec, wish)? {
            add(key, Some(value))?;
        }
    }
    Ok(settings)
}

/// A stream's age: RabbitMQ takes whole seconds.
fn age(of: &str, age: Option<Duration>) -> Result<Option<Value>, Rejection> {
    let Some(age) = age else { return Ok(None) };
    if age.get().as_secs() == 0 || age.get().subsec_nanos() != 0 {
        return Err(invalid(format!("{of}: maxAge must be whole seconds, at least 1s")));
    }
    Ok(Some(age_text(age.get().as_secs())))
}

fn dead_letter(
    name: &str,
    of: &str,
    spec: &QueueSpec,
    wish: &QueueDeadLetter,
) -> Result<Vec<(&'static str, Value)>, Rejection> {
    let mut keys = Vec::new();
    match (&wish.exchange, &wish.queue) {
        (Some(_), Some(_)) => {
            return Err(invalid(format!("{of}: set deadLetter.queue or deadLetter.exchange, not both")));
        }
        (Some(exchange), None) => {
            check_name("dead-letter exchange", exchange)?;
            keys.push(("dead-letter-exchange", json!(exchange)));
            keys.extend(wish.routing_key.as_ref().map(|key| ("dead-letter-routing-key", json!(key))));
        }
        (None, queue) => {
            if wish.routing_key.is_some() {
                return Err(invalid(format!("{of}: deadLetter.routingKey belongs to deadLetter.exchange")));
            }
            let queue = queue.clone().unwrap_or_else(|| dead_letter_queue(name));
            check_name("dead-letter queue", &queue)?;
            if queue == name {
                return Err(invalid(format!("{of} cannot be its own dead-letter queue")));
            }
            keys.push(("dead-letter-exchange", json!("")));
            keys.push(("dead-letter-routing-key", json!(queue)));
        }
    }
    match wish.strategy {
        Some(DeadLetterStrategy::AtLeastOnce) => {
            if spec.kind != Quorum || spec.overflow != Some(Overflow::RejectPublish) {
                return Err(invalid(format!(
                    "{of}: deadLetter.strategy AtLeastOnce needs a quorum queue with overflow: reject-publish"
                )));
            }
            keys.push(("dead-letter-strategy", json!("at-least-once")));
        }
        // A classic queue knows no other, and no such key.
        Some(DeadLetterStrategy::AtMostOnce) if spec.kind == Quorum => {
            keys.push(("dead-letter-strategy", json!("at-most-once")));
        }
        _ => {}
    }
    Ok(keys)
}
