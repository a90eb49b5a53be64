//! `spillway apply`: shows the plan, asks, and takes the steps.
//!
//! Objects go in the order in which they need each other: companions and exchanges, then topics and
//! queues (a policy before its queue), then bindings.
//! One that fails stops no other, but for queues whose dead letters it takes. Each is planned again right before its steps are taken, and
//! left alone when the plan is not the one that was shown, or the cluster another one. No topic, queue, exchange or binding is
//! ever deleted; a policy of Spillway's own goes when nothing needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

use futures::{StreamExt as _, stream};

use super::CliError;
use super::offline::entry::{Action, Entry, Summary};
use super::offline::progress::Progress;
use super::offline::session::Session;
use super::offline::{SourceArgs, block_on, show};
use super::output::{Format, NO_PLACE, agreed, can_ask, print, say};
use super::plan::{PENDING, tell_wrong, words};
use crate::api::conditions::Reason;
use crate::topology::Rejection;

/// Objects that are changed at once.
const AT_ONCE: usize = 1_000;

const EXAMPLES: &str = "\
Examples:
  spillway apply -f topology/          shows the plan and asks
  spillway apply -f topology/ --yes    in CI: shows the plan and goes ahead
  spillway apply -f topology/ --yes -o json | jq '.objects[].error // empty'
  cat topics.yaml broker.yaml | spillway apply -f - --yes

No topic, queue, exchange or binding is ever deleted; a policy of Spillway's own goes \
when nothing needs it any more. What is paused or only observed is shown and left as it is.
Exit code: 0 all else is in step now, 2 the answer was no, 1 error.";

/// The arguments of `spillway apply`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where objects and credentials come from
    #[command(flatten)]
    pub source: SourceArgs,
    /// Go ahead without asking
    #[arg(short, long)]
    pub yes: bool,
    /// How to print the plan and what became of it: wide shows what is in step, too; json and yaml need --yes
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// Runs the verb.
pub fn execute(args: &Args) -> Result<ExitCode, CliError> {
    if !args.yes && !args.output.is_for_people() {
        return Err(CliError(NO_PLACE.into()));
    }
    can_ask(args.yes)?;
    let objects = args.source.read()?;
    if !objects.wrong.is_empty() {
        tell_wrong(&objects);
        let count = objects.wrong.len();
        let documents = if count == 1 { "1 document is" } else { &format!("{count} documents are") };
        return Err(CliError(format!("failed to read the input: {documents} wrong; nothing was changed")));
    }
    block_on(async {
        let progress = Progress::new();
        let session = Session::open(&objects).await;
        let entries = session.plan(&progress).await;
        let summary = Summary::of(&entries, session.unknown_brokers());
        let count = summary.pending();
        if args.output.is_for_people() {
            say(&words(&session, &entries, &objects, &summary, args.output == Format::Wide))?;
            let changes = if count == 1 { "this change" } else { &format!("these {count} changes") };
            if count > 0 && !args.yes && !agreed(&format!("Apply {changes}?"))? {
                say("Nothing was changed.")?;
                return Ok(ExitCode::from(PENDING));
            }
        }
        let failures = if count > 0 { carry_out(&session, &entries, &progress).await } else { Vec::new() };
        for (entry, error) in &failures {
            eprintln!("spillway: {}: {}", show::title(entry), show::printable(&error.message));
        }
        let report = show::report(&entries, &objects, session.links(), summary, Some(&failures));
        match args.output.structured(&report) {
            Some(text) => print(&text?)?,
            None if count > 0 => say(&done(count, failures.len()))?,
            None => {}
        }
        Ok(if failures.len() + summary.errors > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

/// The last line.
fn done(pending: usize, failed: usize) -> String {
    let done = pending - failed;
    let applied = if done == 1 { "1 object was".into() } else { format!("{done} objects were") };
    match failed {
        0 => format!("Applied: {applied} changed."),
        failed => format!("Applied: {applied} changed, {failed} failed."),
    }
}

/// Why a queue is left alone although it could be changed.
const NO_DEAD_LETTER_QUEUE: &str =
    "nothing was done: the queue that takes its dead letters is not there, and RabbitMQ would drop them";

/// Tells queues apart: the namespace and the Broker of the object, and its identity there.
type Key<'a> = (&'a str, &'a str, &'a str);

fn key(entry: &Entry) -> Key<'_> {
    let candidate = &entry.candidate;
    (&candidate.namespace, &candidate.broker, &candidate.identity)
}

fn needed(entry: &Entry) -> Option<Key<'_>> {
    let candidate = &entry.candidate;
    Some((&candidate.namespace, &candidate.broker, candidate.needs.as_deref()?))
}

/// Whether an object is not as declared, and nothing will be done about it now.
fn never_comes(entry: &Entry) -> bool {
    matches!(entry.action(), Action::Error | Action::Paused)
}

/// Which queue comes before which.
struct Order<'a>(BTreeMap<Key<'a>, &'a Entry>);

impl<'a> Order<'a> {
    fn of(entries: &'a [Entry]) -> Self {
        Self(entries.iter().map(|entry| (key(entry), entry)).collect())
    }

    /// How many queues come before it, one after the other.
    fn depth(&self, entry: &'a Entry) -> usize {
        std::iter::successors(Some(entry), |entry| self.0.get(&needed(entry)?).copied())
            .take(self.0.len())
            .count()
            - 1
    }
}

/// Takes all steps. Returns which objects failed.
async fn carry_out<'a>(
    session: &Session<'_>,
    entries: &'a [Entry],
    progress: &Progress,
) -> Vec<(&'a Entry, Rejection)> {
    let pending: Vec<&Entry> = entries.iter().filter(|entry| entry.action().pending()).collect();
    let order = Order::of(entries);
    let mut phases: BTreeMap<(u8, usize), Vec<&Entry>> = BTreeMap::new();
    for entry in &pending {
        phases.entry((entry.candidate.phase(), order.depth(entry))).or_default().push(entry);
    }
    let mut missing: BTreeSet<Key<'_>> = entries.iter().filter(|entry| never_comes(entry)).map(key).collect();
    progress.begin("done", pending.len());
    let mut failures = Vec::new();
    for entries in phases.values() {
        // Somebody may have thought about the question for a while, and each phase takes its time.
        let changed = session.changed_clusters(entries).await;
        let since = Instant::now();
        let results: Vec<(&Entry, Result<(), Rejection>)> = stream::iter(entries)
            .map(async |entry| {
                let result = match changed.get(&entry.candidate.broker) {
                    Some(rejection) => Err(rejection.clone()),
                    None if needed(entry).is_some_and(|needed| missing.contains(&needed)) => {
                        Err(Rejection::new(Reason::CompanionNotReady, NO_DEAD_LETTER_QUEUE))
                    }
                    None => session.carry_out(entry, since).await,
                };
                progress.one();
                (*entry, result)
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        missing.extend(results.iter().filter(|(_, result)| result.is_err()).map(|(entry, _)| key(entry)));
        failures.extend(results.into_iter().filter_map(|(entry, result)| Some((entry, result.err()?))));
    }
    progress.end();
    failures
}
