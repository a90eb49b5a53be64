//! The middle stages of a decision: the formula's need, and the count that rules and guards make of it.

use super::config::Mode;
use super::decision::Bound;
use super::estimate::Data;
use super::estimate::arrival::SLOW;
use super::formula::{Demand, Need, backlog};
use super::guards::probe::{Doubt, Outcome};
use super::guards::{Scene, Verdict};
use super::regret::Raised;
use super::rules::{Limits, Ups, Wait, down, to_hold, up, worth_waiting};
use super::state::State;

/// What the formula says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Messages/s of one replica, as used for scaling up.
    pub mu: f64,
    pub arrival: f64,
    /// Messages beyond a commit interval.
    pub waiting: f64,
    pub need: Need,
    /// The need as a class within limits; 0: nothing to do.
    pub class: u32,
    /// The need by what a replica was seen to do, never by a guess.
    low_need: f64,
    /// The mean of that, up to the last poll.
    mean_need: f64,
    pub limits: Limits,
    /// Messages/s that the ready replicas do.
    pub capacity: f64,
}

impl Plan {
    /// Seconds of their own work that the ready replicas are behind.
    pub(super) fn behind(&self) -> f64 {
        self.waiting / self.capacity.max(f64::MIN_POSITIVE)
    }
}

/// The count, and when to look again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub replicas: u32,
    pub next_check: f64,
}

impl State {
    /// The formula.
    pub(super) fn plan(&mut self, scene: &Scene<'_>) -> Plan {
        /// Seconds without any work after which what is left of the mean arrival rate is nothing.
        const FADED: f64 = 2.0 * SLOW;
        let (config, fleet, now) = (scene.config, &scene.fleet, scene.now);
        let limits = Limits::new(config, fleet, scene.spec);
        // A size that was shown to be enough is taken to be one that the formula would choose, while no rate is known.
        let guess = self.guards.probe.proven().map(|(size, arrival)| arrival / fleet.capacity(size));
        let mu = self.rate.for_up(guess.unwrap_or_default() / config.utilization);
        let queue = scene.seen.rabbitmq.is_some();
        let waiting = if queue {
            // What the next poll's deliveries take anyway is no backlog.
            (self.queue.ready - self.arrival.mean() * self.arrival.calm() * config.poll_interval).max(0.0)
        } else {
            backlog(&mut self.group, &self.arrival, scene.timing, config, (self.seeded, scene.ready > 0, now))
        };
        let left = scene.timing.until_more(config, now);
        let demand = |mu: f64, waiting: f64| {
            let coming = (self.arrival.ordinary() - fleet.capacity(scene.ready) * mu).max(0.0) * left;
            if queue {
                return Demand::of_queue(waiting, &self.arrival, coming, config);
            }
            Demand::of_group(&self.group, &self.arrival, coming, mu / f64::from(fleet.per_replica), config)
        };
        let idle_for = self.sizing.idle_since.map_or(0.0, |since| now - since);
        let still = !work(scene);
        let nothing = still && (idle_for > FADED || scene.spec == 0);
        let capacity = fleet.capacity(scene.ready) * mu;
        // What was shown to be enough is, whatever the formula makes of a rate that nobody was seen at work with.
        let behind = waiting / capacity.max(f64::MIN_POSITIVE);
        let enough = self.guards.probe.enough(config, self.arrival.for_up(), behind);
        // Unless replicas were seen at work since, and that many of them cannot do it: they are slower now.
        let since = self.rate.measured_at().is_some_and(|at| self.guards.probe.held_before(at));
        let enough = enough
            .filter(|&size| !since || self.arrival.mean() <= fleet.capacity(size) * self.rate.for_up(0.0));
        let enough = enough.map_or(f64::INFINITY, |size| fleet.capacity(size));
        let mut need = demand(mu, waiting).need(mu, f64::from(fleet.per_replica), config);
        need.replicas = need.replicas.min(enough);
        if nothing {
            need = Need::default();
        }
        let class =
            if need.replicas > 0.0 { fleet.size(need.replicas, limits.ceiling, config.over()) } else { 0 };
        let quiet = need.replicas <= 0.0 && !scene.signals.lagging;
        let low_need = match self.rate.for_down() {
            _ if nothing => 0.0,
            // A queue's unacknowledged messages are work that is still to be done.
            Some(mu) => {
                let waiting = waiting + self.queue.unacked;
                demand(mu, waiting).need(mu, f64::from(fleet.per_replica), config).replicas.min(enough)
            }
            None if quiet => 0.0,
            None => fleet.capacity(scene.spec),
        };
        // As it was before this poll: with more that waits now, what was there before is no less restless.
        let mean_need = self.sizing.mean.mean();
        if scene.signals.data != Data::Missing {
            let peak = if low_need > 0.0 { fleet.size(low_need, limits.ceiling, config.over()) } else { 0 };
            self.sizing.needs.push(now, low_need, config.longest_stabilization());
            self.sizing.mean.add(low_need, scene.dt, config.longest_stabilization().max(1.0));
            self.sizing.peaks.push(now, f64::from(peak), config.peaks());
        }
        Plan { mu, arrival: self.arrival.told(), waiting, need, class, low_need, mean_need, limits, capacity }
    }

    /// Follows how long there has been nothing to do, and how long no backlog.
    pub(super) fn follow_quiet(&mut self, scene: &Scene<'_>, plan: &Plan) {
        /// Seconds of the group's own work that may wait without being a backlog.
        const SLACK: f64 = 1.0;
        let (signals, now) = (scene.signals, scene.now);
        let full = signals.data == Data::Full;
        let retries = scene.seen.retry.is_none_or(|r| r.lag == Some(0));
        // A partition that stands, or a group that does, is left out of the need: its messages are there all the same.
        let stands = self.group.parts.iter().any(|p| p.usable && p.lag > 0.0 && !p.phantom);
        let idle =
            full && retries && !signals.lagging && !stands && signals.arrived <= 0.0 && !signals.hidden;
        self.sizing.idle_since = idle.then(|| self.sizing.idle_since.unwrap_or(now));
        // Each partition's few messages of noise add up; one second of arrivals is none of it.
        let calm = full && plan.waiting <= SLACK * plan.capacity.min(plan.arrival.max(1.0));
        self.sizing.calm_since = calm.then(|| self.sizing.calm_since.unwrap_or(now));
    }

    /// Seconds without backlog.
    pub(super) fn calm_for(&self, now: f64) -> f64 {
        self.sizing.calm_since.map_or(0.0, |since| now - since)
    }

    /// The count that rules and guards make of the plan.
    pub(super) fn choose(
        &mut self,
        scene: &Scene<'_>,
        plan: &Plan,
        probe: Outcome,
        verdict: &mut Verdict,
    ) -> Choice {
        let (config, spec, limits) = (scene.config, scene.spec, &plan.limits);
        let known = scene.signals.data != Data::Missing;
        // What waits to be tried again comes back to the group.
        let work = known && (work(scene) || retries(scene));
        let floor = if spec == 0 && limits.min == 0 && !work { 0 } else { limits.min.max(1) };
        let mut choice = Choice { replicas: spec, next_check: config.poll_interval };
        let mut wanted =
            if known { plan.class.clamp(floor, limits.ceiling.max(floor)) } else { spec.max(floor) };
        if probe == Outcome::Running {
            // Arrivals at a rate that is being doubted are no reason; a backlog ends the probe.
            if wanted > spec.max(floor) {
                verdict.bounds.push(Bound::Trial);
            }
            wanted = wanted.min(spec.max(floor));
        }
        if known && spec > 0 && self.keeps_up_unmeasured(scene, plan) {
            wanted = wanted.min(spec.max(floor));
        }
        let back = self.guards.probe.given_back(scene.now, config, self.arrival.mean());
        let in_time = |size: u32| plan.waiting <= config.target_delay * scene.fleet.capacity(size) * plan.mu;
        if let Some(size) = back.filter(|&size| in_time(size)) {
            wanted = wanted.min(size.max(spec));
        }
        wanted = wanted.max(self.bootstrap(scene, plan, known, verdict));
        // What a limit asks for, whatever else holds: at zero, one replica for the first message.
        let mut must = floor;
        if let Some(raise) = verdict.raise_to {
            // Where neither a cap nor a maximum is known, a number that a person gave is the only one there is.
            let allowed = if limits.by.is_some() { limits.ceiling.max(floor) } else { raise };
            must = must.max(raise.min(allowed));
            wanted = wanted.max(must);
        }
        if self.guards.downstream.limit().is_some_and(|limit| wanted > limit || spec > limit) {
            verdict.bounds.push(Bound::Downstream);
        }
        if let Some(ceiling) = verdict.ceiling {
            wanted = wanted.min(ceiling.max(spec).max(must));
        }
        if spec > 0 && self.too_young(scene) {
            verdict.bounds.push(Bound::Bootstrap);
            wanted = wanted.min(spec.max(floor));
        }
        let held = verdict.no_up && wanted > spec.max(must);
        if held {
            wanted = spec.max(must);
        }
        if wanted > spec {
            self.go_up(scene, plan, wanted, must > spec, verdict, &mut choice);
        } else if held {
            self.sizing.up_wanted = false;
        } else {
            (self.sizing.up_wanted, self.sizing.rise_awaited) = (false, false);
            self.go_down(scene, plan, floor, verdict, &mut choice);
        }
        if let Some(back) = verdict.back_to.filter(|&back| back < choice.replicas && !verdict.no_down) {
            choice.replicas = back.max(floor);
        }
        if let Some(max) = config.max_replicas {
            choice.replicas = choice.replicas.min(max.max(floor));
        }
        bounds(scene, plan, floor, known, &choice, verdict);
        choice
    }

    /// Nothing waits, and what a replica does is only guessed: the replicas that are there are enough, whatever
    /// the guess says of the arrivals.
    fn keeps_up_unmeasured(&self, scene: &Scene<'_>, plan: &Plan) -> bool {
        /// Messages that are no backlog, beside what one poll brings.
        const FEW: f64 = 10.0;
        self.rate.known().is_none() && plan.waiting <= FEW.max(plan.arrival * scene.config.poll_interval)
    }

    /// No rate is known and what waits does not go: the next class that at least doubles, once per cold start.
    fn bootstrap(&mut self, scene: &Scene<'_>, plan: &Plan, known: bool, verdict: &mut Verdict) -> u32 {
        /// Seconds between two looks at the backlog, at least: two default commits.
        const LOOK: f64 = 10.0;
        /// Messages that are no backlog, beside what two commit intervals bring.
        const FEW: f64 = 10.0;
        /// A backlog that fell to this share is being worked on.
        const FALLING: f64 = 0.9;
        let ordinary = 2.0 * plan.arrival * (scene.timing.gap() + scene.config.poll_interval);
        // Where a static member has gone, its partitions wait for its session to end.
        let orphans = self.group.members.is_static() && self.moving(scene.config, scene.now);
        // Nor does a partition go sooner whose member has nothing else to do.
        let waiting = plan.waiting - self.group.alone(scene.now, LOOK);
        if !known || orphans || self.rate.known().is_some() || waiting < FEW + ordinary {
            self.sizing.compared = None;
            return 0;
        }
        verdict.bounds.push(Bound::Bootstrap);
        let now = scene.now;
        let (at, before) = *self.sizing.compared.get_or_insert((now, waiting));
        if now - at < LOOK.max(2.0 * scene.timing.gap()) {
            return 0;
        }
        self.sizing.compared = Some((now, waiting));
        let pause = scene.timing.cold_start(scene.config) + scene.timing.pause(scene.config);
        let recent = self.sizing.bootstrapped_at.is_some_and(|at| now - at < pause);
        if waiting < FALLING * before || recent || scene.timing.up.is_some() {
            return 0;
        }
        self.sizing.bootstrapped_at = Some(now);
        // Looked at twice by construction; and no formula supports it yet that would keep it.
        self.sizing.up_wanted = true;
        self.no_down_before(now + scene.config.longest_stabilization());
        scene.fleet.class(2.0 * scene.fleet.capacity(scene.spec), plan.limits.ceiling)
    }

    /// Nothing is known of a replica's rate, and nothing could be yet: two commit intervals tell it, where
    /// commits move; where none do, three polls tell a group at work from one that is not.
    fn too_young(&self, scene: &Scene<'_>) -> bool {
        const POLLS: f64 = 3.0;
        let age = scene.now - self.started_at.unwrap_or(scene.now);
        let poll = scene.config.poll_interval;
        let moves = self.departure.mean() > 0.0;
        let enough = if moves { scene.timing.two_commits() + poll } else { POLLS * poll };
        self.rate.known().is_none() && age < enough
    }

    fn go_up(
        &mut self,
        scene: &Scene<'_>,
        plan: &Plan,
        wanted: u32,
        forced: bool,
        verdict: &mut Verdict,
        choice: &mut Choice,
    ) {
        /// Share of a backlog that came with the last poll above which it may still be growing.
        const GROWING: f64 = 0.1;
        let config = scene.config;
        let late = plan.waiting > config.target_delay * plan.capacity
            && self.arrival.last() < GROWING * plan.waiting;
        let ups = Ups {
            wanted,
            agreed: self.sizing.up_wanted,
            rising: wanted < plan.limits.ceiling && self.arrival.rising() && !self.sizing.rise_awaited,
            late,
            forced,
            starting: scene.timing.up.is_some(),
        };
        match up(scene.spec, &plan.limits, ups) {
            Ok(count) => {
                choice.replicas = count;
                let now = scene.now;
                self.guards.probe.reversed(now, config, self.arrival.for_up());
                let raised = Raised {
                    failed: scene.spec,
                    to: count,
                    arrival: self.arrival.mean(),
                    swing: self.keep(config, scene.timing, now).regret,
                };
                self.sizing.regret.raised(now, raised, config, &scene.fleet);
            }
            Err(wait) => {
                self.sizing.rise_awaited = ups.agreed && ups.rising;
                verdict.bounds.push(Bound::Stabilization);
                if wait == Wait::SecondPoll {
                    choice.next_check = config.poll_interval / 2.0;
                }
            }
        }
        self.sizing.up_wanted = true;
    }

    fn go_down(
        &mut self,
        scene: &Scene<'_>,
        plan: &Plan,
        floor: u32,
        verdict: &mut Verdict,
        choice: &mut Choice,
    ) {
        /// Seconds after which `RabbitMQ`'s statistics have shown whatever happened: two of their intervals.
        const STATISTICS: f64 = 10.0;
        let (config, spec, now) = (scene.config, scene.spec, scene.now);
        if spec == 0 || verdict.no_down || scene.signals.data != Data::Full {
            return;
        }
        let unstable_for = scene.timing.shuffle_since.map_or(0.0, |since| now - since);
        let moving = scene.timing.shuffling() && unstable_for <= super::guards::starting::DOWN_ANYWAY;
        let early = self.sizing.no_down_until.is_some_and(|until| now < until);
        let rest = early || moving || scene.seen.target.updating;
        let idle_for = self.sizing.idle_since.map_or(0.0, |since| now - since);
        // A message that is given out at once shows in nothing but the statistics.
        let sure = if scene.seen.rabbitmq.is_some() { STATISTICS } else { 0.0 };
        if plan.limits.min == 0 && !verdict.no_zero && idle_for >= config.idle_after.max(sure) && !rest {
            choice.replicas = 0;
            verdict.to_zero = true;
            return;
        }
        let careful = self.sizing.regret.careful(now);
        let keep = self.keep(config, scene.timing, now);
        let size = |most: f64| {
            let most = most.max(plan.low_need);
            let hold = to_hold(most, plan.mean_need, careful);
            if most > 0.0 { scene.fleet.size(hold, plan.limits.ceiling, config.over()) } else { floor.max(1) }
        };
        let kept = keep.least(spec, self.sizing.peaks.max().min(f64::from(plan.limits.ceiling)));
        let down_to = |lower: u32| down(spec, lower.max(kept), &plan.limits, &scene.fleet);
        let least = self.sizing.regret.at_least(now, self.arrival.mean()).unwrap_or(0);
        let most_of = |seconds: f64| self.sizing.needs.max_since(now - seconds).max(plan.low_need);
        let window = keep.window(spec, down_to(size(most_of(keep.soon)).max(least)));
        let most = most_of(window);
        let lower = size(most);
        let mut next = down_to(lower.max(least));
        if next >= spec && down_to(lower) < spec {
            verdict.bounds.push(Bound::TooFew);
        }
        // A step down is followed by a rest: one that leads further, soon, may be worth more than one now. Known since the
        // last poll, so that what this one brings makes no difference to it: with more that waits, no step comes sooner.
        let falls =
            |seconds: f64| self.sizing.needs.falls(now - seconds, seconds).map(move |fall| (seconds, fall));
        let steps = falls(keep.soon).chain(falls(keep.slowly)).filter_map(|(seconds, (at, most))| {
            let count = down_to(size(most).max(least));
            (keep.window(spec, count) <= seconds).then_some((at - now, count))
        });
        let better_later = worth_waiting(spec, next, keep.rest, steps);
        let waits = std::mem::replace(&mut self.sizing.better_later, better_later);
        let mut probing = false;
        // Hands that are full show nothing of a rate, and a size that cannot be carried out, or taken back, nothing at all.
        let full_hands = verdict.bounds.contains(&Bound::Prefetch);
        let free = !verdict.no_up && verdict.no_patch.is_none() && config.mode == Mode::Auto;
        let free = free && !scene.seen.target.paused && !full_hands;
        if next >= spec && spec > floor && !rest && free {
            let unproven = self.rate.age(now).unwrap_or(now - self.started_at.unwrap_or(now));
            let unproven = unproven.min(scene.timing.same_size_for(now));
            let why = match self.rate.doubtful() {
                true => Doubt::Rate,
                false if scene.fleet.size(most, plan.limits.ceiling, config.over()) < spec => Doubt::Room,
                false => Doubt::None,
            };
            if self.guards.probe.due(scene, self.calm_for(now), unproven, why) {
                next = scene.fleet.trial(spec).max(floor).max(least);
                probing = next < spec;
            }
        }
        if next < spec && !rest && (probing || !waits) {
            choice.replicas = next;
            self.sizing.regret.lowered(now, spec, self.arrival.mean());
            if probing {
                self.guards.probe.begin(now, spec, next);
                verdict.bounds.push(Bound::Trial);
            }
        } else if plan.class.max(floor) < spec {
            verdict.bounds.push(Bound::Stabilization);
        }
    }
}

/// Whether there is anything to do. What came to a queue without replicas and is not in it was done by others.
fn work(scene: &Scene<'_>) -> bool {
    let elsewhere = scene.seen.rabbitmq.is_some() && scene.spec == 0;
    scene.signals.lagging || scene.signals.arrived > 0.0 && !elsewhere
}

/// Whether something waits to be tried again.
fn retries(scene: &Scene<'_>) -> bool {
    scene.seen.retry.is_some_and(|retry| retry.lag.is_some_and(|lag| lag > 0))
}

/// Everything else that holds.
fn bounds(scene: &Scene<'_>, plan: &Plan, floor: u32, known: bool, choice: &Choice, verdict: &mut Verdict) {
    let limits = &plan.limits;
    if verdict.to_zero {
        verdict.bounds.push(Bound::Idle);
    } else if known {
        let only_retries = retries(scene) && !work(scene);
        let by = if only_retries { Some(Bound::Lag) } else { plan.need.by };
        verdict.bounds.push(by.unwrap_or(Bound::Idle));
        if plan.need.replicas > scene.fleet.capacity(limits.ceiling) + 1e-6 {
            verdict.bounds.extend(limits.by);
        }
        if plan.class < limits.min && choice.replicas == limits.min {
            verdict.bounds.push(Bound::Min);
        }
    } else if choice.replicas == floor && scene.spec < floor {
        verdict.bounds.push(Bound::Min);
    }
    if scene.seen.target.paused {
        verdict.bounds.push(Bound::Paused);
    }
    verdict.bounds.sort_unstable();
    verdict.bounds.dedup();
    if choice.replicas > scene.spec && scene.signals.data == Data::Partial {
        // What is known asks for more, whatever the rest may hold.
        let is_unknown = |bound: &Bound| *bound == Bound::Unknown;
        if let Some(at) = verdict.bounds.iter().position(is_unknown) {
            verdict.bounds[at..].rotate_left(1);
        }
    }
}
