//! Objects that cannot be read are told so: their authors would wait for an answer for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde_json::json;

use super::cache::{Cache, Cached};
use super::context::Context;
use super::failure::Failure;
use super::guarded::Unreadable;
use crate::api::conditions::{self, Reason, Verdict};

/// When to try again to write.
const AGAIN: Duration = Duration::from_secs(5);

/// Writes into each object of a kind that cannot be read why, for ever.
pub async fn tell<K>(ctx: Arc<Context>, cache: Cache<K>)
where
    K: Cached + Resource<Scope = kube::core::NamespaceResourceScope>,
{
    let mut news = cache.unreadable();
    let mut told: HashMap<String, Option<i64>> = HashMap::new();
    loop {
        let all = news.borrow_and_update().clone();
        told.retain(|uid, _| all.contains_key(uid));
        let mut failed = false;
        for (uid, object) in all.iter() {
            if told.get(uid) == Some(&object.metadata.generation) {
                continue;
            }
            match write::<K>(&ctx, object).await {
                Ok(()) => {
                    told.insert(uid.clone(), object.metadata.generation);
                }
                Err(error) => {
                    failed = true;
                    let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
                    tracing::warn!(kind = %K::kind(&()), namespace, name, %error, "not told that it cannot be read");
                }
            }
        }
        let changed = if failed {
            tokio::time::timeout(AGAIN, news.changed()).await.unwrap_or(Ok(()))
        } else {
            news.changed().await
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn write<K>(ctx: &Context, unreadable: &Unreadable) -> Result<(), Failure>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    let metadata = &unreadable.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(
        ctx.client.clone(),
        metadata.namespace.as_deref().unwrap_or_default(),
        &ApiResource::erase::<K>(&()),
    );
    let Some(is) = api.get_opt(name).await.map_err(Failure::kube("read an object"))? else { return Ok(()) };
    if is.uid() != metadata.uid {
        return Ok(());
    }
    let previous: Vec<Condition> =
        serde_json::from_value(is.data["status"]["conditions"].clone()).unwrap_or_default();
    let message = format!("failed to read the object: {}", unreadable.error);
    let verdicts = [
        Verdict::new(conditions::READY, false, Reason::InvalidSpec, message.clone()),
        Verdict::new(conditions::STALLED, true, Reason::InvalidSpec, message),
    ];
    let merged = conditions::merge(&previous, &verdicts, metadata.generation, Timestamp::now());
    if merged == previous {
        return Ok(());
    }
    tracing::warn!(kind = %K::kind(&()), namespace = metadata.namespace, name, error = unreadable.error, "cannot be read");
    ctx.may_write()?;
    let patch = json!({
        "metadata": {"uid": metadata.uid},
        "status": {"conditions": merged, "observedGeneration": metadata.generation},
    });
    let written = api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    ctx.metrics.api_write("patch", "status");
    written.map(drop).map_err(Failure::kube("write status"))
}
