//! The way out of the low-μ trap: a replica that was slow once and has been idle since never proves that it is
//! fast again. One class is taken away and watched.

use serde::{Deserialize, Serialize};

use super::super::config::Config;
use super::super::rules::backoff;
use super::Scene;

/// Seconds without a saturated sample before a doubtful rate is probed, and the most that failures make of it.
/// A rate that is as good as it ever was is probed after the latter: nothing suggests that it is wrong.
const WAIT: (f64, f64) = (600.0, 21_600.0);
/// Seconds before a size is tried that the formula calls enough, without the room that a step down asks for.
const ROOM: f64 = 1_800.0;

/// Seconds that a smaller size must last to have been right.
const LASTING: f64 = 3_600.0;
/// Seconds within which an accepted patch shows in the target.
const SHOWS: f64 = 10.0;
/// Times the arrivals that a size was proven with that it is believed to do: noise should not take it back.
const AIR: f64 = 1.1;
/// Commit gaps that a probe lasts at least: fewer do not show that more waits from each one to the next.
const COMMITS: f64 = 3.0;
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
    /// The size that held last, and the messages/s that it did.
    #[serde(default)]
    proven: Option<(u32, f64)>,
    /// When the last one failed, the size before it, and what arrived.
    #[serde(default)]
    back: Option<(f64, u32, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Probe {
    at: f64,
    /// Replicas until then: a patch takes a while to show.
    #[serde(default)]
    from: u32,
    to: u32,
}

/// What speaks for a smaller size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scaling) enum Doubt {
    /// The rate may be too low.
    Rate,
    /// It is enough by the formula, but for the room that a step down asks for.
    Room,
    /// Nothing but the time that nothing was tried.
    None,
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
    /// Watches the probe that runs. `behind`: seconds of its own work that the group is behind. A probe fails late
    /// enough for saturated members to be measured, and early enough for the target delay.
    pub fn watch(&mut self, scene: &Scene<'_>, behind: f64, arrival: f64) -> Outcome {
        let Some(probe) = self.running else {
            return Outcome::None;
        };
        if scene.spec == probe.from && scene.now - probe.at < SHOWS {
            return Outcome::Running;
        }
        if scene.spec != probe.to {
            self.running = None;
            return Outcome::None;
        }
        let lasted = scene.now - probe.at;
        if behind > late(scene.config) {
            self.fail(scene.now);
            self.back = Some((scene.now, probe.from, arrival));
            return Outcome::None;
        }
        let shows = COMMITS * scene.timing.gap() + scene.timing.pause(scene.config);
        if lasted >= scene.config.longest_stabilization().max(shows) {
            self.running = None;
            self.held_at = Some(scene.now);
            self.proven = Some((scene.spec, arrival));
            return Outcome::Held;
        }
        Outcome::Running
    }

    fn fail(&mut self, now: f64) {
        self.failures += 1;
        self.not_before = Some(now + backoff(WAIT, self.failures));
        (self.running, self.held_at, self.proven) = (None, None, None);
    }

    /// The work, or who does it, is not what it was: nothing is proven of it.
    pub fn forget(&mut self) {
        self.proven = None;
    }

    /// The size that held last, and the messages/s that it did.
    pub const fn proven(&self) -> Option<(u32, f64)> {
        self.proven
    }

    /// Replicas that do `arrival` messages/s, as a probe has shown: whatever the formula makes of a rate that was never
    /// seen at work, and while nobody is `behind` so many seconds.
    pub fn enough(&self, config: &Config, arrival: f64, behind: f64) -> Option<u32> {
        let (size, _) = self.proven?;
        (self.is_alike(config, arrival) && behind <= late(config)).then_some(size)
    }

    /// Whether the size that held did so before that time.
    pub fn held_before(&self, at: f64) -> bool {
        self.held_at.is_some_and(|held| held < at)
    }

    /// The size that a failed probe gives back: it did what arrives, and does the little that was left undone meanwhile, too.
    pub fn given_back(&self, now: f64, config: &Config, arrival: f64) -> Option<u32> {
        let (at, size, before) = self.back?;
        (now - at < config.longest_stabilization() && arrival <= AIR * (1.0 + config.over()) * before)
            .then_some(size)
    }

    /// Whether so much arrives as a size was proven with, or less.
    fn is_alike(&self, config: &Config, arrival: f64) -> bool {
        self.proven.is_some_and(|(_, proven)| arrival <= AIR * (1.0 + config.over()) * proven)
    }

    /// More are wanted: a size that held for a short while only has failed after all, unless it is the load that changed.
    pub fn reversed(&mut self, now: f64, config: &Config, arrival: f64) {
        if self.proven.is_some() && !self.is_alike(config, arrival) {
            return;
        }
        match self.held_at {
            Some(at) if now - at < LASTING => self.fail(now),
            Some(_) => (self.failures, self.held_at, self.proven) = (0, None, None),
            None => {}
        }
    }

    /// Whether to take a class away now. `unproven_for`: seconds since a saturated sample, or since the start.
    pub fn due(&self, scene: &Scene<'_>, calm_for: f64, unproven_for: f64, doubt: Doubt) -> bool {
        let wait = match doubt {
            Doubt::Rate => WAIT.0,
            Doubt::Room => ROOM,
            Doubt::None => WAIT.1,
        };
        self.running.is_none()
            && calm_for >= scene.config.longest_stabilization()
            && unproven_for >= wait
            && self.not_before.is_none_or(|at| scene.now >= at)
    }

    /// A class is taken away.
    pub fn begin(&mut self, now: f64, from: u32, to: u32) {
        self.running = Some(Probe { at: now, from, to });
    }
}

/// Seconds behind that are too many for a smaller size.
const fn late(config: &Config) -> f64 {
    (BEHIND.0 * config.target_delay).min(BEHIND.1)
}
