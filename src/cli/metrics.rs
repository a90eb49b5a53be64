//! `spillway metrics`: a table of all metrics, as docs/metrics.md has it.

use std::io::Write as _;

use super::{CliError, closed_is_fine};
use crate::runtime::metrics::{Described, Metrics};

/// Prints the table.
pub fn execute() -> Result<(), CliError> {
    let metrics = Metrics::new();
    let lines = metrics.described().iter().map(row).collect::<Vec<_>>().join("\n");
    writeln!(std::io::stdout(), "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n{lines}")
        .or_else(closed_is_fine)
        .map_err(|error| CliError::new("print the metrics", error))
}

fn row(metric: &Described) -> String {
    let labels: Vec<_> = metric.labels.iter().map(|name| format!("`{name}`")).collect();
    format!("| `{}` | {} | {} | {} |", metric.name, metric.kind, labels.join(", "), metric.help)
}
