//! The documentation holds: its links lead somewhere, its YAML is taken by the definitions, and no page is lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use spillway_operator::cli::offline::schema::Schemas;

/// All Markdown files that people read.
fn pages() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("README.md"), "CHANGELOG.md".into(), "hack/README.md".into()];
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
fn every_page_is_in_the_book() {
    let listed: BTreeSet<PathBuf> = links(&read(Path::new("docs/SUMMARY.md")))
        .into_iter()
        .map(|link| Path::new("docs").join(link))
        .collect();
    let mut pages = Vec::new();
    collect(Path::new("docs"), &mut pages);
    let lost: Vec<_> = pages
        .iter()
        .filter(|page| !listed.contains(*page) && !page.ends_with("SUMMARY.md"))
        // Listed by their own README.
        .filter(|page| !page.starts_with("docs/decisions"))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
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
                let ours =
                    value["apiVersion"].as_str().is_some_and(|version| version.starts_with("spillway.dev/"));
                if ours {
                    let kind = value["kind"].as_str().unwrap_or_default().to_owned();
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
    let table: String = page
        .lines()
        .skip_while(|line| !line.starts_with("| Verb"))
        .take_while(|line| line.starts_with('|'))
        .collect();
    let command = <spillway_operator::cli::Cli as clap::CommandFactory>::command();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        assert!(table.contains(&format!("`{}", verb.get_name())), "{} is not in {table}", verb.get_name());
    }
}
