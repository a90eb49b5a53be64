//! Finding another broker when the one that a call waits for is gone.
//!
//! librdkafka sends administration to the controller of the last list of brokers that it read. When that broker dies, the
//! call waits for its return; the list is read again every five minutes. So whoever waits, soon where a connection is
//! broken, has the list read again. Until the cluster itself has given the dead broker up (9 s: `broker.session.timeout.ms`), a
//! list may still name it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::ffi::Native;

/// How long a call waits before it has the list read, and how long such a reading may take.
const PATIENCE: Duration = Duration::from_millis(250);
/// The same where no connection is known to be broken: librdkafka tells of each failure twice a minute at most, and any
/// answer makes it forgotten, one of another broker, too.
const UNTOLD: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(1);

/// One reading at a time, however many calls wait.
#[derive(Default)]
pub(super) struct Failover {
    turn: Mutex<()>,
}

impl Failover {
    /// Has the list of brokers read again and again. Ends by being dropped.
    pub async fn keep_looking(&self, native: &Arc<Native>, connection: &Connection) -> Infallible {
        let mut looked = Instant::now();
        loop {
            sleep(PATIENCE).await;
            if !connection.is_broken() && looked.elapsed() < UNTOLD {
                continue;
            }
            looked = Instant::now();
            let Ok(_turn) = self.turn.try_lock() else { continue };
            let native = Arc::clone(native);
            let read = tokio::task::spawn_blocking(move || native.refresh_brokers(LIMIT)).await;
            match read {
                Ok(Ok(())) => tracing::debug!("read the list of brokers again"),
                // The call that waits tells why, once, when it gives up.
                Ok(Err(error)) => tracing::debug!("cannot read the list of brokers: {error:?}"),
                Err(ended) => tracing::debug!("cannot read the list of brokers: {ended}"),
            }
        }
    }
}
