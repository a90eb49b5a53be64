//! `spillway replay`: observations in, decisions out, one line each.

use std::io::{BufRead, Write};

/// Answers each line of `input` on `output` until the input ends; see [`crate::scaling::replay`].
///
/// # Errors
/// Only what reading or writing itself reports; a bad line is answered.
pub fn run(input: impl BufRead, output: impl Write) -> std::io::Result<()> {
    crate::scaling::replay::run(input, output)
}
