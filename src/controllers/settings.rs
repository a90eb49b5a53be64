//! From a Broker's spec and its Secrets to a client's settings, for the operator and the command line. No IO.

use std::collections::BTreeSet;

use crate::api::BrokerSpec;
use crate::api::broker::{KafkaConnection, RabbitmqConnection, SaslMechanism as ApiMechanism, Tls};
use crate::api::conditions::Reason;
use crate::brokers::kafka::{KafkaSettings, SaslMechanism, SaslSettings};
use crate::brokers::rabbitmq::RabbitSettings;
use crate::brokers::settings::{Secret, TlsSettings};
use crate::topology::Rejection;

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

/// What stands in a Secret of the Broker's namespace: its name and the key.
pub type Read<'a> = &'a dyn Fn(&str, &str) -> Result<String, Rejection>;

/// Settings for Kafka. `client_id`: how brokers' logs and quotas name the client.
pub fn kafka(
    connection: &KafkaConnection,
    client_id: &str,
    read: Read<'_>,
) -> Result<KafkaSettings, Rejection> {
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
                username: line(read, &from.name, &from.username_key)?,
                password: Secret::new(line(read, &from.name, &from.password_key)?),
            })
        }
    };
    Ok(KafkaSettings {
        bootstrap_servers: connection.bootstrap_servers.clone(),
        tls: tls(connection.tls.as_ref(), read)?,
        sasl,
        client_id: client_id.into(),
    })
}

/// Settings for RabbitMQ, with the AMQP URL of the spec.
pub fn rabbitmq(connection: &RabbitmqConnection, read: Read<'_>) -> Result<RabbitSettings, Rejection> {
    let (name, username_key, password_key) =
        match (&connection.credentials_secret_ref, &connection.connection_secret_ref) {
            (Some(from), _) => (&from.name, from.username_key.as_str(), from.password_key.as_str()),
            (None, Some(from)) => (&from.name, "username", "password"),
            (None, None) => {
                let message =
                    "the Broker has no credentials: set credentialsSecretRef or connectionSecretRef";
                return Err(Rejection::new(Reason::InvalidSpec, message));
            }
        };
    Ok(RabbitSettings {
        management_url: connection.management_url.clone(),
        amqp_url: connection.amqp_url.clone(),
        username: line(read, name, username_key)?,
        password: Secret::new(line(read, name, password_key)?),
        tls: tls(connection.tls.as_ref(), read)?,
    })
}

/// The AMQP URL: the spec's, else what the connection Secret says.
pub fn amqp_url(connection: &RabbitmqConnection, read: Read<'_>) -> Result<Option<String>, Rejection> {
    match (&connection.amqp_url, &connection.credentials_secret_ref, &connection.connection_secret_ref) {
        (None, None, Some(from)) => {
            let (host, port) = (line(read, &from.name, "host")?, line(read, &from.name, "port")?);
            let scheme = if connection.tls.is_some() { "amqps" } else { "amqp" };
            Ok(Some(format!("{scheme}://{host}:{port}")))
        }
        (url, ..) => Ok(url.clone()),
    }
}

/// One line: files and Secrets often end with a line break that belongs to nobody.
fn line(read: Read<'_>, name: &str, key: &str) -> Result<String, Rejection> {
    Ok(read(name, key)?.trim_end_matches(['\r', '\n']).to_owned())
}

fn tls(from: Option<&Tls>, read: Read<'_>) -> Result<Option<TlsSettings>, Rejection> {
    let Some(tls) = from else { return Ok(None) };
    let mut settings =
        TlsSettings { insecure_skip_verify: tls.insecure_skip_verify, ..TlsSettings::default() };
    if let Some(ca) = &tls.ca_secret_ref {
        settings.ca_pem = Some(read(&ca.name, &ca.key)?);
    }
    if let Some(client) = &tls.client_secret_ref {
        settings.client_cert_pem = Some(read(&client.name, &client.cert_key)?);
        settings.client_key_pem = Some(Secret::new(read(&client.name, &client.key_key)?));
    }
    Ok(Some(settings))
}
