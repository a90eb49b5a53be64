//! Dead letters and retries: the queues that a Queue implies, and messages that go through them.

use std::time::{Duration, Instant};

use serde_json::json;
use spillway_operator::api::Queue;

use crate::bed::{Object as _, World, queue_yaml, rabbit_yaml, until, world};

/// The Queue that declares this queue at the broker, ready.
pub async fn companion(w: &World, queue: &str) -> Queue {
    let api = w.api::<Queue>();
    let name = until(&format!("there is a Queue for {queue:?}"), async || {
        let all = api.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
        let found = all.items.iter().find(|one| one.queue_name() == queue);
        found
            .and_then(|found| found.metadata.name.clone())
            .ok_or_else(|| format!("{:?}", all.items.iter().map(Queue::queue_name).collect::<Vec<_>>()))
    })
    .await;
    w.ready(&name).await
}

#[test]
fn dead_letter_and_retry_queues_are_objects_and_queues_of_their_own() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "name: Orders/v1\ndeadLetter: {}\nretry: {delays: [1s, 10m]}").await;
        let parent: Queue = w.ready("orders").await;
        let status = parent.status.clone().expect("a status");
        assert_eq!(status.dead_letter.as_deref(), Some("Orders/v1.dlq"));
        let retries: Vec<_> =
            status.retries.iter().map(|one| (one.name.clone(), one.delay.to_string())).collect();
        assert_eq!(
            retries,
            [
                ("Orders/v1.retry.1s".to_owned(), "1s".to_owned()),
                ("Orders/v1.retry.10m".to_owned(), "10m".to_owned())
            ]
        );
        let mq = w.mq().await;
        for (name, metadata_name) in [
            ("Orders/v1.dlq", "orders.dlq"),
            ("Orders/v1.retry.1s", "orders.retry.1s"),
            ("Orders/v1.retry.10m", "orders.retry.10m"),
        ] {
            let companion: Queue = w.ready(metadata_name).await;
            assert_eq!(companion.queue_name(), name);
            let owners = companion.metadata.owner_references.clone().unwrap_or_default();
            assert_eq!(owners.len(), 1, "{owners:?}");
            assert_eq!(Some(&owners[0].uid), parent.metadata.uid.as_ref());
            assert_eq!(mq.the_queue(name).await["type"], "quorum");
        }
        assert_eq!(
            mq.the_queue("Orders/v1.dlq").await["arguments"],
            json!({"x-queue-type": "quorum", "x-delivery-limit": -1})
        );
        assert_eq!(
            mq.the_queue("Orders/v1.retry.10m").await["arguments"],
            json!({
                "x-queue-type": "quorum", "x-message-ttl": 600_000, "x-overflow": "reject-publish",
                "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "Orders/v1",
                "x-dead-letter-strategy": "at-least-once",
            })
        );
    });
}

#[test]
fn a_rejected_message_arrives_in_the_dead_letter_queue_and_may_be_looked_at_often() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "deadLetter: {}").await;
        w.ready::<Queue>("orders").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        assert!(mq.publish("", "orders", "poison").await);
        assert_eq!(mq.reject("orders").await.as_deref(), Some("poison"));
        amqp.until_ready("orders.dlq", 1).await;
        // RabbitMQ's own limit for a quorum queue would drop it at the 21st look.
        for _ in 0..25 {
            let held = amqp.hold("orders.dlq").await;
            held.leave().await;
        }
        amqp.until_ready("orders.dlq", 1).await;
        assert_eq!(mq.take("orders.dlq").await.as_deref(), Some("poison"));
    });
}

#[test]
fn a_message_that_waited_too_long_and_one_that_was_pushed_out_are_dead_letters() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "messageTtl: 1s\ndeadLetter: {}").await;
        w.queue("bills", "type: classic\nmaxLength: 1\ndeadLetter: {queue: old bills}").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Queue>("bills").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        mq.publish("", "orders", "late").await;
        mq.publish("", "bills", "first").await;
        mq.publish("", "bills", "second").await;
        assert_eq!(mq.until_message("orders.dlq").await, "late");
        assert_eq!(mq.until_message("old bills").await, "first");
        amqp.until_ready("bills", 1).await;
    });
}

#[test]
fn a_message_in_a_retry_queue_comes_back_after_its_delay() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "name: orders.v1\nretry: {delays: [1s, 3s]}").await;
        w.ready::<Queue>("orders").await;
        let mq = w.mq().await;
        for (queue, delay) in [("orders.v1.retry.1s", 1), ("orders.v1.retry.3s", 3)] {
            let begun = Instant::now();
            let headers = json!({"delivery_mode": 2, "headers": {"spillway-attempt": 2}});
            assert!(mq.publish_with("", queue, "again", headers).await);
            assert_eq!(mq.until_message("orders.v1").await, "again");
            let took = begun.elapsed();
            println!("{queue}: back after {took:?}");
            assert!((Duration::from_secs(delay)..Duration::from_secs(delay + 8)).contains(&took), "{took:?}");
        }
    });
}

#[test]
fn with_at_least_once_no_dead_letter_is_lost_while_its_queue_is_full() {
    world(async |w| {
        w.rabbit("").await;
        // A dead-letter queue of a person's, which takes one message.
        w.queue("dlq", "maxLength: 1\noverflow: reject-publish").await;
        w.ready::<Queue>("dlq").await;
        w.queue("orders", "overflow: reject-publish\ndeadLetter: {queue: dlq, strategy: AtLeastOnce}").await;
        w.ready::<Queue>("orders").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        mq.until_effective(
            "orders",
            &json!({
                "overflow": "reject-publish", "dead-letter-exchange": "", "dead-letter-routing-key": "dlq",
                "dead-letter-strategy": "at-least-once",
            }),
        )
        .await;
        for n in 0..5 {
            mq.publish("", "orders", &format!("poison {n}")).await;
            assert!(mq.reject("orders").await.is_some());
        }
        // What does not fit there stays with the queue, which tries again after minutes. (A quorum queue
        // takes one more than its limit before it refuses.)
        until("each message is in one of the two", async || {
            let there = amqp.depth("dlq").await.map(|depth| u64::from(depth.0));
            let waiting = mq.waiting_dead_letters("orders").await;
            match (there, waiting) {
                (Some(there @ 1..=2), Some(waiting)) if there + waiting == 5 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    });
}

#[test]
fn two_queues_share_one_dead_letter_queue_that_outlives_both() {
    world(async |w| {
        w.rabbit("").await;
        for name in ["payment", "order"] {
            w.queue(name, "deadLetter: {queue: dlq-payment}\ndeletionPolicy: Delete").await;
        }
        w.ready::<Queue>("payment").await;
        w.ready::<Queue>("order").await;
        let shared = companion(w, "dlq-payment").await;
        let name = shared.metadata.name.expect("a name");
        let shared: Queue = w
            .until(&name, "the companion has both owners", |queue: &Queue| {
                queue.metadata.owner_references.as_ref().is_some_and(|owners| owners.len() == 2)
            })
            .await;
        let owners = shared.metadata.owner_references.unwrap_or_default();
        assert!(owners.iter().all(|owner| owner.controller != Some(true)), "{owners:?}");
        let mq = w.mq().await;
        for queue in ["payment", "order"] {
            mq.publish("", queue, queue).await;
            assert_eq!(mq.reject(queue).await.as_deref(), Some(queue));
            assert_eq!(mq.until_message("dlq-payment").await, queue);
        }
        mq.publish("", "dlq-payment", "precious").await;

        w.delete::<Queue>("payment").await;
        w.until_gone::<Queue>("payment").await;
        w.ready::<Queue>(&name).await;
        w.delete::<Queue>("order").await;
        w.until_gone::<Queue>("order").await;
        mq.until_no_queue("order").await;
        assert_eq!(mq.queues().await, ["dlq-payment"]);
        assert_eq!(mq.take("dlq-payment").await.as_deref(), Some("precious"));
    });
}

#[test]
fn a_dead_letter_queue_that_a_person_declared_is_used_and_not_changed() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("graveyard", "name: dead\ntype: classic\nmaxLength: 77").await;
        let before: Queue = w.ready("graveyard").await;
        w.queue("orders", "deadLetter: {queue: dead}").await;
        w.ready::<Queue>("orders").await;
        let after: Queue = w.get("graveyard").await;
        assert_eq!(before.spec, after.spec);
        assert_eq!(before.metadata.owner_references, after.metadata.owner_references);
        let mq = w.mq().await;
        assert_eq!(mq.queues().await, ["dead", "orders"]);
        mq.publish("", "orders", "poison").await;
        mq.reject("orders").await;
        assert_eq!(mq.until_message("dead").await, "poison");
    });
}

#[test]
fn dead_letters_may_go_to_an_exchange_with_a_key_of_their_own() {
    world(async |w| {
        w.rabbit("").await;
        w.exchange("dead", "type: topic").await;
        w.queue("letters", "bindings: [{sourceRef: {name: dead}, routingKey: from.orders}]").await;
        w.queue("orders", "deadLetter: {exchange: dead, routingKey: from.orders}").await;
        w.ready::<Queue>("letters").await;
        let queue: Queue = w.ready("orders").await;
        assert_eq!(queue.status.expect("a status").dead_letter, None);
        let mq = w.mq().await;
        assert_eq!(mq.queues().await, ["letters", "orders"]);
        mq.publish("", "orders", "poison").await;
        mq.reject("orders").await;
        assert_eq!(mq.until_message("letters").await, "poison");
    });
}

#[test]
fn a_dead_letter_queues_name_on_one_broker_is_free_on_another() {
    world(async |w| {
        w.rabbit("").await;
        w.apply(&rabbit_yaml("").replace("metadata: {name: rabbitmq}", "metadata: {name: second}")).await;
        w.queue("here", "deadLetter: {queue: dead}").await;
        w.ready::<Queue>("here").await;
        let there = queue_yaml("there", "deadLetter: {queue: dead}");
        w.apply(&there.replace("brokerRef: {name: rabbitmq}", "brokerRef: {name: second}")).await;
        let api = w.api::<Queue>();
        until("each Broker has a Queue for it", async || {
            let all = api.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
            let dead = all.items.iter().filter(|queue| queue.queue_name() == "dead");
            let mut brokers: Vec<_> = dead.map(|queue| queue.spec.broker_ref.name.clone()).collect();
            brokers.sort();
            if brokers == ["rabbitmq", "second"] { Ok(()) } else { Err(format!("{brokers:?}")) }
        })
        .await;
    });
}

#[test]
fn two_queues_that_are_each_others_dead_letter_queue_work() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("ping", "deadLetter: {queue: pong}").await;
        w.queue("pong", "deadLetter: {queue: ping}").await;
        w.ready::<Queue>("ping").await;
        w.ready::<Queue>("pong").await;
        let mq = w.mq().await;
        assert_eq!(mq.queues().await, ["ping", "pong"]);
        mq.publish("", "ping", "ball").await;
        assert_eq!(mq.reject("ping").await.as_deref(), Some("ball"));
        assert_eq!(mq.until_message("pong").await, "ball");
    });
}

#[test]
fn a_retry_delay_that_is_removed_keeps_its_queue_and_its_messages() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "retry: {delays: [10s, 1h]}").await;
        w.ready::<Queue>("orders").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        mq.publish("", "orders.retry.1h", "waiting").await;
        w.queue("orders", "retry: {delays: [10s]}").await;
        w.until("orders", "the status names one retry queue", |queue: &Queue| {
            queue.status.as_ref().is_some_and(|status| status.retries.len() == 1)
        })
        .await;
        assert_eq!(amqp.depth("orders.retry.1h").await.map(|depth| depth.0), Some(1));
    });
}

#[test]
fn a_queue_cannot_be_its_own_dead_letter_queue() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "deadLetter: {queue: orders}").await;
        let queue: Queue = w.condition("orders", "Ready", "False", "InvalidSpec").await;
        assert!(queue.message("Ready").contains("its own dead-letter"), "{}", queue.summary());
        assert_eq!(w.mq().await.queues().await, [""; 0]);
    });
}

#[test]
fn dead_letters_go_where_they_went_until_the_new_queue_for_them_is_there() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s").await;
        let mq = w.mq().await;
        w.queue("orders", "deadLetter: {}").await;
        w.ready::<Queue>("orders").await;
        // The new one cannot be made: somebody else's is in the way.
        mq.declare_queue("graves", json!({"x-queue-type": "stream"})).await;
        w.queue("orders", "deadLetter: {queue: graves}").await;
        w.condition::<Queue>("orders", "Ready", "False", "CompanionNotReady").await;
        let policy = mq.policy("spillway.q.orders").await.expect("a policy");
        assert_eq!(policy["definition"]["dead-letter-routing-key"], "orders.dlq");
        mq.publish("", "orders", "poison").await;
        assert_eq!(mq.reject("orders").await.as_deref(), Some("poison"));
        assert_eq!(mq.until_message("orders.dlq").await, "poison");
        mq.delete_queue("graves").await;
        w.ready::<Queue>("orders").await;
        let policy = mq.policy("spillway.q.orders").await.expect("a policy");
        assert_eq!(policy["definition"]["dead-letter-routing-key"], "graves");
    });
}

#[test]
fn a_queue_is_declared_after_the_queue_that_takes_its_dead_letters() {
    world(async |w| {
        w.rabbit("").await;
        // The dead-letter queue cannot be made: somebody else's is in the way.
        w.mq().await.declare_queue("orders.dlq", json!({"x-queue-type": "stream"})).await;
        w.queue("orders", "deadLetter: {}").await;
        let queue: Queue = w.condition("orders", "Ready", "False", "CompanionNotReady").await;
        assert!(queue.message("Ready").contains("orders.dlq"), "{}", queue.summary());
        w.mq().await.delete_queue("orders.dlq").await;
        w.annotate::<Queue>("orders.dlq", "spillway.dev/reconcile", Some("now")).await;
        w.ready::<Queue>("orders").await;
        assert_eq!(w.mq().await.the_queue("orders.dlq").await["type"], "quorum");
    });
}

#[test]
fn a_companion_whose_name_is_taken_takes_no_ownership_away() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "adoption: Never\ndeletionPolicy: Delete").await;
        w.ready::<Queue>("orders").await;
        w.queue("orders.dlq", "name: something-else").await;
        w.ready::<Queue>("orders.dlq").await;
        w.queue("orders", "adoption: Never\ndeletionPolicy: Delete\nmaxLength: 5\ndeadLetter: {}").await;
        let queue: Queue = w.condition("orders", "Ready", "False", "Conflict").await;
        assert!(queue.message("Ready").contains("rename it"), "{}", queue.summary());
        assert!(queue.status.clone().expect("a status").owned_since.is_some(), "{}", queue.summary());
        // It is still ours to change, and to delete.
        w.queue("orders", "adoption: Never\ndeletionPolicy: Delete\nmaxLength: 5").await;
        w.ready::<Queue>("orders").await;
        w.delete::<Queue>("orders").await;
        w.until_gone::<Queue>("orders").await;
        assert_eq!(w.mq().await.queues().await, ["something-else"]);
    });
}

#[test]
fn a_person_in_a_companions_place_has_what_that_one_owned_and_nothing_else() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_queue("orders.dlq", json!({"x-queue-type": "quorum"})).await;
        mq.publish("", "orders.dlq", "precious").await;
        w.queue("orders", "adoption: Never\ndeadLetter: {}").await;
        // Somebody else's, and not to be changed: it owns nothing.
        w.condition::<Queue>("orders.dlq", "Ready", "False", "Immutable").await;
        w.queue("mine", "name: orders.dlq\nmaxLength: 5\nadoption: Never\ndeletionPolicy: Delete").await;
        let mine: Queue = w.condition("mine", "Ready", "False", "Conflict").await;
        assert!(mine.message("Ready").contains("was there before"), "{}", mine.summary());
        w.delete::<Queue>("mine").await;
        w.until_gone::<Queue>("mine").await;
        assert_eq!(mq.policies().await, [""; 0]);
        assert_eq!(mq.take("orders.dlq").await.as_deref(), Some("precious"));

        w.queue("bills", "deadLetter: {}").await;
        w.ready::<Queue>("bills").await;
        w.queue("yours", "name: bills.dlq\nmaxLength: 5\nadoption: Never").await;
        w.ready::<Queue>("yours").await;
        assert!(mq.policy("spillway.q.bills.dlq").await.is_some());
        w.until_gone::<Queue>("bills.dlq").await;
    });
}
