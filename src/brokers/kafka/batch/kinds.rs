//! The kinds of calls that are batched, and how each is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::client::{KafkaClient, PerObject};
use super::super::error::KafkaError;
use super::super::types::{ConfigEntry, ConfigSource, NewTopic, TopicConfigChange, TopicDescription};
use super::lanes::Bounds;
use super::worker::Kind;
use super::{ObservedTopic, Observer, TopicShape};

/// Partitions that one request creates at most. The controller refuses more than 10,000 records per request.
const MAX_PARTITIONS: usize = 2_000;
/// What a topic with the broker's default number of partitions is taken to weigh.
const DEFAULT_PARTITIONS: usize = 10;

/// `ASK`: the broker is only asked whether it would.
pub(super) struct Create<const ASK: bool>;
pub(super) struct Grow;
/// `ASK`: the broker is only asked whether it would.
pub(super) struct Alter<const ASK: bool>;
pub(super) struct Delete;
pub(super) struct Describe;
pub(super) struct Locate;

impl<const ASK: bool> Kind for Create<ASK> {
    type Request = NewTopic;
    type Outcome = ();
    const FENCED: bool = true;
    const BOUNDS: Bounds = Bounds { objects: 200, weight: MAX_PARTITIONS, exclusive: true };
    const OPERATION: &'static str = "create topic";

    fn name(request: &NewTopic) -> &str {
        &request.name
    }

    fn weight(request: &NewTopic) -> usize {
        let partitions =
            request.partitions.map_or(DEFAULT_PARTITIONS, |count| usize::try_from(count).unwrap_or(0));
        1 + partitions + request.config.len()
    }

    async fn send(
        client: &KafkaClient,
        observer: &Observer,
        requests: Vec<NewTopic>,
        timeout: Duration,
    ) -> PerObject<()> {
        observer.hear("CreateTopics", client.create_topics(&requests, ASK, timeout)).await
    }
}

impl Kind for Grow {
    type Request = (String, i32);
    type Outcome = ();
    const FENCED: bool = true;
    const BOUNDS: Bounds = Bounds { objects: 200, weight: MAX_PARTITIONS, exclusive: true };
    const OPERATION: &'static str = "add partitions to topic";

    fn name((topic, _): &(String, i32)) -> &str {
        topic
    }

    fn weight((_, total): &(String, i32)) -> usize {
        usize::try_from(*total).unwrap_or(0)
    }

    async fn send(
        client: &KafkaClient,
        observer: &Observer,
        requests: Vec<(String, i32)>,
        timeout: Duration,
    ) -> PerObject<()> {
        observer.hear("CreatePartitions", client.create_partitions(&requests, false, timeout)).await
    }
}

impl<const ASK: bool> Kind for Alter<ASK> {
    type Request = TopicConfigChange;
    type Outcome = ();
    const FENCED: bool = true;
    const BOUNDS: Bounds = Bounds { objects: 500, weight: 5_000, exclusive: true };
    const OPERATION: &'static str = "change the configuration of topic";

    fn name(request: &TopicConfigChange) -> &str {
        &request.topic
    }

    fn weight(request: &TopicConfigChange) -> usize {
        request.set.len() + request.delete.len()
    }

    async fn send(
        client: &KafkaClient,
        observer: &Observer,
        requests: Vec<TopicConfigChange>,
        timeout: Duration,
    ) -> PerObject<()> {
        observer
            .hear("IncrementalAlterConfigs", client.incremental_alter_configs(&requests, ASK, timeout))
            .await
    }
}

impl Kind for Delete {
    type Request = String;
    type Outcome = ();
    const FENCED: bool = true;
    const BOUNDS: Bounds = Bounds { objects: 500, weight: 500, exclusive: true };
    const OPERATION: &'static str = "delete topic";

    fn name(request: &String) -> &str {
        request
    }

    async fn send(
        client: &KafkaClient,
        observer: &Observer,
        requests: Vec<String>,
        timeout: Duration,
    ) -> PerObject<()> {
        observer.hear("DeleteTopics", client.delete_topics(&requests, timeout)).await
    }
}

impl Kind for Describe {
    type Request = String;
    type Outcome = Option<ObservedTopic>;
    const FENCED: bool = false;
    const BOUNDS: Bounds = Bounds { objects: 250, weight: 250, exclusive: false };
    const OPERATION: &'static str = "describe topic";

    fn name(request: &String) -> &str {
        request
    }

    async fn send(
        client: &KafkaClient,
        observer: &Observer,
        requests: Vec<String>,
        timeout: Duration,
    ) -> PerObject<Option<ObservedTopic>> {
        let (described, configs) = tokio::try_join!(
            observer.hear("DescribeTopics", client.describe_topics(&requests, timeout)),
            observer.hear("DescribeConfigs", client.describe_configs(&requests, timeout)),
        )?;
        let pairs = described.into_iter().zip(configs);
        Ok(pairs.map(|((name, described), (_, config))| (name, observe(described, config))).collect())
    }
}

impl Kind for Locate {
    type Request = String;
    type Outcome = Option<TopicShape>;
    const FENCED: bool = false;
    const BOUNDS: Bounds = Bounds { objects: 500, weight: 500, exclusive: false };
    const OPERATION: &'static str = "describe topic";

    fn name(request: &String) -> &str {
        request
    }

    async fn send(
        client: &KafkaClient,
        observer: &Observer,
        requests: Vec<String>,
        timeout: Duration,
    ) -> PerObject<Option<TopicShape>> {
        let described = observer.hear("DescribeTopics", client.describe_topics(&requests, timeout)).await?;
        Ok(described
            .into_iter()
            .map(|(name, topic)| (name, known(topic).map(|topic| topic.as_ref().map(shape))))
            .collect())
    }
}

/// A topic that the broker does not know is no error.
fn known(described: Result<TopicDescription, KafkaError>) -> Result<Option<TopicDescription>, KafkaError> {
    match described {
        Ok(topic) => Ok(Some(topic)),
        Err(error) if error.is_unknown_topic() => Ok(None),
        Err(error) => Err(error),
    }
}

fn shape(topic: &TopicDescription) -> TopicShape {
    let copies = topic.partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or(0);
    TopicShape {
        topic_id: topic.topic_id.clone(),
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(copies).unwrap_or(i16::MAX),
    }
}

/// Joins the two halves of a topic, which are answered in the same order. Only the description decides whether the topic exists.
fn observe(
    described: Result<TopicDescription, KafkaError>,
    config: Result<Vec<ConfigEntry>, KafkaError>,
) -> Result<Option<ObservedTopic>, KafkaError> {
    let Some(topic) = known(described)? else { return Ok(None) };
    let TopicShape { topic_id, partitions, replication_factor } = shape(&topic);
    let config = overrides(config?);
    Ok(Some(ObservedTopic { name: topic.name, topic_id, partitions, replication_factor, config }))
}

fn overrides(entries: Vec<ConfigEntry>) -> BTreeMap<String, String> {
    entries
        .into_iter()
        .filter(|entry| entry.source == ConfigSource::DynamicTopic)
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::error::{ErrorCode, RawError};
    use super::super::super::types::PartitionMeta;
    use super::*;

    fn described() -> TopicDescription {
        let partition = |id, replicas: &[i32]| PartitionMeta {
            id,
            leader: Some(1),
            replicas: replicas.to_vec(),
            isr: replicas.to_vec(),
        };
        TopicDescription {
            name: "orders".into(),
            topic_id: "id".into(),
            internal: false,
            partitions: vec![partition(0, &[1, 2, 3]), partition(1, &[1, 2])],
        }
    }

    fn entry(name: &str, value: Option<&str>, source: ConfigSource) -> ConfigEntry {
        ConfigEntry {
            name: name.into(),
            value: value.map(Into::into),
            source,
            read_only: false,
            sensitive: value.is_none(),
        }
    }

    fn unknown() -> KafkaError {
        RawError::new(3, "Unknown topic or partition").of("describe topic \"orders\"")
    }

    #[test]
    fn a_topic_is_observed_with_its_own_configuration_only() {
        let config = vec![
            entry("retention.ms", Some("1"), ConfigSource::DynamicTopic),
            entry("cleanup.policy", Some("delete"), ConfigSource::Default),
            entry("segment.ms", Some("2"), ConfigSource::DynamicBroker),
            entry("hidden", None, ConfigSource::DynamicTopic),
        ];
        let observed = observe(Ok(described()), Ok(config)).expect("both answered").expect("it exists");
        assert_eq!(observed.config, BTreeMap::from([("retention.ms".to_owned(), "1".to_owned())]));
        assert_eq!((observed.partitions, observed.replication_factor), (2, 2));
    }

    #[test]
    fn only_the_description_can_say_that_a_topic_is_absent() {
        assert_eq!(observe(Err(unknown()), Ok(Vec::new())), Ok(None));
        assert_eq!(observe(Ok(described()), Err(unknown())), Err(unknown()));
        let refused = RawError::new(29, "Topic authorization failed").of("describe topic \"orders\"");
        assert_eq!(refused.code, ErrorCode::Authorization);
        assert_eq!(observe(Err(refused.clone()), Ok(Vec::new())), Err(refused));
    }
}
