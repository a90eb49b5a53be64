//! What Exchanges, Queues and Bindings have in common: `look` says how fresh a look has to be, `ours` whose the object is;
//! `converge` plans and lets `steps` take the steps, until the broker shows them. `claimants` knows who declares a binding.

mod claimants;
mod look;
mod ours;
mod steps;

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt as _;

pub use self::claimants::{
    Claimants, binding_key, claimed_by_others, end_key, reference_key, wake_bindings, wake_heirs,
};
use self::look::fresher;
pub use self::look::{AGE_IN_A_CROWD, PolicyCache, again, fresh, policies};
use self::ours::move_here;
pub use self::ours::{Ours, claim_first, remembered, removal, removal_of_policy};
pub use self::steps::may_write;
use self::steps::{Round, give_up, or_tell, shows_at_once, take_steps, tell_loss};
use super::context::{Notes, UNAPPLIED_FOR};
use super::failure::Failure;
use super::gate::{self, Planned};
use super::guard;
use super::reconciler::{self, Outcome, Pass, TopologyKind};
use crate::api::broker::DriftPolicy;
use crate::api::conditions::{self, Reason, Verdict};
use crate::api::policy::ManagementPolicy;
use crate::brokers::rabbitmq::RabbitHandle;
use crate::topology::Rejection;
use crate::topology::gate::Gate;
use crate::topology::ownership::Holding;
use crate::topology::rabbitmq::settle::Again;
use crate::topology::rabbitmq::{Plan, Step};

/// How long a change may take to show.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);
/// How often to look for it.
const LOOK: Duration = Duration::from_millis(100);

/// What one look and one plan brought.
pub struct Look {
    /// The plan, or why there is none.
    pub plan: Result<Plan, Rejection>,
    /// Whether an object of the name is at the broker.
    pub exists: bool,
    /// Whether that is another one than the CR's own, which is gone.
    pub replaced: bool,
}

/// A kind of RabbitMQ's.
pub trait Rabbit: TopologyKind {
    /// Whether messages go with the object when it vanishes.
    const HOLDS_MESSAGES: bool;

    /// Whether a step makes the object.
    fn makes(step: &Step) -> bool;

    /// Whether the status says that the object was about to be made.
    fn was_begun(_status: &Self::Status) -> bool {
        false
    }

    /// The cluster that the status is about.
    fn cluster_id(status: &mut Self::Status) -> &mut Option<String>;

    /// Forgets what was made, or begun, on another cluster.
    fn forget(_status: &mut Self::Status) {}

    /// Looks at the broker, as of `since` or later, and plans. `ours`: whose the object is.
    fn look(
        pass: &Pass<'_, Self>,
        rabbit: &RabbitHandle,
        since: Instant,
        ours: Ours,
        status: &Self::Status,
    ) -> impl Future<Output = Result<Look, Failure>> + Send;

    /// What has to be there, or be written down, before the first step.
    fn prepare(
        pass: &Pass<'_, Self>,
        plan: &Plan,
        status: &mut Self::Status,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// It had vanished and was made again: whoever waits for it is woken.
    fn is_back(_pass: &Pass<'_, Self>) {}

    /// Nothing was made: takes back what [`Rabbit::prepare`] wrote down, or else what somebody makes
    /// later would pass for this CR's. `before`: the status as it was then. `refused`: the object was
    /// asked for, so what an earlier attempt wrote down is not so either.
    fn take_back(before: &Self::Status, status: &mut Self::Status, refused: bool);

    /// An error where what allowed a step does not hold any more. Asked right before it: those before
    /// it may have taken a while.
    fn still_may(pass: &Pass<'_, Self>, step: &Step) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The broker is in step: what the status remembers, and what may still be waited for.
    fn finish(
        pass: &Pass<'_, Self>,
        outcome: &mut Outcome,
        status: &mut Self::Status,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Looks, plans, takes the steps, and looks again until the broker shows them.
pub async fn converge<K: Rabbit>(pass: &Pass<'_, K>, status: &mut K::Status) -> Result<Outcome, Failure> {
    let rabbit = pass.link.rabbitmq()?.clone();
    let vhost = pass.object.vhost().unwrap_or_default().to_owned();
    let what = format!("{} {:?}", K::KIND.to_lowercase(), pass.object.called(pass.ctx));
    let begun = Instant::now();
    let (mut since, mut rounds, mut lost, mut acted) = (fresh(pass), 0, None, None::<Instant>);
    loop {
        inherit(pass, status);
        let ours = if rounds > 0 { Ours::Here } else { remembered(pass, status) };
        let look = K::look(pass, &rabbit, since, ours, status).await;
        let (plan, exists) = planned(pass, look, &what, status).await?;
        let known = ours.holds(exists);
        let uid = pass.object.uid().unwrap_or_default();
        pass.ctx.note(&uid, |notes| notes.saw_applied(!plan.unapplied));
        if let Some(later) = fresher(pass, &plan, exists, ours, (since, begun)) {
            since = later;
            continue;
        }
        let words = super::status::words(&plan.steps);
        let (shown, hash) = K::plan_mut(status);
        shown.clone_from(&words);
        *hash = (!plan.steps.is_empty()).then(|| plan.hash.clone());
        let drift = known && !pass.edited && !plan.expired && !plan.steps.is_empty() && rounds == 0;
        if K::HOLDS_MESSAGES && rounds == 0 {
            lost = plan.loss.map(|loss| steps::verdict(&what, loss, plan.gate == Gate::Go));
        }
        let planned = Planned {
            gate: plan.gate,
            what: &what,
            words: &words,
            hash: &plan.hash,
            exists,
            drift,
            data_lost: lost.clone(),
        };
        let unsaid = lost.as_ref().filter(|_| rounds == 0 && !pass.ctx.note(&uid, |notes| notes.loss_told));
        let held = gate::hold(pass, &planned);
        if held.is_err() && unsaid.is_some() && since < begun {
            since = begun;
            continue;
        }
        if let Some(outcome) = or_tell(pass, held, unsaid).await? {
            let said = conditions::is_true(K::conditions(status).0, conditions::DATA_LOST);
            if outcome.data_lost.is_some() && !said {
                tell_loss(pass, lost.as_ref());
            }
            return Ok(outcome);
        }
        if ours == Ours::Elsewhere && !plan.steps.is_empty() {
            move_here(pass, exists, status).await?;
        }
        let before = status.clone();
        if rounds == 0 || !plan.steps.is_empty() {
            let prepared = K::prepare(pass, &plan, status).await;
            if prepared.is_err() && unsaid.is_some() && since < begun {
                since = begun;
                continue;
            }
            or_tell(pass, prepared, unsaid).await?;
        }
        if !plan.steps.is_empty() {
            // Before the first step, nothing can show, however long the look took.
            if acted.is_some_and(|acted| acted.elapsed() > SHOWS_WITHIN) {
                let message =
                    format!("{what} was changed; the broker does not show it yet: {}", words.join("; "));
                return Err(Failure::waiting(Reason::Progressing, message));
            }
            if acted.is_some() {
                tokio::time::sleep(LOOK).await;
            }
            acted.get_or_insert_with(Instant::now);
            let round = Round { first: rounds == 0, ours, drift, early: since < begun };
            if !take_steps(pass, &vhost, &plan, &round, lost.as_ref(), &before, status).await? {
                since = Instant::now();
                continue;
            }
            if plan.steps.iter().any(|step| matches!(step, Step::ReapplyPolicy { .. })) {
                pass.ctx.note(&uid, Notes::put_again);
            }
            if drift {
                gate::reverted(pass, &words);
            }
            if plan.unclear.is_some() || plan.steps.iter().any(|step| !shows_at_once(step)) {
                (since, rounds) = (Instant::now(), rounds + 1);
                continue;
            }
        }
        if ours == Ours::Elsewhere && exists {
            *K::owned_since(status) = None;
        }
        let mut outcome = in_step(pass, &what, &plan, status);
        outcome.data_lost = lost;
        K::finish(pass, &mut outcome, status).await?;
        return Ok(outcome);
    }
}

/// The plan that a look brought, and whether the object exists. Where there is none, none is shown; and what was replaced is
/// told, for no step will tell it.
async fn planned<K: Rabbit>(
    pass: &Pass<'_, K>,
    look: Result<Look, Failure>,
    what: &str,
    status: &mut K::Status,
) -> Result<(Plan, bool), Failure> {
    let (failure, replaced) = match look {
        Ok(Look { plan: Ok(plan), exists, .. }) => return Ok((plan, exists)),
        Ok(Look { plan: Err(rejection), replaced, .. }) => (rejection.into(), replaced),
        Err(failure) => (failure, false),
    };
    if matches!(failure, Failure::Rejected(_)) {
        reconciler::no_plan::<K>(status);
    }
    if replaced {
        give_up(pass, what, status).await?;
    }
    Err(failure)
}

/// What a companion owned is this CR's that takes its place.
fn inherit<K: Rabbit>(pass: &Pass<'_, K>, status: &mut K::Status) {
    if pass.policies.management == ManagementPolicy::Manage
        && let Holding::This(cluster) = pass.inherited()
        && (cluster.is_empty() || *cluster == pass.link.cluster_id)
    {
        K::owned_since(status).get_or_insert_with(|| Timestamp::now().to_string());
    }
}

/// Nothing is left to be done: what the status remembers, and what is not in force all the same.
fn in_step<K: Rabbit>(pass: &Pass<'_, K>, what: &str, plan: &Plan, status: &mut K::Status) -> Outcome {
    reconciler::no_plan::<K>(status);
    K::owned_since(status).get_or_insert_with(|| Timestamp::now().to_string());
    *K::cluster_id(status) = Some(pass.link.cluster_id.clone());
    let mut outcome = Outcome::in_step(format!("{what} is as declared"));
    if let Some(obstacle) = plan.obstacles.first() {
        let message = plan.obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        outcome.ready = Verdict::new(conditions::READY, false, obstacle.reason, message.clone());
        outcome.in_sync = Verdict::new(conditions::IN_SYNC, false, obstacle.reason, message);
    }
    let uid = pass.object.uid().unwrap_or_default();
    let mends = guard::drift(pass.ctx, &pass.link) == DriftPolicy::Correct;
    if mends && plan.unapplied && pass.ctx.note(&uid, |notes| notes.again()) != Again::Done {
        outcome.again = Some(UNAPPLIED_FOR);
    }
    outcome
}
