//! Lag on paper. Pure.

use std::fmt::Write as _;

use super::{Lag, Part};
use crate::cli::CliError;
use crate::cli::columns::columns;
use crate::cli::offline::show::printable;
use crate::cli::output::Format;

/// In the chosen form. `each`: a table has a line for each partition, too.
pub fn text(lags: &[Lag], format: Format, each: bool) -> Result<String, CliError> {
    let wide = format == Format::Wide;
    format.structured(lags).unwrap_or_else(|| Ok(table(lags, wide, each || wide)))
}

const HEADS: [&str; 10] =
    ["NAMESPACE", "CONSUMER", "READS", "PARTITION", "LAG", "WORST", "IN/S", "OUT/S", "BEHIND", "REPLICAS"];
const WIDE_HEADS: [&str; 3] = ["COMMITTED/READY", "END/UNACKED", "SOURCE"];

fn table(lags: &[Lag], wide: bool, each: bool) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let heads = HEADS.iter().chain(if wide { &WIDE_HEADS[..] } else { &[] });
    rows.push(heads.map(ToString::to_string).collect());
    for lag in lags {
        let parts = match lag.parts.as_slice() {
            // A queue has no partitions.
            [only] if only.end.is_none() => "-".to_owned(),
            [] => "-".to_owned(),
            all => all.len().to_string(),
        };
        let mut row = vec![
            lag.namespace.clone(),
            lag.consumer.clone(),
            printable(&lag.reads),
            parts,
            count(lag.lag),
            worst(&lag.parts),
            rate(lag.arrival),
            rate(lag.done),
            behind(lag.seconds),
            replicas(lag),
        ];
        if wide {
            let queue = lag.parts.first().filter(|part| part.end.is_none());
            row.push(queue.map_or_else(String::new, |queue| count(queue.ready)));
            row.push(queue.map_or_else(String::new, |queue| count(queue.unacked)));
            row.push(lag.source.to_owned());
        }
        rows.push(row);
        if each {
            rows.extend(lag.parts.iter().filter(|part| part.end.is_some()).map(|part| partition(part, wide)));
        }
    }
    let mut text = columns(&rows);
    for lag in lags {
        if let Some(note) = &lag.note {
            let _ = writeln!(
                text,
                "{}/{}: from the status, up to a minute old: {}",
                lag.namespace,
                lag.consumer,
                printable(note)
            );
        }
    }
    text
}

/// The partition with the most lag, where another could have had it.
fn worst(parts: &[Part]) -> String {
    let lagging = parts.iter().filter(|part| part.lag.is_some_and(|lag| lag > 0));
    match lagging.max_by_key(|part| part.lag) {
        Some(part) if parts.len() > 1 => printable(&part.name),
        _ => "-".to_owned(),
    }
}

fn partition(part: &Part, wide: bool) -> Vec<String> {
    let mut row = vec![
        String::new(),
        String::new(),
        String::new(),
        printable(&part.name),
        count(part.lag),
        String::new(),
        rate(part.arrival),
        rate(part.done),
        behind(part.seconds),
        String::new(),
    ];
    if wide {
        row.extend([count(part.position), count(part.end), String::new()]);
    }
    row
}

fn count(number: Option<u64>) -> String {
    number.map_or_else(|| "?".into(), |number| number.to_string())
}

fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "?".into(),
        Some(rate) if rate > 0.0 && rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

/// Seconds in the two largest units.
fn behind(seconds: Option<f64>) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // It saturates, which is what is meant.
    let Some(seconds) = seconds.map(|seconds| seconds.max(0.0).ceil() as u64) else {
        return "?".into();
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

fn replicas(lag: &Lag) -> String {
    match (lag.replicas, lag.desired) {
        (Some(now), Some(wanted)) if now != wanted => format!("{now}→{wanted}"),
        (Some(now), _) => now.to_string(),
        (None, _) => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag() -> Lag {
        let part = |number: u64, lag| Part {
            name: format!("orders/{number}"),
            lag: Some(lag),
            position: Some(100),
            end: Some(100 + lag),
            ..Part::default()
        };
        Lag {
            namespace: "shop".into(),
            consumer: "order".into(),
            reads: "group order-service".into(),
            replicas: Some(1),
            desired: Some(3),
            lag: Some(300),
            arrival: Some(12.3),
            done: Some(4.56),
            seconds: Some(75.2),
            source: "broker",
            parts: vec![part(0, 100), part(1, 200)],
            ..Lag::default()
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_group_and_one_for_each_partition_of_a_named_one() {
        let lags = [lag()];
        assert_eq!(
            text(&lags, Format::Table, false).unwrap(),
            "NAMESPACE  CONSUMER  READS                PARTITION  LAG  WORST     IN/S  OUT/S  BEHIND  REPLICAS\n\
             shop       order     group order-service  2          300  orders/1  12    4.6    1m16s   1→3\n"
        );
        let each = text(&lags, Format::Table, true).unwrap();
        assert_eq!(each.lines().count(), 4);
        let last: Vec<&str> = each.lines().nth(3).unwrap().split_whitespace().collect();
        assert_eq!(last, ["orders/1", "200", "?", "?", "?"], "{each}");
        let wide = text(&lags, Format::Wide, false).unwrap();
        let last: Vec<&str> = wide.lines().nth(3).unwrap().split_whitespace().collect();
        assert_eq!(last, ["orders/1", "200", "?", "?", "?", "100", "300"], "{wide}");
    }

    #[test]
    fn no_partition_is_the_worst_of_those_that_wait_for_nothing_or_are_alone() {
        let idle = Part { lag: Some(0), ..lag().parts[0].clone() };
        assert_eq!(worst(&[idle.clone(), idle]), "-");
        assert_eq!(worst(&lag().parts[..1]), "-");
    }

    #[test]
    fn what_is_not_known_is_a_question_mark_and_not_a_zero() {
        let unknown = Lag { source: "status", note: Some("failed to x".into()), ..Lag::default() };
        let text = text(&[unknown], Format::Table, false).unwrap();
        assert_eq!(text.matches('?').count(), 5, "{text}");
        assert!(text.ends_with("up to a minute old: failed to x\n"), "{text}");
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, shown) in [(0.0, "0s"), (59.0, "59s"), (61.0, "1m01s"), (7_260.0, "2h01m")] {
            assert_eq!(behind(Some(seconds)), shown);
        }
    }

    #[test]
    fn programs_get_all_of_it() {
        let json: serde_json::Value =
            serde_json::from_str(&text(&[lag()], Format::Json, false).unwrap()).unwrap();
        assert_eq!(json[0]["partitions"][1]["lag"], 200);
        assert_eq!(json[0]["note"], serde_json::Value::Null);
        assert!(text(&[lag()], Format::Yaml, false).unwrap().contains("consumer: order"));
    }
}
