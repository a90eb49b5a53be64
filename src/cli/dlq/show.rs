//! Dead letters on paper. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::place::Place;
use super::read::Looked;
use crate::cli::CliError;
use crate::cli::columns::columns;
use crate::cli::offline::show::printable;
use crate::cli::output::Format;

/// One place in the list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    kind: &'static str,
    namespace: String,
    broker: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vhost: Option<String>,
    name: String,
    of: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Row {
    /// What is known of a place.
    pub fn of(place: &Place, count: Result<u64, String>) -> Self {
        let (messages, note) = match count {
            Ok(count) => (Some(count), None),
            Err(why) => (None, Some(why)),
        };
        Self {
            kind: place.kind.as_str(),
            namespace: place.namespace.clone(),
            broker: format!("{}/{}", place.broker.0, place.broker.1),
            vhost: place.vhost.clone(),
            name: place.name.clone(),
            of: place.of.clone(),
            messages,
            note,
        }
    }
}

/// All places.
pub fn list(rows: &[Row], format: Format) -> Result<String, CliError> {
    if let Some(text) = format.structured(rows) {
        return text;
    }
    if rows.is_empty() {
        return Ok("Nothing here has dead letters declared.\n".into());
    }
    let mut cells =
        vec![["NAMESPACE", "KIND", "DEAD LETTERS", "OF", "MESSAGES", "BROKER"].map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(|row| {
        let name = match row.vhost.as_deref() {
            Some(vhost) if vhost != "/" => format!("{} in {vhost}", row.name),
            _ => row.name.clone(),
        };
        vec![
            row.namespace.clone(),
            row.kind.to_owned(),
            printable(&name),
            row.of.join(","),
            row.messages.map_or_else(|| "?".into(), |count| count.to_string()),
            row.broker.clone(),
        ]
    }));
    let mut text = columns(&cells);
    for row in rows {
        if let Some(note) = &row.note {
            let _ = writeln!(text, "{}: not known: {}", printable(&row.name), printable(note));
        }
    }
    Ok(text)
}

/// Letters of one place.
pub fn letters(place: &Place, looked: &Looked, format: Format) -> Result<String, CliError> {
    let letters = &looked.letters;
    if let Some(text) = format.structured(letters) {
        return text;
    }
    let mut text = String::new();
    for letter in letters {
        let _ = write!(text, "{} {}", printable(&place.name), letter.at);
        for part in [&letter.time, &letter.key].into_iter().flatten() {
            let _ = write!(text, "  {}", printable(part));
        }
        text.push('\n');
        for (name, value) in &letter.headers {
            let _ = writeln!(text, "  {}: {}", printable(name), printable(value));
        }
        let more = if letter.base64 { "base64, " } else { "" };
        let _ = writeln!(text, "  ({more}{} bytes) {}\n", letter.bytes, printable(&letter.body));
    }
    let count = if letters.len() == 1 { "1 message".into() } else { format!("{} messages", letters.len()) };
    let left = if looked.moved {
        "now behind all others: a quorum queue takes back at its end what was looked at"
    } else {
        "left where they are"
    };
    let _ = writeln!(text, "{count} of {}, {left}.", place.in_words());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::place::Kind;
    use super::super::read::Letter;
    use super::*;

    fn place() -> Place {
        Place {
            kind: Kind::Queue,
            namespace: "shop".into(),
            broker: ("shop".into(), "rabbitmq".into()),
            vhost: Some("/".into()),
            name: "orders.dlq".into(),
            of: vec!["orders".into()],
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        let rows = [Row::of(&place(), Ok(3)), Row::of(&place(), Err("the queue has no leader".into()))];
        let text = list(&rows, Format::Table).unwrap();
        assert!(text.contains("orders.dlq    orders  3         shop/rabbitmq"), "{text}");
        assert!(text.contains("orders.dlq: not known: the queue has no leader"), "{text}");
    }

    #[test]
    fn control_characters_of_a_message_do_not_reach_the_terminal() {
        let letter = Letter { at: "1".into(), body: "\x1b[31mred".into(), ..Letter::default() };
        let text = letters(&place(), &vec![letter].into(), Format::Table).unwrap();
        assert!(!text.contains('\x1b'), "{text}");
        let reversed = |text: &str| format!("{text}\u{202e}gpj.exe");
        let headers = vec![(reversed("x-error"), reversed("no"))];
        let letter = Letter { at: "2".into(), body: reversed("photo"), headers, ..Letter::default() };
        let queue = Place { name: reversed("orders"), ..place() };
        let shown = letters(&queue, &vec![letter].into(), Format::Table).unwrap();
        assert!(!shown.contains('\u{202e}') && shown.contains("photo\\u{202e}gpj.exe"), "{shown}");
        assert!(text.ends_with("1 message of queue \"orders.dlq\", left where they are.\n"), "{text}");
        let moved = Looked { letters: vec![Letter::default()], moved: true };
        let text = letters(&place(), &moved, Format::Table).unwrap();
        assert!(text.contains("1 message of queue \"orders.dlq\", now behind all others"), "{text}");
    }
}
