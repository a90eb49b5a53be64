//! Which objects have to be looked at, and whose turn it is. Pure: time comes in.
//!
//! A person's edit goes before a resync, however many objects are looked at again: there are two lanes, each with
//! its own number of passes that run at once, so that neither takes the place of the other.
//!
//! # Guarantees
//! - There is one pass over an object at a time. What comes up while it runs is looked at right after it.
//! - An object waits once, in the better one of the lanes that it was put into.
//! - In a lane, who came first goes first.
//! - A look that was put off is dropped when the object is looked at before.
//! - Every call costs the same however many wait.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use crate::brokers::lane::Lane;

/// How many passes run at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// About edits. Most of a pass is waiting for a batch to fill.
    pub users: usize,
    /// About everything else.
    pub resyncs: usize,
}

/// The list. `I` names an object.
#[derive(Debug)]
pub struct Worklist<I> {
    limits: Limits,
    users: Queue<I>,
    resyncs: Queue<I>,
    known: HashMap<I, Standing>,
    /// When to look again, and the number that [`Standing::Later`] bears if this is still so.
    later: BinaryHeap<Reverse<(Instant, u64)>>,
    put_off: HashMap<u64, I>,
    number: u64,
}

#[derive(Debug)]
struct Queue<I> {
    waiting: VecDeque<I>,
    /// Without those that have left for the other lane.
    len: usize,
    running: usize,
}

/// Where an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waiting(Lane),
    Running { lane: Lane, again: Option<Lane> },
    Later(u64),
}

impl<I: Clone + Eq + Hash + Debug> Worklist<I> {
    /// An empty list.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let empty = || Queue { waiting: VecDeque::new(), len: 0, running: 0 };
        Self {
            limits,
            users: empty(),
            resyncs: empty(),
            known: HashMap::new(),
            later: BinaryHeap::new(),
            put_off: HashMap::new(),
            number: 0,
        }
    }

    /// An object has to be looked at.
    pub fn add(&mut self, id: I, lane: Lane) {
        match self.known.get_mut(&id) {
            Some(Standing::Running { again, .. }) => *again = Some(better(*again, lane)),
            Some(Standing::Waiting(waits)) if better(Some(*waits), lane) == *waits => {}
            Some(Standing::Waiting(waits)) => {
                // Its place in the other lane is passed over when it comes up.
                let left = *waits;
                self.queue(left).len -= 1;
                self.wait(id, lane);
            }
            Some(Standing::Later(number)) => {
                let number = *number;
                self.put_off.remove(&number);
                self.wait(id, lane);
            }
            None => self.wait(id, lane),
        }
    }

    /// The next object whose turn it is, if another pass may run now. Its pass runs until [`Worklist::ended`].
    pub fn start(&mut self) -> Option<I> {
        [Lane::User, Lane::Resync].into_iter().find_map(|lane| self.start_in(lane))
    }

    /// A pass is through; `again` is when to look once more where nothing will say so.
    pub fn ended(&mut self, id: &I, again: Option<Instant>) {
        let Some(Standing::Running { lane, again: woken }) = self.known.remove(id) else { return };
        self.queue(lane).running -= 1;
        match (woken, again) {
            (Some(lane), _) => self.wait(id.clone(), lane),
            (None, Some(at)) => {
                self.number += 1;
                self.known.insert(id.clone(), Standing::Later(self.number));
                self.put_off.insert(self.number, id.clone());
                self.later.push(Reverse((at, self.number)));
            }
            (None, None) => {}
        }
    }

    /// Lets those wait for their turn whose time has come.
    pub fn due(&mut self, now: Instant, lane: impl Fn(&I) -> Lane) {
        while let Some(Reverse((at, number))) = self.later.peek().copied()
            && at <= now
        {
            self.later.pop();
            if let Some(id) = self.put_off.remove(&number) {
                let lane = lane(&id);
                self.wait(id, lane);
            }
        }
    }

    /// When the next one is due.
    pub fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, number))) = self.later.peek().copied() {
            if self.put_off.contains_key(&number) {
                return Some(at);
            }
            self.later.pop();
        }
        None
    }

    /// How many wait for their turn in a lane.
    #[must_use]
    pub const fn waiting(&self, lane: Lane) -> usize {
        match lane {
            Lane::User => self.users.len,
            Lane::Resync => self.resyncs.len,
        }
    }

    /// How many passes run.
    #[must_use]
    pub const fn running(&self) -> usize {
        self.users.running + self.resyncs.running
    }

    fn start_in(&mut self, lane: Lane) -> Option<I> {
        let limit = match lane {
            Lane::User => self.limits.users,
            Lane::Resync => self.limits.resyncs,
        };
        if self.queue(lane).running >= limit {
            return None;
        }
        while let Some(id) = self.queue(lane).waiting.pop_front() {
            if self.known.get(&id) == Some(&Standing::Waiting(lane)) {
                self.queue(lane).len -= 1;
                self.queue(lane).running += 1;
                self.known.insert(id.clone(), Standing::Running { lane, again: None });
                return Some(id);
            }
        }
        None
    }

    fn wait(&mut self, id: I, lane: Lane) {
        self.known.insert(id.clone(), Standing::Waiting(lane));
        let queue = self.queue(lane);
        queue.len += 1;
        queue.waiting.push_back(id);
    }

    const fn queue(&mut self, lane: Lane) -> &mut Queue<I> {
        match lane {
            Lane::User => &mut self.users,
            Lane::Resync => &mut self.resyncs,
        }
    }
}

fn better(one: Option<Lane>, other: Lane) -> Lane {
    if one == Some(Lane::User) { Lane::User } else { other }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { users: 2, resyncs: 1 };

    fn list(waiting: &[(&'static str, Lane)]) -> Worklist<&'static str> {
        let mut list = Worklist::new(LIMITS);
        for (id, lane) in waiting {
            list.add(*id, *lane);
        }
        list
    }

    fn all(list: &mut Worklist<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| list.start()).collect()
    }

    #[test]
    fn an_edit_does_not_wait_for_a_resync() {
        let mut list = list(&[("a", Lane::Resync), ("b", Lane::Resync), ("edited", Lane::User)]);
        assert_eq!(all(&mut list), ["edited", "a"]);
        list.add("edited too", Lane::User);
        assert_eq!(list.start(), Some("edited too"));
        assert_eq!((list.waiting(Lane::Resync), list.start()), (1, None));
        list.ended(&"a", None);
        assert_eq!(list.start(), Some("b"));
    }

    #[test]
    fn a_resync_that_waits_goes_first_once_its_object_is_edited() {
        let mut list = list(&[("a", Lane::Resync), ("b", Lane::Resync), ("c", Lane::Resync)]);
        list.add("c", Lane::User);
        list.add("c", Lane::Resync);
        assert_eq!((list.waiting(Lane::User), list.waiting(Lane::Resync)), (1, 2));
        assert_eq!(all(&mut list), ["c", "a"]);
        list.ended(&"a", None);
        assert_eq!(all(&mut list), ["b"]);
        list.ended(&"b", None);
        assert_eq!(all(&mut list), [""; 0], "its old place is nobody's");
    }

    #[test]
    fn what_comes_up_while_a_pass_runs_is_looked_at_right_after_it() {
        let mut list = list(&[("a", Lane::User)]);
        assert_eq!(list.start(), Some("a"));
        list.add("a", Lane::Resync);
        list.add("a", Lane::User);
        assert_eq!(list.start(), None, "one pass at a time");
        let later = Instant::now() + Duration::from_secs(60);
        list.ended(&"a", Some(later));
        assert_eq!((list.next_due(), list.start()), (None, Some("a")));
        list.ended(&"a", None);
        assert_eq!((list.running(), list.start()), (0, None));
    }

    #[test]
    fn what_was_put_off_comes_when_it_is_due_unless_it_came_before() {
        let mut list = list(&[("a", Lane::User), ("b", Lane::User)]);
        let now = Instant::now();
        let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(9));
        assert_eq!(all(&mut list), ["a", "b"]);
        list.ended(&"a", Some(late));
        list.ended(&"b", Some(soon));
        assert_eq!(list.next_due(), Some(soon));
        list.add("b", Lane::User);
        assert_eq!((list.next_due(), list.start()), (Some(late), Some("b")));
        list.due(soon, |_| Lane::Resync);
        assert_eq!(list.start(), None);
        list.due(late, |_| Lane::Resync);
        assert_eq!((list.start(), list.next_due()), (Some("a"), None));
    }

    proptest! {
        #[test]
        fn every_object_that_was_added_gets_its_pass_and_limits_hold(
            does in prop::collection::vec((0..4_u8, 0..6_u8, any::<bool>()), 0..200),
        ) {
            let lane = |user| if user { Lane::User } else { Lane::Resync };
            let mut list = Worklist::new(LIMITS);
            let (mut wanted, mut runs) = (std::collections::BTreeSet::new(), Vec::new());
            let mut now = Instant::now();
            for (what, id, user) in does {
                match what {
                    0 => {
                        list.add(id, lane(user));
                        wanted.insert(id);
                    }
                    1 => if let Some(id) = list.start() {
                        prop_assert!(!runs.contains(&id));
                        wanted.remove(&id);
                        runs.push(id);
                    },
                    2 => if let Some(id) = runs.pop() {
                        let again = user.then(|| now + Duration::from_secs(u64::from(id)));
                        if again.is_some() {
                            wanted.insert(id);
                        }
                        list.ended(&id, again);
                    },
                    _ => {
                        now += Duration::from_secs(1);
                        list.due(now, |_| lane(user));
                    }
                }
                prop_assert!(list.running() == runs.len() && runs.len() <= LIMITS.users + LIMITS.resyncs);
            }
            loop {
                list.due(now + Duration::from_secs(60), |_| Lane::Resync);
                runs.extend(std::iter::from_fn(|| list.start()));
                let Some(id) = runs.pop() else { break };
                wanted.remove(&id);
                list.ended(&id, None);
            }
            prop_assert!(wanted.is_empty(), "never looked at: {wanted:?}");
            prop_assert_eq!((list.waiting(Lane::User), list.waiting(Lane::Resync), list.running()), (0, 0, 0));
            prop_assert!(list.known.is_empty() && list.put_off.is_empty());
        }
    }
}
