//! What happens to a topic when its object goes.

use std::time::Duration;

use spillway_operator::api::{Broker, Topic};

use crate::bed::{Object as _, Proxy, World, never_within, until_within, world};

#[test]
fn retain_keeps_the_topic_and_needs_no_finalizer() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1").await;
        let topic: Topic = w.ready("orders").await;
        assert_eq!(topic.metadata.finalizers.unwrap_or_default(), [""; 0]);
        w.delete::<Topic>("orders").await;
        w.until_gone::<Topic>("orders").await;
        assert!(w.kafka.topic(&w.name("orders")).await.is_some());
    });
}

#[test]
fn delete_deletes_the_topic_with_its_messages_and_keeps_its_dead_letters() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\ndeletionPolicy: Delete\ndeadLetter: {}").await;
        w.ready::<Topic>("orders").await;
        w.kafka.produce(&w.name("orders"), 0, 3).await;
        w.delete::<Topic>("orders").await;
        w.until_gone::<Topic>("orders").await;
        w.kafka.until_gone(&w.name("orders")).await;
        assert!(w.kafka.topic(&w.name("orders.dlq")).await.is_some());
    });
}

#[test]
fn delete_if_empty_keeps_a_topic_with_a_message_and_deletes_it_when_it_is_emptied() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\ndeletionPolicy: DeleteIfEmpty").await;
        w.ready::<Topic>("orders").await;
        w.kafka.produce(&w.name("orders"), 0, 1).await;
        w.delete::<Topic>("orders").await;
        let kept: Topic = w.condition("orders", "Ready", "False", "NotEmpty").await;
        assert!(kept.message("Ready").contains("1 message"), "{}", kept.summary());
        assert_eq!(w.kafka.messages(&w.name("orders"), 0), 1);

        w.kafka.empty(&w.name("orders")).await;
        w.until_gone::<Topic>("orders").await;
        w.kafka.until_gone(&w.name("orders")).await;
    });
}

/// A ready topic whose broker then goes away.
async fn topic_of_a_lost_broker(w: &World) -> Proxy {
    w.broker("").await;
    w.topic("orders", "partitions: 1\ndeletionPolicy: Delete").await;
    w.ready::<Topic>("orders").await;
    let proxy = Proxy::closed(&crate::bed::required("SPILLWAY_TEST_KAFKA"));
    w.broker_at(&proxy.address(), "").await;
    w.condition::<Broker>("kafka", "Ready", "False", "BrokerUnreachable").await;
    proxy
}

#[test]
fn while_the_broker_is_away_a_deleted_object_stays_and_says_so() {
    world(async |w| {
        let mut proxy = topic_of_a_lost_broker(w).await;
        w.delete::<Topic>("orders").await;
        let waiting: Topic = w.condition("orders", "Ready", "False", "BrokerUnreachable").await;
        assert!(waiting.metadata.deletion_timestamp.is_some());
        assert_eq!(waiting.metadata.finalizers.unwrap_or_default(), ["spillway.dev/topology"]);

        proxy.open();
        w.until_gone::<Topic>("orders").await;
        w.kafka.until_gone(&w.name("orders")).await;
    });
}

#[test]
fn force_release_lets_an_object_go_without_its_broker() {
    world(async |w| {
        let _proxy = topic_of_a_lost_broker(w).await;
        w.delete::<Topic>("orders").await;
        w.condition::<Topic>("orders", "Ready", "False", "BrokerUnreachable").await;
        w.annotate::<Topic>("orders", "spillway.dev/force-release", Some("true")).await;
        w.until_gone::<Topic>("orders").await;
        assert!(w.kafka.topic(&w.name("orders")).await.is_some());
        assert_eq!(w.operator().metric("spillway_released_total{kind=\"Topic\"}").await, Some(1.0));
    });
}

#[test]
fn a_broker_stays_while_an_object_of_it_needs_it_to_be_deleted() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\ndeletionPolicy: Delete").await;
        w.ready::<Topic>("orders").await;
        until_within(Duration::from_secs(5), "the Broker is held", async || {
            let broker: Broker = w.get("kafka").await;
            match broker.metadata.finalizers.unwrap_or_default().as_slice() {
                [one] if one == "spillway.dev/topology" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        w.delete::<Broker>("kafka").await;
        never_within(Duration::from_secs(2), "the Broker stays", async || {
            match w.api::<Broker>().get_opt("kafka").await {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        w.delete::<Topic>("orders").await;
        w.until_gone::<Topic>("orders").await;
        w.kafka.until_gone(&w.name("orders")).await;
        w.until_gone::<Broker>("kafka").await;
    });
}

#[test]
fn an_object_that_never_got_its_topic_goes_at_once() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\nconfig: {no.such.key: '1'}\ndeletionPolicy: Delete").await;
        w.condition::<Topic>("orders", "Ready", "False", "BrokerRefused").await;
        w.delete::<Topic>("orders").await;
        w.until_gone::<Topic>("orders").await;
    });
}
