//! For how long replicas are kept that are not needed: what a wrong step down would cost decides.
//!
//! Replicas that are back within the target delay are let go soon, and all at once: were the step down wrong, no message
//! would be late for it; it would cost one rebalance there and one back. Where they would be back too late, or the last step
//! down was taken back, they go slowly, and half of a peak stays for a while.

use super::config::Config;
use super::estimate::timing::Timing;
use super::state::State;

/// Times as long as it takes to have replicas back that they are kept for, at least and at most; and the least in seconds.
const WORTH: f64 = 2.0;
/// Seconds for which replicas are kept at least: a broker that restarts, or a load that swings, takes less.
const LEAST: f64 = 45.0;
/// Seconds for which a lower need must last where a wrong step down costs more than a rebalance.
const CAUTIOUS: f64 = 180.0;
/// Seconds for which half of a peak is kept where its replicas would be back too late.
const PEAKS: f64 = 900.0;
/// Times as long as it takes to have replicas back within which a load that goes and comes swings; and the longest swing.
const SWING: f64 = 10.0;
const SWINGS: f64 = 900.0;
/// The largest share that stays.
const HALF: f64 = 0.5;
/// Seconds for which `RabbitMQ`'s statistics may hide that there is more to do.
const STATISTICS: f64 = 5.0;

/// How replicas go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Keep {
    /// Seconds for which a lower need must have lasted: one of half as many replicas, and any.
    pub soon: f64,
    pub slowly: f64,
    /// Seconds from one step down to the next: each moves partitions.
    pub rest: f64,
    /// Share of the replicas that stays at each step.
    pub at_once: f64,
    /// Share of the largest size of late that stays.
    pub of_peak: f64,
    /// Seconds within which replicas that went must not be wanted back, or letting them go was wrong.
    pub regret: f64,
}

impl Keep {
    /// `careful`: a step down may be wrong, as the last one was.
    fn new(config: &Config, timing: &Timing, careful: bool) -> Self {
        const PAUSES: f64 = 10.0;
        let back = back_within(config, timing);
        // The peak comes back at once and the first message that the few cannot do waits for the others, less what
        // the few did until then: with this share of them, no longer than the target delay.
        let share = 1.0 - config.target_delay / back.max(config.target_delay);
        // How long a start takes is not guessed where a wrong guess makes messages late.
        let known = config.cold_start.or(timing.learned_cold_start()).is_some();
        let share = if known { share } else { 1.0 };
        let in_time = share <= HALF;
        let learned = if in_time && !careful { (WORTH * back).clamp(LEAST, CAUTIOUS) } else { CAUTIOUS };
        let soon = config.stabilization.unwrap_or(learned);
        Self {
            soon,
            slowly: config.longest_stabilization(),
            rest: soon.max(PAUSES * timing.pause(config)),
            at_once: if careful { HALF } else { share.min(HALF) },
            of_peak: match config.peak_memory {
                Some(memory) if memory > 0.0 => HALF,
                Some(_) => 0.0,
                None => share.min(HALF),
            },
            regret: if in_time { (SWING * back).min(SWINGS) } else { SWINGS },
        }
    }

    /// Seconds for which a need of `count` must have lasted. A need that halves is another load; one that falls by less
    /// may be chance, which shows in minutes.
    pub fn window(&self, spec: u32, count: u32) -> f64 {
        if 2 * count <= spec { self.soon } else { self.slowly }
    }

    /// The fewest replicas that a step down may leave.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn least(&self, spec: u32, peak: f64) -> u32 {
        (self.of_peak * peak).max(self.at_once * f64::from(spec)).ceil() as u32
    }
}

impl State {
    /// How replicas go now. `timing` is that of this state.
    pub(super) fn keep(&self, config: &Config, timing: &Timing, now: f64) -> Keep {
        // Of a load that lies unevenly the formula does not know what a size that was not tried makes of it.
        let uneven = self.group.parts.iter().any(|part| part.hot);
        Keep::new(config, timing, uneven || self.sizing.regret.careful(now))
    }
}

/// Seconds from the return of a peak to the work of replicas that were let go.
fn back_within(config: &Config, timing: &Timing) -> f64 {
    let seen = 2.0 * config.poll_interval + if timing.queue { STATISTICS } else { 0.0 };
    seen + timing.to_full(config)
}

impl Config {
    /// The longest that a lower need must last.
    pub(super) fn longest_stabilization(&self) -> f64 {
        self.stabilization.unwrap_or(CAUTIOUS)
    }

    /// The longest that half of a peak is kept.
    pub(super) fn peaks(&self) -> f64 {
        self.peak_memory.unwrap_or(PEAKS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(cold_start: f64, target_delay: f64, careful: bool) -> Keep {
        let mut timing = Timing::default();
        timing.seed(Some(cold_start), Some(3.0), Some(1.0));
        Keep::new(&Config { target_delay, ..Config::default() }, &timing, careful)
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn replicas_that_are_back_in_time_go_soon_and_at_once() {
        let soon = keep(20.0, 30.0, false);
        assert!(close(soon.soon, 50.0) && close(soon.at_once, 0.0) && close(soon.of_peak, 0.0), "{soon:?}");
        assert!(close(keep(1.0, 30.0, false).soon, LEAST), "a broker may restart meanwhile");
        assert!(close(keep(90.0, 600.0, false).soon, CAUTIOUS));
    }

    #[test]
    fn what_stays_is_what_a_return_of_the_peak_needs_and_half_of_it_at_most() {
        // Back after 40 s of which 30 may be waited: a quarter of the work must go on.
        let some = keep(35.0, 30.0, false);
        assert!(close(some.of_peak, 0.25) && close(some.at_once, 0.25), "{some:?}");
        let late = keep(115.0, 30.0, false);
        assert!(close(late.of_peak, HALF) && close(late.soon, CAUTIOUS), "{late:?}");
    }

    #[test]
    fn after_a_step_down_that_was_taken_back_replicas_go_slowly_and_by_halves() {
        let careful = keep(20.0, 30.0, true);
        assert!(close(careful.soon, CAUTIOUS) && close(careful.at_once, HALF), "{careful:?}");
    }

    #[test]
    fn how_long_a_start_takes_is_not_guessed() {
        let guessed = Keep::new(&Config::default(), &Timing::default(), false);
        assert!(close(guessed.soon, CAUTIOUS) && close(guessed.of_peak, HALF), "{guessed:?}");
        let told = Config { cold_start: Some(5.0), ..Config::default() };
        assert!(close(Keep::new(&told, &Timing::default(), false).of_peak, 0.0));
    }

    #[test]
    fn what_a_person_says_is_as_they_say() {
        let mut timing = Timing::default();
        timing.seed(Some(5.0), Some(3.0), Some(1.0));
        let config = Config { stabilization: Some(600.0), peak_memory: Some(900.0), ..Config::default() };
        let said = Keep::new(&config, &timing, false);
        assert!(close(said.soon, 600.0) && close(said.of_peak, HALF), "{said:?}");
        let config = Config { peak_memory: Some(0.0), target_delay: 1.0, ..Config::default() };
        assert!(close(Keep::new(&config, &timing, false).of_peak, 0.0));
    }
}
