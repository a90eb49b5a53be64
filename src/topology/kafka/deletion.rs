//! What a deleted CR asks of the broker.
//!
//! There is no atomic conditional delete in Kafka: `DeleteIfEmpty` looks twice and deletes at
//! once after the second look, which is best effort and documented as such.

use super::ObservedTopic;
use super::desired::KAFKAS_OWN;
use crate::api::policy::{DeletionPolicy, ManagementPolicy};
use crate::topology::deletion::{Asked, Object, Words, release, second_look, words_of};

pub use crate::topology::deletion::{SECOND_LOOK, Verdict};

const WORDS: Words = words_of!("topic");

/// For how long a topic that was made may stay unknown to the broker that is asked, in seconds.
pub const APPEARS_WITHIN: i64 = 10;

/// The first and last offset of each partition: `None` where the broker did not tell.
pub type Extent = Vec<Option<(i64, i64)>>;

/// All that the answer depends on.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a question of its own.
pub struct Input<'a> {
    /// The topic's name.
    pub name: &'a str,
    /// What the CR says.
    pub policy: DeletionPolicy,
    /// Observe never deletes.
    pub management: ManagementPolicy,
    /// Whether this CR owns the topic.
    pub owner: bool,
    /// Whether another CR takes over.
    pub heir: bool,
    /// The annotation that lets go.
    pub forced: bool,
    /// The id of the topic that was adopted or made; none: it never was ours.
    pub known_id: Option<&'a str>,
    /// What was seen; none: there is no such topic.
    pub observed: Option<&'a ObservedTopic>,
    /// Whether it was made within [`APPEARS_WITHIN`], or may have been.
    pub may_appear: bool,
    /// What each partition holds, where the policy asks for it.
    pub extent: Option<&'a Extent>,
    /// Seconds since the topic was first seen empty; none: not yet.
    pub empty_for: Option<f64>,
}

/// Decides what to do for a deleted CR.
#[must_use]
pub fn decide(input: &Input<'_>) -> Verdict {
    let Input { policy, management, owner, heir, forced, .. } = *input;
    if KAFKAS_OWN.contains(&input.name) {
        return Verdict::Release("the topic is Kafka's own and stays at the broker");
    }
    let asked = Asked {
        policy,
        management,
        owner,
        heir,
        forced,
        object: Object::of(input.observed.is_some(), input.known_id.is_some()),
    };
    match release(&asked, &WORDS) {
        // The controller knows a new topic before the broker that is asked does.
        Some(why) if why == WORDS.gone && input.may_appear => return Verdict::LookAgain,
        Some(why) => return Verdict::Release(why),
        None => {}
    }
    let (Some(observed), Some(known)) = (input.observed, input.known_id) else {
        return Verdict::Release(WORDS.gone);
    };
    if !observed.id.is_empty() && observed.id != known {
        return Verdict::Release(
            "the topic was replaced by another of the same name, which stays at the broker",
        );
    }
    if input.policy == DeletionPolicy::Delete {
        return Verdict::Delete;
    }
    let Some(extent) =
        input.extent.filter(|extent| extent.len() == usize::try_from(observed.partitions).unwrap_or(0))
    else {
        return Verdict::Keep("not every partition told its offsets, so the topic may hold messages".into());
    };
    let unknown = extent.iter().filter(|partition| partition.is_none()).count();
    if unknown > 0 {
        return Verdict::Keep(format!(
            "{unknown} partitions did not tell their offsets, so the topic may hold messages"
        ));
    }
    let messages: i64 = extent.iter().flatten().map(|(start, end)| end.saturating_sub(*start).max(0)).sum();
    if messages > 0 || extent.iter().flatten().any(|(start, end)| start != end) {
        return Verdict::Keep(format!(
            "the topic holds up to {messages} messages and deletionPolicy is DeleteIfEmpty"
        ));
    }
    second_look(input.empty_for, SECOND_LOOK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::deletion::LOOKS_WITHIN;
    use proptest::prelude::*;

    fn topic(partitions: i32) -> ObservedTopic {
        ObservedTopic { id: "id-1".into(), partitions, replication_factor: 1, ..Default::default() }
    }

    fn input(observed: &ObservedTopic) -> Input<'_> {
        Input {
            name: "orders",
            policy: DeletionPolicy::DeleteIfEmpty,
            management: ManagementPolicy::Manage,
            owner: true,
            heir: false,
            forced: false,
            known_id: Some("id-1"),
            observed: Some(observed),
            may_appear: false,
            extent: None,
            empty_for: None,
        }
    }

    #[test]
    fn an_empty_topic_is_deleted_at_the_second_look() {
        let topic = topic(2);
        let empty: Extent = vec![Some((5, 5)), Some((0, 0))];
        let first = Input { extent: Some(&empty), ..input(&topic) };
        assert_eq!(decide(&first), Verdict::LookAgain);
        assert_eq!(decide(&Input { empty_for: Some(1.0), ..first }), Verdict::LookAgain);
        assert_eq!(decide(&Input { empty_for: Some(3.0), ..first }), Verdict::Delete);
        // A look of an attempt that was given up is none.
        assert_eq!(decide(&Input { empty_for: Some(180.0), ..first }), Verdict::LookAgain);
    }

    #[test]
    fn a_topic_with_one_record_is_kept_however_often_one_looks() {
        let topic = topic(2);
        let extent: Extent = vec![Some((5, 5)), Some((0, 1))];
        let verdict = decide(&Input { extent: Some(&extent), empty_for: Some(30.0), ..input(&topic) });
        assert!(matches!(verdict, Verdict::Keep(words) if words.contains("up to 1 messages")));
    }

    #[test]
    fn unknown_offsets_are_not_emptiness() {
        let topic = topic(2);
        for extent in [vec![Some((5, 5)), None], vec![Some((5, 5))], vec![]] {
            let verdict = decide(&Input { extent: Some(&extent), empty_for: Some(30.0), ..input(&topic) });
            assert!(matches!(verdict, Verdict::Keep(_)), "{extent:?}");
        }
    }

    #[test]
    fn a_replaced_topic_and_one_that_was_never_ours_are_left_alone() {
        let topic = topic(1);
        let delete = Input { policy: DeletionPolicy::Delete, ..input(&topic) };
        assert_eq!(decide(&delete), Verdict::Delete);
        assert!(matches!(decide(&Input { known_id: Some("id-0"), ..delete }), Verdict::Release(_)));
        assert!(matches!(decide(&Input { known_id: None, ..delete }), Verdict::Release(_)));
    }

    #[test]
    fn kafkas_own_topics_stay_whatever_a_status_says_of_them() {
        let topic = topic(1);
        let delete = Input { policy: DeletionPolicy::Delete, name: "__consumer_offsets", ..input(&topic) };
        assert!(matches!(decide(&delete), Verdict::Release(why) if why.contains("Kafka's own")));
    }

    #[test]
    fn a_topic_that_was_made_a_moment_ago_is_not_gone_because_a_broker_does_not_know_it_yet() {
        let topic = topic(1);
        let unknown = Input { policy: DeletionPolicy::Delete, observed: None, ..input(&topic) };
        assert_eq!(decide(&Input { may_appear: true, ..unknown }), Verdict::LookAgain);
        assert_eq!(decide(&unknown), Verdict::Release(WORDS.gone));
        // What is not ours to delete need not be waited for.
        let heir = Input { may_appear: true, heir: true, ..unknown };
        assert_eq!(decide(&heir), Verdict::Release(WORDS.heir));
        assert_eq!(decide(&Input { observed: Some(&topic), may_appear: true, ..unknown }), Verdict::Delete);
    }

    proptest! {
        #[test]
        fn nothing_is_deleted_unless_told_in_so_many_words(
            policy in prop::sample::select(vec![DeletionPolicy::Retain, DeletionPolicy::Delete, DeletionPolicy::DeleteIfEmpty]),
            management in prop::sample::select(vec![ManagementPolicy::Manage, ManagementPolicy::Observe]),
            owner: bool, heir: bool, forced: bool,
            known in prop::option::of("id-[12]"),
            extent in prop::option::of(prop::collection::vec(prop::option::of((0i64..2, 0i64..2)), 0..3)),
            empty_for in prop::option::of(0.0f64..90.0),
        ) {
            let topic = topic(2);
            let verdict = decide(&Input {
                name: "orders", policy, management, owner, heir, forced, known_id: known.as_deref(),
                observed: Some(&topic), may_appear: false, extent: extent.as_ref(), empty_for,
            });
            if verdict == Verdict::Delete {
                prop_assert!(owner && !heir && !forced && management == ManagementPolicy::Manage);
                prop_assert_eq!(known.as_deref(), Some("id-1"));
                let twice = empty_for.is_some_and(|seconds| (SECOND_LOOK..=LOOKS_WITHIN).contains(&seconds));
                let empty = twice && extent
                    .is_some_and(|extent| extent.len() == 2 && extent.iter().all(|p| p.is_some_and(|(a, b)| a == b)));
                prop_assert!(policy == DeletionPolicy::Delete || policy == DeletionPolicy::DeleteIfEmpty && empty);
            }
        }
    }
}
