//! How a policy, an operator policy and an argument combine to the value in force.
//!
//! As RabbitMQ 4.0.5 does it (`rabbit_policies:merge_policy_value/3`, the resolvers that each queue
//! type gives to `rabbit_queue_type_util:args_policy_lookup/3`).

use serde_json::{Value, json};

use super::policy::Kind;
use crate::api::queue::QueueType;

/// How an argument and a policy's value for the same setting combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The smaller number counts.
    Smaller,
    /// As [`Rule::Smaller`], but a negative number means "no limit".
    Limit,
    /// The argument counts.
    Argument,
    /// The policy counts.
    Policy,
}

fn rule(kind: Kind, key: &str) -> Rule {
    match (kind, key) {
        (Kind::Queue(_), "consumer-timeout") => Rule::Smaller,
        (Kind::Queue(QueueType::Stream), _) | (Kind::Queue(QueueType::Quorum), "overflow") => Rule::Policy,
        (Kind::Queue(_), "delivery-limit") => Rule::Limit,
        (Kind::Queue(_), "message-ttl" | "expires" | "max-length" | "max-length-bytes") => Rule::Smaller,
        (Kind::Exchange | Kind::Queue(_), _) => Rule::Argument,
    }
}

/// The value in force, from a policy's value (operator policies merged in) and an argument's.
#[must_use]
pub fn in_force(kind: Kind, key: &str, policy: Option<&Value>, argument: Option<&Value>) -> Option<Value> {
    let (policy, argument) = match (policy, argument) {
        (Some(policy), Some(argument)) => (policy, argument),
        (one, other) => return one.or(other).cloned(),
    };
    Some(match rule(kind, key) {
        Rule::Argument => argument.clone(),
        Rule::Policy => policy.clone(),
        Rule::Smaller => smaller(policy, argument),
        Rule::Limit => limit(policy, argument),
    })
}

/// A policy's value with an operator policy's merged in: for numbers the smaller one, else the
/// operator's.
#[must_use]
pub fn merged(key: &str, policy: Option<&Value>, operator: Option<&Value>) -> Option<Value> {
    let (policy, operator) = match (policy, operator) {
        (Some(policy), Some(operator)) => (policy, operator),
        (one, other) => return one.or(other).cloned(),
    };
    Some(match key {
        "message-ttl"
        | "expires"
        | "max-length"
        | "max-length-bytes"
        | "max-in-memory-length"
        | "max-in-memory-bytes" => smaller(policy, operator),
        "delivery-limit" => limit(policy, operator),
        _ => operator.clone(),
    })
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

/// The smaller number; what is no number (RabbitMQ refuses it) does not count.
fn smaller(a: &Value, b: &Value) -> Value {
    match (number(a), number(b)) {
        (Some(x), Some(y)) if x > y => b.clone(),
        (None, Some(_)) => b.clone(),
        _ => a.clone(),
    }
}

/// A limit where any negative number is "none": then the larger counts, as RabbitMQ has it.
fn limit(a: &Value, b: &Value) -> Value {
    let negative = |value| number(value).is_some_and(|n| n < 0.0);
    if !negative(a) && !negative(b) {
        return smaller(a, b);
    }
    if smaller(a, b) == *a { b.clone() } else { a.clone() }
}

/// How many milliseconds a stream's age is, in RabbitMQ's text form: `604800s`, `7D`.
#[must_use]
pub fn age_millis(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let seconds: u64 = match unit {
        "Y" => 365 * 86_400,
        "M" => 30 * 86_400,
        "D" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    number.parse::<u64>().ok().filter(|n| *n > 0)?.checked_mul(seconds)?.checked_mul(1_000)
}

/// Whether two values of one setting mean the same.
#[must_use]
pub fn same_setting(key: &str, a: &Value, b: &Value) -> bool {
    if super::value::same(a, b) {
        return true;
    }
    let age = |value: &Value| value.as_str().and_then(age_millis);
    // A delivery limit below zero is none, whatever the number.
    let unlimited = |value: &Value| value.as_i64().is_some_and(|limit| limit < 0);
    key.ends_with("max-age") && age(a).is_some() && age(a) == age(b)
        || key.ends_with("delivery-limit") && unlimited(a) && unlimited(b)
}

/// A stream's age as RabbitMQ takes it.
#[must_use]
pub fn age_text(seconds: u64) -> Value {
    json!(format!("{seconds}s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUORUM: Kind = Kind::Queue(QueueType::Quorum);
    const CLASSIC: Kind = Kind::Queue(QueueType::Classic);
    const STREAM: Kind = Kind::Queue(QueueType::Stream);

    #[test]
    fn an_argument_limits_replaces_or_yields_as_the_queue_type_has_it() {
        for (kind, key, policy, argument, expected) in [
            (QUORUM, "max-length", json!(10), json!(5), json!(5)),
            (QUORUM, "max-length", json!(3), json!(5), json!(3)),
            (QUORUM, "delivery-limit", json!(-1), json!(5), json!(5)),
            (QUORUM, "delivery-limit", json!(-1), json!(-2), json!(-1)),
            (QUORUM, "overflow", json!("drop-head"), json!("reject-publish"), json!("drop-head")),
            (CLASSIC, "overflow", json!("drop-head"), json!("reject-publish"), json!("reject-publish")),
            (CLASSIC, "dead-letter-exchange", json!("a"), json!("b"), json!("b")),
            (STREAM, "max-length-bytes", json!(10), json!(5), json!(10)),
            (STREAM, "consumer-timeout", json!(10), json!(5), json!(5)),
            (Kind::Exchange, "alternate-exchange", json!("a"), json!("b"), json!("b")),
        ] {
            assert_eq!(in_force(kind, key, Some(&policy), Some(&argument)), Some(expected), "{kind:?} {key}");
            assert_eq!(in_force(kind, key, None, Some(&argument)), Some(argument.clone()));
            assert_eq!(in_force(kind, key, Some(&policy), None), Some(policy.clone()));
        }
    }

    #[test]
    fn an_operator_policy_takes_the_minimum_or_replaces() {
        for (key, policy, operator, expected) in [
            ("max-length", json!(10), json!(5), json!(5)),
            ("max-length", json!(4), json!(5), json!(4)),
            ("delivery-limit", json!(-1), json!(3), json!(3)),
            ("delivery-limit", json!(2), json!(3), json!(2)),
            ("overflow", json!("reject-publish"), json!("drop-head"), json!("drop-head")),
        ] {
            assert_eq!(merged(key, Some(&policy), Some(&operator)), Some(expected), "{key}");
        }
    }

    #[test]
    fn an_age_is_the_same_in_any_unit() {
        assert!(same_setting("max-age", &json!("7D"), &age_text(604_800)));
        assert!(!same_setting("max-age", &json!("7D"), &json!("7h")));
        assert!(!same_setting("max-age", &json!("x"), &json!("y")));
        assert!(!same_setting("overflow", &json!("7D"), &json!("604800s")));
    }
}
