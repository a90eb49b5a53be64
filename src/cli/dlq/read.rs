//! From a place to what is in it. Nothing is taken away.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::place::Place;
use crate::brokers::kafka::peek::{Peeked, Range, peek};
use crate::brokers::kafka::{Isolation, KafkaClient, OffsetQuery, OffsetSpec};
use crate::brokers::rabbitmq::{DeliveryLimit, Message, RabbitClient, RabbitError, RabbitHandle};
use crate::cli::ways::Way;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for a queue's statistics.
const STATISTICS: Duration = Duration::from_secs(8);

/// One dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    /// Where it is: `partition/offset`, or its place from the head of the queue.
    pub at: String,
    /// When it was written, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Its key, or the exchange and routing key that it came by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its headers, in their order.
    pub headers: Vec<(String, String)>,
    /// Its body as text; base64 where it is none.
    pub body: String,
    /// How many bytes the body has.
    pub bytes: u64,
    /// Whether `body` is base64.
    pub base64: bool,
}

/// How many messages are in a place.
pub async fn count(way: &Way, place: &Place) -> Result<u64, String> {
    match (way, &place.vhost) {
        (Way::Kafka(client, _), None) => {
            let ranges = ranges(client, &place.name).await?;
            Ok(ranges.iter().map(|(_, start, end)| end.saturating_sub(*start).max(0).unsigned_abs()).sum())
        }
        (Way::Rabbitmq(rabbit), Some(vhost)) => depth(rabbit, vhost, &place.name).await,
        _ => Err("the Broker is of another kind than the object".into()),
    }
}

async fn depth(rabbit: &RabbitHandle, vhost: &str, queue: &str) -> Result<u64, String> {
    let found = rabbit.client.with_timeout(TIMEOUT).queue_in_full(vhost, queue).await;
    let found = found.map_err(|error| error.to_string())?.ok_or("the queue does not exist")?;
    if found.leader_online == Some(false) {
        return Err("the queue has no leader".into());
    }
    found.messages.ok_or_else(|| "RabbitMQ does not tell how many messages there are".into())
}

/// What a look brought.
pub struct Looked {
    /// The messages.
    pub letters: Vec<Letter>,
    /// They are behind all others now.
    pub moved: bool,
}

impl From<Vec<Letter>> for Looked {
    fn from(letters: Vec<Letter>) -> Self {
        Self { letters, moved: false }
    }
}

/// The newest messages of a topic, or the oldest of a queue.
pub async fn letters(way: &Way, place: &Place, limit: usize, bytes: u32) -> Result<Looked, String> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    match (way, &place.vhost) {
        (Way::Kafka(client, settings), None) => {
            let mut ranges = ranges(client, &place.name).await?;
            for (_, start, end) in &mut ranges {
                *start = (*start).max(*end - i64::try_from(limit).unwrap_or(i64::MAX));
            }
            let (settings, topic) = (settings.clone(), place.name.clone());
            let read = tokio::task::spawn_blocking(move || peek(&settings, &topic, &ranges, TIMEOUT));
            let read = read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            let newest = read.len().saturating_sub(limit);
            Ok(read[newest..].iter().map(|message| of_topic(message, bytes)).collect::<Vec<_>>().into())
        }
        (Way::Rabbitmq(rabbit), Some(vhost)) => of_queue(rabbit, vhost, &place.name, limit, bytes).await,
        _ => Err("the Broker is of another kind than the object".into()),
    }
}

/// Where each partition begins and ends.
async fn ranges(client: &KafkaClient, topic: &str) -> Result<Vec<Range>, String> {
    let described = client.describe_topics(&[topic.to_owned()], TIMEOUT).await;
    let (_, described) = described
        .map_err(|error| error.to_string())?
        .pop()
        .ok_or_else(|| format!("Kafka says nothing of topic {topic:?}"))?;
    let count = described.map_err(|error| error.to_string())?.partitions.len();
    let mut queries = Vec::new();
    for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
        for spec in [OffsetSpec::Earliest, OffsetSpec::Latest] {
            queries.push(OffsetQuery { topic: topic.to_owned(), partition, spec });
        }
    }
    let offsets = client
        .list_offsets(&queries, Isolation::ReadUncommitted, TIMEOUT)
        .await
        .map_err(|error| error.to_string())?;
    let offsets: HashMap<_, _> = offsets.into_iter().collect();
    let mut ranges = Vec::new();
    for pair in queries.chunks(2) {
        let offset = |query| match offsets.get(query) {
            Some(Ok(offset)) => Ok(*offset),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(format!("Kafka says nothing of the offsets of topic {topic:?}")),
        };
        if let [earliest, latest] = pair {
            ranges.push((earliest.partition, offset(earliest)?, offset(latest)?));
        }
    }
    Ok(ranges)
}

async fn of_queue(
    rabbit: &RabbitHandle,
    vhost: &str,
    queue: &str,
    limit: usize,
    bytes: usize,
) -> Result<Looked, String> {
    /// The most messages that are taken to leave their order as it is.
    const WHOLE: usize = 1_000;
    let client = rabbit.client.with_timeout(TIMEOUT);
    let info = client.queue(vhost, queue).await.map_err(|error| error.to_string())?;
    let info = info.ok_or("the queue does not exist")?;
    if info.kind == "stream" {
        return Err("it is a stream, which RabbitMQ's management interface cannot read".into());
    }
    match delivery_limit(&client, vhost, queue).await.map_err(|error| error.to_string())? {
        Some(DeliveryLimit::None) => {}
        Some(DeliveryLimit::Deliveries(limit)) => {
            return Err(format!(
                "a look counts as a delivery, and after {limit} of them RabbitMQ takes a message out of the queue; set deliveryLimit: -1 on it first"
            ));
        }
        Some(DeliveryLimit::Untold) => {
            let why = "a look counts as a delivery, and RabbitMQ does not tell the queue's delivery limit";
            return Err(why.into());
        }
        None => return Err("the queue does not exist".into()),
    }
    // A quorum queue takes messages back at its end: who looks at all of them leaves their order as it is.
    let turns = info.kind == "quorum";
    let few = turns && depth(rabbit, vhost, queue).await.is_ok_and(|depth| depth < WHOLE as u64);
    let take = if few { WHOLE.max(limit) } else { limit };
    let messages =
        client.look_at_messages(vhost, queue, take, bytes).await.map_err(|error| error.to_string())?;
    let moved = turns && messages.len() >= take;
    let shown = messages.iter().take(limit).enumerate();
    Ok(Looked { letters: shown.map(|(number, message)| of_message(number, message)).collect(), moved })
}

/// A queue's limit is among its statistics, which come some seconds after it.
async fn delivery_limit(
    client: &RabbitClient,
    vhost: &str,
    queue: &str,
) -> Result<Option<DeliveryLimit>, RabbitError> {
    let begun = Instant::now();
    loop {
        let limit = client.delivery_limit(vhost, queue).await?;
        if limit != Some(DeliveryLimit::Untold) || begun.elapsed() > STATISTICS {
            return Ok(limit);
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn of_topic(message: &Peeked, most: usize) -> Letter {
    let payload = message.payload.as_deref().unwrap_or_default();
    let cut = &payload[..payload.len().min(most)];
    // A character may have been cut in two.
    let (body, base64) = match std::str::from_utf8(cut) {
        Ok(text) => (text.to_owned(), false),
        Err(error) if error.error_len().is_none() && cut.len() < payload.len() => {
            (String::from_utf8_lossy(&cut[..error.valid_up_to()]).into_owned(), false)
        }
        Err(_) => (base64(cut), true),
    };
    Letter {
        at: format!("{}/{}", message.partition, message.offset),
        time: message
            .timestamp
            .and_then(|at| jiff::Timestamp::from_millisecond(at).ok())
            .map(|at| at.to_string()),
        key: message.key.as_deref().map(text),
        headers: message
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_deref().map_or_else(String::new, text)))
            .collect(),
        body,
        bytes: u64::try_from(payload.len()).unwrap_or(u64::MAX),
        base64,
    }
}

fn of_message(number: usize, message: &Message) -> Letter {
    let properties = message.properties.as_object();
    let one = |name: &str, value: &Value| (name.to_owned(), plain(value));
    let mut headers = Vec::new();
    for (name, value) in properties.into_iter().flatten() {
        match (name.as_str(), value) {
            ("headers", Value::Object(all)) => {
                headers.extend(all.iter().map(|(name, value)| one(name, value)));
            }
            ("headers" | "timestamp", _) => {}
            (name, value) => headers.push(one(name, value)),
        }
    }
    let at = properties.and_then(|all| all.get("timestamp")).and_then(Value::as_i64);
    Letter {
        at: (number + 1).to_string(),
        time: at.and_then(|at| jiff::Timestamp::from_second(at).ok()).map(|at| at.to_string()),
        key: Some(format!("{} {}", message.exchange, message.routing_key).trim().to_owned())
            .filter(|key| !key.is_empty()),
        headers,
        body: message.payload.clone(),
        bytes: message.payload_bytes,
        base64: message.payload_encoding == "base64",
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| format!("base64:{}", base64(bytes)), str::to_owned)
}

fn base64(bytes: &[u8]) -> String {
    // What Kubernetes writes for bytes.
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn peeked(payload: &[u8]) -> Peeked {
        Peeked {
            partition: 2,
            offset: 17,
            timestamp: Some(1_780_000_000_000),
            key: Some(b"order-17".to_vec()),
            headers: vec![("x-error".into(), Some(b"no such customer".to_vec())), ("empty".into(), None)],
            payload: Some(payload.to_vec()),
        }
    }

    #[test]
    fn a_letter_of_a_topic_keeps_its_headers_and_is_cut_between_characters() {
        let letter = of_topic(&peeked("aä".as_bytes()), 2);
        assert_eq!(
            (letter.at.as_str(), letter.body.as_str(), letter.bytes, letter.base64),
            ("2/17", "a", 3, false)
        );
        assert_eq!(letter.headers[0], ("x-error".to_owned(), "no such customer".to_owned()));
        assert_eq!(letter.headers[1].1, "");
        assert_eq!(letter.time.as_deref(), Some("2026-05-28T20:26:40Z"));
    }

    #[test]
    fn what_is_no_text_is_base64() {
        let letter = of_topic(&peeked(&[0xff, 0xfe]), 1_024);
        assert_eq!((letter.body.as_str(), letter.base64), ("//4=", true));
    }

    #[test]
    fn a_letter_of_a_queue_shows_headers_and_properties() {
        let message: Message = serde_json::from_value(json!({
            "payload": "{}", "payload_bytes": 2, "payload_encoding": "string", "exchange": "", "routing_key": "orders.dlq",
            "properties": {"message_id": "m1", "timestamp": 1_780_000_000, "headers": {"x-first-death-reason": "rejected"}},
        }))
        .unwrap();
        let letter = of_message(0, &message);
        assert_eq!(letter.key.as_deref(), Some("orders.dlq"));
        assert!(letter.headers.contains(&("x-first-death-reason".into(), "rejected".into())));
        assert!(letter.headers.contains(&("message_id".into(), "m1".into())));
        // RabbitMQ writes no properties as an empty list.
        let bare: Message = serde_json::from_value(json!({"payload": "x", "properties": []})).unwrap();
        assert!(of_message(1, &bare).headers.is_empty());
    }
}
