//! The environment that a workload gets: how to reach the broker, what to read, where to put
//! what fails. Passwords come by reference, never by value.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, SecretKeySelector};

use std::sync::Arc;

use kube::Resource;

use crate::api::topic::RetryStatus;
use crate::api::{Broker, BrokerRef, Consumer};
use crate::controllers::context::{BrokerKey, Context};
use crate::controllers::rabbitmq::end_key;
use crate::topology::kafka::companions;
use crate::topology::rabbitmq::companions as queue_companions;

/// The dead-letter and retry topics, or queues, of what a Consumer reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The dead-letter topics of all topics that have one, each once, in the order of the topics, or the queue's
    /// dead-letter queue.
    pub dead_letters: Vec<String>,
    /// Retry topics or queues with their delays, `name=delay`.
    pub retries: Vec<String>,
}

/// Looks the names up among the declared Topics and Queues of the same Broker.
pub fn names(ctx: &Context, consumer: &Consumer) -> Names {
    let mut names = Names::default();
    let namespace = consumer.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(kafka) = &consumer.spec.kafka {
        let broker = BrokerKey::of(&kafka.broker_ref, namespace);
        for topic in &kafka.topics {
            let declared =
                declaration(ctx.topics.find(topic), |topic| &topic.spec.broker_ref, &broker, namespace);
            if let Some(Ok(companions)) = declared.map(|topic| companions::of(&topic)) {
                let new = companions.dead_letter.filter(|name| !names.dead_letters.contains(name));
                names.dead_letters.extend(new);
                names.retries.extend(companions.retries.iter().map(step));
            }
        }
    }
    if let Some(rabbitmq) = &consumer.spec.rabbitmq {
        let broker = BrokerKey::of(&rabbitmq.broker_ref, namespace);
        let declared = ctx.queues.find(&end_key(&rabbitmq.vhost, 'q', &rabbitmq.queue));
        let declared = declaration(declared, |queue| &queue.spec.broker_ref, &broker, namespace);
        if let Some(Ok(companions)) = declared.map(|queue| queue_companions::of(&queue)) {
            names.dead_letters.extend(companions.dead_letter);
            names.retries.extend(companions.retries.iter().map(step));
        }
    }
    names
}

fn step(retry: &RetryStatus) -> String {
    format!("{}={}", retry.name, retry.delay)
}

/// Of several declarations of one thing on one Broker, the one that counts.
fn declaration<K: Resource>(
    mut declared: Vec<Arc<K>>,
    broker_ref: impl Fn(&K) -> &BrokerRef,
    broker: &BrokerKey,
    namespace: &str,
) -> Option<Arc<K>> {
    declared.retain(|one| {
        let its = one.meta().namespace.as_deref().unwrap_or_default();
        BrokerKey::of(broker_ref(one), its) == *broker
    });
    // Another namespace's word counts only where the own one says nothing.
    declared.sort_by_key(|one| {
        let meta = one.meta();
        let foreign = meta.namespace.as_deref() != Some(namespace);
        (foreign, meta.creation_timestamp.as_ref().map(|time| time.0), meta.uid.clone())
    });
    declared.into_iter().next()
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
    if let (Some(rabbitmq), Some(connection)) = (&consumer.spec.rabbitmq, &broker.spec.rabbitmq) {
        // Where it stands in a Secret of the Broker's namespace only, the template has to say it.
        if let Some(url) = &connection.amqp_url {
            value("SPILLWAY_AMQP_URL", url.clone());
        }
        value("SPILLWAY_AMQP_VHOST", rabbitmq.vhost.clone());
        value("SPILLWAY_AMQP_QUEUE", rabbitmq.queue.clone());
    }
    // A service has one place for what fails; the first topic's is it.
    if let Some(dead_letter) = names.dead_letters.first() {
        value("SPILLWAY_DEAD_LETTER", dead_letter.clone());
    }
    if !names.retries.is_empty() {
        value("SPILLWAY_RETRY", names.retries.join(","));
    }
    let of_kafka = consumer.spec.kafka.is_some();
    if of_kafka {
        // The pod's name: this is how a group's members are told from foreign ones.
        variables.push(EnvVar {
            name: "SPILLWAY_KAFKA_CLIENT_ID".into(),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    api_version: None,
                    field_path: "metadata.name".into(),
                }),
                ..EnvVarSource::default()
            }),
        });
    }
    if let Some(from) = &consumer.spec.credentials_secret_ref {
        let prefix = if of_kafka { "SPILLWAY_KAFKA" } else { "SPILLWAY_AMQP" };
        for (name, key) in [("USERNAME", &from.username_key), ("PASSWORD", &from.password_key)] {
            let name = format!("{prefix}_{name}");
            variables.push(EnvVar {
                name,
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
        let names = Names {
            dead_letters: vec!["a.dlq".into(), "b.dlq".into()],
            retries: vec!["a.retry.10s=10s".into()],
        };
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

    #[test]
    fn a_queues_workload_learns_where_it_is() {
        let consumer = Consumer::new(
            "tasks",
            serde_json::from_value(json!({
                "template": {}, "credentialsSecretRef": {"name": "app"},
                "rabbitmq": {"brokerRef": {"name": "rabbitmq"}, "vhost": "production", "queue": "tasks"},
                "scaling": {"maxReplicas": 5},
            }))
            .unwrap(),
        );
        let broker = Broker::new(
            "rabbitmq",
            serde_json::from_value(
                json!({"rabbitmq": {"managementUrl": "http://r:15672", "amqpUrl": "amqp://r:5672",
                "credentialsSecretRef": {"name": "admin"}}}),
            )
            .unwrap(),
        );
        let names =
            Names { dead_letters: vec!["tasks.dlq".into()], retries: vec!["tasks.retry.1s=1s".into()] };
        let variables = of(&consumer, &broker, &names);
        let plain: Vec<_> =
            variables.iter().filter_map(|v| Some((v.name.as_str(), v.value.as_deref()?))).collect();
        assert_eq!(
            plain,
            [
                ("SPILLWAY_AMQP_URL", "amqp://r:5672"),
                ("SPILLWAY_AMQP_VHOST", "production"),
                ("SPILLWAY_AMQP_QUEUE", "tasks"),
                ("SPILLWAY_DEAD_LETTER", "tasks.dlq"),
                ("SPILLWAY_RETRY", "tasks.retry.1s=1s"),
            ]
        );
        let secrets: Vec<_> = variables
            .iter()
            .filter_map(|v| {
                Some((v.name.as_str(), v.value_from.as_ref()?.secret_key_ref.as_ref()?.key.as_str()))
            })
            .collect();
        assert_eq!(secrets, [("SPILLWAY_AMQP_USERNAME", "username"), ("SPILLWAY_AMQP_PASSWORD", "password")]);
    }
}
