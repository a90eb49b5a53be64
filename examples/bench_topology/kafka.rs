//! Kafka's side, by a client that asks for much at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spillway_operator::brokers::kafka::{
    ConfigSource, KafkaClient, KafkaError, KafkaSettings, NewTopic, TopicConfigChange,
};

use crate::{BenchError, PATIENCE, until};

const TIMEOUT: Duration = Duration::from_secs(60);
/// Topics that one request deletes.
const DELETED_AT_ONCE: usize = 500;
/// The config that the bench sets and changes.
pub const CONFIG: &str = "retention.ms";

/// A bare client.
#[derive(Clone)]
pub struct Kafka(KafkaClient);

impl Kafka {
    pub fn connect(servers: &str) -> Result<Self, KafkaError> {
        let servers = servers.split(',').map(str::to_owned).collect();
        KafkaClient::connect(&KafkaSettings::plaintext(servers, "bench-topology")).map(Self)
    }

    /// Creates topics of one partition in one request.
    pub async fn create(&self, names: &[String], config: &str) -> Result<(), KafkaError> {
        let topics: Vec<NewTopic> = names
            .iter()
            .map(|name| NewTopic {
                name: name.clone(),
                partitions: Some(1),
                replication_factor: None,
                config: BTreeMap::from([(CONFIG.to_owned(), config.to_owned())]),
            })
            .collect();
        all(self.0.create_topics(&topics, false, TIMEOUT).await?)
    }

    /// Sets the config of topics in one request.
    pub async fn configure(&self, names: &[String], config: &str) -> Result<(), KafkaError> {
        let changes: Vec<TopicConfigChange> = names
            .iter()
            .map(|topic| TopicConfigChange {
                topic: topic.clone(),
                set: BTreeMap::from([(CONFIG.to_owned(), config.to_owned())]),
                delete: BTreeSet::new(),
            })
            .collect();
        all(self.0.incremental_alter_configs(&changes, false, TIMEOUT).await?)
    }

    /// The config as it is set on a topic itself.
    pub async fn config(&self, name: &str) -> Result<Option<String>, KafkaError> {
        let mut answers = self.0.describe_configs(&[name.to_owned()], TIMEOUT).await?;
        let Some((_, answer)) = answers.pop() else { return Ok(None) };
        let set = answer?.into_iter().find(|entry| entry.name == CONFIG);
        Ok(set.filter(|entry| entry.source == ConfigSource::DynamicTopic).and_then(|entry| entry.value))
    }

    /// The topics whose names begin with `prefix`.
    pub async fn topics(&self, prefix: &str) -> Result<Vec<String>, KafkaError> {
        let listed = self.0.list_topics(TIMEOUT).await?;
        Ok(listed.into_iter().map(|topic| topic.name).filter(|name| name.starts_with(prefix)).collect())
    }

    /// Deletes the topics whose names begin with `prefix`, and waits until no broker lists one.
    pub async fn clear(&self, prefix: &str) -> Result<(), BenchError> {
        for names in self.topics(prefix).await?.chunks(DELETED_AT_ONCE) {
            all(self.0.delete_topics(names, TIMEOUT).await?)?;
        }
        until(PATIENCE, Duration::from_millis(200), async || {
            let left = self.topics(prefix).await?.len();
            Ok(if left == 0 { Ok(()) } else { Err(format!("{left} topics to be gone")) })
        })
        .await
    }
}

/// The first failure among many outcomes.
fn all(outcomes: Vec<(String, Result<(), KafkaError>)>) -> Result<(), KafkaError> {
    outcomes.into_iter().try_for_each(|(_, outcome)| outcome)
}
