//! Queues: what the generic pass needs to know of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::cache::Cache;
use super::companions::{self, Parent, Wanted};
use super::context::{BrokerKey, Context};
use super::failure::Failure;
use super::rabbitmq::{self, Look, Ours, Rabbit};
use super::reconciler::{Outcome, Pass, TopologyKind, last_written};
use super::wake::Wake;
use super::{guard, references, status};
use crate::api::binding::AppliedBinding;
use crate::api::conditions::{self, Reason, Verdict};
use crate::api::policy::{Adoption, DeletionPolicy, PolicyDefaults};
use crate::api::queue::{QueuePending, QueueType};
use crate::api::{BrokerRef, Queue, QueueStatus, annotation};
use crate::apply::rabbitmq as apply;
use crate::brokers::rabbitmq::{ErrorKind, RabbitHandle, Target as At};
use crate::topology::Rejection;
use crate::topology::access::Deletes;
use crate::topology::deletion::{self, Verdict as Removal};
use crate::topology::rabbitmq::{
    self as planner, BindingId, DesiredQueue, Plan, QueueInput, QueueMemory, Step, Target,
    companions as wanted, companions::Role, deletion::Renewed,
};

/// How soon to look at a companion that is not ready; the pause doubles, up to 32 s.
const COMPANION_LOOK: Duration = Duration::from_millis(500);
/// How soon to plan again where the bindings of a queue changed: later than any look that may have missed it is good.
const BINDINGS_LOOK: Duration = rabbitmq::AGE_IN_A_CROWD.saturating_add(Duration::from_millis(500));

impl TopologyKind for Queue {
    const KIND: &'static str = "Queue";
    const SECOND_LOOK: f64 = planner::deletion::SECOND_LOOK_RABBIT;
    type Status = QueueStatus;

    fn broker_ref(&self) -> &BrokerRef {
        &self.spec.broker_ref
    }

    fn broker_name(&self) -> String {
        self.queue_name().to_owned()
    }

    fn vhost(&self) -> Option<&str> {
        Some(&self.spec.vhost)
    }

    fn refers_to(&self, ctx: &Context) -> Vec<String> {
        let namespace = self.namespace().unwrap_or_default();
        let broker = BrokerKey::of(&self.spec.broker_ref, &namespace);
        let from = references::From { namespace: &namespace, broker: &broker, vhost: &self.spec.vhost };
        // One that cannot be resolved is not bound either.
        let bindings = self.spec.bindings.iter();
        let sources = bindings
            .filter_map(|b| references::source(ctx, &from, b.source.as_deref(), b.source_ref.as_ref()).ok());
        planner::references::of_queue(self, &sources.collect::<Vec<_>>())
    }

    fn deletes(&self) -> Vec<Deletes> {
        planner::deletes::of_queue(self)
    }

    fn identity(&self) -> String {
        rabbitmq::end_key(&self.spec.vhost, 'q', self.queue_name())
    }

    fn keys(&self) -> Vec<String> {
        let vhost = &self.spec.vhost;
        let inline = self.spec.bindings.iter().filter_map(|binding| {
            let source = binding.source.clone()?;
            let target = Target::Queue(self.queue_name().to_owned());
            let (routing_key, arguments) = (binding.routing_key.clone(), binding.arguments.clone());
            Some(BindingId { source, target, routing_key, arguments })
        });
        let mut keys = vec![self.identity()];
        keys.extend(inline.map(|binding| rabbitmq::binding_key(vhost, &binding)));
        let applied = self.status.iter().flat_map(|status| &status.applied_bindings);
        keys.extend(applied.map(|binding| rabbitmq::binding_key(vhost, &BindingId::from(binding))));
        // Found by what it waits for.
        let namespace = self.namespace().unwrap_or_default();
        keys.extend(self.spec.bindings.iter().filter_map(|binding| {
            let named = binding.source.as_ref().map(|source| rabbitmq::end_key(vhost, 'x', source));
            let reference = binding.source_ref.as_ref();
            named.or(reference.map(|to| rabbitmq::reference_key('x', &namespace, &to.name)))
        }));
        keys.sort();
        keys.dedup();
        keys
    }

    fn policies(&self) -> PolicyDefaults {
        self.spec.policies()
    }

    fn status(&self) -> Option<&QueueStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &QueueStatus) -> (&[Condition], Option<i64>) {
        (&status.conditions, status.observed_generation)
    }

    fn set_conditions(status: &mut QueueStatus, conditions: Vec<Condition>, generation: Option<i64>) {
        status.conditions = conditions;
        status.observed_generation = generation;
    }

    fn plan_mut(status: &mut QueueStatus) -> (&mut Vec<String>, &mut Option<String>) {
        (&mut status.plan, &mut status.plan_hash)
    }

    fn owned_since(status: &mut QueueStatus) -> &mut Option<String> {
        &mut status.owned_since
    }

    fn owned(status: &QueueStatus) -> Option<String> {
        status.owned_since.as_ref().map(|_| status.cluster_id.clone().unwrap_or_default())
    }

    fn cache(ctx: &Context) -> &Cache<Self> {
        &ctx.queues
    }

    fn wake(ctx: &Context) -> &Wake<Self> {
        &ctx.wake_queues
    }

    fn turned(ctx: &Context, object: &Self) {
        rabbitmq::wake_bindings(ctx, object, 'q');
    }

    fn wrote(ctx: &Context, object: &Self, before: &QueueStatus, after: &QueueStatus) {
        let given_up = before.applied_bindings.iter().filter(|was| !after.applied_bindings.contains(was));
        rabbitmq::wake_heirs(ctx, object, given_up.map(BindingId::from));
    }

    async fn work(pass: &Pass<'_, Self>, status: &mut QueueStatus) -> Result<Outcome, Failure> {
        rabbitmq::converge(pass, status).await
    }

    async fn remove(pass: &Pass<'_, Self>) -> Result<Removal, Failure> {
        let name = pass.object.queue_name();
        let vhost = pass.object.spec.vhost.as_str();
        if !planner::value::is_addressable(name) {
            return Ok(deletion::Verdict::Release("it can never have been made: no address can name it"));
        }
        let rabbit = pass.link.rabbitmq()?;
        let client = rabbit.client.on(pass.lane);
        // An AMQP address that does not answer is in the way only of what has to be weighed.
        let observed = if pass.policies.deletion == DeletionPolicy::DeleteIfEmpty {
            apply::weigh(rabbit, vhost, name, pass.lane).await?
        } else {
            client.queue(vhost, name).await?.as_ref().map(apply::seen_queue).transpose()?
        };
        let mut input = rabbitmq::removal(pass);
        if observed.as_ref().is_some_and(|seen| is_anothers(pass, seen)) {
            input.owned = planner::deletion::Owned::Never;
        }
        let kind = pass.object.spec.kind;
        let renewed = apply::renewed(rabbit);
        let verdict =
            planner::deletion::decide_queue(&input, kind, observed.as_ref(), empty_for(pass), renewed);
        remember_empty(pass, matches!(verdict, Removal::LookAgain), renewed);
        if verdict == deletion::Verdict::Delete {
            rabbitmq::may_write(pass).await?;
            // RabbitMQ knows the condition of classic queues only.
            let only_empty =
                kind == QueueType::Classic && pass.policies.deletion == DeletionPolicy::DeleteIfEmpty;
            match client.delete_queue(vhost, name, only_empty, false).await {
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::Refused && only_empty => {
                    return Ok(Removal::Keep(pass.said(error)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // After the queue, and also where a crash came between the two.
        if matches!(verdict, Removal::Delete | Removal::Release(_))
            && (observed.is_none() || verdict == Removal::Delete)
        {
            let policies = rabbitmq::policies(pass, pass.link.rabbitmq()?, vhost, Instant::now()).await?;
            let input = rabbitmq::removal_of_policy(pass, input);
            if let Some(policy) = planner::deletion::policy_goes(&input, name, &policies) {
                rabbitmq::may_write(pass).await?;
                client.delete_policy(vhost, &policy).await?;
            }
        }
        Ok(verdict)
    }
}

/// Whether what is there under the queue's name is somebody else's, whatever the status remembers: it cannot be what came of a
/// declaration that was never answered, or it took the place of what was in step.
fn is_anothers(pass: &Pass<'_, Queue>, seen: &planner::ObservedQueue) -> bool {
    let status = pass.object.status.as_ref();
    let pending = status.is_some_and(|status| status.pending.is_some());
    let only_begun = pending && status.is_some_and(|status| status.owned_since.is_none());
    match desired(pass) {
        Ok(desired) if only_begun => !planner::queue::may_be_ours(&desired, seen),
        Ok(desired) => !pending && planner::queue::is_another(&desired, seen, pass.edited),
        Err(_) => only_begun,
    }
}

/// For how long the queue has been seen empty.
fn empty_for(pass: &Pass<'_, Queue>) -> Option<f64> {
    let uid = pass.object.uid().unwrap_or_default();
    pass.ctx.note(&uid, |notes| notes.empty_for())
}

fn remember_empty(pass: &Pass<'_, Queue>, empty: bool, renewed: Renewed) {
    let uid = pass.object.uid().unwrap_or_default();
    pass.ctx.note(&uid, |notes| notes.saw_within(empty, renewed.within()));
}

impl Rabbit for Queue {
    const HOLDS_MESSAGES: bool = true;

    fn makes(step: &Step) -> bool {
        matches!(step, Step::DeclareQueue { .. })
    }

    fn was_begun(status: &QueueStatus) -> bool {
        status.pending.is_some()
    }

    fn cluster_id(status: &mut QueueStatus) -> &mut Option<String> {
        &mut status.cluster_id
    }

    fn forget(status: &mut QueueStatus) {
        status.pending = None;
        status.applied_bindings.clear();
    }

    async fn look(
        pass: &Pass<'_, Self>,
        rabbit: &RabbitHandle,
        since: Instant,
        ours: Ours,
        status: &QueueStatus,
    ) -> Result<Look, Failure> {
        let desired = desired(pass)?;
        let vhost = &pass.object.spec.vhost;
        let seen = rabbit.observer.queue(vhost, &desired.name, since, pass.lane).await?;
        let observed = seen.queue.as_ref().map(apply::seen_queue).transpose()?;
        let bindings: Vec<BindingId> = seen.bindings.iter().map(apply::seen_binding).collect();
        let policies = rabbitmq::policies(pass, rabbit, vhost, since).await?;
        let memory = remembered(status, ours.holds(observed.is_some()));
        let dropped = memory.applied_bindings.iter().filter(|applied| !desired.bindings.contains(applied));
        let claimed = claimed(pass, dropped);
        let input = QueueInput {
            desired: &desired,
            observed: observed.as_ref(),
            bindings: &bindings,
            policies: &policies,
            memory: &memory,
            claimed: &claimed,
            management: pass.policies.management,
            adoption: pass.policies.adoption,
            drift: guard::drift(pass.ctx, &pass.link),
            edited: pass.edited,
            approved: pass.object.annotations().get(annotation::APPROVE_PLAN).map(String::as_str),
            again: rabbitmq::again(pass),
        };
        let replaced = planner::queue::is_replaced(&input);
        Ok(Look { plan: planner::plan_queue(&input), exists: observed.is_some(), replaced })
    }

    async fn prepare(pass: &Pass<'_, Self>, plan: &Plan, status: &mut QueueStatus) -> Result<(), Failure> {
        // Where messages go when they fail comes before where they come from.
        let companions = wanted::of(pass.object)?;
        let all: Vec<_> = companions
            .all
            .iter()
            .map(|c| Wanted { role: c.role, object: Queue::new(&c.metadata_name, c.spec.clone()) })
            .collect();
        let missing = companions::keep(pass, &all).await?;
        pass.ctx.note(&pass.object.uid().unwrap_or_default(), |notes| notes.missing = missing);
        status.dead_letter.clone_from(&companions.dead_letter);
        status.retries.clone_from(&companions.retries);
        let sends =
            |step: &Step| matches!(step, Step::PutPolicy { .. } | Step::DeclareQueue { .. } | Step::Bind(_));
        if plan.steps.iter().any(sends) {
            wait_for_dead_letter_queue(pass, &all).await?;
            wait_for_retry_queues(pass, &all).await?;
        }
        let recreates = plan.steps.iter().any(|step| matches!(step, Step::DeleteQueue { .. }));
        if recreates {
            may_recreate(pass).await.inspect_err(|refused| forget_untouched(refused, pass, plan, status))?;
            sources_outlive(pass, plan).await?;
        }
        remember(pass, plan, recreates, status).await
    }

    async fn still_may(pass: &Pass<'_, Self>, step: &Step) -> Result<(), Failure> {
        let Step::DeleteQueue { name, bindings, .. } = step else { return Ok(()) };
        let (rabbit, vhost) = (pass.link.rabbitmq()?, &pass.object.spec.vhost);
        let seen = apply::weigh(rabbit, vhost, name, pass.lane).await?;
        if let Some(why) = seen.as_ref().and_then(planner::deletion::in_use) {
            return Err(Rejection::new(Reason::NotRecreated, why).into());
        }
        // What was bound since would go with the queue and not be made again.
        let target = At::Queue(name.clone());
        let now = rabbit.client.on(pass.lane).bindings_to(vhost, &target).await?;
        if now.iter().map(apply::seen_binding).collect::<BTreeSet<_>>() != *bindings {
            return Err(Failure::Soon {
                reason: Reason::Progressing,
                message: "the queue's bindings changed while it was about to be made anew; looking again"
                    .into(),
                after: BINDINGS_LOOK,
            });
        }
        Ok(())
    }

    fn is_back(pass: &Pass<'_, Self>) {
        rabbitmq::wake_bindings(pass.ctx, pass.object, 'q');
    }

    fn take_back(before: &QueueStatus, status: &mut QueueStatus, refused: bool) {
        let begun = |pending: &QueuePending| before.owned_since.is_none() && pending.recreate.is_empty();
        status.pending = before.pending.clone().filter(|pending| !(refused && begun(pending)));
        status.applied_bindings.clone_from(&before.applied_bindings);
    }

    async fn finish(
        pass: &Pass<'_, Self>,
        outcome: &mut Outcome,
        status: &mut QueueStatus,
    ) -> Result<(), Failure> {
        status.pending = None;
        status.applied_bindings = desired(pass)?.bindings.iter().map(AppliedBinding::from).collect();
        let uid = pass.object.uid().unwrap_or_default();
        let missing = pass.ctx.note(&uid, |notes| std::mem::take(&mut notes.missing));
        if missing.is_empty() {
            pass.ctx.note(&uid, |notes| notes.looks = 0);
        } else if outcome.ready.status == Some(true) {
            let message = format!("waiting for {}", missing.join(", "));
            outcome.ready = Verdict::new(conditions::READY, false, Reason::CompanionNotReady, message);
            outcome.again = Some(next_look(pass));
        }
        Ok(())
    }
}

/// When to look again at a companion that is not ready.
fn next_look(pass: &Pass<'_, Queue>) -> Duration {
    let looks = pass.ctx.note(&pass.object.uid().unwrap_or_default(), |notes| {
        notes.looks = notes.looks.saturating_add(1);
        notes.looks
    });
    COMPANION_LOOK * (1 << looks.min(6))
}

/// A queue may send its dead letters somewhere once that is there: until then RabbitMQ drops them.
/// Of queues that wait for each other in a circle, one goes first.
async fn wait_for_dead_letter_queue(
    pass: &Pass<'_, Queue>,
    companions: &[Wanted<Queue>],
) -> Result<(), Failure> {
    let Some(wanted) = companions.iter().find(|companion| companion.role == Role::DeadLetter) else {
        return Ok(());
    };
    let found = companions::declared(pass, &wanted.object);
    let name = found.first().map_or_else(|| wanted.object.name_any(), |found| found.name_any());
    if let Some(found) = found.first() {
        if is_there(pass, found).await? {
            return Ok(());
        }
        let next =
            |queue: &str| wanted::next_dead_letter_queue(companions::declared_as(pass, queue)?.as_ref());
        let first = wanted::goes_first(pass.object.queue_name(), next);
        if first && !shown(pass, pass.object.queue_name()).await? {
            return Ok(());
        }
    }
    Err(waits_for(pass, &name, Role::DeadLetter))
}

/// Who takes from a queue may send to its retry queues at once. One that a person declared may wait for this very queue.
async fn wait_for_retry_queues(pass: &Pass<'_, Queue>, companions: &[Wanted<Queue>]) -> Result<(), Failure> {
    for wanted in companions.iter().filter(|companion| companion.role == Role::Retry) {
        let found = companions::declared(pass, &wanted.object);
        let there = match found.first() {
            Some(found) if companions::is_companion(found.as_ref()) => is_there(pass, found).await?,
            Some(_) => true,
            None => false,
        };
        if !there {
            return Err(waits_for(pass, &wanted.object.name_any(), Role::Retry));
        }
    }
    Ok(())
}

/// Whether a companion is at the broker.
async fn is_there(pass: &Pass<'_, Queue>, companion: &Queue) -> Result<bool, Failure> {
    let status = companion.status.clone().unwrap_or_default();
    let ready = conditions::find(&status.conditions, conditions::READY);
    // One that is only observed owns nothing; that it differs says that it is there.
    let declared = status.owned_since.is_some()
        || ready.is_some_and(|ready| ready.status == "True" || ready.reason == Reason::Differs.as_str());
    let known = pass.object.status.as_ref().is_some_and(|status| status.owned_since.is_some());
    // What is made anew may have vanished together with its companions.
    Ok(declared && (!known || shown(pass, companion.queue_name()).await?))
}

/// Whether the broker shows a queue of this name.
async fn shown(pass: &Pass<'_, Queue>, name: &str) -> Result<bool, Failure> {
    let since = rabbitmq::fresh(pass);
    let seen = pass.link.rabbitmq()?.observer.queue(&pass.object.spec.vhost, name, since, pass.lane).await?;
    Ok(seen.queue.is_some())
}

fn waits_for(pass: &Pass<'_, Queue>, name: &str, role: Role) -> Failure {
    let takes = match role {
        Role::DeadLetter => "the dead letters",
        Role::Retry => "what is to be tried again",
    };
    Failure::Soon {
        reason: Reason::CompanionNotReady,
        message: format!("waiting for Queue {name}, which takes {takes}, to be at the broker"),
        after: next_look(pass),
    }
}

/// What the CR asks for, its references resolved.
fn desired(pass: &Pass<'_, Queue>) -> Result<DesiredQueue, Failure> {
    let namespace = pass.object.namespace().unwrap_or_default();
    let from =
        references::From { namespace: &namespace, broker: &pass.link.key, vhost: &pass.object.spec.vhost };
    let sources = pass
        .object
        .spec
        .bindings
        .iter()
        .map(|b| references::source(pass.ctx, &from, b.source.as_deref(), b.source_ref.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(DesiredQueue::of(pass.object, &sources)?)
}

/// What the status remembers.
#[must_use]
pub fn remembered(status: &QueueStatus, owned: bool) -> QueueMemory {
    QueueMemory {
        owned,
        known: status.cluster_id.is_some(),
        applied_bindings: status.applied_bindings.iter().map(BindingId::from).collect(),
        pending: status
            .pending
            .as_ref()
            .map(|pending| pending.recreate.iter().map(BindingId::from).collect()),
    }
}

/// Those of the bindings that other CRs declare, too.
fn claimed<'a>(pass: &Pass<'_, Queue>, bindings: impl Iterator<Item = &'a BindingId>) -> BTreeSet<BindingId> {
    bindings.filter(|binding| rabbitmq::claimed_by_others(pass, binding)).cloned().collect()
}

/// Whether a Queue has this binding inline, its references resolved.
pub fn refers_to(ctx: &Context, queue: &Queue, id: &BindingId) -> bool {
    let namespace = queue.namespace().unwrap_or_default();
    let broker = BrokerKey::of(&queue.spec.broker_ref, &namespace);
    let from = references::From { namespace: &namespace, broker: &broker, vhost: &queue.spec.vhost };
    let mut inline = queue.spec.bindings.iter().filter(|inline| {
        inline.source_ref.is_some()
            && inline.routing_key == id.routing_key
            && inline.arguments == id.arguments
    });
    inline.any(|inline| {
        references::source(ctx, &from, inline.source.as_deref(), inline.source_ref.as_ref())
            .is_ok_and(|source| source == id.source)
    })
}

/// Proof that the queue may be deleted to be declared anew: empty and unused, seen twice.
async fn may_recreate(pass: &Pass<'_, Queue>) -> Result<(), Failure> {
    let rabbit = pass.link.rabbitmq()?;
    let observed = apply::weigh(rabbit, &pass.object.spec.vhost, pass.object.queue_name(), pass.lane).await?;
    let Some(observed) = observed else { return Ok(()) };
    let renewed = apply::renewed(rabbit);
    let verdict = planner::deletion::may_recreate(&observed, empty_for(pass), renewed);
    remember_empty(pass, matches!(verdict, Removal::LookAgain), renewed);
    match verdict {
        Removal::Delete => Ok(()),
        Removal::LookAgain => Err(Failure::Soon {
            reason: Reason::Progressing,
            message: "the queue looks empty and unused; looking once more before it is made anew".into(),
            after: Duration::from_secs_f64(Queue::SECOND_LOOK),
        }),
        // The broker's statistics of a queue come some seconds after it.
        Removal::Keep(why) if observed.consumers.is_none() || observed.messages.is_none() => {
            Err(Failure::Soon {
                reason: Reason::NotRecreated,
                message: why,
                after: Duration::from_secs_f64(Queue::SECOND_LOOK),
            })
        }
        Removal::Keep(why) => Err(Rejection::new(Reason::NotRecreated, why).into()),
        Removal::Release(why) => Err(Rejection::new(Reason::NotRecreated, why).into()),
    }
}

/// A queue that was about to be made anew before a crash, was not touched, and now may not be: what becomes of it from here
/// on is not Spillway's doing. Bindings that are not declared and that it would have lost tell that it is that queue.
fn forget_untouched(refused: &Failure, pass: &Pass<'_, Queue>, plan: &Plan, status: &mut QueueStatus) {
    let Some(pending) = &status.pending else { return };
    let bound = plan.steps.iter().find_map(|step| match step {
        Step::DeleteQueue { bindings, .. } => Some(bindings),
        _ => None,
    });
    let own = desired(pass).map(|desired| desired.bindings).unwrap_or_default();
    let lose: Vec<_> = pending.recreate.iter().map(BindingId::from).collect();
    let untouched = bound.is_some_and(|bound| planner::queue::is_untouched(&lose, &own, bound));
    if untouched && matches!(refused, Failure::Rejected(_)) {
        status.pending = None;
    }
}

/// An error where a source of the queue's bindings may go with the queue: then they could not be made again.
async fn sources_outlive(pass: &Pass<'_, Queue>, plan: &Plan) -> Result<(), Failure> {
    let rabbit = pass.link.rabbitmq()?;
    let sources: BTreeSet<&str> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Bind(binding) => Some(binding.source.as_str()),
            _ => None,
        })
        .collect();
    for source in sources {
        let seen =
            rabbit.observer.exchange(&pass.object.spec.vhost, source, Instant::now(), pass.lane).await?;
        if seen.is_some_and(|exchange| exchange.auto_delete) {
            let message = format!(
                "exchange {source:?} is auto-delete and may go with the queue, and its binding with it, so the queue is not recreated"
            );
            return Err(Rejection::new(Reason::NotRecreated, message).into());
        }
    }
    Ok(())
}

/// Writes down, before the first step, what a crash in between would lose: the bindings of a queue
/// that is made anew, and new bindings of its own.
async fn remember(
    pass: &Pass<'_, Queue>,
    plan: &Plan,
    recreates: bool,
    status: &mut QueueStatus,
) -> Result<(), Failure> {
    let before = last_written(pass.ctx, pass.object);
    let mut after = before.clone();
    let bound = plan.steps.iter().filter_map(|step| match step {
        Step::Bind(binding) => Some(AppliedBinding::from(binding)),
        _ => None,
    });
    let declares = plan.steps.iter().any(|step| matches!(step, Step::DeclareQueue { .. }));
    // Between its declaration and the end, a queue that is not written down would look like
    // somebody else's.
    let ambiguous = bound.clone().next().is_some()
        || pass.policies.adoption == Adoption::Never
        || pass.policies.deletion != DeletionPolicy::Retain;
    if recreates {
        after.pending = Some(QueuePending { recreate: bound.clone().collect() });
    } else if declares && ambiguous && before.pending.is_none() && before.owned_since.is_none() {
        after.pending = Some(QueuePending::default());
    }
    let own = desired(pass)?.bindings;
    for binding in bound.filter(|binding| own.contains(&BindingId::from(binding))) {
        if !after.applied_bindings.contains(&binding) {
            after.applied_bindings.push(binding);
        }
    }
    if after != before {
        after.cluster_id = Some(pass.link.cluster_id.clone());
        status.cluster_id.clone_from(&after.cluster_id);
    }
    status::write(pass.ctx, pass.object, &before, &after).await?;
    status.pending = after.pending;
    status.applied_bindings = after.applied_bindings;
    Ok(())
}

impl Parent for Queue {
    fn had(&self) -> Vec<String> {
        let status = self.status.iter();
        let names = status.flat_map(|status| {
            status.dead_letter.iter().chain(status.retries.iter().map(|retry| &retry.name))
        });
        names.map(|name| rabbitmq::end_key(&self.spec.vhost, 'q', name)).collect()
    }

    fn follow(existing: &Self, wanted: &Self) -> Self {
        let mut follows = existing.clone();
        follows.spec = wanted.spec.clone();
        follows.spec.broker_ref.clone_from(&existing.spec.broker_ref);
        follows.spec.name.clone_from(&existing.spec.name);
        follows
    }
}
