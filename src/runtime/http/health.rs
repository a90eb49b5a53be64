//! Is the process alive, and is it ready? Named heartbeats, and named flags.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What `/healthz` and `/readyz` are answered from. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    max_age: Duration,
    beats: BTreeMap<String, Instant>,
    flags: BTreeMap<String, bool>,
}

/// One answer: whether all is well, and a line about each part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether every part is well.
    pub ok: bool,
    /// A line for each part that says how it is.
    pub text: String,
}

impl Health {
    /// A process is dead once one of its loops has not beaten for `max_age`.
    #[must_use]
    pub fn new(max_age: Duration) -> Self {
        Self(Arc::new(Mutex::new(State { max_age, beats: BTreeMap::new(), flags: BTreeMap::new() })))
    }

    /// The loop `name` is alive now; from its first beat on it must beat again within the maximum age.
    pub fn heartbeat(&self, name: &str) {
        let now = Instant::now();
        let mut state = self.state();
        match state.beats.get_mut(name) {
            Some(beat) => *beat = now,
            None => drop(state.beats.insert(name.to_owned(), now)),
        }
    }

    /// The loop `name` has ended as it should, and beats no more.
    pub fn ended(&self, name: &str) {
        self.state().beats.remove(name);
    }

    /// Announces the flag `name`: the process is not ready before it is set.
    pub fn ready(&self, name: &str) {
        self.state().flags.entry(name.to_owned()).or_default();
    }

    /// Sets the flag `name`.
    pub fn set_ready(&self, name: &str, ready: bool) {
        self.state().flags.insert(name.to_owned(), ready);
    }

    /// The answer of `/healthz`.
    #[must_use]
    pub fn liveness(&self) -> Report {
        self.liveness_at(Instant::now())
    }

    fn liveness_at(&self, now: Instant) -> Report {
        let state = self.state();
        let parts = state.beats.iter().map(|(name, beat)| {
            let age = now.saturating_duration_since(*beat);
            let ok = age <= state.max_age;
            (ok, format!("{name}: {:.1} s since its last sign of life", age.as_secs_f64()))
        });
        Report::of(parts)
    }

    /// The answer of `/readyz`.
    #[must_use]
    pub fn readiness(&self) -> Report {
        let state = self.state();
        let parts = state.flags.iter().map(|(name, ready)| {
            let words = if *ready { "ready" } else { "not ready" };
            (*ready, format!("{name}: {words}"))
        });
        Report::of(parts)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    fn of(parts: impl Iterator<Item = (bool, String)>) -> Self {
        let mut report = Self { ok: true, text: String::new() };
        for (ok, words) in parts {
            report.ok &= ok;
            let mark = if ok { '+' } else { '-' };
            let _ = writeln!(report.text, "[{mark}] {words}");
        }
        let verdict = if report.ok { "ok" } else { "failing" };
        let _ = writeln!(report.text, "{verdict}");
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_silent_for_too_long_makes_the_process_dead_and_is_named() {
        let health = Health::new(Duration::from_secs(10));
        health.heartbeat("sweep");
        assert!(health.liveness_at(Instant::now()).ok);
        let late = health.liveness_at(Instant::now() + Duration::from_secs(11));
        assert!(!late.ok && late.text.starts_with("[-] sweep: 11.0 s"), "{late:?}");
        health.ended("sweep");
        assert!(health.liveness_at(Instant::now() + Duration::from_secs(11)).ok);
    }

    #[test]
    fn a_process_is_ready_when_all_its_flags_are_set() {
        let health = Health::new(Duration::from_secs(10));
        health.ready("topics");
        health.ready("brokers");
        health.set_ready("topics", true);
        assert!(!health.readiness().ok);
        assert_eq!(health.readiness().text, "[-] brokers: not ready\n[+] topics: ready\nfailing\n");
        health.set_ready("brokers", true);
        assert!(health.readiness().ok);
        health.ready("brokers");
        assert!(health.readiness().ok, "announcing a flag again does not clear it");
    }
}
