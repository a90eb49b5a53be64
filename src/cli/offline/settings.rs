//! From a Broker's spec and Secrets to a client's settings. Reads Secrets, connects to nothing.

use super::secrets::Secrets;
use crate::api::broker::{KafkaConnection, RabbitmqConnection, SaslMechanism as ApiMechanism, Tls};
use crate::api::conditions::Reason;
use crate::brokers::kafka::{KafkaSettings, SaslMechanism, SaslSettings};
use crate::brokers::rabbitmq::RabbitSettings;
use crate::brokers::settings::{Secret, TlsSettings};
use crate::topology::Rejection;

/// How the command line names itself to brokers: their logs and quotas show it.
const CLIENT_ID: &str = "spillway-cli";

/// Settings for Kafka. `namespace` is the Broker's own.
pub fn kafka(
    connection: &KafkaConnection,
    namespace: &str,
    secrets: &Secrets,
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
                username: line(secrets, namespace, &from.name, &from.username_key)?,
                password: Secret::new(line(secrets, namespace, &from.name, &from.password_key)?),
            })
        }
    };
    Ok(KafkaSettings {
        bootstrap_servers: connection.bootstrap_servers.clone(),
        tls: connection.tls.as_ref().map(|tls| self::tls(tls, namespace, secrets)).transpose()?,
        sasl,
        client_id: CLIENT_ID.into(),
    })
}

/// Settings for RabbitMQ's management interface. `namespace` is the Broker's own.
pub fn rabbitmq(
    connection: &RabbitmqConnection,
    namespace: &str,
    secrets: &Secrets,
) -> Result<RabbitSettings, Rejection> {
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
        // Depths are the operator's: nothing here needs AMQP.
        amqp_url: None,
        username: line(secrets, namespace, name, username_key)?,
        password: Secret::new(line(secrets, namespace, name, password_key)?),
        tls: connection.tls.as_ref().map(|tls| self::tls(tls, namespace, secrets)).transpose()?,
    })
}

/// One line: files and Secrets often end with a line break that belongs to nobody.
fn line(secrets: &Secrets, namespace: &str, name: &str, key: &str) -> Result<String, Rejection> {
    Ok(secrets.text(namespace, name, key)?.trim_end_matches(['\r', '\n']).to_owned())
}

fn tls(tls: &Tls, namespace: &str, secrets: &Secrets) -> Result<TlsSettings, Rejection> {
    let mut settings =
        TlsSettings { insecure_skip_verify: tls.insecure_skip_verify, ..TlsSettings::default() };
    if let Some(ca) = &tls.ca_secret_ref {
        settings.ca_pem = Some(secrets.text(namespace, &ca.name, &ca.key)?);
    }
    if let Some(client) = &tls.client_secret_ref {
        settings.client_cert_pem = Some(secrets.text(namespace, &client.name, &client.cert_key)?);
        settings.client_key_pem =
            Some(Secret::new(secrets.text(namespace, &client.name, &client.key_key)?));
    }
    Ok(settings)
}
