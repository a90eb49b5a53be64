//! What is known of the workloads that are scaled, and of others that scale them.
//!
//! Watched, not asked for: a decision each second for each Consumer must not cost a request.
//! What was patched is known at once, before the watch shows it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::{Client, ResourceExt as _};

use super::own::{Own, Ticket};
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
    /// Whether a roll-out goes on: pods of an older template are being replaced. One that is paused, that Kubernetes has
    /// given up, or that waits for a person stands still: so may the workload be for weeks.
    pub updating: bool,
    /// The template's revision.
    pub revision: String,
    /// How many patches of this process's own were accepted before.
    pub accepted: u64,
    /// What the last of them asked for.
    pub asked: Option<u32>,
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
    patches: Mutex<HashMap<TargetKey, Own>>,
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
                        let conditions = status.conditions.take().into_iter().flatten();
                        let given_up: Vec<_> = conditions.filter(is_given_up).collect();
                        status.conditions = (!given_up.is_empty()).then_some(given_up);
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
            patches: Mutex::default(),
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
        let mut target = self.watched(key)?;
        if let Some(own) = self.patches().get_mut(key) {
            let known = own.seen(target.wanted, target.version, Instant::now());
            (target.wanted, target.accepted, target.asked) = (known.wanted, known.accepted, known.asked);
        }
        Some(target)
    }

    fn watched(&self, key: &TargetKey) -> Option<Target> {
        Some(match key.kind {
            TargetKind::Deployment => from_deployment(&*self.deployments.get(&key.namespace, &key.name)?),
            TargetKind::StatefulSet => {
                from_stateful_set(&*self.stateful_sets.get(&key.namespace, &key.name)?)
            }
        })
    }

    fn patches(&self) -> MutexGuard<'_, HashMap<TargetKey, Own>> {
        self.patches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A patch of `/scale` is about to be sent.
    #[must_use]
    pub fn sends(&self, key: &TargetKey, replicas: u32) -> Ticket {
        let version = self.watched(key).map_or(0, |target| target.version);
        self.patches().entry(key.clone()).or_default().sends(replicas, version, Instant::now())
    }

    /// What `/scale` answered: the workload's version, or none where it refused for certain.
    pub fn answered(&self, key: &TargetKey, ticket: Ticket, version: Option<&str>) {
        if let Some(own) = self.patches().get_mut(key) {
            match version {
                Some(text) => own.accepted(ticket, self::version(Some(text))),
                None => own.refused(ticket),
            }
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

/// A roll-out that took longer than the Deployment allows.
fn is_given_up(condition: &DeploymentCondition) -> bool {
    condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
}

fn from_deployment(deployment: &Deployment) -> Target {
    let status = deployment.status.as_ref();
    let paused = deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true));
    let given_up =
        status.and_then(|status| status.conditions.as_ref()).into_iter().flatten().any(is_given_up);
    let field =
        |get: fn(&k8s_openapi::api::apps::v1::DeploymentStatus) -> Option<i32>| count(status.and_then(get));
    let replicas = field(|status| status.replicas);
    Target {
        // The API server fills replicas in; a missing number means one.
        wanted: count(deployment.spec.as_ref().map_or(Some(1), |spec| spec.replicas.or(Some(1)))),
        ready: field(|status| status.ready_replicas),
        updating: replicas > field(|status| status.updated_replicas) && !paused && !given_up,
        revision: deployment
            .annotations()
            .get("deployment.kubernetes.io/revision")
            .cloned()
            .unwrap_or_default(),
        accepted: 0,
        asked: None,
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
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let by_hand = strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete"));
    // Pods below the partition keep the old template.
    let kept = count(strategy.and_then(|s| s.rolling_update.as_ref()).and_then(|rolling| rolling.partition));
    let replicas = status.map_or(0, |status| count(Some(status.replicas)));
    let updated = count(status.and_then(|status| status.updated_replicas));
    let to_go = kept == 0 || updated < replicas.saturating_sub(kept);
    Target {
        wanted: count(set.spec.as_ref().map_or(Some(1), |spec| spec.replicas.or(Some(1)))),
        ready: count(status.and_then(|status| status.ready_replicas)),
        updating: revisions.is_some_and(|(current, update)| current != update) && to_go && !by_hand,
        revision: status.and_then(|status| status.update_revision.clone()).unwrap_or_default(),
        accepted: 0,
        asked: None,
        owner: None,
        hash: None,
        version: version(set.resource_version().as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(spec: &Value, conditions: &Value) -> Target {
        let mut spec = spec.clone();
        spec["selector"] = json!({});
        spec["template"] = json!({});
        from_deployment(
            &serde_json::from_value(json!({
                "spec": spec, "status": {"replicas": 4, "updatedReplicas": 1, "conditions": conditions},
            }))
            .unwrap(),
        )
    }

    fn stateful_set(strategy: &Value, updated: i32) -> Target {
        from_stateful_set(
            &serde_json::from_value(json!({
                "spec": {"selector": {}, "template": {}, "serviceName": "s", "updateStrategy": strategy},
                "status": {"replicas": 4, "updatedReplicas": updated, "currentRevision": "a", "updateRevision": "b"},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn a_rollout_that_stands_still_kept_a_deployment_from_going_down_for_ever() {
        let condition = |reason: &str| json!([{"type": "Progressing", "status": "False", "reason": reason}]);
        assert!(deployment(&json!({}), &condition("ReplicaSetUpdated")).updating);
        assert!(!deployment(&json!({}), &condition("ProgressDeadlineExceeded")).updating);
        assert!(!deployment(&json!({"paused": true}), &json!([])).updating);
    }

    #[test]
    fn a_partition_or_updates_by_hand_kept_a_stateful_set_from_going_down_for_ever() {
        let rolling =
            |partition: i32| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
        assert!(stateful_set(&rolling(0), 3).updating && stateful_set(&Value::Null, 4).updating);
        assert!(stateful_set(&rolling(1), 2).updating);
        assert!(!stateful_set(&rolling(1), 3).updating && !stateful_set(&rolling(9), 0).updating);
        assert!(!stateful_set(&json!({"type": "OnDelete"}), 1).updating);
    }
}
