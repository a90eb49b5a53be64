//! From declared objects to what is wanted at brokers: companions are expanded, specs validated
//! once. Pure.

use std::collections::BTreeMap;

use kube::{Resource, ResourceExt as _};

use super::input::Origin;
use super::links::paused;
use super::objects::{Declared, Objects, key};
use crate::api::conditions::Reason;
use crate::api::policy::PolicyDefaults;
use crate::api::{BrokerRef, Topic};
use crate::topology::Rejection;
use crate::topology::kafka::{DesiredTopic, companions};
use crate::topology::ownership::Claim;

/// What is wanted at a broker, by kind.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A Kafka topic.
    Topic(DesiredTopic),
}

/// One broker object that is wanted.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The kind of the object that wants it.
    pub kind: &'static str,
    /// That object's namespace.
    pub namespace: String,
    /// That object's name.
    pub metadata_name: String,
    /// Where it stands; a companion where its first parent stands.
    pub origin: Origin,
    /// The parents of a companion, as places in the list of candidates; none: a person declared it.
    pub parents: Vec<usize>,
    /// The same parents: `namespace/name`.
    pub companion_of: Vec<String>,
    /// The Broker: `namespace/name`.
    pub broker: String,
    /// The virtual host, at RabbitMQ.
    pub vhost: Option<String>,
    /// The name at the broker.
    pub name: String,
    /// The three choices as the object gives them.
    pub policies: PolicyDefaults,
    /// How old it is.
    pub claim: Claim,
    /// Frozen by an annotation.
    pub paused: bool,
    /// What is wanted, or why that cannot be.
    pub wanted: Result<Wanted, Rejection>,
}

impl Candidate {
    /// When it is its turn: what others need comes first.
    #[must_use]
    pub fn phase(&self) -> u8 {
        u8::from(self.parents.is_empty())
    }
}

/// Companions are younger than all that a person declared.
const COMPANION_PLACE: usize = 50_000_000;

/// Everything that the objects want, in their order; a companion stands before its first parent.
#[must_use]
pub fn of(objects: &Objects) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    topics(&objects.topics, &mut candidates);
    candidates
}

/// `namespace/name` of the Broker that a reference names.
fn broker_key(reference: &BrokerRef, namespace: &str) -> String {
    key(reference.namespace.as_deref().unwrap_or(namespace), &reference.name)
}

fn candidate<K: Resource<DynamicType = ()>>(
    declared: &Declared<K>,
    kind: &'static str,
    broker: &BrokerRef,
    name: &str,
    policies: PolicyDefaults,
    wanted: Result<Wanted, Rejection>,
) -> Candidate {
    let namespace = declared.object.namespace().unwrap_or_default();
    Candidate {
        kind,
        broker: broker_key(broker, &namespace),
        namespace,
        metadata_name: declared.object.name_any(),
        origin: declared.origin.clone(),
        parents: Vec::new(),
        companion_of: Vec::new(),
        vhost: None,
        name: name.to_owned(),
        policies,
        claim: declared.claim(),
        paused: paused(&declared.object),
        wanted,
    }
}

fn topics(topics: &[Declared<Topic>], candidates: &mut Vec<Candidate>) {
    let home = |topic: &Declared<Topic>| {
        let namespace = topic.object.namespace().unwrap_or_default();
        (broker_key(&topic.object.spec.broker_ref, &namespace), namespace)
    };
    // What a person declared is referenced and not made a companion.
    let mut by_topic = BTreeMap::new();
    let mut by_name = BTreeMap::new();
    for topic in topics {
        let (broker, namespace) = home(topic);
        by_topic.insert((namespace.clone(), broker, topic.object.topic_name().to_owned()), ());
        by_name.insert((namespace, topic.object.name_any()), topic.object.topic_name().to_owned());
    }
    let mut shared: BTreeMap<(String, String), usize> = BTreeMap::new();
    for topic in topics {
        let (broker, namespace) = home(topic);
        let name = topic.object.topic_name();
        let mut wanted = DesiredTopic::of(&topic.object).map(Wanted::Topic);
        let mut own = Vec::new();
        match companions::of(&topic.object) {
            Err(rejection) => wanted = Err(rejection),
            Ok(all) => {
                for companion in all.all {
                    let clash = by_name.get(&(namespace.clone(), companion.metadata_name.clone()));
                    if companion.topic() == name {
                        let role = companion.role.label();
                        let message = format!("topic {name:?} cannot be its own {role}");
                        wanted = Err(Rejection::new(Reason::InvalidSpec, message));
                    } else if by_topic.contains_key(&(
                        namespace.clone(),
                        broker.clone(),
                        companion.topic().to_owned(),
                    )) {
                        // Declared: referenced.
                    } else if let Some(existing) = clash {
                        let message = format!(
                            "Topic {} is needed for the {} topic {:?}, but declares {existing:?}: rename it",
                            companion.metadata_name,
                            companion.role.label(),
                            companion.topic(),
                        );
                        wanted = Err(Rejection::new(Reason::Conflict, message));
                    } else {
                        own.push(companion);
                    }
                }
            }
        }
        let mut fresh = Vec::new();
        for companion in own {
            let id = (namespace.clone(), companion.metadata_name.clone());
            if let Some(place) = shared.get(&id) {
                fresh.push(*place);
                continue;
            }
            let mut object = Topic::new(&companion.metadata_name, companion.spec.clone());
            object.metadata.namespace = Some(namespace.clone());
            let declared =
                Declared { object, origin: topic.origin.clone(), place: COMPANION_PLACE + topic.place };
            let wanted = DesiredTopic::of(&declared.object).map(Wanted::Topic);
            let spec = &declared.object.spec;
            let made =
                candidate(&declared, "Topic", &spec.broker_ref, companion.topic(), spec.policies(), wanted);
            shared.insert(id, candidates.len());
            fresh.push(candidates.len());
            candidates.push(made);
        }
        let spec = &topic.object.spec;
        let parent = candidates.len();
        candidates.push(candidate(topic, "Topic", &spec.broker_ref, name, spec.policies(), wanted));
        for place in fresh {
            candidates[place].parents.push(parent);
            candidates[place].companion_of.push(topic.key());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::{self, Input};
    use super::*;

    fn candidates(specs: &[(&str, &str)]) -> Vec<Candidate> {
        let mut input = Input::default();
        for (name, spec) in specs {
            let text = format!(
                "{{apiVersion: spillway.dev/v1alpha1, kind: Topic, metadata: {{name: {name}}}, spec: {{brokerRef: {{name: kafka}}, {spec}}}}}"
            );
            input::parse("a.yaml", &text, &mut input);
        }
        let objects = Objects::of(input, "default", None);
        assert_eq!(objects.wrong, []);
        of(&objects)
    }

    #[test]
    fn a_companion_comes_before_its_parent_and_a_shared_one_comes_once() {
        let all = candidates(&[
            ("payment", "deadLetter: {name: dlq}, retry: {delays: [10s]}"),
            ("order", "deadLetter: {name: dlq}"),
        ]);
        let names: Vec<_> = all.iter().map(|candidate| candidate.name.as_str()).collect();
        assert_eq!(names, ["dlq", "payment.retry.10s", "payment", "order"]);
        assert_eq!(all[0].parents, [2, 3]);
        assert!(all[2].parents.is_empty());
    }

    #[test]
    fn a_companion_that_a_person_declared_is_referenced() {
        let all = candidates(&[("orders", "deadLetter: {name: dead}"), ("mine", "name: dead")]);
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|candidate| candidate.wanted.is_ok()));
    }

    #[test]
    fn an_object_in_the_way_of_a_companion_is_a_conflict() {
        let all = candidates(&[("orders", "deadLetter: {}"), ("orders.dlq", "name: other")]);
        let rejection = all[0].wanted.as_ref().unwrap_err();
        assert_eq!(rejection.reason, Reason::Conflict);
        assert!(rejection.message.contains("declares \"other\""), "{rejection}");
    }

    #[test]
    fn a_topic_is_not_its_own_dead_letter_topic() {
        let all = candidates(&[("orders", "deadLetter: {name: orders}")]);
        assert_eq!(all[0].wanted.as_ref().unwrap_err().reason, Reason::InvalidSpec);
    }
}
