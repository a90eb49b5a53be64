//! The pure planner: what is declared and what was seen go in, steps or a rejection come out.
//!
//! ```text
//!  CR specs ──▶ desired ─┐
//!                        ├─▶ plan ──▶ steps (with their words) | rejection
//!  broker   ──▶ observed ┘
//! ```
//!
//! Nothing here names a client, a clock or an async runtime; a test reads these sources and says
//! so. The same code plans in the operator and on the command line.
//!
//! * [`access`]: may this namespace declare this object on that Broker?
//! * [`ownership`]: which of several CRs owns one broker object?
//! * [`seniority`]: which of several Brokers of one cluster decides?
//! * [`kafka`]: topics, their companions, their deletion
//! * [`rabbitmq`]: exchanges, queues, bindings, their policies and companions, their deletion
//! * [`gate`]: are the steps of a plan taken now?
//! * [`deletion`]: what a deleted CR asks of the broker
//! * [`contention`]: is somebody else writing the same object?

pub mod access;
pub mod contention;
pub mod deletion;
pub mod gate;
pub mod kafka;
pub mod ownership;
pub mod rabbitmq;
pub mod seniority;

use crate::api::conditions::Reason;

/// Why a spec cannot be carried out as it is. Only an edit (of this object or of what it refers
/// to) can help, so nobody retries it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// The condition's reason.
    pub reason: Reason,
    /// What is wrong and what to do, for a person.
    pub message: String,
}

impl Rejection {
    /// A rejection with its reason.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
