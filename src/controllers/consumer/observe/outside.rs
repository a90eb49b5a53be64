//! Groups that are there and are no groups of consumers: share groups (KIP-932) and streams groups (KIP-1071).
//!
//! Brokers describe such a group like one that does not exist, and say that it committed nothing, which would make all
//! that its topics hold its lag. But they list it. A group is taken for one of those when it was listed and is described
//! as absent after that.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::members::Told;
use crate::brokers::kafka::{ErrorCode, GroupListing, GroupState, KafkaClient};
use crate::controllers::context::Context;
use crate::controllers::sweep::outcome;

/// How long one listing may take.
const TIMEOUT: Duration = Duration::from_secs(4);
/// The groups are listed no more often, and only while one is absent: a listing costs the brokers more than a description.
const EVERY: Duration = Duration::from_secs(30);

/// What is known of one broker's absent groups.
#[derive(Default)]
pub struct Outside {
    listed_at: Option<Instant>,
    /// Absent groups that the last listing has.
    listed: Arc<Mutex<HashSet<String>>>,
    /// Described as absent though they were listed.
    found: HashSet<String>,
    /// It ends with this.
    asking: JoinSet<()>,
}

impl Outside {
    /// Takes in what was described, and has the groups listed where that may tell something.
    pub fn look(
        &mut self,
        ctx: &Arc<Context>,
        broker: &str,
        client: &KafkaClient,
        told: &HashMap<String, Told>,
    ) {
        while self.asking.try_join_next().is_some() {}
        let absent = self.take(told);
        let now = Instant::now();
        if absent.is_empty() || self.listed_at.is_some_and(|at| now < at + EVERY) {
            return;
        }
        self.listed_at = Some(now);
        let (ctx, broker, client, listed) =
            (ctx.clone(), broker.to_owned(), client.clone(), self.listed.clone());
        self.asking.spawn(async move {
            let asked = Instant::now();
            let answer = client.list_groups(TIMEOUT).await;
            ctx.metrics.broker_request(&broker, "ListGroups", outcome(&answer), asked.elapsed());
            // What is not told changes nothing: who is absent stays absent.
            let there = answer.map(|groups| strange(groups, &absent)).unwrap_or_default();
            *listed.lock().unwrap_or_else(PoisonError::into_inner) = there;
        });
    }

    /// Whether it is there and no group of consumers.
    pub fn has(&self, group: &str) -> bool {
        self.found.contains(group)
    }

    /// What the descriptions say of the groups that were listed before them; the groups that are absent.
    fn take(&mut self, told: &HashMap<String, Told>) -> HashSet<String> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut absent = HashSet::new();
        for (group, told) in told {
            let is_absent = match told {
                Ok(described) => described.state == GroupState::Dead,
                Err(error) if error.code == ErrorCode::GroupIdNotFound => true,
                // It was not told: what was known stands.
                Err(_) => continue,
            };
            if !is_absent || !listed.contains(group) {
                self.found.remove(group);
            } else if self.found.insert(group.clone()) {
                tracing::info!(group, "a share group or a streams group is not scaled on");
            }
            if is_absent {
                absent.insert(group.clone());
            }
        }
        absent
    }
}

/// The absent groups that are listed all the same.
fn strange(groups: Vec<GroupListing>, absent: &HashSet<String>) -> HashSet<String> {
    let strange = groups.into_iter().filter(|listed| listed.protocol.is_empty());
    strange.map(|listed| listed.group).filter(|group| absent.contains(group)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::kafka::{GroupDescription, GroupKind};

    fn described(state: GroupState) -> HashMap<String, Told> {
        let group = GroupDescription {
            group: "g".into(),
            state,
            kind: GroupKind::Unknown,
            assignor: String::new(),
            coordinator: None,
            members: Vec::new(),
        };
        HashMap::from([("g".to_owned(), Ok(group))])
    }

    fn list(outside: &Outside, protocol: &str, absent: &HashSet<String>) {
        let group = GroupListing { group: "g".into(), protocol: protocol.into() };
        *outside.listed.lock().unwrap() = strange(vec![group], absent);
    }

    #[test]
    fn a_group_is_strange_only_when_it_is_absent_after_it_was_listed() {
        let mut outside = Outside::default();
        let absent = outside.take(&described(GroupState::Dead));
        assert!(absent.contains("g") && !outside.has("g"));
        list(&outside, "", &absent);
        // It was made between the description and the listing.
        outside.take(&described(GroupState::Stable));
        assert!(!outside.has("g"));
        outside.take(&described(GroupState::Dead));
        assert!(outside.has("g"));
        // Nothing was described this time.
        outside.take(&HashMap::new());
        assert!(outside.has("g"));
        // It is gone, and not listed any more.
        outside.listed.lock().unwrap().clear();
        outside.take(&described(GroupState::Dead));
        assert!(!outside.has("g"));
    }

    #[test]
    fn a_group_of_consumers_that_is_listed_is_not_strange() {
        let mut outside = Outside::default();
        let absent = outside.take(&described(GroupState::Dead));
        list(&outside, "consumer", &absent);
        outside.take(&described(GroupState::Dead));
        assert!(!outside.has("g"));
    }
}
