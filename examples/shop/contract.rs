//! The contract, without a broker: what travels with a retry or a dead letter, and where a failed message goes. What
//! names Kafka's records here has its counterpart for RabbitMQ in `amqp::headers`.
//!
//! Payload and key stay as they were, and so does every header that is not the contract's own, `correlation-id`
//! first of all. The `spillway-original-*` headers name the place where the message was first published; they
//! are set once and survive every further step.

use jiff::Timestamp;
use rdkafka::Message;
use rdkafka::message::{Header, Headers, OwnedHeaders, OwnedMessage};

use crate::settings::Retry;

/// Ties all messages of one business event together. Never changed, and written into every log line.
pub const CORRELATION_ID: &str = "correlation-id";

const ORIGINAL_TOPIC: &str = "spillway-original-topic";
const ORIGINAL_PARTITION: &str = "spillway-original-partition";
const ORIGINAL_OFFSET: &str = "spillway-original-offset";
pub const ORIGINAL_TIMESTAMP: &str = "spillway-original-timestamp";
pub const ERROR: &str = "spillway-error";
pub const FAILED_AT: &str = "spillway-failed-at";
pub const ATTEMPT: &str = "spillway-attempt";

/// Headers that the contract owns: set anew at every step.
const OWNED: [&str; 7] =
    [ORIGINAL_TOPIC, ORIGINAL_PARTITION, ORIGINAL_OFFSET, ORIGINAL_TIMESTAMP, ERROR, FAILED_AT, ATTEMPT];

/// Bytes of an error that are kept; some errors quote the whole payload.
const ERROR_LIMIT: usize = 1024;

/// Why a message could not be handled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The message itself is wrong: trying again cannot help.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// Something else is wrong that may pass: worth another try.
    #[error("transient failure: {0}")]
    Transient(String),
}

/// Where a message was first published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The partition of that topic.
    pub partition: i32,
    /// The offset in that partition.
    pub offset: i64,
    /// The record's timestamp in milliseconds since the epoch, where the broker knows one.
    pub timestamp: Option<i64>,
}

impl Origin {
    /// Reads the origin from the headers of a retry; a message without them is at its origin.
    pub fn of(message: &OwnedMessage) -> Self {
        let read = || {
            Some(Self {
                topic: text(message, ORIGINAL_TOPIC)?.to_owned(),
                partition: text(message, ORIGINAL_PARTITION)?.parse().ok()?,
                offset: text(message, ORIGINAL_OFFSET)?.parse().ok()?,
                timestamp: text(message, ORIGINAL_TIMESTAMP).and_then(|stamp| stamp.parse().ok()),
            })
        };
        read().unwrap_or_else(|| Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
        })
    }

    /// Names the event, whichever copy of it this is: its topic and correlation id, else its place.
    pub fn identity(&self, correlation_id: Option<&str>) -> String {
        match correlation_id {
            Some(id) => format!("{}/{id}", self.topic),
            None => format!("{}/{}@{}", self.topic, self.partition, self.offset),
        }
    }
}

/// The correlation id that came with the message.
pub fn correlation_id(message: &OwnedMessage) -> Option<&str> {
    text(message, CORRELATION_ID)
}

/// Which try this is, from 1: the header counts the tries that failed.
pub fn attempt(message: &OwnedMessage) -> u32 {
    text(message, ATTEMPT)
        .and_then(|count| count.parse::<u32>().ok())
        .map_or(1, |failed| failed.saturating_add(1))
}

/// Where a message goes after it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// To a retry topic or queue.
    Retry(&'a Retry),
    /// To the dead-letter topic or queue.
    DeadLetter(&'a str),
    /// Nowhere: none is declared for it, so it must stay where it is.
    Stay,
}

/// Decides the next step: one retry topic or queue for each attempt, then the dead letters. What is malformed skips
/// the retries.
pub fn next<'a>(
    failure: &Failure,
    attempt: u32,
    retries: &'a [Retry],
    dead_letter: Option<&'a str>,
) -> Next<'a> {
    let step = attempt.saturating_sub(1) as usize;
    match (failure, retries.get(step), dead_letter) {
        (Failure::Transient(_), Some(retry), _) => Next::Retry(retry),
        (_, _, Some(name)) => Next::DeadLetter(name),
        (_, _, None) => Next::Stay,
    }
}

/// The headers of the retry or dead letter that `message` becomes when its `attempt`-th try failed at `now`.
pub fn headers(message: &OwnedMessage, attempt: u32, failure: &Failure, now: Timestamp) -> OwnedHeaders {
    let origin = Origin::of(message);
    let mut headers = OwnedHeaders::new();
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        if !OWNED.contains(&header.key) {
            headers = headers.insert(header);
        }
    }
    let mut set = |key, value: &str| {
        headers = std::mem::take(&mut headers).insert(Header { key, value: Some(value) });
    };
    set(ORIGINAL_TOPIC, &origin.topic);
    set(ORIGINAL_PARTITION, &origin.partition.to_string());
    set(ORIGINAL_OFFSET, &origin.offset.to_string());
    if let Some(timestamp) = origin.timestamp {
        set(ORIGINAL_TIMESTAMP, &timestamp.to_string());
    }
    set(ERROR, &said(failure));
    set(FAILED_AT, &now.to_string());
    set(ATTEMPT, &attempt.to_string());
    headers
}

/// A failure in words that are not too many for a header.
pub fn said(failure: &Failure) -> String {
    let mut error = failure.to_string();
    let end = (0..=ERROR_LIMIT).rev().find(|end| error.is_char_boundary(*end));
    error.truncate(end.unwrap_or(0));
    error
}

fn text<'a>(message: &'a OwnedMessage, key: &str) -> Option<&'a str> {
    let header = message.headers()?.iter().find(|header| header.key == key)?;
    std::str::from_utf8(header.value?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(topic: &str, offset: i64, headers: OwnedHeaders) -> OwnedMessage {
        OwnedMessage::new(
            Some(b"{\"id\":".to_vec()),
            Some(b"pay-1".to_vec()),
            topic.to_owned(),
            rdkafka::Timestamp::CreateTime(1_700_000_000_000),
            2,
            offset,
            Some(headers),
        )
    }

    fn pairs(headers: &OwnedHeaders) -> Vec<(String, String)> {
        let read = |header: Header<'_, &[u8]>| {
            (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
        };
        headers.iter().map(read).collect()
    }

    fn steps() -> Vec<Retry> {
        [("p.retry.10s", 10), ("p.retry.1m", 60)]
            .map(|(name, delay)| Retry { name: name.to_owned(), delay: Duration::from_secs(delay) })
            .to_vec()
    }

    #[test]
    fn a_dead_letter_says_where_when_and_why_and_keeps_foreign_headers_in_order() {
        let came = OwnedHeaders::new()
            .insert(Header { key: "traceparent", value: Some("00-1") })
            .insert(Header { key: CORRELATION_ID, value: Some("c-1") });
        let failed_at: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        let left = headers(&message("payment", 41, came), 1, &Failure::Malformed("no id".into()), failed_at);
        let expected = [
            ("traceparent", "00-1"),
            ("correlation-id", "c-1"),
            ("spillway-original-topic", "payment"),
            ("spillway-original-partition", "2"),
            ("spillway-original-offset", "41"),
            ("spillway-original-timestamp", "1700000000000"),
            ("spillway-error", "malformed message: no id"),
            ("spillway-failed-at", "2026-11-21T08:00:00Z"),
            ("spillway-attempt", "1"),
        ];
        assert_eq!(pairs(&left), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_second_failure_keeps_the_first_origin_and_replaces_the_rest() {
        let failure = Failure::Transient("bank is away".into());
        let first = headers(&message("payment", 41, OwnedHeaders::new()), 1, &failure, Timestamp::UNIX_EPOCH);
        let retried = message("p.retry.10s", 7, first);
        assert_eq!(attempt(&retried), 2);
        let second = pairs(&headers(&retried, 2, &failure, Timestamp::UNIX_EPOCH));
        let value = |key: &str| {
            let found: Vec<_> = second.iter().filter(|(name, _)| name == key).collect();
            assert_eq!(found.len(), 1, "{key} is there {} times", found.len());
            found[0].1.clone()
        };
        assert_eq!(value(ORIGINAL_TOPIC), "payment");
        assert_eq!(value(ORIGINAL_OFFSET), "41");
        assert_eq!(value(ATTEMPT), "2");
    }

    #[test]
    fn transient_failures_step_through_the_retries_and_end_in_the_dead_letters() {
        let retries = steps();
        let failure = Failure::Transient("bank is away".into());
        let path: Vec<_> = (1..=4).map(|attempt| next(&failure, attempt, &retries, Some("dlq"))).collect();
        let [first, second] = &retries[..] else { unreachable!() };
        let dead = Next::DeadLetter("dlq");
        assert_eq!(path, [Next::Retry(first), Next::Retry(second), dead, dead]);
    }

    #[test]
    fn a_malformed_message_skips_the_retries() {
        let retries = steps();
        assert_eq!(next(&Failure::Malformed("x".into()), 1, &retries, Some("dlq")), Next::DeadLetter("dlq"));
    }

    #[test]
    fn without_a_dead_letter_topic_a_failed_message_stays() {
        assert_eq!(next(&Failure::Malformed("x".into()), 1, &steps(), None), Next::Stay);
        assert_eq!(next(&Failure::Transient("x".into()), 3, &steps(), None), Next::Stay);
    }

    #[test]
    fn a_retried_copy_has_the_identity_of_its_original() {
        let original = message("payment", 41, OwnedHeaders::new());
        let failure = Failure::Transient("bank is away".into());
        let copy = message("p.retry.10s", 3, headers(&original, 1, &failure, Timestamp::UNIX_EPOCH));
        for id in [None, Some("c-1")] {
            assert_eq!(Origin::of(&original).identity(id), Origin::of(&copy).identity(id));
        }
        assert_ne!(Origin::of(&original).identity(None), Origin::of(&original).identity(Some("c-1")));
    }

    #[test]
    fn a_long_error_is_cut_at_a_character() {
        let failure = Failure::Malformed("é".repeat(ERROR_LIMIT));
        let left = headers(&message("payment", 1, OwnedHeaders::new()), 1, &failure, Timestamp::UNIX_EPOCH);
        let error = pairs(&left).into_iter().find(|(key, _)| key == ERROR).unwrap().1;
        assert!(error.len() <= ERROR_LIMIT && error.ends_with('é'), "{} bytes", error.len());
    }
}
