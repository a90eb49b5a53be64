//! A plant with what hurts in it, and what different scalers make of it.
//!
//! ```text
//! workload ─▶ plant ─▶ view ─▶ scaler (ours, KEDA + HPA, static, oracle) ─▶ plant
//!                └▶ measure ─▶ report (table, JSON), plot (SVG)
//! ```
//! Nothing here is used in the operator. Random numbers come from a seed: a run is the same everywhere.

mod foretell;
mod measure;
mod plant;
mod plot;
mod random;
mod report;
mod run;
mod scalers;
mod view;
mod workload;

#[cfg(test)]
mod tests;

pub use foretell::{Group, Moment, foretell};
pub use measure::Score;
pub use report::Row;

use workload::Workload;

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only workloads whose name contains this. Empty: all.
    pub only: String,
    /// Runs per workload and scaler, each with a seed of its own; at least 1.
    pub seeds: u64,
    /// The lag threshold of the KEDA that has one for all workloads.
    pub keda_threshold: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { only: String::new(), seeds: 20, keda_threshold: 100.0 }
    }
}

/// Names of all workloads.
#[must_use]
pub fn names() -> Vec<String> {
    workload::all().into_iter().map(|w| w.name).collect()
}

/// Runs all scalers under the chosen workloads.
#[must_use]
pub fn compare(options: &Options) -> Vec<Row> {
    chosen(options)
        .iter()
        .flat_map(|w| report::compare(w, options.seeds.max(1), options.keda_threshold))
        .collect()
}

/// The rows as a table, and where ours loses.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    report::table(rows)
}

/// One run of ours as an SVG, for each chosen workload: (name, picture).
#[must_use]
pub fn plots(options: &Options) -> Vec<(String, String)> {
    chosen(options)
        .iter()
        .map(|w| (w.name.clone(), plot::svg(&w.name, &report::trace(w, 1).meter.trace)))
        .collect()
}

fn chosen(options: &Options) -> Vec<Workload> {
    workload::all().into_iter().filter(|w| w.name.contains(&options.only)).collect()
}
