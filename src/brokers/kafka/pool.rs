//! One client per Broker and Secret version, for everybody who works on that cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::batch::{AdminBatcher, Observer};
use super::client::KafkaClient;
use super::error::KafkaError;
use super::settings::KafkaSettings;
use crate::runtime::lease::Fence;

/// Which Broker object a client belongs to: the object's uid, so that a re-created Broker is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerKey(pub String);

/// A client and the batcher on top of it.
pub struct KafkaHandle {
    /// For calls about many objects, and for offsets and groups.
    pub client: KafkaClient,
    /// For calls about one topic.
    pub batcher: AdminBatcher,
}

/// The clients in use.
///
/// A client is replaced when its Broker's settings change in any way, a changed password included. Whoever
/// holds the old one may finish; it winds down when the last holder lets go. Settings are remembered as a digest
/// only.
pub struct KafkaPool {
    timeout: Duration,
    fence: Fence,
    entries: Mutex<HashMap<BrokerKey, Entry>>,
}

struct Entry {
    fingerprint: [u8; 32],
    handle: Arc<KafkaHandle>,
}

impl KafkaPool {
    /// An empty pool; `timeout` bounds each request of the batchers, and `fence` is asked before each that changes
    /// anything.
    #[must_use]
    pub fn new(timeout: Duration, fence: Fence) -> Self {
        Self { timeout, fence, entries: Mutex::new(HashMap::new()) }
    }

    /// The client for a Broker with these settings, made if there is none. Does not wait for the cluster.
    ///
    /// # Errors
    /// Settings that librdkafka refuses. A client with earlier settings is gone from the pool then, too.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn get(&self, key: &BrokerKey, settings: &KafkaSettings) -> Result<Arc<KafkaHandle>, KafkaError> {
        self.get_observed(key, settings, Observer::none)
    }

    /// As [`KafkaPool::get`]; a client that is made has its batched requests told to `observer`.
    ///
    /// # Errors
    /// As [`KafkaPool::get`].
    ///
    /// # Panics
    /// As [`KafkaPool::get`].
    pub fn get_observed(
        &self,
        key: &BrokerKey,
        settings: &KafkaSettings,
        observer: impl FnOnce() -> Observer,
    ) -> Result<Arc<KafkaHandle>, KafkaError> {
        let fingerprint = settings.fingerprint();
        let mut entries = self.entries();
        let before = entries.get(key).filter(|entry| entry.fingerprint == fingerprint);
        if let Some(entry) = before.filter(|entry| !entry.handle.client.is_lost()) {
            return Ok(Arc::clone(&entry.handle));
        }
        let client = match before {
            Some(entry) => {
                tracing::info!(
                    "calls to a coordinator of groups wait, or go to the wrong broker: a new client takes over"
                );
                entry.handle.client.instead_of(settings)
            }
            None => KafkaClient::connect(settings),
        };
        entries.remove(key);
        let client = client?;
        let batcher = AdminBatcher::observed(&client, self.timeout, &self.fence, &observer());
        let handle = Arc::new(KafkaHandle { client, batcher });
        entries.insert(key.clone(), Entry { fingerprint, handle: Arc::clone(&handle) });
        Ok(handle)
    }

    /// Forgets the client of a Broker that is gone.
    pub fn remove(&self, key: &BrokerKey) {
        self.entries().remove(key);
    }

    /// Clients in the pool.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<BrokerKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Lane;
    use super::super::settings::{SaslMechanism, SaslSettings};
    use super::*;
    use crate::brokers::settings::{Secret, TlsSettings};

    fn settings(password: &str) -> KafkaSettings {
        let sasl = SaslSettings {
            mechanism: SaslMechanism::ScramSha512,
            username: "alice".into(),
            password: Secret::new(password),
        };
        let unused = KafkaSettings::plaintext(vec!["127.0.0.1:1".into()], "test");
        KafkaSettings { sasl: Some(sasl), ..unused }
    }

    #[tokio::test]
    async fn a_broker_has_one_client_until_its_settings_change_or_it_goes() {
        let pool = KafkaPool::new(Duration::from_secs(1), Fence::open());
        let (a, b) = (BrokerKey("a".into()), BrokerKey("b".into()));
        let first = pool.get(&a, &settings("one")).expect("valid");
        assert!(Arc::ptr_eq(&first, &pool.get(&a, &settings("one")).expect("valid")));
        assert!(!Arc::ptr_eq(&first, &pool.get(&b, &settings("one")).expect("valid")));
        let second = pool.get(&a, &settings("two")).expect("valid");
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(pool.len(), 2);
        pool.remove(&a);
        pool.remove(&b);
        assert!(pool.is_empty());
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[tokio::test]
    async fn settings_that_librdkafka_refuses_are_an_error_and_not_a_client() {
        let pool = KafkaPool::new(Duration::from_secs(1), Fence::open());
        let key = BrokerKey("a".into());
        let tls = TlsSettings { ca_pem: Some("no PEM".into()), ..Default::default() };
        let broken = KafkaSettings { tls: Some(tls), ..settings("one") };
        let error = pool.get(&key, &broken).err().expect("the certificate is not one");
        assert!(error.to_string().starts_with("failed to set up the Kafka client: "), "{error}");
        assert!(pool.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_changed_once_the_fence_is_closed_whatever_waits() {
        let pool = KafkaPool::new(Duration::from_secs(1), Fence::until(std::time::Instant::now()));
        let handle = pool.get(&BrokerKey("a".into()), &settings("one")).expect("valid");
        let deleted = handle.batcher.delete_topic("orders".into(), Lane::User).await.expect_err("fenced");
        assert!(deleted.to_string().ends_with("no longer holds the leader Lease"), "{deleted}");
        let seen =
            handle.batcher.describe_topic("orders".into(), Lane::User).await.expect_err("nobody there");
        assert!(!seen.to_string().contains("Lease"), "{seen}");
    }
}
