//! Guards about single partitions: stuck, phantom, hot, held by a transaction.

use super::super::config::{Config, Isolation};
use super::super::decision::{Bound, Condition, ConditionKind};
use super::super::estimate::kafka::Group;
use super::super::estimate::partition::Track;
use super::super::estimate::timing::Timing;
use super::super::text::Lasting;
use super::{Scene, Verdict};

/// Seconds without a commit before a partition with lag can be stuck, and the commit gaps it must span.
const STUCK: (f64, f64) = (60.0, 5.0);
/// The same where no commit was ever seen, or where its owner has other partitions to work on (it may just be next).
const STUCK_UNSURE: f64 = 300.0;
/// Seconds without any movement before a little lag is no message, and the commit gaps they must span.
const PHANTOM: (f64, f64) = (60.0, 3.0);
/// Seconds for which a transaction may hold the last stable offset: the broker's default timeout.
const HELD: f64 = 60.0;
/// Seconds for which a partition must get too much before it is called hot.
const HOT: f64 = 30.0;
/// Messages that must have come meanwhile: fewer are chance.
const SEVERAL: f64 = 4.0;
/// Seconds over which what comes is counted.
const BATCHES: f64 = 120.0;
/// A hot partition cools down at this share of what a member does.
const COOL: f64 = 0.9;

/// Polls and commits whose arrivals are no backlog of a partition, and messages that are none.
const ORDINARY: (f64, f64) = (2.0, 5.0);

/// Sets the flags of each partition. `good`: messages/s that one good consumer does, if measured.
pub(in crate::scaling) fn flag(
    group: &mut Group,
    config: &Config,
    timing: &Timing,
    now: f64,
    ready: u32,
    good: Option<f64>,
) {
    let gap = timing.gap();
    let phantom_after = PHANTOM.0.max(PHANTOM.1 * gap);
    #[allow(clippy::cast_precision_loss)]
    let tolerance = config.lag_tolerance as f64;
    for part in group.parts.iter_mut().filter(|p| p.usable) {
        // With no replica nothing could have moved: what waits then may well be messages.
        part.phantom = part.lag > 0.0
            && part.lag <= tolerance
            && !part.news
            && (part.phantom && part.still_for(now) > phantom_after
                || ready > 0 && part.still_for(now).min(timing.steady_for(now)) > phantom_after);
        let hot = good.is_some_and(|g| part.slow.cautious() > if part.hot { COOL * g } else { g });
        // What came with the poll that began it may be a burst, and one message of a long job is no rate; and what comes in
        // batches is one, as long as each finds some of the one before.
        let goes_on = |(since, _): &(f64, f64)| hot || part.lag > 0.0 && now - since < BATCHES;
        part.above = match part.above.filter(goes_on) {
            Some((since, came)) => Some((since, came + part.arrived)),
            None => hot.then_some((now, 0.0)),
        };
        let lasts = |(since, came): (f64, f64)| {
            now - since >= HOT && good.is_some_and(|good| came >= SEVERAL.max(good * (now - since)))
        };
        part.hot = hot && (part.hot || part.above.is_some_and(lasts));
        // A mean over too long tells nothing of now.
        part.above = part.above.filter(|(since, _)| now - since < BATCHES);
    }
    stuck(group, config.poll_interval, timing, now, ready);
}

/// Seconds without a commit after which a partition with lag can be stuck.
pub(in crate::scaling) fn patience(timing: &Timing) -> f64 {
    timing.learned_gap().map_or(STUCK_UNSURE, |gap| STUCK.0.max(STUCK.1 * gap))
}

fn stuck(group: &mut Group, poll: f64, timing: &Timing, now: f64, ready: u32) {
    let lags = |p: &&mut Track| p.usable && p.lag > 0.0 && !p.phantom;
    let able = ready > 0 && timing.unstable_since.is_none();
    let patience = patience(timing);
    let steady = timing.steady_for(now);
    let waits = |p: &Track| p.waiting_for(now).min(steady);
    // Owners of partitions that moved lately are alive.
    let mut alive = vec![false; group.members.len()];
    group.moving = false;
    for part in group.parts.iter().filter(|p| p.usable && now - p.moved_at < patience && p.ever_committed()) {
        group.moving = true;
        if let Some(owner) = part.owner.and_then(|o| alive.get_mut(o)) {
            *owner = true;
        }
    }
    let known = group.members.known();
    let has_work = |p: &Track| {
        let ordinary = ORDINARY.0 * (poll + timing.gap()) * p.slow.mean();
        p.usable && p.waiting_for(now) <= patience && p.lag > ORDINARY.1 + ordinary
    };
    let mut work = vec![0u32; group.members.len()];
    for part in group.parts.iter().filter(|p| has_work(p)) {
        if let Some(of_owner) = part.owner.and_then(|o| work.get_mut(o)) {
            *of_owner += 1;
        }
    }
    for part in group.parts.iter_mut().filter(lags) {
        let owner_moves = part.owner.and_then(|o| alive.get(o)).is_some_and(|&a| a);
        let all = part.owner.and_then(|o| work.get(o));
        let alone = all.is_some_and(|&all| all <= u32::from(has_work(part)));
        part.next_since = if alone { part.next_since.or(Some(now)) } else { None };
        let next_for = part.next_since.map_or(0.0, |since| now - since);
        let enough = if owner_moves && next_for < patience { patience.max(STUCK_UNSURE) } else { patience };
        let assigned = !known || part.owner.is_some();
        let stands = able && assigned && waits(part) > enough;
        // A new owner does not make it better, only a commit does: else each change of members would ask for replicas.
        part.stuck = stands || part.stuck && ready > 0 && part.waiting_for(now) > patience;
    }
    for part in group.parts.iter_mut().filter(|p| p.lag <= 0.0 || p.phantom) {
        (part.stuck, part.next_since) = (false, None);
    }
}

/// Says what the flags mean for the count.
pub(in crate::scaling) fn check(scene: &Scene<'_>, group: &Group, verdict: &mut Verdict) {
    let pick = |wanted: &dyn Fn(&Track) -> bool| {
        group.parts.iter().filter(|p| p.usable && wanted(p)).map(|p| p.tp.clone()).collect::<Vec<_>>()
    };
    let stuck = pick(&|p| p.stuck);
    if !stuck.is_empty() {
        let all = !group.moving;
        let kind = if all { ConditionKind::AllStuck } else { ConditionKind::StuckPartition };
        if all {
            (verdict.no_up, verdict.no_down) = (true, true);
            verdict.bounds.push(Bound::Stuck);
        }
        let longest =
            group.parts.iter().filter(|p| p.stuck).map(|p| p.waiting_for(scene.now)).fold(0.0, f64::max);
        let detail = format!("no commit for {}", Lasting(longest));
        verdict.conditions.push(Condition::named(kind, stuck, detail));
        verdict.no_zero = true;
    }
    let phantom = pick(&|p| p.phantom);
    if !phantom.is_empty() {
        let detail = "lag that does not move: no message".to_owned();
        verdict.conditions.push(Condition::named(ConditionKind::PhantomLag, phantom, detail));
    }
    let hot = pick(&|p| p.hot);
    if !hot.is_empty() {
        verdict.bounds.push(Bound::Partitions);
        let detail = "more arrives than one consumer can do".to_owned();
        verdict.conditions.push(Condition::named(ConditionKind::PartitionBound, hot, detail));
    }
    if scene.config.isolation == Isolation::ReadCommitted {
        let held = pick(&|p| p.end_held_for(scene.now) > HELD);
        if !held.is_empty() {
            verdict.no_zero = true;
            let detail = "a transaction holds the last stable offset".to_owned();
            verdict.conditions.push(Condition::named(ConditionKind::LsoStalled, held, detail));
        }
    }
}
