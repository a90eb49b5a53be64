//! Queues that are made anew: faults at each write.

use serde_json::{Value, json};

use super::crash::{Fault, at_every_slow_write};
use super::{queue, rabbitmq};

#[test]
fn a_queue_is_made_anew_with_everybodys_bindings_whatever_happens_at_a_write() {
    let spec = |more: &str| {
        format!(
            "onImmutableChange: RecreateIfEmpty\nmaxLength: 9\nbindings: [{{source: amq.topic, routingKey: ours}}]{more}"
        )
    };
    at_every_slow_write(
        &[Fault::Kill, Fault::Outage, Fault::ApiDown],
        &[
            "RabbitMq DELETE /api/queues/${VHOST}/orders",
            "RabbitMq POST /api/bindings/${VHOST}/e/amq.headers/q/orders",
            "RabbitMq POST /api/bindings/${VHOST}/e/amq.topic/q/orders",
            "RabbitMq PUT /api/queues/${VHOST}/orders",
        ],
        async |site| {
            rabbitmq(site).await;
            site.w.queue("orders", &spec("")).await;
            queue(site, "orders").await;
            let mq = site.w.mq().await;
            mq.bind("amq.topic", "orders", "theirs.*", json!({})).await;
            mq.bind("amq.headers", "orders", "", json!({"x-match": "all", "size": 5})).await;
        },
        async |site| site.w.queue("orders", &spec("\nsingleActiveConsumer: true")).await,
        async |site| {
            queue(site, "orders").await;
            let mq = site.w.mq().await;
            assert_eq!(mq.the_queue("orders").await["arguments"]["x-single-active-consumer"], true);
            assert_eq!(
                mq.bindings("orders").await,
                ["amq.headers||{\"size\":5,\"x-match\":\"all\"}", "amq.topic|ours", "amq.topic|theirs.*"]
            );
            assert_eq!(mq.the_queue("orders").await["policy"], "spillway.q.orders");
        },
    );
}

#[test]
fn settings_move_between_a_policy_and_arguments_whatever_happens_at_a_write() {
    let by = |via: &str, length: u32| {
        format!("type: classic\nonImmutableChange: RecreateIfEmpty\napplyVia: {via}\nmaxLength: {length}")
    };
    at_every_slow_write(
        &[Fault::Kill, Fault::Outage],
        &[
            "RabbitMq DELETE /api/policies/${VHOST}/spillway.q.fixed",
            "RabbitMq DELETE /api/queues/${VHOST}/fixed?if-empty=true&if-unused=true",
            "RabbitMq DELETE /api/queues/${VHOST}/freed?if-empty=true&if-unused=true",
            "RabbitMq PUT /api/policies/${VHOST}/spillway.q.freed",
            "RabbitMq PUT /api/queues/${VHOST}/fixed",
            "RabbitMq PUT /api/queues/${VHOST}/freed",
        ],
        async |site| {
            rabbitmq(site).await;
            for (name, via) in [("fixed", "Policy"), ("freed", "Arguments")] {
                site.w.queue(name, &by(via, 5)).await;
                queue(site, name).await;
            }
        },
        async |site| {
            site.w.queue("fixed", &by("Arguments", 6)).await;
            site.w.queue("freed", &by("Policy", 6)).await;
        },
        async |site| {
            queue(site, "fixed").await;
            queue(site, "freed").await;
            let mq = site.w.mq().await;
            assert_eq!(mq.policies().await, ["spillway.q.freed"]);
            // RabbitMQ tells by and by that a policy is gone.
            let fixed =
                mq.until_queue("fixed", "no policy is in force", |queue| queue["policy"].is_null()).await;
            let freed = mq.the_queue("freed").await;
            assert_eq!(fixed["arguments"]["x-max-length"], json!(6));
            assert_eq!(freed["arguments"]["x-max-length"], Value::Null);
            assert_eq!(freed["policy"], "spillway.q.freed");
            let policy = mq.policy("spillway.q.freed").await.expect("a policy");
            assert_eq!(policy["definition"], json!({"max-length": 6}));
        },
    );
}
