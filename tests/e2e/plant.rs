//! Whether the simulator is to be believed: the same load on a real group and on the simulated one.
//!
//! Each test prints both, for docs/scaling.md. What is compared allows for a machine that does other things, too.

use std::fmt;
use std::iter::zip;
use std::time::Duration;

use futures::future::join_all;
use spillway_operator::api::{Consumer, Topic};
use spillway_operator::scaling::simulate::{Group, Moment, foretell};
use tokio::time::Instant;

use crate::bed::{Workload, World, world};

const PARTITIONS: i32 = 6;
/// Messages/s of one replica.
const RATE: u64 = 20;
const SCALING: &str = "{targetDelay: 5s, scaleDown: {stabilization: 5s, peakMemory: 5s}, \
                       tuning: {coldStart: 2s, rebalance: 1s}}";
/// How often messages are sent.
const TICK: Duration = Duration::from_millis(100);

/// What comes, and how the members work meanwhile.
struct Load {
    name: &'static str,
    arrivals: fn(f64) -> f64,
    /// Shares of the members' rate, each from so many seconds on.
    pace: &'static [(f64, f64)],
    /// When it becomes interesting: what a rate that is not known yet makes of the beginning is chance.
    from: f64,
    seconds: f64,
}

/// What of a run is compared.
struct Figures {
    peak: u32,
    replica_seconds: f64,
    /// When the peak was first wanted.
    peak_at: f64,
    most_lag: f64,
    /// When little waited for the first time after most did.
    drained: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peak, replica_seconds, peak_at, most_lag, drained } = self;
        write!(
            f,
            "{replica_seconds:.0} replica-seconds, {peak} replicas wanted at {peak_at:.0} s, at most {most_lag:.0} wait, \
             drained at {drained:.0} s"
        )
    }
}

impl Figures {
    fn of(run: &[Moment], from: f64) -> Self {
        let run: Vec<_> = run.iter().filter(|moment| moment.at >= from).collect();
        let peak = run.iter().map(|moment| moment.replicas).max().unwrap_or(0);
        let most_lag = run.iter().map(|moment| moment.lag).fold(0.0, f64::max);
        let worst_at = run.iter().find(|moment| moment.lag >= most_lag).map_or(0.0, |moment| moment.at);
        let drained = run.iter().find(|moment| moment.at > worst_at && moment.lag < 50.0);
        let seconds =
            run.windows(2).map(|pair| (pair[1].at - pair[0].at) * f64::from(pair[0].replicas)).sum();
        Self {
            peak,
            replica_seconds: seconds,
            peak_at: run.iter().find(|moment| moment.replicas == peak).map_or(0.0, |moment| moment.at),
            most_lag,
            drained: drained.map_or(f64::INFINITY, |moment| moment.at),
        }
    }
}

/// Runs the load on a real group, operator, Kafka and pods included.
async fn live(w: &World, load: &Load) -> Vec<Moment> {
    w.broker("").await;
    w.topic("orders", &format!("partitions: {PARTITIONS}")).await;
    w.ready::<Topic>("orders").await;
    let (group, topic) = (w.name("group"), w.name("orders"));
    let workload = Workload::start(w, "worker", 1, &group, &topic, RATE).await;
    w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\nscaling: {SCALING}")).await;
    w.ready::<Consumer>("orders").await;
    workload.until_wanted(1, Duration::from_secs(10)).await;
    // The one member has its partitions when it has read a message of each.
    for partition in 0..PARTITIONS {
        w.kafka.produce(&topic, partition, 1).await;
    }
    w.kafka.until_committed(&group, &topic, PARTITIONS, i64::from(PARTITIONS)).await;

    let begun = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    let (mut run, mut owed, mut sent, mut next) = (Vec::new(), 0.0, i64::from(PARTITIONS), 0);
    let mut last = 0.0;
    loop {
        tick.tick().await;
        let now = begun.elapsed().as_secs_f64();
        if now > load.seconds {
            return run;
        }
        let pace = load.pace.iter().rev().find(|(at, _)| *at <= now).map_or(1.0, |(_, share)| *share);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        workload.set_rate((RATE as f64 * pace).round() as u64);
        owed += (load.arrivals)(now) * (now - last);
        last = now;
        let mut due = [0; PARTITIONS as usize];
        while owed >= 1.0 {
            due[next] += 1;
            next = (next + 1) % due.len();
            (owed, sent) = (owed - 1.0, sent + 1);
        }
        join_all(zip(0.., due).map(|(partition, count)| w.kafka.produce(&topic, partition, count))).await;
        if run.last().is_none_or(|before: &Moment| now - before.at >= 1.0) {
            #[allow(clippy::cast_precision_loss)]
            let lag = (sent - w.kafka.committed(&group, &topic, PARTITIONS)) as f64;
            let replicas = workload.wanted_now().and_then(|wanted| u32::try_from(wanted).ok()).unwrap_or(0);
            run.push(Moment { at: now, replicas, lag });
        }
    }
}

/// What the simulator says of the same.
fn simulated(load: &Load, seed: u64) -> Vec<Moment> {
    #[allow(clippy::cast_precision_loss)]
    let group = Group {
        partitions: usize::try_from(PARTITIONS).expect("some"),
        rate: RATE as f64,
        commit: 0.2,
        cold_start: 2.0,
        rebalance: 1.0,
        config: serde_yaml::from_str(&format!("scaling: {SCALING}")).expect("as in the Consumer"),
        pace: load.pace.to_vec(),
        seconds: load.seconds,
    };
    foretell(&group, load.arrivals, seed)
}

fn compare(load: &Load) {
    world(async |w| {
        let real = Figures::of(&live(w, load).await, load.from);
        let mut runs: Vec<_> = (1..=5).map(|seed| Figures::of(&simulated(load, seed), load.from)).collect();
        runs.sort_by(|a, b| a.replica_seconds.total_cmp(&b.replica_seconds));
        let said = &runs[2];
        println!("{:9} real {real}\n{:9} said {said}", load.name, "");
        assert_eq!(real.peak, said.peak, "the peak");
        let off = real.replica_seconds / said.replica_seconds;
        assert!((0.6..1.6).contains(&off), "replica-seconds, real over said: {off:.2}");
        let off = real.most_lag / said.most_lag;
        assert!((0.2..2.0).contains(&off), "the most lag, real over said: {off:.2}");
        assert!((real.peak_at - said.peak_at).abs() < 15.0, "the peak's time");
        assert!((real.drained - said.drained).abs() < 25.0, "the drain's time");
    });
}

#[test]
fn the_simulator_foretells_a_step() {
    let arrivals = |t: f64| if (20.0..70.0).contains(&t) { 90.0 } else { 8.0 };
    compare(&Load { name: "step", arrivals, pace: &[], from: 20.0, seconds: 110.0 });
}

#[test]
fn the_simulator_foretells_a_ramp() {
    let arrivals = |t: f64| 8.0 + 85.0 * (1.0 - ((t - 55.0) / 40.0).abs()).max(0.0);
    compare(&Load { name: "ramp", arrivals, pace: &[], from: 20.0, seconds: 120.0 });
}

#[test]
fn the_simulator_foretells_consumers_that_slow_down() {
    compare(&Load {
        name: "slow-down",
        arrivals: |_| 30.0,
        pace: &[(30.0, 0.4), (80.0, 1.0)],
        from: 30.0,
        seconds: 120.0,
    });
}
