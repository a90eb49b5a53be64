//! May this namespace declare this object on that Broker?
//!
//! One place for every guard rail: `allowedNamespaces` and `rules`. Companions are objects of
//! their own and pass through here like any other. Where two Brokers name one cluster, the
//! oldest's guard rails hold, too: a second Broker is no way around them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::Rejection;
use crate::api::broker::{AllowedFrom, BrokerSpec, GuardRule};
use crate::api::conditions::Reason;
use crate::api::policy::DeletionPolicy;

/// A namespace that asks.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Its name.
    pub namespace: &'a str,
    /// Its labels, where known.
    pub labels: Option<&'a BTreeMap<String, String>>,
}

/// Whether objects of the namespace may name a Broker that lives in `broker_namespace`.
pub fn namespace_allowed(
    spec: &BrokerSpec,
    broker_namespace: &str,
    asking: Asking<'_>,
) -> Result<(), Rejection> {
    let allowed = match spec.allowed_namespaces.from {
        AllowedFrom::All => true,
        AllowedFrom::Same => asking.namespace == broker_namespace,
        AllowedFrom::Selector => match (&spec.allowed_namespaces.selector, asking.labels) {
            (Some(selector), Some(labels)) => matches(selector, labels),
            _ => false,
        },
    };
    if allowed {
        return Ok(());
    }
    Err(Rejection::new(
        Reason::NamespaceNotAllowed,
        format!(
            "the Broker in namespace {broker_namespace} does not allow objects from namespace {}: its owner can widen spec.allowedNamespaces",
            asking.namespace
        ),
    ))
}

/// Whether the rules let the namespace declare an object of this name with this deletion policy.
pub fn rules_permit(
    rules: &[GuardRule],
    namespace: &str,
    name: &str,
    deletion: DeletionPolicy,
) -> Result<(), Rejection> {
    if rules.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = rules
        .iter()
        .filter(|rule| any_glob(&rule.namespaces, namespace) && any_glob(&rule.names, name))
        .collect();
    if named.is_empty() {
        return Err(Rejection::new(
            Reason::RuleViolated,
            format!("no rule of the Broker lets namespace {namespace} declare {name:?}"),
        ));
    }
    if named
        .iter()
        .any(|rule| rule.deletion_policies.is_empty() || rule.deletion_policies.contains(&deletion))
    {
        return Ok(());
    }
    Err(Rejection::new(
        Reason::RuleViolated,
        format!(
            "no rule of the Broker lets namespace {namespace} declare {name:?} with deletionPolicy {deletion:?}"
        ),
    ))
}

fn any_glob(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| glob(pattern, text))
}

/// Whether `text` as a whole matches: `*` is any run of characters, all else is literal.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether labels match a selector, as Kubernetes defines it. An operator that is not known
/// matches nothing.
fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let expressions = selector.match_expressions.iter().flatten().all(|expression| {
        let value = labels.get(&expression.key);
        let listed = || {
            value.is_some_and(|value| expression.values.as_ref().is_some_and(|values| values.contains(value)))
        };
        match expression.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    });
    equal && expressions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn broker(value: serde_json::Value) -> BrokerSpec {
        serde_json::from_value(value).unwrap()
    }

    fn rule(value: serde_json::Value) -> GuardRule {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_broker_serves_its_own_namespace_unless_it_says_more() {
        let spec = broker(json!({}));
        assert!(namespace_allowed(&spec, "kafka", Asking { namespace: "kafka", labels: None }).is_ok());
        let refused =
            namespace_allowed(&spec, "kafka", Asking { namespace: "team-a", labels: None }).unwrap_err();
        assert_eq!(refused.reason, Reason::NamespaceNotAllowed);
    }

    #[test]
    fn a_selector_that_cannot_be_checked_allows_nothing() {
        let spec = broker(
            json!({"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"kafka": "yes"}}}}),
        );
        let labels = BTreeMap::from([("kafka".to_owned(), "yes".to_owned())]);
        let asking = |labels| Asking { namespace: "team-a", labels };
        assert!(namespace_allowed(&spec, "kafka", asking(Some(&labels))).is_ok());
        let none = BTreeMap::new();
        assert!(namespace_allowed(&spec, "kafka", asking(Some(&none))).is_err());
        assert!(namespace_allowed(&spec, "kafka", asking(None)).is_err());
    }

    #[test]
    fn with_rules_an_object_needs_one_that_fits_in_full() {
        let rules =
            [rule(json!({"namespaces": ["team-a"], "names": ["team-a.*"], "deletionPolicies": ["Retain"]}))];
        let permit = |ns, name, deletion| rules_permit(&rules, ns, name, deletion);
        assert!(permit("team-a", "team-a.orders", DeletionPolicy::Retain).is_ok());
        assert!(permit("team-a", "team-a.orders.dlq", DeletionPolicy::Retain).is_ok());
        assert!(permit("team-a", "team-a.orders", DeletionPolicy::Delete).is_err());
        assert!(permit("team-a", "team-b.orders", DeletionPolicy::Retain).is_err());
        assert!(permit("team-b", "team-a.orders", DeletionPolicy::Retain).is_err());
        assert!(permit("team-a", "team-a-orders", DeletionPolicy::Retain).is_err());
        assert!(permit("team-a", "xteam-a.orders", DeletionPolicy::Retain).is_err());
    }

    #[test]
    fn globs_are_anchored_and_dots_are_literal() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("a*b*c", "a-b-b-c", true),
            ("a.c", "abc", false),
            ("a", "ab", false),
            ("", "", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_its_own_glob(text in "[a-z.]{0,12}") {
            prop_assert!(glob(&text, &text));
            prop_assert!(glob("*", &text));
        }
    }
}
