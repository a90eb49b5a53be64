//! What was found, as manifests on standard output or in files, or as a table.

use std::path::Path;

use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::{Value, json};

use super::Args;
use super::gather::Found;
use crate::api::Binding;
use crate::cli::CliError;
use crate::cli::columns::columns;
use crate::cli::offline::export::yaml;
use crate::cli::offline::show::printable;
use crate::cli::output::{Format, print};

/// Longest file name.
const MAX_FILE_NAME: usize = 255;

/// One object: what it is called, here and at the broker, and its manifest.
struct Manifest {
    kind: &'static str,
    namespace: String,
    name: String,
    /// In words, where it is a binding.
    at_broker: String,
    vhost: Option<String>,
    object: Value,
    yaml: String,
}

fn manifests(found: &Found) -> Result<Vec<Manifest>, CliError> {
    fn all<K: kube::Resource<DynamicType = ()> + Serialize>(
        kind: &'static str,
        objects: &[K],
        called: impl Fn(&K) -> Option<String>,
        to: &mut Vec<Manifest>,
    ) -> Result<(), CliError> {
        let failed = |error: String| CliError::new("write a manifest", error);
        for object in objects {
            let yaml = yaml(object).map_err(failed)?;
            let value = serde_json::to_value(object).map_err(|error| failed(error.to_string()))?;
            let text = |value: &Value| value.as_str().map(str::to_owned);
            to.push(Manifest {
                kind,
                namespace: object.namespace().unwrap_or_default(),
                name: object.name_any(),
                at_broker: called(object)
                    .or_else(|| text(&value["spec"]["name"]))
                    .unwrap_or_else(|| object.name_any()),
                vhost: text(&value["spec"]["vhost"]),
                object: value,
                yaml,
            });
        }
        Ok(())
    }
    let mut manifests = Vec::new();
    all("Topic", &found.topics, |_| None, &mut manifests)?;
    all("Exchange", &found.exchanges, |_| None, &mut manifests)?;
    all("Queue", &found.queues, |_| None, &mut manifests)?;
    all("Binding", &found.bindings, |binding| Some(ends(binding)), &mut manifests)?;
    Ok(manifests)
}

/// A binding's ends, and its key.
fn ends(binding: &Binding) -> String {
    let spec = &binding.spec;
    let to = spec.destination.queue.as_ref().or(spec.destination.exchange.as_ref());
    let ends = format!("{} → {}", spec.source.as_deref().unwrap_or_default(), to.map_or("", String::as_str));
    if spec.routing_key.is_empty() { ends } else { format!("{ends} ({})", spec.routing_key) }
}

/// Prints or saves what was found, and says on standard error how much it was.
pub fn write(args: &Args, found: &Found) -> Result<(), CliError> {
    let manifests = manifests(found)?;
    if let Some(folder) = &args.out {
        let extension = if args.output == Format::Json { "json" } else { "yaml" };
        for manifest in &manifests {
            save(folder, manifest, extension)?;
        }
    }
    match args.output {
        Format::Table | Format::Wide => print(&table(&manifests, args.output == Format::Wide))?,
        Format::Json | Format::Yaml if args.out.is_some() => {}
        Format::Json => print(&pretty(&list(&manifests))?)?,
        Format::Yaml => {
            let documents: Vec<_> =
                manifests.iter().flat_map(|manifest| ["---\n", manifest.yaml.as_str()]).collect();
            print(&documents.concat())?;
        }
    }
    let mut words = match manifests.len() {
        1 => "Imported 1 object.".to_owned(),
        count => format!("Imported {count} objects."),
    };
    if !found.in_part.is_empty() {
        words = format!("{words} Written in part: {}.", found.in_part.len());
    }
    if !found.left_out.is_empty() {
        let left: Vec<_> = found.left_out.iter().map(|(why, count)| format!("{count} {why}")).collect();
        words = format!("{words} Left out: {}.", left.join(", "));
    }
    eprintln!("{words}");
    Ok(())
}

/// As `kubectl` takes it, and `spillway plan -f -`.
fn list(manifests: &[Manifest]) -> Value {
    let items: Vec<_> = manifests.iter().map(|manifest| &manifest.object).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn pretty(value: &Value) -> Result<String, CliError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| CliError::new("write a manifest", error))?;
    Ok(text + "\n")
}

fn table(manifests: &[Manifest], wide: bool) -> String {
    let more: &[&str] = if wide { &["VHOST", "OBJECT"] } else { &[] };
    let mut rows = vec![["KIND", "NAME"].iter().chain(more).map(ToString::to_string).collect::<Vec<_>>()];
    rows.extend(manifests.iter().map(|manifest| {
        let mut row = vec![manifest.kind.to_owned(), printable(&manifest.at_broker)];
        if wide {
            row.push(manifest.vhost.as_deref().map_or_else(|| "-".into(), printable));
            row.push(format!("{}/{}", manifest.namespace, manifest.name));
        }
        row
    }));
    columns(&rows)
}

/// Writes one file. One that is there and says something else is somebody's work and stays.
fn save(folder: &Path, manifest: &Manifest, extension: &str) -> Result<(), CliError> {
    let text = if extension == "json" { pretty(&manifest.object)? } else { manifest.yaml.clone() };
    let folder = folder.join(format!("{}s", manifest.kind.to_lowercase()));
    let mut file = format!("{}.{extension}", manifest.name);
    if file.len() > MAX_FILE_NAME {
        let short: String = manifest.name.chars().take(200).collect();
        file = format!("{short}-{}.{extension}", crate::digest::short([manifest.name.as_str()], 4));
    }
    let path = folder.join(file);
    let failed = |error: std::io::Error| CliError::new(&format!("write {}", path.display()), error);
    std::fs::create_dir_all(&folder).map_err(failed)?;
    match std::fs::read_to_string(&path) {
        Ok(there) if there == text => Ok(()),
        Ok(_) => Err(failed(std::io::Error::other(
            "it exists and says something else; delete it, or choose another folder",
        ))),
        Err(_) => std::fs::write(&path, &text).map_err(failed),
    }
}
