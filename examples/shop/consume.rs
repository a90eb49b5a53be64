//! The loop that every service of the shop shares on Kafka, and that keeps the contract.
//!
//! 1. One message at a time is taken from the group's partitions. One from a retry topic that is not due yet is
//!    held, its partition paused, and the others go on.
//! 2. The service handles it.
//! 3. The event that follows, or the retry or dead letter that a failure became, is published, and the broker's
//!    acknowledgement awaited.
//! 4. Only then is the offset stored. Stored offsets are committed each second, before partitions are given up,
//!    and at the end.
//!
//! # Guarantees
//!
//! - At least once: a crash at any point loses no message. One whose result was acknowledged but whose offset
//!   was not yet committed is handled again.
//! - A message that cannot be handled and has nowhere to go stops the process, uncommitted: the lag that grows
//!   is seen, a skipped message is not.
//! - A duplicate that meets the same process is done once, for as long as its id is among the last
//!   [`REMEMBERED`](crate::done::REMEMBERED) ones.
//!
//! # Caveats
//!
//! - That memory dies with the process and is not shared: after a restart or a rebalance a duplicate is handled
//!   again. To do work exactly once, make its effect idempotent by the event's id (as `services` does), or keep
//!   the ids beside the effect, in the same database transaction.
//! - Messages of one key keep their order, except one that took the way over a retry topic.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use rdkafka::{ClientContext, Message, TopicPartitionList};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::contract::{self, Failure, Next, Origin};
use crate::done::Done;
use crate::services::{self, Event, Service};
use crate::settings::{Connection, Subscription};

/// Why a service stopped.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// A setting was refused, or the subscription was.
    #[error("failed to start the consumer: {0}")]
    Start(#[source] KafkaError),
    /// The client cannot go on, say because it was fenced or may not read.
    #[error("failed to receive: {0}")]
    Receive(#[source] KafkaError),
    /// The broker did not acknowledge a record in time.
    #[error("failed to publish to {topic}: {source}")]
    Publish {
        /// Where the record was to go.
        topic: String,
        /// The broker's or the client's word.
        source: KafkaError,
    },
    /// The message failed for good and no dead-letter topic is declared.
    #[error("failed to handle {topic}/{partition}@{offset}, and no dead-letter topic is set: {failure}")]
    NoDeadLetter {
        /// The message's topic.
        topic: String,
        /// The message's partition.
        partition: i32,
        /// The message's offset.
        offset: i64,
        /// What the service said.
        failure: Failure,
    },
}

/// Runs `service` on what `subscription` names, until `stop` is cancelled: the message in hand is finished, the
/// offsets are committed and the group is left, so that another member takes over at once.
pub async fn run(
    connection: &Connection,
    subscription: &Subscription,
    service: impl Service,
    stop: CancellationToken,
) -> Result<(), ConsumeError> {
    let producer = connection.producer().create().map_err(ConsumeError::Start)?;
    let consumer: StreamConsumer<Group> = connection
        .consumer(subscription)
        .create_with_context(Group::default())
        .map_err(ConsumeError::Start)?;
    let topics: Vec<&str> = subscription
        .topics
        .iter()
        .map(String::as_str)
        .chain(subscription.retries().iter().map(|retry| retry.name.as_str()))
        .collect();
    consumer.subscribe(&topics).map_err(ConsumeError::Start)?;
    tracing::info!(group = subscription.group(), ?topics, "consuming");

    let mut worker = Worker { consumer, producer, subscription, service, done: Done::default() };
    let outcome = worker.serve(&stop).await;
    // Dropping the consumer would do the same, but could not say why it failed.
    commit(&worker.consumer, "stop");
    drop(worker);
    tracing::info!("left the group");
    outcome
}

struct Worker<'a, S> {
    consumer: StreamConsumer<Group>,
    producer: FutureProducer,
    subscription: &'a Subscription,
    service: S,
    done: Done,
}

impl<S: Service> Worker<'_, S> {
    /// The loop. Only waiting is interrupted by `stop`, never work.
    async fn serve(&mut self, stop: &CancellationToken) -> Result<(), ConsumeError> {
        loop {
            let held_until = self.consumer.context().earliest();
            let received = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = sleep_until(held_until) => None,
                received = self.consumer.recv() => Some(received.map(|message| message.detach())),
            };
            match received {
                None => {
                    for message in self.consumer.context().take_due(Instant::now()) {
                        self.process(&message).await?;
                        self.resume(&message);
                    }
                }
                Some(Ok(message)) => match self.due(&message) {
                    Some(due) => self.hold(due, message),
                    None => self.process(&message).await?,
                },
                Some(Err(error)) if is_fatal(&error) => return Err(ConsumeError::Receive(error)),
                // The client reconnects and retries by itself.
                Some(Err(error)) => tracing::warn!(%error, "receiving is disturbed"),
            }
        }
    }

    /// Steps 2 to 4 for one message.
    async fn process(&mut self, message: &OwnedMessage) -> Result<(), ConsumeError> {
        let origin = Origin::of(message);
        let correlation_id = contract::correlation_id(message);
        let attempt = contract::attempt(message);
        let identity = origin.identity(correlation_id);
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());

        if self.done.contains(&identity) {
            tracing::info!(topic, partition, offset, correlation_id, attempt, "skipped a duplicate");
            self.store(message);
            return Ok(());
        }
        let content = services::Message { source: topic, payload: message.payload().unwrap_or_default() };
        match self.service.handle(&content, attempt).await {
            Ok(event) => {
                if let Some(event) = event {
                    self.hand_on(&event, correlation_id).await?;
                }
                tracing::info!(topic, partition, offset, correlation_id, attempt, "handled");
                self.done.insert(identity);
            }
            Err(failure) => {
                let subscription = self.subscription;
                let next =
                    contract::next(&failure, attempt, subscription.retries(), subscription.dead_letter());
                let to = match next {
                    Next::Retry(retry) => retry.name.as_str(),
                    Next::DeadLetter(topic) => topic,
                    Next::Stay => {
                        let topic = topic.to_owned();
                        return Err(ConsumeError::NoDeadLetter { topic, partition, offset, failure });
                    }
                };
                let headers = contract::headers(message, attempt, &failure, Timestamp::now());
                self.publish(to, message.key(), message.payload(), Some(headers)).await?;
                let error = failure.to_string();
                tracing::warn!(topic, partition, offset, correlation_id, attempt, to, error, "failed");
                if matches!(next, Next::DeadLetter(_)) {
                    if let Some(event) = self.service.gave_up(&content, &failure) {
                        self.hand_on(&event, correlation_id).await?;
                    }
                    self.done.insert(identity);
                }
            }
        }
        self.store(message);
        Ok(())
    }

    /// Publishes what a service made of a message.
    async fn hand_on(&self, event: &Event, correlation_id: Option<&str>) -> Result<(), ConsumeError> {
        let headers = correlation_id
            .map(|id| OwnedHeaders::new().insert(Header { key: contract::CORRELATION_ID, value: Some(id) }));
        self.publish(&event.to, Some(event.key.as_bytes()), Some(&event.payload), headers).await
    }

    /// Publishes one record and awaits the acknowledgement.
    async fn publish(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
    ) -> Result<(), ConsumeError> {
        let record = FutureRecord { topic, partition: None, payload, key, timestamp: None, headers };
        match self.producer.send(record, Timeout::Never).await {
            Ok(_) => Ok(()),
            Err((source, _)) => Err(ConsumeError::Publish { topic: topic.to_owned(), source }),
        }
    }

    /// Marks the message as done: what is stored is committed within a second.
    fn store(&self, message: &OwnedMessage) {
        if let Err(error) = self.consumer.store_offset(message.topic(), message.partition(), message.offset())
        {
            // The partition went to another member meanwhile, which handles the message again.
            tracing::warn!(%error, topic = message.topic(), partition = message.partition(), "offset not stored");
        }
    }

    /// When a record of a retry topic may be tried again; `None` for right now.
    fn due(&self, message: &OwnedMessage) -> Option<Instant> {
        let retry = self.subscription.retries().iter().find(|retry| retry.name == message.topic())?;
        let published = message.timestamp().to_millis()?;
        let age = Timestamp::now().as_millisecond().saturating_sub(published);
        let left = retry.delay.saturating_sub(Duration::from_millis(u64::try_from(age).unwrap_or(0)));
        (!left.is_zero()).then(|| Instant::now() + left)
    }

    /// Keeps the record in memory until it is due. Its partition is paused, so at most one record of each is.
    fn hold(&self, due: Instant, message: OwnedMessage) {
        if let Err(error) = self.consumer.pause(&partition_of(&message)) {
            tracing::warn!(%error, topic = message.topic(), "failed to pause a retry partition");
        }
        self.consumer.context().hold(due, message);
    }

    fn resume(&self, message: &OwnedMessage) {
        if let Err(error) = self.consumer.resume(&partition_of(message)) {
            tracing::warn!(%error, topic = message.topic(), "failed to resume a retry partition");
        }
    }
}

/// What the group does to this member: callbacks run inside `recv`, so never while a message is in hand.
#[derive(Default)]
struct Group {
    held: Mutex<HashMap<(String, i32), (Instant, OwnedMessage)>>,
}

impl Group {
    fn held(&self) -> MutexGuard<'_, HashMap<(String, i32), (Instant, OwnedMessage)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, due: Instant, message: OwnedMessage) {
        self.held().insert((message.topic().to_owned(), message.partition()), (due, message));
    }

    fn earliest(&self) -> Option<Instant> {
        self.held().values().map(|(due, _)| *due).min()
    }

    fn take_due(&self, now: Instant) -> Vec<OwnedMessage> {
        self.held().extract_if(|_, (due, _)| *due <= now).map(|(_, (_, message))| message).collect()
    }
}

impl ClientContext for Group {}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(partitions) => {
                // Committed before they go: the next owner starts where this one stopped. What is held was not
                // stored, so the next owner reads and holds it again.
                commit(consumer, "rebalance");
                let gone = partitions.to_topic_map();
                self.held().retain(|place, _| !gone.contains_key(place));
                tracing::info!(partitions = gone.len(), "gave up partitions");
            }
            Rebalance::Assign(partitions) => {
                tracing::info!(partitions = partitions.count(), "got partitions");
            }
            Rebalance::Error(error) => tracing::warn!(%error, "the rebalance failed"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // A partition that was paused when it went is not to come back paused.
        if let Rebalance::Assign(partitions) = rebalance
            && let Err(error) = consumer.resume(partitions)
        {
            tracing::warn!(%error, "failed to resume partitions");
        }
    }
}

/// Commits what is stored, and waits for the broker's answer.
fn commit<C: Consumer<Group>>(consumer: &C, reason: &str) {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(error) => tracing::warn!(%error, reason, "failed to commit: some messages will be handled again"),
    }
}

fn is_fatal(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{Fatal, GroupAuthorizationFailed, TopicAuthorizationFailed};
    match error {
        KafkaError::MessageConsumptionFatal(_) => true,
        KafkaError::MessageConsumption(code) => {
            matches!(code, Fatal | GroupAuthorizationFailed | TopicAuthorizationFailed)
        }
        _ => false,
    }
}

fn partition_of(message: &OwnedMessage) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(message.topic(), message.partition());
    list
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_records_that_are_due_are_let_go() {
        let group = Group::default();
        let now = Instant::now();
        let record = |partition| {
            let stamp = rdkafka::Timestamp::NotAvailable;
            OwnedMessage::new(None, None, "p.retry.10s".to_owned(), stamp, partition, 0, None)
        };
        group.hold(now, record(0));
        group.hold(now + Duration::from_secs(5), record(1));
        let due: Vec<_> = group.take_due(now).iter().map(Message::partition).collect();
        assert_eq!(due, [0]);
        assert_eq!(group.earliest(), Some(now + Duration::from_secs(5)));
    }
}
