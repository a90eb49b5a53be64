//! The process's own HTTP server, over loopback.

use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use spillway_operator::runtime::http::{Health, Server};
use spillway_operator::runtime::metrics::Metrics;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Running {
    address: SocketAddr,
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn serve() -> Running {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (health, metrics) = (Health::new(Duration::from_secs(60)), Metrics::new());
    let stop = CancellationToken::new();
    Running {
        address: server.address(),
        task: tokio::spawn(server.run(health.clone(), metrics.clone(), stop.clone())),
        health,
        metrics,
        stop,
    }
}

impl Running {
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }
}

#[tokio::test]
async fn readiness_follows_the_flags_and_says_which_is_missing() {
    let server = serve().await;
    server.health.ready("topics");
    let answer = server.get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("[-] topics"), "{answer}");
    server.health.set_ready("topics", true);
    assert!(server.get("/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(server.get("/healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn metrics_are_openmetrics_text() {
    let server = serve().await;
    server.metrics.leader(true);
    let answer = server.get("/metrics").await;
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
    assert!(answer.contains("\nspillway_leader 1\n") && answer.ends_with("# EOF\n"), "{answer}");
}

#[tokio::test]
async fn who_asks_for_plain_text_gets_the_older_format() {
    let server = serve().await;
    let ask = |accept: &str| {
        format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
    };
    let plain = server.ask(&ask("text/plain;version=0.0.4")).await;
    assert!(plain.contains("content-type: text/plain; version=0.0.4") && !plain.contains("# EOF"), "{plain}");
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let answer = server.ask(&ask(prometheus)).await;
    assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
}

/// Where there is no promtool (hack/testbed up tools), nothing is asked.
#[tokio::test]
async fn prometheus_own_linter_has_nothing_to_say_of_the_metrics() {
    let server = serve().await;
    server.metrics.reconciled("Topic", true, Duration::from_millis(3));
    server.metrics.broker_request("shop/kafka", "ListTopics", "ok", Duration::from_millis(3));
    server.metrics.vanished("Topic");
    let request =
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain;version=0.0.4\r\nConnection: close\r\n\r\n";
    let answer = server.ask(request).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match started {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        started => started.unwrap(),
    };
    promtool.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{body}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = serve().await;
    assert!(server.get("/").await.starts_with("HTTP/1.1 404"));
    let answer = server
        .ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[tokio::test]
async fn every_address_is_of_both_families() {
    let server = Server::bind((Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap();
    let port = server.address().port();
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    // Where the kernel has no IPv6, IPv4 is all there is.
    if server.address().is_ipv6() && std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_one_clear_error() {
    let server = serve().await;
    let error = Server::bind(server.address).await.unwrap_err().to_string();
    let expected = format!("failed to listen on {} for health and metrics: ", server.address);
    assert!(error.starts_with(&expected), "{error}");
}

#[tokio::test]
async fn a_stop_ends_the_server_although_a_client_holds_its_connection() {
    let server = serve().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    server.stop.cancel();
    tokio::time::timeout(Duration::from_secs(1), server.task).await.expect("ended").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
