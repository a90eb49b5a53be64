//! The queue of calls of one kind: two lanes, first in first out, bounded batches. Pure.

use std::collections::{HashSet, VecDeque};

use super::Lane;

/// A call that waits in a lane.
pub(super) trait Waiting {
    /// The topic it is about.
    fn name(&self) -> &str;
    /// Its share of a request.
    fn weight(&self) -> usize;
    /// Nobody waits for it any more.
    fn is_withdrawn(&self) -> bool;
}

/// Bounds of one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Objects at most.
    pub objects: usize,
    /// Sum of weights at most; one object that is heavier goes alone.
    pub weight: usize,
    /// A topic is in one batch at a time, and once.
    pub exclusive: bool,
}

/// Calls that wait, in the order they came.
pub(super) struct Lanes<T> {
    user: VecDeque<T>,
    resync: VecDeque<T>,
}

impl<T: Waiting> Lanes<T> {
    pub fn new() -> Self {
        Self { user: VecDeque::new(), resync: VecDeque::new() }
    }

    pub fn push(&mut self, call: T, lane: Lane) {
        match lane {
            Lane::User => self.user.push_back(call),
            Lane::Resync => self.resync.push_back(call),
        }
    }

    pub fn len(&self) -> usize {
        self.user.len() + self.resync.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next batch. Calls about a topic in `busy` stay where they are if the bounds are exclusive, as
    /// do all later calls about the same topic.
    pub fn take(&mut self, bounds: Bounds, busy: &HashSet<String>) -> Vec<T> {
        let mut batch = Batch { calls: Vec::new(), names: HashSet::new(), weight: 0, bounds, busy };
        let kept = if self.resync.is_empty() { 0 } else { (bounds.objects / 10).max(1) };
        let for_users = bounds.objects.saturating_sub(kept).max(1);
        batch.fill(&mut self.user, for_users);
        batch.fill(&mut self.resync, bounds.objects);
        batch.fill(&mut self.user, bounds.objects);
        batch.calls
    }
}

struct Batch<'a, T> {
    calls: Vec<T>,
    /// Topics in the batch, or passed over for it: a later call must not overtake an earlier one.
    names: HashSet<String>,
    weight: usize,
    bounds: Bounds,
    busy: &'a HashSet<String>,
}

impl<T: Waiting> Batch<'_, T> {
    fn fill(&mut self, lane: &mut VecDeque<T>, limit: usize) {
        let mut passed_over = VecDeque::new();
        while self.calls.len() < limit {
            let Some(call) = lane.pop_front() else { break };
            if call.is_withdrawn() {
                continue;
            }
            if self.bounds.exclusive && (self.busy.contains(call.name()) || self.names.contains(call.name()))
            {
                passed_over.push_back(call);
                continue;
            }
            if !self.calls.is_empty() && self.weight + call.weight() > self.bounds.weight {
                passed_over.push_back(call);
                break;
            }
            self.weight += call.weight();
            self.names.insert(call.name().to_owned());
            self.calls.push(call);
        }
        while let Some(call) = passed_over.pop_back() {
            lane.push_front(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Call {
        name: String,
        weight: usize,
        withdrawn: bool,
        number: usize,
    }

    impl Waiting for Call {
        fn name(&self) -> &str {
            &self.name
        }
        fn weight(&self) -> usize {
            self.weight
        }
        fn is_withdrawn(&self) -> bool {
            self.withdrawn
        }
    }

    fn call(name: &str, number: usize) -> Call {
        Call { name: name.to_owned(), weight: 1, withdrawn: false, number }
    }

    const BOUNDS: Bounds = Bounds { objects: 10, weight: 100, exclusive: true };

    fn names(batch: &[Call]) -> Vec<&str> {
        batch.iter().map(|call| call.name.as_str()).collect()
    }

    #[test]
    fn users_go_first_and_a_resync_keeps_a_tenth() {
        let mut lanes = Lanes::new();
        for number in 0..20 {
            lanes.push(call(&format!("resync{number}"), number), Lane::Resync);
            lanes.push(call(&format!("user{number}"), number), Lane::User);
        }
        let batch = lanes.take(BOUNDS, &HashSet::new());
        assert_eq!(batch.len(), 10);
        assert_eq!(batch.iter().filter(|call| call.name.starts_with("resync")).count(), 1);
        assert_eq!(batch[0].name, "user0");
    }

    #[test]
    fn users_get_the_whole_batch_when_nothing_else_waits() {
        let mut lanes = Lanes::new();
        for number in 0..20 {
            lanes.push(call(&format!("user{number}"), number), Lane::User);
        }
        assert_eq!(lanes.take(BOUNDS, &HashSet::new()).len(), 10);
        assert_eq!(lanes.len(), 10);
    }

    #[test]
    fn a_topic_that_is_under_way_waits_and_lets_others_pass() {
        let mut lanes = Lanes::new();
        for (number, name) in ["a", "b", "a", "c"].into_iter().enumerate() {
            lanes.push(call(name, number), Lane::User);
        }
        let busy = HashSet::from(["b".to_owned()]);
        assert_eq!(names(&lanes.take(BOUNDS, &busy)), ["a", "c"]);
        assert_eq!(names(&lanes.take(BOUNDS, &busy)), ["a"]);
        assert_eq!(names(&lanes.take(BOUNDS, &HashSet::new())), ["b"]);
    }

    #[test]
    fn reads_of_the_same_topic_share_a_batch() {
        let mut lanes = Lanes::new();
        lanes.push(call("a", 0), Lane::User);
        lanes.push(call("a", 1), Lane::Resync);
        let batch = lanes.take(Bounds { exclusive: false, ..BOUNDS }, &HashSet::from(["a".to_owned()]));
        assert_eq!(names(&batch), ["a", "a"]);
    }

    #[test]
    fn a_heavy_object_goes_alone_and_a_withdrawn_one_not_at_all() {
        let mut lanes = Lanes::new();
        lanes.push(Call { withdrawn: true, ..call("gone", 0) }, Lane::User);
        lanes.push(Call { weight: 1_000, ..call("heavy", 1) }, Lane::User);
        lanes.push(call("light", 2), Lane::User);
        assert_eq!(names(&lanes.take(BOUNDS, &HashSet::new())), ["heavy"]);
        assert_eq!(names(&lanes.take(BOUNDS, &HashSet::new())), ["light"]);
        assert!(lanes.is_empty());
    }

    proptest! {
        #[test]
        fn every_call_leaves_once_in_order_per_topic_and_lane_and_within_bounds(
            calls in prop::collection::vec((0..5_u8, 1..60_usize, any::<bool>()), 0..80),
        ) {
            let mut lanes = Lanes::new();
            for (number, (name, weight, user)) in calls.iter().enumerate() {
                let lane = if *user { Lane::User } else { Lane::Resync };
                let name = format!("{name}-{user}");
                lanes.push(Call { name, weight: *weight, withdrawn: false, number }, lane);
            }
            let mut last: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
            let mut left = 0;
            while !lanes.is_empty() {
                let batch = lanes.take(BOUNDS, &HashSet::new());
                prop_assert!(!batch.is_empty() && batch.len() <= BOUNDS.objects);
                let weight: usize = batch.iter().map(|call| call.weight).sum();
                prop_assert!(batch.len() == 1 || weight <= BOUNDS.weight);
                let distinct: HashSet<_> = batch.iter().map(|call| &call.name).collect();
                prop_assert_eq!(distinct.len(), batch.len());
                for call in batch {
                    let before = last.insert(call.name, call.number);
                    prop_assert!(before.is_none_or(|before| before < call.number));
                    left += 1;
                }
            }
            prop_assert_eq!(left, calls.len());
        }
    }
}
