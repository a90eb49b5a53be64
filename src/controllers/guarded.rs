//! An object of a kind, or what can be said of one that is none.
//!
//! A watch lists all objects of a kind in one answer. Read as they are, one object that an older or a
//! looser schema let through would make the whole answer unreadable, and the operator blind to all
//! the others.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object that cannot be read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Whose it is.
    pub metadata: ObjectMeta,
    /// Why.
    pub error: String,
}

/// An object that is read on its own.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Box<Unreadable>>);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Self(match K::deserialize(&value) {
            Ok(object) => Ok(object),
            Err(error) => {
                let metadata = value.get("metadata").unwrap_or(&Value::Null);
                let metadata = ObjectMeta::deserialize(metadata).map_err(D::Error::custom)?;
                Err(Box::new(Unreadable { metadata, error: error.to_string() }))
            }
        }))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;
    use crate::api::Queue;

    #[test]
    fn one_object_that_cannot_be_read_does_not_hide_the_others() {
        let queue = |name: &str, length: Value| {
            json!({
                "apiVersion": "spillway.dev/v1alpha1", "kind": "Queue", "metadata": {"name": name, "uid": name},
                "spec": {"brokerRef": {"name": "rabbitmq"}, "maxLengthBytes": length},
            })
        };
        let list = json!({
            "apiVersion": "spillway.dev/v1alpha1", "kind": "QueueList", "metadata": {"resourceVersion": "1"},
            "items": [queue("bad", json!("999999999999999Ti")), queue("worse", json!(-1)), queue("good", json!("5Gi"))],
        });
        let list: ObjectList<Guarded<Queue>> = serde_json::from_str(&list.to_string()).unwrap();
        let names: Vec<_> = list
            .items
            .iter()
            .map(|item| (item.meta().name.as_deref().unwrap_or_default(), item.0.is_ok()))
            .collect();
        assert_eq!(names, [("bad", false), ("worse", false), ("good", true)]);
        let error = &list.items[0].0.as_ref().unwrap_err().error;
        assert!(error.contains("no number of bytes"), "{error}");
    }
}
