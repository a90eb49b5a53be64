//! Who may: the guard rails of Brokers, and which CR owns a broker object.
//!
//! Only gathers what the pure rules in [`crate::topology::access`] and
//! [`crate::topology::ownership`] need. A cluster that is not connected just now is known by what
//! its Broker's status says: a link that is down opens no way around a guard rail.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kube::Api;
use kube::ResourceExt as _;

use super::context::{BrokerKey, Context};
use super::failure::Failure;
use super::links::Link;
use super::reconciler::{Pass, Rival, TopologyKind};
use crate::api::Broker;
use crate::api::broker::{AllowedFrom, BrokerSpec, DriftPolicy};
use crate::api::conditions::Reason;
use crate::api::policy::{ManagementPolicy, Policies};
use crate::topology::Rejection;
use crate::topology::access::{self, Asked, Asking};
use crate::topology::ownership::Claim;

/// The CRs that claim one broker object.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// Those on the same cluster, the asking one included.
    pub same: Vec<Claim>,
    /// Those on a cluster that is not known yet, in words: perhaps the same.
    pub unknown: Vec<String>,
}

/// Every CR that claims the same broker object as `object`. One that its Broker refuses claims
/// nothing: nobody may block or redirect another's object by naming a Broker that is not theirs.
pub fn claims<K: TopologyKind>(ctx: &Context, object: &K, cluster_id: &str) -> Claims {
    let mut claims = Claims { same: vec![Rival::of(ctx, object).claim], unknown: Vec::new() };
    for rival in object.rivals(ctx) {
        match standing(ctx, &rival, cluster_id) {
            Standing::Same => claims.same.push(rival.claim),
            // Two that go together would wait for each other, or both for a Broker that is away.
            Standing::Unknown if rival.going => {}
            Standing::Unknown => {
                let Claim { kind, namespace, name, .. } = &rival.claim;
                claims.unknown.push(format!("{kind} {namespace}/{name} on Broker {}", rival.broker));
            }
            Standing::None => {}
        }
    }
    claims
}

/// What a CR's claim is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Same,
    /// Its cluster is not known yet: perhaps it counts.
    Unknown,
    /// It is on another cluster, refused, or only observes.
    None,
}

/// Judges another CR's claim on an object of this cluster.
pub fn standing(ctx: &Context, rival: &Rival, cluster_id: &str) -> Standing {
    let Some(broker) = ctx.brokers.get(&rival.broker.namespace, &rival.broker.name) else {
        return Standing::None;
    };
    let policies = Policies::resolve(rival.policies, broker.spec.defaults);
    let refused = |broker: &Broker| {
        let (home, namespace) = (broker.namespace().unwrap_or_default(), &rival.claim.namespace);
        known_to_be_refused(ctx, &broker.spec, &home, namespace)
            || access::rules_permit(
                &broker.spec.rules,
                namespace,
                &asked(rival, &rival.refers_to(), policies),
            )
            .is_err()
    };
    // What a Broker may not write, it may not claim either.
    let claimed = ctx.links.is_claimed(&rival.broker);
    if policies.management == ManagementPolicy::Observe || claimed || refused(&broker) {
        return Standing::None;
    }
    let known = ctx.cluster_id(&rival.broker);
    if known.as_deref().is_some_and(|id| id != cluster_id) {
        return Standing::None;
    }
    // The oldest Broker's guard rails hold for every other of its cluster: see `permit`. One that comes
    // to the cluster later would not be the oldest, so nobody waits for what they would stop.
    let outranked = oldest_broker(ctx, cluster_id).filter(|oldest| oldest.uid() != broker.uid());
    let stopped = outranked.is_some_and(|oldest| {
        let home = oldest.namespace().unwrap_or_default();
        known_to_be_refused(ctx, &oldest.spec, &home, &rival.broker.namespace)
            || refused(&oldest)
            || oldest.spec.kafka.is_some() != broker.spec.kafka.is_some()
    });
    match known {
        _ if stopped => Standing::None,
        Some(_) => Standing::Same,
        None => Standing::Unknown,
    }
}

/// What a CR asks of the rules.
fn asked<'a>(rival: &'a Rival, refers_to: &'a [&'a str], policies: Policies) -> Asked<'a> {
    Asked {
        vhost: rival.vhost.as_deref(),
        // A binding has no name of its own, and holds nothing: rules about deletion are not for it.
        name: if rival.claim.kind == "Binding" { "" } else { &rival.broker_name },
        refers_to,
        deletion: (rival.claim.kind != "Binding").then_some(policies.deletion),
        // What is only observed is not declared, whatever the manifest says of it.
        deletes: if policies.management == ManagementPolicy::Manage { &rival.deletes } else { &[] },
    }
}

/// Whether a Broker does not allow a namespace. Labels that are not known here refuse nobody.
fn known_to_be_refused(ctx: &Context, spec: &BrokerSpec, home: &str, namespace: &str) -> bool {
    let mut labels = None;
    if spec.allowed_namespaces.from == AllowedFrom::Selector {
        labels = match &ctx.namespaces {
            Some(all) => all.get("", namespace).map(|found| found.labels().clone()),
            None => ctx.labels.get(namespace),
        };
        if labels.is_none() {
            return false;
        }
    }
    access::namespace_allowed(spec, home, Asking { namespace, labels: labels.as_ref() }).is_err()
}

/// Learns what has to be known of other namespaces before claims are judged: where there is no cache
/// of them, their labels, if any Broker asks for such.
pub async fn learn(ctx: &Context) {
    let by_label = |broker: &Arc<Broker>| broker.spec.allowed_namespaces.from == AllowedFrom::Selector;
    if ctx.namespaces.is_none() && ctx.brokers.all().iter().any(by_label) {
        ctx.labels.learn(&ctx.client).await;
    }
}

/// The oldest Broker of a cluster, which has been on it for the longest time: its guard rails hold for
/// every other.
pub fn oldest_broker(ctx: &Context, cluster_id: &str) -> Option<Arc<Broker>> {
    let mut same = ctx.brokers.all();
    same.retain(|broker| ctx.cluster_id(&BrokerKey::from_broker(broker)).as_deref() == Some(cluster_id));
    same.into_iter().min_by_key(|broker| (on_cluster_since(ctx, broker), broker.uid()))
}

/// Since when a Broker has been on its cluster: as its link says, or, before there is one, its status.
pub fn on_cluster_since(ctx: &Context, broker: &Broker) -> Option<Timestamp> {
    let noted = broker.status.as_ref().and_then(|status| status.cluster_since.as_ref()?.parse().ok());
    let linked = ctx.links.since(&BrokerKey::from_broker(broker));
    linked.or(noted).or(broker.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// Whether the Broker, and the oldest Broker of the same cluster, permit the object.
pub async fn permit<K: TopologyKind>(pass: &Pass<'_, K>) -> Result<(), Failure> {
    let namespace = pass.object.namespace().unwrap_or_default();
    let oldest =
        oldest_broker(pass.ctx, &pass.link.cluster_id).filter(|b| b.uid().as_deref() != Some(&pass.link.uid));
    let oldest = oldest.map(|broker| (broker.spec.clone(), broker.namespace().unwrap_or_default()));
    let rival = Rival::of(pass.ctx, pass.object);
    let both = [Some((pass.link.spec.clone(), pass.link.key.namespace.clone())), oldest];
    for (spec, home) in both.iter().flatten() {
        let labels = labels(pass.ctx, spec, &namespace).await?;
        access::namespace_allowed(spec, home, Asking { namespace: &namespace, labels: labels.as_ref() })?;
        access::rules_permit(&spec.rules, &namespace, &asked(&rival, &rival.refers_to(), pass.policies))?;
    }
    Ok(())
}

/// What becomes of drift of an object on this Broker: a second Broker of a cluster is no way around the oldest's policy.
pub fn drift(ctx: &Context, link: &Link) -> DriftPolicy {
    let oldest = oldest_broker(ctx, &link.cluster_id).filter(|b| b.uid().as_deref() != Some(&link.uid));
    access::drift(&link.spec, oldest.as_deref().map(|broker| &broker.spec))
}

/// What a message says of an object that belongs to another one.
pub const OWNED_BY: &str = "is owned by";

/// Whether the object is the owner of what it manages.
pub fn owned<K: TopologyKind>(pass: &Pass<'_, K>) -> Result<(), Failure> {
    match pass.owner() {
        Some(owner) if pass.policies.management == ManagementPolicy::Manage && !pass.is_owner() => {
            Err(Rejection::new(
                Reason::Conflict,
                format!(
                    "{} {:?} {OWNED_BY} {} {}/{}, which was created first; delete that one to hand it over, or this one",
                    K::KIND.to_lowercase(),
                    pass.object.called(pass.ctx),
                    owner.kind,
                    owner.namespace,
                    owner.name
                ),
            )
            .into())
        }
        _ => Ok(()),
    }
}

/// A namespace's labels, where the Broker asks for them. An operator that watches some namespaces
/// only has no cache of all and asks for the one.
pub async fn labels(
    ctx: &Context,
    spec: &BrokerSpec,
    namespace: &str,
) -> Result<Option<BTreeMap<String, String>>, Failure> {
    if spec.allowed_namespaces.from != AllowedFrom::Selector {
        return Ok(None);
    }
    if let Some(all) = &ctx.namespaces {
        return Ok(all.get("", namespace).map(|found| found.labels().clone()));
    }
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(ctx.client.clone());
    let found =
        api.get_metadata_opt(namespace).await.map_err(Failure::kube("read the namespace's labels"))?;
    Ok(found.map(|found| found.labels().clone()))
}
