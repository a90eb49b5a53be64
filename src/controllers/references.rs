//! References from one CR to another: by the name of the CR, to the name at the broker.
//!
//! What is referenced lives in the same namespace, on the same Broker and in the same virtual host.
//! One that does not exist yet is waited for.

use super::context::{BrokerKey, Context};
use super::failure::Failure;
use super::reconciler::TopologyKind;
use crate::api::binding::{Destination, ObjectRef};
use crate::api::conditions::Reason;
use crate::api::{Exchange, Queue};
use crate::topology::Rejection;
use crate::topology::rabbitmq::Target;

/// From where a reference is made.
pub struct From<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The Broker.
    pub broker: &'a BrokerKey,
    /// The virtual host.
    pub vhost: &'a str,
}

/// The exchange that a binding comes from.
pub fn source(
    ctx: &Context,
    from: &From<'_>,
    name: Option<&str>,
    reference: Option<&ObjectRef>,
) -> Result<String, Failure> {
    match (name, reference) {
        (Some(name), None) => Ok(name.to_owned()),
        (None, Some(reference)) => resolve::<Exchange>(ctx, from, &reference.name),
        _ => Err(invalid("set exactly one of source and sourceRef")),
    }
}

/// What a binding leads to.
pub fn target(ctx: &Context, from: &From<'_>, destination: &Destination) -> Result<Target, Failure> {
    let Destination { queue, exchange, queue_ref, exchange_ref } = destination;
    match (queue, exchange, queue_ref, exchange_ref) {
        (Some(name), None, None, None) => Ok(Target::Queue(name.clone())),
        (None, Some(name), None, None) => Ok(Target::Exchange(name.clone())),
        (None, None, Some(to), None) => resolve::<Queue>(ctx, from, &to.name).map(Target::Queue),
        (None, None, None, Some(to)) => resolve::<Exchange>(ctx, from, &to.name).map(Target::Exchange),
        _ => Err(invalid("set exactly one of destination.queue, exchange, queueRef and exchangeRef")),
    }
}

fn invalid(message: &str) -> Failure {
    Rejection::new(Reason::InvalidSpec, message).into()
}

fn resolve<K: TopologyKind>(ctx: &Context, from: &From<'_>, name: &str) -> Result<String, Failure> {
    let Some(object) = K::cache(ctx).get(from.namespace, name) else {
        return Err(Failure::waiting(
            Reason::DependencyNotReady,
            format!("waiting for {} {name}, which does not exist yet", K::KIND),
        ));
    };
    let broker = BrokerKey::of(object.broker_ref(), from.namespace);
    if broker != *from.broker {
        return Err(Rejection::new(
            Reason::RefInvalid,
            format!("{} {name} lives on Broker {broker}, and this object on {}", K::KIND, from.broker),
        )
        .into());
    }
    match object.vhost() {
        Some(vhost) if vhost != from.vhost => Err(Rejection::new(
            Reason::RefInvalid,
            format!(
                "{} {name} lives in virtual host {vhost:?}, and this object in {:?}",
                K::KIND,
                from.vhost
            ),
        )
        .into()),
        _ => Ok(object.broker_name()),
    }
}
