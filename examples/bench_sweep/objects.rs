//! The Broker, and a Consumer and a Deployment without pods for each group.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::{BenchError, NAMESPACE, PREFIX, kafka};

/// Requests to the API server at a time.
const CONCURRENCY: usize = 32;

fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Makes all of it.
pub async fn make(servers: &str, groups: usize) -> Result<(), BenchError> {
    let client = Client::try_default().await?;
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).map_err(kube::Error::SerdeError)?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    let spillway = |kind| resource("spillway.dev", "v1alpha1", kind);
    let servers: Vec<&str> = servers.split(',').collect();
    let broker = json!({"kafka": {"bootstrapServers": servers}});
    create(&client, &spillway("Broker"), "kafka", broker).await?;
    let both = (0..groups).map(|number| {
        let (client, name) = (&client, format!("c{number}"));
        let consumers = spillway("Consumer");
        async move {
            // Without pods: what is measured is reading.
            let workload = json!({
                "replicas": 0, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "c", "image": "none"}]}},
            });
            create(client, &resource("apps", "v1", "Deployment"), &name, workload).await?;
            let consumer = json!({
                "scaleTargetRef": {"name": name},
                "kafka": {"brokerRef": {"name": "kafka"}, "group": kafka::group(number), "topics": [PREFIX],
                    "offsetReset": "earliest"},
                "scaling": {"minReplicas": 0, "tuning": {"pollInterval": "5s"}},
            });
            create(client, &consumers, &name, consumer).await
        }
    });
    futures::stream::iter(both).buffer_unordered(CONCURRENCY).try_collect().await
}

async fn create(client: &Client, kind: &ApiResource, name: &str, spec: Value) -> Result<(), BenchError> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, kind);
    let object = DynamicObject::new(name, kind).data(json!({"spec": spec}));
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Deletes the namespace, and waits until it is gone.
pub async fn clear() -> Result<(), BenchError> {
    let api: Api<Namespace> = Api::all(Client::try_default().await?);
    match api.delete(NAMESPACE, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let begun = std::time::Instant::now();
    while api.get_opt(NAMESPACE).await?.is_some() {
        if begun.elapsed() > crate::PATIENCE {
            return Err(BenchError::Waited(crate::PATIENCE, format!("namespace {NAMESPACE} to be gone")));
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    Ok(())
}
