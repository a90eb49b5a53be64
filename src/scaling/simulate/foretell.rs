//! What the simulator says of a group that exists, so that it can be held against what really happens.

use std::rc::Rc;

use super::super::Config;
use super::plant::{Design, Event, Protocol};
use super::run::run;
use super::scalers::Ours;
use super::workload::Workload;

/// A consumer group as one can measure it, and what is to happen to it.
#[derive(Debug, Clone)]
pub struct Group {
    /// Partitions that it reads.
    pub partitions: usize,
    /// Messages/s of one replica.
    pub rate: f64,
    /// Seconds between two commits of a member.
    pub commit: f64,
    /// Seconds from a patch to a ready pod, give or take a quarter.
    pub cold_start: f64,
    /// Seconds for which the group stands still when its members change.
    pub rebalance: f64,
    /// How it is scaled.
    pub config: Config,
    /// From these seconds on all replicas work at this share of their rate.
    pub pace: Vec<(f64, f64)>,
    /// How long to go on.
    pub seconds: f64,
}

/// One second of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Seconds since the beginning.
    pub at: f64,
    /// Replicas that are wanted.
    pub replicas: u32,
    /// Messages that wait.
    pub lag: f64,
}

/// What happens to the group when `arrivals(t)` messages/s come: one run, chance drawn from `seed`.
#[must_use]
pub fn foretell(group: &Group, arrivals: impl Fn(f64) -> f64 + 'static, seed: u64) -> Vec<Moment> {
    let workload = Workload {
        name: String::new(),
        seconds: group.seconds,
        peak_end: group.seconds,
        rate: Rc::new(arrivals),
        design: Design {
            partitions: group.partitions,
            rate: group.rate,
            commit: group.commit,
            cold_start: group.cold_start,
            pause: group.rebalance,
            protocol: Protocol::Eager,
            static_members: false,
            prefetch: None,
            leave: group.cold_start / 4.0,
            weights: Vec::new(),
            replicas: group.config.min_replicas.max(1),
            events: group.pace.iter().map(|&(at, share)| (at, Event::Pace(share))).collect(),
        },
        config: group.config.clone(),
    };
    let trace = run(&workload, &mut Ours::new(group.config.clone()), seed).plant.meter.trace;
    trace.into_iter().map(|point| Moment { at: point.at, replicas: point.replicas, lag: point.lag }).collect()
}
