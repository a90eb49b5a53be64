//! Producers and consumers: what only AMQP can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::task::JoinHandle;

use super::env::RabbitAddress;
use super::wait::until;

/// One connection to a virtual host.
pub struct Amqp(Connection);

impl Amqp {
    pub async fn connect(address: &RabbitAddress, vhost: &str) -> Self {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (user, password) = (encoded(&address.username), encoded(&address.password));
        let host = address.amqp.trim_start_matches("amqp://");
        let uri = format!("amqp://{user}:{password}@{host}/{}", encoded(vhost));
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await;
        Self(connection.unwrap_or_else(|error| panic!("{}: {error}", address.amqp)))
    }

    /// How many messages are ready in a queue, and how many consumers it has; as of now.
    pub async fn depth(&self, queue: &str) -> Option<(u32, u32)> {
        let channel = self.channel().await;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.ok()?;
        let _ = channel.close(200, "seen".into()).await;
        Some((found.message_count(), found.consumer_count()))
    }

    /// Waits until so many messages are ready in the queue.
    pub async fn until_ready(&self, queue: &str, messages: u32) {
        until(&format!("{queue:?} has {messages} messages ready"), async || match self.depth(queue).await {
            Some((ready, _)) if ready == messages => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// A consumer that takes one message at a time and acknowledges nothing.
    pub async fn consumer(&self, queue: &str) -> Held {
        let channel = self.channel().await;
        channel.basic_qos(1, BasicQosOptions::default()).await.expect("prefetch");
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume(queue.into(), "e2e".into(), options, FieldTable::default()).await;
        Held { channel, consumer: consumer.expect("a consumer"), message: None }
    }

    /// A consumer that holds one message.
    pub async fn hold(&self, queue: &str) -> Held {
        let mut held = self.consumer(queue).await;
        let next = tokio::time::timeout(Duration::from_secs(20), held.consumer.next()).await;
        held.message = Some(next.expect("in time").expect("a message").expect("a delivery"));
        held
    }

    /// Consumes a queue, `prefetch` messages at a time and `rate` messages a second, until that fails.
    pub async fn work(&self, queue: &str, prefetch: u16, rate: &AtomicU64, done: &AtomicU64) {
        let channel = self.channel().await;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await.expect("prefetch");
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue.into(), "worker".into(), options, FieldTable::default());
        let Ok(mut consumer) = consumer.await else { return };
        while let Some(Ok(message)) = consumer.next().await {
            let rate = u32::try_from(rate.load(Ordering::Relaxed).max(1)).unwrap_or(u32::MAX);
            tokio::time::sleep(Duration::from_secs(1) / rate).await;
            if message.ack(BasicAckOptions::default()).await.is_err() {
                return;
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Publishes so many messages to a queue at once; all of them are confirmed.
    pub async fn flood(&self, queue: &str, messages: usize) {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let mut confirms = Vec::with_capacity(messages);
        for _ in 0..messages {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions::default();
            let sent = channel.basic_publish("".into(), queue.into(), options, b"message", properties);
            confirms.push(sent.await.expect("published"));
        }
        for confirm in confirms {
            assert!(matches!(confirm.await, Ok(Confirmation::Ack(None))), "a message was refused");
        }
        let _ = channel.close(200, "done".into()).await;
    }

    /// Publishes to an exchange, one message after the other, each confirmed, until it is stopped.
    pub async fn publisher(&self, exchange: &str, key: &str) -> Publisher {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let counted = sent.clone();
        let (stopped, exchange, key) = (stop.clone(), exchange.to_owned(), key.to_owned());
        let task = tokio::spawn(async move {
            let mut count = Count::default();
            while !stopped.load(Ordering::Relaxed) {
                let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                let properties = BasicProperties::default().with_delivery_mode(2);
                let published = channel
                    .basic_publish(
                        exchange.as_str().into(),
                        key.as_str().into(),
                        mandatory,
                        b"message",
                        properties,
                    )
                    .await;
                match published.expect("published").await.expect("confirmed") {
                    Confirmation::Ack(None) => count.routed += 1,
                    _ => count.returned += 1,
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            count
        });
        Publisher { stop, sent, task }
    }

    /// Whether this user may declare a queue.
    pub async fn may_declare(&self, queue: &str) -> bool {
        let channel = self.channel().await;
        let declared = channel.queue_declare(
            queue.into(),
            QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() },
            FieldTable::default(),
        );
        declared.await.is_ok()
    }

    async fn channel(&self) -> Channel {
        self.0.create_channel().await.expect("a channel")
    }
}

/// A consumer, and the message that it holds.
pub struct Held {
    channel: Channel,
    consumer: Consumer,
    message: Option<Delivery>,
}

impl Held {
    /// Acknowledges the message, and goes.
    pub async fn done(self) {
        if let Some(message) = &self.message {
            message.ack(lapin::options::BasicAckOptions::default()).await.expect("acknowledged");
        }
        self.leave().await;
    }

    /// Goes; what it held is ready again.
    pub async fn leave(self) {
        let _ = self.channel.close(200, "done".into()).await;
    }
}

/// What became of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// At least one queue took it.
    pub routed: usize,
    /// Returned as unroutable, or refused.
    pub returned: usize,
}

/// A producer at work.
pub struct Publisher {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    task: JoinHandle<Count>,
}

impl Publisher {
    /// Waits until it has published so many messages more.
    pub async fn goes_on(&self, more: usize) {
        let goal = self.sent.load(Ordering::Relaxed) + more;
        until(&format!("{goal} messages are published"), async || match self.sent.load(Ordering::Relaxed) {
            sent if sent >= goal => Ok(()),
            sent => Err(format!("{sent} are")),
        })
        .await;
    }

    /// Ends it.
    pub async fn stop(self) -> Count {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the producer")
    }
}
