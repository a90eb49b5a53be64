//! Calls that go to a group's coordinator, kept within what librdkafka survives.
//!
//! librdkafka 2.12 aborts the process when such a call times out inside it while it still waits for
//! the coordinator's connection, and the connection then comes (its issues 4605 and 3663). So these
//! calls get [`NATIVE_TIMEOUT`] there, which they never use up; callers stop waiting by themselves;
//! a group has at most one call of a kind under way, so an outage piles nothing up.
//!
//! A coordinator that is not there any more is the second thing. librdkafka looks for another one when the broker that
//! it waits for fails to connect once more; one that the cluster has given up, and the list of brokers does not name, it
//! waits for without a further look. And it keeps the coordinators of a few groups: one that lives and coordinates the
//! group no more is asked for ever. So a client with a call that waits although the cluster answers, or with a
//! group whose coordinator says for long that it is none, is replaced and goes, its calls with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What librdkafka is told: just under the longest that it takes (an hour).
pub(super) const NATIVE_TIMEOUT: Duration = Duration::from_secs(3_590);
/// How long a call may wait until its client is given up, whatever the reason.
const LONGEST: Duration = Duration::from_secs(600);
/// The same while the cluster answers other calls: longer than it takes to give up a broker that died, and to find its
/// groups another coordinator (9 s: `broker.session.timeout.ms`).
pub(super) const PATIENCE: Duration = Duration::from_secs(12);
/// Share of that for which a broker may say that it is not the coordinator: while one moves, its word is not the last.
const MISLED: u32 = 4;

/// How patient the next client is, after one that was patient for so long and was given up at this age: where a
/// coordinator stays away, a new client does not find it either.
pub(super) fn next_patience(patience: Duration, age: Duration) -> Duration {
    if age < 3 * patience { (2 * patience).min(LONGEST) } else { PATIENCE }
}

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
pub(super) struct Calls(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    under_way: HashMap<(Question, String), Instant>,
    /// Groups whose coordinator says that it is none, and since when.
    misled: HashMap<String, Instant>,
}

/// Calls of one request; they end when it is dropped, which is when librdkafka has answered.
#[derive(Debug)]
pub(super) struct UnderWay {
    calls: Calls,
    question: Question,
    groups: Vec<String>,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call for each group; none if one of them has an earlier call under way.
    pub fn begin(&self, question: Question, groups: &[&str]) -> Option<UnderWay> {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        let mut calls = self.lock();
        if groups.iter().any(|group| calls.under_way.contains_key(&(question, group.clone()))) {
            return None;
        }
        let now = Instant::now();
        calls.under_way.extend(groups.iter().map(|group| ((question, group.clone()), now)));
        drop(calls);
        Some(UnderWay { calls: self.clone(), question, groups })
    }

    /// Whether an earlier call about a group still waits for its answer.
    pub fn waits(&self, question: Question, group: &str) -> bool {
        self.lock().under_way.contains_key(&(question, group.to_owned()))
    }

    /// Takes in what a coordinator, or what is taken for one, has said about a group.
    pub fn answered(&self, group: &str, is_coordinator: bool) {
        let mut calls = self.lock();
        if is_coordinator {
            calls.misled.remove(group);
        } else {
            calls.misled.entry(group.to_owned()).or_insert_with(Instant::now);
        }
    }

    /// Whether the client is better replaced. `heard`: the cluster answers other calls.
    pub fn lost(&self, patience: Duration, heard: bool) -> bool {
        let calls = self.lock();
        let limit = if heard { patience } else { LONGEST };
        calls.under_way.values().any(|since| since.elapsed() >= limit)
            || calls.misled.values().any(|since| since.elapsed() >= patience / MISLED)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut calls = self.calls.lock();
        for group in self.groups.drain(..) {
            calls.under_way.remove(&(self.question, group));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_waits_for_nobody_or_asks_the_wrong_one_is_lost() {
        let (calls, short, long) = (Calls::default(), Duration::ZERO, Duration::from_secs(600));
        assert!(!calls.lost(short, true));
        let waits = calls.begin(Question::Offsets, &["a"]).unwrap();
        assert!(calls.lost(short, true) && !calls.lost(long, true));
        assert!(!calls.lost(short, false), "nobody answers: no client would be better");
        drop(waits);
        assert!(!calls.lost(short, true));
        calls.answered("a", false);
        assert!(calls.lost(short, true) && !calls.lost(long, true));
        calls.answered("a", true);
        assert!(!calls.lost(short, true));
    }

    #[test]
    fn where_new_clients_fail_alike_the_next_one_is_more_patient() {
        let next = |patience, age| next_patience(Duration::from_secs(patience), Duration::from_secs(age));
        assert_eq!((next(12, 13), next(24, 25), next(24, 80)), (PATIENCE * 2, PATIENCE * 4, PATIENCE));
        assert_eq!(next(500, 501), LONGEST);
    }

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
