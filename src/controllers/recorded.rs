//! What older versions wrote (`tests/recorded`) is read and used by this one.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::claim::Claim;
use super::consumer::act::learned_before;
use super::reconciler::TopologyKind as _;
use super::{companions, queue, topic};
use crate::api::binding::AppliedBinding;
use crate::api::{self, Binding, Broker, Consumer, Exchange, FINALIZER, Queue, Topic, label};
use crate::scaling::Learned;

/// Fields of statuses that no recorded version had, `Kind.path`.
const LATER: [&str; 1] = ["Topic.status.pendingClusterId"];
/// Fields that nothing ever writes: a queue's own bindings lead to it.
const NEVER: [&str; 2] =
    ["Queue.status.appliedBindings[].exchange", "Queue.status.pending.recreate[].exchange"];

fn recorded() -> Vec<Value> {
    let files = [
        include_str!("../../tests/recorded/0.1.0/at-rest.json"),
        include_str!("../../tests/recorded/0.1.0/midway.json"),
    ];
    files.iter().flat_map(|text| serde_json::from_str::<Vec<Value>>(text).expect("JSON")).collect()
}

fn named<K: DeserializeOwned>(kind: &str, name: &str) -> K {
    let is = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let object = recorded().into_iter().find(is).unwrap_or_else(|| panic!("{kind} {name} is recorded"));
    serde_json::from_value(object).unwrap_or_else(|error| panic!("{kind} {name}: {error}"))
}

/// The object as this version would write it again.
fn rewritten(object: &Value) -> Value {
    fn through<K: Serialize + DeserializeOwned>(object: &Value) -> Value {
        let read: K =
            serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{object}: {error}"));
        json!(read)
    }
    match object["kind"].as_str().expect("a kind") {
        "Broker" => through::<Broker>(object),
        "Topic" => through::<Topic>(object),
        "Exchange" => through::<Exchange>(object),
        "Queue" => through::<Queue>(object),
        "Binding" => through::<Binding>(object),
        "Consumer" => through::<Consumer>(object),
        other => panic!("{other} is no kind"),
    }
}

/// Whether all of `part` is in `whole`: what is new has defaults.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| holds(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| holds(whole, part))
        }
        (whole, part) => whole == part,
    }
}

#[test]
fn what_an_older_version_wrote_reads_back_without_loss() {
    for object in recorded() {
        let again = rewritten(&object);
        assert_eq!(again["status"], object["status"], "{}", object["metadata"]["name"]);
        assert_eq!(again["metadata"], object["metadata"]);
        assert!(holds(&again["spec"], &object["spec"]), "{:#} is not {:#}", again["spec"], object["spec"]);
    }
}

/// The paths of all fields of a value, with `[]` for items, as far as the schema names fields.
fn named_fields(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    // Conditions are Kubernetes' own.
    if path.ends_with(".conditions") {
        return;
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        named_fields(&path, property, found);
        named_fields(&format!("{path}[]"), &property["items"], found);
        found.insert(path);
    }
}

/// Whether a value has something at a path.
fn has(value: &Value, path: &str) -> bool {
    let (name, rest) = path.split_once('.').unwrap_or((path, ""));
    let (name, items) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
    let Some(below) = value.get(name) else { return false };
    match (rest, items) {
        ("", _) => true,
        (rest, false) => has(below, rest),
        (rest, true) => below.as_array().is_some_and(|all| all.iter().any(|item| has(item, rest))),
    }
}

#[test]
fn every_field_of_a_status_is_recorded_and_none_that_was_is_gone_from_its_definition() {
    let objects = recorded();
    for crd in json!(api::crds()).as_array().expect("definitions") {
        let kind = crd["spec"]["names"]["kind"].as_str().expect("a kind");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        let mut fields = BTreeSet::new();
        named_fields("status", schema, &mut fields);
        assert!(fields.len() > 5, "{kind}: {fields:?}");
        let own: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
        let missing: Vec<_> = fields
            .iter()
            .filter(|path| !own.iter().any(|object| has(object, path)))
            .map(|path| format!("{kind}.{path}"))
            .filter(|path| !LATER.contains(&path.as_str()) && !NEVER.contains(&path.as_str()))
            .collect();
        assert!(missing.is_empty(), "{missing:#?}");
        for object in own {
            // What the definition does not name, the API server drops at the next write.
            let gone = unnamed("status", &object["status"], schema);
            assert!(gone.is_empty(), "{kind}: {gone:?}");
        }
    }
}

/// Fields of a value that its schema does not name.
fn unnamed(path: &str, value: &Value, schema: &Value) -> Vec<String> {
    match value {
        Value::Object(of) if schema["x-kubernetes-preserve-unknown-fields"] != true => {
            let below = |(name, value): (&String, &Value)| {
                let path = format!("{path}.{name}");
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (Value::Null, Value::Null) => vec![path],
                    (Value::Null, any) => unnamed(&path, value, any),
                    (property, _) => unnamed(&path, value, property),
                }
            };
            of.iter().flat_map(below).collect()
        }
        Value::Array(of) => of.iter().flat_map(|item| unnamed(path, item, &schema["items"])).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn what_was_owned_is_owned() {
    let topic: Topic = named("Topic", "tour-booking-events");
    let status = topic.status.expect("a status");
    assert_eq!(Topic::owned(&status).as_deref(), Some("u/4OESorTYOa6q1GpOM6QA"));
    assert_eq!(topic::remembered(&status, "").topic_id, status.topic_id);
    let queue: Queue = named("Queue", "payment-processing");
    let cluster = Some("rabbitmq-cluster-id-kV_TbsxdCE_AoJ0u-7PgFQ");
    assert_eq!(Queue::owned(&queue.status.expect("a status")).as_deref(), cluster);
    let exchange: Exchange = named("Exchange", "notifications");
    assert!(Exchange::owned_since(&mut exchange.status.expect("a status")).is_some());
    let binding: Binding = named("Binding", "events-audit");
    assert!(Binding::owned_since(&mut binding.status.expect("a status")).is_some());
    // Which of two Brokers of one cluster decides, and until when a topic that is not seen may only be new.
    let broker: Broker = named("Broker", "kafka");
    for time in [broker.status.and_then(|status| status.cluster_since), status.owned_since] {
        assert!(time.is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()));
    }
}

#[test]
fn finalizers_and_companions_are_known_as_what_they_are() {
    let held: Vec<_> = recorded()
        .iter()
        .filter_map(|object| object["metadata"]["finalizers"].as_array().cloned())
        .flatten()
        .collect();
    assert!(held.len() > 3 && held.iter().all(|finalizer| finalizer == FINALIZER), "{held:?}");
    let letters: Topic = named("Topic", "tour-booking-events.dlq");
    let delay: Queue = named("Queue", "payment-processing.retry.1s");
    assert!(companions::is_companion(&letters) && companions::is_companion(&delay));
    assert_eq!(
        (&*letters.labels()[label::COMPANION], &*delay.labels()[label::COMPANION]),
        ("dead-letter", "retry")
    );
    let parent: Topic = named("Topic", "tour-booking-events");
    assert_eq!(letters.owner_references()[0].uid, parent.uid().expect("a UID"));
}

#[test]
fn what_was_begun_is_resumed() {
    let topic: Topic = named("Topic", "creating");
    let memory = topic::remembered(&topic.status.expect("a status"), "");
    assert!(memory.creating && memory.topic_id.is_none(), "{memory:?}");
    assert_eq!(memory.applied_keys, BTreeSet::from(["retention.ms".to_owned()]));
    let queue: Queue = named("Queue", "rebuilt");
    let memory = queue::remembered(&queue.status.expect("a status"), true);
    let again = memory.pending.expect("it is being rebuilt");
    let again: Vec<_> = again.iter().map(AppliedBinding::from).collect();
    assert_eq!((again.len(), &*again[0].routing_key), (2, "payment.initiated"));
    assert_eq!(json!(again[1].arguments), json!({"x-match": "all", "region": "eu"}));
    let swapped: Binding = named("Binding", "swapped");
    let stale = swapped.status.expect("a status").stale;
    assert_eq!((&*stale[0].routing_key, stale[1].exchange.as_deref()), ("old.#", Some("archive")));
    let begun: Binding = named("Binding", "begun");
    let mut status = begun.status.clone().unwrap_or_default();
    Claim::recall(&begun, &mut status);
    assert_eq!(status.applied.map(|binding| binding.routing_key).as_deref(), Some("new.#"));
    assert!(status.owned_since.is_some() && status.cluster_id.is_some());
}

#[test]
fn what_was_learned_of_a_consumer_is_where_scaling_goes_on() {
    let order: Consumer = named("Consumer", "at-zero");
    let expected = Learned {
        rate_per_replica: Some(9.2),
        cold_start: Some(3.0),
        rebalance: Some(1.0),
        commit_gap: Some(8.7),
        consumers_per_replica: Some(1),
        phantom_lag: Some(3),
    };
    assert_eq!(learned_before(&order), Some(expected));
    let since = order.status.and_then(|status| status.zero_since);
    assert!(since.is_some_and(|since| since.parse::<jiff::Timestamp>().is_ok()));
    let tasks: Consumer = named("Consumer", "tasks");
    assert_eq!(learned_before(&tasks), Some(Learned { cold_start: Some(0.0), ..Learned::default() }));
}
