//! `spillway status`: what is wrong, first.
//!
//! ```text
//!  API server ──▶ objects of all kinds, Leases ──▶ item (state of each) ──▶ show (table, JSON, YAML)
//! ```

mod item;
mod show;

use std::process::ExitCode;

use super::CliError;
use super::cluster::{Cluster, NamespaceArgs, kinds};
use super::kubeconfig::KubeconfigArgs;
use super::leases::LeaseArgs;
use super::offline::{block_on, show::colours};
use super::output::{Format, print};
use super::plan::PENDING;
use item::{Item, Operator, Report};

const EXAMPLES: &str = "\
Examples:
  spillway status                      the context's namespace
  spillway status -A                   all namespaces
  spillway status -n shop --lease-namespace spillway-system
  spillway status -A -o json | jq '.objects[] | select(.state == \"DataLost\")'

What is ready and in step is only counted; -o wide lists it, too. The worst comes first. Operators \
are found by their Leases, which carry the label app.kubernetes.io/name=spillway, in all namespaces; who \
may not list them there says --lease-namespace.
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
    /// Where the operators' Leases are
    #[command(flatten)]
    pub leases: LeaseArgs,
}

/// Runs the verb.
pub fn execute(args: &Args, way: &KubeconfigArgs) -> Result<ExitCode, CliError> {
    block_on(async {
        let cluster = Cluster::connect(way).await?;
        let namespace = cluster.namespace(&args.namespace);
        let mut objects = Vec::new();
        for kind in kinds() {
            let found = cluster.objects(&kind, namespace.as_deref()).await?;
            objects.extend(found.iter().map(|object| Item::of(&kind.kind, object)));
        }
        objects.sort_by_key(|item| item.state);
        let operator = Operator::of(cluster.leaders(&args.leases).await, namespace.as_deref());
        let report = Report { operator, objects };
        print(&show::text(&report, args.output, colours())?)?;
        Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::from(PENDING) })
    })
}
