//! What is known of the objects of one kind, kept up to date by a watch.
//!
//! A cache runs from the start of the process, leader or not, so that a standby takes over with
//! warm caches. It holds what is needed: managed fields are dropped on the way in.
//!
//! ```text
//!  watch ──▶ prune ──▶ store ──▶ index ──▶ subscribers (controllers)
//! ```
//!
//! Guarantees: a subscriber sees every object that exists when it subscribes and every change
//! after that; the store and the index are up to date before a subscriber hears of a change.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::guarded::{Guarded, Unreadable};
use super::index::{Id, Index};
use crate::api::FINALIZER;
use crate::causes::of_watch;
use crate::runtime::complaint::Complaint;

/// What a kind must be to be cached.
pub trait Cached:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}

impl<K> Cached for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}

/// One change that a subscriber hears of.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// It is there, new or changed.
    Applied(Arc<K>),
    /// It is gone.
    Deleted(Arc<K>),
}

/// The objects of one kind.
pub struct Cache<K: Cached> {
    store: Store<K>,
    shared: Arc<Shared<K>>,
}

struct Shared<K: Cached> {
    keys: fn(&K) -> Vec<String>,
    prune: fn(&mut K),
    writer: Mutex<Writer<K>>,
    reader: Store<K>,
    unlisted: watch::Sender<usize>,
    index: RwLock<Index>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Change<K>>>>,
    unreadable: watch::Sender<Arc<HashMap<String, Unreadable>>>,
}

impl<K: Cached> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), shared: self.shared.clone() }
    }
}

impl<K: Cached> Cache<K> {
    /// Starts one watch for each API (one for the whole cluster, or one for each namespace).
    /// `keys` name an object in the index that [`Cache::find`] reads; `prune` drops what nobody
    /// needs, besides managed fields.
    pub fn start(
        apis: Vec<(Option<String>, Api<Guarded<K>>)>,
        keys: fn(&K) -> Vec<String>,
        prune: fn(&mut K),
    ) -> Self {
        let mut writer = Writer::<K>::default();
        let store = writer.as_reader();
        // Several watches feed one store, so no single listing may replace it: listings are
        // taken apart into changes, and the store begins empty.
        writer.apply_watcher_event(&watcher::Event::Init);
        writer.apply_watcher_event(&watcher::Event::InitDone);
        let shared = Arc::new(Shared {
            keys,
            prune,
            writer: Mutex::new(writer),
            reader: store.clone(),
            unlisted: watch::channel(apis.len()).0,
            index: RwLock::default(),
            subscribers: Mutex::default(),
            unreadable: watch::channel(Arc::default()).0,
        });
        for (namespace, api) in apis {
            let events = watcher(api, watcher::Config::default());
            tokio::spawn(keep(events, namespace, store.clone(), shared.clone()));
        }
        Self { store, shared }
    }

    /// Returns when every watch has listed what exists.
    pub async fn synced(&self) {
        // The sender lives as long as this cache.
        let _ = self.shared.unlisted.subscribe().wait_for(|unlisted| *unlisted == 0).await;
    }

    /// The object of that name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key =
            if namespace.is_empty() { ObjectRef::new(name) } else { ObjectRef::new(name).within(namespace) };
        self.store.get(&key)
    }

    /// All objects.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// The objects that `key` is one of the keys of.
    #[must_use]
    pub fn find(&self, key: &str) -> Vec<Arc<K>> {
        let names = {
            let index = self.shared.index.read().unwrap_or_else(PoisonError::into_inner);
            index.find(key).to_vec()
        };
        let found = names.iter().filter_map(|id| self.get(&id.0, &id.1));
        // A key may have moved with an edit: the object itself says.
        found.filter(|object| (self.shared.keys)(object).iter().any(|own| own == key)).collect()
    }

    /// The objects that cannot be read, by UID. Nothing else here knows of them.
    #[must_use]
    pub fn unreadable(&self) -> watch::Receiver<Arc<HashMap<String, Unreadable>>> {
        self.shared.unreadable.subscribe()
    }

    /// The store that passes read their objects from.
    #[must_use]
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// What exists now as `Applied`, then every change.
    pub fn subscribe(&self) -> impl Stream<Item = Change<K>> + Send + use<K> {
        let (sender, receiver) = mpsc::unbounded_channel();
        // The subscription comes before the snapshot: what changes in between is seen twice, not never.
        self.shared.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        let now = futures::stream::iter(self.all().into_iter().map(Change::Applied).collect::<Vec<_>>());
        now.chain(futures::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|change| (change, receiver))
        }))
    }
}

/// One API for the cluster, or one for each namespace.
#[must_use]
pub fn apis<K>(client: &Client, namespaces: &[String]) -> Vec<(Option<String>, Api<Guarded<K>>)>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    if namespaces.is_empty() {
        return vec![(None, Api::all(client.clone()))];
    }
    let one = |namespace: &String| (Some(namespace.clone()), Api::namespaced(client.clone(), namespace));
    namespaces.iter().map(one).collect()
}

/// Feeds one watch into the store, the index and the subscribers, for ever.
async fn keep<K: Cached>(
    events: impl Stream<Item = watcher::Result<watcher::Event<Guarded<K>>>> + Send,
    namespace: Option<String>,
    store: Store<K>,
    shared: Arc<Shared<K>>,
) {
    let mut events = std::pin::pin!(events.default_backoff());
    // Objects that existed before a listing and are not in it were deleted meanwhile.
    let mut vanished: HashMap<ObjectRef<K>, Arc<K>> = HashMap::new();
    let mut unread: BTreeSet<String> = BTreeSet::new();
    let mut first = true;
    let mut complaint = Complaint::default();
    loop {
        let next = events.try_next().await;
        // A listing that begins may still fail.
        let answered = matches!(&next, Ok(Some(event)) if !matches!(event, watcher::Event::Init));
        if answered && complaint.is_over() {
            tracing::info!(kind = %K::kind(&()), namespace, "watching again");
        }
        match next {
            Ok(Some(event)) => match event {
                watcher::Event::Init => {
                    let ours = store
                        .state()
                        .into_iter()
                        .filter(|object| namespace.is_none() || object.meta().namespace == namespace);
                    vanished = ours.map(|object| (ObjectRef::from_obj(object.as_ref()), object)).collect();
                    unread = shared.unread(namespace.as_deref());
                }
                watcher::Event::InitApply(Guarded(read)) => {
                    match &read {
                        Ok(object) => vanished.remove(&ObjectRef::from_obj(object)),
                        Err(unreadable) => {
                            unread.remove(unreadable.metadata.uid.as_deref().unwrap_or_default());
                            vanished.remove(&reference(unreadable))
                        }
                    };
                    shared.seen(read);
                }
                watcher::Event::InitDone => {
                    for (_, object) in vanished.drain() {
                        shared.deleted(object.as_ref().clone());
                    }
                    for uid in std::mem::take(&mut unread) {
                        shared.no_longer_unreadable(&uid);
                    }
                    if std::mem::take(&mut first) {
                        shared.unlisted.send_modify(|unlisted| *unlisted -= 1);
                    }
                }
                watcher::Event::Apply(Guarded(read)) => shared.seen(read),
                watcher::Event::Delete(Guarded(Ok(object))) => {
                    shared.no_longer_unreadable(&object.uid().unwrap_or_default());
                    shared.deleted(pruned(object, shared.prune));
                }
                watcher::Event::Delete(Guarded(Err(unreadable))) => {
                    shared.no_longer_unreadable(unreadable.metadata.uid.as_deref().unwrap_or_default());
                    if let Some(last) = store.get(&reference(&unreadable)) {
                        shared.deleted(last.as_ref().clone());
                    }
                }
            },
            Ok(None) => return,
            Err(error) => {
                let error = of_watch(&error);
                if complaint.is_due(&error, Instant::now()) {
                    tracing::warn!(kind = %K::kind(&()), namespace, error, "failed to watch; trying again");
                }
            }
        }
    }
}

fn reference<K: Cached>(unreadable: &Unreadable) -> ObjectRef<K> {
    let metadata = &unreadable.metadata;
    let reference = ObjectRef::new(metadata.name.as_deref().unwrap_or_default());
    match &metadata.namespace {
        Some(namespace) => reference.within(namespace),
        None => reference,
    }
}

fn pruned<K: Cached>(object: K, more: fn(&mut K)) -> K {
    let mut object = lean(object);
    more(&mut object);
    object
}

/// The object without what nobody here needs, which is more than half of it.
pub fn lean<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    object
}

impl<K: Cached> Shared<K> {
    /// One that cannot be read keeps the last form that could: what was declared is not gone.
    fn seen(&self, read: Result<K, Box<Unreadable>>) {
        match read {
            Ok(object) => {
                self.no_longer_unreadable(&object.uid().unwrap_or_default());
                self.applied(pruned(object, self.prune));
            }
            Err(unreadable) => self.unreadable.send_modify(|all| {
                let uid = unreadable.metadata.uid.clone().unwrap_or_default();
                Arc::make_mut(all).insert(uid, *unreadable);
            }),
        }
    }

    fn no_longer_unreadable(&self, uid: &str) {
        if self.unreadable.borrow().contains_key(uid) {
            self.unreadable.send_modify(|all| {
                Arc::make_mut(all).remove(uid);
            });
        }
    }

    /// The UIDs of those in a namespace, or everywhere, that cannot be read.
    fn unread(&self, namespace: Option<&str>) -> BTreeSet<String> {
        let all = self.unreadable.borrow();
        let ours = all
            .iter()
            .filter(|(_, one)| namespace.is_none() || one.metadata.namespace.as_deref() == namespace);
        ours.map(|(uid, _)| uid.clone()).collect()
    }

    fn applied(&self, object: K) {
        let keys = (self.keys)(&object);
        // Keys may move with an edit: those of the form that is replaced go, unless they stayed.
        let before = self.reader.get(&ObjectRef::from_obj(&object)).map(|old| (self.keys)(&old));
        {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let id = Arc::new(id(&object));
            for key in before.iter().flatten().filter(|key| !keys.contains(key)) {
                index.remove(key, &id);
            }
            for key in
                keys.into_iter().filter(|key| before.as_ref().is_none_or(|before| !before.contains(key)))
            {
                index.insert(key, &id);
            }
        }
        let event = watcher::Event::Apply(object);
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).apply_watcher_event(&event);
        if let watcher::Event::Apply(object) = event {
            self.tell(&Change::Applied(Arc::new(object)));
        }
    }

    fn deleted(&self, object: K) {
        {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            for key in (self.keys)(&object) {
                index.remove(&key, &id(&object));
            }
        }
        let event = watcher::Event::Delete(object);
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).apply_watcher_event(&event);
        if let watcher::Event::Delete(object) = event {
            self.tell(&Change::Deleted(Arc::new(object)));
        }
    }

    fn tell(&self, change: &Change<K>) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }
}

fn id<K: Resource>(object: &K) -> Id {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Passes on what a controller has to act on: its own status patches, and the finalizer that it puts on, are not among
/// it.
#[derive(Default)]
pub struct Relevant(HashMap<Id, Seen>);

/// What was seen of an object last.
#[derive(Clone, Copy)]
struct Seen {
    fingerprint: u64,
    /// Whether Spillway's finalizer was on.
    held: bool,
}

impl Relevant {
    /// Whether the object of a change was seen before.
    #[must_use]
    pub fn knows<K: Cached>(&self, change: &Change<K>) -> bool {
        let (Change::Applied(object) | Change::Deleted(object)) = change;
        self.0.contains_key(&id(object.as_ref()))
    }

    /// Whether the change is one of the spec, of metadata that people set, or of existence.
    pub fn passes<K: Cached>(&mut self, change: &Change<K>) -> bool {
        match change {
            Change::Deleted(object) => {
                self.0.remove(&id(object.as_ref()));
                true
            }
            Change::Applied(object) => {
                let held = object.finalizers().iter().any(|name| name == FINALIZER);
                let now = Seen { fingerprint: fingerprint(object.as_ref()), held };
                let before = self.0.insert(id(object.as_ref()), now);
                before.is_none_or(|before| {
                    let taken_off = before.held && !held;
                    before.fingerprint != now.fingerprint || taken_off
                })
            }
        }
    }
}

fn fingerprint<K: Resource>(object: &K) -> u64 {
    use std::hash::{DefaultHasher, Hasher as _};
    let meta = object.meta();
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    meta.generation.hash(&mut hasher);
    meta.annotations.hash(&mut hasher);
    meta.labels.hash(&mut hasher);
    for finalizer in meta.finalizers.iter().flatten().filter(|name| *name != FINALIZER) {
        finalizer.hash(&mut hasher);
    }
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    for owner in meta.owner_references.iter().flatten() {
        owner.uid.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Topic;

    fn topic(generation: i64, finalizers: &[&str]) -> Change<Topic> {
        let spec =
            serde_json::from_value(serde_json::json!({"brokerRef": {"name": "kafka"}})).expect("a spec");
        let mut topic = Topic::new("orders", spec);
        topic.metadata.generation = Some(generation);
        topic.metadata.finalizers = Some(finalizers.iter().map(|&name| name.to_owned()).collect());
        Change::Applied(Arc::new(topic))
    }

    #[test]
    fn the_finalizer_that_is_put_on_is_no_news_and_one_that_goes_is() {
        let mut relevant = Relevant::default();
        assert!(!relevant.knows(&topic(1, &[])));
        let news = [
            (topic(1, &[]), true),
            (topic(1, &[FINALIZER]), false),
            (topic(1, &[FINALIZER, "else.example/hold"]), true),
            (topic(2, &[FINALIZER, "else.example/hold"]), true),
            (topic(2, &["else.example/hold"]), true),
            (topic(2, &["else.example/hold"]), false),
        ];
        for (number, (change, expected)) in news.into_iter().enumerate() {
            assert_eq!(relevant.passes(&change), expected, "change {number}");
        }
        assert!(relevant.knows(&topic(2, &[])));
    }
}
