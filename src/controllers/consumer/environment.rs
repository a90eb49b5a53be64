//! The environment that a workload gets: how to reach the broker, what to read, where to put
//! what fails. Passwords come by reference, never by value.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, SecretKeySelector};

use kube::ResourceExt as _;

use crate::api::{Broker, Consumer};
use crate::controllers::context::{BrokerKey, Context};
use crate::topology::kafka::companions;

/// The dead-letter and retry topics of what a Consumer reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The dead-letter topic of the first topic that has one.
    pub dead_letter: Option<String>,
    /// Retry topics with their delays, `name=delay`.
    pub retries: Vec<String>,
}

/// Looks the names up among the declared Topics of the same Broker.
pub fn names(ctx: &Context, consumer: &Consumer) -> Names {
    let mut names = Names::default();
    let Some(kafka) = &consumer.spec.kafka else {
        return names;
    };
    let namespace = consumer.metadata.namespace.as_deref().unwrap_or_default();
    let broker = BrokerKey::of(&kafka.broker_ref, namespace);
    for topic in &kafka.topics {
        let mut declared = ctx.topics.find(topic);
        declared.retain(|declared| {
            BrokerKey::of(
                &declared.spec.broker_ref,
                declared.metadata.namespace.as_deref().unwrap_or_default(),
            ) == broker
        });
        // Another namespace's word about a topic counts only where the own one says nothing.
        declared.sort_by_key(|declared| {
            let foreign = declared.metadata.namespace.as_deref() != Some(namespace);
            (foreign, declared.metadata.creation_timestamp.as_ref().map(|time| time.0), declared.uid())
        });
        let Some(Ok(companions)) = declared.first().map(|declared| companions::of(declared)) else {
            continue;
        };
        names.dead_letter = names.dead_letter.or(companions.dead_letter);
        names
            .retries
            .extend(companions.retries.iter().map(|retry| format!("{}={}", retry.name, retry.delay)));
    }
    names
}

/// The variables, in a fixed order.
#[must_use]
pub fn of(consumer: &Consumer, broker: &Broker, names: &Names) -> Vec<EnvVar> {
    let mut variables = Vec::new();
    let mut value = |name: &str, value: String| {
        variables.push(EnvVar { name: name.into(), value: Some(value), value_from: None });
    };
    if let (Some(kafka), Some(connection)) = (&consumer.spec.kafka, &broker.spec.kafka) {
        value("SPILLWAY_KAFKA_BOOTSTRAP_SERVERS", connection.bootstrap_servers.join(","));
        value("SPILLWAY_KAFKA_GROUP", kafka.group.clone());
        value("SPILLWAY_KAFKA_TOPICS", kafka.topics.join(","));
        let protocol = match (&connection.tls, &connection.sasl) {
            (None, None) => "PLAINTEXT",
            (Some(_), None) => "SSL",
            (None, Some(_)) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        };
        value("SPILLWAY_KAFKA_SECURITY_PROTOCOL", protocol.into());
        if let Some(sasl) = &connection.sasl {
            value("SPILLWAY_KAFKA_SASL_MECHANISM", sasl.mechanism.as_str().into());
        }
    }
    if let Some(dead_letter) = &names.dead_letter {
        value("SPILLWAY_DEAD_LETTER", dead_letter.clone());
    }
    if !names.retries.is_empty() {
        value("SPILLWAY_RETRY", names.retries.join(","));
    }
    // The pod's name: this is how a group's members are told from foreign ones.
    variables.push(EnvVar {
        name: "SPILLWAY_KAFKA_CLIENT_ID".into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: None, field_path: "metadata.name".into() }),
            ..EnvVarSource::default()
        }),
    });
    if let Some(from) = &consumer.spec.credentials_secret_ref {
        for (name, key) in
            [("SPILLWAY_KAFKA_USERNAME", &from.username_key), ("SPILLWAY_KAFKA_PASSWORD", &from.password_key)]
        {
            variables.push(EnvVar {
                name: name.into(),
                value: None,
                value_from: Some(EnvVarSource {
                    secret_key_ref: Some(SecretKeySelector {
                        name: from.name.clone(),
                        key: key.clone(),
                        optional: None,
                    }),
                    ..EnvVarSource::default()
                }),
            });
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_workload_learns_all_it_needs_and_no_password() {
        let consumer = Consumer::new(
            "orders",
            serde_json::from_value(json!({
                "template": {}, "credentialsSecretRef": {"name": "app"},
                "kafka": {"brokerRef": {"name": "kafka"}, "group": "g", "topics": ["a", "b"], "offsetReset": "earliest"},
            }))
            .unwrap(),
        );
        let broker = Broker::new(
            "kafka",
            serde_json::from_value(json!({"kafka": {"bootstrapServers": ["k:1", "k:2"], "tls": {}, "sasl": {
                "mechanism": "SCRAM-SHA-512", "credentialsSecretRef": {"name": "admin"}}}}))
            .unwrap(),
        );
        let names = Names { dead_letter: Some("a.dlq".into()), retries: vec!["a.retry.10s=10s".into()] };
        let variables = of(&consumer, &broker, &names);
        let value = |name: &str| variables.iter().find(|v| v.name == name).and_then(|v| v.value.clone());
        assert_eq!(value("SPILLWAY_KAFKA_BOOTSTRAP_SERVERS").unwrap(), "k:1,k:2");
        assert_eq!(value("SPILLWAY_KAFKA_TOPICS").unwrap(), "a,b");
        assert_eq!(value("SPILLWAY_KAFKA_SECURITY_PROTOCOL").unwrap(), "SASL_SSL");
        assert_eq!(value("SPILLWAY_KAFKA_SASL_MECHANISM").unwrap(), "SCRAM-SHA-512");
        assert_eq!(value("SPILLWAY_DEAD_LETTER").unwrap(), "a.dlq");
        assert_eq!(value("SPILLWAY_RETRY").unwrap(), "a.retry.10s=10s");
        let secret = variables.iter().find(|v| v.name == "SPILLWAY_KAFKA_PASSWORD").unwrap();
        assert_eq!(secret.value, None);
        let from = secret.value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap();
        assert_eq!((from.name.as_str(), from.key.as_str()), ("app", "password"));
    }
}
