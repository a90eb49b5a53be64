//! What verbs share on their way to a person or a program: standard output, formats, a yes.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use serde::Serialize;

use super::{CliError, closed_is_fine};

/// How a verb prints what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// A table with more in it.
    Wide,
    /// JSON for programs.
    Json,
    /// YAML for programs.
    Yaml,
}

impl Format {
    /// Whether a person reads it.
    #[must_use]
    pub const fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }

    /// The text where it is for programs; none: it is for people.
    pub fn structured<T: Serialize + ?Sized>(self, value: &T) -> Option<Result<String, CliError>> {
        let failed = |error: String| CliError::new("print what was found", error);
        match self {
            Self::Table | Self::Wide => None,
            Self::Json => Some(
                serde_json::to_string_pretty(value)
                    .map(|text| text + "\n")
                    .map_err(|error| failed(error.to_string())),
            ),
            Self::Yaml => Some(serde_yaml::to_string(value).map_err(|error| failed(error.to_string()))),
        }
    }
}

/// Prints a text as it is.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .or_else(closed_is_fine)
        .map_err(|error| CliError::new("write to standard output", error))
}

/// Prints a text and a line end.
pub fn say(text: &str) -> Result<(), CliError> {
    print(&format!("{text}\n"))
}

/// Why a verb that asks needs `--yes` where a program reads what it prints.
pub const NO_PLACE: &str =
    "failed to ask for a yes: what is printed for programs has no place for a question; use --yes";

/// An error where nobody could be asked, and `--yes` was not given.
pub fn can_ask(yes: bool) -> Result<(), CliError> {
    if yes || std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(CliError("failed to ask for a yes: standard input is no terminal; use --yes".into()))
}

/// Asks, and reads the answer.
pub fn agreed(question: &str) -> Result<bool, CliError> {
    let failed = |error| CliError::new("ask for a yes", error);
    let mut out = std::io::stdout();
    write!(out, "{question} [y/N] ").and_then(|()| out.flush()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
