//! The finalizer: only where a deletion has something to do at the broker, and on a Broker only
//! while such an object depends on it.

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::json;

use super::cache::Cached;
use super::context::{BrokerKey, Context};
use super::failure::Failure;
use super::reconciler::TopologyKind;
use crate::api::conditions::Reason;
use crate::api::policy::{ManagementPolicy, Policies};
use crate::api::{Broker, FINALIZER};

/// An annotation: its key and value.
pub type Note = (&'static str, String);

/// Whether an object with these policies needs the finalizer.
#[must_use]
pub const fn wanted(policies: Policies) -> bool {
    matches!(policies.management, ManagementPolicy::Manage) && policies.deletion.needs_finalizer()
}

/// Whether the finalizer is on.
pub fn is_on<K: Resource>(object: &K) -> bool {
    object.finalizers().iter().any(|name| name == FINALIZER)
}

/// Brings the finalizer in step with the policies. `note`: an annotation that goes on in the same write.
pub async fn keep<K: TopologyKind>(
    ctx: &Context,
    object: &K,
    policies: Policies,
    note: Option<Note>,
) -> Result<(), Failure> {
    if wanted(policies) {
        // The way to the broker must outlive what has to be deleted there.
        hold_broker(ctx, &BrokerKey::of(object.broker_ref(), &object.namespace().unwrap_or_default()))
            .await?;
    }
    write(ctx, object, wanted(policies), note).await
}

async fn hold_broker(ctx: &Context, key: &BrokerKey) -> Result<(), Failure> {
    let newest = || ctx.brokers.get(&key.namespace, &key.name).map(|broker| ctx.newest(broker, &ctx.brokers));
    if newest().is_none_or(|broker| is_on::<Broker>(&broker)) {
        return Ok(());
    }
    // Many objects may want it at once; one of them writes.
    let _one = ctx.holding.lock().await;
    match newest() {
        Some(broker) if broker.metadata.deletion_timestamp.is_some() => Err(Failure::waiting(
            Reason::BrokerNotFound,
            format!("Broker {key} is being deleted; an object with this deletionPolicy needs it"),
        )),
        Some(broker) => set(ctx, broker.as_ref(), true).await,
        None => Ok(()),
    }
}

/// Puts the finalizer on or takes it off; nothing is sent when it is as wanted.
pub async fn set<K>(ctx: &Context, object: &K, wanted: bool) -> Result<(), Failure>
where
    K: Cached + Resource<Scope = NamespaceResourceScope> + Serialize,
{
    write(ctx, object, wanted, None).await
}

async fn write<K>(ctx: &Context, object: &K, wanted: bool, note: Option<Note>) -> Result<(), Failure>
where
    K: Cached + Resource<Scope = NamespaceResourceScope> + Serialize,
{
    let mut finalizers = object.finalizers().to_vec();
    let has = finalizers.iter().any(|name| name == FINALIZER);
    if has == wanted {
        return Ok(());
    }
    if wanted {
        finalizers.push(FINALIZER.into());
    } else {
        finalizers.retain(|name| name != FINALIZER);
    }
    let _turn = ctx.turn_to_write().await?;
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    // The resource version keeps a finalizer that somebody else added meanwhile.
    let mut patch = json!({"metadata": {
        "uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": finalizers,
    }});
    if let Some((key, value)) = note {
        patch["metadata"]["annotations"] = json!({key: value});
    }
    let answer = api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    ctx.metrics.api_write("patch", "finalizers");
    match answer {
        Ok(object) => {
            ctx.remember_write(object);
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Failure::kube("write the finalizer")(error)),
    }
}
