//! Clients of the API server: writes are fenced at the last moment, and a connection whose other end is gone is noticed.

use std::time::Duration;

use http::Request;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt};
use kube::{Client, Config, Error};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

use super::lease::{Fence, FencedBody};

/// How long the API server may take to begin its answer to a write.
const ANSWER: Duration = Duration::from_secs(30);
/// The same for lists and watches: the server gives a request up itself after a minute (`--request-timeout`).
const LISTED: Duration = Duration::from_secs(65);
/// Silence after which a connection is asked whether it lives, how long between two such questions, and how many remain
/// without an answer before it counts as gone. A watch may be silent for minutes, also where its server has
/// died without a word: nobody else would notice.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
/// How long what was sent may stay without an acknowledgement.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A client that sends nothing with a body once `fence` is closed. Beyond that it does what kube's own does, and bounds
/// what that waits for without a limit.
///
/// # Errors
/// What the configuration says about TLS or credentials cannot be used.
pub fn fenced(config: Config, fence: Fence) -> Result<Client, Error> {
    client(config, fence, ANSWER)
}

/// A client for lists and watches.
///
/// # Errors
/// What the configuration says about TLS or credentials cannot be used.
pub fn watching(config: Config) -> Result<Client, Error> {
    client(config, Fence::open(), LISTED)
}

fn client(config: Config, fence: Fence, answer: Duration) -> Result<Client, Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    tcp.set_keepalive(Some(KEEPALIVE.0));
    tcp.set_keepalive_interval(Some(KEEPALIVE.1));
    tcp.set_keepalive_retries(Some(KEEPALIVE.2));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http = legacy::Client::builder(TokioExecutor::new()).build::<_, FencedBody<Body>>(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(RetryPolicy::server_retry()))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .timeout(answer)
        .map_request(move |request: Request<Body>| request.map(|body| FencedBody::new(body, fence.clone())))
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_server_that_takes_a_watch_and_says_nothing_is_given_up() {
        crate::brokers::install_crypto_provider();
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = server.local_addr().expect("bound");
        let config = Config::new(format!("http://{address}").parse().expect("a URI"));
        let client = client(config, Fence::open(), Duration::from_millis(100)).expect("no TLS in it");
        let watch = Request::get("/api/v1/secrets?watch=true").body(Body::empty()).expect("a request");
        let taken = async {
            let taken = server.accept().await.expect("a connection");
            std::future::pending::<()>().await;
            drop(taken);
        };
        tokio::select! {
            sent = client.send(watch) => assert!(sent.is_err()),
            () = taken => {}
        }
    }

    #[tokio::test]
    async fn a_request_that_waited_for_its_connection_is_not_sent_once_the_fence_is_closed() {
        crate::brokers::install_crypto_provider();
        let fence = Fence::until(Instant::now() + Duration::from_secs(3600));
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = server.local_addr().expect("bound");
        let config = Config::new(format!("http://{address}").parse().expect("a URI"));
        let client = fenced(config, fence.clone()).expect("no TLS in it");
        let post = Request::post("/apis").body(b"{}".to_vec()).expect("a request");
        fence.close();
        let (sent, came) = tokio::join!(client.send(post.map(Body::from)), async {
            let (connection, _) = server.accept().await.expect("a connection");
            let mut came = Vec::new();
            loop {
                connection.readable().await.expect("a socket");
                match connection.try_read_buf(&mut came) {
                    Ok(0) | Err(_) => break came,
                    Ok(_) => (),
                }
            }
        });
        assert!(sent.is_err());
        assert!(!came.ends_with(b"{}"), "{}", String::from_utf8_lossy(&came));
    }
}
