//! Clients of the brokers that objects in a cluster name, one for each Broker.

use std::collections::HashMap;
use std::sync::Arc;

use super::cluster::Cluster;
use super::offline::links::CLIENT_ID;
use crate::brokers::kafka::{BrokerKey, KafkaClient, KafkaSettings};
use crate::brokers::rabbitmq::{RabbitHandle, RabbitPool};
use crate::controllers::settings;

/// A way to a broker.
#[derive(Clone)]
pub enum Way {
    /// To a Kafka; with its settings, for those who need a client of their own.
    Kafka(KafkaClient, Arc<KafkaSettings>),
    /// To a RabbitMQ.
    Rabbitmq(Arc<RabbitHandle>),
}

/// All ways, found once each.
#[derive(Default)]
pub struct Ways {
    known: HashMap<(String, String), Result<Way, String>>,
    rabbit: RabbitPool,
}

impl Ways {
    /// The way to a Broker. `Err` says why there is none, for a person.
    pub async fn to(&mut self, cluster: &Cluster, namespace: &str, name: &str) -> Result<Way, String> {
        let key = (namespace.to_owned(), name.to_owned());
        let is_lost =
            |way: &Result<Way, String>| matches!(way, Ok(Way::Kafka(client, _)) if client.is_lost());
        if let Some(known) = self.known.get(&key).filter(|known| !is_lost(known)) {
            return known.clone();
        }
        let way = self.connect(cluster, namespace, name).await;
        self.known.insert(key, way.clone());
        way
    }

    async fn connect(&self, cluster: &Cluster, namespace: &str, name: &str) -> Result<Way, String> {
        let found = cluster.broker(namespace, name).await?;
        let unreadable =
            |error: crate::topology::Rejection| found.unreadable.clone().unwrap_or(error.message);
        let read = |name: &str, key: &str| found.secrets.text(namespace, name, key);
        if let Some(connection) = &found.broker.spec.kafka {
            let settings = settings::kafka(connection, CLIENT_ID, &read).map_err(unreadable)?;
            let client = KafkaClient::connect(&settings).map_err(|error| error.to_string())?;
            return Ok(Way::Kafka(client, Arc::new(settings)));
        }
        if let Some(connection) = &found.broker.spec.rabbitmq {
            let settings = settings::rabbitmq(connection, &read).map_err(unreadable)?;
            let key = BrokerKey(format!("{namespace}/{name}"));
            return self.rabbit.get(&key, &settings).map(Way::Rabbitmq).map_err(|error| error.to_string());
        }
        Err(format!("Broker {namespace}/{name} has no connection"))
    }
}
