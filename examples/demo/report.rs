//! What came out: expectations, the table, a dead letter in full, plots, and the summary as JSON.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use rdkafka::Message;
use rdkafka::message::{Headers, OwnedMessage};

use crate::flood::Outcome;
use crate::kafka::header;
use crate::plot::{Curve, Figure};
use crate::recorder::Seen;
use crate::{DEAD_LETTERS, DemoError, PAYMENTS, Settings, plot};

/// Spillway is to be at least this much faster; three replicas can be at most three times as fast.
const RATIO: f64 = 2.3;
/// Two polls of a second each, and the time that a patch and this program's looks take.
const FIRST_PATCH: f64 = 3.0;

/// Text attributes, on a terminal only.
pub struct Attribute(&'static str);
pub const BOLD: Attribute = Attribute("\x1b[1m");
pub const PLAIN: Attribute = Attribute("\x1b[0m");

impl Attribute {
    pub fn get(&self) -> &'static str {
        if std::io::stdout().is_terminal() { self.0 } else { "" }
    }
}

/// What the topics hold since the demo began.
pub struct Evidence {
    pub payments: Vec<OwnedMessage>,
    pub orders: Vec<OwnedMessage>,
    pub emails: Vec<OwnedMessage>,
    pub dead_letters: Vec<OwnedMessage>,
}

/// Everything that was measured.
pub struct Report<'a> {
    pub settings: &'a Settings,
    pub seen: Seen,
    pub fixed: Outcome,
    pub scaled: Vec<Outcome>,
    pub rested: Vec<Result<f64, DemoError>>,
    pub evidence: Evidence,
}

/// The demo in one line, for machines.
#[derive(serde::Serialize)]
struct Summary<'a> {
    demo: &'a str,
    drain_fixed_s: f64,
    drain_spillway_s: f64,
    ratio: f64,
    first_patch_s: Option<f64>,
    peak_replicas: i32,
    dead_letters: usize,
    plot: Option<&'a PathBuf>,
}

/// One expectation.
struct Check {
    what: String,
    met: bool,
    found: String,
}

impl Report<'_> {
    /// Prints it all; returns whether every expectation was met.
    pub fn finish(&self) -> Result<bool, DemoError> {
        self.show_table();
        self.show_dead_letter();
        let plots = self.draw()?;
        let checks = self.checks();
        println!("\n{}Expected, and found{}", BOLD.get(), PLAIN.get());
        for check in &checks {
            println!("  {} {}: {}", if check.met { "ok  " } else { "FAIL" }, check.what, check.found);
        }
        println!();
        for plot in &plots {
            println!("Plot: {}", plot.display());
        }
        let [first, ..] = &self.scaled[..] else {
            return Ok(false);
        };
        let summary = Summary {
            demo: "black-friday",
            drain_fixed_s: round(self.fixed.drained),
            drain_spillway_s: round(first.drained),
            ratio: (self.ratio() * 100.0).round() / 100.0,
            first_patch_s: first.first_patch.map(round),
            peak_replicas: first.peak,
            dead_letters: self.evidence.dead_letters.len(),
            plot: plots.first(),
        };
        let summary = serde_json::to_string(&summary).unwrap_or_default() + "\n";
        let path = self.settings.out.join("black-friday.json");
        std::fs::write(&path, summary).map_err(|error| DemoError::Write(path, error))?;
        Ok(checks.iter().all(|check| check.met))
    }

    fn ratio(&self) -> f64 {
        self.fixed.drained / self.scaled[0].drained
    }

    fn poison(&self, count: u64) -> u64 {
        self.settings.poison * count / self.settings.count
    }

    fn checks(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut check = |what: &str, met: bool, found: String| {
            checks.push(Check { what: what.to_owned(), met, found });
        };
        let fixed = &self.fixed;
        check("one replica while scaling is off", fixed.peak == 1, fixed.peak.to_string());
        for (run, rested) in self.scaled.iter().zip(&self.rested) {
            let flood = format!("{} messages: ", run.count);
            check(
                &format!("{flood}three replicas for three partitions"),
                run.peak == 3,
                run.peak.to_string(),
            );
            let first = run.first_patch;
            let found = first.map_or("none".to_owned(), |first| format!("after {first:.1} s"));
            let met = first.is_some_and(|first| first <= FIRST_PATCH);
            check(&format!("{flood}first patch within {FIRST_PATCH} s"), met, found);
            let (met, found) = match rested {
                Ok(seconds) => (true, format!("after {seconds:.1} s")),
                Err(error) => (false, error.to_string()),
            };
            check(&format!("{flood}back to one replica"), met, found);
        }
        let ratio = self.ratio();
        check(&format!("at least {RATIO} times as fast"), ratio >= RATIO, format!("{ratio:.2} times"));

        let counts = std::iter::once(fixed).chain(&self.scaled).map(|run| run.count);
        let (all, poison) = counts.fold((0, 0), |(all, bad), count| (all + count, bad + self.poison(count)));
        for (what, topic) in [("an order", &self.evidence.orders), ("an e-mail", &self.evidence.emails)] {
            let ids: BTreeSet<_> =
                topic.iter().filter_map(|message| header(message, "correlation-id")).collect();
            let found = format!("{} of {}, in {} messages", ids.len(), all - poison, topic.len());
            check(&format!("{what} for every good payment"), ids.len() as u64 == all - poison, found);
        }
        let dead = self.evidence.dead_letters.len();
        check("a dead letter for every poison message", dead as u64 == poison, format!("{dead} of {poison}"));
        let wrong = self.wrong_dead_letters();
        let found = if wrong.is_empty() { "all of them".to_owned() } else { wrong.join("; ") };
        check("dead letters carry payload, key and headers as the contract says", wrong.is_empty(), found);
        checks
    }

    /// What is wrong with dead letters, each compared with the original that it names.
    fn wrong_dead_letters(&self) -> Vec<String> {
        let originals: HashMap<_, _> = self
            .evidence
            .payments
            .iter()
            .map(|message| ((message.partition().to_string(), message.offset().to_string()), message))
            .collect();
        let wrong = |letter: &OwnedMessage| -> Option<String> {
            let text = |key: &str| header(letter, key).unwrap_or_default().to_owned();
            let place = (text("spillway-original-partition"), text("spillway-original-offset"));
            let Some(original) = originals.get(&place) else {
                return Some(format!("offset {}: no original at {}@{}", letter.offset(), place.0, place.1));
            };
            let timestamp = original.timestamp().to_millis().unwrap_or_default().to_string();
            let same = letter.key() == original.key()
                && letter.payload() == original.payload()
                && header(letter, "correlation-id") == header(original, "correlation-id")
                && text("spillway-original-topic") == PAYMENTS
                && text("spillway-original-timestamp") == timestamp
                && !text("spillway-error").is_empty()
                && text("spillway-attempt") == "1"
                && text("spillway-failed-at").parse::<jiff::Timestamp>().is_ok();
            (!same).then(|| format!("offset {} differs from its original", letter.offset()))
        };
        self.evidence.dead_letters.iter().filter_map(wrong).collect()
    }

    fn show_table(&self) {
        let mut columns = vec![Column::of("one replica", &self.fixed, None)];
        for run in &self.scaled {
            let faster = (run.count == self.fixed.count).then(|| self.ratio());
            columns.push(Column::of("Spillway", run, faster));
        }
        println!("\n{}Result{}", BOLD.get(), PLAIN.get());
        let names = [
            "",
            "messages",
            "drained after",
            "messages a second",
            "replicas at most",
            "first patch after",
            "speed",
        ];
        for (row, name) in names.into_iter().enumerate() {
            let cells = columns.iter().fold(String::new(), |mut line, column| {
                // Writing to a String cannot fail.
                let _ = write!(line, "{:>16}", column.0[row]);
                line
            });
            println!("{}", format!("  {name:<18}{cells}").trim_end());
        }
    }

    fn show_dead_letter(&self) {
        let letters = &self.evidence.dead_letters;
        println!("{}{} dead letters in {DEAD_LETTERS}{}", BOLD.get(), letters.len(), PLAIN.get());
        let Some(letter) = letters.first() else { return };
        println!("  The first, in full:");
        let show = |name: &str, value: Option<&[u8]>| {
            let value =
                value.map_or("(none)".to_owned(), |value| String::from_utf8_lossy(value).into_owned());
            println!("    {name:<28} {value}");
        };
        show("key", letter.key());
        show("payload", letter.payload());
        for header in letter.headers().into_iter().flat_map(Headers::iter) {
            show(header.key, header.value);
        }
    }

    /// Writes one figure for the pair of runs, and one for each further run.
    fn draw(&self) -> Result<Vec<PathBuf>, DemoError> {
        let [first, more @ ..] = &self.scaled[..] else {
            return Ok(Vec::new());
        };
        let title = |run: &Outcome| format!("Black Friday: {} payments at once", thousands(run.count));
        let curve = |name: &str, color, run: &Outcome, until: f64| Curve {
            name: name.to_owned(),
            color,
            lag: self.lag(run.began, until),
            wanted: self.replicas(run.began, until),
            drained: run.drained,
            first_patch: run.first_patch,
        };
        let mut figures = vec![(
            "black-friday".to_owned(),
            Figure {
                title: title(first),
                subtitle: format!(
                    "One replica needs {:.0} s. Spillway goes from 1 to {} replicas {:.1} s after the flood began, and \
                     needs {:.0} s: {:.1} times as fast.",
                    self.fixed.drained,
                    first.peak,
                    first.first_patch.unwrap_or(f64::NAN),
                    first.drained,
                    self.ratio()
                ),
                curves: vec![
                    curve("one replica", plot::ORANGE, &self.fixed, self.fixed.drained + 5.0),
                    curve("Spillway", plot::BLUE, first, self.fixed.drained + 5.0),
                ],
            },
        )];
        for run in more {
            let subtitle =
                format!("With Spillway, 1 to {} replicas: drained after {:.0} s.", run.peak, run.drained);
            let curves = vec![curve("Spillway", plot::BLUE, run, run.drained * 1.2)];
            figures.push((
                format!("black-friday-{}", run.count),
                Figure { title: title(run), subtitle, curves },
            ));
        }
        let out = &self.settings.out;
        std::fs::create_dir_all(out).map_err(|error| DemoError::Write(out.clone(), error))?;
        let mut plots = Vec::new();
        for (name, figure) in figures {
            let svg = out.join(format!("{name}.svg"));
            std::fs::write(&svg, plot::svg(&figure)).map_err(|error| DemoError::Write(svg.clone(), error))?;
            let png = svg.with_extension("png");
            let drawn =
                Command::new("rsvg-convert").args(["--zoom", "2", "--output"]).arg(&png).arg(&svg).status();
            let drawn = drawn.is_ok_and(|status| status.success());
            plots.push(svg);
            if drawn {
                plots.push(png);
            } else {
                println!("  (no PNG: rsvg-convert is not there or failed)");
            }
        }
        Ok(plots)
    }

    /// Lag over seconds since `began`, from a little before until `until` or the next flood.
    fn lag(&self, began: Instant, until: f64) -> Vec<(f64, f64)> {
        let end = self.next_flood(began);
        let looks = self.seen.backlog.iter().filter(|(at, _)| end.is_none_or(|end| *at <= end));
        cut(looks.map(|(at, backlog)| (seconds(*at, began), backlog.lag as f64)), until)
    }

    fn replicas(&self, began: Instant, until: f64) -> Vec<(f64, f64)> {
        let end = self.next_flood(began);
        let changes = self.seen.replicas.iter().filter(|(at, _)| end.is_none_or(|end| *at <= end));
        let all: Vec<_> = changes.map(|(at, now)| (seconds(*at, began), f64::from(now.wanted))).collect();
        // What held before the figure begins holds at its beginning.
        let before =
            all.iter().rev().find(|(at, _)| *at < plot::BEFORE).map(|(_, wanted)| (plot::BEFORE, *wanted));
        before.into_iter().chain(cut(all.iter().copied(), until)).collect()
    }

    fn next_flood(&self, began: Instant) -> Option<Instant> {
        std::iter::once(&self.fixed).chain(&self.scaled).map(|run| run.began).find(|next| *next > began)
    }
}

/// The cells of one run, as many as the table has rows.
struct Column([String; 7]);

impl Column {
    fn of(name: &str, run: &Outcome, faster: Option<f64>) -> Self {
        Self([
            name.to_owned(),
            thousands(run.count),
            format!("{:.1} s", run.drained),
            format!("{:.1}", run.count as f64 / run.drained),
            run.peak.to_string(),
            run.first_patch.map_or("-".to_owned(), |first| format!("{first:.1} s")),
            faster.map_or(String::new(), |faster| format!("{faster:.2} x")),
        ])
    }
}

fn seconds(at: Instant, began: Instant) -> f64 {
    match at.checked_duration_since(began) {
        Some(after) => after.as_secs_f64(),
        None => -began.duration_since(at).as_secs_f64(),
    }
}

fn cut(points: impl Iterator<Item = (f64, f64)>, until: f64) -> Vec<(f64, f64)> {
    points.filter(|(at, _)| *at >= plot::BEFORE && *at <= until).collect()
}

fn round(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// A number with a comma between thousands.
fn thousands(number: u64) -> String {
    if number < 1_000 {
        number.to_string()
    } else {
        format!("{},{:03}", thousands(number / 1_000), number % 1_000)
    }
}
