//! The `spillway` binary: parse, call, exit code.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};
use spillway_operator::brokers::kafka::wait_until_gone;
use spillway_operator::cli::{self, Cli};
use tikv_jemallocator::Jemalloc;

/// Thousands of objects come and are compared in bursts; what those leave free goes back to the system, which glibc's
/// allocator does not do.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let cli = match parse() {
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

/// Parses the command line. As a plugin of kubectl, usage is told as it is typed there.
fn parse() -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_stem().is_some_and(|stem| stem == "kubectl-spillway") {
        command = command.bin_name("kubectl spillway");
    }
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}
