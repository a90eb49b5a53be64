//! The way to each Broker that is named: settings, a client, and who the cluster says it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use kube::ResourceExt as _;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use super::objects::{Declared, Objects};
use super::secrets::Secrets;
use crate::api::broker::BrokerSpec;
use crate::api::conditions::Reason;
use crate::api::{Broker, annotation};
use crate::apply;
use crate::brokers::kafka::{AdminBatcher, KafkaClient, KafkaError, KafkaHandle};
use crate::brokers::rabbitmq::{Observer, RabbitClient, RabbitError, RabbitHandle};
use crate::controllers::failure::Failure;
use crate::controllers::settings;
use crate::topology::{Rejection, seniority};

/// How the command line names itself to brokers: their logs and quotas show it.
pub const CLIENT_ID: &str = "spillway-cli";

/// How long a broker may take to say who it is.
const TIMEOUT: Duration = Duration::from_secs(4);

/// For how long the cluster's word about itself is good.
const VERIFIED_FOR: Duration = Duration::from_secs(1);

/// Steps that are sent to one RabbitMQ at once: as many as its client lets through.
const STEPS: usize = 16;

/// The way to one Broker.
pub struct Link<C = Client> {
    /// `namespace/name`.
    pub key: String,
    /// The Broker's namespace.
    pub namespace: String,
    /// What it declares.
    pub spec: BrokerSpec,
    /// Frozen by an annotation.
    pub paused: bool,
    /// The cluster's id, as it says itself.
    pub cluster_id: String,
    /// How to speak to it.
    pub client: C,
    /// When it was last asked who it is, and what came of that.
    said: Mutex<(Instant, Result<(), Rejection>)>,
    /// Turns to send a step to RabbitMQ.
    turns: Semaphore,
}

/// It said who it is just now.
fn said() -> Mutex<(Instant, Result<(), Rejection>)> {
    Mutex::new((Instant::now(), Ok(())))
}

impl Link {
    /// An error where another cluster answers than the one that the plan was made for, or none: asked before each write, so
    /// that another one behind the same address has none of it. One question serves all who ask within [`VERIFIED_FOR`].
    pub async fn verify(&self) -> Result<(), Rejection> {
        self.verify_within(VERIFIED_FOR).await
    }

    /// A turn to send a step to RabbitMQ, after the same question: a step that waited for others would be sent long after it.
    pub async fn turn(&self) -> Result<Option<SemaphorePermit<'_>>, Rejection> {
        // Nobody closes it.
        let turn = self.turns.acquire().await.ok();
        self.verify().await?;
        Ok(turn)
    }

    /// The same, asked anew.
    pub async fn verify_now(&self) -> Result<(), Rejection> {
        self.verify_within(Duration::ZERO).await
    }

    async fn verify_within(&self, age: Duration) -> Result<(), Rejection> {
        let mut said = self.said.lock().await;
        if said.0.elapsed() >= age {
            let same = self.client.cluster_id().await.and_then(|now| {
                if now == self.cluster_id {
                    return Ok(());
                }
                let message =
                    format!("Broker {}: the cluster's id is {now} and was {}", self.key, self.cluster_id);
                Err(Rejection::new(Reason::ClusterChanged, message))
            });
            *said = (Instant::now(), same);
        }
        said.1.clone()
    }
}

/// What is known of a Broker that answers, or whose status says which cluster it is: an address that is away opens no way
/// around a guard rail.
#[derive(Clone, Debug)]
pub struct Home {
    /// `namespace/name`.
    pub key: String,
    /// The Broker's namespace.
    pub namespace: String,
    /// What it declares.
    pub spec: BrokerSpec,
    cluster_id: String,
    seniority: Seniority,
}

impl Home {
    /// `answers`: the cluster's id, where it answers.
    fn of(broker: &Declared<Broker>, answers: Option<&str>) -> Option<Self> {
        let noted = broker.object.status.as_ref().and_then(|status| status.cluster_id.as_deref());
        let cluster_id = answers.or(noted)?;
        Some(Self {
            key: broker.key(),
            namespace: broker.object.namespace().unwrap_or_default(),
            spec: broker.object.spec.clone(),
            cluster_id: cluster_id.to_owned(),
            seniority: Seniority::of(broker, cluster_id),
        })
    }
}

/// Orders the Brokers of one cluster: the one that has been on it for the longest time is the least, as the operator has
/// it. One of which that is not known comes after all others; of equals, the one that stands first in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seniority {
    unknown: bool,
    since: Option<Timestamp>,
    place: usize,
}

impl Seniority {
    /// Of a Broker whose cluster answers with this id, by its status; where the input has none, by its creation.
    fn of(broker: &Declared<Broker>, cluster_id: &str) -> Self {
        let created = broker.object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let status = broker.object.status.as_ref();
        let known = seniority::Known {
            cluster_id: status.and_then(|status| status.cluster_id.as_deref()),
            since: status.and_then(|status| status.cluster_since.as_ref()?.parse().ok()),
        };
        let connected = known.cluster_id.is_some();
        let since = if connected {
            Some(seniority::since(known, cluster_id, created, Timestamp::now()))
        } else {
            created
        };
        Self { unknown: since.is_none(), since, place: broker.place }
    }
}

/// A client of one family of brokers.
pub enum Client {
    /// Kafka.
    Kafka(Arc<KafkaHandle>),
    /// RabbitMQ.
    Rabbitmq(Arc<RabbitHandle>),
}

impl Client {
    /// Asks the cluster who it is.
    pub async fn cluster_id(&self) -> Result<String, Rejection> {
        match self {
            Self::Kafka(kafka) => {
                Ok(kafka.client.describe_cluster(TIMEOUT).await.map_err(kafka_said)?.cluster_id)
            }
            Self::Rabbitmq(rabbit) => {
                rabbit.client.with_timeout(TIMEOUT).cluster_id().await.map_err(rabbitmq_said)
            }
        }
    }

    /// The Kafka behind it.
    pub fn kafka(&self) -> Result<&KafkaHandle, Rejection> {
        match self {
            Self::Kafka(kafka) => Ok(kafka),
            Self::Rabbitmq(_) => Err(other_family("Kafka", "RabbitMQ")),
        }
    }

    /// The RabbitMQ behind it.
    pub fn rabbitmq(&self) -> Result<&RabbitHandle, Rejection> {
        match self {
            Self::Rabbitmq(rabbit) => Ok(rabbit),
            Self::Kafka(_) => Err(other_family("RabbitMQ", "Kafka")),
        }
    }
}

/// A Kafka error with its reason.
#[must_use]
pub fn kafka_said(error: KafkaError) -> Rejection {
    let message = error.to_string();
    Rejection::new(Failure::from(error).reason(), message)
}

/// A RabbitMQ error with its reason.
#[must_use]
pub fn rabbitmq_said(error: RabbitError) -> Rejection {
    let message = error.to_string();
    Rejection::new(Failure::from(error).reason(), message)
}

fn other_family(wanted: &str, is: &str) -> Rejection {
    Rejection::new(Reason::InvalidSpec, format!("the object is for {wanted}, and its Broker is a {is}"))
}

/// All ways, good and bad.
pub struct Links<C = Client> {
    ways: BTreeMap<String, Result<Link<C>, Rejection>>,
    homes: Vec<Home>,
}

impl Links {
    /// Connects to all Brokers that are named in `wanted`, at once.
    pub async fn open(objects: &Objects, wanted: &BTreeSet<String>) -> Self {
        let named = objects.brokers.iter().filter(|broker| wanted.contains(&broker.key()));
        let ways = stream::iter(named.clone())
            .map(async |broker| (broker.key(), open(broker, &objects.secrets).await))
            .buffer_unordered(64)
            .collect()
            .await;
        Self::of(ways, named)
    }
}

impl<C> Links<C> {
    fn of<'a>(
        ways: BTreeMap<String, Result<Link<C>, Rejection>>,
        brokers: impl Iterator<Item = &'a Declared<Broker>>,
    ) -> Self {
        let answers =
            |broker: &Declared<Broker>| Some(ways.get(&broker.key())?.as_ref().ok()?.cluster_id.as_str());
        let homes = brokers.filter_map(|broker| Home::of(broker, answers(broker))).collect();
        Self { ways, homes }
    }

    /// The way to a Broker.
    pub fn get(&self, key: &str) -> Result<&Link<C>, Rejection> {
        match self.ways.get(key) {
            Some(Ok(link)) => Ok(link),
            Some(Err(rejection)) => Err(rejection.clone()),
            None => {
                let message = format!("Broker {key} is not in the input");
                Err(Rejection::new(Reason::BrokerNotFound, message))
            }
        }
    }

    /// Brokers that cannot be reached or used.
    pub fn broken(&self) -> impl Iterator<Item = (&str, &Rejection)> {
        self.ways.iter().filter_map(|(key, link)| Some((key.as_str(), link.as_ref().err()?)))
    }

    /// Whether it is known which cluster a Broker is.
    #[must_use]
    pub fn knows(&self, key: &str) -> bool {
        self.homes.iter().any(|home| home.key == key)
    }

    /// The Broker that has been on a cluster for the longest time: its guard rails hold for every other.
    #[must_use]
    pub fn oldest(&self, cluster_id: &str) -> Option<&Home> {
        self.homes.iter().filter(|home| home.cluster_id == cluster_id).min_by_key(|home| home.seniority)
    }
}

#[cfg(test)]
impl Links<()> {
    /// Ways that lead nowhere: each Broker with its cluster's id; one with an empty id does not answer.
    #[must_use]
    pub fn fake(brokers: &[Declared<Broker>], cluster_ids: &[&str]) -> Self {
        let way = |(broker, id): (&Declared<Broker>, &&str)| {
            if id.is_empty() {
                return (broker.key(), Err(Rejection::new(Reason::BrokerUnreachable, "away")));
            }
            let link = Link {
                said: said(),
                turns: Semaphore::new(STEPS),
                key: broker.key(),
                namespace: broker.object.namespace().unwrap_or_default(),
                spec: broker.object.spec.clone(),
                paused: paused(&broker.object),
                cluster_id: (*id).to_owned(),
                client: (),
            };
            (broker.key(), Ok(link))
        };
        Self::of(brokers.iter().zip(cluster_ids).map(way).collect(), brokers.iter())
    }
}

async fn open(broker: &Declared<Broker>, secrets: &Secrets) -> Result<Link, Rejection> {
    let (key, namespace) = (broker.key(), broker.object.namespace().unwrap_or_default());
    let begin = |rejection: Rejection| {
        let message = secrets.redact(&broker.object.spec, &namespace, &rejection.message);
        Rejection::new(rejection.reason, format!("Broker {key}: {message}"))
    };
    let client = client(&broker.object.spec, &namespace, secrets).map_err(begin)?;
    let cluster_id = tokio::time::timeout(TIMEOUT + Duration::from_millis(500), client.cluster_id())
        .await
        .map_err(|_| Rejection::new(Reason::BrokerUnreachable, "failed to ask the broker: no answer in time"))
        .flatten()
        .map_err(begin)?;
    same_cluster(&broker.object, &cluster_id).map_err(begin)?;
    Ok(Link {
        said: said(),
        turns: Semaphore::new(STEPS),
        namespace,
        paused: paused(&broker.object),
        spec: broker.object.spec.clone(),
        cluster_id,
        client,
        key: broker.key(),
    })
}

/// Refuses a cluster that is not the one that the Broker's status names, where the input has one.
fn same_cluster(broker: &Broker, cluster_id: &str) -> Result<(), Rejection> {
    let known = broker.status.as_ref().and_then(|status| status.cluster_id.as_deref());
    let accepted = broker.annotations().get(annotation::ACCEPT_CLUSTER).map(String::as_str);
    if known.is_none_or(|known| known == cluster_id) || accepted == Some(cluster_id) {
        return Ok(());
    }
    let message = format!(
        "the cluster's id is {cluster_id} and was {}; if that is right, annotate the Broker with {}={cluster_id}",
        known.unwrap_or_default(),
        annotation::ACCEPT_CLUSTER
    );
    Err(Rejection::new(Reason::ClusterChanged, message))
}

fn client(spec: &BrokerSpec, namespace: &str, secrets: &Secrets) -> Result<Client, Rejection> {
    let read = |name: &str, key: &str| secrets.text(namespace, name, key);
    if let Some(connection) = &spec.kafka {
        let settings = settings::kafka(connection, CLIENT_ID, &read)?;
        let client = KafkaClient::connect(&settings)
            .map_err(|error| Rejection::new(Reason::InvalidSettings, error.to_string()))?;
        let batcher = AdminBatcher::new(&client, apply::kafka::TIMEOUT);
        return Ok(Client::Kafka(Arc::new(KafkaHandle { client, batcher })));
    }
    if let Some(connection) = &spec.rabbitmq {
        let settings = settings::rabbitmq(connection, &read)?;
        let client = RabbitClient::connect(&settings)
            .map_err(|error| Rejection::new(Reason::InvalidSettings, error.to_string()))?;
        let observer = Observer::new(&client);
        return Ok(Client::Rabbitmq(Arc::new(RabbitHandle { client, observer, amqp: None })));
    }
    Err(Rejection::new(Reason::InvalidSpec, "the Broker has no connection: set kafka or rabbitmq"))
}

/// Whether an annotation freezes the object.
#[must_use]
pub fn paused<K: kube::Resource>(object: &K) -> bool {
    object.annotations().get(annotation::PAUSED).is_some_and(|value| value == "true")
}
