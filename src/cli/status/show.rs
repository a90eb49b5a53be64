//! The status on paper. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::item::{Item, Report, State};
use crate::cli::CliError;
use crate::cli::columns::columns;
use crate::cli::offline::show::printable;
use crate::cli::output::Format;

/// How much of a message a line of the table shows, in characters.
const MESSAGE: usize = 120;

/// In the chosen form.
pub fn text(report: &Report, format: Format, colours: bool) -> Result<String, CliError> {
    format.structured(report).unwrap_or_else(|| Ok(table(report, format == Format::Wide, colours)))
}

fn table(report: &Report, wide: bool, colours: bool) -> String {
    let mut text = String::new();
    let operator = format!("Operator: {}", printable(&report.operator.message));
    let _ = writeln!(text, "{}", paint(colours, report.operator.leads != Some(true), &operator));
    let shown: Vec<&Item> = report.objects.iter().filter(|item| wide || item.state != State::Ready).collect();
    if !shown.is_empty() {
        let heads = ["STATE", "KIND", "NAMESPACE", "NAME", "REASON", "SINCE", "MESSAGE"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        rows.extend(shown.iter().map(|item| row(item, wide)));
        for (number, line) in columns(&rows).lines().enumerate() {
            let bad = number > 0 && shown[number - 1].state <= State::NotReady;
            let _ = writeln!(text, "{}", paint(colours, bad, line));
        }
    }
    text + &summary(report) + "\n"
}

fn row(item: &Item, wide: bool) -> Vec<String> {
    let message = printable(&item.message);
    let cut = |message: String| match message.char_indices().nth(MESSAGE) {
        Some((end, _)) if !wide => format!("{}…", &message[..end]),
        _ => message,
    };
    vec![
        item.state.as_str().to_owned(),
        item.kind.clone(),
        item.namespace.clone(),
        item.name.clone(),
        item.reason.clone(),
        item.since.clone().unwrap_or_default(),
        cut(message),
    ]
}

/// How many of each kind there are, and are ready.
fn summary(report: &Report) -> String {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for item in &report.objects {
        let (ready, all) = counts.entry(&item.kind).or_default();
        *all += 1;
        *ready += usize::from(item.state == State::Ready);
    }
    if counts.is_empty() {
        return "There are no objects of Spillway's here.".into();
    }
    let kinds: Vec<_> = counts.iter().map(|(kind, (ready, all))| format!("{kind} {ready}/{all}")).collect();
    format!("Ready: {}", kinds.join(", "))
}

fn paint(colours: bool, bad: bool, line: &str) -> String {
    if colours && bad { format!("\x1b[31m{line}\x1b[0m") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::item::Operator;
    use super::*;

    fn item(state: State, name: &str, message: &str) -> Item {
        Item {
            state,
            kind: "Topic".into(),
            namespace: "shop".into(),
            name: name.into(),
            reason: "BrokerRefused".into(),
            since: Some("2026-11-21T12:00:00Z".into()),
            message: message.into(),
        }
    }

    fn report(objects: Vec<Item>) -> Report {
        Report {
            operator: Operator { leads: Some(true), message: "pod leads".into(), leases: Vec::new() },
            objects,
        }
    }

    #[test]
    fn what_is_ready_is_only_counted() {
        let report = report(vec![item(State::Stalled, "bad", "no"), item(State::Ready, "good", "fine")]);
        let shown = text(&report, Format::Table, false).unwrap();
        assert!(shown.contains("Stalled  Topic  shop       bad   BrokerRefused"), "{shown}");
        assert!(!shown.contains("good"), "{shown}");
        assert!(shown.ends_with("Ready: Topic 1/2\n"), "{shown}");
        assert!(text(&report, Format::Wide, false).unwrap().contains("good"));
    }

    #[test]
    fn a_long_message_is_cut_only_in_the_table() {
        let report = report(vec![item(State::NotReady, "bad", &"ä".repeat(300))]);
        assert!(text(&report, Format::Table, false).unwrap().contains("…"));
        assert!(!text(&report, Format::Wide, false).unwrap().contains("…"));
    }

    #[test]
    fn colours_are_for_terminals() {
        let report = report(vec![item(State::NotReady, "bad", "no")]);
        assert!(!text(&report, Format::Table, false).unwrap().contains('\x1b'));
        assert!(text(&report, Format::Table, true).unwrap().contains("\x1b[31mNotReady"));
    }
}
