//! Who may, and who owns: the operator's rules on the objects of the input. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::candidates::Candidate;
use super::links::{Home, Link, Links};
use crate::api::conditions::Reason;
use crate::api::policy::{ManagementPolicy, Policies};
use crate::topology::Rejection;
use crate::topology::access::{Asked, Asking, namespace_allowed, rules_permit};
use crate::topology::ownership::{Claim, owner};

/// A broker object: the cluster's id, and what tells it from others there.
type Identity<'a> = (&'a str, &'a str);

/// What each candidate may do: the choices in force, or why it may nothing.
#[must_use]
pub fn judge<C>(
    candidates: &[Candidate],
    links: &Links<C>,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> Vec<Result<Policies, Rejection>> {
    let mut verdicts: Vec<_> =
        candidates.iter().map(|candidate| permit(candidate, links, namespaces)).collect();
    // A companion is made by its parent: one that may nothing has none.
    let refused: BTreeSet<usize> =
        verdicts.iter().enumerate().filter(|(_, verdict)| verdict.is_err()).map(|(place, _)| place).collect();
    let orphan = |candidate: &Candidate| {
        !candidate.parents.is_empty() && candidate.parents.iter().all(|parent| refused.contains(parent))
    };
    let mut claims: BTreeMap<Identity<'_>, Vec<Claim>> = BTreeMap::new();
    for (candidate, verdict) in candidates.iter().zip(&verdicts) {
        let manages = verdict.as_ref().is_ok_and(|policies| policies.management == ManagementPolicy::Manage);
        if manages
            && !orphan(candidate)
            && let Ok(link) = links.get(&candidate.broker)
        {
            for identity in std::iter::once(&candidate.identity).chain(&candidate.keeps) {
                let identity = (link.cluster_id.as_str(), identity.as_str());
                claims.entry(identity).or_default().push(candidate.claim.clone());
            }
        }
    }
    for (candidate, verdict) in candidates.iter().zip(&mut verdicts) {
        let Ok(policies) = verdict else { continue };
        let rivals = identity(candidate, links).and_then(|identity| claims.get(&identity));
        if policies.management == ManagementPolicy::Manage
            && let Some(first) = rivals.and_then(|claims| owner(claims))
            && *first != candidate.claim
        {
            let message = format!(
                "{} {:?} is owned by {} {}/{}, which comes first: delete one of the two",
                candidate.kind.to_lowercase(),
                candidate.name,
                first.kind,
                first.namespace,
                first.name
            );
            *verdict = Err(Rejection::new(Reason::Conflict, message));
        }
    }
    verdicts
}

fn identity<'a, C>(candidate: &'a Candidate, links: &'a Links<C>) -> Option<Identity<'a>> {
    let link = links.get(&candidate.broker).ok()?;
    Some((&link.cluster_id, &candidate.identity))
}

/// Whether the Broker, and the oldest Broker of the same cluster, permit it.
fn permit<C>(
    candidate: &Candidate,
    links: &Links<C>,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> Result<Policies, Rejection> {
    let link = links.get(&candidate.broker)?;
    let policies = Policies::resolve(candidate.policies, link.spec.defaults);
    let oldest = links.oldest(&link.cluster_id).filter(|oldest| oldest.key != link.key);
    if let Some(oldest) = oldest {
        claimed(link, oldest, namespaces)?;
    }
    let refers_to: Vec<_> = candidate.refers_to.iter().map(String::as_str).collect();
    // A binding has no name of its own, and holds nothing: rules about deletion are not for it.
    let named = candidate.kind != "Binding";
    let asked = Asked {
        vhost: candidate.vhost.as_deref(),
        name: if named { &candidate.name } else { "" },
        refers_to: &refers_to,
        deletion: named.then_some(policies.deletion),
        // What is only observed is not declared, whatever the manifest says of it.
        deletes: if policies.management == ManagementPolicy::Manage { &candidate.deletes } else { &[] },
    };
    let oldest = oldest.map(|oldest| (&oldest.spec, &oldest.namespace));
    for (spec, home) in std::iter::once((&link.spec, &link.namespace)).chain(oldest) {
        let asking = Asking { namespace: &candidate.namespace, labels: namespaces.get(&candidate.namespace) };
        namespace_allowed(spec, home, asking)?;
        rules_permit(&spec.rules, &candidate.namespace, &asked)?;
    }
    Ok(policies)
}

/// Two Brokers for one cluster: the oldest decides whose namespaces may come.
fn claimed<C>(
    link: &Link<C>,
    oldest: &Home,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> Result<(), Rejection> {
    let asking = Asking { namespace: &link.namespace, labels: namespaces.get(&link.namespace) };
    namespace_allowed(&oldest.spec, &oldest.namespace, asking).map_err(|_| {
        let message = format!(
            "cluster {} is declared by Broker {} before, and that one does not allow namespace {}",
            link.cluster_id, oldest.key, link.namespace
        );
        Rejection::new(Reason::ClusterClaimed, message)
    })
}

#[cfg(test)]
mod tests {
    use super::super::candidates;
    use super::super::input::{self, Input};
    use super::super::objects::Objects;
    use super::*;

    /// The reasons, by candidate, of objects on Brokers of these clusters.
    fn reasons(text: &str, clusters: &[&str]) -> Vec<Option<Reason>> {
        let mut input = Input::default();
        input::parse("a.yaml", text, &mut input);
        let objects = Objects::of(input, "default", None);
        assert_eq!(objects.wrong, []);
        let candidates = candidates::of(&objects);
        let links = Links::fake(&objects.brokers, clusters);
        let verdicts = judge(&candidates, &links, &objects.namespaces);
        verdicts.iter().map(|verdict| verdict.as_ref().err().map(|rejection| rejection.reason)).collect()
    }

    fn broker(name: &str, more: &str) -> String {
        format!(
            "---\n{{apiVersion: spillway.dev/v1alpha1, kind: Broker, metadata: {{name: {name}, namespace: kafka}}, spec: {{kafka: {{bootstrapServers: ['a:1']}}{more}}}}}\n"
        )
    }

    fn topic(namespace: &str, name: &str, broker: &str, more: &str) -> String {
        format!(
            "---\n{{apiVersion: spillway.dev/v1alpha1, kind: Topic, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{brokerRef: {{name: {broker}, namespace: kafka}}{more}}}}}\n"
        )
    }

    #[test]
    fn a_broker_serves_its_own_namespace_unless_it_says_more() {
        let topics = topic("kafka", "a", "k", "") + &topic("team-a", "b", "k", "");
        let refused = Some(Reason::NamespaceNotAllowed);
        assert_eq!(reasons(&(broker("k", "") + &topics), &["x"]), [None, refused]);
        let all = broker("k", ", allowedNamespaces: {from: All}");
        assert_eq!(reasons(&(all + &topics), &["x"]), [None, None]);
    }

    #[test]
    fn a_selector_needs_the_namespace_in_the_input() {
        let broker =
            broker("k", ", allowedNamespaces: {from: Selector, selector: {matchLabels: {kafka: 'yes'}}}");
        let text = broker + &topic("team-a", "b", "k", "");
        assert_eq!(reasons(&text, &["x"]), [Some(Reason::NamespaceNotAllowed)]);
        let namespace =
            "---\n{apiVersion: v1, kind: Namespace, metadata: {name: team-a, labels: {kafka: 'yes'}}}\n";
        assert_eq!(reasons(&(text + namespace), &["x"]), [None]);
    }

    #[test]
    fn rules_hold_for_companions_too() {
        let rules = ", rules: [{namespaces: [kafka], names: ['a', 'a.*']}]";
        let text = broker("k", rules)
            + &topic("kafka", "a", "k", ", deadLetter: {}")
            + &topic("kafka", "b", "k", "");
        assert_eq!(reasons(&text, &["x"]), [None, None, Some(Reason::RuleViolated)]);
        let text = broker("k", rules) + &topic("kafka", "a", "k", ", deadLetter: {name: dead}");
        assert_eq!(reasons(&text, &["x"]), [Some(Reason::RuleViolated), None]);
    }

    #[test]
    fn the_first_of_two_owns_whatever_broker_they_name() {
        let text = broker("k", "")
            + &broker("l", "")
            + &topic("kafka", "a", "k", ", name: orders")
            + &topic("kafka", "b", "l", ", name: orders");
        assert_eq!(reasons(&text, &["x", "x"]), [None, Some(Reason::Conflict)]);
        assert_eq!(reasons(&text, &["x", "y"]), [None, None]);
        let observing = text.replace("name: orders}", "name: orders, managementPolicy: Observe}");
        assert_eq!(reasons(&observing, &["x", "x"]), [None, None]);
    }

    #[test]
    fn a_second_broker_is_no_way_around_the_guard_rails_of_the_first() {
        let text = broker("k", ", rules: [{namespaces: ['*'], names: ['a']}]")
            + &broker("l", "")
            + &topic("kafka", "b", "l", "");
        assert_eq!(reasons(&text, &["x", "x"]), [Some(Reason::RuleViolated)]);
        assert_eq!(reasons(&text, &["x", "y"]), [None]);
    }

    #[test]
    fn a_queue_that_expires_is_no_way_around_a_rule_about_deletion_policies() {
        let rules = ", rules: [{namespaces: [kafka], names: ['*'], deletionPolicies: [Retain]}]";
        let text = broker("k", rules).replace(
            "kafka: {bootstrapServers: ['a:1']}",
            "rabbitmq: {managementUrl: 'http://a:1', credentialsSecretRef: {name: s}}",
        );
        for (spec, expected) in [
            (", expires: 1h", Some(Reason::RuleViolated)),
            (", onImmutableChange: RecreateIfEmpty", Some(Reason::RuleViolated)),
            (", expires: 1h, managementPolicy: Observe", None),
            ("", None),
        ] {
            let queue = topic("kafka", "q", "k", spec).replace("kind: Topic", "kind: Queue");
            assert_eq!(reasons(&(text.clone() + &queue), &["x"]), [expected], "{spec}");
        }
    }

    #[test]
    fn the_broker_that_has_been_on_the_cluster_for_longer_decides_and_not_the_older_one() {
        let on = |name: &str, more: &str, created: &str, status: &str| {
            let metadata = format!("name: {name}, creationTimestamp: '{created}'");
            let text = broker(name, more).replace(&format!("name: {name}"), &metadata);
            format!("{}, status: {{{status}}}}}\n", text.strip_suffix("}\n").unwrap())
        };
        let rules = ", rules: [{namespaces: ['*'], names: ['a']}]";
        let (old, young) = ("2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z");
        let topic = topic("kafka", "b", "moved", "");
        let refused = [Some(Reason::RuleViolated)];
        // The older one was pointed at this cluster later, and is no way around the rules of the one that was there.
        let ruled = on("ruled", rules, young, &format!("clusterId: x, clusterSince: '{young}'"));
        let moved = on("moved", "", old, "clusterId: x, clusterSince: '2025-01-01T00:00:00Z'");
        assert_eq!(reasons(&(moved.clone() + &ruled + &topic), &["x", "x"]), refused);
        assert_eq!(reasons(&(ruled.clone() + &moved + &topic), &["x", "x"]), refused);
        // One that is just taken over to another cluster begins anew.
        let moved = on("moved", "", old, "clusterId: another");
        assert_eq!(reasons(&(moved + &ruled + &topic), &["x", "x"]), refused);
        // What was noted before it was noted since when counts from the creation, and so does what was never connected.
        for status in ["clusterId: x", ""] {
            let older = on("moved", "", old, status);
            assert_eq!(reasons(&(ruled.clone() + &older + &topic), &["x", "x"]), [None], "{status:?}");
        }
        // One that does not answer is known by its status.
        let away = on("away", rules, old, "clusterId: x");
        let open = on("moved", "", young, "");
        assert_eq!(reasons(&(away + &open + &topic), &["", "x"]), refused);
    }

    #[test]
    fn a_broker_that_is_not_in_the_input_is_told() {
        assert_eq!(reasons(&topic("kafka", "b", "l", ""), &[]), [Some(Reason::BrokerNotFound)]);
    }
}
