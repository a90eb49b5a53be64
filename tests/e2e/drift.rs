//! What somebody changes at the broker by hand.

use spillway_operator::api::{Broker, Topic};

use crate::bed::{Object as _, World, until, world};

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

/// How many losses of topics were counted.
async fn losses(w: &World, count: f64) {
    until("the metric counts each loss once", async || {
        match w.operator().metric("spillway_objects_vanished_total{kind=\"Topic\"}").await {
            Some(counted) if counted.to_bits() == count.to_bits() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[test]
fn a_topic_that_somebody_deleted_and_made_again_is_a_loss_whether_it_is_taken_over_or_not() {
    world(async |w| {
        // Both are gone and there again before anybody looks.
        w.broker("resyncInterval: 10m").await;
        for name in ["same", "other", "smaller"] {
            w.topic(name, "partitions: 2").await;
            w.ready::<Topic>(name).await;
        }
        w.topic("smaller", "partitions: 2\nreplicationFactor: 1").await;
        w.ready::<Topic>("smaller").await;
        for (name, partitions) in [("same", 2), ("other", 1), ("smaller", 5)] {
            let name = w.name(name);
            w.kafka.delete(&[&name]).await;
            w.kafka.until_gone(&name).await;
            w.kafka.create(&name, partitions, &[]).await;
        }
        w.broker("resyncInterval: 5s").await;
        for name in ["same", "other", "smaller"] {
            let topic: Topic = w.condition(name, "DataLost", "True", "Replaced").await;
            assert!(topic.message("DataLost").contains("another one"), "{}", topic.summary());
            w.event::<Topic>(name, "DataLost").await;
        }
        w.ready::<Topic>("same").await;
        w.condition::<Topic>("other", "Ready", "False", "ApprovalNeeded").await;
        w.condition::<Topic>("smaller", "Ready", "False", "PartitionsShrink").await;
        assert_eq!(w.kafka.topic(&w.name("other")).await.expect("a topic").partitions, 1);
        losses(w, 3.0).await;
        let other: Topic = w.get("other").await;
        let hash = other.status.and_then(|status| status.plan_hash).expect("a hash");
        w.annotate::<Topic>("other", "spillway.dev/approve-plan", Some(&hash)).await;
        w.ready::<Topic>("other").await;
        // It is still the same loss.
        losses(w, 3.0).await;
    });
}

#[test]
fn a_topic_that_vanished_and_is_not_made_again_is_a_loss_that_does_not_say_so() {
    world(async |w| {
        w.broker("resyncInterval: 5s\ndriftPolicy: Report").await;
        w.topic("orders", "partitions: 1").await;
        w.ready::<Topic>("orders").await;
        w.kafka.delete(&[&w.name("orders")]).await;
        let topic: Topic = w.condition("orders", "DataLost", "True", "Vanished").await;
        assert!(!topic.message("DataLost").contains("made again"), "{}", topic.summary());
        w.condition::<Topic>("orders", "Ready", "False", "NotFound").await;
        w.event::<Topic>("orders", "DataLost").await;
        losses(w, 1.0).await;
        assert!(w.kafka.topic(&w.name("orders")).await.is_none());
    });
}

#[test]
fn what_waits_for_an_approval_is_not_called_left_alone() {
    world(async |w| {
        w.broker("resyncInterval: 5s").await;
        for name in ["waits", "watched"] {
            w.kafka.create(&w.name(name), 1, &[]).await;
        }
        w.topic("waits", "partitions: 3").await;
        w.condition::<Topic>("waits", "Ready", "False", "ApprovalNeeded").await;
        w.topic("watched", "partitions: 3\nmanagementPolicy: Observe").await;
        w.condition::<Topic>("watched", "Ready", "False", "Differs").await;
        let series = |metric: &str, name: &str| {
            format!(
                "spillway_object_{metric}{{kind=\"Topic\",namespace=\"{}\",name=\"{name}\"}}",
                w.namespace
            )
        };
        let operator = w.operator();
        until("both are told", async || {
            let told = (
                operator.metric(&series("ready", "waits")).await,
                operator.metric(&series("left_alone", "watched")).await,
            );
            if told == (Some(0.0), Some(1.0)) { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
        assert_eq!(operator.metric(&series("left_alone", "waits")).await, None, "somebody has to approve it");
    });
}
