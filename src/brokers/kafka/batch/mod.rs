//! One object per call, many objects per request.
//!
//! Kafka creates topics about a hundred times faster in one request than one by one, but reconcilers work on one
//! object each. [`AdminBatcher`] puts their calls together:
//!
//! ```text
//! callers ──▶ lanes (user before resync, FIFO, pure) ──▶ worker, one per kind of call ──▶ client
//!    ▲                                                      │
//!    └──────────────── outcome of the own object ◀──────────┘
//! ```
//!
//! # Guarantees
//! - An idle batcher sends at once. While a request is under way, and as long as many call, calls gather for 100 ms (300 ms
//!   where many come), or until a request is full.
//! - Requests are bounded: in objects, in weight (the controller refuses requests of more than 10,000
//!   records), and in how many are under way.
//! - Changes of one topic by calls of one kind happen in the order of the calls; a topic is never in two
//!   requests of one kind at a time, nor twice in one.
//! - A read is sent after it was asked for: nobody is given an answer that was on its way before.
//! - Calls in [`Lane::User`] go first; [`Lane::Resync`] keeps a tenth of each request and cannot starve.
//! - An object gets its own outcome. When a request fails as a whole, each object in it gets that error.
//!
//! Giving up on a call withdraws it if it was not sent yet.

mod kinds;
mod lanes;
mod worker;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kinds::{Alter, Create, Delete, Describe, Grow, Locate};
use worker::Worker;

use super::client::KafkaClient;
use super::error::KafkaError;
use super::types::{NewTopic, TopicConfigChange};
use crate::brokers::lane::Lane;
use crate::runtime::lease::Fence;

/// Hears of every request that a batcher sends: what it is called, how it ended (`ok`, `unreachable`, `error`), and
/// how long it took.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&'static str, &'static str, Duration) + Send + Sync>);

impl Observer {
    /// Calls `tell` for each request.
    pub fn new(tell: impl Fn(&'static str, &'static str, Duration) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Nobody listens.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_, _, _| ())
    }

    /// Waits for a request, and tells how it ended.
    async fn hear<T>(
        &self,
        operation: &'static str,
        request: impl Future<Output = Result<T, KafkaError>>,
    ) -> Result<T, KafkaError> {
        let asked = Instant::now();
        let answer = request.await;
        let result = match &answer {
            Ok(_) => "ok",
            Err(error) if error.is_unreachable() => "unreachable",
            Err(_) => "error",
        };
        (self.0)(operation, result, asked.elapsed());
        answer
    }
}

/// A topic as it is, read in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedTopic {
    /// Topic name.
    pub name: String,
    /// Topic id in base64. A re-created topic has a new one.
    pub topic_id: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of the partition that has fewest.
    pub replication_factor: i16,
    /// Configuration set on the topic itself; what it inherits from the broker is not in here.
    pub config: BTreeMap<String, String>,
}

/// What tells whether a topic is the one that is meant, and as large: cheaper to ask for than all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicShape {
    /// Topic id in base64. A re-created topic has a new one.
    pub topic_id: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of the partition that has fewest.
    pub replication_factor: i16,
}

/// Puts single calls together into requests. Clones share the queues.
#[derive(Clone)]
pub struct AdminBatcher {
    create: Worker<Create<false>>,
    ask_create: Worker<Create<true>>,
    grow: Worker<Grow>,
    alter: Worker<Alter<false>>,
    ask_alter: Worker<Alter<true>>,
    delete: Worker<Delete>,
    describe: Worker<Describe>,
    locate: Worker<Locate>,
}

impl AdminBatcher {
    /// Starts a batcher on a client; `timeout` bounds each request, not the wait in the queue before it.
    ///
    /// # Panics
    /// Outside of a Tokio runtime, where its workers could not live.
    #[must_use]
    pub fn new(client: &KafkaClient, timeout: Duration) -> Self {
        Self::observed(client, timeout, &Fence::open(), &Observer::none())
    }

    /// Starts a batcher whose requests `observer` hears of, and which sends no change once `fence` is closed.
    ///
    /// # Panics
    /// As [`AdminBatcher::new`].
    #[must_use]
    pub fn observed(client: &KafkaClient, timeout: Duration, fence: &Fence, observer: &Observer) -> Self {
        Self {
            create: Worker::start(client, timeout, fence, observer),
            ask_create: Worker::start(client, timeout, fence, observer),
            grow: Worker::start(client, timeout, fence, observer),
            alter: Worker::start(client, timeout, fence, observer),
            ask_alter: Worker::start(client, timeout, fence, observer),
            delete: Worker::start(client, timeout, fence, observer),
            describe: Worker::start(client, timeout, fence, observer),
            locate: Worker::start(client, timeout, fence, observer),
        }
    }

    /// Creates a topic.
    pub async fn create_topic(&self, topic: NewTopic, lane: Lane) -> Result<(), KafkaError> {
        self.create.call(topic, lane).await
    }

    /// Asks whether the broker would create a topic.
    pub async fn rehearse_creation(&self, topic: NewTopic, lane: Lane) -> Result<(), KafkaError> {
        self.ask_create.call(topic, lane).await
    }

    /// Grows a topic to `total` partitions.
    pub async fn create_partitions(&self, topic: String, total: i32, lane: Lane) -> Result<(), KafkaError> {
        self.grow.call((topic, total), lane).await
    }

    /// Changes single configuration keys of a topic; keys not named keep their values.
    pub async fn alter_configs(&self, change: TopicConfigChange, lane: Lane) -> Result<(), KafkaError> {
        self.alter.call(change, lane).await
    }

    /// Asks whether the broker would change these configuration keys.
    pub async fn rehearse_configs(&self, change: TopicConfigChange, lane: Lane) -> Result<(), KafkaError> {
        self.ask_alter.call(change, lane).await
    }

    /// Deletes a topic with all its records.
    pub async fn delete_topic(&self, name: String, lane: Lane) -> Result<(), KafkaError> {
        self.delete.call(name, lane).await
    }

    /// Reads a topic; `None` when the broker says that it does not know it.
    ///
    /// For a moment after its creation a broker may not know a topic yet: one `None` proves nothing.
    pub async fn describe_topic(
        &self,
        name: String,
        lane: Lane,
    ) -> Result<Option<ObservedTopic>, KafkaError> {
        self.describe.call(name, lane).await
    }

    /// Reads all of a topic but its configuration, which is most of an answer; `None` as for
    /// [`AdminBatcher::describe_topic`].
    pub async fn locate_topic(&self, name: String, lane: Lane) -> Result<Option<TopicShape>, KafkaError> {
        self.locate.call(name, lane).await
    }
}
