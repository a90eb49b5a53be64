//! Settings by which an object goes although nobody deletes its CR: the ways around a rule about deletion policies.

use crate::api::exchange::Exchange;
use crate::api::queue::{OnImmutableChange, Queue};
use crate::topology::access::Deletes;

/// What an Exchange says of that.
#[must_use]
pub fn of_exchange(exchange: &Exchange) -> Vec<Deletes> {
    exchange.spec.auto_delete.then_some(Deletes::AutoDelete).into_iter().collect()
}

/// What a Queue says of that. Raw arguments may not repeat either.
#[must_use]
pub fn of_queue(queue: &Queue) -> Vec<Deletes> {
    let recreates = queue.spec.on_immutable_change == Some(OnImmutableChange::RecreateIfEmpty);
    let expires = queue.spec.expires.map(|_| Deletes::Expires);
    expires.into_iter().chain(recreates.then_some(Deletes::Recreate)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_queue_that_expires_or_is_made_anew_and_an_exchange_that_goes_with_its_last_binding() {
        for (spec, expected) in [
            (json!({}), &[][..]),
            (json!({"expires": "1h"}), &[Deletes::Expires]),
            (json!({"onImmutableChange": "Refuse"}), &[]),
            (
                json!({"expires": "1h", "onImmutableChange": "RecreateIfEmpty"}),
                &[Deletes::Expires, Deletes::Recreate],
            ),
        ] {
            let mut spec = spec;
            spec["brokerRef"] = json!({"name": "b"});
            let queue = Queue::new("q", serde_json::from_value(spec.clone()).unwrap());
            assert_eq!(of_queue(&queue), expected, "{spec}");
        }
        for (auto_delete, expected) in [(false, &[][..]), (true, &[Deletes::AutoDelete])] {
            let spec = json!({"brokerRef": {"name": "b"}, "type": "topic", "autoDelete": auto_delete});
            let exchange = Exchange::new("x", serde_json::from_value(spec).unwrap());
            assert_eq!(of_exchange(&exchange), expected);
        }
    }
}
