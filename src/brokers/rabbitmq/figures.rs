//! What one queue does, for whoever scales its consumers: depth, consumers, counters.
//!
//! A listing costs as much as the virtual host has queues. A page of it, filtered by a pattern of names, costs as much as
//! it names: measured with 1,000 queues, 0.4 s for all of them and 20 ms for 20. So the number of requests is that of the
//! virtual hosts (one for each hundred queues in it), and never that of those who ask.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::types::Target;

/// What is asked of each queue.
pub(super) const COLUMNS: &str = "vhost,name,type,state,leader,online,messages_ready,messages_unacknowledged,consumers,\
    arguments,message_stats.publish,message_stats.ack,message_stats.deliver_no_ack,message_stats.get_no_ack";
/// Names in one pattern, and bytes of it: a request line holds 8,000.
const NAMES: usize = 100;
const PATTERN_BYTES: usize = 2_000;
/// Queues in one answer: those that are named, and whatever else the pattern finds.
pub(super) const PAGE: &str = "500";

/// A queue as RabbitMQ's statistics know it: as of its last interval (5 seconds, unless configured). Counters are
/// cumulative.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// The queue's name.
    pub name: String,
    /// `classic`, `quorum`, `stream` or the type of a plugin.
    pub kind: String,
    /// `running`, `down`, `minority`, `stopped`, ….
    pub state: Option<String>,
    /// Whether the node that leads a quorum queue or a stream is up.
    pub leader_online: Option<bool>,
    /// Messages that no consumer was given. A quorum queue without a leader says 0.
    pub ready: Option<u64>,
    /// Messages given to consumers and not acknowledged yet.
    pub unacked: Option<u64>,
    /// Consumers.
    pub consumers: Option<u32>,
    /// Only one consumer works at a time.
    pub single_active: bool,
    /// Published. What came by dead-lettering is not in it.
    pub publish: Option<u64>,
    /// Acknowledged.
    pub ack: Option<u64>,
    /// Given to consumers that acknowledge nothing.
    pub no_ack: Option<u64>,
}

/// A page of a listing.
#[derive(Deserialize)]
pub(super) struct Page {
    pub items: Vec<Value>,
    pub page_count: u64,
}

/// The queue in an item of a listing; none where it went while it was listed.
pub(super) fn read(item: Value) -> Option<QueueFigures> {
    let record: Record = serde_json::from_value(item).ok()?;
    let number = |value: Option<&Value>| value.and_then(Value::as_u64);
    let text = |value: &Option<Value>| Some(value.as_ref()?.as_str()?.to_owned());
    let online = record.online.as_ref().and_then(Value::as_array);
    let leader = text(&record.leader);
    // Without statistics there is no such key at all; with them, what never happened is left out.
    let stats = record.message_stats.as_ref().and_then(Value::as_object);
    let counted = |name: &str| stats.map(|stats| number(stats.get(name)).unwrap_or(0));
    Some(QueueFigures {
        kind: text(&record.kind).unwrap_or_else(|| "classic".to_owned()),
        state: text(&record.state),
        leader_online: leader
            .zip(online)
            .map(|(leader, online)| online.iter().any(|node| node.as_str() == Some(&leader))),
        ready: number(record.messages_ready.as_ref()),
        unacked: number(record.messages_unacknowledged.as_ref()),
        consumers: number(record.consumers.as_ref()).and_then(|count| u32::try_from(count).ok()),
        single_active: record.arguments.get("x-single-active-consumer").and_then(Value::as_bool)
            == Some(true),
        publish: counted("publish"),
        ack: counted("ack"),
        no_ack: counted("deliver_no_ack").zip(counted("get_no_ack")).map(|(a, b)| a.saturating_add(b)),
        name: record.name,
    })
}

#[derive(Deserialize)]
struct Record {
    name: String,
    #[serde(rename = "type", default)]
    kind: Option<Value>,
    #[serde(default)]
    state: Option<Value>,
    #[serde(default)]
    leader: Option<Value>,
    #[serde(default)]
    online: Option<Value>,
    #[serde(default)]
    messages_ready: Option<Value>,
    #[serde(default)]
    messages_unacknowledged: Option<Value>,
    #[serde(default)]
    consumers: Option<Value>,
    #[serde(default)]
    arguments: Value,
    #[serde(default)]
    message_stats: Option<Value>,
}

/// The names in groups that fit into a request each, as patterns.
pub(super) fn patterns<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut patterns: Vec<(usize, String)> = Vec::new();
    for name in names {
        let escaped = escape(name);
        match patterns.last_mut() {
            Some((count, pattern)) if *count < NAMES && pattern.len() + escaped.len() < PATTERN_BYTES => {
                *count += 1;
                pattern.push('|');
                pattern.push_str(&escaped);
            }
            _ => patterns.push((1, escaped)),
        }
    }
    patterns.into_iter().map(|(_, pattern)| format!("^(?:{pattern})$")).collect()
}

/// A pattern that finds a name, and may find others: RabbitMQ ignores case, and matches bytes.
fn escape(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => pattern.push(character),
            ' '..='~' => {
                pattern.push('\\');
                pattern.push(character);
            }
            // As many bytes as it has, or one character where RabbitMQ matches characters.
            _ => pattern.push_str("(?s:.{1,4})"),
        }
    }
    pattern
}

/// Of what was found, the queues that were asked for, by name.
pub(super) fn named(
    found: impl IntoIterator<Item = QueueFigures>,
    names: &std::collections::BTreeSet<String>,
) -> BTreeMap<String, QueueFigures> {
    found
        .into_iter()
        .filter(|queue| names.contains(&queue.name))
        .map(|queue| (queue.name.clone(), queue))
        .collect()
}

/// What a request for figures does, in words.
pub(super) fn operation(names: &std::collections::BTreeSet<String>) -> String {
    match (names.len(), names.first()) {
        (1, Some(name)) => format!("read {}", Target::Queue(name.clone())),
        (count, _) => format!("read {count} queues"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_never_happened_is_zero_and_what_is_not_counted_is_unknown() {
        let counted = read(json!({"name": "q", "type": "quorum", "message_stats": {"publish": 5}})).unwrap();
        assert_eq!((counted.publish, counted.ack, counted.no_ack), (Some(5), Some(0), Some(0)));
        let uncounted = read(json!({"name": "q", "messages_ready": 7, "arguments": []})).unwrap();
        assert_eq!((uncounted.publish, uncounted.ack, uncounted.ready), (None, None, Some(7)));
        assert_eq!((uncounted.unacked, uncounted.consumers), (None, None));
    }

    #[test]
    fn an_item_that_is_no_queue_is_left_out() {
        assert_eq!(read(json!([])), None);
        assert_eq!(read(json!({})), None);
    }

    #[test]
    fn a_leader_that_is_not_online_and_a_single_active_consumer_are_seen() {
        let queue = read(json!({"name": "q", "type": "quorum", "leader": "rabbit@a", "online": ["rabbit@b"],
            "arguments": {"x-single-active-consumer": true}, "messages_ready": 0}))
        .unwrap();
        assert_eq!((queue.leader_online, queue.single_active), (Some(false), true));
    }

    #[test]
    fn a_pattern_finds_the_name_as_it_is_and_a_hundred_names_share_one() {
        assert_eq!(patterns(["orders.v1", "a_b"]), [r"^(?:orders\.v1|a_b)$"]);
        assert_eq!(patterns(["ü"]), ["^(?:(?s:.{1,4}))$"]);
        let names: Vec<String> = (0..250).map(|n| format!("q{n}")).collect();
        assert_eq!(patterns(names.iter().map(String::as_str)).len(), 3);
        let long: Vec<String> = (0..20).map(|n| format!("{n}{}", "x".repeat(250))).collect();
        assert!(patterns(long.iter().map(String::as_str)).iter().all(|pattern| pattern.len() < 2_300));
    }
}
