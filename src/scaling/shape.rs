//! How work spreads over members: what n of them can really do.
//!
//! A partition has one consumer, so the busiest member sets the pace. With k partitions on it, P partitions
//! do P/k members' worth of work: 3 partitions on 2 members do 1.5, and 12 on 8 no more than on 6. Sizes that
//! differ in k are *classes*; between two of them a replica more brings nothing.

use serde::{Deserialize, Serialize};

/// Float noise must not push a need over the edge of a class.
const EPSILON: f64 = 1e-9;

/// What the work is made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum Shape {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// Partitions of topics, numbers of them per topic.
    Topics {
        /// Partitions of each topic.
        counts: Vec<u32>,
        /// Each topic is spread by itself (the `range` assignor): the first members get more of every topic.
        range: bool,
    },
    /// A queue: any number of consumers share it evenly.
    Queue,
    /// A queue of which one consumer works at a time.
    SingleActive,
}

impl Shape {
    /// Partitions of all topics.
    pub fn partitions(&self) -> Option<u32> {
        match self {
            Self::Topics { counts, .. } => Some(counts.iter().sum()),
            _ => None,
        }
    }

    /// Most members that can work. `None`: no limit, or not known.
    pub fn most_members(&self) -> Option<u32> {
        match self {
            Self::Topics { counts, range: true } => counts.iter().max().copied(),
            Self::Topics { counts, range: false } => Some(counts.iter().sum()),
            Self::SingleActive => Some(1),
            Self::Queue | Self::Unknown => None,
        }
    }

    /// What `members` do together, in members that are never idle.
    pub fn capacity(&self, members: u32) -> f64 {
        if members == 0 {
            return 0.0;
        }
        match self {
            Self::Topics { counts, range } => {
                let total: u32 = counts.iter().sum();
                let share: u32 = if *range {
                    counts.iter().map(|c| c.div_ceil(members)).sum()
                } else {
                    total.div_ceil(members)
                };
                if share == 0 { f64::from(members) } else { f64::from(total) / f64::from(share) }
            }
            Self::SingleActive => 1.0,
            Self::Queue | Self::Unknown => f64::from(members),
        }
    }
}

/// A shape as our replicas fill it: several consumers per replica, foreign members beside them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fleet<'a> {
    pub shape: &'a Shape,
    /// Consumers in one replica, at least 1.
    pub per_replica: u32,
    /// Members that are not ours.
    pub foreign: u32,
}

impl Fleet<'_> {
    /// Most of our replicas that can work. `None`: no limit, or not known.
    pub fn cap(&self) -> Option<u32> {
        let ours = self.shape.most_members()?.saturating_sub(self.foreign);
        Some(ours.div_ceil(self.per_replica.max(1)).max(1))
    }

    /// What `replicas` of ours and the foreign members do together, in replicas that are never idle.
    pub fn capacity(&self, replicas: u32) -> f64 {
        let members = replicas.saturating_mul(self.per_replica).saturating_add(self.foreign);
        self.shape.capacity(members) / f64::from(self.per_replica.max(1))
    }

    /// The fewest replicas, from 1 to `most`, that do `need`; `most`'s class where none does.
    pub fn class(&self, need: f64, most: u32) -> u32 {
        let most = most.max(1);
        let enough = need.min(self.capacity(most)) - EPSILON;
        let (mut low, mut high) = (1, most);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.capacity(middle) >= enough {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    /// The fewest replicas, from 1 to `most`, that do `need`, or nearly: by how little a need lies above a class must be
    /// worth the next one. From 6 to 12 of 12 partitions, that is twice the price for a need of 6.1. The need may be
    /// above the class by a tenth of what the next one adds, and by `over` of the class at most.
    pub fn size(&self, need: f64, most: u32, over: f64) -> u32 {
        const WORTH: f64 = 0.1;
        let class = self.class(need, most);
        if class <= 1 {
            return class;
        }
        let below = self.class_of(class - 1);
        let (less, more) = (self.capacity(below), self.capacity(class));
        let nearly = less + (WORTH * (more - less)).min(over * less);
        if need <= nearly { below } else { class }
    }

    /// The fewest replicas that do as much as `replicas`.
    pub fn class_of(&self, replicas: u32) -> u32 {
        if replicas == 0 { 0 } else { self.class(f64::INFINITY, replicas) }
    }

    /// The next smaller class than `replicas`, at least 1.
    pub fn class_below(&self, replicas: u32) -> u32 {
        let here = self.class_of(replicas);
        if here <= 1 { 1 } else { self.class_of(here - 1) }
    }

    /// The size that is tried below `replicas`: a class less where partitions make the classes, else about a third less.
    pub fn trial(&self, replicas: u32) -> u32 {
        match self.shape {
            Shape::Queue => (2 * replicas).div_ceil(3).min(replicas.saturating_sub(1)).max(1),
            _ => self.class_below(replicas),
        }
    }

    /// The next larger class than `replicas`, at most `most`'s.
    pub fn class_above(&self, replicas: u32, most: u32) -> u32 {
        let more = self.capacity(replicas) + 2.0 * EPSILON;
        self.class(more, most.max(replicas))
    }
}

/// Counts of replicas that differ in what they can do: `partitions` spread evenly over replicas of `per_replica`
/// consumers each, beside `foreign` members.
#[must_use]
pub fn sizes(partitions: u32, per_replica: u32, foreign: u32) -> Vec<u32> {
    let shape = Shape::Topics { counts: vec![partitions], range: false };
    let fleet = Fleet { shape: &shape, per_replica, foreign };
    let mut sizes: Vec<u32> = (1..=fleet.cap().unwrap_or(1)).map(|n| fleet.class_of(n)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even(partitions: u32) -> Shape {
        Shape::Topics { counts: vec![partitions], range: false }
    }

    fn fleet(shape: &Shape) -> Fleet<'_> {
        Fleet { shape, per_replica: 1, foreign: 0 }
    }

    #[test]
    fn classes_are_the_sizes_that_spread_evenly() {
        let shape = even(12);
        let sizes: std::collections::BTreeSet<u32> = (1..=12).map(|n| fleet(&shape).class_of(n)).collect();
        assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 6, 12]);
    }

    #[test]
    fn the_class_is_that_of_the_closed_formula() {
        for partitions in [1u32, 3, 5, 7, 12, 24, 64, 100] {
            let shape = even(partitions);
            for tenth in 1..=1_200u32 {
                let need = f64::from(tenth) / 10.0;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let k = ((f64::from(partitions) / need + 1e-9).floor() as u32).clamp(1, partitions);
                assert_eq!(
                    fleet(&shape).class(need, partitions),
                    partitions.div_ceil(k),
                    "P={partitions} {need}"
                );
            }
        }
    }

    #[test]
    fn three_partitions_on_two_members_do_one_and_a_half() {
        assert!((even(3).capacity(2) - 1.5).abs() < 1e-9);
        assert_eq!(fleet(&even(3)).class(1.6, 3), 3);
    }

    #[test]
    fn under_range_the_first_member_gets_some_of_every_topic() {
        let shape = Shape::Topics { counts: vec![4, 4, 1], range: true };
        assert_eq!(shape.most_members(), Some(4));
        assert!((shape.capacity(4) - 3.0).abs() < 1e-9, "9 partitions, 3 on the busiest");
    }

    #[test]
    fn consumers_per_replica_divide_the_cap_and_foreign_members_take_from_it() {
        let shape = even(12);
        let fleet = Fleet { shape: &shape, per_replica: 5, foreign: 1 };
        assert_eq!(fleet.cap(), Some(3));
        assert!((fleet.capacity(1) - 12.0 / 2.0 / 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_need_a_little_above_a_class_does_not_double_the_price() {
        let shape = even(12);
        let size = |need, over| fleet(&shape).size(need, 12, over);
        assert_eq!((size(6.0, 0.1), size(6.5, 0.1), size(6.7, 0.1)), (6, 6, 12));
        assert_eq!((size(4.15, 0.1), size(4.3, 0.1)), (4, 6), "a smaller step is soon worth it");
        assert_eq!((size(6.2, 0.02), size(6.01, 0.0)), (12, 12), "replicas that are full already do no more");
        assert_eq!((size(12.5, 0.1), size(1e9, 0.1), size(0.1, 0.1)), (12, 12, 1));
        assert_eq!(fleet(&shape).size(9.0, 8, 0.1), 6, "most is no class");
    }

    #[test]
    fn steps_up_and_down_go_from_class_to_class() {
        let shape = even(12);
        let fleet = fleet(&shape);
        assert_eq!(
            (fleet.class_above(4, 12), fleet.class_above(8, 12), fleet.class_above(12, 12)),
            (6, 12, 12)
        );
        assert_eq!((fleet.class_below(12), fleet.class_below(8), fleet.class_below(1)), (6, 4, 1));
    }
}
