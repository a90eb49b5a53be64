//! The first stage of a decision: the state takes in what is seen. Nothing is decided here.

use super::config::Config;
use super::estimate::arrival::SLOW;
use super::estimate::rate::BY_HAND;
use super::estimate::{Data, Members, Signals};
use super::observation::Observation;
use super::state::State;

impl State {
    /// Follows the target. Returns its count before, if it changed.
    pub(super) fn follow_target(&mut self, config: &Config, seen: &Observation) -> Option<u32> {
        let (now, target) = (seen.now, &seen.target);
        let before = self.target.spec.replace(target.spec);
        self.timing.target(now, before, target.spec, target.ready);
        if before.is_none() {
            self.started_at = Some(now);
            self.no_down_before(now + config.longest_stabilization());
        }
        let changed = before.filter(|&b| b != target.spec);
        if changed == Some(0) {
            // A replica that just came has all of that time, whoever asked for it.
            self.sizing.idle_since = None;
        }
        let by_others = self.guards.conflict.saw(now, before, target);
        // Fewer rest for a while; and who asks for more knows what is coming.
        let rest = self.keep(config, &self.timing, now).rest;
        if changed.is_some() && by_others {
            self.no_down_before(now + rest.max(config.longest_stabilization()));
        } else if changed.is_some_and(|before| target.spec < before) {
            self.no_down_before(now + rest);
        }
        // New pods have all of a cold start.
        let pending = target.ready.is_some_and(|r| r < target.spec);
        let more = before.is_some_and(|before| target.spec > before);
        self.target.pending_since =
            pending.then(|| self.target.pending_since.filter(|_| !more).unwrap_or(now));
        if self.target.revision != target.revision {
            if before.is_some() {
                self.rate.demote(true);
                self.sizing.regret.forget();
                self.discontinuity(config, now);
            }
            self.target.revision.clone_from(&target.revision);
        }
        changed
    }

    /// Takes in the broker's side, and measures rates.
    pub(super) fn observe(&mut self, config: &Config, seen: &Observation, dt: f64) -> Signals {
        /// Seconds of arrivals that may be ready in a queue because they are on their way to who waits for them, and the
        /// longest poll interval of which that is said: what came since a look longer ago may have come all at once.
        const ON_ITS_WAY: (f64, f64) = (1.0, 5.0);
        /// Seconds by which counters may be late: each node of a cluster tells its part when its own turn comes.
        const STATISTICS: f64 = 5.0;
        self.rate.configured(config.rate_per_replica);
        let possible = self.rate.possible() / f64::from(self.consumers_per_replica(config));
        let workers = f64::from(seen.target.ready.unwrap_or(seen.target.spec).max(1));
        let signals = if let Some(kafka) = &seen.kafka {
            let signals = self.group.observe(config, seen, kafka, &mut self.timing, possible);
            self.timing.members_known = self.group.members.known();
            match signals.members {
                Members::NotRead => {}
                Members::Same => self.rate.confirm(),
                Members::Changed => self.rate.roll_back(),
            }
            signals
        } else if let Some(queue) = &seen.rabbitmq {
            self.timing.queue = true;
            let mut sample = None;
            let poll = config.poll_interval;
            let few = self.arrival.mean() * if poll <= ON_ITS_WAY.1 { poll.min(ON_ITS_WAY.0) } else { poll };
            let signals =
                self.queue.observe(queue, seen.now, dt, few, |m, s| sample = Some((m / workers, s)));
            // Fewer consumers than replicas run: some are still connecting, and the others do it all.
            let consumers = workers * f64::from(config.consumers_per_replica.unwrap_or(1));
            let attached = queue.consumers.is_none_or(|c| f64::from(c) >= consumers);
            // The counters tell several polls at once: of a part of those there were fewer, or more, replicas. Who works
            // while more start is known by the consumers there are: a flood is where a rate shows first.
            let steady = seen.target.ready == Some(seen.target.spec);
            let steady_for = if steady { self.timing.steady_for(seen.now) } else { 0.0 };
            let steady_for = steady_for.max(self.queue.alone_for(consumers, seen.now));
            let whole = sample.filter(|(_, seconds)| steady_for > dt.max(*seconds) + STATISTICS);
            if seen.target.updating {
                // No sample is what is done meanwhile, nor what the counters tell next: a part of it was.
                self.queue.interrupt();
            } else if attached {
                self.rate.measured(seen.now, whole.into_iter());
            }
            signals
        } else {
            Signals::default()
        };
        // Also where nothing is known yet of what came in the old one's place: the next poll shows no seam any more.
        if signals.discontinuity {
            self.rate.demote(false);
            self.discontinuity(config, seen.now);
        }
        if signals.data == Data::Missing {
            self.group.members.interrupt();
            self.queue.interrupt();
            return signals;
        }
        self.sizing.known_at = Some(seen.now);
        if signals.data == Data::Full {
            /// Seconds, and polls, without a look after which what was needed meanwhile was not seen.
            const UNSEEN: (f64, f64) = (10.0, 3.0);
            // What was needed meanwhile is not known, and neither is it right after. Looks that are always that far apart are
            // how it is looked at here.
            let gap = self.sizing.whole_at.map_or(f64::INFINITY, |at| seen.now - at);
            let usual = self.sizing.whole_gap.replace(gap).filter(|usual| usual.is_finite());
            let unusual = usual.is_none_or(|usual| gap > 2.0 * usual);
            if gap > dt || unusual && gap > UNSEEN.0.max(UNSEEN.1 * config.poll_interval) {
                self.no_down_before(seen.now + gap.min(config.longest_stabilization()));
            }
            self.sizing.whole_at = Some(seen.now);
        }
        self.timing.work_seen(seen.now, signals.new_member_committed, config);
        if !self.timing.shuffling() && seen.target.ready == Some(seen.target.spec) {
            self.per_replica = self.group.members.per_replica(seen.target.ready).or(self.per_replica);
        }
        if dt > 0.0 {
            self.arrival.spans(self.rate.known(), config.target_delay);
            self.arrival.add(signals.arrived * dt, dt, signals.told);
            if seen.kafka.is_some() {
                self.measure(config, seen, workers);
            }
            self.lower_bound(seen, &signals, dt);
        }
        signals
    }

    /// Measures saturated members.
    fn measure(&mut self, config: &Config, seen: &Observation, workers: f64) {
        if seen.target.updating || self.moving(config, seen.now) {
            self.group.members.interrupt();
        }
        let m = f64::from(self.consumers_per_replica(config));
        let mut samples: Vec<(f64, f64)> = Vec::new();
        let Self { group, .. } = self;
        let mut floor = 0.0f64;
        group.members.sample(&group.parts, seen.now, config.poll_interval, workers * m, |sample| {
            // Up to a poll's worth of work may have come from before.
            floor = floor.max(sample.messages * m / (sample.seconds + config.poll_interval));
            if sample.saturated {
                samples.push((sample.messages * m, sample.seconds));
            }
        });
        self.rate.did(floor);
        self.rate.measured(seen.now, samples.into_iter());
    }

    /// Partitions may be on their way: a scale-up or -down moves them some time after it shows in the target.
    pub(super) fn moving(&self, config: &Config, now: f64) -> bool {
        /// Seconds after which a static member that is gone loses its partitions: the clients' default.
        const SESSION: f64 = 45.0;
        let session = if self.group.members.is_static() { SESSION } else { 0.0 };
        self.timing.steady_for(now) < self.timing.pause(config) + config.poll_interval + session
    }

    /// What replicas do without being saturated is a lower bound of what they can do.
    fn lower_bound(&mut self, seen: &Observation, signals: &Signals, dt: f64) {
        /// Commit gaps over which work is averaged, so that a staircase does not look like speed.
        const GAPS: f64 = 4.0;
        let Some(ready) = seen.target.ready.filter(|&r| r > 0) else {
            return;
        };
        let tau = SLOW.max(GAPS * self.timing.gap());
        let possible = self.rate.known().map_or(f64::INFINITY, |mu| mu * f64::from(ready) * BY_HAND);
        // A commit interval's work shows at one poll.
        if signals.departed / dt.max(self.timing.gap()) > possible {
            return;
        }
        self.departure.add(signals.departed / dt, dt, tau);
        self.ready_mean.add(f64::from(ready), dt, tau);
        if signals.foreign == 0 && signals.data == Data::Full && !seen.target.updating {
            self.rate.at_least(self.departure.cautious() / self.ready_mean.mean());
        }
    }

    /// What is seen now does not continue what was seen before: windows end, rates count as priors.
    pub(super) fn discontinuity(&mut self, config: &Config, now: f64) {
        self.sizing.regret.interrupt();
        self.guards.probe.forget();
        self.arrival.interrupt();
        self.group.members.interrupt();
        self.queue.interrupt();
        self.sizing.up_wanted = false;
        self.no_down_before(now + config.longest_stabilization());
    }

    pub(super) fn no_down_before(&mut self, at: f64) {
        self.sizing.no_down_until = Some(self.sizing.no_down_until.map_or(at, |before| before.max(at)));
    }

    /// Consumers in one replica; a queue's consumers are all alike, whoever runs them.
    pub(super) fn consumers_per_replica(&self, config: &Config) -> u32 {
        if self.timing.queue {
            return 1;
        }
        config.consumers_per_replica.or(self.per_replica).unwrap_or(1).max(1)
    }
}
