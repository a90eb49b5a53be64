//! How many runs go on at a time, over all tests of this process.

use std::sync::{Condvar, Mutex, PoisonError};

/// Places: four runs that work, or twelve that wait.
const PLACES: usize = 12;

static FREE: (Mutex<usize>, Condvar) = (Mutex::new(PLACES), Condvar::new());

/// How much a run keeps the machine busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// All the time.
    Works,
    /// It mostly waits, as for a second look at what a queue holds.
    Waits,
}

/// The places of one run, until it is dropped.
pub struct Turn(usize);

impl Turn {
    pub fn take(pace: Pace) -> Self {
        let places = if pace == Pace::Works { 3 } else { 1 };
        let free = FREE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = FREE.1.wait_while(free, |free| *free < places).unwrap_or_else(PoisonError::into_inner);
        *free -= places;
        Self(places)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.0.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        // Not every one that waits needs as many.
        FREE.1.notify_all();
    }
}
