//! RabbitMQ's side, by a client that asks for much at once. All that a run makes lies in a virtual host of its own.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use spillway_operator::brokers::rabbitmq::{RabbitClient, RabbitError, RabbitSettings};
use spillway_operator::brokers::settings::Secret;

use crate::objects::Kind;
use crate::{BenchError, PATIENCE, until};

/// The exchange that bindings lead from: every virtual host has it.
pub const SOURCE: &str = "amq.direct";
/// How old the management interface's counters may be.
const STATISTICS: Duration = Duration::from_secs(6);

/// A bare client.
#[derive(Clone)]
pub struct Rabbit {
    client: RabbitClient,
    http: reqwest::Client,
    /// Its management interface, without credentials.
    pub url: String,
    pub user: String,
    pub password: String,
}

impl Rabbit {
    /// `address` is `http://USER:PASSWORD@HOST:PORT`.
    pub fn connect(address: &str) -> Result<Self, BenchError> {
        let unusable = || BenchError::Address(address.to_owned());
        let mut url = reqwest::Url::parse(address).map_err(|_| unusable())?;
        let (user, password) = (url.username().to_owned(), url.password().unwrap_or_default().to_owned());
        url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| unusable())?;
        let url = url.as_str().trim_end_matches('/').to_owned();
        let client = RabbitClient::connect(&RabbitSettings {
            management_url: url.clone(),
            amqp_url: None,
            username: user.clone(),
            password: Secret::new(password.clone()),
            tls: None,
        })?
        .with_timeout(Duration::from_secs(120));
        Ok(Self { client, http: reqwest::Client::new(), url, user, password })
    }

    /// Makes queues and bindings in one request. A binding leads to the queue of the same number.
    pub async fn import(
        &self,
        vhost: &str,
        objects: &[(Kind, String)],
        kind: &str,
    ) -> Result<(), RabbitError> {
        let of = |wanted: Kind, form: &dyn Fn(&str) -> Value| -> Vec<Value> {
            objects.iter().filter(|(is, _)| *is == wanted).map(|(_, name)| form(name)).collect()
        };
        let queues = of(
            Kind::Queue,
            &|name| json!({"name": name, "durable": true, "auto_delete": false, "arguments": {"x-queue-type": kind}}),
        );
        let bindings = of(
            Kind::Binding,
            &|name| json!({"source": SOURCE, "destination": name, "destination_type": "queue", "routing_key": name, "arguments": {}}),
        );
        self.client.import_definitions(Some(vhost), &json!({"queues": queues, "bindings": bindings})).await
    }

    /// Queues and bindings that are there; what RabbitMQ binds by itself is left out.
    pub async fn count(&self, vhost: &str) -> Result<(usize, usize), RabbitError> {
        let bindings = self.client.list_bindings(Some(vhost)).await?;
        let bound = bindings.iter().filter(|binding| binding.source == SOURCE).count();
        Ok((self.client.list_queues(Some(vhost)).await?.len(), bound))
    }

    /// Whether there is a binding of `SOURCE` with this key.
    pub async fn bound(&self, vhost: &str, key: &str) -> Result<bool, RabbitError> {
        let bindings = self.client.bindings_from(vhost, SOURCE).await?;
        Ok(bindings.iter().any(|binding| binding.routing_key == key))
    }

    /// Queues that were ever declared or deleted, in all virtual hosts. Waits until the counters are up to date.
    pub async fn churn(&self) -> Result<u64, BenchError> {
        tokio::time::sleep(STATISTICS).await;
        let request = self.http.get(format!("{}/api/overview", self.url));
        let answer = request.basic_auth(&self.user, Some(&self.password)).send().await?;
        let overview: Value = answer.error_for_status()?.json().await?;
        let counter = |name: &str| {
            overview["churn_rates"][name].as_u64().ok_or_else(|| BenchError::Counter(name.to_owned()))
        };
        Ok(counter("queue_declared")? + counter("queue_created")? + counter("queue_deleted")?)
    }

    /// Makes the virtual host, empty.
    pub async fn make_vhost(&self, vhost: &str) -> Result<(), BenchError> {
        self.vhost(Method::PUT, vhost).await.map(drop)?;
        until(PATIENCE, Duration::from_millis(50), async || {
            let there = self.client.vhosts().await?.iter().any(|name| name == vhost);
            Ok(if there { Ok(()) } else { Err(format!("virtual host {vhost} to be there")) })
        })
        .await
    }

    /// Deletes the virtual host with all that is in it, if there is one.
    pub async fn delete_vhost(&self, vhost: &str) -> Result<(), BenchError> {
        self.vhost(Method::DELETE, vhost).await.map(drop)?;
        until(PATIENCE, Duration::from_millis(50), async || {
            let there = self.client.vhosts().await?.iter().any(|name| name == vhost);
            Ok(if there { Err(format!("virtual host {vhost} to be gone")) } else { Ok(()) })
        })
        .await
    }

    async fn vhost(&self, method: Method, vhost: &str) -> Result<StatusCode, BenchError> {
        let request = self.http.request(method, format!("{}/api/vhosts/{vhost}", self.url));
        let answer = request.basic_auth(&self.user, Some(&self.password)).json(&json!({})).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(StatusCode::NOT_FOUND);
        }
        Ok(answer.error_for_status()?.status())
    }
}
