//! From declared objects to what is wanted at brokers: companions are expanded, references
//! resolved, specs validated once. Pure.
//!
//! * [`kinds`]: what each kind wants, and which companions it implies

mod kinds;

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;

use self::kinds::Kind;
pub use self::kinds::identity;
use super::input::Origin;
use super::links::paused;
use super::objects::{Declared, Objects, key};
use super::references::Referents;
use crate::api::BrokerRef;
use crate::api::conditions::Reason;
use crate::api::policy::PolicyDefaults;
use crate::topology::Rejection;
use crate::topology::access::Deletes;
use crate::topology::kafka::DesiredTopic;
use crate::topology::kafka::companions::beside;
use crate::topology::ownership::Claim;
use crate::topology::rabbitmq::companions::goes_first;
use crate::topology::rabbitmq::{DesiredBinding, DesiredExchange, DesiredQueue};

/// What is wanted at a broker, by kind.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A Kafka topic.
    Topic(DesiredTopic),
    /// A RabbitMQ exchange.
    Exchange(DesiredExchange),
    /// A RabbitMQ queue.
    Queue(DesiredQueue),
    /// A RabbitMQ binding.
    Binding(DesiredBinding),
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
    /// The name at the broker; of a binding, which has none, its ends and key.
    pub name: String,
    /// What tells it from every other object of its cluster.
    pub identity: String,
    /// What else it keeps: the inline bindings of a queue.
    pub keeps: Vec<String>,
    /// The broker objects that it refers to.
    pub refers_to: Vec<String>,
    /// The settings by which it goes at the broker.
    pub deletes: Vec<Deletes>,
    /// What has to be at the broker before: the identity of the queue that takes its dead letters.
    pub needs: Option<String>,
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
        match self.kind {
            "Binding" => 2,
            "Exchange" => 0,
            _ => u8::from(self.parents.is_empty()),
        }
    }
}

/// Companions are younger than all that a person declared.
const COMPANION_PLACE: usize = 50_000_000;

/// Everything that the objects want, in their order kind by kind; a companion stands before its
/// first parent.
#[must_use]
pub fn of(objects: &Objects) -> Vec<Candidate> {
    let referents = Referents::of(objects);
    let mut candidates = Vec::new();
    expand(&objects.topics, &referents, &mut candidates);
    expand(&objects.exchanges, &referents, &mut candidates);
    expand(&objects.queues, &referents, &mut candidates);
    expand(&objects.bindings, &referents, &mut candidates);
    open_circles(&mut candidates);
    candidates
}

/// Of queues that are each other's dead-letter queue, one waits for none.
fn open_circles(candidates: &mut [Candidate]) {
    let key = |candidate: &Candidate, identity: &str| {
        (candidate.namespace.clone(), candidate.broker.clone(), identity.to_owned())
    };
    let needs: BTreeMap<_, _> = candidates
        .iter()
        .filter_map(|candidate| Some((key(candidate, &candidate.identity), candidate.needs.clone()?)))
        .collect();
    for candidate in candidates.iter_mut().filter(|candidate| candidate.needs.is_some()) {
        if goes_first(&candidate.identity, |identity| needs.get(&key(candidate, identity)).cloned()) {
            candidate.needs = None;
        }
    }
}

/// `namespace/name` of the Broker that a reference names.
#[must_use]
pub fn broker_key(reference: &BrokerRef, namespace: &str) -> String {
    key(reference.namespace.as_deref().unwrap_or(namespace), &reference.name)
}

/// One object as a candidate, without what only its companions know.
fn candidate<K: Kind>(declared: &Declared<K>, referents: &Referents) -> Candidate {
    let object = &declared.object;
    let namespace = object.namespace().unwrap_or_default();
    let broker = broker_key(object.broker_ref(), &namespace);
    let wish = object.wish(&broker, referents);
    Candidate {
        kind: K::KIND,
        namespace,
        metadata_name: object.name_any(),
        origin: declared.origin.clone(),
        parents: Vec::new(),
        companion_of: Vec::new(),
        broker,
        vhost: object.vhost().map(str::to_owned),
        name: wish.name,
        identity: wish.identity,
        keeps: wish.keeps,
        refers_to: wish.refers_to,
        deletes: object.deletes(),
        needs: wish.needs,
        policies: object.policies(),
        claim: declared.claim(K::KIND),
        paused: paused(object),
        wanted: wish.wanted,
    }
}

fn expand<K: Kind>(all: &[Declared<K>], referents: &Referents, candidates: &mut Vec<Candidate>) {
    // What a person declared is referenced and not made a companion.
    let mut declared_here = BTreeSet::new();
    let mut by_name = BTreeMap::new();
    for declared in all {
        let object = &declared.object;
        let namespace = object.namespace().unwrap_or_default();
        let broker = broker_key(object.broker_ref(), &namespace);
        declared_here.insert((namespace.clone(), broker.clone(), object.identity()));
        by_name.insert((namespace, object.name_any()), (object.broker_name(), broker));
    }
    let mut shared: BTreeMap<(String, String), usize> = BTreeMap::new();
    // One queue that one parent names and another one implies may be called otherwise by each.
    let mut made: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for declared in all {
        let mut parent = candidate(declared, referents);
        let mut own = Vec::new();
        match declared.object.companions() {
            Err(rejection) => parent.wanted = Err(rejection),
            Ok(companions) => {
                for (role, mut companion) in companions {
                    companion.meta_mut().namespace = Some(parent.namespace.clone());
                    // One name on two Brokers is two companions.
                    let id = (parent.namespace.clone(), companion.name_any());
                    let declared_there = by_name.get(&id).map(|(_, broker)| broker);
                    let made_there = shared.get(&id).map(|place: &usize| &candidates[*place].broker);
                    if declared_there.or(made_there).is_some_and(|broker| *broker != parent.broker) {
                        companion.meta_mut().name = Some(beside(&id.1, &parent.broker));
                    }
                    let (kind, name) = (K::KIND, companion.name_any());
                    let home = (parent.namespace.clone(), parent.broker.clone(), companion.identity());
                    let clash = by_name.get(&(parent.namespace.clone(), name.clone()));
                    if companion.identity() == declared.object.identity() {
                        let noun = kind.to_lowercase();
                        let message =
                            format!("{noun} {:?} cannot be its own {role}", companion.broker_name());
                        parent.wanted = Err(Rejection::new(Reason::InvalidSpec, message));
                    } else if let (false, Some(existing)) =
                        (declared_here.contains(&home), clash.map(|(existing, _)| existing))
                    {
                        let message = format!(
                            "{kind} {name} is needed for the {role} {} {:?}, but declares {existing:?}: rename it",
                            kind.to_lowercase(),
                            companion.broker_name(),
                        );
                        parent.wanted = Err(Rejection::new(Reason::Conflict, message));
                    } else if !declared_here.contains(&home) {
                        own.push(companion);
                    }
                }
            }
        }
        let mut places = Vec::new();
        for object in own {
            let home = (parent.namespace.clone(), parent.broker.clone(), object.identity());
            if let Some(place) = made.get(&home) {
                places.push(*place);
                continue;
            }
            let id = (parent.namespace.clone(), object.name_any());
            if let Some(place) = shared.get(&id) {
                let first = &candidates[*place];
                let message = format!(
                    "two companions would be called {}: {:?} on Broker {} and {:?} on Broker {}: declare one of them yourself",
                    id.1,
                    first.name,
                    first.broker,
                    object.broker_name(),
                    parent.broker
                );
                parent.wanted = Err(Rejection::new(Reason::Conflict, message));
                continue;
            }
            let place = COMPANION_PLACE + declared.place;
            let companion = Declared { object, origin: declared.origin.clone(), place };
            shared.insert(id, candidates.len());
            made.insert(home, candidates.len());
            places.push(candidates.len());
            candidates.push(candidate(&companion, referents));
        }
        for place in places {
            let parent = candidates.len();
            candidates[place].parents.push(parent);
            candidates[place].companion_of.push(declared.key());
        }
        candidates.push(parent);
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
    fn a_queue_that_one_parent_implies_and_another_names_is_one_companion_in_any_virtual_host() {
        let mut input = Input::default();
        for (name, spec) in [("tasks", "deadLetter: {}"), ("urgent", "deadLetter: {queue: tasks.dlq}")] {
            let text = format!(
                "{{apiVersion: spillway.dev/v1alpha1, kind: Queue, metadata: {{name: {name}}}, spec: {{brokerRef: {{name: rabbitmq}}, vhost: shop, {spec}}}}}"
            );
            input::parse("a.yaml", &text, &mut input);
        }
        let all = of(&Objects::of(input, "default", None));
        let names: Vec<_> = all.iter().map(|candidate| candidate.name.as_str()).collect();
        assert_eq!(names, ["tasks.dlq", "tasks", "urgent"]);
        assert_eq!(all[0].parents, [1, 2]);
    }

    #[test]
    fn one_name_for_companions_on_two_brokers_is_two_companions() {
        let other = "deadLetter: {name: dlq}, brokerRef: {name: other}";
        let mut input = Input::default();
        for (name, spec) in [("a", "deadLetter: {name: dlq}, brokerRef: {name: kafka}"), ("b", other)] {
            let text = format!(
                "{{apiVersion: spillway.dev/v1alpha1, kind: Topic, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
            );
            input::parse("a.yaml", &text, &mut input);
        }
        let all = of(&Objects::of(input, "default", None));
        let broker = |place: usize| (all[place].name.as_str(), all[place].broker.as_str());
        assert_eq!(all.len(), 4);
        assert_eq!((broker(0), broker(2)), (("dlq", "default/kafka"), ("dlq", "default/other")));
        assert_ne!(all[0].metadata_name, all[2].metadata_name);
        assert_eq!((all[0].parents.clone(), all[2].parents.clone()), (vec![1], vec![3]));
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
