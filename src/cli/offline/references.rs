//! References from one object to another: by the object's name, to the name at the broker. Pure.
//!
//! What is referenced is in the input, lives in the same namespace, on the same Broker and in the
//! same virtual host.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use super::candidates::broker_key;
use super::objects::Objects;
use crate::api::binding::{Destination, ObjectRef};
use crate::api::conditions::Reason;
use crate::topology::Rejection;
use crate::topology::rabbitmq::Target;

/// From where a reference is made.
pub struct From<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The Broker: `namespace/name`.
    pub broker: &'a str,
    /// The virtual host.
    pub vhost: &'a str,
}

/// Where an object lives: Broker, virtual host, name at the broker.
type Home = (String, String, String);

/// What may be referenced.
#[derive(Default)]
pub struct Referents(BTreeMap<(&'static str, String, String), Home>);

impl Referents {
    /// All Exchanges and Queues of the input.
    #[must_use]
    pub fn of(objects: &Objects) -> Self {
        let mut all = BTreeMap::new();
        for exchange in objects.exchanges.iter().map(|declared| &declared.object) {
            let namespace = exchange.namespace().unwrap_or_default();
            let broker = broker_key(&exchange.spec.broker_ref, &namespace);
            let home = (broker, exchange.spec.vhost.clone(), exchange.exchange_name().to_owned());
            all.insert(("Exchange", namespace, exchange.name_any()), home);
        }
        for queue in objects.queues.iter().map(|declared| &declared.object) {
            let namespace = queue.namespace().unwrap_or_default();
            let broker = broker_key(&queue.spec.broker_ref, &namespace);
            let home = (broker, queue.spec.vhost.clone(), queue.queue_name().to_owned());
            all.insert(("Queue", namespace, queue.name_any()), home);
        }
        Self(all)
    }

    /// The exchange that a binding comes from.
    pub fn source(
        &self,
        from: &From<'_>,
        name: Option<&str>,
        reference: Option<&ObjectRef>,
    ) -> Result<String, Rejection> {
        match (name, reference) {
            (Some(name), None) => Ok(name.to_owned()),
            (None, Some(reference)) => self.resolve(from, "Exchange", &reference.name),
            _ => Err(Rejection::new(Reason::InvalidSpec, "set exactly one of source and sourceRef")),
        }
    }

    /// What a binding leads to.
    pub fn target(&self, from: &From<'_>, destination: &Destination) -> Result<Target, Rejection> {
        let Destination { queue, exchange, queue_ref, exchange_ref } = destination;
        match (queue, exchange, queue_ref, exchange_ref) {
            (Some(name), None, None, None) => Ok(Target::Queue(name.clone())),
            (None, Some(name), None, None) => Ok(Target::Exchange(name.clone())),
            (None, None, Some(to), None) => self.resolve(from, "Queue", &to.name).map(Target::Queue),
            (None, None, None, Some(to)) => self.resolve(from, "Exchange", &to.name).map(Target::Exchange),
            _ => Err(Rejection::new(
                Reason::InvalidSpec,
                "set exactly one of destination.queue, exchange, queueRef and exchangeRef",
            )),
        }
    }

    fn resolve(&self, from: &From<'_>, kind: &'static str, name: &str) -> Result<String, Rejection> {
        let Some((broker, vhost, at)) = self.0.get(&(kind, from.namespace.to_owned(), name.to_owned()))
        else {
            let message = format!("{kind} {}/{name} is not in the input", from.namespace);
            return Err(Rejection::new(Reason::DependencyNotReady, message));
        };
        let invalid = |message: String| Err(Rejection::new(Reason::RefInvalid, message));
        if broker != from.broker {
            return invalid(format!(
                "{kind} {name} lives on Broker {broker}, and this object on {}",
                from.broker
            ));
        }
        if vhost != from.vhost {
            return invalid(format!(
                "{kind} {name} lives in virtual host {vhost:?}, and this object in {:?}",
                from.vhost
            ));
        }
        Ok(at.clone())
    }
}
