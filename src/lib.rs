//! Spillway keeps Kafka and RabbitMQ topology as declared and consumers as many as their backlog
//! needs.
//!
//! ```text
//!  Kubernetes API ──▶ controllers ──▶ topology (pure)  ──▶ brokers ──▶ Kafka
//!    (desired)         observe          plan(desired,       (IO)
//!                      plan             observed)
//!                      apply ◀──────── steps
//!                      status
//!  Kafka ──▶ lag collector ──▶ scaling (pure) ──▶ controllers::consumer ──▶ /scale
//!  (observed)  one per broker    decide(input)
//! ```
//!
//! Reading order: [`api`] (what people type), [`topology`] and [`scaling`] (what follows from it;
//! pure), [`brokers`] (the only code that speaks to brokers), [`apply`] (takes steps there),
//! [`controllers`] (the IO shell),
//! [`runtime`] (lease, health, logs), [`cli`] and [`config`] (the way in).

pub mod api;
pub mod apply;
pub mod brokers;
pub mod causes;
pub mod cli;
pub mod config;
pub mod controllers;
pub mod digest;
pub mod legible;
pub mod runtime;
pub mod scaling;
pub mod topology;
