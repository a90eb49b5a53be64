//! Which native handles are still there.
//!
//! librdkafka winds a handle down on threads of its own. A process that ends meanwhile takes OpenSSL away from them and
//! dies of it, after all its work was done.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

static LIVE: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Counts one handle for as long as it is there.
pub(super) struct Counted;

impl Counted {
    pub fn new() -> Self {
        change(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        change(-1);
    }
}

fn change(by: isize) {
    let mut live = LIVE.0.lock().unwrap_or_else(PoisonError::into_inner);
    *live = live.saturating_add_signed(by);
    LIVE.1.notify_all();
}

/// Waits until all handles are gone, at most for `limit`: the last thing that a process does.
pub fn wait_until_gone(limit: Duration) {
    let live = LIVE.0.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = LIVE.1.wait_timeout_while(live, limit, |live| *live > 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_goes_ends_the_wait() {
        let one = Counted::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_until_gone(Duration::from_secs(60)));
            drop(one);
            // Other tests have handles of their own, which go, too.
            waiting.join().expect("it ends");
        });
    }
}
