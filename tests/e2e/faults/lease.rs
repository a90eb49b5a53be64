//! A leader that is frozen in the middle of its work, and wakes when another has taken over.

use std::time::{Duration, Instant};

use spillway_operator::api::{Queue, Topic};

use super::crash::quiet;
use super::{kafka, rabbitmq};
use crate::bed::{Fate, Request, Site, bare_world, until};

const OBJECTS: usize = 15;
const SHORT: [&str; 2] = ["--lease-seconds", "6"];

#[test]
fn a_leader_frozen_with_a_step_in_hand_writes_nothing_more_when_it_wakes() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let first = site.start_with(&SHORT).await;
        kafka(&site).await;
        rabbitmq(&site).await;
        let second = site.start_with(&SHORT).await;
        let leader = first.clone();
        site.cut.arm(&first, move |request: &Request| {
            // In the middle of many objects, each of many steps.
            if request.number == Some(25) {
                leader.signal("STOP");
            }
            Fate::Pass
        });
        for n in 0..OBJECTS {
            w.topic(&format!("t{n}"), "partitions: 1\ndeletionPolicy: Delete\ndeadLetter: {}").await;
            w.queue(
                &format!("q{n}"),
                "maxLength: 9\ndeletionPolicy: Delete\nbindings: [{source: amq.topic, routingKey: a}]",
            )
            .await;
        }
        until("the second leads", async || match second.metric("spillway_leader").await {
            Some(leads) if leads > 0.5 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        for n in 0..OBJECTS {
            w.ready::<Topic>(&format!("t{n}")).await;
            w.ready::<Queue>(&format!("q{n}")).await;
        }
        quiet(&site).await;
        // What must not be brought back by the one that wakes.
        w.delete::<Topic>("t0").await;
        w.delete::<Queue>("q0").await;
        w.until_gone::<Topic>("t0").await;
        w.until_gone::<Queue>("q0").await;
        quiet(&site).await;

        let woken = Instant::now();
        first.signal("CONT");
        let status = first.ended(Duration::from_secs(10)).await;
        assert!(!status.success(), "{status}");
        quiet(&site).await;
        assert_eq!(site.cut.writes_since(woken), [""; 0], "written by the one that woke");
        w.kafka.until_gone(&w.name("t0")).await;
        assert!(!w.mq().await.queues().await.contains(&"q0".to_owned()));
        assert_eq!(second.exited(), None);
    });
}
