use super::*;
use crate::api::conditions::Reason;
use crate::topology::rabbitmq::DesiredQueue;
use serde_json::{Value, json};

fn queue(name: &str, spec: Value) -> Queue {
    let mut spec = spec;
    spec["brokerRef"] = json!({"name": "rabbit"});
    Queue::new(name, serde_json::from_value(spec).unwrap())
}

fn read(companion: &QueueCompanion) -> DesiredQueue {
    let cr = Queue::new(&companion.metadata_name, companion.spec.clone());
    DesiredQueue::of(&cr, &[]).unwrap()
}

#[test]
fn dead_letters_and_retries_are_quorum_queues_of_their_own_without_a_policy() {
    let parent = queue(
        "pay",
        json!({"name": "payments", "type": "classic", "vhost": "a", "deadLetter": {}, "retry": {"delays": ["10s", "90s", "10s"]},
               "management_policy": "Manage", "adoption": "Adopt"}),
    );
    let companions = of(&parent).unwrap();
    let names: Vec<_> = companions.all.iter().map(|c| (c.metadata_name.as_str(), c.queue())).collect();
    assert_eq!(
        names,
        [
            ("pay.dlq", "payments.dlq"),
            ("pay.retry.10s", "payments.retry.10s"),
            ("pay.retry.1m30s", "payments.retry.1m30s"),
        ]
    );
    assert_eq!(companions.dead_letter.as_deref(), Some("payments.dlq"));
    assert_eq!(companions.retries.len(), 2);
    assert!(companions.all.iter().all(|c| c.spec.deletion_policy == Some(DeletionPolicy::Retain)
        && c.spec.vhost == "a"
        && c.spec.adoption == parent.spec.adoption));
    assert_eq!(
        json!(read(&companions.all[0]).declaration()),
        json!({"x-queue-type": "quorum", "x-delivery-limit": -1})
    );
    assert_eq!(
        json!(read(&companions.all[2]).declaration()),
        json!({
            "x-queue-type": "quorum", "x-message-ttl": 90_000, "x-overflow": "reject-publish",
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "payments", "x-dead-letter-strategy": "at-least-once",
        })
    );
}

#[test]
fn two_parents_of_one_dead_letter_queue_come_to_the_same_cr_in_one_virtual_host_only() {
    let wish = |vhost: &str| json!({"vhost": vhost, "deadLetter": {"queue": "lost"}});
    let (a, b) = (of(&queue("a", wish("/"))).unwrap(), of(&queue("b", wish("/"))).unwrap());
    assert_eq!(a.all, b.all);
    assert_eq!(a.all[0].metadata_name, "lost");
    let elsewhere = of(&queue("c", wish("test"))).unwrap();
    assert_eq!(elsewhere.all[0].metadata_name, "lost.test");
}

#[test]
fn a_companion_and_a_dead_letter_exchange_have_no_companions() {
    let mut child = queue("q.retry.1s", json!({"deadLetter": {"queue": "q"}}));
    child.metadata.labels = Some([(label::COMPANION.to_owned(), "retry".to_owned())].into());
    assert_eq!(of(&child).unwrap(), QueueCompanions::default());
    let by_exchange = queue("q", json!({"deadLetter": {"exchange": "dlx"}}));
    assert_eq!(of(&by_exchange).unwrap(), QueueCompanions::default());
}

#[test]
fn a_queue_that_is_its_own_dead_letter_or_shares_one_with_a_retry_is_refused() {
    for spec in [
        json!({"deadLetter": {"queue": "q"}}),
        json!({"deadLetter": {"queue": "q.retry.1s"}, "retry": {"delays": ["1s"]}}),
        json!({"name": "x".repeat(253), "deadLetter": {}}),
        json!({"deadLetter": {"queue": "amq.lost"}}),
    ] {
        assert_eq!(of(&queue("q", spec.clone())).unwrap_err().reason, Reason::InvalidSpec, "{spec}");
    }
}

#[test]
fn of_queues_in_a_circle_one_goes_first_and_nobody_else_does() {
    let next = |queue: &str| {
        let to = match queue {
            "ping" => "pong",
            "pong" => "pang",
            "pang" | "beside" => "ping",
            "plain" => "plain.dlq",
            _ => return None,
        };
        Some(to.to_owned())
    };
    let first: Vec<_> = ["ping", "pong", "pang", "beside", "plain", "plain.dlq"]
        .into_iter()
        .filter(|queue| goes_first(queue, next))
        .collect();
    assert_eq!(first, ["pang"]);
}
