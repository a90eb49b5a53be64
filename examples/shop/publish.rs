//! The flood: many payments at once, some of them poison.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::util::Timeout;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::amqp;
use crate::contract::CORRELATION_ID;
use crate::services::Payment;
use crate::settings::Connection;

/// Records in flight at once: enough to fill batches, few enough to bound memory.
const IN_FLIGHT: usize = 5_000;

/// What to flood with.
#[derive(Args, Clone, Debug)]
pub struct Flood {
    /// The topic to publish to
    #[arg(long, default_value = "payment-successful", conflicts_with = "routing_key")]
    topic: String,
    /// Publish to RabbitMQ, with this routing key
    #[arg(long)]
    routing_key: Option<String>,
    /// The exchange to publish to, on RabbitMQ; by default straight to the queue that --routing-key names
    #[arg(long, default_value = "", requires = "routing_key")]
    pub exchange: String,
    /// The messages' priority, on RabbitMQ
    #[arg(long, requires = "routing_key")]
    pub priority: Option<u8>,
    /// How many messages, poison ones included
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// How many of them are malformed
    #[arg(long, default_value_t = 0)]
    poison: u64,
    /// How many of them meet an outage at the order service, and succeed at a later try
    #[arg(long, default_value_t = 0)]
    flaky: u64,
    /// How many tries of a flaky message fail
    #[arg(long, default_value_t = 1)]
    outage: u32,
    /// How fast: `max`, or N/s
    #[arg(long, default_value = "max")]
    rate: Rate,
    /// Which partition a message goes to, on Kafka
    #[arg(long, value_enum, default_value_t = Spread::Even)]
    spread: Spread,
    /// What keys and payment ids begin with; by default made from the time, so that no two floods share an id
    #[arg(long)]
    key: Option<String>,
}

/// How messages are spread over the partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Spread {
    /// In turn, as a round-robin partitioner does: each partition gets the same share
    Even,
    /// By the key's hash: messages of one key keep their order, shares differ by some percent
    Key,
}

/// How fast to publish.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    Max,
    Every(Duration),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let rate: f64 = text
            .strip_suffix("/s")
            .unwrap_or(text)
            .parse()
            .map_err(|_| format!("`{text}` is neither `max` nor N/s"))?;
        if !rate.is_finite() || rate < 0.001 {
            return Err(format!("`{text}` is too slow to be a flood"));
        }
        Ok(Self::Every(Duration::from_secs_f64(rate.recip())))
    }
}

/// Why the flood ended early.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// RabbitMQ did not take it all.
    #[error(transparent)]
    Rabbitmq(#[from] amqp::PublishError),
    /// A setting was refused.
    #[error("failed to start the producer: {0}")]
    Start(#[source] KafkaError),
    /// The broker did not take a record.
    #[error("failed to publish to {topic}: {source}")]
    Publish {
        /// Where the record was to go.
        topic: String,
        /// The broker's or the client's word.
        source: KafkaError,
    },
}

impl Flood {
    /// What keys and ids begin with.
    fn prefix(&self) -> String {
        self.key.clone().unwrap_or_else(|| format!("pay-{:x}", jiff::Timestamp::now().as_millisecond()))
    }

    /// The messages, each when its time has come.
    pub fn contents<'a>(&'a self, prefix: &'a str) -> impl Stream<Item = Content> + 'a {
        let pace = match self.rate {
            Rate::Max => None,
            Rate::Every(period) => {
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                Some(ticks)
            }
        };
        let numbers = stream::unfold((0, pace), move |(number, mut pace)| async move {
            if number == self.count {
                return None;
            }
            if let Some(ticks) = &mut pace {
                ticks.tick().await;
            }
            Some((number, (number + 1, pace)))
        });
        numbers.map(move |number| message(self, prefix, number))
    }
}

/// Publishes the flood, awaits every acknowledgement, and prints one line of JSON on stdout.
pub async fn run(kafka: &Connection, rabbitmq: &amqp::Connection, flood: &Flood) -> Result<(), PublishError> {
    let prefix = flood.prefix();
    let began = Instant::now();
    let to = if let Some(key) = &flood.routing_key {
        amqp::flood(rabbitmq, flood, key, &prefix).await?;
        key
    } else {
        to_kafka(kafka, flood, &prefix).await?;
        &flood.topic
    };
    let seconds = began.elapsed().as_secs_f64();
    let poison = (0..flood.count).filter(|number| chosen(*number, flood.poison, flood.count)).count();
    let summary = serde_json::json!({
        "to": to,
        "published": flood.count,
        "poison": poison,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "keys": format!("{prefix}-*"),
    });
    println!("{summary}");
    Ok(())
}

async fn to_kafka(connection: &Connection, flood: &Flood, prefix: &str) -> Result<(), PublishError> {
    let producer: FutureProducer = connection.producer().create().map_err(PublishError::Start)?;
    let partitions = match flood.spread {
        Spread::Even => Some(partitions(&producer, &flood.topic)?),
        Spread::Key => None,
    };
    flood
        .contents(prefix)
        .zip(stream::iter(0..))
        .map(|(content, number)| send(&producer, flood, partitions.map(|count| turn(number, count)), content))
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

/// A key and a payload.
pub type Content = (String, Vec<u8>);

/// The `number`-th message of the flood, keyed by its own id.
fn message(flood: &Flood, prefix: &str, number: u64) -> Content {
    let id = format!("{prefix}-{number:06}");
    let payment = Payment {
        amount: 500 + number * 7_919 % 20_000,
        currency: "EUR".to_owned(),
        email: format!("{id}@customers.example"),
        outage: if chosen(number, flood.flaky, flood.count) { flood.outage } else { 0 },
        id: id.clone(),
    };
    let mut payload = serde_json::json!(payment).to_string().into_bytes();
    if chosen(number, flood.poison, flood.count) {
        // Cut off in the middle, as a crashed writer leaves it.
        payload.truncate(payload.len() / 2);
    }
    (id, payload)
}

/// Whether the `number`-th of `count` is among `some` that lie evenly between them.
fn chosen(number: u64, some: u64, count: u64) -> bool {
    let some = some.min(count);
    (number + 1) * some / count > number * some / count
}

/// How many partitions the topic has.
fn partitions(producer: &FutureProducer, topic: &str) -> Result<i32, PublishError> {
    let failed = |source| PublishError::Publish { topic: topic.to_owned(), source };
    let metadata = producer.client().fetch_metadata(Some(topic), Duration::from_secs(30)).map_err(failed)?;
    let found = metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic)
        .map_or(0, |found| found.partitions().len());
    match i32::try_from(found) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(failed(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition))),
    }
}

/// The partition of the `number`-th message, in turn.
fn turn(number: u64, partitions: i32) -> i32 {
    i32::try_from(number % u64::from(partitions.unsigned_abs())).unwrap_or(0)
}

async fn send(
    producer: &FutureProducer,
    flood: &Flood,
    partition: Option<i32>,
    (key, payload): Content,
) -> Result<(), PublishError> {
    let headers = OwnedHeaders::new().insert(Header { key: CORRELATION_ID, value: Some(&key) });
    let mut record = FutureRecord::to(&flood.topic).key(&key).payload(&payload).headers(headers);
    record.partition = partition;
    match producer.send(record, Timeout::Never).await {
        Ok(_) => Ok(()),
        Err((source, _)) => Err(PublishError::Publish { topic: flood.topic.clone(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_messages_are_chosen_as_were_asked_for_and_they_lie_apart() {
        for (some, count) in [(0, 10), (5, 1000), (7, 7), (9, 5)] {
            let picked: Vec<u64> = (0..count).filter(|number| chosen(*number, some, count)).collect();
            assert_eq!(picked.len() as u64, some.min(count));
            if some == 5 {
                assert_eq!(picked, [199, 399, 599, 799, 999]);
            }
        }
    }

    #[test]
    fn an_even_spread_gives_each_partition_the_same_share() {
        let mut shares = [0; 3];
        for number in 0..300 {
            shares[usize::try_from(turn(number, 3)).unwrap()] += 1;
        }
        assert_eq!(shares, [100; 3]);
    }

    #[test]
    fn a_rate_is_max_or_a_number_a_second() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("200/s".parse(), Ok(Rate::Every(Duration::from_millis(5))));
        for text in ["", "fast", "0/s", "-1/s", "NaN/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text} was accepted");
        }
    }
}
