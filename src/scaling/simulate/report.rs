//! Ours beside the others, as rows.

use serde::Serialize;

use super::flink::{Flink, Rule};
use super::keda::{Keda, THRESHOLDS, Variant};
use super::measure::Score;
use super::oracle;
use super::plant::{Event, Plant};
use super::run::run;
use super::scalers::{Ours, Planned, Scaler, Static};
use super::workload::Workload;

/// The name of our own rows.
pub(super) const OURS: &str = "spillway";
/// The name of the oracle's rows.
pub(super) const ORACLE: &str = "oracle";
/// The name of the rate rule that was set for each workload.
pub(super) const FITTED: &str = "rate rule, fitted";

/// One scaler under one workload.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The workload's name.
    pub workload: String,
    /// The scaler's name.
    pub scaler: String,
    /// How KEDA was set, where it is KEDA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keda: Option<Setting>,
    /// Medians over the seeds.
    pub score: Score,
    /// 95th percentiles over the seeds.
    pub p95: Score,
    /// Replica-seconds as a multiple of the oracle's.
    pub cost: f64,
    /// Conditions that were named, for ours.
    pub named: Vec<String>,
    /// Ours less another's, seed by seed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paired: Vec<Paired>,
    /// The cheapest setting of KEDA that is no later than ours, and cheaper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dominated_by: Option<Dominated>,
}

/// A point of KEDA's curve.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// `lagThreshold`, messages.
    pub threshold: f64,
    /// What else is not the default: even distribution, a limit to lagging partitions, a short downscale window.
    pub variant: &'static str,
    /// The best of all settings for this workload.
    pub best: bool,
    /// The setting that is the same for all workloads.
    pub for_all: bool,
}

/// Differences of runs with the same seed: below 0 ours is better.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Paired {
    /// The other scaler.
    pub against: String,
    /// Of late messages, percentage points.
    pub late: Spread,
    /// Of the 99th percentile of the delay, seconds.
    pub p99: Spread,
    /// Of replica-seconds, as a multiple of the oracle's.
    pub cost: Spread,
}

/// How something is distributed over seeds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The 95th percentile.
    pub p95: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        Self { median: quantile(&mut values, 0.5), p95: quantile(&mut values, 0.95) }
    }
}

/// Another scaler that is no later and cheaper.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dominated {
    /// The other scaler.
    pub scaler: String,
    /// Its late messages less ours, percentage points.
    pub late: f64,
    /// Its replica-seconds as a share of ours.
    pub cost: f64,
}

/// Points of late messages that do not count.
const SAME_LATE: f64 = 0.05;
/// Share of replica-seconds that does not count.
const SAME_COST: f64 = 0.02;

/// A scaler's runs, one for each seed.
struct Runs {
    scaler: String,
    keda: Option<Setting>,
    scores: Vec<Score>,
    named: Vec<String>,
}

/// All scalers under one workload.
pub(super) fn compare(workload: &Workload, seeds: u64, keda_for_all: f64) -> Vec<Row> {
    let least = workload.config.min_replicas;
    let grown: usize =
        workload.design.events.iter().map(|&(_, e)| if let Event::Grow(n) = e { n } else { 0 }).sum();
    let most = u32::try_from(workload.design.partitions + grown).unwrap_or(u32::MAX);
    let mut all = vec![ours(workload, seeds)];
    all.extend(curve(workload, seeds, keda_for_all, (least, most)));
    let mut push = |scaler: String, scores| all.push(Runs { scaler, keda: None, scores, named: Vec::new() });
    let fitted = Rule::fitted(workload);
    push(FITTED.to_owned(), scores(workload, seeds, |_| Flink::new(fitted, least, most)));
    push("rate rule, flink".to_owned(), scores(workload, seeds, |_| Flink::new(Rule::FLINK, least, most)));
    let counts = oracle::plan(workload);
    let (mean, peak) = fixed(&counts);
    push(format!("static mean ({mean})"), scores(workload, seeds, |_| Static(mean)));
    push(format!("static peak ({peak})"), scores(workload, seeds, |_| Static(peak)));
    push(ORACLE.to_owned(), scores(workload, seeds, |_| Planned { counts: &counts }));
    rows(workload, &all)
}

/// Ours alone; the cost is in replica-seconds.
pub(super) fn alone(workload: &Workload, seeds: u64) -> Row {
    row(workload, &ours(workload, seeds), 1.0)
}

fn ours(workload: &Workload, seeds: u64) -> Runs {
    let mut named = std::collections::BTreeSet::new();
    let scores = (1..=seeds)
        .map(|seed| {
            let mut ours = Ours::new(workload.config.clone());
            let score = run(workload, &mut ours, seed).score;
            named.extend(ours.named);
            score
        })
        .collect();
    let named = named.into_iter().map(str::to_owned).collect();
    Runs { scaler: OURS.to_owned(), keda: None, scores, named }
}

/// KEDA with all its settings.
fn curve(workload: &Workload, seeds: u64, for_all: f64, (least, most): (u32, u32)) -> Vec<Runs> {
    let queue = workload.design.prefetch.is_some();
    let variants: &[Variant] = if queue { &Variant::OF_QUEUES } else { &Variant::OF_TOPICS };
    let mut points: Vec<(f64, Variant)> =
        variants.iter().flat_map(|&variant| THRESHOLDS.map(|threshold| (threshold, variant))).collect();
    if !points.contains(&(for_all, Variant::PLAIN)) {
        points.push((for_all, Variant::PLAIN));
    }
    let mut all: Vec<Runs> = points
        .into_iter()
        .map(|(threshold, variant)| {
            let space = if variant.name.is_empty() { "" } else { " " };
            let for_all = (threshold, variant) == (for_all, Variant::PLAIN);
            Runs {
                scaler: format!("keda {}{space}{threshold:.0}", variant.name),
                keda: Some(Setting { threshold, variant: variant.name, best: false, for_all }),
                scores: scores(workload, seeds, |seed| {
                    Keda::new(threshold, variant, least, most, phase(seed))
                }),
                named: Vec::new(),
            }
        })
        .collect();
    let best = all.iter_mut().min_by(|a, b| loss(&a.scores).total_cmp(&loss(&b.scores)));
    if let Some(setting) = best.and_then(|runs| runs.keda.as_mut()) {
        setting.best = true;
    }
    all
}

fn rows(workload: &Workload, all: &[Runs]) -> Vec<Row> {
    let base = all.iter().find(|r| r.scaler == ORACLE).map_or(1.0, |r| summary(&r.scores, 0.5).cost.max(1.0));
    let mut rows: Vec<Row> = all.iter().map(|runs| row(workload, runs, base)).collect();
    if let Some((first, others)) = rows.split_first_mut() {
        let compared = |r: &&Runs| r.scaler == FITTED || r.keda.is_some_and(|k| k.best);
        first.paired = all.iter().filter(compared).map(|other| paired(&all[0], other, base)).collect();
        first.dominated_by = dominated(first, others);
    }
    rows
}

fn row(workload: &Workload, runs: &Runs, base: f64) -> Row {
    let score = summary(&runs.scores, 0.5);
    Row {
        workload: workload.name.clone(),
        scaler: runs.scaler.clone(),
        keda: runs.keda,
        score,
        p95: summary(&runs.scores, 0.95),
        cost: score.cost / base,
        named: runs.named.clone(),
        paired: Vec::new(),
        dominated_by: None,
    }
}

fn paired(ours: &Runs, other: &Runs, base: f64) -> Paired {
    let less = |of: fn(&Score) -> f64, by: f64| {
        Spread::of(ours.scores.iter().zip(&other.scores).map(move |(a, b)| (of(a) - of(b)) / by))
    };
    Paired {
        against: other.scaler.clone(),
        late: less(|s| s.late, 1.0),
        p99: less(|s| s.p99, 1.0),
        cost: less(|s| s.cost, base),
    }
}

fn dominated(ours: &Row, others: &[Row]) -> Option<Dominated> {
    let no_later = |r: &&Row| r.keda.is_some() && r.score.late <= ours.score.late + SAME_LATE;
    let cheapest = others.iter().filter(no_later).min_by(|a, b| a.score.cost.total_cmp(&b.score.cost))?;
    let cost = cheapest.score.cost / ours.score.cost.max(1e-9);
    (cost < 1.0 - SAME_COST).then(|| Dominated {
        scaler: cheapest.scaler.clone(),
        late: cheapest.score.late - ours.score.late,
        cost,
    })
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

/// What the best setting of KEDA is chosen by: a percent late is worth a twentieth of the replicas.
fn loss(scores: &[Score]) -> f64 {
    let median = summary(scores, 0.5);
    median.cost * (1.0 + median.late / 20.0)
}

/// The oracle's mean and its peak.
fn fixed(counts: &[u32]) -> (u32, u32) {
    let sum: u64 = counts.iter().map(|&n| u64::from(n)).sum();
    let mean = sum.div_ceil(counts.len().max(1) as u64);
    (u32::try_from(mean).unwrap_or(u32::MAX), counts.iter().copied().max().unwrap_or(1))
}

/// A quantile of each column.
fn summary(scores: &[Score], q: f64) -> Score {
    let pick = |column: fn(&Score) -> f64| quantile(&mut scores.iter().map(column).collect::<Vec<f64>>(), q);
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
        false_zeros: pick(|s| s.false_zeros),
    }
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let index = ((q * values.len() as f64).ceil() as usize).saturating_sub(1);
    values.get(index).copied().unwrap_or_default()
}

/// One run of ours, for the plot.
pub(super) fn trace(workload: &Workload, seed: u64) -> Plant {
    run(workload, &mut Ours::new(workload.config.clone()), seed).plant
}
