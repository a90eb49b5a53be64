//! Every manifest that a user may apply is one that the API server takes.

use std::path::{Path, PathBuf};
use std::process::Command;

use kube::api::DynamicObject;
use serde_json::{Value, json};
use spillway_operator::api::Binding;
use spillway_operator::cli::offline::export::yaml;

use crate::bed::{World, bare_world, documents};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");

/// Kinds that other projects define; a cluster without them cannot judge them.
const FOREIGN: [&str; 1] = ["monitoring.coreos.com/"];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn is_kustomization(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "kustomization")
}

/// What the API server says against the objects of `text`.
async fn judged(w: &World, source: &str, text: &str) -> Vec<String> {
    let mut refusals = Vec::new();
    for mut object in documents(text) {
        let types = object.types.clone().unwrap_or_default();
        if FOREIGN.iter().any(|group| types.api_version.starts_with(group)) {
            continue;
        }
        // A dry run does not make the namespace that the next object is in.
        object.metadata.namespace = None;
        if let Err(error) = w.judge(&object).await {
            refusals.push(format!("{source}: {}: {error}", named(&object)));
        }
    }
    refusals
}

fn named(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map(|types| types.kind.as_str());
    format!("{} {}", kind.unwrap_or("?"), object.metadata.name.as_deref().unwrap_or("?"))
}

#[test]
fn every_manifest_is_accepted_by_the_api_server() {
    bare_world(async |w| {
        let files: Vec<_> = files(Path::new(FOLDER))
            .into_iter()
            .filter(|file| is_yaml(file) && !is_kustomization(file))
            .collect();
        assert!(!files.is_empty(), "{FOLDER} is empty");
        let mut refusals = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a text");
            refusals.extend(judged(w, &file.display().to_string(), &text).await);
        }
        assert!(refusals.is_empty(), "{refusals:#?}");
    });
}

#[test]
fn every_kustomization_builds_to_what_the_api_server_accepts() {
    bare_world(async |w| {
        let mut refusals = Vec::new();
        for file in files(Path::new(FOLDER)).into_iter().filter(|file| is_kustomization(file)) {
            let folder = file.parent().expect("a folder").display().to_string();
            let output = Command::new("kubectl").args(["kustomize", &folder]).output().expect("kubectl");
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{folder}: {words}");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            refusals.extend(judged(w, &folder, &text).await);
        }
        assert!(refusals.is_empty(), "{refusals:#?}");
    });
}

/// `kubectl` reads YAML 1.1, in which more words are no texts than in 1.2.
#[test]
fn what_an_import_writes_is_the_same_to_kubectl() {
    bare_world(async |_| {
        let texts = [
            "y",
            "n",
            "yes",
            "No",
            "ON",
            "off",
            "true",
            "null",
            "~",
            "",
            "1_000",
            "0x_1",
            "0o7",
            "010",
            "08",
            "0b11",
            "+5",
            ".5_0",
            "1e3",
            "1:30",
            "2020-01-01",
            ".inf",
            ".NaN",
            "<<",
            "=",
            "lazy",
            "10s",
            "it's",
        ];
        let keys = texts.iter().filter(|text| !text.is_empty());
        let mut arguments: Value = keys.map(|text| ((*text).to_owned(), json!(text))).collect();
        arguments["all"] = json!(texts);
        arguments["real"] = json!([true, 5, 1.5]);
        let binding: Binding = serde_json::from_value(json!({
            "apiVersion": "spillway.dev/v1alpha1", "kind": "Binding", "metadata": {"name": "n"},
            "spec": {"brokerRef": {"name": "off"}, "source": "y", "destination": {"queue": "1_000"}, "arguments": arguments},
        }))
        .expect("a Binding");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("what-kubectl-reads.yaml");
        std::fs::write(&file, yaml(&binding).expect("YAML")).expect("written");
        let apply = ["apply", "--dry-run=server", "--output=json", "--filename"];
        let output = Command::new("kubectl").args(apply).arg(&file).output().expect("kubectl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(read["spec"]["arguments"], arguments);
        assert_eq!(
            (&read["spec"]["source"], &read["spec"]["destination"]["queue"]),
            (&json!("y"), &json!("1_000"))
        );
    });
}
