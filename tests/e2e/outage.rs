//! A broker that dies and lives again, and one that is not the one it was.

use spillway_operator::api::{Broker, Consumer, Topic};

use crate::bed::{ExtraKafka, Kafka, Object as _, ThreeKafkas, Workload, until, world};

#[test]
fn what_was_edited_while_the_broker_was_dead_is_done_when_it_lives_again() {
    world(async |w| {
        let extra = ExtraKafka::start().await;
        let kafka = Kafka::connect(extra.address());
        w.broker_at(extra.address(), "resyncInterval: 5s").await;
        w.ready::<Broker>("kafka").await;
        w.topic("orders", "partitions: 1\ndeletionPolicy: Delete").await;
        w.ready::<Topic>("orders").await;

        extra.kill();
        w.condition::<Broker>("kafka", "Ready", "False", "BrokerUnreachable").await;
        w.topic("orders", "partitions: 2\ndeletionPolicy: Delete").await;
        w.topic("bills", "partitions: 1\ndeletionPolicy: Delete").await;
        w.condition::<Topic>("orders", "Ready", "False", "BrokerUnreachable").await;
        w.condition::<Topic>("bills", "Ready", "False", "BrokerUnreachable").await;

        extra.revive();
        let orders: Topic = w.ready("orders").await;
        w.ready::<Topic>("bills").await;
        assert!(
            orders.condition("DataLost").is_none_or(|lost| lost.status == "False"),
            "{}",
            orders.summary()
        );
        assert_eq!(kafka.topic(&w.name("orders")).await.expect("a topic").partitions, 2);
        kafka.clean(&w.prefix).await;
    });
}

#[test]
fn another_cluster_behind_a_broker_stops_all_writes_until_it_is_accepted() {
    world(async |w| {
        let extra = ExtraKafka::start().await;
        let other = Kafka::connect(extra.address());
        w.broker("").await;
        w.topic("orders", "partitions: 1").await;
        w.ready::<Topic>("orders").await;

        w.broker_at(extra.address(), "resyncInterval: 5s").await;
        let broker: Broker = w.condition("kafka", "ClusterChanged", "True", "ClusterChanged").await;
        let (id, _) = other.cluster();
        assert!(broker.message("ClusterChanged").contains(&id), "{}", broker.summary());
        w.topic("bills", "partitions: 1").await;
        w.condition::<Topic>("bills", "Ready", "False", "ClusterChanged").await;
        assert!(other.topic(&w.name("bills")).await.is_none());
        assert!(other.topic(&w.name("orders")).await.is_none());

        w.annotate::<Broker>("kafka", "spillway.dev/accept-cluster", Some(&id)).await;
        w.ready::<Broker>("kafka").await;
        w.ready::<Topic>("bills").await;
        assert!(other.topic(&w.name("bills")).await.is_some());
        other.clean(&w.prefix).await;
    });
}

#[test]
fn a_group_is_read_again_after_each_restart_of_its_coordinator() {
    world(async |w| {
        let extra = ExtraKafka::start().await;
        let kafka = Kafka::connect(extra.address());
        w.broker_at(extra.address(), "resyncInterval: 5s").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        let group = w.name("group");
        let workload = Workload::start_at(&kafka, w, "worker", 1, &group, &w.name("orders"), 1_000).await;
        w.consumer("orders", "scaleTargetRef: {name: worker}\nscaling: {tuning: {pollInterval: 500ms}}")
            .await;
        for restart in 1..=3 {
            let before = kafka.committed(&group, &w.name("orders"), 3);
            kafka.produce(&w.name("orders"), 0, 10).await;
            let what = format!("before restart {restart}, the group has read all");
            until(&what, async || match kafka.committed(&group, &w.name("orders"), 3) {
                now if now == before + 10 => Ok(()),
                now => Err(format!("{now} of {}", before + 10)),
            })
            .await;
            w.ready::<Consumer>("orders").await;
            extra.kill();
            w.condition::<Consumer>("orders", "Ready", "False", "BrokerUnreachable").await;
            extra.revive();
            w.ready::<Consumer>("orders").await;
            assert_eq!(w.operator().exited(), None);
        }
        assert_eq!(workload.wanted(), [1]);
        kafka.clean(&w.prefix).await;
    });
}

#[test]
fn topics_change_while_each_broker_and_with_one_of_them_the_controller_dies() {
    world(async |w| {
        let three = ThreeKafkas::start().await;
        let kafka = Kafka::connect(&three.addresses());
        w.broker_at(&three.addresses(), "resyncInterval: 5s").await;
        w.ready::<Broker>("kafka").await;
        w.topic("orders", "partitions: 1\nreplicationFactor: 3").await;
        w.ready::<Topic>("orders").await;
        kafka.produce(&w.name("orders"), 0, 5).await;
        for node in 1..=3 {
            three.kill(node);
            w.topic("orders", &format!("partitions: {}\nreplicationFactor: 3", 1 + node)).await;
            w.topic(&format!("bills-{node}"), "partitions: 1\nreplicationFactor: 2").await;
            w.ready::<Topic>("orders").await;
            w.ready::<Topic>(&format!("bills-{node}")).await;
            three.revive(node);
            w.ready::<Broker>("kafka").await;
        }
        // The bills were made a moment before the broker that was asked for them was another one.
        for name in ["orders", "bills-1", "bills-2", "bills-3"] {
            let topic: Topic = w.get(name).await;
            let lost = topic.condition("DataLost").is_some_and(|lost| lost.status == "True");
            assert!(!lost, "{}", topic.summary());
        }
        assert_eq!(kafka.topic(&w.name("orders")).await.expect("a topic").partitions, 4);
        assert_eq!(kafka.messages(&w.name("orders"), 0), 5);
        kafka.clean(&w.prefix).await;
    });
}
