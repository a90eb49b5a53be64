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
    /// What the CR's status says of the broker object.
    pub holding: Holding,
}

/// What a CR's status says of the broker object that it claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nothing yet: no pass over the CR has come to an end.
    Unsaid,
    /// It is not the CR's, or not known to be.
    Nothing,
    /// It is the CR's: the topic with this id; a queue on the cluster with this id.
    This(String),
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

/// What a person's claim has from the companion whose place it takes: what that one owned. A companion
/// that waited for leave to take over what somebody else made has nothing to give.
#[must_use]
pub fn inherited<'a>(claims: &'a [Claim], claim: &Claim) -> &'a Holding {
    let replaced = |other: &&Claim| !claim.companion && other.companion && other.namespace == claim.namespace;
    let mut left = claims.iter().filter(replaced).map(|other| &other.holding);
    left.clone()
        .find(|holding| matches!(holding, Holding::This(_)))
        .or_else(|| left.find(|holding| **holding == Holding::Unsaid))
        .unwrap_or(&Holding::Nothing)
}

/// Whether a companion's claim still stands for what a person's is about to have from it.
#[must_use]
pub fn bequeaths(claims: &[Claim], claim: &Claim) -> bool {
    let heir = owner(claims).filter(|heir| !heir.companion && heir.namespace == claim.namespace);
    claim.companion && heir.is_some_and(|heir| !matches!(heir.holding, Holding::This(_)))
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
            holding: Holding::Nothing,
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
    }

    #[test]
    fn a_person_has_from_a_companion_what_that_one_owned_and_nothing_else() {
        let held = |holding| Claim { companion: true, holding, ..claim(Some(10), "a") };
        let person = claim(Some(20), "b");
        let this = Holding::This("id-1".into());
        let of = |companion: &Claim| inherited(&[companion.clone(), person.clone()], &person).clone();
        assert_eq!(of(&held(this.clone())), this);
        assert_eq!(of(&held(Holding::Unsaid)), Holding::Unsaid);
        // It waits for approval: the topic is somebody else's.
        assert_eq!(of(&held(Holding::Nothing)), Holding::Nothing);
        let elsewhere = Claim { namespace: "other".into(), ..held(this.clone()) };
        assert_eq!(of(&elsewhere), Holding::Nothing);
        let companion = held(this.clone());
        assert_eq!(inherited(&[companion.clone(), person.clone()], &companion), &Holding::Nothing);
        let both = [held(Holding::Unsaid), Claim { uid: "c".into(), ..held(this.clone()) }, person.clone()];
        assert_eq!(inherited(&both, &person), &this);
    }

    #[test]
    fn what_a_companion_owned_is_remembered_until_the_person_has_it() {
        let companion = Claim { companion: true, ..claim(Some(10), "a") };
        let person = claim(Some(20), "b");
        let holds = Claim { holding: Holding::This(String::new()), ..person.clone() };
        assert!(bequeaths(&[companion.clone(), person.clone()], &companion));
        assert!(!bequeaths(&[companion.clone(), holds], &companion));
        assert!(!bequeaths(&[companion.clone(), person.clone()], &person));
        let stranger = Claim { namespace: "other".into(), ..claim(Some(5), "c") };
        assert!(!bequeaths(&[companion.clone(), stranger], &companion));
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
