//! When all is as declared, nothing is written.

use std::time::Duration;

use spillway_operator::api::{Broker, Consumer, Topic};

use crate::bed::{Audit, ExtraKafka, Kafka, Workload, until_within, world};

/// Longer than the status of a Consumer may stand still while its numbers change, and many sweeps.
const WATCHED: Duration = Duration::from_secs(60);

#[test]
fn a_minute_of_steady_state_writes_nothing_but_the_lease() {
    world(async |w| {
        // On the Kafka of all tests, topics come and go, and the Broker counts them.
        let extra = ExtraKafka::start().await;
        let kafka = Kafka::connect(extra.address());
        w.broker_at(extra.address(), "resyncInterval: 5s").await;
        w.topic(
            "orders",
            "partitions: 3\ndeadLetter: {}\nretry: {delays: [10s]}\nconfig: {retention.ms: '60000'}",
        )
        .await;
        w.topic("bills", "partitions: 1\ndeletionPolicy: Delete").await;
        w.ready::<Topic>("orders").await;
        w.ready::<Topic>("bills").await;
        let workload =
            Workload::start_at(&kafka, w, "worker", 1, &w.name("group"), &w.name("orders"), 1_000).await;
        w.consumer("orders", "scaleTargetRef: {name: worker}").await;
        w.ready::<Consumer>("orders").await;
        // A status whose numbers merely moved is written once a minute.
        until_within(Duration::from_secs(75), "the numbers have settled", async || {
            let consumer: Consumer = w.get("orders").await;
            let status = consumer.status.unwrap_or_default();
            // Learned once the member has joined.
            let joined = status.learned.and_then(|learned| learned.consumers_per_replica) == Some(1);
            let settled =
                status.ready_replicas == Some(1) && status.lag.is_some_and(|lag| lag.messages == Some(0));
            if settled && joined { Ok(()) } else { Err(format!("{:?}, {joined}", status.ready_replicas)) }
        })
        .await;
        w.until("kafka", "the Broker has counted its four topics", |broker: &Broker| {
            let status = broker.status.as_ref();
            status.is_some_and(|status| (status.managed, status.in_sync) == (Some(4), Some(4)))
        })
        .await;

        let before = w.get::<Consumer>("orders").await.status;
        let audit = Audit::begin();
        tokio::time::sleep(WATCHED).await;
        let writes = audit.writes(&w.namespace, "spillway");
        let (leases, others): (Vec<_>, Vec<_>) =
            writes.into_iter().partition(|write| write.starts_with("update leases "));
        assert!((9..=16).contains(&leases.len()), "the Lease is renewed every 5 s: {leases:?}");
        let after = w.get::<Consumer>("orders").await.status;
        assert!(others.is_empty(), "{others:#?}, before {before:#?}, after {after:#?}");
        assert_eq!(workload.wanted(), [1]);
        kafka.clean(&w.prefix).await;
    });
}
