//! Named workloads: what arrives, at what kind of plant, and what happens to it.

use std::rc::Rc;

use super::super::{Config, Isolation};
use super::plant::{Design, Event, Protocol};
use super::random::Random;
use super::recorded;
use super::trace::Trace;

/// What a scaler is put through.
#[derive(Clone)]
pub(super) struct Workload {
    pub name: String,
    pub seconds: f64,
    /// When the last peak is over.
    pub peak_end: f64,
    pub rate: Rc<dyn Fn(f64) -> f64>,
    pub design: Design,
    pub config: Config,
}

/// Twelve partitions, 100 messages/s a replica, commits each second: an ordinary consumer.
pub(super) fn ordinary() -> Design {
    Design {
        partitions: 12,
        rate: 100.0,
        commit: 1.0,
        cold_start: 10.0,
        pause: 3.0,
        protocol: Protocol::Cooperative,
        static_members: false,
        prefetch: None,
        leave: 0.5,
        weights: Vec::new(),
        replicas: 1,
        events: Vec::new(),
    }
}

impl Workload {
    fn new(name: &str, seconds: f64, rate: impl Fn(f64) -> f64 + 'static) -> Self {
        Self {
            name: name.to_owned(),
            seconds,
            peak_end: seconds,
            rate: Rc::new(rate),
            design: ordinary(),
            config: Config::default(),
        }
    }

    fn peak_end(mut self, at: f64) -> Self {
        self.peak_end = at;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Design)) -> Self {
        change(&mut self.design);
        self
    }

    /// May go to zero.
    fn down_to_zero(mut self) -> Self {
        self.config.min_replicas = 0;
        self
    }

    fn events(mut self, events: &[(f64, Event)]) -> Self {
        self.design.events = events.to_vec();
        self
    }
}

/// A constant share of what all partitions together can do.
pub(super) fn constant(partitions: usize, share: f64, rate: f64, seconds: f64) -> Workload {
    #[allow(clippy::cast_precision_loss)]
    let arrival = share * rate * partitions as f64;
    Workload::new(&format!("constant P={partitions} {share:.2}"), seconds, move |_| arrival)
        .with(|d| (d.partitions, d.rate) = (partitions, rate))
}

/// A step to a hundred times the rate.
pub(super) fn step(cold_start: f64) -> Workload {
    Workload::new(&format!("step cold {cold_start:.0}s"), 1_800.0, |t| {
        if (600.0..1_200.0).contains(&t) { 900.0 } else { 9.0 }
    })
    .peak_end(1_200.0)
    .with(|d| d.cold_start = cold_start)
}

/// A trace that a person brought, at an ordinary consumer with so many partitions and messages/s of one replica.
pub(super) fn traced(trace: &Trace, partitions: usize, rate: f64) -> Workload {
    let seconds = trace.seconds();
    let trace = trace.clone();
    Workload::new("trace", seconds, move |t| trace.rate(t))
        .with(|d| (d.partitions, d.rate) = (partitions, rate))
}

/// A day of a queue in four hours, after what is published of a large cloud's functions: Shahrad et al., "Serverless in
/// the Wild", USENIX ATC 2020, figure 4 has a constant half of the peak under a daily wave. Ours are a dip at noon,
/// 15 % noise and eight bursts to twice the rate.
fn day() -> Workload {
    const HOURS: f64 = 4.0;
    const PEAK: f64 = 800.0;
    let mut random = Random::new(2_020);
    let noise: Vec<f64> = (0..1_440).map(|_| random.between(0.85, 1.15)).collect();
    let bursts: Vec<(f64, f64)> = (0..8)
        .map(|i| (f64::from(i) * 1_800.0 + random.between(0.0, 1_500.0), random.between(20.0, 90.0)))
        .collect();
    Workload::new("day of a queue", HOURS * 3_600.0, move |t| {
        let hour = t / (HOURS * 3_600.0) * 24.0;
        let bump = |at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
        let people = (bump(10.5, 3.0) + bump(15.5, 3.5)).min(1.0) - 0.2 * bump(12.75, 0.7);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let noise = noise.get((t / 10.0) as usize).copied().unwrap_or(1.0);
        let burst = bursts.iter().any(|&(from, seconds)| (from..from + seconds).contains(&t));
        PEAK * (0.5 + 0.5 * people) * noise * if burst { 2.0 } else { 1.0 }
    })
}

/// All workloads of the report.
pub(super) fn all() -> Vec<Workload> {
    let mut list = loads();
    list.extend(mishaps());
    list.extend(discontinuities());
    list.extend(queues());
    for (partitions, share) in
        [(1, 0.5), (3, 0.3), (5, 0.4), (7, 0.7), (12, 0.4), (24, 0.6), (64, 0.8), (100, 0.95)]
    {
        list.push(constant(partitions, share, 10.0, 3_600.0));
    }
    list
}

/// What arrives, at plants where nothing goes wrong.
fn loads() -> Vec<Workload> {
    let hour = 3_600.0;
    let mut list: Vec<Workload> = [5.0, 20.0, 60.0, 120.0].into_iter().map(step).collect();
    list.push(Workload::new("ramp", hour, |t| 20.0 + 900.0 * (1.0 - (t / 1_800.0 - 1.0).abs())));
    list.push(Workload::new("diurnal", 4.0 * hour, |t| {
        500.0 - 450.0 * (t / (4.0 * 3_600.0) * std::f64::consts::TAU).cos()
    }));
    list.push(day());
    list.push(Workload::new("world cup 1998", recorded::SECONDS, recorded::world_cup(900.0)));
    list.push(
        Workload::new("to zero and back", hour, |t| {
            if (900.0..960.0).contains(&t) || (2_400.0..2_460.0).contains(&t) { 200.0 } else { 0.0 }
        })
        .down_to_zero(),
    );
    list.push(
        Workload::new(
            "flash x5",
            hour,
            |t| {
                if t % 700.0 > 600.0 && t % 700.0 < 630.0 { 1_500.0 } else { 50.0 }
            },
        )
        .peak_end(3_430.0),
    );
    list.push(Workload::new("noisy", hour, |t| {
        let wave = (t / 7.0).sin() + (t / 3.1).sin() + (t / 17.0).sin();
        (300.0 + 90.0 * wave).max(0.0)
    }));
    list.push(Workload::new("batch each 60 s", hour, |t| if t % 60.0 < 1.0 { 6_000.0 } else { 0.0 }));
    for commit in [1.0, 5.0, 30.0, 50.0] {
        list.push(
            Workload::new(&format!("commit {commit:.0}s"), hour, |t| if t > 1_200.0 { 450.0 } else { 150.0 })
                .with(|d| d.commit = commit),
        );
    }
    list
}

/// Ordinary arrivals, at plants where something goes wrong.
fn mishaps() -> Vec<Workload> {
    let hour = 3_600.0;
    let mut list = Vec::new();
    list.push(
        Workload::new("slow-down 0.4x", hour, |_| 300.0)
            .events(&[(900.0, Event::Pace(0.4)), (1_800.0, Event::Pace(1.0))]),
    );
    list.push(
        Workload::new("downstream cap", hour, |t| if (600.0..1_800.0).contains(&t) { 700.0 } else { 100.0 })
            .peak_end(1_800.0)
            .events(&[(0.0, Event::Downstream(400.0))]),
    );
    list.push(
        // It comes by and by: no single step up shows that none of them brings anything.
        Workload::new("downstream cap, ramp", hour, |t| {
            100.0 + 500.0 * ((t - 600.0) / 900.0).clamp(0.0, 1.0)
        })
        .peak_end(1_800.0)
        .events(&[(0.0, Event::Downstream(400.0))]),
    );
    list.push(
        Workload::new("zipf skew", hour, |t| if t > 600.0 { 450.0 } else { 100.0 })
            .with(|d| d.weights = (1..=12).map(|i| 1.0 / f64::from(i)).collect()),
    );
    list.push(Workload::new("slow pod", hour, |_| 450.0).events(&[(900.0, Event::SlowPod(0.3))]));
    list.push(
        Workload::new("stuck partition", hour, |_| 300.0)
            .events(&[(900.0, Event::Stuck(3, true)), (2_700.0, Event::Stuck(3, false))]),
    );
    for share in [0.01, 0.3, 1.0] {
        let name = format!("poison {:.0}%", share * 100.0);
        list.push(
            Workload::new(&name, hour, |t| if (600.0..900.0).contains(&t) { 800.0 } else { 100.0 })
                .peak_end(900.0)
                .events(&[(580.0, Event::Poison(share)), (1_200.0, Event::Poison(0.0))]),
        );
    }
    for (name, protocol, fixed) in [
        ("eager", Protocol::Eager, false),
        ("kip-848", Protocol::Consumer, false),
        ("static members", Protocol::Cooperative, true),
    ] {
        list.push(
            Workload::new(&format!("step {name}"), 1_800.0, |t| {
                if (600.0..1_200.0).contains(&t) { 900.0 } else { 50.0 }
            })
            .peak_end(1_200.0)
            .with(|d| (d.protocol, d.static_members) = (protocol, fixed)),
        );
    }
    list.push(
        Workload::new("unschedulable", hour, |t| if t > 600.0 { 700.0 } else { 100.0 })
            .events(&[(0.0, Event::Nodes(4)), (1_500.0, Event::Nodes(99))]),
    );
    list.push(
        Workload::new("crash loop", hour, |t| if t > 600.0 { 700.0 } else { 100.0 })
            .events(&[(500.0, Event::CrashLoop(true)), (1_200.0, Event::CrashLoop(false))]),
    );
    list.push(
        Workload::new("rollout", hour, |t| if t > 900.0 { 500.0 } else { 300.0 })
            .events(&[(880.0, Event::Rollout)]),
    );
    list.push(
        Workload::new("foreign member", hour, |_| 450.0)
            .events(&[(900.0, Event::Foreign(2)), (2_400.0, Event::Foreign(0))]),
    );
    list.push(
        Workload::new("leaderless partition", hour, |_| 450.0)
            .events(&[(900.0, Event::Leaderless(2, true)), (1_500.0, Event::Leaderless(2, false))]),
    );
    list.push(
        Workload::new("all unknown", hour, |_| 450.0)
            .events(&[(900.0, Event::Dark(true)), (1_500.0, Event::Dark(false))]),
    );
    list.push(
        Workload::new(
            "failover mid-peak",
            1_800.0,
            |t| {
                if (600.0..1_200.0).contains(&t) { 900.0 } else { 50.0 }
            },
        )
        .peak_end(1_200.0)
        .events(&[(700.0, Event::Failover)]),
    );
    list
}

/// Offsets that do not continue, where zero is allowed and would be wrong.
fn discontinuities() -> Vec<Workload> {
    let hour = 3_600.0;
    let mut list = [
        Workload::new("hand reset", hour, |_| 300.0)
            .events(&[(900.0, Event::Rewind(5_000)), (2_000.0, Event::SkipToEnd)]),
        Workload::new("recreated topic", hour, |_| 300.0).events(&[(900.0, Event::Recreate)]),
        Workload::new("more partitions", hour, |t| if t > 1_000.0 { 1_500.0 } else { 300.0 })
            .events(&[(900.0, Event::Grow(12))]),
        // It hangs for longer than a group must be idle to go to zero.
        Workload::new("hanging transaction", hour, |_| 300.0)
            .events(&[(900.0, Event::HoldTransaction(true)), (1_500.0, Event::HoldTransaction(false))]),
    ];
    list[3].config.isolation = Isolation::ReadCommitted;
    list.into_iter().map(Workload::down_to_zero).collect()
}

/// Queues of RabbitMQ, twelve replicas at most.
fn queues() -> Vec<Workload> {
    let hour = 3_600.0;
    let mut list = Vec::new();
    for prefetch in [1, 1_000] {
        let name = format!("rabbitmq prefetch {prefetch}");
        list.push(
            queue(&name, prefetch, 1_800.0, |t| if (600.0..1_200.0).contains(&t) { 900.0 } else { 50.0 })
                .peak_end(1_200.0),
        );
    }
    list.push(
        queue("rabbitmq rejects 30%", 20, hour, |t| if (600.0..900.0).contains(&t) { 800.0 } else { 100.0 })
            .peak_end(900.0)
            .events(&[(580.0, Event::Poison(0.3)), (1_200.0, Event::Poison(0.0))]),
    );
    list.push(
        queue("rabbitmq dead-letter retry", 20, hour, |t| {
            if (600.0..900.0).contains(&t) { 500.0 } else { 100.0 }
        })
        .peak_end(900.0)
        .events(&[(0.0, Event::Retry(0.3, 20.0))]),
    );
    list.push(queue("rabbitmq constant", 20, hour, |_| 450.0));
    list
}

/// A queue whose consumers take `prefetch` messages at a time.
pub(super) fn queue(
    name: &str,
    prefetch: u64,
    seconds: f64,
    rate: impl Fn(f64) -> f64 + 'static,
) -> Workload {
    let mut workload = Workload::new(name, seconds, rate).with(|d| d.prefetch = Some(prefetch));
    workload.config.max_replicas = Some(12);
    workload
}
