//! The connections to brokers, as the Broker controller keeps them and all others use them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use jiff::Timestamp;

use super::context::BrokerKey;
use super::failure::Failure;
use crate::api::BrokerSpec;
use crate::api::conditions::Reason;
use crate::brokers::kafka::KafkaHandle;

/// A broker that answers.
pub struct Link {
    /// The Broker's namespace and name.
    pub key: BrokerKey,
    /// The Broker's UID.
    pub uid: String,
    /// When the Broker was created.
    pub created: Option<Timestamp>,
    /// The Broker's spec, as it was when the link was made.
    pub spec: BrokerSpec,
    /// The cluster's id.
    pub cluster_id: String,
    /// Whether the Broker is paused.
    pub paused: bool,
    /// When the cluster last said who it is.
    pub verified: tokio::sync::Mutex<Instant>,
    /// The clients.
    pub kafka: Arc<KafkaHandle>,
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

    /// The cluster that a Broker is, or was when it last answered.
    pub fn cluster_id(&self, key: &BrokerKey) -> Option<String> {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            Some(LinkState::Up(link)) => Some(link.cluster_id.clone()),
            Some(LinkState::Down { cluster_id, .. }) => cluster_id.clone(),
            None => None,
        }
    }

    /// Records what a Broker is now. Returns whether its dependents have to look again.
    pub fn set(&self, key: &BrokerKey, state: LinkState) -> bool {
        let mut links = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = match (links.get(key), &state) {
            (Some(LinkState::Up(old)), LinkState::Up(new)) => {
                old.spec != new.spec
                    || old.cluster_id != new.cluster_id
                    || old.paused != new.paused
                    || !Arc::ptr_eq(&old.kafka, &new.kafka)
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
