//! RabbitMQ arguments: a map of names to plain values, as they go over the wire.

use std::collections::BTreeMap;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// Arguments of a queue, an exchange or a binding.
pub type Arguments = BTreeMap<String, Value>;

/// At most 64, of any values: CEL has no type for a map of them, so the planner checks what they may be.
#[must_use]
pub fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// What was seen or made, in a status: others may have bound with any number of them.
#[must_use]
pub fn seen(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
