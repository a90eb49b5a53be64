//! Topics: faults at each write of each change.

use spillway_operator::api::Topic;

use super::crash::{Fault, at_every_write};
use super::{kafka, topic};
use crate::bed::until;

#[test]
fn a_topic_with_companions_is_made_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Cut, Fault::Outage],
        &["Kafka CreateTopics"],
        kafka,
        async |site| {
            site.w
                .topic(
                    "orders",
                    "partitions: 2\nconfig: {retention.ms: '60000'}\ndeletionPolicy: Delete\ndeadLetter: {}\nretry: {delays: [10s]}",
                )
                .await;
        },
        async |site| {
            for (name, partitions) in [("orders", 2), ("orders.dlq", 1), ("orders.retry.10s", 2)] {
                topic(site, name).await;
                let seen = site.w.kafka.topic(&site.w.name(name)).await.expect("a topic");
                assert_eq!(seen.partitions, partitions, "{name}");
            }
        },
    );
}

#[test]
fn a_topic_grows_and_its_configs_change_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage, Fault::ApiDown],
        &["Kafka CreatePartitions", "Kafka IncrementalAlterConfigs"],
        async |site| {
            kafka(site).await;
            site.w
                .topic("orders", "partitions: 2\nconfig: {retention.ms: '60000', segment.ms: '70000'}")
                .await;
            topic(site, "orders").await;
            site.w.kafka.produce(&site.w.name("orders"), 0, 3).await;
        },
        async |site| {
            site.w
                .topic(
                    "orders",
                    "partitions: 5\nconfig: {retention.ms: '90000', max.message.bytes: '2000000'}",
                )
                .await;
        },
        async |site| {
            topic(site, "orders").await;
            let name = site.w.name("orders");
            let seen = site.w.kafka.topic(&name).await.expect("a topic");
            assert_eq!(seen.partitions, 5);
            let config: Vec<_> =
                seen.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(config, [("max.message.bytes", "2000000"), ("retention.ms", "90000")]);
            assert_eq!(site.w.kafka.messages(&name, 0), 3);
        },
    );
}

#[test]
fn a_topic_that_is_to_be_deleted_goes_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Cut, Fault::Outage, Fault::ApiDown],
        &["Kafka DeleteTopics"],
        async |site| {
            kafka(site).await;
            site.w.topic("orders", "partitions: 2\ndeletionPolicy: Delete\ndeadLetter: {}").await;
            topic(site, "orders").await;
            site.w.kafka.produce(&site.w.name("orders.dlq"), 0, 1).await;
        },
        async |site| site.w.delete::<Topic>("orders").await,
        async |site| {
            site.w.until_gone::<Topic>("orders").await;
            site.w.until_gone::<Topic>("orders.dlq").await;
            site.w.kafka.until_gone(&site.w.name("orders")).await;
            assert_eq!(site.w.kafka.messages(&site.w.name("orders.dlq"), 0), 1);
        },
    );
}

#[test]
fn a_topic_deleted_while_it_is_made_goes_from_the_broker_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage],
        // When the deletion comes differs.
        &[],
        kafka,
        async |site| {
            site.w.topic("orders", "partitions: 1\ndeletionPolicy: Delete").await;
            // From here on nobody waits: the deletion may come before or after any step.
            until("the topic is under way", async || {
                let topic: Topic = site.w.get("orders").await;
                let held = topic.metadata.finalizers.is_some_and(|all| !all.is_empty());
                if held || site.cut.is_dead() { Ok(()) } else { Err("it is not".into()) }
            })
            .await;
            site.w.delete::<Topic>("orders").await;
        },
        async |site| {
            site.w.until_gone::<Topic>("orders").await;
            site.w.kafka.until_gone(&site.w.name("orders")).await;
        },
    );
}

#[test]
fn a_topic_is_handed_over_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage, Fault::ApiDown],
        &["Kafka CreatePartitions"],
        async |site| {
            kafka(site).await;
            site.w.topic("older", "name: ${PREFIX}orders\npartitions: 2\ndeletionPolicy: Delete").await;
            topic(site, "older").await;
            site.w.kafka.produce(&site.w.name("orders"), 0, 3).await;
            let born = site.w.get::<Topic>("older").await.metadata.creation_timestamp.expect("a time").0;
            until("a second has passed", async || {
                if jiff::Timestamp::now().duration_since(born).as_secs() >= 2 {
                    Ok(())
                } else {
                    Err("not yet".into())
                }
            })
            .await;
            site.w
                .topic(
                    "heir",
                    "name: ${PREFIX}orders\npartitions: 3\nadoption: Adopt\ndeletionPolicy: Delete",
                )
                .await;
            site.w.condition::<Topic>("heir", "Ready", "False", "Conflict").await;
        },
        async |site| site.w.delete::<Topic>("older").await,
        async |site| {
            site.w.until_gone::<Topic>("older").await;
            topic(site, "heir").await;
            let name = site.w.name("orders");
            assert_eq!(site.w.kafka.topic(&name).await.expect("a topic").partitions, 3);
            assert_eq!(site.w.kafka.messages(&name, 0), 3);
        },
    );
}
