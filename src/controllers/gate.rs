//! Where a plan is shown and not carried out: the gate that the planner set, in conditions and words.

use kube::ResourceExt as _;

use super::failure::Failure;
use super::reconciler::{Outcome, Pass, TopologyKind};
use crate::api::annotation;
use crate::api::conditions::{self, Reason, Verdict};
use crate::topology::Rejection;
use crate::topology::gate::Gate;

/// What a gate needs to know of a plan.
pub struct Planned<'a> {
    /// The gate.
    pub gate: Gate,
    /// The object at the broker, in words: `topic "orders"`.
    pub what: &'a str,
    /// The steps, in words.
    pub words: &'a [String],
    /// The hash that a person would approve.
    pub hash: &'a str,
    /// Whether the object is at the broker.
    pub exists: bool,
    /// Whether the steps undo what somebody else did, and not what the author wants.
    pub drift: bool,
    /// The `DataLost` condition, if it holds.
    pub data_lost: Option<Verdict>,
}

/// At most this many characters of steps in a message.
const SHOWN: usize = 700;

/// Counts and tells a difference that was brought back, which [`hold`] allows so many times only.
pub fn reverted<K: TopologyKind>(pass: &Pass<'_, K>, words: &[String]) {
    let (now, uid) = (pass.ctx.now(), pass.object.uid().unwrap_or_default());
    pass.ctx.note(&uid, |notes| notes.reverts.record(now));
    pass.ctx.metrics.drift_corrected(K::KIND);
    let reference = pass.object.object_ref(&());
    pass.ctx.events.publish(reference, true, "DriftCorrected", "Apply", &words.join("; "));
}

/// The outcome where the gate is shut, and a failure where drift is corrected too often; none
/// where the steps may be taken.
pub fn hold<K: TopologyKind>(pass: &Pass<'_, K>, planned: &Planned<'_>) -> Result<Option<Outcome>, Failure> {
    let what = planned.what;
    let words = conditions::cut(&planned.words.join("; "), SHOWN);
    let differs = |ready: Option<(Reason, String)>, message: String| {
        let in_sync =
            Verdict::new(conditions::IN_SYNC, planned.words.is_empty(), Reason::Differs, message.clone());
        let ready = match ready {
            Some((reason, message)) => Verdict::new(conditions::READY, false, reason, message),
            None => Verdict::new(conditions::READY, true, Reason::InStep, message),
        };
        Some(Outcome { ready, in_sync, data_lost: planned.data_lost.clone(), again: None })
    };
    let outcome = match planned.gate {
        Gate::Go => {
            if planned.drift {
                let now = pass.ctx.now();
                let uid = pass.object.uid().unwrap_or_default();
                if !pass.ctx.note(&uid, |notes| notes.reverts.may_revert(now)) {
                    return Err(Rejection::new(
                        Reason::Contended,
                        format!("{what} was brought back 5 times in 10 minutes and differs again ({words}): something else writes it, too"),
                    )
                    .into());
                }
            }
            None
        }
        Gate::Observe if !planned.exists => differs(
            Some((Reason::NotFound, format!("{what} does not exist, and Observe does not make it"))),
            format!("{what} does not exist"),
        ),
        Gate::Observe if planned.words.is_empty() => {
            Some(Outcome::in_step(format!("{what} is as declared; it is only observed")))
        }
        Gate::Observe => {
            let message = format!("{what} differs and is only observed: {words}");
            differs(Some((Reason::Differs, message.clone())), message)
        }
        Gate::Report if !planned.exists => {
            let message = format!(
                "{what} is not at the broker any more, and driftPolicy: Report does not make it again"
            );
            differs(Some((Reason::NotFound, message.clone())), message)
        }
        Gate::Report => {
            differs(None, format!("drift, reported and left alone (driftPolicy: Report): {words}"))
        }
        Gate::Approval => {
            let message = format!(
                "{what} was there before and differs: {words}. To go ahead: kubectl annotate {}.spillway.dev {} {}={} --overwrite",
                K::KIND.to_lowercase(),
                pass.object.name_any(),
                annotation::APPROVE_PLAN,
                planned.hash
            );
            differs(Some((Reason::ApprovalNeeded, message.clone())), message)
        }
        Gate::Foreign => {
            let message = format!("{what} was there before, and adoption: Never leaves it alone");
            differs(Some((Reason::Conflict, message.clone())), message)
        }
    };
    Ok(outcome)
}
