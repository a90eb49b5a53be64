//! One flood: from its first message to the last commit, and back to rest.

use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kafka::Backlog;
use crate::recorder::{Recorder, Seen};
use crate::{DemoError, PAYMENTS, Settings};

/// No flood begins in the wake of another: so long there was no lag.
const QUIET: Duration = Duration::from_secs(4);

/// A measured flood. Times are in seconds since the flood began.
pub struct Outcome {
    /// Messages, malformed ones included.
    pub count: u64,
    /// When the flood began: the last look at the broker that did not see it yet. So no figure is flattered.
    pub began: Instant,
    /// Until everything was committed.
    pub drained: f64,
    /// Until the Deployment was to have more replicas.
    pub first_patch: Option<f64>,
    /// The most replicas that were ready at once.
    pub peak: i32,
}

/// Publishes `count` messages and waits until the order service has committed them all.
pub async fn run(settings: &Settings, recorder: &mut Recorder, count: u64) -> Result<Outcome, DemoError> {
    let poison = settings.poison * count / settings.count;
    let before = quiet(recorder).await?;
    let mut began = Instant::now();
    // Ten times what three replicas should need, and some for the start.
    let patience = Duration::from_secs(60 + count / 3);
    let expected = before.end + i64::try_from(count).unwrap_or(i64::MAX);

    let mut publishing = tokio::task::spawn_blocking(publish(settings, count, poison));
    let mut sent = false;
    let mut progress = Progress::new();
    let drained = loop {
        tokio::select! {
            outcome = &mut publishing, if !sent => {
                outcome.unwrap_or_else(|error| Err(DemoError::Publish(error.to_string())))?;
                sent = true;
            }
            look = recorder.next() => {
                let (at, backlog) = look?;
                if backlog.end == before.end {
                    began = at;
                }
                progress.show(began, backlog.lag, count, recorder);
                if sent && backlog.end >= expected && backlog.lag == 0 {
                    break at;
                }
                if began.elapsed() > patience {
                    progress.end();
                    return Err(DemoError::Waited(patience, format!("lag 0: {} messages are left", backlog.lag)));
                }
            }
        }
    };
    progress.end();
    let seen = recorder.seen();
    let seconds = |at: Instant| at.saturating_duration_since(began).as_secs_f64();
    let during: Vec<_> = seen.replicas.iter().filter(|(at, _)| *at >= began && *at <= drained).collect();
    let at_first = at(&seen, began);
    Ok(Outcome {
        count,
        began,
        drained: seconds(drained),
        first_patch: during.iter().find(|(_, now)| now.wanted > at_first.wanted).map(|(at, _)| seconds(*at)),
        peak: during.iter().map(|(_, now)| now.ready).chain([at_first.ready]).max().unwrap_or(0),
    })
}

/// Waits until there was no lag for [`QUIET`].
async fn quiet(recorder: &mut Recorder) -> Result<Backlog, DemoError> {
    let mut since = Instant::now();
    loop {
        let (_, backlog) = recorder.next().await?;
        if backlog.lag > 0 {
            since = Instant::now();
        } else if since.elapsed() >= QUIET {
            return Ok(backlog);
        }
    }
}

fn at(seen: &Seen, moment: Instant) -> crate::cluster::Replicas {
    seen.replicas.iter().rev().find(|(at, _)| *at <= moment).map(|(_, now)| *now).unwrap_or_default()
}

/// Waits until the order service is back at one replica; returns the seconds it took.
pub async fn rest(recorder: &mut Recorder, patience: Duration) -> Result<f64, DemoError> {
    let began = Instant::now();
    let mut progress = Progress::new();
    while (recorder.replicas().wanted, recorder.replicas().ready) != (1, 1) {
        let (_, backlog) = recorder.next().await?;
        progress.show(began, backlog.lag, 0, recorder);
        if began.elapsed() > patience {
            progress.end();
            return Err(DemoError::Waited(patience, "one replica".to_owned()));
        }
    }
    progress.end();
    Ok(began.elapsed().as_secs_f64())
}

/// Runs the shop's own publisher.
fn publish(settings: &Settings, count: u64, poison: u64) -> impl FnOnce() -> Result<(), DemoError> + use<> {
    let mut command = Command::new(&settings.shop);
    command
        .args(["publish", "--topic", PAYMENTS, "--bootstrap-servers", &settings.place.bootstrap_servers])
        .args(["--count", &count.to_string(), "--poison", &poison.to_string()])
        .stdin(Stdio::null());
    let name = settings.shop.display().to_string();
    move || {
        let output = command.output().map_err(|error| DemoError::Run(name, error))?;
        if output.status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(DemoError::Publish(complaint.lines().last().unwrap_or("it said nothing").to_owned()))
    }
}

/// One line that renews itself on a terminal; a line every five seconds elsewhere.
struct Progress {
    terminal: bool,
    last: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), last: None }
    }

    fn show(&mut self, began: Instant, lag: i64, count: u64, recorder: &Recorder) {
        let pause = if self.terminal { Duration::from_millis(150) } else { Duration::from_secs(5) };
        if self.last.is_some_and(|last| last.elapsed() < pause) {
            return;
        }
        self.last = Some(Instant::now());
        let replicas = recorder.replicas();
        let line = format!(
            "  {:>5.1} s   lag {:>5}  {}   replicas {}/{}   {:>4.1} messages/s",
            began.elapsed().as_secs_f64(),
            lag,
            bar(lag, count),
            replicas.ready,
            replicas.wanted,
            recorder.rate(Duration::from_secs(3)),
        );
        if self.terminal {
            print!("\r{line}\x1b[K");
            // A terminal that is gone takes the demo with it by a signal, not by this.
            std::io::stdout().flush().ok();
        } else {
            println!("{line}");
        }
    }

    fn end(&self) {
        if self.terminal && self.last.is_some() {
            println!();
        }
    }
}

/// The backlog as a bar of twenty cells.
fn bar(lag: i64, count: u64) -> String {
    let lag = u64::try_from(lag).unwrap_or(0);
    let full = usize::try_from((lag * 20).div_ceil(count.max(1)).min(20)).unwrap_or(0);
    format!("{}{}", "█".repeat(full), "░".repeat(20 - full))
}
