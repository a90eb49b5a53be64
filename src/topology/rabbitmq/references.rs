//! What objects refer to at the broker: the names that guard rails ask about.
//!
//! Who binds a queue to an exchange draws messages off it; who names a dead-letter target or an
//! alternate exchange sends messages there.

use super::binding::Target;
use crate::api::exchange::Exchange;
use crate::api::queue::Queue;

/// What an Exchange refers to: its alternate exchange.
#[must_use]
pub fn of_exchange(exchange: &Exchange) -> Vec<String> {
    exchange.spec.alternate_exchange.iter().cloned().collect()
}

/// What a Queue refers to: the sources of its inline bindings (as resolved), and its dead-letter
/// target. Its retry queues are objects of their own and are asked about there.
#[must_use]
pub fn of_queue(queue: &Queue, sources: &[String]) -> Vec<String> {
    let mut names = sources.to_vec();
    if let Some(dead_letter) = &queue.spec.dead_letter {
        names.push(match (&dead_letter.exchange, &dead_letter.queue) {
            (Some(exchange), _) => exchange.clone(),
            (None, Some(queue)) => queue.clone(),
            (None, None) => dead_letter_queue(queue.queue_name()),
        });
    }
    names.sort();
    names.dedup();
    names
}

/// What a Binding refers to: its source and its destination (as resolved).
#[must_use]
pub fn of_binding(source: &str, target: &Target) -> Vec<String> {
    vec![source.to_owned(), target.name().to_owned()]
}

/// The dead-letter queue of a queue that does not name one.
#[must_use]
pub fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}.dlq")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_queue_refers_to_its_sources_and_its_dead_letter_target() {
        for (dead_letter, expected) in [
            (json!({}), vec!["events", "q.dlq"]),
            (json!({"queue": "lost"}), vec!["events", "lost"]),
            (json!({"exchange": "dlx", "routingKey": "k"}), vec!["dlx", "events"]),
        ] {
            let spec = json!({"brokerRef": {"name": "b"}, "name": "q", "deadLetter": dead_letter});
            let queue = Queue::new("q", serde_json::from_value(spec).unwrap());
            assert_eq!(of_queue(&queue, &["events".into(), "events".into()]), expected);
        }
    }
}
