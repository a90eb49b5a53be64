//! The topic, and the groups' committed offsets.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use spillway_operator::brokers::kafka::{KafkaClient, KafkaSettings, NewTopic};

use crate::{BenchError, PREFIX};

const TIMEOUT: Duration = Duration::from_secs(60);
/// Clients that commit at a time: each is one of a group's own.
const AT_ONCE: usize = 16;

fn failed(error: impl std::fmt::Display) -> BenchError {
    BenchError::Kafka(error.to_string())
}

fn client(servers: &str) -> Result<KafkaClient, BenchError> {
    let servers = servers.split(',').map(str::to_owned).collect();
    KafkaClient::connect(&KafkaSettings::plaintext(servers, PREFIX)).map_err(failed)
}

/// The name of a group.
pub fn group(number: usize) -> String {
    format!("{PREFIX}-{number}")
}

/// Makes the topic, and commits an offset for every group and partition.
pub async fn make(servers: &str, groups: usize, partitions: i32) -> Result<(), BenchError> {
    let topic = NewTopic {
        name: PREFIX.into(),
        partitions: Some(partitions),
        replication_factor: None,
        config: BTreeMap::new(),
    };
    for (_, outcome) in client(servers)?.create_topics(&[topic], false, TIMEOUT).await.map_err(failed)? {
        outcome.map_err(failed)?;
    }
    let servers = servers.to_owned();
    let committing = tokio::task::spawn_blocking(move || {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE)
                .map(|first| {
                    let servers = &servers;
                    scope.spawn(move || {
                        (first..groups)
                            .step_by(AT_ONCE)
                            .try_for_each(|n| commit(servers, &group(n), partitions))
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| failed("a thread broke"))?)
        })
    });
    committing.await.map_err(failed)?
}

fn commit(servers: &str, group: &str, partitions: i32) -> Result<(), BenchError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()
        .map_err(failed)?;
    let mut offsets = TopicPartitionList::new();
    for partition in 0..partitions {
        offsets.add_partition_offset(PREFIX, partition, Offset::Offset(0)).map_err(failed)?;
    }
    consumer.commit(&offsets, CommitMode::Sync).map_err(failed)
}

/// Deletes the topic and the groups.
pub async fn clear(servers: &str) -> Result<(), BenchError> {
    let client = client(servers)?;
    let groups: Vec<String> = client
        .list_groups(TIMEOUT)
        .await
        .map_err(failed)?
        .into_iter()
        .map(|group| group.group)
        .filter(|id| id.starts_with(PREFIX))
        .collect();
    if !groups.is_empty() {
        client.delete_groups(&groups, TIMEOUT).await.map_err(failed)?;
    }
    let topics = client.list_topics(TIMEOUT).await.map_err(failed)?;
    if topics.iter().any(|topic| topic.name == PREFIX) {
        client.delete_topics(&[PREFIX.to_owned()], TIMEOUT).await.map_err(failed)?;
    }
    Ok(())
}
