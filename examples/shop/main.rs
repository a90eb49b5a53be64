//! The shop: a chain of small services on Kafka or RabbitMQ, and the reference for the contract that a workload
//! keeps under Spillway.
//!
//! ```text
//! publish ──▶ payment-successful ──▶ order ──▶ order-created ──▶ email ──▶ email-sent
//!                     │                                 │                      │
//!                     └─────────────────────────────────┴──────────────────────┴──▶ analytics
//! ```
//!
//! # Layout
//!
//! - `settings`: the environment that Spillway injects, and the client configuration made from it.
//! - `contract`: pure; which headers a retry or dead letter carries, and where a failed message goes next.
//! - `consume`: the loop that every service shares on Kafka: receive, handle, hand on, and only then commit.
//! - `amqp`: the same on RabbitMQ, with confirms and acknowledgements.
//! - `done`: what this process has done already.
//! - `services`: what each service does with one message.
//! - `publish`: the flood.
//!
//! Which broker a service reads from is said by its environment: `SPILLWAY_AMQP_QUEUE`, or `SPILLWAY_KAFKA_TOPICS`.
//! To write a consumer of your own, keep `contract` and `consume` or `amqp`, and replace `services`.

mod amqp;
mod consume;
mod contract;
mod done;
mod publish;
mod services;
mod settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::services::Service;
use crate::settings::{Connection, Subscription};

/// A small shop on Kafka or RabbitMQ: payments become orders, orders become e-mails, analytics counts them all.
#[derive(Parser)]
#[command(name = "shop")]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    rabbitmq: amqp::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Flood a topic or an exchange with payments, then print one line of JSON: how many, and how long it took
    Publish(publish::Flood),
    /// Turn payments into orders
    Order(Worker<services::Order>),
    /// Send an e-mail for each order
    Email(Worker<services::Email>),
    /// Count the events of every topic
    Analytics(Worker<services::Analytics>),
    /// Do any work: one task for each message that has an id
    Work(Worker<services::Task>),
}

#[derive(clap::Args)]
struct Worker<S: clap::Args> {
    #[command(flatten)]
    subscription: Subscription,
    #[command(flatten)]
    service: S,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // Logs go to stderr: stdout belongs to what `publish` answers.
    let wanted = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse::<Targets>().ok());
    let all = || Targets::new().with_default(LevelFilter::INFO).with_target("rdkafka", LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(wanted.unwrap_or_else(all))).init();

    let (kafka, rabbitmq) = (&cli.connection, &cli.rabbitmq);
    let outcome: Result<(), Box<dyn std::error::Error>> = match cli.command {
        Command::Publish(flood) => publish::run(kafka, rabbitmq, &flood).await.map_err(Into::into),
        Command::Order(worker) => work(kafka, rabbitmq, worker).await,
        Command::Email(worker) => work(kafka, rabbitmq, worker).await,
        Command::Analytics(worker) => work(kafka, rabbitmq, worker).await,
        Command::Work(worker) => work(kafka, rabbitmq, worker).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the shop stopped");
            ExitCode::FAILURE
        }
    }
}

/// Runs one service until SIGTERM or SIGINT.
async fn work<S>(
    kafka: &Connection,
    rabbitmq: &amqp::Connection,
    worker: Worker<S>,
) -> Result<(), Box<dyn std::error::Error>>
where
    S: Service + clap::Args,
{
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopper.cancel();
    });
    let Worker { subscription, service } = worker;
    match &subscription.queue {
        Some(queue) => amqp::run(rabbitmq, &subscription, queue, service, stop).await?,
        None => consume::run(kafka, &subscription, service, stop).await?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_do_not_clash() {
        Cli::command().debug_assert();
    }
}
