//! What somebody changes at the broker by hand.

use spillway_operator::api::{Broker, Topic};

use crate::bed::{Object as _, until, world};

#[test]
fn drift_is_corrected_at_the_next_sweep() {
    world(async |w| {
        w.broker("resyncInterval: 5s").await;
        w.topic("orders", "partitions: 1\nconfig: {retention.ms: '60000'}").await;
        w.ready::<Topic>("orders").await;
        w.kafka.set_config(&w.name("orders"), &[("retention.ms", "1"), ("segment.ms", "70000")]).await;
        let seen = w
            .kafka
            .until_topic(&w.name("orders"), "has its retention again", |topic| {
                topic.config["retention.ms"] == "60000"
            })
            .await;
        assert_eq!(seen.config["segment.ms"], "70000", "a key that is not ours");
        until("the metric counts it", async || {
            match w.operator().metric("spillway_drift_corrected_total{kind=\"Topic\"}").await {
                Some(1.0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    });
}

#[test]
fn with_drift_policy_report_drift_is_only_reported() {
    world(async |w| {
        w.broker("resyncInterval: 5s\ndriftPolicy: Report").await;
        w.topic("orders", "partitions: 1\nconfig: {retention.ms: '60000'}").await;
        w.ready::<Topic>("orders").await;
        w.kafka.set_config(&w.name("orders"), &[("retention.ms", "90000")]).await;
        let topic: Topic = w.condition("orders", "InSync", "False", "Differs").await;
        assert_eq!(topic.status.expect("a status").plan, ["set retention.ms: 90000 → 60000"]);
        w.until("kafka", "the Broker counts it", |broker: &Broker| {
            broker.status.as_ref().is_some_and(|status| status.drifted == Some(1))
        })
        .await;
        assert_eq!(w.kafka.topic(&w.name("orders")).await.expect("a topic").config["retention.ms"], "90000");

        w.topic("orders", "partitions: 1\nconfig: {retention.ms: '61000'}").await;
        w.condition::<Topic>("orders", "InSync", "True", "").await;
        assert_eq!(w.kafka.topic(&w.name("orders")).await.expect("a topic").config["retention.ms"], "61000");
    });
}

#[test]
fn a_topic_that_was_deleted_by_hand_is_made_again_and_the_loss_is_told_until_it_is_acknowledged() {
    world(async |w| {
        w.broker("resyncInterval: 5s").await;
        w.topic("orders", "partitions: 2").await;
        let before: Topic = w.ready("orders").await;
        let name = w.name("orders");
        w.kafka.delete(&[&name]).await;
        w.condition::<Topic>("orders", "DataLost", "True", "Vanished").await;
        w.kafka.until_topic(&name, "is there again", |topic| topic.partitions == 2).await;
        let after: Topic = w.ready("orders").await;
        assert_ne!(before.status.expect("a status").topic_id, after.status.expect("a status").topic_id);
        let (kind, words) = w.event::<Topic>("orders", "DataLost").await;
        assert_eq!(kind, "Warning", "{words}");

        w.annotate::<Topic>("orders", "spillway.dev/acknowledge-data-loss", Some("true")).await;
        w.until("orders", "the loss is acknowledged", |topic: &Topic| {
            topic.condition("DataLost").is_none_or(|lost| lost.status == "False")
        })
        .await;
    });
}

#[test]
fn an_object_that_somebody_keeps_reverting_is_contended_and_left_alone() {
    world(async |w| {
        w.broker("resyncInterval: 5s").await;
        w.topic("orders", "partitions: 1\nconfig: {retention.ms: '60000'}").await;
        w.ready::<Topic>("orders").await;
        let name = w.name("orders");
        for revert in 1..=5 {
            w.kafka.set_config(&name, &[("retention.ms", "1000")]).await;
            let what = format!("is corrected for the {revert}. time");
            w.kafka.until_topic(&name, &what, |topic| topic.config["retention.ms"] == "60000").await;
        }
        w.kafka.set_config(&name, &[("retention.ms", "1000")]).await;
        w.until("orders", "the topic is contended", |topic: &Topic| {
            topic.conditions().iter().any(|condition| condition.reason == "Contended")
        })
        .await;
        assert_eq!(w.kafka.topic(&name).await.expect("a topic").config["retention.ms"], "1000");
    });
}
