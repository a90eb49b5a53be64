//! The figure, as SVG: lag above, replicas below, one time axis. Pure: curves in, text out.

use std::fmt::Write as _;

/// Colours that are told apart in print and by colour-blind eyes.
pub const ORANGE: &str = "#d9730d";
pub const BLUE: &str = "#1f6fd6";

/// Where the time axis begins, in seconds: a little before the flood.
pub const BEFORE: f64 = -4.0;

const INK: &str = "#1f2933";
const MUTED: &str = "#66727f";
const GRID: &str = "#e4e8ec";
const PAPER: &str = "#fbfcfd";

const WIDTH: f64 = 980.0;
const HEIGHT: f64 = 620.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 940.0;
/// Top and bottom of the two panels.
const LAG: (f64, f64) = (104.0, 400.0);
const REPLICAS: (f64, f64) = (450.0, 554.0);

/// Room that a label beside a mark takes.
const LABEL: f64 = 160.0;

/// What one figure shows.
pub struct Figure {
    pub title: String,
    pub subtitle: String,
    pub curves: Vec<Curve>,
}

/// One run. Times are seconds since its flood began.
pub struct Curve {
    pub name: String,
    pub color: &'static str,
    /// (seconds, messages)
    pub lag: Vec<(f64, f64)>,
    /// (seconds, replicas), at each change
    pub wanted: Vec<(f64, f64)>,
    pub drained: f64,
    pub first_patch: Option<f64>,
}

/// Maps seconds and values to the paper.
#[derive(Clone, Copy)]
struct Panel {
    until: f64,
    top: f64,
    bottom: f64,
    most: f64,
}

impl Panel {
    fn x(self, seconds: f64) -> f64 {
        LEFT + (seconds - BEFORE) / (self.until - BEFORE) * (RIGHT - LEFT)
    }

    fn y(self, value: f64) -> f64 {
        self.bottom - value / self.most * (self.bottom - self.top)
    }
}

/// Draws the figure.
pub fn svg(figure: &Figure) -> String {
    let every =
        |pick: fn(&Curve) -> &[(f64, f64)]| figure.curves.iter().flat_map(move |curve| pick(curve).iter());
    let until = every(|curve| &curve.lag).map(|(at, _)| *at).fold(1.0, f64::max);
    let most_lag = every(|curve| &curve.lag).map(|(_, lag)| *lag).fold(1.0, f64::max);
    let most_replicas = every(|curve| &curve.wanted).map(|(_, count)| *count).fold(1.0, f64::max);
    let lag = Panel { until, top: LAG.0, bottom: LAG.1, most: most_lag * 1.08 };
    let replicas = Panel { until, top: REPLICAS.0, bottom: REPLICAS.1, most: most_replicas + 0.5 };

    let mut paper = Paper::new(figure);
    paper.grid(lag, step(most_lag, 5.0), "messages behind (lag)");
    paper.grid(replicas, (most_replicas / 4.0).ceil().max(1.0), "replicas");
    paper.time_axis(replicas);
    paper.flood(lag, replicas);
    for curve in &figure.curves {
        paper.lag(lag, curve);
        paper.replicas(replicas, curve);
    }
    for curve in &figure.curves {
        paper.marks(lag, replicas, curve);
    }
    if figure.curves.len() > 1 {
        paper.legend(&figure.curves);
    }
    paper.done()
}

/// A pleasant distance between grid lines: 1, 2, 2.5 or 5 times a power of ten, at most `lines` of them.
fn step(most: f64, lines: f64) -> f64 {
    let rough = most / lines;
    let power = 10_f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough);
    nice.unwrap_or(10.0) * power
}

struct Paper(String);

impl Paper {
    fn new(figure: &Figure) -> Self {
        let mut paper = Self(String::new());
        paper.put(format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="'DejaVu Sans', Verdana, sans-serif" role="img">"#
        ));
        paper.put(format_args!("<title>{}</title>", escape(&figure.title)));
        paper.put(format_args!(r#"<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>"#));
        paper.text((28.0, 42.0), 21.0, INK, "start", "bold", &figure.title);
        paper.text((28.0, 66.0), 12.5, MUTED, "start", "normal", &figure.subtitle);
        paper
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{element}");
    }

    fn text(&mut self, (x, y): (f64, f64), size: f64, color: &str, anchor: &str, weight: &str, text: &str) {
        self.put(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{size}" fill="{color}" text-anchor="{anchor}" font-weight="{weight}" paint-order="stroke" stroke="{PAPER}" stroke-width="4" stroke-linejoin="round">{}</text>"#,
            escape(text)
        ));
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), color: &str, more: &str) {
        self.put(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{color}" {more}/>"#
        ));
    }

    /// Horizontal lines with their values, and what they count above them.
    fn grid(&mut self, panel: Panel, step: f64, what: &str) {
        let mut value = 0.0;
        while value <= panel.most {
            let y = panel.y(value);
            self.line((LEFT, y), (RIGHT, y), if value == 0.0 { MUTED } else { GRID }, "");
            self.text((LEFT - 10.0, y + 4.0), 12.0, MUTED, "end", "normal", &number(value));
            value += step;
        }
        self.text((28.0, panel.top - 10.0), 12.0, INK, "start", "bold", what);
    }

    fn time_axis(&mut self, panel: Panel) {
        let step = step(panel.until, 8.0);
        let mut at = 0.0;
        while at <= panel.until {
            let x = panel.x(at);
            self.line((x, LAG.0), (x, LAG.1), GRID, "");
            self.line((x, REPLICAS.0), (x, REPLICAS.1), GRID, "");
            self.line((x, REPLICAS.1), (x, REPLICAS.1 + 5.0), MUTED, "");
            self.text((x, REPLICAS.1 + 20.0), 12.0, MUTED, "middle", "normal", &at.to_string());
            at += step;
        }
        let middle = f64::midpoint(LEFT, RIGHT);
        self.text((middle, REPLICAS.1 + 44.0), 12.0, INK, "middle", "bold", "seconds since the flood began");
    }

    fn flood(&mut self, lag: Panel, replicas: Panel) {
        let x = lag.x(0.0);
        self.line((x, lag.top), (x, replicas.bottom), INK, r#"stroke-dasharray="4 4" stroke-width="1.2""#);
        self.text((x + 6.0, lag.top + 4.0), 11.5, INK, "start", "normal", "flood");
    }

    fn lag(&mut self, panel: Panel, curve: &Curve) {
        let path = path(curve.lag.iter().map(|(at, lag)| (panel.x(*at), panel.y(*lag))));
        let ends = (curve.lag.first(), curve.lag.last());
        if let (Some((first, _)), Some((last, _))) = ends {
            let (first, last, zero) = (panel.x(*first), panel.x(*last), panel.y(0.0));
            self.put(format_args!(
                r#"<path d="{path}L{last:.1} {zero:.1}L{first:.1} {zero:.1}Z" fill="{}" fill-opacity="0.09"/>"#,
                curve.color
            ));
        }
        self.stroke(&path, curve.color);
    }

    fn replicas(&mut self, panel: Panel, curve: &Curve) {
        let mut steps: Vec<(f64, f64)> = Vec::new();
        let until = curve.lag.last().map_or(panel.until, |(at, _)| *at);
        for (at, count) in
            curve.wanted.iter().copied().chain(curve.wanted.last().map(|(_, last)| (until, *last)))
        {
            if let Some((_, before)) = steps.last().copied() {
                steps.push((at, before));
            }
            steps.push((at, count));
        }
        let path = path(steps.into_iter().map(|(at, count)| (panel.x(at), panel.y(count))));
        self.stroke(&path, curve.color);
    }

    fn stroke(&mut self, path: &str, color: &str) {
        self.put(format_args!(
            r#"<path d="{path}" fill="none" stroke="{color}" stroke-width="2.4" stroke-linejoin="round"/>"#
        ));
    }

    /// When it was drained, and when the first patch came.
    fn marks(&mut self, lag: Panel, replicas: Panel, curve: &Curve) {
        let (x, y) = (lag.x(curve.drained), lag.y(0.0));
        self.put(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="5" fill="{}" stroke="{PAPER}" stroke-width="1.5"/>"#,
            curve.color
        ));
        let text = format!("drained after {:.1} s", curve.drained);
        if x + LABEL <= RIGHT {
            self.text((x + 6.0, y - 14.0), 12.5, curve.color, "start", "bold", &text);
        } else {
            // No room to the right: above the part of the curve that the label would cover.
            let covered =
                curve.lag.iter().filter(|(at, _)| lag.x(*at) >= RIGHT - LABEL && *at <= curve.drained);
            let highest = covered.map(|(_, messages)| *messages).fold(0.0, f64::max);
            self.text((RIGHT, lag.y(highest) - 12.0), 12.5, curve.color, "end", "bold", &text);
        }
        if let Some(first) = curve.first_patch {
            let (x, top) = (replicas.x(first), replicas.y(replicas.most));
            self.line(
                (x, top),
                (x, replicas.bottom),
                curve.color,
                r#"stroke-dasharray="2 3" stroke-width="1.4""#,
            );
            let text = format!("first patch after {first:.1} s");
            self.text((x + 8.0, top + 4.0), 12.5, curve.color, "start", "bold", &text);
        }
    }

    fn legend(&mut self, curves: &[Curve]) {
        let mut x = RIGHT;
        for curve in curves.iter().rev() {
            let width = 8.2 * curve.name.chars().count() as f64 + 44.0;
            x -= width;
            self.line((x, LAG.0 - 14.0), (x + 22.0, LAG.0 - 14.0), curve.color, r#"stroke-width="4""#);
            self.text((x + 29.0, LAG.0 - 10.0), 12.5, INK, "start", "normal", &curve.name);
        }
    }

    fn done(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.enumerate().fold(String::new(), |mut path, (index, (x, y))| {
        let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
        path
    })
}

/// A value on an axis: a comma between thousands, decimals only where there are some.
fn number(value: f64) -> String {
    let plain = value.to_string();
    match plain.len() {
        4.. if !plain.contains('.') => format!("{},{}", &plain[..plain.len() - 3], &plain[plain.len() - 3..]),
        _ => plain,
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        Figure {
            title: "Flood <1> & more".to_owned(),
            subtitle: "fast".to_owned(),
            curves: vec![Curve {
                name: "Spillway".to_owned(),
                color: BLUE,
                lag: vec![(-2.0, 0.0), (0.5, 1_000.0), (36.0, 0.0)],
                wanted: vec![(BEFORE, 1.0), (1.2, 3.0), (30.0, 1.0)],
                drained: 36.0,
                first_patch: Some(1.2),
            }],
        }
    }

    #[test]
    fn text_from_outside_cannot_break_the_markup() {
        let svg = svg(&figure());
        assert!(svg.contains("Flood &lt;1&gt; &amp; more") && !svg.contains("<1>"));
    }

    #[test]
    fn curves_stay_inside_their_panels() {
        let svg = svg(&figure());
        let paths: Vec<_> = svg.lines().filter(|line| line.starts_with("<path")).collect();
        assert_eq!(paths.len(), 3, "an area, a lag curve, a replica curve");
        for path in paths {
            let d = path.split('"').nth(1).unwrap();
            for point in d.split(['M', 'L', 'Z']).filter(|point| !point.is_empty()) {
                let (x, y) = point.split_once(' ').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((LEFT..=RIGHT).contains(&x) && (LAG.0..=REPLICAS.1).contains(&y), "{point}");
            }
        }
    }

    #[test]
    fn the_replica_curve_goes_in_steps() {
        let svg = svg(&figure());
        let steps = svg.lines().rfind(|line| line.starts_with("<path")).unwrap();
        let d = steps.split('"').nth(1).unwrap();
        let points: Vec<(&str, &str)> =
            d[1..].split('L').map(|point| point.split_once(' ').unwrap()).collect();
        assert!(points.windows(2).all(|pair| pair[0].0 == pair[1].0 || pair[0].1 == pair[1].1), "{points:?}");
    }

    #[test]
    fn axis_values_are_written_for_people() {
        let written = [0.0, 2.5, 800.0, 1_000.0, 25_000.0].map(number);
        assert_eq!(written, ["0", "2.5", "800", "1,000", "25,000"]);
    }

    #[test]
    fn grid_steps_are_round_numbers() {
        let steps = [1_000.0, 5_000.0, 103.0, 7.0].map(|most| step(most, 5.0).to_string());
        assert_eq!(steps, ["200", "1000", "25", "2"]);
    }
}
