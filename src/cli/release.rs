//! `spillway release`: takes Spillway's finalizers off, so that objects and their definitions can go although no
//! operator runs. Nothing is changed at the brokers.

use std::process::ExitCode;

use kube::ResourceExt as _;
use kube::api::{ApiResource, DynamicObject};

use super::CliError;
use super::cluster::{Cluster, kinds};
use super::leases::{Leader, LeaseArgs};
use super::offline::block_on;
use super::output::{agreed, can_ask, say};
use super::plan::PENDING;
use crate::api::FINALIZER;

const EXAMPLES: &str = "\
Examples:
  kubectl -n spillway-system scale deployment spillway --replicas=0
  spillway release --all               asks, then releases every object in every namespace
  spillway release --all -n shop --yes

An object that was deleted before, and only waited for its finalizer, is gone at once; what it stands for stays at the
broker. Refused while an operator leads that watches the namespace: it would put the finalizers back.
Exit code: 0 released, 2 the answer was no, 1 error.";

/// The arguments of `spillway release`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Release all objects; there is no other choice yet, and it has to be said
    #[arg(long, required = true)]
    pub all: bool,
    /// Only those of one namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Go ahead without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Go ahead although an operator leads, or nobody knows
    #[arg(long)]
    pub force: bool,
    /// Where the operators' Leases are
    #[command(flatten)]
    pub leases: LeaseArgs,
}

/// Runs the verb.
pub fn execute(args: &Args) -> Result<ExitCode, CliError> {
    can_ask(args.yes)?;
    block_on(async {
        let cluster = Cluster::connect().await?;
        if !args.force {
            nobody_leads(&cluster, args).await?;
        }
        let mut held: Vec<(ApiResource, DynamicObject)> = Vec::new();
        for kind in kinds() {
            let objects = cluster.objects(&kind, args.namespace.as_deref()).await?;
            let with =
                objects.into_iter().filter(|object| object.finalizers().iter().any(|f| f == FINALIZER));
            held.extend(with.map(|object| (kind.clone(), object)));
        }
        if held.is_empty() {
            say("Nothing has a finalizer of Spillway's.")?;
            return Ok(ExitCode::SUCCESS);
        }
        for (kind, object) in &held {
            let going =
                if object.metadata.deletion_timestamp.is_some() { ", which is being deleted" } else { "" };
            say(&format!("{}{going}", place(kind, object)))?;
        }
        let objects = if held.len() == 1 { "this object" } else { &format!("these {} objects", held.len()) };
        if !args.yes && !agreed(&format!("Take the finalizer off {objects}?"))? {
            say("Nothing was changed.")?;
            return Ok(ExitCode::from(PENDING));
        }
        // A Broker goes last: whoever starts an operator meanwhile still finds the way to what is left.
        held.sort_by_key(|(kind, _)| kind.kind == "Broker");
        let (mut released, mut failed) = (0, 0);
        for (kind, object) in &held {
            match cluster.release(kind, object).await {
                Ok(done) => released += usize::from(done),
                Err(error) => {
                    eprintln!("spillway: {error}");
                    failed += 1;
                }
            }
        }
        say(&format!("Released {released} of {}; nothing was changed at the brokers.", held.len()))?;
        Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

fn place(kind: &ApiResource, object: &DynamicObject) -> String {
    format!("{} {}/{}", kind.kind, object.namespace().unwrap_or_default(), object.name_any())
}

/// Refuses while an operator would undo the work, and where nobody can know.
async fn nobody_leads(cluster: &Cluster, args: &Args) -> Result<(), CliError> {
    let leaders = cluster.leaders(&args.leases).await.map_err(|why| {
        CliError(format!(
            "failed to release: whether an operator leads is not known: failed to read Leases: {why}; --lease-namespace names the namespace that it runs in, and --force goes ahead"
        ))
    })?;
    let leading: Vec<_> = leaders
        .iter()
        .filter(|leader| leader.leads && leader.watches(args.namespace.as_deref()))
        .map(Leader::in_words)
        .collect();
    if leading.is_empty() {
        return Ok(());
    }
    Err(CliError(format!(
        "failed to release: an operator leads ({}) and would put the finalizers back; scale it to 0 and wait until its Lease is let go",
        leading.join("; ")
    )))
}
