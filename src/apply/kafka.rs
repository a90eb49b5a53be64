//! Topics: looking, rehearsing, taking steps, looking again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::brokers::kafka::{
    ErrorCode, Isolation, KafkaClient, KafkaError, KafkaHandle, Lane, NewTopic, ObservedTopic as Seen,
    OffsetQuery, OffsetSpec, TopicConfigChange,
};
use crate::topology::kafka::{ObservedTopic, Step, deletion};

/// How long a request about one topic may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a topic that was just made may stay unknown to the broker that is asked.
const APPEARS_WITHIN: Duration = Duration::from_secs(5);

/// For how long a cluster may be out of reach before who asks is told.
const AWAY: Duration = Duration::from_secs(3);
/// The pause before the first look at what was made, which the broker that is asked hears of a little later; each one
/// after it is four times as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(15);
/// Thousands who look every moment keep the broker from getting there.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// How often to look at the connection meanwhile.
const LOOK: Duration = Duration::from_millis(250);

/// The planner's form of what the client read.
#[must_use]
pub fn seen(topic: Seen) -> ObservedTopic {
    ObservedTopic {
        id: topic.topic_id,
        partitions: topic.partitions,
        replication_factor: i32::from(topic.replication_factor),
        config: topic.config,
    }
}

/// The topic as it is; none: there is no such topic.
pub async fn observe(
    kafka: &KafkaHandle,
    name: &str,
    lane: Lane,
) -> Result<Option<ObservedTopic>, KafkaError> {
    let described = kafka.batcher.describe_topic(name.to_owned(), lane);
    Ok(unless_away(kafka, name, described).await?.map(seen))
}

/// Whether the controller has a topic of this name, which a broker that lags behind it may not know. One that may not be
/// asked knows none.
pub async fn controller_knows(kafka: &KafkaHandle, name: &str, lane: Lane) -> Result<bool, KafkaError> {
    let topic = new_topic(name, None, None, &BTreeMap::new());
    match kafka.batcher.rehearse_creation(topic, lane).await {
        Err(error) if error.code == ErrorCode::TopicAlreadyExists => Ok(true),
        Err(error) if error.is_unreachable() || error.is_retriable() => Err(error),
        _ => Ok(false),
    }
}

/// Waits for what is asked about a topic, but not for a cluster that is known to be out of reach.
async fn unless_away<T>(
    kafka: &KafkaHandle,
    name: &str,
    asked: impl Future<Output = Result<T, KafkaError>>,
) -> Result<T, KafkaError> {
    tokio::select! {
        biased;
        answer = asked => answer,
        error = away(&kafka.client) => Err(error.for_operation(format!("describe topic {name:?}"))),
    }
}

/// Returns once no broker could be reached for [`AWAY`]: nobody waits out a whole time-out to be
/// told what the client knows already.
async fn away(client: &KafkaClient) -> KafkaError {
    let mut since = None;
    loop {
        match client.connection_error().filter(KafkaError::is_unreachable) {
            Some(error) => {
                if since.get_or_insert_with(Instant::now).elapsed() > AWAY {
                    return error;
                }
            }
            None => since = None,
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks until the steps show; none when they do not show in time. The controller knows a new
/// topic before the broker that is asked does.
pub async fn settled(
    kafka: &KafkaHandle,
    name: &str,
    steps: &[Step],
    before: Option<&ObservedTopic>,
    lane: Lane,
) -> Result<Option<Shape>, KafkaError> {
    if let Some(before) = before
        && steps.iter().all(|step| matches!(step, Step::Configure { .. }))
    {
        // That it was acknowledged is proof.
        return Ok(Some(Shape::of(before)));
    }
    let deadline = Instant::now() + APPEARS_WITHIN;
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let located = kafka.batcher.locate_topic(name.to_owned(), lane);
        match unless_away(kafka, name, located).await? {
            Some(located) if reached(steps, located.partitions) => {
                return Ok(Some(Shape {
                    id: located.topic_id,
                    partitions: located.partitions,
                    replication_factor: i32::from(located.replication_factor),
                }));
            }
            _ if Instant::now() > deadline => return Ok(None),
            _ => pause = (pause * 4).min(LONGEST_PAUSE),
        }
    }
}

/// All that a status tells of a topic at the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Its id; a topic that was made again has another.
    pub id: String,
    /// Its partitions.
    pub partitions: i32,
    /// Copies of each.
    pub replication_factor: i32,
}

impl Shape {
    /// That of a topic of which more is known.
    #[must_use]
    pub fn of(observed: &ObservedTopic) -> Self {
        let ObservedTopic { id, partitions, replication_factor, .. } = observed;
        Self { id: id.clone(), partitions: *partitions, replication_factor: *replication_factor }
    }
}

/// Whether so many partitions are those from after the steps.
fn reached(steps: &[Step], partitions: i32) -> bool {
    steps.iter().all(|step| match step {
        Step::Create { partitions: wanted, .. } => wanted.is_none_or(|wanted| partitions >= wanted),
        Step::Grow { to, .. } => partitions >= *to,
        Step::Configure { .. } => true,
    })
}

/// Asks the broker whether it would take every step, before the first one is taken.
pub async fn rehearse(kafka: &KafkaHandle, name: &str, steps: &[Step], lane: Lane) -> Result<(), KafkaError> {
    for step in steps {
        match step {
            Step::Create { partitions, replication_factor, config } => {
                let topic = new_topic(name, *partitions, *replication_factor, config);
                kafka.batcher.rehearse_creation(topic, lane).await?;
            }
            Step::Grow { to, .. } => {
                let grown = [(name.to_owned(), *to)];
                for (_, answer) in kafka.client.create_partitions(&grown, true, TIMEOUT).await? {
                    answer?;
                }
            }
            Step::Configure { .. } => {
                kafka.batcher.rehearse_configs(config_change(name, step), lane).await?;
            }
        }
    }
    Ok(())
}

fn new_topic(
    name: &str,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    config: &BTreeMap<String, String>,
) -> NewTopic {
    NewTopic { name: name.to_owned(), partitions, replication_factor, config: config.clone() }
}

fn config_change(name: &str, step: &Step) -> TopicConfigChange {
    let (set, delete) = step.config_change();
    TopicConfigChange { topic: name.to_owned(), set, delete }
}

/// Takes one step.
pub async fn take(kafka: &KafkaHandle, name: &str, step: &Step, lane: Lane) -> Result<(), KafkaError> {
    match step {
        Step::Create { partitions, replication_factor, config } => {
            let topic = new_topic(name, *partitions, *replication_factor, config);
            kafka.batcher.create_topic(topic, lane).await
        }
        Step::Grow { to, .. } => kafka.batcher.create_partitions(name.to_owned(), *to, lane).await,
        Step::Configure { .. } => kafka.batcher.alter_configs(config_change(name, step), lane).await,
    }
}

/// The first and last offset of each partition: none where the broker did not tell.
pub async fn extent(
    client: &KafkaClient,
    name: &str,
    partitions: i32,
) -> Result<deletion::Extent, KafkaError> {
    let queries: Vec<_> = (0..partitions)
        .flat_map(|partition| {
            [OffsetSpec::Earliest, OffsetSpec::Latest].map(|spec| OffsetQuery {
                topic: name.to_owned(),
                partition,
                spec,
            })
        })
        .collect();
    let answers = client.list_offsets(&queries, Isolation::ReadUncommitted, TIMEOUT).await?;
    let offset = |partition, spec| {
        answers.iter().find_map(|(query, answer)| {
            (query.partition == partition && query.spec == spec)
                .then(|| answer.as_ref().ok().copied())
                .flatten()
        })
    };
    Ok((0..partitions)
        .map(|partition| offset(partition, OffsetSpec::Earliest).zip(offset(partition, OffsetSpec::Latest)))
        .collect())
}
