//! Another cluster behind the same address that is accepted: faults at each write of what follows.

use serde_json::json;
use spillway_operator::api::{Binding, Broker, Exchange, Queue, Topic};

use super::cluster::{OTHER, another_rabbitmq, restored};
use super::crash::{Fault, at_every_slow_write, quiet};
use super::{kafka, queue, rabbitmq, topic};
use crate::bed::{ExtraKafka, Kafka, meanwhile};

#[test]
fn a_rabbitmq_that_was_accepted_gets_all_of_it_again_whatever_happens_at_a_write() {
    at_every_slow_write(
        &[Fault::Kill, Fault::Outage],
        &[
            "RabbitMq POST /api/bindings/${VHOST}/e/amq.topic/q/orders",
            "RabbitMq POST /api/bindings/${VHOST}/e/events/q/orders",
            "RabbitMq PUT /api/exchanges/${VHOST}/events",
            "RabbitMq PUT /api/policies/${VHOST}/spillway.q.orders",
            "RabbitMq PUT /api/policies/${VHOST}/spillway.x.events",
            "RabbitMq PUT /api/queues/${VHOST}/orders",
        ],
        async |site| {
            rabbitmq(site).await;
            let w = site.w;
            w.queue(
                "orders",
                "maxLength: 9\ndeletionPolicy: Delete\nbindings: [{source: amq.topic, routingKey: a}]",
            )
            .await;
            w.queue("theirs", "maxLength: 9\ndeletionPolicy: Delete").await;
            w.exchange("events", "type: topic\nalternateExchange: x").await;
            queue(site, "orders").await;
            queue(site, "theirs").await;
            w.ready::<Exchange>("events").await;
            w.binding("b", "source: events\ndestination: {queue: orders}\nroutingKey: k").await;
            w.ready::<Binding>("b").await;
            quiet(site).await;
            site.cut.lastingly(another_rabbitmq);
            // Of what the other one has under the same name, nothing is ours.
            let mq = w.mq().await;
            mq.delete_queue("orders").await;
            mq.delete_exchange("events").await;
            for policy in mq.policies().await {
                mq.delete_policy(&policy).await;
            }
            mq.publish("", "theirs", "precious").await;
            w.condition::<Broker>("rabbitmq", "ClusterChanged", "True", "ClusterChanged").await;
        },
        async |site| {
            site.w.annotate::<Broker>("rabbitmq", "spillway.dev/accept-cluster", Some(OTHER)).await;
        },
        async |site| {
            let w = site.w;
            w.ready::<Broker>("rabbitmq").await;
            restored::<Queue>(site, "orders").await;
            w.ready::<Exchange>("events").await;
            w.ready::<Binding>("b").await;
            w.condition::<Queue>("theirs", "Ready", "False", "ApprovalNeeded").await;
            let mq = w.mq().await;
            mq.until_bindings("orders", &["amq.topic|a", "events|k"]).await;
            assert_eq!(mq.policies().await, ["spillway.q.orders", "spillway.x.events"]);
            assert_eq!(mq.the_queue("orders").await["policy"], "spillway.q.orders");
            assert_eq!(mq.the_queue("theirs").await["arguments"], json!({"x-queue-type": "quorum"}));
            assert_eq!(w.amqp().await.depth("theirs").await, Some((1, 0)));
        },
    );
}

#[test]
fn a_kafka_that_was_accepted_gets_all_of_it_again_whatever_happens_at_a_write() {
    let extra = meanwhile(async || ExtraKafka::start().await);
    at_every_slow_write(
        &[Fault::Kill, Fault::Outage],
        &["Kafka CreateTopics"],
        async |site| {
            kafka(site).await;
            let (w, other) = (site.w, Kafka::connect(extra.address()));
            for name in ["orders", "theirs"] {
                w.topic(name, "partitions: 2\nconfig: {retention.ms: '60000'}\ndeletionPolicy: Delete").await;
                topic(site, name).await;
            }
            quiet(site).await;
            other.create(&w.name("theirs"), 1, &[]).await;
            other.produce(&w.name("theirs"), 0, 1).await;
            site.kafka.swap(extra.address());
            w.condition::<Broker>("kafka", "ClusterChanged", "True", "ClusterChanged").await;
        },
        async |site| {
            let (id, _) = Kafka::connect(extra.address()).cluster();
            site.w.annotate::<Broker>("kafka", "spillway.dev/accept-cluster", Some(&id)).await;
        },
        async |site| {
            let (w, other) = (site.w, Kafka::connect(extra.address()));
            w.ready::<Broker>("kafka").await;
            restored::<Topic>(site, "orders").await;
            let orders = other.topic(&w.name("orders")).await.expect("a topic");
            assert_eq!((orders.partitions, orders.config["retention.ms"].as_str()), (2, "60000"));
            w.condition::<Topic>("theirs", "Ready", "False", "ApprovalNeeded").await;
            let theirs = other.topic(&w.name("theirs")).await.expect("it stays");
            assert_eq!((theirs.partitions, theirs.config.len()), (1, 0));
            assert_eq!(other.messages(&w.name("theirs"), 0), 1);
        },
    );
    let prefix = format!("e2e-{}-", std::process::id());
    meanwhile(async || Kafka::connect(extra.address()).clean(&prefix).await);
}
