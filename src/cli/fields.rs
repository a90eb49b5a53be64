//! `spillway fields KIND`: every field of a kind as a Markdown table, as docs/reference/ has it. From the same schema that
//! the API server checks and `kubectl explain` shows.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::CliError;
use super::output::print;
use crate::api;

/// The arguments of `spillway fields`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A kind, such as Topic
    #[arg(value_name = "KIND")]
    pub kind: String,
}

/// Prints the tables.
pub fn execute(args: &Args) -> Result<(), CliError> {
    let text = of(&args.kind).ok_or_else(|| CliError(format!("kind {:?} is not known", args.kind)))?;
    print(&text)
}

fn of(kind: &str) -> Option<String> {
    let crd = api::crds().into_iter().find(|crd| crd.spec.names.kind.eq_ignore_ascii_case(kind))?;
    let schema = crd.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    let schema = serde_json::to_value(schema).ok()?;
    let mut text = String::new();
    for part in ["spec", "status"] {
        let Some(of_part) = schema["properties"].get(part) else { continue };
        let mut rows = Rows::default();
        rows.object(part, of_part);
        let _ = writeln!(text, "## {part}\n\n| Field | Type | Default | Meaning |\n|---|---|---|---|");
        text.push_str(&rows.table);
        if !rows.rules.is_empty() {
            let _ = writeln!(text, "\nRefused at admission, with these words:\n");
            for rule in rows.rules {
                let _ = writeln!(text, "- {rule}");
            }
        }
        text.push('\n');
    }
    Some(text.trim_end().to_owned() + "\n")
}

#[derive(Default)]
struct Rows {
    table: String,
    rules: Vec<String>,
}

impl Rows {
    /// The fields of an object, each followed by its own.
    fn object(&mut self, path: &str, schema: &Value) {
        self.rules_of(schema);
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            self.row(&path, field, required.contains(&name.as_str()));
            self.below(&path, field);
        }
    }

    fn below(&mut self, path: &str, field: &Value) {
        if field["items"]["properties"].is_object() {
            self.rules_of(field);
            self.object(&format!("{path}[]"), &field["items"]);
        } else {
            self.object(path, field);
        }
    }

    fn row(&mut self, path: &str, field: &Value, required: bool) {
        let default = match field.get("default") {
            Some(default) => format!("`{}`", plain(default)),
            None if required => "required".into(),
            None => String::new(),
        };
        let mut meaning = one_line(field["description"].as_str().unwrap_or_default());
        let limits = limits(field);
        if !limits.is_empty() {
            let _ = write!(meaning, " ({limits})");
        }
        let _ = writeln!(
            self.table,
            "| `{path}` | {} | {} | {} |",
            cell(&kind(field)),
            cell(&default),
            cell(meaning.trim())
        );
    }

    fn rules_of(&mut self, schema: &Value) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            if let Some(message) = rule["message"].as_str() {
                let message = one_line(message);
                if !self.rules.contains(&message) {
                    self.rules.push(message);
                }
            }
        }
    }
}

fn kind(field: &Value) -> String {
    let choices = |field: &Value| {
        let all = field["enum"].as_array()?;
        Some(
            all.iter()
                .filter(|one| !one.is_null())
                .map(|one| format!("`{}`", plain(one)))
                .collect::<Vec<_>>(),
        )
    };
    if let Some(choices) = choices(field) {
        return choices.join(", ");
    }
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".into();
    }
    match field["type"].as_str() {
        Some("array") => format!("list of {}", kind(&field["items"])),
        Some("object") if field["additionalProperties"].is_object() => {
            format!("map of {}", kind(&field["additionalProperties"]))
        }
        Some(kind) => kind.to_owned(),
        None => "any".into(),
    }
}

/// Bounds, in words.
fn limits(field: &Value) -> String {
    let number = |name: &str| field.get(name).and_then(Value::as_f64);
    let range = |least: &str, most: &str, unit: &str| match (number(least), number(most)) {
        (Some(least), Some(most)) if (least - most).abs() < f64::EPSILON => Some(format!("{least}{unit}")),
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    };
    let parts = [
        range("minimum", "maximum", ""),
        range("minLength", "maxLength", " characters"),
        range("minItems", "maxItems", " items"),
        range("minProperties", "maxProperties", " entries"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "\"\"".into(),
        Value::String(text) => text.clone(),
        Value::Object(map) if *map == Map::new() => "{}".into(),
        other => other.to_string(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A pipe ends a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_fields_with_type_default_and_limits() {
        for crd in api::crds() {
            let kind = crd.spec.names.kind;
            let text = of(&kind).unwrap();
            assert!(text.contains("## spec") && text.contains("## status"), "{kind}: {text}");
            assert!(
                text.lines().filter(|line| line.starts_with("| `")).all(|line| {
                    // Four cells, and something in the last one.
                    line.replace("\\|", "").matches('|').count() == 5 && !line.ends_with("|  |")
                }),
                "{kind}: {text}"
            );
        }
        let topic = of("topic").unwrap();
        assert!(topic.contains("| `spec.deadLetter.partitions` | integer |"), "{topic}");
        assert!(topic.contains("`Retain`, `Delete`, `DeleteIfEmpty`"), "{topic}");
        assert!(topic.contains("| `spec.brokerRef.name` | string | required |"), "{topic}");
        assert_eq!(of("Nothing"), None);
    }
}
