//! Brokers for RabbitMQ: reachable, unreachable, credentials, certificates.

use spillway_operator::api::{Broker, Queue};

use crate::bed::{Object as _, Proxy, RabbitAddress, World, login_yaml, rabbit_yaml, required, until, world};

#[test]
fn a_broker_is_ready_with_the_id_the_version_and_the_nodes_that_rabbitmq_itself_tells() {
    world(async |w| {
        let broker = w.rabbit("").await;
        let (id, version, nodes) = w.mq().await.cluster().await;
        let status = broker.status.expect("a status");
        assert_eq!(status.cluster_id, Some(id));
        assert_eq!(status.version, Some(version));
        assert_eq!(status.nodes, i32::try_from(nodes).ok());
    });
}

#[test]
fn a_broker_counts_its_objects_and_the_queues_that_nobody_declared() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s").await;
        w.mq().await.declare_queue("foreign", serde_json::json!({})).await;
        w.queue("orders", "deadLetter: {}").await;
        w.exchange("events", "type: topic").await;
        w.binding("b", "source: events\ndestination: {queue: orders}").await;
        w.until("rabbitmq", "the Broker counts two queues, an exchange and a binding", |broker: &Broker| {
            let Some(status) = &broker.status else { return false };
            let unmanaged = status.unmanaged.as_ref().and_then(|unmanaged| unmanaged.queues);
            (status.managed, status.in_sync, status.drifted) == (Some(4), Some(4), Some(0))
                && unmanaged.is_some_and(|queues| queues >= 1)
        })
        .await;
    });
}

#[test]
fn the_secret_that_rabbitmqs_cluster_operator_writes_is_enough() {
    world(async |w| {
        w.mq().await;
        let bed = RabbitAddress::of_the_bed();
        // Its host and port are where the depth of queues is asked for.
        let mut amqp = Proxy::closed(bed.amqp.trim_start_matches("amqp://"));
        let address = amqp.address();
        let (host, port) = address.split_once(':').expect("host:port");
        w.apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: rabbit-default-user}}, stringData: {{host: '{host}', port: '{port}', username: '{}', password: '{}', default_user.conf: 'x', provider: rabbitmq, type: rabbitmq}}}}",
            bed.username, bed.password
        ))
        .await;
        w.apply(
            "
            apiVersion: spillway.dev/v1alpha1
            kind: Broker
            metadata: {name: rabbitmq}
            spec:
              rabbitmq:
                managementUrl: ${RABBITMQ}
                connectionSecretRef: {name: rabbit-default-user}
            ",
        )
        .await;
        w.ready::<Broker>("rabbitmq").await;
        w.queue("orders", "deletionPolicy: DeleteIfEmpty").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(w.mq().await.the_queue("orders").await["type"], "quorum");
        w.delete::<Queue>("orders").await;
        w.condition::<Queue>("orders", "Ready", "False", "BrokerUnreachable").await;
        amqp.open();
        w.until_gone::<Queue>("orders").await;
        assert_eq!(w.mq().await.queues().await, [""; 0]);
    });
}

#[test]
fn a_login_secret_that_is_missing_is_named_and_noticed_when_it_appears() {
    world(async |w| {
        w.mq().await;
        w.apply(&rabbit_yaml("")).await;
        let broker: Broker = w.condition("rabbitmq", "Ready", "False", "SecretNotFound").await;
        assert!(broker.message("Ready").contains("rabbitmq"), "{}", broker.summary());
        w.apply("{apiVersion: v1, kind: Secret, metadata: {name: rabbitmq}, stringData: {username: u}}")
            .await;
        let broker: Broker = w.condition("rabbitmq", "Ready", "False", "SecretInvalid").await;
        assert!(broker.message("Ready").contains("password"), "{}", broker.summary());
        w.login("rabbitmq").await;
        w.ready::<Broker>("rabbitmq").await;
    });
}

#[test]
fn a_password_that_rabbitmq_refuses_is_told_and_is_in_no_condition_and_in_no_log() {
    world(async |w| {
        let bed = RabbitAddress::of_the_bed();
        w.apply(&login_yaml("rabbitmq", &bed.username, "not-the-passw0rd")).await;
        w.apply(&rabbit_yaml("")).await;
        let broker: Broker = w.condition("rabbitmq", "Ready", "False", "AuthenticationFailed").await;
        let words = broker.message("Ready");
        assert!(words.starts_with("failed to "), "{words}");
        assert!(words.to_lowercase().contains("authori"), "RabbitMQ's own words: {words}");
        assert!(!words.contains("not-the-passw0rd"), "a secret in a condition: {words}");
        w.login("rabbitmq").await;
        w.ready::<Broker>("rabbitmq").await;
        assert!(!w.operator().text().contains("not-the-passw0rd"), "a secret in the log");
    });
}

#[test]
fn a_rotated_password_is_picked_up_without_a_restart() {
    world(async |w| {
        w.mq().await.user(&w.namespace, "first", "administrator").await;
        w.apply(&login_yaml("rabbitmq", &w.namespace, "first")).await;
        w.apply(&rabbit_yaml("resyncInterval: 5s")).await;
        w.ready::<Broker>("rabbitmq").await;
        w.queue("orders", "").await;
        w.ready::<Queue>("orders").await;

        w.mq().await.user(&w.namespace, "second", "administrator").await;
        w.condition::<Broker>("rabbitmq", "Ready", "False", "AuthenticationFailed").await;
        w.apply(&login_yaml("rabbitmq", &w.namespace, "second")).await;
        w.ready::<Broker>("rabbitmq").await;
        w.queue("bills", "").await;
        w.ready::<Queue>("bills").await;
    });
}

#[test]
fn what_the_user_may_not_do_is_told_in_rabbitmqs_words() {
    world(async |w| {
        let user = w.namespace.clone();
        let mq = w.mq().await;
        mq.user(&user, "secret", "administrator").await;
        let some = serde_json::json!({"configure": "^allowed", "write": ".*", "read": ".*"});
        mq.put(&["permissions", &w.vhost, &user], some).await;
        w.apply(&login_yaml("rabbitmq", &user, "secret")).await;
        w.apply(&rabbit_yaml("")).await;
        w.queue("allowed", "").await;
        w.ready::<Queue>("allowed").await;
        w.queue("orders", "").await;
        let queue: Queue = w.condition("orders", "Ready", "False", "AuthorizationFailed").await;
        assert!(queue.message("Ready").contains("Access refused"), "{}", queue.summary());
        assert_eq!(mq.queues().await, ["allowed"]);
    });
}

#[test]
fn a_management_interface_that_is_away_is_unreachable_and_work_goes_on_when_it_comes() {
    world(async |w| {
        let bed = RabbitAddress::of_the_bed();
        let mut proxy = Proxy::closed(bed.management.trim_start_matches("http://"));
        w.rabbit_at(&format!("http://{}", proxy.address()), "").await;
        w.condition::<Broker>("rabbitmq", "Ready", "False", "BrokerUnreachable").await;
        w.queue("orders", "maxLength: 5").await;
        w.condition::<Queue>("orders", "Ready", "False", "BrokerUnreachable").await;
        proxy.open();
        w.ready::<Broker>("rabbitmq").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(w.mq().await.queues().await, ["orders"]);
    });
}

#[test]
fn a_virtual_host_that_does_not_exist_is_named_and_waited_for() {
    world(async |w| {
        w.rabbit("").await;
        let later = format!("{} later", w.vhost);
        w.queue("orders", &format!("vhost: '{later}'")).await;
        let queue: Queue = w.condition("orders", "Ready", "False", "DependencyNotReady").await;
        assert!(queue.message("Ready").contains(&later), "{}", queue.summary());
        let other = w.mq().await.another_vhost(&later).await;
        w.ready::<Queue>("orders").await;
        assert_eq!(other.queues().await, ["orders"]);
        assert_eq!(w.mq().await.queues().await, [""; 0]);
    });
}

#[test]
fn a_deletion_waits_until_its_broker_is_not_paused_any_more() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "deletionPolicy: Delete").await;
        w.ready::<Queue>("orders").await;
        w.annotate::<Broker>("rabbitmq", "spillway.dev/paused", Some("true")).await;
        w.condition::<Broker>("rabbitmq", "Paused", "True", "").await;
        w.condition::<Queue>("orders", "Ready", "False", "Paused").await;
        w.delete::<Queue>("orders").await;
        let going = w
            .until("orders", "the deletion is under way", |queue: &Queue| {
                queue.metadata.deletion_timestamp.is_some() && queue.observed() == queue.metadata.generation
            })
            .await;
        assert!(going.message("Ready").contains("the deletion waits"), "{}", going.summary());
        assert_eq!(w.mq().await.queues().await, ["orders"]);
        w.annotate::<Broker>("rabbitmq", "spillway.dev/paused", None).await;
        w.until_gone::<Queue>("orders").await;
        assert_eq!(w.mq().await.queues().await, [""; 0]);
    });
}

#[test]
fn a_paused_broker_freezes_all_that_depends_on_it() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s").await;
        w.queue("orders", "maxLength: 5").await;
        w.ready::<Queue>("orders").await;
        w.annotate::<Broker>("rabbitmq", "spillway.dev/paused", Some("true")).await;
        w.condition::<Broker>("rabbitmq", "Paused", "True", "").await;
        w.queue("orders", "maxLength: 6").await;
        w.queue("bills", "").await;
        w.condition::<Queue>("orders", "Paused", "True", "").await;
        w.condition::<Queue>("bills", "Paused", "True", "").await;
        let mq = w.mq().await;
        assert_eq!(mq.policy("spillway.q.orders").await.expect("a policy")["definition"]["max-length"], 5);
        assert_eq!(mq.queues().await, ["orders"]);
        w.annotate::<Broker>("rabbitmq", "spillway.dev/paused", None).await;
        w.ready::<Queue>("bills").await;
        mq.until_policy("spillway.q.orders", "has the new limit", |policy| {
            policy["definition"]["max-length"] == 6
        })
        .await;
    });
}

#[test]
fn what_cannot_be_a_connection_is_refused_at_admission() {
    world(async |w| {
        let connection = "rabbitmq: {managementUrl: 'http://r:15672', credentialsSecretRef: {name: s}}";
        let refused = [
            (
                "rabbitmq: {managementUrl: 'http://r:15672'}",
                "exactly one of credentialsSecretRef and connectionSecretRef",
            ),
            (
                "rabbitmq: {managementUrl: 'http://r:15672', credentialsSecretRef: {name: s}, connectionSecretRef: {name: s}}",
                "exactly one of credentialsSecretRef and connectionSecretRef",
            ),
            (
                "rabbitmq: {managementUrl: 'http://u:p@r:15672', credentialsSecretRef: {name: s}}",
                "without user or password",
            ),
            (
                "rabbitmq: {managementUrl: 'r.example:15672', credentialsSecretRef: {name: s}}",
                "http(s)://host:port",
            ),
            (
                "rabbitmq: {managementUrl: 'http://r:15672', amqpUrl: 'amqp://u:p@r:5672', credentialsSecretRef: {name: s}}",
                "without user, password or virtual host",
            ),
            (
                "rabbitmq: {managementUrl: 'http://r:15672', amqpUrl: 'amqp://r:5672/vhost', credentialsSecretRef: {name: s}}",
                "without user, password or virtual host",
            ),
            (
                "rabbitmq: {managementUrl: 'http://r:15672', credentialsSecretRef: {name: s}, tls: {}}",
                "tls is set, but neither managementUrl",
            ),
            ("resyncInterval: 30s", "exactly one of kafka and rabbitmq"),
        ];
        for (spec, words) in refused {
            let yaml = format!(
                "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: b}}\nspec:\n  {spec}\n"
            );
            let said = w.refused(&yaml).await;
            assert!(said.contains(words), "{spec}: {said}");
        }
        let both = format!(
            "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: b}}\nspec:\n  {connection}\n  kafka: {{bootstrapServers: ['k:9092']}}\n"
        );
        let said = w.refused(&both).await;
        assert!(said.contains("exactly one of kafka and rabbitmq"), "{said}");
        let quick = rabbit_yaml("resyncInterval: 4s");
        let said = w.refused(&quick).await;
        assert!(said.contains("at least 5s"), "{said}");
    });
}

fn pem(variable: &str) -> String {
    let path = required(variable);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::to_string(&text).expect("a string")
}

/// The Broker over TLS, with these TLS settings.
async fn over_tls(w: &World, name: &str, url: &str, tls: &str) {
    w.login("rabbitmq").await;
    w.apply(&format!(
        "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: {name}}}\nspec:\n  rabbitmq:\n    managementUrl: {url}\n    credentialsSecretRef: {{name: rabbitmq}}\n    {tls}\n"
    ))
    .await;
}

/// Waits for a Broker whose certificate trouble is told.
async fn distrusted(w: &World, name: &str) {
    let broker: Broker = until("the certificate is refused", async || {
        let broker: Broker = w.get(name).await;
        match broker.condition("Ready") {
            Some(ready) if ready.status == "False" => Ok(broker),
            _ => Err(broker.summary()),
        }
    })
    .await;
    assert!(broker.message("Ready").to_lowercase().contains("certificate"), "{}", broker.summary());
}

#[test]
fn tls_to_rabbitmq_works_with_the_authority_of_a_secret_and_not_without_it() {
    let url = crate::bed::required("SPILLWAY_TEST_RABBITMQ_TLS");
    let (url, _) = crate::bed::without_credentials(&url);
    world(async |w| {
        let ca = pem("SPILLWAY_TEST_RABBITMQ_CA");
        w.apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: ca}}, stringData: {{ca.crt: {ca}}}}}"
        ))
        .await;
        over_tls(w, "trusting", &url, "tls: {caSecretRef: {name: ca}}").await;
        w.ready::<Broker>("trusting").await;
        over_tls(w, "strict", &url, "tls: {insecureSkipVerify: false}").await;
        distrusted(w, "strict").await;
        over_tls(w, "blind", &url, "tls: {insecureSkipVerify: true}").await;
        w.ready::<Broker>("blind").await;
    });
}

#[test]
fn a_client_certificate_is_shown_to_rabbitmq_which_refuses_that_of_a_stranger() {
    let url = crate::bed::required("SPILLWAY_TEST_RABBITMQ_TLS");
    let (url, _) = crate::bed::without_credentials(&url);
    world(async |w| {
        let ca = pem("SPILLWAY_TEST_RABBITMQ_CA");
        for (name, of) in [("known", "SPILLWAY_TEST_RABBITMQ"), ("stranger", "SPILLWAY_TEST_KAFKA")] {
            let (certificate, key) = (pem(&format!("{of}_CERT")), pem(&format!("{of}_KEY")));
            w.apply(&format!(
                "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}, stringData: {{ca.crt: {ca}, tls.crt: {certificate}, tls.key: {key}}}}}"
            ))
            .await;
            let tls = format!("tls: {{caSecretRef: {{name: {name}}}, clientSecretRef: {{name: {name}}}}}");
            over_tls(w, name, &url, &tls).await;
        }
        w.ready::<Broker>("known").await;
        // The same under keys of other names.
        let (certificate, key) = (pem("SPILLWAY_TEST_RABBITMQ_CERT"), pem("SPILLWAY_TEST_RABBITMQ_KEY"));
        let bed = RabbitAddress::of_the_bed();
        w.apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: odd}}, stringData: {{authority: {ca}, client: {certificate}, client-key: {key}, who: '{}', word: '{}'}}}}",
            bed.username, bed.password
        ))
        .await;
        w.apply(&format!(
            "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: odd}}\nspec:\n  rabbitmq:\n    managementUrl: {url}\n    credentialsSecretRef: {{name: odd, usernameKey: who, passwordKey: word}}\n    tls: {{caSecretRef: {{name: odd, key: authority}}, clientSecretRef: {{name: odd, certKey: client, keyKey: client-key}}}}\n"
        ))
        .await;
        w.ready::<Broker>("odd").await;
        let stranger: Broker = w.condition("stranger", "Ready", "False", "BrokerUnreachable").await;
        assert!(stranger.message("Ready").contains("UnknownCA"), "{}", stranger.summary());
    });
}
