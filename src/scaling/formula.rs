//! The formula: from rates to a need in replicas.
//!
//! `need = max(λ/ρ, λ' + drain) / μ`: enough for what arrives in the long run with some air, or enough for what
//! arrives now (λ') and for what waits, and will before more replicas help, within the target delay. `drain` is what partitions can make use of: a partition has one consumer, so
//! a backlog on one partition is never a reason for a tenth replica.

use super::config::Config;
use super::decision::Bound;
use super::estimate::arrival::{Arrival, SLOW};
use super::estimate::kafka::Group;
use super::estimate::timing::Timing;
use super::guards::partitions::patience;

/// What has to be done, in messages/s.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Demand {
    /// What arrives over half a minute, bursts included: there must be air beyond it.
    pub lasting: f64,
    /// What arrives right now beside the backlog: it must be done, without air. A rise that lasts a few seconds
    /// costs no message its target delay.
    pub ordinary: f64,
    /// The rate at which what waits, and what will until more replicas help, should go.
    pub drain: f64,
    /// Share of all partitions that may be on the member that has the worst one: the inverse of a size.
    pub beside: Option<f64>,
}

/// A partition that is late by itself needs most of a consumer: what the others on it may be.
fn beside(worst: f64, total: f64, count: f64, each: f64) -> Option<f64> {
    /// Share of a consumer that the others may take although the worst one could use all of it.
    const LITTLE: f64 = 0.1;
    if worst <= 0.0 || count <= 1.0 {
        return None;
    }
    let other = ((total - worst) / (count - 1.0)).max(f64::MIN_POSITIVE);
    let room = (each - worst).max(LITTLE * each);
    Some((1.0 + (room / other).floor()).clamp(1.0, count) / count)
}

/// A need in replicas and what it came from.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Need {
    pub replicas: f64,
    pub by: Option<Bound>,
}

/// Parts each partition's lag into what waits between two commits anyway and the backlog beyond it. `works`: there is a
/// replica that could do some of it.
pub(super) fn backlog(
    group: &mut Group,
    arrival: &Arrival,
    timing: &Timing,
    config: &Config,
    (seeded, works, now): (bool, bool, f64),
) -> f64 {
    /// Polls that a new leader with a known commit gap takes to tell a flood from a commit interval.
    const SETTLED: usize = 4;
    let wait = config.poll_interval + timing.gap();
    let calm = if seeded && arrival.polls() < SETTLED { 1.0 } else { arrival.calm() };
    let mut sum = 0.0;
    let group_stood = group.stood;
    for part in group.parts.iter_mut().filter(|p| p.usable) {
        let ordinary = part.slow.mean() * calm * wait;
        // A new leader does not know yet which partitions the last one had found to stand.
        let found = if group_stood && works { part.inherited(now, patience(timing)) } else { 0.0 };
        let stands = part.stuck || part.phantom;
        part.backlog = if stands { 0.0 } else { (part.lag - found - ordinary).max(0.0) };
        sum += part.backlog;
    }
    sum
}

impl Demand {
    /// Of a group, for consumers that do `each` messages/s; `coming` messages will wait in addition until more
    /// replicas could help.
    pub fn of_group(group: &Group, arrival: &Arrival, coming: f64, each: f64, config: &Config) -> Self {
        /// Messages in half a minute that are no burst, however long each takes.
        const FEW: f64 = 4.0;
        let (mut drain, mut excess, mut count, mut worst) = (0.0, 0.0, 0.0, 0.0f64);
        // A burst on one partition is more than its consumer can do for a while, and no reason for air on all of them.
        let mut burst = 0.0;
        // A flood that is over keeps nobody from draining it.
        let calm = arrival.calm();
        for part in group.parts.iter().filter(|p| p.usable) {
            let rate = part.slow.cautious();
            count += 1.0;
            if !part.hot && part.backlog > config.target_delay * each {
                // Even a consumer of its own would be late with it.
                worst = worst.max((rate + part.backlog / config.target_delay).min(each));
            }
            drain += (part.backlog / config.target_delay).min((each - calm * rate).max(0.0));
            if part.hot {
                excess += (rate - each).max(0.0);
            } else {
                burst += (rate - each - FEW / SLOW).max(0.0);
            }
        }
        let total = arrival.ordinary() - excess + drain;
        Self {
            beside: beside(worst, total, count, each),
            lasting: (arrival.lasting() - excess - burst).max(0.0),
            ordinary: (arrival.ordinary() - excess).max(0.0),
            drain: drain + coming / config.target_delay,
        }
    }

    /// Of a queue: any consumer takes any message. `waiting` messages wait.
    pub fn of_queue(waiting: f64, arrival: &Arrival, coming: f64, config: &Config) -> Self {
        let drain = (waiting + coming) / config.target_delay;
        Self { lasting: arrival.lasting(), ordinary: arrival.ordinary(), drain, beside: None }
    }

    /// The need for replicas that do `mu` messages/s each, with `per_replica` consumers in them.
    pub fn need(&self, mu: f64, per_replica: f64, config: &Config) -> Need {
        let (rate, lag) = (self.lasting / config.utilization / mu, (self.ordinary + self.drain) / mu);
        let lag = lag.max(self.beside.map_or(0.0, |share| 1.0 / share / per_replica));
        let replicas = rate.max(lag);
        if !replicas.is_finite() || replicas <= 0.0 {
            return Need::default();
        }
        Need { replicas, by: Some(if lag > rate { Bound::Lag } else { Bound::Rate }) }
    }
}
