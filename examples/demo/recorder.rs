//! Lag and replicas over time, recorded side by side while the story goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::DemoError;
use crate::cluster::Replicas;
use crate::kafka::{Backlog, Watcher};

/// How often the broker is asked.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long the broker may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was seen, each with the time at which the answer was there.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub backlog: Vec<(Instant, Backlog)>,
    pub replicas: Vec<(Instant, Replicas)>,
}

/// Records until it is dropped.
pub struct Recorder {
    seen: Arc<Mutex<Seen>>,
    latest: watch::Receiver<Option<(Instant, Backlog)>>,
}

impl Recorder {
    pub fn start(watcher: Watcher, mut replicas: watch::Receiver<Replicas>) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (sender, latest) = watch::channel(None);

        let record = Arc::clone(&seen);
        tokio::spawn(async move {
            while replicas.changed().await.is_ok() {
                let now = *replicas.borrow_and_update();
                lock(&record).replicas.push((Instant::now(), now));
            }
        });
        let record = Arc::clone(&seen);
        // A thread of its own: the client blocks. It ends with the recorder, when nobody listens any more.
        std::thread::spawn(move || {
            while !sender.is_closed() {
                let began = Instant::now();
                // A moment without an answer is a gap in the curve, not a zero.
                if let Ok(backlog) = watcher.look() {
                    let look = (Instant::now(), backlog);
                    lock(&record).backlog.push(look);
                    sender.send_replace(Some(look));
                }
                std::thread::sleep(INTERVAL.saturating_sub(began.elapsed()));
            }
        });
        Self { seen, latest }
    }

    /// The next look at the broker that brings an answer.
    pub async fn next(&mut self) -> Result<(Instant, Backlog), DemoError> {
        let changed = tokio::time::timeout(PATIENCE, self.latest.changed()).await;
        let look = if matches!(changed, Ok(Ok(()))) { *self.latest.borrow_and_update() } else { None };
        look.ok_or_else(|| DemoError::Waited(PATIENCE, "an answer of the broker".to_owned()))
    }

    /// The replicas as they are now.
    pub fn replicas(&self) -> Replicas {
        lock(&self.seen).replicas.last().map(|(_, replicas)| *replicas).unwrap_or_default()
    }

    /// Messages handled per second over the last `window`.
    pub fn rate(&self, window: Duration) -> f64 {
        let seen = lock(&self.seen);
        let Some((now, last)) = seen.backlog.last() else {
            return 0.0;
        };
        let Some((then, first)) = seen.backlog.iter().find(|(at, _)| now.duration_since(*at) <= window)
        else {
            return 0.0;
        };
        let handled = (last.end - last.lag) - (first.end - first.lag);
        let seconds = now.duration_since(*then).as_secs_f64();
        if seconds > 0.0 { handled as f64 / seconds } else { 0.0 }
    }

    /// All that was seen so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
