//! How many replicas a consumer needs: pure decisions.
//!
//! ```text
//! Observation ─▶ estimate ─▶ formula ─▶ guards ─▶ rules ─▶ Decision
//!   (now)        λ, μ, lag    need       may it?   when?    (why)
//!      State ─────────┴──────────────────────────────────▶ State
//! ```
//! [`decide`] has no clock, no randomness and no client: the same config, observation and state give the same
//! decision, in the operator, in `spillway replay` and in `spillway simulate`.
//!
//! Reading order: [`Observation`], [`Decision`], `decide.rs`, `shape.rs` (what n replicas can really do),
//! `formula.rs`, `rules.rs` (when), `regret.rs` (not again), `guards`, `estimate`.

mod config;
mod decide;
mod decision;
mod estimate;
mod formula;
mod guards;
mod keep;
mod observation;
mod regret;
pub mod replay;
mod rules;
mod shape;
pub mod simulate;
mod size;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod track;
mod words;

pub use config::{Breaker, Config, ConfigError, Isolation, Mode, OffsetReset};
pub use decide::decide;
pub use decision::{Bound, Condition, ConditionKind, Decision, Inputs, Lag, Learned, Status};
pub use observation::{
    Committed, DeadLetter, Group, GroupKind, GroupRead, GroupState, Kafka, Member, Observation, Partition,
    Pod, RabbitMq, ReadAt, Retry, Target,
};
pub use shape::sizes;
pub use state::State;
