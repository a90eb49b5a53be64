//! Queues: faults at each write of each change.

use serde_json::json;
use spillway_operator::api::Queue;

use super::crash::{Fault, at_every_write};
use super::{queue, rabbitmq};
use crate::bed::{Site, until};

/// All that there is in the virtual host but for what RabbitMQ has by itself.
async fn inventory(site: &Site<'_>) -> (Vec<String>, Vec<String>) {
    let mq = site.w.mq().await;
    (mq.queues().await, mq.policies().await)
}

#[test]
fn a_queue_with_companions_policy_and_bindings_is_made_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Cut, Fault::Outage],
        &[
            "RabbitMq POST /api/bindings/${VHOST}/e/amq.direct/q/orders",
            "RabbitMq POST /api/bindings/${VHOST}/e/amq.topic/q/orders",
            "RabbitMq PUT /api/policies/${VHOST}/spillway.q.orders",
            "RabbitMq PUT /api/queues/${VHOST}/orders",
            "RabbitMq PUT /api/queues/${VHOST}/orders.dlq",
            "RabbitMq PUT /api/queues/${VHOST}/orders.retry.10s",
        ],
        rabbitmq,
        async |site| {
            site.w
                .queue(
                    "orders",
                    "maxLength: 100\ndeletionPolicy: Delete\ndeadLetter: {}\nretry: {delays: [10s]}\nbindings: [{source: amq.topic, routingKey: a.*}, {source: amq.direct, routingKey: b}]",
                )
                .await;
        },
        async |site| {
            for name in ["orders", "orders.dlq", "orders.retry.10s"] {
                queue(site, name).await;
            }
            let mq = site.w.mq().await;
            assert_eq!(mq.bindings("orders").await, ["amq.direct|b", "amq.topic|a.*"]);
            assert_eq!(mq.the_queue("orders").await["policy"], "spillway.q.orders");
            let policy = mq.policy("spillway.q.orders").await.expect("a policy");
            assert_eq!(policy["definition"]["max-length"], 100);
            assert_eq!(inventory(site).await.0, ["orders", "orders.dlq", "orders.retry.10s"]);
        },
    );
}

#[test]
fn a_binding_is_swapped_without_a_gap_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage, Fault::ApiDown],
        &[
            "RabbitMq DELETE /api/bindings/${VHOST}/e/amq.topic/q/orders/old.%2523",
            "RabbitMq POST /api/bindings/${VHOST}/e/amq.topic/q/orders",
        ],
        async |site| {
            rabbitmq(site).await;
            site.w.queue("orders", "bindings: [{source: amq.topic, routingKey: old.#}, {source: amq.topic, routingKey: both}]").await;
            queue(site, "orders").await;
            site.w.mq().await.bind("amq.topic", "orders", "theirs", json!({})).await;
        },
        async |site| {
            site.w.queue("orders", "bindings: [{source: amq.topic, routingKey: new.#}, {source: amq.topic, routingKey: both}]").await;
        },
        async |site| {
            queue(site, "orders").await;
            let bindings = site.w.mq().await.bindings("orders").await;
            assert_eq!(bindings, ["amq.topic|both", "amq.topic|new.#", "amq.topic|theirs"]);
        },
    );
}

#[test]
fn a_policy_takes_over_with_the_keys_of_another_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage, Fault::ApiDown],
        &["RabbitMq PUT /api/policies/${VHOST}/spillway.q.orders"],
        async |site| {
            rabbitmq(site).await;
            let mq = site.w.mq().await;
            mq.put_policy("theirs", "^orders$", 5, json!({"delivery-limit": 7})).await;
            site.w.queue("orders", "").await;
            queue(site, "orders").await;
        },
        async |site| site.w.queue("orders", "maxLength: 50").await,
        async |site| {
            queue(site, "orders").await;
            let mq = site.w.mq().await;
            let policy = mq.policy("spillway.q.orders").await.expect("a policy");
            assert_eq!(policy["definition"], json!({"delivery-limit": 7, "max-length": 50}));
            assert_eq!(mq.the_queue("orders").await["policy"], "spillway.q.orders");
            assert_eq!(inventory(site).await.1, ["spillway.q.orders", "theirs"]);
        },
    );
}

#[test]
fn a_queue_loses_its_policy_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage, Fault::ApiDown],
        &["RabbitMq DELETE /api/policies/${VHOST}/spillway.q.orders"],
        async |site| {
            rabbitmq(site).await;
            site.w.queue("orders", "maxLength: 50\ndeadLetter: {}").await;
            queue(site, "orders").await;
        },
        async |site| site.w.queue("orders", "").await,
        async |site| {
            queue(site, "orders").await;
            site.w.until_gone::<Queue>("orders.dlq").await;
            let (queues, policies) = inventory(site).await;
            assert_eq!(queues, ["orders", "orders.dlq"]);
            assert!(!policies.contains(&"spillway.q.orders".to_owned()), "{policies:?}");
        },
    );
}

#[test]
fn a_queue_that_is_to_be_deleted_goes_with_its_policy_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Cut, Fault::Outage],
        &[
            "RabbitMq DELETE /api/policies/${VHOST}/spillway.q.orders",
            "RabbitMq DELETE /api/queues/${VHOST}/orders",
        ],
        async |site| {
            rabbitmq(site).await;
            site.w.queue("orders", "deletionPolicy: Delete\nmaxLength: 9\ndeadLetter: {}\nbindings: [{source: amq.topic, routingKey: ours}]").await;
            queue(site, "orders").await;
            queue(site, "orders.dlq").await;
            let mq = site.w.mq().await;
            mq.publish("", "orders.dlq", "precious").await;
        },
        async |site| site.w.delete::<Queue>("orders").await,
        async |site| {
            site.w.until_gone::<Queue>("orders").await;
            site.w.until_gone::<Queue>("orders.dlq").await;
            let (queues, policies) = inventory(site).await;
            assert_eq!(queues, ["orders.dlq"]);
            assert!(!policies.contains(&"spillway.q.orders".to_owned()), "{policies:?}");
            assert_eq!(site.w.amqp().await.depth("orders.dlq").await, Some((1, 0)));
        },
    );
}

#[test]
fn a_queue_deleted_while_it_is_made_goes_from_the_broker_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage],
        // When the deletion comes differs.
        &[],
        rabbitmq,
        async |site| {
            site.w
                .queue(
                    "orders",
                    "deletionPolicy: Delete\nmaxLength: 9\nbindings: [{source: amq.topic, routingKey: ours}]",
                )
                .await;
            until("the queue is under way", async || {
                let queue: Queue = site.w.get("orders").await;
                let held = queue.metadata.finalizers.is_some_and(|all| !all.is_empty());
                if held || site.cut.is_dead() { Ok(()) } else { Err("it is not".into()) }
            })
            .await;
            site.w.delete::<Queue>("orders").await;
        },
        async |site| {
            site.w.until_gone::<Queue>("orders").await;
            until("nothing is left", async || match inventory(site).await {
                (queues, policies) if queues.is_empty() && policies.is_empty() => Ok(()),
                left => Err(format!("{left:?}")),
            })
            .await;
        },
    );
}

#[test]
fn a_queue_is_handed_over_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage, Fault::ApiDown],
        &[
            "RabbitMq POST /api/bindings/${VHOST}/e/amq.topic/q/orders",
            "RabbitMq PUT /api/policies/${VHOST}/spillway.q.orders",
        ],
        async |site| {
            rabbitmq(site).await;
            site.w.queue("older", "name: orders\ndeletionPolicy: Delete\nmaxLength: 9\nbindings: [{source: amq.topic, routingKey: a}]").await;
            queue(site, "older").await;
            site.w.mq().await.publish("", "orders", "precious").await;
            let born = site.w.get::<Queue>("older").await.metadata.creation_timestamp.expect("a time").0;
            until("a second has passed", async || {
                if jiff::Timestamp::now().duration_since(born).as_secs() >= 2 {
                    Ok(())
                } else {
                    Err("not yet".into())
                }
            })
            .await;
            site.w.queue("heir", "name: orders\ndeletionPolicy: Delete\nmaxLength: 10\nadoption: Adopt\nbindings: [{source: amq.topic, routingKey: b}]").await;
            site.w.condition::<Queue>("heir", "Ready", "False", "Conflict").await;
        },
        async |site| site.w.delete::<Queue>("older").await,
        async |site| {
            site.w.until_gone::<Queue>("older").await;
            queue(site, "heir").await;
            let mq = site.w.mq().await;
            assert_eq!(
                mq.policy("spillway.q.orders").await.expect("a policy")["definition"]["max-length"],
                10
            );
            assert!(mq.bindings("orders").await.contains(&"amq.topic|b".to_owned()));
            assert_eq!(site.w.amqp().await.depth("orders").await, Some((1, 0)));
        },
    );
}
