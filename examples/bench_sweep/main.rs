//! What reading the lag of many consumer groups costs: a thousand Consumers, each a group of its own on one topic of ten
//! partitions, read by one operator every five seconds.
//!
//! `hack/bench-scaling` brings up what this needs and takes it away again. How long a sweep takes is the operator's own
//! metric; CPU, memory and connections are read from `/proc`.

#[path = "../bench_common/mod.rs"]
mod common;
mod connections;
#[path = "../../tests/e2e/bed/http.rs"]
mod http;
mod kafka;
mod objects;

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command as Process, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::common::process::{Process as Running, ProcessError, free_address};
use crate::common::{machine, median};

const NAMESPACE: &str = "bench-sweep";
/// The topic, and what the groups' names begin with.
const PREFIX: &str = "bench-sweep";
/// For the first look at all: far more than it should take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What reading the lag of many consumer groups costs.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure and report
    Run(Settings),
    /// Delete what a run makes
    Clear(Place),
}

#[derive(Args)]
struct Place {
    /// Kafka, as this machine reaches it
    #[arg(long, env = "SPILLWAY_TEST_KAFKA")]
    kafka: String,
}

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
    /// How many groups, each with a Consumer
    #[arg(long, default_value_t = 1_000)]
    groups: usize,
    /// Partitions of their topic
    #[arg(long, default_value_t = 10)]
    partitions: i32,
    /// For how long the operator is watched, in seconds
    #[arg(long, default_value_t = 60)]
    watch: u64,
    /// Where `sweep.json`, the summary, and the operator's log go
    #[arg(long, default_value = "target/bench-scaling")]
    out: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("failed to ask the API server: {0}")]
    Kube(#[from] kube::Error),
    #[error("failed to ask Kafka: {0}")]
    Kafka(String),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("failed to run {0}: {1}")]
    Run(PathBuf, std::io::Error),
    #[error("failed to write {0}: {1}")]
    Write(PathBuf, std::io::Error),
    #[error("failed to read the operator's metrics: {0}")]
    Metrics(String),
    #[error("waited {0:?} in vain for {1}")]
    Waited(Duration, String),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(settings) => run(&settings).await,
        Command::Clear(place) => clear(&place).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-sweep: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn clear(place: &Place) -> Result<(), BenchError> {
    objects::clear().await?;
    kafka::clear(&place.kafka).await
}

/// One `spillway run`, killed when this ends.
struct Operator {
    child: Child,
    address: String,
}

impl Operator {
    fn start(settings: &Settings) -> Result<Self, BenchError> {
        let failed = |error| BenchError::Run(settings.spillway.clone(), error);
        let log = settings.out.join("operator-sweep.log");
        let file = File::create(&log).map_err(|error| BenchError::Write(log, error))?;
        let address = free_address().map_err(failed)?.to_string();
        // It ends with this process, whatever ends that.
        let mut command = Process::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(&settings.spillway);
        command.args(["run", "--http-address", &address, "--watch-namespace", NAMESPACE]);
        command.args(["--lease-namespace", NAMESPACE]).stdin(Stdio::null());
        command.stdout(file.try_clone().map_err(failed)?).stderr(file);
        Ok(Self { child: command.spawn().map_err(failed)?, address })
    }

    async fn metrics(&self) -> Result<String, BenchError> {
        match http::get(&self.address, "/metrics").await {
            Ok((200, body)) => Ok(body),
            Ok((code, _)) => Err(BenchError::Metrics(format!("status {code}"))),
            Err(error) => Err(BenchError::Metrics(error.to_string())),
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The values of a metric's series.
fn values<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    metrics.lines().filter_map(move |line| {
        let (_, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} ")?;
        value.parse().ok()
    })
}

async fn run(settings: &Settings) -> Result<(), BenchError> {
    std::fs::create_dir_all(&settings.out).map_err(|error| BenchError::Write(settings.out.clone(), error))?;
    println!("Making {} groups on one topic of {} partitions", settings.groups, settings.partitions);
    kafka::make(&settings.place.kafka, settings.groups, settings.partitions).await?;
    objects::make(&settings.place.kafka, settings.groups).await?;
    let operator = Operator::start(settings)?;
    let begun = Instant::now();
    loop {
        let seen = match operator.metrics().await {
            Ok(metrics) => values(&metrics, "spillway_consumer_lag_messages").count(),
            Err(_) => 0,
        };
        if seen == settings.groups {
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(BenchError::Waited(PATIENCE, format!("all groups to be read: {seen} are")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let all_read = begun.elapsed().as_secs_f64();
    println!("All are read {all_read:.1} s after the start. Watching for {} s", settings.watch);
    // What the start cost is not what a sweep costs.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let process = Running(operator.child.id());
    let (mut sweeps, mut connected) = (Vec::new(), 0);
    let window = Duration::from_secs(settings.watch);
    let watching = async {
        let watched = Instant::now();
        while watched.elapsed() < window {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let metrics = operator.metrics().await?;
            sweeps.extend(values(&metrics, "spillway_lag_sweep_duration_seconds"));
            connected = connected.max(connections::to(process.0, &settings.place.kafka));
        }
        Ok::<_, BenchError>(())
    };
    let (cores, watched) = tokio::join!(process.cores(window), watching);
    watched?;
    let cores = cores?;
    let memory = process.memory()?;
    let worst = sweeps.iter().copied().fold(0.0, f64::max);
    let middle = median(sweeps);
    println!("\n{}; load {}; operator: {}", machine::facts(), machine::load(), settings.build);
    println!(
        "{} groups × {} partitions, read every 5 s by one operator",
        settings.groups, settings.partitions
    );
    println!("{:<34}  {:>8}  {:>8}", "", "measured", "aim");
    println!("{:<34}  {middle:>8.3}  {:>8}", "one sweep, median, s", "0.5");
    println!("{:<34}  {worst:>8.3}  {:>8}", "one sweep, worst, s", "");
    println!("{:<34}  {cores:>8.3}  {:>8}", "CPU, cores", "0.1");
    println!("{:<34}  {:>8.1}  {:>8}", "memory, MiB", memory.resident, "64");
    println!("{:<34}  {:>8.1}  {:>8}", "memory at its peak, MiB", memory.peak, "");
    println!("{:<34}  {connected:>8}  {:>8}", "connections to Kafka", "O(brokers)");
    let summary = json!({
        "sweep_s": round(middle), "sweep_cores": round(cores), "sweep_rss_mib": round(memory.resident),
        "sweep_connections": connected,
    });
    let path = settings.out.join("sweep.json");
    std::fs::write(&path, format!("{summary}\n")).map_err(|error| BenchError::Write(path, error))
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_all_series_of_one_metric_are_found() {
        let text = "# HELP a_b x\na_b{name=\"x\"} 1.5\na_b{name=\"y\"} 2\na_b_c{name=\"z\"} 9\n";
        assert_eq!(values(text, "a_b").collect::<Vec<_>>(), [1.5, 2.0]);
    }
}
