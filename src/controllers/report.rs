//! How a pass ends for those who look on: conditions, an event, a line in the log. Decides nothing.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::context::{BrokerKey, Context};
use super::failure::Failure;
use super::guard;
use super::passes::Again;
use super::reconciler::{Outcome, TopologyKind, annotated, edited};
use crate::api::annotation;
use crate::api::conditions::{self, Reason, Verdict};

/// The conditions that a result stands for, and when to look again. `after`: the status that the work left, with
/// a loss in it that came to light before it failed.
pub fn report<K: TopologyKind>(
    ctx: &Context,
    object: &K,
    before: &K::Status,
    after: &K::Status,
    result: &Result<Outcome, Failure>,
    failures: u32,
) -> (Vec<Verdict>, Again) {
    let (previous, _) = K::conditions(before);
    let lost = |verdict: Option<Verdict>| {
        verdict.or_else(|| {
            let began = object.status().map(K::conditions).unwrap_or_default().0;
            let noted = conditions::data_lost(K::conditions(after).0)
                .filter(|noted| conditions::data_lost(began) != Some(*noted));
            let old = noted.or_else(|| conditions::data_lost(previous))?;
            let reason =
                if old.reason == Reason::Replaced.as_str() { Reason::Replaced } else { Reason::Vanished };
            Some(Verdict::new(conditions::DATA_LOST, true, reason, old.message.clone()))
        })
    };
    match result {
        Ok(outcome) => {
            let mut verdicts = vec![outcome.ready.clone(), outcome.in_sync.clone()];
            let acknowledged =
                annotated(object, annotation::ACKNOWLEDGE_DATA_LOSS) && outcome.data_lost.is_none();
            verdicts.extend(lost(outcome.data_lost.clone()).filter(|_| !acknowledged));
            (verdicts, outcome.again)
        }
        Err(failure) => {
            let broker = BrokerKey::of(object.broker_ref(), &object.namespace().unwrap_or_default());
            let (reason, message) = (failure.reason(), ctx.secrets.words(&broker, failure));
            let in_sync = Verdict {
                kind: conditions::IN_SYNC,
                status: if edited(object, Some(before)) { Some(false) } else { None },
                reason,
                message: message.clone(),
            };
            let mut verdicts = vec![Verdict::new(conditions::READY, false, reason, message.clone()), in_sync];
            if reason == Reason::Paused {
                verdicts.push(Verdict::new(conditions::PAUSED, true, reason, message));
            } else if failure.stalled() {
                verdicts.push(Verdict::new(conditions::STALLED, true, reason, message));
            } else if reason != Reason::Conflict {
                verdicts.push(Verdict::new(conditions::RECONCILING, true, reason, message));
            }
            verdicts.extend(lost(None));
            let again = match reason {
                // Ends with an event: the annotation goes.
                Reason::Paused => None,
                _ => Some(failure.retry_after(failures)),
            };
            (verdicts, again)
        }
    }
}

/// An event and a log line when `Ready` changed its reason.
pub fn announce<K: TopologyKind>(ctx: &Context, object: &K, previous: &[Condition], now: &[Condition]) {
    let Some(ready) = conditions::find(now, conditions::READY) else {
        return;
    };
    let old = conditions::find(previous, conditions::READY);
    if old.is_some_and(|old| old.reason == ready.reason && old.status == ready.status) {
        return;
    }
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    if ready.status == "True" {
        tracing::info!(kind = K::KIND, namespace, name, reason = ready.reason, "ready");
    } else if under_way(ready) {
        tracing::debug!(kind = K::KIND, namespace, name, detail = ready.message, "not ready yet");
    } else {
        tracing::warn!(
            kind = K::KIND,
            namespace,
            name,
            reason = ready.reason,
            detail = ready.message,
            "not ready"
        );
    }
    if old.is_some_and(is_owned_by_another) && is_owner(ready) {
        let words =
            format!("{} {:?} was handed over to this object", K::KIND.to_lowercase(), object.called(ctx));
        ctx.events.publish(object.object_ref(&()), false, "HandedOver", "Reconcile", &words);
    }
    let noteworthy = ready.status != "True" && !under_way(ready);
    if noteworthy || old.is_some_and(|old| old.status != ready.status && ready.status == "True") {
        let reference = object.object_ref(&());
        ctx.events.publish(reference, noteworthy, &ready.reason, "Reconcile", &ready.message);
    }
}

/// Whether the condition says that another object has what this one declares: other conflicts are no matter of ownership.
fn is_owned_by_another(ready: &Condition) -> bool {
    ready.reason == Reason::Conflict.as_str() && ready.message.contains(guard::OWNED_BY)
}

/// Whether a pass got as far as this is only for an owner: in step, or held up by what it found at the broker.
fn is_owner(ready: &Condition) -> bool {
    const HELD_UP: [Reason; 5] = [
        Reason::ApprovalNeeded,
        Reason::Immutable,
        Reason::PartitionsShrink,
        Reason::ReassignmentUnsupported,
        Reason::Contended,
    ];
    ready.status == "True" || HELD_UP.iter().any(|reason| ready.reason == reason.as_str())
}

/// Whether a state that is not ready is an ordinary step on the way there.
fn under_way(ready: &Condition) -> bool {
    [Reason::Progressing, Reason::CompanionNotReady].iter().any(|reason| ready.reason == reason.as_str())
}
