//! What the API server checks of a document, checked without one: the structural schema of the
//! CRD (types, bounds, required and unknown fields) and its validation rules (CEL).
//!
//! An unknown field is an error, not something to drop: a typo must not pass silently. Messages
//! name the field and what is wrong with it, never the value: it may hold a secret.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Map, Value};

use crate::api;

/// The fields of `metadata`, as Kubernetes has them.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The schemas of all kinds, compiled once.
pub struct Schemas {
    kinds: BTreeMap<String, (Value, CompiledSchema)>,
    validator: Validator,
}

impl Schemas {
    /// Those of the CRDs that this binary prints.
    #[must_use]
    pub fn new() -> Self {
        let kinds = api::crds().into_iter().filter_map(|crd| Some((crd.spec.names.kind.clone(), of(&crd)?)));
        Self { kinds: kinds.collect(), validator: Validator::new() }
    }

    /// Whether there is such a kind.
    #[must_use]
    pub fn knows(&self, kind: &str) -> bool {
        self.kinds.contains_key(kind)
    }

    /// Everything that is wrong with a document of this kind. Fields that are null count as left
    /// out, and are taken out.
    pub fn check(&self, kind: &str, document: &mut Value) -> Vec<String> {
        let Some((schema, compiled)) = self.kinds.get(kind) else {
            return vec![format!("kind {kind} is not known")];
        };
        let mut problems = Vec::new();
        if let Value::Object(top) = &mut *document {
            // Of what the operator wrote, only which cluster a Broker is on, and since when, binds the command line too.
            let written = top.remove("status").filter(|_| kind == "Broker");
            if let Some(status) =
                written.filter(|status| status.get("clusterId").is_some_and(Value::is_string))
            {
                let kept = ["clusterId", "clusterSince"].map(|field| (field, status.get(field)));
                let kept =
                    kept.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?.clone())));
                let kept = kept.filter(|(_, value)| value.is_string()).collect();
                top.insert("status".into(), Value::Object(kept));
            }
            if let Some(Value::Object(metadata)) = top.get("metadata") {
                unknown("metadata", metadata.keys(), &METADATA.iter().copied(), &mut problems);
            }
        }
        walk("", schema, document, &mut problems);
        if problems.is_empty()
            && let Err(broken) = self.validator.validate_compiled(compiled, document, None)
        {
            problems.extend(broken.into_vec().into_iter().map(|broken| broken.to_string()));
        }
        problems
    }
}

impl Default for Schemas {
    fn default() -> Self {
        Self::new()
    }
}

/// The schema of a CRD's only version, with the fields that every object has.
fn of(crd: &CustomResourceDefinition) -> Option<(Value, CompiledSchema)> {
    let schema = crd.spec.versions.first()?.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    let mut schema = serde_json::to_value(schema).ok()?;
    let properties = schema.get_mut("properties")?.as_object_mut()?;
    let any = serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    properties.insert("metadata".into(), any);
    for text in ["apiVersion", "kind"] {
        properties.insert(text.into(), serde_json::json!({"type": "string"}));
    }
    let compiled = compile_schema(&schema);
    Some((schema, compiled))
}

fn walk(path: &str, schema: &Value, value: &mut Value, problems: &mut Vec<String>) {
    let mut wrong = |what: String| {
        problems.push(if path.is_empty() { what } else { format!("{path}: {what}") });
    };
    if let Some(expected) = mistyped(schema, value) {
        wrong(format!("must be {expected}, is {}", name_of(value)));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<_> =
            allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
        wrong(format!("must be one of {}", allowed.join(", ")));
        return;
    }
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    match value {
        Value::String(text) => {
            let length = text.chars().count();
            if bound("minLength").is_some_and(|least| length < least) {
                wrong(if length == 0 { "must not be empty".into() } else { "is too short".into() });
            }
            if let Some(most) = bound("maxLength").filter(|most| length > *most) {
                wrong(format!("has {length} characters; at most {most} are allowed"));
            }
            if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
                && regex::Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
            {
                wrong(format!("must match {pattern}"));
            }
        }
        Value::Number(number) => {
            let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
            let number = number.as_f64().unwrap_or(f64::NAN);
            if let Some(least) = limit("minimum").filter(|least| number < *least) {
                wrong(format!("must be at least {least}"));
            }
            if let Some(most) = limit("maximum").filter(|most| number > *most) {
                wrong(format!("must be at most {most}"));
            }
        }
        Value::Array(items) => {
            if let Some(least) = bound("minItems").filter(|least| items.len() < *least) {
                wrong(format!("must have at least {least} items"));
            }
            if let Some(most) = bound("maxItems").filter(|most| items.len() > *most) {
                wrong(format!("has {} items; at most {most} are allowed", items.len()));
            }
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    walk(&format!("{path}[{index}]"), schema, item, problems);
                }
            }
        }
        Value::Object(fields) => object(path, schema, fields, problems),
        Value::Null | Value::Bool(_) => {}
    }
}

fn object(path: &str, schema: &Value, fields: &mut Map<String, Value>, problems: &mut Vec<String>) {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let others = schema.get("additionalProperties").filter(|others| others.is_object());
    let open = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    fields.retain(|key, value| {
        let nullable = properties.get(key).and_then(|schema| schema.get("nullable"));
        !(value.is_null() && nullable == Some(&Value::Bool(true)))
    });
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if let Some(key) = key.as_str().filter(|key| !fields.contains_key(*key)) {
            problems.push(format!("{}: is required", at(key)));
        }
    }
    let most = schema.get("maxProperties").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    if let Some(most) = most.filter(|most| fields.len() > *most) {
        problems.push(format!("{path}: has {} keys; at most {most} are allowed", fields.len()));
    }
    if !open && others.is_none() {
        unknown(path, fields.keys(), &properties.keys().map(String::as_str), problems);
    }
    for (key, value) in fields.iter_mut() {
        if let Some(schema) = properties.get(key).or(others) {
            walk(&at(key), schema, value, problems);
        }
    }
}

/// Says which keys are not known, and what may be meant.
fn unknown<'a>(
    path: &str,
    keys: impl Iterator<Item = &'a String>,
    known: &(impl Iterator<Item = &'a str> + Clone),
    problems: &mut Vec<String>,
) {
    for key in keys {
        if known.clone().any(|known| known == key) {
            continue;
        }
        let shown: String = key.chars().take(64).collect();
        let at = if path.is_empty() { shown.clone() } else { format!("{path}.{shown}") };
        let near = known
            .clone()
            .map(|known| (distance(&shown.to_lowercase(), &known.to_lowercase()), known))
            .min()
            .filter(|(distance, known)| *distance <= known.len().div_ceil(3));
        problems.push(match near {
            Some((_, known)) => format!("{at}: unknown field; did you mean {known}?"),
            None => format!("{at}: unknown field"),
        });
    }
}

/// How many letters have to change to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The type that was expected, where the value has another.
fn mistyped(schema: &Value, value: &Value) -> Option<&'static str> {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return (!value.is_string() && !value.is_i64() && !value.is_u64()).then_some("a number or a text");
    }
    let (fits, name) = match schema.get("type").and_then(Value::as_str)? {
        "string" => (value.is_string(), "a text (in quotes if it looks like a number or a truth value)"),
        "integer" => (value.is_i64() || value.is_u64(), "a whole number"),
        "number" => (value.is_number(), "a number"),
        "boolean" => (value.is_boolean(), "true or false"),
        "array" => (value.is_array(), "a list"),
        "object" => (value.is_object(), "a map of fields"),
        _ => (true, ""),
    };
    (!fits).then_some(name)
}

const fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map of fields",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(kind: &str, spec: &Value) -> Vec<String> {
        let mut document = json!({
            "apiVersion": "spillway.dev/v1alpha1", "kind": kind, "metadata": {"name": "orders"},
            "spec": spec,
        });
        Schemas::new().check(kind, &mut document)
    }

    fn topic(more: &Value) -> Vec<String> {
        let mut spec = json!({"brokerRef": {"name": "kafka"}});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        problems("Topic", &spec)
    }

    #[test]
    fn a_good_topic_has_no_problem() {
        let all = json!({
            "name": "orders.v1", "partitions": 3, "config": {"retention.ms": "1"}, "deadLetter": {},
            "retry": {"delays": ["10s"]}, "adoption": null,
        });
        assert_eq!(topic(&all), Vec::<String>::new());
    }

    #[test]
    fn a_typo_is_told_with_what_may_be_meant() {
        assert_eq!(
            topic(&json!({"partitons": 3})),
            ["spec.partitons: unknown field; did you mean partitions?"]
        );
        assert_eq!(topic(&json!({"colour": 3})), ["spec.colour: unknown field"]);
        let nested = topic(&json!({"deadLetter": {"Name": "x"}}));
        assert_eq!(nested, ["spec.deadLetter.Name: unknown field; did you mean name?"]);
    }

    #[test]
    fn types_and_bounds_are_those_of_the_crd() {
        for (spec, problem) in [
            (json!({"partitions": "3"}), "spec.partitions: must be a whole number, is a text"),
            (json!({"partitions": 0}), "spec.partitions: must be at least 1"),
            (json!({"partitions": 1.5}), "spec.partitions: must be a whole number, is a number"),
            (json!({"adoption": "Yes"}), "spec.adoption: must be one of IfIdentical, Adopt, Never"),
            (json!({"retry": {"delays": []}}), "spec.retry.delays: must have at least 1 items"),
            (json!({"retry": {}}), "spec.retry.delays: is required"),
            (
                json!({"retry": {"delays": ["soon"]}}),
                "spec.retry.delays[0]: must match ^([0-9]{1,9}(ms|s|m|h))+$",
            ),
            (json!({"name": ""}), "spec.name: must not be empty"),
        ] {
            assert_eq!(topic(&spec), [problem], "{spec}");
        }
        let config = topic(&json!({"config": {"retention.ms": 1}}));
        assert!(config[0].starts_with("spec.config.retention.ms: must be a text"), "{config:?}");
    }

    #[test]
    fn the_validation_rules_of_the_crd_hold() {
        let name = topic(&json!({"name": "a b"}));
        assert!(name[0].starts_with("spec.name: name may hold letters"), "{name:?}");
        let both = problems(
            "Broker",
            &json!({"kafka": {"bootstrapServers": ["a:1"]}, "rabbitmq": {
            "managementUrl": "http://a:1", "connectionSecretRef": {"name": "a"}}}),
        );
        assert!(both[0].contains("set exactly one of kafka and rabbitmq"), "{both:?}");
        let queue = problems("Queue", &json!({"brokerRef": {"name": "r"}, "type": "stream", "maxLength": 1}));
        assert!(queue[0].contains("a stream takes"), "{queue:?}");
        let short = problems("Queue", &json!({"brokerRef": {"name": "r"}, "expires": "0s"}));
        assert!(short[0].contains("at least 1ms"), "{short:?}");
    }

    #[test]
    fn every_rule_of_every_kind_can_be_evaluated_here() {
        for (kind, (_, compiled)) in &Schemas::new().kinds {
            assert!(compiled.compilation_errors().is_empty(), "{kind}: {:?}", compiled.compilation_errors());
        }
    }

    #[test]
    fn no_value_is_repeated_in_a_message() {
        let broker = problems(
            "Broker",
            &json!({"rabbitmq": {
            "managementUrl": "http://user:hunter22@a:1", "connectionSecretRef": {"name": "a"}}}),
        );
        assert!(!broker.is_empty());
        assert!(!broker.concat().contains("hunter22"), "{broker:?}");
    }

    #[test]
    fn a_document_as_kubectl_prints_it_is_good() {
        let mut document = json!({
            "apiVersion": "spillway.dev/v1alpha1", "kind": "Topic",
            "metadata": {"name": "orders", "uid": "u", "resourceVersion": "1", "generation": 2, "managedFields": []},
            "spec": {"brokerRef": {"name": "kafka"}}, "status": {"anything": 1},
        });
        assert_eq!(Schemas::new().check("Topic", &mut document), Vec::<String>::new());
    }
}
