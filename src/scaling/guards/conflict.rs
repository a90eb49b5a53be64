//! Scale conflict: someone else writes the same `/scale`. Two scalers would fight; this one stops.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::decision::{Bound, Condition, ConditionKind};
use super::super::observation::Target;
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
    /// Own patches that were accepted until the last look.
    accepted: u64,
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

    /// Looks at the target's count, and at what it was at the last look.
    ///
    /// Who undoes a patch at once, as tools do that keep what Git says, is seen by this only: the count is what it was before.
    /// True if somebody else wrote it.
    pub fn saw(&mut self, now: f64, before: Option<u32>, target: &Target) -> bool {
        let patched = target.accepted > std::mem::replace(&mut self.accepted, target.accepted);
        let was = if patched { target.asked.or_else(|| self.asked.back().copied()) } else { before };
        // Where own patches are not counted, one may become visible late.
        let ours = target.accepted == 0 && self.asked.contains(&target.spec);
        let foreign = was.is_some_and(|was| was != target.spec) && !ours;
        if foreign {
            if self.foreign.len() == WRITES {
                self.foreign.pop_front();
            }
            self.foreign.push_back(now);
        }
        foreign
    }

    /// An earlier leader saw a conflict: it lasts, unless nothing foreign comes.
    pub fn goes_on(&mut self, now: f64) {
        self.foreign = std::iter::repeat_n(now, WRITES).collect();
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
            Some(name) => {
                // What was written until now was written by it: the conflict goes with it.
                self.foreign.clear();
                format!("{name} scales the same target")
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn target(spec: u32, accepted: u64) -> Target {
        Target { spec, accepted, ..Target::default() }
    }

    #[test]
    fn a_patch_that_is_undone_between_two_looks_is_a_foreign_write() {
        let mut memory = Memory::default();
        memory.saw(0.0, None, &target(1, 0));
        for patch in 1..=3_u8 {
            memory.asks(3);
            memory.saw(f64::from(patch), Some(1), &target(1, patch.into()));
            // Nothing happened since.
            memory.saw(f64::from(patch) + 0.5, Some(1), &target(1, patch.into()));
            assert_eq!(memory.foreign.len(), usize::from(patch));
        }
    }

    #[test]
    fn a_decision_that_was_not_sent_made_an_own_patch_of_before_a_foreign_write() {
        let mut memory = Memory::default();
        memory.saw(0.0, None, &target(1, 0));
        // While the patch for 3 is under way, 6 is decided; it waits for the answer.
        memory.asks(3);
        memory.asks(6);
        memory.saw(1.0, Some(1), &Target { asked: Some(3), ..target(3, 1) });
        assert_eq!(memory.foreign.len(), 0);
    }

    #[test]
    fn own_patches_are_not_foreign_and_going_back_to_an_own_count_is() {
        let mut memory = Memory::default();
        for (number, (asked, before)) in [(3, 1), (1, 3), (3, 1)].into_iter().enumerate() {
            memory.asks(asked);
            memory.saw(0.0, Some(before), &target(asked, number as u64 + 1));
        }
        assert_eq!(memory.foreign.len(), 0);
        memory.saw(1.0, Some(3), &target(1, 3));
        assert_eq!(memory.foreign.len(), 1);
    }
}
