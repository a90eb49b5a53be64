//! Who writes about a Consumer: one hand at a time.
//!
//! A Consumer that moves to another Broker is polled by another collector from one moment to the next, while a write of
//! the first may be on its way: of two patches the later one must not be the older one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::ConsumerStatus;

/// What all collectors share of one Consumer.
pub struct Pen {
    /// A patch of `/scale` is on its way.
    pub scaling: AtomicBool,
    /// A status is on its way.
    pub writing: AtomicBool,
    /// The last status that was sent was not written.
    pub failed: AtomicBool,
    written: Mutex<Option<ConsumerStatus>>,
}

impl Pen {
    /// The pen of a Consumer with this status.
    #[must_use]
    pub fn new(status: Option<ConsumerStatus>) -> Self {
        let free = || AtomicBool::new(false);
        Self { scaling: free(), writing: free(), failed: free(), written: Mutex::new(status) }
    }

    /// The status that was sent last, or that was there.
    #[must_use]
    pub fn written(&self) -> Option<ConsumerStatus> {
        self.lock().clone()
    }

    /// Takes the pen for a status; false: another one is being written.
    #[must_use]
    pub fn take(&self, status: &ConsumerStatus) -> bool {
        let taken = !self.writing.swap(true, Ordering::AcqRel);
        if taken {
            self.failed.store(false, Ordering::Release);
            *self.lock() = Some(status.clone());
        }
        taken
    }

    /// Puts it back.
    pub fn put_back(&self, written: bool) {
        self.failed.store(!written, Ordering::Release);
        self.writing.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Option<ConsumerStatus>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_waits_for_the_one_that_is_being_written() {
        let about = |generation| ConsumerStatus {
            observed_generation: Some(generation),
            ..ConsumerStatus::default()
        };
        let pen = Pen::new(None);
        assert!(pen.take(&about(1)));
        assert!(!pen.take(&about(2)));
        assert_eq!(pen.written(), Some(about(1)));
        pen.put_back(false);
        assert!(pen.failed.load(Ordering::Acquire));
        assert!(pen.take(&about(2)) && !pen.failed.load(Ordering::Acquire));
        assert_eq!(pen.written(), Some(about(2)));
    }
}
