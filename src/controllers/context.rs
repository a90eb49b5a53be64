//! What every controller shares: the client, the caches, the links, and the right to write.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::cache::{self, Cache, Cached};
use super::consumer::registry::Registry;
use super::consumer::targets::Targets;
use super::dependents::KINDS;
use super::events::Events;
use super::labels::Labels;
use super::links::Links;
use super::secrets::Secrets;
use super::wake::Wake;
use super::written::Written;
use crate::api::{Binding, Broker, BrokerRef, Consumer, Exchange, Queue, Topic};
use crate::brokers::kafka::KafkaPool;
use crate::brokers::rabbitmq::RabbitPool;
use crate::runtime::http::Health;
use crate::runtime::lease::{Fence, Fenced};
use crate::runtime::metrics::Metrics;
use crate::topology::contention::Reverts;
use crate::topology::deletion::LOOKS_WITHIN;
use crate::topology::rabbitmq::settle::Again;

/// Writes to the API server about topology under way at once: with more it is slower, and every one costs both sides
/// the memory of a connection (512 of them 60 MB here, and a gigabyte there).
pub const WRITERS: usize = 64;

/// For how long RabbitMQ is seen not to apply a policy before that is put once more. Longer than one look is shared in
/// a crowd, so that two looks say so.
pub const UNAPPLIED_FOR: Duration = Duration::from_secs(5);

/// Tells whether this process may still write.
pub trait Guarded: Send + Sync {
    /// An error once the lease is lost or may be.
    fn may_write(&self) -> Result<(), Fenced>;
}

impl Guarded for Fence {
    fn may_write(&self) -> Result<(), Fenced> {
        self.check()
    }
}

/// A Broker's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl BrokerKey {
    /// The Broker that `reference` names, seen from `namespace`.
    #[must_use]
    pub fn of(reference: &BrokerRef, namespace: &str) -> Self {
        Self {
            namespace: reference.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
            name: reference.name.clone(),
        }
    }

    /// The key of a Broker itself.
    #[must_use]
    pub fn from_broker(broker: &Broker) -> Self {
        Self { namespace: broker.namespace().unwrap_or_default(), name: broker.name_any() }
    }
}

impl fmt::Display for BrokerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is kept in memory of one object between passes. It may be lost at any time.
#[derive(Default, PartialEq)]
pub struct Notes {
    /// Failures in a row.
    pub failures: u32,
    /// Looks in a row at companions that were not ready.
    pub looks: u32,
    /// Companions that were not ready at the last look.
    pub missing: Vec<String>,
    /// Reverts of drift.
    pub reverts: Reverts,
    /// When an object that is to be deleted, or made anew, was first seen empty.
    empty_since: Option<Instant>,
    /// Whether this pass saw it empty.
    seen_empty: bool,
    /// When this process last wrote to the broker for it: what was seen before is history.
    pub wrote: Option<Instant>,
    /// When this process last changed its config, where another broker may be asked than the one that answered.
    pub configured: Option<Instant>,
    /// When this process last made it at the broker, if it has not deleted it since.
    pub made: Option<Instant>,
    /// Since when it waits for another object.
    waits_since: Option<Instant>,
    /// Since when it waits for one that somebody is about to come to.
    on_its_way_since: Option<Instant>,
    /// A loss was told before the object could be made again.
    pub loss_told: bool,
    /// Since when RabbitMQ has not applied its policy, and whether that was put once more since.
    unapplied: Option<(Instant, bool)>,
}

impl Notes {
    /// For how many seconds the object has been seen empty.
    #[must_use]
    pub fn empty_for(&self) -> Option<f64> {
        self.empty_since.map(|since| since.elapsed().as_secs_f64())
    }

    /// Remembers what a look found, to be compared with the next one.
    pub fn saw(&mut self, empty: bool) {
        self.saw_within(empty, LOOKS_WITHIN);
    }

    /// As [`Self::saw`], where a first look is good for so many seconds.
    pub fn saw_within(&mut self, empty: bool, within: f64) {
        if !empty || self.empty_for().is_some_and(|seconds| seconds > within) {
            self.empty_since = None;
        }
        if empty {
            self.empty_since.get_or_insert_with(Instant::now);
        }
        self.seen_empty = empty;
    }

    /// Whether a policy that RabbitMQ does not apply may be put once more: once it was seen for a while,
    /// and once only, for it may have another reason.
    #[must_use]
    pub fn again(&self) -> Again {
        match self.unapplied {
            Some((_, true)) => Again::Done,
            Some((since, false)) if since.elapsed() >= UNAPPLIED_FOR => Again::Due,
            _ => Again::NotYet,
        }
    }

    /// Remembers whether a look found its policy applied.
    pub fn saw_applied(&mut self, applied: bool) {
        if applied {
            self.unapplied = None;
        } else {
            self.unapplied.get_or_insert_with(|| (Instant::now(), false));
        }
    }

    /// Its policy was put once more.
    pub fn put_again(&mut self) {
        self.unapplied = self.unapplied.map(|(since, _)| (since, true));
    }

    /// For how long it has been waiting for another object, from now on if it did not before.
    pub fn waits(&mut self) -> Duration {
        self.waits_since.get_or_insert_with(Instant::now).elapsed()
    }

    /// It waits for nothing any more.
    pub fn waits_no_more(&mut self) {
        self.waits_since = None;
    }

    /// For how long it has been waiting for an object that somebody is about to come to, from now on if it did not before.
    pub fn on_its_way(&mut self) -> Duration {
        self.on_its_way_since.get_or_insert_with(Instant::now).elapsed()
    }

    /// Nothing is missing.
    pub fn all_is_there(&mut self) {
        self.on_its_way_since = None;
    }

    /// Whether it waits for another object.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waits_since.is_some() || self.on_its_way_since.is_some()
    }

    /// Both looks belong to one attempt: a pass that failed before its look, or did not look any
    /// more, ends it.
    fn pass_ends(&mut self) {
        if !std::mem::take(&mut self.seen_empty) {
            self.empty_since = None;
        }
    }
}

/// What every controller shares.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The right to write.
    pub fence: Fence,
    /// Numbers for people and alerts.
    pub metrics: Metrics,
    /// Events.
    pub events: Events,
    /// All Brokers.
    pub brokers: Cache<Broker>,
    /// All Topics, by the topic's name at the broker.
    pub topics: Cache<Topic>,
    /// All Exchanges, by virtual host and name.
    pub exchanges: Cache<Exchange>,
    /// All Queues, by virtual host and name, and by their inline bindings.
    pub queues: Cache<Queue>,
    /// All Bindings, by what they bind and by both ends.
    pub bindings: Cache<Binding>,
    /// All Consumers.
    pub consumers: Cache<Consumer>,
    /// All namespaces, for their labels; none where the operator may not look beyond its own.
    pub namespaces: Option<Cache<Namespace>>,
    /// The labels of those that are watched, where there is no such cache.
    pub labels: Labels,
    /// Connections.
    pub links: Links,
    /// Kafka's clients.
    pub kafka: KafkaPool,
    /// RabbitMQ's clients.
    pub rabbitmq: RabbitPool,
    /// Secrets that Brokers name.
    pub secrets: Arc<Secrets>,
    /// Wakes Brokers.
    pub wake_brokers: Arc<Wake<Broker>>,
    /// Wakes Topics.
    pub wake_topics: Wake<Topic>,
    /// Wakes Exchanges.
    pub wake_exchanges: Wake<Exchange>,
    /// Wakes Queues.
    pub wake_queues: Wake<Queue>,
    /// Wakes Bindings.
    pub wake_bindings: Wake<Binding>,
    /// Wakes Consumers.
    pub wake_consumers: Wake<Consumer>,
    /// Workloads and who else scales them.
    pub targets: Targets,
    /// Consumers that are to be decided for.
    pub registry: Registry,
    /// Whether the process lives.
    pub health: Health,
    /// Turns to write to the API server about topology: each request under way has a connection of its own.
    pub writers: Semaphore,
    /// Held while a Broker's finalizer is put on.
    pub holding: tokio::sync::Mutex<()>,
    /// What is kept of each object, by UID.
    pub notes: Mutex<HashMap<String, Notes>>,
    /// What was written last.
    pub written: Written,
    /// When the process started; times in notes are relative to it.
    pub started: Instant,
}

impl Context {
    /// An error once this process may not write any more: asked before every write.
    pub fn may_write(&self) -> Result<(), Fenced> {
        self.fence.check()
    }

    /// A turn to write to the API server about topology, which ends when the answer is dropped; an error once this
    /// process may not write any more.
    pub async fn turn_to_write(&self) -> Result<Option<SemaphorePermit<'_>>, Fenced> {
        // Nobody closes it.
        let turn = self.writers.acquire().await.ok();
        self.may_write()?;
        Ok(turn)
    }

    /// Whether all turns to write are taken: thousands of objects come together.
    pub fn is_crowded(&self) -> bool {
        self.writers.available_permits() == 0
    }

    /// Serves what was seen of an object. One that went while it was looked at has lost its series already, and new ones would
    /// stay: so the cache is asked afterwards.
    pub fn serve_object<K: Cached>(
        &self,
        cache: &Cache<K>,
        (kind, object): (&'static str, &K),
        ready: bool,
        in_sync: Option<bool>,
        left_alone: bool,
    ) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        self.metrics.object(kind, &namespace, &name, Some(ready), in_sync);
        self.metrics.left_alone(kind, &namespace, &name, left_alone);
        if cache.get(&namespace, &name).is_none() {
            self.metrics.forget_object(kind, &namespace, &name);
        }
    }

    /// Works on the notes of an object.
    pub fn note<T>(&self, uid: &str, with: impl FnOnce(&mut Notes) -> T) -> T {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        with(notes.entry(uid.to_owned()).or_default())
    }

    /// A pass over an object is through.
    pub fn pass_ends(&self, uid: &str) {
        let mut all = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notes) = all.get_mut(uid) {
            notes.pass_ends();
            // Of most objects there is nothing to remember.
            if *notes == Notes::default() {
                all.remove(uid);
            }
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.written.forget(uid);
    }

    /// Remembers what the API server answered to a write.
    pub fn remember_write<K: Resource + Send + Sync + 'static>(&self, object: K) {
        self.written.remember(cache::lean(object));
    }

    /// A form of an object that is newer than the one which a pass holds.
    pub fn since<K: Cached>(&self, object: &K, cache: &Cache<K>) -> Option<Arc<K>> {
        let cached = || cache.get(&object.namespace().unwrap_or_default(), &object.name_any());
        self.written.since(object, cached)
    }

    /// The newest form of an object that was read from its cache: what that has now, or what was written since.
    pub fn newest<K: Cached>(&self, held: Arc<K>, cache: &Cache<K>) -> Arc<K> {
        let id = ObjectRef::from_obj(held.as_ref());
        self.written.newest(held, || cache.store().get(&id))
    }

    /// What a pass over an object begins with: its newest form, if it is still there.
    pub fn current<K: Cached>(&self, id: &ObjectRef<K>, cache: &Cache<K>) -> Option<Arc<K>> {
        let held = cache.store().get(id)?;
        // In this order: a write is forgotten once the cache has it, and so is one that took the object away.
        self.written.since(held.as_ref(), || None).or_else(|| cache.store().get(id))
    }

    /// Wakes everything that lives on a Broker.
    pub fn wake_dependents(&self, broker: &BrokerKey) {
        for kind in KINDS {
            kind.wake_on(self, broker);
        }
        for consumer in self.consumers.all() {
            let namespace = consumer.namespace().unwrap_or_default();
            if consumer
                .spec
                .broker_ref()
                .is_some_and(|reference| BrokerKey::of(reference, &namespace) == *broker)
            {
                self.wake_consumers.wake(&ObjectRef::from_obj(consumer.as_ref()));
            }
        }
    }

    /// The cluster that a Broker is: as its link says, or, before there is one, its own status.
    pub fn cluster_id(&self, broker: &BrokerKey) -> Option<String> {
        self.links.cluster_id(broker).or_else(|| {
            self.brokers.get(&broker.namespace, &broker.name)?.status.as_ref()?.cluster_id.clone()
        })
    }

    /// Seconds since the process started.
    pub fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_to_delete_that_was_interrupted_begins_anew() {
        let mut notes = Notes::default();
        notes.saw(true);
        notes.pass_ends();
        assert!(notes.empty_for().is_some(), "the next look is compared with this one");
        // The broker is away, or nobody asks any more.
        notes.pass_ends();
        assert_eq!(notes.empty_for(), None);
        notes.saw(true);
        notes.saw(false);
        assert_eq!(notes.empty_for(), None);
    }

    #[test]
    fn a_policy_that_is_not_applied_is_put_once_more_after_a_while_and_once_until_it_is_applied() {
        let mut notes = Notes::default();
        assert_eq!(notes.again(), Again::NotYet);
        notes.saw_applied(false);
        assert_eq!(notes.again(), Again::NotYet, "it may show in a moment");
        notes.unapplied = Instant::now().checked_sub(UNAPPLIED_FOR).map(|since| (since, false));
        notes.saw_applied(false);
        assert_eq!(notes.again(), Again::Due);
        notes.put_again();
        notes.saw_applied(false);
        assert_eq!(notes.again(), Again::Done);
        notes.saw_applied(true);
        assert_eq!(notes.again(), Again::NotYet);
    }

    #[test]
    fn a_look_that_is_too_old_is_replaced_by_the_next_one() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(180));
        let mut notes = Notes { empty_since: long_ago, ..Notes::default() };
        assert!(notes.empty_for().is_some_and(|seconds| seconds > LOOKS_WITHIN));
        notes.saw(true);
        assert!(notes.empty_for().is_some_and(|seconds| seconds < 1.0));
    }
}
