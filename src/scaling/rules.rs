//! When a count may change: up fast, down slowly, to zero only when sure.

use super::config::Config;
use super::decision::Bound;
use super::shape::Fleet;

/// While replicas are starting, only a want this many times theirs starts more: each change moves partitions.
const WHILE_STARTING: f64 = 1.25;
/// A lower class must hold the largest recent need and as much again as it lies above the mean, between these
/// shares of it: a quiet need may go close to a class's edge, a restless one may not.
const DOWN_MARGIN: (f64, f64) = (1.04, 1.1);

/// The limits between which a count may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub min: u32,
    /// The largest count that brings anything: a class, at most `maxReplicas` and the cap.
    pub ceiling: u32,
    /// Most replicas that can work, where known.
    pub cap: Option<u32>,
    /// What makes the ceiling.
    pub by: Option<Bound>,
    /// `minReplicas` is above the cap.
    pub min_above_cap: bool,
}

impl Limits {
    /// Without a cap and without `maxReplicas` nothing is known to bring anything beyond the present count.
    pub fn new(config: &Config, fleet: &Fleet<'_>, spec: u32) -> Self {
        let cap = fleet.cap();
        let (most, by) = match (config.max_replicas, cap) {
            (Some(max), Some(cap)) if max < cap => (max, Some(Bound::Max)),
            (_, Some(cap)) => (cap, Some(Bound::Partitions)),
            (Some(max), None) => (max, Some(Bound::Max)),
            (None, None) => (spec.max(config.min_replicas).max(1), None),
        };
        let min = config.min_replicas.min(cap.unwrap_or(u32::MAX));
        // A maximum between two classes does no more than the class below it.
        let ceiling = fleet.class_of(most).max(min);
        Self { min, ceiling, cap, by, min_above_cap: config.min_replicas > min }
    }
}

/// What speaks for more replicas at this poll.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not a state
pub(super) struct Ups {
    /// The count wanted, within limits.
    pub wanted: u32,
    /// More was wanted at the last poll, too.
    pub agreed: bool,
    /// Arrivals are still rising; one more poll shows how far.
    pub rising: bool,
    /// The target delay is broken already, and what waits is not just arriving.
    pub late: bool,
    /// A limit asks for it: nothing is to be confirmed.
    pub forced: bool,
    /// A scale-up is under way.
    pub starting: bool,
}

/// Whether to go up now; the first message wakes at once. `Err` says what it waits for.
pub(super) fn up(spec: u32, limits: &Limits, ups: Ups) -> Result<u32, Wait> {
    if ups.forced || spec == 0 {
        return Ok(ups.wanted);
    }
    if ups.starting && f64::from(ups.wanted) < WHILE_STARTING * f64::from(spec) {
        return Err(Wait::Starting);
    }
    // A want that cannot grow need not be confirmed.
    let certain = ups.agreed && !ups.rising || (ups.late && ups.wanted == limits.ceiling);
    if certain { Ok(ups.wanted) } else { Err(Wait::SecondPoll) }
}

/// Why a wanted scale-up waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// One more poll must agree.
    SecondPoll,
    /// Replicas are starting.
    Starting,
}

/// Seconds before what has failed so many times is tried again: `first`, doubled each time, at most `most`.
pub(super) fn backoff((first, most): (f64, f64), times: u32) -> f64 {
    (first * 2f64.powi(times.min(8).cast_signed())).min(most)
}

/// The need that a lower class must hold. `regret`: the last step down had to be taken back.
pub(super) fn to_hold(largest: f64, mean: f64, regret: bool) -> f64 {
    let unrest = if mean > 0.0 && !regret { largest / mean } else { f64::INFINITY };
    largest * unrest.clamp(DOWN_MARGIN.0, DOWN_MARGIN.1)
}

/// The next count on the way down from `spec` to the class that does `lower`.
pub(super) fn down(spec: u32, lower: u32, limits: &Limits, fleet: &Fleet<'_>) -> u32 {
    let next = lower.max(limits.min).max(1);
    if next >= spec { spec } else { fleet.class_of(next).max(limits.min).max(1) }
}

/// Whether fewer replicas run until `rest` seconds from now if the step down from `spec` to `next` waits for one that leads
/// further. `later`: in how many seconds which count is possible, if no larger need comes.
pub(super) fn worth_waiting(
    spec: u32,
    next: u32,
    rest: f64,
    mut later: impl Iterator<Item = (f64, u32)>,
) -> bool {
    let (spec, now) = (f64::from(spec), f64::from(next) * rest);
    later.any(|(wait, count)| wait < rest && spec * wait + f64::from(count) * (rest - wait) < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_down_waits_for_one_that_leads_further_if_that_is_soon() {
        let waits = |later: &[(f64, u32)]| worth_waiting(12, 10, 180.0, later.iter().copied());
        assert!(waits(&[(10.0, 10), (20.0, 6)]));
        assert!(!waits(&[(170.0, 6)]) && !waits(&[(200.0, 1)]) && !waits(&[]));
        assert!(!worth_waiting(12, 6, 180.0, [(60.0, 4)].into_iter()));
    }

    #[test]
    fn while_replicas_start_only_a_quarter_more_starts_more() {
        let limits = Limits { min: 1, ceiling: 64, cap: Some(64), by: None, min_above_cap: false };
        let starting = |wanted, starting| {
            let ups = Ups { wanted, agreed: true, rising: false, late: false, forced: false, starting };
            up(8, &limits, ups)
        };
        assert_eq!((starting(9, true), starting(10, true)), (Err(Wait::Starting), Ok(10)));
        assert_eq!(starting(9, false), Ok(9));
    }
}
