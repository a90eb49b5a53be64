//! What is planted: passwords, a key, and Brokers that fail with them.

use k8s_openapi::ByteString;
use serde_json::json;

use crate::bed::required;

/// What must be nowhere: also as URLs and Secrets write it, as bytes, and without what a URL would cut off.
pub const PLANTED: [&str; 6] = [
    "Pl4nted/P@ss:w0rd?",
    "Pl4nted%2FP%40ss%3Aw0rd%3F",
    "UGw0bnRlZC9QQHNzOncwcmQ/",
    "Pl4nted",
    "UGw0bnRlZ",
    "80, 108, 52, 110, 116, 101, 100",
];

const SECRETS: &str = "
apiVersion: v1
kind: Secret
metadata: {name: wrong}
stringData: {username: somebody, password: 'Pl4nted/P@ss:w0rd?'}
---
apiVersion: v1
kind: Secret
metadata: {name: half}
stringData: {user: somebody, password: 'Pl4nted/P@ss:w0rd?'}
---
apiVersion: v1
kind: Secret
metadata: {name: no-certificate}
stringData: {ca.crt: 'Pl4nted/P@ss:w0rd?', tls.crt: 'Pl4nted/P@ss:w0rd?', tls.key: 'Pl4nted/P@ss:w0rd?'}
---
apiVersion: v1
kind: Secret
metadata: {name: torn}
stringData: {username: somebody, password: \"Pl4nted\\nPl4nted\"}
---
apiVersion: v1
kind: Secret
metadata: {name: connection}
stringData: {host: 127.0.0.1, port: 'Pl4nted/P@ss:w0rd?', username: somebody, password: 'Pl4nted/P@ss:w0rd?'}
";

/// Brokers that fail in ways of their own, by name.
pub const BROKERS: [(&str, &str); 15] = [
    (
        "kafka-refused",
        "kafka: {bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SASL}'], sasl: {mechanism: SCRAM-SHA-512, credentialsSecretRef: {name: wrong}}}",
    ),
    (
        "kafka-plain",
        "kafka: {bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SASL}'], sasl: {mechanism: PLAIN, credentialsSecretRef: {name: wrong}}}",
    ),
    (
        "kafka-half",
        "kafka: {bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SASL}'], sasl: {mechanism: PLAIN, credentialsSecretRef: {name: half}}}",
    ),
    (
        "kafka-no-certificate",
        "kafka: {bootstrapServers: ['127.0.0.1:9'], tls: {caSecretRef: {name: no-certificate}}, sasl: {mechanism: PLAIN, credentialsSecretRef: {name: wrong}}}",
    ),
    (
        "kafka-away",
        "kafka: {bootstrapServers: ['127.0.0.1:9'], sasl: {mechanism: PLAIN, credentialsSecretRef: {name: torn}}}",
    ),
    (
        "rabbitmq-refused",
        "rabbitmq: {managementUrl: '${RABBITMQ}', amqpUrl: '${AMQP}', credentialsSecretRef: {name: wrong}}",
    ),
    ("rabbitmq-half", "rabbitmq: {managementUrl: '${RABBITMQ}', credentialsSecretRef: {name: half}}"),
    (
        "rabbitmq-no-certificate",
        "rabbitmq: {managementUrl: 'https://127.0.0.1:9', credentialsSecretRef: {name: wrong}, tls: {caSecretRef: {name: no-certificate}}}",
    ),
    (
        "rabbitmq-away",
        "rabbitmq: {managementUrl: 'http://127.0.0.1:9', amqpUrl: 'amqp://127.0.0.1:9', credentialsSecretRef: {name: torn}}",
    ),
    // A client certificate with its key, and a server that is not trusted; a key that is none; one without certificate.
    (
        "kafka-client",
        "kafka: {bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SSL}'], tls: {caSecretRef: {name: client, key: tls.crt}, clientSecretRef: {name: client}}}",
    ),
    (
        "kafka-no-key",
        "kafka: {bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SSL}'], tls: {clientSecretRef: {name: client, keyKey: none}}}",
    ),
    (
        "rabbitmq-client",
        "rabbitmq: {managementUrl: '${SPILLWAY_TEST_RABBITMQ_TLS}', credentialsSecretRef: {name: wrong}, tls: {caSecretRef: {name: client, key: tls.crt}, clientSecretRef: {name: client}}}",
    ),
    (
        "rabbitmq-no-key",
        "rabbitmq: {managementUrl: '${SPILLWAY_TEST_RABBITMQ_TLS}', credentialsSecretRef: {name: wrong}, tls: {clientSecretRef: {name: client, certKey: tls.key}}}",
    ),
    (
        "rabbitmq-connection",
        "rabbitmq: {managementUrl: '${RABBITMQ}', connectionSecretRef: {name: connection}}",
    ),
    (
        "rabbitmq-no-connection",
        "rabbitmq: {managementUrl: '${RABBITMQ}', connectionSecretRef: {name: wrong}}",
    ),
];

/// The bed's client key, as its file and as a Secret have it: a whole line of each is looked for.
pub fn client_key() -> (String, [String; 2]) {
    let key = std::fs::read_to_string(required("SPILLWAY_TEST_KAFKA_KEY")).expect("a key");
    // The first line begins like that of any other key.
    let line = key.lines().nth(2).expect("a key of several lines").to_owned();
    let coded = json!(ByteString(key.clone().into_bytes()));
    let coded: String = coded.as_str().expect("base64").chars().skip(120).take(60).collect();
    (key, [line, coded])
}

/// The Secrets, the client certificate's among them.
pub fn secrets(key: &str) -> String {
    let certificate = std::fs::read_to_string(required("SPILLWAY_TEST_KAFKA_CERT")).expect("a certificate");
    let data = json!({"tls.crt": certificate, "tls.key": key, "none": PLANTED[0]});
    format!(
        "{SECRETS}---\n{}\n",
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "client"}, "stringData": data})
    )
}
