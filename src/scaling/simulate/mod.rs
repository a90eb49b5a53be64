//! A plant with what hurts in it, and what different scalers make of it.
//!
//! ```text
//! workload ─▶ plant ─▶ view ─▶ scaler (ours, KEDA + HPA, a rate rule, static, oracle) ─▶ plant
//!                └▶ measure ─▶ report (rows) ─▶ table, curve (SVG); plot (SVG)
//! ```
//! Nothing here is used in the operator. Random numbers come from a seed: a run is the same everywhere.

mod curve;
mod flink;
mod foretell;
mod keda;
mod measure;
mod oracle;
mod plant;
mod plot;
mod random;
mod recorded;
mod report;
mod run;
mod scalers;
mod table;
mod trace;
mod view;
mod workload;

#[cfg(test)]
mod tests;

pub use foretell::{Group, Moment, foretell};
pub use measure::Score;
pub use report::{Dominated, Paired, Row, Setting, Spread};
pub use trace::{Trace, TraceError};

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
    /// A recorded load instead of the named workloads.
    pub recorded: Option<Recorded>,
}

/// A recorded load, and the consumer that it is put on.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// What arrives.
    pub trace: Trace,
    /// Partitions of the topic; at least 1.
    pub partitions: usize,
    /// Messages/s of one replica; above 0.
    pub rate: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { only: String::new(), seeds: 20, keda_threshold: 100.0, recorded: None }
    }
}

/// Names of all workloads.
#[must_use]
pub fn names() -> Vec<String> {
    workload::all().into_iter().map(|w| w.name).collect()
}

/// Names of the chosen workloads.
#[must_use]
pub fn chosen(options: &Options) -> Vec<String> {
    workloads(options).into_iter().map(|w| w.name).collect()
}

/// Runs all scalers under the chosen workloads.
#[must_use]
pub fn compare(options: &Options) -> Vec<Row> {
    workloads(options).iter().flat_map(|w| rows(w, options)).collect()
}

/// Runs all scalers under one workload. Empty, if none of that name is chosen.
#[must_use]
pub fn compare_one(name: &str, options: &Options) -> Vec<Row> {
    workloads(options).iter().filter(|w| w.name == name).flat_map(|w| rows(w, options)).collect()
}

fn rows(workload: &Workload, options: &Options) -> Vec<Row> {
    report::compare(workload, options.seeds.max(1), options.keda_threshold)
}

/// The rows as a table, and where ours loses; `wide` with every point of KEDA's curve.
#[must_use]
pub fn table(rows: &[Row], wide: bool) -> String {
    table::table(rows, wide)
}

/// The rows as Markdown, as in docs/simulation.md.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    table::markdown(rows)
}

/// Ours alone under the workload of that name; the cost is in replica-seconds.
#[must_use]
pub fn ours(name: &str, seeds: u64) -> Option<Row> {
    workload::all().iter().find(|w| w.name == name).map(|w| report::alone(w, seeds.max(1)))
}

/// Under constant loads from a tenth of what a topic's partitions can do to 95 %, from 1 partition to 100: what changed
/// direction after it had settled. Empty, if nothing did.
#[must_use]
pub fn flips_at_constant_load(seed: u64, seconds: f64) -> Vec<String> {
    let mut bad = Vec::new();
    for partitions in [1, 3, 5, 7, 12, 24, 64, 100] {
        for share in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95] {
            let workload = workload::constant(partitions, share, 10.0, seconds);
            let done = run::run(&workload, &mut scalers::Ours::new(workload.config.clone()), seed);
            // A start from nothing goes to half its peak for as long as peaks are remembered.
            let after = done.plant.meter.flips(1_500.0);
            if after > 0 {
                bad.push(format!("{}: {after} flips after settling, {} now", workload.name, done.plant.spec));
            }
        }
    }
    bad
}

/// Late messages against replica-seconds of one workload's rows, as an SVG.
#[must_use]
pub fn curve(workload: &str, rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
    curve::svg(workload, &rows)
}

/// One run of ours under each chosen workload as an SVG: (name, picture).
#[must_use]
pub fn plots(options: &Options) -> Vec<(String, String)> {
    workloads(options)
        .iter()
        .map(|w| (w.name.clone(), plot::svg(&w.name, &report::trace(w, 1).meter.trace)))
        .collect()
}

fn workloads(options: &Options) -> Vec<Workload> {
    if let Some(recorded) = &options.recorded {
        return vec![workload::traced(&recorded.trace, recorded.partitions.max(1), recorded.rate)];
    }
    workload::all().into_iter().filter(|w| w.name.contains(&options.only)).collect()
}
