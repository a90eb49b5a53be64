//! The loop that every service of the shop shares on RabbitMQ, and that keeps the contract.
//!
//! 1. Messages come as many at a time as `--prefetch` says, and are handled one after the other.
//! 2. The service handles one.
//! 3. The event that follows, or the retry or dead letter that a failure became, is published, and the broker's
//!    confirm awaited.
//! 4. Only then is the message acknowledged.
//!
//! When the connection goes, a new one is made, for as long as it takes: what was not acknowledged comes again.
//!
//! # Guarantees
//!
//! - At least once: a crash at any point loses no message. One whose result was confirmed but which was not yet
//!   acknowledged is handled again.
//! - A message that cannot be handled and has nowhere to go stops the process and stays in the queue.
//! - A duplicate that meets the same process is done once, for as long as its id is among the last
//!   [`REMEMBERED`](crate::done::REMEMBERED) ones. Copies are told apart by `message_id`, else by `correlation_id`.
//!
//! # Caveats
//!
//! - As on Kafka, that memory is the process's own: make the effect idempotent, or keep the ids beside it.
//! - What was prefetched and not begun goes back when the process ends. A quorum queue counts that as a delivery, so
//!   its `deliveryLimit` should not be 1 or 2.

use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel};
use tokio_util::sync::CancellationToken;

use super::confirmed::{self, NotTaken};
use super::headers::{self, PERSISTENT};
use super::settings::{ConnectError, Connection};
use crate::contract::{self, Failure, Next};
use crate::done::Done;
use crate::services::{Event, Message, Service};
use crate::settings::Subscription;

/// The first wait before a new connection; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How long the broker has to take note that this process goes.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a service stopped.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// No use in trying again: a setting is wrong.
    #[error(transparent)]
    Settings(ConnectError),
    /// What the service made would have been lost.
    #[error("failed to publish to {to}: {why}")]
    Publish {
        /// The exchange and the key.
        to: String,
        /// Why it was not taken.
        why: NotTaken,
    },
    /// The message failed for good and no dead-letter queue is declared.
    #[error("failed to handle a message of {queue}, and no dead-letter queue is set: {failure}")]
    NoDeadLetter {
        /// The queue.
        queue: String,
        /// What the service said.
        failure: Failure,
    },
}

/// Why a connection ended.
enum Ended {
    /// The process goes as well.
    ForGood(ConsumeError),
    /// Another one may do better.
    Disturbed(String),
}

impl From<lapin::Error> for Ended {
    fn from(error: lapin::Error) -> Self {
        Self::Disturbed(error.to_string())
    }
}

/// Runs `service` on the queue that `subscription` names, until `stop` is cancelled: the message in hand is finished
/// and acknowledged, what was prefetched goes back to the queue.
pub async fn run(
    connection: &Connection,
    subscription: &Subscription,
    queue: &str,
    service: impl Service,
    stop: CancellationToken,
) -> Result<(), ConsumeError> {
    let mut worker = Worker { connection, subscription, queue, service, done: Done::default(), handled: 0 };
    let mut wait = FIRST_WAIT;
    loop {
        let before = worker.handled;
        match worker.connected(&stop).await {
            Ok(()) => break,
            Err(Ended::ForGood(error)) => return Err(error),
            Err(Ended::Disturbed(error)) => {
                if worker.handled > before {
                    wait = FIRST_WAIT;
                }
                tracing::warn!(error, queue, wait = ?wait, "the connection is disturbed: trying again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
        }
    }
    tracing::info!(queue, "left the queue");
    Ok(())
}

struct Worker<'a, S> {
    connection: &'a Connection,
    subscription: &'a Subscription,
    queue: &'a str,
    service: S,
    done: Done,
    handled: u64,
}

impl<S: Service> Worker<'_, S> {
    /// Works for as long as one connection lasts; Ok when `stop` was cancelled.
    async fn connected(&mut self, stop: &CancellationToken) -> Result<(), Ended> {
        let connection = match self.connection.open(&format!("shop {}", self.queue)).await {
            Ok(connection) => connection,
            Err(ConnectError::Refused(error)) => return Err(error.into()),
            Err(error) => return Err(Ended::ForGood(ConsumeError::Settings(error))),
        };
        let outcome = self.serve(&connection, stop).await;
        // The broker may be gone; then there is nobody to take leave of.
        let _ = tokio::time::timeout(FAREWELL, connection.close(200, "done".into())).await;
        outcome
    }

    /// Only waiting is interrupted by `stop`, never work.
    async fn serve(&mut self, connection: &lapin::Connection, stop: &CancellationToken) -> Result<(), Ended> {
        let (incoming, outgoing) =
            (connection.create_channel().await?, confirmed::channel(connection).await?);
        let prefetch = self.subscription.prefetch;
        incoming.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let (tag, options) = ("".into(), BasicConsumeOptions::default());
        let mut messages =
            incoming.basic_consume(self.queue.into(), tag, options, FieldTable::default()).await?;
        tracing::info!(queue = self.queue, prefetch, "consuming");
        loop {
            let received = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                received = messages.next() => received,
            };
            match received {
                Some(message) => self.process(&outgoing, &message?).await?,
                None => return Err(Ended::Disturbed("the broker cancelled the consumer".into())),
            }
        }
    }

    /// Steps 2 to 4 for one message.
    async fn process(&mut self, channel: &Channel, delivery: &Delivery) -> Result<(), Ended> {
        let (queue, came) = (self.queue, &delivery.properties);
        let correlation_id = headers::correlation_id(came);
        let correlation_id = correlation_id.as_deref();
        let attempt = headers::attempt(came);
        let identity = headers::identity(came, queue);

        if identity.as_deref().is_some_and(|identity| self.done.contains(identity)) {
            tracing::info!(queue, correlation_id, attempt, "skipped a duplicate");
            return Ok(delivery.ack(BasicAckOptions::default()).await.map(drop)?);
        }
        let message = Message { source: queue, payload: &delivery.data };
        match self.service.handle(&message, attempt).await {
            Ok(event) => {
                if let Some(event) = event {
                    self.hand_on(channel, event, correlation_id).await?;
                }
                tracing::info!(queue, correlation_id, attempt, "handled");
                self.done.extend(identity);
            }
            Err(failure) => {
                let (retries, dead_letter) = (self.subscription.retries(), self.subscription.dead_letter());
                let next = contract::next(&failure, attempt, retries, dead_letter);
                let to = match next {
                    Next::Retry(retry) => retry.name.as_str(),
                    Next::DeadLetter(name) => name,
                    Next::Stay => {
                        let queue = queue.to_owned();
                        return Err(Ended::ForGood(ConsumeError::NoDeadLetter { queue, failure }));
                    }
                };
                let properties = headers::properties(came, queue, attempt, &failure, Timestamp::now());
                // The default exchange leads to the queue of that name.
                publish(channel, "", to, &delivery.data, properties).await?;
                let error = failure.to_string();
                tracing::warn!(queue, correlation_id, attempt, to, error, "failed");
                if matches!(next, Next::DeadLetter(_)) {
                    if let Some(event) = self.service.gave_up(&message, &failure) {
                        self.hand_on(channel, event, correlation_id).await?;
                    }
                    self.done.extend(identity);
                }
            }
        }
        delivery.ack(BasicAckOptions::default()).await?;
        self.handled += 1;
        Ok(())
    }

    /// Publishes what a service made of a message.
    async fn hand_on(
        &self,
        channel: &Channel,
        event: Event,
        correlation_id: Option<&str>,
    ) -> Result<(), Ended> {
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into());
        // Ids that are too long for AMQP came from elsewhere; the event goes without.
        if let Ok(id) = ShortString::try_new(event.key) {
            properties = properties.with_message_id(id);
        }
        if let Some(Ok(id)) = correlation_id.map(ShortString::try_new) {
            properties = properties.with_correlation_id(id);
        }
        publish(channel, &self.subscription.exchange, &event.to, &event.payload, properties).await
    }
}

/// Publishes and awaits the confirm. What no queue takes is a mistake in the settings; what a queue refuses may be
/// taken later.
async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    payload: &[u8],
    properties: BasicProperties,
) -> Result<(), Ended> {
    let published = confirmed::publish(channel, exchange, key, payload, properties).await;
    published.map_err(|why| match why {
        NotTaken::Unroutable => {
            let to = if exchange.is_empty() { key.to_owned() } else { format!("{exchange}/{key}") };
            Ended::ForGood(ConsumeError::Publish { to, why })
        }
        NotTaken::Refused => Ended::Disturbed(format!("{key}: {why}")),
        NotTaken::Broken(error) => error.into(),
    })
}
