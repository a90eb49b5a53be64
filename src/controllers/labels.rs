//! Labels of namespaces, where the operator watches some namespaces only: there is no watch on
//! namespaces then, and it may but get one at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _};

/// How old labels may be.
const AGE: Duration = Duration::from_secs(15);
/// How long the API server may take for all of them; what is not told by then stays as it was.
const WITHIN: Duration = Duration::from_secs(5);

/// The labels of the namespaces that the operator watches: nothing in any other can claim anything.
pub struct Labels {
    watched: Vec<String>,
    known: Mutex<HashMap<String, BTreeMap<String, String>>>,
    learned: tokio::sync::Mutex<Option<Instant>>,
}

impl Labels {
    /// Of these namespaces; none: the operator watches them all, and has a cache.
    #[must_use]
    pub fn of(watched: Vec<String>) -> Self {
        Self { watched, known: Mutex::default(), learned: tokio::sync::Mutex::default() }
    }

    /// The labels of a namespace, as last read; none: not known.
    #[must_use]
    pub fn get(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(namespace).cloned()
    }

    /// Reads all of them, unless they were read lately. Those that cannot be read stay as they were.
    pub async fn learn(&self, client: &Client) {
        if self.watched.is_empty() {
            return;
        }
        let mut learned = self.learned.lock().await;
        if learned.is_some_and(|at| at.elapsed() < AGE) {
            return;
        }
        let api: Api<Namespace> = Api::all(client.clone());
        let read = async {
            for namespace in &self.watched {
                let found = api.get_metadata_opt(namespace).await;
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                match found {
                    Ok(Some(found)) => {
                        known.insert(namespace.clone(), found.labels().clone());
                    }
                    Ok(None) => {
                        known.remove(namespace);
                    }
                    Err(error) => tracing::debug!(namespace, %error, "its labels could not be read"),
                }
            }
        };
        let _told_in_time = tokio::time::timeout(WITHIN, read).await;
        *learned = Some(Instant::now());
    }
}
