//! Taking the steps of a plan, and what is written down before them.
//!
//! A note is for a crash, or an answer that never comes: it says what may have been done. An answer
//! that proves that nothing was done takes the note back, or else what somebody makes by hand later
//! would pass for Spillway's own.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube::{Resource as _, ResourceExt as _};

use super::{CREATE, settle, words};
use crate::api::conditions::Reason;
use crate::api::policy::{Adoption, DeletionPolicy, Policies};
use crate::api::{Topic, TopicStatus};
use crate::apply::kafka::{self as apply, Shape};
use crate::brokers::kafka::KafkaError;
use crate::controllers::failure::Failure;
use crate::controllers::reconciler::{Pass, TopologyKind as _, last_written};
use crate::controllers::{broker, gate, status};
use crate::topology::kafka::{ObservedTopic, Plan, Step};

/// How long a config that was acknowledged may take to show: the controller answers, and another broker may be asked next.
const SHOWS_WITHIN: Duration = Duration::from_secs(2);
/// How often to look for it.
pub const LOOK: Duration = Duration::from_millis(100);

/// Whether what differs may be what this process changed a moment ago, and no drift.
pub fn may_show(pass: &Pass<'_, Topic>) -> bool {
    let configured = pass.ctx.note(&pass.object.uid().unwrap_or_default(), |notes| notes.configured);
    configured.is_some_and(|then| then.elapsed() < SHOWS_WITHIN)
}

/// Notes that a config is about to change, or just did.
fn configures(pass: &Pass<'_, Topic>, step: &Step) {
    if matches!(step, Step::Configure { .. }) {
        pass.ctx
            .note(&pass.object.uid().unwrap_or_default(), |notes| notes.configured = Some(Instant::now()));
    }
}

/// Whether the steps undo what somebody else did, and not what the author wants.
pub fn drift(pass: &Pass<'_, Topic>, plan: &Plan, status: &TopicStatus) -> bool {
    status.topic_id.is_some() && !pass.edited && !plan.steps.is_empty()
}

/// Whether something has to be written down before the steps of a plan.
pub fn notes(pass: &Pass<'_, Topic>, plan: &Plan) -> bool {
    let before = last_written(pass.ctx, pass.object);
    noted(&before, plan, pass.policies, &pass.link.cluster_id) != before
}

/// Asks the broker whether it would take the steps, before anything is written anywhere.
pub async fn rehearse(
    pass: &Pass<'_, Topic>,
    name: &str,
    steps: &[Step],
    status: &mut TopicStatus,
) -> Result<(), Failure> {
    let rehearsed = apply::rehearse(pass.link.kafka()?, name, steps, pass.lane).await;
    if let Err(error) = &rehearsed {
        let before = status.clone();
        take_back(&before, status, steps.first(), error);
    }
    rehearsed.map_err(Failure::from)
}

/// Takes the steps, and reads back what came of them.
pub async fn carry_out(
    pass: &Pass<'_, Topic>,
    name: &str,
    plan: &Plan,
    before: Option<&ObservedTopic>,
    status: &mut TopicStatus,
) -> Result<Shape, Failure> {
    let drifted = drift(pass, plan, status);
    if !plan.steps.is_empty() {
        broker::verify(pass.ctx, &pass.link).await?;
    }
    let unnoted = status.clone();
    remember(pass, plan, status).await?;
    if !plan.steps.is_empty() {
        // The note may have waited for its turn.
        broker::verify(pass.ctx, &pass.link).await.inspect_err(|_| restore(&unnoted, status))?;
    }
    for step in &plan.steps {
        pass.ctx.may_write()?;
        // Even a request that failed may have been carried out.
        configures(pass, step);
        let taken = apply::take(pass.link.kafka()?, name, step, pass.lane).await;
        taken.inspect_err(|error| take_back(&unnoted, status, Some(step), error))?;
        tracing::info!(
            kind = Topic::KIND, namespace = pass.object.namespace(), name = pass.object.name_any(), topic = name,
            step = %step, "done"
        );
        pass.ctx.events.publish(pass.object.object_ref(&()), false, step.event(), "Apply", &step.to_string());
    }
    if drifted {
        gate::reverted(pass, &words(plan));
    }
    if plan.loss.is_some() {
        // Since when it owns a topic does not tell when this one was made.
        pass.ctx.note(&pass.object.uid().unwrap_or_default(), |notes| notes.wrote = Some(Instant::now()));
    }
    let settled = apply::settled(pass.link.kafka()?, name, &plan.steps, before, pass.lane).await?;
    plan.steps.iter().for_each(|step| configures(pass, step));
    settled.ok_or_else(|| {
        let message = format!("topic {name:?} was changed; the broker does not show it yet");
        Failure::waiting(Reason::Progressing, message)
    })
}

/// Writes down what a crash in between would make ambiguous.
async fn remember(pass: &Pass<'_, Topic>, plan: &Plan, status: &mut TopicStatus) -> Result<(), Failure> {
    let before = last_written(pass.ctx, pass.object);
    let mut after = noted(&before, plan, pass.policies, &pass.link.cluster_id);
    if after != before {
        // What was inherited from a companion may not be told by that one any more.
        after.topic_id.clone_from(&status.topic_id);
    }
    status::write(pass.ctx, pass.object, &before, &after).await?;
    restore(&after, status);
    Ok(())
}

/// A status with what has to be in it before the steps of a plan: keys that were never Spillway's and
/// are about to be set, and a creation whose topic could later look like somebody else's.
///
/// That of an ordinary topic does not: it is identical, and adopted silently. Nor does it where the
/// topic is made again: the status still has the id of the one that was lost.
fn noted(before: &TopicStatus, plan: &Plan, policies: Policies, cluster_id: &str) -> TopicStatus {
    let mut after = before.clone();
    for step in &plan.steps {
        match step {
            Step::Configure { .. } => {
                let known: BTreeSet<String> = before.applied_config_keys.iter().cloned().collect();
                after.applied_config_keys = known.union(&plan.applied_keys).cloned().collect();
            }
            Step::Create { .. } => {
                let ambiguous =
                    policies.adoption != Adoption::IfIdentical || policies.deletion != DeletionPolicy::Retain;
                if ambiguous {
                    after.pending = Some(CREATE.into());
                    after.pending_cluster_id = Some(cluster_id.into());
                }
            }
            Step::Grow { .. } => {}
        }
    }
    after
}

fn restore(from: &TopicStatus, status: &mut TopicStatus) {
    status.pending.clone_from(&from.pending);
    status.pending_cluster_id.clone_from(&from.pending_cluster_id);
    status.applied_config_keys.clone_from(&from.applied_config_keys);
}

/// Takes back of a note what an answer disproves. `before`: the status without the note.
fn take_back(before: &TopicStatus, status: &mut TopicStatus, step: Option<&Step>, error: &KafkaError) {
    match step {
        // An earlier attempt, of which nothing was heard, did not make it either.
        Some(Step::Create { .. }) if error.tells_absence() => settle(status),
        Some(Step::Create { .. }) if error.changed_nothing() => {
            status.pending.clone_from(&before.pending);
            status.pending_cluster_id.clone_from(&before.pending_cluster_id);
        }
        // All keys of one topic are changed, or none.
        Some(Step::Configure { .. }) if error.changed_nothing() => {
            status.applied_config_keys.clone_from(&before.applied_config_keys);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
