//! The rows as text that a person reads, and below it where ours loses.

use std::fmt::Write as _;

use super::report::{FITTED, ORACLE, OURS, Row};

/// The table of the scalers that are not only points of a curve (`wide`: of those, too), and what it comes to.
pub(super) fn table(rows: &[Row], wide: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<26} {:<24} {:>7} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>8} {:>5} {:>6}",
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
        "peak",
        "false 0"
    );
    let mut last = "";
    for row in rows {
        let s = &row.score;
        let name = if row.workload == last { "" } else { &row.workload };
        for label in labels(row, wide) {
            let _ = writeln!(
                out,
                "{name:<26} {label:<24} {:>7.2} {:>7.1} {:>7.0} {:>7.2} {:>6.0} {:>6.0} {:>6.0} {:>8.0} {:>5.0} {:>6.0}  {}",
                s.late,
                s.p99,
                s.drain,
                row.cost,
                s.events,
                s.flips,
                s.rebalances,
                s.paused,
                s.peak,
                s.false_zeros,
                row.named.join(" ")
            );
        }
        last = &row.workload;
    }
    out.push_str(&beside_the_curve(rows));
    out.push_str(&losses(rows));
    out.push_str(&pairs(rows));
    out
}

/// What a row is called in the table; one that is only a point of a curve is in the wide one alone.
fn labels(row: &Row, wide: bool) -> Vec<String> {
    let Some(keda) = row.keda else { return vec![row.scaler.clone()] };
    let mut labels = Vec::new();
    if keda.best {
        let setting = row.scaler.trim_start_matches("keda ");
        labels.push(format!("keda best ({setting})"));
    }
    if keda.for_all {
        labels.push(format!("keda for all ({:.0})", keda.threshold));
    }
    if labels.is_empty() && wide {
        labels.push(row.scaler.clone());
    }
    labels
}

/// The same as Markdown, a line for each workload: late % / p99 s / cost of each scaler.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut out = String::from(
        "| Workload | Spillway | patches | KEDA, best | KEDA, for all | patches | rate rule, fitted | static, peak | oracle |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for ours in ours(rows) {
        let of = |is: &dyn Fn(&Row) -> bool| rows.iter().find(|r| r.workload == ours.workload && is(r));
        let best = of(&|r| r.keda.is_some_and(|k| k.best));
        let for_all = of(&|r| r.keda.is_some_and(|k| k.for_all));
        let setting = best.map_or("", |row| row.scaler.trim_start_matches("keda "));
        let _ = writeln!(
            out,
            "| {} | {} | {:.0} | {} ({setting}) | {} | {:.0} | {} | {} | {} |",
            ours.workload,
            cell(Some(ours)),
            ours.score.events,
            cell(best),
            cell(for_all),
            for_all.map_or(0.0, |row| row.score.events),
            cell(of(&|r| r.scaler == FITTED)),
            cell(of(&|r| r.scaler.starts_with("static peak"))),
            cell(of(&|r| r.scaler == ORACLE))
        );
    }
    for list in [beside_the_curve(rows), losses(rows)] {
        for line in list.lines() {
            let _ = match line.strip_prefix("  ") {
                Some(item) => writeln!(out, "* {item}"),
                None if line.ends_with(':') => writeln!(out, "{line}\n"),
                None => writeln!(out, "{line}"),
            };
        }
    }
    out.push_str(
        "\nSeed by seed, Spillway less the other, median (95th percentile); below 0 Spillway is better:\n\n",
    );
    out.push_str("| Workload | against | late, points | p99, s | cost |\n|---|---|---|---|---|\n");
    for (row, pair) in ours(rows).flat_map(|row| row.paired.iter().map(move |pair| (row, pair))) {
        let _ = writeln!(
            out,
            "| {} | {} | {:.1} ({:.1}) | {:.0} ({:.0}) | {:.2} ({:.2}) |",
            row.workload,
            pair.against,
            pair.late.median,
            pair.late.p95,
            pair.p99.median,
            pair.p99.p95,
            pair.cost.median,
            pair.cost.p95
        );
    }
    out
}

fn cell(row: Option<&Row>) -> String {
    row.map_or_else(String::new, |r| format!("{:.1} / {:.0} / {:.2}", r.score.late, r.score.p99, r.cost))
}

fn ours(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter().filter(|row| row.scaler == OURS)
}

/// Where no setting of KEDA is both no later and cheaper, and where one is.
fn beside_the_curve(rows: &[Row]) -> String {
    let lost: Vec<&Row> = ours(rows).filter(|row| row.dominated_by.is_some()).collect();
    let all = ours(rows).count();
    let mut out = format!(
        "\nAt or left of KEDA's whole curve (every threshold, every variant) under {} of {all} workloads.\n",
        all - lost.len()
    );
    if !lost.is_empty() {
        out.push_str("No later and cheaper, the cheapest such setting of KEDA:\n");
    }
    for row in lost {
        let Some(other) = &row.dominated_by else { continue };
        let p99 = rows.iter().find(|r| r.workload == row.workload && r.scaler == other.scaler);
        let _ = writeln!(
            out,
            "  {}: {} with {:.2} of the replica-seconds ({:+.2} points late, p99 {:.0} s beside {:.0} s)",
            row.workload,
            other.scaler,
            other.cost,
            other.late,
            p99.map_or(0.0, |r| r.score.p99),
            row.score.p99
        );
    }
    out
}

/// Where a scaler in the table that is no oracle is later by less, whatever it costs.
fn losses(rows: &[Row]) -> String {
    let mut out = String::from("\nLater than another by more than a point:\n");
    let none = out.len();
    for ours in ours(rows) {
        let named = |r: &&Row| r.keda.is_some_and(|k| k.best || k.for_all) || r.scaler == FITTED;
        for other in rows.iter().filter(|r| r.workload == ours.workload).filter(named) {
            let late = ours.score.late - other.score.late;
            if late > 1.0 {
                let _ = writeln!(
                    out,
                    "  {}: {late:.1} points later than {}, with {:.2} of its replica-seconds",
                    ours.workload,
                    other.scaler,
                    ours.cost / other.cost.max(1e-9)
                );
            }
        }
    }
    if out.len() == none {
        out.push_str("  nowhere\n");
    }
    out
}

/// Differences seed by seed.
fn pairs(rows: &[Row]) -> String {
    let mut out = format!(
        "\nSpillway less another, seed by seed, median (95th percentile); below 0 spillway is better:\n\
         {:<26} {:<24} {:>16} {:>16} {:>14}\n",
        "workload", "against", "late, points", "p99, s", "cost"
    );
    for row in ours(rows) {
        for (i, pair) in row.paired.iter().enumerate() {
            let _ = writeln!(
                out,
                "{:<26} {:<24} {:>7.2} ({:>6.2}) {:>7.1} ({:>6.1}) {:>6.2} ({:>5.2})",
                if i == 0 { &row.workload } else { "" },
                pair.against,
                pair.late.median,
                pair.late.p95,
                pair.p99.median,
                pair.p99.p95,
                pair.cost.median,
                pair.cost.p95
            );
        }
    }
    out
}
