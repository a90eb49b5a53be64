//! What a process needs around the controllers, and what knows nothing of topics and consumers.
//!
//! ```text
//!  signals ──▶ shutdown ──▶ every loop            (CancellationToken)
//!  Lease   ──▶ lease ─────▶ Fence ──▶ every write (may it start?)
//!  loops   ──▶ http::Health, metrics::Metrics ──▶ http ──▶ kubelet, Prometheus
//! ```
//!
//! * [`lease`] one leader among the processes, and a fence that closes by itself
//! * [`client`] clients of the API server
//! * [`complaint`] what is said of a failure that repeats
//! * [`aside`] a thread of its own for the Lease
//! * [`http`] `/healthz`, `/readyz`, `/metrics`
//! * [`metrics`] every metric there is
//! * [`shutdown`] SIGTERM and SIGINT
//! * [`telemetry`] logs

pub mod aside;
pub mod client;
pub mod complaint;
pub mod http;
pub mod lease;
pub mod metrics;
pub mod shutdown;
pub mod telemetry;
