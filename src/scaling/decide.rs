//! One decision from start to end. Each stage is a file of its own.

use super::config::{Config, Mode};
use super::decision::{Bound, ConditionKind, Decision, Inputs, Lag, Learned, Status};
use super::estimate::Data;
use super::guards::probe::Outcome;
use super::guards::{Scene, Verdict, data, partitions, starting};
use super::observation::Observation;
use super::shape::Fleet;
use super::size::{Choice, Plan};
use super::state::State;
use super::text::two_digits;
use super::words::Story;

/// How many replicas there should be, from what is seen now and what is remembered.
///
/// Never panics, whatever is in the observation. An observation that is earlier than the last one changes
/// nothing that is remembered.
#[must_use]
pub fn decide(config: &Config, seen: &Observation, mut state: State) -> (Decision, State) {
    let now = seen.now;
    let dt = state.last_at.map_or(0.0, |last| now - last);
    if !now.is_finite() || dt < 0.0 {
        return (hold(config, seen), state);
    }
    let decision = state.step(config, seen, dt);
    state.last_at = Some(now);
    (decision, state)
}

impl State {
    fn step(&mut self, config: &Config, seen: &Observation, dt: f64) -> Decision {
        // Estimate: what is seen becomes rates.
        let changed = self.follow_target(config, seen);
        let signals = self.observe(config, seen, dt);
        let spec = seen.target.spec;
        let ready = seen.target.ready.unwrap_or(spec).min(spec);
        let good = self.rate.good().map(|rate| rate / f64::from(self.consumers_per_replica(config)));
        partitions::flag(&mut self.group, config, &self.timing, seen.now, ready, good);

        // Lent to the scene, so that the rest of the state can change meanwhile; given back below.
        let per_replica = self.consumers_per_replica(config);
        let timing = std::mem::take(&mut self.timing);
        let queue = timing.queue;
        let shape = std::mem::take(if queue { &mut self.queue.shape } else { &mut self.group.shape });
        let scene = Scene {
            config,
            seen,
            signals: &signals,
            fleet: Fleet { shape: &shape, per_replica, foreign: signals.foreign },
            timing: &timing,
            now: seen.now,
            dt,
            spec,
            ready,
        };

        // Formula, guards, rules.
        let plan = self.plan(&scene);
        self.follow_quiet(&scene, &plan);
        let mut verdict = Verdict::default();
        let probe = self.guard(&scene, &plan, changed, &mut verdict);
        let choice = self.choose(&scene, &plan, probe, &mut verdict);

        // Words.
        let decision = self.tell(&scene, &plan, choice, verdict);
        if decision.patch {
            self.guards.conflict.asks(decision.replicas);
            if decision.replicas > spec {
                self.guards.breaker.stepped(seen.now);
            }
        }
        *(if queue { &mut self.queue.shape } else { &mut self.group.shape }) = shape;
        self.timing = timing;
        decision
    }

    /// All guards, in order of precedence of what they say.
    fn guard(
        &mut self,
        scene: &Scene<'_>,
        plan: &Plan,
        changed: Option<u32>,
        verdict: &mut Verdict,
    ) -> Outcome {
        self.guards.conflict.check(scene, verdict);
        data::known(scene, &self.group, self.sizing.known_at.or(self.started_at), verdict);
        data::supported(scene, self.group.members.kind(), verdict);
        partitions::check(scene, &self.group, verdict);
        starting::group(scene, verdict);
        starting::pods(scene, self.target.pending_since, verdict);
        self.guards.breaker.count(scene);
        if self.guards.breaker.taints(scene) {
            self.group.members.interrupt();
            self.queue.interrupt();
        }
        self.guards.breaker.check(scene, verdict);
        let mu = self.rate.age(scene.now).and(self.rate.right_now(scene.now));
        let lagging = self.group.parts.iter().filter(|p| p.backlog > 0.0).count();
        let parts = self.group.parts.len();
        // Most members must have something to do: who has a partition that is done brings nothing, whatever is downstream.
        let members = (scene.spec.saturating_mul(scene.fleet.per_replica) as usize).min(parts);
        let everywhere = scene.seen.rabbitmq.is_some() || 2 * lagging >= parts && 4 * lagging >= 3 * members;
        self.guards.downstream.follow(scene, changed, mu, (plan.waiting, everywhere));
        self.guards.downstream.check(scene, verdict);
        self.guards.prefetch.check(scene, verdict);
        data::members(scene, &self.group, verdict);
        self.guards.target.check(scene, plan.limits.min_above_cap, verdict);

        let probe = self.guards.probe.watch(scene, plan.behind(), self.arrival.mean());
        if probe == Outcome::Held {
            // What arrives was done by this few, without a backlog.
            self.rate.at_least(self.arrival.mean() / scene.fleet.capacity(scene.spec));
        }
        probe
    }

    fn tell(&self, scene: &Scene<'_>, plan: &Plan, choice: Choice, verdict: Verdict) -> Decision {
        let (config, spec) = (scene.config, scene.spec);
        // What is counted of a kind that is not scaled on is no backlog of its replicas.
        let unsupported = verdict.conditions.iter().any(|is| is.kind == ConditionKind::Unsupported);
        let known = scene.signals.data != Data::Missing && !unsupported;
        let held_by = match (choice.replicas == spec, scene.seen.target.paused, config.mode) {
            (true, ..) => None,
            (_, true, _) => Some("paused"),
            (_, _, Mode::DryRun) => Some("mode is DryRun"),
            (_, _, Mode::Auto) => verdict.no_patch,
        };
        let delay = (known && plan.capacity > 0.0).then(|| scene.signals.lag / plan.capacity);
        let inputs = Inputs {
            arrival: known.then_some(plan.arrival),
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            lag: known.then_some(scene.signals.lag as u64),
            backlog: known.then_some(plan.waiting),
            mu: Some(plan.mu),
            mu_age: self.rate.age(scene.now),
            need: (known && !verdict.to_zero).then_some(plan.need.replicas),
            class: (known && !verdict.to_zero).then_some(plan.class),
            cap: plan.limits.cap,
            cold_start: scene.timing.cold_start(config),
            rebalance: scene.timing.pause(config),
            stabilization: self.keep(config, scene.timing, scene.now).window(spec, plan.class),
        };
        let bound = verdict.bounds.first().copied().unwrap_or(Bound::Idle);
        let message = Story {
            spec,
            replicas: choice.replicas,
            held_by,
            bound,
            inputs: &inputs,
            rests: self.sizing.no_down_until.map(|until| until - scene.now),
            delay,
            target_delay: config.target_delay,
            partial: scene.signals.data == Data::Partial,
            retry: scene.seen.retry,
            conditions: &verdict.conditions,
        }
        .tell();
        Decision {
            replicas: choice.replicas,
            patch: choice.replicas != spec && held_by.is_none(),
            bound,
            also: verdict.bounds.get(1..).unwrap_or_default().to_vec(),
            message,
            inputs,
            conditions: verdict.conditions,
            next_check: choice.next_check,
            status: self.status(scene, &inputs, delay),
        }
    }

    fn status(&self, scene: &Scene<'_>, inputs: &Inputs, delay: Option<f64>) -> Status {
        let (timing, shape) = (scene.timing, scene.fleet.shape);
        let worst = self.group.parts.iter().filter(|p| p.lag > 0.0).max_by(|a, b| a.lag.total_cmp(&b.lag));
        Status {
            partitions: shape.partitions(),
            cap: inputs.cap,
            lag: Lag {
                messages: inputs.lag,
                worst_partition: worst.filter(|_| inputs.lag.is_some()).map(|p| p.tp.clone()),
                seconds: delay.filter(|_| inputs.lag.is_some()),
            },
            arrival: inputs.arrival.map(|_| two_digits(self.arrival.mean())),
            departure: inputs.arrival.map(|_| two_digits(self.departure.mean())),
            per_replica: self.rate.known().map(two_digits),
            learned: Learned {
                rate_per_replica: self.rate.learned(),
                cold_start: timing.learned_cold_start(),
                rebalance: timing.learned_pause(),
                commit_gap: timing.learned_gap(),
                consumers_per_replica: scene.config.consumers_per_replica.or(self.per_replica),
                phantom_lag: self.group.phantom_lag(),
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
        message: format!("{} replicas: the observation is earlier than the last one", seen.target.spec),
        inputs: Inputs::default(),
        conditions: Vec::new(),
        next_check: config.poll_interval,
        status: Status::default(),
    }
}
