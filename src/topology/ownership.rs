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
    /// When the CR was created, as the API server says.
    pub created: Option<Timestamp>,
    /// The CR's UID.
    pub uid: String,
    /// The CR's namespace.
    pub namespace: String,
    /// The CR's name.
    pub name: String,
}

impl Claim {
    /// How the claim sorts: oldest first; one without a time, which the API server never
    /// makes, last.
    fn rank(&self) -> (bool, Option<Timestamp>, &str) {
        (self.created.is_none(), self.created, &self.uid)
    }
}

/// The claim that wins.
#[must_use]
pub fn owner(claims: &[Claim]) -> Option<&Claim> {
    claims.iter().min_by(|a, b| a.rank().cmp(&b.rank()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(second: Option<i64>, uid: &str) -> Claim {
        Claim {
            kind: "Topic",
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
