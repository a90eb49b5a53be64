//! Writing `status`: only when it changed, and only what changed.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::failure::Failure;
use crate::api::conditions;

/// Patches `status` from `before` to `after`. Nothing is sent when they are equal.
pub async fn write<K, S>(ctx: &Context, object: &K, before: &S, after: &S) -> Result<(), Failure>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
    S: Serialize,
{
    let Some(changes) = diff(before, after) else {
        return Ok(());
    };
    let _turn = ctx.turn_to_write().await?;
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    // The UID keeps the patch from an object that was deleted and made again meanwhile.
    let patch = json!({"metadata": {"uid": object.uid()}, "status": changes});
    let written = api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    ctx.metrics.api_write("patch", "status");
    match written {
        Ok(written) => {
            ctx.remember_write(written);
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Failure::kube("write status")(error)),
    }
}

/// At most this many steps of a plan are shown: the API server refuses more than 256, and an object
/// that is too large. Each is shown in at most [`conditions::MAX_MESSAGE`] bytes.
const MAX_STEPS: usize = 200;

/// Steps in words, as they stand in a status.
#[must_use]
pub fn words<S: std::fmt::Display>(steps: &[S]) -> Vec<String> {
    let shown = steps.iter().take(MAX_STEPS);
    let mut words: Vec<_> =
        shown.map(|step| conditions::cut(&step.to_string(), conditions::MAX_MESSAGE)).collect();
    if let more @ 1.. = steps.len().saturating_sub(MAX_STEPS) {
        words.push(format!("… and {more} more"));
    }
    words
}

/// The JSON merge patch from one value to another, with nulls for what is gone; none when equal.
pub fn diff<S: Serialize>(before: &S, after: &S) -> Option<Value> {
    let value = |value: &S| serde_json::to_value(value).unwrap_or_default();
    merge_patch(&value(before), &value(after))
}

/// The JSON merge patch (RFC 7396) from `before` to `after`; none when they are equal.
fn merge_patch(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let mut patch = Map::new();
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in after {
                match before.get(key) {
                    Some(old) => {
                        if let Some(change) = merge_patch(old, value) {
                            patch.insert(key.clone(), change);
                        }
                    }
                    None => {
                        patch.insert(key.clone(), value.clone());
                    }
                }
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (before, after) => (before != after).then(|| after.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 7396, as the API server applies it.
    fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, value) in patch {
            if value.is_null() {
                target.as_object_mut().unwrap().remove(key);
            } else {
                apply(target.as_object_mut().unwrap().entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }

    #[test]
    fn a_plan_of_a_thousand_steps_is_cut_to_what_a_status_holds() {
        let steps: Vec<String> = (1..=1000).map(|n| n.to_string()).collect();
        let words = words(&steps);
        assert_eq!((words.len(), words[200].as_str()), (201, "… and 800 more"));
        assert_eq!(super::words(&steps[..200]), steps[..200]);
    }

    fn statuses() -> impl Strategy<Value = Value> {
        fn object(values: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
            prop::collection::btree_map("[a-c]", values, 0..4).prop_map(|map| json!(map)).boxed()
        }
        let leaf = prop_oneof![
            (0i64..3).prop_map(Value::from),
            "[ab]".prop_map(Value::from),
            prop::collection::vec(0i64..3, 0..3).prop_map(Value::from)
        ]
        .boxed();
        object(prop_oneof![leaf.clone(), object(leaf)].boxed())
    }

    proptest! {
        #[test]
        fn applying_the_patch_gives_the_new_status(before in statuses(), after in statuses()) {
            let mut target = before.clone();
            let patch = merge_patch(&before, &after);
            prop_assert_eq!(patch.is_none(), before == after);
            if let Some(patch) = patch {
                apply(&mut target, &patch);
            }
            prop_assert_eq!(target, after);
        }
    }
}
