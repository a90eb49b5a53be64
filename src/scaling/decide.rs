//! One decision from start to end. The stages are marked in place; each is a file of its own.

use super::config::{Config, Mode};
use super::decision::{Bound, Decision, Inputs, Lag, Learned, Status};
use super::estimate::{Data, Signals};
use super::formula::{Demand, backlog};
use super::observation::Observation;
use super::rules::{DOWN_MARGIN, Limits, Ups, Wait, down, up};
use super::shape::{Fleet, Shape};
use super::state::State;
use super::text::two_digits;
use super::words::Story;

/// How many replicas there should be, from what is seen now and what is remembered.
///
/// Never panics, whatever is in the observation. An observation that is not later than the last one changes
/// nothing that is remembered.
#[must_use]
pub fn decide(config: &Config, seen: &Observation, mut state: State) -> (Decision, State) {
    let decision = state.step(config, seen);
    (decision, state)
}

impl State {
    fn step(&mut self, config: &Config, seen: &Observation) -> Decision {
        let now = seen.now;
        let dt = self.last_at.map_or(0.0, |last| now - last);
        if !now.is_finite() || dt < 0.0 {
            return hold(config, seen);
        }
        // Estimate.
        self.follow_target(config, seen);
        let signals = self.observe(config, seen);
        self.estimate(config, seen, &signals, dt);
        self.last_at = Some(now);

        // Formula.
        let spec = seen.target.spec;
        let per_replica = self.consumers_per_replica(config);
        let shape = std::mem::take(&mut self.group.shape);
        let fleet = Fleet { shape: &shape, per_replica, foreign: signals.foreign };
        let decision = self.size(config, seen, &signals, &fleet, spec);
        self.group.shape = shape;
        decision
    }

    fn follow_target(&mut self, config: &Config, seen: &Observation) {
        let (now, target) = (seen.now, &seen.target);
        let before = self.target.spec.replace(target.spec);
        self.timing.target(now, before, target.spec, target.ready);
        if before.is_none() {
            self.no_down_before(now + config.stabilization);
        }
        if before.is_some_and(|b| target.spec < b) {
            let rest = config.stabilization.max(10.0 * self.timing.pause(config));
            self.no_down_before(now + rest);
        }
        let pending = target.ready.is_some_and(|r| r < target.spec);
        self.target.pending_since = pending.then(|| self.target.pending_since.unwrap_or(now));
        if before.is_some() && self.target.revision != target.revision {
            self.rate.demote(true);
            self.discontinuity(config, now);
        }
        if self.target.revision != target.revision {
            self.target.revision = target.revision.clone();
        }
    }

    fn observe(&mut self, config: &Config, seen: &Observation) -> Signals {
        match &seen.kafka {
            Some(kafka) => self.group.observe(config, seen, kafka, &mut self.timing),
            None => Signals::default(),
        }
    }

    fn discontinuity(&mut self, config: &Config, now: f64) {
        self.arrival.interrupt();
        self.group.members.interrupt();
        self.sizing.up_wanted = false;
        self.no_down_before(now + config.stabilization);
    }

    fn no_down_before(&mut self, at: f64) {
        self.sizing.no_down_until = Some(self.sizing.no_down_until.map_or(at, |before| before.max(at)));
    }

    fn consumers_per_replica(&self, config: &Config) -> u32 {
        config.consumers_per_replica.or(self.per_replica).unwrap_or(1).max(1)
    }

    /// Rates and flags from this poll.
    fn estimate(&mut self, config: &Config, seen: &Observation, signals: &Signals, dt: f64) {
        let now = seen.now;
        if let Some(rate) = config.rate_per_replica {
            self.rate.suppose(rate);
        }
        if signals.data == Data::Missing {
            self.group.members.interrupt();
            return;
        }
        self.sizing.known_at = Some(now);
        if signals.discontinuity {
            self.rate.demote(false);
            self.discontinuity(config, now);
        }
        self.timing.work_seen(now, signals.new_member_committed, config);
        if !self.timing.shuffling() && seen.target.ready == Some(seen.target.spec) {
            self.per_replica = self.group.members.per_replica(seen.target.ready).or(self.per_replica);
        }
        if dt <= 0.0 {
            return;
        }
        self.arrival.add(signals.arrived * dt, dt);
        if seen.target.updating {
            self.group.members.interrupt();
        }
        let m = f64::from(self.consumers_per_replica(config));
        let workers = f64::from(seen.target.ready.unwrap_or(seen.target.spec).max(1)) * m;
        let mut samples: Vec<(f64, f64)> = Vec::new();
        self.group.members.sample(
            &self.group.parts,
            now,
            config.poll_interval,
            workers,
            |messages, seconds| {
                samples.push((messages * m, seconds));
            },
        );
        self.rate.measured(now, samples.into_iter());
        self.lower_bound(config, seen, signals, dt);
    }

    /// What replicas do without being saturated is a lower bound of what they can do.
    fn lower_bound(&mut self, config: &Config, seen: &Observation, signals: &Signals, dt: f64) {
        /// Commit gaps over which work is averaged, so that a staircase does not look like speed.
        const GAPS: f64 = 4.0;
        /// A group that did this many times what it is known to do had its offsets moved by hand.
        const BY_HAND: f64 = 10.0;
        let Some(ready) = seen.target.ready.filter(|&r| r > 0) else {
            return;
        };
        let possible = self.rate.known().map_or(f64::INFINITY, |mu| mu * f64::from(ready) * BY_HAND);
        let tau = super::estimate::arrival::SLOW.max(GAPS * self.timing.gap());
        if signals.departed / dt > possible.max(signals.arrived * BY_HAND) {
            return;
        }
        self.departure.add(signals.departed / dt, dt, tau);
        self.ready_mean.add(f64::from(ready), dt, tau);
        if signals.foreign == 0 && !seen.target.updating {
            self.rate.at_least(self.departure.cautious() / self.ready_mean.mean());
        }
    }

    /// From rates to a count.
    #[allow(clippy::too_many_lines)]
    fn size(
        &mut self,
        config: &Config,
        seen: &Observation,
        signals: &Signals,
        fleet: &Fleet<'_>,
        spec: u32,
    ) -> Decision {
        let now = seen.now;
        let limits = Limits::new(config, fleet, spec);
        let mu = self.rate.for_up();
        let known = signals.data != Data::Missing;
        let full = signals.data == Data::Full;

        let waiting = if known {
            backlog(&mut self.group, &self.arrival, &self.timing, config, self.seeded)
        } else {
            0.0
        };
        let arrival = self.arrival.for_up();
        let ready = seen.target.ready.unwrap_or(spec).min(spec);
        let left = self.timing.until_more(config, now);
        let demand = |mu: f64| {
            let coming = (arrival - fleet.capacity(ready) * mu).max(0.0) * left;
            let each = mu / f64::from(fleet.per_replica);
            Demand::of_group(&self.group, arrival, waiting, coming, each, config)
        };
        let need = demand(mu).need(mu, config);
        let class = if need.replicas > 0.0 { fleet.class(need.replicas, limits.ceiling) } else { 0 };

        let mut bounds: Vec<Bound> = Vec::new();
        let quiet = known && need.replicas <= 0.0 && !signals.lagging;
        if known {
            bounds.push(need.by.unwrap_or(Bound::Idle));
        }

        // Needs remembered for going down: by what a replica has been seen to do, never by a guess.
        let low_need = match self.rate.for_down() {
            Some(mu) => demand(mu).need(mu, config).replicas,
            None if quiet => 0.0,
            None => fleet.capacity(spec),
        };
        if known {
            let peak = if low_need > 0.0 { fleet.class(low_need, limits.ceiling) } else { 0 };
            self.sizing.needs.push(now, low_need, config.stabilization);
            self.sizing.peaks.push(now, f64::from(peak), config.peak_memory);
        }
        self.idle(signals, full, now);

        // Rules.
        let floor = if spec == 0 && limits.min == 0 && !(known && (signals.lagging || need.replicas > 0.0)) {
            0
        } else {
            limits.min.max(1)
        };
        let mut replicas = spec;
        let mut next_check = config.poll_interval;
        let mut confirming = false;
        if spec < floor {
            replicas = floor;
            if floor == limits.min {
                bounds.push(Bound::Min);
            }
        }
        if known {
            let wanted = class.clamp(floor, limits.ceiling.max(floor));
            let capacity = fleet.capacity(ready) * mu;
            let late = waiting > config.target_delay * capacity && self.arrival.last() < 0.1 * waiting;
            if wanted > replicas {
                let ups = Ups {
                    wanted,
                    agreed: self.sizing.up_wanted,
                    late,
                    starting: self.timing.up.is_some() && spec > 0,
                };
                match up(spec, &limits, ups) {
                    Ok(count) => replicas = count,
                    Err(wait) => {
                        bounds.push(Bound::Stabilization);
                        if wait == Wait::SecondPoll {
                            confirming = true;
                            next_check = config.poll_interval / 2.0;
                        }
                    }
                }
                if self.rate.known().is_none() {
                    bounds.push(Bound::Bootstrap);
                }
            } else if full && spec > floor {
                let most = self.sizing.needs.max();
                let lower =
                    if most > 0.0 { fleet.class(most * DOWN_MARGIN, limits.ceiling) } else { floor.max(1) };
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let peak = self.sizing.peaks.max() as u32;
                let next = down(spec, lower.min(limits.ceiling), peak.min(limits.ceiling), &limits, fleet);
                let rest = self.sizing.no_down_until.is_some_and(|until| now < until)
                    || seen.target.updating
                    || self.timing.shuffling();
                if next < spec && !rest {
                    replicas = next;
                } else if class.max(floor) < spec {
                    bounds.push(Bound::Stabilization);
                }
            } else if !full {
                bounds.push(Bound::Unknown);
            }
            self.sizing.up_wanted = wanted > spec;
            if class >= limits.ceiling && need.replicas > fleet.capacity(limits.ceiling) {
                bounds.extend(limits.by);
            }
            if class < limits.min && replicas == limits.min {
                bounds.push(Bound::Min);
            }
        } else {
            bounds.push(Bound::Unknown);
            self.sizing.up_wanted = false;
        }
        let _ = confirming;
        let max = config.max_replicas.unwrap_or(u32::MAX);
        replicas = replicas.min(max);

        // Words.
        let paused = seen.target.paused;
        if paused {
            bounds.push(Bound::Paused);
        }
        let patch = replicas != spec && !paused && config.mode == Mode::Auto;
        if patch {
            self.target.asked = Some(replicas);
        }
        bounds.sort_unstable();
        bounds.dedup();
        let bound = bounds.first().copied().unwrap_or(Bound::Idle);
        let capacity = fleet.capacity(ready) * mu;
        let delay = (capacity > 0.0).then(|| signals.lag / capacity);
        let inputs = Inputs {
            arrival: known.then_some(arrival),
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            lag: known.then_some(signals.lag as u64),
            backlog: known.then_some(waiting),
            mu: Some(mu),
            mu_age: self.rate.age(now),
            need: known.then_some(need.replicas),
            class: known.then_some(class),
            cap: limits.cap,
            cold_start: self.timing.cold_start(config),
            rebalance: self.timing.pause(config),
        };
        let held_by = match (replicas == spec, paused, config.mode) {
            (true, ..) => None,
            (_, true, _) => Some("paused"),
            (_, _, Mode::DryRun) => Some("mode is DryRun"),
            _ => None,
        };
        let message = Story {
            spec,
            replicas,
            held_by,
            bound,
            inputs: &inputs,
            delay,
            target_delay: config.target_delay,
            conditions: &[],
        }
        .tell();
        Decision {
            replicas,
            patch,
            bound,
            also: bounds.get(1..).unwrap_or_default().to_vec(),
            message,
            inputs,
            conditions: Vec::new(),
            next_check,
            status: self.status(config, &inputs, fleet.shape, delay),
        }
    }

    fn idle(&mut self, signals: &Signals, full: bool, now: f64) {
        let still = full && !signals.lagging && signals.arrived <= 0.0 && !signals.hidden;
        self.sizing.idle_since = still.then(|| self.sizing.idle_since.unwrap_or(now));
    }

    fn status(&self, config: &Config, inputs: &Inputs, shape: &Shape, delay: Option<f64>) -> Status {
        let worst = self.group.parts.iter().filter(|p| p.lag > 0.0).max_by(|a, b| a.lag.total_cmp(&b.lag));
        Status {
            partitions: shape.partitions(),
            cap: inputs.cap,
            lag: Lag {
                messages: inputs.lag,
                worst_partition: worst.map(|p| p.tp.clone()),
                seconds: delay.filter(|_| inputs.lag.is_some()),
            },
            arrival: inputs.arrival.map(|_| two_digits(self.arrival.mean())),
            departure: inputs.arrival.map(|_| two_digits(self.departure.mean())),
            per_replica: self.rate.known().map(two_digits),
            learned: Learned {
                rate_per_replica: self.rate.known(),
                cold_start: self.timing.learned_cold_start(),
                rebalance: self.timing.learned_pause(),
                commit_gap: self.timing.learned_gap(),
                consumers_per_replica: config.consumers_per_replica.or(self.per_replica),
            },
        }
    }
}

/// Nothing can be said: the count stays.
fn hold(config: &Config, seen: &Observation) -> Decision {
    Decision {
        replicas: seen.target.spec,
        patch: false,
        bound: Bound::Unknown,
        also: Vec::new(),
        message: format!("{} replicas: the observation is not later than the last one", seen.target.spec),
        inputs: Inputs::default(),
        conditions: Vec::new(),
        next_check: config.poll_interval,
        status: Status::default(),
    }
}
