//! Guards about what is known: nothing, a part, a kind that is not scaled, members that are not ours.

use serde::{Deserialize, Serialize};

use super::super::decision::{Bound, Condition, ConditionKind};
use super::super::estimate::Data;
use super::super::estimate::kafka::Group;
use super::super::observation::GroupKind;
use super::super::text::Lasting;
use super::{Scene, Verdict};

/// No usable data since `known_at` (or the start): hold, and after `onUnknown.after` raise to `onUnknown.replicas`.
/// Part of it: never lower.
pub(in crate::scaling) fn known(
    scene: &Scene<'_>,
    group: &Group,
    known_at: Option<f64>,
    verdict: &mut Verdict,
) {
    let kafka = scene.seen.kafka.as_ref();
    let said = || kafka.and_then(|kafka| kafka.partitions.iter().find_map(|part| part.error.as_deref()));
    match scene.signals.data {
        Data::Full => {}
        Data::Partial => {
            verdict.no_down = true;
            verdict.bounds.push(Bound::Unknown);
            let unknown = kafka.map_or(&[][..], |_| &group.parts);
            let unknown = unknown.iter().filter(|part| !part.usable).map(|part| part.tp.clone()).collect();
            let detail = match said() {
                Some(words) => format!("not known, so that what is known is a lower bound: {words}"),
                None => "what is known is a lower bound".to_owned(),
            };
            verdict.conditions.push(Condition::named(ConditionKind::PartialData, unknown, detail));
        }
        Data::Missing => {
            (verdict.no_up, verdict.no_down) = (true, true);
            verdict.bounds.push(Bound::Unknown);
            let lasted = known_at.map_or(0.0, |at| scene.now - at);
            if let Some(replicas) = scene.config.unknown_replicas
                && lasted >= scene.config.unknown_after
            {
                verdict.at_least(replicas);
            }
            let mut detail = format!("no usable data for {}", Lasting(lasted));
            if let Some(words) = said() {
                detail = format!("{detail}: {words}");
            }
            verdict.conditions.push(Condition::new(ConditionKind::DataUnknown, detail));
        }
    }
}

/// Of what it reads, no lag is known that more replicas would lessen: hold, and say so.
pub(in crate::scaling) fn supported(scene: &Scene<'_>, kind: GroupKind, verdict: &mut Verdict) {
    let detail = match (&scene.seen.kafka, &scene.seen.rabbitmq) {
        (_, Some(queue)) if queue.kind.as_ref() == "stream" => {
            "a stream has no backlog that is shared: consumers read all of it"
        }
        (Some(_), _) if kind == GroupKind::Other => {
            "a share group or a streams group: it commits no offsets that lag could be counted from"
        }
        _ => return,
    };
    (verdict.no_up, verdict.no_down) = (true, true);
    verdict.bounds.push(Bound::Unknown);
    verdict.conditions.push(Condition::new(ConditionKind::Unsupported, detail.to_owned()));
}

/// Members outside our pods take partitions: capacity and cap count them. And an application that assigns
/// partitions by itself: there is no group to watch, and it is said.
pub(in crate::scaling) fn members(scene: &Scene<'_>, group: &Group, verdict: &mut Verdict) {
    /// Commit gaps within which a commit shows that someone works.
    const GAPS: f64 = 3.0;
    if scene.signals.foreign > 0 {
        let detail = format!("{} members outside our pods", scene.signals.foreign);
        verdict.conditions.push(Condition::new(ConditionKind::ForeignMembers, detail));
    }
    let recent = GAPS * scene.timing.gap();
    if group.empty_for(scene.now) > recent && group.progress_at.is_some_and(|at| scene.now - at <= recent) {
        let detail = "the group has no members, yet commits advance".to_owned();
        verdict.conditions.push(Condition::new(ConditionKind::Standalone, detail));
    }
}

/// `RabbitMQ`: the work is with consumers that have not acknowledged it; it cannot move to new ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Prefetch {
    bound: bool,
}

impl Prefetch {
    pub fn check(&mut self, scene: &Scene<'_>, verdict: &mut Verdict) {
        /// Of all that waits, the share that is ready for delivery: below the first the guard enters, above
        /// the second it leaves.
        const SHARE: (f64, f64) = (0.05, 0.2);
        /// Unacknowledged messages per replica that are more than hands full.
        const LARGE: f64 = 10.0;
        let Some(queue) = &scene.seen.rabbitmq else { return };
        let (Some(ready), Some(unacked)) = (queue.ready, queue.unacked) else {
            return;
        };
        #[allow(clippy::cast_precision_loss)]
        let (ready, unacked) = (ready as f64, unacked as f64);
        let share = if self.bound { SHARE.1 } else { SHARE.0 };
        self.bound = ready <= share * (ready + unacked) && unacked > LARGE * f64::from(scene.ready.max(1));
        if self.bound {
            verdict.bounds.push(Bound::Prefetch);
            let detail = format!("{unacked:.0} messages unacknowledged, {ready:.0} ready");
            verdict.conditions.push(Condition::new(ConditionKind::PrefetchBound, detail));
        }
    }
}
