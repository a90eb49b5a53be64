//! The `spillway` binary: parse, call, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use spillway_operator::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spillway: {error}");
            ExitCode::FAILURE
        }
    }
}
