//! The formula: from rates to a need in replicas.
//!
//! `need = max(λ/ρ, λ + drain) / μ`: enough for what arrives with some air, or enough for that and for what
//! waits within the target delay. `drain` is what partitions can make use of: a partition has one consumer, so
//! a backlog on one partition is never a reason for a tenth replica.

use super::config::Config;
use super::decision::Bound;
use super::estimate::arrival::Arrival;
use super::estimate::kafka::Group;
use super::estimate::timing::Timing;

/// What has to be done, in messages/s.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Demand {
    /// What arrives, as counted for scaling up.
    pub arrival: f64,
    /// What waits beyond a commit interval, messages.
    pub backlog: f64,
    /// What will wait in addition until more replicas could help, messages.
    pub coming: f64,
    /// The rate at which the backlog should go.
    pub drain: f64,
}

/// A need in replicas and what it came from.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Need {
    pub replicas: f64,
    pub by: Option<Bound>,
}

/// Parts each partition's lag into what waits between two commits anyway and the backlog beyond it.
pub(super) fn backlog(
    group: &mut Group,
    arrival: &Arrival,
    timing: &Timing,
    config: &Config,
    seeded: bool,
) -> f64 {
    /// Polls that a new leader with a known commit gap takes to tell a flood from a commit interval.
    const SETTLED: usize = 4;
    let wait = config.poll_interval + timing.gap();
    let calm = if seeded && arrival.polls() < SETTLED { 1.0 } else { arrival.calm() };
    let mut sum = 0.0;
    for part in group.parts.iter_mut().filter(|p| p.usable) {
        let ordinary = part.slow.mean() * calm * wait;
        part.backlog = if part.stuck || part.phantom { 0.0 } else { (part.lag - ordinary).max(0.0) };
        sum += part.backlog;
    }
    sum
}

impl Demand {
    /// Of a group, for consumers that do `each` messages/s.
    pub fn of_group(
        group: &Group,
        arrival: f64,
        backlog: f64,
        coming: f64,
        each: f64,
        config: &Config,
    ) -> Self {
        let (mut drain, mut excess) = (0.0, 0.0);
        for part in group.parts.iter().filter(|p| p.usable) {
            let rate = part.slow.cautious();
            drain += (part.backlog / config.target_delay).min((each - rate).max(0.0));
            if part.hot_since.is_some() {
                excess += (rate - each).max(0.0);
            }
        }
        Self {
            arrival: (arrival - excess).max(0.0),
            backlog,
            coming,
            drain: drain + coming / config.target_delay,
        }
    }

    /// The need for replicas that do `mu` messages/s each.
    pub fn need(&self, mu: f64, config: &Config) -> Need {
        let (rate, lag) = (self.arrival / config.utilization / mu, (self.arrival + self.drain) / mu);
        let replicas = rate.max(lag);
        if !replicas.is_finite() || replicas <= 0.0 {
            return Need::default();
        }
        Need { replicas, by: Some(if lag > rate { Bound::Lag } else { Bound::Rate }) }
    }
}
