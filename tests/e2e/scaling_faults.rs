//! Scaling while something breaks: no wrong scale-down, and nothing scaled on what is not known.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use spillway_operator::api::{Broker, Consumer, Topic};

use crate::bed::{
    ExtraKafka, Kafka, Object as _, Operator, ThreeKafkas, Workload, World, never_within, required,
    until_within, world,
};

const QUICK: &str =
    "scaleDown: {stabilization: 5s, peakMemory: 5s}, tuning: {coldStart: 2s, rebalance: 500ms}";

async fn consumer(w: &World, scaling: &str) {
    w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\nscaling: {{{scaling}, {QUICK}}}")).await;
    w.ready::<Consumer>("orders").await;
}

/// What the operator wants stays so.
async fn stays(workload: &Workload, wanted: &[i32], time: Duration, why: &str) {
    never_within(time, why, async || match workload.wanted() {
        all if all == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Waits until a guard has left.
async fn until_over(w: &World, guard: &str) {
    let over = |consumer: &Consumer| consumer.condition(guard).is_none();
    w.until("orders", &format!("{guard} is over"), over).await;
}

async fn until_led(operator: &Operator) {
    until_within(Duration::from_secs(40), "the operator leads", async || {
        match operator.metric("spillway_leader").await {
            Some(leads) if leads > 0.5 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[test]
fn an_operator_that_dies_in_a_spike_leaves_no_wrong_down_to_its_successor() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        let workload = Workload::start(w, "worker", 1, &w.name("group"), &w.name("orders"), 20).await;
        consumer(w, "ratePerReplica: '20', targetDelay: 2s").await;
        // Work for a minute at full size.
        for partition in 0..3 {
            w.kafka.produce(&w.name("orders"), partition, 1_200).await;
        }
        workload.until_wanted(3, Duration::from_secs(15)).await;

        for operator in w.operators() {
            operator.kill();
        }
        let killed = Instant::now();
        let heir = w.start_operator().await;
        until_led(&heir).await;
        println!("the successor led {:?} after the kill", killed.elapsed());
        // It has seen no arrivals yet, and what waits becomes less: that is no reason for fewer, nor after it has looked
        // around for longer than `scaleDown` takes.
        stays(&workload, &[1, 3], Duration::from_secs(15), "the backlog is not done").await;
        workload.set_rate(5_000);
        workload.until_wanted(1, Duration::from_secs(90)).await;
        assert_eq!(w.kafka.committed(&w.name("group"), &w.name("orders"), 3), 3_600, "nothing was lost");
    });
}

#[test]
fn what_a_leader_learned_is_what_its_successor_decides_by() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        let workload = Workload::start(w, "worker", 1, &w.name("group"), &w.name("orders"), 50).await;
        // Nobody says what a replica does; one is enough to learn it.
        consumer(w, "maxReplicas: 1, targetDelay: 10s").await;
        for partition in 0..3 {
            w.kafka.produce(&w.name("orders"), partition, 150).await;
        }
        let rate = until_within(Duration::from_secs(60), "a rate is learned, and all is done", async || {
            let status = w.get::<Consumer>("orders").await.status.unwrap_or_default();
            let learned = status.learned.and_then(|learned| learned.rate_per_replica);
            let done = w.kafka.committed(&w.name("group"), &w.name("orders"), 3);
            match learned.as_ref().and_then(|rate| rate.parse::<f64>().ok()) {
                Some(rate) if (20.0..=55.0).contains(&rate) && done == 450 => Ok(rate),
                _ => Err(format!("{learned:?}, {done} of 450")),
            }
        })
        .await;
        for operator in w.operators() {
            operator.kill();
        }
        // It may have learned more, and written it, before it died.
        let last: Consumer = w.get("orders").await;
        let last = last.status.and_then(|status| status.learned).and_then(|learned| learned.rate_per_replica);
        let rate = last.and_then(|rate| rate.parse().ok()).unwrap_or(rate);
        // By what was learned, two replicas do in time what one and a quarter would have to; by a guess about a replica of
        // which nothing is known, three, after it was watched for longer than commits may be apart.
        workload.set_rate(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let each = (rate * 10.0 * 1.25 / 3.0) as usize;
        for partition in 0..3 {
            w.kafka.produce(&w.name("orders"), partition, each).await;
        }
        w.consumer(
            "orders",
            &format!("scaleTargetRef: {{name: worker}}\nscaling: {{targetDelay: 10s, {QUICK}}}"),
        )
        .await;
        let heir = w.start_operator().await;
        until_led(&heir).await;
        until_within(Duration::from_secs(10), "more replicas are wanted", async || {
            match workload.wanted().get(1) {
                Some(_) => Ok(()),
                None => Err(heir.tail()),
            }
        })
        .await;
        let log = heir.text();
        let decided: Vec<_> = log.lines().filter(|line| line.contains("decided kind=\"Consumer\"")).collect();
        let learned = format!("a replica is taken to do {rate}/s (not measured)");
        assert!(decided[0].contains(&learned), "{learned}: {decided:#?}");
        assert!(!decided.iter().any(|line| line.contains("Bootstrap")), "{decided:#?}");
        assert_eq!(workload.wanted()[..2], [1, 2], "{decided:#?}");
    });
}

#[test]
fn a_broker_that_dies_in_a_spike_changes_nothing_until_it_is_back() {
    world(async |w| {
        let extra = ExtraKafka::start().await;
        let kafka = Kafka::connect(extra.address());
        w.broker_at(extra.address(), "").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        let (group, topic) = (w.name("group"), w.name("orders"));
        let workload = Workload::start_at(&kafka, w, "worker", 1, &group, &topic, 20).await;
        consumer(w, "ratePerReplica: '20', targetDelay: 2s").await;
        for partition in 0..3 {
            kafka.produce(&topic, partition, 3_000).await;
        }
        workload.until_wanted(3, Duration::from_secs(15)).await;

        extra.kill();
        w.condition::<Consumer>("orders", "ScalingActive", "False", "Unknown").await;
        stays(&workload, &[1, 3], Duration::from_secs(8), "unknown is not zero").await;
        extra.revive();
        w.ready::<Broker>("kafka").await;
        w.condition::<Consumer>("orders", "ScalingActive", "True", "Scaling").await;
        workload.set_rate(5_000);
        workload.until_wanted(1, Duration::from_secs(120)).await;
        let wanted = workload.wanted();
        assert!(wanted == [1, 3, 1] || wanted == [1, 3, 2, 1], "{wanted:?}");
    });
}

#[test]
fn partitions_that_are_added_let_more_replicas_work() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 2").await;
        w.ready::<Topic>("orders").await;
        let workload = Workload::start(w, "worker", 1, &w.name("group"), &w.name("orders"), 10).await;
        consumer(w, "ratePerReplica: '10', targetDelay: 2s").await;
        for partition in 0..2 {
            w.kafka.produce(&w.name("orders"), partition, 900).await;
        }
        workload.until_wanted(2, Duration::from_secs(15)).await;
        stays(&workload, &[1, 2], Duration::from_secs(4), "no more can work").await;
        w.topic("orders", "partitions: 4").await;
        w.ready::<Topic>("orders").await;
        // A producer that knew the topic before looks for new partitions every five minutes only.
        let fresh = Kafka::connect(&required("SPILLWAY_TEST_KAFKA"));
        for partition in 2..4 {
            fresh.produce(&w.name("orders"), partition, 900).await;
        }
        workload.until_wanted(4, Duration::from_secs(40)).await;
        let wanted = workload.wanted();
        assert!(wanted.is_sorted(), "the new partitions took replicas away: {wanted:?}");
        let consumer: Consumer = w.get("orders").await;
        assert_eq!(consumer.status.and_then(|status| status.cap), Some(4));
    });
}

#[test]
fn a_pod_that_no_node_takes_is_no_reason_for_fewer_and_is_named() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        let workload = Workload::start(w, "worker", 1, &w.name("group"), &w.name("orders"), 20).await;
        consumer(w, "ratePerReplica: '20', targetDelay: 2s").await;
        // New pods want what no node has; the one that runs stays.
        let deployments: Api<Deployment> = Api::namespaced(w.client.clone(), &w.namespace);
        let greedy = json!({"spec": {
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "900"}}}]}},
        }});
        deployments
            .patch("worker", &PatchParams::default(), &Patch::Strategic(greedy))
            .await
            .expect("patched");
        for partition in 0..3 {
            w.kafka.produce(&w.name("orders"), partition, 600).await;
        }
        let consumer: Consumer = w.condition("orders", "PodsNotReady", "True", "").await;
        assert!(consumer.message("PodsNotReady").contains("not ready for"), "{}", consumer.summary());
        // The backlog is done by those that run, in half a minute at least.
        never_within(Duration::from_secs(8), "fewer replicas than were wanted", async || {
            let wanted = workload.wanted();
            if wanted.len() > 1 && wanted.is_sorted() { Ok(()) } else { Err(format!("{wanted:?}")) }
        })
        .await;
        // The pods are made such that the node takes them.
        let modest =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "resources": null}]}}}});
        deployments
            .patch("worker", &PatchParams::default(), &Patch::Strategic(modest))
            .await
            .expect("patched");
        until_over(w, "PodsNotReady").await;
    });
}

#[test]
fn a_partition_without_a_leader_is_not_one_without_work() {
    world(async |w| {
        let three = ThreeKafkas::start().await;
        let kafka = Kafka::connect(&three.addresses());
        w.broker_at(&three.addresses(), "").await;
        w.topic("orders", "partitions: 3\nreplicationFactor: 1").await;
        w.ready::<Topic>("orders").await;
        let (group, topic) = (w.name("group"), w.name("orders"));
        let workload = Workload::start_at(&kafka, w, "worker", 1, &group, &topic, 20).await;
        consumer(w, "ratePerReplica: '20', targetDelay: 2s").await;
        for partition in 0..3 {
            kafka.produce(&topic, partition, 600).await;
        }
        workload.until_wanted(3, Duration::from_secs(20)).await;

        // Two thirds of the work may be done, the last third nobody can tell of.
        let leader = kafka.leader(&topic, 0).expect("a leader");
        three.kill(leader);
        workload.set_rate(5_000);
        let wanted = workload.wanted();
        w.condition::<Consumer>("orders", "PartialData", "True", "").await;
        stays(&workload, &wanted, Duration::from_secs(12), "a third of it is not known").await;
        // The operator, too, may have to find another controller first, and know nothing meanwhile.
        w.until("orders", "it says that none lowers", |partial: &Consumer| {
            partial.message("ScalingActive").contains("none lowers")
        })
        .await;
        three.revive(leader);
        until_within(Duration::from_secs(90), "all is consumed", async || {
            match kafka.committed(&group, &topic, 3) {
                1_800 => Ok(()),
                done => Err(format!("{done}")),
            }
        })
        .await;
        until_over(w, "PartialData").await;
        workload.until_wanted(1, Duration::from_secs(120)).await;
    });
}
