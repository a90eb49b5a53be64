//! What is known of the workloads that are scaled, and of others that scale them.
//!
//! Watched, not asked for: a decision each second for each Consumer must not cost a request.
//! What was patched is known at once, before the watch shows it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::{Client, ResourceExt as _};

use super::workload::HASH;
use crate::api::consumer::TargetKind;
use crate::controllers::cache::{Cache, apis};

/// The name of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetKey {
    /// Deployment or StatefulSet.
    pub kind: TargetKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A workload as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Replicas that are wanted, as `/scale` says.
    pub wanted: u32,
    /// Replicas that are ready.
    pub ready: u32,
    /// Whether pods of an older template are still there.
    pub updating: bool,
    /// The template's revision.
    pub revision: String,
    /// How many patches of this process's own were accepted before.
    pub accepted: u64,
    /// The UID of the Consumer that it was made for.
    pub owner: Option<String>,
    /// The hash of the template that it was made from.
    pub hash: Option<String>,
    version: u64,
}

/// All workloads.
pub struct Targets {
    /// Deployments, without their templates.
    pub deployments: Cache<Deployment>,
    /// StatefulSets, without their templates.
    pub stateful_sets: Cache<StatefulSet>,
    autoscalers: Cache<HorizontalPodAutoscaler>,
    patched: Mutex<HashMap<TargetKey, Patched>>,
}

/// What `/scale` answered last.
struct Patched {
    version: u64,
    replicas: u32,
    /// How many answers there were.
    count: u64,
}

impl Targets {
    /// Starts the watches.
    pub fn start(client: &Client, namespaces: &[String]) -> Self {
        Self {
            deployments: Cache::start(
                apis(client, namespaces),
                |_| Vec::new(),
                |deployment| {
                    if let Some(spec) = &mut deployment.spec {
                        spec.template = PodTemplateSpec::default();
                    }
                    if let Some(status) = &mut deployment.status {
                        status.conditions = None;
                    }
                },
            ),
            stateful_sets: Cache::start(
                apis(client, namespaces),
                |_| Vec::new(),
                |set| {
                    if let Some(spec) = &mut set.spec {
                        spec.template = PodTemplateSpec::default();
                        spec.volume_claim_templates = None;
                    }
                },
            ),
            autoscalers: Cache::start(apis(client, namespaces), scaled_by, |autoscaler| {
                autoscaler.status = None;
            }),
            patched: Mutex::default(),
        }
    }

    /// Returns when all watches have listed what exists.
    pub async fn synced(&self) {
        self.deployments.synced().await;
        self.stateful_sets.synced().await;
        self.autoscalers.synced().await;
    }

    /// A workload; none where it does not exist.
    pub fn get(&self, key: &TargetKey) -> Option<Target> {
        let mut target = match key.kind {
            TargetKind::Deployment => from_deployment(&*self.deployments.get(&key.namespace, &key.name)?),
            TargetKind::StatefulSet => {
                from_stateful_set(&*self.stateful_sets.get(&key.namespace, &key.name)?)
            }
        };
        let patched = self.patched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(patched) = patched.get(key) {
            target.accepted = patched.count;
            if target.version < patched.version {
                target.wanted = patched.replicas;
            }
        }
        Some(target)
    }

    /// Remembers what `/scale` answered to a patch.
    pub fn note_patch(&self, key: &TargetKey, version: Option<&str>, replicas: u32) {
        if let Some(version) = version.and_then(|version| version.parse().ok()) {
            let mut patched = self.patched.lock().unwrap_or_else(PoisonError::into_inner);
            let count = patched.get(key).map_or(0, |before| before.count) + 1;
            patched.insert(key.clone(), Patched { version, replicas, count });
        }
    }

    /// A `HorizontalPodAutoscaler` on the same workload, as `hpa/NAME`.
    pub fn foreign_scaler(&self, key: &TargetKey) -> Option<String> {
        let found = self.autoscalers.find(&format!("{}/{}/{}", key.namespace, key.kind.as_str(), key.name));
        found.first().map(|autoscaler| format!("hpa/{}", autoscaler.name_any()))
    }
}

fn scaled_by(autoscaler: &HorizontalPodAutoscaler) -> Vec<String> {
    let target = autoscaler.spec.as_ref().map(|spec| &spec.scale_target_ref);
    let key = target
        .zip(autoscaler.namespace())
        .map(|(target, namespace)| format!("{namespace}/{}/{}", target.kind, target.name));
    key.into_iter().collect()
}

fn count(number: Option<i32>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn from_deployment(deployment: &Deployment) -> Target {
    let status = deployment.status.as_ref();
    let field =
        |get: fn(&k8s_openapi::api::apps::v1::DeploymentStatus) -> Option<i32>| count(status.and_then(get));
    let replicas = field(|status| status.replicas);
    Target {
        // The API server fills replicas in; a missing number means one.
        wanted: count(deployment.spec.as_ref().map_or(Some(1), |spec| spec.replicas.or(Some(1)))),
        ready: field(|status| status.ready_replicas),
        updating: replicas > field(|status| status.updated_replicas),
        revision: deployment
            .annotations()
            .get("deployment.kubernetes.io/revision")
            .cloned()
            .unwrap_or_default(),
        accepted: 0,
        owner: deployment
            .owner_references()
            .iter()
            .find(|o| o.controller == Some(true))
            .map(|o| o.uid.clone()),
        hash: deployment.annotations().get(HASH).cloned(),
        version: version(deployment.resource_version().as_deref()),
    }
}

fn from_stateful_set(set: &StatefulSet) -> Target {
    let status = set.status.as_ref();
    let revisions = status.and_then(|s| Some((s.current_revision.as_ref()?, s.update_revision.as_ref()?)));
    Target {
        wanted: count(set.spec.as_ref().map_or(Some(1), |spec| spec.replicas.or(Some(1)))),
        ready: count(status.and_then(|status| status.ready_replicas)),
        updating: revisions.is_some_and(|(current, update)| current != update),
        revision: status.and_then(|status| status.update_revision.clone()).unwrap_or_default(),
        accepted: 0,
        owner: None,
        hash: None,
        version: version(set.resource_version().as_deref()),
    }
}
