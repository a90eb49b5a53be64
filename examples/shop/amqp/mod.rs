//! The same services and the same contract on RabbitMQ.
//!
//! - `settings`: how to reach the broker: the `SPILLWAY_AMQP_*` variables.
//! - `headers`: pure; what travels with a retry or a dead letter.
//! - `consume`: the loop: receive, handle, hand on, and only then acknowledge.
//! - `publish`: the flood.
//! - `confirmed`: one message, published and confirmed.
//! - `transport`: TCP, or TLS over it.

mod confirmed;
mod consume;
mod headers;
mod publish;
mod settings;
// The operator's: lapin's own TLS would bring a store for PKCS#12 with it.
#[path = "../../../src/brokers/rabbitmq/transport.rs"]
mod transport;

pub use consume::run;
pub use publish::{PublishError, flood};
pub use settings::Connection;
