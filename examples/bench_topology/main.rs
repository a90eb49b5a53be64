//! How fast topology becomes real, and what keeping it costs, each figure beside the limit of the same run: a bare
//! client that makes the same calls to the broker in large batches and writes one status for each object.
//!
//! `hack/bench-topology` brings up what this needs and takes it away again. Readiness is seen by a watch of the
//! bench's own, the brokers are asked directly, writes are counted in the API server's audit log and at the
//! brokers, memory and CPU are read from `/proc`. Only the number of requests to brokers, and when the last object
//! of a restart was looked at, come from the operator's metrics: nobody else knows.
//!
//! # Layout
//!
//! - `rows`: what is measured, in order; `restart`: the rows about an operator that starts and then rests.
//! - `limit`: the bare client.
//! - `objects`: custom resources in bulk, and the watch on them.
//! - `operator`: the operator as a process, and its metrics.
//! - `kafka`, `rabbit`: the brokers' side; `metadata_log`: what Kafka wrote down.
//! - `idle`: waits until the machine rests; `report`: the table, and the summary as JSON.
//! - `common`, `audit`, `env`, `http`: shared with the other bench and with the end-to-end tests.

#[expect(dead_code, reason = "the end-to-end tests use all of it")]
#[path = "../../tests/e2e/bed/audit.rs"]
mod audit;
#[path = "../bench_common/mod.rs"]
mod common;
#[expect(dead_code, reason = "the end-to-end tests use all of it")]
#[path = "../../tests/e2e/bed/env.rs"]
mod env;
#[path = "../../tests/e2e/bed/http.rs"]
mod http;
mod idle;
mod kafka;
mod limit;
mod metadata_log;
mod objects;
mod operator;
mod rabbit;
mod report;
mod restart;
mod rows;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use spillway_operator::brokers::kafka::KafkaError;
use spillway_operator::brokers::rabbitmq::RabbitError;

use crate::common::process::ProcessError;

/// The namespace that the operator watches, and the one of the bare client's objects; virtual hosts of the same names.
const NAMESPACES: [&str; 2] = ["bench-topology", "bench-topology-limit"];
/// What names at the brokers begin with.
const PREFIX: &str = "bench-topology";
/// For all objects of a row: far more than it should take, so that a slow run is a figure and not a failure.
const PATIENCE: Duration = Duration::from_secs(600);

/// Seconds until thousands of objects are as declared, and what that costs.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure and report
    Run(Settings),
    /// Delete what a run makes: at the brokers, and its namespaces
    Clear(Place),
}

#[derive(Args)]
struct Place {
    /// Kafka, as this machine reaches it
    #[arg(long, env = "SPILLWAY_TEST_KAFKA")]
    kafka: String,
    /// RabbitMQ's management interface, with credentials
    #[arg(long, env = "SPILLWAY_TEST_RABBITMQ", hide_env_values = true)]
    rabbitmq: String,
}

/// What the bench runs with.
#[derive(Args)]
struct Settings {
    #[command(flatten)]
    place: Place,
    /// The operator's binary
    #[arg(long)]
    spillway: PathBuf,
    /// Which build it is
    #[arg(long)]
    build: String,
    /// Versions of the parts, in words
    #[arg(long, default_value = "")]
    versions: String,
    /// Kafka's folder of logs: the metadata log in it shows what was written
    #[arg(long)]
    kafka_logs: PathBuf,
    /// What part of the full size to run: 1 is 5,000 topics, 2,500 classic queues, 2,500 bindings, 1,000 quorum queues
    #[arg(long, env = "SCALE", default_value_t = 1.0)]
    scale: f64,
    /// How often what is made anew is measured; the row is the one in the middle
    #[arg(long, env = "REPEAT", default_value = "3")]
    repeat: std::num::NonZeroU32,
    /// Only one part, and no summary
    #[arg(long)]
    only: Option<Part>,
    /// For how long the operator is watched at rest, in seconds
    #[arg(long, env = "REST", default_value_t = 300)]
    rest: u64,
    /// Where `topology.json`, the summary, and the operator's logs go
    #[arg(long, default_value = "target/bench-topology")]
    out: PathBuf,
}

/// A part that can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Topics: created, configured, made again
    Topics,
    /// Classic queues and bindings: created, made again
    Queues,
    /// Quorum queues created
    Quorum,
}

impl Settings {
    /// Whether a part is to be measured.
    fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    /// The part of `full` that this run makes.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "some thousands at most"
    )]
    fn scaled(&self, full: usize) -> usize {
        ((full as f64 * self.scale).round() as usize).max(1)
    }
}

/// Why the bench could not go on.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("failed to ask the API server: {0}")]
    Kube(#[from] kube::Error),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(transparent)]
    Rabbit(#[from] RabbitError),
    #[error("failed to ask RabbitMQ: {0}")]
    Http(#[from] reqwest::Error),
    #[error("failed to ask RabbitMQ: it does not count {0}")]
    Counter(String),
    #[error("failed to understand the address {0}: it is http://USER:PASSWORD@HOST:PORT")]
    Address(String),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("failed to run {0}: {1}")]
    Run(PathBuf, std::io::Error),
    #[error("failed to write {0}: {1}")]
    Write(PathBuf, std::io::Error),
    #[error("failed to read {0}: {1}")]
    MetadataLog(PathBuf, metadata_log::LogError),
    #[error("failed to read the operator's metrics: {0}")]
    Metrics(String),
    #[error("the operator ended ({0}): see {1}")]
    Ended(std::process::ExitStatus, PathBuf),
    #[error("waited {0:?} in vain for {1}")]
    Waited(Duration, String),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(settings) => rows::run(&settings).await,
        Command::Clear(place) => clear(&place).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-topology: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Deletes what a run makes.
async fn clear(place: &Place) -> Result<(), BenchError> {
    kafka::Kafka::connect(&place.kafka)?.clear(PREFIX).await?;
    let rabbit = rabbit::Rabbit::connect(&place.rabbitmq)?;
    for namespace in NAMESPACES {
        rabbit.delete_vhost(namespace).await?;
        objects::Objects::connect(namespace).await?.clear().await?;
    }
    Ok(())
}

/// Asks again until there is an answer, at most for `patience`.
async fn until<T>(
    patience: Duration,
    pause: Duration,
    mut ask: impl AsyncFnMut() -> Result<Result<T, String>, BenchError>,
) -> Result<T, BenchError> {
    let deadline = std::time::Instant::now() + patience;
    loop {
        match ask().await? {
            Ok(answer) => return Ok(answer),
            Err(missing) if std::time::Instant::now() > deadline => {
                return Err(BenchError::Waited(patience, missing));
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
    }
}
