//! What every controller shares: the client, the caches, the links, and the right to write.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt as _};

use super::cache::{Cache, Cached};
use super::consumer::registry::Registry;
use super::consumer::targets::Targets;
use super::dependents::KINDS;
use super::events::Events;
use super::links::Links;
use super::secrets::Secrets;
use super::turns::Turns;
use super::wake::Wake;
use crate::api::{Binding, Broker, BrokerRef, Consumer, Exchange, Queue, Topic};
use crate::brokers::kafka::KafkaPool;
use crate::brokers::rabbitmq::RabbitPool;
use crate::runtime::http::Health;
use crate::runtime::lease::{Fence, Fenced};
use crate::runtime::metrics::Metrics;
use crate::topology::contention::Reverts;

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
#[derive(Default)]
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
    pub empty_since: Option<Instant>,
    /// When this process last wrote to the broker for it: what was seen before is history.
    pub wrote: Option<Instant>,
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
    /// Held while a Broker's finalizer is put on.
    pub holding: tokio::sync::Mutex<()>,
    /// Whose turn it is.
    pub turns: Turns,
    /// What is kept of each object, by UID.
    pub notes: Mutex<HashMap<String, Notes>>,
    /// What was written last, by UID: a watch may not have shown it yet.
    pub written: Mutex<HashMap<String, Box<dyn std::any::Any + Send>>>,
    /// When the process started; times in notes are relative to it.
    pub started: Instant,
}

impl Context {
    /// An error once this process may not write any more: asked before every write.
    pub fn may_write(&self) -> Result<(), Fenced> {
        self.fence.check()
    }

    /// Works on the notes of an object.
    pub fn note<T>(&self, uid: &str, with: impl FnOnce(&mut Notes) -> T) -> T {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        with(notes.entry(uid.to_owned()).or_default())
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Remembers what the API server answered to a write.
    pub fn remember_write<K: Resource + Clone + Send + 'static>(&self, object: &K) {
        if let Some(uid) = object.uid() {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.insert(uid, Box::new(object.clone()));
        }
    }

    /// The form of an object that this process wrote last, where it is newer than the given one.
    pub fn latest<K: Cached>(&self, object: &K) -> Option<K> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = written.get(object.meta().uid.as_ref()?)?.downcast_ref::<K>()?;
        (version(ours)? > version(object)?).then(|| ours.clone())
    }

    /// The newest form of an object: the cache's, or what was written since. Without this a pass
    /// that comes before the watch would work on a status that is already history.
    pub fn newest<K: Cached>(&self, cached: Arc<K>) -> Arc<K> {
        let Some(uid) = cached.uid() else { return cached };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = written.get(&uid).and_then(|object| object.downcast_ref::<K>());
        match ours.map(|ours| (version(ours), ours)) {
            Some((Some(ours_version), ours))
                if version(cached.as_ref()).is_some_and(|v| v < ours_version) =>
            {
                Arc::new(ours.clone())
            }
            _ => {
                written.remove(&uid);
                cached
            }
        }
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

/// A resource version as a number. Opaque by contract, a number in fact; where it is none, the
/// cache is believed.
fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}
