//! `spillway import`: manifests for what a broker already has.
//!
//! What belongs to the broker itself or to a client is left out. What is written plans empty at once.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;

use super::offline::export::{Exporter, yaml};
use super::offline::links::{Client, Link, Links, kafka_said};
use super::offline::objects::{Declared, Objects};
use super::offline::{block_on, input, show};
use super::plan::tell_wrong;
use super::{CliError, closed_is_fine};
use crate::api::Broker;
use crate::api::policy::{DeletionPolicy, ManagementPolicy, Policies};
use crate::apply;
use crate::brokers::kafka::{KafkaHandle, Lane};
use crate::topology::access::{glob, rules_permit};

/// Objects that are looked at at once.
const AT_ONCE: usize = 1_000;
/// Longest file name.
const MAX_FILE_NAME: usize = 255;

const EXAMPLES: &str = "\
Examples:
  spillway import --broker broker.yaml > topics.yaml                  one Broker in one file
  spillway import --broker kafka -f brokers/ --match 'orders.*'       one of several, some of its topics
  spillway import --broker kafka -f brokers/ --out topology/ --management-policy Manage

What is written only observes, unless --management-policy says Manage.";

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
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
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

/// One manifest: where it goes and what it says.
struct Manifest {
    kind: &'static str,
    name: String,
    text: String,
}

/// What was found and what was left out.
#[derive(Default)]
struct Imported {
    manifests: Vec<Manifest>,
    left_out: BTreeMap<&'static str, usize>,
}

impl Imported {
    fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_default() += 1;
    }
}

/// Runs the verb.
pub fn execute(args: &Args) -> Result<(), CliError> {
    let is_file = Path::new(&args.broker).exists();
    let mut files = args.files.clone();
    files.extend(is_file.then(|| args.broker.clone()));
    let home = args.namespace.as_deref().unwrap_or("default");
    let objects = Objects::of(input::read(&files)?, home, args.secrets.clone());
    tell_wrong(&objects);
    let broker = choose(&objects, &args.broker, is_file)?;
    block_on(async {
        let links = Links::open(&objects, &[broker.key()].into()).await;
        let link =
            links.get(&broker.key()).map_err(|rejection| CliError(show::printable(&rejection.message)))?;
        let imported = look(args, link, broker)
            .await
            .map_err(|error| CliError(objects.secrets.redact(&show::printable(&error.0))))?;
        write(args, &imported)
    })
}

fn choose<'a>(objects: &'a Objects, wanted: &str, is_file: bool) -> Result<&'a Declared<Broker>, CliError> {
    let fits = |broker: &&Declared<Broker>| {
        if is_file {
            Path::new(&*broker.origin.file).starts_with(wanted)
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

async fn look(args: &Args, link: &Link, broker: &Declared<Broker>) -> Result<Imported, CliError> {
    let management = match args.management_policy {
        Management::Observe => ManagementPolicy::Observe,
        Management::Manage => ManagementPolicy::Manage,
    };
    let namespace = args.namespace.as_deref().unwrap_or(&link.namespace);
    let mut exporter = Exporter::new(namespace, &link.namespace, &broker.object.name_any(), management);
    match &link.client {
        Client::Kafka(kafka) => topics(args, link, kafka, &mut exporter).await,
    }
}

impl Args {
    /// Whether a name is wanted.
    fn wants(&self, name: &str) -> bool {
        let any = |globs: &[String]| globs.iter().any(|pattern| glob(pattern, name));
        (self.matches.is_empty() || any(&self.matches)) && !any(&self.exclude)
    }
}

/// Whether the Broker's rules let the object be declared: else its manifest would be refused.
fn permitted(link: &Link, exporter: &Exporter, name: &str) -> bool {
    let policies = Policies::resolve(exporter.policies(), link.spec.defaults);
    let deletion: DeletionPolicy = policies.deletion;
    rules_permit(&link.spec.rules, &exporter.namespace, name, deletion).is_ok()
}

async fn topics(
    args: &Args,
    link: &Link,
    kafka: &KafkaHandle,
    exporter: &mut Exporter,
) -> Result<Imported, CliError> {
    let mut imported = Imported::default();
    let listed = kafka
        .client
        .list_topics(apply::kafka::TIMEOUT)
        .await
        .map_err(|error| CliError(kafka_said(error).message))?;
    let mut names = Vec::new();
    for topic in listed {
        if topic.internal || topic.name.starts_with("__") {
            imported.leave_out("the broker's own");
        } else if !args.wants(&topic.name) {
            imported.leave_out("not asked for");
        } else if !permitted(link, exporter, &topic.name) {
            imported.leave_out("not permitted by the Broker's rules");
        } else {
            names.push(topic.name);
        }
    }
    names.sort_unstable();
    let mut seen = stream::iter(names)
        .map(async |name| {
            let seen = apply::kafka::observe(kafka, &name, Lane::User).await;
            (name, seen)
        })
        .buffered(AT_ONCE);
    while let Some((name, seen)) = seen.next().await {
        match seen.map_err(|error| CliError(kafka_said(error).message))? {
            // Deleted since it was listed.
            None => imported.leave_out("gone meanwhile"),
            Some(seen) => {
                let topic = exporter.topic(&name, &seen);
                let text = yaml(&topic).map_err(|error| CliError::new("write a manifest", error))?;
                imported.manifests.push(Manifest { kind: "topic", name: topic.name_any(), text });
            }
        }
    }
    Ok(imported)
}

fn write(args: &Args, imported: &Imported) -> Result<(), CliError> {
    match &args.out {
        None => {
            let mut out = std::io::stdout().lock();
            for manifest in &imported.manifests {
                write!(out, "---\n{}", manifest.text)
                    .or_else(closed_is_fine)
                    .map_err(|error| CliError::new("write to standard output", error))?;
            }
        }
        Some(folder) => {
            for manifest in &imported.manifests {
                save(folder, manifest)?;
            }
        }
    }
    let mut words = match imported.manifests.len() {
        1 => "Imported 1 object.".to_owned(),
        count => format!("Imported {count} objects."),
    };
    if !imported.left_out.is_empty() {
        let left: Vec<_> = imported.left_out.iter().map(|(why, count)| format!("{count} {why}")).collect();
        words = format!("{words} Left out: {}.", left.join(", "));
    }
    eprintln!("{words}");
    Ok(())
}

/// Writes one file. One that is there and says something else is somebody's work and stays.
fn save(folder: &Path, manifest: &Manifest) -> Result<(), CliError> {
    let folder = folder.join(format!("{}s", manifest.kind));
    let mut file = format!("{}.yaml", manifest.name);
    if file.len() > MAX_FILE_NAME {
        let short: String = manifest.name.chars().take(200).collect();
        file = format!("{short}-{}.yaml", crate::digest::short([manifest.name.as_str()], 4));
    }
    let path = folder.join(file);
    let failed = |error: std::io::Error| CliError::new(&format!("write {}", path.display()), error);
    std::fs::create_dir_all(&folder).map_err(failed)?;
    match std::fs::read_to_string(&path) {
        Ok(text) if text == manifest.text => Ok(()),
        Ok(_) => Err(failed(std::io::Error::other(
            "it exists and says something else; delete it, or choose another folder",
        ))),
        Err(_) => std::fs::write(&path, &manifest.text).map_err(failed),
    }
}
