//! From a Broker's spec and its Secrets to a client's settings. No IO but reading Secrets.

use std::collections::BTreeSet;

use super::failure::Failure;
use super::secrets::{Secrets, text};
use crate::api::broker::{KafkaConnection, SaslMechanism as ApiMechanism};
use crate::brokers::kafka::{KafkaSettings, SaslMechanism, SaslSettings, Secret, TlsSettings};

/// How the operator names itself to brokers: their logs and quotas show it.
const CLIENT_ID: &str = "spillway";

/// The Secrets that a connection names.
#[must_use]
pub fn secret_names(connection: &KafkaConnection) -> BTreeSet<String> {
    let tls = connection.tls.iter();
    tls.clone()
        .filter_map(|tls| tls.ca_secret_ref.as_ref().map(|secret| secret.name.clone()))
        .chain(tls.filter_map(|tls| tls.client_secret_ref.as_ref().map(|secret| secret.name.clone())))
        .chain(connection.sasl.iter().map(|sasl| sasl.credentials_secret_ref.name.clone()))
        .collect()
}

/// Reads the Secrets and makes the settings.
pub async fn kafka(
    connection: &KafkaConnection,
    namespace: &str,
    secrets: &Secrets,
) -> Result<KafkaSettings, Failure> {
    let read = async |name: &str, key: &str| text(&secrets.get(namespace, name).await?, namespace, name, key);
    let tls = match &connection.tls {
        None => None,
        Some(tls) => {
            let mut settings =
                TlsSettings { insecure_skip_verify: tls.insecure_skip_verify, ..TlsSettings::default() };
            if let Some(ca) = &tls.ca_secret_ref {
                settings.ca_pem = Some(read(&ca.name, &ca.key).await?);
            }
            if let Some(client) = &tls.client_secret_ref {
                settings.client_cert_pem = Some(read(&client.name, &client.cert_key).await?);
                settings.client_key_pem = Some(Secret::new(read(&client.name, &client.key_key).await?));
            }
            Some(settings)
        }
    };
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
