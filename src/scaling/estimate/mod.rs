//! From observations to rates: what arrives, what is done, what waits, and how long things take.
//!
//! ```text
//! Observation ─▶ kafka::Group  (partition, members) ─┐
//!             └▶ rabbitmq::Queue ────────────────────┴▶ Signals ─▶ arrival λ, rate μ, timing
//! ```
//! Nothing here decides.

pub(super) mod arrival;
pub(super) mod kafka;
pub(super) mod members;
pub(super) mod partition;
pub(super) mod rabbitmq;
pub(super) mod rate;
pub(super) mod series;
pub(super) mod timing;

/// How much of an observation can be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Data {
    /// All of it.
    Full,
    /// Some partitions, or the group, could not be read: sums are lower bounds.
    Partial,
    /// Nothing.
    #[default]
    Missing,
}

/// What a description of the group showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Members {
    /// There was none.
    #[default]
    NotRead,
    /// The same members with the same partitions, at rest.
    Same,
    /// Other members or partitions, or a rebalance.
    Changed,
}

/// What a poll's arrivals say of the arrival rate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Told {
    /// They are all that came since the last poll.
    #[default]
    All,
    /// What came at least; counters that move more rarely than polls will tell the rest.
    AtLeast,
    /// The counters moved: (messages, seconds) since they did before, with all that was seen meanwhile.
    Settled(f64, f64),
}

/// One poll, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not a state
pub(super) struct Signals {
    pub data: Data,
    /// Messages/s that arrived since the last poll.
    pub arrived: f64,
    pub told: Told,
    /// Messages that were done since the last poll.
    pub departed: f64,
    /// Messages that wait.
    pub lag: f64,
    /// Something waits that is a message for sure.
    pub lagging: bool,
    /// Records that the application cannot see yet.
    pub hidden: bool,
    pub members: Members,
    /// Members that are not ours.
    pub foreign: u32,
    /// A member that came with the last change has committed.
    pub new_member_committed: bool,
    /// What was seen does not continue what was seen before.
    pub discontinuity: bool,
}
