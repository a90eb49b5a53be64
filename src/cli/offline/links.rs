//! The way to each Broker that is named: settings, a client, and who the cluster says it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;

use super::objects::{Declared, Objects};
use super::secrets::Secrets;
use super::settings;
use crate::api::broker::BrokerSpec;
use crate::api::conditions::Reason;
use crate::api::{Broker, annotation};
use crate::apply;
use crate::brokers::kafka::{AdminBatcher, KafkaClient, KafkaError, KafkaHandle};
use crate::brokers::rabbitmq::{Observer, RabbitClient, RabbitError, RabbitHandle};
use crate::controllers::failure::Failure;
use crate::topology::Rejection;
use crate::topology::ownership::Claim;

/// How long a broker may take to say who it is.
const TIMEOUT: Duration = Duration::from_secs(4);

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
    /// How old it is, beside others of the same cluster.
    pub claim: Claim,
    /// The cluster's id, as it says itself.
    pub cluster_id: String,
    /// How to speak to it.
    pub client: C,
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
pub struct Links<C = Client>(BTreeMap<String, Result<Link<C>, Rejection>>);

impl Links {
    /// Connects to all Brokers that are named in `wanted`, at once.
    pub async fn open(objects: &Objects, wanted: &BTreeSet<String>) -> Self {
        let named = objects.brokers.iter().filter(|broker| wanted.contains(&broker.key()));
        let links = stream::iter(named)
            .map(async |broker| (broker.key(), open(broker, &objects.secrets).await))
            .buffer_unordered(64)
            .collect()
            .await;
        Self(links)
    }
}

impl<C> Links<C> {
    /// The way to a Broker.
    pub fn get(&self, key: &str) -> Result<&Link<C>, Rejection> {
        match self.0.get(key) {
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
        self.0.iter().filter_map(|(key, link)| Some((key.as_str(), link.as_ref().err()?)))
    }

    /// The oldest Broker of a cluster: its guard rails hold for every other.
    #[must_use]
    pub fn oldest(&self, cluster_id: &str) -> Option<&Link<C>> {
        let same: Vec<_> = self.0.values().flatten().filter(|link| link.cluster_id == cluster_id).collect();
        let claims: Vec<_> = same.iter().map(|link| link.claim.clone()).collect();
        let owner = crate::topology::ownership::owner(&claims)?;
        same.into_iter().find(|link| link.claim == *owner)
    }
}

#[cfg(test)]
impl Links<()> {
    /// Ways that lead nowhere: each Broker with its cluster's id.
    #[must_use]
    pub fn fake(brokers: &[Declared<Broker>], cluster_ids: &[&str]) -> Self {
        let link = |(broker, id): (&Declared<Broker>, &&str)| {
            let link = Link {
                key: broker.key(),
                namespace: broker.object.namespace().unwrap_or_default(),
                spec: broker.object.spec.clone(),
                paused: paused(&broker.object),
                claim: broker.claim("Broker"),
                cluster_id: (*id).to_owned(),
                client: (),
            };
            (broker.key(), Ok(link))
        };
        Self(brokers.iter().zip(cluster_ids).map(link).collect())
    }
}

async fn open(broker: &Declared<Broker>, secrets: &Secrets) -> Result<Link, Rejection> {
    let key = broker.key();
    let begin = |rejection: Rejection| {
        let message = secrets.redact(&format!("Broker {key}: {}", rejection.message));
        Rejection::new(rejection.reason, message)
    };
    let namespace = broker.object.namespace().unwrap_or_default();
    let client = client(&broker.object.spec, &namespace, secrets).map_err(begin)?;
    let cluster_id = tokio::time::timeout(TIMEOUT + Duration::from_millis(500), client.cluster_id())
        .await
        .map_err(|_| Rejection::new(Reason::BrokerUnreachable, "failed to ask the broker: no answer in time"))
        .flatten()
        .map_err(begin)?;
    same_cluster(&broker.object, &cluster_id).map_err(begin)?;
    Ok(Link {
        namespace,
        paused: paused(&broker.object),
        claim: broker.claim("Broker"),
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
    if let Some(connection) = &spec.kafka {
        let settings = settings::kafka(connection, namespace, secrets)?;
        let client = KafkaClient::connect(&settings)
            .map_err(|error| Rejection::new(Reason::InvalidSettings, error.to_string()))?;
        let batcher = AdminBatcher::new(&client, apply::kafka::TIMEOUT);
        return Ok(Client::Kafka(Arc::new(KafkaHandle { client, batcher })));
    }
    if let Some(connection) = &spec.rabbitmq {
        let settings = settings::rabbitmq(connection, namespace, secrets)?;
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
