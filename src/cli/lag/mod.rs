//! `spillway lag`: how far behind consumers are, now.
//!
//! ```text
//!  API server ──▶ Consumers, Brokers, Secrets ──▶ read (brokers) ──▶ show (table, JSON, YAML)
//! ```

mod read;
mod show;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use kube::ResourceExt as _;
use serde::Serialize;

use super::cluster::{Cluster, NamespaceArgs};
use super::kubeconfig::KubeconfigArgs;
use super::offline::block_on;
use super::output::Format;
use super::{CliError, closed_is_fine};
use crate::api::Consumer;
use read::Reader;

const EXAMPLES: &str = "\
Examples:
  spillway lag                   all Consumers of the context's namespace
  spillway lag orders            one Consumer, a line for each of its partitions
  spillway lag orders -o wide    its offsets, too
  spillway lag -A --watch        all namespaces, again every two seconds
  spillway lag -A -o json | jq '.[] | select(.seconds > 60)'

The brokers are asked, with the credentials of the Broker objects: whoever asks must be able to read \
their Secrets and to reach the brokers. Where that fails, the line shows what the operator wrote last \
(SOURCE status), a minute old at most.
Rates take two looks, so the first line comes after one interval.";

/// The arguments of `spillway lag`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Consumers by name, each with its partitions; default: all, a line each
    #[arg(value_name = "CONSUMER")]
    pub names: Vec<String>,
    /// Which namespace
    #[command(flatten)]
    pub namespace: NamespaceArgs,
    /// How to print: wide has a line for each partition, and its offsets
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Print again every interval, until interrupted
    #[arg(short, long)]
    pub watch: bool,
    /// Seconds between two looks, at least 0.5
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = interval)]
    pub interval: f64,
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.5..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{text:?} is no number of seconds from 0.5 to 3600")),
    }
}

/// One Consumer's lag. What is not known is left out.
#[allow(clippy::struct_field_names)] // The fields are the names of the output, too.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lag {
    namespace: String,
    consumer: String,
    /// The group or queue, in words.
    reads: String,
    /// Replicas that are wanted, and that should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    desired: Option<i32>,
    /// Messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<u64>,
    /// Messages per second that come, and that are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    arrival: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<f64>,
    /// Seconds that the backlog takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// `broker` or `status`.
    source: &'static str,
    /// Why the broker was not asked, or did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(rename = "partitions", skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
}

/// A partition, or a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrival: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    /// Committed offset, and log end offset.
    #[serde(rename = "committed", skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
    /// Of a queue: messages ready and unacknowledged, and consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unacked: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers: Option<u32>,
}

/// Runs the verb.
pub fn execute(args: &Args, way: &KubeconfigArgs) -> Result<(), CliError> {
    block_on(async {
        let cluster = Cluster::connect(way).await?;
        let namespace = cluster.namespace(&args.namespace);
        let mut reader = Reader::default();
        // The first look is what the second one's rates are taken from.
        look(&cluster, namespace.as_deref(), args, &mut reader).await?;
        loop {
            tokio::time::sleep(Duration::from_secs_f64(args.interval)).await;
            let lags = look(&cluster, namespace.as_deref(), args, &mut reader).await?;
            let mut text = show::text(&lags, args.output, !args.names.is_empty())?;
            if args.watch && std::io::stdout().is_terminal() {
                text.insert_str(0, "\x1b[H\x1b[2J");
            }
            let mut out = std::io::stdout();
            let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            let open = written.is_ok();
            written
                .or_else(closed_is_fine)
                .map_err(|error| CliError::new("write to standard output", error))?;
            if !args.watch || !open {
                return Ok(());
            }
        }
    })
}

/// One look at all that is asked for.
async fn look(
    cluster: &Cluster,
    namespace: Option<&str>,
    args: &Args,
    reader: &mut Reader,
) -> Result<Vec<Lag>, CliError> {
    let all = cluster.consumers(namespace).await?;
    let chosen = choose(all, &args.names, namespace)?;
    let mut lags = Vec::with_capacity(chosen.len());
    for consumer in &chosen {
        lags.push(reader.read(cluster, consumer).await);
    }
    Ok(lags)
}

/// The Consumers that are asked for; one that does not exist is an error.
fn choose(all: Vec<Consumer>, names: &[String], namespace: Option<&str>) -> Result<Vec<Consumer>, CliError> {
    let place = namespace.map_or_else(|| "any namespace".into(), |name| format!("namespace {name}"));
    if let Some(missing) = names.iter().find(|name| !all.iter().any(|c| c.name_any() == **name)) {
        return Err(CliError(format!("there is no Consumer {missing} in {place}")));
    }
    if all.is_empty() {
        return Err(CliError(format!("there are no Consumers in {place}")));
    }
    Ok(all.into_iter().filter(|c| names.is_empty() || names.contains(&c.name_any())).collect())
}
