//! The connections to brokers, as the Broker controller keeps them and all others use them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;

use super::context::BrokerKey;
use super::failure::Failure;
use super::rabbitmq::PolicyCache;
use super::sweep::Looked;
use crate::api::BrokerSpec;
use crate::api::conditions::Reason;
use crate::brokers::kafka::{KafkaError, KafkaHandle};
use crate::brokers::rabbitmq::{RabbitError, RabbitHandle};
use crate::brokers::slot::Slot;
use crate::topology::Rejection;

/// The clients of one broker.
#[derive(Clone)]
pub enum Endpoint {
    /// Kafka's.
    Kafka(Arc<KafkaHandle>),
    /// RabbitMQ's.
    Rabbitmq(Arc<RabbitHandle>),
}

impl Endpoint {
    /// Whether both are the same clients, and not only alike.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kafka(a), Self::Kafka(b)) => Arc::ptr_eq(a, b),
            (Self::Rabbitmq(a), Self::Rabbitmq(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Why a cluster did not say who it is.
#[derive(Clone)]
pub enum Unanswered {
    /// Kafka.
    Kafka(KafkaError),
    /// RabbitMQ.
    Rabbitmq(RabbitError),
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Kafka(error) => error.into(),
            Unanswered::Rabbitmq(error) => error.into(),
        }
    }
}

/// A broker that answers.
pub struct Link {
    /// The Broker's namespace and name.
    pub key: BrokerKey,
    /// The Broker's UID.
    pub uid: String,
    /// Since when the Broker has been on its cluster.
    pub since: Timestamp,
    /// The Broker's spec, as it was when the link was made.
    pub spec: BrokerSpec,
    /// The cluster's id.
    pub cluster_id: String,
    /// Whether the Broker is paused.
    pub paused: bool,
    /// The cluster's id, as it was last told.
    pub verified: Slot<String, Unanswered>,
    /// RabbitMQ's policies, as last seen.
    pub policies: PolicyCache,
    /// Kafka's topics, as the sweep of this link saw them.
    pub looked: Looked,
    /// The clients.
    pub endpoint: Endpoint,
}

impl Link {
    /// Kafka's clients; an error where the Broker is RabbitMQ's.
    pub fn kafka(&self) -> Result<&Arc<KafkaHandle>, Rejection> {
        match &self.endpoint {
            Endpoint::Kafka(kafka) => Ok(kafka),
            Endpoint::Rabbitmq(_) => Err(self.wrong("RabbitMQ", "Kafka")),
        }
    }

    /// RabbitMQ's clients; an error where the Broker is Kafka's.
    pub fn rabbitmq(&self) -> Result<&Arc<RabbitHandle>, Rejection> {
        match &self.endpoint {
            Endpoint::Rabbitmq(rabbit) => Ok(rabbit),
            Endpoint::Kafka(_) => Err(self.wrong("Kafka", "RabbitMQ")),
        }
    }

    fn wrong(&self, is: &str, needed: &str) -> Rejection {
        Rejection::new(
            Reason::RefInvalid,
            format!("Broker {} is a {is} cluster, and this object lives on {needed}", self.key),
        )
    }
}

/// What is known of a Broker.
#[derive(Clone)]
pub enum LinkState {
    /// It answers.
    Up(Arc<Link>),
    /// It cannot be used, and why.
    Down {
        /// The reason, as on the Broker's own condition.
        reason: Reason,
        /// The words, as on the Broker's own condition.
        message: String,
        /// The cluster that it was last known to be.
        cluster_id: Option<String>,
        /// The way to it from before, where nothing speaks against it but that it does not answer now, or that its
        /// Secrets are gone.
        last: Option<Arc<Link>>,
    },
}

/// All connections.
#[derive(Default)]
pub struct Links(RwLock<HashMap<BrokerKey, LinkState>>);

impl Links {
    /// The link of a Broker. The first look at a Broker may still be under way.
    pub fn get(&self, key: &BrokerKey) -> Result<Arc<Link>, Failure> {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            Some(LinkState::Up(link)) => Ok(link.clone()),
            Some(LinkState::Down { reason, message, .. }) => {
                Err(Failure::waiting(*reason, format!("Broker {key}: {message}")))
            }
            None => Err(Failure::waiting(Reason::Progressing, format!("Broker {key} is being connected to"))),
        }
    }

    /// The link for those who only read figures, and notice themselves what is not answered: also while the Broker does
    /// not answer who it is. `RabbitMQ`'s management interface may be away while its queues are well, and Kafka's controller
    /// while its partitions are.
    pub fn observable(&self, key: &BrokerKey) -> Result<Arc<Link>, Failure> {
        let last = match self.0.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            Some(LinkState::Down { reason: Reason::BrokerUnreachable, last, .. }) => last.clone(),
            _ => None,
        };
        last.map_or_else(|| self.get(key), Ok)
    }

    /// The way to a Broker as it is, or was before. Whoever uses it says what for.
    pub fn last(&self, key: &BrokerKey) -> Option<Arc<Link>> {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).get(key)? {
            LinkState::Up(link) => Some(link.clone()),
            LinkState::Down { last, .. } => last.clone(),
        }
    }

    /// Whether the first look at a Broker is still under way: its end wakes all that live on it.
    pub fn first_look_is_under_way(&self, key: &BrokerKey) -> bool {
        !self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// The cluster that a Broker is, or was when it last answered.
    pub fn cluster_id(&self, key: &BrokerKey) -> Option<String> {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            Some(LinkState::Up(link)) => Some(link.cluster_id.clone()),
            Some(LinkState::Down { cluster_id, .. }) => cluster_id.clone(),
            None => None,
        }
    }

    /// Since when a Broker that answers has been on its cluster.
    pub fn since(&self, key: &BrokerKey) -> Option<Timestamp> {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            Some(LinkState::Up(link)) => Some(link.since),
            _ => None,
        }
    }

    /// Whether an older Broker of the same cluster keeps this one from it.
    pub fn is_claimed(&self, key: &BrokerKey) -> bool {
        matches!(
            self.0.read().unwrap_or_else(PoisonError::into_inner).get(key),
            Some(LinkState::Down { reason: Reason::ClusterClaimed, .. })
        )
    }

    /// Records what a Broker is now. Returns whether its dependents have to look again.
    pub fn set(&self, key: &BrokerKey, state: LinkState) -> bool {
        let mut links = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = match (links.get(key), &state) {
            (Some(LinkState::Up(old)), LinkState::Up(new)) => {
                old.spec != new.spec
                    || old.cluster_id != new.cluster_id
                    || old.paused != new.paused
                    || !old.endpoint.is(&new.endpoint)
            }
            (
                Some(LinkState::Down { reason: a, message: b, .. }),
                LinkState::Down { reason: c, message: d, .. },
            ) => a != c || b != d,
            _ => true,
        };
        links.insert(key.clone(), state);
        changed
    }

    /// Forgets a Broker.
    pub fn remove(&self, key: &BrokerKey) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
