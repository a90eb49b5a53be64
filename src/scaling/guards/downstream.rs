//! Downstream bound: a scale-up that brought nothing is taken back, and tried again later.
//!
//! A shared database at its limit makes every replica slower, so that the formula asks for ever more of them.

use serde::{Deserialize, Serialize};

use super::super::decision::{Bound, Condition, ConditionKind};
use super::super::estimate::Data;
use super::super::estimate::series::Ewma;
use super::super::rules::backoff;
use super::{Scene, Verdict};

/// Share of the expected gain below which a scale-up brought nothing.
const GAIN: f64 = 0.3;
/// Seconds for which the group's work is measured after a scale-up, and the commit gaps they must span.
const MEASURE: (f64, f64) = (15.0, 3.0);
/// Seconds over which the pace before a scale-up is taken, and the commit gaps they must span; the pace shows
/// what a group can do after it has been behind for this many times that.
const PACE: (f64, f64) = (5.0, 2.0);
const SHOWN: f64 = 2.0;
/// Seconds before another try, and the most that doubling makes of it.
const RETRY: (f64, f64) = (600.0, 3_600.0);
/// Share of what was reached that must be kept when going back.
const ENOUGH: f64 = 0.95;
/// Seconds of work that must wait at the end of a trial: only then were the new members busy.
const BUSY: f64 = 2.0;
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Trial {
    at: f64,
    from: u32,
    to: u32,
    /// Messages/s before, and those that were expected in addition.
    before: f64,
    expected: f64,
    /// Messages/s of one replica before.
    each: f64,
    /// Since when all replicas work, and messages done since then.
    settled: Option<(f64, f64)>,
}

impl Trial {
    /// What is expected of it, of replicas that do `each` before it.
    fn expecting(mut self, scene: &Scene<'_>, each: f64) -> Self {
        let (old, new) = (scene.fleet.capacity(self.from), scene.fleet.capacity(self.to));
        (self.each, self.before, self.expected) = (each, each * old, each * (new - old));
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Limit {
    replicas: u32,
    until: f64,
    took_back: bool,
    /// The count that brought nothing, and messages/s that it did.
    tried: (u32, f64),
    /// Since when all replicas that were left work, and messages done since then.
    left: Option<(f64, f64)>,
}

impl Memory {
    /// Follows the group's work. `changed`: the target's count before, if it changed. `mu`: as measured. `work`:
    /// messages that wait, and whether most partitions have some.
    pub fn follow(&mut self, scene: &Scene<'_>, changed: Option<u32>, mu: Option<f64>, work: (f64, bool)) {
        let gap = scene.timing.gap();
        let span = PACE.0.max(PACE.1 * gap);
        if scene.signals.data != Data::Full || scene.signals.discontinuity || scene.seen.target.updating {
            self.trial = None;
            return;
        }
        if let (Some(before), Some(mu)) = (changed, mu) {
            self.trial = (scene.spec > before && before > 0).then(|| {
                // A group that was idle until a moment ago could have done more than its pace shows.
                let shown = self.pace.mean() / scene.fleet.capacity(before);
                let each = if self.shows(scene.now, span) { shown } else { mu.max(shown) };
                let trial = Trial { at: scene.now, from: before, to: scene.spec, ..Trial::default() };
                trial.expecting(scene, each)
            });
        }
        if scene.dt > 0.0 {
            self.pace.add(scene.signals.departed / scene.dt, scene.dt, span);
        }
        let behind = work.0 > BUSY * self.pace.mean();
        self.busy_since = behind.then(|| self.busy_since.unwrap_or(scene.now));
        self.watch_start(scene, span);
        self.judge(scene, gap, work);
        self.doubt(scene, gap, work);
        if self.limit.is_some_and(|l| scene.now >= l.until) {
            self.limit = None;
        }
    }

    /// Whether the pace shows what the group can do.
    fn shows(&self, now: f64, span: f64) -> bool {
        self.busy_since.is_some_and(|since| now - since > SHOWN * span)
    }

    /// While new replicas start, the old ones show what they can do: a rate that fell a moment before the scale-up
    /// is no rate that the scale-up lowered.
    fn watch_start(&mut self, scene: &Scene<'_>, span: f64) {
        let Some(trial) = self.trial.filter(|t| t.settled.is_none()) else { return };
        if scene.ready <= trial.from && !scene.timing.shuffling() && self.shows(scene.now, span) {
            let each = self.pace.mean() / scene.fleet.capacity(trial.from);
            self.trial = Some(trial.expecting(scene, each));
        }
    }

    /// Back at fewer, the group does clearly less: those that were taken back did something, after all.
    fn doubt(&mut self, scene: &Scene<'_>, gap: f64, (waiting, everywhere): (f64, bool)) {
        let Some(limit) = self.limit.as_mut().filter(|l| l.took_back && scene.spec == l.replicas) else {
            return;
        };
        if scene.ready != scene.spec || scene.timing.shuffling() {
            limit.left = None;
            return;
        }
        let Some((since, done)) = &mut limit.left else {
            limit.left = Some((scene.now, 0.0));
            return;
        };
        *done += scene.signals.departed;
        let lasted = scene.now - *since;
        if lasted < MEASURE.0.max(MEASURE.1 * gap) {
            return;
        }
        let (pace, (tried, reached)) = (*done / lasted, limit.tried);
        limit.left = None;
        let share = scene.fleet.capacity(scene.spec) / scene.fleet.capacity(tried);
        // Half-way between what a full downstream would still give and what fewer replicas that are limited by
        // nothing but themselves would.
        let nothing_lost = reached * f64::midpoint(1.0, share);
        if everywhere && waiting > BUSY * pace && pace < nothing_lost {
            self.limit = None;
            self.failures = self.failures.saturating_sub(1);
        }
    }

    fn judge(&mut self, scene: &Scene<'_>, gap: f64, (waiting, everywhere): (f64, bool)) {
        let Some(trial) = &mut self.trial else { return };
        let works = scene.timing.up.is_none() && !scene.timing.shuffling() && scene.ready >= trial.to;
        match &mut trial.settled {
            None if works => trial.settled = Some((scene.now, 0.0)),
            None if scene.now - trial.at > ABANDON => self.trial = None,
            None => {}
            Some((since, done)) => {
                *done += scene.signals.departed;
                let lasted = scene.now - *since;
                if lasted < MEASURE.0.max(MEASURE.1 * gap) {
                    return;
                }
                let after = *done / lasted;
                let busy = everywhere && waiting > BUSY * after;
                if busy && after - trial.before < GAIN * trial.expected {
                    let wait = backoff(RETRY, self.failures);
                    self.failures += 1;
                    // A jump over several classes may have been right up to one of them.
                    let useful = scene.fleet.class(ENOUGH * after / trial.each, trial.to);
                    let replicas = trial.from.max(useful);
                    self.limit = (replicas < trial.to).then_some(Limit {
                        replicas,
                        until: scene.now + wait,
                        took_back: false,
                        tried: (trial.to, after),
                        left: None,
                    });
                } else if busy {
                    self.failures = 0;
                }
                self.trial = None;
            }
        }
    }

    pub fn check(&mut self, scene: &Scene<'_>, verdict: &mut Verdict) {
        let Some(limit) = &mut self.limit else { return };
        verdict.bounds.push(Bound::Downstream);
        verdict.at_most(limit.replicas);
        if scene.spec <= limit.replicas {
            limit.took_back = true;
        } else if !limit.took_back {
            verdict.back_to = Some(limit.replicas);
        }
        let detail = format!(
            "more than {} replicas brought nothing; next try in {:.0} s",
            limit.replicas,
            limit.until - scene.now
        );
        verdict.conditions.push(Condition::new(ConditionKind::DownstreamBound, detail));
    }
}
