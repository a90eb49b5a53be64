//! Topics that Kafka would not tell apart in its metrics, where `.` and `_` are the same.
//!
//! Kafka refuses the second of two such topics, but not of two that one request makes; and it refuses it when the first
//! part of what belongs together may be there already. So those that are declared are compared before anything is made.

use crate::api::conditions::Reason;
use crate::topology::Rejection;
use crate::topology::ownership::Claim;

/// A topic's name in metrics.
#[must_use]
pub fn metric_name(name: &str) -> String {
    name.replace('.', "_")
}

/// The name that topics are found by which may collide with this one; none: no topic can.
#[must_use]
pub fn key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| metric_name(name))
}

/// Whether two topics cannot both be there.
#[must_use]
pub fn collide(a: &str, b: &str) -> bool {
    a != b && a.len() == b.len() && metric_name(a) == metric_name(b)
}

/// Refuses topics of one parent that collide with each other.
pub fn among<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), Rejection> {
    let names: Vec<_> = names.into_iter().collect();
    for (place, name) in names.iter().enumerate() {
        if let Some(other) = names[..place].iter().find(|other| collide(name, other)) {
            return Err(refusal(name, other, "which this Topic implies, too"));
        }
    }
    Ok(())
}

/// Refuses a topic where another, with which it collides, was declared before it. `others`: the names of other topics of
/// the cluster, and who claims them. A person's does not take the place of a companion here: it is another topic.
pub fn with_others(name: &str, own: &Claim, others: &[(String, Claim)]) -> Result<(), Rejection> {
    let age = |claim: &Claim| (claim.created.is_none(), claim.created, claim.uid.clone());
    let rivals = others.iter().filter(|(other, _)| collide(name, other));
    let first = rivals.min_by_key(|(_, claim)| age(claim)).filter(|(_, claim)| age(claim) < age(own));
    match first {
        Some((other, Claim { kind, namespace, name: cr, .. })) => {
            Err(refusal(name, other, &format!("which {kind} {namespace}/{cr} declared before")))
        }
        None => Ok(()),
    }
}

fn refusal(name: &str, other: &str, whose: &str) -> Rejection {
    let message = format!(
        "topic {name:?} collides with {other:?}, {whose}: '.' and '_' are the same in the names of Kafka's metrics, so it refuses the second of the two"
    );
    Rejection::new(Reason::NameCollision, message)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::topology::ownership::Holding;

    fn claim(second: i64, name: &str) -> Claim {
        Claim {
            kind: "Topic",
            companion: false,
            created: Timestamp::from_second(second).ok(),
            uid: name.into(),
            namespace: "shop".into(),
            name: name.into(),
            holding: Holding::Nothing,
        }
    }

    #[test]
    fn dots_and_underscores_are_the_same_and_nothing_else_is() {
        assert!(collide("a.b", "a_b"));
        assert!(collide("a.b_c", "a_b.c"));
        for (a, b) in [("a.b", "a.b"), ("a.b", "a-b"), ("a.b", "ab"), ("a.b", "A_b")] {
            assert!(!collide(a, b), "{a} {b}");
        }
        assert_eq!(key("orders"), None);
        assert_eq!(key("a.b"), key("a_b"));
    }

    #[test]
    fn a_topic_and_what_it_implies_are_compared_before_the_first_is_made() {
        let refused = among(["a.b", "a.b.retry.5s", "a_b"]).unwrap_err();
        assert_eq!(refused.reason, Reason::NameCollision);
        assert!(refused.message.starts_with("topic \"a_b\" collides with \"a.b\""), "{}", refused.message);
        assert!(among(["a.b", "a.b.retry.5s", "a.b.dlq"]).is_ok());
    }

    #[test]
    fn of_two_that_collide_the_first_that_was_declared_is_made() {
        let (first, second) = (claim(1, "first"), claim(2, "second"));
        let others = |claim: &Claim, name: &str| vec![(name.to_owned(), claim.clone())];
        assert!(with_others("a.b", &first, &others(&second, "a_b")).is_ok());
        let refused = with_others("a_b", &second, &others(&first, "a.b")).unwrap_err();
        assert!(refused.message.contains("which Topic shop/first declared before"), "{}", refused.message);
        assert!(with_others("a_c", &second, &others(&first, "a.b")).is_ok());
        // A companion that was made first is first, and one that was never made is last.
        let companion = Claim { companion: true, ..claim(1, "companion") };
        assert!(with_others("a_b", &second, &others(&companion, "a.b")).is_err());
        let unmade = Claim { created: None, ..companion };
        assert!(with_others("a.b", &unmade, &others(&second, "a_b")).is_err());
    }
}
