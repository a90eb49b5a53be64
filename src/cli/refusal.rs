//! A command line that cannot be understood, told in one line. Pure.

use clap::Command;
use clap::error::{Error, ErrorKind};

use crate::legible::legible;

/// The line: which verb, what is wrong, and where to read more. None where the whole help is the answer.
#[must_use]
pub fn line(command: &Command, arguments: &[String], error: &Error) -> Option<String> {
    let help = [
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayVersion,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    if help.contains(&error.kind()) {
        return None;
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let told = text.split("\n\n").take_while(|part| {
        let part = part.trim_start();
        !part.starts_with("Usage:") && !part.starts_with("For more information")
    });
    let told: Vec<_> = told.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let verb = verb(command, arguments);
    let place = if verb.is_empty() { String::new() } else { format!("{}: ", verb.join(" ")) };
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let page = [&[name], &verb[..], &["--help"]].concat().join(" ");
    Some(format!("{place}{} (see {page})", told.join("; ")))
}

/// The verb that was meant, with the verb's own verb.
fn verb<'a>(command: &'a Command, arguments: &[String]) -> Vec<&'a str> {
    let (mut command, mut path) = (command, Vec::new());
    for argument in arguments.iter().skip(1) {
        if let Some(found) = command.find_subcommand(argument) {
            path.push(found.get_name());
            command = found;
        }
    }
    path
}

/// An error of any length as one line.
#[must_use]
pub fn one_line(text: &str) -> String {
    legible(&text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory as _;

    fn told(arguments: &[&str]) -> Option<String> {
        let mut command = Cli::command();
        let arguments: Vec<_> = [&["spillway"], arguments].concat().into_iter().map(str::to_owned).collect();
        let error = command.try_get_matches_from_mut(&arguments).expect_err("it is wrong");
        line(&command, &arguments, &error)
    }

    #[test]
    fn what_is_wrong_and_where_is_one_line() {
        for (arguments, expected) in [
            (&["plan", "--no-such-flag"][..], "plan: unexpected argument '--no-such-flag' found"),
            (&["plan"], "plan: the following required arguments were not provided: --filename <PATH>"),
            (&["dlq", "show", "topic"], "dlq show: invalid value 'topic' for '<KIND/NAME>': "),
            (
                &["plan", "-f", "x", "-o", "xml"],
                "plan: invalid value 'xml' for '--output <FORMAT>' [possible values: ",
            ),
            (
                &["--log", "debug", "lag", "--interval", "x\ny"],
                "lag: invalid value 'x y' for '--interval <SECONDS>': ",
            ),
            (&["stauts"], "unrecognized subcommand 'stauts'; tip: a similar subcommand exists: 'status'"),
        ] {
            let line = told(arguments).expect("a line");
            assert!(line.starts_with(expected), "{line}");
            assert!(line.ends_with(" --help)") && !line.contains('\n'), "{line}");
        }
        assert!(told(&["dlq", "ls", "-x"]).expect("a line").ends_with("(see spillway dlq ls --help)"));
    }

    #[test]
    fn who_asks_for_help_gets_it() {
        assert_eq!(told(&["plan", "--help"]), None);
        assert_eq!(told(&["--version"]), None);
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn an_error_of_several_lines_becomes_one() {
        assert_eq!(one_line("failed to read:\n  a\n\n  b\n"), "failed to read:; a; b");
    }
}
