//! Keeps the companion CRs of a Topic or a Queue: makes them, shares them, lets them go.
//!
//! A companion that a person declared is referenced, never changed. One that several parents
//! share gets an ownerReference from each and follows the first.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::context::BrokerKey;
use super::failure::Failure;
use super::reconciler::{Pass, TopologyKind};
use super::{rabbitmq, status};
use crate::api::conditions::{self, Reason};
use crate::api::{FIELD_MANAGER, Queue, label};
use crate::topology::Rejection;
use crate::topology::kafka::companions::{Role, beside};

/// A kind whose objects have companions of the same kind.
pub trait Parent: TopologyKind {
    /// Under which identities its last status names its companions.
    fn had(&self) -> Vec<String>;
    /// What an existing companion's spec becomes.
    fn follow(existing: &Self, wanted: &Self) -> Self;
}

/// One companion as it is to be; its namespace and owner are the parent's business.
#[derive(Clone, Debug)]
pub struct Wanted<K> {
    /// What it is for.
    pub role: Role,
    /// The CR.
    pub object: K,
}

/// Brings the companion CRs in step. Returns, in words, those that are not ready yet.
pub async fn keep<K: Parent>(pass: &Pass<'_, K>, wanted: &[Wanted<K>]) -> Result<Vec<String>, Failure> {
    let mut missing = Vec::new();
    for companion in wanted {
        if companion.object.identity() == pass.object.identity() {
            return Err(Rejection::new(
                Reason::InvalidSpec,
                format!(
                    "{} {:?} cannot be its own {}",
                    K::KIND.to_lowercase(),
                    companion.object.broker_name(),
                    companion.role.label()
                ),
            )
            .into());
        }
        let mut found = declared(pass, &companion.object);
        for double in found.split_off(found.len().min(1)) {
            // Two parents made one each, under different names, before they saw the other's.
            leave(pass, &double).await?;
        }
        let found = found.pop();
        let ready = match &found {
            None => {
                make(pass, companion).await?;
                false
            }
            Some(existing) => {
                if is_companion(existing.as_ref()) {
                    share(pass, existing, companion).await?;
                }
                let mut status = existing.status().cloned().unwrap_or_default();
                let ready = conditions::is_true(K::conditions(&status).0, conditions::READY);
                // One that a person declared may have this one for its own companion: it counts as
                // soon as it is there.
                ready || (!is_companion(existing.as_ref()) && K::owned_since(&mut status).is_some())
            }
        };
        if !ready {
            let name = found.map_or_else(|| companion.object.name_any(), |object| object.name_any());
            missing.push(format!("{} {name}", K::KIND));
        }
    }
    drop_unwanted(pass, wanted).await?;
    Ok(missing)
}

/// The CRs in the namespace for a companion's broker object: one that a person declared first,
/// then the oldest.
pub fn declared<K: Parent>(pass: &Pass<'_, K>, companion: &K) -> Vec<Arc<K>> {
    by_identity(pass, &companion.identity())
}

/// The CR in the parent's namespace, and on its Broker, that declares a queue of its virtual host.
#[must_use]
pub fn declared_as(pass: &Pass<'_, Queue>, queue: &str) -> Option<Arc<Queue>> {
    by_identity(pass, &rabbitmq::end_key(&pass.object.spec.vhost, 'q', queue)).into_iter().next()
}

fn by_identity<K: Parent>(pass: &Pass<'_, K>, identity: &str) -> Vec<Arc<K>> {
    let namespace = pass.object.namespace().unwrap_or_default();
    let broker = broker_of(pass.object);
    let mut same = K::cache(pass.ctx).find(identity);
    same.retain(|object| {
        object.namespace().as_deref() == Some(&namespace)
            && object.meta().deletion_timestamp.is_none()
            && broker_of(object.as_ref()) == broker
    });
    same.sort_by_key(|object| {
        let created = object.meta().creation_timestamp.as_ref().map(|time| time.0);
        (is_companion(object.as_ref()), created, object.uid())
    });
    same.into_iter().map(|object| pass.ctx.newest(object, K::cache(pass.ctx))).collect()
}

fn broker_of<K: TopologyKind>(object: &K) -> BrokerKey {
    BrokerKey::of(object.broker_ref(), object.meta().namespace.as_deref().unwrap_or_default())
}

/// Whether Spillway made it for another object.
pub fn is_companion<K: TopologyKind>(object: &K) -> bool {
    object.labels().contains_key(label::COMPANION)
}

fn reference<K: TopologyKind>(parent: &K) -> Option<OwnerReference> {
    // Not a controller reference: a shared companion has several owners.
    parent.owner_ref(&())
}

fn spec<K: TopologyKind>(object: &K) -> Value {
    serde_json::to_value(object).map(|mut object| object["spec"].take()).unwrap_or_default()
}

async fn make<K: Parent>(pass: &Pass<'_, K>, companion: &Wanted<K>) -> Result<(), Failure> {
    let name = companion.object.name_any();
    let Some(in_the_way) = make_as(pass, companion, &name).await? else { return Ok(()) };
    let broker = broker_of(pass.object);
    if broker_of(&in_the_way) == broker {
        return Err(name_taken(companion, &name, &in_the_way));
    }
    // One name on two Brokers is two companions.
    let name = beside(&name, &broker.to_string());
    match make_as(pass, companion, &name).await? {
        None => Ok(()),
        Some(in_the_way) => Err(name_taken(companion, &name, &in_the_way)),
    }
}

fn name_taken<K: Parent>(companion: &Wanted<K>, name: &str, in_the_way: &K) -> Failure {
    let message = format!(
        "{} {name} is needed for the {} {:?}, but declares {:?} on Broker {}: rename it",
        K::KIND,
        companion.role.label(),
        companion.object.broker_name(),
        in_the_way.broker_name(),
        broker_of(in_the_way)
    );
    Rejection::new(Reason::Conflict, message).into()
}

/// Makes a companion under this name; returns what is there under it and is another one.
async fn make_as<K: Parent>(
    pass: &Pass<'_, K>,
    companion: &Wanted<K>,
    name: &str,
) -> Result<Option<K>, Failure> {
    let mut object = companion.object.clone();
    let meta = object.meta_mut();
    meta.name = Some(name.to_owned());
    meta.namespace = pass.object.namespace();
    meta.labels = Some([(label::COMPANION.to_owned(), companion.role.label().to_owned())].into());
    meta.owner_references = Some(reference(pass.object).into_iter().collect());
    let _turn = pass.ctx.turn_to_write().await?;
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    let made = api(pass).create(&params, &object).await;
    pass.ctx.metrics.api_write("create", "companions");
    match made {
        Ok(_) => Ok(None),
        // Another parent was faster, or a person's object is in the way: the next pass sees which.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let existing = api(pass).get_opt(name).await.map_err(Failure::kube("read a companion"))?;
            Ok(existing.filter(|existing| {
                existing.identity() != companion.object.identity()
                    || broker_of(existing) != broker_of(pass.object)
            }))
        }
        Err(error) => Err(Failure::kube("make a companion")(error)),
    }
}

/// Adds this parent to a companion's owners; the first owner's wish is the companion's spec.
async fn share<K: Parent>(
    pass: &Pass<'_, K>,
    existing: &Arc<K>,
    companion: &Wanted<K>,
) -> Result<(), Failure> {
    let Some(own) = reference(pass.object) else {
        return Ok(());
    };
    let mut owners = existing.owner_references().to_vec();
    let new = !owners.iter().any(|owner| owner.uid == own.uid);
    if new {
        owners.push(own.clone());
    }
    let first = owners.first().is_some_and(|owner| owner.uid == own.uid);
    let is = spec(existing.as_ref());
    let becomes = if first { spec(&K::follow(existing, &companion.object)) } else { is.clone() };
    if !new && becomes == is {
        return Ok(());
    }
    patch(pass, existing, &json!({"ownerReferences": owners}), status::diff(&is, &becomes)).await
}

/// Lets go of companions that are not wanted any more. The CR goes with its last parent; what it
/// stands for stays at the broker.
async fn drop_unwanted<K: Parent>(pass: &Pass<'_, K>, wanted: &[Wanted<K>]) -> Result<(), Failure> {
    let Some(namespace) = pass.object.namespace() else { return Ok(()) };
    // A parent knows its companions from its own last status: no search through all objects.
    let mut had = pass.object.had();
    had.retain(|identity| !wanted.iter().any(|companion| companion.object.identity() == *identity));
    for identity in had {
        for object in K::cache(pass.ctx).find(&identity) {
            if object.namespace().as_deref() == Some(&namespace) {
                leave(pass, &object).await?;
            }
        }
    }
    Ok(())
}

/// Takes this parent off a companion's owners. With its last parent the CR goes.
async fn leave<K: Parent>(pass: &Pass<'_, K>, object: &Arc<K>) -> Result<(), Failure> {
    let Some(uid) = pass.object.uid() else { return Ok(()) };
    let owners = object.owner_references();
    if !is_companion(object.as_ref()) || !owners.iter().any(|owner| owner.uid == uid) {
        return Ok(());
    }
    let others: Vec<_> = owners.iter().filter(|owner| owner.uid != uid).cloned().collect();
    if !others.is_empty() {
        return patch(pass, object, &json!({"ownerReferences": others}), None).await;
    }
    let _turn = pass.ctx.turn_to_write().await?;
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: object.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    let deleted = api(pass).delete(&object.name_any(), &params).await;
    pass.ctx.metrics.api_write("delete", "companions");
    match deleted {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Failure::kube("delete a companion")(error)),
    }
}

async fn patch<K: Parent>(
    pass: &Pass<'_, K>,
    object: &Arc<K>,
    metadata: &Value,
    spec: Option<Value>,
) -> Result<(), Failure> {
    let _turn = pass.ctx.turn_to_write().await?;
    let mut body = json!({"metadata": metadata});
    // Two parents that add themselves at once must not overwrite each other.
    body["metadata"]["resourceVersion"] = json!(object.resource_version());
    body["metadata"]["uid"] = json!(object.uid());
    if let Some(spec) = spec {
        body["spec"] = spec;
    }
    let answer = api(pass).patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&body)).await;
    pass.ctx.metrics.api_write("patch", "companions");
    match answer {
        Ok(object) => {
            pass.ctx.remember_write(object);
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Failure::kube("change a companion")(error)),
    }
}

fn api<K: Parent>(pass: &Pass<'_, K>) -> Api<K> {
    Api::namespaced(pass.ctx.client.clone(), &pass.object.namespace().unwrap_or_default())
}
