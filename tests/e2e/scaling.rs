//! Scaling: real lag, real pods, a group that the test forms.

use std::time::{Duration, Instant};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::DeleteParams;
use spillway_operator::api::{Consumer, Topic};

use crate::bed::{Audit, Object as _, Workload, World, never_within, until_within, world};

/// Quick to go down, and honest about how fast the test's pods come.
const QUICK: &str =
    "scaleDown: {stabilization: 5s, peakMemory: 5s}, tuning: {coldStart: 2s, rebalance: 500ms}";

/// Three partitions, and a Deployment `worker` whose members do `rate` messages a second.
async fn shop(w: &World, replicas: i32, rate: u64) -> Workload {
    w.broker("").await;
    w.topic("orders", "partitions: 3").await;
    w.ready::<Topic>("orders").await;
    Workload::start(w, "worker", replicas, &w.name("group"), &w.name("orders"), rate).await
}

async fn scaled(w: &World, scaling: &str) -> Consumer {
    w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\nscaling: {{{scaling}, {QUICK}}}")).await;
    w.ready("orders").await
}

async fn flood(w: &World, each: usize) {
    for partition in 0..3 {
        w.kafka.produce(&w.name("orders"), partition, each).await;
    }
}

#[test]
fn a_flood_takes_one_patch_to_as_many_replicas_as_partitions_and_back_when_it_is_over() {
    world(async |w| {
        let workload = shop(w, 1, 50).await;
        scaled(w, "ratePerReplica: '50', targetDelay: 2s").await;
        workload.until_wanted(1, Duration::from_secs(5)).await;

        let audit = Audit::begin();
        flood(w, 600).await;
        let flooded = Instant::now();
        workload.until_wanted(3, Duration::from_secs(10)).await;
        println!("3 replicas wanted {:?} after the flood", flooded.elapsed());
        assert_eq!(workload.wanted(), [1, 3], "in one patch");
        let consumer: Consumer = w
            .until("orders", "the status explains the decision", |consumer: &Consumer| {
                let status = consumer.status.as_ref();
                let decision = status.and_then(|status| status.decision.as_ref());
                status.is_some_and(|status| status.desired_replicas == Some(3))
                    && decision.is_some_and(|decision| decision.replicas == 3 && !decision.message.is_empty())
            })
            .await;
        assert_eq!(consumer.status.expect("a status").cap, Some(3));

        never_within(Duration::from_secs(8), "more replicas than partitions", async || {
            match workload.wanted().iter().max() {
                Some(3) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let patches: Vec<_> = audit
            .writes(&w.namespace, "spillway")
            .into_iter()
            .filter(|write| write.contains("deployments/scale"))
            .collect();
        assert_eq!(patches, ["patch deployments/scale worker"]);

        workload.set_rate(5_000);
        workload.until_wanted(1, Duration::from_secs(90)).await;
        let wanted = workload.wanted();
        assert!(wanted == [1, 3, 1] || wanted == [1, 3, 2, 1], "{wanted:?}");
        assert_eq!(
            w.kafka.committed(&w.name("group"), &w.name("orders"), 3),
            1_800,
            "every message was processed"
        );
    });
}

#[test]
fn a_dry_run_decides_and_never_patches() {
    world(async |w| {
        let workload = shop(w, 1, 20).await;
        scaled(w, "mode: DryRun, ratePerReplica: '20', targetDelay: 2s").await;
        let audit = Audit::begin();
        flood(w, 300).await;
        w.until("orders", "three replicas would be right", |consumer: &Consumer| {
            consumer.status.as_ref().is_some_and(|status| status.desired_replicas == Some(3))
        })
        .await;
        w.condition::<Consumer>("orders", "ScalingActive", "False", "DryRun").await;
        assert_eq!(workload.wanted(), [1]);
        let writes = audit.writes(&w.namespace, "spillway");
        assert!(!writes.iter().any(|write| write.contains("deployments")), "{writes:?}");
    });
}

#[test]
fn a_maximum_of_two_is_never_passed() {
    world(async |w| {
        let workload = shop(w, 1, 20).await;
        scaled(w, "maxReplicas: 2, ratePerReplica: '20', targetDelay: 2s").await;
        flood(w, 300).await;
        workload.until_wanted(2, Duration::from_secs(15)).await;
        let consumer: Consumer = w
            .until("orders", "the decision is bound by the maximum", |consumer: &Consumer| {
                let decision = consumer.status.as_ref().and_then(|status| status.decision.as_ref());
                decision.is_some_and(|decision| decision.replicas == 2)
            })
            .await;
        let decision = consumer.status.and_then(|status| status.decision).expect("a decision");
        assert_eq!(decision.bound, "Max", "{decision:?}");
        assert_eq!(workload.wanted(), [1, 2]);
    });
}

#[test]
fn an_idle_consumer_goes_to_zero_and_wakes_at_the_first_message() {
    world(async |w| {
        let workload = shop(w, 1, 100).await;
        scaled(w, "minReplicas: 0, idle: {after: 3s}").await;
        w.kafka.produce(&w.name("orders"), 0, 1).await;
        workload.until_wanted(0, Duration::from_secs(60)).await;
        w.kafka.produce(&w.name("orders"), 1, 1).await;
        let sent = Instant::now();
        workload.until_wanted(1, Duration::from_secs(10)).await;
        println!("woken {:?} after the first message", sent.elapsed());
        until_within(Duration::from_secs(60), "the message is processed", async || {
            let committed = w.kafka.committed(&w.name("group"), &w.name("orders"), 3);
            if committed == 2 { Ok(()) } else { Err(format!("{committed} are")) }
        })
        .await;
    });
}

#[test]
fn while_the_broker_tells_nothing_the_replicas_stay() {
    world(async |w| {
        let workload = shop(w, 2, 100).await;
        scaled(w, "minReplicas: 2").await;
        workload.until_wanted(2, Duration::from_secs(30)).await;
        w.condition::<Consumer>("orders", "ScalingActive", "True", "Scaling").await;
        w.broker_at("127.0.0.1:1", "").await;
        w.condition::<Consumer>("orders", "ScalingActive", "False", "Unknown").await;
        // Only now may there be fewer: while the broker still told something, that would have been right.
        w.consumer(
            "orders",
            &format!("scaleTargetRef: {{name: worker}}\nscaling: {{minReplicas: 1, {QUICK}}}"),
        )
        .await;
        never_within(Duration::from_secs(12), "unknown is not zero", async || {
            match workload.wanted().as_slice() {
                [2] => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        // Who would rather have too many says so, and for how long to hold.
        w.consumer(
            "orders",
            &format!("scaleTargetRef: {{name: worker}}\nscaling: {{onUnknown: {{after: 2s, replicas: 3}}, {QUICK}}}"),
        )
        .await;
        workload.until_wanted(3, Duration::from_secs(10)).await;
        let raised: Consumer = w.condition("orders", "DataUnknown", "True", "").await;
        let active =
            raised.condition("ScalingActive").map(|active| (active.status.as_str(), active.reason.as_str()));
        assert_eq!(active, Some(("False", "Unknown")), "{}", raised.summary());
    });
}

#[test]
fn a_paused_consumer_is_not_scaled_until_the_annotation_goes() {
    world(async |w| {
        let workload = shop(w, 1, 20).await;
        scaled(w, "ratePerReplica: '20', targetDelay: 2s").await;
        w.annotate::<Consumer>("orders", "spillway.dev/paused", Some("true")).await;
        w.until("orders", "the Consumer says that it is paused", |consumer: &Consumer| {
            consumer
                .condition("ScalingActive")
                .is_some_and(|active| active.status == "False" && active.reason == "Paused")
        })
        .await;
        flood(w, 300).await;
        never_within(Duration::from_secs(6), "paused", async || match workload.wanted().as_slice() {
            [1] => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        w.annotate::<Consumer>("orders", "spillway.dev/paused", None).await;
        workload.until_wanted(3, Duration::from_secs(15)).await;
    });
}

#[test]
fn another_autoscaler_on_the_target_stops_the_patches_until_it_goes() {
    world(async |w| {
        let workload = shop(w, 1, 20).await;
        w.apply(
            "
            apiVersion: autoscaling/v2
            kind: HorizontalPodAutoscaler
            metadata: {name: rival}
            spec: {maxReplicas: 2, minReplicas: 1, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: worker}}
            ",
        )
        .await;
        w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\nscaling: {{ratePerReplica: '20', targetDelay: 2s, {QUICK}}}")).await;
        let consumer: Consumer = w.condition("orders", "ScaleConflict", "True", "").await;
        assert!(consumer.message("ScaleConflict").contains("rival"), "{}", consumer.summary());
        flood(w, 300).await;
        never_within(Duration::from_secs(6), "two autoscalers write", async || {
            match workload.wanted().as_slice() {
                [1] => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let rivals: Api<HorizontalPodAutoscaler> = Api::namespaced(w.client.clone(), &w.namespace);
        rivals.delete("rival", &DeleteParams::default()).await.expect("deleted");
        workload.until_wanted(3, Duration::from_secs(60)).await;
    });
}

#[test]
fn another_autoscaler_that_is_put_on_the_target_in_a_spike_stops_the_way_down_too() {
    world(async |w| {
        let workload = shop(w, 1, 20).await;
        w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\nscaling: {{ratePerReplica: '20', targetDelay: 2s, {QUICK}}}")).await;
        flood(w, 300).await;
        workload.until_wanted(3, Duration::from_secs(30)).await;
        w.apply(
            "
            apiVersion: autoscaling/v2
            kind: HorizontalPodAutoscaler
            metadata: {name: rival}
            spec: {maxReplicas: 3, minReplicas: 1, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: worker}}
            ",
        )
        .await;
        let consumer: Consumer = w.condition("orders", "ScaleConflict", "True", "").await;
        assert!(consumer.message("ScaleConflict").contains("rival"), "{}", consumer.summary());
        // All is done at once, and a stabilization (5 s) later one replica would do.
        workload.set_rate(5_000);
        w.until("orders", "nothing waits", |consumer: &Consumer| {
            let lag = consumer.status.as_ref().and_then(|status| status.lag.as_ref());
            lag.is_some_and(|lag| lag.messages == Some(0))
        })
        .await;
        never_within(Duration::from_secs(12), "two autoscalers write", async || {
            match workload.wanted().as_slice() {
                [1, 3] => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let rivals: Api<HorizontalPodAutoscaler> = Api::namespaced(w.client.clone(), &w.namespace);
        rivals.delete("rival", &DeleteParams::default()).await.expect("deleted");
        workload.until_wanted(1, Duration::from_secs(60)).await;
    });
}

#[test]
fn a_flood_on_twelve_partitions_takes_one_patch_to_twelve_replicas() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 12").await;
        w.ready::<Topic>("orders").await;
        // 100 ms a message, and 5,000 of them.
        let workload = Workload::start(w, "worker", 1, &w.name("group"), &w.name("orders"), 10).await;
        scaled(w, "ratePerReplica: '10', targetDelay: 15s").await;
        workload.until_wanted(1, Duration::from_secs(5)).await;
        futures::future::join_all((0..12).map(async |partition| {
            w.kafka.produce(&w.name("orders"), partition, 417).await;
        }))
        .await;
        let flooded = Instant::now();
        workload.until_wanted(12, Duration::from_secs(10)).await;
        println!("12 replicas wanted {:?} after the flood", flooded.elapsed());
        assert_eq!(workload.wanted(), [1, 12], "in one patch");
        let (begun, before) = (Instant::now(), w.kafka.committed(&w.name("group"), &w.name("orders"), 12));
        let rate =
            until_within(Duration::from_secs(60), "the work goes about twelve times as fast", async || {
                let done = w.kafka.committed(&w.name("group"), &w.name("orders"), 12) - before;
                #[allow(clippy::cast_precision_loss)]
                let rate = done as f64 / begun.elapsed().as_secs_f64();
                if rate > 60.0 { Ok(rate) } else { Err(format!("{rate:.0} messages a second")) }
            })
            .await;
        println!("{rate:.0} messages a second, its start included");
    });
}

#[test]
fn three_groups_of_one_topic_are_scaled_each_by_itself() {
    world(async |w| {
        w.broker("").await;
        w.topic("clicks", "partitions: 12").await;
        w.ready::<Topic>("clicks").await;
        // Of busier replicas there are fewer: at 80 percent, two would do for the warehouse.
        let groups = [("realtime", 25, 80, 4), ("warehouse", 50, 60, 3), ("training", 200, 80, 1)];
        let mut workloads = Vec::new();
        for (name, rate, utilization, _) in groups {
            let group = w.name(name);
            workloads.push(Workload::start(w, name, 1, &group, &w.name("clicks"), rate).await);
            w.apply(&format!(
                "apiVersion: spillway.dev/v1alpha1
kind: Consumer
metadata: {{name: {name}}}
spec:
  scaleTargetRef: {{name: {name}}}
  kafka: {{brokerRef: {{name: kafka}}, group: '{group}', topics: ['{}'], offsetReset: earliest}}
  scaling: {{ratePerReplica: '{rate}', targetDelay: 30s, {}}}",
                w.name("clicks"),
                QUICK.replace("tuning: {", &format!("tuning: {{utilization: {utilization}, "))
            ))
            .await;
            w.ready::<Consumer>(name).await;
        }
        // 72 clicks a second.
        let topic = w.name("clicks");
        let clicks = async {
            let mut each = tokio::time::interval(Duration::from_millis(500));
            loop {
                each.tick().await;
                for partition in 0..12 {
                    w.kafka.produce(&topic, partition, 3).await;
                }
            }
        };
        let settled = async {
            for (workload, (name, .., replicas)) in workloads.iter().zip(groups) {
                let what = format!("{name} has {replicas}");
                until_within(Duration::from_secs(90), &what, async || match workload.wanted_now() {
                    Some(now) if now == replicas => Ok(()),
                    _ => Err(format!("{:?}", workload.wanted())),
                })
                .await;
            }
        };
        tokio::select! {
            () = clicks => unreachable!("it has no end"),
            () = settled => {}
        }
        assert_eq!(workloads[2].wanted(), [1], "what others need is no reason");
    });
}
