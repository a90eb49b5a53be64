//! What lives on a Broker, of whatever kind.

use std::marker::PhantomData;
use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;

use super::context::{BrokerKey, Context};
use super::finalizer;
use super::reconciler::TopologyKind;
use crate::api::policy::Policies;
use crate::api::{Binding, Broker, Exchange, Queue, Topic};

/// Every kind that lives on Brokers.
pub const KINDS: [&dyn Dependents; 4] = [
    &Of::<Topic>(PhantomData),
    &Of::<Exchange>(PhantomData),
    &Of::<Queue>(PhantomData),
    &Of::<Binding>(PhantomData),
];

/// What a Broker has to know of the objects of one kind.
pub trait Dependents: Sync {
    /// Wakes those on a Broker.
    fn wake_on(&self, ctx: &Context, broker: &BrokerKey);
    /// Wakes those in a namespace.
    fn wake_in(&self, ctx: &Context, namespace: &str);
    /// Whether one of them needs the way to the Broker for a deletion, now or later.
    fn hold(&self, ctx: &Context, broker: &Broker) -> bool;
}

struct Of<K>(PhantomData<fn() -> K>);

/// The objects of one kind on one Broker.
pub fn on<K: TopologyKind>(ctx: &Context, broker: &BrokerKey) -> Vec<Arc<K>> {
    let mut all = K::cache(ctx).all();
    all.retain(|object| lives_on(object.as_ref(), broker));
    all
}

fn lives_on<K: TopologyKind>(object: &K, broker: &BrokerKey) -> bool {
    let reference = object.broker_ref();
    reference.name == broker.name
        && reference.namespace.as_deref().or(object.meta().namespace.as_deref()) == Some(&broker.namespace)
}

impl<K: TopologyKind> Dependents for Of<K> {
    fn wake_on(&self, ctx: &Context, broker: &BrokerKey) {
        for object in on::<K>(ctx, broker) {
            K::wake(ctx).wake(&ObjectRef::from_obj(object.as_ref()));
        }
    }

    fn wake_in(&self, ctx: &Context, namespace: &str) {
        for object in K::cache(ctx).all() {
            if object.meta().namespace.as_deref() == Some(namespace) {
                K::wake(ctx).wake(&ObjectRef::from_obj(object.as_ref()));
            }
        }
    }

    fn hold(&self, ctx: &Context, broker: &Broker) -> bool {
        on::<K>(ctx, &BrokerKey::from_broker(broker)).iter().any(|object| {
            let policies = Policies::resolve(object.policies(), broker.spec.defaults);
            let wants = finalizer::wanted(policies)
                && object.meta().deletion_timestamp.is_none()
                && broker.metadata.deletion_timestamp.is_none();
            wants || finalizer::is_on(object.as_ref())
        })
    }
}
