//! What comes out of a decision, and what a status shows of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::text::{Quantity, Seconds, two_digits};

/// How many replicas there should be now, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Replicas wanted; equals the target's own count when nothing should change.
    pub replicas: u32,
    /// Write `replicas` to `/scale` now.
    pub patch: bool,
    /// What decided.
    pub bound: Bound,
    /// What else held, in order of precedence.
    pub also: Vec<Bound>,
    /// What, why and from which numbers; for a person at 3 a.m.
    pub message: String,
    /// The numbers behind it.
    pub inputs: Inputs,
    /// Guards that are active, each with the names it is about.
    pub conditions: Vec<Condition>,
    /// Seconds until another look is worth its cost.
    pub next_check: f64,
    /// What the Consumer's status shows beside the decision.
    #[serde(skip)]
    pub status: Status,
}

/// What decided, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Bound {
    /// A person paused it.
    Paused,
    /// Someone else writes the same `/scale`.
    ScaleConflict,
    /// There is no usable data, or only part of it.
    Unknown,
    /// No partition with lag moves.
    Stuck,
    /// The group does not come to rest.
    GroupUnstable,
    /// Pods that were asked for do not become ready.
    PodsNotReady,
    /// Dead letters: more replicas would only make more of them.
    Breaker,
    /// More replicas brought nothing: what is behind them is full.
    Downstream,
    /// Unacknowledged messages cannot move to other consumers.
    Prefetch,
    /// More replicas than this cannot work: one partition has one consumer.
    Partitions,
    /// `maxReplicas`.
    Max,
    /// `minReplicas`.
    Min,
    /// Fewer would do by the formula, and did not when they were tried.
    TooFew,
    /// A size fewer is tried: for long, nothing has shown what a replica does at full work.
    Trial,
    /// Fewer would do, but not for long enough yet; or more are on their way.
    Stabilization,
    /// Nothing is known of a replica's rate yet.
    Bootstrap,
    /// Nothing to do, or waiting for that to last.
    Idle,
    /// The arrival rate.
    Rate,
    /// The backlog.
    Lag,
}

impl Bound {
    /// All of them, in order of precedence.
    pub const ALL: [Self; 19] = [
        Self::Paused,
        Self::ScaleConflict,
        Self::Unknown,
        Self::Stuck,
        Self::GroupUnstable,
        Self::PodsNotReady,
        Self::Breaker,
        Self::Downstream,
        Self::Prefetch,
        Self::Partitions,
        Self::Max,
        Self::Min,
        Self::TooFew,
        Self::Trial,
        Self::Stabilization,
        Self::Bootstrap,
        Self::Idle,
        Self::Rate,
        Self::Lag,
    ];

    /// The bound of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bound| bound.as_str() == name)
    }

    /// Whether a guard holds the count, whatever the load says. The others come and go with the load.
    #[must_use]
    pub const fn is_guard(self) -> bool {
        matches!(
            self,
            Self::Paused
                | Self::ScaleConflict
                | Self::Unknown
                | Self::Stuck
                | Self::GroupUnstable
                | Self::PodsNotReady
                | Self::Breaker
                | Self::Downstream
                | Self::Prefetch
        )
    }

    /// What ends it, for a person.
    #[must_use]
    pub const fn way_out(self) -> &'static str {
        match self {
            Self::Paused => "removing the annotation spillway.dev/paused from the Consumer or its Broker",
            Self::ScaleConflict => {
                "taking the other scaler off the target: an HPA at once, other writers 10 minutes after their last write"
            }
            Self::Unknown => {
                "data: the broker, the group's topics or the queue must be readable, and of a kind that has a backlog"
            }
            Self::Stuck => "any partition that moves: look at the consumers' logs for what they hang on",
            Self::GroupUnstable => {
                "a group that comes to rest: members that come and go keep it from working"
            }
            Self::PodsNotReady => "pods that become ready: kubectl describe pod says why they are not",
            Self::Breaker => {
                "a window with few dead letters: look at what is in the dead-letter topic or queue"
            }
            Self::Downstream => {
                "more room behind the consumers (a database, an API); it is tried again after 10 minutes, doubled each time up to an hour"
            }
            Self::Prefetch => {
                "a smaller prefetch, so that unacknowledged messages are few and others can take the work"
            }
            Self::Partitions => {
                "more partitions, or more even keys; a single active consumer is one by declaration"
            }
            Self::Max => "a larger scaling.maxReplicas",
            Self::Min => "a smaller scaling.minReplicas",
            Self::TooFew => {
                "time: fewer are tried again after 10 minutes, doubled each time up to 6 hours; or fewer arrivals"
            }
            Self::Trial => {
                "replicas that fall behind, who get the old size back; or scaling.scaleDown.stabilization without that"
            }
            Self::Stabilization => {
                "time: a second look before more, scaling.scaleDown.stabilization of lower need (if not set, as long as the message says) before fewer"
            }
            Self::Bootstrap => {
                "a measured rate: some seconds of work, or scaling.ratePerReplica as a first guess"
            }
            Self::Idle => "messages",
            Self::Rate => "another arrival rate, or another rate of a replica",
            Self::Lag => "a backlog that is done, or a longer scaling.targetDelay",
        }
    }

    /// The name, as in a status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "Paused",
            Self::ScaleConflict => "ScaleConflict",
            Self::Unknown => "Unknown",
            Self::Stuck => "Stuck",
            Self::GroupUnstable => "GroupUnstable",
            Self::PodsNotReady => "PodsNotReady",
            Self::Breaker => "Breaker",
            Self::Downstream => "Downstream",
            Self::Prefetch => "Prefetch",
            Self::Partitions => "Partitions",
            Self::Max => "Max",
            Self::Min => "Min",
            Self::TooFew => "TooFew",
            Self::Trial => "Trial",
            Self::Stabilization => "Stabilization",
            Self::Bootstrap => "Bootstrap",
            Self::Idle => "Idle",
            Self::Rate => "Rate",
            Self::Lag => "Lag",
        }
    }
}

/// The numbers behind a decision. `None`: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// Messages/s that arrive, as counted for scaling up.
    pub arrival: Option<f64>,
    /// Messages not yet committed.
    pub lag: Option<u64>,
    /// Messages of it beyond what waits between two commits anyway.
    pub backlog: Option<f64>,
    /// Messages/s that one replica does.
    pub mu: Option<f64>,
    /// Seconds since a saturated replica was last measured. `None`: never.
    pub mu_age: Option<f64>,
    /// Replicas that would do, before classes and limits.
    pub need: Option<f64>,
    /// The need as a size that spreads partitions evenly.
    pub class: Option<u32>,
    /// Most replicas that can work.
    pub cap: Option<u32>,
    /// Seconds from a patch to a new replica's first commit.
    pub cold_start: f64,
    /// Seconds for which the group stands still when members change.
    pub rebalance: f64,
    /// Seconds for which a lower need must last before replicas go.
    pub stabilization: f64,
}

/// A guard that is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Its name, also the condition type in the status.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Partitions it is about, as `topic/number`; at most [`Condition::MAX_NAMES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Arc<str>>,
    /// The rest, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Condition {
    /// Names beyond this many are counted in `detail`, not listed.
    pub const MAX_NAMES: usize = 10;

    pub(super) fn new(kind: ConditionKind, detail: String) -> Self {
        Self { kind, partitions: Vec::new(), detail }
    }

    pub(super) fn named(kind: ConditionKind, mut names: Vec<Arc<str>>, mut detail: String) -> Self {
        if names.len() > Self::MAX_NAMES {
            detail = format!("{detail}; {} partitions, {} shown", names.len(), Self::MAX_NAMES);
            names.truncate(Self::MAX_NAMES);
        }
        Self { kind, partitions: names, detail }
    }
}

/// The guards by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionKind {
    /// No usable data: the count is held.
    DataUnknown,
    /// Some partitions could not be read: what is known is a lower bound.
    PartialData,
    /// Partitions that stand while others move.
    StuckPartition,
    /// Everything with lag stands.
    AllStuck,
    /// Partitions that get more than one consumer can do.
    PartitionBound,
    /// Lag that is no message: a transaction marker.
    PhantomLag,
    /// A transaction hangs: the last stable offset stands while the high watermark moves.
    LsoStalled,
    /// Pods that were asked for are not ready long after they should be.
    PodsNotReady,
    /// The group has been rebalancing for too long.
    GroupUnstable,
    /// Dead letters hold scaling up.
    BreakerOpen,
    /// The last scale-up brought nothing.
    DownstreamBound,
    /// Members outside our pods take partitions.
    ForeignMembers,
    /// The application assigns partitions by itself; there is no group to watch.
    Standalone,
    /// Someone else writes the same `/scale`.
    ScaleConflict,
    /// Unacknowledged messages hold the queue's work.
    PrefetchBound,
    /// `targetDelay` is shorter than a cold start and a rebalance: a spike cannot meet it.
    TargetInfeasible,
    /// `minReplicas` is above what can work.
    MinAboveCap,
    /// The broker forgets the group's offsets soon: one replica is woken to keep them.
    OffsetsExpiring,
    /// This kind of queue is not scaled.
    Unsupported,
}

impl ConditionKind {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::DataUnknown,
        Self::PartialData,
        Self::StuckPartition,
        Self::AllStuck,
        Self::PartitionBound,
        Self::PhantomLag,
        Self::LsoStalled,
        Self::PodsNotReady,
        Self::GroupUnstable,
        Self::BreakerOpen,
        Self::DownstreamBound,
        Self::ForeignMembers,
        Self::Standalone,
        Self::ScaleConflict,
        Self::PrefetchBound,
        Self::TargetInfeasible,
        Self::MinAboveCap,
        Self::OffsetsExpiring,
        Self::Unsupported,
    ];

    /// The name, as in a status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DataUnknown => "DataUnknown",
            Self::PartialData => "PartialData",
            Self::StuckPartition => "StuckPartition",
            Self::AllStuck => "AllStuck",
            Self::PartitionBound => "PartitionBound",
            Self::PhantomLag => "PhantomLag",
            Self::LsoStalled => "LsoStalled",
            Self::PodsNotReady => "PodsNotReady",
            Self::GroupUnstable => "GroupUnstable",
            Self::BreakerOpen => "BreakerOpen",
            Self::DownstreamBound => "DownstreamBound",
            Self::ForeignMembers => "ForeignMembers",
            Self::Standalone => "Standalone",
            Self::ScaleConflict => "ScaleConflict",
            Self::PrefetchBound => "PrefetchBound",
            Self::TargetInfeasible => "TargetInfeasible",
            Self::MinAboveCap => "MinAboveCap",
            Self::OffsetsExpiring => "OffsetsExpiring",
            Self::Unsupported => "Unsupported",
        }
    }
}

/// What the Consumer's status shows beside the decision. `None`: not known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Partitions of all topics.
    pub partitions: Option<u32>,
    /// Most replicas that can work.
    pub cap: Option<u32>,
    /// Messages waiting.
    pub lag: Lag,
    /// Messages/s that arrive, two significant digits.
    pub arrival: Option<f64>,
    /// Messages/s that are done by the whole group, two significant digits.
    pub departure: Option<f64>,
    /// Messages/s of one replica, two significant digits.
    pub per_replica: Option<f64>,
    /// What was learned; feeds [`super::State::seeded`] of a new leader.
    pub learned: Learned,
}

/// Lag as a status shows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lag {
    /// All messages not yet committed.
    pub messages: Option<u64>,
    /// The partition with most of them.
    pub worst_partition: Option<Arc<str>>,
    /// Seconds that the newest message waits at the present rate.
    pub seconds: Option<f64>,
}

/// What outlives a leader: `status.learned`, and `learned` on a replay line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, from = "RawLearned", into = "RawLearned")]
pub struct Learned {
    /// Messages/s of one replica.
    pub rate_per_replica: Option<f64>,
    /// Seconds from a patch to a new replica's first commit.
    pub cold_start: Option<f64>,
    /// Seconds for which the group stands still when members change.
    pub rebalance: Option<f64>,
    /// Seconds between two commits of one member, 95th percentile.
    pub commit_gap: Option<f64>,
    /// Consumers in one pod.
    pub consumers_per_replica: Option<u32>,
    /// Messages that seem to wait and are none (transaction markers), where nothing else waits: they wake nobody
    /// at zero.
    pub phantom_lag: Option<u64>,
}

impl Learned {
    /// With two significant digits, so that a status does not change at every poll.
    #[must_use]
    pub fn rounded(self) -> Self {
        Self {
            rate_per_replica: self.rate_per_replica.map(two_digits),
            cold_start: self.cold_start.map(two_digits),
            rebalance: self.rebalance.map(two_digits),
            commit_gap: self.commit_gap.map(two_digits),
            consumers_per_replica: self.consumers_per_replica,
            phantom_lag: self.phantom_lag,
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawLearned {
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_replica: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cold_start: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rebalance: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit_gap: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers_per_replica: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phantom_lag: Option<u64>,
}

impl From<RawLearned> for Learned {
    fn from(raw: RawLearned) -> Self {
        Self {
            rate_per_replica: raw.rate_per_replica.map(|q| q.0),
            cold_start: raw.cold_start.map(|s| s.0),
            rebalance: raw.rebalance.map(|s| s.0),
            commit_gap: raw.commit_gap.map(|s| s.0),
            consumers_per_replica: raw.consumers_per_replica,
            phantom_lag: raw.phantom_lag,
        }
    }
}

impl From<Learned> for RawLearned {
    fn from(l: Learned) -> Self {
        Self {
            rate_per_replica: l.rate_per_replica.map(Quantity),
            cold_start: l.cold_start.map(Seconds),
            rebalance: l.rebalance.map(Seconds),
            commit_gap: l.commit_gap.map(Seconds),
            consumers_per_replica: l.consumers_per_replica,
            phantom_lag: l.phantom_lag,
        }
    }
}
