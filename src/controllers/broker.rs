//! Brokers: keeps the connection, checks the cluster's identity, sweeps for drift.
//!
//! A pass over a Broker is also the sweep: it comes every `resyncInterval` (a tenth of it as
//! jitter), sooner when an edit or a Secret changes, and with a growing pause while the broker
//! does not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};

use super::context::{BrokerKey, Context};
use super::failure::Failure;
use super::guard::{labels, oldest_broker};
use super::links::{Link, LinkState};
use super::reconciler::annotated;
use super::sweep::{self, Counts};
use super::{finalizer, settings, status};
use crate::api::broker::Unmanaged;
use crate::api::conditions::{self, Reason, Verdict};
use crate::api::policy::Policies;
use crate::api::{Broker, BrokerStatus, annotation};
use crate::brokers::kafka::{BrokerKey as PoolKey, ClusterInfo};
use crate::topology::access::{self, Asking};

/// How long the cluster may take to say who it is.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For how long the cluster's word about itself is good.
const VERIFIED_FOR: Duration = Duration::from_secs(1);

/// What a good pass found.
struct Found {
    cluster: ClusterInfo,
    swept: Result<Counts, Failure>,
}

/// One pass over one Broker.
pub async fn reconcile(cached: Arc<Broker>, ctx: Arc<Context>) -> Result<Action, Failure> {
    let begun = Instant::now();
    let broker = ctx.newest(cached);
    let result = pass(&ctx, &broker).await;
    // It may have gone while it was looked at; what was set up for it goes, too.
    let key = BrokerKey::from_broker(&broker);
    if ctx.brokers.get(&key.namespace, &key.name).is_none_or(|cached| cached.uid() != broker.uid()) {
        forget(&ctx, &broker);
    }
    ctx.metrics.reconciled("Broker", result.is_ok(), begun.elapsed());
    result
}

async fn pass(ctx: &Arc<Context>, broker: &Broker) -> Result<Action, Failure> {
    let key = BrokerKey::from_broker(broker);
    let needed = ctx.topics_of(&key).iter().any(|topic| {
        let policies = Policies::resolve(topic.spec.policies(), broker.spec.defaults);
        let wants = finalizer::wanted(policies)
            && topic.metadata.deletion_timestamp.is_none()
            && broker.metadata.deletion_timestamp.is_none();
        wants || finalizer::is_on(topic.as_ref())
    });
    // While a dependent still has something to delete at the broker, the way there stays.
    finalizer::set(ctx, broker, needed && may_hold(broker)).await?;
    if broker.metadata.deletion_timestamp.is_some() && !needed {
        forget(ctx, broker);
        return Ok(Action::await_change());
    }

    let before = broker.status.clone().unwrap_or_default();
    let mut after = before.clone();
    after.observed_generation = broker.metadata.generation;
    let result = look(ctx, broker, &key, &before).await;
    let uid = broker.uid().unwrap_or_default();
    let failures = ctx.note(&uid, |notes| {
        let good = result.as_ref().is_ok_and(|found| found.swept.is_ok());
        notes.failures = if good { 0 } else { notes.failures.saturating_add(1) };
        notes.failures
    });
    let paused = annotated(broker, annotation::PAUSED);
    let (verdicts, action) = match &result {
        Ok(Found { cluster, swept: Err(failure) }) => {
            after.cluster_id = Some(cluster.cluster_id.clone());
            let message = ctx.secrets.redact(&failure.to_string());
            let ready = Verdict::new(conditions::READY, false, failure.reason(), message);
            (vec![ready], Action::requeue(failure.retry_after(failures.max(3))))
        }
        Ok(found) => {
            tell(found, &mut after);
            let message =
                format!("cluster {} with {} brokers", found.cluster.cluster_id, found.cluster.nodes.len());
            (
                vec![Verdict::new(conditions::READY, true, Reason::Connected, message)],
                Action::requeue(jittered(broker)),
            )
        }
        Err(failure) => {
            let (reason, message) = (failure.reason(), ctx.secrets.redact(&failure.to_string()));
            let mut verdicts = vec![Verdict::new(conditions::READY, false, reason, message.clone())];
            if reason == Reason::ClusterChanged {
                verdicts.push(Verdict::new(conditions::CLUSTER_CHANGED, true, reason, message.clone()));
            }
            let state = LinkState::Down { reason, message, cluster_id: before.cluster_id.clone() };
            if ctx.links.set(&key, state) {
                ctx.wake_dependents(&key);
            }
            (verdicts, Action::requeue(failure.retry_after(failures)))
        }
    };
    let mut verdicts = verdicts;
    if paused {
        let message = "paused by annotation: nothing is written to this broker";
        verdicts.push(Verdict::new(conditions::PAUSED, true, Reason::Paused, message));
    }
    after.conditions =
        conditions::merge(&before.conditions, &verdicts, broker.metadata.generation, Timestamp::now());
    announce(ctx, broker, &before, &after);
    status::write(ctx, broker, &before, &after).await?;
    ctx.metrics.object(
        "Broker",
        &key.namespace,
        &key.name,
        Some(result.is_ok()),
        result.as_ref().ok().and_then(|found| Some(found.swept.as_ref().ok()?.drifted == 0)),
    );
    Ok(action)
}

/// A deleted object takes no new finalizer; the API server would refuse it.
fn may_hold(broker: &Broker) -> bool {
    broker.metadata.deletion_timestamp.is_none() || finalizer::is_on(broker)
}

/// Connects, checks who answers, and sweeps.
async fn look(
    ctx: &Arc<Context>,
    broker: &Broker,
    key: &BrokerKey,
    before: &BrokerStatus,
) -> Result<Found, Failure> {
    let uid = broker.uid().unwrap_or_default();
    let Some(connection) = &broker.spec.kafka else {
        return Err(Failure::waiting(Reason::InvalidSpec, "the Broker has no connection: set kafka"));
    };
    ctx.secrets.require(key, &settings::secret_names(connection));
    let settings = settings::kafka(connection, &key.namespace, &ctx.secrets).await?;
    let kafka = ctx
        .kafka
        .get(&PoolKey(uid.clone()), &settings)
        .map_err(|error| Failure::waiting(Reason::InvalidSettings, error.to_string()))?;
    let asked = Instant::now();
    let cluster = kafka.client.describe_cluster(TIMEOUT).await;
    ctx.metrics.broker_request(
        &key.to_string(),
        "DescribeCluster",
        sweep::outcome(&cluster),
        asked.elapsed(),
    );
    let cluster = cluster?;
    same_cluster(broker, before, &cluster)?;
    let link = Arc::new(Link {
        key: key.clone(),
        uid,
        created: broker.metadata.creation_timestamp.as_ref().map(|time| time.0),
        spec: broker.spec.clone(),
        cluster_id: cluster.cluster_id.clone(),
        paused: annotated(broker, annotation::PAUSED),
        verified: tokio::sync::Mutex::new(Instant::now()),
        kafka,
    });
    claimed(ctx, &link).await?;
    if ctx.links.set(key, LinkState::Up(link.clone())) {
        // Others of the same cluster have a new rival, or a new heir.
        for other in ctx.brokers.all().iter().map(|broker| BrokerKey::from_broker(broker)) {
            if other == *key || ctx.cluster_id(&other).as_deref() == Some(&link.cluster_id) {
                ctx.wake_dependents(&other);
            }
        }
    }
    // A sweep that fails is told, but the way to the broker is not down for it.
    let swept = sweep::run(ctx, &link).await;
    Ok(Found { cluster, swept })
}

/// A broker that was wiped, or another one behind the same address, has another id: no write
/// until a person says that it is meant.
fn same_cluster(broker: &Broker, before: &BrokerStatus, cluster: &ClusterInfo) -> Result<(), Failure> {
    let Some(known) = &before.cluster_id else {
        return Ok(());
    };
    let accepted = broker.annotations().get(annotation::ACCEPT_CLUSTER);
    if *known == cluster.cluster_id || accepted == Some(&cluster.cluster_id) {
        return Ok(());
    }
    Err(Failure::waiting(
        Reason::ClusterChanged,
        format!(
            "the cluster's id is {} and was {known}: another cluster answers behind the same address, or this one was wiped. Nothing is written until you say that it is meant: kubectl annotate broker.spillway.dev {} {}={} --overwrite",
            cluster.cluster_id,
            broker.name_any(),
            annotation::ACCEPT_CLUSTER,
            cluster.cluster_id
        ),
    ))
}

/// Asks the cluster who it is, unless it said so within [`VERIFIED_FOR`]: before anything is made,
/// so that another cluster behind the same address gets none of it. One request serves all who ask
/// at once.
pub async fn verify(ctx: &Context, link: &Link) -> Result<(), Failure> {
    let mut verified = link.verified.lock().await;
    if verified.elapsed() < VERIFIED_FOR {
        return Ok(());
    }
    let cluster = link.kafka.client.describe_cluster(TIMEOUT).await?;
    if cluster.cluster_id != link.cluster_id {
        ctx.wake_brokers.wake(&ObjectRef::new(&link.key.name).within(&link.key.namespace));
        return Err(Failure::waiting(
            Reason::ClusterChanged,
            format!(
                "Broker {}: the cluster's id is {} and was {}",
                link.key, cluster.cluster_id, link.cluster_id
            ),
        ));
    }
    *verified = Instant::now();
    Ok(())
}

/// Two Brokers for one cluster: the oldest decides whose namespaces may come.
async fn claimed(ctx: &Context, link: &Link) -> Result<(), Failure> {
    let Some(oldest) = oldest_broker(ctx, &link.cluster_id) else { return Ok(()) };
    let rank = (oldest.metadata.creation_timestamp.as_ref().map(|time| time.0), oldest.uid());
    if rank >= (link.created, Some(link.uid.clone())) {
        return Ok(());
    }
    let home = BrokerKey::from_broker(&oldest);
    let labels = labels(ctx, &oldest.spec, &link.key.namespace).await?;
    access::namespace_allowed(
        &oldest.spec,
        &home.namespace,
        Asking { namespace: &link.key.namespace, labels: labels.as_ref() },
    )
    .map_err(|_| {
        Failure::waiting(
            Reason::ClusterClaimed,
            format!(
                "cluster {} is declared by Broker {} since before, and that one does not allow namespace {}",
                link.cluster_id, home, link.key.namespace
            ),
        )
    })
}

fn tell(found: &Found, status: &mut BrokerStatus) {
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    status.cluster_id = Some(found.cluster.cluster_id.clone());
    status.nodes = Some(number(found.cluster.nodes.len()));
    if let Ok(counts) = &found.swept {
        status.managed = Some(number(counts.managed));
        status.in_sync = Some(number(counts.in_sync));
        status.drifted = Some(number(counts.drifted));
        status.unmanaged = Some(Unmanaged { topics: Some(number(counts.unmanaged)), queues: None });
    }
}

/// The interval to the next sweep: brokers that were made together do not stay together.
fn jittered(broker: &Broker) -> Duration {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (&broker.metadata.uid, Instant::now().elapsed().as_nanos(), Timestamp::now().as_nanosecond())
        .hash(&mut hasher);
    let interval = broker.spec.resync_interval.get();
    let tenths = u32::try_from(hasher.finish() % 100).unwrap_or(0);
    interval.saturating_sub(interval * tenths / 1_000)
}

/// An event and a log line when `Ready` changed its reason.
fn announce(ctx: &Context, broker: &Broker, before: &BrokerStatus, after: &BrokerStatus) {
    let Some(ready) = conditions::find(&after.conditions, conditions::READY) else {
        return;
    };
    if conditions::find(&before.conditions, conditions::READY).is_some_and(|old| old.reason == ready.reason) {
        return;
    }
    let (namespace, name, good) = (broker.namespace(), broker.name_any(), ready.status == "True");
    if good {
        tracing::info!(kind = "Broker", namespace, name, message = ready.message, "connected");
    } else {
        tracing::warn!(
            kind = "Broker",
            namespace,
            name,
            reason = ready.reason,
            message = ready.message,
            "not ready"
        );
    }
    ctx.events.publish(broker.object_ref(&()), !good, &ready.reason, "Connect", &ready.message);
}

/// A Broker that is gone.
pub fn forget(ctx: &Arc<Context>, broker: &Broker) {
    let key = BrokerKey::from_broker(broker);
    let uid = broker.uid().unwrap_or_default();
    ctx.links.remove(&key);
    ctx.secrets.require(&key, &std::collections::BTreeSet::new());
    ctx.kafka.remove(&PoolKey(uid.clone()));
    ctx.metrics.forget_object("Broker", &key.namespace, &key.name);
    ctx.metrics.forget_broker(&key.to_string());
    ctx.forget(&uid);
    ctx.wake_dependents(&key);
}
