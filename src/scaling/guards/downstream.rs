//! Downstream bound: a scale-up that brought nothing is taken back, and tried again later.
//!
//! A shared database at its limit makes every replica slower, so that the formula asks for ever more of them.

use serde::{Deserialize, Serialize};

use super::super::decision::{Condition, ConditionKind};
use super::super::estimate::Data;
use super::super::estimate::series::Ewma;
use super::super::rules::backoff;
use super::super::text::Within;
use super::{Scene, Verdict};

/// Share of the expected gain below which a scale-up brought nothing.
const GAIN: f64 = 0.3;
/// Seconds for which the group's work is measured after a scale-up, and the commit gaps they must span.
const MEASURE: (f64, f64) = (15.0, 3.0);
/// The same at a queue, whose counters come in lumps of 5 s.
const MEASURE_QUEUE: f64 = 2.0 * MEASURE.0;
/// Seconds over which the pace before a scale-up is taken, and the commit gaps they must span; the pace shows
/// what a group can do after it has been behind for this many times that.
const PACE: (f64, f64) = (5.0, 2.0);
const SHOWN: f64 = 2.0;
/// Seconds before another try, and the most that doubling makes of it.
const RETRY: (f64, f64) = (600.0, 3_600.0);
/// Share of what was reached that must be kept when going back.
const ENOUGH: f64 = 0.95;
/// Share of what was reached below which going back cost something.
const CLEARLY: f64 = 0.9;
/// Share of what was supposed of the replicas before below which even more of them do: they got slower themselves.
const SLOWER: f64 = 0.8;
/// Seconds of work that must wait at the end of a trial: only then were the new members busy.
const BUSY: f64 = 2.0;
/// Messages for each consumer that must wait then: one is in its hands, and where each takes a while, that is no backlog.
const IN_HAND: f64 = 2.0;
/// Seconds after which a scale-up that never settled says nothing.
const ABANDON: f64 = 900.0;

/// The trial under way, and the limit that failed ones set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Memory {
    /// What the whole group does, messages/s.
    pace: Ewma,
    /// Since when the group has been behind.
    busy_since: Option<f64>,
    trial: Option<Trial>,
    limit: Option<Limit>,
    /// Failures in a row.
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Trial {
    at: f64,
    from: u32,
    to: u32,
    /// Messages/s before, and those that were expected in addition.
    before: f64,
    expected: f64,
    /// Messages/s of one replica before, and whether they were seen, not supposed from earlier.
    each: f64,
    shown: bool,
    /// Since when all replicas work, and messages done since then.
    settled: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Limit {
    replicas: u32,
    until: f64,
    took_back: bool,
    /// The count that brought nothing, and messages/s that it did.
    tried: (u32, f64),
    /// Since when all replicas that were left work and are behind, and messages done since then.
    left: Option<(f64, f64)>,
    /// It was looked whether going back cost anything.
    judged: bool,
}

impl Memory {
    /// Follows the group's work. `changed`: the target's count before, if it changed. `mu`: as measured. `work`:
    /// messages that wait, and whether most partitions have some.
    pub fn follow(&mut self, scene: &Scene<'_>, changed: Option<u32>, mu: Option<f64>, work: (f64, bool)) {
        let gap = scene.timing.gap();
        let span = PACE.0.max(PACE.1 * gap);
        self.limit = self.limit.filter(|limit| scene.now < limit.until);
        if scene.signals.data != Data::Full || scene.signals.discontinuity || scene.seen.target.updating {
            self.trial = None;
            if let Some(limit) = &mut self.limit {
                limit.left = None;
            }
            return;
        }
        let consumers = f64::from(scene.ready.saturating_mul(scene.fleet.per_replica));
        let in_hand = IN_HAND * consumers;
        if let (Some(before), Some(mu)) = (changed, mu) {
            // Of several steps in a row, none has time to show what it brings: all of them are one.
            let first = self.trial.filter(|trial| scene.spec > before && before >= trial.to);
            self.trial = (scene.spec > before && before > 0).then(|| {
                if let Some(first) = first {
                    let (old, new) = (scene.fleet.capacity(first.from), scene.fleet.capacity(scene.spec));
                    let expected = first.each * (new - old);
                    return Trial { at: scene.now, to: scene.spec, expected, settled: None, ..first };
                }
                let (old, new) = (scene.fleet.capacity(before), scene.fleet.capacity(scene.spec));
                // A group that was idle until a moment ago could have done more than its pace shows.
                let shown = self.busy_since.is_some_and(|since| scene.now - since > SHOWN * span);
                let each = if shown { self.pace.mean() / old } else { mu.max(self.pace.mean() / old) };
                Trial {
                    at: scene.now,
                    from: before,
                    to: scene.spec,
                    before: each * old,
                    expected: each * (new - old),
                    each,
                    shown,
                    settled: None,
                }
            });
        }
        if scene.dt > 0.0 {
            self.pace.add(scene.signals.departed / scene.dt, scene.dt, span);
        }
        let behind = work.0 > (BUSY * self.pace.mean()).max(in_hand);
        self.busy_since = behind.then(|| self.busy_since.unwrap_or(scene.now));
        self.judge(scene, gap, (work.0 > in_hand).then_some(work.0), work.1);
        self.doubt(scene, gap, work.1);
    }

    /// Back at fewer, and behind all the time, the group does clearly less: those that were taken back did something,
    /// after all. Asked once: what gets slower later is another matter.
    fn doubt(&mut self, scene: &Scene<'_>, gap: f64, everywhere: bool) {
        let behind = self.busy_since.is_some() && everywhere;
        let Some(limit) = self.limit.as_mut().filter(|limit| limit.took_back && !limit.judged) else {
            return;
        };
        if !behind || scene.spec != limit.replicas || scene.ready != scene.spec || scene.timing.shuffling() {
            limit.left = None;
            return;
        }
        let Some((since, done)) = &mut limit.left else {
            limit.left = Some((scene.now, 0.0));
            return;
        };
        *done += scene.signals.departed;
        let lasted = scene.now - *since;
        if lasted < measure(scene, gap) {
            return;
        }
        let (pace, (tried, reached)) = (*done / lasted, limit.tried);
        let share = scene.fleet.capacity(scene.spec) / scene.fleet.capacity(tried);
        // Half-way between what a full downstream would still give and what fewer replicas that are limited by
        // nothing but themselves would.
        let nothing_lost = reached * f64::midpoint(1.0, share).min(CLEARLY);
        if pace < nothing_lost {
            self.limit = None;
            self.failures = self.failures.saturating_sub(1);
        } else {
            limit.judged = true;
        }
    }

    /// `waiting`: messages beyond those in the consumers' hands, if there are any.
    fn judge(&mut self, scene: &Scene<'_>, gap: f64, waiting: Option<f64>, everywhere: bool) {
        let Some(trial) = &mut self.trial else { return };
        let works = scene.timing.up.is_none() && !scene.timing.shuffling() && scene.ready >= trial.to;
        match &mut trial.settled {
            None if works => trial.settled = Some((scene.now, 0.0)),
            None if scene.now - trial.at > ABANDON => self.trial = None,
            None => {}
            Some((since, done)) => {
                *done += scene.signals.departed;
                let lasted = scene.now - *since;
                if lasted < measure(scene, gap) {
                    return;
                }
                let after = *done / lasted;
                let slower = !trial.shown && after < SLOWER * trial.before;
                let busy = everywhere && waiting.is_some_and(|waiting| waiting > BUSY * after) && !slower;
                if busy && after - trial.before < GAIN * trial.expected {
                    let wait = backoff(RETRY, self.failures);
                    self.failures += 1;
                    // A jump over several classes may have been right up to one of them.
                    let useful = scene.fleet.class(ENOUGH * after / trial.each, trial.to);
                    // And not of the last, whatever rounding makes of it.
                    let replicas = trial.from.max(useful.min(scene.fleet.class_below(trial.to)));
                    self.limit = (replicas < trial.to).then_some(Limit {
                        replicas,
                        until: scene.now + wait,
                        took_back: false,
                        tried: (trial.to, after),
                        left: None,
                        judged: false,
                    });
                } else if busy {
                    self.failures = 0;
                }
                self.trial = None;
            }
        }
    }

    /// An earlier leader found that more than `replicas` brought nothing.
    pub fn goes_on(&mut self, now: f64, replicas: u32) {
        let limit = Limit {
            replicas,
            until: now + RETRY.0,
            took_back: true,
            tried: (replicas, 0.0),
            left: None,
            judged: true,
        };
        (self.limit, self.failures) = (Some(limit), 1);
    }

    /// The replicas that more than brought nothing.
    pub fn limit(&self) -> Option<u32> {
        self.limit.map(|limit| limit.replicas)
    }

    pub fn check(&mut self, scene: &Scene<'_>, verdict: &mut Verdict) {
        let Some(limit) = &mut self.limit else { return };
        verdict.at_most(limit.replicas);
        if scene.spec <= limit.replicas {
            limit.took_back = true;
        } else if !limit.took_back {
            verdict.back_to = Some(limit.replicas);
        }
        let detail = format!(
            "more than {} replicas brought nothing; next try {}",
            limit.replicas,
            Within(limit.until - scene.now)
        );
        verdict.conditions.push(Condition::new(ConditionKind::DownstreamBound, detail));
    }
}

/// Seconds for which work is measured.
fn measure(scene: &Scene<'_>, gap: f64) -> f64 {
    let least = if scene.seen.rabbitmq.is_some() { MEASURE_QUEUE } else { MEASURE.0 };
    least.max(MEASURE.1 * gap)
}
