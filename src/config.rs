//! Settings of the operator: flags and environment variables in, validated settings out, once.
//!
//! Every setting has one way in: a flag, and an environment variable that is called like it.

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
        value_parser = namespace,
        value_name = "NAMESPACE"
    )]
    pub watch_namespaces: Vec<String>,
    /// The namespace of the Lease that elects the leader
    #[arg(
        long,
        env = "SPILLWAY_LEASE_NAMESPACE",
        default_value = "default",
        value_parser = namespace,
        value_name = "NAMESPACE"
    )]
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
    /// Where /healthz, /readyz and /metrics are served; [::] is every address, of IPv4 and of IPv6
    #[arg(long, env = "SPILLWAY_HTTP_ADDRESS", default_value = "[::]:8080", value_name = "ADDRESS")]
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
        watch_namespaces.sort();
        watch_namespaces.dedup();
        lease.watches.clone_from(&watch_namespaces);
        Self { watch_namespaces, lease, identity, http_address: args.http_address }
    }
}

/// A namespace's name, as Kubernetes takes it: a DNS label (RFC 1123). An empty one is none: what is left out by mistake must
/// not mean the whole cluster.
pub fn namespace(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() {
        return Err("the name of a namespace is empty; to mean all, leave flag and variable out".into());
    }
    if name.len() > 63
        || !name.chars().all(|c| plain(c) || c == '-')
        || !name.starts_with(plain)
        || !name.ends_with(plain)
    {
        return Err(
            "a namespace's name is up to 63 of a-z, 0-9 and -, and neither begins nor ends with -".into()
        );
    }
    Ok(name.to_owned())
}

/// A pod's host name is its name; the process id tells processes of one host apart.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}_{}", if host.is_empty() { "spillway" } else { host }, std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser as _;

    fn watched(arguments: &[&str]) -> Result<Vec<String>, String> {
        let cli = Cli::try_parse_from([&["spillway", "run"], arguments].concat())
            .map_err(|error| error.to_string())?;
        let crate::cli::Verb::Run(args) = cli.verb else { panic!("run") };
        Ok(RunConfig::from(args).watch_namespaces)
    }

    #[test]
    fn an_empty_namespace_does_not_mean_the_whole_cluster() {
        for value in ["", "shop,", "shop,,bills", ","] {
            let error = watched(&["--watch-namespace", value]).unwrap_err();
            assert!(error.contains("the name of a namespace is empty"), "{value:?}: {error}");
        }
        assert!(watched(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_kubernetes_would_not_take_as_a_namespace_is_refused() {
        for value in ["A_b", " b", "b ", "-a", "a-", "a.b", "é", &*"a".repeat(64)] {
            let error = watched(&[&format!("--watch-namespace={value}")]).unwrap_err();
            assert!(error.contains("a namespace's name is up to 63"), "{value:?}: {error}");
        }
        for flag in ["--lease-namespace=", "--lease-namespace=a_b"] {
            watched(&[flag]).unwrap_err();
        }
        let given =
            ["--watch-namespace", "shop,bills", "--watch-namespace", "shop", "--watch-namespace", "7"];
        assert_eq!(watched(&given).unwrap(), ["7", "bills", "shop"]);
    }
}
