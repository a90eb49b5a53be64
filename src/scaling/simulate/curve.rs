//! Late messages against replica-seconds as a picture: KEDA's thresholds as lines, the others as points.
//!
//! Colours are Okabe and Ito's, which colour-blind people tell apart; every scaler has a shape of its own besides.

use std::fmt::Write as _;

use super::report::{FITTED, ORACLE, OURS, Row};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 50.0;
const LEGEND: f64 = 190.0;

/// Variants of KEDA in the order of the legend: name, what the legend says, dashes of the line.
const LINES: [(&str, &str, &str); 5] = [
    ("", "KEDA", ""),
    ("even", "KEDA, even distribution", "8 3"),
    ("lagging", "KEDA, lagging partitions", "2 3"),
    ("30 s", "KEDA, 30 s down", "10 3 2 3"),
    ("even 30 s", "KEDA, even, 30 s down", "4 4"),
];
const KEDA: &str = "#d55e00";

/// Scalers that are points: how their names begin, what the legend says, colour, shape around 0,0.
const POINTS: [(&str, &str, &str, &str); 6] = [
    (OURS, "Spillway", "#0072b2", "M0 -8L2.4 -2.5L8 -2.5L3.5 1.2L5 7L0 3.6L-5 7L-3.5 1.2L-8 -2.5L-2.4 -2.5Z"),
    (FITTED, "rate rule, fitted", "#009e73", "M0 -6L6 5H-6Z"),
    ("rate rule, flink", "rate rule, Flink's defaults", "#56b4e9", "M0 6L6 -5H-6Z"),
    ("static mean", "static, mean", "#e69f00", "M-5 -5H5V5H-5Z"),
    ("static peak", "static, peak", "#cc79a7", "M-6 -2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z"),
    (ORACLE, "oracle", "#000000", "M0 -7L5 0L0 7L-5 0Z"),
];

struct Scale {
    most_cost: f64,
    most_late: f64,
}

impl Scale {
    fn x(&self, row: &Row) -> f64 {
        LEFT + WIDTH * row.cost / self.most_cost
    }

    fn y(&self, row: &Row) -> f64 {
        TOP + HEIGHT * (1.0 - row.score.late / self.most_late)
    }
}

/// An SVG of one workload's rows.
pub(super) fn svg(title: &str, rows: &[&Row]) -> String {
    let most = |of: fn(&Row) -> f64| rows.iter().map(|row| of(row)).fold(0.0, f64::max);
    let scale =
        Scale { most_cost: ceiling(most(|r| r.cost)), most_late: ceiling(most(|r| r.score.late).max(1.0)) };
    let mut out = String::new();
    let (width, height) = (LEFT + WIDTH + LEGEND + 20.0, TOP + HEIGHT + 60.0);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}: left and below is better</text>",
        title.replace('&', "&amp;").replace('<', "&lt;")
    );
    axes(&mut out, &scale);
    for (variant, _, dashes) in LINES {
        line(&mut out, &scale, variant, dashes, rows);
    }
    for (name, _, colour, shape) in POINTS {
        for row in rows.iter().filter(|row| row.scaler.starts_with(name)) {
            mark(&mut out, scale.x(row), scale.y(row), colour, shape);
        }
    }
    legend(&mut out, rows);
    out.push_str("</svg>\n");
    out
}

/// A round number that is not below.
fn ceiling(most: f64) -> f64 {
    let unit = 10f64.powf(most.max(1e-9).log10().floor());
    [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .map(|factor| factor * unit)
        .into_iter()
        .find(|&round| round >= most)
        .unwrap_or(most)
}

fn axes(out: &mut String, scale: &Scale) {
    let (right, bottom) = (LEFT + WIDTH, TOP + HEIGHT);
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let (x, y) = (LEFT + WIDTH * share, bottom - HEIGHT * share);
        let _ = write!(
            out,
            "<path d=\"M{LEFT} {y}H{right}M{x} {TOP}V{bottom}\" stroke=\"#dddddd\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            short(scale.most_late * share),
            bottom + 18.0,
            short(scale.most_cost * share)
        );
    }
    let _ = write!(
        out,
        "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">replica-seconds, multiple of the oracle's</text>\
         <text transform=\"translate(18 {}) rotate(-90)\" text-anchor=\"middle\">\
         messages later than the target delay, %</text>",
        LEFT + WIDTH / 2.0,
        bottom + 40.0,
        TOP + HEIGHT / 2.0
    );
}

fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The thresholds of one variant, in order, each written at its point for the plain one.
fn line(out: &mut String, scale: &Scale, variant: &str, dashes: &str, rows: &[&Row]) {
    let mut points: Vec<(f64, &Row)> = rows
        .iter()
        .filter_map(|row| row.keda.filter(|k| k.variant == variant).map(|k| (k.threshold, *row)))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut path = String::new();
    for (threshold, row) in &points {
        let (x, y) = (scale.x(row), scale.y(row));
        let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
        let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{KEDA}\"/>");
        if variant.is_empty() {
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\" fill=\"#555555\">{threshold:.0}</text>",
                x + 4.0,
                y - 4.0
            );
        }
    }
    if !path.is_empty() {
        let _ =
            write!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{KEDA}\" stroke-dasharray=\"{dashes}\"/>");
    }
}

fn mark(out: &mut String, x: f64, y: f64, colour: &str, shape: &str) {
    let _ = write!(
        out,
        "<path transform=\"translate({x:.1} {y:.1})\" d=\"{shape}\" fill=\"{colour}\" stroke=\"white\"/>"
    );
}

/// What is in the picture, and nothing else.
fn legend(out: &mut String, rows: &[&Row]) {
    let x = LEFT + WIDTH + 20.0;
    let mut y = TOP + 10.0;
    let text = |out: &mut String, y: f64, words: &str| {
        let _ = write!(out, "<text x=\"{}\" y=\"{}\">{words}</text>", x + 34.0, y + 4.0);
    };
    for (name, words, colour, shape) in POINTS {
        if rows.iter().any(|row| row.scaler.starts_with(name)) {
            mark(out, x + 12.0, y, colour, shape);
            text(out, y, words);
            y += 20.0;
        }
    }
    for (variant, words, dashes) in LINES {
        if rows.iter().any(|row| row.keda.is_some_and(|k| k.variant == variant)) {
            let _ = write!(
                out,
                "<path d=\"M{x} {y}H{}\" stroke=\"{KEDA}\" stroke-dasharray=\"{dashes}\"/>",
                x + 28.0
            );
            text(out, y, words);
            y += 20.0;
        }
    }
    text(out, y, "(numbers: lagThreshold)");
}

#[cfg(test)]
mod tests {
    use super::super::{Options, compare};
    use super::*;

    #[test]
    fn every_scaler_is_in_the_picture_within_its_axes() {
        let rows = compare(&Options { only: "constant P=1 ".to_owned(), seeds: 1, ..Options::default() });
        let refs: Vec<&Row> = rows.iter().collect();
        let svg = svg("a < b & c", &refs);
        assert!(svg.contains("a &lt; b &amp; c"), "{svg}");
        for (_, words, ..) in POINTS {
            assert!(svg.contains(words), "{words}");
        }
        for (_, words, _) in LINES {
            assert!(svg.contains(words), "{words}");
        }
        let bare = svg.replace("<svg ", "").replace("</svg>", "");
        assert_eq!(bare.matches("<text").count(), bare.matches("</text>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn an_axis_ends_at_a_round_number_above_the_largest() {
        for (most, end) in [(0.0, 1e-9), (1.0, 1.0), (1.2, 1.5), (4.6, 5.0), (87.0, 100.0), (0.031, 0.04)] {
            assert!((ceiling(most) - end).abs() < end * 1e-6 + 1e-9, "{most}: {}", ceiling(most));
        }
    }
}
