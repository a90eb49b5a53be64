//! The `spillway` binary: parse, call, exit code.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _};
use spillway_operator::brokers::kafka::wait_until_gone;
use spillway_operator::cli::{self, Cli, refusal};
use tikv_jemallocator::Jemalloc;

/// Thousands of objects come and are compared in bursts; what those leave free goes back to the system, which glibc's
/// allocator does not do.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let code = match cli::execute(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("spillway: {}", refusal::one_line(&error.0));
            ExitCode::FAILURE
        }
    };
    // A call of this process may still be on its way in librdkafka.
    wait_until_gone(Duration::from_millis(500));
    code
}

/// Parses the command line, or says why not. As a plugin of kubectl, usage is told as it is typed there.
fn parse() -> Result<Cli, ExitCode> {
    let mut command = Cli::command();
    let arguments: Vec<_> = std::env::args_os().collect();
    let name = arguments.first().cloned().unwrap_or_default();
    if Path::new(&name).file_stem().is_some_and(|stem| stem == "kubectl-spillway") {
        command = command.bin_name("kubectl spillway");
    }
    let matches = command.try_get_matches_from_mut(&arguments);
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(|error| {
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        match refusal::line(&command, &words, &error) {
            Some(line) => eprintln!("spillway: {line}"),
            None => {
                let _ = error.print();
            }
        }
        // Not clap's own 2: that says "changes pending" to whoever runs a plan.
        if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    })
}
