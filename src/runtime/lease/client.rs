//! A client of the API server whose writes are fenced at the last moment.

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

use super::body::Fenced;
use super::fence::Fence;

/// How long the API server may take to begin its answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A client that sends nothing with a body once `fence` is closed. Beyond that it does what kube's own does.
///
/// # Errors
/// What the configuration says about TLS or credentials cannot be used.
pub fn fenced_client(config: Config, fence: Fence) -> Result<Client, Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http = legacy::Client::builder(TokioExecutor::new()).build::<_, Fenced<Body>>(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(RetryPolicy::server_retry()))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .timeout(ANSWER)
        .map_request(move |request: Request<Body>| request.map(|body| Fenced::new(body, fence.clone())))
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_request_that_waited_for_its_connection_is_not_sent_once_the_fence_is_closed() {
        crate::brokers::install_crypto_provider();
        let fence = Fence::until(Instant::now() + Duration::from_secs(3600));
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = server.local_addr().expect("bound");
        let config = Config::new(format!("http://{address}").parse().expect("a URI"));
        let client = fenced_client(config, fence.clone()).expect("no TLS in it");
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
