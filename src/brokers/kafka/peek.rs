//! Reads messages of a topic for a person: no group is joined and no offset is committed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as Native;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::error::{KafkaError, LOCAL_INVALID_ARG, RawError};
use super::settings::KafkaSettings;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// When it was written, in milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The headers, in their order; a name may come twice.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The body.
    pub payload: Option<Vec<u8>>,
}

/// Which part of a partition: from the first offset up to, but without, the second.
pub type Range = (i32, i64, i64);

/// Reads what is in the ranges, oldest first. Blocks until all of it came, or `timeout` passed: then what came counts.
///
/// # Errors
/// Settings that librdkafka refuses, and whatever a broker says before a message came.
pub fn peek(
    settings: &KafkaSettings,
    topic: &str,
    ranges: &[Range],
    timeout: Duration,
) -> Result<Vec<Peeked>, KafkaError> {
    let failed = |error: &Native| {
        let code = error.rdkafka_error_code().map_or(LOCAL_INVALID_ARG, |code| code as i32);
        RawError::new(code, error.to_string()).of(format!("read topic {topic:?}"))
    };
    let mut config = ClientConfig::new();
    for (key, value) in settings.native_config() {
        // Its logs and notices have no reader here.
        if key != "log.queue" {
            config.set(key, value);
        }
    }
    config.set("enable.auto.offset.store", "false");
    // A person sees what is there, also of a transaction that was aborted: offsets would be missing otherwise.
    config.set("isolation.level", "read_uncommitted");
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().map_err(|error| failed(&error))?;
    let mut parts = TopicPartitionList::new();
    let mut open: BTreeMap<i32, i64> = BTreeMap::new();
    for &(partition, from, end) in ranges.iter().filter(|(_, from, end)| from < end) {
        parts.add_partition_offset(topic, partition, Offset::Offset(from)).map_err(|error| failed(&error))?;
        open.insert(partition, end);
    }
    consumer.assign(&parts).map_err(|error| failed(&error))?;
    let (begun, mut read) = (Instant::now(), Vec::new());
    while !open.is_empty() && begun.elapsed() < timeout {
        let message = match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Err(Native::PartitionEOF(partition))) => {
                open.remove(&partition);
                continue;
            }
            // librdkafka asks for the group's coordinator, whoever needs it: nobody here, and the user may not see the group.
            Some(Err(error))
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) =>
            {
                continue;
            }
            Some(Err(error)) if read.is_empty() => return Err(failed(&error)),
            Some(Err(_)) => break,
            Some(Ok(message)) => message,
        };
        let (partition, offset) = (message.partition(), message.offset());
        let Some(&end) = open.get(&partition) else { continue };
        if offset < end {
            let headers = message.headers().map(|headers| {
                let header = |header: rdkafka::message::Header<'_, &[u8]>| {
                    (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
                };
                headers.iter().map(header).collect()
            });
            read.push(Peeked {
                partition,
                offset,
                timestamp: message.timestamp().to_millis(),
                key: message.key().map(<[u8]>::to_vec),
                headers: headers.unwrap_or_default(),
                payload: message.payload().map(<[u8]>::to_vec),
            });
        }
        if offset.saturating_add(1) >= end {
            open.remove(&partition);
        }
    }
    read.sort_by_key(|message| (message.timestamp, message.partition, message.offset));
    Ok(read)
}
