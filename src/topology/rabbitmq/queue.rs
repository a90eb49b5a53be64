//! The plan for a Queue.
//!
//! Rules that hold for every plan:
//! * the policy comes before the queue, new bindings before old ones go, a policy that is not
//!   needed any more goes last;
//! * an existing queue is never declared again, and never deleted but to be recreated, which takes
//!   `onImmutableChange: RecreateIfEmpty` and [`super::deletion::may_recreate`];
//! * only bindings that Spillway made and nobody else declares are removed;
//! * applying a plan and planning again gives no steps.

use std::collections::BTreeSet;

use super::binding::BindingId;
use super::desired::DesiredQueue;
use super::force::same_setting;
use super::policy::{Others, operator};
use super::settle::{Again, Wish, settle};
use super::step::Step;
use super::value::bare;
use super::{Loss, ObservedQueue, Plan, VhostPolicies, hash};
use crate::api::broker::DriftPolicy;
use crate::api::conditions::Reason;
use crate::api::policy::{Adoption, ManagementPolicy};
use crate::api::queue::{ApplyVia, OnImmutableChange, QueueType};
use crate::topology::Rejection;
use crate::topology::gate::{Question, Standing, gate};

/// What Spillway remembers of a Queue (from the CR's status).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueMemory {
    /// Whether the CR owns the queue.
    pub owned: bool,
    /// Whether the queue was ever seen or declared as the spec has it. One that was a companion's is owned before.
    pub known: bool,
    /// The inline bindings that Spillway made, or was about to make.
    pub applied_bindings: Vec<BindingId>,
    /// A recreation was begun and its end was not written down: the bindings to make again.
    pub pending: Option<Vec<BindingId>>,
}

/// All that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct QueueInput<'a> {
    /// What is wanted.
    pub desired: &'a DesiredQueue,
    /// What was seen; none: the broker says that there is no such queue.
    pub observed: Option<&'a ObservedQueue>,
    /// All bindings that lead to the queue, the default exchange's left out.
    pub bindings: &'a [BindingId],
    /// All policies of the virtual host.
    pub policies: &'a VhostPolicies,
    /// What is remembered.
    pub memory: &'a QueueMemory,
    /// Bindings that other CRs declare: never removed.
    pub claimed: &'a BTreeSet<BindingId>,
    /// Who writes.
    pub management: ManagementPolicy,
    /// What to do with a queue that was there before.
    pub adoption: Adoption,
    /// What to do about drift.
    pub drift: DriftPolicy,
    /// Whether the spec was edited since the broker was last in step.
    pub edited: bool,
    /// The hash that a person approved.
    pub approved: Option<&'a str>,
    /// Whether a policy that RabbitMQ does not apply may be put once more.
    pub again: Again,
}

/// Plans the steps from what was seen to what is wanted.
pub fn plan_queue(input: &QueueInput<'_>) -> Result<Plan, Rejection> {
    let QueueInput { desired, observed, memory, management, adoption, drift, edited, approved, .. } = *input;
    let replaced = is_replaced(input);
    let mut recreate = observed.map_or(Ok(false), |seen| must_recreate(desired, seen))?;
    let declaration = desired.declaration();
    let in_force = observed.map(|seen| seen.policy.as_deref().filter(|name| !name.is_empty()));
    let said = observed.and_then(|seen| seen.operator_policy.as_deref());
    let settled = |recreate: bool| {
        settle(&Wish {
            subject: desired.subject(),
            settings: &desired.settings,
            by_policy: desired.via == ApplyVia::Policy,
            arguments: observed.filter(|_| !recreate).map_or(&declaration, |seen| &seen.arguments),
            in_force,
            anew: recreate,
            operator: said,
            policies: input.policies,
            again: input.again,
        })
    };
    let mut settled_as = settled(recreate);
    let overridden = settled_as.obstacles.iter().any(|obstacle| obstacle.reason == Reason::ArgumentOverrides);
    if overridden && observed.is_some() && desired.on_immutable_change == OnImmutableChange::RecreateIfEmpty {
        // An argument that is in the way goes with the queue.
        recreate = true;
        settled_as = settled(recreate);
    }
    let settled = settled_as;
    let unclear = settled.unclear.filter(|_| observed.is_none());
    let stays = observed.filter(|_| !recreate);
    let mut steps: Vec<Step> = settled.first.into_iter().filter(|_| unclear.is_none()).collect();
    if recreate {
        let classic = desired.kind == QueueType::Classic;
        let bindings = declared(input.bindings).cloned().collect();
        steps.push(Step::DeleteQueue { name: desired.name.clone(), classic, bindings });
    }
    if stays.is_none() {
        steps.push(Step::DeclareQueue {
            name: desired.name.clone(),
            kind: desired.kind,
            durable: desired.durable,
            arguments: declaration.clone(),
        });
    }
    // Nothing leads to a queue that lacks its policy.
    if unclear.is_none() {
        steps.extend(binding_steps(input, observed.is_some(), recreate));
        steps.extend(settled.last);
    }
    let known = memory.owned || memory.pending.is_some();
    let gone = memory.owned && observed.is_none() && memory.pending.is_none();
    let expired = gone && expires(input);
    let hash = hash(&format!("queue {:?}", desired.name), &steps);
    let gate = gate(&Question {
        management,
        adoption,
        drift,
        // What was begun is carried through, and what expired is no drift.
        edited: edited || memory.pending.is_some() || expired,
        approved,
        standing: match (known, observed) {
            (true, _) => Standing::Ours,
            (false, Some(_)) => Standing::Foreign,
            (false, None) => Standing::New,
        },
        differs: !steps.is_empty(),
        destructive: recreate,
        hash: &hash,
    });
    let loss = if gone && !expired { Some(Loss::Vanished) } else { replaced.then_some(Loss::Replaced) };
    let (obstacles, unapplied) = (settled.obstacles, settled.unapplied);
    Ok(Plan { steps, gate, loss, expired, obstacles, unapplied, unclear, hash })
}

/// All but the one from the default exchange, which RabbitMQ makes itself.
fn declared(bindings: &[BindingId]) -> impl Iterator<Item = &BindingId> {
    bindings.iter().filter(|binding| !binding.source.is_empty())
}

/// The bindings to make, then those to remove.
fn binding_steps(input: &QueueInput<'_>, exists: bool, recreate: bool) -> Vec<Step> {
    let QueueInput { desired, memory, claimed, .. } = *input;
    let seen: BTreeSet<&BindingId> = declared(input.bindings).filter(|_| exists).collect();
    let there = if recreate { BTreeSet::new() } else { seen.clone() };
    let dropped: BTreeSet<&BindingId> = memory
        .applied_bindings
        .iter()
        .filter(|applied| !desired.bindings.contains(applied) && !claimed.contains(applied))
        .collect();
    let mut wanted: BTreeSet<&BindingId> = BTreeSet::new();
    if recreate {
        wanted.extend(seen.difference(&dropped));
    }
    let pending = memory.pending.iter().flatten();
    wanted.extend(pending.filter(|binding| !binding.source.is_empty() && !dropped.contains(binding)));
    wanted.extend(&desired.bindings);
    let bind = wanted.difference(&there).map(|binding| Step::Bind((*binding).clone()));
    let unbind = there.intersection(&dropped).map(|binding| Step::Unbind((*binding).clone()));
    bind.chain(unbind).collect()
}

/// Whether the queue must be recreated to be as wanted; refused where it may not be.
fn must_recreate(desired: &DesiredQueue, seen: &ObservedQueue) -> Result<bool, Rejection> {
    let name = &desired.name;
    if seen.exclusive {
        return Err(Rejection::new(
            Reason::Conflict,
            format!(
                "queue {name:?} is there and exclusive: it belongs to one connection and goes with it; close that connection or choose another name"
            ),
        ));
    }
    let immutable = |what: String| Err(Rejection::new(Reason::Immutable, what));
    if seen.auto_delete {
        return immutable(format!(
            "queue {name:?} was declared by somebody else with auto-delete, so it goes with its last consumer: delete it, or choose another name"
        ));
    }
    let wanted = desired.kind.as_str();
    if seen.kind != wanted {
        let is = if seen.kind.is_empty() { "not known" } else { &seen.kind };
        return immutable(format!(
            "queue {name:?}: its type is {is} and the spec wants {wanted}, which no queue can become: make another queue and move its consumers, or set type to what is there"
        ));
    }
    let differences = differences(desired, seen);
    if differences.is_empty() {
        return Ok(false);
    }
    if desired.on_immutable_change == OnImmutableChange::RecreateIfEmpty {
        return Ok(true);
    }
    immutable(format!(
        "queue {name:?}: {}; RabbitMQ fixes these when a queue is declared: set onImmutableChange to RecreateIfEmpty, make another queue, or set the spec to what is there",
        differences.join("; ")
    ))
}

/// Whether a queue of the old shape is the very one that was about to be made anew. `pending`: what was to be bound again;
/// `own`: what is declared; `bound`: what leads to the queue now. One that was deleted has lost the bindings that are not
/// declared.
#[must_use]
pub fn is_untouched(pending: &[BindingId], own: &BTreeSet<BindingId>, bound: &BTreeSet<BindingId>) -> bool {
    pending.iter().filter(|binding| !own.contains(*binding)).all(|binding| bound.contains(binding))
}

/// Whether another queue is in the place of the CR's own, which is gone with its messages.
#[must_use]
pub fn is_replaced(input: &QueueInput<'_>) -> bool {
    let memory = input.memory;
    let Some(seen) = input.observed.filter(|_| memory.owned && memory.pending.is_none()) else {
        return false;
    };
    let another = is_another(input.desired, seen, input.edited) && (memory.known || !input.edited);
    another && !expires(input)
}

/// Whether a queue that was the CR's is another one now: what differs is fixed when a queue is declared, and nobody edited
/// the spec since it was so. `edited`: somebody did, and may have asked for it; but for another type nobody can ask, and
/// exclusive or auto-delete queues Spillway neither declares nor takes over.
#[must_use]
pub fn is_another(desired: &DesiredQueue, seen: &ObservedQueue, edited: bool) -> bool {
    let another_type = !seen.kind.is_empty() && seen.kind != desired.kind.as_str();
    let another_kind = another_type || seen.exclusive || seen.auto_delete;
    another_kind || !edited && !differences(desired, seen).is_empty()
}

/// Whether a queue can be the one whose declaration was begun and not answered: it has what was asked for, and nothing
/// else. Another one of the name is somebody else's.
#[must_use]
pub fn may_be_ours(desired: &DesiredQueue, seen: &ObservedQueue) -> bool {
    !seen.exclusive
        && !seen.auto_delete
        && seen.kind == desired.kind.as_str()
        && differences(desired, seen).is_empty()
        && seen.arguments.len() == desired.declaration().len()
}

/// What differs that is fixed at declaration. Arguments that the spec does not name are left alone.
fn differences(desired: &DesiredQueue, seen: &ObservedQueue) -> Vec<String> {
    let mut differences = Vec::new();
    if desired.durable != seen.durable {
        differences.push(format!("durable is {} and the spec wants {}", seen.durable, desired.durable));
    }
    for (argument, wanted) in desired.declaration().iter().filter(|(argument, _)| *argument != "x-queue-type")
    {
        let is = seen.arguments.get(argument);
        if !is.is_some_and(|is| same_setting(argument, is, wanted)) {
            let is = is.map_or_else(|| "not set".to_owned(), bare);
            differences.push(format!("argument {argument} is {is} and the spec wants {}", bare(wanted)));
        }
    }
    let single = seen.arguments.get("x-single-active-consumer").and_then(serde_json::Value::as_bool);
    if single == Some(true) && !desired.single_active_consumer {
        differences.push("singleActiveConsumer is true and the spec wants false".into());
    }
    differences
}

/// Whether the queue may have gone because nobody used it.
fn expires(input: &QueueInput<'_>) -> bool {
    let (desired, key) = (input.desired, "expires");
    let subject = desired.subject();
    let others = Others::of(&subject, &input.policies.policies, None, &desired.settings);
    desired.settings.contains_key(key)
        || others.next.is_some_and(|policy| policy.definition.contains_key(key))
        || operator(&subject, &input.policies.operator, None)
            .is_some_and(|policy| policy.definition.contains_key(key))
}
