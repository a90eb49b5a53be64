//! Ours beside the others, as a table a person reads or as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::measure::Score;
use super::plant::{Event, Plant};
use super::run::run;
use super::scalers::{Keda, Oracle, Ours, Scaler, Static};
use super::workload::Workload;

/// Lags per replica that KEDA is tried with.
const THRESHOLDS: [f64; 8] = [5.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0];

/// One scaler under one workload: medians over seeds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The workload's name.
    pub workload: String,
    /// The scaler's name.
    pub scaler: String,
    /// Medians over the seeds.
    pub score: Score,
    /// 95th percentiles over the seeds.
    pub p95: Score,
    /// Replica-seconds as a multiple of the oracle's.
    pub cost: f64,
    /// Conditions that were named, for ours.
    pub named: Vec<String>,
}

/// All scalers under one workload.
pub(super) fn compare(workload: &Workload, seeds: u64, keda_for_all: f64) -> Vec<Row> {
    let least = workload.config.min_replicas.max(1);
    let grown: usize =
        workload.design.events.iter().map(|&(_, e)| if let Event::Grow(n) = e { n } else { 0 }).sum();
    let most = u32::try_from(workload.design.partitions + grown).unwrap_or(u32::MAX);
    let mut named = std::collections::BTreeSet::new();
    let mut rows = Vec::new();
    let ours: Vec<Score> = (1..=seeds)
        .map(|seed| {
            let mut ours = Ours::new(workload.config.clone());
            let score = run(workload, &mut ours, seed).score;
            named.extend(ours.named);
            score
        })
        .collect();
    let mut push = |scaler: String, scores: &[Score], named: Vec<String>| {
        rows.push(Row {
            workload: workload.name.clone(),
            scaler,
            score: summary(scores, 0.5),
            p95: summary(scores, 0.95),
            cost: 0.0,
            named,
        });
    };
    push("spillway".to_owned(), &ours, named.into_iter().map(str::to_owned).collect());
    let keda =
        |threshold: f64| scores(workload, seeds, |seed| Keda::new(threshold, least, most, phase(seed)));
    let best = THRESHOLDS
        .iter()
        .map(|&threshold| (threshold, keda(threshold)))
        .min_by(|a, b| loss(&a.1).total_cmp(&loss(&b.1)));
    if let Some((threshold, scores)) = best {
        push(format!("keda best ({threshold:.0})"), &scores, Vec::new());
    }
    push(format!("keda ({keda_for_all:.0})"), &keda(keda_for_all), Vec::new());
    let oracle = oracle(workload);
    let (mean, peak) = fixed(&oracle);
    push(format!("static mean ({mean})"), &scores(workload, seeds, |_| Static(mean)), Vec::new());
    push(format!("static peak ({peak})"), &scores(workload, seeds, |_| Static(peak)), Vec::new());
    let counts = oracle.counts;
    push("oracle".to_owned(), &scores(workload, seeds, |_| Oracle { counts: counts.clone() }), Vec::new());
    let base = rows.last().map_or(1.0, |r| r.score.cost.max(1.0));
    for row in &mut rows {
        row.cost = row.score.cost / base;
    }
    rows
}

fn scores<S: Scaler>(workload: &Workload, seeds: u64, make: impl Fn(u64) -> S) -> Vec<Score> {
    (1..=seeds).map(|seed| run(workload, &mut make(seed), seed).score).collect()
}

/// The phase of the HPA's sync against the workload: different for each seed.
fn phase(seed: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let seed = seed as f64;
    (seed * 4.7) % 15.0
}

/// What the best KEDA threshold is chosen by: a percent late is worth a twentieth of the replicas.
fn loss(scores: &[Score]) -> f64 {
    let median = summary(scores, 0.5);
    median.cost * (1.0 + median.late / 20.0)
}

fn oracle(workload: &Workload) -> Oracle {
    let design = &workload.design;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let seconds = workload.seconds as usize;
    let partitions = u32::try_from(design.partitions).unwrap_or(u32::MAX);
    Oracle::new(
        seconds,
        &workload.rate,
        design.rate,
        partitions,
        design.cold_start * 1.25 + design.pause,
        workload.config.target_delay,
        workload.config.min_replicas.max(1),
    )
}

fn fixed(oracle: &Oracle) -> (u32, u32) {
    let sum: u64 = oracle.counts.iter().map(|&n| u64::from(n)).sum();
    let mean = sum.div_ceil(oracle.counts.len().max(1) as u64);
    (u32::try_from(mean).unwrap_or(u32::MAX), oracle.counts.iter().copied().max().unwrap_or(1))
}

/// A quantile of each column.
fn summary(scores: &[Score], q: f64) -> Score {
    let pick = |column: fn(&Score) -> f64| {
        let mut values: Vec<f64> = scores.iter().map(column).collect();
        values.sort_unstable_by(f64::total_cmp);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((q * values.len() as f64).ceil() as usize).saturating_sub(1);
        values.get(index).copied().unwrap_or_default()
    };
    Score {
        late: pick(|s| s.late),
        p99: pick(|s| s.p99),
        drain: pick(|s| s.drain),
        cost: pick(|s| s.cost),
        events: pick(|s| s.events),
        flips: pick(|s| s.flips),
        rebalances: pick(|s| s.rebalances),
        paused: pick(|s| s.paused),
        peak: pick(|s| s.peak),
    }
}

/// The table, and below it where ours is not the best.
pub(super) fn table(rows: &[Row]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<22} {:<18} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>8} {:>5}",
        "workload",
        "scaler",
        "late %",
        "p99 s",
        "drain s",
        "cost",
        "events",
        "flips",
        "rebal.",
        "paused",
        "peak"
    );
    let mut last = "";
    for row in rows {
        let s = &row.score;
        let name = if row.workload == last { "" } else { &row.workload };
        let _ = writeln!(
            out,
            "{:<22} {:<18} {:>7.2} {:>7.1} {:>7.0} {:>7.2} {:>6.0} {:>6.0} {:>6.0} {:>8.0} {:>5.0}  {}",
            name,
            row.scaler,
            s.late,
            s.p99,
            s.drain,
            row.cost,
            s.events,
            s.flips,
            s.rebalances,
            s.paused,
            s.peak,
            row.named.join(" ")
        );
        last = &row.workload;
    }
    out.push_str(&losses(rows));
    out
}

/// Where another scaler that is no oracle is later by a point or dearer by a tenth at equal lateness.
fn losses(rows: &[Row]) -> String {
    let mut out = String::from("\nWhere spillway loses:\n");
    let none = out.len();
    for ours in rows.iter().filter(|r| r.scaler == "spillway") {
        for other in rows.iter().filter(|r| r.workload == ours.workload && r.scaler.starts_with("keda")) {
            let (late, cost) = (ours.score.late - other.score.late, ours.cost / other.cost.max(1e-9));
            if late > 1.0 {
                let _ = writeln!(out, "  {}: {late:.1} points later than {}", ours.workload, other.scaler);
            } else if cost > 1.1 && late > -1.0 {
                let _ =
                    writeln!(out, "  {}: {cost:.2} times the replicas of {}", ours.workload, other.scaler);
            }
        }
    }
    if out.len() == none {
        out.push_str("  nowhere\n");
    }
    out
}

/// One run of ours, for the plot.
pub(super) fn trace(workload: &Workload, seed: u64) -> Plant {
    run(workload, &mut Ours::new(workload.config.clone()), seed).plant
}
