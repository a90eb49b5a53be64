//! Which of several CRs owns one broker object: the oldest.
//!
//! A broker object is (cluster id, kind, name), whatever Broker names it. Its owner is the CR that
//! was created first; equal times are told apart by UID, so that every replica of the operator
//! and every restart finds the same owner. `Observe` never claims.

use jiff::Timestamp;

/// One CR that wants to be the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The CR's kind.
    pub kind: &'static str,
    /// Whether Spillway made the CR as a companion of another.
    pub companion: bool,
    /// When the CR was created, as the API server says.
    pub created: Option<Timestamp>,
    /// The CR's UID.
    pub uid: String,
    /// The CR's namespace.
    pub namespace: String,
    /// The CR's name.
    pub name: String,
}

/// The claim that wins: the oldest; one without a time, which the API server never makes, is last.
///
/// A person's CR takes the place of a companion in the same namespace: it counts as old as that
/// one, and before it. A person of another namespace has no such right.
#[must_use]
pub fn owner(claims: &[Claim]) -> Option<&Claim> {
    claims.iter().min_by(|a, b| rank(claims, a).cmp(&rank(claims, b)))
}

fn rank<'a>(claims: &[Claim], claim: &'a Claim) -> (bool, Option<Timestamp>, bool, &'a str) {
    let replaced = claims
        .iter()
        .filter(|other| !claim.companion && other.companion && other.namespace == claim.namespace);
    let created = replaced.filter_map(|other| other.created).chain(claim.created).min();
    (created.is_none(), created, claim.companion, &claim.uid)
}

/// Whether a person's claim takes the place of a companion: what that one made is its own.
#[must_use]
pub fn replaces_a_companion(claims: &[Claim], claim: &Claim) -> bool {
    !claim.companion && claims.iter().any(|other| other.companion && other.namespace == claim.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(second: Option<i64>, uid: &str) -> Claim {
        Claim {
            kind: "Topic",
            companion: false,
            created: second.map(|s| Timestamp::from_second(s).unwrap()),
            uid: uid.into(),
            namespace: "default".into(),
            name: format!("cr-{uid}"),
        }
    }

    #[test]
    fn the_oldest_wins_and_equal_times_are_told_apart_by_uid() {
        let claims = [claim(Some(20), "a"), claim(Some(10), "c"), claim(Some(10), "b"), claim(None, "0")];
        assert_eq!(owner(&claims).unwrap().uid, "b");
        assert_eq!(owner(&[]), None);
    }

    #[test]
    fn a_persons_object_takes_the_place_of_a_companion_in_its_own_namespace_only() {
        let companion = Claim { companion: true, ..claim(Some(10), "a") };
        let person = claim(Some(20), "b");
        assert_eq!(owner(&[companion.clone(), person.clone()]).unwrap().uid, "b");
        let stranger = Claim { namespace: "other".into(), ..person.clone() };
        assert_eq!(owner(&[companion.clone(), stranger.clone()]).unwrap().uid, "a");
        assert_eq!(owner(&[stranger, companion.clone(), person.clone()]).unwrap().uid, "b");
        assert!(replaces_a_companion(&[companion.clone(), person.clone()], &person));
        assert!(!replaces_a_companion(&[companion.clone(), person], &companion));
    }

    proptest! {
        #[test]
        fn the_owner_is_the_same_whatever_the_order(
            mut claims in prop::collection::vec((prop::option::of(0i64..5), "[a-f]{1,3}"), 1..8),
            seed in any::<u64>(),
        ) {
            claims.sort_by(|a, b| a.1.cmp(&b.1));
            claims.dedup_by(|a, b| a.1 == b.1);
            let claims: Vec<_> = claims.iter().map(|(second, uid)| claim(*second, uid)).collect();
            let mut shuffled = claims.clone();
            let by = usize::try_from(seed % shuffled.len() as u64).unwrap();
            shuffled.rotate_left(by);
            prop_assert_eq!(owner(&claims), owner(&shuffled));
        }
    }
}
