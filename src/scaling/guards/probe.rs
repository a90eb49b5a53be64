//! The way out of the low-μ trap: a replica that was slow once and has been idle since never proves that it is
//! fast again. One class is taken away and watched.

use serde::{Deserialize, Serialize};

use super::super::estimate::rate::Proof;
use super::super::rules::backoff;
use super::Scene;

/// Seconds without a saturated sample before a doubtful rate is probed, and the most that failures make of it. A rate that
/// is as good as it ever was is probed after the latter: nothing suggests that it is wrong. One that was never measured is
/// no reason to keep what runs: a queue's, whose consumers come and go without a rebalance, is probed as soon as replicas
/// may go at all, and no sooner than [`SOON`].
const WAIT: (f64, f64) = (600.0, 21_600.0);
const SOON: f64 = 180.0;

/// Seconds for which a probe is watched at least: what a smaller size leaves undone has to show, and statistics are late.
const WATCHED: f64 = 30.0;
/// Seconds that a smaller size must last to have been right.
const LASTING: f64 = 3_600.0;
/// Share of the target delay, and seconds, that a group may be behind before its probe has failed.
const BEHIND: (f64, f64) = (0.25, 10.0);

/// Probes so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Memory {
    running: Option<Probe>,
    failures: u32,
    not_before: Option<f64>,
    /// When a smaller size last held.
    held_at: Option<f64>,
    /// The size to go back to: what a probe left undone lies where no backlog shows it.
    #[serde(default)]
    back_to: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Probe {
    at: f64,
    #[serde(default)]
    from: u32,
    to: u32,
}

/// What has come of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scaling) enum Outcome {
    /// None is running.
    None,
    /// Still running: arrivals alone are no reason for more.
    Running,
    /// The smaller size does: the rate is at least what it needs to be.
    Held,
}

impl Memory {
    /// Watches the probe that runs. `behind`: seconds of its own work that the group is behind; `in_hand`: the same for what
    /// consumers of a queue hold beyond one message each. A probe fails late enough for saturated members to be measured,
    /// and early enough for the target delay.
    pub fn watch(&mut self, scene: &Scene<'_>, behind: f64, in_hand: f64) -> Outcome {
        self.back_to = self.back_to.filter(|&size| scene.spec < size);
        let Some(probe) = self.running else {
            return Outcome::None;
        };
        if scene.spec != probe.to {
            self.running = None;
            return Outcome::None;
        }
        let lasted = scene.now - probe.at;
        if behind + in_hand > behind_at_most(scene) {
            // What they hold is measured by nothing, so the formula asks for no more.
            self.back_to = (in_hand > behind && probe.from > scene.spec).then_some(probe.from);
            self.fail(scene.now);
            return Outcome::None;
        }
        if lasted >= scene.config.stabilization.max(scene.timing.gap()).max(WATCHED) {
            self.running = None;
            self.held_at = Some(scene.now);
            return Outcome::Held;
        }
        Outcome::Running
    }

    fn fail(&mut self, now: f64) {
        self.failures += 1;
        self.not_before = Some(now + backoff(WAIT, self.failures));
        (self.running, self.held_at) = (None, None);
    }

    /// More are wanted: a size that held for a short while only has failed after all.
    pub fn reversed(&mut self, now: f64) {
        match self.held_at {
            Some(at) if now - at < LASTING => self.fail(now),
            Some(_) => (self.failures, self.held_at) = (0, None),
            None => {}
        }
    }

    /// Whether to take a class away now. `unproven_for`: seconds since a saturated sample, or since the start.
    pub fn due(&self, scene: &Scene<'_>, calm_for: f64, unproven_for: f64, proof: Proof) -> bool {
        let wait = match proof {
            Proof::None if scene.timing.queue => SOON,
            Proof::None | Proof::Poor => WAIT.0,
            Proof::Good => WAIT.1,
        };
        self.running.is_none()
            && shows(scene)
            && calm_for >= scene.config.stabilization
            && unproven_for >= wait
            && self.not_before.is_none_or(|at| scene.now >= at)
    }

    /// A class is taken away.
    pub fn begin(&mut self, now: f64, from: u32, to: u32) {
        self.running = Some(Probe { at: now, from, to });
    }

    /// The size that is owed since a probe failed.
    pub const fn back_to(&self) -> Option<u32> {
        self.back_to
    }
}

/// Seconds that a probe may be behind.
fn behind_at_most(scene: &Scene<'_>) -> f64 {
    (BEHIND.0 * scene.config.target_delay).min(BEHIND.1)
}

/// Whether a size that is too small would show in time. Not where somebody looks at a queue more seldom than that, nor where
/// messages count as done when they are given out: then they lie at consumers, unseen.
fn shows(scene: &Scene<'_>) -> bool {
    scene.seen.rabbitmq.as_ref().is_none_or(|queue| {
        scene.config.poll_interval <= behind_at_most(scene)
            && queue.deliver_no_ack.is_none_or(|count| count == 0)
    })
}
