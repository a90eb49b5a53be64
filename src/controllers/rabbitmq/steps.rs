//! Taking the steps of a plan, and telling what came of them.

use std::time::Instant;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::super::failure::Failure;
use super::super::reconciler::{Pass, TopologyKind, last_written};
use super::super::{broker, status, sweep_rabbitmq};
use super::{Ours, Rabbit};
use crate::api::annotation;
use crate::api::conditions::{self, Reason, Verdict};
use crate::apply::rabbitmq as apply;
use crate::brokers::rabbitmq::{ErrorKind, RabbitError};
use crate::topology::Rejection;
use crate::topology::gate::Loss;
use crate::topology::rabbitmq::{Plan, Step};

/// An error where nothing may be written to this broker now: asked before every write. RabbitMQ's
/// objects have no id of their own, so the cluster's is the only proof of whose they are.
pub async fn may_write<K: TopologyKind>(pass: &Pass<'_, K>) -> Result<(), Failure> {
    broker::verify(pass.ctx, &pass.link).await?;
    Ok(pass.ctx.may_write()?)
}

/// How far steps came, also where one of them failed.
#[derive(Default)]
struct Done {
    /// How many steps were sent.
    sent: usize,
    /// The last of them was refused: it changed nothing for sure.
    refused: bool,
    /// What was to be declared was there already, and equal.
    was_there: bool,
    /// The object was made.
    made: bool,
}

impl Done {
    /// Whether the broker's answers prove that this process did not make the object. `Some(true)`: it
    /// asked for it, so an earlier attempt did not make it either.
    fn made_nothing<K: Rabbit>(&self, steps: &[Step]) -> Option<bool> {
        let place = steps.iter().position(K::makes)?;
        let perhaps = &steps[..self.sent.saturating_sub(usize::from(self.refused))];
        if perhaps.iter().any(|step| matches!(step, Step::DeleteQueue { .. })) {
            return None;
        }
        (perhaps.len() <= place || self.was_there).then_some(self.sent > place)
    }
}

/// Whether the broker said no. Without an answer, or with one about its own trouble, a request may
/// have been carried out.
const fn says_no(error: &RabbitError) -> bool {
    !matches!(
        error.kind,
        ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Protocol
    )
}

/// Takes the steps, in order; each is told once.
async fn carry_out<K: Rabbit>(
    pass: &Pass<'_, K>,
    vhost: &str,
    steps: &[Step],
    done: &mut Done,
) -> Result<(), Failure> {
    let rabbit = pass.link.rabbitmq()?;
    let client = rabbit.client.on(pass.lane);
    let uid = pass.object.uid().unwrap_or_default();
    for step in steps {
        K::still_may(pass, step).await?;
        may_write(pass).await?;
        let began = Instant::now();
        done.sent += 1;
        let taken = apply::take(&client, vhost, step).await;
        pass.ctx.metrics.broker_request(
            &pass.link.key.to_string(),
            step.request(),
            sweep_rabbitmq::outcome(&taken),
            began.elapsed(),
        );
        // Even a request that failed may have been carried out.
        pass.ctx.note(&uid, |notes| {
            notes.wrote = Some(Instant::now());
            notes.made = notes.made.filter(|_| !matches!(step, Step::DeleteQueue { .. }));
        });
        done.refused = taken.as_ref().is_err_and(says_no);
        let taken = match taken {
            Err(error) if error.kind == ErrorKind::Refused && matches!(step, Step::DeleteQueue { .. }) => {
                return Err(Rejection::new(Reason::NotRecreated, pass.said(error)).into());
            }
            taken => taken?,
        };
        if !taken {
            done.was_there = true;
            continue;
        }
        if K::makes(step) {
            done.made = true;
            pass.ctx.note(&uid, |notes| notes.made = Some(Instant::now()));
        }
        let words = conditions::cut(&step.to_string(), conditions::MAX_MESSAGE);
        tracing::info!(
            kind = K::KIND,
            namespace = pass.object.namespace(),
            name = pass.object.name_any(),
            vhost,
            step = words,
            "done"
        );
        pass.ctx.events.publish(pass.object.object_ref(&()), false, step.event(), "Apply", &words);
    }
    Ok(())
}

/// What one round of a pass is about.
pub(super) struct Round {
    /// It is the first one.
    pub first: bool,
    /// Whose the object is.
    pub ours: Ours,
    /// Its steps bring a difference back that nobody asked for.
    pub drift: bool,
    /// It looked before the pass began.
    pub early: bool,
}

/// Takes the steps of a plan, and puts down what the answers prove. False: somebody was faster than
/// the look, so look again, and plan from what is there.
pub(super) async fn take_steps<K: Rabbit>(
    pass: &Pass<'_, K>,
    vhost: &str,
    plan: &Plan,
    round: &Round,
    lost: Option<&Verdict>,
    before: &K::Status,
    status: &mut K::Status,
) -> Result<bool, Failure> {
    if let Some(verdict) = lost
        && round.first
    {
        write_loss(pass, verdict).await?;
    }
    let mut done = Done::default();
    let carried_out = carry_out(pass, vhost, &plan.steps, &mut done).await;
    if plan.loss.is_some() && round.first && done.made {
        let told =
            pass.ctx.note(&pass.object.uid().unwrap_or_default(), |n| std::mem::take(&mut n.loss_told));
        if !told && (round.drift || lost.is_some()) {
            tell_loss(pass, lost);
        }
    }
    if done.made && round.ours != Ours::No {
        K::is_back(pass);
    }
    let nothing = done.made_nothing::<K>(&plan.steps).filter(|_| round.ours != Ours::Here || !done.was_there);
    if let Some(refused) = nothing {
        K::take_back(before, status, refused);
    }
    let faster = match &carried_out {
        Err(Failure::Rabbitmq(error)) => error.kind == ErrorKind::Inequivalent && round.early,
        Err(_) => false,
        Ok(()) => done.was_there && round.ours != Ours::Here && round.first,
    };
    if faster {
        if round.ours == Ours::Elsewhere {
            *K::owned_since(status) = None;
        }
        if let Some(refused) = nothing {
            let written = last_written(pass.ctx, pass.object);
            let mut after = written.clone();
            K::take_back(before, &mut after, refused);
            status::write(pass.ctx, pass.object, &written, &after).await?;
        }
        return Ok(false);
    }
    carried_out.map(|()| true)
}

/// Whether the broker's answer to a step is proof enough. What a policy brings about is not said
/// in the answer to it.
pub(super) const fn shows_at_once(step: &Step) -> bool {
    matches!(step, Step::DeclareExchange { .. } | Step::DeclareQueue { .. } | Step::Bind(_))
}

/// What to say of a loss. `made_again`: the steps that are about to be taken make it again.
pub(super) fn verdict(what: &str, loss: Loss, made_again: bool) -> Verdict {
    let (reason, how) = match (loss, made_again) {
        (Loss::Vanished, true) => (Reason::Vanished, "vanished from the broker and was made again, empty"),
        (Loss::Vanished, false) => (Reason::Vanished, "vanished from the broker"),
        (Loss::Replaced, _) => (Reason::Replaced, "was deleted at the broker, and another one was declared"),
    };
    let message = format!(
        "{what} {how}; its messages are gone. Acknowledge with the annotation {}=true",
        annotation::ACKNOWLEDGE_DATA_LOSS
    );
    Verdict::new(conditions::DATA_LOST, true, reason, message)
}

/// Tells, once, that another object took the place of the CR's own, and puts down that it is not the CR's: it is never
/// deleted with it, and not missed when it goes.
pub(super) async fn give_up<K: Rabbit>(
    pass: &Pass<'_, K>,
    what: &str,
    status: &mut K::Status,
) -> Result<(), Failure> {
    let lost = K::HOLDS_MESSAGES.then(|| verdict(what, Loss::Replaced, false));
    let before = last_written(pass.ctx, pass.object);
    let mut after = before.clone();
    for status in [&mut after, status] {
        K::forget(status);
        *K::owned_since(status) = None;
    }
    note_loss(pass, lost.as_ref(), &before, after).await?;
    tell_loss(pass, lost.as_ref());
    Ok(())
}

/// Writes a loss down before what was lost is made again: afterwards nothing at the broker shows it
/// any more, whatever becomes of the steps that follow.
async fn write_loss<K: Rabbit>(pass: &Pass<'_, K>, lost: &Verdict) -> Result<(), Failure> {
    let before = last_written(pass.ctx, pass.object);
    note_loss(pass, Some(lost), &before, before.clone()).await
}

/// Writes a status with a loss in it.
async fn note_loss<K: Rabbit>(
    pass: &Pass<'_, K>,
    lost: Option<&Verdict>,
    before: &K::Status,
    mut after: K::Status,
) -> Result<(), Failure> {
    if let Some(lost) = lost {
        let (previous, observed) = K::conditions(before);
        let mut conditions = previous.to_vec();
        conditions.retain(|condition| condition.type_ != lost.kind);
        let generation = pass.object.meta().generation;
        conditions.extend(conditions::merge(
            previous,
            std::slice::from_ref(lost),
            generation,
            Timestamp::now(),
        ));
        K::set_conditions(&mut after, conditions, observed);
    }
    status::write(pass.ctx, pass.object, before, &after).await
}

/// The result of what comes before the first step. Where that fails, a loss is told all the same: it may be long until the
/// object is made again.
pub(super) async fn or_tell<K: Rabbit, T>(
    pass: &Pass<'_, K>,
    result: Result<T, Failure>,
    unsaid: Option<&Verdict>,
) -> Result<T, Failure> {
    if result.is_err()
        && let Some(verdict) = unsaid
    {
        write_loss(pass, verdict).await?;
        tell_loss(pass, Some(verdict));
        pass.ctx.note(&pass.object.uid().unwrap_or_default(), |notes| notes.loss_told = true);
    }
    result
}

/// Counts and tells that an object has vanished.
pub(super) fn tell_loss<K: Rabbit>(pass: &Pass<'_, K>, lost: Option<&Verdict>) {
    pass.ctx.metrics.vanished(K::KIND);
    if let Some(verdict) = lost {
        pass.ctx.events.publish(pass.object.object_ref(&()), true, "DataLost", "Observe", &verdict.message);
    }
}
