//! How replicas go when nobody says how: by what a wrong step down would cost.

use std::time::{Duration, Instant};

use spillway_operator::api::{Consumer, Topic};

use crate::bed::{Object as _, Workload, until_within, world};

const EACH: usize = 4_000;

#[test]
fn replicas_that_would_be_back_in_time_go_in_one_patch_and_nothing_of_the_peak_is_kept() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        let (group, topic) = (w.name("group"), w.name("orders"));
        let workload = Workload::start(w, "worker", 1, &group, &topic, 100).await;
        // Nothing but what is promised: no rate, no time to start, no way down.
        w.consumer("orders", "scaleTargetRef: {name: worker}\nscaling: {targetDelay: 30s}").await;
        w.ready::<Consumer>("orders").await;
        for partition in 0..3 {
            w.kafka.produce(&topic, partition, EACH).await;
        }
        workload.until_wanted(3, Duration::from_secs(60)).await;
        let all = i64::try_from(3 * EACH).expect("small");
        until_within(Duration::from_secs(150), "every message is processed", async || {
            let done = w.kafka.committed(&group, &topic, 3);
            if done == all { Ok(()) } else { Err(format!("{done} of {all}")) }
        })
        .await;
        let done = Instant::now();
        // Three minutes at most after the operator's start, which knows of no higher need before.
        workload.until_wanted(1, Duration::from_secs(200)).await;
        println!("one replica is wanted {:?} after the last message", done.elapsed());
        let wanted = workload.wanted();
        assert_eq!(wanted[wanted.len() - 2..], [3, 1], "in one patch: {wanted:?}");
        let consumer: Consumer = w.get("orders").await;
        assert!(consumer.condition("TargetInfeasible").is_none(), "{}", consumer.summary());
    });
}
