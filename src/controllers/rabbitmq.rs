//! What Exchanges, Queues and Bindings have in common: how fresh a look has to be, and how steps
//! are taken.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::broker;
use super::context::Context;
use super::failure::Failure;
use super::gate::{self, Planned};
use super::guard::{self, Standing};
use super::reconciler::{self, Outcome, Pass, Rival, TopologyKind, last_written};
use crate::api::conditions::{self, Reason, Verdict};
use crate::api::policy::{Adoption, DeletionPolicy, ManagementPolicy};
use crate::api::{Binding, Queue, QueueStatus, annotation};
use crate::apply::rabbitmq as apply;
use crate::brokers::rabbitmq::{ErrorKind, RabbitError, RabbitHandle, VhostPolicies as Policies};
use crate::topology::Rejection;
use crate::topology::gate::Gate;
use crate::topology::ownership::Holding;
use crate::topology::rabbitmq::deletion::{self, Owned};
use crate::topology::rabbitmq::{BindingId, Plan, Step, Target, VhostPolicies};

/// How old a look may be at the beginning of a pass. Many passes share one listing; a declaration
/// that finds what the listing did not show yet is refused or changes nothing.
const AGE: Duration = Duration::from_secs(1);
/// The same in a crowd, where a listing of thousands would follow the other: for what is missing, whose declaration proves
/// it, and for what is the object's own.
pub const AGE_IN_A_CROWD: Duration = Duration::from_secs(3);
/// How long a change may take to show.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);
/// How often to look for it.
const LOOK: Duration = Duration::from_millis(100);

/// From when on a look is good enough for this object: what this process wrote for it must show.
pub fn fresh<K: TopologyKind>(pass: &Pass<'_, K>) -> Instant {
    let age = if pass.ctx.is_crowded() { AGE_IN_A_CROWD } else { AGE };
    let recent = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
    let wrote = pass.ctx.note(&pass.object.uid().unwrap_or_default(), |notes| notes.wrote);
    wrote.map_or(recent, |wrote| wrote.max(recent))
}

/// The policies of a virtual host, as of `since` or later.
pub async fn policies<K: TopologyKind>(
    pass: &Pass<'_, K>,
    rabbit: &RabbitHandle,
    vhost: &str,
    since: Instant,
) -> Result<Arc<VhostPolicies>, RabbitError> {
    let read = rabbit.observer.policies(vhost, since, pass.lane).await?;
    Ok(pass.link.policies.of(vhost, &read))
}

/// The policies of each virtual host in the planner's form, made once for all who share a look.
#[derive(Default)]
pub struct PolicyCache(Mutex<HashMap<String, Kept>>);

struct Kept {
    read: Arc<Policies>,
    made: Arc<VhostPolicies>,
}

impl PolicyCache {
    fn of(&self, vhost: &str, read: &Arc<Policies>) -> Arc<VhostPolicies> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.get(vhost).filter(|kept| Arc::ptr_eq(&kept.read, read)) {
            return kept.made.clone();
        }
        let made = Arc::new(apply::seen_policies(read));
        kept.insert(vhost.to_owned(), Kept { read: read.clone(), made: made.clone() });
        made
    }
}

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
            super::sweep_rabbitmq::outcome(&taken),
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
                return Err(Rejection::new(Reason::NotRecreated, error.to_string()).into());
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

/// What one look and one plan brought.
pub struct Look {
    /// The plan.
    pub plan: Plan,
    /// Whether the object is at the broker.
    pub exists: bool,
}

/// Whose an object is, as its CR remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    /// It was never adopted or made.
    No,
    /// It is the CR's.
    Here,
    /// It was the CR's on a cluster that another one has taken the place of.
    Elsewhere,
}

impl Ours {
    /// Whether it is the CR's on this cluster. What was owned elsewhere and is not here is missed,
    /// and made again; what is here of it is somebody else's.
    #[must_use]
    pub const fn holds(self, exists: bool) -> bool {
        match self {
            Self::No => false,
            Self::Here => true,
            Self::Elsewhere => !exists,
        }
    }
}

/// Reads whose the object is from a status, and takes out of it what is about another cluster.
pub fn remembered<K: Rabbit>(pass: &Pass<'_, K>, status: &mut K::Status) -> Ours {
    let owned = K::owned_since(status).is_some();
    if is_elsewhere(pass, status) {
        K::forget(status);
        return if owned { Ours::Elsewhere } else { Ours::No };
    }
    if owned { Ours::Here } else { Ours::No }
}

fn is_elsewhere<K: Rabbit>(pass: &Pass<'_, K>, status: &mut K::Status) -> bool {
    K::cluster_id(status).as_ref().is_some_and(|id| *id != pass.link.cluster_id)
}

/// Begins anew on this cluster, before its first step here: what is not here is still missed.
async fn move_here<K: Rabbit>(
    pass: &Pass<'_, K>,
    exists: bool,
    status: &mut K::Status,
) -> Result<(), Failure> {
    let before = last_written(pass.ctx, pass.object);
    let mut after = before.clone();
    for status in [&mut after, status] {
        K::forget(status);
        *K::cluster_id(status) = Some(pass.link.cluster_id.clone());
        if exists {
            *K::owned_since(status) = None;
        }
    }
    super::status::write(pass.ctx, pass.object, &before, &after).await
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
    let (mut since, mut rounds, mut lost) = (fresh(pass), 0, None);
    loop {
        if pass.policies.management == ManagementPolicy::Manage
            && let Holding::This(cluster) = pass.inherited()
            && (cluster.is_empty() || *cluster == pass.link.cluster_id)
        {
            K::owned_since(status).get_or_insert_with(|| Timestamp::now().to_string());
        }
        let ours = if rounds > 0 { Ours::Here } else { remembered(pass, status) };
        let look = K::look(pass, &rabbit, since, ours, status).await;
        let Look { plan, exists } = look.inspect_err(|failure| {
            if matches!(failure, Failure::Rejected(_)) {
                reconciler::no_plan::<K>(status);
            }
        })?;
        let known = ours.holds(exists);
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
            lost = plan.loss.map(|_| vanished(&what, plan.gate == Gate::Go));
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
        if let Some(outcome) = gate::hold(pass, &planned)? {
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
            K::prepare(pass, &plan, status).await?;
        }
        if !plan.steps.is_empty() {
            if begun.elapsed() > SHOWS_WITHIN {
                let message =
                    format!("{what} was changed; the broker does not show it yet: {}", words.join("; "));
                return Err(Failure::waiting(Reason::Progressing, message));
            }
            if rounds > 0 {
                tokio::time::sleep(LOOK).await;
            }
            let round = Round { first: rounds == 0, ours, drift, early: since < begun };
            if !take_steps(pass, &vhost, &plan, &round, lost.as_ref(), &before, status).await? {
                since = Instant::now();
                continue;
            }
            if drift {
                gate::reverted(pass, &words);
            }
            if plan.steps.iter().any(|step| !shows_at_once(step)) {
                (since, rounds) = (Instant::now(), rounds + 1);
                continue;
            }
        }
        reconciler::no_plan::<K>(status);
        let since = K::owned_since(status);
        if ours == Ours::Elsewhere && exists {
            *since = None;
        }
        since.get_or_insert_with(|| Timestamp::now().to_string());
        *K::cluster_id(status) = Some(pass.link.cluster_id.clone());
        let mut outcome = Outcome::in_step(format!("{what} is as declared"));
        outcome.data_lost = lost;
        if let Some(obstacle) = plan.obstacles.first() {
            let message = plan.obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            outcome.ready = Verdict::new(conditions::READY, false, obstacle.reason, message.clone());
            outcome.in_sync = Verdict::new(conditions::IN_SYNC, false, obstacle.reason, message);
        }
        K::finish(pass, &mut outcome, status).await?;
        return Ok(outcome);
    }
}

/// What one round of a pass is about.
struct Round {
    /// It is the first one.
    first: bool,
    /// Whose the object is.
    ours: Ours,
    /// Its steps bring a difference back that nobody asked for.
    drift: bool,
    /// It looked before the pass began.
    early: bool,
}

/// Takes the steps of a plan, and puts down what the answers prove. False: somebody was faster than
/// the look, so look again, and plan from what is there.
async fn take_steps<K: Rabbit>(
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
    if plan.loss.is_some() && round.first && done.made && (round.drift || lost.is_some()) {
        tell_loss(pass, lost);
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
            super::status::write(pass.ctx, pass.object, &written, &after).await?;
        }
        return Ok(false);
    }
    carried_out.map(|()| true)
}

/// As of when to look again, where a look as of `since` is too old for a pass that began at `begun`.
fn fresher<K: TopologyKind>(
    pass: &Pass<'_, K>,
    plan: &Plan,
    exists: bool,
    ours: Ours,
    (since, begun): (Instant, Instant),
) -> Option<Instant> {
    if since < begun && wants_a_fresh_look(pass, plan, exists) {
        return Some(begun);
    }
    // It may have been deleted with another CR a moment ago.
    let young = begun.checked_sub(AGE)?;
    (exists && ours == Ours::No && since < young).then_some(young)
}

/// Whether a look from before the pass is too old for this plan. That an object is not there is
/// believed only where its declaration, the one and only step, tells whether it was.
fn wants_a_fresh_look<K: TopologyKind>(pass: &Pass<'_, K>, plan: &Plan, exists: bool) -> bool {
    if pass.sweeping || exists {
        return false;
    }
    // What is there already and equal is taken over without a word, unless nothing may be.
    let alone = matches!(
        plan.steps.as_slice(),
        [Step::DeclareExchange { .. } | Step::DeclareQueue { .. } | Step::Bind(_)]
    );
    !(alone && plan.gate == Gate::Go && pass.policies.adoption != Adoption::Never)
}

/// Whether the broker's answer to a step is proof enough. What a policy brings about is not said
/// in the answer to it.
const fn shows_at_once(step: &Step) -> bool {
    matches!(step, Step::DeclareExchange { .. } | Step::DeclareQueue { .. } | Step::Bind(_))
}

fn vanished(what: &str, made_again: bool) -> Verdict {
    let now = if made_again { " and was made again, empty" } else { "" };
    let message = format!(
        "{what} vanished from the broker{now}; its messages are gone. Acknowledge with the annotation {}=true",
        annotation::ACKNOWLEDGE_DATA_LOSS
    );
    Verdict::new(conditions::DATA_LOST, true, Reason::Vanished, message)
}

/// Writes a loss down before what was lost is made again: afterwards nothing at the broker shows it
/// any more, whatever becomes of the steps that follow.
async fn write_loss<K: Rabbit>(pass: &Pass<'_, K>, lost: &Verdict) -> Result<(), Failure> {
    let before = last_written(pass.ctx, pass.object);
    let mut after = before.clone();
    let (previous, observed) = K::conditions(&before);
    let mut conditions = previous.to_vec();
    conditions.retain(|condition| condition.type_ != lost.kind);
    let generation = pass.object.meta().generation;
    conditions.extend(conditions::merge(previous, std::slice::from_ref(lost), generation, Timestamp::now()));
    K::set_conditions(&mut after, conditions, observed);
    super::status::write(pass.ctx, pass.object, &before, &after).await
}

/// Counts and tells that an object has vanished.
fn tell_loss<K: Rabbit>(pass: &Pass<'_, K>, lost: Option<&Verdict>) {
    pass.ctx.metrics.vanished(K::KIND);
    if let Some(verdict) = lost {
        pass.ctx.events.publish(pass.object.object_ref(&()), true, "DataLost", "Observe", &verdict.message);
    }
}

/// Who claims one binding.
pub struct Claimants {
    /// Bindings.
    pub bindings: Vec<Arc<Binding>>,
    /// Queues that have, or had, it inline.
    pub queues: Vec<Arc<Queue>>,
}

impl Claimants {
    /// Every CR that claims a binding: that names it, made it, or refers to its ends by the names of
    /// their CRs.
    pub fn of(ctx: &Context, vhost: &str, binding: &BindingId) -> Self {
        let key = binding_key(vhost, binding);
        let (kind, target) = match &binding.target {
            Target::Queue(name) => ('q', name),
            Target::Exchange(name) => ('x', name),
        };
        let end = end_key(vhost, kind, target);
        let ends = match kind {
            'q' => ctx.queues.find(&end).iter().map(|queue| meta(queue.as_ref())).collect::<Vec<_>>(),
            _ => ctx.exchanges.find(&end).iter().map(|exchange| meta(exchange.as_ref())).collect(),
        };
        let mut bindings = ctx.bindings.find(&key);
        bindings.extend(ctx.bindings.find(&end));
        for (namespace, name) in ends {
            bindings.extend(ctx.bindings.find(&reference_key(kind, &namespace, &name)));
        }
        let mut queues = ctx.queues.find(&key);
        if kind == 'q' {
            queues.extend(ctx.queues.find(&end));
        }
        let mut seen = HashSet::new();
        bindings.retain(|other| seen.insert(other.uid()));
        queues.retain(|other| seen.insert(other.uid()));
        let mut bindings: Vec<_> = bindings.into_iter().map(|other| ctx.newest(other)).collect();
        let mut queues: Vec<_> = queues.into_iter().map(|other| ctx.newest(other)).collect();
        bindings
            .retain(|other| other.keys().contains(&key) || super::binding::refers_to(ctx, other, binding));
        queues.retain(|other| other.keys().contains(&key) || super::queue::refers_to(ctx, other, binding));
        Self { bindings, queues }
    }

    /// What they claim.
    pub fn rivals(&self, ctx: &Context) -> Vec<Rival> {
        let bindings = self.bindings.iter().map(|other| Rival::of(ctx, other.as_ref()));
        bindings.chain(self.queues.iter().map(|other| Rival::of(ctx, other.as_ref()))).collect()
    }
}

fn meta<K: TopologyKind>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether another CR declares the binding, too: then it stays. One that its Broker refuses does not
/// count.
#[must_use]
pub fn claimed_by_others<K: TopologyKind>(pass: &Pass<'_, K>, binding: &BindingId) -> bool {
    let ctx = pass.ctx;
    let rivals = Claimants::of(ctx, pass.object.vhost().unwrap_or_default(), binding).rivals(ctx);
    let mut others =
        rivals.into_iter().filter(|rival| Some(&rival.claim.uid) != pass.object.meta().uid.as_ref());
    others.any(|rival| guard::standing(ctx, &rival, &pass.link.cluster_id) != Standing::None)
}

/// Others who claim bindings that an object gave up look again: it may be their turn.
pub fn wake_heirs<K: TopologyKind>(ctx: &Context, object: &K, given_up: impl Iterator<Item = BindingId>) {
    for binding in given_up {
        let heirs = Claimants::of(ctx, object.vhost().unwrap_or_default(), &binding);
        for heir in heirs.bindings.iter().filter(|heir| heir.uid() != object.meta().uid) {
            ctx.wake_bindings.wake(&ObjectRef::from_obj(heir.as_ref()));
        }
    }
}

/// Notes in a status whose the object will be before it is made, where an answer that never comes
/// would leave it to nobody: its deletion has something to do, or `adoption: Never` takes nothing
/// over that was there before. True: the note has to be written.
pub fn claim_first<K: Rabbit>(pass: &Pass<'_, K>, plan: &Plan, status: &mut K::Status) -> bool {
    let matters =
        pass.policies.adoption == Adoption::Never || pass.policies.deletion != DeletionPolicy::Retain;
    let claims = matters && plan.steps.iter().any(K::makes) && K::owned_since(status).is_none();
    if claims {
        *K::owned_since(status) = Some(Timestamp::now().to_string());
        *K::cluster_id(status) = Some(pass.link.cluster_id.clone());
    }
    claims
}

/// What the answer to a deletion depends on.
#[must_use]
pub fn removal<K: Rabbit>(pass: &Pass<'_, K>) -> deletion::Input {
    let mut status = pass.object.status().cloned().unwrap_or_default();
    pass.object.recall(&mut status);
    // What is there under the name of what was owned on another cluster is somebody else's.
    let owned =
        (K::owned_since(&mut status).is_some() || K::was_begun(&status)) && !is_elsewhere(pass, &mut status);
    deletion::Input {
        policy: pass.policies.deletion,
        management: pass.policies.management,
        owner: pass.is_owner(),
        heir: pass.has_heir(),
        forced: false,
        owned: if owned { Owned::Yes } else { Owned::Never },
    }
}

/// The key under which the cache finds who claims a binding.
#[must_use]
pub fn binding_key(vhost: &str, binding: &BindingId) -> String {
    let arguments = serde_json::to_string(&binding.arguments).unwrap_or_default();
    let BindingId { source, target, routing_key, .. } = binding;
    let (kind, name) = match target {
        Target::Queue(name) => ('q', name),
        Target::Exchange(name) => ('x', name),
    };
    format!("b\0{vhost}\0{source}\0{kind}\0{name}\0{routing_key}\0{arguments}")
}

/// The key under which the cache finds the Bindings that lead from or to a broker object.
#[must_use]
pub fn end_key(vhost: &str, kind: char, name: &str) -> String {
    format!("e\0{vhost}\0{kind}\0{name}")
}

/// The key under which the cache finds the Bindings that refer to a CR.
#[must_use]
pub fn reference_key(kind: char, namespace: &str, name: &str) -> String {
    format!("r\0{kind}\0{namespace}\0{name}")
}

/// Bindings, and Queues with bindings, that wait for an exchange or a queue look again.
pub fn wake_bindings<K: TopologyKind>(ctx: &Context, object: &K, kind: char) {
    let vhost = object.vhost().unwrap_or_default();
    let namespace = object.namespace().unwrap_or_default();
    let keys =
        [end_key(vhost, kind, &object.broker_name()), reference_key(kind, &namespace, &object.name_any())];
    for key in keys {
        for binding in ctx.bindings.find(&key) {
            let ready = binding
                .status
                .as_ref()
                .is_some_and(|status| conditions::is_true(&status.conditions, conditions::READY));
            let waits = ctx.note(&binding.uid().unwrap_or_default(), |notes| notes.is_waiting());
            if waits || !ready {
                ctx.wake_bindings.wake(&ObjectRef::<Binding>::from_obj(binding.as_ref()));
            }
        }
        for queue in ctx.queues.find(&key) {
            let ready = |status: &QueueStatus| conditions::is_true(&status.conditions, conditions::READY);
            let waits = ctx.note(&queue.uid().unwrap_or_default(), |notes| notes.is_waiting());
            if queue.uid() != object.uid() && (waits || !queue.status.as_ref().is_some_and(ready)) {
                ctx.wake_queues.wake(&ObjectRef::<Queue>::from_obj(queue.as_ref()));
            }
        }
    }
}
