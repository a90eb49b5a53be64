//! What the tests share: the broker, virtual hosts, servers that answer what they are told, waiting for a condition.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use reqwest::{Method, Url};
use serde_json::Value;
use spillway_operator::api::arguments::Arguments;
use spillway_operator::brokers::rabbitmq::{
    ExchangeDeclaration, QueueDeclaration, RabbitClient, RabbitSettings, Target,
};
use spillway_operator::brokers::settings::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub fn environment(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: these tests need a real RabbitMQ (test bed)"))
}

/// The text of the file that a variable names.
pub fn read(variable: &str) -> String {
    let path = environment(variable);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{variable} names {path}: {error}"))
}

/// A URL of the environment without its credentials and its path, and the credentials.
pub fn address(variable: &str) -> (String, String, Secret) {
    let url = Url::parse(&environment(variable)).expect("it is a URL");
    let host = url.host_str().expect("it has a host");
    let port = url.port().expect("it has a port");
    let password = Secret::new(url.password().unwrap_or_default());
    (format!("{}://{host}:{port}", url.scheme()), url.username().to_owned(), password)
}

pub fn settings() -> RabbitSettings {
    let (management_url, username, password) = address("SPILLWAY_TEST_RABBITMQ");
    RabbitSettings { management_url, amqp_url: None, username, password, tls: None }
}

pub fn client() -> RabbitClient {
    RabbitClient::connect(&settings()).expect("the settings are valid")
}

/// A client of a server that is none of RabbitMQ's.
pub fn client_of(management_url: String) -> RabbitClient {
    RabbitClient::connect(&RabbitSettings { management_url, ..settings() }).expect("the settings are valid")
}

/// What the client cannot do: the status, and the answer where it is JSON. The path is encoded already.
pub async fn raw(method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let RabbitSettings { management_url, username, password, .. } = settings();
    spillway_operator::brokers::install_crypto_provider();
    let request = reqwest::Client::builder().no_proxy().build().expect("it needs nothing");
    let request = request
        .request(method, format!("{management_url}/api/{path}"))
        .basic_auth(username, Some(password.expose()))
        .json(&body.unwrap_or_default());
    let response = request.send().await.expect("RabbitMQ answers");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

/// A name no other test and no other run uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    format!("test-{now:x}-{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a test in a virtual host of its own, and deletes it whatever comes of the test.
pub async fn in_vhost<F: Future<Output = ()>>(test: impl FnOnce(RabbitClient, String) -> F) {
    let vhost = unique("vhost");
    assert_eq!(raw(Method::PUT, &format!("vhosts/{vhost}"), None).await.0, 201);
    let outcome = AssertUnwindSafe(test(client(), vhost.clone())).catch_unwind().await;
    assert_eq!(raw(Method::DELETE, &format!("vhosts/{vhost}"), None).await.0, 204);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

pub fn arguments(all: Value) -> Arguments {
    serde_json::from_value(all).expect("it is an object")
}

pub fn queue(name: &str) -> QueueDeclaration {
    QueueDeclaration {
        name: name.to_owned(),
        durable: true,
        auto_delete: false,
        arguments: arguments(serde_json::json!({"x-queue-type": "classic"})),
    }
}

pub fn exchange(name: &str, kind: &str) -> ExchangeDeclaration {
    ExchangeDeclaration {
        name: name.to_owned(),
        kind: kind.to_owned(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Arguments::new(),
    }
}

pub fn to_queue(name: &str) -> Target {
    Target::Queue(name.to_owned())
}

/// Publishes to the default exchange.
pub async fn publish(vhost: &str, queue: &str, count: usize) {
    for _ in 0..count {
        let message = serde_json::json!({
            "routing_key": queue, "payload": "x", "payload_encoding": "string", "properties": {}
        });
        let path = format!("exchanges/{vhost}/amq.default/publish");
        assert_eq!(raw(Method::POST, &path, Some(message)).await.1["routed"], true);
    }
}

/// Asks until the answer is there.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A server that answers every request with what `answer` makes of its first line; its URL.
pub async fn server<F: Future<Output = String> + Send + 'static>(
    answer: impl Fn(String) -> F + Clone + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => seen.extend_from_slice(&buffer[..read]),
                    }
                }
                let line = String::from_utf8_lossy(&seen).lines().next().unwrap_or_default().to_owned();
                let text = answer(line).await;
                stream.write_all(text.as_bytes()).await.ok();
            });
        }
    });
    format!("http://{address}")
}

/// An HTTP answer that ends its connection.
pub fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}
