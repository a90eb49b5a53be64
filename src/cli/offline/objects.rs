//! Documents in, objects out: each is checked against its CRD, or left alone, or wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::input::{Document, Input, Origin, Wrong};
use super::schema::Schemas;
use super::secrets::Secrets;
use crate::api::{Binding, Broker, Exchange, GROUP, Queue, Topic};
use crate::topology::ownership::{Claim, Holding};

/// The version of the API that is read.
const VERSION: &str = "v1alpha1";

/// An object and where it stands.
#[derive(Clone, Debug)]
pub struct Declared<K> {
    /// The object; it has a name and a namespace.
    pub object: K,
    /// Where it stands.
    pub origin: Origin,
    /// Its place in the input: what stands first is the oldest, where creation times do not say.
    pub place: usize,
}

impl<K: Resource<DynamicType = ()>> Declared<K> {
    /// What it claims.
    #[must_use]
    pub fn claim(&self, kind: &'static str) -> Claim {
        let meta = self.object.meta();
        Claim {
            companion: false,
            kind,
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            uid: format!("{:08}", self.place),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            holding: Holding::Nothing,
        }
    }

    /// `namespace/name`.
    #[must_use]
    pub fn key(&self) -> String {
        key(&self.object.namespace().unwrap_or_default(), &self.object.name_any())
    }
}

/// `namespace/name`.
#[must_use]
pub fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// All objects of the input.
#[derive(Default)]
pub struct Objects {
    /// Brokers.
    pub brokers: Vec<Declared<Broker>>,
    /// Topics.
    pub topics: Vec<Declared<Topic>>,
    /// Exchanges.
    pub exchanges: Vec<Declared<Exchange>>,
    /// Queues.
    pub queues: Vec<Declared<Queue>>,
    /// Bindings.
    pub bindings: Vec<Declared<Binding>>,
    /// Labels of the namespaces that the input declares.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Credentials.
    pub secrets: Secrets,
    /// How many documents of which other kinds there were.
    pub left_alone: BTreeMap<String, usize>,
    /// Where there was JSON in a folder that is no manifest.
    pub no_manifests: Vec<Origin>,
    /// Documents that cannot be used.
    pub wrong: Vec<Wrong>,
}

impl Objects {
    /// Sorts documents into objects. One without a namespace is in `namespace`; Secrets that are not
    /// in the input are looked for in `secrets`.
    #[must_use]
    pub fn of(input: Input, namespace: &str, secrets: Option<PathBuf>) -> Self {
        let schemas = Schemas::new();
        let mut objects = Self {
            wrong: input.wrong,
            no_manifests: input.no_manifests,
            secrets: Secrets::new(secrets),
            ..Self::default()
        };
        let mut seen = BTreeMap::new();
        for (place, document) in input.documents.into_iter().enumerate() {
            let origin = document.origin.clone();
            let object = label(&document.value);
            if let Err(what) = objects.take(&schemas, document, place, namespace, &mut seen) {
                objects.wrong.push(Wrong { origin, object, what });
            }
        }
        objects
    }

    fn take(
        &mut self,
        schemas: &Schemas,
        document: Document,
        place: usize,
        namespace: &str,
        seen: &mut BTreeMap<(String, String, String), Origin>,
    ) -> Result<(), String> {
        let Document { origin, mut value, ambiguous } = document;
        let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let kind = text(&value, "/kind").filter(|kind| !kind.is_empty()).ok_or("kind: is required")?;
        let version = text(&value, "/apiVersion").ok_or("apiVersion: is required")?;
        let ours = match version.split_once('/') {
            Some((GROUP, VERSION)) => true,
            Some((GROUP, other)) => {
                return Err(format!("apiVersion: {GROUP}/{other} is not known; write {GROUP}/{VERSION}"));
            }
            _ => false,
        };
        if ours && !schemas.knows(&kind) {
            return Err(format!("kind: {GROUP} has no kind {kind}"));
        }
        let core = version == "v1" && matches!(kind.as_str(), "Secret" | "Namespace");
        if !core && (!ours || kind == "Consumer") {
            *self.left_alone.entry(kind).or_default() += 1;
            return Ok(());
        }
        let name = text(&value, "/metadata/name")
            .filter(|name| !name.is_empty())
            .ok_or("metadata.name: is required")?;
        if core && kind == "Namespace" {
            let labels = value.pointer("/metadata/labels").and_then(Value::as_object);
            let labels = labels.into_iter().flatten();
            let labels = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
            self.namespaces.insert(name, labels.collect());
            return Ok(());
        }
        let namespace = text(&value, "/metadata/namespace").unwrap_or_else(|| namespace.to_owned());
        if !plain_name(&namespace, 63, false) {
            return Err("metadata.namespace: lower-case letters, digits and '-' only, at most 63".into());
        }
        if let Some(first) = seen.insert((kind.clone(), namespace.clone(), name.clone()), origin.clone()) {
            return Err(format!("{kind} {namespace}/{name} is declared twice: first in {first}"));
        }
        if core {
            return self.secrets.add(&namespace, &name, &value);
        }
        let mut problems = Vec::new();
        if !plain_name(&name, 253, true) {
            problems.push("metadata.name: lower-case letters, digits, '-' and '.' only, at most 253; spec.name may be any that the broker takes".to_owned());
        }
        problems.extend(schemas.check(&kind, &mut value));
        problems.extend(ambiguous);
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        value["metadata"]["namespace"] = Value::String(namespace);
        match kind.as_str() {
            "Broker" => self.brokers.push(declared(value, origin, place)?),
            "Topic" => self.topics.push(declared(value, origin, place)?),
            "Exchange" => self.exchanges.push(declared(value, origin, place)?),
            "Queue" => self.queues.push(declared(value, origin, place)?),
            "Binding" => self.bindings.push(declared(value, origin, place)?),
            _ => return Err(format!("kind: {kind} is not read here")),
        }
        Ok(())
    }

    /// What was left alone, in one line; none: nothing was.
    #[must_use]
    pub fn left_alone_words(&self) -> Option<String> {
        let mut kinds: Vec<_> = self
            .left_alone
            .iter()
            .map(|(kind, count)| format!("{count} {kind}{}", if *count == 1 { "" } else { "s" }))
            .collect();
        if !self.no_manifests.is_empty() {
            kinds.push(format!("{} JSON without apiVersion and kind", self.no_manifests.len()));
        }
        (!kinds.is_empty()).then(|| format!("Left alone: {}.", kinds.join(", ")))
    }
}

fn declared<K: DeserializeOwned>(value: Value, origin: Origin, place: usize) -> Result<Declared<K>, String> {
    let object = serde_json::from_value(value).map_err(|error| error.to_string())?;
    Ok(Declared { object, origin, place })
}

/// Kind and name as far as the document has them.
fn label(value: &Value) -> Option<String> {
    let kind = value.get("kind").and_then(Value::as_str)?;
    let name = value.pointer("/metadata/name").and_then(Value::as_str);
    Some(name.map_or_else(|| kind.to_owned(), |name| format!("{kind} {name}")))
}

/// Kubernetes' rule for names.
fn plain_name(name: &str, most: usize, dots: bool) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &str| {
        part.bytes().all(|b| letter(b) || b == b'-')
            && part.bytes().next().is_some_and(letter)
            && part.bytes().last().is_some_and(letter)
    };
    name.len() <= most && if dots { name.split('.').all(part) } else { part(name) }
}

#[cfg(test)]
mod tests {
    use super::super::input;
    use super::*;

    fn objects(text: &str) -> Objects {
        let mut input = Input::default();
        input::parse("a.yaml", text, &mut input);
        Objects::of(input, "team-a", None)
    }

    fn wrong(text: &str) -> Vec<String> {
        objects(text).wrong.iter().map(ToString::to_string).collect()
    }

    const TOPIC: &str = "{apiVersion: spillway.dev/v1alpha1, kind: Topic, metadata: {name: orders}, spec: {brokerRef: {name: kafka}}}";

    #[test]
    fn an_object_without_a_namespace_is_in_the_one_that_was_chosen() {
        assert_eq!(objects(TOPIC).topics[0].key(), "team-a/orders");
    }

    #[test]
    fn others_are_counted_and_left_alone() {
        let text = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}\n---\n{apiVersion: spillway.dev/v1alpha1, kind: Consumer}\n---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: b}}";
        let objects = objects(text);
        assert_eq!(objects.left_alone_words().unwrap(), "Left alone: 1 Consumer, 2 Deployments.");
        assert!(objects.wrong.is_empty());
    }

    #[test]
    fn a_wrong_document_is_told_in_one_line_with_its_place_and_name() {
        assert_eq!(
            wrong(&format!(
                "{TOPIC}\n---\n{}",
                TOPIC.replace("orders", "mails").replace("brokerRef", "broker")
            )),
            [
                "a.yaml: document 2: Topic mails: spec.brokerRef: is required; spec.broker: unknown field; did you mean brokerRef?"
            ]
        );
        assert_eq!(
            wrong(&TOPIC.replace("Topic", "Topics")),
            ["a.yaml: document 1: Topics orders: kind: spillway.dev has no kind Topics"]
        );
        assert_eq!(
            wrong(&TOPIC.replace("v1alpha1", "v2")),
            [
                "a.yaml: document 1: Topic orders: apiVersion: spillway.dev/v2 is not known; write spillway.dev/v1alpha1"
            ]
        );
        assert_eq!(wrong("just: text"), ["a.yaml: document 1: kind: is required"]);
        assert!(wrong(&TOPIC.replace("orders", "Orders"))[0].contains("metadata.name: lower-case"));
    }

    #[test]
    fn one_object_that_is_declared_twice_is_wrong() {
        assert_eq!(
            wrong(&format!("{TOPIC}\n---\n{TOPIC}")),
            [
                "a.yaml: document 2: Topic orders: Topic team-a/orders is declared twice: first in a.yaml: document 1"
            ]
        );
    }

    #[test]
    fn what_stands_first_is_the_oldest_unless_times_say_otherwise() {
        let later = TOPIC.replace("name: orders", "name: b, creationTimestamp: 2024-01-01T00:00:00Z");
        let objects = objects(&format!("{TOPIC}\n---\n{later}\n---\n{}", TOPIC.replace("orders", "c")));
        let claims: Vec<_> = objects.topics.iter().map(|topic| topic.claim("Topic")).collect();
        assert_eq!(crate::topology::ownership::owner(&claims).unwrap().name, "b");
        assert_eq!(
            crate::topology::ownership::owner(&[claims[2].clone(), claims[0].clone()]).unwrap().name,
            "orders"
        );
    }
}
