//! Which topic or queue takes whose dead letters.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use kube::api::{ApiResource, DynamicObject};

use crate::api::{BrokerRef, Queue, Topic};
use crate::cli::CliError;
use crate::cli::cluster::Cluster;

/// Which kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A Topic.
    Topic,
    /// A Queue.
    Queue,
}

impl Kind {
    /// As it stands in YAML.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "Topic",
            Self::Queue => "Queue",
        }
    }

    fn resource(self) -> ApiResource {
        match self {
            Self::Topic => ApiResource::erase::<Topic>(&()),
            Self::Queue => ApiResource::erase::<Queue>(&()),
        }
    }
}

/// The kind and name in `topic/NAME`.
pub fn parse(text: &str) -> Result<(Kind, String), String> {
    let Some((kind, name)) = text.split_once('/').filter(|(_, name)| !name.is_empty()) else {
        return Err("say what it is: topic/NAME or queue/NAME".into());
    };
    match kind.to_lowercase().as_str() {
        "topic" | "topics" | "topic.spillway.dev" | "topics.spillway.dev" => {
            Ok((Kind::Topic, name.to_owned()))
        }
        "queue" | "queues" | "queue.spillway.dev" | "queues.spillway.dev" => {
            Ok((Kind::Queue, name.to_owned()))
        }
        _ => Err(format!("{kind:?} has no dead letters; topic/NAME and queue/NAME have")),
    }
}

/// A topic or queue that takes dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub kind: Kind,
    pub namespace: String,
    /// The Broker's namespace and name.
    pub broker: (String, String),
    /// The virtual host of a queue.
    pub vhost: Option<String>,
    /// The name at the broker.
    pub name: String,
    /// Whose dead letters: metadata.name of each.
    pub of: Vec<String>,
}

impl Place {
    /// For a sentence.
    pub fn in_words(&self) -> String {
        match &self.vhost {
            Some(vhost) if vhost != "/" => format!("queue {:?} in virtual host {vhost:?}", self.name),
            Some(_) => format!("queue {:?}", self.name),
            None => format!("topic {:?}", self.name),
        }
    }
}

/// What of an object matters here; none: it cannot be read as its kind.
struct Known {
    broker: BrokerRef,
    vhost: Option<String>,
    name: String,
    dead_letter: Option<String>,
}

fn known(kind: Kind, object: &DynamicObject) -> Option<Known> {
    let value = serde_json::to_value(object).ok()?;
    Some(match kind {
        Kind::Topic => {
            let topic: Topic = serde_json::from_value(value).ok()?;
            Known {
                broker: topic.spec.broker_ref.clone(),
                vhost: None,
                name: topic.topic_name().to_owned(),
                dead_letter: topic.status.and_then(|status| status.dead_letter),
            }
        }
        Kind::Queue => {
            let queue: Queue = serde_json::from_value(value).ok()?;
            Known {
                broker: queue.spec.broker_ref.clone(),
                vhost: Some(queue.spec.vhost.clone()),
                name: queue.queue_name().to_owned(),
                dead_letter: queue.status.and_then(|status| status.dead_letter),
            }
        }
    })
}

fn place(kind: Kind, namespace: &str, object: &DynamicObject, itself: bool) -> Option<Place> {
    let known = known(kind, object)?;
    let own = itself.then_some(known.name);
    Some(Place {
        kind,
        namespace: namespace.to_owned(),
        broker: (known.broker.namespace.unwrap_or_else(|| namespace.to_owned()), known.broker.name),
        vhost: known.vhost,
        of: if known.dead_letter.is_some() { vec![object.name_any()] } else { Vec::new() },
        name: known.dead_letter.or(own)?,
    })
}

/// All places of a namespace, or of all; one that several share is told once.
pub async fn all(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Place>, CliError> {
    let mut places = Vec::new();
    for kind in [Kind::Topic, Kind::Queue] {
        for object in cluster.objects(&kind.resource(), namespace).await? {
            places.extend(place(kind, &object.namespace().unwrap_or_default(), &object, false));
        }
    }
    Ok(shared(places))
}

fn shared(places: Vec<Place>) -> Vec<Place> {
    let mut merged: BTreeMap<_, Place> = BTreeMap::new();
    for place in places {
        let key = (
            place.kind,
            place.namespace.clone(),
            place.broker.clone(),
            place.vhost.clone(),
            place.name.clone(),
        );
        match merged.get_mut(&key) {
            Some(known) => known.of.extend(place.of),
            None => _ = merged.insert(key, place),
        }
    }
    merged.into_values().collect()
}

/// The place of one object's dead letters; an object that has none is the place itself.
pub async fn of(cluster: &Cluster, kind: Kind, namespace: &str, name: &str) -> Result<Place, CliError> {
    let object = cluster.object(&kind.resource(), namespace, name).await?;
    place(kind, namespace, &object, true).ok_or_else(|| {
        CliError(format!("failed to read {} {namespace}/{name}: its spec cannot be read", kind.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn topic(name: &str, dead_letter: Option<&str>) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "spillway.dev/v1alpha1", "kind": "Topic",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"brokerRef": {"name": "kafka"}},
            "status": {"deadLetter": dead_letter},
        }))
        .unwrap()
    }

    #[test]
    fn a_shared_place_is_told_once() {
        let of = |name: &str| place(Kind::Topic, "shop", &topic(name, Some("dlq-payment")), false).unwrap();
        let places = shared(vec![of("orders"), of("bills")]);
        assert_eq!(places.len(), 1);
        assert_eq!(
            (places[0].name.as_str(), &places[0].of[..]),
            ("dlq-payment", &["orders".to_owned(), "bills".to_owned()][..])
        );
        assert_eq!(places[0].broker, ("shop".to_owned(), "kafka".to_owned()));
    }

    #[test]
    fn what_has_no_dead_letters_is_shown_itself_and_not_listed() {
        let own = topic("dlq-payment", None);
        assert_eq!(place(Kind::Topic, "shop", &own, false), None);
        assert_eq!(place(Kind::Topic, "shop", &own, true).unwrap().name, "dlq-payment");
    }

    #[test]
    fn only_topics_and_queues_have_dead_letters() {
        assert_eq!(parse("topics/orders"), Ok((Kind::Topic, "orders".into())));
        assert_eq!(parse("queue/payments"), Ok((Kind::Queue, "payments".into())));
        assert!(parse("exchange/events").unwrap_err().contains("no dead letters"));
        assert!(parse("orders").unwrap_err().contains("topic/NAME"));
        assert!(parse("topic/").is_err());
    }
}
