//! What verbs read from the API server, as whoever the kubeconfig says.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::CliError;
use super::kubeconfig::KubeconfigArgs;
use super::leases::{Leader, LeaseArgs};
use super::offline::secrets::Secrets;
use crate::api::{Binding, Broker, Consumer, Exchange, FINALIZER, Queue, Topic};
use crate::causes::of_kube as words;
use crate::controllers::settings::secret_names;
use crate::runtime::lease::LABEL as LEASE_LABEL;

/// Which namespace.
#[derive(clap::Args, Clone, Debug)]
pub struct NamespaceArgs {
    /// The namespace; default: the one of the kubeconfig's context
    #[arg(short, long, value_parser = crate::config::namespace, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

/// All kinds of Spillway's, in the order in which a person meets them.
#[must_use]
pub fn kinds() -> Vec<ApiResource> {
    vec![
        ApiResource::erase::<Broker>(&()),
        ApiResource::erase::<Topic>(&()),
        ApiResource::erase::<Exchange>(&()),
        ApiResource::erase::<Queue>(&()),
        ApiResource::erase::<Binding>(&()),
        ApiResource::erase::<Consumer>(&()),
    ]
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
    pub async fn connect(way: &KubeconfigArgs) -> Result<Self, CliError> {
        let config = way.load().await?;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config)
            .map_err(|error| CliError::new("connect to the Kubernetes API server", words(&error)))?;
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

    /// All objects of a kind in a namespace, or in all, by namespace and name. Untyped: one that cannot be read as its
    /// kind must not hide the others.
    pub async fn objects(
        &self,
        kind: &ApiResource,
        namespace: Option<&str>,
    ) -> Result<Vec<DynamicObject>, CliError> {
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, kind),
            None => Api::all_with(self.client.clone(), kind),
        };
        let listed = api.list(&ListParams::default()).await.map_err(|error| {
            let installed = !matches!(&error, kube::Error::Api(status) if status.code == 404);
            let hint = if installed { "" } else { " (are the custom resource definitions installed?)" };
            CliError::new(&format!("list {}", kind.plural), words(&error) + hint)
        })?;
        let mut found = listed.items;
        found.sort_by_key(|object| (object.namespace(), object.name_any()));
        Ok(found)
    }

    /// One object of a kind.
    pub async fn object(
        &self,
        kind: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<DynamicObject, CliError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, kind);
        let found = api.get_opt(name).await;
        let found = found.map_err(|error| {
            CliError::new(&format!("read {} {namespace}/{name}", kind.kind), words(&error))
        })?;
        found.ok_or_else(|| CliError(format!("there is no {} {name} in namespace {namespace}", kind.kind)))
    }

    /// Takes Spillway's finalizer off an object, and leaves those of others. False: it is gone, or has none.
    pub async fn release(&self, kind: &ApiResource, object: &DynamicObject) -> Result<bool, CliError> {
        /// How often somebody else may be faster.
        const ATTEMPTS: usize = 5;
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, kind);
        let failed =
            |error| CliError::new(&format!("release {} {namespace}/{name}", kind.kind), words(&error));
        let mut object = object.clone();
        for attempt in 1..=ATTEMPTS {
            let others: Vec<_> = object.finalizers().iter().filter(|name| *name != FINALIZER).collect();
            if others.len() == object.finalizers().len() {
                return Ok(false);
            }
            // The resource version keeps a finalizer that somebody else added meanwhile.
            let patch = json!({"metadata": {
                "uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": others,
            }});
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return Ok(true),
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
                Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {
                    let Some(newer) = api.get_opt(&name).await.map_err(failed)? else { return Ok(false) };
                    object = newer;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(false)
    }

    /// What the Leases of operators say, by this machine's clock: who asks for a status is not to wait for a second look.
    /// `Err`: they may not be read.
    pub async fn leaders(&self, args: &LeaseArgs) -> Result<Vec<Leader>, String> {
        let (leases, now) = (self.leases(args).await?, Timestamp::now());
        Ok(leases.iter().map(|lease| Leader::of(lease, now)).collect())
    }

    /// The Leases of operators. `Err`: they may not be read.
    pub async fn leases(&self, args: &LeaseArgs) -> Result<Vec<Lease>, String> {
        let api: Api<Lease> = match &args.lease_namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let leases = if let Some(name) = &args.lease {
            api.get_opt(name).await.map(|found| found.into_iter().collect())
        } else {
            let (key, value) = LEASE_LABEL;
            let labelled = ListParams::default().labels(&format!("{key}={value}"));
            api.list(&labelled).await.map(|list| list.items)
        };
        leases.map_err(|error| words(&error))
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
