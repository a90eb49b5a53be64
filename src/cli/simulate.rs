//! `spillway simulate`: our decisions beside others' under named workloads.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{CliError, closed_is_fine};
use crate::scaling::simulate::{self, Options};

/// The arguments of `spillway simulate`.
#[derive(clap::Args, Debug)]
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
    /// Print JSON, one row a line, instead of a table
    #[arg(long)]
    pub json: bool,
    /// Also draw one picture per workload (SVG) into this folder
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
    let options = Options { only: args.only.clone(), seeds: args.seeds, keda_threshold: args.keda_threshold };
    let request = Request { options, json: args.json };
    run(&request, out).or_else(closed_is_fine).map_err(failed)?;
    match &args.plot {
        Some(folder) => {
            plot(&request.options, folder).map_err(|error| CliError::new("draw the plots", error))
        }
        None => Ok(()),
    }
}

/// What `spillway simulate` is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Workloads, seeds and the common KEDA threshold.
    pub options: Options,
    /// Print JSON, one row a line, instead of a table.
    pub json: bool,
}

/// Runs the comparison and prints it on `output`.
///
/// # Errors
/// Only what writing itself reports.
pub fn run(request: &Request, mut output: impl Write) -> std::io::Result<()> {
    let rows = simulate::compare(&request.options);
    if !request.json {
        return output.write_all(simulate::table(&rows).as_bytes());
    }
    for row in &rows {
        serde_json::to_writer(&mut output, row)?;
        output.write_all(b"\n")?;
    }
    Ok(())
}

/// Writes one picture per chosen workload into `folder`, named after it.
///
/// # Errors
/// What making the folder or writing a file reports.
pub fn plot(options: &Options, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, svg) in simulate::plots(options) {
        let file: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        std::fs::write(folder.join(format!("{file}.svg")), svg)?;
    }
    Ok(())
}
