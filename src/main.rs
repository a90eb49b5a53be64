//! The `spillway` binary: parse, call, exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use spillway_operator::brokers::kafka::wait_until_gone;
use spillway_operator::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Not clap's own 2: that says "changes pending" to whoever runs a plan.
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let code = match cli::execute(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("spillway: {error}");
            ExitCode::FAILURE
        }
    };
    // A call of this process may still be on its way in librdkafka.
    wait_until_gone(Duration::from_millis(500));
    code
}
