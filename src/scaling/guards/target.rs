//! Guards about the goal itself: what cannot be met, and offsets that would be forgotten at zero.

use serde::{Deserialize, Serialize};

use super::super::decision::{Condition, ConditionKind};
use super::super::observation::GroupRead;
use super::{Scene, Verdict};

/// Share of the broker's offset retention after which one replica is woken to commit again.
const RETENTION_SHARE: f64 = 0.8;
/// Seconds after which a replica that is ready has committed, where the group shows no members.
const COMMITTED: f64 = 60.0;

/// Since when there has been no replica, and whether one was woken that the group has not seen yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Memory {
    zero_since: Option<f64>,
    waking: bool,
}

impl Memory {
    /// There has been no replica since then.
    pub fn at_zero_since(&mut self, at: f64) {
        self.zero_since = Some(at);
    }

    pub fn check(&mut self, scene: &Scene<'_>, min_above_cap: bool, verdict: &mut Verdict) {
        let config = scene.config;
        self.zero_since = (scene.spec == 0).then(|| self.zero_since.unwrap_or(scene.now));
        if let (Some(since), Some(retention)) = (self.zero_since, scene.seen.offsets_retention)
            && retention > 0.0
            && scene.now - since > RETENTION_SHARE * retention
        {
            self.waking = true;
        }
        // Offsets of a group are kept from when its last member left (KIP-211): one has to have been there.
        let kafka = scene.seen.kafka.as_ref();
        let members = kafka.is_some_and(|k| matches!(&k.group, GroupRead::Known(g) if !g.members.is_empty()));
        if scene.ready > 0 && (members || scene.timing.steady_for(scene.now) > COMMITTED) {
            self.waking = false;
        }
        if self.waking {
            verdict.at_least(1);
            verdict.no_zero = true;
            let retention = scene.seen.offsets_retention.unwrap_or_default();
            let detail = format!("offsets of an empty group are kept for {retention:.0} s");
            verdict.conditions.push(Condition::new(ConditionKind::OffsetsExpiring, detail));
        }
        let helps = scene.timing.to_full(config);
        if config.target_delay < helps {
            let detail = format!(
                "targetDelay {:.0} s, but a new replica helps after {helps:.0} s: keep more replicas",
                config.target_delay,
            );
            verdict.conditions.push(Condition::new(ConditionKind::TargetInfeasible, detail));
        }
        if min_above_cap {
            let detail = format!("minReplicas {} is more than can work", config.min_replicas);
            verdict.conditions.push(Condition::new(ConditionKind::MinAboveCap, detail));
        }
    }
}
