//! What travels with a retry or a dead letter on RabbitMQ.
//!
//! As on Kafka, with two differences: a message has no place but its queue, and the correlation id is AMQP's own
//! property, which goes along untouched.

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::contract::{ATTEMPT, CORRELATION_ID, ERROR, FAILED_AT, Failure, ORIGINAL_TIMESTAMP, said};

pub const ORIGINAL_QUEUE: &str = "spillway-original-queue";

/// Stored on disk: a message survives a restart of the broker.
pub const PERSISTENT: u8 = 2;

/// What RabbitMQ puts into a message on its way, or acts on; a copy is a new message and begins without. `CC` and `BCC`
/// would send the copy to other queues as well.
const BROKERS_OWN: [&str; 6] =
    ["CC", "BCC", "x-death", "x-first-death-", "x-last-death-", "x-delivery-count"];

/// One of the functions that set a property.
type Set = fn(BasicProperties, ShortString) -> BasicProperties;

/// The correlation id that came with the message: the property, or a header of that name.
pub fn correlation_id(properties: &BasicProperties) -> Option<String> {
    let property = properties.correlation_id().as_ref().map(|id| id.as_str().to_owned());
    property.or_else(|| text(properties, CORRELATION_ID))
}

/// Which try this is, from 1: the header counts the tries that failed.
pub fn attempt(properties: &BasicProperties) -> u32 {
    let count = text(properties, ATTEMPT).and_then(|count| count.parse::<u32>().ok());
    count.map_or(1, |failed| failed.saturating_add(1))
}

/// The queue that the message was first in.
pub fn origin(properties: &BasicProperties, queue: &str) -> String {
    text(properties, ORIGINAL_QUEUE).unwrap_or_else(|| queue.to_owned())
}

/// Names the event, whichever copy of it this is; `None` where neither message nor correlation id tells copies apart.
pub fn identity(properties: &BasicProperties, queue: &str) -> Option<String> {
    let id = properties.message_id().as_ref().map(|id| id.as_str().to_owned());
    let id = id.or_else(|| correlation_id(properties))?;
    Some(format!("{}/{id}", origin(properties, queue)))
}

/// The properties of the retry or dead letter that a message of `queue` becomes when its `attempt`-th try failed at
/// `now`. What made the message expire is not among them: it would cut its wait short, or drop a dead letter. Nor is
/// the user, which RabbitMQ accepts from that user only.
pub fn properties(
    came: &BasicProperties,
    queue: &str,
    attempt: u32,
    failure: &Failure,
    now: Timestamp,
) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (key, value) in came.headers().iter().flatten() {
        if !BROKERS_OWN.iter().any(|own| key.as_str().starts_with(own)) {
            headers.insert(key.clone(), value.clone());
        }
    }
    let mut set = |key: &str, value: String| {
        headers.insert(key.into(), AMQPValue::LongString(value.into()));
    };
    set(ORIGINAL_QUEUE, origin(came, queue));
    if let Some(seconds) = came.timestamp()
        && text(came, ORIGINAL_TIMESTAMP).is_none()
    {
        set(ORIGINAL_TIMESTAMP, seconds.saturating_mul(1_000).to_string());
    }
    set(ERROR, said(failure));
    set(FAILED_AT, now.to_string());
    set(ATTEMPT, attempt.to_string());

    let mut properties = BasicProperties::default().with_headers(headers).with_delivery_mode(PERSISTENT);
    let texts: [(&Option<ShortString>, Set); 7] = [
        (came.content_type(), BasicProperties::with_content_type),
        (came.content_encoding(), BasicProperties::with_content_encoding),
        (came.correlation_id(), BasicProperties::with_correlation_id),
        (came.message_id(), BasicProperties::with_message_id),
        (came.reply_to(), BasicProperties::with_reply_to),
        (came.kind(), BasicProperties::with_type),
        (came.app_id(), BasicProperties::with_app_id),
    ];
    for (value, set) in texts {
        if let Some(value) = value {
            properties = set(properties, value.clone());
        }
    }
    if let Some(priority) = *came.priority() {
        properties = properties.with_priority(priority);
    }
    if let Some(timestamp) = *came.timestamp() {
        properties = properties.with_timestamp(timestamp);
    }
    properties
}

/// A header as text, whichever of AMQP's types a client wrote it with.
fn text(properties: &BasicProperties, key: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(key)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::ShortShortInt(number) => Some(number.to_string()),
        AMQPValue::ShortShortUInt(number) => Some(number.to_string()),
        AMQPValue::ShortInt(number) => Some(number.to_string()),
        AMQPValue::ShortUInt(number) => Some(number.to_string()),
        AMQPValue::LongInt(number) => Some(number.to_string()),
        AMQPValue::LongUInt(number) => Some(number.to_string()),
        AMQPValue::LongLongInt(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came() -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), AMQPValue::LongString("00-1".into()));
        for own in ["CC", "x-death", "x-first-death-queue"] {
            headers.insert(own.into(), AMQPValue::LongString("broker".into()));
        }
        BasicProperties::default()
            .with_headers(headers)
            .with_correlation_id("c-1".into())
            .with_expiration("5000".into())
            .with_user_id("guest".into())
            .with_priority(7)
            .with_timestamp(1_700_000_000)
    }

    fn pairs(properties: &BasicProperties) -> Vec<(String, String)> {
        let headers = properties.headers().as_ref().unwrap();
        headers
            .into_iter()
            .map(|(key, _)| (key.to_string(), text(properties, key.as_str()).unwrap()))
            .collect()
    }

    #[test]
    fn a_dead_letter_says_where_when_and_why_and_keeps_what_is_not_the_brokers() {
        let failed_at: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        let left = properties(&came(), "mails", 1, &Failure::Malformed("no id".into()), failed_at);
        let expected = [
            ("spillway-attempt", "1"),
            ("spillway-error", "malformed message: no id"),
            ("spillway-failed-at", "2026-11-21T08:00:00Z"),
            ("spillway-original-queue", "mails"),
            ("spillway-original-timestamp", "1700000000000"),
            ("traceparent", "00-1"),
        ];
        assert_eq!(pairs(&left), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(correlation_id(&left).as_deref(), Some("c-1"));
        assert_eq!((*left.priority(), *left.delivery_mode()), (Some(7), Some(2)));
        assert_eq!((left.expiration(), left.user_id()), (&None, &None));
    }

    #[test]
    fn a_retried_copy_counts_on_and_keeps_its_first_queue_and_identity() {
        let failure = Failure::Transient("the mail server is away".into());
        let first = properties(&came(), "mails", 1, &failure, Timestamp::UNIX_EPOCH);
        assert_eq!(attempt(&first), 2);
        let second = properties(&first, "mails-of-another", 2, &failure, Timestamp::UNIX_EPOCH);
        assert_eq!((attempt(&second), origin(&second, "x").as_str()), (3, "mails"));
        assert_eq!(identity(&second, "x"), identity(&came(), "mails"));
    }

    #[test]
    fn an_attempt_is_read_whatever_type_a_client_gave_it() {
        for value in [AMQPValue::LongInt(2), AMQPValue::LongLongInt(2), AMQPValue::LongString("2".into())] {
            let mut headers = FieldTable::default();
            headers.insert(ATTEMPT.into(), value);
            assert_eq!(attempt(&BasicProperties::default().with_headers(headers)), 3);
        }
        assert_eq!(attempt(&BasicProperties::default()), 1);
    }

    #[test]
    fn without_any_id_copies_cannot_be_told_apart() {
        assert_eq!(identity(&BasicProperties::default(), "mails"), None);
    }
}
