//! YAML as a person types it, applied as `kubectl apply --server-side` does.

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::Scope;
use kube::{Api, Client};
use serde::Deserialize as _;

/// Who applies.
const PERSON: &str = "e2e";

/// The documents of a YAML text. What all lines are indented by is taken off first.
pub fn documents(yaml: &str) -> Vec<DynamicObject> {
    let indent = yaml
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or_default();
    let text: Vec<_> = yaml.lines().map(|line| line.get(indent..).unwrap_or_default()).collect();
    let text = text.join("\n");
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| {
            serde_json::Value::deserialize(document).unwrap_or_else(|error| {
                panic!(
                    "{error} in
{text}"
                )
            })
        })
        .filter(|value| !value.is_null())
        .map(|value| serde_json::from_value(value).unwrap_or_else(|error| panic!("{error} in\n{text}")))
        .collect()
}

/// Applies one object; into `namespace` if it says no other.
pub async fn apply(
    client: &Client,
    namespace: &str,
    object: &DynamicObject,
    dry_run: bool,
) -> kube::Result<DynamicObject> {
    let kind = object.types.clone().unwrap_or_default();
    let kind = GroupVersionKind::try_from(kind).expect("apiVersion and kind");
    let (resource, capabilities) = kube::discovery::pinned_kind(client, &kind).await?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or(namespace);
            Api::namespaced_with(client.clone(), namespace, &resource)
        }
    };
    let name = object.metadata.name.as_deref().expect("metadata.name");
    let mut parameters = PatchParams::apply(PERSON).force();
    parameters.dry_run = dry_run;
    api.patch(name, &parameters, &Patch::Apply(object)).await
}
