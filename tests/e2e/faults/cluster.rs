//! Another cluster, or the same one emptied, behind the same address.

use std::time::Duration;

use serde_json::json;
use spillway_operator::api::{Binding, Broker, Exchange, Queue, Topic};

use super::crash::{quiet, quiet_for};
use super::{kafka, queue, rabbitmq, topic};
use crate::bed::{ExtraKafka, Fate, Kafka, Object as _, Request, Site, bare_world};

pub const OTHER: &str = "rabbitmq-cluster-id-of-another";

/// Says of a RabbitMQ that it is another one.
pub fn another_rabbitmq(request: &Request) -> Fate {
    if !request.what.contains("/global-parameters/internal_cluster_id") {
        return Fate::Pass;
    }
    let id = json!({"name": "internal_cluster_id", "value": OTHER});
    Fate::Answer(200, vec![], id.to_string())
}

/// Ready, with the loss said.
pub async fn restored<K: crate::bed::Object>(site: &Site<'_>, name: &str) {
    site.w.ready::<K>(name).await;
    let lost: K = site.w.condition(name, "DataLost", "True", "").await;
    assert!(lost.message("DataLost").contains("acknowledge"), "{}", lost.summary());
}

#[test]
fn a_rabbitmq_that_was_wiped_is_left_alone_until_it_is_accepted_and_then_restored() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let operator = site.start().await;
        rabbitmq(&site).await;
        w.queue("orders", "maxLength: 9\nbindings: [{source: amq.topic, routingKey: a}]").await;
        queue(&site, "orders").await;
        w.queue("doomed", "deletionPolicy: Delete").await;
        queue(&site, "doomed").await;
        w.queue("theirs", "maxLength: 9").await;
        queue(&site, "theirs").await;
        w.exchange("events", "type: topic\nalternateExchange: x").await;
        w.ready::<Exchange>("events").await;
        w.binding("b", "source: amq.topic\ndestination: {queue: doomed}\nroutingKey: k").await;
        w.ready::<Binding>("b").await;
        quiet(&site).await;

        site.cut.arm(&operator, another_rabbitmq);
        // A wiped node has none of them; what the other one has under the same names is not ours.
        let mq = w.mq().await;
        mq.delete_queue("orders").await;
        for name in ["q.orders", "q.theirs", "x.events"] {
            mq.delete_policy(&format!("spillway.{name}")).await;
        }
        let broker: Broker = w.condition("rabbitmq", "ClusterChanged", "True", "ClusterChanged").await;
        assert!(broker.message("ClusterChanged").contains(OTHER), "{}", broker.summary());
        w.queue("fresh", "").await;
        w.condition::<Queue>("fresh", "Ready", "False", "ClusterChanged").await;
        w.delete::<Queue>("doomed").await;
        w.condition::<Queue>("doomed", "Ready", "False", "ClusterChanged").await;
        quiet(&site).await;
        let wrote: Vec<_> =
            site.cut.writes().into_iter().filter(|write| !write.starts_with("Kubernetes")).collect();
        assert!(wrote.is_empty(), "{wrote:?}");
        assert_eq!(mq.queues().await, ["doomed", "theirs"]);

        w.annotate::<Broker>("rabbitmq", "spillway.dev/accept-cluster", Some(OTHER)).await;
        w.ready::<Broker>("rabbitmq").await;
        restored::<Queue>(&site, "orders").await;
        queue(&site, "fresh").await;
        w.until_gone::<Queue>("doomed").await;
        w.condition::<Queue>("theirs", "Ready", "False", "ApprovalNeeded").await;
        w.condition::<Exchange>("events", "Ready", "False", "ApprovalNeeded").await;
        w.delete::<Queue>("theirs").await;
        w.until_gone::<Queue>("theirs").await;
        // The binding is identical, and adopted; then it is ours to delete.
        w.ready::<Binding>("b").await;
        w.delete::<Binding>("b").await;
        w.until_gone::<Binding>("b").await;
        assert_eq!(mq.queues().await, ["doomed", "fresh", "orders", "theirs"]);
        assert_eq!(mq.bindings("doomed").await, [""; 0]);
        assert_eq!(mq.bindings("orders").await, ["amq.topic|a"]);
        assert_eq!(mq.policies().await, ["spillway.q.orders"]);
        w.annotate::<Queue>("orders", "spillway.dev/acknowledge-data-loss", Some("true")).await;
        w.until("orders", "the loss is acknowledged", |queue: &Queue| {
            queue.condition("DataLost").is_none_or(|lost| lost.status == "False")
        })
        .await;
    });
}

#[test]
fn a_rabbitmq_that_was_switched_between_two_looks_loses_and_gains_nothing() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let operator = site.start().await;
        w.rabbit_at(&site.rabbitmq.url(), "resyncInterval: 10m").await;
        w.ready::<Broker>("rabbitmq").await;
        w.exchange("events", "type: topic\ndeletionPolicy: Delete").await;
        w.ready::<Exchange>("events").await;
        for name in ["orders", "bills"] {
            w.queue(name, "maxLength: 9\ndeletionPolicy: Delete").await;
            queue(&site, name).await;
        }
        w.queue("missed", "deletionPolicy: Delete").await;
        queue(&site, "missed").await;
        w.binding("b", "source: amq.topic\ndestination: {queue: orders}\nroutingKey: k").await;
        w.ready::<Binding>("b").await;
        // Longer than the operator goes by the cluster's last word on who it is.
        quiet_for(&site, Duration::from_millis(1_200)).await;

        site.cut.arm(&operator, another_rabbitmq);
        // The other one does not have this queue, which is no word about our own.
        let mq = w.mq().await;
        mq.delete_queue("missed").await;
        w.queue("bills", "maxLength: 8\ndeletionPolicy: Delete").await;
        for name in ["orders", "missed"] {
            w.delete::<Queue>(name).await;
        }
        w.delete::<Exchange>("events").await;
        w.delete::<Binding>("b").await;
        for name in ["orders", "bills", "missed"] {
            w.condition::<Queue>(name, "Ready", "False", "ClusterChanged").await;
        }
        w.condition::<Exchange>("events", "Ready", "False", "ClusterChanged").await;
        w.condition::<Binding>("b", "Ready", "False", "ClusterChanged").await;
        quiet(&site).await;
        let wrote: Vec<_> =
            site.cut.writes().into_iter().filter(|write| !write.starts_with("Kubernetes")).collect();
        assert!(wrote.is_empty(), "{wrote:?}");
        assert_eq!(mq.queues().await, ["bills", "orders"]);
        assert_eq!(mq.bindings("orders").await, ["amq.topic|k"]);
    });
}

#[test]
fn a_kafka_that_was_swapped_is_left_alone_until_it_is_accepted_and_then_restored() {
    bare_world(async |w| {
        let extra = ExtraKafka::start().await;
        let other = Kafka::connect(extra.address());
        let site = Site::new(w).await;
        let operator = site.start().await;
        kafka(&site).await;
        w.topic("orders", "partitions: 2\nconfig: {retention.ms: '60000'}").await;
        topic(&site, "orders").await;
        w.topic("theirs", "partitions: 2\nconfig: {retention.ms: '60000'}\ndeletionPolicy: Delete").await;
        topic(&site, "theirs").await;
        quiet(&site).await;
        // What the other one has under the same name is not ours.
        other.create(&w.name("theirs"), 1, &[]).await;
        other.produce(&w.name("theirs"), 0, 1).await;

        site.cut.arm(&operator, |_: &Request| Fate::Pass);
        site.kafka.swap(extra.address());
        w.condition::<Broker>("kafka", "ClusterChanged", "True", "ClusterChanged").await;
        w.topic("orders", "partitions: 3\nconfig: {retention.ms: '60000'}").await;
        w.condition::<Topic>("orders", "Ready", "False", "ClusterChanged").await;
        quiet(&site).await;
        let wrote: Vec<_> =
            site.cut.writes().into_iter().filter(|write| !write.starts_with("Kubernetes")).collect();
        assert!(wrote.is_empty(), "{wrote:?}");
        assert!(other.topic(&w.name("orders")).await.is_none());

        let (id, _) = other.cluster();
        w.annotate::<Broker>("kafka", "spillway.dev/accept-cluster", Some(&id)).await;
        w.ready::<Broker>("kafka").await;
        restored::<Topic>(&site, "orders").await;
        assert_eq!(other.topic(&w.name("orders")).await.expect("a topic").partitions, 3);
        assert_eq!(w.kafka.topic(&w.name("orders")).await.expect("the old one").partitions, 2);
        w.condition::<Topic>("theirs", "Ready", "False", "ApprovalNeeded").await;
        w.delete::<Topic>("theirs").await;
        w.until_gone::<Topic>("theirs").await;
        let theirs = other.topic(&w.name("theirs")).await.expect("it stays");
        assert_eq!((theirs.partitions, theirs.config.len()), (1, 0));
        assert_eq!(other.messages(&w.name("theirs"), 0), 1);
        other.clean(&w.prefix).await;
    });
}
