//! Bindings of their own: faults at each write of each change.

use serde_json::json;
use spillway_operator::api::Binding;

use super::crash::{Fault, at_every_write};
use super::{rabbitmq, sound};
use crate::bed::Object as _;

#[test]
fn a_binding_of_its_own_is_swapped_for_another_key_and_arguments_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage, Fault::ApiDown],
        &[
            "RabbitMq DELETE /api/bindings/${VHOST}/e/amq.headers/q/target/old~OXrFaw",
            "RabbitMq POST /api/bindings/${VHOST}/e/amq.headers/q/target",
        ],
        async |site| {
            rabbitmq(site).await;
            let mq = site.w.mq().await;
            mq.declare_queue("target", json!({})).await;
            let spec = "source: amq.headers\ndestination: {queue: target}\nroutingKey: old\narguments: {x-match: all, size: 5}";
            site.w.binding("b", spec).await;
            site.w.ready::<Binding>("b").await;
            // As the old one was, but for a number; as the new one will be, but for its key.
            mq.bind("amq.headers", "target", "old", json!({"x-match": "all", "size": 6})).await;
            mq.bind("amq.headers", "target", "theirs", json!({"x-match": "any", "size": 5})).await;
        },
        async |site| {
            let spec = "source: amq.headers\ndestination: {queue: target}\nroutingKey: new\narguments: {x-match: any, size: 5}";
            site.w.binding("b", spec).await;
        },
        async |site| {
            let binding: Binding = sound(site, "b").await;
            let status = binding.status.clone().expect("a status");
            let made = status.applied.map(|applied| applied.routing_key);
            assert_eq!((made.as_deref(), status.stale.len()), (Some("new"), 0), "{}", binding.summary());
            assert_eq!(
                site.w.mq().await.bindings("target").await,
                [
                    "amq.headers|new|{\"size\":5,\"x-match\":\"any\"}",
                    "amq.headers|old|{\"size\":6,\"x-match\":\"all\"}",
                    "amq.headers|theirs|{\"size\":5,\"x-match\":\"any\"}"
                ]
            );
        },
    );
}

#[test]
fn a_binding_of_its_own_moves_to_another_queue_and_goes_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage, Fault::ApiDown],
        &[
            "RabbitMq DELETE /api/bindings/${VHOST}/e/amq.topic/q/first/goes",
            "RabbitMq DELETE /api/bindings/${VHOST}/e/amq.topic/q/first/moves",
            "RabbitMq POST /api/bindings/${VHOST}/e/amq.topic/q/second",
        ],
        async |site| {
            rabbitmq(site).await;
            let mq = site.w.mq().await;
            for queue in ["first", "second"] {
                mq.declare_queue(queue, json!({})).await;
            }
            for name in ["moves", "goes"] {
                let spec = format!("source: amq.topic\ndestination: {{queue: first}}\nroutingKey: {name}");
                site.w.binding(name, &spec).await;
                site.w.ready::<Binding>(name).await;
            }
        },
        async |site| {
            let spec = "source: amq.topic\ndestination: {queue: second}\nroutingKey: moves";
            site.w.binding("moves", spec).await;
            site.w.delete::<Binding>("goes").await;
        },
        async |site| {
            sound::<Binding>(site, "moves").await;
            site.w.until_gone::<Binding>("goes").await;
            let mq = site.w.mq().await;
            assert_eq!(mq.bindings("first").await, [""; 0]);
            assert_eq!(mq.bindings("second").await, ["amq.topic|moves"]);
        },
    );
}
