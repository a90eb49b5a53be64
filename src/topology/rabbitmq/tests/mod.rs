//! What the plans promise, rule by rule; the properties are in [`properties`].

mod bindings;
mod exchanges;
mod model;
mod plans;
mod properties;
mod queues;
mod recreate;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::settle::Again;
use super::*;
use crate::api::broker::DriftPolicy;
use crate::api::policy::{Adoption, ManagementPolicy};
use crate::api::queue::Queue;

fn queue_cr(spec: Value) -> Queue {
    let mut spec = spec;
    spec["brokerRef"] = json!({"name": "rabbit"});
    Queue::new("q", serde_json::from_value(spec).unwrap())
}

fn desired(spec: Value) -> DesiredQueue {
    let cr = queue_cr(spec);
    let sources: Vec<_> = cr.spec.bindings.iter().map(|b| b.source.clone().unwrap()).collect();
    DesiredQueue::of(&cr, &sources).unwrap()
}

fn quorum(arguments: Value) -> ObservedQueue {
    seen("quorum", arguments)
}

fn seen(kind: &str, arguments: Value) -> ObservedQueue {
    let mut arguments: Arguments = serde_json::from_value(arguments).unwrap();
    arguments.insert("x-queue-type".into(), json!(kind));
    ObservedQueue { kind: kind.into(), durable: true, arguments, ..ObservedQueue::default() }
}

fn in_force(policy: &str, queue: ObservedQueue) -> ObservedQueue {
    ObservedQueue { policy: Some(policy.into()), ..queue }
}

fn policy(name: &str, priority: i64, definition: Value) -> ObservedPolicy {
    ObservedPolicy {
        name: name.into(),
        pattern: ".*".into(),
        apply_to: "queues".into(),
        priority,
        definition: serde_json::from_value(definition).unwrap(),
    }
}

fn own(definition: Value) -> ObservedPolicy {
    ObservedPolicy {
        pattern: "^q$".into(),
        apply_to: "quorum_queues".into(),
        ..policy("spillway.q.q", 100, definition)
    }
}

fn vhost(policies: &[ObservedPolicy]) -> VhostPolicies {
    VhostPolicies { policies: policies.to_vec(), operator: Vec::new() }
}

fn ours() -> QueueMemory {
    QueueMemory { owned: true, known: true, ..QueueMemory::default() }
}

fn bound(source: &str, key: &str) -> BindingId {
    BindingId {
        source: source.into(),
        target: Target::Queue("q".into()),
        routing_key: key.into(),
        arguments: Arguments::new(),
    }
}

/// The parts of a queue's input that tests vary.
#[derive(Clone, Default)]
struct World {
    observed: Option<ObservedQueue>,
    bindings: Vec<BindingId>,
    policies: VhostPolicies,
    memory: QueueMemory,
    claimed: BTreeSet<BindingId>,
}

impl World {
    fn of(observed: Option<ObservedQueue>, policies: &[ObservedPolicy]) -> Self {
        Self { observed, policies: vhost(policies), memory: ours(), ..Self::default() }
    }

    fn input<'a>(&'a self, desired: &'a DesiredQueue) -> QueueInput<'a> {
        QueueInput {
            desired,
            observed: self.observed.as_ref(),
            bindings: &self.bindings,
            policies: &self.policies,
            memory: &self.memory,
            claimed: &self.claimed,
            management: ManagementPolicy::Manage,
            adoption: Adoption::IfIdentical,
            drift: DriftPolicy::Correct,
            edited: false,
            approved: None,
            again: Again::NotYet,
        }
    }

    fn plan(&self, desired: &DesiredQueue) -> Plan {
        plan_queue(&self.input(desired)).unwrap()
    }

    fn refused(&self, desired: &DesiredQueue) -> Rejection {
        plan_queue(&self.input(desired)).unwrap_err()
    }
}

fn words(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}
