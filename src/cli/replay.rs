//! `spillway replay`: observations in, decisions out, one line each.

use std::io::{BufRead, Write};

/// What `--help` shows of `spillway replay`.
pub const EXAMPLES: &str = "\
Examples:
  spillway replay < observations.jsonl > decisions.jsonl
  head -1 observations.jsonl | spillway replay | jq .

Each line is a JSON object; a bad one is answered with an error, and the next one counts \
again.
Exit code: 0 the input ended, 1 error.";

/// Answers each line of `input` on `output` until the input ends; see [`crate::scaling::replay`].
///
/// # Errors
/// Only what reading or writing itself reports; a bad line is answered.
pub fn run(input: impl BufRead, output: impl Write) -> std::io::Result<()> {
    crate::scaling::replay::run(input, output)
}
