//! Is somebody else writing the same object?
//!
//! Correcting drift is right once or twice; two controllers that undo each other's work for ever
//! are not. After [`LIMIT`] reverts of one object within [`WINDOW`], Spillway stops and says so.

use std::collections::VecDeque;

/// How many reverts of one object are made within [`WINDOW`].
pub const LIMIT: usize = 5;
/// The time that reverts are remembered for, in seconds.
pub const WINDOW: f64 = 600.0;

/// The reverts of one object, by time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reverts(VecDeque<f64>);

impl Reverts {
    /// Whether one more revert may be made at `now` (seconds on any steady clock).
    pub fn may_revert(&mut self, now: f64) -> bool {
        while self.0.front().is_some_and(|at| now - at > WINDOW) {
            self.0.pop_front();
        }
        self.0.len() < LIMIT
    }

    /// Remembers a revert that was made at `now`.
    pub fn record(&mut self, now: f64) {
        self.0.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_revert_in_ten_minutes_is_not_made_and_a_later_one_is() {
        let mut reverts = Reverts::default();
        for second in 0..5 {
            assert!(reverts.may_revert(f64::from(second)));
            reverts.record(f64::from(second));
        }
        assert!(!reverts.may_revert(10.0));
        assert!(!reverts.may_revert(600.0));
        assert!(reverts.may_revert(600.5));
    }
}
