//! Who else declares a binding, and who is woken when something that bindings lead to has come.

use std::collections::HashSet;
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::super::context::Context;
use super::super::guard::{self, Standing};
use super::super::reconciler::{Pass, Rival, TopologyKind};
use super::super::{binding, queue};
use crate::api::conditions;
use crate::api::{Binding, Queue, QueueStatus};
use crate::topology::rabbitmq::{BindingId, Target};

/// Who claims one binding.
pub struct Claimants {
    /// Bindings.
    pub bindings: Vec<Arc<Binding>>,
    /// Queues that have, or had, it inline.
    pub queues: Vec<Arc<Queue>>,
}

impl Claimants {
    /// Every CR that claims a binding: that names it, made it, or refers to its ends by the names of
    /// their CRs.
    pub fn of(ctx: &Context, vhost: &str, binding: &BindingId) -> Self {
        let key = binding_key(vhost, binding);
        let (kind, target) = match &binding.target {
            Target::Queue(name) => ('q', name),
            Target::Exchange(name) => ('x', name),
        };
        let end = end_key(vhost, kind, target);
        let ends = match kind {
            'q' => ctx.queues.find(&end).iter().map(|queue| meta(queue.as_ref())).collect::<Vec<_>>(),
            _ => ctx.exchanges.find(&end).iter().map(|exchange| meta(exchange.as_ref())).collect(),
        };
        let mut bindings = ctx.bindings.find(&key);
        bindings.extend(ctx.bindings.find(&end));
        for (namespace, name) in ends {
            bindings.extend(ctx.bindings.find(&reference_key(kind, &namespace, &name)));
        }
        let mut queues = ctx.queues.find(&key);
        if kind == 'q' {
            queues.extend(ctx.queues.find(&end));
        }
        let mut seen = HashSet::new();
        bindings.retain(|other| seen.insert(other.uid()));
        queues.retain(|other| seen.insert(other.uid()));
        let mut bindings: Vec<_> =
            bindings.into_iter().map(|other| ctx.newest(other, &ctx.bindings)).collect();
        let mut queues: Vec<_> = queues.into_iter().map(|other| ctx.newest(other, &ctx.queues)).collect();
        bindings.retain(|other| other.keys().contains(&key) || binding::refers_to(ctx, other, binding));
        queues.retain(|other| other.keys().contains(&key) || queue::refers_to(ctx, other, binding));
        Self { bindings, queues }
    }

    /// What they claim.
    pub fn rivals(&self, ctx: &Context) -> Vec<Rival> {
        let bindings = self.bindings.iter().map(|other| Rival::of(ctx, other.as_ref()));
        bindings.chain(self.queues.iter().map(|other| Rival::of(ctx, other.as_ref()))).collect()
    }
}

fn meta<K: TopologyKind>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether another CR declares the binding, too: then it stays. One that its Broker refuses does not
/// count.
#[must_use]
pub fn claimed_by_others<K: TopologyKind>(pass: &Pass<'_, K>, binding: &BindingId) -> bool {
    let ctx = pass.ctx;
    let rivals = Claimants::of(ctx, pass.object.vhost().unwrap_or_default(), binding).rivals(ctx);
    let mut others =
        rivals.into_iter().filter(|rival| Some(&rival.claim.uid) != pass.object.meta().uid.as_ref());
    others.any(|rival| guard::standing(ctx, &rival, &pass.link.cluster_id) != Standing::None)
}

/// Others who claim bindings that an object gave up look again: it may be their turn.
pub fn wake_heirs<K: TopologyKind>(ctx: &Context, object: &K, given_up: impl Iterator<Item = BindingId>) {
    for binding in given_up {
        let heirs = Claimants::of(ctx, object.vhost().unwrap_or_default(), &binding);
        for heir in heirs.bindings.iter().filter(|heir| heir.uid() != object.meta().uid) {
            ctx.wake_bindings.wake(&ObjectRef::from_obj(heir.as_ref()));
        }
    }
}

/// The key under which the cache finds who claims a binding.
#[must_use]
pub fn binding_key(vhost: &str, binding: &BindingId) -> String {
    let arguments = serde_json::to_string(&binding.arguments).unwrap_or_default();
    let BindingId { source, target, routing_key, .. } = binding;
    let (kind, name) = match target {
        Target::Queue(name) => ('q', name),
        Target::Exchange(name) => ('x', name),
    };
    format!("b\0{vhost}\0{source}\0{kind}\0{name}\0{routing_key}\0{arguments}")
}

/// The key under which the cache finds the Bindings that lead from or to a broker object.
#[must_use]
pub fn end_key(vhost: &str, kind: char, name: &str) -> String {
    format!("e\0{vhost}\0{kind}\0{name}")
}

/// The key under which the cache finds the Bindings that refer to a CR.
#[must_use]
pub fn reference_key(kind: char, namespace: &str, name: &str) -> String {
    format!("r\0{kind}\0{namespace}\0{name}")
}

/// Bindings, and Queues with bindings, that wait for an exchange or a queue look again.
pub fn wake_bindings<K: TopologyKind>(ctx: &Context, object: &K, kind: char) {
    let vhost = object.vhost().unwrap_or_default();
    let namespace = object.namespace().unwrap_or_default();
    let keys =
        [end_key(vhost, kind, &object.broker_name()), reference_key(kind, &namespace, &object.name_any())];
    for key in keys {
        for binding in ctx.bindings.find(&key) {
            let ready = binding
                .status
                .as_ref()
                .is_some_and(|status| conditions::is_true(&status.conditions, conditions::READY));
            let waits = ctx.note(&binding.uid().unwrap_or_default(), |notes| notes.is_waiting());
            if waits || !ready {
                ctx.wake_bindings.wake(&ObjectRef::<Binding>::from_obj(binding.as_ref()));
            }
        }
        for queue in ctx.queues.find(&key) {
            let ready = |status: &QueueStatus| conditions::is_true(&status.conditions, conditions::READY);
            let waits = ctx.note(&queue.uid().unwrap_or_default(), |notes| notes.is_waiting());
            if queue.uid() != object.uid() && (waits || !queue.status.as_ref().is_some_and(ready)) {
                ctx.wake_queues.wake(&ObjectRef::<Queue>::from_obj(queue.as_ref()));
            }
        }
    }
}
