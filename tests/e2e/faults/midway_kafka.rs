//! A creation that ends midway at Kafka: refused, or without an answer. What is remembered then?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use spillway_operator::api::Topic;

use super::{kafka, topic};
use crate::bed::{Fate, Kafka, Object as _, Request, Side, Site, World, bare_world, meanwhile, required};

fn creates(request: &Request) -> bool {
    request.side == Side::Kafka && request.what == "CreateTopics"
}

/// Somebody else's: left as it is, also when the object goes.
async fn left_alone(w: &World, name: &str) {
    let topic: Topic = w.condition(name, "Ready", "False", "Conflict").await;
    assert!(topic.message("Ready").contains("was there before"), "{}", topic.summary());
    w.delete::<Topic>(name).await;
    w.until_gone::<Topic>(name).await;
    let name = w.name(name);
    let seen = w.kafka.topic(&name).await.expect("it stays");
    assert_eq!((seen.partitions, seen.config.len(), w.kafka.messages(&name, 0)), (1, 0, 1));
}

#[test]
fn what_kafka_refused_to_make_is_nobodys_when_others_make_it() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        site.start().await;
        kafka(&site).await;
        let more = "adoption: Never\ndeletionPolicy: Delete";
        w.topic("orders", &format!("partitions: 2\nconfig: {{no.such.key: '1'}}\n{more}")).await;
        let refused: Topic = w.condition("orders", "Ready", "False", "BrokerRefused").await;
        assert_eq!(refused.status.expect("a status").pending, None);
        let name = w.name("orders");
        w.kafka.create(&name, 1, &[]).await;
        w.kafka.produce(&name, 0, 1).await;
        w.topic("orders", &format!("partitions: 2\n{more}")).await;
        left_alone(w, "orders").await;
    });
}

#[test]
fn what_somebody_makes_at_kafka_in_the_last_moment_is_not_adopted_under_never() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        kafka(&site).await;
        let (name, mut asked) = (w.name("orders"), 0);
        site.cut.arm(&victim, move |request| {
            // The first one only asks.
            asked += usize::from(creates(request));
            if creates(request) && asked == 2 {
                make_now(&name);
            }
            Fate::Pass
        });
        w.topic("orders", "partitions: 2\nadoption: Never\ndeletionPolicy: Delete").await;
        left_alone(w, "orders").await;
    });
}

/// Makes what the operator is about to make. A rule cannot wait for the test's own runtime.
fn make_now(name: &str) {
    meanwhile(async || {
        let kafka = Kafka::connect(&required("SPILLWAY_TEST_KAFKA"));
        kafka.create(name, 1, &[]).await;
        kafka.produce(name, 0, 1).await;
    });
}

#[test]
fn a_creation_of_which_nothing_is_heard_stays_ours() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        kafka(&site).await;
        let mut asked = 0;
        site.cut.arm(&victim, move |request| {
            asked += usize::from(creates(request));
            if creates(request) && asked == 2 { Fate::DropAfter } else { Fate::Pass }
        });
        w.topic("orders", "partitions: 2\nadoption: Never\ndeletionPolicy: Delete").await;
        topic(&site, "orders").await;
        w.delete::<Topic>("orders").await;
        w.until_gone::<Topic>("orders").await;
        w.kafka.until_gone(&w.name("orders")).await;
    });
}

#[test]
fn what_was_never_made_and_others_make_otherwise_stays_with_its_messages_under_delete() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        kafka(&site).await;
        let away = Arc::new(AtomicBool::new(true));
        let (is_away, mut asked) = (away.clone(), 0);
        site.cut.arm(&victim, move |request| {
            asked += usize::from(creates(request));
            // The first one only asks.
            let cut = creates(request) && asked > 1 && is_away.load(Ordering::Relaxed);
            if cut { Fate::DropBefore } else { Fate::Pass }
        });
        w.topic("orders", "partitions: 2\nadoption: Never\ndeletionPolicy: Delete").await;
        w.until("orders", "was about to be made", |topic: &Topic| {
            topic.status.as_ref().is_some_and(|status| status.pending.is_some())
        })
        .await;
        let name = w.name("orders");
        w.kafka.create(&name, 1, &[]).await;
        w.kafka.produce(&name, 0, 1).await;
        away.store(false, Ordering::Relaxed);
        w.annotate::<Topic>("orders", "spillway.dev/reconcile", Some("now")).await;
        left_alone(w, "orders").await;
    });
}

#[test]
fn a_crash_while_a_lost_topic_is_made_again_hides_no_loss() {
    for policy in ["Retain", "Delete"] {
        for fate in [Fate::KillBefore, Fate::KillAfter] {
            bare_world(async |w| {
                let site = Site::new(w).await;
                let victim = site.start().await;
                kafka(&site).await;
                w.topic("orders", &format!("partitions: 2\ndeletionPolicy: {policy}")).await;
                topic(&site, "orders").await;
                let (asks, mut asked) = (usize::from(policy == "Delete"), 0);
                site.cut.arm(&victim, move |request| {
                    asked += usize::from(creates(request));
                    if creates(request) && asked > asks { fate.clone() } else { Fate::Pass }
                });
                w.kafka.delete(&[&w.name("orders")]).await;
                site.cut.death().await;
                site.cut.disarm();
                site.start().await;
                w.condition::<Topic>("orders", "DataLost", "True", "").await;
                let again: Topic = w.ready("orders").await;
                assert_eq!(again.status.clone().expect("a status").pending, None, "{}", again.summary());
                w.event::<Topic>("orders", "DataLost").await;
                w.delete::<Topic>("orders").await;
                w.until_gone::<Topic>("orders").await;
                if policy == "Delete" {
                    w.kafka.until_gone(&w.name("orders")).await;
                } else {
                    let seen = w.kafka.topic(&w.name("orders")).await.expect("it stays");
                    assert_eq!(seen.partitions, 2);
                }
            });
        }
    }
}
