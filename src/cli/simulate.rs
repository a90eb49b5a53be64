//! `spillway simulate`: our decisions beside others' under named workloads, or under a recorded one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::output::Format;
use super::{CliError, closed_is_fine};
use crate::scaling::simulate::{self, Options, Recorded, Row, Trace};

const EXAMPLES: &str = "\
Examples:
  spillway simulate                          all workloads, a table
  spillway simulate flash --seeds 100        one of them, more runs
  spillway simulate flash --plot pictures/   and pictures
  spillway simulate --trace load.csv         a recorded load
  spillway simulate -o json | jq '.[] | select(.scaler == \"spillway\")'
  spillway simulate --json | jq .            a row a line";

/// The arguments of `spillway simulate`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only workloads whose name contains this
    #[arg(default_value = "", value_name = "NAME")]
    pub only: String,
    /// Runs per workload and scaler, each with a seed of its own
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// The lag threshold of the KEDA that has one for all workloads, in messages
    #[arg(long, default_value_t = 100.0, value_name = "MESSAGES", value_parser = positive)]
    pub keda_threshold: f64,
    /// A recorded load instead of the named ones: CSV rows of seconds and messages per second
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "list"])]
    pub trace: Option<PathBuf>,
    /// Partitions of the topic that the recorded load comes to
    #[arg(long, default_value_t = 12, value_name = "COUNT", requires = "trace",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub partitions: u16,
    /// Messages per second that one replica does of the recorded load
    #[arg(long, default_value_t = 100.0, value_name = "MESSAGES", requires = "trace", value_parser = positive)]
    pub rate: f64,
    /// How to print: wide shows every point of KEDA's curve, too
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Print JSON, one row a line, instead of a table
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
    /// Print Markdown, as in docs/simulation.md, instead of a table
    #[arg(long, conflicts_with_all = ["json", "output"])]
    pub markdown: bool,
    /// Also draw two pictures per workload (SVG) into this folder: one run, and late messages against cost
    #[arg(long, value_name = "FOLDER")]
    pub plot: Option<PathBuf>,
    /// Print the names of all workloads and do nothing else
    #[arg(long)]
    pub list: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is no number above 0")),
    }
}

/// Runs the verb.
pub fn execute(args: &Args) -> Result<(), CliError> {
    let failed = |error| CliError::new("simulate", error);
    let mut out = std::io::stdout().lock();
    if args.list {
        let names = simulate::names().join("\n");
        return writeln!(out, "{names}").or_else(closed_is_fine).map_err(failed);
    }
    if !simulate::names().iter().any(|name| name.contains(&args.only)) {
        return Err(CliError(format!(
            "no workload's name contains {:?}: see spillway simulate --list",
            args.only
        )));
    }
    let recorded = args.trace.as_deref().map(|file| recorded(file, args)).transpose()?;
    let options =
        Options { only: args.only.clone(), seeds: args.seeds, keda_threshold: args.keda_threshold, recorded };
    let rows = compare(&options);
    let printed = if args.json {
        lines(&rows, out)
    } else {
        let text = match args.output.structured(&rows) {
            _ if args.markdown => simulate::markdown(&rows),
            Some(text) => text?,
            None => simulate::table(&rows, args.output == Format::Wide),
        };
        out.write_all(text.as_bytes())
    };
    printed.or_else(closed_is_fine).map_err(failed)?;
    match &args.plot {
        Some(folder) => plot(&options, &rows, folder).map_err(|error| CliError::new("draw the plots", error)),
        None => Ok(()),
    }
}

fn recorded(file: &Path, args: &Args) -> Result<Recorded, CliError> {
    let wrong = |error: &dyn std::fmt::Display| CliError(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let trace = Trace::parse(&text).map_err(|error| wrong(&error))?;
    Ok(Recorded { trace, partitions: usize::from(args.partitions), rate: args.rate })
}

/// All rows of the chosen workloads, in their order; on all processors.
#[must_use]
pub fn compare(options: &Options) -> Vec<Row> {
    let names = simulate::chosen(options);
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Vec<Row>>> = names.iter().map(|_| Mutex::default()).collect();
    let work = || {
        while let Some((name, slot)) = {
            let i = next.fetch_add(1, Ordering::Relaxed);
            names.get(i).zip(done.get(i))
        } {
            let rows = simulate::compare_one(name, options);
            *slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = rows;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(names.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    done.into_iter()
        .flat_map(|slot| slot.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
        .collect()
}

/// Prints rows on `output`, one JSON object a line.
///
/// # Errors
/// Only what writing itself reports.
pub fn lines(rows: &[Row], mut output: impl Write) -> std::io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut output, row)?;
        output.write_all(b"\n")?;
    }
    Ok(())
}

/// Writes two pictures per chosen workload into `folder`, named after it: a run, and the curve with `-cost`.
///
/// # Errors
/// What making the folder or writing a file reports.
pub fn plot(options: &Options, rows: &[Row], folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, svg) in simulate::plots(options) {
        let file: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        std::fs::write(folder.join(format!("{file}.svg")), svg)?;
        std::fs::write(folder.join(format!("{file}-cost.svg")), simulate::curve(&name, rows))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_the_order_of_the_workloads_whatever_thread_made_them() {
        let options = Options { only: "constant P=".to_owned(), seeds: 1, ..Options::default() };
        let names = simulate::chosen(&options);
        let few = Options { only: "constant P=1 ".to_owned(), ..options };
        assert!(names.len() > 2, "{names:?}");
        let rows = compare(&few);
        let alone = simulate::compare(&few);
        let said = |rows: &[Row]| {
            let mut text = Vec::new();
            lines(rows, &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(said(&rows), said(&alone));
    }
}
