//! What may keep a count from following the formula, one file per family, each with its way out.
//!
//! A guard looks at a [`Scene`], keeps its own small memory in [`Guards`] and writes into a [`Verdict`]. Guards
//! do not know of each other; `decide.rs` carries the verdict out in order of precedence.

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::decision::{Bound, Condition};
use super::estimate::Signals;
use super::estimate::timing::Timing;
use super::observation::Observation;
use super::shape::Fleet;

pub(super) mod breaker;
pub(super) mod conflict;
pub(super) mod data;
pub(super) mod downstream;
pub(super) mod partitions;
pub(super) mod probe;
pub(super) mod starting;
pub(super) mod target;

/// The memories of all guards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Guards {
    pub conflict: conflict::Memory,
    pub breaker: breaker::Memory,
    pub downstream: downstream::Memory,
    pub probe: probe::Memory,
    pub target: target::Memory,
    pub prefetch: data::Prefetch,
}

/// What a guard may look at.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub config: &'a Config,
    pub seen: &'a Observation,
    pub signals: &'a Signals,
    pub fleet: Fleet<'a>,
    pub timing: &'a Timing,
    pub now: f64,
    /// Seconds since the last poll.
    pub dt: f64,
    /// What `/scale` says.
    pub spec: u32,
    /// Ready replicas, `spec` where unknown, never above it.
    pub ready: u32,
}

/// What guards say about this poll.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not a state
pub(super) struct Verdict {
    /// No more replicas than now, but always 0 → 1.
    pub no_up: bool,
    /// No fewer replicas than now.
    pub no_down: bool,
    /// Not to zero.
    pub no_zero: bool,
    /// No more than this many, without taking any away.
    pub ceiling: Option<u32>,
    /// Back to this many, now.
    pub back_to: Option<u32>,
    /// At least this many.
    pub raise_to: Option<u32>,
    /// There is nothing left to do for anybody.
    pub to_zero: bool,
    /// Decide, but write nothing.
    pub no_patch: Option<&'static str>,
    pub bounds: Vec<Bound>,
    pub conditions: Vec<Condition>,
}

impl Verdict {
    /// Lowers the ceiling.
    pub fn at_most(&mut self, replicas: u32) {
        self.ceiling = Some(self.ceiling.map_or(replicas, |c| c.min(replicas)));
    }

    /// Raises the floor.
    pub fn at_least(&mut self, replicas: u32) {
        self.raise_to = Some(self.raise_to.map_or(replicas, |r| r.max(replicas)));
    }
}
