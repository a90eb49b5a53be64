//! Whose turn it is: a person's edit goes before a resync, however many objects are looked at again.
//!
//! kube's Controller knows no priorities and hands out what waits in no order. So it may begin every
//! pass at once, and passes wait here: in two lanes, so that a resync never takes the place of an
//! edit. A pass that waits for a resync's turn, and whose object is edited meanwhile, changes lanes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::brokers::lane::Lane;

/// How many passes about edits run at once. Most of a pass is waiting for a batch to fill.
const USERS: usize = 512;
/// How many others.
const RESYNCS: usize = 256;

/// The turns of all passes over topology.
pub struct Turns {
    users: Semaphore,
    resyncs: Semaphore,
    /// Passes that wait for a resync's turn, by the UID of their object.
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { users: Semaphore::new(USERS), resyncs: Semaphore::new(RESYNCS), waiting: Mutex::default() }
    }
}

impl Turns {
    /// Waits for a turn, which lasts until the answer is dropped. None: the process ends.
    pub async fn take(&self, uid: &str, lane: Lane) -> Option<SemaphorePermit<'_>> {
        if lane == Lane::User {
            return self.users.acquire().await.ok();
        }
        if let Ok(turn) = self.resyncs.try_acquire() {
            return Some(turn);
        }
        let (hurry, hurried) = oneshot::channel();
        self.waiting().insert(uid.to_owned(), hurry);
        tokio::select! {
            turn = self.resyncs.acquire() => {
                self.waiting().remove(uid);
                turn.ok()
            }
            // There is one pass over an object at a time, so nobody else takes its sender away.
            _ = hurried => self.users.acquire().await.ok(),
        }
    }

    /// The object was edited: a pass over it that waits goes first.
    pub fn hurry(&self, uid: &str) {
        if let Some(waiting) = self.waiting().remove(uid) {
            let _ = waiting.send(());
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// As many turns as there are in the resync lane.
    async fn crowd(turns: &Turns) -> Vec<SemaphorePermit<'_>> {
        let mut taken = Vec::new();
        for number in 0..RESYNCS {
            taken.extend(turns.take(&number.to_string(), Lane::Resync).await);
        }
        taken
    }

    #[tokio::test]
    async fn an_edit_does_not_wait_for_a_resync() {
        let turns = Turns::default();
        let taken = crowd(&turns).await;
        assert_eq!(taken.len(), RESYNCS);
        assert!(turns.take("resync", Lane::Resync).now_or_never().is_none());
        assert!(turns.take("edit", Lane::User).now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn a_resync_that_waits_goes_first_once_its_object_is_edited() {
        let turns = Turns::default();
        let _taken = crowd(&turns).await;
        let mut waiting = std::pin::pin!(turns.take("edited", Lane::Resync));
        assert!(waiting.as_mut().now_or_never().is_none());
        turns.hurry("somebody else");
        assert!(waiting.as_mut().now_or_never().is_none());
        turns.hurry("edited");
        assert!(waiting.now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn a_turn_that_ends_is_the_next_ones() {
        let turns = Turns::default();
        let mut taken = crowd(&turns).await;
        let mut waiting = std::pin::pin!(turns.take("next", Lane::Resync));
        assert!(waiting.as_mut().now_or_never().is_none());
        taken.pop();
        assert!(waiting.now_or_never().flatten().is_some());
        assert!(turns.waiting().is_empty());
    }
}
