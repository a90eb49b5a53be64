//! Which Consumers are to be decided for, by the broker that they read from.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt as _;
use serde_json::json;
use tokio::sync::watch;

use super::pen::Pen;
use super::target;
use super::targets::TargetKey;
use crate::api::Consumer;
use crate::api::conditions::Reason;
use crate::api::consumer::{Isolation, ScalingMode};
use crate::controllers::context::BrokerKey;
use crate::scaling;
use crate::topology::Rejection;

/// What the controller found before any decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Front {
    /// All that a decision needs is there.
    Good,
    /// Something is missing or wrong.
    Bad {
        /// The condition's reason.
        reason: Reason,
        /// The condition's message.
        message: String,
        /// Only an edit can help.
        stalled: bool,
    },
}

/// What a workload reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Kafka group.
    Kafka(Group),
    /// A RabbitMQ queue.
    Rabbitmq(QueueName),
}

/// A Kafka group and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The group's id.
    pub name: String,
    /// The topics, without doubles.
    pub topics: Vec<String>,
    /// Whether records of open transactions count.
    pub isolation: Isolation,
}

/// A RabbitMQ queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName {
    /// Its virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
}

impl Source {
    /// Reads a Consumer; none where it says nothing to read.
    #[must_use]
    pub fn of(consumer: &Consumer) -> Option<Self> {
        let spec = &consumer.spec;
        if let Some(kafka) = &spec.kafka {
            let mut topics = kafka.topics.clone();
            topics.sort();
            topics.dedup();
            let (name, isolation) = (kafka.group.clone(), kafka.isolation);
            return Some(Self::Kafka(Group { name, topics, isolation }));
        }
        let rabbitmq = spec.rabbitmq.as_ref()?;
        Some(Self::Rabbitmq(QueueName { vhost: rabbitmq.vhost.clone(), name: rabbitmq.queue.clone() }))
    }

    /// Whether two workloads that read both would share the work: the same group, or the same queue.
    #[must_use]
    pub fn shares(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kafka(one), Self::Kafka(other)) => one.name == other.name,
            (Self::Rabbitmq(one), Self::Rabbitmq(other)) => one == other,
            _ => false,
        }
    }

    /// The group; none where it is a queue.
    #[must_use]
    pub const fn group(&self) -> Option<&Group> {
        match self {
            Self::Kafka(group) => Some(group),
            Self::Rabbitmq(_) => None,
        }
    }

    /// The queue; none where it is a group.
    #[must_use]
    pub const fn queue(&self) -> Option<&QueueName> {
        match self {
            Self::Rabbitmq(queue) => Some(queue),
            Self::Kafka(_) => None,
        }
    }
}

/// Why a Consumer that says nothing to read is refused.
#[must_use]
pub fn nothing_to_read() -> Rejection {
    Rejection::new(Reason::InvalidSpec, "a Consumer reads one thing: set exactly one of kafka and rabbitmq")
}

/// One Consumer, ready for the collector.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The CR as it was at its last pass.
    pub consumer: Arc<Consumer>,
    /// Its UID.
    pub uid: String,
    /// The broker that it reads from.
    pub broker: BrokerKey,
    /// What it reads there.
    pub source: Source,
    /// The workload.
    pub target: TargetKey,
    /// Decides and says so, but does not patch.
    pub dry_run: bool,
    /// How it scales; none where the spec cannot be used.
    pub config: Option<Arc<scaling::Config>>,
    /// What the controller found.
    pub front: Front,
}

impl Registration {
    /// Reads a Consumer.
    pub fn of(consumer: &Arc<Consumer>, front: Front) -> Result<Self, Rejection> {
        let reference = consumer.spec.broker_ref().ok_or_else(nothing_to_read)?;
        Ok(Self {
            uid: consumer.uid().unwrap_or_default(),
            broker: BrokerKey::of(reference, &consumer.namespace().unwrap_or_default()),
            source: Source::of(consumer).ok_or_else(nothing_to_read)?,
            target: target(consumer),
            dry_run: consumer.spec.scaling.mode == ScalingMode::DryRun,
            config: config(consumer).ok().map(Arc::new),
            front,
            consumer: consumer.clone(),
        })
    }

    /// Whether it may have no replica.
    #[must_use]
    pub fn may_rest(&self) -> bool {
        self.config.as_ref().is_some_and(|config| config.min_replicas == 0)
    }

    /// How often to look, in seconds.
    #[must_use]
    pub fn poll_interval(&self) -> f64 {
        self.consumer.spec.scaling.tuning.poll_interval.seconds()
    }
}

/// The scaler's settings; its serde form is the CR's.
pub fn config(consumer: &Consumer) -> Result<scaling::Config, Rejection> {
    let mut form = json!({"scaling": consumer.spec.scaling});
    if let Some(kafka) = &consumer.spec.kafka {
        form["offsetReset"] = json!(kafka.offset_reset);
        form["isolation"] = json!(kafka.isolation);
    }
    serde_json::from_value(form)
        .map_err(|error| Rejection::new(Reason::InvalidSpec, format!("spec.scaling cannot be used: {error}")))
}

/// All registrations. Whoever waits on [`Registry::changed`] hears of every change.
pub struct Registry {
    all: Mutex<HashMap<String, Arc<Registration>>>,
    pens: Mutex<HashMap<String, Arc<Pen>>>,
    changed: watch::Sender<u64>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { all: Mutex::default(), pens: Mutex::default(), changed: watch::channel(0).0 }
    }
}

impl Registry {
    /// Adds or replaces a Consumer.
    pub fn put(&self, registration: Registration) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(registration.uid.clone(), Arc::new(registration));
        self.changed.send_modify(|n| *n += 1);
    }

    /// Takes a Consumer out.
    pub fn remove(&self, uid: &str) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        self.pens.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        if all.remove(uid).is_some() {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Whether a Consumer still reads from that broker.
    pub fn reads_from(&self, uid: &str, broker: &BrokerKey) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(uid).is_some_and(|registration| registration.broker == *broker)
    }

    /// The pen of a Consumer, whichever collector asks for it.
    pub fn pen(&self, registration: &Registration) -> Arc<Pen> {
        let mut pens = self.pens.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Pen::new(registration.consumer.status.clone()));
        pens.entry(registration.uid.clone()).or_insert_with(new).clone()
    }

    /// Whether a Consumer misses something, so that news may help it.
    pub fn misses(&self, uid: &str) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(uid).is_none_or(|registration| registration.front != Front::Good)
    }

    /// The Consumers of each broker.
    pub fn by_broker(&self) -> BTreeMap<BrokerKey, Vec<Arc<Registration>>> {
        let mut by_broker: BTreeMap<BrokerKey, Vec<_>> = BTreeMap::new();
        for registration in self.all.lock().unwrap_or_else(PoisonError::into_inner).values() {
            by_broker.entry(registration.broker.clone()).or_default().push(registration.clone());
        }
        by_broker
    }

    /// The Consumers of one broker.
    pub fn of(&self, broker: &BrokerKey) -> Vec<Arc<Registration>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|registration| registration.broker == *broker).cloned().collect()
    }

    /// Counts the changes.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(spec: &serde_json::Value) -> Consumer {
        Consumer::new("tasks", serde_json::from_value(spec.clone()).unwrap())
    }

    #[test]
    fn a_queues_consumer_has_settings_and_a_source() {
        let consumer = consumer(&json!({
            "scaleTargetRef": {"name": "worker"}, "scaling": {"maxReplicas": 6, "minReplicas": 0},
            "rabbitmq": {"brokerRef": {"name": "rabbitmq"}, "queue": "tasks"},
        }));
        let config = config(&consumer).unwrap();
        assert_eq!((config.max_replicas, config.min_replicas), (Some(6), 0));
        let registration = Registration::of(&Arc::new(consumer), Front::Good).unwrap();
        let queue = QueueName { vhost: "/".into(), name: "tasks".into() };
        assert_eq!(registration.source, Source::Rabbitmq(queue));
    }

    #[test]
    fn one_group_is_shared_whatever_the_topics_and_one_queue_only_in_its_virtual_host() {
        let group = |topic: &str| {
            Source::of(&consumer(
                &json!({"kafka": {"brokerRef": {"name": "kafka"}, "group": "g", "topics": [topic],
                "offsetReset": "latest"}}),
            ))
            .unwrap()
        };
        let queue = |vhost: &str| {
            Source::of(&consumer(
                &json!({"rabbitmq": {"brokerRef": {"name": "r"}, "vhost": vhost, "queue": "g"}}),
            ))
            .unwrap()
        };
        assert!(group("a").shares(&group("b")) && queue("x").shares(&queue("x")));
        assert!(!queue("x").shares(&queue("y")) && !queue("x").shares(&group("a")));
    }
}
