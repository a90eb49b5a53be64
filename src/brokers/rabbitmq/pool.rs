//! One client per Broker and Secret version, for everybody who works on that cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::amqp::AmqpProbe;
use super::client::RabbitClient;
use super::error::RabbitError;
use super::observer::Observer;
use super::settings::RabbitSettings;
use crate::brokers::kafka::BrokerKey;
use crate::runtime::lease::Fence;

/// A client and what stands on top of it.
pub struct RabbitHandle {
    /// For changes, and for single reads.
    pub client: RabbitClient,
    /// For looks at objects, by many at once.
    pub observer: Observer,
    /// For the depth of queues; `None` when the settings have no AMQP address.
    pub amqp: Option<AmqpProbe>,
}

/// The clients in use.
///
/// A client is replaced when its Broker's settings change in any way, a changed password included. Whoever
/// holds the old one may finish. Settings are remembered as a digest only.
pub struct RabbitPool {
    fence: Fence,
    entries: Mutex<HashMap<BrokerKey, Entry>>,
}

struct Entry {
    fingerprint: [u8; 32],
    handle: Arc<RabbitHandle>,
}

impl Default for RabbitPool {
    fn default() -> Self {
        Self::new(Fence::open())
    }
}

impl RabbitPool {
    /// An empty pool, whose clients ask `fence` before each request that changes anything.
    #[must_use]
    pub fn new(fence: Fence) -> Self {
        Self { fence, entries: Mutex::default() }
    }

    /// The client for a Broker with these settings, made if there is none. Does not wait for the cluster.
    ///
    /// # Errors
    /// Settings that cannot be used. A client with earlier settings is gone from the pool then, too.
    pub fn get(&self, key: &BrokerKey, settings: &RabbitSettings) -> Result<Arc<RabbitHandle>, RabbitError> {
        let fingerprint = settings.fingerprint();
        let mut entries = self.entries();
        if let Some(entry) = entries.get(key).filter(|entry| entry.fingerprint == fingerprint) {
            return Ok(Arc::clone(&entry.handle));
        }
        entries.remove(key);
        let client = RabbitClient::fenced(settings, self.fence.clone())?;
        let observer = Observer::new(&client);
        let amqp = AmqpProbe::connect(settings)?;
        let handle = Arc::new(RabbitHandle { client, observer, amqp });
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
    use super::*;
    use crate::brokers::settings::{Secret, TlsSettings};

    fn settings(password: &str) -> RabbitSettings {
        RabbitSettings {
            management_url: "http://127.0.0.1:1".into(),
            amqp_url: None,
            username: "alice".into(),
            password: Secret::new(password),
            tls: None,
        }
    }

    #[tokio::test]
    async fn a_broker_has_one_client_until_its_settings_change_or_it_goes() {
        let pool = RabbitPool::new(Fence::open());
        let (a, b) = (BrokerKey("a".into()), BrokerKey("b".into()));
        let first = pool.get(&a, &settings("one")).expect("valid");
        assert!(first.amqp.is_none());
        assert!(Arc::ptr_eq(&first, &pool.get(&a, &settings("one")).expect("valid")));
        assert!(!Arc::ptr_eq(&first, &pool.get(&b, &settings("one")).expect("valid")));
        assert!(!Arc::ptr_eq(&first, &pool.get(&a, &settings("two")).expect("valid")));
        assert_eq!(pool.len(), 2);
        pool.remove(&a);
        pool.remove(&b);
        assert!(pool.is_empty());
        assert_eq!(Arc::strong_count(&first), 1);
    }

    #[tokio::test]
    async fn settings_that_cannot_be_used_are_an_error_and_not_a_client() {
        let pool = RabbitPool::new(Fence::open());
        let key = BrokerKey("a".into());
        let tls = TlsSettings { ca_pem: Some("no PEM".into()), ..TlsSettings::default() };
        let https = RabbitSettings { management_url: "https://127.0.0.1:1".into(), ..settings("one") };
        let cases = [
            (RabbitSettings { tls: Some(tls), ..https.clone() }, "holds no certificate"),
            (RabbitSettings { management_url: "127.0.0.1:15672".into(), ..https.clone() }, "management URL"),
            (
                RabbitSettings { management_url: "http://a:hunter2@host".into(), ..https.clone() },
                "credentials",
            ),
            (RabbitSettings { amqp_url: Some("http://host".into()), ..https }, "AMQP URL"),
        ];
        for (settings, expected) in cases {
            let error = pool.get(&key, &settings).err().expect("it cannot be used").to_string();
            assert!(error.starts_with("failed to set up the RabbitMQ client: "), "{error}");
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
            assert!(pool.is_empty());
        }
    }

    #[tokio::test]
    async fn nothing_is_changed_once_the_fence_is_closed_whatever_waits() {
        let pool = RabbitPool::new(Fence::until(std::time::Instant::now()));
        let handle = pool.get(&BrokerKey("a".into()), &settings("one")).expect("valid");
        let deleted = handle.client.delete_queue("/", "orders", false, false).await.expect_err("fenced");
        assert!(deleted.to_string().ends_with("no longer holds the leader Lease"), "{deleted}");
        let seen = handle.client.overview().await.expect_err("nobody there");
        assert!(!seen.to_string().contains("Lease"), "{seen}");
    }
}
