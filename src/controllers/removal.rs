//! A deleted object: does what its deletion policy says, then lets it go.
//!
//! Nothing that holds messages goes unless its policy says so, its Broker's rules still permit it,
//! and it is known to be ours. Where nothing has to be done at the broker, nothing has to be asked
//! of it: a broker that is away holds up no deletion under `Retain`.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt as _};

use super::context::{BrokerKey, Context};
use super::failure::Failure;
use super::links::Link;
use super::passes::Again;
use super::reconciler::{Pass, TopologyKind, annotated, broker_of, gather_by};
use super::report::{announce, report};
use super::{broker, finalizer, guard, status};
use crate::api::conditions::{self, Reason};
use crate::api::policy::Policies;
use crate::api::{Broker, annotation};
use crate::brokers::rabbitmq::ErrorKind;
use crate::topology::deletion;

/// How long an object that is kept because it holds messages is left alone.
const KEPT: Duration = Duration::from_secs(15);

/// For how long a namespace's deletion waits for a broker to which only the way from before its Secret went is left: it
/// may be deleted, too.
const LAST_CHANCE: SignedDuration = SignedDuration::from_mins(2);

/// For how long a namespace's deletion waits for a Broker that never said which cluster it is.
const UNKNOWN_FOR: SignedDuration = SignedDuration::from_mins(10);

/// One pass over an object that is being deleted.
pub async fn remove<K: TopologyKind>(ctx: &Arc<Context>, object: &K) -> Result<Again, Failure> {
    if !finalizer::is_on(object) {
        return Ok(None);
    }
    let verdict = match at_once(ctx, object) {
        Some(why) => Ok(deletion::Verdict::Release(why)),
        None => removal(ctx, object).await,
    };
    let namespace = object.namespace().unwrap_or_default();
    let (failure, again) = match verdict {
        Ok(deletion::Verdict::Release(why)) => {
            // Told once it is done: a write that meets another one is made again.
            finalizer::set(ctx, object, false).await?;
            tracing::info!(kind = K::KIND, namespace, name = object.name_any(), why, "released");
            ctx.metrics.released(K::KIND);
            return Ok(None);
        }
        Ok(deletion::Verdict::Delete) => {
            tracing::info!(kind = K::KIND, namespace, name = object.name_any(), "deleted at the broker");
            finalizer::set(ctx, object, false).await?;
            return Ok(None);
        }
        Ok(deletion::Verdict::LookAgain) => {
            let message = "it looks empty, or gone; looking once more";
            let again = Duration::from_secs_f64(K::SECOND_LOOK);
            (Failure::waiting(Reason::Progressing, message), Some(again))
        }
        Ok(deletion::Verdict::Keep(why)) => (Failure::waiting(Reason::NotEmpty, why), Some(KEPT)),
        Err(failure @ (Failure::Fenced(_) | Failure::Kube { .. })) => return Err(failure),
        Err(failure) => (failure, None),
    };
    if is_lost(ctx, object, failure.reason()) && namespace_terminating(ctx, object).await {
        finalizer::set(ctx, object, false).await?;
        tracing::warn!(
            kind = K::KIND, namespace, name = object.name_any(), error = %failure,
            "released: the namespace is being deleted and the way to the broker is gone; the broker keeps the object"
        );
        ctx.metrics.released(K::KIND);
        return Ok(None);
    }
    let again = again.unwrap_or_else(|| {
        let count = ctx.note(&object.uid().unwrap_or_default(), |notes| {
            notes.failures = notes.failures.saturating_add(1);
            notes.failures
        });
        failure.retry_after(count)
    });
    let before = object.status().cloned().unwrap_or_default();
    let mut after = before.clone();
    // A status makes the note on the object void, so it has to know what that knew.
    object.recall(&mut after);
    let (verdicts, _) = report::<K>(ctx, object, &before, &before, &Err(failure), 0);
    let (previous, _) = K::conditions(&before);
    let merged = conditions::merge(previous, &verdicts, object.meta().generation, Timestamp::now());
    announce(ctx, object, previous, &merged);
    K::set_conditions(&mut after, merged, object.meta().generation);
    status::write(ctx, object, &before, &after).await?;
    Ok(Some(again))
}

/// Whether nothing can be done at the broker any more: there is no way to it, or only the one from before, which has
/// not led anywhere for [`LAST_CHANCE`].
fn is_lost<K: TopologyKind>(ctx: &Context, object: &K, reason: Reason) -> bool {
    let no_way =
        |reason| matches!(reason, Reason::BrokerNotFound | Reason::SecretNotFound | Reason::SecretInvalid);
    let key = BrokerKey::of(object.broker_ref(), &object.namespace().unwrap_or_default());
    let locked_out = || ctx.links.get(&key).is_err_and(|failure| no_way(failure.reason()));
    // A second look is still to come.
    let under_way = reason == Reason::Progressing;
    no_way(reason) || (!under_way && locked_out() && has_been_going_for(object, LAST_CHANCE))
}

/// Whether the object was deleted as long ago.
fn has_been_going_for<K: TopologyKind>(object: &K, limit: SignedDuration) -> bool {
    let since = object.meta().deletion_timestamp.as_ref().map(|time| time.0);
    since.is_some_and(|since| Timestamp::now().duration_since(since) > limit)
}

/// Why the object may go without a word to the broker, where it may.
fn at_once<K: TopologyKind>(ctx: &Context, object: &K) -> Option<&'static str> {
    if annotated(object, annotation::FORCE_RELEASE) {
        return Some("released by annotation; it stays at the broker");
    }
    let key = BrokerKey::of(object.broker_ref(), &object.namespace().unwrap_or_default());
    let broker = ctx.brokers.get(&key.namespace, &key.name);
    // Without its Broker the defaults are not known; only the object's own word counts then.
    let defaults = broker.map(|broker| broker.spec.defaults).unwrap_or_default();
    let policies = Policies::resolve(object.policies(), defaults);
    let said =
        object.policies().deletion_policy.is_some() || ctx.brokers.get(&key.namespace, &key.name).is_some();
    (said && !finalizer::wanted(policies)).then_some("it stays at the broker")
}

async fn removal<K: TopologyKind>(ctx: &Arc<Context>, object: &K) -> Result<deletion::Verdict, Failure> {
    let key = BrokerKey::of(object.broker_ref(), &object.namespace().unwrap_or_default());
    if ctx.links.is_claimed(&key) {
        return Ok(deletion::Verdict::Release(
            "an older Broker of the cluster does not allow this one's namespace; it stays at the broker",
        ));
    }
    guard::learn(ctx).await;
    let (broker, link) = way(ctx, &key).await?;
    let pass = gather_by(ctx, object, link);
    if annotated(broker.as_ref(), annotation::PAUSED) || annotated(object, annotation::PAUSED) {
        return Err(Failure::waiting(Reason::Paused, "paused by annotation: the deletion waits"));
    }
    match guard::permit(&pass).await {
        // What may not be declared may not be deleted either.
        Err(Failure::Rejected(_)) => {
            return Ok(deletion::Verdict::Release("the Broker's rules do not permit its deletion; it stays"));
        }
        other => other?,
    }
    if let Some(verdict) = another_may_own_it(&pass).await? {
        return Ok(verdict);
    }
    // What another cluster does not have is not gone.
    broker::verify(ctx, &pass.link).await?;
    match K::remove(&pass).await {
        // It names a Broker of the wrong kind, and never named another: `brokerRef` is immutable.
        Err(failure) if failure.reason() == Reason::RefInvalid && never_owned(object) => {
            Ok(deletion::Verdict::Release("it was never at a broker"))
        }
        Err(Failure::Rabbitmq(error)) if error.kind == ErrorKind::NoVhost => {
            broker::verify(ctx, &pass.link).await?;
            Ok(deletion::Verdict::Release("its virtual host is gone, and it with it"))
        }
        verdict => verdict,
    }
}

/// Whether the object may be another's, too, whose Broker never said which cluster it is: then it waits
/// until that is known, or the other one is gone. Who holds up a namespace that is on its way out holds
/// it up for [`UNKNOWN_FOR`] only; the object stays at the broker then.
async fn another_may_own_it<K: TopologyKind>(
    pass: &Pass<'_, K>,
) -> Result<Option<deletion::Verdict>, Failure> {
    let Some(other) = pass.claims.unknown.first() else { return Ok(None) };
    // A known heir takes over in any case.
    if !finalizer::wanted(pass.policies) || pass.has_heir() {
        return Ok(None);
    }
    if has_been_going_for(pass.object, UNKNOWN_FOR) && namespace_terminating(pass.ctx, pass.object).await {
        return Ok(Some(deletion::Verdict::Release(
            "another object may own it, whose Broker's cluster is not known; it stays at the broker",
        )));
    }
    Err(Failure::waiting(
        Reason::DependencyNotReady,
        format!(
            "the deletion waits: {other} may be about the same, and that Broker's cluster is not known yet. It ends when that Broker connects, when the other object is deleted, or with the annotation {}=true, which leaves it at the broker",
            annotation::FORCE_RELEASE
        ),
    ))
}

fn never_owned<K: TopologyKind>(object: &K) -> bool {
    let mut status = object.status().cloned().unwrap_or_default();
    object.recall(&mut status);
    K::owned_since(&mut status).is_none()
}

/// The way to the broker. Who deletes everything at once deletes the Secret at a moment that Kubernetes or the order of
/// files chooses: where the Broker goes, too, what has to be deleted goes by the way that was there before.
async fn way(ctx: &Context, key: &BrokerKey) -> Result<(Arc<Broker>, Arc<Link>), Failure> {
    let broker = broker_of(ctx, key)?;
    let link = match ctx.links.get(key) {
        Err(locked_out) if locked_out.reason() == Reason::SecretNotFound => {
            let same =
                |link: &Arc<Link>| link.spec == broker.spec && Some(&link.uid) == broker.uid().as_ref();
            match ctx.links.last(key).filter(same) {
                Some(link) if is_going(ctx, &broker).await => link,
                _ => return Err(locked_out),
            }
        }
        link => link?,
    };
    Ok((broker, link))
}

/// Whether a Broker goes, or everything around it.
async fn is_going(ctx: &Context, broker: &Broker) -> bool {
    broker.metadata.deletion_timestamp.is_some()
        || is_terminating(ctx, &broker.namespace().unwrap_or_default()).await
}

/// Whether the namespace of the object, or of its Broker, is on its way out.
async fn namespace_terminating<K: TopologyKind>(ctx: &Context, object: &K) -> bool {
    let own = object.namespace().unwrap_or_default();
    let broker = BrokerKey::of(object.broker_ref(), &own).namespace;
    is_terminating(ctx, &own).await || (broker != own && is_terminating(ctx, &broker).await)
}

/// Whether a namespace is on its way out. Where that can't be read, it is not.
async fn is_terminating(ctx: &Context, namespace: &str) -> bool {
    let api: Api<Namespace> = Api::all(ctx.client.clone());
    match api.get_metadata_opt(namespace).await {
        Ok(Some(found)) => found.metadata.deletion_timestamp.is_some(),
        Ok(None) => true,
        Err(_) => false,
    }
}
