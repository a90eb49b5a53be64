//! Guards about what does not come up: pods that are not ready, a group that does not come to rest.

use std::fmt::Write as _;

use super::super::decision::{Bound, Condition, ConditionKind};
use super::super::text::Lasting;
use super::{Scene, Verdict};

/// Cold starts after which a pod that is not ready will not be soon.
const STARTS: f64 = 2.0;
/// The same in a rollout, which keeps some pods from being ready all the time: a quarter of them for each cold start.
const STARTS_OF_A_ROLLOUT: f64 = 10.0;
/// Rebalances after which one that still runs is no ordinary one, and seconds that it must have run at least:
/// pods that start one by one prolong it, and the group is not described at every poll.
const REBALANCES: f64 = 3.0;
const UNSTABLE: f64 = 30.0;
/// Seconds after which a group that does not come to rest may lose replicas: fewer members rest sooner.
pub(in crate::scaling) const DOWN_ANYWAY: f64 = 600.0;

/// Pods asked for and not ready long after they should be: no more of them, if the next ones would fare no better.
pub(in crate::scaling) fn pods(scene: &Scene<'_>, pending_since: Option<f64>, verdict: &mut Verdict) {
    let Some(since) = pending_since else { return };
    let lasted = scene.now - since;
    let starts = if scene.seen.target.updating { STARTS_OF_A_ROLLOUT } else { STARTS };
    if lasted <= starts * scene.timing.cold_start(scene.config) {
        return;
    }
    let missing = scene.spec - scene.ready;
    let unschedulable = scene.seen.target.unschedulable.is_some_and(|n| n > 0);
    // One pod of many that does not come up says nothing about the next ones. It does where no node has room, where most
    // of them do not, or where the last step brought none.
    let last_step = scene.timing.up.map_or(u32::MAX, |up| up.to - up.from);
    if unschedulable || 2 * missing > scene.spec || missing >= last_step {
        verdict.no_up = true;
        verdict.bounds.push(Bound::PodsNotReady);
    }
    let mut detail = format!("{missing} of {} not ready for {}", scene.spec, Lasting(lasted));
    if let Some(pods) = scene.seen.target.unschedulable.filter(|&n| n > 0) {
        // Writing to a String cannot fail.
        let _ = write!(detail, ", {pods} fit on no node");
    }
    verdict.conditions.push(Condition::new(ConditionKind::PodsNotReady, detail));
}

/// A group that has been rebalancing for too long: more members would disturb it again.
pub(in crate::scaling) fn group(scene: &Scene<'_>, verdict: &mut Verdict) {
    let Some(since) = scene.timing.unstable_since else {
        return;
    };
    let lasted = scene.now - since;
    if lasted > UNSTABLE.max(REBALANCES * scene.timing.pause(scene.config)) {
        verdict.no_up = true;
        verdict.bounds.push(Bound::GroupUnstable);
        let detail = format!("rebalancing for {}", Lasting(lasted));
        verdict.conditions.push(Condition::new(ConditionKind::GroupUnstable, detail));
    }
}
