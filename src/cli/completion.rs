//! `spillway completion SHELL`: a script that completes verbs and options.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::output::print;
use super::{Cli, CliError};

const EXAMPLES: &str = "\
Examples:
  source <(spillway completion bash)
  spillway completion zsh > \"${fpath[1]}/_spillway\"
  spillway completion fish > ~/.config/fish/completions/spillway.fish";

/// The arguments of `spillway completion`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Runs the verb.
pub fn execute(args: &Args) -> Result<(), CliError> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "spillway", &mut script);
    print(&String::from_utf8_lossy(&script))
}
