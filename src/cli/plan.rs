//! `spillway plan`: what an apply would change.

use std::process::ExitCode;

use super::CliError;
use super::offline::entry::{Entry, Summary};
use super::offline::objects::Objects;
use super::offline::progress::Progress;
use super::offline::session::Session;
use super::offline::{SourceArgs, block_on, show};
use super::output::{Format, print, say};

/// The exit code of a plan that leaves something to do.
pub const PENDING: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  spillway plan -f topology/                    Brokers, Secrets and all objects
  spillway plan -f topics.yaml -f broker.yaml   or in several files
  spillway plan -f topology/ -o json | jq .summary
  SPILLWAY_SECRET_KAFKA_USER_PASSWORD=… spillway plan -f topology/
  kubectl get spillway -o yaml | spillway plan --secrets /run/secrets -f -

What is paused, or differs and is only observed, is shown, and is no change that is pending.
Exit code: 0 no change is pending, 2 changes are pending, 1 error.";

/// The arguments of `spillway plan`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where objects and credentials come from
    #[command(flatten)]
    pub source: SourceArgs,
    /// How to print the plan: wide shows what is in step, too
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// Show what is in step, too
    #[arg(long)]
    pub all: bool,
}

/// Runs the verb.
pub fn execute(args: &Args) -> Result<ExitCode, CliError> {
    let objects = args.source.read()?;
    block_on(async {
        let session = Session::open(&objects).await;
        let entries = session.plan(&Progress::new()).await;
        let summary = Summary::of(&entries, objects.wrong.len() + session.unknown_brokers());
        let report = show::report(&entries, &objects, session.links(), summary, None);
        let structured = args.output.structured(&report);
        if let Some(text) = structured {
            print(&text?)?;
        } else {
            let all = args.all || args.output == Format::Wide;
            say(&words(&session, &entries, &objects, &summary, all))?;
            tell_wrong(&objects);
        }
        Ok(match (summary.errors, summary.pending()) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(PENDING),
            _ => ExitCode::FAILURE,
        })
    })
}

/// The plan as a table with its last line.
pub(super) fn words(
    session: &Session<'_>,
    entries: &[Entry],
    objects: &Objects,
    summary: &Summary,
    all: bool,
) -> String {
    let mut text = show::table(entries, session.links(), all, show::colours());
    if !text.is_empty() {
        text.push('\n');
    }
    text + &show::summary(summary, objects)
}

/// Says on standard error which documents are wrong, a line each.
pub(super) fn tell_wrong(objects: &Objects) {
    for wrong in &objects.wrong {
        eprintln!("spillway: {}", show::printable(&wrong.to_string()));
    }
}
