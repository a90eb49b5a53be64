//! One pass over one object of any topology kind.
//!
//! 1. Take the newest form of the object; deleted ones go to [`remove`].
//! 2. Dereference (IO): the Broker's link, the namespace's labels, the other claims on the same
//!    broker object.
//! 3. Guard (pure): paused? namespace allowed? rules? owner?
//! 4. Finalizer: only where a deletion has something to do.
//! 5. The kind's own work: observe, plan (pure), apply.
//! 6. Report: conditions, once, and only if something changed.
//!
//! **Guarantees**: nothing is written to a broker for an object that is paused, not allowed, not
//! the owner, or while this process may not write. Every failure reaches a condition. A pass that
//! changes nothing writes nothing.
//!
//! **Assumptions**: every step is safe to repeat; a crash between any two is followed by a pass
//! that plans anew from what is really there.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::json;

use super::cache::{Cache, Cached};
use super::context::{BrokerKey, Context, Notes};
use super::failure::Failure;
use super::guard::{self, Claims};
use super::links::Link;
use super::passes::Again;
use super::report::{announce, report};
use super::wake::Wake;
use super::{finalizer, removal, status};
use crate::api::conditions::{self, Reason, Verdict};
use crate::api::policy::{ManagementPolicy, Policies, PolicyDefaults};
use crate::api::{Broker, BrokerRef, annotation, label};
use crate::brokers::lane::Lane;
use crate::topology::access::Deletes;
use crate::topology::deletion;
use crate::topology::ownership::{self, Claim, Holding};

/// For how long an object waits for another one without a word, and how soon it looks again if nothing wakes it before.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(1));
/// The same in a crowd: every word is a write that what it waits for has to wait for.
const PATIENCE_IN_A_CROWD: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(3));
/// How soon to look again at an object that waits for one that nobody has come to yet, if that does not wake it.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// A kind of object that lives at a broker.
pub trait TopologyKind: Cached + Resource<Scope = NamespaceResourceScope> + Serialize {
    /// The kind's name, for metrics and logs.
    const KIND: &'static str;
    /// The kind's status.
    type Status: Clone + Default + PartialEq + Serialize + Debug + Send + Sync;

    /// The Broker that it lives on.
    fn broker_ref(&self) -> &BrokerRef;
    /// Its name at the broker, as a person says it and as a Broker's rules name it.
    fn broker_name(&self) -> String;
    /// The name that messages say, references resolved: the same in every pass.
    fn called(&self, _ctx: &Context) -> String {
        self.broker_name()
    }
    /// Its virtual host, where the broker has such.
    fn vhost(&self) -> Option<&str> {
        None
    }
    /// Other objects at the broker that it touches, references resolved: rules must permit them, too.
    fn refers_to(&self, _ctx: &Context) -> Vec<String> {
        Vec::new()
    }
    /// The settings by which it goes at the broker although nobody deletes it here.
    fn deletes(&self) -> Vec<Deletes> {
        Vec::new()
    }
    /// Under which one broker object is found in the cache, whoever claims it.
    fn identity(&self) -> String;
    /// Every key under which the cache finds the object; the identity is one of them.
    fn keys(&self) -> Vec<String> {
        vec![self.identity()]
    }
    /// Other CRs, of whatever kind, that claim the same broker object.
    fn rivals(&self, ctx: &Context) -> Vec<Rival> {
        let same = Self::cache(ctx).find(&self.identity());
        same.iter()
            .filter(|other| other.uid() != self.meta().uid)
            // What one of them owns may have been written just now.
            .map(|other| Rival::of(ctx, ctx.newest(other.clone(), Self::cache(ctx)).as_ref()))
            .collect()
    }
    /// The three choices as the object gives them.
    fn policies(&self) -> PolicyDefaults;
    /// The status as it was last written.
    fn status(&self) -> Option<&Self::Status>;
    /// The conditions in a status, and the generation that they are about.
    fn conditions(status: &Self::Status) -> (&[Condition], Option<i64>);
    /// Puts conditions into a status.
    fn set_conditions(status: &mut Self::Status, conditions: Vec<Condition>, generation: Option<i64>);
    /// Since when the object owns what it declares.
    fn owned_since(status: &mut Self::Status) -> &mut Option<String>;
    /// What a status proves to be the object's own: the topic with this id; a queue on the cluster with this id (empty:
    /// its Broker's). None: nothing, or a kind that is never a companion's.
    fn owned(_status: &Self::Status) -> Option<String> {
        None
    }
    /// Where a status keeps the plan in words, and its hash.
    fn plan_mut(status: &mut Self::Status) -> (&mut Vec<String>, &mut Option<String>);
    /// All objects of the kind.
    fn cache(ctx: &Context) -> &Cache<Self>;
    /// Wakes objects of the kind.
    fn wake(ctx: &Context) -> &Wake<Self>;

    /// Observes, plans and applies. `status` starts as it was last written; what is changed in
    /// it is kept even when the work fails later.
    fn work(
        pass: &Pass<'_, Self>,
        status: &mut Self::Status,
    ) -> impl Future<Output = Result<Outcome, Failure>> + Send;

    /// How far apart the two looks at an empty object are at least, in seconds.
    const SECOND_LOOK: f64;

    /// What has to be known before anything is made, where a status of its own would be one write too many: an
    /// annotation that goes on with the finalizer.
    fn note(_pass: &Pass<'_, Self>) -> Result<Option<finalizer::Note>, Failure> {
        Ok(None)
    }

    /// Puts into a status what so far only that annotation knows.
    fn recall(&self, _status: &mut Self::Status) {}

    /// Called when a pass has written its status.
    fn wrote(_ctx: &Context, _object: &Self, _before: &Self::Status, _after: &Self::Status) {}

    /// Called when `Ready` changed, or was said for the first time: whoever waits for the object is woken.
    fn turned(_ctx: &Context, _object: &Self) {}

    /// Does what a deletion asks of the broker.
    fn remove(pass: &Pass<'_, Self>) -> impl Future<Output = Result<deletion::Verdict, Failure>> + Send;
}

/// Another CR that claims the same broker object.
#[derive(Clone, Debug)]
pub struct Rival {
    /// The Broker that it names.
    pub broker: BrokerKey,
    /// Its name at the broker.
    pub broker_name: String,
    /// Its virtual host, where the broker has such.
    pub vhost: Option<String>,
    /// What else it touches there.
    pub refers_to: Vec<String>,
    /// What takes it away there.
    pub deletes: Vec<Deletes>,
    /// Its choices as it gives them.
    pub policies: PolicyDefaults,
    /// The claim.
    pub claim: Claim,
    /// It is being deleted: it takes nothing over any more.
    pub going: bool,
}

impl Rival {
    /// What else it touches at the broker.
    #[must_use]
    pub fn refers_to(&self) -> Vec<&str> {
        self.refers_to.iter().map(String::as_str).collect()
    }

    /// What an object claims under its own name.
    pub fn of<K: TopologyKind>(ctx: &Context, object: &K) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        let said = object.status().is_some_and(|status| K::conditions(status).1.is_some());
        let holding = match object.status().and_then(K::owned) {
            Some(owned) => Holding::This(owned),
            None if said || object.meta().deletion_timestamp.is_some() => Holding::Nothing,
            None => Holding::Unsaid,
        };
        Self {
            broker: BrokerKey::of(object.broker_ref(), &namespace),
            broker_name: object.broker_name(),
            vhost: object.vhost().map(str::to_owned),
            refers_to: object.refers_to(ctx),
            deletes: object.deletes(),
            policies: object.policies(),
            going: object.meta().deletion_timestamp.is_some(),
            claim: Claim {
                companion: object.labels().contains_key(label::COMPANION),
                kind: K::KIND,
                created: object.meta().creation_timestamp.as_ref().map(|time| time.0),
                uid: object.uid().unwrap_or_default(),
                namespace,
                name: object.name_any(),
                holding,
            },
        }
    }
}

/// What a pass has gathered before the kind's own work.
pub struct Pass<'a, K> {
    /// Shared things.
    pub ctx: &'a Arc<Context>,
    /// The object.
    pub object: &'a K,
    /// The broker.
    pub link: Arc<Link>,
    /// The choices in force.
    pub policies: Policies,
    /// Whether the spec was edited since the broker was last in step.
    pub edited: bool,
    /// Every CR that claims the same broker object, this one included.
    pub claims: Claims,
    /// A person's edit goes before a resync.
    pub lane: Lane,
    /// Whether this is only a sweep's comparison: it asks for nothing that the sweep did not see.
    pub sweeping: bool,
}

/// How a pass ended.
pub struct Outcome {
    /// The `Ready` condition.
    pub ready: Verdict,
    /// The `InSync` condition.
    pub in_sync: Verdict,
    /// The `DataLost` condition, while it holds.
    pub data_lost: Option<Verdict>,
    /// When to look again, where no event will say.
    pub again: Option<Duration>,
}

impl Outcome {
    /// All is as declared.
    pub fn in_step(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            ready: Verdict::new(conditions::READY, true, Reason::InStep, message.clone()),
            in_sync: Verdict::new(conditions::IN_SYNC, true, Reason::InStep, message),
            data_lost: None,
            again: None,
        }
    }
}

/// One pass; see the module.
pub async fn reconcile<K: TopologyKind>(object: Arc<K>, ctx: Arc<Context>) -> Result<Again, Failure> {
    let begun = Instant::now();
    let uid = object.uid().unwrap_or_default();
    let result = if object.meta().deletion_timestamp.is_some() {
        removal::remove(&ctx, object.as_ref()).await
    } else {
        keep(&ctx, object.as_ref()).await
    };
    ctx.pass_ends(&uid);
    ctx.metrics.reconciled(K::KIND, result.is_ok(), begun.elapsed());
    result
}

async fn keep<K: TopologyKind>(ctx: &Arc<Context>, object: &K) -> Result<Again, Failure> {
    let key = BrokerKey::of(object.broker_ref(), &object.namespace().unwrap_or_default());
    if ctx.brokers.get(&key.namespace, &key.name).is_some() && ctx.links.first_look_is_under_way(&key) {
        // Nothing is known to have changed, so nothing is said: after a restart, objects in step
        // stay as they are.
        return Ok(None);
    }
    let before = object.status().cloned().unwrap_or_default();
    let mut after = before.clone();
    object.recall(&mut after);
    let result = attempt(ctx, object, &mut after).await;
    let result = match result {
        Err(failure) if !failure.for_the_author() => return Err(failure),
        result => result,
    };
    let uid = object.uid().unwrap_or_default();
    let patience = if ctx.is_crowded() { PATIENCE_IN_A_CROWD } else { PATIENCE };
    if let Some(again) = ctx.note(&uid, |notes| waits_silently(notes, &result, patience)) {
        return Ok(Some(again));
    }
    let failures = ctx.note(&uid, |notes| {
        let failed = result.as_ref().is_err_and(|failure| !failure.is_foreseen());
        notes.failures = if failed { notes.failures.saturating_add(1) } else { 0 };
        notes.failures
    });
    // A loss may have been written down on the way.
    let before = last_written(ctx, object);
    let (verdicts, again) = report::<K>(ctx, object, &before, &after, &result, failures);
    let (previous, observed) = K::conditions(&before);
    let merged = conditions::merge(previous, &verdicts, object.meta().generation, Timestamp::now());
    announce(ctx, object, previous, &merged);
    K::set_conditions(&mut after, merged, object.meta().generation);
    status::write(ctx, object, &before, &after).await?;
    K::wrote(ctx, object, &before, &after);
    let cleared = result.as_ref().is_ok_and(|outcome| outcome.data_lost.is_none());
    if annotated(object, annotation::ACKNOWLEDGE_DATA_LOSS) && cleared {
        acknowledged(ctx, object).await?;
    }
    let (after, _) = K::conditions(&after);
    let ready = conditions::is_true(after, conditions::READY);
    let in_sync = conditions::find(after, conditions::IN_SYNC).filter(|c| c.status != "Unknown");
    let left_alone = conditions::left_alone(after);
    let in_sync = in_sync.map(|c| c.status == "True");
    ctx.serve_object(K::cache(ctx), (K::KIND, object), ready, in_sync, left_alone);
    let turned = ready != conditions::is_true(previous, conditions::READY);
    if turned {
        wake_owners::<K>(ctx, object);
    }
    if turned || observed.is_none() {
        K::turned(ctx, object);
    }
    Ok(again)
}

/// When to look again at an object that has not waited for another one for long: what is on its way is not worth a
/// word, and thousands that come together would write two statuses each instead of one.
fn waits_silently(
    notes: &mut Notes,
    result: &Result<Outcome, Failure>,
    (patience, look): (Duration, Duration),
) -> Again {
    if matches!(result, Err(Failure::OnItsWay { .. })) {
        notes.waits_no_more();
        return Some(ON_ITS_WAY);
    }
    let waits = result.as_ref().is_err_and(|failure| failure.reason() == Reason::DependencyNotReady);
    if !waits {
        notes.waits_no_more();
        return None;
    }
    (notes.waits() < patience).then_some(look)
}

/// The status as it was written last, in this pass or before it.
pub fn last_written<K: TopologyKind>(ctx: &Context, object: &K) -> K::Status {
    match ctx.since(object, K::cache(ctx)) {
        Some(latest) => latest.status().cloned().unwrap_or_default(),
        None => object.status().cloned().unwrap_or_default(),
    }
}

/// There is no plan, or none any more: one that was left would pass for what is shown to a person, and what the next
/// sweep finds for known.
pub fn no_plan<K: TopologyKind>(status: &mut K::Status) {
    let (words, hash) = K::plan_mut(status);
    words.clear();
    *hash = None;
}

/// Steps 2 to 5.
async fn attempt<K: TopologyKind>(
    ctx: &Arc<Context>,
    object: &K,
    status: &mut K::Status,
) -> Result<Outcome, Failure> {
    let key = BrokerKey::of(object.broker_ref(), &object.namespace().unwrap_or_default());
    if let Some(broker) = ctx.brokers.get(&key.namespace, &key.name) {
        let policies = Policies::resolve(object.policies(), broker.spec.defaults);
        if !finalizer::wanted(policies) {
            // Taken off first: it needs no broker that answers.
            finalizer::set(ctx, object, false).await?;
        }
    }
    guard::learn(ctx).await;
    let pass = gather(ctx, object)?;
    if pass.link.paused || annotated(object, annotation::PAUSED) {
        return Err(Failure::waiting(
            Reason::Paused,
            "paused by annotation: nothing is written to the broker",
        ));
    }
    guard::permit(&pass).await?;
    if let Err(failure) = guard::owned(&pass) {
        // Only here: another conflict, as over a companion's name, takes nothing away.
        if !pass.bequeaths() {
            *K::owned_since(status) = None;
        }
        return Err(failure);
    }
    if pass.policies.management == ManagementPolicy::Manage && *pass.inherited() == Holding::Unsaid {
        let message = "waiting for what becomes of the companion whose place this object takes";
        return Err(Failure::Soon {
            reason: Reason::Progressing,
            message: message.into(),
            after: PATIENCE.1,
        });
    }
    let begins = finalizer::wanted(pass.policies) && !finalizer::is_on(object);
    let note = if begins { K::note(&pass)? } else { None };
    finalizer::keep(ctx, object, pass.policies, note).await?;
    K::work(&pass, status).await
}

/// Takes the acknowledgement off once it has cleared `DataLost`: the next loss wants its own.
async fn acknowledged<K: TopologyKind>(ctx: &Context, object: &K) -> Result<(), Failure> {
    let _turn = ctx.turn_to_write().await?;
    let api: Api<K> = Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    let patch = json!({"metadata": {
        "uid": object.uid(), "annotations": {annotation::ACKNOWLEDGE_DATA_LOSS: null},
    }});
    let answer = api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    ctx.metrics.api_write("patch", "annotations");
    let object = answer.map_err(Failure::kube("take the acknowledgement off"))?;
    ctx.remember_write(object);
    Ok(())
}

/// Whether an annotation says `"true"`.
pub fn annotated<K: Resource>(object: &K, key: &str) -> bool {
    object.meta().annotations.as_ref().and_then(|all| all.get(key)).is_some_and(|value| value == "true")
}

/// Who waits for a pass over an object as it is now.
pub fn lane_of<K: TopologyKind>(ctx: &Context, cached: &Arc<K>) -> Lane {
    lane(ctx.newest(cached.clone(), K::cache(ctx)).as_ref())
}

/// Who waits for a pass: a person, unless all that the spec says was seen before.
fn lane<K: TopologyKind>(object: &K) -> Lane {
    let (_, observed) = object.status().map(K::conditions).unwrap_or_default();
    if observed == object.meta().generation && object.meta().deletion_timestamp.is_none() {
        Lane::Resync
    } else {
        Lane::User
    }
}

/// Step 2: what a pass needs before anything is decided.
pub fn gather<'a, K: TopologyKind>(ctx: &'a Arc<Context>, object: &'a K) -> Result<Pass<'a, K>, Failure> {
    let key = BrokerKey::of(object.broker_ref(), &object.namespace().unwrap_or_default());
    broker_of(ctx, &key)?;
    Ok(gather_by(ctx, object, ctx.links.get(&key)?))
}

/// The Broker of that name.
pub fn broker_of(ctx: &Context, key: &BrokerKey) -> Result<Arc<Broker>, Failure> {
    ctx.brokers
        .get(&key.namespace, &key.name)
        .ok_or_else(|| Failure::waiting(Reason::BrokerNotFound, format!("Broker {key} does not exist")))
}

/// [`gather`], by a way to the broker that is known.
pub fn gather_by<'a, K: TopologyKind>(ctx: &'a Arc<Context>, object: &'a K, link: Arc<Link>) -> Pass<'a, K> {
    let policies = Policies::resolve(object.policies(), link.spec.defaults);
    let claims = guard::claims(ctx, object, &link.cluster_id);
    let lane = lane(object);
    let edited = edited(object, object.status());
    Pass { ctx, object, link, policies, edited, claims, lane, sweeping: false }
}

/// Whether the spec was edited since the broker was last in step. A difference that was shown and
/// left alone (`Differs`) is none, nor is what stays out of force although all is done; an edit that
/// failed on its way stays one.
pub(super) fn edited<K: TopologyKind>(object: &K, status: Option<&K::Status>) -> bool {
    let (conditions, observed) = status.map(K::conditions).unwrap_or_default();
    // A deletion makes a new generation of the same spec.
    let deleted = object.meta().deletion_timestamp.is_some()
        && observed.map(|seen| seen + 1) == object.meta().generation;
    observed != object.meta().generation && !deleted
        || conditions::find(conditions, conditions::IN_SYNC)
            .is_none_or(|c| c.status == "False" && !settled(&c.reason))
}

/// Whether that is all that becomes of a spec, so that what changes later is drift.
fn settled(reason: &str) -> bool {
    [Reason::Differs, Reason::PolicyShadowed, Reason::ArgumentOverrides]
        .iter()
        .any(|settled| reason == settled.as_str())
}

impl<K: TopologyKind> Pass<'_, K> {
    /// The CR that owns the broker object.
    #[must_use]
    pub fn owner(&self) -> Option<&Claim> {
        ownership::owner(&self.claims.same)
    }

    /// Whether this CR is the owner.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.owner().is_some_and(|owner| Some(&owner.uid) == self.object.meta().uid.as_ref())
    }

    fn own(&self) -> Option<&Claim> {
        self.claims.same.iter().find(|claim| Some(&claim.uid) == self.object.meta().uid.as_ref())
    }

    /// What this CR has from a companion that it takes the place of.
    #[must_use]
    pub fn inherited(&self) -> &Holding {
        self.own().map_or(&Holding::Nothing, |own| match own.holding {
            // It has it.
            Holding::This(_) => &Holding::Nothing,
            _ => ownership::inherited(&self.claims.same, own),
        })
    }

    /// Whether this is a companion, and what it owned is about to be taken over by a person's CR.
    fn bequeaths(&self) -> bool {
        self.own().is_some_and(|own| ownership::bequeaths(&self.claims.same, own))
    }

    /// What the broker said, without its Secrets.
    #[must_use]
    pub fn said(&self, error: impl Into<Failure>) -> String {
        self.ctx.secrets.words(&self.link.key, &error.into())
    }

    /// Whether another CR takes over when this one goes.
    #[must_use]
    pub fn has_heir(&self) -> bool {
        self.claims.same.len() > 1
    }
}

/// Companions tell their parents.
pub fn wake_owners<K: TopologyKind>(ctx: &Context, object: &K) {
    let namespace = object.namespace().unwrap_or_default();
    // A parent may have joined since this pass began.
    let newest =
        K::cache(ctx).get(&namespace, &object.name_any()).map(|cached| ctx.newest(cached, K::cache(ctx)));
    let owners = newest.as_deref().unwrap_or(object).owner_references();
    for owner in owners.iter().filter(|owner| owner.kind == K::KIND) {
        K::wake(ctx).wake(&ObjectRef::new(&owner.name).within(&namespace));
    }
}

/// Wakes all who claim the same broker object.
pub fn wake_claimants<K: TopologyKind>(ctx: &Context, object: &K) {
    for other in K::cache(ctx).find(&object.identity()) {
        if other.uid() != object.uid() {
            K::wake(ctx).wake(&ObjectRef::from_obj(other.as_ref()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_what_nobody_has_come_to_yet_says_nothing_however_long_that_takes() {
        let at_once = (Duration::ZERO, Duration::from_secs(1));
        let mut notes = Notes::default();
        let missing = Err(Failure::waiting(Reason::DependencyNotReady, "waiting for queue \"q\""));
        assert_eq!(waits_silently(&mut notes, &missing, at_once), None, "patience is over");
        let on_its_way = Err(Failure::OnItsWay { message: "waiting for queue \"q\"".into() });
        assert_eq!(waits_silently(&mut notes, &on_its_way, at_once), Some(ON_ITS_WAY));
        assert!(!notes.is_waiting(), "patience begins when somebody has come to it");
    }
}
