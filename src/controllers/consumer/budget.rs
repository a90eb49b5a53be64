//! How often what comes and goes with the load is said.

use std::time::{Duration, Instant};

/// A few at once, and then one a minute: a load that swings between two reasons for the same count would be told every few
/// seconds, for each Consumer.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    left: u32,
    /// From when on the next one counts as earned.
    since: Instant,
}

impl Budget {
    const MOST: u32 = 5;
    const EARNED_EVERY: Duration = Duration::from_secs(60);

    /// Whether one is left.
    #[must_use]
    pub fn has(&self, now: Instant) -> bool {
        self.at(now).left > 0
    }

    /// Takes one, if one is left.
    pub fn take(&mut self, now: Instant) -> bool {
        *self = self.at(now);
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }

    /// With what was earned until `now`.
    fn at(self, now: Instant) -> Self {
        let waited = now.saturating_duration_since(self.since).as_secs() / Self::EARNED_EVERY.as_secs();
        let earned = u32::try_from(waited).unwrap_or(u32::MAX);
        if self.left.saturating_add(earned) >= Self::MOST {
            // Nothing is earned beyond that.
            return Self { left: Self::MOST, since: now };
        }
        Self { left: self.left + earned, since: self.since + Self::EARNED_EVERY * earned }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: Self::MOST, since: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_are_said_at_once_and_then_one_a_minute() {
        let mut budget = Budget::default();
        let begin = budget.since;
        let at = |seconds| begin + Duration::from_secs(seconds);
        let said = (0..3_600).filter(|&second| budget.take(at(second))).count();
        assert_eq!(said, 5 + 59);
        assert!(!budget.has(at(3_600 - 1)) && budget.has(at(3_660)));
        // An hour of rest is worth no more than at first.
        let said = (7_200..7_205).chain(7_205..7_215).filter(|&second| budget.take(at(second))).count();
        assert_eq!(said, 5);
    }
}
