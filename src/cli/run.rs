//! `spillway run`: the operator.
//!
//! The watches and the HTTP server start at once; the work starts when the Lease is held. On
//! SIGTERM the work in hand ends, the Lease is given back, and the process goes. When the Lease
//! is lost, it goes at once: another one leads.

use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::{Client, Config};
use tokio_util::sync::CancellationToken;

use super::CliError;
use super::kubeconfig::KubeconfigArgs;
use crate::causes::of_kube as words;
use crate::config::RunConfig;
use crate::controllers::start::{self, Caches};
use crate::runtime::aside::Aside;
use crate::runtime::http::{Health, Server};
use crate::runtime::lease::Fence;
use crate::runtime::metrics::Metrics;
use crate::runtime::{client, lease, shutdown};

/// What `--help` shows of `spillway run`.
pub const EXAMPLES: &str = "\
Examples:
  spillway run                       the whole cluster, as the kubeconfig says
  spillway run --watch-namespace shop --watch-namespace bills
  SPILLWAY_LOG_FORMAT=json spillway run --lease-namespace spillway-system

Every flag but --kubeconfig and --context is an environment variable, too, and, but for --lease-namespace \
and --identity, a value of the chart. Of several processes with the same Lease one works, and the others stand by. SIGTERM ends it \
in good order.
Exit code: 0 stopped, 1 error, or the Lease was lost.";

/// How old the heartbeat of a loop may be before the process counts as hung.
const HEARTBEAT: Duration = Duration::from_secs(120);
/// How long work in hand may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until a signal, or until the Lease is lost.
pub fn execute(config: RunConfig, way: &KubeconfigArgs) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new("start the async runtime", error))?;
    let aside = Aside::new("lease").map_err(|error| CliError::new("start a thread for the Lease", error))?;
    let result = runtime.block_on(run(config, way, &aside));
    // Requests that nobody waits for any more must not hold the process up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn run(config: RunConfig, way: &KubeconfigArgs, aside: &Aside) -> Result<(), CliError> {
    let stop = shutdown::on_signal().map_err(|error| CliError::new("listen for signals", error))?;
    let cluster = cluster(way).await?;
    // What says later that the API server does not answer cannot say where it was looked for.
    tracing::info!(version = env!("CARGO_PKG_VERSION"), api_server = %cluster.cluster_url, "starting");
    let client = client::watching(cluster.clone())
        .map_err(|error| CliError::new("connect to the Kubernetes API server", words(&error)))?;
    let health = Health::new(HEARTBEAT);
    let metrics = Metrics::new();
    health.ready("caches");
    let server =
        Server::bind(config.http_address).await.map_err(|error| CliError::new("serve HTTP", error))?;
    let serving = CancellationToken::new();
    let server = tokio::spawn(server.run(health.clone(), metrics.clone(), serving.clone()));

    let result = Box::pin(lead(&config, cluster, client, aside, &health, &metrics, &stop)).await;

    serving.cancel();
    let _ = server.await;
    result
}

/// How to reach the API server, and who we say that we are: audit logs and API priority tell writers apart by it.
async fn cluster(way: &KubeconfigArgs) -> Result<Config, CliError> {
    let mut config = way.load().await?;
    let agent = HeaderValue::from_static(concat!("spillway/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    Ok(config)
}

async fn lead(
    config: &RunConfig,
    cluster: Config,
    client: Client,
    aside: &Aside,
    health: &Health,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<(), CliError> {
    let caches = Caches::start(&client, &config.watch_namespaces);
    let synced = async {
        caches.synced().await;
        health.set_ready("caches", true);
        tracing::info!("caches are warm");
    };
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = synced => {}
    }
    // With a client of its own: its connections are served by the thread that made it.
    let elector = aside
        .within(|| client::fenced(cluster.clone(), Fence::open()))
        .map_err(|error| CliError::new("connect to the Kubernetes API server", words(&error)))?;
    let leadership = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        leadership = aside.run(lease::acquire(elector, config.lease.clone())) => leadership
            .map_err(|error| CliError::new("become the leader", error))?
            .map_err(|error| CliError::new("become the leader", error))?,
    };
    metrics.leader(true);
    tracing::info!(identity = config.identity, "leading");
    let working = CancellationToken::new();
    let writer = client::fenced(cluster, leadership.fence.clone())
        .map_err(|error| CliError::new("connect to the Kubernetes API server", words(&error)))?;
    let work = start::run(
        writer,
        caches,
        leadership.fence.clone(),
        metrics.clone(),
        health.clone(),
        config.identity.clone(),
        working.clone(),
    );
    let mut work = std::pin::pin!(work);
    let lost = tokio::select! {
        () = &mut work => false,
        () = stop.cancelled() => false,
        () = leadership.lost.cancelled() => true,
    };
    metrics.leader(false);
    if lost {
        // Nothing more may be written, so there is nothing to end in good order.
        return Err(CliError("the Lease was lost: another process leads, or the API server is away".into()));
    }
    working.cancel();
    if tokio::time::timeout(GRACE, work).await.is_err() {
        tracing::warn!("work in hand did not end in time and was left");
    }
    leadership.release().await;
    tracing::info!("stopped");
    Ok(())
}
