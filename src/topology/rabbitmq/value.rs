//! Values as RabbitMQ compares them: `1` and `1.0` are one number, the order of keys is nothing.

use serde_json::{Number, Value};

use crate::api::arguments::Arguments;
use crate::api::conditions::Reason;
use crate::topology::Rejection;

/// Longest name that AMQP can carry, in bytes.
pub const MAX_NAME: usize = 255;

/// Whether two values are the same to RabbitMQ.
#[must_use]
pub fn same(a: &Value, b: &Value) -> bool {
    a == b || canonical(a) == canonical(b)
}

/// A text that is the same for the same value, and that people can read.
#[must_use]
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => number_text(number),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(map) => braces(map.iter(), &canonical),
        plain => plain.to_string(),
    }
}

/// A text that is the same for the same arguments, where `1` and `1.0` are two: integers and floats have types of their
/// own in AMQP.
#[must_use]
pub fn exact_map(arguments: &Arguments) -> String {
    braces(arguments.iter(), &exact)
}

fn exact(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(exact).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(map) => braces(map.iter(), &exact),
        plain => plain.to_string(),
    }
}

fn braces<'a>(
    pairs: impl Iterator<Item = (&'a String, &'a Value)>,
    written: &dyn Fn(&Value) -> String,
) -> String {
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by_key(|(key, _)| *key);
    let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| format!("{key:?}:{}", written(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn number_text(number: &Number) -> String {
    match number.as_f64() {
        // Whole numbers below 2^53 are exact as floats, too.
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => {
            // "-0" is 0.
            format!("{:.0}", float + 0.0)
        }
        _ => number.to_string(),
    }
}

/// Whether there is a float without a fraction in it: Kubernetes makes the integer `1` of `1.0`.
#[must_use]
pub fn has_whole_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64() && number.as_f64().is_some_and(|float| float.fract() == 0.0),
        Value::Array(items) => items.iter().any(has_whole_float),
        Value::Object(map) => map.values().any(has_whole_float),
        _ => false,
    }
}

/// `key=value, key=value`, for people.
#[must_use]
pub fn shown<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| format!("{key}={}", bare(value))).collect();
    pairs.join(", ")
}

/// A value for people: plain text where it is plain.
#[must_use]
pub fn bare(value: &Value) -> String {
    match value {
        Value::String(text)
            if !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_./:".contains(c)) =>
        {
            text.clone()
        }
        other => canonical(other),
    }
}

/// Refuses arguments that RabbitMQ's management interface cannot take: it has no null.
pub fn check_arguments(of: &str, arguments: &Arguments) -> Result<(), Rejection> {
    fn has_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(items) => items.iter().any(has_null),
            Value::Object(map) => map.values().any(has_null),
            _ => false,
        }
    }
    for (key, value) in arguments {
        if key.is_empty() || key.len() > MAX_NAME {
            return Err(invalid(format!("{of}: an argument's name has 1 to {MAX_NAME} bytes")));
        }
        if has_null(value) {
            return Err(invalid(format!("{of}: argument {key} holds a null, which RabbitMQ does not take")));
        }
    }
    Ok(())
}

/// RabbitMQ's rules for names, for something that is declared or referred to.
pub fn check_name(what: &str, name: &str) -> Result<(), Rejection> {
    let shown: String = name.chars().take(64).collect();
    if name.is_empty() {
        return Err(invalid(format!("a {what} needs a name")));
    }
    if name.len() > MAX_NAME {
        return Err(invalid(format!(
            "{what} name {shown:?}… has {} bytes; RabbitMQ takes at most {MAX_NAME}",
            name.len()
        )));
    }
    if !is_addressable(name) {
        return Err(invalid(format!(
            "{what} name {name:?}: RabbitMQ's management interface has no address for it"
        )));
    }
    if name.contains(['\n', '\r', '\0']) {
        return Err(invalid(format!("{what} name {shown:?} has a line break or a NUL in it")));
    }
    Ok(())
}

/// Whether an address of the management interface can have the word in it: these two are taken for steps along the
/// path, however they are encoded.
#[must_use]
pub fn is_addressable(word: &str) -> bool {
    !matches!(word, "." | "..")
}

/// As [`check_name`], for something that Spillway declares.
pub fn check_own_name(what: &str, name: &str) -> Result<(), Rejection> {
    check_name(what, name)?;
    if name.starts_with("amq.") {
        return Err(invalid(format!("{what} name {name:?}: names that begin with amq. are RabbitMQ's own")));
    }
    Ok(())
}

/// A spec that cannot be.
pub fn invalid(message: impl Into<String>) -> Rejection {
    Rejection::new(Reason::InvalidSpec, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_compared_by_value_and_maps_whatever_their_order() {
        for (a, b) in [
            (json!(1), json!(1.0)),
            (json!(-0.0), json!(0)),
            (json!({"a": 1, "b": [1, 2.0]}), json!({"b": [1.0, 2], "a": 1.0})),
            (json!(u64::MAX), json!(u64::MAX)),
        ] {
            assert!(same(&a, &b), "{a} {b}");
        }
        for (a, b) in [
            (json!(1), json!("1")),
            (json!(1), json!(1.5)),
            (json!(true), json!("true")),
            (json!([1, 2]), json!([2, 1])),
            (json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992_i64)),
        ] {
            assert!(!same(&a, &b), "{a} {b}");
        }
    }

    #[test]
    fn names_follow_rabbitmqs_rules() {
        for good in ["payments", "a b/é#1", &"x".repeat(255)] {
            assert!(check_own_name("queue", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a\nb", &"x".repeat(256), &"é".repeat(128), "amq.gen-1"] {
            assert_eq!(check_own_name("queue", bad).unwrap_err().reason, Reason::InvalidSpec, "{bad}");
        }
        assert!(check_name("exchange", "amq.topic").is_ok(), "one may bind from it");
    }

    #[test]
    fn a_null_is_refused_at_any_depth() {
        let arguments = Arguments::from([("x".to_owned(), json!([{"a": null}]))]);
        assert!(check_arguments("queue \"q\"", &arguments).unwrap_err().message.contains("argument x"));
    }
}
