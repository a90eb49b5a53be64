//! In which pods the members of a group are. Pure.
//!
//! Pods are not read: a right to list them is a right to read their environment. Spillway gives each pod its name as
//! client id, and how Kubernetes makes those names is fixed; so a client id may prove that a member is in one of our
//! pods. That it is in none of them is proven only when all our pods are accounted for, and by addresses of their own:
//! behind host networking or NAT, one address stands for several pods, and then nobody is a stranger.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::consumer::TargetKind;
use crate::brokers::kafka::GroupMember;
use crate::controllers::consumer::targets::TargetKey;

/// The letters and digits in the parts of a pod's name that Kubernetes makes up.
const MADE_UP: &str = "bcdfghjklmnpqrstvwxz2456789";
/// How long the hash of a template is. (It has the digits of a 32-bit number: fewer than six once in 40,000.)
const HASH: std::ops::RangeInclusive<usize> = 6..=10;
/// How long the last part of a pod's name is.
const SUFFIX: usize = 5;

/// The pod of ours that a client id names: all of it, or its beginning. Kafka Streams and others put more after it, a
/// client id for each thread.
#[must_use]
pub fn named<'a>(client_id: &'a str, target: &TargetKey) -> Option<&'a str> {
    let rest = client_id.strip_prefix(&target.name)?.strip_prefix('-')?;
    let end = match target.kind {
        TargetKind::Deployment => {
            let (hash, rest) = made_up(rest);
            let (suffix, rest) = made_up(rest.strip_prefix('-')?);
            let ends = rest.chars().next().is_none_or(|next| !next.is_ascii_alphanumeric());
            (HASH.contains(&hash) && suffix == SUFFIX && ends).then_some(rest)?
        }
        TargetKind::StatefulSet => {
            let rest = rest.trim_start_matches(|next: char| next.is_ascii_digit());
            let ordinal = client_id.len() - rest.len() > target.name.len() + 1;
            // What goes on as a name may be a pod of another one: worker-2-0 is not worker-2.
            let mut next = rest.chars();
            let name_goes_on = match next.next() {
                Some('-' | '.') => next.next().is_some_and(is_of_names),
                Some(other) => is_of_names(other),
                None => false,
            };
            (ordinal && !name_goes_on).then_some(rest)?
        }
    };
    Some(&client_id[..client_id.len() - end.len()])
}

const fn is_of_names(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit()
}

/// How many made-up letters come first, and what comes after them.
fn made_up(text: &str) -> (usize, &str) {
    let rest = text.trim_start_matches(|next: char| MADE_UP.contains(next));
    (text.len() - rest.len(), rest)
}

/// The members that are certainly in no pod of ours, of which so many are ready; by member id.
#[must_use]
pub fn strangers<'a>(members: &'a [GroupMember], target: &TargetKey, ready: u32) -> BTreeSet<&'a str> {
    let mut hosts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut others = Vec::new();
    for member in members {
        match named(&member.client_id, target) {
            Some(pod) => _ = hosts.entry(pod).or_default().insert(&member.host),
            None => others.push(member),
        }
    }
    let ours: BTreeSet<&str> = hosts.values().flatten().copied().collect();
    let told_apart = hosts.values().all(|hosts| hosts.len() == 1) && ours.len() == hosts.len();
    if ready == 0 || hosts.len() < ready as usize || !told_apart {
        return BTreeSet::new();
    }
    others
        .into_iter()
        .filter(|member| !member.host.is_empty() && !ours.contains(member.host.as_str()))
        .map(|member| member.id.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: TargetKind) -> TargetKey {
        TargetKey { kind, namespace: "n".into(), name: "orders".into() }
    }

    fn member(client_id: &str, host: &str) -> GroupMember {
        GroupMember {
            id: format!("{client_id}-{host}"),
            instance_id: None,
            client_id: client_id.into(),
            host: host.into(),
            assignment: Vec::new(),
            target: None,
        }
    }

    fn strange(members: &[(&str, &str)], ready: u32) -> Vec<String> {
        let members: Vec<_> = members.iter().map(|(client_id, host)| member(client_id, host)).collect();
        let found = strangers(&members, &target(TargetKind::Deployment), ready);
        found.into_iter().map(Into::into).collect()
    }

    const A: &str = "orders-7d4b9cf6d8-x2x4z";
    const B: &str = "orders-7d4b9cf6d8-bbbbb";

    #[test]
    fn a_pod_of_another_deployment_whose_name_goes_on_was_taken_for_one_of_ours() {
        let deployment = target(TargetKind::Deployment);
        assert_eq!(named(A, &deployment), Some(A));
        for other in ["orders-eu-7d4b9cf6d8-x2x4z", "orders", "orders-7d4b9cf6d8", "rdkafka", "orders-0", ""]
        {
            assert_eq!(named(other, &deployment), None, "{other}");
        }
        let set = target(TargetKind::StatefulSet);
        assert_eq!(named("orders-12", &set), Some("orders-12"));
        for other in ["orders-2-0", "orders-", "orders-x", "orders-2x", "orders-1.a"] {
            assert_eq!(named(other, &set), None, "{other}");
        }
    }

    #[test]
    fn each_thread_of_a_pod_was_taken_for_a_pod_of_its_own() {
        for suffix in ["-StreamThread-1-consumer", "-0", ".consumer", "/1", "é"] {
            assert_eq!(named(&format!("{A}{suffix}"), &target(TargetKind::Deployment)), Some(A), "{suffix}");
        }
        let set = target(TargetKind::StatefulSet);
        assert_eq!(named("orders-2-StreamThread-1-consumer", &set), Some("orders-2"));
    }

    #[test]
    fn a_member_in_none_of_our_pods_was_never_found_to_be_a_stranger() {
        let members = [(A, "/10.0.0.1"), (B, "/10.0.0.2"), ("x", "/10.0.0.9"), ("x", "/10.0.0.1")];
        assert_eq!(strange(&members, 2), ["x-/10.0.0.9"]);
    }

    #[test]
    fn who_may_be_one_of_ours_is_no_stranger() {
        // A pod of ours is not accounted for: it may be that member's.
        assert!(strange(&[(A, "/10.0.0.1"), ("x", "/10.0.0.9")], 2).is_empty());
        // One address for two pods: host networking, or NAT.
        assert!(strange(&[(A, "/10.0.0.1"), (B, "/10.0.0.1"), ("x", "/10.0.0.9")], 2).is_empty());
        // One pod with two addresses.
        assert!(strange(&[(A, "/10.0.0.1"), (A, "/10.0.0.2"), ("x", "/10.0.0.9")], 1).is_empty());
        // Nobody says who they are.
        assert!(strange(&[("x", "/10.0.0.1"), ("x", "/10.0.0.9")], 0).is_empty());
    }
}
