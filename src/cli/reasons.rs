//! `spillway reasons`: a table of the conditions' reasons, as docs/runbooks/object-not-ready.md has it.

use super::CliError;
use super::output::say;
use crate::api::conditions::Reason;

/// Prints the table, without the reasons that ask for nothing.
pub fn execute() -> Result<(), CliError> {
    let lines: Vec<_> =
        Reason::ALL.iter().copied().filter(|reason| !reason.help().is_empty()).map(row).collect();
    say(&format!("| Reason | Meaning | How to mend it |\n|---|---|---|\n{}", lines.join("\n")))
}

fn row(reason: Reason) -> String {
    let meaning = reason.meaning().trim_end_matches('.');
    format!("| `{}` | {meaning} | {} |", reason.as_str(), reason.help())
}
