//! Bindings: what the generic pass needs to know of them.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::cache::Cache;
use super::claim::Claim;
use super::context::{BrokerKey, Context, Notes};
use super::failure::Failure;
use super::rabbitmq::{self, Claimants, Look, Ours, Rabbit};
use super::reconciler::{Outcome, Pass, Rival, TopologyKind, last_written};
use super::wake::Wake;
use super::{finalizer, guard, references, status};
use crate::api::binding::AppliedBinding;
use crate::api::conditions::{self, Reason};
use crate::api::policy::{Adoption, PolicyDefaults};
use crate::api::{Binding, BindingStatus, BrokerRef, Exchange, Queue, annotation};
use crate::apply::rabbitmq as apply;
use crate::brokers::rabbitmq::{RabbitHandle, SeenRoute};
use crate::topology::deletion;
use crate::topology::rabbitmq::{
    self as planner, BindingId, BindingInput, BindingMemory, DesiredBinding, Plan, Step, Target,
};

/// For how long a binding counts on somebody coming to what it waits for. After that it looks for itself, and says what it
/// found: who cannot write a status has nobody coming.
const NOBODY_COMES: Duration = Duration::from_secs(120);

impl TopologyKind for Binding {
    const KIND: &'static str = "Binding";
    const SECOND_LOOK: f64 = planner::deletion::SECOND_LOOK_RABBIT;
    type Status = BindingStatus;

    fn broker_ref(&self) -> &BrokerRef {
        &self.spec.broker_ref
    }

    /// The destination: that is what a binding floods.
    fn broker_name(&self) -> String {
        match named(self).or_else(|| made(self).first().map(BindingId::from)) {
            Some(binding) => binding.target.name().to_owned(),
            None => self.name_any(),
        }
    }

    fn called(&self, ctx: &Context) -> String {
        resolved(ctx, self).map_or_else(|_| self.broker_name(), |binding| binding.target.name().to_owned())
    }

    fn vhost(&self) -> Option<&str> {
        Some(&self.spec.vhost)
    }

    fn refers_to(&self, ctx: &Context) -> Vec<String> {
        let ends = named(self).or_else(|| resolved(ctx, self).ok());
        match ends {
            Some(id) => planner::references::of_binding(&id.source, &id.target),
            None => Vec::new(),
        }
    }

    fn identity(&self) -> String {
        match named(self).or_else(|| made(self).first().map(BindingId::from)) {
            Some(binding) => rabbitmq::binding_key(&self.spec.vhost, &binding),
            None => format!("u\0{}", self.uid().unwrap_or_default()),
        }
    }

    fn keys(&self) -> Vec<String> {
        let vhost = &self.spec.vhost;
        let namespace = self.namespace().unwrap_or_default();
        let mut keys = vec![self.identity()];
        let made = made(self);
        keys.extend(made.iter().map(|binding| rabbitmq::binding_key(vhost, &BindingId::from(binding))));
        let destination = &self.spec.destination;
        let ends = [(&self.spec.source, 'x'), (&destination.queue, 'q'), (&destination.exchange, 'x')];
        keys.extend(
            ends.iter().filter_map(|(name, kind)| Some(rabbitmq::end_key(vhost, *kind, name.as_ref()?))),
        );
        let references =
            [(&self.spec.source_ref, 'x'), (&destination.queue_ref, 'q'), (&destination.exchange_ref, 'x')];
        keys.extend(references.iter().filter_map(|(reference, kind)| {
            Some(rabbitmq::reference_key(*kind, &namespace, &reference.as_ref()?.name))
        }));
        keys.sort();
        keys.dedup();
        keys
    }

    fn rivals(&self, ctx: &Context) -> Vec<Rival> {
        let Some(binding) = named(self).or_else(|| resolved(ctx, self).ok()) else { return Vec::new() };
        let mut rivals = Claimants::of(ctx, &self.spec.vhost, &binding).rivals(ctx);
        rivals.retain(|rival| Some(&rival.claim.uid) != self.metadata.uid.as_ref());
        rivals
    }

    fn policies(&self) -> PolicyDefaults {
        self.spec.policies()
    }

    fn status(&self) -> Option<&BindingStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &BindingStatus) -> (&[Condition], Option<i64>) {
        (&status.conditions, status.observed_generation)
    }

    fn set_conditions(status: &mut BindingStatus, conditions: Vec<Condition>, generation: Option<i64>) {
        status.conditions = conditions;
        status.observed_generation = generation;
    }

    fn plan_mut(status: &mut BindingStatus) -> (&mut Vec<String>, &mut Option<String>) {
        (&mut status.plan, &mut status.plan_hash)
    }

    fn owned_since(status: &mut BindingStatus) -> &mut Option<String> {
        &mut status.owned_since
    }

    fn cache(ctx: &Context) -> &Cache<Self> {
        &ctx.bindings
    }

    fn wake(ctx: &Context) -> &Wake<Self> {
        &ctx.wake_bindings
    }

    fn wrote(ctx: &Context, object: &Self, before: &BindingStatus, after: &BindingStatus) {
        let is = |binding: &AppliedBinding| after.applied.iter().chain(&after.stale).any(|is| is == binding);
        let given_up = before.applied.iter().chain(&before.stale).filter(|was| !is(was));
        rabbitmq::wake_heirs(ctx, object, given_up.map(BindingId::from));
    }

    fn note(pass: &Pass<'_, Self>) -> Result<Option<finalizer::Note>, Failure> {
        // On a Broker of another kind there is nothing to be made, and nothing to hold a deletion up for.
        pass.link.rabbitmq()?;
        let wanted = resolved(pass.ctx, pass.object)?;
        // What can never be made is no claim.
        DesiredBinding::of(pass.object, &wanted.source, wanted.target.clone())?;
        let binding = AppliedBinding::from(&wanted);
        Ok(Claim::of(pass, binding)?.map(|claim| (annotation::CLAIM, claim)))
    }

    fn recall(&self, status: &mut BindingStatus) {
        Claim::recall(self, status);
    }

    async fn work(pass: &Pass<'_, Self>, status: &mut BindingStatus) -> Result<Outcome, Failure> {
        rabbitmq::converge(pass, status).await
    }

    async fn remove(pass: &Pass<'_, Self>) -> Result<deletion::Verdict, Failure> {
        let vhost = &pass.object.spec.vhost;
        let made = made(pass.object);
        if made.is_empty() && !noted(pass.object).is_empty() {
            let why = "no address can name it: if an earlier version made it, it stays at the broker";
            return Ok(deletion::Verdict::Release(why));
        }
        // Each by itself: what was made may be something else than what the spec says now, and so
        // may be those who take it over.
        let claimed = |binding: &BindingId| rabbitmq::claimed_by_others(pass, binding);
        let goes: Vec<_> = made.iter().map(BindingId::from).filter(|made| !claimed(made)).collect();
        let input =
            planner::deletion::Input { heir: !made.is_empty() && goes.is_empty(), ..rabbitmq::removal(pass) };
        let verdict = planner::deletion::decide_binding(&input, !made.is_empty());
        if verdict == deletion::Verdict::Delete {
            let client = pass.link.rabbitmq()?.client.on(pass.lane);
            for binding in goes {
                rabbitmq::may_write(pass).await?;
                apply::take(&client, vhost, &Step::Unbind(binding)).await?;
            }
        }
        Ok(verdict)
    }
}

/// What was made, or may have been, and can be taken away: that for which there is an address.
fn made(binding: &Binding) -> Vec<AppliedBinding> {
    noted(binding).into_iter().filter(|noted| BindingId::from(noted).has_address()).collect()
}

/// What was made, or may have been: by the status, or by what so far only the object's note knows.
fn noted(binding: &Binding) -> Vec<AppliedBinding> {
    if let Some(claim) = Claim::on(binding) {
        return vec![claim.binding];
    }
    let status = binding.status.iter();
    status.flat_map(|status| status.applied.iter().chain(&status.stale)).cloned().collect()
}

/// The binding, where the spec names both of its ends.
fn named(binding: &Binding) -> Option<BindingId> {
    let spec = &binding.spec;
    let target = match (&spec.destination.queue, &spec.destination.exchange) {
        (Some(queue), None) => Target::Queue(queue.clone()),
        (None, Some(exchange)) => Target::Exchange(exchange.clone()),
        _ => return None,
    };
    let (routing_key, arguments) = (spec.routing_key.clone(), spec.arguments.clone());
    Some(BindingId { source: spec.source.clone()?, target, routing_key, arguments })
}

/// Whether a Binding, its references resolved, is this one.
pub fn refers_to(ctx: &Context, binding: &Binding, id: &BindingId) -> bool {
    let may = binding.spec.routing_key == id.routing_key && named(binding).is_none();
    may && resolved(ctx, binding).is_ok_and(|resolved| resolved == *id)
}

/// The binding, its references resolved.
fn resolved(ctx: &Context, binding: &Binding) -> Result<BindingId, Failure> {
    let spec = &binding.spec;
    let namespace = binding.namespace().unwrap_or_default();
    let broker = BrokerKey::of(&spec.broker_ref, &namespace);
    let from = references::From { namespace: &namespace, broker: &broker, vhost: &spec.vhost };
    Ok(BindingId {
        source: references::source(ctx, &from, spec.source.as_deref(), spec.source_ref.as_ref())?,
        target: references::target(ctx, &from, &spec.destination)?,
        routing_key: spec.routing_key.clone(),
        arguments: spec.arguments.clone(),
    })
}

impl Rabbit for Binding {
    const HOLDS_MESSAGES: bool = false;

    fn cluster_id(status: &mut BindingStatus) -> &mut Option<String> {
        &mut status.cluster_id
    }

    fn forget(status: &mut BindingStatus) {
        status.applied = None;
        status.stale.clear();
    }

    fn makes(step: &Step) -> bool {
        matches!(step, Step::Bind(_))
    }

    async fn look(
        pass: &Pass<'_, Self>,
        rabbit: &RabbitHandle,
        since: Instant,
        ours: Ours,
        status: &BindingStatus,
    ) -> Result<Look, Failure> {
        let wanted = resolved(pass.ctx, pass.object)?;
        let desired = DesiredBinding::of(pass.object, &wanted.source, wanted.target.clone())?;
        let vhost = &pass.object.spec.vhost;
        let noted = status.applied.iter().chain(&status.stale).map(BindingId::from);
        let applied: Vec<_> = noted.filter(BindingId::has_address).collect();
        let made = pass.object.status.as_ref().is_some_and(|status| status.applied.is_some());
        let mut seen = route(pass, rabbit, &desired.id, since, made).await?;
        let memory = BindingMemory { owned: ours.holds(seen.contains(&desired.id)), applied };
        for old in memory.applied.iter().filter(|old| **old != desired.id) {
            let target = apply::at(&old.target);
            let found = rabbit.observer.route(vhost, &old.source, &target, since, pass.lane);
            seen.extend(found.await?.bindings.iter().map(apply::seen_binding));
        }
        seen.sort();
        seen.dedup();
        let claimed = memory.applied.iter().filter(|binding| **binding != desired.id);
        let claimed = claimed.filter(|binding| rabbitmq::claimed_by_others(pass, binding));
        let claimed = claimed.cloned().collect();
        let plan = planner::plan_binding(&BindingInput {
            desired: &desired,
            present: &seen,
            memory: &memory,
            claimed: &claimed,
            passing: passing(pass, &desired.id),
            management: pass.policies.management,
            adoption: pass.policies.adoption,
            drift: guard::drift(pass.ctx, &pass.link),
            edited: pass.edited,
            approved: pass.object.annotations().get(annotation::APPROVE_PLAN).map(String::as_str),
        });
        Ok(Look { plan, exists: seen.contains(&desired.id), replaced: false })
    }

    /// Which binding is new and which ones are to go is written down before the first step, so
    /// that none is forgotten after a crash.
    async fn prepare(pass: &Pass<'_, Self>, plan: &Plan, status: &mut BindingStatus) -> Result<(), Failure> {
        let new = AppliedBinding::from(&resolved(pass.ctx, pass.object)?);
        if let Some(old) = status.applied.take().filter(|old| *old != new) {
            status.stale.push(old);
        }
        status.stale.retain(|stale| *stale != new);
        status.applied = Some(new);
        status.cluster_id = Some(pass.link.cluster_id.clone());
        let claims = rabbitmq::claim_first(pass, plan, status) && !covered(pass, status);
        if claims || (!status.stale.is_empty() && !plan.steps.is_empty()) {
            let before = last_written(pass.ctx, pass.object);
            let after = BindingStatus {
                applied: status.applied.clone(),
                stale: status.stale.clone(),
                owned_since: status.owned_since.clone(),
                cluster_id: status.cluster_id.clone(),
                ..before.clone()
            };
            status::write(pass.ctx, pass.object, &before, &after).await?;
        }
        Ok(())
    }

    fn take_back(before: &BindingStatus, status: &mut BindingStatus, refused: bool) {
        // One that it was before may still be there, and is this CR's.
        let others = !status.stale.is_empty() || !before.stale.is_empty();
        status.owned_since = before.owned_since.clone().filter(|_| others || !refused);
        status.applied.clone_from(&before.applied);
        status.stale.clone_from(&before.stale);
    }

    async fn still_may(_: &Pass<'_, Self>, _: &Step) -> Result<(), Failure> {
        Ok(())
    }

    async fn finish(_: &Pass<'_, Self>, _: &mut Outcome, status: &mut BindingStatus) -> Result<(), Failure> {
        status.stale.clear();
        Ok(())
    }
}

/// Whether the note that went on with the finalizer says what is about to be made.
fn covered(pass: &Pass<'_, Binding>, status: &BindingStatus) -> bool {
    let newest = pass.ctx.since(pass.object, &pass.ctx.bindings);
    let claim = Claim::on(newest.as_deref().unwrap_or(pass.object));
    let covers = |claim: Claim| {
        status.applied.as_ref().is_some_and(|binding| claim.covers(binding, &pass.link.cluster_id))
    };
    claim.is_some_and(covers)
}

/// All bindings between the two ends; waits for an end that does not exist. `made`: this CR has made a binding before.
async fn route(
    pass: &Pass<'_, Binding>,
    rabbit: &RabbitHandle,
    id: &BindingId,
    since: Instant,
    made: bool,
) -> Result<Vec<BindingId>, Failure> {
    let vhost = &pass.object.spec.vhost;
    let (source, target) = (id.source.as_str(), apply::at(&id.target));
    let ends = [Target::Exchange(source.to_owned()), id.target.clone()];
    if let Some(end) = ends.iter().find(|end| !made && declared(pass, end) == Declared::Unseen)
        && counts_on_others(pass)
    {
        let message = format!("waiting for {end} in virtual host {vhost:?}, which nobody has come to yet");
        return Err(Failure::OnItsWay { message });
    }
    let missing = |seen: &SeenRoute| {
        let there = [seen.source.is_some(), seen.target_exists];
        let mut missing = ends.iter().zip(there).filter(|(_, there)| !there);
        // One that was made since that look began is there, if nobody deleted it; RabbitMQ will tell. Where what is there
        // must not pass for this CR's, only a look will do.
        let believed =
            |end| pass.policies.adoption != Adoption::Never && declared(pass, end).made_since(since);
        missing.find(|(end, _)| !believed(end)).map(|(end, _)| end.clone())
    };
    let mut seen = rabbit.observer.route(vhost, source, &target, since, pass.lane).await?;
    if let Some(end) = missing(&seen) {
        // One that is declared will wake this binding when it is made; anything else may have come since that look.
        let told = declared(pass, &end);
        if !pass.sweeping && (told == Declared::Nowhere || told.made_since(since)) {
            seen = rabbit.observer.route(vhost, source, &target, Instant::now(), pass.lane).await?;
        }
        if let Some(end) = missing(&seen) {
            let message = format!("waiting for {end} in virtual host {vhost:?}, which does not exist yet");
            // It vanished, and its own pass is somewhere among thousands.
            let vanished = matches!(declared(pass, &end), Declared::Ready(_));
            if vanished && pass.ctx.is_crowded() && counts_on_others(pass) {
                return Err(Failure::OnItsWay { message });
            }
            return Err(Failure::waiting(Reason::DependencyNotReady, message));
        }
    }
    pass.ctx.note(&pass.object.uid().unwrap_or_default(), Notes::all_is_there);
    Ok(seen.bindings.iter().map(apply::seen_binding).collect())
}

/// Whether an end of the binding is declared as one that goes by itself when nobody uses it.
fn passing(pass: &Pass<'_, Binding>, id: &BindingId) -> bool {
    let vhost = &pass.object.spec.vhost;
    let exchange = |name: &str| {
        let found = pass.ctx.exchanges.find(&rabbitmq::end_key(vhost, 'x', name));
        found.iter().any(|exchange| exchange.spec.auto_delete)
    };
    exchange(&id.source)
        || match &id.target {
            Target::Exchange(name) => exchange(name),
            Target::Queue(name) => {
                let found = pass.ctx.queues.find(&rabbitmq::end_key(vhost, 'q', name));
                found.iter().any(|queue| queue.queue_name() == name && queue.spec.expires.is_some())
            }
        }
}

/// What the CRs on this Broker say of an end of a binding; of several what says most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Declared {
    /// None declares it.
    Nowhere,
    /// One declares it, and nobody has come to that one yet.
    Unseen,
    /// It is declared and not ready.
    NotReady,
    /// It is ready; when this process made it, if it did.
    Ready(Option<Instant>),
}

impl Declared {
    /// Whether it is ready, and this process made it at or after `since`.
    fn made_since(self, since: Instant) -> bool {
        matches!(self, Self::Ready(Some(made)) if made >= since)
    }
}

fn declared(pass: &Pass<'_, Binding>, end: &Target) -> Declared {
    fn of<K: TopologyKind>(pass: &Pass<'_, Binding>, kind: char, name: &str) -> Declared {
        let found = K::cache(pass.ctx).find(&rabbitmq::end_key(&pass.object.spec.vhost, kind, name));
        // What became of it may have been written just now.
        let found = found.into_iter().map(|object| pass.ctx.newest(object, K::cache(pass.ctx)));
        let here = found.filter(|object| {
            let broker = BrokerKey::of(object.broker_ref(), &object.namespace().unwrap_or_default());
            broker == pass.link.key && object.meta().deletion_timestamp.is_none()
        });
        let said = here.map(|object| {
            let (conditions, observed) = object.status().map(K::conditions).unwrap_or_default();
            if conditions::is_true(conditions, conditions::READY) {
                let uid = object.uid().unwrap_or_default();
                return Declared::Ready(pass.ctx.note(&uid, |notes| notes.made));
            }
            if observed.is_some() { Declared::NotReady } else { Declared::Unseen }
        });
        said.max().unwrap_or(Declared::Nowhere)
    }
    match end {
        Target::Queue(name) => of::<Queue>(pass, 'q', name),
        Target::Exchange(name) => of::<Exchange>(pass, 'x', name),
    }
}

/// Whether what is missing is still left to those whose turn it is, without a word.
fn counts_on_others(pass: &Pass<'_, Binding>) -> bool {
    let uid = pass.object.uid().unwrap_or_default();
    pass.ctx.note(&uid, Notes::on_its_way) < NOBODY_COMES
}
