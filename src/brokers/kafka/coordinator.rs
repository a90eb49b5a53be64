//! Calls that go to a group's coordinator, kept within what librdkafka survives.
//!
//! librdkafka 2.12 aborts the process when such a call times out inside it while it still waits for
//! the coordinator's connection, and the connection then comes (its issues 4605 and 3663). So these
//! calls get [`NATIVE_TIMEOUT`] there, which they never use up; callers stop waiting by themselves;
//! a group has at most one call of a kind under way, so an outage piles nothing up; and a client
//! with a call that waits longer than [`STALE_AFTER`] is replaced and goes, its calls with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What librdkafka is told: just under the longest that it takes (an hour).
pub(super) const NATIVE_TIMEOUT: Duration = Duration::from_secs(3_590);
/// How long a call may wait until its client is given up.
const STALE_AFTER: Duration = Duration::from_secs(600);

/// What is asked of a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// Committed offsets.
    Offsets,
    /// State and members.
    Members,
    /// Its deletion.
    Deletion,
}

/// The calls under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls(Arc<Mutex<HashMap<(Question, String), Instant>>>);

/// Calls of one request; they end when it is dropped, which is when librdkafka has answered.
#[derive(Debug)]
pub(super) struct UnderWay {
    calls: Calls,
    question: Question,
    groups: Vec<String>,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Question, String), Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call for each group; none if one of them has an earlier call under way.
    pub fn begin(&self, question: Question, groups: &[&str]) -> Option<UnderWay> {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        let mut calls = self.lock();
        if groups.iter().any(|group| calls.contains_key(&(question, group.clone()))) {
            return None;
        }
        let now = Instant::now();
        calls.extend(groups.iter().map(|group| ((question, group.clone()), now)));
        drop(calls);
        Some(UnderWay { calls: self.clone(), question, groups })
    }

    /// Whether an earlier call about a group still waits for its answer.
    pub fn waits(&self, question: Question, group: &str) -> bool {
        self.lock().contains_key(&(question, group.to_owned()))
    }

    /// Whether a call has waited for so long that the client is better replaced.
    pub fn stale(&self) -> bool {
        self.lock().values().any(|since| since.elapsed() > STALE_AFTER)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut calls = self.calls.lock();
        for group in self.groups.drain(..) {
            calls.remove(&(self.question, group));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_one_call_of_a_kind_under_way() {
        let calls = Calls::default();
        let first = calls.begin(Question::Offsets, &["a", "b"]).unwrap();
        assert!(calls.begin(Question::Offsets, &["b", "c"]).is_none());
        assert!(!calls.waits(Question::Offsets, "c"));
        assert!(calls.begin(Question::Members, &["b"]).is_some());
        drop(first);
        assert!(calls.begin(Question::Offsets, &["b", "c"]).is_some());
    }
}
