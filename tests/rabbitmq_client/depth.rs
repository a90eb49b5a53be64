//! Depths over AMQP, and what another connection's exclusive queue answers.

use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use reqwest::Method;
use spillway_operator::brokers::rabbitmq::{AmqpProbe, Depth, ErrorKind, RabbitSettings};
use spillway_operator::brokers::settings::{Secret, TlsSettings};

use crate::support::{
    address, environment, eventually, in_vhost, publish, queue, raw, read, settings, unique,
};

fn probe(variable: &str, tls: Option<TlsSettings>) -> AmqpProbe {
    let (amqp_url, ..) = address(variable);
    let settings = RabbitSettings { amqp_url: Some(amqp_url), tls, ..settings() };
    AmqpProbe::connect(&settings).expect("valid").expect("it has an address")
}

fn plain() -> AmqpProbe {
    probe("SPILLWAY_TEST_AMQP", None)
}

/// Another connection to a virtual host.
async fn stranger(vhost: &str) -> Connection {
    let url = environment("SPILLWAY_TEST_AMQP").replace("%2f", vhost);
    Connection::connect(&url, ConnectionProperties::default()).await.expect("RabbitMQ answers")
}

#[tokio::test]
async fn the_depth_of_a_queue_is_its_ready_messages_and_consumers() {
    in_vhost(async |client, vhost| {
        let probe = plain();
        client.declare_queue(&vhost, &queue("grün/q")).await.expect("valid");
        assert_eq!(probe.depth(&vhost, "grün/q").await, Ok(Some(Depth { ready: 0, consumers: 0 })));
        publish(&vhost, "grün/q", 3).await;
        assert_eq!(probe.depth(&vhost, "grün/q").await, Ok(Some(Depth { ready: 3, consumers: 0 })));
        let connection = stranger(&vhost).await;
        let channel = connection.create_channel().await.expect("it is open");
        let consume = BasicConsumeOptions::default();
        let started = channel.basic_consume("grün/q".into(), "c".into(), consume, FieldTable::default());
        // A consumer that is dropped is cancelled.
        let _consumer = started.await.expect("it is there");
        assert_eq!(probe.depth(&vhost, "grün/q").await, Ok(Some(Depth { ready: 0, consumers: 1 })));
        assert_eq!(probe.depth(&vhost, "none").await, Ok(None));
        assert_eq!(probe.depth(&vhost, "grün/q").await, Ok(Some(Depth { ready: 0, consumers: 1 })));
        let error = probe.depth(&vhost, &"ü".repeat(200)).await.expect_err("AMQP has no such names");
        assert_eq!(error.kind, ErrorKind::Invalid);
    })
    .await;
}

#[tokio::test]
async fn many_probes_share_one_connection_which_is_made_again_when_it_was_lost() {
    in_vhost(async |client, vhost| {
        let probe = plain();
        client.declare_queue(&vhost, &queue("q")).await.expect("valid");
        let seen = futures::future::join_all((0..300).map(|_| probe.depth(&vhost, "q"))).await;
        assert!(seen.iter().all(|depth| *depth == Ok(Some(Depth { ready: 0, consumers: 0 }))), "{seen:?}");
        let path = format!("vhosts/{vhost}/connections");
        let connections = eventually("the connection is listed", async || {
            let (_, found) = raw(Method::GET, &path, None).await;
            let names: Vec<_> =
                found.as_array()?.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
            (!names.is_empty()).then_some(names)
        })
        .await;
        assert_eq!(connections.len(), 1, "{connections:?}");
        let close = format!("connections/{}", connections[0].replace(' ', "%20").replace('>', "%3E"));
        assert_eq!(raw(Method::DELETE, &close, None).await.0, 204);
        eventually("a probe has a connection again", async || probe.depth(&vhost, "q").await.ok().flatten())
            .await;
    })
    .await;
}

#[tokio::test]
async fn what_amqp_refuses_is_told_apart() {
    in_vhost(async |client, vhost| {
        client.declare_queue(&vhost, &queue("q")).await.expect("valid");
        let missing = unique("none");
        let error = plain().depth(&missing, "q").await.expect_err("there is no such virtual host");
        assert_eq!(error.kind, ErrorKind::NoVhost);
        assert_eq!(error.message, format!("virtual host {missing:?} does not exist"));

        let (amqp_url, ..) = address("SPILLWAY_TEST_AMQP");
        let of =
            |settings: RabbitSettings| AmqpProbe::connect(&settings).expect("valid").expect("has an address");
        let wrong =
            RabbitSettings { password: Secret::new("hunter2"), amqp_url: Some(amqp_url), ..settings() };
        let error = of(wrong).depth(&vhost, "q").await.expect_err("it is not the password");
        assert_eq!(error.kind, ErrorKind::Authentication, "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));

        let nobody = RabbitSettings { amqp_url: Some("amqp://127.0.0.1:1".into()), ..settings() };
        let error = of(nobody).depth(&vhost, "q").await.expect_err("nobody listens there");
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        assert!(error.message.contains("Connection refused"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_thousand_queues_do_not_wait_one_after_the_other_for_a_port_that_says_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let amqp_url = Some(format!("amqp://{}", listener.local_addr().expect("bound")));
    let taken = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            taken.push(connection);
        }
    });
    let settings = RabbitSettings { amqp_url, ..settings() };
    let probe = AmqpProbe::connect(&settings).expect("valid").expect("it has an address");
    let begun = std::time::Instant::now();
    let limit = std::time::Duration::from_secs(4);
    let asked = (0..1_000).map(|_| probe.depth_within("/", "q", limit));
    let seen = futures::future::join_all(asked).await;
    assert!(seen.iter().all(|depth| depth.as_ref().is_err_and(|error| error.kind == ErrorKind::Timeout)));
    // One after the other, 64 at a time, they took a minute.
    assert!(begun.elapsed() < 3 * limit, "{:?}", begun.elapsed());
    taken.abort();
}

#[tokio::test]
async fn another_connections_exclusive_queue_is_locked() {
    in_vhost(async |client, vhost| {
        let connection = stranger(&vhost).await;
        let channel = connection.create_channel().await.expect("it is open");
        let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("mine".into(), exclusive, FieldTable::default()).await.expect("it is new");
        let seen = client.queue(&vhost, "mine").await.expect("RabbitMQ answers").expect("it is there");
        assert!(seen.exclusive);
        let error = client.declare_queue(&vhost, &queue("mine")).await.expect_err("it is another's");
        assert_eq!(error.kind, ErrorKind::Locked, "{error}");
        let error = client.delete_queue(&vhost, "mine", false, false).await.expect_err("it is another's");
        assert_eq!(error.kind, ErrorKind::Locked, "{error}");
        let error = plain().depth(&vhost, "mine").await.expect_err("it is another's");
        assert_eq!(error.kind, ErrorKind::Locked, "{error}");
    })
    .await;
}

#[tokio::test]
async fn amqps_is_trusted_by_its_authority_and_shows_the_client_certificate() {
    in_vhost(async |client, vhost| {
        client.declare_queue(&vhost, &queue("q")).await.expect("valid");
        let authority = |variable| TlsSettings { ca_pem: Some(read(variable)), ..TlsSettings::default() };
        let known = TlsSettings {
            client_cert_pem: Some(read("SPILLWAY_TEST_RABBITMQ_CERT")),
            client_key_pem: Some(Secret::new(read("SPILLWAY_TEST_RABBITMQ_KEY"))),
            ..authority("SPILLWAY_TEST_RABBITMQ_CA")
        };
        let secure = probe("SPILLWAY_TEST_AMQPS", Some(known));
        assert_eq!(secure.depth(&vhost, "q").await, Ok(Some(Depth { ready: 0, consumers: 0 })));
        let subject = eventually("the connection is listed", async || {
            let (_, found) = raw(Method::GET, &format!("vhosts/{vhost}/connections"), None).await;
            Some(found.as_array()?.first()?["peer_cert_subject"].as_str()?.to_owned())
        })
        .await;
        assert_eq!(subject, "CN=guest");
        for stranger in [authority("SPILLWAY_TEST_KAFKA_CA"), TlsSettings::default()] {
            let probe = probe("SPILLWAY_TEST_AMQPS", Some(stranger));
            let error = probe.depth(&vhost, "q").await.expect_err("it is a stranger's certificate");
            assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
            assert!(error.message.contains("invalid peer certificate: UnknownIssuer"), "{error}");
        }
    })
    .await;
}
