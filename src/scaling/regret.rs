//! Steps down that had to be taken back: the size that was too small is not tried again at once.
//!
//! A formula may be wrong about a size for reasons that it cannot see: a partition that takes most of a consumer starves
//! those beside it, and is a hot one no more as soon as it has a consumer of its own. Down and up again every few
//! minutes would be worse than either size.

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::rules::backoff;
use super::shape::Fleet;

/// Peak memories (of ten minutes at least) for which a lower size must have more room.
const CAREFUL: f64 = 4.0;
/// Times the arrivals at the step down: with more than that, it is the load that changed. And the share of those
/// arrivals below which the size is another question.
const ALIKE: (f64, f64) = (1.15, 0.85);
/// Seconds for which the size is not tried again after the first time, and the most that further times make of it.
const WAIT: (f64, f64) = (600.0, 21_600.0);

/// What is remembered of steps down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Regret {
    lowered: Option<Lowered>,
    careful_until: Option<f64>,
    enough: Option<Enough>,
}

/// The last step down.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Lowered {
    at: f64,
    from: u32,
    arrival: f64,
}

/// The size that arrivals like these need, whatever the formula says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Enough {
    size: u32,
    arrival: f64,
    until: f64,
    times: u32,
}

/// More replicas than there were.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raised {
    /// The size that was too small.
    pub failed: u32,
    pub to: u32,
    pub arrival: f64,
    /// Seconds within which this says that the last step down was wrong.
    pub swing: f64,
}

impl Regret {
    /// Replicas go.
    pub fn lowered(&mut self, now: f64, from: u32, arrival: f64) {
        self.lowered = Some(Lowered { at: now, from, arrival });
    }

    /// More are needed.
    pub fn raised(&mut self, now: f64, up: Raised, config: &Config, fleet: &Fleet<'_>) {
        let Raised { failed, to, arrival, swing } = up;
        // Who keeps no peaks still wants no swings.
        let memory = config.peaks().max(WAIT.0);
        let Some(lowered) = self.lowered.take_if(|l| now - l.at < memory) else {
            return;
        };
        if lowered.arrival <= 0.0 {
            // No size is too small for nothing: what is to be done now came otherwise.
            return;
        }
        if now - lowered.at < swing {
            self.careful_until = Some(now + CAREFUL * memory);
        }
        if arrival > ALIKE.0 * lowered.arrival {
            return;
        }
        let again = |e: &Enough| now - e.until < backoff(WAIT, e.times);
        let times = self.enough.filter(again).map_or(0, |e| e.times + 1);
        // Of the sizes between the two, which were not tried, the one in the middle.
        let middle = fleet.class_of(u32::midpoint(failed.min(lowered.from), lowered.from));
        let size = middle.max(fleet.class_above(failed, lowered.from)).min(to).min(lowered.from);
        self.enough =
            Some(Enough { size, arrival: lowered.arrival, until: now + backoff(WAIT, times), times });
    }

    /// A lower size needs more room than usual.
    pub fn careful(&self, now: f64) -> bool {
        self.careful_until.is_some_and(|until| now < until)
    }

    /// The size below which arrivals like these were not done.
    pub fn at_least(&self, now: f64, arrival: f64) -> Option<u32> {
        self.enough.filter(|e| now < e.until && arrival >= ALIKE.1 * e.arrival).map(|e| e.size)
    }

    /// Something happened to the work itself: what is to be done next says nothing of the last step down.
    pub fn interrupt(&mut self) {
        self.lowered = None;
    }

    /// Other code may need another size.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::Shape;
    use super::*;

    fn raised(regret: &mut Regret, at: f64, (failed, arrival): (u32, f64), config: &Config) {
        let shape = Shape::Topics { counts: vec![12], range: false };
        let fleet = Fleet { shape: &shape, per_replica: 1, foreign: 0 };
        regret.raised(at, Raised { failed, to: 12, arrival, swing: 900.0 }, config, &fleet);
    }

    #[test]
    fn after_a_long_step_that_was_too_far_the_size_between_is_taken_to_do() {
        for (failed, enough) in [(6, 12), (4, 6), (1, 6), (2, 6)] {
            let mut regret = Regret::default();
            regret.lowered(0.0, 12, 450.0);
            raised(&mut regret, 60.0, (failed, 450.0), &Config::default());
            assert_eq!(regret.at_least(100.0, 450.0), Some(enough), "{failed}");
        }
    }

    fn taken_back(regret: &mut Regret, at: f64, arrival: (f64, f64)) {
        regret.lowered(at, 12, arrival.0);
        raised(regret, at + 60.0, (6, arrival.1), &Config::default());
    }

    #[test]
    fn what_was_too_small_for_the_same_load_is_not_tried_at_once() {
        let mut regret = Regret::default();
        taken_back(&mut regret, 0.0, (450.0, 460.0));
        assert_eq!((regret.at_least(600.0, 450.0), regret.at_least(700.0, 450.0)), (Some(12), None));
        assert_eq!(regret.at_least(600.0, 300.0), None, "less load is another question");
        assert!(regret.careful(3_000.0) && !regret.careful(4_000.0));
    }

    #[test]
    fn work_that_comes_from_nowhere_shows_no_size_to_be_too_small() {
        let mut regret = Regret::default();
        taken_back(&mut regret, 0.0, (0.0, 0.0));
        assert_eq!((regret.at_least(100.0, 0.0), regret.careful(100.0)), (None, false));
        regret.lowered(0.0, 12, 450.0);
        regret.interrupt();
        raised(&mut regret, 60.0, (6, 450.0), &Config::default());
        assert_eq!(regret.at_least(100.0, 450.0), None);
    }

    #[test]
    fn each_further_time_waits_twice_as_long() {
        let mut regret = Regret::default();
        let mut at = 0.0;
        for wait in [600.0, 1_200.0, 2_400.0] {
            taken_back(&mut regret, at, (450.0, 450.0));
            at += 60.0 + wait;
            assert_eq!((regret.at_least(at - 1.0, 450.0), regret.at_least(at, 450.0)), (Some(12), None));
        }
    }

    #[test]
    fn a_load_that_grew_says_nothing_of_the_size() {
        let mut regret = Regret::default();
        taken_back(&mut regret, 0.0, (50.0, 1_500.0));
        assert_eq!(regret.at_least(61.0, 1_500.0), None);
        assert!(regret.careful(61.0));
    }

    #[test]
    fn who_keeps_no_peaks_is_kept_from_swings_all_the_same() {
        let config = Config { peak_memory: Some(0.0), ..Config::default() };
        let mut regret = Regret::default();
        regret.lowered(0.0, 12, 450.0);
        raised(&mut regret, 200.0, (6, 450.0), &config);
        assert_eq!(regret.at_least(700.0, 450.0), Some(12));
        assert!(regret.careful(2_000.0));
    }

    #[test]
    fn a_step_down_that_lasted_is_none_to_regret() {
        let mut regret = Regret::default();
        regret.lowered(0.0, 12, 450.0);
        raised(&mut regret, 901.0, (6, 450.0), &Config::default());
        assert_eq!(regret, Regret { lowered: regret.lowered, ..Regret::default() });
    }
}
