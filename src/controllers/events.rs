//! Kubernetes Events: for people, never for machines, so they may be dropped but never block.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use super::context::Guarded;
use crate::api::conditions::cut;

/// How many events may wait to be written.
const WAITING: usize = 256;
/// At most this many are written in a second, after a burst of [`BURST`]: each is a write that a crowd of objects waits for.
const PER_SECOND: u32 = 5;
/// So many may be written at once after some time without any.
const BURST: u32 = 100;
/// What is left of [`WAITING`] for warnings alone.
const FOR_WARNINGS: usize = 64;
/// Longest note that the API server takes, in bytes.
const MAX_NOTE: usize = 1024;

/// Where events are handed in.
#[derive(Clone)]
pub struct Events(mpsc::Sender<(Event, ObjectReference)>);

impl Events {
    /// Starts the task that writes.
    pub fn start(client: Client, instance: String, guarded: Arc<dyn Guarded>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(Event, ObjectReference)>(WAITING);
        let recorder =
            Recorder::new(client, Reporter { controller: "spillway".into(), instance: Some(instance) });
        tokio::spawn(async move {
            let mut pace = Pace::new(Instant::now());
            while let Some((event, about)) = receiver.recv().await {
                tokio::time::sleep(pace.take(Instant::now())).await;
                if guarded.may_write().is_err() {
                    continue;
                }
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::debug!(reason = event.reason, object = about.name, %error, "failed to write event");
                }
            }
        });
        Self(sender)
    }

    /// Hands in an event; it is dropped, with a line in the log, when too many wait.
    pub fn publish(&self, about: ObjectReference, warning: bool, reason: &str, action: &str, note: &str) {
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(cut(note, MAX_NOTE)),
            action: action.to_owned(),
            secondary: None,
        };
        let room = warning || self.0.capacity() > FOR_WARNINGS;
        if !room || self.0.try_send((event, about)).is_err() {
            tracing::debug!(reason, note, "an event was dropped: too many wait");
        }
    }
}

/// How long the next one has to wait. Pure: time comes in.
#[derive(Debug)]
struct Pace {
    /// When all of the burst will be there again, if nothing is taken until then.
    full_at: Instant,
}

impl Pace {
    const fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one; what to wait before it is used.
    fn take(&mut self, now: Instant) -> Duration {
        let each = Duration::from_secs(1) / PER_SECOND;
        self.full_at = self.full_at.max(now) + each;
        self.full_at.saturating_duration_since(now).saturating_sub(each * BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_without_events_allows_one_burst_and_no_flood() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let later = begun + Duration::from_secs(3600);
        let waits: Vec<_> = (0..BURST + 2).map(|_| pace.take(later)).collect();
        let (burst, rest) = waits.split_at(BURST as usize);
        assert!(burst.iter().all(Duration::is_zero), "{burst:?}");
        assert_eq!(rest, [Duration::from_millis(200), Duration::from_millis(400)]);
        assert_eq!(pace.take(later + Duration::from_secs(1)), Duration::ZERO, "the wait was over long ago");
    }
}
