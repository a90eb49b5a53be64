//! Bindings: their identity, and the plan for a Binding.
//!
//! A binding cannot change: another one is made, then the old one goes, so that no message falls
//! between the two.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use super::desired::DesiredBinding;
use super::step::Step;
use super::value::{exact_map, is_addressable, shown};
use super::{Gate, Loss, Plan, hash};
use crate::api::arguments::Arguments;
use crate::api::binding::AppliedBinding;
use crate::api::broker::DriftPolicy;
use crate::api::policy::{Adoption, ManagementPolicy};
use crate::topology::Rejection;
use crate::topology::gate::{Question, Standing, gate};

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// To a queue.
    Queue(String),
    /// To an exchange.
    Exchange(String),
}

impl Target {
    /// The target's name at the broker.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Exchange(name) => name,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "queue {name:?}"),
            Self::Exchange(name) => write!(f, "exchange {name:?}"),
        }
    }
}

/// One binding of a virtual host. Two are the same whatever the order of their arguments. `1` and `1.0` are two: to a
/// headers exchange neither is the other.
#[derive(Clone, Debug)]
pub struct BindingId {
    /// The exchange that messages come from.
    pub source: String,
    /// Where they go.
    pub target: Target,
    /// The binding key.
    pub routing_key: String,
    /// Its arguments.
    pub arguments: Arguments,
}

impl BindingId {
    /// Whether the management interface has an address for it. One without could be made, and never be taken away; with
    /// arguments, an address ends with a hash of them, after a `~`.
    #[must_use]
    pub fn has_address(&self) -> bool {
        is_addressable(&self.source)
            && is_addressable(self.target.name())
            && (is_addressable(&self.routing_key) || !self.arguments.is_empty())
            && !self.blinds()
    }

    /// Whether RabbitMQ could not list it, nor anything beside it, once it is made (4.0.5 answers 500 to each listing that
    /// has such a binding in it).
    #[must_use]
    pub fn blinds(&self) -> bool {
        self.routing_key.contains('~') && !self.arguments.is_empty()
    }
}

impl Ord for BindingId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.source
            .cmp(&other.source)
            .then_with(|| self.target.cmp(&other.target))
            .then_with(|| self.routing_key.cmp(&other.routing_key))
            .then_with(|| match (self.arguments.is_empty(), other.arguments.is_empty()) {
                (true, true) => Ordering::Equal,
                _ => exact_map(&self.arguments).cmp(&exact_map(&other.arguments)),
            })
    }
}

impl PartialOrd for BindingId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for BindingId {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for BindingId {}

impl fmt::Display for BindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to exchange {:?} with key {:?}", self.target, self.source, self.routing_key)?;
        if self.arguments.is_empty() { Ok(()) } else { write!(f, " and {}", shown(&self.arguments)) }
    }
}

impl From<&AppliedBinding> for BindingId {
    fn from(applied: &AppliedBinding) -> Self {
        let target = match (&applied.queue, &applied.exchange) {
            (Some(queue), _) => Target::Queue(queue.clone()),
            (None, exchange) => Target::Exchange(exchange.clone().unwrap_or_default()),
        };
        Self {
            source: applied.source.clone(),
            target,
            routing_key: applied.routing_key.clone(),
            arguments: applied.arguments.clone(),
        }
    }
}

impl From<&BindingId> for AppliedBinding {
    fn from(id: &BindingId) -> Self {
        let (queue, exchange) = match &id.target {
            Target::Queue(name) => (Some(name.clone()), None),
            Target::Exchange(name) => (None, Some(name.clone())),
        };
        Self {
            source: id.source.clone(),
            queue,
            exchange,
            routing_key: id.routing_key.clone(),
            arguments: id.arguments.clone(),
        }
    }
}

/// What Spillway remembers of a Binding (from the CR's status).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingMemory {
    /// Whether the CR owns its binding.
    pub owned: bool,
    /// The binding as it was made, and what it was before and may still be there.
    pub applied: Vec<BindingId>,
}

/// All that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct BindingInput<'a> {
    /// What is wanted.
    pub desired: &'a DesiredBinding,
    /// The bindings that lead to the target, and to those that `memory.applied` names.
    pub present: &'a [BindingId],
    /// What is remembered.
    pub memory: &'a BindingMemory,
    /// Bindings that other CRs declare: never removed.
    pub claimed: &'a BTreeSet<BindingId>,
    /// Whether an end of it may go by itself, and the binding with it.
    pub passing: bool,
    /// Who writes.
    pub management: ManagementPolicy,
    /// What to do with a binding that was there before.
    pub adoption: Adoption,
    /// What to do about drift.
    pub drift: DriftPolicy,
    /// Whether the spec was edited since the broker was last in step.
    pub edited: bool,
    /// The hash that a person approved.
    pub approved: Option<&'a str>,
}

/// Plans the steps from what was seen to what is wanted.
pub fn plan_binding(input: &BindingInput<'_>) -> Result<Plan, Rejection> {
    let BindingInput { memory, management, adoption, drift, edited, approved, .. } = *input;
    let wanted = &input.desired.id;
    let seen = |id: &BindingId| input.present.iter().find(|present| *present == id);
    let there = seen(wanted).is_some();
    let old = memory.applied.iter().filter(|applied| *applied != wanted && !input.claimed.contains(applied));
    let old: BTreeSet<_> = old.collect();
    let mut steps = Vec::new();
    if !there {
        steps.push(Step::Bind(wanted.clone()));
    }
    steps.extend(old.into_iter().filter_map(seen).map(|old| Step::Unbind(old.clone())));
    // While one binding takes the place of another, the new one may not have been made yet.
    let gone = memory.owned && !there && memory.applied.iter().all(|applied| applied == wanted);
    let expired = gone && input.passing;
    let hash = hash(&wanted.to_string(), &steps);
    let gate: Gate = gate(&Question {
        management,
        adoption,
        drift,
        edited: edited || expired,
        approved,
        standing: match (memory.owned, there) {
            (true, _) => Standing::Ours,
            (false, true) => Standing::Foreign,
            (false, false) => Standing::New,
        },
        differs: !steps.is_empty(),
        destructive: false,
        hash: &hash,
    });
    let loss = (gone && !expired).then_some(Loss::Vanished);
    Ok(Plan { steps, gate, loss, expired, obstacles: Vec::new(), unapplied: false, unclear: None, hash })
}
