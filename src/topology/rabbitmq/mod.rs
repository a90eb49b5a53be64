//! RabbitMQ: what is wanted, what was seen, and the steps between the two.
//!
//! ```text
//!  Exchange, Queue, Binding ─▶ desired ─┐
//!                                       ├─▶ exchange, queue, binding ─▶ Plan
//!  the broker's answers ─▶ Observed… ───┘        │
//!                                 settle: policy, argument, operator policy: what is in force?
//! ```
//!
//! * [`desired`]: specs, validated once; [`references`]: what they refer to; [`deletes`]: what takes the object away
//! * [`exchange`], [`queue`], [`binding`]: desired + observed → steps, a gate, obstacles, or a rejection
//! * [`policy`]: which policies apply to an object; [`pattern`]: what their expressions match;
//!   [`force`]: how policies and arguments combine; [`settle`]: which policy of Spillway's is
//!   needed, and what stands in its way
//! * [`step`]: the steps and their words
//! * [`companions`]: dead-letter and retry queues that a Queue implies
//! * [`deletion`]: what a deleted CR asks of the broker, and when a queue may be made anew
//! * [`value`]: values as RabbitMQ compares them

pub mod binding;
pub mod companions;
pub mod deletes;
pub mod deletion;
pub mod desired;
pub mod exchange;
pub mod force;
pub mod pattern;
pub mod policy;
pub mod queue;
pub mod references;
pub mod settle;
pub mod step;
pub mod value;

pub use binding::{BindingId, BindingInput, BindingMemory, Target, plan_binding};
pub use desired::{DesiredBinding, DesiredExchange, DesiredQueue};
pub use exchange::{ExchangeInput, plan_exchange};
pub use policy::{ObservedPolicy, VhostPolicies};
pub use queue::{QueueInput, QueueMemory, plan_queue};
pub use step::Step;

pub use super::gate::{Gate, Loss};

use super::Rejection;
use crate::api::arguments::Arguments;
use crate::digest;

/// An exchange as it was seen at the broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedExchange {
    /// Its type: `direct`, `topic`, ….
    pub kind: String,
    /// Whether it outlives a restart.
    pub durable: bool,
    /// Whether it goes with its last binding.
    pub auto_delete: bool,
    /// Whether only exchanges may publish to it.
    pub internal: bool,
    /// The arguments that it was declared with.
    pub arguments: Arguments,
    /// The policy in force, as RabbitMQ says; none: no policy applies.
    pub policy: Option<String>,
}

/// A queue as it was seen at the broker. What the broker did not tell is `None`, never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedQueue {
    /// Its type: `quorum`, `classic`, `stream`; empty: not known.
    pub kind: String,
    /// Whether it outlives a restart.
    pub durable: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// Whether it belongs to one connection.
    pub exclusive: bool,
    /// The arguments that it was declared with.
    pub arguments: Arguments,
    /// The policy in force, as RabbitMQ says; none: no policy applies. (A single `GET` leaves it
    /// out until the first statistics are there, unless `enable_queue_totals=true`.)
    pub policy: Option<String>,
    /// The operator policy in force, where RabbitMQ says so: it does in its statistics only.
    pub operator_policy: Option<String>,
    /// `running`, `down`, ….
    pub state: Option<String>,
    /// Whether the node with the leader runs (quorum queues and streams).
    pub leader_online: Option<bool>,
    /// How many messages it holds, those in delivery included.
    pub messages: Option<u64>,
    /// How many messages are in delivery.
    pub unacked: Option<u64>,
    /// How many consumers it has.
    pub consumers: Option<u64>,
}

/// What is to be done, and whether to do it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The steps, in order; empty when the broker is in step.
    pub steps: Vec<Step>,
    /// Whether to take them.
    pub gate: Gate,
    /// What was lost, where the object is not there any more.
    pub loss: Option<Loss>,
    /// The object went as it was to go: it expired, or went with its last use. To make it again
    /// undoes nobody's work.
    pub expired: bool,
    /// Why something is not in force although all steps are (or will be) taken: `PolicyShadowed`
    /// and `ArgumentOverrides`, each naming what wins.
    pub obstacles: Vec<Rejection>,
    /// RabbitMQ does not apply Spillway's own policy, which is as it is to be and should win.
    pub unapplied: bool,
    /// There is more to do that can be planned only once these steps are taken, for RabbitMQ has to say first whether this
    /// policy applies to what they make.
    pub unclear: Option<String>,
    /// The plan's hash, for a person to approve.
    pub hash: String,
}

/// Twelve hex digits that stand for the object, the steps and what they start from.
fn hash(object: &str, steps: &[Step]) -> String {
    let words: Vec<String> = steps.iter().map(ToString::to_string).collect();
    digest::short(std::iter::once(object).chain(words.iter().map(String::as_str)), 6)
}

#[cfg(test)]
mod tests;
