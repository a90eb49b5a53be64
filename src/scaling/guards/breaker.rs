//! The breaker: dead letters are not load, and more replicas only make more of them.
//!
//! ```text
//! closed ──ratio > maxRatio, ≥ minCount──▶ open ──a window without that, not clean──▶ half-open: one class per window
//!    ▲                                      │ ▲                                        │ │
//!    └────────────a clean window────────────┘ └────────────ratio > maxRatio────────────┘ └──a clean window──▶ closed
//! ```
//!
//! A window in which dead letters could not be counted is not clean.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::decision::{Bound, Condition, ConditionKind};
use super::super::text::Lasting;
use super::{Scene, Verdict};

/// Slots of a window.
const SLOTS: f64 = 12.0;
/// Below this share of `maxRatio` a window is clean, and its work is ordinary work.
const CLEAN: f64 = 0.5;

/// Dead letters and done messages over the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Memory {
    end: Option<i64>,
    /// What `end` was counted of.
    #[serde(default)]
    of: Arc<str>,
    /// (begin, dead letters, done).
    slots: VecDeque<(f64, f64, f64)>,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Open {
    since: f64,
    /// When the ratio was last above its limit, or unknown.
    bad_at: f64,
    /// When a class was last let through.
    step_at: Option<f64>,
}

impl Memory {
    /// Counts this poll.
    pub fn count(&mut self, scene: &Scene<'_>) {
        let window = scene.config.breaker.window;
        let (end, of) = scene.seen.dead_letter.as_ref().map_or((None, &self.of), |d| (d.end, &d.of));
        if self.of != *of {
            // What lay in other places before is no new dead letter.
            (self.end, self.of) = (None, of.clone());
        }
        #[allow(clippy::cast_precision_loss)]
        let dead = match (self.end, end) {
            (Some(before), Some(end)) => end.saturating_sub(before).max(0) as f64,
            _ => 0.0,
        };
        self.end = end.or(self.end);
        match self.slots.back_mut() {
            Some(slot) if scene.now - slot.0 < window / SLOTS => {
                slot.1 += dead;
                slot.2 += scene.signals.departed;
            }
            _ => self.slots.push_back((scene.now, dead, scene.signals.departed)),
        }
        while self.slots.front().is_some_and(|&(begin, ..)| scene.now - begin > window) {
            self.slots.pop_front();
        }
    }

    /// Dead letters of the window, and their ratio to all that was done.
    fn ratio(&self) -> (f64, f64) {
        let (dead, done) = self.slots.iter().fold((0.0, 0.0), |(a, b), s| (a + s.1, b + s.2));
        // A dead letter was consumed even where its commit is not seen yet.
        (dead, if dead > 0.0 { dead / f64::max(done, dead) } else { 0.0 })
    }

    /// So many dead letters that rates say nothing about ordinary work.
    pub fn taints(&self, scene: &Scene<'_>) -> bool {
        let (dead, ratio) = self.ratio();
        #[allow(clippy::cast_precision_loss)]
        let few = scene.config.breaker.min_count as f64 * CLEAN;
        dead >= few.max(1.0) && ratio > CLEAN * scene.config.breaker.max_ratio
    }

    pub fn check(&mut self, scene: &Scene<'_>, verdict: &mut Verdict) {
        let settings = &scene.config.breaker;
        let (dead, ratio) = self.ratio();
        #[allow(clippy::cast_precision_loss)]
        let bad = dead >= (settings.min_count as f64).max(1.0) && ratio > settings.max_ratio;
        let clean = ratio <= CLEAN * settings.max_ratio;
        if bad {
            self.open.get_or_insert(Open { since: scene.now, bad_at: scene.now, step_at: None });
        }
        let unknown = scene.seen.dead_letter.as_ref().is_some_and(|counted| counted.end.is_none());
        if let Some(open) = self.open.as_mut().filter(|_| bad || unknown) {
            open.bad_at = scene.now;
        }
        let Some(open) = self.open else { return };
        let quiet = scene.now - open.bad_at;
        if clean && quiet >= settings.window {
            self.open = None;
            return;
        }
        verdict.bounds.push(Bound::Breaker);
        let half_open =
            quiet >= settings.window && open.step_at.is_none_or(|at| scene.now - at >= settings.window);
        if half_open {
            verdict.at_most(if scene.spec == 0 { 1 } else { scene.fleet.class_above(scene.spec, u32::MAX) });
        } else {
            verdict.no_up = true;
        }
        let name = if self.of.is_empty() { settings.dead_letter.as_deref() } else { Some(&*self.of) };
        let name = name.unwrap_or("the dead-letter queue");
        let lasted = Lasting(scene.now - open.since);
        let detail = if unknown {
            format!("how many messages went to {name} is not known; open for {lasted}")
        } else {
            format!(
                "{:.0} % of what was done in the last {:.0} s went to {name}; open for {lasted}",
                ratio * 100.0,
                settings.window,
            )
        };
        verdict.conditions.push(Condition::new(ConditionKind::BreakerOpen, detail));
    }

    /// An earlier leader left it open. A whole window has to be clean, as after the last dead letter.
    pub fn goes_on(&mut self, now: f64) {
        self.open = Some(Open { since: now, bad_at: now, step_at: None });
    }

    /// A scale-up was let through.
    pub fn stepped(&mut self, now: f64) {
        if let Some(open) = &mut self.open {
            open.step_at = Some(now);
        }
    }
}
