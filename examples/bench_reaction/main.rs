//! How quickly the autoscaler reacts: floods at random phases, and the seconds until the first patch and until full
//! size; beside that what the operator costs at rest, and how soon it is ready.
//!
//! `hack/bench-reaction` brings up what this needs (a cluster, a broker, the operator, the objects of
//! `objects.yaml`) and takes it away again. Replicas are seen by a watch of the bench's own on the Deployment, lag
//! is read from the broker, memory and CPU from `/proc`: no figure comes from what the operator says of itself.
//!
//! # Layout
//!
//! - `spike`: one flood, from its first message until one replica is left.
//! - `operator`: start to ready.
//! - `common`: the operator as a process (memory, CPU), and the machine it ran on.
//! - `report`: the table, and the summary as JSON.
//! - `kafka`, `cluster`, `recorder`: the demo's, which look at the broker and at the Deployment.

#[expect(dead_code, reason = "the demo uses all of it")]
#[path = "../demo/cluster.rs"]
mod cluster;
#[path = "../bench_common/mod.rs"]
mod common;
#[expect(dead_code, reason = "the demo uses all of it")]
#[path = "../demo/kafka.rs"]
mod kafka;
mod operator;
#[expect(
    dead_code,
    clippy::cast_precision_loss,
    reason = "the demo uses all of it; it counts far below 2^52"
)]
#[path = "../demo/recorder.rs"]
mod recorder;
mod report;
mod spike;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cluster::{Cluster, wait};
use crate::common::machine;
use crate::common::process::{Process, ProcessError};
use crate::kafka::Watcher;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::spike::{Floods, Spike};

const PAYMENTS: &str = "bench-reaction-payments";
const GROUP: &str = "bench-reaction";
const TOPICS: [&str; 2] = [PAYMENTS, "bench-reaction-orders"];
const GROUPS: [&str; 1] = [GROUP];
/// The Consumer, and its Deployment.
const ORDER: &str = "order";
const CONSUMERS: [&str; 1] = [ORDER];
/// As many replicas as partitions.
const FULL_SIZE: i32 = 12;
/// How long the operator has known the group when the first flood comes: beyond two default commit intervals. A rate
/// that could show within them is waited for.
const KNOWN: Duration = Duration::from_secs(12);
/// For objects to be made, a pod to start, a group to form.
const PATIENCE: Duration = Duration::from_secs(90);

/// Seconds from a flood to the first patch and to full size.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the operator some times, and print the median of the seconds until it is ready
    Starts(operator::Starts),
    /// Flood, measure, report
    Run(Settings),
    /// Fail if the broker has one of the bench's topics already
    Absent(Place),
    /// Delete the bench's topics and its group from the broker
    Clear(Place),
}

#[derive(Args)]
struct Place {
    /// The broker, as this machine reaches it
    #[arg(long, env = "SPILLWAY_TEST_KAFKA", default_value = "127.0.0.1:9092")]
    bootstrap_servers: String,
}

/// What the bench runs with.
#[derive(Args)]
struct Settings {
    #[command(flatten)]
    place: Place,
    /// The namespace of the bench's objects
    #[arg(long, default_value = "bench-reaction")]
    namespace: String,
    /// The operator's process
    #[arg(long)]
    operator: u32,
    /// Which build the operator is
    #[arg(long)]
    build: String,
    /// Seconds from the operator's start until it was ready, as `starts` prints them
    #[arg(long)]
    ready: f64,
    /// Which Kafka this is
    #[arg(long, default_value = "unknown")]
    kafka_version: String,
    /// Spikes that are measured, after one that is not
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    spikes: u32,
    /// Messages of a spike: some 45 s of one replica's work, so that six replicas would need more than targetDelay
    #[arg(long, default_value_t = 600)]
    messages: u32,
    /// For how long the operator is watched at rest, in seconds
    #[arg(long, default_value_t = 20)]
    rest: u64,
    /// What the random waits before the spikes are drawn from; from the time, unless given
    #[arg(long)]
    seed: Option<u64>,
    /// Where `reaction.json`, the summary, goes
    #[arg(long, default_value = "target/bench-reaction")]
    out: PathBuf,
}

/// Why the bench could not go on.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("failed to ask the API server: {0}")]
    Kube(#[from] kube::Error),
    #[error("failed to ask the broker: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    #[error("failed to run {0}: {1}")]
    Run(PathBuf, std::io::Error),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("failed to write {0}: {1}")]
    Write(PathBuf, std::io::Error),
    #[error("the operator ended before it was ready ({0}): see {1}")]
    Ended(std::process::ExitStatus, PathBuf),
    #[error("waited {0:?} in vain for {1}")]
    Waited(Duration, String),
    #[error("the broker already has {0}: the bench would mix its messages with yours, so it does nothing")]
    Taken(String),
}
use BenchError as DemoError;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Starts(starts) => starts.measure().map(|seconds| {
            println!("{seconds:.3}");
            true
        }),
        Command::Run(settings) => run(&settings).await,
        Command::Absent(place) => kafka::absent(&place.bootstrap_servers).map(|()| true),
        Command::Clear(place) => kafka::clear(&place.bootstrap_servers).await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-reaction: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and reports; returns whether every measured spike reached full size.
async fn run(settings: &Settings) -> Result<bool, BenchError> {
    let bootstrap = settings.place.bootstrap_servers.as_str();
    let process = Process(settings.operator);
    let cluster = Cluster::new(&settings.namespace).await?;
    println!("Waiting for topics, the consumer and its group");
    cluster.ready(PATIENCE).await?;
    let group = Watcher::new(bootstrap, GROUP, PAYMENTS)?;
    let mut recorder = Recorder::start(Watcher::new(bootstrap, GROUP, PAYMENTS)?, cluster.follow(ORDER));
    let seed = settings.seed.unwrap_or_else(spike::seed_of_now);
    let mut floods = Floods::new(bootstrap, settings.messages, seed)?;
    println!(
        "Spikes of {} messages at random phases (seed {seed}), {FULL_SIZE} partitions; load {}",
        settings.messages,
        machine::load()
    );

    let at_rest = async || {
        wait(PATIENCE, async || match group.members()? {
            Some(1) => Ok(Ok(())),
            members => Ok(Err(format!("the group to be stable with one member: {members:?}"))),
        })
        .await
    };
    at_rest().await?;
    tokio::time::sleep(KNOWN).await;
    let untaught = floods.spike(&mut recorder).await?;
    println!("  nothing learned yet: {untaught}");
    let mut spikes: Vec<Spike> = Vec::new();
    for number in 1..=settings.spikes {
        at_rest().await?;
        let spike = floods.spike(&mut recorder).await?;
        println!("  {number:>2}: {spike}");
        spikes.push(spike);
    }
    at_rest().await?;
    drop(recorder);
    println!("Watching the operator at rest for {} s", settings.rest);
    let cores = process.cores(Duration::from_secs(settings.rest)).await?;
    let memory = process.memory()?;
    let kubernetes = kube::Client::try_default().await?.apiserver_version().await?;
    Report { settings, untaught, spikes, cores, memory, kubernetes: kubernetes.git_version }.finish()
}
