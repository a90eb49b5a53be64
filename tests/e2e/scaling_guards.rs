//! Guards on real groups: partitions that stand, a downstream that is full, an application without members. Each is
//! entered, does what it is for, and is left again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use spillway_operator::api::{Consumer, Topic};
use tokio::task::JoinHandle;

use crate::bed::{
    Kafka, Object as _, Workload, World, deployment, never_within, required, until_within, world,
};

const QUICK: &str =
    "scaleDown: {stabilization: 5s, peakMemory: 5s}, tuning: {coldStart: 2s, rebalance: 500ms}";
const PARTITIONS: i32 = 4;
/// A guard about a partition that stands comes after a minute.
const STANDS: Duration = Duration::from_secs(120);

/// A topic, and a Consumer of it.
async fn consumer(w: &World, scaling: &str) {
    w.broker("").await;
    w.topic("orders", &format!("partitions: {PARTITIONS}")).await;
    w.ready::<Topic>("orders").await;
    edit(w, scaling).await;
}

async fn edit(w: &World, scaling: &str) {
    w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\nscaling: {{{scaling}, {QUICK}}}")).await;
}

async fn workload(w: &World, replicas: i32, rate: u64) -> Workload {
    Workload::start(w, "worker", replicas, &w.name("group"), &w.name("orders"), rate).await
}

async fn produce(w: &World, partitions: &[i32], count: usize) {
    let topic = w.name("orders");
    let floods = partitions.iter().map(|partition| w.kafka.produce(&topic, *partition, count));
    futures::future::join_all(floods).await;
}

/// A message a second to each partition, until it is ended.
struct Trickle {
    stop: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Trickle {
    fn start(w: &World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (topic, stopped) = (w.name("orders"), stop.clone());
        let kafka = Kafka::connect(&required("SPILLWAY_TEST_KAFKA"));
        let task = tokio::spawn(async move {
            let mut each = tokio::time::interval(Duration::from_secs(1));
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                each.tick().await;
                for partition in 0..PARTITIONS {
                    kafka.produce(&topic, partition, 1).await;
                    sent += 1;
                }
            }
            sent
        });
        Self { stop, task }
    }

    /// Ends it; how many it sent.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the producer")
    }
}

/// Waits until a guard is in force.
async fn until_on(w: &World, guard: &str, limit: Duration) -> Consumer {
    until_within(limit, &format!("{guard} is said"), async || {
        let consumer: Consumer = w.get("orders").await;
        if consumer.condition(guard).is_some() { Ok(consumer) } else { Err(consumer.summary()) }
    })
    .await
}

async fn until_over(w: &World, guard: &str) {
    w.until("orders", &format!("{guard} is over"), |consumer: &Consumer| consumer.condition(guard).is_none())
        .await;
}

async fn stays(workload: &Workload, wanted: &[i32], why: &str) {
    never_within(Duration::from_secs(8), why, async || match workload.wanted() {
        all if all == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// The group has committed a few times: before, what stands for a minute may just be slow.
async fn until_its_commits_are_known(w: &World) {
    until_within(Duration::from_secs(60), "the group commits", async || {
        match w.kafka.committed(&w.name("group"), &w.name("orders"), PARTITIONS) {
            done @ ..40 => Err(format!("{done}")),
            _ => Ok(()),
        }
    })
    .await;
}

/// All that was sent has been committed.
async fn until_done(w: &World, messages: u64) {
    until_within(Duration::from_secs(90), "all is consumed", async || {
        let done = w.kafka.committed(&w.name("group"), &w.name("orders"), PARTITIONS);
        if u64::try_from(done) == Ok(messages) { Ok(()) } else { Err(format!("{done} of {messages}")) }
    })
    .await;
}

#[test]
fn a_partition_that_stands_while_others_move_asks_for_no_replicas_until_it_moves() {
    world(async |w| {
        consumer(w, "minReplicas: 2, ratePerReplica: '20', targetDelay: 10s").await;
        let workload = workload(w, 2, 20).await;
        w.ready::<Consumer>("orders").await;
        let trickle = Trickle::start(w);
        until_its_commits_are_known(w).await;
        // One message that nobody gets done, and a member that stands with it.
        workload.hang(&[0]);
        let stuck = until_on(w, "StuckPartition", STANDS).await;
        assert!(stuck.message("StuckPartition").contains("orders/0"), "{}", stuck.summary());
        produce(w, &[0], 800).await;
        stays(&workload, &[2], "no replica can do what stands behind one message").await;
        workload.hang(&[]);
        until_over(w, "StuckPartition").await;
        // It has a member nearly to itself: more would bring nothing, until others have work, too.
        stays(&workload, &[2], "a partition has one consumer").await;
        produce(w, &[1, 2, 3], 600).await;
        workload.until_wanted(4, Duration::from_secs(30)).await;
        workload.set_rate(5_000);
        until_done(w, trickle.end().await + 800 + 3 * 600).await;
    });
}

#[test]
fn a_group_that_stands_altogether_is_held_until_it_moves() {
    world(async |w| {
        consumer(w, "minReplicas: 2, ratePerReplica: '20', targetDelay: 10s").await;
        let workload = workload(w, 2, 20).await;
        w.ready::<Consumer>("orders").await;
        let all = [0, 1, 2, 3];
        let trickle = Trickle::start(w);
        until_its_commits_are_known(w).await;
        let sent = trickle.end().await;
        workload.hang(&all);
        produce(w, &all, 5).await;
        until_on(w, "AllStuck", STANDS).await;
        produce(w, &all, 300).await;
        stays(&workload, &[2], "more members would stand, too").await;
        let held: Consumer = w.get("orders").await;
        let bound =
            held.status.as_ref().and_then(|status| status.decision.as_ref()).map(|is| is.bound.clone());
        assert_eq!(bound.as_deref(), Some("Stuck"), "{}", held.summary());
        workload.hang(&[]);
        workload.until_wanted(4, Duration::from_secs(30)).await;
        until_over(w, "AllStuck").await;
        workload.set_rate(5_000);
        until_done(w, sent + 4 * 305).await;
    });
}

#[test]
fn replicas_that_bring_nothing_are_taken_back_and_come_again_where_that_cost_something() {
    world(async |w| {
        consumer(w, "maxReplicas: 1, targetDelay: 2s").await;
        let workload = workload(w, 1, 20).await;
        w.ready::<Consumer>("orders").await;
        produce(w, &[0, 1, 2, 3], 1_500).await;
        w.until("orders", "it is known what a replica does", |consumer: &Consumer| {
            let learned = consumer.status.as_ref().and_then(|status| status.learned.as_ref());
            let rate = learned.and_then(|learned| learned.rate_per_replica.as_ref()?.parse::<f64>().ok());
            rate.is_some_and(|rate| rate > 15.0)
        })
        .await;
        // What is behind them takes little more than one of them sends.
        workload.limit_all(24);
        edit(w, "targetDelay: 2s").await;
        workload.until_wanted(4, Duration::from_secs(20)).await;
        workload.until_wanted(2, Duration::from_secs(120)).await;
        let bound = until_on(w, "DownstreamBound", Duration::from_secs(10)).await;
        let said = bound.message("DownstreamBound");
        assert!(said.contains("more than 2 replicas brought nothing"), "{said}");
        assert_eq!(workload.wanted(), [1, 4, 2]);
        // Now two do much less than four did: it was not what is behind them.
        workload.limit_all(0);
        workload.set_rate(4);
        workload.until_wanted(4, Duration::from_secs(120)).await;
        until_over(w, "DownstreamBound").await;
        workload.set_rate(5_000);
        until_done(w, 6_000).await;
    });
}

/// An application that assigns all partitions to itself, and commits as a group without members; ends when dropped.
struct Alone {
    stop: Arc<AtomicBool>,
}

impl Alone {
    fn start(w: &World, rate: u32) -> Self {
        let alone: BaseConsumer = w.kafka.member(&w.name("group")).create().expect("a consumer");
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let begins = all.add_partition_offset(&w.name("orders"), partition, Offset::Stored);
            begins.expect("an offset");
        }
        alone.assign(&all).expect("assigned");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(Ok(_)) = alone.poll(Duration::from_millis(50)) {
                    std::thread::sleep(Duration::from_secs(1) / rate);
                    let _ = alone.commit_consumer_state(CommitMode::Async);
                }
            }
            let _ = alone.commit_consumer_state(CommitMode::Sync);
        });
        Self { stop }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_application_that_assigns_partitions_itself_is_scaled_by_its_lag_and_said_to_be_alone() {
    world(async |w| {
        consumer(w, "ratePerReplica: '20', targetDelay: 5s").await;
        w.apply(&deployment(w, "worker", 1).await).await;
        let alone = Alone::start(w, 20);
        w.ready::<Consumer>("orders").await;
        produce(w, &[0, 1, 2, 3], 200).await;
        let seen = until_on(w, "Standalone", Duration::from_secs(90)).await;
        assert!(seen.message("Standalone").contains("no members"), "{}", seen.summary());
        until_within(
            Duration::from_secs(30),
            "its lag asks for as many as there are partitions",
            async || {
                let status = w.get::<Consumer>("orders").await.status.unwrap_or_default();
                match (status.desired_replicas, status.lag.and_then(|lag| lag.messages)) {
                    (Some(PARTITIONS), Some(1..)) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            },
        )
        .await;
        drop(alone);
        let workload = workload(w, 4, 5_000).await;
        until_done(w, 800).await;
        until_over(w, "Standalone").await;
        workload.until_wanted(1, Duration::from_secs(60)).await;
    });
}
