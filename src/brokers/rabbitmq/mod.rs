//! RabbitMQ: topology over the management interface, depth of queues over AMQP.
//!
//! ```text
//! pool ──▶ observer (many who look → one listing) ──▶ client (typed) ──▶ http (one request) ──▶ management
//!   one per Broker and Secret version                  types, settings, error: pure
//!   └────▶ amqp (how deep is a queue) ──────────────────────────────────────────────────────▶ AMQP
//! ```
//!
//! Reading order: [`types`] (what goes in and out), [`settings`], [`error`], [`client`], [`observer`], [`figures`],
//! [`amqp`], [`pool`].

pub mod amqp;
pub mod client;
pub mod error;
pub mod figures;
mod http;
pub mod observer;
mod path;
pub mod pool;
mod reason;
pub mod rhythm;
pub mod settings;
mod transport;
pub mod types;

pub use amqp::{AmqpProbe, Depth};
pub use client::RabbitClient;
pub use error::{ErrorKind, RabbitError};
pub use figures::QueueFigures;
pub use observer::{Observer, SeenQueue, SeenRoute, Sweep};
pub use pool::{RabbitHandle, RabbitPool};
pub use rhythm::Renewal;
pub use settings::RabbitSettings;
pub use types::{
    BindingInfo, Declared, DeliveryLimit, ExchangeDeclaration, ExchangeInfo, Message, NodeInfo, Overview,
    Policy, QueueDeclaration, QueueInfo, QueueStatistics, Target, VhostPolicies,
};
