//! Scaling a StatefulSet: its `/scale`, its pods, and members that its pods' names tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Api;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use spillway_operator::api::{Consumer, Topic};

use crate::bed::{Audit, World, sleeping_pod, until_within, world};

const EACH: usize = 200;

/// The members of the group, one for each pod, at a rate that the test sets; they leave when dropped.
struct Crew {
    rate: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Crew {
    /// The member that the pod `worker-<ordinal>` is.
    fn join(&self, w: &World, ordinal: usize) {
        let mut config = w.kafka.member(&w.name("group"));
        let member: BaseConsumer =
            config.set("client.id", format!("worker-{ordinal}")).create().expect("a consumer");
        member.subscribe(&[&w.name("orders")]).expect("a subscription");
        let (rate, stop) = (self.rate.clone(), self.stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some(Ok(_)) = member.poll(Duration::from_millis(50)) {
                    std::thread::sleep(Duration::from_micros(1_000_000 / rate.load(Ordering::Relaxed)));
                }
                // There is nothing to commit before the first message.
                let _ = member.commit_consumer_state(CommitMode::Async);
            }
        });
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Waits until so many replicas are wanted and ready.
async fn until_replicas(w: &World, replicas: i32, limit: u64) {
    let sets: Api<StatefulSet> = Api::namespaced(w.client.clone(), &w.namespace);
    let what = format!("{replicas} replicas are wanted and ready");
    until_within(Duration::from_secs(limit), &what, async || {
        let set = sets.get("worker").await.map_err(|error| error.to_string())?;
        let wanted = set.spec.and_then(|spec| spec.replicas);
        let ready = set.status.and_then(|status| status.ready_replicas);
        if (wanted, ready) == (Some(replicas), Some(replicas)) {
            Ok(())
        } else {
            Err(format!("{wanted:?} are wanted, {ready:?} are ready"))
        }
    })
    .await;
}

#[test]
fn a_stateful_set_grows_with_a_flood_and_shrinks_after_it() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        w.apply(&format!(
            "
            apiVersion: apps/v1
            kind: StatefulSet
            metadata: {{name: worker}}
            spec:
              replicas: 1
              serviceName: worker
              podManagementPolicy: Parallel
              selector: {{matchLabels: {{app: worker}}}}
              template:
                metadata: {{labels: {{app: worker}}}}
                spec: {}
            ",
            sleeping_pod(w).await
        ))
        .await;
        let crew = Crew { rate: Arc::new(AtomicU64::new(20)), stop: Arc::default() };
        crew.join(w, 0);
        w.consumer(
            "orders",
            "scaleTargetRef: {kind: StatefulSet, name: worker}\nscaling: {ratePerReplica: '20', targetDelay: 2s, \
             scaleDown: {stabilization: 5s, peakMemory: 5s}, tuning: {coldStart: 2s, rebalance: 500ms}}",
        )
        .await;
        w.ready::<Consumer>("orders").await;
        until_replicas(w, 1, 30).await;

        let audit = Audit::begin();
        for partition in 0..3 {
            w.kafka.produce(&w.name("orders"), partition, EACH).await;
        }
        until_replicas(w, 3, 40).await;
        crew.join(w, 1);
        crew.join(w, 2);
        crew.rate.store(5_000, Ordering::Relaxed);
        until_replicas(w, 1, 90).await;
        w.until("orders", "its pods' names have told that each is one member", |consumer: &Consumer| {
            let learned = consumer.status.as_ref().and_then(|status| status.learned.as_ref());
            learned.is_some_and(|learned| learned.consumers_per_replica == Some(1))
        })
        .await;
        let done = w.kafka.committed(&w.name("group"), &w.name("orders"), 3);
        assert_eq!(usize::try_from(done), Ok(3 * EACH), "every message was processed");
        let writes = audit.writes(&w.namespace, "spillway");
        let patches: Vec<_> = writes.iter().filter(|write| write.contains("/scale ")).collect();
        assert!((2..=3).contains(&patches.len()), "{writes:?}");
        assert!(patches.iter().all(|patch| *patch == "patch statefulsets/scale worker"), "{patches:?}");
    });
}
