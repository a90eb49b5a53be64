//! The IO shell: gathers, calls the pure core, carries out, reports.
//!
//! ```text
//!  watches ──▶ cache ──┬─▶ broker ──▶ links ──┬─▶ topic ──▶ Kafka
//!                      │     └─ sweep (drift) ┘     └─▶ companions (CRs)
//!                      └─▶ consumer ──▶ registry ──▶ collector ──▶ scaling ──▶ /scale
//! ```
//!
//! A controller never decides: it gathers an input, calls a pure function, carries out the steps
//! and writes status once.
//!
//! * [`cache`] with its [`index`], [`written`], [`context`]: what is known, what was written since, what all share
//! * [`wake`], [`worklist`], [`passes`]: who has to look again, who comes first, and that it is done
//! * [`reconciler`]: one pass for any topology kind, with [`guard`] (who may), [`finalizer`] and
//!   [`removal`]; [`topic`] is such a kind; [`claim`]: what a Binding notes beforehand
//! * [`broker`], [`sweep`]: connections and drift
//! * [`consumer`] and its folder: workloads and scaling
//! * [`failure`], [`report`], [`status`], [`events`]: how a pass reports; [`guarded`], [`unreadable`]: objects
//!   that cannot be read
//! * [`secrets`], [`links`]: what Brokers need; [`labels`]: what is known of namespaces without a watch on them
//! * [`start`]: all of it together

pub mod binding;
pub mod broker;
pub mod cache;
pub mod claim;
pub mod companions;
pub mod consumer;
pub mod context;
pub mod dependents;
pub mod events;
pub mod exchange;
pub mod failure;
pub mod finalizer;
pub mod gate;
pub mod guard;
pub mod guarded;
pub mod index;
pub mod labels;
mod links;
pub mod passes;
pub mod queue;
pub mod rabbitmq;
pub mod reconciler;
#[cfg(test)]
mod recorded;
pub mod references;
pub mod removal;
pub mod report;
pub mod secrets;
pub mod settings;
pub mod start;
pub mod status;
pub mod sweep;
pub mod sweep_rabbitmq;
pub mod topic;
pub mod unreadable;
pub mod wake;
pub mod worklist;
pub mod written;
