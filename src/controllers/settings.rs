//! From a Broker's spec and its Secrets to a client's settings. No IO but reading Secrets.

use std::collections::BTreeSet;

use super::failure::Failure;
use super::secrets::{Secrets, text};
use crate::api::BrokerSpec;
use crate::api::broker::{KafkaConnection, RabbitmqConnection, SaslMechanism as ApiMechanism, Tls};
use crate::api::conditions::Reason;
use crate::brokers::kafka::{KafkaSettings, SaslMechanism, SaslSettings};
use crate::brokers::rabbitmq::RabbitSettings;
use crate::brokers::settings::{Secret, TlsSettings};

/// How the operator names itself to brokers: their logs and quotas show it.
const CLIENT_ID: &str = "spillway";

/// The Secrets that a Broker names.
#[must_use]
pub fn secret_names(spec: &BrokerSpec) -> BTreeSet<String> {
    let tls = [
        spec.kafka.as_ref().and_then(|kafka| kafka.tls.as_ref()),
        spec.rabbitmq.as_ref().and_then(|rabbitmq| rabbitmq.tls.as_ref()),
    ];
    let tls = tls.into_iter().flatten();
    let rabbitmq = spec.rabbitmq.iter();
    tls.clone()
        .filter_map(|tls| tls.ca_secret_ref.as_ref().map(|secret| secret.name.clone()))
        .chain(tls.filter_map(|tls| tls.client_secret_ref.as_ref().map(|secret| secret.name.clone())))
        .chain(
            spec.kafka
                .iter()
                .flat_map(|kafka| &kafka.sasl)
                .map(|sasl| sasl.credentials_secret_ref.name.clone()),
        )
        .chain(rabbitmq.clone().flat_map(|r| &r.credentials_secret_ref).map(|secret| secret.name.clone()))
        .chain(rabbitmq.flat_map(|r| &r.connection_secret_ref).map(|secret| secret.name.clone()))
        .collect()
}

/// Reads the Secrets and makes the settings.
pub async fn kafka(
    connection: &KafkaConnection,
    namespace: &str,
    secrets: &Secrets,
) -> Result<KafkaSettings, Failure> {
    let read = async |name: &str, key: &str| text(&secrets.get(namespace, name).await?, namespace, name, key);
    let tls = tls(connection.tls.as_ref(), namespace, secrets).await?;
    let sasl = match &connection.sasl {
        None => None,
        Some(sasl) => {
            let from = &sasl.credentials_secret_ref;
            Some(SaslSettings {
                mechanism: match sasl.mechanism {
                    ApiMechanism::Plain => SaslMechanism::Plain,
                    ApiMechanism::ScramSha256 => SaslMechanism::ScramSha256,
                    ApiMechanism::ScramSha512 => SaslMechanism::ScramSha512,
                },
                username: read(&from.name, &from.username_key)
                    .await?
                    .trim_end_matches(['\r', '\n'])
                    .to_owned(),
                password: Secret::new(
                    read(&from.name, &from.password_key).await?.trim_end_matches(['\r', '\n']).to_owned(),
                ),
            })
        }
    };
    Ok(KafkaSettings {
        bootstrap_servers: connection.bootstrap_servers.clone(),
        tls,
        sasl,
        client_id: CLIENT_ID.into(),
    })
}

/// Reads the Secrets and makes RabbitMQ's settings.
pub async fn rabbitmq(
    connection: &RabbitmqConnection,
    namespace: &str,
    secrets: &Secrets,
) -> Result<RabbitSettings, Failure> {
    let read = async |name: &str, key: &str| {
        let text = text(&secrets.get(namespace, name).await?, namespace, name, key)?;
        Ok::<_, Failure>(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    let mut amqp_url = connection.amqp_url.clone();
    let (username, password) = match (&connection.credentials_secret_ref, &connection.connection_secret_ref) {
        (Some(from), _) => {
            (read(&from.name, &from.username_key).await?, read(&from.name, &from.password_key).await?)
        }
        (None, Some(from)) => {
            if amqp_url.is_none() {
                let (host, port) = (read(&from.name, "host").await?, read(&from.name, "port").await?);
                let scheme = if connection.tls.is_some() { "amqps" } else { "amqp" };
                amqp_url = Some(format!("{scheme}://{host}:{port}"));
            }
            (read(&from.name, "username").await?, read(&from.name, "password").await?)
        }
        (None, None) => {
            return Err(Failure::waiting(
                Reason::InvalidSpec,
                "the Broker has no credentials: set credentialsSecretRef or connectionSecretRef",
            ));
        }
    };
    Ok(RabbitSettings {
        management_url: connection.management_url.clone(),
        amqp_url,
        username,
        password: Secret::new(password),
        tls: tls(connection.tls.as_ref(), namespace, secrets).await?,
    })
}

async fn tls(from: Option<&Tls>, namespace: &str, secrets: &Secrets) -> Result<Option<TlsSettings>, Failure> {
    let Some(tls) = from else { return Ok(None) };
    let read = async |name: &str, key: &str| text(&secrets.get(namespace, name).await?, namespace, name, key);
    let mut settings =
        TlsSettings { insecure_skip_verify: tls.insecure_skip_verify, ..TlsSettings::default() };
    if let Some(ca) = &tls.ca_secret_ref {
        settings.ca_pem = Some(read(&ca.name, &ca.key).await?);
    }
    if let Some(client) = &tls.client_secret_ref {
        settings.client_cert_pem = Some(read(&client.name, &client.cert_key).await?);
        settings.client_key_pem = Some(Secret::new(read(&client.name, &client.key_key).await?));
    }
    Ok(Some(settings))
}
