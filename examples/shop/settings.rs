//! The settings: raw environment and flags in, validated values out, once.
//!
//! Every setting of a consumer has the name of the variable that Spillway injects into its pods, and a flag of
//! the same name for a run by hand.

use std::time::Duration;

use clap::Args;
use rdkafka::ClientConfig;

/// How to reach the brokers, and as whom.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// Servers to ask first, as host:port, separated by commas
    #[arg(long, global = true, env = "SPILLWAY_KAFKA_BOOTSTRAP_SERVERS", default_value = "127.0.0.1:9092")]
    bootstrap_servers: String,
    /// Name of this client; Spillway sets it to the pod's name, which is how it tells its own members from others
    #[arg(long, global = true, env = "SPILLWAY_KAFKA_CLIENT_ID")]
    client_id: Option<String>,
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`
    #[arg(long, global = true, env = "SPILLWAY_KAFKA_SECURITY_PROTOCOL")]
    security_protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`
    #[arg(long, global = true, env = "SPILLWAY_KAFKA_SASL_MECHANISM")]
    sasl_mechanism: Option<String>,
    /// User, with SASL
    #[arg(long, global = true, env = "SPILLWAY_KAFKA_USERNAME", hide_env_values = true)]
    username: Option<String>,
    /// Password, with SASL
    #[arg(long, global = true, env = "SPILLWAY_KAFKA_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

impl Connection {
    /// What every client of the shop has in common.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers).set("allow.auto.create.topics", "false");
        // A certificate store of whatever distribution the image is made from.
        config.set("ssl.ca.location", "probe");
        // A topic made after the consumer started is found in seconds, not in five minutes.
        config.set("topic.metadata.refresh.interval.ms", "10000");
        let optional = [
            ("client.id", &self.client_id),
            ("security.protocol", &self.security_protocol),
            ("sasl.mechanism", &self.sasl_mechanism),
            ("sasl.username", &self.username),
            ("sasl.password", &self.password),
        ];
        for (key, value) in optional {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                config.set(key, value);
            }
        }
        config
    }

    /// A producer whose acknowledgement means that every in-sync replica has the record, once.
    ///
    /// A record waits at most two minutes for its acknowledgement: long enough for a broker to restart, and
    /// well inside the five minutes after which a consumer that does not poll is thrown out of its group.
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "120000")
            // Each result is awaited before the next message: waiting for company only costs time.
            .set("linger.ms", "1")
            // The Java client's default: a key finds the same partition from either.
            .set("partitioner", "murmur2_random");
        config
    }

    /// A consumer that leaves it to the loop which offsets may be committed.
    pub fn consumer(&self, subscription: &Subscription) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", subscription.group())
            .set("auto.offset.reset", "earliest")
            // The loop stores an offset when its message is done; the client commits what is stored each
            // second, so that the lag that Spillway reads is at most a second old.
            .set("enable.auto.offset.store", "false")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            // `range` spreads each topic by itself: the retry topics never unbalance the main one, as they
            // would under cooperative-sticky, which evens out the sum of all partitions and can leave one
            // replica with two of three main partitions and another with none. Its price, that all members
            // stop for the rebalance, is one heartbeat, so heartbeats are frequent.
            .set("partition.assignment.strategy", "range")
            .set("heartbeat.interval.ms", "500")
            .set("session.timeout.ms", "6000");
        config
    }
}

/// What a consumer reads, and where it puts what it cannot handle. A queue is RabbitMQ's, a group with topics Kafka's.
#[derive(Args, Clone, Debug)]
pub struct Subscription {
    /// The consumer group, on Kafka
    #[arg(long, env = "SPILLWAY_KAFKA_GROUP", required_unless_present = "queue")]
    group: Option<String>,
    /// The topics, separated by commas, on Kafka
    #[arg(long, env = "SPILLWAY_KAFKA_TOPICS", value_delimiter = ',', required_unless_present = "queue")]
    pub topics: Vec<String>,
    /// The queue, on RabbitMQ
    #[arg(long, env = "SPILLWAY_AMQP_QUEUE", conflicts_with_all = ["group", "topics"])]
    pub queue: Option<String>,
    /// How many messages of the queue to have at a time: the one in hand, and those that wait for it
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub prefetch: u16,
    /// The exchange that events go to, on RabbitMQ; by default straight to the queue that --output names
    #[arg(long, default_value = "")]
    pub exchange: String,
    /// The dead-letter topic or queue
    #[arg(long, env = "SPILLWAY_DEAD_LETTER")]
    dead_letter: Option<String>,
    /// The retry topics or queues in the order of their steps, as name=delay, separated by commas
    #[arg(long, env = "SPILLWAY_RETRY", value_parser = parse_retries)]
    retry: Option<Retries>,
}

/// The retry topics or queues, in the order in which a message goes through them.
pub type Retries = std::sync::Arc<[Retry]>;

/// One retry topic or queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Its name.
    pub name: String,
    /// How long a message waits there before it is tried again.
    pub delay: Duration,
}

impl Subscription {
    /// The consumer group; set wherever there is no queue.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or_default()
    }

    /// The dead-letter topic or queue, if there is one.
    pub fn dead_letter(&self) -> Option<&str> {
        self.dead_letter.as_deref().filter(|name| !name.is_empty())
    }

    /// The retry topics or queues; none when nothing is to be retried.
    pub fn retries(&self) -> &[Retry] {
        self.retry.as_deref().unwrap_or_default()
    }
}

/// Reads `name=delay,…`. An empty text is no retry at all.
fn parse_retries(text: &str) -> Result<Retries, String> {
    text.split(',').filter(|step| !step.is_empty()).map(parse_retry).collect()
}

fn parse_retry(step: &str) -> Result<Retry, String> {
    let (name, delay) =
        step.split_once('=').ok_or_else(|| format!("`{step}` is not of the form name=delay"))?;
    if name.is_empty() {
        return Err(format!("`{step}` names nothing"));
    }
    Ok(Retry { name: name.to_owned(), delay: parse_duration(delay)? })
}

/// Reads a duration as Kubernetes people write it: `100ms`, `10s`, `1m`, `168h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
    Duration::try_from(duration).map_err(|_| format!("`{text}` is negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_steps_keep_their_order_and_their_delays() {
        let retries = parse_retries("orders.v1.retry.10s=10s,orders.v1.retry.1m=1m").unwrap();
        let read: Vec<_> = retries.iter().map(|retry| (retry.name.as_str(), retry.delay.as_secs())).collect();
        assert_eq!(read, [("orders.v1.retry.10s", 10), ("orders.v1.retry.1m", 60)]);
    }

    #[test]
    fn an_empty_retry_variable_means_no_retries() {
        assert!(parse_retries("").unwrap().is_empty());
    }

    #[test]
    fn a_retry_step_without_name_or_delay_is_refused() {
        for text in ["orders", "=10s", "orders=", "orders=soon", "orders=-5s"] {
            assert!(parse_retries(text).is_err(), "{text} was accepted");
        }
    }
}
