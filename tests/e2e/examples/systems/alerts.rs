//! The alerts of the examples: their rules tested by promtool, and evaluated by a real Prometheus.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::alerts::Prometheus;
use crate::bed::World;
use crate::examples::FOLDER;

/// The groups of a `PrometheusRule`, as a rule file of Prometheus.
fn groups(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let rule: Value = serde_yaml::from_str(&text).expect("YAML");
    assert_eq!(rule["kind"], "PrometheusRule", "{}", file.display());
    serde_yaml::to_string(&rule["spec"]).expect("YAML")
}

/// A Prometheus that watches the world's operator with a file's rules, in which the world stands for `namespace`.
pub fn watch(w: &World, file: &str, namespace: &str) -> Prometheus {
    let rules = groups(&Path::new(FOLDER).join(file));
    let ours =
        rules.replace(&format!("namespace=\"{namespace}\""), &format!("namespace=\"{}\"", w.namespace));
    assert_ne!(ours, rules, "{file} names no namespace {namespace}");
    Prometheus::start(w, &ours)
}

fn rule_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(rule_files(&path));
        } else if path.file_name().is_some_and(|name| name == "prometheusrule.yaml") {
            found.push(path);
        }
    }
    found
}

/// `tests/examples/<folder>.yaml` holds promtool's tests of a folder's rules, which it calls `rules.yaml`.
#[test]
fn the_examples_alerts_fire_when_they_should_and_only_then() {
    let files = rule_files(Path::new(FOLDER));
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let folder = file.strip_prefix(FOLDER).expect("in it").iter().next().expect("a folder").to_owned();
        let folder = folder.to_str().expect("UTF-8");
        let scratch =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{folder}-rules-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).expect("a folder");
        let rules = groups(&file);
        std::fs::write(scratch.join("rules.yaml"), &rules).expect("written");
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/examples/{folder}.yaml"));
        let text =
            std::fs::read_to_string(&tests).unwrap_or_else(|error| panic!("{}: {error}", tests.display()));
        std::fs::write(scratch.join("tests.yaml"), &text).expect("written");
        for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"]] {
            let output = Command::new("promtool").args(arguments).current_dir(&scratch).output();
            let output = output.expect("promtool: hack/testbed up tools, and its env");
            let words = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&words));
        }
        let groups: Value = serde_yaml::from_str(&rules).expect("YAML");
        for rule in groups["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
        {
            let alert = rule["alert"].as_str().expect("an alert");
            assert!(text.contains(&format!("alertname: {alert}")), "{folder}: no test fires {alert}");
        }
        let _ = std::fs::remove_dir_all(&scratch);
    }
}

#[test]
fn the_examples_alerts_and_dashboards_read_metrics_that_there_are() {
    let documented = include_str!("../../../../docs/metrics.md");
    let mut files = rule_files(Path::new(FOLDER));
    files.push(Path::new(FOLDER).join("07-queue-service/monitoring/queue-service.json"));
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a text");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<_> = words.filter(|word| word.starts_with("spillway_")).collect();
        assert!(!names.is_empty(), "{}", file.display());
        for name in names {
            assert!(documented.contains(&format!("`{name}`")), "{}: there is no {name}", file.display());
        }
    }
}
