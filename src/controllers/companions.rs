//! Keeps the companion CRs of a Topic: makes them, shares them, lets them go.
//!
//! A companion that a person declared is referenced, never changed. One that several parents
//! share gets an ownerReference from each and follows the first.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::context::BrokerKey;
use super::failure::Failure;
use super::reconciler::Pass;
use super::status;
use crate::api::conditions::{self, Reason};
use crate::api::{FIELD_MANAGER, Topic, TopicSpec, label};
use crate::topology::Rejection;
use crate::topology::kafka::companions::Companion;

/// Brings the companion CRs in step. Returns, in words, those that are not ready yet.
pub async fn keep(pass: &Pass<'_, Topic>, wanted: &[Companion]) -> Result<Vec<String>, Failure> {
    let mut missing = Vec::new();
    for companion in wanted {
        if companion.topic() == pass.object.topic_name() {
            return Err(Rejection::new(
                Reason::InvalidSpec,
                format!("topic {:?} cannot be its own {}", companion.topic(), companion.role.label()),
            )
            .into());
        }
        let found = declared(pass, companion);
        let ready = match &found {
            None => {
                make(pass, companion).await?;
                false
            }
            Some(existing) => {
                if is_companion(existing) {
                    share(pass, existing, companion).await?;
                }
                existing
                    .status
                    .as_ref()
                    .is_some_and(|status| conditions::is_true(&status.conditions, conditions::READY))
            }
        };
        if !ready {
            missing.push(format!(
                "Topic {}",
                found.map_or_else(|| companion.metadata_name.clone(), |t| t.name_any())
            ));
        }
    }
    drop_unwanted(pass, wanted).await?;
    Ok(missing)
}

/// The CR for a companion: the one of its own name, or any in the namespace that a person
/// declared for the same topic.
fn declared(pass: &Pass<'_, Topic>, companion: &Companion) -> Option<std::sync::Arc<Topic>> {
    let namespace = pass.object.namespace().unwrap_or_default();
    let broker = BrokerKey::of(&pass.object.spec.broker_ref, &namespace);
    let mut same = pass.ctx.topics.find(companion.topic());
    same.retain(|topic| {
        topic.namespace().as_deref() == Some(&namespace)
            && topic.metadata.deletion_timestamp.is_none()
            && BrokerKey::of(&topic.spec.broker_ref, &namespace) == broker
    });
    same.sort_by_key(|topic| (is_companion(topic), topic.name_any()));
    same.into_iter().next().map(|topic| pass.ctx.newest(topic))
}

fn broker_of(topic: &Topic) -> BrokerKey {
    BrokerKey::of(&topic.spec.broker_ref, topic.metadata.namespace.as_deref().unwrap_or_default())
}

fn is_companion(topic: &Topic) -> bool {
    topic.labels().contains_key(label::COMPANION)
}

fn reference(parent: &Topic) -> Option<OwnerReference> {
    // Not a controller reference: a shared companion has several owners.
    parent.owner_ref(&())
}

async fn make(pass: &Pass<'_, Topic>, companion: &Companion) -> Result<(), Failure> {
    let mut topic = Topic::new(&companion.metadata_name, companion.spec.clone());
    topic.metadata.namespace = pass.object.namespace();
    topic.metadata.labels = Some([(label::COMPANION.to_owned(), companion.role.label().to_owned())].into());
    topic.metadata.owner_references = Some(reference(pass.object).into_iter().collect());
    pass.ctx.may_write()?;
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    let made = api(pass).create(&params, &topic).await;
    pass.ctx.metrics.api_write("create", "topics");
    match made {
        Ok(_) => Ok(()),
        // Another parent was faster, or a person's object is in the way: the next pass sees which.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            match api(pass)
                .get_opt(&companion.metadata_name)
                .await
                .map_err(Failure::kube("read a companion"))?
            {
                Some(existing)
                    if existing.topic_name() != companion.topic()
                        || broker_of(&existing) != broker_of(pass.object) =>
                {
                    Err(Rejection::new(
                    Reason::Conflict,
                    format!(
                        "Topic {} is needed for the {} topic {:?}, but declares {:?} on Broker {}: rename it",
                        companion.metadata_name,
                        companion.role.label(),
                        companion.topic(),
                        existing.topic_name(),
                        broker_of(&existing)
                    ),
                )
                .into())
                }
                _ => Ok(()),
            }
        }
        Err(error) => Err(Failure::kube("make a companion")(error)),
    }
}

/// Adds this parent to a companion's owners; the first owner's wish is the companion's spec.
async fn share(pass: &Pass<'_, Topic>, existing: &Topic, companion: &Companion) -> Result<(), Failure> {
    let Some(own) = reference(pass.object) else {
        return Ok(());
    };
    let mut owners = existing.owner_references().to_vec();
    let new = !owners.iter().any(|owner| owner.uid == own.uid);
    if new {
        owners.push(own.clone());
    }
    let first = owners.first().is_some_and(|owner| owner.uid == own.uid);
    let spec = if first { follow(&existing.spec, &companion.spec) } else { existing.spec.clone() };
    if !new && spec == existing.spec {
        return Ok(());
    }
    let spec = status::diff(&existing.spec, &spec);
    patch(pass, existing, &json!({"ownerReferences": owners}), spec).await
}

/// What a companion becomes: as wanted, but never with fewer partitions than it asked for.
fn follow(is: &TopicSpec, wanted: &TopicSpec) -> TopicSpec {
    TopicSpec {
        broker_ref: is.broker_ref.clone(),
        name: is.name.clone(),
        partitions: wanted.partitions.max(is.partitions),
        ..wanted.clone()
    }
}

/// Lets go of companions that are not wanted any more. The CR goes with its last parent; its
/// topic stays at the broker.
async fn drop_unwanted(pass: &Pass<'_, Topic>, wanted: &[Companion]) -> Result<(), Failure> {
    let (Some(uid), Some(namespace)) = (pass.object.uid(), pass.object.namespace()) else {
        return Ok(());
    };
    // A parent knows its companions' names from its own last status: no search through all Topics.
    let status = pass.object.status.as_ref();
    let mut names = Vec::new();
    if let Some(status) = status {
        names.extend(status.dead_letter.clone());
        names.extend(status.retries.iter().map(|retry| retry.name.clone()));
    }
    names.retain(|name| !wanted.iter().any(|companion| companion.topic() == name));
    for name in names {
        for topic in pass.ctx.topics.find(&name) {
            let owners = topic.owner_references();
            let ours = is_companion(&topic)
                && topic.namespace().as_deref() == Some(&namespace)
                && owners.iter().any(|owner| owner.uid == uid);
            if !ours {
                continue;
            }
            let others: Vec<_> = owners.iter().filter(|owner| owner.uid != uid).cloned().collect();
            if others.is_empty() {
                pass.ctx.may_write()?;
                let params = DeleteParams {
                    preconditions: Some(Preconditions { uid: topic.uid(), resource_version: None }),
                    ..DeleteParams::default()
                };
                let deleted = api(pass).delete(&topic.name_any(), &params).await;
                pass.ctx.metrics.api_write("delete", "topics");
                match deleted {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => return Err(Failure::kube("delete a companion")(error)),
                }
            } else {
                patch(pass, &topic, &json!({"ownerReferences": others}), None).await?;
            }
        }
    }
    Ok(())
}

async fn patch(
    pass: &Pass<'_, Topic>,
    topic: &Topic,
    metadata: &serde_json::Value,
    spec: Option<serde_json::Value>,
) -> Result<(), Failure> {
    pass.ctx.may_write()?;
    let mut body = json!({"metadata": metadata});
    // Two parents that add themselves at once must not overwrite each other.
    body["metadata"]["resourceVersion"] = json!(topic.resource_version());
    if let Some(spec) = spec {
        body["spec"] = spec;
    }
    let patched = api(pass).patch(&topic.name_any(), &PatchParams::default(), &Patch::Merge(&body)).await;
    pass.ctx.metrics.api_write("patch", "topics");
    let patched = patched.map_err(Failure::kube("change a companion"))?;
    pass.ctx.remember_write(&patched);
    Ok(())
}

fn api(pass: &Pass<'_, Topic>) -> Api<Topic> {
    Api::namespaced(pass.ctx.client.clone(), &pass.object.namespace().unwrap_or_default())
}
