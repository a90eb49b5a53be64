//! The documentation holds: its links lead somewhere, its YAML is taken by the definitions, and no page is lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize as _;
use spillway_operator::cli::offline::schema::Schemas;

/// All Markdown files that people read.
fn pages() -> Vec<PathBuf> {
    let mut found =
        ["README.md", "CHANGELOG.md", "SECURITY.md", "hack/README.md"].map(PathBuf::from).to_vec();
    for folder in ["docs", "charts", "manifests", "examples"] {
        collect(Path::new(folder), &mut found);
    }
    found.retain(|path| path.exists());
    assert!(found.len() > 20, "{found:?}");
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text without what stands in code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    prose
}

fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let targets = prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// A heading as the anchor that it gets.
fn anchor(heading: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(|c| kept(*c)).collect::<String>().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if !fenced && line.starts_with('#') {
            found.insert(anchor(line.trim_start_matches('#')));
        }
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let there = target.exists();
            let named =
                heading.is_empty() || !there || target.is_dir() || anchors(&read(&target)).contains(heading);
            if !there || !named {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_versions_that_are_called_tested_are_those_of_the_test_bed() {
    let (page, bed) = (read(Path::new("docs/install.md")), read(Path::new("hack/testbed.d/versions")));
    let chart = read(Path::new("charts/spillway/Chart.yaml"));
    let row = |name: &str| {
        let row = page.lines().find(|line| line.starts_with(&format!("| {name} |")));
        row.unwrap_or_else(|| panic!("{name} has no row"))
    };
    for (name, variable) in
        [("Kubernetes", "K8S_VERSION="), ("Helm", "HELM_VERSION="), ("Kafka", "KAFKA_VERSION=")]
    {
        let pinned = bed.lines().find_map(|line| line.strip_prefix(variable)).expect(variable);
        let version = pinned.split_whitespace().next().expect("a version");
        assert!(row(name).starts_with(&format!("| {name} | {version}")), "{}: not {version}", row(name));
    }
    // Debian says which RabbitMQ it is, and the bed's comment says what Debian does.
    let minor =
        bed.split("has RabbitMQ ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("one");
    assert!(row("RabbitMQ").starts_with(&format!("| RabbitMQ | {minor}.")), "{}", row("RabbitMQ"));
    let least =
        chart.split("kubeVersion: \">=").nth(1).and_then(|rest| rest.split(".0-0").next()).expect("one");
    assert!(row("Kubernetes").contains(&format!("| {least} and later")), "{}", row("Kubernetes"));
}

/// The pages as the book has them.
fn book() -> PathBuf {
    let output = Command::new("hack/book").arg("--sources").output().expect("hack/book");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from("target/book-src")
}

#[test]
fn every_page_is_in_the_book_and_every_link_in_the_book_leads_to_one() {
    let book = book();
    let summary = links(&read(&book.join("SUMMARY.md")));
    let listed: BTreeSet<PathBuf> = summary.iter().map(|link| book.join(link)).collect();
    assert_eq!(listed.len(), summary.len(), "a page is listed twice");
    let mut pages = Vec::new();
    collect(&book, &mut pages);
    pages.retain(|page| !page.ends_with("SUMMARY.md"));
    let lost: Vec<_> = pages.iter().filter(|page| !listed.contains(*page)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let mut broken = Vec::new();
    for page in &pages {
        for link in links(&read(page)) {
            let file = link.split('#').next().unwrap_or_default();
            let target = page.parent().expect("a folder").join(file);
            let inside =
                target.canonicalize().is_ok_and(|path| path.starts_with(book.canonicalize().unwrap()));
            let rendered = file.is_empty() || (inside && target.is_file());
            if !rendered {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The blocks of a language, each with the line on which it begins.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim_start();
        match &mut open {
            Some((at, _, block)) if bare.starts_with("```") => {
                found.push((*at, std::mem::take(block)));
                open = None;
            }
            Some((_, indent, block)) => {
                block.push_str(line.get(*indent..).unwrap_or(""));
                block.push('\n');
            }
            None if bare.strip_prefix("```").is_some_and(|rest| rest.trim() == language) => {
                open = Some((number + 1, line.len() - bare.len(), String::new()));
            }
            None => {}
        }
    }
    found
}

const KINDS: [&str; 6] = ["Broker", "Topic", "Exchange", "Queue", "Binding", "Consumer"];

#[test]
fn every_yaml_block_is_good() {
    let schemas = Schemas::new();
    let (mut wrong, mut objects) = (Vec::new(), 0);
    for page in pages() {
        for (line, block) in blocks(&read(&page), "yaml") {
            for document in serde_yaml::Deserializer::from_str(&block) {
                let place = format!("{}:{line}", page.display());
                let mut value = match serde_json::Value::deserialize(document) {
                    Ok(value) => value,
                    Err(error) => {
                        wrong.push(format!("{place}: {error}"));
                        break;
                    }
                };
                let kind = value["kind"].as_str().unwrap_or_default().to_owned();
                // An excerpt may leave out what is the same everywhere.
                if value.get("apiVersion").is_none() && KINDS.contains(&kind.as_str()) {
                    value["apiVersion"] = "spillway.dev/v1alpha1".into();
                    value["metadata"] = serde_json::json!({"name": "excerpt"});
                }
                let ours =
                    value["apiVersion"].as_str().is_some_and(|version| version.starts_with("spillway.dev/"));
                if ours {
                    wrong.extend(
                        schemas.check(&kind, &mut value).into_iter().map(|what| format!("{place}: {what}")),
                    );
                    objects += 1;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(objects > 10, "only {objects} objects were looked at");
}

#[test]
fn the_command_line_page_names_every_verb_and_no_other() {
    let page = read(Path::new("docs/command-line.md"));
    let table: Vec<_> = page
        .lines()
        .skip_while(|line| !line.starts_with("| Verb"))
        .take_while(|line| line.starts_with('|'))
        .collect();
    let table = table.join("\n");
    let command = <spillway_operator::cli::Cli as clap::CommandFactory>::command();
    let visible = command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
    let verbs: BTreeSet<_> = visible.map(clap::Command::get_name).collect();
    let first = table.lines().skip(2).filter_map(|line| line.split('|').nth(1));
    let named: BTreeSet<_> = first
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter_map(|verb| verb.split(' ').next())
        .collect();
    assert_eq!(named, verbs);
}

#[test]
fn the_scaling_page_names_every_bound_and_every_guard() {
    use spillway_operator::scaling::{Bound, ConditionKind};
    let page = read(Path::new("docs/scaling.md"));
    for (at, kind) in ConditionKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, at, "all of them, in their order: {kind:?}");
    }
    let names = Bound::ALL.iter().map(|b| b.as_str()).chain(ConditionKind::ALL.iter().map(|c| c.as_str()));
    let missing: Vec<&str> = names.filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert_eq!(missing, [""; 0], "in no table of docs/scaling.md");
}

/// Words by which kubectl would take another operator's kind, or Kubernetes' own, if that comes first.
fn ambiguous(command: &str) -> Option<&str> {
    let command = command.split(" -- ").next()?.split(" | ").next()?;
    let mut words = command.split_whitespace().skip_while(|word| *word != "kubectl").skip(1).peekable();
    if words.peek() == Some(&"spillway") {
        return None;
    }
    let values = ["-n", "--namespace", "-o", "-l", "--selector", "-c"];
    let mut value_comes = false;
    words
        .filter(|word| !std::mem::replace(&mut value_comes, values.contains(word)) && !word.starts_with('-'))
        // {topics,queues}.spillway.dev is the shell's.
        .filter(|word| !word.contains('{'))
        .flat_map(|word| word.split(','))
        .find(|word| {
            let kind = word.split('/').next().unwrap_or_default();
            let kind = kind.strip_suffix('s').unwrap_or(kind);
            KINDS.iter().any(|known| known.eq_ignore_ascii_case(kind))
        })
}

#[test]
fn a_word_that_may_mean_anothers_kind_is_found() {
    assert_eq!(ambiguous("kubectl delete consumers.spillway.dev,queues --all -A"), Some("queues"));
    assert_eq!(ambiguous("kubectl -n shop get topic/orders -o yaml"), Some("topic/orders"));
    assert_eq!(ambiguous("for x in a; do kubectl get Brokers"), Some("Brokers"));
    for fine in [
        "kubectl get swt,swq",
        "kubectl delete crd {topics,queues}.spillway.dev",
        "kubectl -n brokers exec deploy/kafka -- kafka-topics --topic topic",
        "kubectl -n queue get topics.spillway.dev",
        "kubectl spillway explain consumer/orders",
        "spillway dlq show topic/orders",
    ] {
        assert_eq!(ambiguous(fine), None, "{fine}");
    }
}

#[test]
fn kubectl_is_told_whose_kinds_are_meant() {
    let mut found = Vec::new();
    for page in pages().into_iter().filter(|page| page.starts_with("docs")) {
        let text = read(&page);
        let typed = blocks(&text, "console")
            .into_iter()
            .flat_map(|(line, block)| block.lines().map(|text| (line, text.to_owned())).collect::<Vec<_>>());
        let prose = text.lines().enumerate().flat_map(|(number, line)| {
            line.split('`').skip(1).step_by(2).map(move |code| (number + 1, code.to_owned()))
        });
        for (line, command) in typed.chain(prose) {
            if let Some(word) = ambiguous(&command) {
                found.push(format!("{}:{line}: {word} in {command}", page.display()));
            }
        }
    }
    assert!(found.is_empty(), "say topics.spillway.dev or swt: {found:#?}");
}
