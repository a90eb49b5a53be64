//! From what a broker has to manifests: names that Kubernetes takes, explicit types. Pure.
//!
//! * here: topics, and what all kinds share; [`rabbitmq`]: exchanges, queues, bindings

pub mod rabbitmq;

use std::collections::BTreeSet;

use serde::Serialize;

use super::plain;
use crate::api::policy::ManagementPolicy;
use crate::api::{BrokerRef, Topic, TopicSpec};
use crate::digest;
use crate::topology::kafka::ObservedTopic;
use crate::topology::kafka::companions::metadata_name;

/// What all manifests of one import share.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// The namespace of the objects.
    pub namespace: String,
    /// The Broker, as they name it.
    pub broker: BrokerRef,
    /// Who writes.
    pub management: ManagementPolicy,
    taken: BTreeSet<(&'static str, String)>,
}

impl Exporter {
    /// Objects in `namespace` that name the Broker `name` in `home`.
    #[must_use]
    pub fn new(namespace: &str, home: &str, name: &str, management: ManagementPolicy) -> Self {
        let broker =
            BrokerRef { name: name.to_owned(), namespace: (home != namespace).then(|| home.to_owned()) };
        Self { namespace: namespace.to_owned(), broker, management, taken: BTreeSet::new() }
    }

    /// A topic as a Topic.
    pub fn topic(&mut self, name: &str, seen: &ObservedTopic) -> Topic {
        let spec = TopicSpec {
            broker_ref: self.broker.clone(),
            name: Some(name.to_owned()),
            partitions: Some(seen.partitions),
            // A topic whose partitions are just being moved says 0 nowhere, but unknown may.
            replication_factor: (seen.replication_factor > 0).then_some(seen.replication_factor),
            config: seen.config.clone(),
            dead_letter: None,
            retry: None,
            management_policy: Some(self.management),
            adoption: None,
            deletion_policy: None,
        };
        let mut topic = Topic::new(&self.name("Topic", &metadata_name(name), &[name]), spec);
        topic.metadata.namespace = Some(self.namespace.clone());
        topic
    }

    /// A name that no other object of this kind has: `readable`, or with a hash of `parts`, which tell
    /// the object from every other of its kind.
    pub fn name(&mut self, kind: &'static str, readable: &str, parts: &[&str]) -> String {
        if self.taken.insert((kind, readable.to_owned())) {
            return readable.to_owned();
        }
        let short: String = readable.chars().take(200).collect();
        let hash = digest::short(parts.iter().copied(), 4);
        let name = format!("{}-{hash}", short.trim_end_matches(['-', '.']));
        self.taken.insert((kind, name.clone()));
        name
    }
}

/// A manifest as YAML that `kubectl` reads as it is meant.
pub fn yaml<K: Serialize>(object: &K) -> Result<String, String> {
    plain::write(serde_yaml::to_value(object).map_err(|error| error.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::super::input::{self, Input};
    use super::super::objects::Objects;
    use super::*;
    use proptest::prelude::*;

    fn exporter() -> Exporter {
        Exporter::new("team-a", "kafka", "k", ManagementPolicy::Observe)
    }

    #[test]
    fn a_name_that_is_taken_gets_a_hash() {
        let mut exporter = exporter();
        assert_eq!(exporter.name("Queue", "orders", &["/", "orders"]), "orders");
        let other = exporter.name("Queue", "orders", &["staging", "orders"]);
        assert!(other.starts_with("orders-") && other.len() == 15, "{other}");
        assert_eq!(exporter.name("Exchange", "orders", &["/", "orders"]), "orders");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_written_reads_back_the_same(
            name in "[a-zA-Z0-9._-]{1,60}",
            partitions in 1i32..5000,
            config in prop::collection::btree_map("[a-z.]{1,20}", "[ -~]{0,20}", 0..4),
        ) {
            prop_assume!(name != "." && name != "..");
            let seen = ObservedTopic { id: "x".into(), partitions, replication_factor: 3, config };
            let topic = exporter().topic(&name, &seen);
            let mut input = Input::default();
            input::parse("a.yaml", &yaml(&topic).unwrap(), &mut input);
            let objects = Objects::of(input, "default", None);
            prop_assert_eq!(&objects.wrong, &[]);
            prop_assert_eq!(&objects.topics[0].object, &topic);
            prop_assert_eq!(objects.topics[0].object.topic_name(), name);
        }
    }
}
