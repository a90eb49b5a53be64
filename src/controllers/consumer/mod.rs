//! Consumers: the workload is made or found, and its scaling set going.
//!
//! ```text
//!  Consumer ──▶ reconcile: Deployment from template, target, config ──▶ registry
//!                                                                        │
//!  broker ──▶ collector: one sweep per broker and poll ──▶ observe ──▶ scaling::decide (pure)
//!                                                                        │
//!                                                     act: /scale, status, event, metrics
//! ```
//!
//! * [`workload`]: the Deployment and its injected environment (pure)
//! * [`targets`]: what is known of Deployments, StatefulSets and autoscalers; [`own`]: of own patches (pure)
//! * [`registry`]: which Consumers are to be decided for
//! * [`collector`]: the poll; [`observe`]: from offsets, or the depth of queues, to an observation
//! * [`report`]: from a decision to status (pure); [`act`]: patch and status; [`pen`]: one hand at a time; [`budget`]: how
//!   often what comes and goes with the load is told

pub mod act;
pub mod budget;
pub mod collector;
pub mod environment;
pub mod keys;
pub mod observe;
pub mod own;
pub mod pen;
pub mod registry;
pub mod report;
pub mod targets;
pub mod workload;

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};

use super::context::{BrokerKey, Context};
use super::failure::Failure;
use super::guard::{labels, oldest_broker};
use super::passes::Again;
use super::reconciler::annotated;
use crate::api::conditions::Reason;
use crate::api::consumer::{ScaleTargetRef, TargetApi, TargetKind};
use crate::api::{Broker, BrokerSpec, Consumer, FIELD_MANAGER, annotation};
use crate::topology::Rejection;
use crate::topology::access::{self, Asking};
use crate::topology::ownership::{self, Claim};
use registry::{Front, Registration, Source};
use targets::TargetKey;

/// One pass over one Consumer: everything but the decisions, which the collector makes.
pub async fn reconcile(consumer: Arc<Consumer>, ctx: Arc<Context>) -> Result<Again, Failure> {
    let begun = Instant::now();
    if consumer.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let uid = consumer.uid().unwrap_or_default();
    let front = prepare(&ctx, &consumer).await;
    let front = match front {
        Err(failure) if !failure.for_the_author() => {
            ctx.metrics.reconciled("Consumer", false, begun.elapsed());
            return Err(failure);
        }
        front => front,
    };
    let failures = ctx.note(&uid, |notes| {
        notes.failures = if front.is_ok() { 0 } else { notes.failures.saturating_add(1) };
        notes.failures
    });
    let (front, again) = match front {
        Ok(()) => (Front::Good, None),
        Err(failure) => {
            let again = Some(failure.retry_after(failures));
            let (reason, message) = match &failure {
                Failure::Kube { action: workload::APPLY, .. } => {
                    (Reason::TemplateInvalid, failure.to_string())
                }
                other => (other.reason(), words(&ctx, &consumer, other)),
            };
            let stalled = failure.stalled() || reason == Reason::TemplateInvalid;
            (Front::Bad { reason, message, stalled }, again)
        }
    };
    ctx.metrics.reconciled("Consumer", matches!(front, Front::Good), begun.elapsed());
    ctx.registry.put(Registration::of(&consumer, front)?);
    // It may have gone while it was looked at; it must not be scaled on.
    let (namespace, name) = (consumer.namespace().unwrap_or_default(), consumer.name_any());
    if ctx.consumers.get(&namespace, &name).is_none_or(|cached| cached.uid() != consumer.uid()) {
        ctx.registry.remove(&uid);
    }
    Ok(again)
}

/// What a failure says, without the Secrets of the Consumer's Broker.
fn words(ctx: &Context, consumer: &Consumer, failure: &Failure) -> String {
    let Some(reference) = consumer.spec.broker_ref() else { return failure.to_string() };
    ctx.secrets.words(&BrokerKey::of(reference, &consumer.namespace().unwrap_or_default()), failure)
}

async fn prepare(ctx: &Arc<Context>, consumer: &Consumer) -> Result<(), Failure> {
    let namespace = consumer.namespace().unwrap_or_default();
    let reference = consumer.spec.broker_ref().ok_or_else(registry::nothing_to_read)?;
    registry::config(consumer)?;
    let broker = BrokerKey::of(reference, &namespace);
    let Some(found) = ctx.brokers.get(&broker.namespace, &broker.name) else {
        return Err(Failure::waiting(Reason::BrokerNotFound, format!("Broker {broker} does not exist")));
    };
    allowed(ctx, &found, &namespace).await?;
    on_its_kind(consumer, &found.spec, &broker)?;
    owned(ctx, consumer, &broker)?;

    if consumer.spec.template.is_some() && !annotated(consumer, annotation::PAUSED) {
        make(ctx, consumer, &found).await?;
    }
    let target = target(consumer);
    if ctx.targets.get(&target).is_none() && consumer.spec.template.is_none() {
        return Err(Failure::waiting(
            Reason::TargetNotFound,
            format!("{} {}/{} does not exist", target.kind.as_str(), target.namespace, target.name),
        ));
    }
    ctx.links.get(&broker)?;
    Ok(())
}

/// Whether a Broker, and the oldest one of its cluster, allow the namespace: a second Broker is no way around the first.
async fn allowed(ctx: &Context, broker: &Arc<Broker>, namespace: &str) -> Result<(), Failure> {
    let cluster = ctx.cluster_id(&BrokerKey::from_broker(broker));
    let oldest = cluster.and_then(|id| oldest_broker(ctx, &id)).filter(|oldest| oldest.uid() != broker.uid());
    for broker in [Some(broker), oldest.as_ref()].into_iter().flatten() {
        let labels = labels(ctx, &broker.spec, namespace).await?;
        let asking = Asking { namespace, labels: labels.as_ref() };
        access::namespace_allowed(&broker.spec, &broker.namespace().unwrap_or_default(), asking)?;
    }
    Ok(())
}

/// The workload that a Consumer scales.
#[must_use]
pub fn target(consumer: &Consumer) -> TargetKey {
    let namespace = consumer.namespace().unwrap_or_default();
    let reference = consumer.spec.scale_target_ref.clone().unwrap_or_else(|| ScaleTargetRef {
        api_version: TargetApi::AppsV1,
        kind: TargetKind::Deployment,
        name: consumer.name_any(),
    });
    TargetKey { kind: reference.kind, namespace, name: reference.name }
}

/// A group is Kafka's, and a queue RabbitMQ's.
fn on_its_kind(consumer: &Consumer, broker: &BrokerSpec, key: &BrokerKey) -> Result<(), Failure> {
    let (is, needed) = match (&consumer.spec.kafka, &broker.kafka) {
        (Some(_), None) => ("RabbitMQ", "kafka"),
        (None, Some(_)) => ("Kafka", "rabbitmq"),
        _ => return Ok(()),
    };
    let message = format!("Broker {key} is a {is} cluster, and this Consumer says {needed}");
    Err(Rejection::new(Reason::RefInvalid, message).into())
}

/// The oldest Consumer of a group or queue in a cluster owns it, and so does the oldest of a target.
fn owned(ctx: &Context, consumer: &Consumer, broker: &BrokerKey) -> Result<(), Failure> {
    let claim = |other: &Consumer| Claim {
        kind: "Consumer",
        companion: false,
        created: other.metadata.creation_timestamp.as_ref().map(|time| time.0),
        uid: other.uid().unwrap_or_default(),
        namespace: other.namespace().unwrap_or_default(),
        name: other.name_any(),
        holding: ownership::Holding::Nothing,
    };
    let cluster = ctx.cluster_id(broker);
    let here = |other: &Consumer| {
        let namespace = other.metadata.namespace.as_deref().unwrap_or_default();
        let broker = other.spec.broker_ref().map(|reference| BrokerKey::of(reference, namespace));
        cluster.is_some() && broker.and_then(|broker| ctx.cluster_id(&broker)) == cluster
    };
    let (own_source, own_target) = (Source::of(consumer), target(consumer));
    let same = |other: &Consumer| {
        own_source.as_ref().zip(Source::of(other).as_ref()).is_some_and(|(own, its)| own.shares(its))
    };
    let mut rivals = keys::others(ctx, consumer);
    rivals.retain(|other| target(other) == own_target || (same(other) && here(other)));
    let claims: Vec<_> = rivals.iter().map(|other| claim(other)).chain([claim(consumer)]).collect();
    match ownership::owner(&claims) {
        Some(owner) if Some(&owner.uid) != consumer.metadata.uid.as_ref() => Err(Rejection::new(
            Reason::Conflict,
            format!(
                "Consumer {}/{} was created first for the same group, queue or workload; two would work against each other",
                owner.namespace, owner.name
            ),
        )
        .into()),
        _ => Ok(()),
    }
}

/// Makes the Deployment from the template, and brings it in step when the template changed.
async fn make(ctx: &Arc<Context>, consumer: &Consumer, broker: &crate::api::Broker) -> Result<(), Failure> {
    let names = environment::names(ctx, consumer);
    let deployment = workload::deployment(consumer, &environment::of(consumer, broker, &names))?;
    let key = target(consumer);
    let wanted = deployment.annotations().get(workload::HASH).cloned();
    if let Some(existing) = ctx.targets.get(&key) {
        if existing.owner.as_deref() != consumer.metadata.uid.as_deref() {
            return Err(Rejection::new(
                Reason::Conflict,
                format!(
                    "Deployment {} exists and was not made for this Consumer: name it in scaleTargetRef, or rename one of the two",
                    key.name
                ),
            )
            .into());
        }
        if existing.hash == wanted {
            return Ok(());
        }
    }
    ctx.may_write()?;
    let api: Api<Deployment> = Api::namespaced(ctx.client.clone(), &key.namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let applied = api.patch(&key.name, &params, &Patch::Apply(&deployment)).await;
    ctx.metrics.api_write("apply", "deployments");
    applied.map_err(Failure::kube(workload::APPLY))?;
    tracing::info!(kind = "Consumer", namespace = key.namespace, name = key.name, "Deployment applied");
    ctx.events.publish(
        consumer.object_ref(&()),
        false,
        "DeploymentApplied",
        "Apply",
        &format!("Deployment {} is as the template says", key.name),
    );
    Ok(())
}

/// A Consumer that is gone.
pub fn forget(ctx: &Arc<Context>, consumer: &Consumer) {
    let uid = consumer.uid().unwrap_or_default();
    ctx.registry.remove(&uid);
    ctx.metrics.forget_consumer(&consumer.namespace().unwrap_or_default(), &consumer.name_any());
    ctx.forget(&uid);
    // A Consumer that lost to this one may be the owner now.
    for other in keys::others(ctx, consumer) {
        ctx.wake_consumers.wake(&kube::runtime::reflector::ObjectRef::from_obj(other.as_ref()));
    }
}
