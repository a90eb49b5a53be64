//! Guards about the goal itself: what cannot be met, and offsets that would be forgotten at zero.

use serde::{Deserialize, Serialize};

use super::super::decision::{Condition, ConditionKind};
use super::{Scene, Verdict};

/// Share of the broker's offset retention after which one replica is woken to commit again.
const RETENTION_SHARE: f64 = 0.8;

/// Since when there has been no replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Memory {
    zero_since: Option<f64>,
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
            verdict.at_least(1);
            let detail = format!("offsets of an empty group are kept for {retention:.0} s");
            verdict.conditions.push(Condition::new(ConditionKind::OffsetsExpiring, detail));
        }
        let (start, pause) = (scene.timing.cold_start(config), scene.timing.pause(config));
        if config.target_delay < start + pause {
            let detail = format!(
                "targetDelay {:.0} s, but a new replica helps after {:.0} s: keep more replicas",
                config.target_delay,
                start + pause
            );
            verdict.conditions.push(Condition::new(ConditionKind::TargetInfeasible, detail));
        }
        if min_above_cap {
            let detail = format!("minReplicas {} is more than can work", config.min_replicas);
            verdict.conditions.push(Condition::new(ConditionKind::MinAboveCap, detail));
        }
    }
}
