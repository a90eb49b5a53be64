//! `spillway import`: manifests for what a broker already has.
//!
//! What belongs to the broker itself or to a client is left out. What is written plans empty at
//! once: it is planned before it is written, and what does not is left out, too, and told. It is
//! missing then, so the exit code is 1: who keeps the output as a backup must not take it for whole.
//! So it is with what a manifest has no field for: a plan leaves it alone, but nobody could make it anew.
//!
//! ```text
//!  broker ──▶ gather ──▶ export (pure) ──▶ plan ──▶ manifests
//! ```
//!
//! * [`gather`]: what a broker has
//! * [`written`]: manifests, a table, files
//!
//! Here: which Broker, and the check.

mod gather;
mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kube::ResourceExt as _;

use self::gather::{Found, NOT_EMPTY};
use super::CliError;
use super::offline::entry::Action;
use super::offline::export::Exporter;
use super::offline::input::Origin;
use super::offline::links::{Client, Links};
use super::offline::objects::{Declared, Objects};
use super::offline::progress::Progress;
use super::offline::session::Session;
use super::offline::{block_on, input, show};
use super::output::Format;
use super::plan::tell_wrong;
use crate::api::Broker;
use crate::api::policy::ManagementPolicy;
use crate::topology::access::glob;

const EXAMPLES: &str = "\
Examples:
  spillway import --broker broker.yaml > topics.yaml    one Broker in one file
  spillway import --broker kafka -f brokers/ --match 'orders.*'
  spillway import --broker kafka -f brokers/ --out topology/
  spillway import --broker broker.yaml -o table         only what there is

What is written only observes, unless --management-policy says Manage.
Exit code: 0 all that was asked for is written, 1 error, or something is missing.";

/// The arguments of `spillway import`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The Broker: its name (or namespace/name) in the files, or a file that holds one
    #[arg(long, value_name = "NAME|FILE")]
    pub broker: String,
    /// A file or folder with Brokers and Secrets, or - for standard input; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub files: Vec<String>,
    /// A folder with Secrets that are not in the files: NAME/KEY or NAMESPACE/NAME/KEY
    #[arg(long, value_name = "FOLDER")]
    pub secrets: Option<PathBuf>,
    /// The namespace of the manifests. Default: the Broker's
    #[arg(short, long, value_parser = crate::config::namespace, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only this virtual host (RabbitMQ); may be given several times. Default: all that the user may use
    #[arg(long, value_name = "VHOST")]
    pub vhost: Vec<String>,
    /// Only names that match: * is any run of characters; may be given several times
    #[arg(long = "match", value_name = "GLOB")]
    pub matches: Vec<String>,
    /// No names that match; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Whether Spillway shall only look (Observe) or keep the objects as they are (Manage)
    #[arg(long, value_enum, default_value_t, value_name = "POLICY")]
    pub management_policy: Management,
    /// Write one file for each object into this folder instead of printing
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// How to print: yaml and json are manifests (with --out: how files are written), table and wide what there is
    #[arg(short, long, value_enum, default_value_t = Format::Yaml, value_name = "FORMAT")]
    pub output: Format,
}

/// See [`ManagementPolicy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Management {
    /// Only look.
    #[default]
    #[value(name = "Observe", alias = "observe")]
    Observe,
    /// Keep as declared.
    #[value(name = "Manage", alias = "manage")]
    Manage,
}

/// Runs the verb.
pub fn execute(args: &Args) -> Result<ExitCode, CliError> {
    let mut input = input::read(&args.files)?;
    // A name in the files comes before a file or folder that happens to be called the same.
    let is_file = !input.names("Broker", &args.broker) && Path::new(&args.broker).exists();
    if is_file && !input.documents.iter().any(|document| stands_in(&document.origin, &args.broker)) {
        let more = input::read(std::slice::from_ref(&args.broker))?;
        input.documents.extend(more.documents);
        input.wrong.extend(more.wrong);
    }
    let home = args.namespace.as_deref().unwrap_or("default");
    let objects = Objects::of(input, home, args.secrets.clone());
    tell_wrong(&objects);
    let broker = choose(&objects, &args.broker, is_file)?;
    block_on(async {
        let links = Links::open(&objects, &[broker.key()].into()).await;
        let imported = import(args, links, broker, &objects).await;
        let namespace = broker.object.namespace().unwrap_or_default();
        let redact = |text: &str| objects.secrets.redact(&broker.object.spec, &namespace, text);
        imported.map_err(|error| CliError(redact(&show::printable(&error.0))))
    })
}

async fn import(
    args: &Args,
    links: Links,
    broker: &Declared<Broker>,
    objects: &Objects,
) -> Result<ExitCode, CliError> {
    let management = match args.management_policy {
        Management::Observe => ManagementPolicy::Observe,
        Management::Manage => ManagementPolicy::Manage,
    };
    let link = links.get(&broker.key()).map_err(|rejection| CliError(rejection.message))?;
    let namespace = args.namespace.as_deref().unwrap_or(&link.namespace);
    let exporter = Exporter::new(namespace, &link.namespace, &broker.object.name_any(), management);
    let found = match &link.client {
        Client::Kafka(kafka) => gather::topics(args, kafka, exporter).await,
        Client::Rabbitmq(rabbit) => gather::rabbitmq(args, rabbit, exporter).await,
    };
    let mut found = found.map_err(|error| CliError(error.message))?;
    check(&mut found, links, broker, objects).await;
    for part in &found.in_part {
        let (what, unsaid) = (&part.what, part.unsaid.join(", "));
        let line = format!("{what} is written in part: no field of its {} says {unsaid}", part.manifest.0);
        eprintln!("spillway: {}", show::printable(&line));
    }
    written::write(args, &found)?;
    Ok(if found.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Leaves out what does not plan empty. What is left is planned again: a queue whose dead-letter
/// queue was left out would make one.
async fn check(found: &mut Found, mut links: Links, broker: &Declared<Broker>, objects: &Objects) {
    loop {
        let objects = as_input(found, broker, objects);
        let session = Session::with(links, &objects);
        let entries = session.plan(&Progress::new()).await;
        let mut bad: BTreeMap<(&str, &str), String> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.action() != Action::None) {
            let why = match &entry.outcome {
                Ok(change) => {
                    change.steps.iter().chain(&change.notes).cloned().collect::<Vec<_>>().join("; ")
                }
                Err(error) => format!("{}: {}", error.reason.as_str(), error.message),
            };
            let candidate = &entry.candidate;
            let parents = entries.iter().filter(|parent| {
                candidate.companion_of.iter().any(|key| {
                    let parent = &parent.candidate;
                    *key == format!("{}/{}", parent.namespace, parent.metadata_name)
                        && parent.kind == candidate.kind
                })
            });
            let parents: Vec<_> = parents.map(|entry| &entry.candidate).collect();
            let blamed = if parents.is_empty() { vec![candidate] } else { parents };
            for candidate in blamed {
                bad.insert((candidate.kind, &candidate.metadata_name), format!("{}: {why}", candidate.name));
            }
        }
        if bad.is_empty() {
            return;
        }
        for ((kind, _), why) in &bad {
            eprintln!("spillway: left out {kind} {}", show::printable(why));
            found.leave_out(NOT_EMPTY);
        }
        found.keep(|kind, name| !bad.contains_key(&(kind, name)));
        links = session.into_links();
    }
}

/// What was found, as if it had been read from files.
fn as_input(found: &Found, broker: &Declared<Broker>, objects: &Objects) -> Objects {
    fn declared<K: Clone>(objects: &[K], origin: &Origin) -> Vec<Declared<K>> {
        let declare =
            |(place, object): (usize, &K)| Declared { object: object.clone(), origin: origin.clone(), place };
        objects.iter().enumerate().map(declare).collect()
    }
    let origin = &broker.origin;
    Objects {
        brokers: vec![broker.clone()],
        topics: declared(&found.topics, origin),
        exchanges: declared(&found.exchanges, origin),
        queues: declared(&found.queues, origin),
        bindings: declared(&found.bindings, origin),
        namespaces: objects.namespaces.clone(),
        ..Objects::default()
    }
}

/// Whether a document stands in this file, or below this folder.
fn stands_in(origin: &Origin, path: &str) -> bool {
    let real = |path: &str| Path::new(path).canonicalize().unwrap_or_else(|_| path.into());
    real(&origin.file).starts_with(real(path))
}

fn choose<'a>(objects: &'a Objects, wanted: &str, is_file: bool) -> Result<&'a Declared<Broker>, CliError> {
    let fits = |broker: &&Declared<Broker>| {
        if is_file {
            stands_in(&broker.origin, wanted)
        } else {
            broker.object.name_any() == wanted || broker.key() == wanted
        }
    };
    let found: Vec<_> = objects.brokers.iter().filter(fits).collect();
    match found.as_slice() {
        [broker] => Ok(broker),
        [] => Err(CliError(format!(
            "failed to find Broker {wanted}: no such file, and no Broker of this name in the input"
        ))),
        several => {
            let keys: Vec<_> = several.iter().map(|broker| broker.key()).collect();
            Err(CliError(format!("failed to choose a Broker: {wanted} means {}", keys.join(" and "))))
        }
    }
}

impl Args {
    /// Whether a name is wanted.
    fn wants(&self, name: &str) -> bool {
        let matches = self.matches.is_empty() || self.matches.iter().any(|pattern| glob(pattern, name));
        matches && !self.excludes(name)
    }

    /// Whether a name is expressly not wanted.
    fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|pattern| glob(pattern, name))
    }
}
