//! The dead-letter and retry topics that a Topic implies.
//!
//! A companion is a Topic of its own, so that `kubectl get` shows it, owned by its parent. It
//! always retains its messages at the broker: what went wrong must outlive what it came from.
//! A Topic with the label [`label::COMPANION`] has no companions itself.

use std::collections::BTreeMap;

use super::collision;
use super::desired::check_own_name;
use crate::api::label;
use crate::api::policy::DeletionPolicy;
use crate::api::topic::{RetryStatus, Topic, TopicSpec};
use crate::digest;
use crate::topology::Rejection;

/// Longest name of a Kubernetes object.
const MAX_METADATA_NAME: usize = 253;

/// What a companion is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Holds what could not be processed.
    DeadLetter,
    /// Holds what shall be tried again later.
    Retry,
}

impl Role {
    /// The value of [`label::COMPANION`].
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead-letter",
            Self::Retry => "retry",
        }
    }
}

/// One companion as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Companion {
    /// What it is for.
    pub role: Role,
    /// The CR's name.
    pub metadata_name: String,
    /// The CR's spec.
    pub spec: TopicSpec,
}

impl Companion {
    /// The topic's name at the broker.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.spec.name.as_deref().unwrap_or(&self.metadata_name)
    }
}

/// A Topic's companions, and how its status names them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Companions {
    /// All of them.
    pub all: Vec<Companion>,
    /// The dead-letter topic's name at the broker.
    pub dead_letter: Option<String>,
    /// The retry topics.
    pub retries: Vec<RetryStatus>,
}

/// The companions that `parent` implies.
pub fn of(parent: &Topic) -> Result<Companions, Rejection> {
    let mut companions = Companions::default();
    if parent.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(label::COMPANION)) {
        return Ok(companions);
    }
    let topic = parent.topic_name();
    let cr = parent.metadata.name.as_deref().unwrap_or_default();
    if let Some(wish) = &parent.spec.dead_letter {
        let (name, metadata_name) = match &wish.name {
            // A name that was chosen may be shared: every parent must come to the same CR.
            Some(name) => (name.clone(), metadata_name(name)),
            None => (format!("{topic}.dlq"), metadata_name(&format!("{cr}.dlq"))),
        };
        check_own_name(&name)?;
        companions.dead_letter = Some(name.clone());
        companions.all.push(Companion {
            role: Role::DeadLetter,
            metadata_name,
            spec: spec(parent, name, Some(wish.partitions.unwrap_or(1)), wish.config.clone()),
        });
    }
    for delay in parent.spec.retry.iter().flat_map(|retry| &retry.delays) {
        let name = format!("{topic}.retry.{delay}");
        check_own_name(&name)?;
        if companions.retries.iter().any(|retry| retry.name == name) {
            continue;
        }
        companions.retries.push(RetryStatus { name: name.clone(), delay: *delay });
        companions.all.push(Companion {
            role: Role::Retry,
            metadata_name: metadata_name(&format!("{cr}.retry.{delay}")),
            spec: spec(parent, name, parent.spec.partitions, BTreeMap::new()),
        });
    }
    collision::among(std::iter::once(topic).chain(companions.all.iter().map(Companion::topic)))?;
    Ok(companions)
}

fn spec(
    parent: &Topic,
    name: String,
    partitions: Option<i32>,
    config: BTreeMap<String, String>,
) -> TopicSpec {
    TopicSpec {
        broker_ref: parent.spec.broker_ref.clone(),
        name: Some(name),
        partitions,
        replication_factor: parent.spec.replication_factor,
        config,
        dead_letter: None,
        retry: None,
        management_policy: parent.spec.management_policy,
        adoption: parent.spec.adoption,
        deletion_policy: Some(DeletionPolicy::Retain),
    }
}

/// A name that Kubernetes takes: the name itself where it is one, else a readable rest and a hash.
#[must_use]
pub fn metadata_name(name: &str) -> String {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let fits = name.len() <= MAX_METADATA_NAME
        && name.split('.').all(|part| {
            part.bytes().all(|b| valid(b) || b == b'-')
                && part.bytes().next().is_some_and(valid)
                && part.bytes().last().is_some_and(valid)
        });
    if fits {
        return name.to_owned();
    }
    let readable: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(200)
        .collect();
    let readable = readable.trim_matches('-');
    let hash = digest::short([name], 4);
    if readable.is_empty() { hash } else { format!("{readable}-{hash}") }
}

/// A companion's name where another Broker's has the one that it would have. `broker`: its own
/// Broker's namespace and name.
#[must_use]
pub fn beside(name: &str, broker: &str) -> String {
    metadata_name(&format!("{name}.{broker}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn topic(name: &str, spec: serde_json::Value) -> Topic {
        let mut spec = spec;
        spec["brokerRef"] = json!({"name": "kafka"});
        Topic::new(name, serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn dead_letters_and_retries_are_named_after_the_topic() {
        let parent = topic(
            "orders",
            json!({"name": "orders.v1", "partitions": 12, "deadLetter": {}, "retry": {"delays": ["10s", "90s"]}}),
        );
        let companions = of(&parent).unwrap();
        let names: Vec<_> = companions.all.iter().map(|c| (c.metadata_name.as_str(), c.topic())).collect();
        assert_eq!(
            names,
            [
                ("orders.dlq", "orders.v1.dlq"),
                ("orders.retry.10s", "orders.v1.retry.10s"),
                ("orders.retry.1m30s", "orders.v1.retry.1m30s")
            ]
        );
        assert_eq!(companions.all[0].spec.partitions, Some(1));
        assert_eq!(companions.all[1].spec.partitions, Some(12));
        assert!(companions.all.iter().all(|c| c.spec.deletion_policy == Some(DeletionPolicy::Retain)));
    }

    #[test]
    fn a_dead_letter_topic_is_not_one_of_kafkas_own() {
        let parent = topic("orders", json!({"deadLetter": {"name": "__consumer_offsets"}}));
        assert!(of(&parent).unwrap_err().message.contains("Kafka's own"));
    }

    #[test]
    fn two_parents_of_one_dead_letter_topic_come_to_the_same_cr() {
        let wish = json!({"deadLetter": {"name": "dlq-payment"}});
        let (a, b) = (of(&topic("payment", wish.clone())).unwrap(), of(&topic("order", wish)).unwrap());
        assert_eq!(a.all, b.all);
        assert_eq!(a.all[0].metadata_name, "dlq-payment");
    }

    #[test]
    fn a_companion_has_no_companions() {
        let mut child = topic("orders.dlq", json!({"deadLetter": {}}));
        child.metadata.labels = Some(BTreeMap::from([(label::COMPANION.into(), "dead-letter".into())]));
        assert_eq!(of(&child).unwrap(), Companions::default());
    }

    #[test]
    fn a_name_that_grows_too_long_is_refused() {
        let parent = topic("orders", json!({"name": "x".repeat(248), "deadLetter": {}}));
        assert!(of(&parent).unwrap_err().message.contains("at most 249"));
    }

    proptest! {
        #[test]
        fn every_cr_name_is_one_that_kubernetes_takes(name in "[a-zA-Z0-9._-]{1,249}") {
            let cr = metadata_name(&name);
            prop_assert!(cr.len() <= MAX_METADATA_NAME);
            prop_assert_eq!(metadata_name(&cr), cr.clone());
        }

        #[test]
        fn different_names_have_different_crs(a in "[aA._-]{1,6}", b in "[aA._-]{1,6}") {
            prop_assume!(a != b);
            prop_assert_ne!(metadata_name(&a), metadata_name(&b));
        }
    }
}
