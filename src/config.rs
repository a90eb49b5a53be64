//! Settings of the operator: flags and environment variables in, validated settings out, once.
//!
//! Every setting has one way in: a flag, and an environment variable of the same name.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::runtime::lease::LeaseSettings;

/// The arguments of `spillway run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// A namespace to watch; may be given several times. Default: the whole cluster
    #[arg(
        long = "watch-namespace",
        env = "SPILLWAY_WATCH_NAMESPACE",
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    pub watch_namespaces: Vec<String>,
    /// The namespace of the Lease that elects the leader
    #[arg(long, env = "SPILLWAY_LEASE_NAMESPACE", default_value = "default", value_name = "NAMESPACE")]
    pub lease_namespace: String,
    /// The name of that Lease
    #[arg(long, env = "SPILLWAY_LEASE_NAME", default_value = "spillway", value_name = "NAME")]
    pub lease_name: String,
    /// For how long a lease holds without being renewed, in seconds: 3 to 300
    #[arg(long, env = "SPILLWAY_LEASE_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(3..=300), value_name = "SECONDS")]
    pub lease_seconds: u64,
    /// Who this process is, in the Lease and in events. Default: the host's name and the process id
    #[arg(long, env = "SPILLWAY_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, env = "SPILLWAY_HTTP_ADDRESS", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub http_address: SocketAddr,
}

/// The operator's settings.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Namespaces to watch; none: all.
    pub watch_namespaces: Vec<String>,
    /// The Lease.
    pub lease: LeaseSettings,
    /// Who this process is.
    pub identity: String,
    /// Where to serve HTTP.
    pub http_address: SocketAddr,
}

impl From<RunArgs> for RunConfig {
    fn from(args: RunArgs) -> Self {
        let identity = args.identity.filter(|name| !name.is_empty()).unwrap_or_else(identity);
        let mut lease = LeaseSettings::new(args.lease_namespace, args.lease_name, identity.clone());
        lease.duration = Duration::from_secs(args.lease_seconds);
        let mut watch_namespaces = args.watch_namespaces;
        watch_namespaces.retain(|namespace| !namespace.is_empty());
        watch_namespaces.sort();
        watch_namespaces.dedup();
        lease.watches.clone_from(&watch_namespaces);
        Self { watch_namespaces, lease, identity, http_address: args.http_address }
    }
}

/// A pod's host name is its name; the process id tells processes of one host apart.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}_{}", if host.is_empty() { "spillway" } else { host }, std::process::id())
}
