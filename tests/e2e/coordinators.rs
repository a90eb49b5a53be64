//! Groups whose coordinator dies, or moves on while all brokers live.

use std::process::Command;
use std::time::Duration;

use spillway_operator::api::{Consumer, Topic};

use crate::bed::{Kafka, ThreeKafkas, Workload, World, until_within, world};

/// The cluster gives a broker up after 9 s (`broker.session.timeout.ms`).
const SOON: Duration = Duration::from_secs(25);

/// Three brokers, and one replica of a group that has read all there is.
async fn at_rest(w: &World) -> (ThreeKafkas, Kafka, Workload) {
    let three = ThreeKafkas::start().await;
    let kafka = Kafka::connect(&three.addresses());
    w.broker_at(&three.addresses(), "").await;
    w.topic("orders", "partitions: 3\nreplicationFactor: 3").await;
    w.ready::<Topic>("orders").await;
    let (group, topic) = (w.name("group"), w.name("orders"));
    let workload = Workload::start_at(&kafka, w, "worker", 1, &group, &topic, 20).await;
    w.consumer(
        "orders",
        "scaleTargetRef: {name: worker}\nscaling: {ratePerReplica: '20', targetDelay: 2s, tuning: {coldStart: 2s, rebalance: 500ms}}",
    )
    .await;
    w.ready::<Consumer>("orders").await;
    kafka.produce(&topic, 0, 10).await;
    kafka.until_committed(&group, &topic, 3, 10).await;
    (three, kafka, workload)
}

/// A flood is seen and scaled for.
async fn scales(w: &World, kafka: &Kafka, workload: &Workload) {
    for partition in 0..3 {
        kafka.produce(&w.name("orders"), partition, 600).await;
    }
    workload.until_wanted(3, SOON).await;
    assert_eq!(w.operator().exited(), None);
}

#[test]
fn a_group_whose_coordinator_died_for_good_is_read_from_its_next_one() {
    world(async |w| {
        let (three, kafka, workload) = at_rest(w).await;
        let dead = kafka.coordinator(&w.name("group")).expect("a coordinator");
        three.kill(dead);
        scales(w, &kafka, &workload).await;
        three.revive(dead);
        kafka.clean(&w.prefix).await;
    });
}

#[test]
fn a_group_whose_coordinator_moved_to_another_live_broker_is_read_there() {
    world(async |w| {
        let (three, kafka, workload) = at_rest(w).await;
        let group = w.name("group");
        elect(&three.addresses());
        let first = kafka.coordinator(&group).expect("a coordinator");
        three.kill(first);
        until_within(SOON, "another broker coordinates the group", async || {
            match kafka.coordinator(&group) {
                Some(other) if other != first => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        three.revive(first);
        w.ready::<Consumer>("orders").await;
        // As Kafka does by itself five minutes after a broker has come back.
        until_within(SOON, "the first broker coordinates it again", async || {
            elect(&three.addresses());
            match kafka.coordinator(&group) {
                Some(is) if is == first => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        scales(w, &kafka, &workload).await;
        kafka.clean(&w.prefix).await;
    });
}

/// Gives each partition to the broker that is to lead it.
fn elect(servers: &str) {
    let arguments = ["--bootstrap-server", servers, "--election-type", "preferred", "--all-topic-partitions"];
    let told = Command::new("kafka-leader-election").args(arguments).output().expect("the bed's tool");
    println!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
}
