//! One leader among several processes, by a Lease of `coordination.k8s.io/v1`.
//!
//! 1. A candidate watches the Lease. It takes one that is absent, released or expired; expiry is
//!    measured on its own monotonic clock since it saw the last renewal ([`decide`]).
//! 2. Every write carries the resourceVersion that was read: of two candidates one gets a conflict.
//! 3. The leader renews every third of the duration ([`hold`](self)), and after each renewal moves
//!    the deadline of its [`Fence`] to (the instant before the renewal was sent) + duration − a fifth.
//!    The command runs it on a thread of its own ([`aside`](super::aside)): work does not delay a renewal.
//! 4. A fence closes by itself at its deadline, before anybody else can take the Lease.
//! 5. A clean end releases the Lease, and a watching candidate takes it at once.
//!
//! # Guarantees
//!
//! No write *begins* in two processes at a time, whatever the difference between their clocks, as
//! long as each asks the fence right before it. The API server's [`client`](super::client::fenced) and RabbitMQ's client ask as a request's
//! body goes onto the wire, Kafka's batches as they leave. A write that was sent before the fence
//! closed has a fifth of the duration to land.
//!
//! # Assumptions
//!
//! An identity belongs to one live process at a time: a candidate takes a Lease that bears its own
//! identity at once. A pod's name is such an identity. Clocks of two machines advance at the same
//! rate, to within a fifth. The clock goes on while a process is stopped; a machine that is
//! suspended as a whole stops it, and its process may begin one more write when it wakes.
//!
//! # Caveats
//!
//! If somebody deletes the Lease, candidates that had seen it wait until it would have expired; one
//! that starts just then makes a new one at once, up to a renewal before the old leader notices.

mod acquire;
mod body;
pub mod decide;
mod fence;
mod hold;
mod record;
mod request;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use body::Fenced as FencedBody;
pub use fence::{Fence, Fenced};

/// The duration that is used when nothing else is said.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(15);

/// On each Lease that an operator takes, whatever its name: by it the command line finds who leads.
pub const LABEL: (&str, &str) = ("app.kubernetes.io/name", "spillway");

/// Which Lease, and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who we are; of one live process only, such as the pod's name.
    pub identity: String,
    /// How long a leader may be silent before another takes over: whole seconds, at least 3.
    pub duration: Duration,
    /// The namespaces that the process watches, told in the Lease; none: all.
    pub watches: Vec<String>,
}

impl LeaseSettings {
    /// Settings with the default duration of 15 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            duration: DEFAULT_DURATION,
            watches: Vec::new(),
        }
    }

    fn validate(&self) -> Result<(), LeaseError> {
        let reason = if self.identity.is_empty() {
            "the identity is empty"
        } else if self.duration < Duration::from_secs(3) || self.duration.subsec_nanos() != 0 {
            "the duration must be whole seconds, at least 3"
        } else if i32::try_from(self.duration.as_secs()).is_err() {
            "the duration is too long"
        } else {
            return Ok(());
        };
        Err(LeaseError::Settings { reason })
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX)
    }

    fn renew_interval(&self) -> Duration {
        self.duration / 3
    }

    fn retry_interval(&self) -> Duration {
        self.duration / 15
    }

    /// How long after the start of a successful renewal the fence closes.
    fn fence_duration(&self) -> Duration {
        self.duration * 4 / 5
    }

    fn api(&self, client: Client) -> Api<Lease> {
        Api::namespaced(client, &self.namespace)
    }
}

/// Why a Lease cannot be had, ever.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The settings cannot be used.
    #[error("failed to use the Lease settings: {reason}")]
    Settings {
        /// What is wrong.
        reason: &'static str,
    },
    /// The API server refuses our first request: no permission, no such namespace.
    #[error("failed to {operation} Lease {namespace}/{name}: {message}")]
    Refused {
        /// What was refused: `read` or `write`.
        operation: &'static str,
        /// The Lease's namespace.
        namespace: String,
        /// The Lease's name.
        name: String,
        /// The API server's words.
        message: String,
    },
    /// The Lease is an earlier version than it was.
    #[error("{words}")]
    Restored {
        /// What it means.
        words: &'static str,
    },
}

/// Waits until this process is the leader.
///
/// Retries for as long as the API server does not answer; an error is for good: settings that
/// cannot be used, or a refusal of the very first request. May be dropped at any time; a Lease that
/// was won just then expires by itself.
pub async fn acquire(client: Client, settings: LeaseSettings) -> Result<Leadership, LeaseError> {
    settings.validate()?;
    let api = settings.api(client);
    let won = acquire::acquire(&api, &settings).await?;
    tracing::info!(lease = settings.name, identity = settings.identity, "leading");
    Ok(hold::start(api, settings, won))
}

/// The Lease is ours, and is being renewed until this value is released or dropped.
///
/// Dropping it stops renewing without a word, as a crash does: the fence closes at its deadline, and
/// another process takes over when the Lease has expired.
#[derive(Debug)]
pub struct Leadership {
    /// To be asked right before each write.
    pub fence: Fence,
    /// Cancelled when the Lease is lost (or given up): stop, and end the process.
    pub lost: CancellationToken,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Leadership {
    /// Closes the fence and gives the Lease back, so that another process takes over at once. Call
    /// it when every write has ended. Returns after a fifth of the duration at most.
    pub async fn release(mut self) {
        self.fence.close();
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "the Lease was not released; it expires by itself");
        }
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        self.task.abort();
    }
}
