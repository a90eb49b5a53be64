//! `spillway metrics`: a table of all metrics, as docs/metrics.md has it.

use super::CliError;
use super::output::say;
use crate::runtime::metrics::{Described, Metrics};

/// Prints the table.
pub fn execute() -> Result<(), CliError> {
    let metrics = Metrics::new();
    let lines = metrics.described().iter().map(row).collect::<Vec<_>>().join("\n");
    say(&format!("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n{lines}"))
}

fn row(metric: &Described) -> String {
    let labels: Vec<_> = metric.labels.iter().map(|name| format!("`{name}`")).collect();
    format!("| `{}` | {} | {} | {} |", metric.name, metric.kind, labels.join(", "), metric.help)
}
