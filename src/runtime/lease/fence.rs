//! What every write asks first: may this process still write?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// This process may not write any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to begin a write: this process no longer holds the leader Lease")]
pub struct Fenced;

/// Tells whether this process may write. Cheap to clone and to ask; all clones agree.
///
/// A fence closes by itself: it compares a monotonic clock with a deadline that only a renewal of
/// the Lease moves. A process that was stopped and goes on later finds it closed at the first
/// [`check`](Self::check), before any timer of its own has run. Once closed it stays closed.
#[derive(Clone, Debug)]
pub struct Fence(Option<Arc<Deadline>>);

#[derive(Debug)]
struct Deadline {
    origin: Instant,
    /// Nanoseconds after `origin`.
    closes: AtomicU64,
}

impl Fence {
    /// A fence that never closes: for the command line, where no Lease is held.
    #[must_use]
    pub const fn open() -> Self {
        Self(None)
    }

    /// A fence that closes at `deadline`.
    pub(crate) fn until(deadline: Instant) -> Self {
        let origin = Instant::now();
        Self(Some(Arc::new(Deadline {
            origin,
            closes: AtomicU64::new(nanoseconds(deadline.saturating_duration_since(origin))),
        })))
    }

    /// Whether a write may begin. Ask right before each write.
    pub fn check(&self) -> Result<(), Fenced> {
        match &self.0 {
            Some(deadline) if deadline.now() >= deadline.closes.load(Ordering::Acquire) => Err(Fenced),
            _ => Ok(()),
        }
    }

    /// How long until the fence closes; None if it never does.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let deadline = self.0.as_ref()?;
        let closes = deadline.closes.load(Ordering::Acquire);
        Some(Duration::from_nanos(closes.saturating_sub(deadline.now())))
    }

    /// Moves the deadline, unless the fence has closed already.
    pub(super) fn extend(&self, until: Instant) -> Result<(), Fenced> {
        self.check()?;
        if let Some(deadline) = &self.0 {
            let closes = nanoseconds(until.saturating_duration_since(deadline.origin));
            deadline.closes.store(closes, Ordering::Release);
        }
        self.check()
    }

    /// Closes the fence now.
    pub(in crate::runtime) fn close(&self) {
        if let Some(deadline) = &self.0 {
            deadline.closes.store(0, Ordering::Release);
        }
    }
}

impl Deadline {
    fn now(&self) -> u64 {
        nanoseconds(self.origin.elapsed())
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_fence_never_closes() {
        let fence = Fence::open();
        fence.close();
        assert_eq!(fence.check(), Ok(()));
        assert_eq!(fence.remaining(), None);
    }

    #[test]
    fn a_fence_is_closed_from_its_deadline_on() {
        let past = Fence::until(Instant::now());
        assert_eq!(past.check(), Err(Fenced));
        let future = Fence::until(Instant::now() + Duration::from_secs(3600));
        assert_eq!(future.check(), Ok(()));
    }

    #[test]
    fn a_closed_fence_cannot_be_extended() {
        let fence = Fence::until(Instant::now() + Duration::from_secs(3600));
        let clone = fence.clone();
        fence.close();
        assert_eq!(fence.extend(Instant::now() + Duration::from_secs(3600)), Err(Fenced));
        assert_eq!(clone.check(), Err(Fenced));
    }
}
