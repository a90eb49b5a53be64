//! What is remembered from one decision to the next. Opaque; serialisable, so that it can be kept or replayed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::decision::{ConditionKind, Learned};
use super::estimate::arrival::Arrival;
use super::estimate::kafka::Group;
use super::estimate::rabbitmq::Queue;
use super::estimate::rate::Rate;
use super::estimate::series::{Ewma, MaxWindow};
use super::estimate::timing::Timing;
use super::guards::Guards;
use super::regret::Regret;

/// The memory of one Consumer's scaling. `State::default()` knows nothing; [`State::seeded`] knows what an
/// earlier leader wrote down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(super) started_at: Option<f64>,
    pub(super) last_at: Option<f64>,
    pub(super) group: Group,
    pub(super) queue: Queue,
    pub(super) arrival: Arrival,
    pub(super) departure: Ewma,
    pub(super) ready_mean: Ewma,
    pub(super) rate: Rate,
    pub(super) timing: Timing,
    pub(super) target: TargetMemory,
    pub(super) sizing: Sizing,
    pub(super) guards: Guards,
    /// Consumers per replica, as learned.
    pub(super) per_replica: Option<u32>,
    /// Seeded by an earlier leader: the commit gap is that of this group.
    pub(super) seeded: bool,
}

/// The target as last seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct TargetMemory {
    pub spec: Option<u32>,
    pub revision: Arc<str>,
    /// Since when fewer pods are ready than wanted.
    pub pending_since: Option<f64>,
}

/// Needs and changes over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sizing {
    /// Needs of the last stabilization, and their mean.
    pub needs: MaxWindow,
    pub mean: Ewma,
    /// Classes that were needed in the last `peakMemory`.
    pub peaks: MaxWindow,
    /// A step down that leads further is possible soon.
    #[serde(default)]
    pub better_later: bool,
    /// No replica goes before this moment.
    pub no_down_until: Option<f64>,
    /// More was wanted at the last poll.
    pub up_wanted: bool,
    /// A confirmed scale-up waited once for arrivals that were still rising.
    pub rise_awaited: bool,
    /// Steps down that were wrong.
    pub regret: Regret,
    /// When data was last usable, and when it was last whole.
    pub known_at: Option<f64>,
    #[serde(default)]
    pub whole_at: Option<f64>,
    /// Seconds between the last two of those times.
    #[serde(default)]
    pub whole_gap: Option<f64>,
    /// Since when there has been nothing to do at all.
    pub idle_since: Option<f64>,
    /// Since when there has been no backlog.
    pub calm_since: Option<f64>,
    /// The last step without a known rate.
    pub bootstrapped_at: Option<f64>,
    /// A backlog to compare with, and when it was seen.
    pub compared: Option<(f64, f64)>,
}

impl State {
    /// Starts from what an earlier leader learned.
    #[must_use]
    pub fn seeded(learned: &Learned) -> Self {
        let mut state = Self::default();
        if let Some(rate) = learned.rate_per_replica {
            state.rate.suppose(rate);
        }
        state.timing.seed(learned.cold_start, learned.rebalance, learned.commit_gap);
        state.per_replica = learned.consumers_per_replica.filter(|&m| m > 0);
        state.seeded = learned.commit_gap.is_some();
        state.group.known_phantoms = learned.phantom_lag;
        state.group.inherited = state.seeded;
        state
    }

    /// A guard that an earlier leader left standing over so many replicas; by the clock of observations.
    #[must_use]
    pub fn with_guard(mut self, kind: ConditionKind, replicas: u32, now: f64) -> Self {
        match kind {
            ConditionKind::BreakerOpen => self.guards.breaker.goes_on(now),
            ConditionKind::DownstreamBound => self.guards.downstream.goes_on(now, replicas),
            ConditionKind::ScaleConflict => self.guards.conflict.goes_on(now),
            ConditionKind::StuckPartition | ConditionKind::AllStuck => self.group.stood = true,
            // What the others are about shows by itself.
            _ => {}
        }
        self
    }

    /// There has been no replica since then, as an earlier leader saw; by the clock of observations.
    #[must_use]
    pub fn at_zero_since(mut self, at: f64) -> Self {
        self.guards.target.at_zero_since(at);
        self
    }
}
