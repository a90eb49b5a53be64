//! The API server's side: are the objects ready, which mode do they scale in, how many replicas are there.

use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::{CONSUMERS, DemoError};

/// A Deployment's replicas at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// How many there are to be: what a scale patch sets.
    pub wanted: i32,
    /// How many are ready.
    pub ready: i32,
}

/// The namespace that the shop lives in.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    pub async fn new(namespace: &str) -> Result<Self, DemoError> {
        Ok(Self { client: Client::try_default().await?, namespace: namespace.to_owned() })
    }

    fn objects(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("spillway.dev", "v1alpha1", kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Waits until every object of the shop is Ready and every service has its one replica.
    pub async fn ready(&self, patience: Duration) -> Result<(), DemoError> {
        wait(patience, async || {
            let mut missing = Vec::new();
            for kind in ["Broker", "Topic", "Consumer"] {
                let found = self.objects(kind).list(&ListParams::default()).await?;
                if found.items.is_empty() {
                    missing.push(format!("a {kind}"));
                }
                let unready = found.iter().filter_map(|object| unready(kind, object));
                missing.extend(unready);
            }
            for name in CONSUMERS {
                let replicas = self.replicas(name).await?;
                if replicas != (Replicas { wanted: 1, ready: 1 }) {
                    missing
                        .push(format!("deployment {name} ({} of {} ready)", replicas.ready, replicas.wanted));
                }
            }
            Ok(if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) })
        })
        .await
    }

    async fn replicas(&self, name: &str) -> Result<Replicas, DemoError> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(deployments.get_opt(name).await?.map(|found| count(&found)).unwrap_or_default())
    }

    /// Sets a Consumer's scaling mode, and waits until the operator has taken notice.
    pub async fn set_mode(&self, consumer: &str, mode: &str, patience: Duration) -> Result<(), DemoError> {
        let consumers = self.objects("Consumer");
        let patch = serde_json::json!({"spec": {"scaling": {"mode": mode}}});
        let patched = consumers.patch(consumer, &PatchParams::default(), &Patch::Merge(patch)).await?;
        let generation = patched.metadata.generation;
        wait(patience, async || {
            let found = consumers.get(consumer).await?;
            let seen = found.data.pointer("/status/observedGeneration").and_then(serde_json::Value::as_i64);
            Ok(if seen >= generation {
                Ok(())
            } else {
                Err(format!("consumer {consumer} to scale in mode {mode}"))
            })
        })
        .await
    }

    /// Follows a Deployment's replicas from now on, as the API server tells them.
    pub fn follow(&self, deployment: &str) -> watch::Receiver<Replicas> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={deployment}"));
        let (sender, receiver) = watch::channel(Replicas::default());
        tokio::spawn(async move {
            let changes = watcher(deployments, only).default_backoff().applied_objects();
            pin_mut!(changes);
            while let Some(change) = changes.next().await {
                // An error ends in a new list, with a back-off: nothing is missed but the moment.
                if let Ok(found) = change {
                    sender.send_if_modified(|last| std::mem::replace(last, count(&found)) != count(&found));
                }
            }
        });
        receiver
    }
}

fn count(deployment: &Deployment) -> Replicas {
    let status = deployment.status.as_ref();
    Replicas {
        wanted: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        ready: status.and_then(|status| status.ready_replicas).unwrap_or(0),
    }
}

/// What keeps an object from being ready, in its own words.
fn unready(kind: &str, object: &DynamicObject) -> Option<String> {
    let conditions = object.data.pointer("/status/conditions").and_then(serde_json::Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    match ready {
        Some(ready) if ready["status"] == "True" => None,
        Some(ready) => Some(format!(
            "{kind} {} ({}: {})",
            object.name_any(),
            ready["reason"].as_str().unwrap_or_default(),
            ready["message"].as_str().unwrap_or_default()
        )),
        None => Some(format!("{kind} {} (no status yet)", object.name_any())),
    }
}

/// Asks again and again until the answer is `Ok`; the last `Err` says what was missing.
pub async fn wait<F>(patience: Duration, mut ask: F) -> Result<(), DemoError>
where
    F: AsyncFnMut() -> Result<Result<(), String>, DemoError>,
{
    let deadline = Instant::now() + patience;
    loop {
        match ask().await? {
            Ok(()) => return Ok(()),
            Err(missing) if Instant::now() >= deadline => return Err(DemoError::Waited(patience, missing)),
            Err(_) => sleep(Duration::from_millis(250)).await,
        }
    }
}
