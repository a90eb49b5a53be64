//! A plan as a person reads it, and as a program does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use serde::Serialize;

use super::entry::{self, Action, Entry, Summary};
use super::input::Wrong;
use super::links::Links;
use super::objects::{Objects, key};
use crate::legible::legible;
use crate::topology::Rejection;

/// Whether standard output takes colours: a terminal, and nobody said `NO_COLOR`.
#[must_use]
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How a plan is printed for programs. Fields are added, never renamed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    /// All objects, in the order of the input, companions before their parents.
    objects: Vec<Row<'a>>,
    /// Brokers that cannot be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    brokers: Vec<BrokerRow<'a>>,
    /// Documents that cannot be used.
    wrong: Vec<WrongRow>,
    /// How many documents of other kinds there were.
    left_alone: &'a BTreeMap<String, usize>,
    /// Where there was JSON in a folder that is no manifest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    no_manifests: Vec<String>,
    /// How many objects have which fate.
    summary: Summary,
    /// Stands for the whole plan.
    hash: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    kind: &'static str,
    namespace: &'a str,
    metadata_name: &'a str,
    broker: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vhost: Option<&'a str>,
    name: &'a str,
    source: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    companion_of: Vec<&'a str>,
    action: Action,
    steps: &'a [String],
    notes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<&'a str>,
    /// Of an apply: whether the steps were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorRow<'a>>,
}

#[derive(Serialize)]
struct ErrorRow<'a> {
    reason: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct BrokerRow<'a> {
    broker: &'a str,
    error: ErrorRow<'a>,
}

#[derive(Serialize)]
struct WrongRow {
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    message: String,
}

impl From<&Wrong> for WrongRow {
    fn from(wrong: &Wrong) -> Self {
        Self { source: wrong.origin.to_string(), object: wrong.object.clone(), message: wrong.what.clone() }
    }
}

/// The objects of a plan whose steps were to be taken and failed.
pub type Failures<'a> = [(&'a Entry, Rejection)];

/// The plan as data; with what became of it, where it was carried out.
#[must_use]
pub fn report<'a>(
    entries: &'a [Entry],
    objects: &'a Objects,
    links: &'a Links,
    summary: Summary,
    failures: Option<&'a Failures<'a>>,
) -> Report<'a> {
    let told = |error: &'a Rejection| ErrorRow { reason: error.reason.as_str(), message: &error.message };
    let rows = entries.iter().map(|entry| {
        let candidate = &entry.candidate;
        let failed = failures.unwrap_or_default().iter().find(|(failed, _)| std::ptr::eq(*failed, entry));
        let rejection = entry.outcome.as_ref().err().or(failed.map(|(_, rejection)| rejection));
        let change = entry.outcome.as_ref().ok();
        Row {
            kind: candidate.kind,
            namespace: &candidate.namespace,
            metadata_name: &candidate.metadata_name,
            broker: &candidate.broker,
            vhost: candidate.vhost.as_deref(),
            name: &candidate.name,
            source: candidate.origin.to_string(),
            companion_of: candidate.companion_of.iter().map(String::as_str).collect(),
            action: entry.action(),
            steps: change.map_or(&[], |change| &change.steps),
            notes: change.map_or(&[], |change| &change.notes),
            hash: change.filter(|change| !change.steps.is_empty()).map(|change| change.hash.as_str()),
            applied: failures.filter(|_| entry.action().pending()).map(|_| failed.is_none()),
            error: rejection.map(told),
        }
    });
    Report {
        objects: rows.collect(),
        brokers: links.broken().map(|(broker, error)| BrokerRow { broker, error: told(error) }).collect(),
        wrong: objects.wrong.iter().map(WrongRow::from).collect(),
        left_alone: &objects.left_alone,
        no_manifests: objects.no_manifests.iter().map(ToString::to_string).collect(),
        summary,
        hash: entry::hash(entries),
    }
}

/// The plan as a table: what is in step only with `all`. Objects of a Broker that cannot be used
/// share one line.
#[must_use]
pub fn table(entries: &[Entry], links: &Links, all: bool, colours: bool) -> String {
    let mut lines: Vec<Line> = Vec::new();
    for (key, rejection) in links.broken() {
        let waiting = entries.iter().filter(|entry| entry.candidate.broker == key).count();
        if waiting == 0 && links.knows(key) {
            // Its guard rails hold, and nothing else is asked of it.
            continue;
        }
        let words = vec![
            rejection.message.clone(),
            match waiting {
                0 => "(no object names it; should it be the oldest of its cluster, its guard rails are not known here)".into(),
                1 => "(1 object waits for it)".into(),
                waiting => format!("({waiting} objects wait for it)"),
            },
        ];
        lines.push(Line::new(Action::Error, "Broker", key, key, &words));
    }
    for entry in entries {
        let action = entry.action();
        let candidate = &entry.candidate;
        let broken = links
            .get(&candidate.broker)
            .is_err_and(|_| links.broken().any(|(key, _)| key == candidate.broker));
        if broken || (action == Action::None && !all) {
            continue;
        }
        let words = match &entry.outcome {
            Ok(change) => change.steps.iter().chain(&change.notes).cloned().collect(),
            Err(error) => vec![format!("{}: {}", error.reason.as_str(), error.message)],
        };
        let broker = match &candidate.vhost {
            Some(vhost) if vhost != "/" => format!("{} {vhost}", candidate.broker),
            _ => candidate.broker.clone(),
        };
        lines.push(Line::new(action, candidate.kind, &candidate.name, &broker, &words));
    }
    if lines.is_empty() {
        return String::new();
    }
    let width = |of: fn(&Line) -> &str, head: &str| {
        lines.iter().map(|line| of(line).chars().count()).chain([head.len()]).max().unwrap_or(0).min(60)
    };
    let widths = [
        width(|l| l.action.word(), "ACTION"),
        width(|l| l.kind, "KIND"),
        width(|l| &l.name, "NAME"),
        width(|l| &l.broker, "BROKER"),
    ];
    let mut text = String::new();
    let [action, kind, name, broker] = widths;
    let _ = writeln!(
        text,
        "{:action$}  {:kind$}  {:name$}  {:broker$}  CHANGES",
        "ACTION", "KIND", "NAME", "BROKER"
    );
    let indent = widths.iter().sum::<usize>() + 8;
    for line in &lines {
        let word = format!("{:action$}", line.action.word());
        let word = if colours { format!("\x1b[{}m{word}\x1b[0m", colour(line.action)) } else { word };
        let mut words = line.words.iter();
        let first = words.next().map_or("", String::as_str);
        let row =
            format!("{word}  {:kind$}  {:name$}  {:broker$}  {first}", line.kind, line.name, line.broker);
        let _ = writeln!(text, "{}", row.trim_end());
        for more in words {
            let _ = writeln!(text, "{:indent$}{more}", "");
        }
    }
    text
}

struct Line {
    action: Action,
    kind: &'static str,
    name: String,
    broker: String,
    words: Vec<String>,
}

impl Line {
    fn new(action: Action, kind: &'static str, name: &str, broker: &str, words: &[String]) -> Self {
        let words = words.iter().map(|words| printable(words)).collect();
        Self { action, kind, name: printable(name), broker: printable(broker), words }
    }
}

/// Names come from brokers and may hold what a terminal obeys, or does not show.
#[must_use]
pub fn printable(text: &str) -> String {
    legible(text)
}

const fn colour(action: Action) -> u8 {
    match action {
        Action::None => 2,
        Action::Create => 32,
        Action::Change => 33,
        Action::Observe | Action::Paused => 36,
        Action::Error => 31,
    }
}

/// The last line: how many of what, and what was left alone.
#[must_use]
pub fn summary(summary: &Summary, objects: &Objects) -> String {
    let mut parts = Vec::new();
    for (count, what) in [
        (summary.create, "to create"),
        (summary.change, "to change"),
        (summary.observed, "observed only and different"),
        (summary.paused, "paused"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.push(format!("{} in step", summary.in_step));
    if summary.errors > 0 {
        parts.push(format!("{} error{}", summary.errors, if summary.errors == 1 { "" } else { "s" }));
    }
    let mut text = format!("Plan: {}.", parts.join(", "));
    if let Some(words) = objects.left_alone_words() {
        let _ = write!(text, " {words}");
    }
    text
}

/// `Kind "name"` on its Broker, for a message about one object.
#[must_use]
pub fn title(entry: &Entry) -> String {
    let candidate = &entry.candidate;
    let object = key(&candidate.namespace, &candidate.metadata_name);
    format!("{} {object} ({} on {})", candidate.kind, printable(&candidate.name), candidate.broker)
}
