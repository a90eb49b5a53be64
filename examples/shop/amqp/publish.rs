//! The flood on RabbitMQ: persistent messages, each confirmed, none dropped without a word.

use futures::{StreamExt as _, TryStreamExt as _};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};

use super::confirmed::{self, NotTaken};
use super::headers::PERSISTENT;
use super::settings::{ConnectError, Connection};
use crate::publish::{Content, Flood};

/// Messages that wait for their confirm at a time.
const IN_FLIGHT: usize = 500;

/// Why the flood ended early.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke.
    #[error("failed to publish: {0}")]
    Broken(#[from] lapin::Error),
    /// A message was not taken.
    #[error("failed to publish to {key}: {why}")]
    NotTaken {
        /// The routing key.
        key: String,
        /// Why not.
        why: NotTaken,
    },
}

/// Publishes the flood with this routing key, its ids beginning with `prefix`, and awaits every confirm.
pub async fn flood(
    connection: &Connection,
    flood: &Flood,
    key: &str,
    prefix: &str,
) -> Result<(), PublishError> {
    let connection = connection.open("shop publish").await?;
    let channel = confirmed::channel(&connection).await?;
    let sent = flood
        .contents(prefix)
        .map(|content| send(&channel, flood, key, content))
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<()>()
        .await;
    let _ = connection.close(200, "done".into()).await;
    sent
}

async fn send(
    channel: &Channel,
    flood: &Flood,
    key: &str,
    (id, payload): Content,
) -> Result<(), PublishError> {
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into());
    if let Ok(id) = ShortString::try_new(id) {
        properties = properties.with_message_id(id.clone()).with_correlation_id(id);
    }
    if let Some(priority) = flood.priority {
        properties = properties.with_priority(priority);
    }
    let published = confirmed::publish(channel, &flood.exchange, key, &payload, properties).await;
    published.map_err(|why| PublishError::NotTaken { key: key.to_owned(), why })
}
