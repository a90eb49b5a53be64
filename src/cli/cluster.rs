//! What verbs read from the API server, as whoever the kubeconfig says.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client, Config, ResourceExt as _};

use super::CliError;
use super::offline::secrets::Secrets;
use crate::api::{Broker, Consumer};
use crate::controllers::settings::secret_names;

/// Which namespace.
#[derive(clap::Args, Clone, Debug)]
pub struct NamespaceArgs {
    /// The namespace; default: the one of the kubeconfig's context
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

/// A way to the API server.
pub struct Cluster {
    client: Client,
    /// The namespace of the kubeconfig's context.
    namespace: String,
}

/// A Broker and the Secrets that it names.
pub struct Found {
    /// The Broker.
    pub broker: Broker,
    /// What could be read of its Secrets; one that could not is missing.
    pub secrets: Secrets,
    /// Why a Secret could not be read.
    pub unreadable: Option<String>,
}

impl Cluster {
    /// Connects as the kubeconfig says, or from within a pod.
    pub async fn connect() -> Result<Self, CliError> {
        let config = Config::infer()
            .await
            .map_err(|error| CliError::new("find a Kubernetes API server (is KUBECONFIG right?)", error))?;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config)
            .map_err(|error| CliError::new("connect to the Kubernetes API server", error))?;
        Ok(Self { client, namespace })
    }

    /// The namespace that is meant; none for all.
    #[must_use]
    pub fn namespace(&self, args: &NamespaceArgs) -> Option<String> {
        let one = || args.namespace.clone().unwrap_or_else(|| self.namespace.clone());
        (!args.all_namespaces).then(one)
    }

    /// The Consumers of a namespace, or of all, by namespace and name.
    pub async fn consumers(&self, namespace: Option<&str>) -> Result<Vec<Consumer>, CliError> {
        let api: Api<Consumer> = match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let mut found = api
            .list(&ListParams::default())
            .await
            .map_err(|error| CliError::new("list Consumers", words(&error)))?
            .items;
        found.sort_by_key(|consumer| (consumer.namespace(), consumer.name_any()));
        Ok(found)
    }

    /// One Consumer.
    pub async fn consumer(&self, namespace: &str, name: &str) -> Result<Consumer, CliError> {
        let api: Api<Consumer> = Api::namespaced(self.client.clone(), namespace);
        let found = api
            .get_opt(name)
            .await
            .map_err(|error| CliError::new(&format!("read Consumer {namespace}/{name}"), words(&error)))?;
        found.ok_or_else(|| CliError(format!("there is no Consumer {name} in namespace {namespace}")))
    }

    /// A Broker with its Secrets. `Err` says why it is of no use, for a person.
    pub async fn broker(&self, namespace: &str, name: &str) -> Result<Found, String> {
        let api: Api<Broker> = Api::namespaced(self.client.clone(), namespace);
        let broker = match api.get_opt(name).await {
            Ok(Some(broker)) => broker,
            Ok(None) => return Err(format!("Broker {namespace}/{name} does not exist")),
            Err(error) => return Err(format!("failed to read Broker {namespace}/{name}: {}", words(&error))),
        };
        let (mut secrets, mut unreadable) = (Secrets::new(None), None);
        for secret in secret_names(&broker.spec) {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            let read = match api.get_opt(&secret).await {
                Ok(Some(found)) => match serde_json::to_value(BTreeMap::from([("data", found.data)])) {
                    Ok(document) => secrets.add(namespace, &secret, &document),
                    Err(_) => Err("it cannot be used".into()),
                },
                Ok(None) => Err("it does not exist".into()),
                Err(error) => Err(words(&error)),
            };
            if let Err(why) = read {
                unreadable = Some(format!("failed to read Secret {namespace}/{secret}: {why}"));
            }
        }
        Ok(Found { broker, secrets, unreadable })
    }
}

/// The API server's own words.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
