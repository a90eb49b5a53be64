//! How far long work has come, told on standard error: in place on a terminal, else in lines.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two words on a terminal.
const TERMINAL: Duration = Duration::from_secs(1);
/// Between two lines elsewhere.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// Counts, and says so now and then. Work that is done before the first word is due says nothing.
pub struct Progress {
    terminal: bool,
    state: Mutex<State>,
}

struct State {
    what: &'static str,
    done: usize,
    all: usize,
    told: Instant,
    shown: bool,
}

impl Progress {
    /// Nothing under way.
    #[must_use]
    pub fn new() -> Self {
        let state = State { what: "", done: 0, all: 0, told: Instant::now(), shown: false };
        Self { terminal: stderr().is_terminal(), state: Mutex::new(state) }
    }

    /// Work on `all` objects begins; `what` is what was done with one that is done.
    pub fn begin(&self, what: &'static str, all: usize) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) =
            State { what, done: 0, all, told: Instant::now(), shown: false };
    }

    /// One more is done.
    pub fn one(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done += 1;
        if state.told.elapsed() < if self.terminal { TERMINAL } else { ELSEWHERE } {
            return;
        }
        state.told = Instant::now();
        state.shown = true;
        let State { what, done, all, .. } = *state;
        // A terminal that went away is no reason to stop the work.
        let _ = if self.terminal {
            write!(stderr(), "\r{done}/{all} {what}")
        } else {
            writeln!(stderr(), "{done}/{all} {what}")
        };
    }

    /// The work ended: the line on a terminal goes.
    pub fn end(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.terminal && state.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
