//! Brokers: reachable, unreachable, credentials, certificates.

use spillway_operator::api::{Broker, Topic};

use crate::bed::{ExtraKafka, Kafka, Object as _, Proxy, required, until, world};

#[test]
fn a_broker_is_ready_with_the_id_and_the_nodes_that_the_cluster_itself_tells() {
    world(async |w| {
        let broker = w.broker("").await;
        let (id, nodes) = w.kafka.cluster();
        let status = broker.status.expect("a status");
        assert_eq!(status.cluster_id.as_deref(), Some(id.as_str()));
        assert_eq!(status.nodes, i32::try_from(nodes).ok());
    });
}

#[test]
fn a_broker_counts_its_topics_and_those_that_nobody_declared() {
    world(async |w| {
        let extra = ExtraKafka::start().await;
        let kafka = Kafka::connect(extra.address());
        let before = kafka.topics();
        kafka.create(&w.name("foreign"), 1, &[]).await;
        w.broker_at(extra.address(), "resyncInterval: 5s\ndriftPolicy: Report").await;
        w.topic("orders", "partitions: 1\nconfig: {retention.ms: '1000000'}\ndeadLetter: {}").await;
        w.topic("bills", "partitions: 1").await;
        let counted = |managed, in_sync, drifted| {
            let unmanaged = i32::try_from(before + 1).ok();
            move |broker: &Broker| {
                broker.status.as_ref().is_some_and(|status| {
                    (status.managed, status.in_sync, status.drifted)
                        == (Some(managed), Some(in_sync), Some(drifted))
                        && status.unmanaged.as_ref().and_then(|unmanaged| unmanaged.topics) == unmanaged
                })
            }
        };
        w.until("kafka", "three Topics in step, one topic of nobody", counted(3, 3, 0)).await;
        kafka.set_config(&w.name("orders"), &[("retention.ms", "2000000")]).await;
        w.until("kafka", "one of them differs", counted(3, 2, 1)).await;
        kafka.clean(&w.prefix).await;
    });
}

#[test]
fn a_broker_that_is_not_there_is_unreachable_while_others_go_on_and_recovers_by_itself() {
    world(async |w| {
        let mut proxy = Proxy::closed(&required("SPILLWAY_TEST_KAFKA"));
        w.apply(&format!(
            "
            apiVersion: spillway.dev/v1alpha1
            kind: Broker
            metadata: {{name: away}}
            spec:
              kafka: {{bootstrapServers: ['{}']}}
            ",
            proxy.address()
        ))
        .await;
        let away: Broker = w.condition("away", "Ready", "False", "BrokerUnreachable").await;
        assert!(away.message("Ready").contains(&proxy.address()), "{}", away.summary());

        w.broker("").await;
        w.topic("orders", "partitions: 2").await;
        w.ready::<Topic>("orders").await;
        w.kafka.until_topic(&w.name("orders"), "has 2 partitions", |topic| topic.partitions == 2).await;

        proxy.open();
        w.ready::<Broker>("away").await;
    });
}

#[test]
fn a_topic_on_an_unreachable_broker_says_so_and_is_made_when_the_broker_comes() {
    world(async |w| {
        let mut proxy = Proxy::closed(&required("SPILLWAY_TEST_KAFKA"));
        w.broker_at(&proxy.address(), "").await;
        w.topic("orders", "partitions: 2").await;
        w.condition::<Topic>("orders", "Ready", "False", "BrokerUnreachable").await;
        proxy.open();
        w.ready::<Topic>("orders").await;
        assert!(w.kafka.topic(&w.name("orders")).await.is_some());
    });
}

#[test]
fn a_topic_whose_broker_does_not_exist_waits_for_it() {
    world(async |w| {
        w.topic("orders", "partitions: 1").await;
        w.condition::<Topic>("orders", "Ready", "False", "BrokerNotFound").await;
        w.broker("").await;
        w.ready::<Topic>("orders").await;
    });
}

const SASL: &str = "
    apiVersion: spillway.dev/v1alpha1
    kind: Broker
    metadata: {name: sasl}
    spec:
      kafka:
        bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SASL}']
        sasl: {mechanism: SCRAM-SHA-512, credentialsSecretRef: {name: login}}
    ";

const LOGIN: &str = "
    apiVersion: v1
    kind: Secret
    metadata: {name: login}
    stringData: {username: '${SPILLWAY_TEST_KAFKA_USER}', password: '${SPILLWAY_TEST_KAFKA_PASSWORD}'}
    ";

const WRONG_LOGIN: &str = "
    apiVersion: v1
    kind: Secret
    metadata: {name: login}
    stringData: {username: '${SPILLWAY_TEST_KAFKA_USER}', password: 'not-the-passw0rd'}
    ";

#[test]
fn a_secret_that_is_missing_is_named_and_noticed_when_it_appears() {
    world(async |w| {
        w.apply(SASL).await;
        let broker: Broker = w.condition("sasl", "Ready", "False", "SecretNotFound").await;
        assert!(broker.message("Ready").contains("login"), "{}", broker.summary());
        w.apply(LOGIN).await;
        w.ready::<Broker>("sasl").await;
    });
}

#[test]
fn a_secret_without_the_key_is_named_with_the_key() {
    world(async |w| {
        w.apply("{apiVersion: v1, kind: Secret, metadata: {name: login}, stringData: {username: u}}").await;
        w.apply(SASL).await;
        let broker: Broker = w.condition("sasl", "Ready", "False", "SecretInvalid").await;
        let words = broker.message("Ready");
        assert!(words.contains("login") && words.contains("password"), "{words}");
    });
}

#[test]
fn a_wrong_password_is_told_in_the_brokers_words_and_a_right_one_is_picked_up() {
    world(async |w| {
        w.apply(WRONG_LOGIN).await;
        w.apply(SASL).await;
        let broker: Broker = w.condition("sasl", "Ready", "False", "AuthenticationFailed").await;
        let words = broker.message("Ready");
        assert!(words.contains("invalid credentials"), "{words}");
        assert!(!words.contains("not-the-passw0rd"), "a secret in a condition: {words}");
        w.apply(LOGIN).await;
        w.ready::<Broker>("sasl").await;
        assert!(!w.operator().text().contains("not-the-passw0rd"), "a secret in the log");
    });
}

#[test]
fn a_rotated_secret_is_used_without_a_restart() {
    world(async |w| {
        w.apply(LOGIN).await;
        w.apply(SASL).await;
        w.ready::<Broker>("sasl").await;
        w.apply(WRONG_LOGIN).await;
        w.condition::<Broker>("sasl", "Ready", "False", "AuthenticationFailed").await;
        w.apply(LOGIN).await;
        w.ready::<Broker>("sasl").await;
    });
}

#[test]
fn plain_and_scram_logins_work() {
    world(async |w| {
        w.apply(LOGIN).await;
        for (name, mechanism) in
            [("plain", "PLAIN"), ("scram-256", "SCRAM-SHA-256"), ("scram-512", "SCRAM-SHA-512")]
        {
            let yaml =
                SASL.replace("SCRAM-SHA-512", mechanism).replace("name: sasl", &format!("name: {name}"));
            w.apply(&yaml).await;
            w.ready::<Broker>(name).await;
        }
    });
}

fn pem(variable: &str) -> String {
    let path = required(variable);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::to_string(&text).expect("a string")
}

#[test]
fn tls_with_the_authority_of_a_secret_works_and_without_it_does_not() {
    world(async |w| {
        w.apply(LOGIN).await;
        let yaml = SASL
            .replace("_SASL}", "_SASL_SSL}")
            .replace("sasl: {m", "tls: {caSecretRef: {name: authority}}\n        sasl: {m");
        assert_ne!(yaml, SASL);
        w.apply(&yaml).await;
        w.condition::<Broker>("sasl", "Ready", "False", "SecretNotFound").await;
        let authority = format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: authority}}, stringData: {{ca.crt: {}}}}}",
            pem("SPILLWAY_TEST_KAFKA_CA")
        );
        w.apply(&authority).await;
        w.ready::<Broker>("sasl").await;

        w.apply(
            &yaml
                .replace("caSecretRef: {name: authority}", "insecureSkipVerify: false")
                .replace("name: sasl", "name: strict"),
        )
        .await;
        let strict: Broker = until("the certificate is refused", async || {
            let broker: Broker = w.get("strict").await;
            match broker.condition("Ready") {
                Some(ready) if ready.status == "False" => Ok(broker),
                _ => Err(broker.summary()),
            }
        })
        .await;
        assert!(strict.message("Ready").to_lowercase().contains("certificate"), "{}", strict.summary());

        // Whoever says that it is not to be looked at is served.
        w.apply(
            &yaml
                .replace("caSecretRef: {name: authority}", "insecureSkipVerify: true")
                .replace("name: sasl", "name: blind"),
        )
        .await;
        w.ready::<Broker>("blind").await;
    });
}

#[test]
fn a_client_certificate_of_a_secret_is_shown_to_the_broker() {
    world(async |w| {
        w.apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: client}}, stringData: {{ca.crt: {}, tls.crt: {}, tls.key: {}}}}}",
            pem("SPILLWAY_TEST_KAFKA_CA"),
            pem("SPILLWAY_TEST_KAFKA_CERT"),
            pem("SPILLWAY_TEST_KAFKA_KEY")
        ))
        .await;
        w.apply(
            "
            apiVersion: spillway.dev/v1alpha1
            kind: Broker
            metadata: {name: mutual}
            spec:
              kafka:
                bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SSL}']
                tls: {caSecretRef: {name: client}, clientSecretRef: {name: client}}
            ",
        )
        .await;
        w.ready::<Broker>("mutual").await;
    });
}

#[test]
fn what_a_secret_holds_may_stand_under_any_key() {
    world(async |w| {
        let broker = |name: &str, listener: &str, tls: &str, sasl: &str| {
            format!(
                "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: {name}}}\nspec:\n  kafka:\n    bootstrapServers: ['${{SPILLWAY_TEST_KAFKA_{listener}}}']\n    tls: {{caSecretRef: {{name: odd, key: authority}}{tls}}}\n{sasl}"
            )
        };
        let client = ", clientSecretRef: {name: odd, certKey: client.pem, keyKey: client-key.pem}";
        let sasl = "    sasl: {mechanism: SCRAM-SHA-256, credentialsSecretRef: {name: odd, usernameKey: who, passwordKey: word}}\n";
        w.apply(&broker("login", "SASL_SSL", "", sasl)).await;
        w.apply(&broker("certificate", "SSL", client, "")).await;
        // A Secret with the usual keys is none of theirs, and each key that is missing is named.
        let secret = |keys: &str| {
            format!("{{apiVersion: v1, kind: Secret, metadata: {{name: odd}}, stringData: {{{keys}}}}}")
        };
        let authority = format!("authority: {}", pem("SPILLWAY_TEST_KAFKA_CA"));
        w.apply(&secret(&format!("{authority}, username: u, password: p, tls.crt: c, tls.key: k"))).await;
        for (name, key) in [("login", "\"who\""), ("certificate", "\"client.pem\"")] {
            let broker: Broker = w.condition(name, "Ready", "False", "SecretInvalid").await;
            assert!(broker.message("Ready").contains(key), "{}", broker.summary());
        }
        w.apply(&secret(&format!(
            "{authority}, who: '${{SPILLWAY_TEST_KAFKA_USER}}', word: '${{SPILLWAY_TEST_KAFKA_PASSWORD}}', client.pem: {}, client-key.pem: {}",
            pem("SPILLWAY_TEST_KAFKA_CERT"),
            pem("SPILLWAY_TEST_KAFKA_KEY")
        )))
        .await;
        w.ready::<Broker>("login").await;
        w.ready::<Broker>("certificate").await;
    });
}

#[test]
fn a_bootstrap_server_with_a_scheme_is_refused_at_admission() {
    world(async |w| {
        let words = w
            .refused(
                "
                apiVersion: spillway.dev/v1alpha1
                kind: Broker
                metadata: {name: kafka}
                spec: {kafka: {bootstrapServers: ['PLAINTEXT://kafka:9092']}}
                ",
            )
            .await;
        assert!(words.contains("without a scheme"), "{words}");
    });
}
