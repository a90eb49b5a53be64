//! The process's own HTTP server: `/healthz`, `/readyz` and `/metrics`.

mod health;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use health::{Health, Report};

use super::metrics::Metrics;

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long answers that have begun may take when the process stops.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// How long to wait when no connection can be accepted, which is when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address} for health and metrics: {source}")]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    source: io::Error,
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on `address`; with port 0 on a free one. `[::]` takes IPv4, too, and means it alone where there is no IPv6.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = match TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => match without_ipv6(address, &error) {
                Some(instead) => TcpListener::bind(instead).await.map_err(failed)?,
                None => return Err(failed(error)),
            },
        };
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, "listening for health and metrics");
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is cancelled; then lets answers that have begun end, for half a second.
    pub async fn run(self, health: Health, metrics: Metrics, stop: CancellationToken) {
        let site = Site { health, metrics };
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept(&places) => match accepted {
                    Ok((stream, place)) => {
                        let serving = serve(stream, site.clone(), stop.clone());
                        connections.spawn(async move { serving.await; drop(place) });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        let ended = async { while connections.join_next().await.is_some() {} };
        // Dropping the set ends what is left.
        let _ = tokio::time::timeout(STOP_GRACE, ended).await;
    }

    async fn accept(&self, places: &Arc<Semaphore>) -> io::Result<(TcpStream, impl Send + use<>)> {
        let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        Ok((stream, place))
    }
}

/// Where to listen instead when IPv6 was asked for and the kernel does not have it.
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let every = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let ours = matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied);
    (every && !ours).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

async fn serve(stream: TcpStream, site: Site, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let response = site.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[derive(Clone)]
struct Site {
    health: Health,
    metrics: Metrics,
}

impl Site {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
        }
        match request.uri().path() {
            "/healthz" => report(self.health.liveness()),
            "/readyz" => report(self.health.readiness()),
            // Who names no format gets OpenMetrics, as Prometheus prefers it.
            "/metrics" if wants_plain(request) => respond(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                self.metrics.encode_plain(),
            ),
            "/metrics" => respond(
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.metrics.encode(),
            ),
            _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".into()),
        }
    }
}

/// Whether a scraper takes plain text and no `OpenMetrics`.
fn wants_plain(request: &Request<Incoming>) -> bool {
    let accept = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accept: Vec<&str> = accept.collect();
    let takes = |kind: &str| accept.iter().any(|one| one.contains(kind));
    takes("text/plain") && !takes("openmetrics")
}

fn report(report: Report) -> Response<Full<Bytes>> {
    let status = if report.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, report.text)
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_without_ipv6_makes_every_address_those_of_ipv4() {
        let instead = |address: &str, code| {
            without_ipv6(address.parse().unwrap(), &io::Error::from_raw_os_error(code))
                .map(|address| address.to_string())
        };
        // No such family, and no such address: IPv6 is compiled out, or switched off.
        for code in [97, 99] {
            assert_eq!(instead("[::]:8080", code).as_deref(), Some("0.0.0.0:8080"));
            assert_eq!(instead("[::1]:8080", code), None);
            assert_eq!(instead("0.0.0.0:8080", code), None);
        }
        // No right to the port, and a port that is taken.
        for code in [13, 98] {
            assert_eq!(instead("[::]:8080", code), None);
        }
    }
}
