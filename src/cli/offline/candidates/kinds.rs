//! What each kind wants, and which companions it implies.

use kube::{Resource, ResourceExt as _};

use super::super::references::{From, Referents};
use super::Wanted;
use crate::api::policy::PolicyDefaults;
use crate::api::{Binding, BrokerRef, Exchange, Queue, Topic};
use crate::topology::Rejection;
use crate::topology::access::Deletes;
use crate::topology::kafka::DesiredTopic;
use crate::topology::kafka::companions as of_topic;
use crate::topology::rabbitmq::value::exact_map;
use crate::topology::rabbitmq::{
    BindingId, DesiredBinding, DesiredExchange, DesiredQueue, Target, companions as of_queue, deletes,
    references,
};

/// What an object wants at its broker.
pub struct Wish {
    /// See [`super::Candidate::name`].
    pub name: String,
    /// See [`super::Candidate::identity`].
    pub identity: String,
    /// See [`super::Candidate::keeps`].
    pub keeps: Vec<String>,
    /// See [`super::Candidate::refers_to`].
    pub refers_to: Vec<String>,
    /// See [`super::Candidate::needs`].
    pub needs: Option<String>,
    /// See [`super::Candidate::wanted`].
    pub wanted: Result<Wanted, Rejection>,
}

/// A kind of object that lives at a broker.
pub trait Kind: Resource<DynamicType = ()> + Sized {
    /// The kind's name.
    const KIND: &'static str;
    /// The Broker that it lives on.
    fn broker_ref(&self) -> &BrokerRef;
    /// The virtual host that it lives in.
    fn vhost(&self) -> Option<&str>;
    /// Its name at the broker.
    fn broker_name(&self) -> String;
    /// The three choices as it gives them.
    fn policies(&self) -> PolicyDefaults;
    /// What it wants. `broker` is the Broker's key.
    fn wish(&self, broker: &str, referents: &Referents) -> Wish;

    /// The companions that it implies, each with the word for what it is for.
    fn companions(&self) -> Result<Vec<(&'static str, Self)>, Rejection> {
        Ok(Vec::new())
    }

    /// The settings by which it goes at the broker.
    fn deletes(&self) -> Vec<Deletes> {
        Vec::new()
    }

    /// What tells it from every other object of its cluster.
    fn identity(&self) -> String {
        identity(Self::KIND, self.vhost().unwrap_or_default(), &self.broker_name())
    }
}

/// What tells a named object from every other object of its cluster.
#[must_use]
pub fn identity(kind: &str, vhost: &str, name: &str) -> String {
    format!("{kind}\0{vhost}\0{name}")
}

fn binding_identity(vhost: &str, id: &BindingId) -> String {
    let BindingId { source, target, routing_key, arguments } = id;
    let kind = match target {
        Target::Queue(_) => "Queue",
        Target::Exchange(_) => "Exchange",
    };
    let (target, arguments) = (target.name(), exact_map(arguments));
    format!("Binding\0{vhost}\0{source}\0{kind}\0{target}\0{routing_key}\0{arguments}")
}

impl Kind for Topic {
    const KIND: &'static str = "Topic";

    fn broker_ref(&self) -> &BrokerRef {
        &self.spec.broker_ref
    }

    fn vhost(&self) -> Option<&str> {
        None
    }

    fn broker_name(&self) -> String {
        self.topic_name().to_owned()
    }

    fn policies(&self) -> PolicyDefaults {
        self.spec.policies()
    }

    fn wish(&self, _: &str, _: &Referents) -> Wish {
        Wish {
            name: self.broker_name(),
            identity: self.identity(),
            keeps: Vec::new(),
            refers_to: Vec::new(),
            needs: None,
            wanted: DesiredTopic::of(self).map(Wanted::Topic),
        }
    }

    fn companions(&self) -> Result<Vec<(&'static str, Self)>, Rejection> {
        let all = of_topic::of(self)?.all.into_iter();
        Ok(all.map(|one| (one.role.label(), Self::new(&one.metadata_name, one.spec))).collect())
    }
}

impl Kind for Exchange {
    const KIND: &'static str = "Exchange";

    fn broker_ref(&self) -> &BrokerRef {
        &self.spec.broker_ref
    }

    fn vhost(&self) -> Option<&str> {
        Some(&self.spec.vhost)
    }

    fn broker_name(&self) -> String {
        self.exchange_name().to_owned()
    }

    fn policies(&self) -> PolicyDefaults {
        self.spec.policies()
    }

    fn wish(&self, _: &str, _: &Referents) -> Wish {
        Wish {
            name: self.broker_name(),
            identity: self.identity(),
            keeps: Vec::new(),
            refers_to: references::of_exchange(self),
            needs: None,
            wanted: DesiredExchange::of(self).map(Wanted::Exchange),
        }
    }

    fn deletes(&self) -> Vec<Deletes> {
        deletes::of_exchange(self)
    }
}

impl Kind for Queue {
    const KIND: &'static str = "Queue";

    fn broker_ref(&self) -> &BrokerRef {
        &self.spec.broker_ref
    }

    fn vhost(&self) -> Option<&str> {
        Some(&self.spec.vhost)
    }

    fn broker_name(&self) -> String {
        self.queue_name().to_owned()
    }

    fn policies(&self) -> PolicyDefaults {
        self.spec.policies()
    }

    fn wish(&self, broker: &str, referents: &Referents) -> Wish {
        let namespace = self.namespace().unwrap_or_default();
        let vhost = &self.spec.vhost;
        let from = From { namespace: &namespace, broker, vhost };
        let sources: Result<Vec<_>, _> = self
            .spec
            .bindings
            .iter()
            .map(|inline| referents.source(&from, inline.source.as_deref(), inline.source_ref.as_ref()))
            .collect();
        let wanted = sources.as_ref().map_err(Clone::clone);
        let wanted = wanted.and_then(|sources| DesiredQueue::of(self, sources));
        let keeps = wanted.iter().flat_map(|desired| &desired.bindings);
        Wish {
            name: self.broker_name(),
            identity: self.identity(),
            keeps: keeps.map(|binding| binding_identity(vhost, binding)).collect(),
            refers_to: references::of_queue(self, sources.as_deref().unwrap_or_default()),
            needs: of_queue::next_dead_letter_queue(self).map(|name| identity(Self::KIND, vhost, &name)),
            wanted: wanted.map(Wanted::Queue),
        }
    }

    fn deletes(&self) -> Vec<Deletes> {
        deletes::of_queue(self)
    }

    fn companions(&self) -> Result<Vec<(&'static str, Self)>, Rejection> {
        let all = of_queue::of(self)?.all.into_iter();
        Ok(all.map(|one| (one.role.label(), Self::new(&one.metadata_name, one.spec))).collect())
    }
}

impl Kind for Binding {
    const KIND: &'static str = "Binding";

    fn broker_ref(&self) -> &BrokerRef {
        &self.spec.broker_ref
    }

    fn vhost(&self) -> Option<&str> {
        Some(&self.spec.vhost)
    }

    fn broker_name(&self) -> String {
        self.name_any()
    }

    fn policies(&self) -> PolicyDefaults {
        self.spec.policies()
    }

    fn wish(&self, broker: &str, referents: &Referents) -> Wish {
        let namespace = self.namespace().unwrap_or_default();
        let spec = &self.spec;
        let from = From { namespace: &namespace, broker, vhost: &spec.vhost };
        let ends = referents
            .source(&from, spec.source.as_deref(), spec.source_ref.as_ref())
            .and_then(|source| Ok((source, referents.target(&from, &spec.destination)?)));
        let desired = ends.and_then(|(source, target)| DesiredBinding::of(self, &source, target));
        match desired {
            Ok(desired) => Wish {
                name: desired.id.to_string(),
                identity: binding_identity(&spec.vhost, &desired.id),
                keeps: Vec::new(),
                refers_to: references::of_binding(&desired.id.source, &desired.id.target),
                needs: None,
                wanted: Ok(Wanted::Binding(desired)),
            },
            Err(rejection) => Wish {
                name: self.name_any(),
                identity: self.identity(),
                keeps: Vec::new(),
                refers_to: Vec::new(),
                needs: None,
                wanted: Err(rejection),
            },
        }
    }
}
