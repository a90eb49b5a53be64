//! One run as a picture: what arrives, what waits, how many work.

use std::fmt::Write as _;

use super::measure::Point;

/// A line of a panel: what it shows, and its colour.
type Line = (fn(&Point) -> f64, &'static str);

const WIDTH: f64 = 900.0;
const PANEL: f64 = 150.0;
const LEFT: f64 = 70.0;
const GAP: f64 = 40.0;

/// An SVG of three panels over the same time: arrivals, lag, replicas (wanted and ready).
pub(super) fn svg(title: &str, trace: &[Point]) -> String {
    let end = trace.last().map_or(1.0, |p| p.at.max(1.0));
    let height = 3.0 * (PANEL + GAP) + 40.0;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"12\">\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{}</text>",
        WIDTH + LEFT + 20.0,
        escape(title)
    );
    let panels: [(&str, &[Line]); 3] = [
        ("messages/s that arrive", &[(|p| p.arrival, "#888888")]),
        ("messages that wait", &[(|p| p.lag, "#c0392b")]),
        (
            "replicas wanted and ready",
            &[(|p| f64::from(p.replicas), "#2471a3"), (|p| f64::from(p.ready), "#27ae60")],
        ),
    ];
    for (i, (label, lines)) in (0u32..).zip(panels) {
        panel(&mut out, 40.0 + f64::from(i) * (PANEL + GAP), label, lines, trace, end);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, top: f64, label: &str, lines: &[Line], trace: &[Point], end: f64) {
    let most = lines.iter().flat_map(|(of, _)| trace.iter().map(of)).fold(1.0, f64::max);
    let (bottom, x) = (top + PANEL, |at: f64| LEFT + WIDTH * at / end);
    let _ = write!(
        out,
        "<text x=\"{LEFT}\" y=\"{}\">{label}</text>\
         <path d=\"M{LEFT} {top}V{bottom}H{}\" fill=\"none\" stroke=\"black\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{most:.0}</text>\
         <text x=\"{}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{end:.0} s</text>",
        top - 6.0,
        LEFT + WIDTH,
        LEFT - 5.0,
        top + 10.0,
        LEFT - 5.0,
        LEFT + WIDTH,
        bottom + 15.0
    );
    for (of, colour) in lines {
        out.push_str("<path fill=\"none\" stroke=\"");
        out.push_str(colour);
        out.push_str("\" d=\"");
        let mut last = None;
        for point in trace {
            let y = bottom - PANEL * of(point) / most;
            let _ = match last {
                None => write!(out, "M{:.1} {y:.1}", x(point.at)),
                Some(before) if before == of(point).to_bits() => Ok(()),
                Some(_) => write!(out, "H{:.1}V{y:.1}", x(point.at)),
            };
            last = Some(of(point).to_bits());
        }
        let _ = write!(out, "H{:.1}\"/>", x(end));
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
