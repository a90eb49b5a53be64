//! The table, and the summary as one line of JSON.

use std::fs;
use std::time::Duration;

use crate::common::machine;
use crate::common::process::Memory;
use crate::{BenchError, Settings};

/// What was measured, as it comes.
pub struct Report<'a> {
    settings: &'a Settings,
    rows: Vec<Row>,
    notes: Vec<String>,
    figures: Vec<(String, f64, usize)>,
}

struct Row {
    name: String,
    ours: Duration,
    limit: Duration,
}

impl<'a> Report<'a> {
    /// Says what this runs on.
    pub fn begin(settings: &'a Settings) -> Self {
        println!("{}; load {}", machine::facts(), machine::load());
        println!("{}; operator: {} build; scale {}", settings.versions, settings.build, settings.scale);
        Self { settings, rows: Vec::new(), notes: Vec::new(), figures: Vec::new() }
    }

    /// A row beside its limit.
    pub fn row(&mut self, key: &'static str, name: &str, ours: Duration, limit: Duration) {
        let row = Row { name: name.to_owned(), ours, limit };
        println!("{row}");
        self.figures.push((format!("{key}_ratio"), row.ratio(), 2));
        self.rows.push(row);
    }

    /// A row that was measured several times: the pair in the middle by its ratio, and a note of all.
    pub fn rows(&mut self, key: &'static str, name: &str, mut pairs: Vec<(Duration, Duration)>) {
        pairs.sort_by(|a, b| ratio(*a).total_cmp(&ratio(*b)));
        let all: Vec<String> = pairs.iter().map(|pair| format!("{:.2}", ratio(*pair))).collect();
        if let Some((ours, limit)) = pairs.get(pairs.len() / 2) {
            self.row(key, name, *ours, *limit);
        }
        if all.len() > 1 {
            self.note(&format!("{name}: the one in the middle of {}", all.join(", ")));
        }
    }

    /// A restart with nothing to do: `asked` are the writes that it counts itself, `written` what Kafka and RabbitMQ
    /// count.
    #[expect(clippy::cast_precision_loss, reason = "hardly any")]
    pub fn restart(&mut self, took: Duration, asked: f64, written: (usize, u64), api_writes: &[String]) {
        self.note(&format!("restarted in step: all looked at after {:.2} s", took.as_secs_f64()));
        let (kafka, rabbit) = written;
        self.note(&format!(
            "  writes to brokers: {asked} by its metrics, {kafka} by Kafka's metadata log, {rabbit} by RabbitMQ's counters"
        ));
        self.note(&format!("  writes to the API server but the Lease's: {}", api_writes.len()));
        list(api_writes);
        self.figures.push(("restart_s".to_owned(), took.as_secs_f64(), 2));
        self.figures.push(("restart_broker_writes".to_owned(), asked.max(kafka as f64 + rabbit as f64), 0));
    }

    /// Edits that meet a restart.
    pub fn edits(&mut self, before: Duration, during: Duration) {
        let (before, during) = (before.as_secs_f64(), during.as_secs_f64());
        self.note(&format!(
            "an edit from before a restart: at the broker {before:.2} s after the lead was taken"
        ));
        self.note(&format!("an edit during the resync: at the broker {during:.2} s after it was accepted"));
        self.figures.push(("user_edit_s".to_owned(), before.max(during), 2));
    }

    /// What nothing to do costs.
    #[expect(clippy::cast_precision_loss, reason = "hardly any")]
    pub fn rest(&mut self, api_writes: &[String], requests: f64, cores: f64, memory: Memory) {
        self.note(&format!("at rest for {} s", self.settings.rest));
        self.note(&format!("  writes to the API server but the Lease's: {}", api_writes.len()));
        list(api_writes);
        self.note(&format!("  requests to a broker for each look at all it has: {requests:.1}"));
        self.note(&format!(
            "  CPU {cores:.4} cores, memory {:.1} MiB (at most {:.1})",
            memory.resident, memory.peak
        ));
        self.figures.push(("idle_api_writes".to_owned(), api_writes.len() as f64, 0));
        self.figures.push(("idle_requests_per_sweep".to_owned(), requests, 1));
        self.figures.push(("idle_cores".to_owned(), cores, 4));
        self.figures.push(("rss_mib".to_owned(), memory.resident, 1));
    }

    /// A line below the table.
    pub fn note(&mut self, text: &str) {
        println!("{text}");
        self.notes.push(text.to_owned());
    }

    /// Prints the table and writes the summary.
    pub fn finish(&self) -> Result<(), BenchError> {
        println!("\n{}; load {}", machine::facts(), machine::load());
        println!(
            "{}; operator: {} build; scale {}",
            self.settings.versions, self.settings.build, self.settings.scale
        );
        println!("\n{:<54}{:>10}{:>10}{:>8}", "seconds until all are ready", "Spillway", "limit *", "ratio");
        for row in &self.rows {
            println!("{row}");
        }
        println!("* the same calls in large batches and one status for each object, by a bare client\n");
        for note in &self.notes {
            println!("{note}");
        }
        let figures = self.figures.iter().map(|(key, value, digits)| format!(r#","{key}":{value:.digits$}"#));
        let summary = format!(
            r#"{{"bench":"topology","scale":{}{}}}"#,
            self.settings.scale,
            figures.collect::<String>()
        );
        let path = self.settings.out.join("topology.json");
        fs::write(&path, format!("{summary}\n")).map_err(|error| BenchError::Write(path, error))
    }
}

/// What should not have been written: some of it.
fn list(writes: &[String]) {
    for write in writes.iter().take(10) {
        println!("    {write}");
    }
}

/// Ours over the limit.
fn ratio((ours, limit): (Duration, Duration)) -> f64 {
    ours.as_secs_f64() / limit.as_secs_f64()
}

impl Row {
    fn ratio(&self) -> f64 {
        ratio((self.ours, self.limit))
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (ours, limit) = (self.ours.as_secs_f64(), self.limit.as_secs_f64());
        write!(f, "{:<54}{ours:>10.2}{limit:>10.2}{:>8.2}", self.name, self.ratio())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_shown_beside_its_limit() {
        let seconds = Duration::from_secs_f64;
        let row = Row { name: "made".into(), ours: seconds(3.0), limit: seconds(2.0) };
        assert_eq!(row.to_string().split_whitespace().collect::<Vec<_>>(), ["made", "3.00", "2.00", "1.50"]);
    }
}
