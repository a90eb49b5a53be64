//! Groups that are there and are no groups of consumers: share groups (KIP-932) and streams groups (KIP-1071).
//!
//! Brokers describe such a group like one that does not exist, and say that it committed nothing, which would make all
//! that its topics hold its lag. But they list it. Of a group that is described as absent, nothing is known until the
//! groups were listed once:
//!
//! ```text
//! described as absent ─▶ unsure ──not listed──────────────────────▶ absent ─▶ (listed later)
//!                          └──listed─▶ listed ──absent all the same─▶ outside ──listed no more──▶ absent
//! any of them ──described as there──▶ forgotten
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::members::Told;
use crate::brokers::kafka::{ErrorCode, GroupListing, GroupState, KafkaClient};
use crate::controllers::context::Context;
use crate::controllers::sweep::outcome;

/// How long one listing may take.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How long after a listing the next one may be. One costs the brokers a description of every group: it is soon while
/// something is not known, and ever later while all absent groups stay absent.
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(30);
const SELDOM: Duration = Duration::from_secs(600);

/// For how long a group that is not described is remembered.
const FORGET: Duration = Duration::from_secs(900);

/// What is known of a group that is described as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It was not looked for in a listing yet.
    Unsure,
    /// It was listed after it was described: it may have been made in between.
    Listed,
    /// It is there, and no group of consumers.
    Outside,
    /// It is not there.
    Absent,
}

/// The groups that were absent when the groups were listed, and whether each was listed.
type Answer = BTreeMap<String, bool>;

/// What is known of one broker's absent groups.
pub struct Outside {
    groups: BTreeMap<String, Standing>,
    described_at: HashMap<String, Instant>,
    listed_at: Option<Instant>,
    /// From one listing to the next, where nothing changes.
    pause: Duration,
    answer: Arc<Mutex<Option<Answer>>>,
    /// It ends with this.
    asking: JoinSet<()>,
}

impl Default for Outside {
    fn default() -> Self {
        Self {
            groups: BTreeMap::new(),
            described_at: HashMap::new(),
            listed_at: None,
            pause: LATER,
            answer: Arc::default(),
            asking: JoinSet::new(),
        }
    }
}

impl Outside {
    /// Takes in what was described, and has the groups listed where that may tell something.
    pub fn look(
        &mut self,
        ctx: &Arc<Context>,
        (broker, client): (&str, &KafkaClient),
        told: &HashMap<String, Told>,
    ) {
        while self.asking.try_join_next().is_some() {}
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.listed(answer.unwrap_or_default());
        let now = Instant::now();
        self.described(told, now);
        if !self.asking.is_empty() || !self.due(now) {
            return;
        }
        self.listed_at = Some(now);
        let absent: Vec<String> = self.groups.keys().cloned().collect();
        let (ctx, broker, client, told) =
            (ctx.clone(), broker.to_owned(), client.clone(), self.answer.clone());
        self.asking.spawn(async move {
            let asked = Instant::now();
            let answer = client.list_groups(TIMEOUT).await;
            ctx.metrics.broker_request(&broker, "ListGroups", outcome(&answer), asked.elapsed());
            // A listing that failed tells nothing: what was known stands.
            if let Ok(groups) = answer {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(found(&groups, absent));
            }
        });
    }

    /// Whether it is there and no group of consumers.
    pub fn has(&self, group: &str) -> bool {
        self.groups.get(group) == Some(&Standing::Outside)
    }

    /// Whether it is not known what its being absent means.
    pub fn unsure(&self, group: &str) -> bool {
        matches!(self.groups.get(group), Some(Standing::Unsure | Standing::Listed))
    }

    fn due(&self, now: Instant) -> bool {
        let Some(at) = self.listed_at else { return !self.groups.is_empty() };
        let any = |standing| self.groups.values().any(|is| *is == standing);
        let pause = match () {
            () if any(Standing::Unsure) => SOON,
            () if any(Standing::Listed) || any(Standing::Outside) => LATER,
            () if any(Standing::Absent) => self.pause,
            () => return false,
        };
        now >= at + pause
    }

    /// What a listing says.
    fn listed(&mut self, answer: Answer) {
        let before = self.groups.clone();
        for (group, listed) in answer {
            if let Some(standing) = self.groups.get_mut(&group) {
                *standing = match (*standing, listed) {
                    (Standing::Outside, true) => Standing::Outside,
                    (_, true) => Standing::Listed,
                    (_, false) => Standing::Absent,
                };
            }
        }
        let changed = before != self.groups;
        if changed || self.groups.values().any(|is| *is != Standing::Absent) {
            self.pause = LATER;
        } else if self.listed_at.is_some() {
            self.pause = (self.pause * 2).min(SELDOM);
        }
    }

    /// What the descriptions say of the groups.
    fn described(&mut self, told: &HashMap<String, Told>, now: Instant) {
        for (group, told) in told {
            let is_absent = match told {
                Ok(described) => described.state == GroupState::Dead,
                Err(error) if error.code == ErrorCode::GroupIdNotFound => true,
                // It was not told: what was known stands.
                Err(_) => continue,
            };
            if !is_absent {
                self.groups.remove(group);
                continue;
            }
            self.described_at.insert(group.clone(), now);
            let standing = self.groups.entry(group.clone()).or_insert(Standing::Unsure);
            if *standing == Standing::Listed {
                tracing::info!(group, "a share group or a streams group is not scaled on");
                *standing = Standing::Outside;
            }
        }
        // Nobody reads as one that is not described any more.
        self.described_at.retain(|group, at| self.groups.contains_key(group) && now < *at + FORGET);
        self.groups.retain(|group, _| self.described_at.contains_key(group));
    }
}

/// Which of the absent groups are listed all the same, without the protocol of consumers.
fn found(groups: &[GroupListing], absent: Vec<String>) -> Answer {
    let strange: HashSet<&str> =
        groups.iter().filter(|listed| listed.is_strange()).map(|listed| listed.group.as_str()).collect();
    absent
        .into_iter()
        .map(|group| {
            let listed = strange.contains(group.as_str());
            (group, listed)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::kafka::{GroupDescription, GroupKind};

    impl Outside {
        fn describe(&mut self, state: GroupState) {
            let group = GroupDescription {
                group: "g".into(),
                state,
                kind: GroupKind::Unknown,
                assignor: String::new(),
                coordinator: None,
                members: Vec::new(),
            };
            self.described(&HashMap::from([("g".to_owned(), Ok(group))]), Instant::now());
        }

        fn list(&mut self, protocols: &[&str]) {
            let groups: Vec<_> = protocols
                .iter()
                .map(|protocol| GroupListing { group: "g".into(), protocol: (*protocol).into() })
                .collect();
            self.listed_at = Some(Instant::now());
            self.listed(found(&groups, vec!["g".into()]));
        }

        fn is(&self) -> (bool, bool) {
            (self.unsure("g"), self.has("g"))
        }
    }

    #[test]
    fn a_group_that_is_absent_is_unsure_until_a_listing_says_that_it_is_not_there() {
        let mut outside = Outside::default();
        outside.describe(GroupState::Dead);
        assert_eq!(outside.is(), (true, false));
        outside.list(&[]);
        assert_eq!(outside.is(), (false, false));
        outside.describe(GroupState::Dead);
        assert_eq!(outside.is(), (false, false), "it stays absent");
    }

    #[test]
    fn a_group_that_is_listed_and_absent_all_the_same_is_outside_until_it_is_listed_no_more() {
        let mut outside = Outside::default();
        outside.describe(GroupState::Dead);
        outside.list(&[""]);
        assert_eq!(outside.is(), (true, false), "it may have been made in between");
        outside.describe(GroupState::Dead);
        assert_eq!(outside.is(), (false, true));
        // Nothing was described, and no listing succeeded.
        outside.described(&HashMap::new(), Instant::now());
        outside.listed(Answer::new());
        assert_eq!(outside.is(), (false, true));
        outside.list(&[]);
        assert_eq!(outside.is(), (false, false));
    }

    #[test]
    fn a_group_that_was_made_between_description_and_listing_is_not_outside_when_it_goes_again() {
        let mut outside = Outside::default();
        outside.describe(GroupState::Dead);
        outside.list(&[""]);
        outside.describe(GroupState::Stable);
        assert_eq!(outside.is(), (false, false));
        outside.describe(GroupState::Dead);
        assert_eq!(outside.is(), (true, false));
        outside.list(&["consumer"]);
        assert_eq!(outside.is(), (false, false), "a classic group that is just made");
    }

    #[test]
    fn while_nothing_changes_the_groups_are_listed_ever_less_often() {
        let mut outside = Outside::default();
        assert!(!outside.due(Instant::now()), "nothing is absent");
        outside.describe(GroupState::Dead);
        assert!(outside.due(Instant::now()));
        outside.list(&[]);
        let after = |outside: &Outside, seconds| outside.due(Instant::now() + Duration::from_secs(seconds));
        assert_eq!((after(&outside, 29), after(&outside, 30)), (false, true));
        outside.list(&[]);
        assert_eq!((after(&outside, 59), after(&outside, 60)), (false, true));
        for _ in 0..9 {
            outside.list(&[]);
        }
        assert_eq!((after(&outside, 599), after(&outside, 600)), (false, true));
        outside.list(&[""]);
        assert!(after(&outside, 30), "what is listed now is looked at again");
    }

    #[test]
    fn a_group_that_nobody_reads_as_any_more_is_forgotten() {
        let mut outside = Outside::default();
        outside.describe(GroupState::Dead);
        outside.list(&[]);
        outside.described(&HashMap::new(), Instant::now() + FORGET);
        assert!(outside.groups.is_empty() && !outside.due(Instant::now() + 2 * SELDOM));
    }
}
