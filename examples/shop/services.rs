//! What each service of the shop does with one message. A service knows its events and its work; it does not
//! know about offsets, retries or dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::contract::Failure;
use crate::settings::parse_duration;

/// One stage of the chain.
pub trait Service {
    /// Handles one message, and returns the event that follows from it, if any.
    ///
    /// `attempt` counts the tries of this message from 1. The same message may come again after a crash or a
    /// rebalance, so whatever this does outside must bear being done twice.
    async fn handle(&mut self, message: &OwnedMessage, attempt: u32) -> Result<Option<Event>, Failure>;
}

/// What a service hands on. The loop adds the correlation id.
#[derive(Debug)]
pub struct Event {
    /// The topic to publish to.
    pub topic: String,
    /// The key: the id of what the event is about.
    pub key: String,
    /// The payload, as JSON.
    pub payload: Vec<u8>,
}

/// A payment that went through.
#[derive(Debug, Serialize, Deserialize)]
pub struct Payment {
    /// The payment's id, and the record's key.
    pub id: String,
    /// The amount in cents.
    pub amount: u64,
    /// The ISO 4217 currency.
    pub currency: String,
    /// Where the receipt goes.
    pub email: String,
    /// How many tries fail before the payment can be booked: a simulated outage.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub outage: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// An order that was created from a payment.
#[derive(Debug, Serialize, Deserialize)]
struct OrderCreated {
    id: String,
    payment: String,
    amount: u64,
    currency: String,
    email: String,
}

/// An e-mail that was sent for an order.
#[derive(Debug, Serialize)]
struct EmailSent {
    order: String,
    to: String,
}

/// Payments in, orders out.
#[derive(Args, Clone, Debug)]
pub struct Order {
    /// How long one message takes
    #[arg(long, default_value = "100ms", value_parser = parse_duration)]
    work: Duration,
    /// The topic that orders go to
    #[arg(long, default_value = "order-created")]
    output: String,
}

impl Service for Order {
    async fn handle(&mut self, message: &OwnedMessage, attempt: u32) -> Result<Option<Event>, Failure> {
        let payment: Payment = parse(message)?;
        tokio::time::sleep(self.work).await;
        if attempt <= payment.outage {
            return Err(Failure::Transient(format!("the ledger did not answer for payment {}", payment.id)));
        }
        // Made from the payment's id, not drawn: a payment that comes twice makes the same order twice.
        let id = format!("order-{}", payment.id);
        let Payment { id: payment, amount, currency, email, .. } = payment;
        let order = OrderCreated { id: id.clone(), payment, amount, currency, email };
        event(&self.output, id, &order)
    }
}

/// Orders in, a note of each e-mail out.
#[derive(Args, Clone, Debug)]
pub struct Email {
    /// How long one message takes
    #[arg(long, default_value = "10ms", value_parser = parse_duration)]
    work: Duration,
    /// The topic that notes go to
    #[arg(long, default_value = "email-sent")]
    output: String,
}

impl Service for Email {
    async fn handle(&mut self, message: &OwnedMessage, _attempt: u32) -> Result<Option<Event>, Failure> {
        let order: OrderCreated = parse(message)?;
        tokio::time::sleep(self.work).await;
        event(&self.output, order.id.clone(), &EmailSent { order: order.id, to: order.email })
    }
}

/// Every event in, counts in the log.
///
/// A malformed event is counted as such and is no failure here: the service that acts on the topic puts it
/// among the dead letters, and one dead letter for each bad message is enough.
#[derive(Args, Clone, Debug)]
pub struct Analytics {
    /// Log the counts after so many events
    #[arg(long, default_value_t = 100)]
    every: u64,
    #[arg(skip)]
    counts: BTreeMap<String, u64>,
    #[arg(skip)]
    malformed: u64,
}

impl Service for Analytics {
    async fn handle(&mut self, message: &OwnedMessage, _attempt: u32) -> Result<Option<Event>, Failure> {
        match parse::<serde_json::Value>(message) {
            Ok(_) => *self.counts.entry(message.topic().to_owned()).or_default() += 1,
            Err(_) => self.malformed += 1,
        }
        let events = self.counts.values().sum::<u64>() + self.malformed;
        if events.is_multiple_of(self.every.max(1)) {
            tracing::info!(counts = ?self.counts, malformed = self.malformed, "counted");
        }
        Ok(None)
    }
}

fn parse<T: DeserializeOwned>(message: &OwnedMessage) -> Result<T, Failure> {
    let payload = message.payload().unwrap_or_default();
    serde_json::from_slice(payload).map_err(|error| Failure::Malformed(error.to_string()))
}

fn event(topic: &str, key: String, content: &impl Serialize) -> Result<Option<Event>, Failure> {
    let payload = serde_json::to_vec(content).map_err(|error| Failure::Malformed(error.to_string()))?;
    Ok(Some(Event { topic: topic.to_owned(), key, payload }))
}
