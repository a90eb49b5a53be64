//! `spillway status`: what is wrong, first.
//!
//! ```text
//!  API server ──▶ objects of all kinds, Leases ──▶ item (state of each) ──▶ show (table, JSON, YAML)
//! ```

mod item;
mod show;

use std::io::Write as _;
use std::process::ExitCode;

use super::cluster::{Cluster, NamespaceArgs, kinds};
use super::offline::{block_on, show::colours};
use super::plan::PENDING;
use super::{CliError, closed_is_fine};
use item::{Item, Operator, Report};

const EXAMPLES: &str = "\
Examples:
  spillway status                      the context's namespace
  spillway status -A                   all namespaces
  spillway status -A -o json | jq '.objects[] | select(.state == \"DataLost\")'

What is ready and in step is only counted; -o wide lists it, too. The worst comes first.
Exit code: 0 all is ready, 2 something is not, or no operator leads, 1 error.";

/// The arguments of `spillway status`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which namespace
    #[command(flatten)]
    pub namespace: NamespaceArgs,
    /// How to print: wide lists what is ready, too, and cuts no message
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// How the status is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for each object that is not well.
    #[default]
    Table,
    /// A line for each object.
    Wide,
    /// JSON for programs.
    Json,
    /// YAML.
    Yaml,
}

/// Runs the verb.
pub fn execute(args: &Args) -> Result<ExitCode, CliError> {
    block_on(async {
        let cluster = Cluster::connect().await?;
        let namespace = cluster.namespace(&args.namespace);
        let mut objects = Vec::new();
        for kind in kinds() {
            let found = cluster.objects(&kind, namespace.as_deref()).await?;
            objects.extend(found.iter().map(|object| Item::of(&kind.kind, object)));
        }
        objects.sort_by_key(|item| item.state);
        let report = Report { operator: Operator::of(cluster.leaders().await), objects };
        let text = show::text(&report, args.output, colours())
            .map_err(|error| CliError::new("print the status", error))?;
        std::io::stdout()
            .write_all(text.as_bytes())
            .or_else(closed_is_fine)
            .map_err(|error| CliError::new("write to standard output", error))?;
        Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::from(PENDING) })
    })
}
