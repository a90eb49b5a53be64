//! The Secrets that Brokers name, each by a watch of its own.
//!
//! One watch for each Secret, by name, so that RBAC can grant exactly those (`get`, `list` and
//! `watch` with `resourceNames`), and a rotated password is used at once. A Secret that nobody
//! names any more is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::context::BrokerKey;
use super::failure::Failure;
use crate::api::conditions::Reason;
use crate::causes::of_watch;
use crate::runtime::complaint::Complaint;
use crate::topology::Rejection;

/// How long a first answer about a Secret may take.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// Keys whose values are no secret: a user name in an error message helps.
const PUBLIC_KEYS: [&str; 3] = ["username", "ca.crt", "tls.crt"];

/// The data of one Secret.
pub type SecretData = Arc<BTreeMap<String, Vec<u8>>>;

#[derive(Clone, Debug, PartialEq)]
enum State {
    Loading,
    /// With what it last held, if it was ever there.
    Missing(Option<SecretData>),
    Unreadable(String),
    Present(SecretData),
}

impl State {
    /// What it holds, or last held.
    const fn last(&self) -> Option<&SecretData> {
        match self {
            Self::Present(data) | Self::Missing(Some(data)) => Some(data),
            Self::Missing(None) | Self::Loading | Self::Unreadable(_) => None,
        }
    }
}

/// The Secrets of one Broker.
pub struct Material {
    namespace: String,
    data: BTreeMap<String, SecretData>,
}

impl Material {
    /// The text under `key` of a Secret, with a clear word where it is not there.
    pub fn text(&self, name: &str, key: &str) -> Result<String, Rejection> {
        let namespace = &self.namespace;
        let data = self.data.get(name).ok_or_else(|| {
            let message = format!("Secret {namespace}/{name} does not exist");
            Rejection::new(Reason::SecretNotFound, message)
        })?;
        let invalid = |message| Rejection::new(Reason::SecretInvalid, message);
        let bytes =
            data.get(key).ok_or_else(|| invalid(format!("Secret {namespace}/{name} has no key {key:?}")))?;
        String::from_utf8(bytes.clone())
            .map_err(|_| invalid(format!("key {key:?} of Secret {namespace}/{name} is not text")))
    }
}

struct Watched {
    users: BTreeSet<BrokerKey>,
    state: watch::Receiver<State>,
    _task: AbortOnDropHandle<()>,
}

/// All Secrets that are in use.
pub struct Secrets {
    client: Client,
    watched: Mutex<HashMap<(String, String), Watched>>,
    wake: Box<dyn Fn(&BrokerKey) + Send + Sync>,
}

impl Secrets {
    /// Nothing watched yet; `wake` is told which Broker's Secret changed.
    pub fn new(client: Client, wake: impl Fn(&BrokerKey) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { client, watched: Mutex::default(), wake: Box::new(wake) })
    }

    /// Says which Secrets of its own namespace a Broker names now. An empty set lets all go.
    pub fn require(self: &Arc<Self>, user: &BrokerKey, names: &BTreeSet<String>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|(namespace, name), entry| {
            if !(namespace == &user.namespace && names.contains(name)) {
                entry.users.remove(user);
            }
            !entry.users.is_empty()
        });
        for name in names {
            watched
                .entry((user.namespace.clone(), name.clone()))
                .or_insert_with(|| self.start(&user.namespace, name))
                .users
                .insert(user.clone());
        }
    }

    fn start(self: &Arc<Self>, namespace: &str, name: &str) -> Watched {
        let (sender, state) = watch::channel(State::Loading);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let this = Arc::downgrade(self);
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watch_object(api, &name).default_backoff());
            let mut complaint = Complaint::default();
            while let Some(event) = events.next().await {
                if event.is_ok() && complaint.is_over() {
                    tracing::info!(namespace, secret = name, "watching the Secret again");
                }
                let next = match event {
                    Ok(Some(secret)) => State::Present(Arc::new(
                        secret
                            .data
                            .unwrap_or_default()
                            .into_iter()
                            .map(|(key, value)| (key, value.0))
                            .collect(),
                    )),
                    Ok(None) => State::Missing(sender.borrow().last().cloned()),
                    Err(error) => {
                        let error = of_watch(&error);
                        if complaint.is_due(&error, Instant::now()) {
                            tracing::warn!(
                                namespace,
                                secret = name,
                                error,
                                "failed to watch Secret; trying again"
                            );
                        }
                        // What was read before stays good: a restart of the API server changes no password.
                        if sender.borrow().last().is_some() {
                            continue;
                        }
                        State::Unreadable(error)
                    }
                };
                let changed = sender.send_if_modified(|state| {
                    let changed = *state != next;
                    *state = next;
                    changed
                });
                let Some(this) = this.upgrade() else { return };
                if changed {
                    let users = {
                        let watched = this.watched.lock().unwrap_or_else(PoisonError::into_inner);
                        watched
                            .get(&(namespace.clone(), name.clone()))
                            .map(|entry| entry.users.clone())
                            .unwrap_or_default()
                    };
                    for user in &users {
                        (this.wake)(user);
                    }
                }
            }
        });
        Watched { users: BTreeSet::new(), state, _task: AbortOnDropHandle::new(task) }
    }

    /// These Secrets of a namespace; waits for the first answer about each.
    pub async fn read(&self, namespace: &str, names: &BTreeSet<String>) -> Result<Material, Failure> {
        let mut data = BTreeMap::new();
        for name in names {
            data.insert(name.clone(), self.get(namespace, name).await?);
        }
        Ok(Material { namespace: namespace.to_owned(), data })
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<SecretData, Failure> {
        let state = {
            let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.get(&(namespace.to_owned(), name.to_owned())).map(|entry| entry.state.clone())
        };
        let Some(mut state) = state else {
            return Err(Failure::waiting(
                Reason::SecretNotFound,
                format!("Secret {namespace}/{name} is not watched yet"),
            ));
        };
        let answer =
            tokio::time::timeout(FIRST_ANSWER, state.wait_for(|state| *state != State::Loading)).await;
        let state = match answer {
            Ok(Ok(state)) => state.clone(),
            _ => State::Unreadable("the API server did not answer in time".into()),
        };
        match state {
            State::Present(data) => Ok(data),
            State::Missing(_) | State::Loading => Err(Failure::waiting(
                Reason::SecretNotFound,
                format!("Secret {namespace}/{name} does not exist"),
            )),
            State::Unreadable(words) => Err(Failure::waiting(
                Reason::SecretInvalid,
                format!("failed to read Secret {namespace}/{name}: {words}"),
            )),
        }
    }

    /// `text` without any value of the Secrets that this Broker names. Those of others are not in its
    /// words, and who writes a text could try guesses at them.
    pub fn redact(&self, broker: &BrokerKey, text: &str) -> String {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let named = watched.values().filter(|entry| entry.users.contains(broker));
        let data = named.filter_map(|entry| entry.state.borrow().last().cloned());
        without(text, &data.collect::<Vec<_>>())
    }

    /// What a failure of an object on this Broker says, redacted where the words came from outside.
    pub fn words(&self, broker: &BrokerKey, failure: &Failure) -> String {
        failure.words(|outside| self.redact(broker, outside))
    }
}

/// `text` without any value of these Secrets. Values under four bytes are too short to tell from
/// ordinary text.
fn without(text: &str, secrets: &[SecretData]) -> String {
    let values = secrets.iter().flat_map(|data| data.iter());
    let values = values.filter(|(key, _)| !PUBLIC_KEYS.contains(&key.as_str()));
    let texts = values.filter_map(|(_, value)| std::str::from_utf8(value).ok());
    let mut hidden: Vec<&str> = texts.map(str::trim).filter(|text| text.len() >= 4).collect();
    // The longest first: one secret may be part of another.
    hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
    hidden.iter().fold(text.to_owned(), |text, value| text.replace(value, "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_values_of_a_secret_are_hidden_the_longest_first_and_user_names_are_not() {
        let data = [("username", "alice"), ("password", "hunter22\n"), ("old", "hunter"), ("pin", "123")];
        let data = data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        let said = without("alice: hunter22 and hunter are wrong, 123", &[Arc::new(data.into())]);
        assert_eq!(said, "alice: *** and *** are wrong, 123");
    }
}
