//! The command line: one file per verb.

pub mod apply;
pub mod cluster;
pub mod columns;
pub mod completion;
pub mod crds;
pub mod dlq;
pub mod explain;
pub mod fields;
pub mod import;
pub mod kubeconfig;
pub mod lag;
pub mod leases;
pub mod metrics;
pub mod offline;
pub mod output;
pub mod plan;
pub mod reasons;
pub mod refusal;
pub mod release;
pub mod replay;
pub mod run;
pub mod simulate;
pub mod status;
pub mod ways;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::kubeconfig::KubeconfigArgs;
use crate::config::RunArgs;
use crate::runtime::telemetry::{self, LogFormat};

/// Keeps Kafka and RabbitMQ topology as declared, and consumers as many as their backlog needs.
#[derive(Parser, Debug)]
#[command(name = "spillway", version, about, propagate_version = true)]
pub struct Cli {
    /// What `run` logs: off, error, warn, info, debug, trace, or a filter such as `info,spillway_operator=debug`
    #[arg(
        long,
        env = "SPILLWAY_LOG",
        default_value = "info",
        global = true,
        value_parser = telemetry::filter,
        value_name = "FILTER"
    )]
    pub log: String,
    /// How `run` logs
    #[arg(long, env = "SPILLWAY_LOG_FORMAT", default_value = "text", global = true, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Which API server
    #[command(flatten)]
    pub kubeconfig: KubeconfigArgs,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Run the operator
    #[command(after_help = run::EXAMPLES)]
    Run(RunArgs),
    /// Show what an apply would change at the brokers, without a cluster
    Plan(plan::Args),
    /// Bring the brokers in step with manifests, without a cluster
    Apply(apply::Args),
    /// Write manifests for what a broker already has
    Import(import::Args),
    /// Show what is wrong, first
    Status(status::Args),
    /// Show how far behind consumers are, now
    Lag(lag::Args),
    /// Say why a Consumer has as many replicas as it has
    Explain(explain::Args),
    /// Look at dead letters without consuming them
    #[command(subcommand)]
    Dlq(dlq::Verb),
    /// Take Spillway's finalizers off, before an uninstall
    Release(release::Args),
    /// Print the custom resource definitions, for kubectl apply --server-side -f -
    Crds(crds::Args),
    /// Print every field of a kind as Markdown
    #[command(hide = true)]
    Fields(fields::Args),
    /// Print a table of all metrics that `spillway run` serves
    #[command(hide = true)]
    Metrics,
    /// Print a table of the reasons that conditions give, and what helps
    #[command(hide = true)]
    Reasons,
    /// Compare the autoscaler with others under named workloads, without a cluster
    Simulate(simulate::Args),
    /// Answer observations on standard input with decisions on standard output, a line each
    #[command(after_help = replay::EXAMPLES)]
    Replay,
    /// Print a script that completes verbs and options in a shell
    Completion(completion::Args),
}

impl Verb {
    /// The name of a verb that asks no API server; none for one that does.
    const fn without_cluster(&self) -> Option<&'static str> {
        match self {
            Self::Run(_)
            | Self::Status(_)
            | Self::Lag(_)
            | Self::Explain(_)
            | Self::Dlq(_)
            | Self::Release(_) => None,
            Self::Plan(_) => Some("plan"),
            Self::Apply(_) => Some("apply"),
            Self::Import(_) => Some("import"),
            Self::Crds(_) => Some("crds"),
            Self::Fields(_) => Some("fields"),
            Self::Metrics => Some("metrics"),
            Self::Reasons => Some("reasons"),
            Self::Simulate(_) => Some("simulate"),
            Self::Replay => Some("replay"),
            Self::Completion(_) => Some("completion"),
        }
    }
}

/// Why a verb failed: one line for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CliError(pub String);

impl CliError {
    /// An error that begins with what failed and ends with the cause.
    pub fn new(what: &str, cause: impl std::fmt::Display) -> Self {
        Self(format!("failed to {what}: {cause}"))
    }
}

/// A reader that has seen enough (head) is no error.
pub(crate) fn closed_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// Runs the operator. Who collects JSON gets the error that ends it as JSON, too.
fn run_and_tell(args: RunArgs, way: &KubeconfigArgs, format: LogFormat) -> Result<ExitCode, CliError> {
    match run::execute(args.into(), way) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if format == LogFormat::Json && tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!(error = refusal::one_line(&error.0), "ended");
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error),
    }
}

/// Runs the verb. The exit code says more than success only for `plan`, `apply`, `import`, `status` and `release`.
pub fn execute(cli: Cli) -> Result<ExitCode, CliError> {
    let way = &cli.kubeconfig;
    if let Some(verb) = cli.verb.without_cluster() {
        way.refuse(verb)?;
    }
    match cli.verb {
        Verb::Plan(args) => return plan::execute(&args),
        Verb::Apply(args) => return apply::execute(&args),
        Verb::Import(args) => return import::execute(&args),
        Verb::Status(args) => return status::execute(&args, way),
        Verb::Lag(args) => lag::execute(&args, way)?,
        Verb::Explain(args) => explain::execute(&args, way)?,
        Verb::Dlq(verb) => dlq::execute(&verb, way)?,
        Verb::Release(args) => return release::execute(&args, way),
        Verb::Crds(args) => crds::execute(&args)?,
        Verb::Fields(args) => fields::execute(&args)?,
        Verb::Metrics => metrics::execute()?,
        Verb::Reasons => reasons::execute()?,
        Verb::Simulate(args) => simulate::execute(&args)?,
        Verb::Completion(args) => completion::execute(&args)?,
        Verb::Replay => replay::run(std::io::stdin().lock(), std::io::stdout().lock())
            .or_else(closed_is_fine)
            .map_err(|error| CliError::new("replay", error))?,
        Verb::Run(args) => {
            telemetry::init(cli.log_format, &cli.log)
                .map_err(|error| CliError::new("start logging", error))?;
            return run_and_tell(args, way, cli.log_format);
        }
    }
    Ok(ExitCode::SUCCESS)
}
