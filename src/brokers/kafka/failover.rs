//! Finding another broker when the one that a call waits for is gone.
//!
//! librdkafka sends administration to the controller of the last list of brokers that it read. When that broker dies, the
//! call waits for its return; the list is read again every five minutes. So whoever waits while a connection is broken
//! has the list read again. Until the cluster itself has given the dead broker up (9 s: `broker.session.timeout.ms`), a
//! list may still name it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::sleep;

use super::connection::Connection;
use super::ffi::Native;

/// How long a call waits before it has the list read, and how long such a reading may take.
const PATIENCE: Duration = Duration::from_millis(250);
const LIMIT: Duration = Duration::from_secs(1);

/// One reading at a time, however many calls wait.
#[derive(Default)]
pub(super) struct Failover {
    turn: Mutex<()>,
}

impl Failover {
    /// Has the list of brokers read again and again while a connection is broken. Ends by being dropped.
    pub async fn keep_looking(&self, native: &Arc<Native>, connection: &Connection) -> Infallible {
        loop {
            sleep(PATIENCE).await;
            if !connection.is_broken() {
                continue;
            }
            let Ok(_turn) = self.turn.try_lock() else { continue };
            let native = Arc::clone(native);
            let looked = tokio::task::spawn_blocking(move || native.refresh_brokers(LIMIT)).await;
            match looked {
                Ok(Ok(())) => tracing::debug!("read the list of brokers again"),
                // The call that waits tells why, once, when it gives up.
                Ok(Err(error)) => tracing::debug!("cannot read the list of brokers: {error:?}"),
                Err(ended) => tracing::debug!("cannot read the list of brokers: {ended}"),
            }
        }
    }
}
