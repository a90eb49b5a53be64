//! The demo: the Black Friday shop under a flood, once with a fixed replica and once with Spillway.
//!
//! `hack/demo` brings up what this needs (a cluster, a broker, the operator, the shop's objects) and takes it away
//! again; this program does the measuring. It looks for itself, at the broker and at the Deployment, and does not
//! use what the operator says for any figure.
//!
//! # Layout
//!
//! - `kafka`: lag, dead letters and results, read from the broker.
//! - `cluster`: readiness, the scaling mode, and the Deployment's replicas, read from the API server.
//! - `recorder`: both of them over time.
//! - `flood`: one flood, from its first message to the last commit.
//! - `story`: the whole demo, in order.
//! - `report`: expectations, the table, a dead letter in full, the summary as JSON.
//! - `plot`: pure; curves in, SVG out.

#![expect(clippy::cast_precision_loss, reason = "what a demo counts is far below 2^52")]

mod cluster;
mod flood;
mod kafka;
mod plot;
mod recorder;
mod report;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// The topics of the shop: payments, orders, e-mails, dead letters.
const TOPICS: [&str; 4] = [PAYMENTS, ORDERS, EMAILS, DEAD_LETTERS];
const PAYMENTS: &str = "payment-successful";
const ORDERS: &str = "order-created";
const EMAILS: &str = "email-sent";
const DEAD_LETTERS: &str = "dlq-payment";
/// The groups of the shop, and the Consumers they belong to.
const GROUPS: [&str; 3] = [ORDER_GROUP, EMAIL_GROUP, "analytics"];
const ORDER_GROUP: &str = "order-service";
const EMAIL_GROUP: &str = "email-service";
const CONSUMERS: [&str; 3] = [ORDER, "email", "analytics"];
const ORDER: &str = "order";

/// Black Friday, measured.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Flood, measure, report
    Run(Settings),
    /// Fail if the broker has one of the shop's topics already
    Absent(Place),
    /// Delete the shop's topics and groups from the broker
    Clear(Place),
}

#[derive(Args, Clone)]
struct Place {
    /// The broker, as this machine reaches it
    #[arg(long, env = "SPILLWAY_DEMO_KAFKA", default_value = "127.0.0.1:9092")]
    bootstrap_servers: String,
}

/// What the demo runs with.
#[derive(Args, Clone)]
struct Settings {
    #[command(flatten)]
    place: Place,
    /// The namespace of the shop's objects
    #[arg(long, default_value = "black-friday")]
    namespace: String,
    /// The shop's binary: it publishes the floods
    #[arg(long)]
    shop: PathBuf,
    /// Where the plots and `black-friday.json`, the summary, go
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
    /// Messages of a flood
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// Malformed ones among them
    #[arg(long, default_value_t = 5)]
    poison: u64,
    /// One more flood of 5,000
    #[arg(long)]
    full: bool,
}

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("failed to ask the API server: {0}")]
    Kube(#[from] kube::Error),
    #[error("failed to find the cluster: {0}")]
    Config(#[from] kube::config::KubeconfigError),
    #[error("failed to ask the broker: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    #[error("failed to run {0}: {1}")]
    Run(String, std::io::Error),
    #[error("failed to write {0}: {1}")]
    Write(PathBuf, std::io::Error),
    #[error("the flood was not published: {0}")]
    Publish(String),
    #[error("waited {0:?} in vain for {1}")]
    Waited(Duration, String),
    #[error("the broker already has {0}: the demo would mix its messages with yours, so it does nothing")]
    Taken(String),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(settings) => story::tell(&settings).await,
        Command::Absent(place) => kafka::absent(&place.bootstrap_servers).map(|()| true),
        Command::Clear(place) => kafka::clear(&place.bootstrap_servers).await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}
