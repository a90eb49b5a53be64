//! Reaching a broker, or not: reasons, speed, recovery, credentials, TLS, giving up.

use std::time::{Duration, Instant};

use futures::FutureExt;
use spillway_operator::brokers::kafka::{
    ErrorCode, KafkaClient, KafkaError, KafkaSettings, SaslMechanism, SaslSettings, Secret, TlsSettings,
};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{TIMEOUT, client, environment, eventually, plain_settings, topic, unique};

/// How soon a broker that refuses for good has to show in an error.
const SOON: Duration = Duration::from_secs(10);

fn read(variable: &str) -> String {
    let path = environment(variable);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{variable} names {path}: {error}"))
}

fn authority() -> TlsSettings {
    TlsSettings { ca_pem: Some(read("SPILLWAY_TEST_KAFKA_CA")), ..TlsSettings::default() }
}

fn credentials(mechanism: SaslMechanism) -> SaslSettings {
    SaslSettings {
        mechanism,
        username: environment("SPILLWAY_TEST_KAFKA_USER"),
        password: Secret::new(environment("SPILLWAY_TEST_KAFKA_PASSWORD")),
    }
}

fn settings(listener: &str, tls: Option<TlsSettings>, sasl: Option<SaslSettings>) -> KafkaSettings {
    let plain = KafkaSettings::plaintext(vec![environment(listener)], "spillway-test");
    KafkaSettings { tls, sasl, ..plain }
}

async fn reach(settings: &KafkaSettings) -> Result<(), KafkaError> {
    let client = KafkaClient::connect(settings)?;
    client.describe_cluster(TIMEOUT).await.map(drop)
}

/// The error of a broker that refuses, which has to come long before the call's time-out.
async fn refused(settings: &KafkaSettings) -> KafkaError {
    let clock = Instant::now();
    let error = reach(settings).await.expect_err("the broker refuses");
    println!("refused after {:?}: {error}", clock.elapsed());
    assert!(clock.elapsed() < SOON, "took {:?}: {error}", clock.elapsed());
    assert!(error.is_unreachable(), "{error:?}");
    error
}

#[tokio::test]
async fn an_unreachable_broker_is_an_error_that_says_why() {
    let settings = KafkaSettings::plaintext(vec!["127.0.0.1:1".to_owned()], "spillway-test");
    let client = KafkaClient::connect(&settings).expect("valid");
    let clock = Instant::now();
    let error =
        client.describe_cluster(Duration::from_millis(1_500)).await.expect_err("nobody listens there");
    assert!(clock.elapsed() < Duration::from_millis(2_600), "{:?}", clock.elapsed());
    assert_eq!(error.code, ErrorCode::Transport);
    let words =
        "failed to describe the cluster: 127.0.0.1:1: Connect to ipv4#127.0.0.1:1 failed: Connection refused";
    assert_eq!(error.to_string(), words);
    assert!(error.is_retriable() && error.is_unreachable());
    assert_eq!(client.connection_error().expect("known by now").message, error.message);
    let error = client.list_topics(Duration::from_millis(500)).await.expect_err("nobody listens there");
    assert!(error.to_string().ends_with("Connection refused"), "{error}");
    let outcomes =
        client.create_topics(&[topic("a", 1), topic("b", 1)], false, Duration::from_millis(500)).await;
    assert!(outcomes.expect_err("nobody listens there").to_string().ends_with("Connection refused"));
}

#[tokio::test]
async fn a_host_name_that_does_not_exist_is_named() {
    let settings = KafkaSettings::plaintext(vec!["no-such-host.invalid:9092".to_owned()], "spillway-test");
    let client = KafkaClient::connect(&settings).expect("valid");
    let error = eventually("the name was looked up", async || client.connection_error()).await;
    assert_eq!(error.code, ErrorCode::Transport);
    assert!(error.message.contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn a_call_waits_for_a_broker_that_comes_back_and_then_goes_through_at_once() {
    let broker = environment("SPILLWAY_TEST_KAFKA");
    let reserved = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = reserved.local_addr().expect("bound");
    drop(reserved);
    let client = KafkaClient::connect(&KafkaSettings::plaintext(vec![address.to_string()], "spillway-test"));
    let client = client.expect("valid");
    let call = client.describe_cluster(TIMEOUT);
    tokio::pin!(call);
    eventually("the broker was found to be down", async || client.connection_error()).await;
    assert!((&mut call).now_or_never().is_none());

    let listener = TcpListener::bind(address).await.expect("the port is still free");
    let forwarding = tokio::spawn(async move {
        loop {
            let (mut inbound, _) = listener.accept().await.expect("a connection");
            let broker = broker.clone();
            tokio::spawn(async move {
                let mut outbound = TcpStream::connect(broker).await.expect("the broker is up");
                tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await.ok();
            });
        }
    });
    let back = Instant::now();
    call.await.expect("the broker is reachable now");
    println!("answered {:?} after the broker came back", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    assert_eq!(client.connection_error(), None);
    forwarding.abort();
}

#[tokio::test]
async fn a_wrong_password_is_told_within_seconds_in_the_brokers_words() {
    for mechanism in [SaslMechanism::ScramSha512, SaslMechanism::ScramSha256, SaslMechanism::Plain] {
        let wrong = SaslSettings { password: Secret::new("wrong"), ..credentials(mechanism) };
        let error = refused(&settings("SPILLWAY_TEST_KAFKA_SASL", None, Some(wrong.clone()))).await;
        assert_eq!(error.code, ErrorCode::Authentication, "{error}");
        assert!(error.message.contains("Authentication failed"), "{error}");
        assert!(!error.message.contains("wrong"), "the password must not show: {error}");
        let error = refused(&settings("SPILLWAY_TEST_KAFKA_SASL_SSL", Some(authority()), Some(wrong))).await;
        assert_eq!(error.code, ErrorCode::Authentication, "{error}");
    }
}

#[tokio::test]
async fn a_refused_client_refuses_each_further_call_soon() {
    let wrong = SaslSettings { password: Secret::new("wrong"), ..credentials(SaslMechanism::ScramSha512) };
    let client =
        KafkaClient::connect(&settings("SPILLWAY_TEST_KAFKA_SASL", None, Some(wrong))).expect("valid");
    for _ in 0..3 {
        let clock = Instant::now();
        let error = client.list_topics(TIMEOUT).await.expect_err("refused");
        assert_eq!(error.code, ErrorCode::Authentication, "{error}");
        assert!(clock.elapsed() < SOON, "{:?}", clock.elapsed());
    }
}

#[tokio::test]
async fn the_right_password_opens_every_mechanism_with_and_without_tls() {
    for mechanism in [SaslMechanism::ScramSha512, SaslMechanism::ScramSha256, SaslMechanism::Plain] {
        let credentials = credentials(mechanism);
        reach(&settings("SPILLWAY_TEST_KAFKA_SASL", None, Some(credentials.clone()))).await.expect("reached");
        let tls = settings("SPILLWAY_TEST_KAFKA_SASL_SSL", Some(authority()), Some(credentials));
        reach(&tls).await.expect("reached over TLS");
    }
}

#[tokio::test]
async fn a_listener_that_wants_a_client_certificate_takes_it_and_refuses_without() {
    let with = TlsSettings {
        client_cert_pem: Some(read("SPILLWAY_TEST_KAFKA_CERT")),
        client_key_pem: Some(Secret::new(read("SPILLWAY_TEST_KAFKA_KEY"))),
        ..authority()
    };
    reach(&settings("SPILLWAY_TEST_KAFKA_SSL", Some(with), None)).await.expect("reached");
    let error = refused(&settings("SPILLWAY_TEST_KAFKA_SSL", Some(authority()), None)).await;
    assert_eq!(error.code, ErrorCode::Ssl, "{error}");
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused_unless_verification_is_switched_off() {
    let credentials = credentials(SaslMechanism::ScramSha512);
    let system =
        settings("SPILLWAY_TEST_KAFKA_SASL_SSL", Some(TlsSettings::default()), Some(credentials.clone()));
    let error = refused(&system).await;
    assert_eq!(error.code, ErrorCode::Ssl, "{error}");
    assert!(error.message.contains("certificate verify failed"), "{error}");
    let blind = TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() };
    reach(&settings("SPILLWAY_TEST_KAFKA_SASL_SSL", Some(blind), Some(credentials))).await.expect("reached");
}

#[tokio::test]
async fn the_wrong_protocol_for_a_listener_is_explained() {
    for (listener, wants) in [("SPILLWAY_TEST_KAFKA_SSL", "TLS"), ("SPILLWAY_TEST_KAFKA_SASL", "SASL")] {
        let plain = KafkaClient::connect(&settings(listener, None, None)).expect("valid");
        let error = plain.describe_cluster(Duration::from_secs(2)).await.expect_err("not a plain listener");
        println!("{error}");
        assert!(error.is_unreachable(), "{error:?}");
        assert!(error.message.contains(&format!("the listener may want {wants}")), "{error}");
    }
    let tls = settings("SPILLWAY_TEST_KAFKA", Some(authority()), None);
    let error = refused(&tls).await;
    assert_eq!(error.code, ErrorCode::Ssl, "{error}");
}

#[tokio::test]
async fn giving_up_on_calls_and_dropping_the_client_amid_them_is_sound() {
    for round in 0..20 {
        let client = client();
        let abandoned: Vec<_> = (0..50).map(|_| client.describe_cluster(TIMEOUT)).collect();
        for (index, call) in abandoned.into_iter().enumerate() {
            // Polled once, so that it is sent, and dropped before or after its answer.
            if (&mut Box::pin(call)).now_or_never().is_none() && index % 10 == 0 {
                tokio::task::yield_now().await;
            }
        }
        if round % 2 == 0 {
            client.describe_cluster(TIMEOUT).await.expect("the client still works");
        }
        let clock = Instant::now();
        drop(client);
        assert!(clock.elapsed() < Duration::from_millis(100), "dropping waited {:?}", clock.elapsed());
    }
    let down = KafkaSettings::plaintext(vec!["127.0.0.1:1".to_owned()], "spillway-test");
    let client = KafkaClient::connect(&down).expect("valid");
    assert!(client.describe_cluster(TIMEOUT).now_or_never().is_none());
    drop(client);
}

#[tokio::test]
async fn several_calls_share_one_client_and_its_few_threads() {
    let client = KafkaClient::connect(&plain_settings()).expect("valid");
    let name = unique("absent");
    let calls = (0..200).map(|_| client.describe_topics(std::slice::from_ref(&name), TIMEOUT));
    for outcome in futures::future::join_all(calls).await {
        assert!(outcome.expect("answered")[0].1.is_err());
    }
}
