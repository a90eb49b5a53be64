//! How often RabbitMQ renews its statistics. Pure.
//!
//! It is configured (`collect_statistics_interval`, 5 s by default) and told nowhere. But a node's uptime is itself one
//! of the statistics: it stands still until they are renewed. What lies between two of its values is a whole number of
//! intervals, so the smallest difference that was seen is never less than the interval.

use std::collections::HashMap;
use std::time::Duration;

use super::types::NodeInfo;

/// What was seen of the nodes of one cluster.
#[derive(Debug, Default)]
pub(super) struct Rhythm(HashMap<String, Beat>);

#[derive(Debug)]
struct Beat {
    /// `None`: the node tells no statistics.
    uptime: Option<Duration>,
    /// The smallest difference since the node started.
    shortest: Option<Duration>,
}

/// How often statistics are renewed, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// There are none: they are switched off, or no node was seen.
    Off,
    /// They were not seen to be renewed yet.
    Unseen,
    /// At least as often as this, by every node.
    Every(Duration),
}

impl Rhythm {
    /// Takes in a listing of all nodes.
    pub fn saw(&mut self, nodes: &[NodeInfo]) {
        let mut before = std::mem::take(&mut self.0);
        for node in nodes.iter().filter(|node| node.running) {
            let uptime = node.uptime.map(Duration::from_millis);
            let beat = match (before.remove(&node.name), uptime) {
                (Some(Beat { uptime: Some(was), shortest }), Some(is)) if is >= was => {
                    let step = is.checked_sub(was).filter(|step| !step.is_zero());
                    Beat { uptime, shortest: shortest.into_iter().chain(step).min() }
                }
                // It is new, or it started again, perhaps with another configuration.
                _ => Beat { uptime, shortest: None },
            };
            self.0.insert(node.name.clone(), beat);
        }
    }

    /// The slowest node counts: any of them may lead the queue that is asked about.
    pub fn renewal(&self) -> Renewal {
        if self.0.is_empty() || self.0.values().any(|beat| beat.uptime.is_none()) {
            return Renewal::Off;
        }
        let all: Option<Vec<_>> = self.0.values().map(|beat| beat.shortest).collect();
        all.and_then(|all| all.into_iter().max()).map_or(Renewal::Unseen, Renewal::Every)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(name: &str, uptime: Option<u64>) -> NodeInfo {
        NodeInfo { name: name.into(), running: true, uptime }
    }

    fn after(listings: &[Vec<NodeInfo>]) -> Renewal {
        let mut rhythm = Rhythm::default();
        for nodes in listings {
            rhythm.saw(nodes);
        }
        rhythm.renewal()
    }

    #[test]
    fn the_interval_is_seen_in_what_an_uptime_leaps_by() {
        let seen = |uptimes: &[u64]| {
            after(&uptimes.iter().map(|uptime| vec![node("a", Some(*uptime))]).collect::<Vec<_>>())
        };
        assert_eq!(seen(&[]), Renewal::Off);
        assert_eq!(seen(&[7]), Renewal::Unseen);
        assert_eq!(seen(&[7, 7]), Renewal::Unseen);
        assert_eq!(seen(&[7, 7, 10_012, 15_016]), Renewal::Every(Duration::from_millis(5_004)));
    }

    #[test]
    fn the_slowest_node_counts_and_one_that_tells_nothing_counts_most() {
        let twice = |second: Vec<NodeInfo>| after(&[vec![node("a", Some(0)), node("b", Some(0))], second]);
        let slow = vec![node("a", Some(5_000)), node("b", Some(30_000))];
        assert_eq!(twice(slow), Renewal::Every(Duration::from_secs(30)));
        assert_eq!(twice(vec![node("a", Some(5_000)), node("b", None)]), Renewal::Off);
        assert_eq!(twice(vec![node("a", Some(5_000)), node("c", Some(1))]), Renewal::Unseen);
        let down = NodeInfo { running: false, ..node("b", None) };
        assert_eq!(twice(vec![node("a", Some(5_000)), down]), Renewal::Every(Duration::from_secs(5)));
    }

    #[test]
    fn a_node_that_started_again_may_have_another_interval() {
        let listings = [0, 5_000, 100].map(|uptime| vec![node("a", Some(uptime))]);
        assert_eq!(after(&listings), Renewal::Unseen);
    }

    proptest! {
        #[test]
        fn the_interval_is_never_said_to_be_shorter_than_it_is(
            interval in 1u64..60_000, pauses in prop::collection::vec(0u64..120_000, 1..12), phase in 0u64..60_000,
        ) {
            let mut now = 0;
            let listings: Vec<_> = pauses.iter().map(|pause| {
                now += pause;
                vec![node("a", Some(phase + now / interval * interval))]
            }).collect();
            if let Renewal::Every(seen) = after(&listings) {
                prop_assert!(seen >= Duration::from_millis(interval));
            }
        }
    }
}
