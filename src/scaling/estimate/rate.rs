//! The rate of one replica, μ.
//!
//! Only a *saturated* member shows what it can do; an idle one only that it can do at least this much. The
//! mean is one of progress over time (not of rates), so that a poll that falls between two commits cancels
//! out against the next one.

use serde::{Deserialize, Serialize};

use super::series::Ring;

/// Seconds of saturated work after which an older measurement has faded to 37 %. Long against the jitter of
/// a poll against a commit, short against a slow spell that must be answered.
const MEMORY: f64 = 30.0;
/// The same for the rate of this very moment, and seconds after which that moment has passed.
const MOMENT: (f64, f64) = (4.0, 10.0);
/// Seconds of measured work that replace a prior (configured, or learned by an earlier leader): one commit
/// interval at Kafka's default. Until then the prior fills up what is missing.
const PRIOR_WEIGHT: f64 = 5.0;
/// Seconds of saturated work before a measurement counts at all: a poll may see two commits, or none.
const EVIDENCE: f64 = 3.0;
/// Samples before the running median may clamp a new one.
const MEDIAN_AFTER: usize = 5;
/// A sample above this many medians is no work: compaction and transaction markers skip offsets.
const CLAMP: f64 = 3.0;
/// A group that did this many times what it can had its offsets moved by hand.
pub(in crate::scaling) const BY_HAND: f64 = 10.0;
/// Messages/s of a replica about which nothing at all is known: 100 ms a message, the slow end of what
/// consumers do. A first flood is then met in full, and the first commits put it right.
pub(in crate::scaling) const UNMEASURED: f64 = 10.0;
/// Nothing slower than one message in an hour is believed.
const SLOWEST: f64 = 1.0 / 3_600.0;

/// What is known of μ. All rates are messages/s of one replica.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Rate {
    progress: f64,
    seconds: f64,
    prior: Option<f64>,
    /// The prior is what was measured before, not a guess.
    prior_measured: bool,
    /// What the configuration said last, and whether it has said anything yet.
    configured: Option<f64>,
    heard: bool,
    /// Progress and seconds of the last moments.
    moment: (f64, f64),
    recent: Ring,
    /// What a replica has been seen to do without being saturated.
    floor: f64,
    /// The best that was believed since the code last changed; a μ below it may be a trap.
    best: f64,
    /// When a saturated member was last measured.
    measured_at: Option<f64>,
    /// Progress, seconds, floor and best when members were last known to be unchanged.
    sure: Option<(f64, f64, f64, f64)>,
}

impl Rate {
    /// Starts from what an earlier leader measured.
    pub fn suppose(&mut self, rate: f64) {
        if rate.is_finite() && rate > 0.0 {
            (self.prior, self.prior_measured) = (Some(rate.max(SLOWEST)), true);
        }
    }

    /// Follows what a person says, a first guess. What was measured before outranks the first word that is heard;
    /// an edit replaces any prior.
    pub fn configured(&mut self, rate: Option<f64>) {
        let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0).map(|rate| rate.max(SLOWEST));
        let edited = std::mem::replace(&mut self.configured, rate) != rate;
        let first = !std::mem::replace(&mut self.heard, true);
        let replaces = if rate.is_some() && !first { edited } else { edited && !self.prior_measured };
        if replaces {
            (self.prior, self.prior_measured) = (rate, false);
        }
    }

    /// Takes in the saturated members of one poll: each one's messages and seconds between two commits.
    pub fn measured(&mut self, now: f64, samples: impl Iterator<Item = (f64, f64)>) {
        let limit = self.median().map_or(f64::INFINITY, |median| CLAMP * median);
        let (mut progress, mut seconds, mut count) = (0.0, 0.0, 0.0);
        for (messages, duration) in samples {
            let rate = messages / duration;
            if rate.is_finite() && duration > 0.0 {
                self.recent.push(rate);
                progress += rate.min(limit) * duration;
                seconds += duration;
                count += 1.0;
            }
        }
        if count == 0.0 {
            return;
        }
        let keep = (-(seconds / count) / MOMENT.0).exp();
        self.moment = (self.moment.0 * keep + progress, self.moment.1 * keep + seconds);
        let keep = (-(seconds / count) / MEMORY).exp();
        self.progress = self.progress * keep + progress;
        self.seconds = self.seconds * keep + seconds;
        if let Some(mean) = self.mean() {
            // Saturated work shows what can be done now: an older, higher floor is out of date.
            self.floor = self.floor.min(mean);
            // A mean that is a part of what other code did shows nothing of this one.
            if self.prior.is_none() || self.seconds >= PRIOR_WEIGHT {
                self.best = self.best.max(mean);
            }
            self.measured_at = Some(now);
        }
    }

    /// The median of what saturated members did lately, once that says something.
    fn median(&self) -> Option<f64> {
        (self.recent.len() >= MEDIAN_AFTER).then(|| self.recent.quantile(0.5)).flatten()
    }

    /// Messages/s beyond which no replica works: its offsets were moved. Infinite until enough was measured.
    pub fn possible(&self) -> f64 {
        let earlier = self.prior.filter(|_| self.prior_measured);
        let usual = self.median().or(earlier);
        usual.map_or(f64::INFINITY, |rate| BY_HAND * rate.max(self.mean().unwrap_or_default()))
    }

    /// A member did this much between two commits without being saturated: a lower bound, within what can be.
    pub fn did(&mut self, rate: f64) {
        self.at_least(self.median().map_or(rate, |median| rate.min(CLAMP * median)));
    }

    /// Members that keep up do this much each: a lower bound.
    pub fn at_least(&mut self, rate: f64) {
        if rate.is_finite() && rate > self.floor {
            self.floor = rate;
        }
    }

    /// μ as measured or supposed, raised to what has been seen. `None`: neither.
    pub fn known(&self) -> Option<f64> {
        self.mean().map(|mean| mean.max(self.floor).max(SLOWEST))
    }

    fn mean(&self) -> Option<f64> {
        match self.prior {
            Some(prior) if self.seconds < PRIOR_WEIGHT => {
                Some((self.progress + prior * (PRIOR_WEIGHT - self.seconds)) / PRIOR_WEIGHT)
            }
            _ => (self.seconds >= EVIDENCE).then(|| self.progress / self.seconds),
        }
    }

    /// μ as measured, by this leader or an earlier one: what outlives it. A guess is not.
    pub fn learned(&self) -> Option<f64> {
        let guessed = self.prior.is_some() && !self.prior_measured;
        let measured = self.prior_measured || self.seconds >= if guessed { PRIOR_WEIGHT } else { EVIDENCE };
        measured.then(|| self.known()).flatten()
    }

    /// Members are known to have been unchanged until now.
    pub fn confirm(&mut self) {
        self.sure = Some((self.progress, self.seconds, self.floor, self.best));
    }

    /// Members have changed since the last confirmation: what was measured since may be a rebalance.
    pub fn roll_back(&mut self) {
        if let Some((progress, seconds, floor, best)) = self.sure {
            (self.progress, self.seconds, self.floor, self.best) = (progress, seconds, floor, best);
        }
    }

    /// μ to scale up by: what is known, else what has been seen, or a `guess`, else [`UNMEASURED`].
    pub fn for_up(&self, guess: f64) -> f64 {
        self.known().unwrap_or_else(|| self.floor.max(guess).max(UNMEASURED))
    }

    /// μ to scale down by: what is known, else only what has been seen. `None`: nothing was.
    pub fn for_down(&self) -> Option<f64> {
        self.known().or((self.floor > 0.0).then_some(self.floor.max(SLOWEST)))
    }

    /// μ that three in four samples stay below: what a good member does.
    pub fn good(&self) -> Option<f64> {
        let p75 = self.median().and_then(|_| self.recent.quantile(0.75));
        self.known().map(|mean| p75.unwrap_or(mean).max(mean))
    }

    /// μ as saturated members show it right now; μ as known where none are.
    pub fn right_now(&self, now: f64) -> Option<f64> {
        let fresh = self.measured_at.is_some_and(|at| now - at < MOMENT.1) && self.moment.1 >= EVIDENCE;
        if fresh { Some((self.moment.0 / self.moment.1).max(SLOWEST)) } else { self.known() }
    }

    /// When a saturated member was last measured.
    pub const fn measured_at(&self) -> Option<f64> {
        self.measured_at
    }

    /// Seconds since a saturated member was measured.
    pub fn age(&self, now: f64) -> Option<f64> {
        self.measured_at.map(|at| now - at)
    }

    /// Whether μ may be too low: never measured, or once better.
    pub fn doubtful(&self) -> bool {
        /// A μ this close to the best is no slow spell.
        const NEAR: f64 = 0.8;
        self.measured_at.is_none() || self.known().is_some_and(|mu| mu < NEAR * self.best)
    }

    /// After a discontinuity: what was measured counts as a prior. Other code may be slower: no floor.
    pub fn demote(&mut self, other_code: bool) {
        self.prior_measured = self.learned().is_some();
        self.prior = self.mean();
        (self.progress, self.seconds, self.sure) = (0.0, 0.0, None);
        if other_code {
            self.floor = 0.0;
            self.best = 0.0;
            self.measured_at = None;
            self.recent = Ring::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staircase_against_the_poll_cancels_out() {
        let mut rate = Rate::default();
        for i in 0..40 {
            // A commit each 1.5 s, seen by a poll each second: 15 messages after 1 s and after 2 s in turn.
            rate.measured(f64::from(i), [(15.0, if i % 2 == 0 { 1.0 } else { 2.0 })].into_iter());
        }
        assert!((rate.known().unwrap() - 10.0).abs() < 0.3, "{:?}", rate.known());
    }

    #[test]
    fn one_absurd_sample_hardly_counts() {
        let mut rate = Rate::default();
        (0..30).for_each(|i| rate.measured(f64::from(i), [(10.0, 1.0)].into_iter()));
        rate.measured(31.0, [(1e6, 1.0)].into_iter());
        assert!(rate.known().unwrap() < 11.5);
    }

    #[test]
    fn evidence_soon_outweighs_a_prior() {
        let mut rate = Rate::default();
        rate.configured(Some(1_000.0));
        (0..30).for_each(|i| rate.measured(f64::from(i), [(10.0, 1.0)].into_iter()));
        assert!((rate.known().unwrap() - 10.0).abs() < 0.5);
    }

    #[test]
    fn an_edited_guess_replaces_the_old_one_and_a_guess_is_not_learned() {
        let mut rate = Rate::default();
        rate.configured(Some(100.0));
        assert_eq!((rate.known(), rate.learned()), (Some(100.0), None));
        rate.configured(Some(20.0));
        assert_eq!((rate.known(), rate.learned()), (Some(20.0), None));
        rate.configured(None);
        assert_eq!(rate.known(), None);
        rate.configured(Some(20.0));
        rate.measured(1.0, [(60.0, 6.0)].into_iter());
        assert_eq!(rate.learned(), Some(10.0));
    }

    #[test]
    fn what_an_earlier_leader_measured_outranks_a_guess_until_that_is_edited() {
        let mut rate = Rate::default();
        rate.suppose(10.0);
        rate.configured(Some(100.0));
        assert_eq!((rate.known(), rate.learned()), (Some(10.0), Some(10.0)));
        rate.configured(Some(50.0));
        assert_eq!((rate.known(), rate.learned()), (Some(50.0), None));
    }

    #[test]
    fn a_skip_to_the_end_is_not_what_a_member_did() {
        let mut rate = Rate::default();
        (0..10).for_each(|i| rate.measured(f64::from(i), [(10.0, 1.0)].into_iter()));
        rate.did(500_000.0);
        assert!(rate.known().unwrap() <= 30.0, "{:?}", rate.known());
    }

    #[test]
    fn an_idle_member_raises_a_rate_and_never_lowers_it() {
        let mut rate = Rate::default();
        rate.at_least(3.0);
        assert_eq!((rate.known(), rate.for_up(0.0), rate.for_down()), (None, UNMEASURED, Some(3.0)));
        rate.suppose(50.0);
        rate.at_least(80.0);
        assert_eq!(rate.known(), Some(80.0));
        rate.measured(1.0, [(100.0, 10.0)].into_iter());
        assert!(rate.known().unwrap() < 40.0);
    }

    #[test]
    fn nothing_absurd_gets_in() {
        let mut rate = Rate::default();
        rate.suppose(f64::NAN);
        rate.at_least(f64::INFINITY);
        rate.measured(1.0, [(1.0, 0.0), (f64::NAN, 1.0)].into_iter());
        assert_eq!(rate, Rate { recent: rate.recent.clone(), ..Rate::default() });
    }
}
