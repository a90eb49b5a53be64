//! May this namespace declare this object on that Broker?
//!
//! One place for every guard rail: `allowedNamespaces`, `rules` and `driftPolicy`. Companions are objects of
//! their own and pass through here like any other. Where two Brokers name one cluster, the
//! oldest's guard rails hold, too: a second Broker is no way around them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::Rejection;
use crate::api::broker::{AllowedFrom, BrokerSpec, DriftPolicy, GuardRule};
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

/// What a namespace asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The virtual host (RabbitMQ); none: the broker has no such thing.
    pub vhost: Option<&'a str>,
    /// The broker object that it declares; empty for what has no name of its own, such as a binding.
    pub name: &'a str,
    /// The broker objects that it refers to: the source and destination of a binding, a dead-letter
    /// target, an alternate exchange. Who may name them may send messages there, or draw them off.
    pub refers_to: &'a [&'a str],
    /// The deletion policy in force; none: not asked for.
    pub deletion: Option<DeletionPolicy>,
    /// The settings by which the object goes without its CR being deleted: as good as a deletion policy.
    pub deletes: &'a [Deletes],
}

/// A setting by which an object goes although nobody deletes its CR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// RabbitMQ deletes the queue with its messages when nobody used it for a while.
    Expires,
    /// Spillway deletes the queue, while it is empty, to declare it anew.
    Recreate,
    /// RabbitMQ deletes the exchange with its last binding.
    AutoDelete,
}

impl Deletes {
    /// The deletion policies that go as far.
    const fn policies(self) -> &'static [DeletionPolicy] {
        match self {
            Self::Expires => &[DeletionPolicy::Delete],
            Self::Recreate | Self::AutoDelete => &[DeletionPolicy::DeleteIfEmpty, DeletionPolicy::Delete],
        }
    }

    /// What it does, and which policy that takes.
    const fn words(self) -> &'static str {
        match self {
            Self::Expires => {
                "expires, which deletes it with its messages: that takes a rule with deletionPolicies Delete"
            }
            Self::Recreate => {
                "onImmutableChange RecreateIfEmpty, which deletes it: that takes a rule with deletionPolicies DeleteIfEmpty or Delete"
            }
            Self::AutoDelete => {
                "autoDelete, which deletes it: that takes a rule with deletionPolicies DeleteIfEmpty or Delete"
            }
        }
    }
}

/// Whether the rules let the namespace declare the object and refer to what it refers to. Every
/// name needs a rule that fits namespace, virtual host and name; the declared one's must permit the
/// deletion policy, too, and one that goes as far as each setting that deletes it otherwise. The
/// default exchange (the empty name) is everybody's.
pub fn rules_permit(rules: &[GuardRule], namespace: &str, asked: &Asked<'_>) -> Result<(), Rejection> {
    if rules.is_empty() {
        return Ok(());
    }
    let fitting = |name: &str| {
        rules
            .iter()
            .filter(|rule| {
                any_glob(&rule.namespaces, namespace)
                    && any_glob(&rule.names, name)
                    && asked.vhost.is_none_or(|vhost| rule.vhosts.is_empty() || any_glob(&rule.vhosts, vhost))
            })
            .collect::<Vec<_>>()
    };
    let place = asked.vhost.map(|vhost| format!(" in virtual host {vhost:?}")).unwrap_or_default();
    let refuse = |what: String| Err(Rejection::new(Reason::RuleViolated, what));
    if !asked.name.is_empty() {
        let named = fitting(asked.name);
        let name = asked.name;
        if named.is_empty() {
            return refuse(format!(
                "no rule of the Broker lets namespace {namespace} declare {name:?}{place}"
            ));
        }
        let may = |deletion: &DeletionPolicy| {
            named
                .iter()
                .any(|rule| rule.deletion_policies.is_empty() || rule.deletion_policies.contains(deletion))
        };
        let policy = asked.deletion.filter(|deletion| !may(deletion));
        let what = policy.map(|deletion| format!("deletionPolicy {deletion:?}")).or_else(|| {
            let deletes = asked.deletes.iter().find(|deletes| !deletes.policies().iter().any(may));
            deletes.map(|deletes| deletes.words().to_owned())
        });
        if let Some(what) = what {
            return refuse(format!(
                "no rule of the Broker lets namespace {namespace} declare {name:?}{place} with {what}"
            ));
        }
    }
    for name in asked.refers_to.iter().filter(|name| !name.is_empty()) {
        if fitting(name).is_empty() {
            return refuse(format!(
                "no rule of the Broker lets namespace {namespace} refer to {name:?}{place}"
            ));
        }
    }
    Ok(())
}

/// What becomes of drift: it is only reported where the Broker says so, or the oldest of its cluster.
#[must_use]
pub fn drift(own: &BrokerSpec, oldest: Option<&BrokerSpec>) -> DriftPolicy {
    let corrects = |spec: &BrokerSpec| spec.drift_policy == DriftPolicy::Correct;
    if corrects(own) && oldest.is_none_or(corrects) { DriftPolicy::Correct } else { DriftPolicy::Report }
}

fn any_glob(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| glob(pattern, text))
}

/// Whether `text` as a whole matches: `*` is any run of characters, all else is literal.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
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
    fn a_second_broker_does_not_correct_what_the_oldest_only_reports() {
        let [corrects, reports] = ["Correct", "Report"].map(|policy| broker(json!({"driftPolicy": policy})));
        assert_eq!(drift(&corrects, None), DriftPolicy::Correct);
        assert_eq!(drift(&corrects, Some(&corrects)), DriftPolicy::Correct);
        assert_eq!(drift(&corrects, Some(&reports)), DriftPolicy::Report);
        assert_eq!(drift(&reports, Some(&corrects)), DriftPolicy::Report);
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
    fn each_operator_of_a_selector_s_expressions_means_what_kubernetes_says() {
        let allows = |expressions: serde_json::Value, labels: &[(&str, &str)]| {
            let spec = broker(json!({
                "allowedNamespaces": {"from": "Selector", "selector": {"matchExpressions": expressions}}
            }));
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            namespace_allowed(&spec, "kafka", Asking { namespace: "team-a", labels: Some(&labels) }).is_ok()
        };
        let one = |operator: &str, values: &[&str]| json!([{"key": "tier", "operator": operator, "values": values}]);
        for (operator, values, gold, tin, without) in [
            ("In", &["gold", "silver"][..], true, false, false),
            ("NotIn", &["gold", "silver"], false, true, true),
            ("Exists", &[], true, true, false),
            ("DoesNotExist", &[], false, false, true),
            ("Like", &["gold"], false, false, false),
        ] {
            let expressions = one(operator, values);
            assert_eq!(allows(expressions.clone(), &[("tier", "gold")]), gold, "{operator}");
            assert_eq!(allows(expressions.clone(), &[("tier", "tin")]), tin, "{operator}");
            assert_eq!(allows(expressions, &[("team", "a")]), without, "{operator}");
        }
        let both = json!([
            {"key": "tier", "operator": "Exists"}, {"key": "team", "operator": "In", "values": ["a"]}
        ]);
        assert!(allows(both.clone(), &[("tier", "gold"), ("team", "a")]));
        assert!(!allows(both, &[("tier", "gold"), ("team", "b")]));
    }

    #[test]
    fn with_rules_an_object_needs_one_that_fits_in_full() {
        let rules =
            [rule(json!({"namespaces": ["team-a"], "names": ["team-a.*"], "deletionPolicies": ["Retain"]}))];
        let permit = |ns: &str, name: &str, deletion| {
            rules_permit(&rules, ns, &Asked { name, deletion: Some(deletion), ..Asked::default() })
        };
        assert!(permit("team-a", "team-a.orders", DeletionPolicy::Retain).is_ok());
        assert!(permit("team-a", "team-a.orders.dlq", DeletionPolicy::Retain).is_ok());
        assert!(permit("team-a", "team-a.orders", DeletionPolicy::Delete).is_err());
        assert!(permit("team-a", "team-b.orders", DeletionPolicy::Retain).is_err());
        assert!(permit("team-b", "team-a.orders", DeletionPolicy::Retain).is_err());
        assert!(permit("team-a", "team-a-orders", DeletionPolicy::Retain).is_err());
        assert!(permit("team-a", "xteam-a.orders", DeletionPolicy::Retain).is_err());
    }

    #[test]
    fn a_rule_counts_only_in_the_virtual_hosts_that_it_names() {
        let rules = [rule(json!({"namespaces": ["*"], "names": ["a.*"], "vhosts": ["team-a", "test-*"]}))];
        let permit = |vhost| rules_permit(&rules, "x", &Asked { vhost, name: "a.q", ..Asked::default() });
        assert!(permit(Some("team-a")).is_ok() && permit(Some("test-1")).is_ok());
        let refused = permit(Some("/")).unwrap_err();
        assert!(refused.message.contains("in virtual host \"/\""), "{refused}");
        assert!(permit(None).is_ok(), "Kafka has no virtual hosts");
    }

    #[test]
    fn what_is_referred_to_needs_a_rule_like_what_is_declared() {
        let rules = [
            rule(json!({"namespaces": ["a"], "names": ["a.*"], "deletionPolicies": ["Retain"]})),
            rule(json!({"namespaces": ["a"], "names": ["shared"], "deletionPolicies": ["Delete"]})),
        ];
        let permit = |name, refers_to: &[&str]| {
            let deletion = Some(DeletionPolicy::Retain);
            rules_permit(&rules, "a", &Asked { vhost: Some("/"), name, refers_to, deletion, deletes: &[] })
        };
        assert!(permit("a.q", &["", "shared", "a.x"]).is_ok(), "a reference asks for no deletion policy");
        assert!(permit("", &["a.x", "a.q"]).is_ok(), "a binding has no name of its own");
        let refused = permit("a.q", &["a.x", "b.q"]).unwrap_err();
        assert!(refused.message.contains("refer to \"b.q\""), "{refused}");
        assert!(permit("shared", &[]).is_err(), "no one rule permits both the name and the policy");
    }

    #[test]
    fn a_setting_that_deletes_is_no_way_around_a_rule_about_deletion_policies() {
        let permit = |policies: serde_json::Value, deletes| {
            let rules = [rule(json!({"namespaces": ["a"], "names": ["*"], "deletionPolicies": policies}))];
            let deletion = rules[0].deletion_policies.first().copied();
            rules_permit(&rules, "a", &Asked { name: "q", deletion, deletes: &[deletes], ..Asked::default() })
        };
        for (deletes, empty, delete) in [
            (Deletes::Expires, false, true),
            (Deletes::Recreate, true, true),
            (Deletes::AutoDelete, true, true),
        ] {
            let refused = permit(json!(["Retain"]), deletes).unwrap_err();
            assert_eq!(refused.reason, Reason::RuleViolated);
            assert!(refused.message.contains(deletes.words()), "{refused}");
            assert_eq!(permit(json!(["Retain", "DeleteIfEmpty"]), deletes).is_ok(), empty, "{deletes:?}");
            assert_eq!(permit(json!(["Retain", "Delete"]), deletes).is_ok(), delete, "{deletes:?}");
            assert!(permit(json!([]), deletes).is_ok(), "a rule that names no policy permits all");
        }
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
