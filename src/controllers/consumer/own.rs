//! Spillway's own patches of `/scale`: what was sent, and what became of it. Pure.
//!
//! The API server's answer, and the watch that shows what it did, come in any order, and an answer may not come at all.
//! Whichever is first counts a patch as accepted, once: else an own patch would look like somebody else's.

use std::time::{Duration, Instant};

/// For how long a patch that nobody answered may still take effect.
const LATE: Duration = Duration::from_secs(60);

/// The patches of one workload.
#[derive(Debug, Default)]
pub struct Own {
    accepted: Option<Accepted>,
    /// How many were accepted.
    count: u64,
    sent: Vec<Sent>,
    next: u64,
}

/// The last one that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Accepted {
    replicas: u32,
    version: u64,
}

/// One of which the outcome is not known.
#[derive(Debug)]
struct Sent {
    ticket: Ticket,
    replicas: u32,
    /// The workload's version before it.
    after: u64,
    at: Instant,
}

/// Stands for one patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// What is known of a workload's count, own patches taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What is wanted.
    pub wanted: u32,
    /// How many own patches were accepted.
    pub accepted: u64,
    /// What the last of them asked for.
    pub asked: Option<u32>,
}

impl Own {
    /// A patch is about to be sent; the watch shows the workload at `version`.
    pub fn sends(&mut self, replicas: u32, version: u64, now: Instant) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        let after = self.accepted.map_or(version, |accepted| accepted.version.max(version));
        self.sent.retain(|sent| now < sent.at + LATE);
        self.sent.push(Sent { ticket, replicas, after, at: now });
        ticket
    }

    /// The API server took it, which made the workload's version this one.
    pub fn accepted(&mut self, ticket: Ticket, version: u64) {
        if let Some(replicas) = self.take(|sent| sent.ticket == ticket) {
            self.count += 1;
            self.accepted = Some(Accepted { replicas, version });
        }
    }

    /// The API server did not take it, for certain.
    pub fn refused(&mut self, ticket: Ticket) {
        self.take(|sent| sent.ticket == ticket);
    }

    /// The watch shows so many wanted, at a version.
    pub fn seen(&mut self, wanted: u32, version: u64, now: Instant) -> Known {
        let taken = |sent: &Sent| sent.replicas == wanted && version > sent.after && now < sent.at + LATE;
        if let Some(replicas) = self.take(taken) {
            self.count += 1;
            self.accepted = Some(Accepted { replicas, version });
        }
        let newer = self.accepted.filter(|accepted| accepted.version > version);
        Known {
            wanted: newer.map_or(wanted, |accepted| accepted.replicas),
            accepted: self.count,
            asked: self.accepted.map(|accepted| accepted.replicas),
        }
    }

    fn take(&mut self, which: impl Fn(&Sent) -> bool) -> Option<u32> {
        let at = self.sent.iter().position(which)?;
        Some(self.sent.remove(at).replicas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(wanted: u32, accepted: u64, asked: u32) -> Known {
        Known { wanted, accepted, asked: Some(asked) }
    }

    #[test]
    fn an_own_patch_that_the_watch_shows_before_its_answer_counted_as_somebody_elses() {
        let (mut own, now) = (Own::default(), Instant::now());
        let ticket = own.sends(3, 10, now);
        assert_eq!(own.seen(1, 11, now), Known { wanted: 1, accepted: 0, asked: None });
        assert_eq!(own.seen(3, 12, now), known(3, 1, 3));
        own.accepted(ticket, 12);
        assert_eq!(own.seen(3, 13, now), known(3, 1, 3));
    }

    #[test]
    fn an_own_patch_that_timed_out_and_took_effect_counted_as_somebody_elses() {
        let (mut own, now) = (Own::default(), Instant::now());
        let soon = now + Duration::from_secs(6);
        own.sends(3, 10, now);
        let second = own.sends(6, 10, soon);
        assert_eq!(own.seen(3, 12, soon), known(3, 1, 3));
        own.accepted(second, 13);
        assert_eq!(own.seen(3, 12, soon), known(6, 2, 6));
        // It cannot take effect for ever.
        let (third, later) = (own.sends(2, 13, soon), soon + LATE);
        assert_eq!(own.seen(2, 14, later), known(2, 2, 6));
        own.accepted(third, 15);
        assert_eq!(own.seen(2, 16, later), known(2, 3, 2));
    }

    #[test]
    fn a_count_that_was_there_before_or_was_refused_is_no_own_patch() {
        let (mut own, now) = (Own::default(), Instant::now());
        let first = own.sends(3, 10, now);
        own.accepted(first, 11);
        // The watch is late: it still shows what was there before.
        own.sends(1, 10, now);
        assert_eq!(own.seen(1, 10, now), known(3, 1, 3));
        let refused = own.sends(5, 11, now);
        own.refused(refused);
        assert_eq!(own.seen(5, 12, now), known(5, 1, 3));
    }
}
