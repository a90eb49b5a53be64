//! `spillway completion SHELL`: a script that completes verbs and options.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::output::print;
use super::{Cli, CliError};

const EXAMPLES: &str = "\
Examples:
  source <(spillway completion bash)
  spillway completion zsh > \"${fpath[1]}/_spillway\"
  spillway completion fish > ~/.config/fish/completions/spillway.fish
  spillway completion kubectl > ~/bin/kubectl_complete-spillway

The last is what kubectl asks for what may follow `kubectl spillway`, in any shell that completes kubectl itself: an \
executable of that name in the PATH, beside kubectl-spillway. It takes bash.";

/// What kubectl runs with the words after `kubectl spillway`: it prints what fits, a line each, and at the end `:4`, which
/// says that files do not.
const KUBECTL: &str = r#"#!/usr/bin/env bash
source <(kubectl-spillway completion bash)
COMP_WORDS=(spillway "$@")
COMP_CWORD=$#
_spillway spillway "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}" :4
"#;

/// The arguments of `spillway completion`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which shell, or kubectl
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: For,
}

/// Who completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum For {
    /// Bash.
    Bash,
    /// Elvish.
    Elvish,
    /// Fish.
    Fish,
    /// `PowerShell`.
    #[value(name = "powershell")]
    PowerShell,
    /// Zsh.
    Zsh,
    /// kubectl, which asks an executable.
    Kubectl,
}

/// Runs the verb.
pub fn execute(args: &Args) -> Result<(), CliError> {
    let shell = match args.shell {
        For::Bash => Shell::Bash,
        For::Elvish => Shell::Elvish,
        For::Fish => Shell::Fish,
        For::PowerShell => Shell::PowerShell,
        For::Zsh => Shell::Zsh,
        For::Kubectl => return print(KUBECTL),
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "spillway", &mut script);
    print(&String::from_utf8_lossy(&script))
}
