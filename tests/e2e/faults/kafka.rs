//! Topics: a crash at each write of each change.

use spillway_operator::api::{Broker, Topic};

use super::crash::at_every_write;
use crate::bed::{Object as _, Site};

/// The Broker behind the proxy, ready.
async fn broker(site: &Site<'_>) {
    site.w.broker_at(&site.kafka.address(), "").await;
    site.w.ready::<Broker>("kafka").await;
}

/// Ready, in step, and with nothing that says that messages were lost.
async fn whole(site: &Site<'_>, name: &str) -> Topic {
    let topic: Topic = site.w.ready(name).await;
    let lost = topic.condition("DataLost").is_some_and(|lost| lost.status == "True");
    assert!(!lost, "{}", topic.summary());
    let status = topic.status.clone().unwrap_or_default();
    assert_eq!((status.pending, status.plan.len()), (None, 0), "{}", topic.summary());
    topic
}

#[test]
fn a_topic_with_companions_is_made_whatever_write_the_operator_dies_at() {
    at_every_write(
        broker,
        async |site| {
            site.w
                .topic(
                    "orders",
                    "partitions: 2\nconfig: {retention.ms: '60000'}\ndeletionPolicy: Delete\ndeadLetter: {}\nretry: {delays: [10s]}",
                )
                .await;
        },
        async |site| {
            whole(site, "orders").await;
            for (name, partitions) in [("orders", 2), ("orders.dlq", 1), ("orders.retry.10s", 2)] {
                whole(site, name).await;
                let seen = site.w.kafka.topic(&site.w.name(name)).await.expect("a topic");
                assert_eq!(seen.partitions, partitions, "{name}");
            }
        },
    );
}
