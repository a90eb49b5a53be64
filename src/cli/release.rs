//! `spillway release`: takes Spillway's finalizers off, so that objects and their definitions can go although no
//! operator runs. Nothing is changed at the brokers.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::api::{ApiResource, DynamicObject};
use serde::Serialize;

use super::CliError;
use super::cluster::{Cluster, kinds};
use super::columns::columns;
use super::kubeconfig::KubeconfigArgs;
use super::leases::{Leader, LeaseArgs, is_held, lasts, written_since};
use super::offline::block_on;
use super::output::{Format, NO_PLACE, agreed, can_ask, print, say};
use super::plan::PENDING;
use crate::api::FINALIZER;

/// How often a Lease is looked at until it is known whether somebody renews it.
const AGAIN: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  kubectl -n spillway-system scale deployment spillway --replicas=0
  spillway release --all           asks, then releases all in every namespace
  spillway release --all -n shop --yes
  spillway release --all --yes -o json | jq '.objects[] | select(.error)'

An object that was deleted before, and only waited for its finalizer, is gone at once; what it \
stands for stays at the broker. Refused while an operator leads that watches the namespace: it would \
put the finalizers back. One that went without letting its Lease go is waited for \
until the Lease has expired.
Exit code: 0 released, 2 the answer was no, 1 error.";

/// The arguments of `spillway release`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Release all objects; there is no other choice yet, and it has to be said
    #[arg(long, required = true)]
    pub all: bool,
    /// Only those of one namespace
    #[arg(short, long, value_parser = crate::config::namespace, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Go ahead without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Go ahead although an operator leads, or nobody knows
    #[arg(long)]
    pub force: bool,
    /// How to print what is released: wide shows whose finalizers stay; json and yaml need --yes
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Where the operators' Leases are
    #[command(flatten)]
    pub leases: LeaseArgs,
}

/// What is released, as programs read it, and what became of it. Fields are added, never renamed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Held {
    kind: String,
    namespace: String,
    name: String,
    /// Since when it is being deleted (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_since: Option<String>,
    /// Finalizers of others, which stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_finalizers: Vec<String>,
    /// Whether it was released; not if it was gone already.
    released: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    objects: &'a [Held],
}

impl Held {
    fn of(kind: &ApiResource, object: &DynamicObject) -> Self {
        let others = object.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER);
        Self {
            kind: kind.kind.clone(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            deleted_since: object.metadata.deletion_timestamp.as_ref().map(|time| time.0.to_string()),
            other_finalizers: others.cloned().collect(),
            released: false,
            error: None,
        }
    }
}

/// Runs the verb.
pub fn execute(args: &Args, way: &KubeconfigArgs) -> Result<ExitCode, CliError> {
    let people = args.output.is_for_people();
    if !args.yes && !people {
        return Err(CliError(NO_PLACE.into()));
    }
    can_ask(args.yes)?;
    block_on(async {
        let cluster = Cluster::connect(way).await?;
        if !args.force {
            nobody_leads(&cluster, args).await?;
        }
        let mut objects: Vec<(ApiResource, DynamicObject)> = Vec::new();
        for kind in kinds() {
            let found = cluster.objects(&kind, args.namespace.as_deref()).await?;
            let with = found.into_iter().filter(|object| object.finalizers().iter().any(|f| f == FINALIZER));
            objects.extend(with.map(|object| (kind.clone(), object)));
        }
        // A Broker goes last: whoever starts an operator meanwhile still finds the way to what is left.
        objects.sort_by_key(|(kind, _)| kind.kind == "Broker");
        let mut held: Vec<_> = objects.iter().map(|(kind, object)| Held::of(kind, object)).collect();
        if people {
            if held.is_empty() {
                say("Nothing has a finalizer of Spillway's.")?;
                return Ok(ExitCode::SUCCESS);
            }
            print(&table(&held, args.output == Format::Wide))?;
            let them = if held.len() == 1 { "this object" } else { &format!("these {} objects", held.len()) };
            if !args.yes && !agreed(&format!("Take the finalizer off {them}?"))? {
                say("Nothing was changed.")?;
                return Ok(ExitCode::from(PENDING));
            }
        }
        for ((kind, object), held) in objects.iter().zip(&mut held) {
            match cluster.release(kind, object).await {
                Ok(done) => held.released = done,
                Err(error) => {
                    eprintln!("spillway: {error}");
                    held.error = Some(error.to_string());
                }
            }
        }
        let released = held.iter().filter(|held| held.released).count();
        match args.output.structured(&Report { objects: &held }) {
            Some(text) => print(&text?)?,
            None => {
                say(&format!("Released {released} of {}; nothing was changed at the brokers.", held.len()))?;
            }
        }
        let failed = held.iter().any(|held| held.error.is_some());
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

fn table(held: &[Held], wide: bool) -> String {
    let heads =
        ["KIND", "NAMESPACE", "NAME", "DELETED SINCE"].into_iter().chain(wide.then_some("OTHER FINALIZERS"));
    let mut rows = vec![heads.map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(held.iter().map(|held| {
        let since = held.deleted_since.clone().unwrap_or_else(|| "-".into());
        let others = wide.then(|| held.other_finalizers.join(","));
        [held.kind.clone(), held.namespace.clone(), held.name.clone(), since]
            .into_iter()
            .chain(others)
            .collect()
    }));
    columns(&rows)
}

/// Refuses while an operator would undo the work, and where nobody can know. Whether a Lease is still renewed is seen by
/// looking again, as its times are by the operator's clock.
async fn nobody_leads(cluster: &Cluster, args: &Args) -> Result<(), CliError> {
    let namespace = args.namespace.as_deref();
    let mut first = leases(cluster, args).await?;
    if let (true, Some(place)) = (first.is_empty(), &args.leases.lease_namespace) {
        return Err(not_known(&format!(
            "there is no Lease of Spillway's in namespace {place}; leave --lease-namespace out to look everywhere"
        )));
    }
    let ours = |lease: &Lease| is_held(lease) && of(lease).watches(namespace);
    first.retain(ours);
    let Some(most) = first.iter().map(lasts).max() else { return Ok(()) };
    let held: Vec<_> = first.iter().map(place).collect();
    eprintln!("spillway: {}; looking for {} s whether that is renewed", held.join("; "), most.as_secs());
    let began = Instant::now();
    while began.elapsed() <= most {
        tokio::time::sleep(AGAIN).await;
        let mut now = leases(cluster, args).await?;
        now.retain(ours);
        let leading: Vec<_> = written_since(&first, &now).into_iter().map(place).collect();
        if !leading.is_empty() {
            return Err(CliError(format!(
                "failed to release: an operator leads ({}) and would put the finalizers back; scale it to 0 and wait until its Lease is let go",
                leading.join("; ")
            )));
        }
        if now.is_empty() {
            break;
        }
    }
    Ok(())
}

async fn leases(cluster: &Cluster, args: &Args) -> Result<Vec<Lease>, CliError> {
    let read = cluster.leases(&args.leases).await;
    read.map_err(|why| {
        not_known(&format!(
            "failed to read Leases: {why}; --lease-namespace names the namespace that it runs in"
        ))
    })
}

fn not_known(why: &str) -> CliError {
    CliError(format!(
        "failed to release: whether an operator leads is not known: {why}, and --force goes ahead"
    ))
}

/// What a Lease says but for its times.
fn of(lease: &Lease) -> Leader {
    Leader::of(lease, Timestamp::UNIX_EPOCH)
}

fn place(lease: &Lease) -> String {
    let Leader { namespace, lease, holder, .. } = of(lease);
    format!("{} holds Lease {namespace}/{lease}", holder.unwrap_or_default())
}
