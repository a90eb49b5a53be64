//! Custom resources in bulk, and a watch on them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, DynamicObject, ListParams, Object, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{BenchError, PATIENCE, until};

/// Requests to the API server at a time: more do not make it faster.
const CONCURRENCY: usize = 64;

/// The kinds that a run makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Broker,
    Topic,
    Queue,
    Binding,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Binding, Self::Queue, Self::Topic, Self::Broker];

    fn resource(self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk("spillway.dev", "v1alpha1", &format!("{self:?}")))
    }
}

/// The objects of one namespace.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    pub namespace: String,
}

/// Of a status only what is looked at, so that the bench leaves the processors to others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
    observed_generation: Option<i64>,
}

/// A spec that is not looked at.
#[derive(Clone, Debug, Deserialize)]
struct Unread {}

type Seen = Object<Unread, Status>;

impl Objects {
    pub async fn connect(namespace: &str) -> Result<Self, BenchError> {
        Ok(Self { client: Client::try_default().await?, namespace: namespace.to_owned() })
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// Makes the namespace.
    pub async fn make_namespace(&self) -> Result<(), BenchError> {
        let namespace = Namespace {
            metadata: kube::api::ObjectMeta { name: Some(self.namespace.clone()), ..Default::default() },
            ..Namespace::default()
        };
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    /// Creates objects: kinds, names and specs.
    pub async fn create(
        &self,
        objects: impl Iterator<Item = (Kind, String, Value)>,
    ) -> Result<(), BenchError> {
        let creating = objects.map(|(kind, name, spec)| {
            let object = DynamicObject::new(&name, &kind.resource()).data(json!({"spec": spec}));
            let api = self.api(kind);
            async move { api.create(&PostParams::default(), &object).await.map(drop) }
        });
        Ok(futures::stream::iter(creating).buffer_unordered(CONCURRENCY).try_collect().await?)
    }

    /// Merges into objects.
    pub async fn patch(
        &self,
        kind: Kind,
        patches: impl Iterator<Item = (String, Value)>,
    ) -> Result<(), BenchError> {
        let api = self.api(kind);
        let patching = patches.map(|(name, patch)| {
            let api = api.clone();
            async move { api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop) }
        });
        Ok(futures::stream::iter(patching).buffer_unordered(CONCURRENCY).try_collect().await?)
    }

    /// Merges into a status.
    pub async fn patch_status(&self, kind: Kind, name: &str, status: &Value) -> Result<(), BenchError> {
        let patch = Patch::Merge(json!({"status": status}));
        self.api(kind).patch_status(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Deletes all objects of a kind, and waits until they are gone. No operator runs that would release them, and
    /// the bench empties the brokers itself.
    pub async fn delete_all(&self, kind: Kind) -> Result<(), BenchError> {
        let api = self.api(kind);
        api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        let left = api.list_metadata(&ListParams::default()).await?.items;
        let held = left.into_iter().filter(|object| !object.finalizers().is_empty());
        let released = held.map(|object| (object.name_any(), json!({"metadata": {"finalizers": null}})));
        self.patch(kind, released.collect::<Vec<_>>().into_iter()).await?;
        until(PATIENCE, Duration::from_millis(200), async || {
            let left = api.list_metadata(&ListParams::default().limit(1)).await?;
            Ok(if left.items.is_empty() { Ok(()) } else { Err(format!("the {kind:?}s to be gone")) })
        })
        .await
    }

    /// Deletes the namespace with all that is in it, if there is one.
    pub async fn clear(&self) -> Result<(), BenchError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if namespaces.get_opt(&self.namespace).await?.is_none() {
            return Ok(());
        }
        for kind in Kind::ALL {
            match self.delete_all(kind).await {
                // The kinds may not be defined yet.
                Err(BenchError::Kube(kube::Error::Api(status))) if status.code == 404 => {}
                done => done?,
            }
        }
        match namespaces.delete(&self.namespace, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            done => drop(done?),
        }
        until(PATIENCE, Duration::from_millis(200), async || {
            let left = namespaces.get_opt(&self.namespace).await?;
            Ok(if left.is_none() { Ok(()) } else { Err(format!("namespace {} to be gone", self.namespace)) })
        })
        .await
    }

    /// Makes a Secret.
    pub async fn make_secret(&self, name: &str, content: &[(&str, &str)]) -> Result<(), BenchError> {
        let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let secret = Secret {
            metadata: kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
            string_data: Some(content.iter().map(text).collect()),
            ..Secret::default()
        };
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        api.create(&PostParams::default(), &secret).await?;
        Ok(())
    }

    /// Watches all objects of the kinds that are among `names`; beside each watch how many of these it is to see.
    pub fn follow_all(&self, names: &[(Kind, String)]) -> Vec<(Follow, usize)> {
        let number = |kind| names.iter().filter(|(is, _)| *is == kind).count();
        Kind::ALL
            .into_iter()
            .map(|kind| (kind, number(kind)))
            .filter(|(_, number)| *number > 0)
            .map(|(kind, number)| (self.follow(kind), number))
            .collect()
    }

    /// Watches all objects of a kind from now on.
    fn follow(&self, kind: Kind) -> Follow {
        let api: Api<Seen> = Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource());
        let (sender, counts) = watch::channel((Instant::now(), Counts::default()));
        let task = tokio::spawn(async move {
            // Counted once for all that came together.
            let mut events = Box::pin(watcher(api, watcher::Config::default())).ready_chunks(512);
            let mut states: HashMap<String, State> = HashMap::new();
            while let Some(events) = events.next().await {
                for event in events {
                    match event {
                        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                            states.insert(object.name_any(), State::of(&object));
                        }
                        Ok(watcher::Event::Delete(object)) => {
                            states.remove(&object.name_any());
                        }
                        // The watcher tries again by itself.
                        Ok(_) | Err(_) => {}
                    }
                }
                sender.send_modify(|seen| *seen = (Instant::now(), Counts::of(&states)));
            }
        });
        Follow { counts, task, kind }
    }
}

/// What a status says.
#[derive(Clone, Copy)]
struct State {
    ready: bool,
    lost: bool,
}

impl State {
    fn of(object: &Seen) -> Self {
        let holds = |status: &Status, kind: &str| {
            status.conditions.iter().any(|is| is.type_ == kind && is.status == "True")
        };
        let status = object.status.as_ref();
        Self {
            ready: status.is_some_and(|status| {
                status.observed_generation == object.metadata.generation && holds(status, "Ready")
            }),
            lost: status.is_some_and(|status| holds(status, "DataLost")),
        }
    }
}

/// How many objects there are of which a status says what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// There are this many.
    pub all: usize,
    /// Ready for what their specs say now.
    pub ready: usize,
    /// Made again after they had vanished.
    pub lost: usize,
}

impl Counts {
    fn of(states: &HashMap<String, State>) -> Self {
        let count = |is: fn(&State) -> bool| states.values().filter(|state| is(state)).count();
        Self { all: states.len(), ready: count(|state| state.ready), lost: count(|state| state.lost) }
    }
}

/// A watch on all objects of one kind.
pub struct Follow {
    counts: watch::Receiver<(Instant, Counts)>,
    task: tokio::task::JoinHandle<()>,
    kind: Kind,
}

impl Follow {
    /// Waits until the counts are as wanted; when that was.
    pub async fn until(&mut self, what: &str, is: impl Fn(&Counts) -> bool) -> Result<Instant, BenchError> {
        let waited = tokio::time::timeout(PATIENCE, self.counts.wait_for(|(_, counts)| is(counts))).await;
        match waited.map(|seen| seen.map(|seen| seen.0)) {
            Ok(Ok(at)) => Ok(at),
            Ok(Err(_)) => {
                Err(BenchError::Waited(PATIENCE, format!("the watch on {:?}s, which ended", self.kind)))
            }
            Err(_) => {
                let counts = self.counts.borrow().1;
                Err(BenchError::Waited(PATIENCE, format!("{:?}s {what}: {counts:?}", self.kind)))
            }
        }
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}
