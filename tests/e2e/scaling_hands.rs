//! Scaling while people do what people do: offsets reset, groups deleted, topics made anew, roll-outs, bad images,
//! `kubectl scale`. None makes a wrong scale-down, and work that is left is done.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use spillway_operator::api::{Consumer, Topic};

use crate::bed::{Kafka, Object as _, Workload, World, never_within, required, until_within, world};

const QUICK: &str =
    "scaleDown: {stabilization: 5s, peakMemory: 5s}, tuning: {coldStart: 2s, rebalance: 500ms}";
/// Messages in each partition, and how many a member does in a second: work for 30 seconds at full size.
const EACH: usize = 600;
const RATE: u64 = 20;
/// Members that have nothing to wait for.
const FAST: u64 = 5_000;

/// Three partitions, one member at [`RATE`], and a Consumer that may have three.
async fn shop(w: &World) -> Workload {
    w.broker("").await;
    w.topic("orders", "partitions: 3").await;
    w.ready::<Topic>("orders").await;
    let workload = group(w, 1).await;
    let scaling = format!("scaling: {{ratePerReplica: '{RATE}', targetDelay: 2s, {QUICK}}}");
    w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\n{scaling}")).await;
    w.ready::<Consumer>("orders").await;
    workload
}

/// The group's members, one for each ready pod of so many.
async fn group(w: &World, pods: i32) -> Workload {
    Workload::start(w, "worker", pods, &w.name("group"), &w.name("orders"), RATE).await
}

async fn flood(w: &World) {
    let topic = w.name("orders");
    futures::future::join_all((0..3).map(|partition| w.kafka.produce(&topic, partition, EACH))).await;
}

/// The operator does not want fewer replicas than now.
async fn never_fewer(workload: &Workload, time: Duration, why: &str) {
    let begun = workload.wanted().len();
    never_within(time, why, async || {
        let now = workload.wanted();
        let added = &now[begun.saturating_sub(1)..];
        if added.is_sorted() { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

async fn until_done(w: &World, messages: usize) {
    let messages = i64::try_from(messages).expect("some thousands");
    until_within(Duration::from_secs(60), "all is consumed", async || {
        match w.kafka.committed(&w.name("group"), &w.name("orders"), 3) {
            done if done == messages => Ok(()),
            done => Err(format!("{done} of {messages}")),
        }
    })
    .await;
}

async fn patch(w: &World, change: Value) {
    let deployments: Api<Deployment> = Api::namespaced(w.client.clone(), &w.namespace);
    deployments.patch("worker", &PatchParams::default(), &Patch::Strategic(change)).await.expect("patched");
}

#[test]
fn offsets_that_are_reset_to_the_beginning_are_work_again() {
    world(async |w| {
        let workload = shop(w).await;
        workload.set_rate(FAST);
        flood(w).await;
        until_done(w, 3 * EACH).await;
        workload.until_wanted(1, Duration::from_secs(60)).await;
        // Kafka takes a reset only while nobody is in the group.
        let rested = workload.wanted().len();
        workload.set_away(true);
        w.kafka.reset_to_the_beginning(&w.name("group"), &w.name("orders"), 3).await;
        workload.set_rate(RATE);
        workload.set_away(false);
        workload.until_wanted(3, Duration::from_secs(30)).await;
        never_fewer(&workload, Duration::from_secs(6), "half of it is not done yet").await;
        let since = workload.wanted()[rested - 1..].to_vec();
        assert!(since.is_sorted(), "fewer were wanted on the way: {since:?}");
        workload.set_rate(FAST);
        until_done(w, 3 * EACH).await;
        workload.until_wanted(1, Duration::from_secs(90)).await;
    });
}

#[test]
fn a_group_that_is_deleted_in_a_spike_is_not_one_that_has_nothing_to_do() {
    world(async |w| {
        let workload = shop(w).await;
        flood(w).await;
        workload.until_wanted(3, Duration::from_secs(15)).await;
        let spike = workload.wanted().len();
        workload.set_away(true);
        w.kafka.delete_group(&w.name("group")).await;
        // Longer than a stabilization: nobody commits, and all of it waits.
        never_fewer(&workload, Duration::from_secs(8), "the group is gone, and not what it has to do").await;
        workload.set_away(false);
        never_fewer(&workload, Duration::from_secs(8), "all of it is to be done again").await;
        let since = workload.wanted()[spike - 1..].to_vec();
        assert_eq!(since, [3], "fewer were wanted on the way");
        workload.set_rate(FAST);
        until_done(w, 3 * EACH).await;
        workload.until_wanted(1, Duration::from_secs(90)).await;
    });
}

#[test]
fn a_topic_that_is_made_anew_in_a_spike_is_scaled_on_again() {
    world(async |w| {
        let workload = shop(w).await;
        flood(w).await;
        workload.until_wanted(3, Duration::from_secs(15)).await;
        w.kafka.delete(&[&w.name("orders")]).await;
        w.condition::<Topic>("orders", "DataLost", "True", "").await;
        // The loss is told before the topic is made again, and the stabilization (5 s) begins after that.
        never_fewer(&workload, Duration::from_secs(3), "what is missing, or new, is not known to need fewer")
            .await;
        assert_eq!(workload.wanted(), [1, 3]);
        // What was to be done is gone with the topic.
        workload.until_wanted(1, Duration::from_secs(90)).await;
        w.kafka.until_topic(&w.name("orders"), "has its partitions", |topic| topic.partitions == 3).await;
        // A producer that knew the topic before may not know the new one yet.
        let fresh = Kafka::connect(&required("SPILLWAY_TEST_KAFKA"));
        for partition in 0..3 {
            fresh.produce(&w.name("orders"), partition, EACH).await;
        }
        workload.until_wanted(3, Duration::from_secs(60)).await;
    });
}

#[test]
fn a_roll_out_in_a_spike_is_no_reason_for_fewer() {
    world(async |w| {
        let workload = shop(w).await;
        flood(w).await;
        workload.until_wanted(3, Duration::from_secs(15)).await;
        patch(w, json!({"spec": {"template": {"metadata": {"annotations": {"revision": "2"}}}}})).await;
        never_fewer(&workload, Duration::from_secs(12), "the backlog is not done").await;
        workload.set_rate(FAST);
        until_done(w, 3 * EACH).await;
        workload.until_wanted(1, Duration::from_secs(90)).await;
    });
}

#[test]
fn pods_that_crash_in_a_loop_are_neither_capacity_nor_a_reason_for_fewer() {
    world(async |w| {
        let workload = shop(w).await;
        // The pod that runs stays until a new one is ready, which none will be.
        patch(
            w,
            json!({"spec": {
                "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "template": {"spec": {"containers": [{"name": "main", "command": ["/there-is-no-such-file"]}]}},
            }}),
        )
        .await;
        flood(w).await;
        until_within(Duration::from_secs(20), "more replicas are wanted", async || {
            match workload.wanted_now() {
                Some(2..) => Ok(()),
                _ => Err(format!("{:?}", workload.wanted())),
            }
        })
        .await;
        never_fewer(&workload, Duration::from_secs(15), "the backlog is not done").await;
        // The image is mended.
        patch(
            w,
            json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "command": null}]}}}}),
        )
        .await;
        workload.set_rate(FAST);
        until_done(w, 3 * EACH).await;
        workload.until_wanted(1, Duration::from_secs(120)).await;
    });
}

#[test]
fn what_a_person_scales_by_hand_in_a_spike_is_put_right_and_a_fight_is_named() {
    world(async |w| {
        let workload = shop(w).await;
        flood(w).await;
        workload.until_wanted(3, Duration::from_secs(15)).await;
        patch(w, json!({"spec": {"replicas": 1}})).await;
        let ups = format!(
            "spillway_scale_patches_total{{namespace=\"{}\",name=\"orders\",direction=\"up\"}}",
            w.namespace
        );
        until_within(Duration::from_secs(10), "the person's write is seen", async || {
            // On a busy machine, a watch that begins anew shows nothing of what was put right meanwhile.
            let (wanted, ups) = (workload.wanted(), w.operator().metric(&ups).await.unwrap_or_default());
            let seen = wanted.starts_with(&[1, 3, 1]) || ups > 1.5;
            if seen { Ok(()) } else { Err(format!("{wanted:?}, {ups} patches up")) }
        })
        .await;
        workload.until_wanted(3, Duration::from_secs(20)).await;
        // Who does it again and again is not fought.
        for _ in 0..2 {
            let before = workload.wanted().len();
            patch(w, json!({"spec": {"replicas": 2}})).await;
            until_within(Duration::from_secs(20), "it is put right, or named", async || {
                let consumer: Consumer = w.get("orders").await;
                let named = consumer.condition("ScaleConflict").is_some_and(|is| is.status == "True");
                let since = workload.wanted().split_off(before);
                if named || since == [2, 3] { Ok(()) } else { Err(format!("{since:?}")) }
            })
            .await;
        }
        w.condition::<Consumer>("orders", "ScaleConflict", "True", "").await;
        let before = workload.wanted();
        patch(w, json!({"spec": {"replicas": 2}})).await;
        never_within(Duration::from_secs(5), "two write against each other", async || {
            let wanted = workload.wanted();
            let foreign = [2];
            match &wanted[before.len()..] {
                [] => Ok(()),
                more if more == foreign => Ok(()),
                _ => Err(format!("{wanted:?}")),
            }
        })
        .await;
    });
}
