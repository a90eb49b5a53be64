//! Scale conflict: someone else writes the same `/scale`. Two scalers would fight; this one stops.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::decision::{Bound, Condition, ConditionKind};
use super::{Scene, Verdict};

/// Foreign writes within [`SPAN`] that make a conflict: a person who corrects a count twice is none.
const WRITES: usize = 3;
/// Seconds over which foreign writes count, and without any of which the conflict is over.
const SPAN: f64 = 600.0;
/// Own patches that are remembered: an older one may become visible after a newer one was sent.
const OWN: usize = 4;

/// Counts asked for, and counts that others wrote.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Memory {
    asked: VecDeque<u32>,
    foreign: VecDeque<f64>,
}

impl Memory {
    /// A patch is about to ask for `replicas`.
    pub fn asks(&mut self, replicas: u32) {
        if self.asked.back() != Some(&replicas) {
            if self.asked.len() == OWN {
                self.asked.pop_front();
            }
            self.asked.push_back(replicas);
        }
    }

    /// The target's count changed.
    pub fn changed(&mut self, now: f64, before: u32, spec: u32) {
        if spec != before && !self.asked.contains(&spec) {
            if self.foreign.len() == WRITES {
                self.foreign.pop_front();
            }
            self.foreign.push_back(now);
        }
    }

    pub fn check(&mut self, scene: &Scene<'_>, verdict: &mut Verdict) {
        while self.foreign.front().is_some_and(|&at| scene.now - at > SPAN) {
            // A conflict lasts until nothing foreign came for the whole span, not until it thins out.
            if self.foreign.len() == WRITES && self.foreign.back().is_some_and(|&at| scene.now - at <= SPAN) {
                break;
            }
            self.foreign.pop_front();
        }
        let detail = match &scene.seen.target.foreign_scaler {
            Some(name) => format!("{name} scales the same target"),
            None if self.foreign.len() >= WRITES => {
                format!("{WRITES} foreign writes of /scale within 10 minutes")
            }
            None => return,
        };
        verdict.no_patch = Some("someone else scales this target");
        verdict.bounds.push(Bound::ScaleConflict);
        verdict.conditions.push(Condition::new(ConditionKind::ScaleConflict, detail));
    }
}
