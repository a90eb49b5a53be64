//! What each service of the shop does with one message. A service knows its events and its work; it does not
//! know about brokers, offsets, retries or dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
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
    async fn handle(&mut self, message: &Message<'_>, attempt: u32) -> Result<Option<Event>, Failure>;

    /// The event that says that a message has become a dead letter, where others wait for its outcome.
    fn gave_up(&self, _message: &Message<'_>, _failure: &Failure) -> Option<Event> {
        None
    }
}

/// What a service sees of a message.
#[derive(Debug)]
pub struct Message<'a> {
    /// The topic or queue that it came from.
    pub source: &'a str,
    /// Its content.
    pub payload: &'a [u8],
}

/// What a service hands on. The loop adds the correlation id.
#[derive(Debug)]
pub struct Event {
    /// The topic to publish to, or the routing key to publish with.
    pub to: String,
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
    async fn handle(&mut self, message: &Message<'_>, attempt: u32) -> Result<Option<Event>, Failure> {
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
    async fn handle(&mut self, message: &Message<'_>, _attempt: u32) -> Result<Option<Event>, Failure> {
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
    /// How long one message takes
    #[arg(long, default_value = "0ms", value_parser = parse_duration)]
    work: Duration,
    /// Log the counts after so many events
    #[arg(long, default_value_t = 100)]
    every: u64,
    #[arg(skip)]
    counts: BTreeMap<String, u64>,
    #[arg(skip)]
    malformed: u64,
}

impl Service for Analytics {
    async fn handle(&mut self, message: &Message<'_>, _attempt: u32) -> Result<Option<Event>, Failure> {
        tokio::time::sleep(self.work).await;
        match parse::<serde_json::Value>(message) {
            Ok(_) => *self.counts.entry(message.source.to_owned()).or_default() += 1,
            Err(_) => self.malformed += 1,
        }
        let events = self.counts.values().sum::<u64>() + self.malformed;
        if events.is_multiple_of(self.every.max(1)) {
            tracing::info!(counts = ?self.counts, malformed = self.malformed, "counted");
        }
        Ok(None)
    }
}

/// Any work, for each message with an id.
#[derive(Args, Clone, Debug)]
pub struct Task {
    /// How long one message takes
    #[arg(long, default_value = "100ms", value_parser = parse_duration)]
    work: Duration,
    /// Where to say that one is done: a topic, or a routing key; by default nowhere
    #[arg(long)]
    output: Option<String>,
    /// Where to say that one has become a dead letter, so that what was done before can be undone; by default nowhere
    #[arg(long)]
    on_dead_letter: Option<String>,
}

/// What a task must be, whatever else is in it.
#[derive(Debug, Deserialize)]
struct TaskContent {
    id: String,
    #[serde(default)]
    outage: u32,
}

/// What became of a task.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Service for Task {
    async fn handle(&mut self, message: &Message<'_>, attempt: u32) -> Result<Option<Event>, Failure> {
        let task: TaskContent = parse(message)?;
        tokio::time::sleep(self.work).await;
        if attempt <= task.outage {
            return Err(Failure::Transient(format!("what task {} needs did not answer", task.id)));
        }
        let Some(output) = &self.output else { return Ok(None) };
        event(output, task.id.clone(), &Outcome { id: &task.id, error: None })
    }

    fn gave_up(&self, message: &Message<'_>, failure: &Failure) -> Option<Event> {
        // What has no id was never begun, so there is nothing to undo.
        let task: TaskContent = parse(message).ok()?;
        let outcome = Outcome { id: &task.id, error: Some(failure.to_string()) };
        event(self.on_dead_letter.as_ref()?, task.id.clone(), &outcome).ok()?
    }
}

fn parse<T: DeserializeOwned>(message: &Message<'_>) -> Result<T, Failure> {
    serde_json::from_slice(message.payload).map_err(|error| Failure::Malformed(error.to_string()))
}

fn event(to: &str, key: String, content: &impl Serialize) -> Result<Option<Event>, Failure> {
    let payload = serde_json::to_vec(content).map_err(|error| Failure::Malformed(error.to_string()))?;
    Ok(Some(Event { to: to.to_owned(), key, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        Task { work: Duration::ZERO, output: Some("done".into()), on_dead_letter: Some("failed".into()) }
    }

    fn message(payload: &str) -> Message<'_> {
        Message { source: "tasks", payload: payload.as_bytes() }
    }

    #[tokio::test]
    async fn a_task_fails_as_often_as_its_outage_says_and_then_is_said_to_be_done() {
        let (mut task, message) = (task(), message(r#"{"id": "t-1", "outage": 2, "amount": 5}"#));
        for attempt in [1, 2] {
            assert!(matches!(task.handle(&message, attempt).await, Err(Failure::Transient(_))));
        }
        let event = task.handle(&message, 3).await.unwrap().unwrap();
        assert_eq!((event.to.as_str(), event.key.as_str()), ("done", "t-1"));
        assert_eq!(event.payload, br#"{"id":"t-1"}"#);
    }

    #[tokio::test]
    async fn who_waits_for_a_task_hears_that_it_failed_unless_it_never_was_one() {
        let failure = Failure::Transient("away".into());
        let event = task().gave_up(&message(r#"{"id": "t-1"}"#), &failure).unwrap();
        assert_eq!(event.to, "failed");
        assert_eq!(event.payload, br#"{"id":"t-1","error":"transient failure: away"}"#);
        assert!(task().gave_up(&message("{"), &failure).is_none());
        assert!(matches!(task().handle(&message("{"), 1).await, Err(Failure::Malformed(_))));
    }
}
