//! Reaching RabbitMQ, or not: reasons, speed, credentials, TLS.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use spillway_operator::brokers::rabbitmq::{ErrorKind, RabbitClient, RabbitError, RabbitSettings};
use spillway_operator::brokers::settings::{Secret, TlsSettings};
use tokio::net::TcpListener;

use crate::support::{address, client, client_of, in_vhost, queue, raw, read, settings, unique};

/// How soon a broker that refuses has to show in an error.
const SOON: Duration = Duration::from_secs(2);

async fn refused(client: &RabbitClient) -> RabbitError {
    let clock = Instant::now();
    let error = client.overview().await.expect_err("it cannot be reached");
    println!("refused after {:?}: {error}", clock.elapsed());
    assert!(clock.elapsed() < SOON, "took {:?}: {error}", clock.elapsed());
    error
}

#[tokio::test]
async fn a_cluster_says_what_it_is() {
    let client = client();
    let overview = client.overview().await.expect("RabbitMQ answers");
    assert!(overview.version.starts_with(|digit: char| digit.is_ascii_digit()), "{overview:?}");
    assert!(!overview.disable_stats && !overview.cluster_name.is_empty());
    let id = client.cluster_id().await.expect("RabbitMQ answers");
    assert!(id.starts_with("rabbitmq-cluster-id-"), "{id}");
    let nodes = client.nodes().await.expect("RabbitMQ answers");
    assert!(nodes.iter().any(|node| node.running), "{nodes:?}");
    assert!(client.vhosts().await.expect("RabbitMQ answers").contains(&"/".to_owned()));
}

#[tokio::test]
async fn a_wrong_password_is_told_soon_and_never_shown() {
    let wrong = RabbitSettings { password: Secret::new("wrong-hunter2"), ..settings() };
    let client = RabbitClient::connect(&wrong).expect("valid");
    let error = refused(&client).await;
    assert_eq!(error.kind, ErrorKind::Authentication);
    assert!(error.is_unreachable() && !error.is_retriable());
    assert!(!format!("{error} {error:?} {wrong:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_right_that_lacks_is_no_wrong_password() {
    in_vhost(async |_, vhost| {
        let (user, stranger) = (unique("user"), unique("stranger"));
        for (name, tags) in [(&user, "management"), (&stranger, "")] {
            let body = json!({"password": "its-own", "tags": tags});
            assert_eq!(raw(Method::PUT, &format!("users/{name}"), Some(body)).await.0, 201);
        }
        let rights = json!({"configure": "^mine", "write": "^mine", "read": "^mine"});
        assert_eq!(raw(Method::PUT, &format!("permissions/{vhost}/{user}"), Some(rights)).await.0, 201);
        let of = |username: &str| {
            let password = Secret::new("its-own");
            let settings = RabbitSettings { username: username.to_owned(), password, ..settings() };
            RabbitClient::connect(&settings).expect("valid")
        };
        let client = of(&user);
        client.declare_queue(&vhost, &queue("mine")).await.expect("it may");
        let kinds = [
            client.declare_queue(&vhost, &queue("other")).await.map(drop),
            client.declare_queue("/", &queue("mine")).await.map(drop),
            client.cluster_id().await.map(drop),
            client.nodes().await.map(drop),
            of(&stranger).overview().await.map(drop),
        ];
        for kind in kinds {
            let error = kind.expect_err("it may not");
            println!("{error}");
            assert_eq!(error.kind, ErrorKind::Authorization, "{error}");
        }
        for name in [user, stranger] {
            assert_eq!(raw(Method::DELETE, &format!("users/{name}"), None).await.0, 204);
        }
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_broker_is_an_error_that_says_why() {
    let error = refused(&client_of("http://127.0.0.1:1".into())).await;
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.to_string().starts_with("failed to read the overview: "), "{error}");
    assert!(error.message.contains("Connection refused"), "{error}");
    assert!(error.is_unreachable() && error.is_retriable());
    let error = refused(&client_of("http://no-such-host.invalid:15672".into())).await;
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.contains("dns error"), "{error}");
}

#[tokio::test]
async fn a_broker_that_never_answers_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let client = client_of(url).with_timeout(Duration::from_millis(200));
    let error = refused(&client).await;
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert_eq!(error.message, "no answer within 200 ms");
}

fn over_tls(tls: TlsSettings) -> RabbitClient {
    let (management_url, ..) = address("SPILLWAY_TEST_RABBITMQ_TLS");
    let settings = RabbitSettings { management_url, tls: Some(tls), ..settings() };
    RabbitClient::connect(&settings).expect("valid")
}

fn authority(variable: &str) -> TlsSettings {
    TlsSettings { ca_pem: Some(read(variable)), ..TlsSettings::default() }
}

fn with_certificate(of: &str) -> TlsSettings {
    TlsSettings {
        client_cert_pem: Some(read(&format!("{of}_CERT"))),
        client_key_pem: Some(Secret::new(read(&format!("{of}_KEY")))),
        ..authority("SPILLWAY_TEST_RABBITMQ_CA")
    }
}

#[tokio::test]
async fn https_is_trusted_by_its_authority_alone() {
    over_tls(authority("SPILLWAY_TEST_RABBITMQ_CA")).overview().await.expect("it is trusted");
    let insecure = TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() };
    over_tls(insecure).overview().await.expect("anything is trusted");
    for stranger in [authority("SPILLWAY_TEST_KAFKA_CA"), TlsSettings::default()] {
        let error = refused(&over_tls(stranger)).await;
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        assert!(error.message.contains("invalid peer certificate: UnknownIssuer"), "{error}");
    }
}

#[tokio::test]
async fn https_shows_the_client_certificate() {
    over_tls(with_certificate("SPILLWAY_TEST_RABBITMQ"))
        .overview()
        .await
        .expect("RabbitMQ's own authority signed it");
    let error = refused(&over_tls(with_certificate("SPILLWAY_TEST_KAFKA"))).await;
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    assert!(error.message.contains("UnknownCA"), "{error}");
}
