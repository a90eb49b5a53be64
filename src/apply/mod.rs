//! Looking at brokers and taking steps there: what the operator and the command line share.
//!
//! ```text
//!  topology (pure) ──▶ steps ──▶ apply ──▶ brokers
//!  topology (pure) ◀── observed ◀── apply ◀── brokers
//! ```
//!
//! Nothing is decided here, and nothing of Kubernetes is known here. Every step is safe to repeat.
//!
//! * [`kafka`][]: topics
//! * [`rabbitmq`]: exchanges, queues, bindings, and the policies behind them

pub mod kafka;
pub mod rabbitmq;
