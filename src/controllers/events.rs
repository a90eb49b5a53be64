//! Kubernetes Events: for people, never for machines, so they may be dropped but never block.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use super::context::Guarded;
use crate::api::conditions::cut;

/// How many events may wait to be written.
const WAITING: usize = 256;
/// At most this many are written in a second, after a burst of [`WAITING`].
const PER_SECOND: u64 = 20;
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
            let mut pace = tokio::time::interval(Duration::from_millis(1_000 / PER_SECOND));
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            while let Some((event, about)) = receiver.recv().await {
                pace.tick().await;
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
        if self.0.try_send((event, about)).is_err() {
            tracing::debug!(reason, note, "an event was dropped: too many wait");
        }
    }
}
