//! One answer that many can share: whoever comes while it is being fetched waits for it, nobody fetches it twice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer is kept, from when it was there: one that took long is no less an answer.
pub const KEEP: Duration = Duration::from_secs(10);

/// The place of one answer.
pub struct Slot<T, E> {
    last: Mutex<Option<Answer<T, E>>>,
    turn: tokio::sync::Mutex<()>,
}

struct Answer<T, E> {
    /// When the request began: what happened after is not in it.
    begun: Instant,
    ended: Instant,
    outcome: Result<Arc<T>, E>,
}

impl<T, E> Default for Slot<T, E> {
    fn default() -> Self {
        Self { last: Mutex::new(None), turn: tokio::sync::Mutex::new(()) }
    }
}

impl<T, E: Clone> Slot<T, E> {
    /// The answer that is kept, if its request began at or after `not_before`.
    pub fn kept(&self, not_before: Instant) -> Option<Arc<T>> {
        let last = self.last();
        let answer =
            last.as_ref().filter(|answer| answer.begun >= not_before && answer.ended.elapsed() < KEEP)?;
        answer.outcome.as_ref().ok().map(Arc::clone)
    }

    /// An answer whose request began at or after `not_before`: the one that is kept, one that is being fetched, or
    /// else `fetch`. A failure is told to all who came before it was known, and to nobody who comes later.
    pub async fn get(
        &self,
        not_before: Instant,
        fetch: impl AsyncFnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        if let Some(kept) = self.kept(not_before) {
            return Ok(kept);
        }
        let came = Instant::now();
        let _turn = self.turn.lock().await;
        if let Some(kept) = self.kept(not_before) {
            return Ok(kept);
        }
        if let Some(error) = self.failed(came) {
            return Err(error);
        }
        let begun = Instant::now();
        let outcome = fetch().await.map(Arc::new);
        *self.last() = Some(Answer { begun, ended: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    /// Keeps an answer that was fetched elsewhere, unless a younger one is kept.
    pub fn put(&self, begun: Instant, answer: T) {
        let mut last = self.last();
        if last.as_ref().is_none_or(|kept| kept.begun <= begun) {
            *last = Some(Answer { begun, ended: Instant::now(), outcome: Ok(Arc::new(answer)) });
        }
    }

    /// Forgets an answer that is too old. Whether the slot is empty then.
    pub fn tidy(&self) -> bool {
        let mut last = self.last();
        last.take_if(|answer| answer.ended.elapsed() >= KEEP);
        last.is_none()
    }

    fn failed(&self, came: Instant) -> Option<E> {
        let last = self.last();
        let answer = last.as_ref().filter(|answer| answer.ended >= came)?;
        answer.outcome.as_ref().err().cloned()
    }

    fn last(&self) -> MutexGuard<'_, Option<Answer<T, E>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;

    use super::*;

    type Slot<T> = super::Slot<T, &'static str>;

    #[tokio::test]
    async fn all_who_wait_share_one_answer() {
        let (slot, asked) = (Slot::default(), AtomicU32::new(0));
        let before = Instant::now();
        let answers = join_all((0..100).map(|_| {
            slot.get(before, async || {
                tokio::task::yield_now().await;
                Ok(asked.fetch_add(1, Ordering::Relaxed))
            })
        }))
        .await;
        assert!(answers.iter().all(|answer| answer.as_deref() == Ok(&0)));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_answer_that_began_before_is_not_given() {
        let slot = Slot::default();
        slot.put(Instant::now(), 1);
        let later = Instant::now();
        assert_eq!(slot.kept(later), None);
        assert_eq!(slot.get(later, async || Ok(2)).await.as_deref(), Ok(&2));
        assert_eq!(slot.get(later, async || Ok(3)).await.as_deref(), Ok(&2));
    }

    #[tokio::test]
    async fn an_older_answer_does_not_displace_a_younger_one() {
        let slot = Slot::default();
        let (older, younger) = (Instant::now(), Instant::now() + Duration::from_nanos(1));
        slot.put(younger, 2);
        slot.put(older, 1);
        assert_eq!(slot.kept(older).as_deref(), Some(&2));
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_waited_and_to_nobody_else() {
        let (slot, asked) = (Slot::<u32>::default(), AtomicU32::new(0));
        let before = Instant::now();
        let answers = join_all((0..10).map(|_| {
            slot.get(before, async || {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Err("boom")
            })
        }))
        .await;
        assert!(answers.iter().all(|answer| answer.as_ref().err() == Some(&"boom")));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(slot.get(before, async || Ok(7)).await.as_deref(), Ok(&7));
    }

    #[tokio::test]
    async fn who_gives_up_while_fetching_leaves_the_turn_to_the_next() {
        let slot = Slot::default();
        let before = Instant::now();
        let given_up = tokio::time::timeout(
            Duration::from_millis(5),
            slot.get(before, async || std::future::pending::<Result<u32, &'static str>>().await),
        );
        assert!(given_up.await.is_err());
        assert_eq!(slot.get(before, async || Ok(1)).await.as_deref(), Ok(&1));
    }

    #[test]
    fn an_answer_that_took_longer_than_it_is_kept_was_never_given() {
        let slot = Slot::default();
        let Some(begun) = Instant::now().checked_sub(KEEP * 2) else { return };
        slot.put(begun, 1);
        assert_eq!(slot.kept(begun).as_deref(), Some(&1));
        assert!(!slot.tidy());
    }

    #[test]
    fn an_answer_that_is_too_old_is_neither_given_nor_kept() {
        let slot = Slot::default();
        let Some(old) = Instant::now().checked_sub(KEEP) else { return };
        *slot.last() = Some(Answer { begun: old, ended: old, outcome: Ok(Arc::new(1)) });
        assert_eq!(slot.kept(old), None);
        assert!(slot.tidy());
        slot.put(Instant::now(), 2);
        assert!(!slot.tidy());
    }
}
