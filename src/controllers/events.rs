//! Kubernetes Events: for people, never for machines, so they may be dropped but never block.

use std::collections::HashMap;
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
/// Of one object and reason, so many events with another note each, and then one more in so many seconds; what comes
/// beyond that is counted up in the last one: who changes all the time does not fill the API server.
const NOTES: (u32, Duration) = (10, Duration::from_secs(300));
/// How long an event is counted up: as kube's recorder does.
const COUNTED: Duration = Duration::from_secs(360);

/// Where events are handed in.
#[derive(Clone)]
pub struct Events(mpsc::Sender<(Event, ObjectReference)>);

impl Events {
    /// Starts the task that writes.
    pub fn start(client: Client, instance: String, guarded: Arc<dyn Guarded>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(Event, ObjectReference)>(WAITING);
        let mut recorders = Recorders { client, instance, told: HashMap::new() };
        tokio::spawn(async move {
            let mut pace = Pace::new(Instant::now(), BURST, Duration::from_secs(1) / PER_SECOND);
            loop {
                let Ok(next) = tokio::time::timeout(COUNTED, receiver.recv()).await else {
                    // Nothing came for so long: all that is remembered is too old to be counted up.
                    recorders.told = HashMap::new();
                    continue;
                };
                let Some((event, about)) = next else { return };
                tokio::time::sleep(pace.take(Instant::now())).await;
                if guarded.may_write().is_err() {
                    continue;
                }
                let recorder = recorders.of(&event, &about, Instant::now());
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

/// kube's recorder counts up its first event of an object and reason, whatever the next one says; and the API server lets
/// nobody change what an event says. So each note has a recorder of its own.
struct Recorders {
    client: Client,
    instance: String,
    told: HashMap<String, Told>,
}

/// The last note of one object and reason.
struct Told {
    note: Option<String>,
    recorder: Recorder,
    at: Instant,
    pace: Pace,
}

impl Recorders {
    fn of(&mut self, event: &Event, about: &ObjectReference, now: Instant) -> Recorder {
        self.told.retain(|_, told| now < told.at + COUNTED);
        let new = || {
            let instance = Some(self.instance.clone());
            Recorder::new(self.client.clone(), Reporter { controller: "spillway".into(), instance })
        };
        let [kind, namespace, name, uid] = [&about.kind, &about.namespace, &about.name, &about.uid]
            .map(|part| part.as_deref().unwrap_or_default());
        let told = self.told.entry(format!("{kind}/{namespace}/{name}/{uid}/{}", event.reason));
        let told = told.or_insert_with(|| Told {
            note: None,
            recorder: new(),
            at: now,
            pace: Pace::new(now, NOTES.0, NOTES.1),
        });
        told.at = now;
        if told.note != event.note && told.pace.takes(now) {
            told.note.clone_from(&event.note);
            told.recorder = new();
        }
        told.recorder.clone()
    }
}

/// How long the next one has to wait. Pure: time comes in.
#[derive(Debug)]
struct Pace {
    burst: u32,
    /// How long one takes to be there again.
    each: Duration,
    /// When all of the burst will be there again, if nothing is taken until then.
    full_at: Instant,
}

impl Pace {
    const fn new(now: Instant, burst: u32, each: Duration) -> Self {
        Self { burst, each, full_at: now }
    }

    /// Takes one; what to wait before it is used.
    fn take(&mut self, now: Instant) -> Duration {
        self.full_at = self.full_at.max(now) + self.each;
        self.full_at.saturating_duration_since(now).saturating_sub(self.each * self.burst)
    }

    /// Takes one if there is one.
    fn takes(&mut self, now: Instant) -> bool {
        let there = self.full_at.saturating_duration_since(now) + self.each <= self.each * self.burst;
        if there {
            self.full_at = self.full_at.max(now) + self.each;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_without_events_allows_one_burst_and_no_flood() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun, BURST, Duration::from_secs(1) / PER_SECOND);
        let later = begun + Duration::from_secs(3600);
        let waits: Vec<_> = (0..BURST + 2).map(|_| pace.take(later)).collect();
        let (burst, rest) = waits.split_at(BURST as usize);
        assert!(burst.iter().all(Duration::is_zero), "{burst:?}");
        assert_eq!(rest, [Duration::from_millis(200), Duration::from_millis(400)]);
        assert_eq!(pace.take(later + Duration::from_secs(1)), Duration::ZERO, "the wait was over long ago");
    }

    #[test]
    fn who_changes_all_the_time_has_few_notes() {
        let (burst, each) = NOTES;
        let begun = Instant::now();
        let mut pace = Pace::new(begun, burst, each);
        let taken = (0..3_600).filter(|&second| pace.takes(begun + Duration::from_secs(second))).count();
        assert_eq!(taken, 10 + 11);
        assert!(pace.takes(begun + Duration::from_secs(3_600)), "and has one again later");
    }
}
