//! One message, published and confirmed.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection};

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// No queue is bound there: it would have been dropped.
    #[error("no queue takes what is published there")]
    Unroutable,
    /// A queue refused it: it is full, or has no leader.
    #[error("the broker refused it: a queue is full or has no leader")]
    Refused,
    /// The connection or the channel broke.
    #[error(transparent)]
    Broken(#[from] lapin::Error),
}

/// A channel on which every message is confirmed.
pub async fn channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes, and returns when every queue that the message goes to has it.
pub async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    payload: &[u8],
    properties: BasicProperties,
) -> Result<(), NotTaken> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish(exchange.into(), key.into(), options, payload, properties).await?;
    match sent.await? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => Err(NotTaken::Unroutable),
        // The channel is one with confirms.
        Confirmation::Nack(_) | Confirmation::NotRequested => Err(NotTaken::Refused),
    }
}
