//! Which of several Brokers of one cluster decides whose namespaces may come: the one that has been
//! on the cluster for the longest time.
//!
//! The age of the object says little: an old Broker can be pointed at another cluster, with leave to
//! accept it, and would take that cluster over from the one that has declared it for years.

use jiff::Timestamp;

/// A Broker that connects so soon after it was made, in seconds, has been on its cluster since it was
/// made: Brokers that come together must not race for who connects first.
const SOON: i64 = 600;

/// What a Broker's status says of its cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The cluster's id.
    pub cluster_id: Option<&'a str>,
    /// Since when the Broker has been on it.
    pub since: Option<Timestamp>,
}

/// Since when a Broker, created at `created`, has been on the cluster that answers now.
#[must_use]
pub fn since(known: Known<'_>, answers: &str, created: Option<Timestamp>, now: Timestamp) -> Timestamp {
    match known.cluster_id {
        // A status that does not say since when is from before that was noted.
        Some(id) if id == answers => known.since.or(created).unwrap_or(now),
        Some(_) => now,
        None => created.filter(|created| now.duration_since(*created).as_secs() <= SOON).unwrap_or(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn on(id: &str, since: Option<i64>) -> Known<'_> {
        Known { cluster_id: Some(id), since: since.map(at) }
    }

    #[test]
    fn an_old_broker_that_was_pointed_at_another_cluster_took_it_over() {
        let platform = since(on("prod", Some(5_000)), "prod", Some(at(5_000)), at(90_000));
        let moved = since(on("test", Some(10)), "prod", Some(at(10)), at(90_000));
        assert!(platform < moved);
        let never_connected = since(Known::default(), "prod", Some(at(10)), at(90_000));
        assert!(platform < never_connected);
    }

    #[test]
    fn brokers_that_come_together_are_as_old_as_they_were_made() {
        let first = since(Known::default(), "prod", Some(at(10)), at(300));
        let second = since(Known::default(), "prod", Some(at(11)), at(12));
        assert!(first < second, "the first was slower to connect");
    }

    #[test]
    fn a_status_from_before_counts_from_when_the_broker_was_made() {
        assert_eq!(since(on("prod", None), "prod", Some(at(10)), at(90_000)), at(10));
    }

    proptest! {
        #[test]
        fn who_is_on_a_cluster_stays_ahead_of_whoever_comes_later(
            created in 0i64..100_000, mine in 0i64..100_000, later in 601i64..100_000,
            before in prop::option::of("[ab]"), noted in prop::option::of(0i64..100_000),
        ) {
            let now = mine + later;
            let known = Known { cluster_id: before.as_deref(), since: noted.map(at) };
            let came = since(known, "prod", Some(at(created.min(mine))), at(now));
            prop_assert!(since(on("prod", Some(mine)), "prod", Some(at(mine)), at(now)) < came);
        }
    }
}
