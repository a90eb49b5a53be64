//! Brokers: keeps the connection, checks the cluster's identity, sweeps for drift.
//!
//! A pass over a Broker is also the sweep: it comes every `resyncInterval` (a tenth of it as
//! jitter), sooner when an edit or a Secret changes, and with a growing pause while the broker
//! does not answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};

use super::context::{BrokerKey, Context};
use super::dependents::KINDS;
use super::failure::Failure;
use super::guard::{self, labels, oldest_broker};
use super::links::{Endpoint, Link, LinkState, Unanswered};
use super::passes::Again;
use super::rabbitmq::PolicyCache;
use super::reconciler::annotated;
use super::sweep::{self, Counts, Looked, Swept};
use super::{finalizer, settings, status, sweep_rabbitmq};
use crate::api::broker::Unmanaged;
use crate::api::conditions::{self, Reason, Verdict};
use crate::api::{Broker, BrokerStatus, annotation};
use crate::brokers::kafka::{BrokerKey as PoolKey, Observer};
use crate::brokers::slot::Slot;
use crate::topology::access::{self, Asking};
use crate::topology::{Rejection, seniority};

/// How the operator names itself to brokers: their logs and quotas show it.
const CLIENT_ID: &str = "spillway";
/// How long the cluster may take to say who it is.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For how long the cluster's word about itself is good.
const VERIFIED_FOR: Duration = Duration::from_secs(1);

/// What a good pass found.
struct Found {
    cluster: Cluster,
    since: Timestamp,
    swept: Result<Counts, Failure>,
}

/// What a cluster says of itself.
struct Cluster {
    id: String,
    nodes: usize,
    version: Option<String>,
}

/// One pass over one Broker.
pub async fn reconcile(broker: Arc<Broker>, ctx: Arc<Context>) -> Result<Again, Failure> {
    let begun = Instant::now();
    let result = pass(&ctx, &broker).await;
    // It may have gone while it was looked at; what was set up for it goes, too.
    let key = BrokerKey::from_broker(&broker);
    if ctx.brokers.get(&key.namespace, &key.name).is_none_or(|cached| cached.uid() != broker.uid()) {
        forget(&ctx, &broker);
    }
    ctx.metrics.reconciled("Broker", result.is_ok(), begun.elapsed());
    result
}

async fn pass(ctx: &Arc<Context>, broker: &Broker) -> Result<Again, Failure> {
    let key = BrokerKey::from_broker(broker);
    let needed = KINDS.iter().any(|kind| kind.hold(ctx, broker));
    // While a dependent still has something to delete at the broker, the way there stays.
    finalizer::set(ctx, broker, needed && may_hold(broker)).await?;
    if broker.metadata.deletion_timestamp.is_some() && !needed {
        forget(ctx, broker);
        return Ok(None);
    }

    let before = broker.status.clone().unwrap_or_default();
    let mut after = before.clone();
    after.observed_generation = broker.metadata.generation;
    let mut tried = None;
    let result = look(ctx, broker, (&key, &before), &mut tried).await;
    let uid = broker.uid().unwrap_or_default();
    let failures = ctx.note(&uid, |notes| {
        let good = result.as_ref().is_ok_and(|found| found.swept.is_ok());
        notes.failures = if good { 0 } else { notes.failures.saturating_add(1) };
        notes.failures
    });
    let paused = annotated(broker, annotation::PAUSED);
    let (verdicts, again) = match &result {
        Ok(Found { cluster, since, swept: Err(failure) }) => {
            after.cluster_id = Some(cluster.id.clone());
            after.cluster_since = Some(since.to_string());
            let message = ctx.secrets.redact(&key, &failure.to_string());
            let ready = Verdict::new(conditions::READY, false, failure.reason(), message);
            (vec![ready], Some(failure.retry_after(failures.max(3))))
        }
        Ok(found) => {
            tell(found, &mut after);
            let message = format!("cluster {} with {} nodes", found.cluster.id, found.cluster.nodes);
            (vec![Verdict::new(conditions::READY, true, Reason::Connected, message)], Some(jittered(broker)))
        }
        Err(failure) => {
            let (reason, message) = (failure.reason(), ctx.secrets.redact(&key, &failure.to_string()));
            let mut verdicts = vec![Verdict::new(conditions::READY, false, reason, message.clone())];
            if reason == Reason::ClusterChanged {
                verdicts.push(Verdict::new(conditions::CLUSTER_CHANGED, true, reason, message.clone()));
            }
            let last = ctx.links.last(&key).filter(|last| last.spec == broker.spec);
            let last = last.filter(|last| match reason {
                Reason::BrokerUnreachable => tried.is_some_and(|tried| last.endpoint.is(&tried)),
                _ => reason == Reason::SecretNotFound,
            });
            let state = LinkState::Down { reason, message, cluster_id: before.cluster_id.clone(), last };
            if ctx.links.set(&key, state) {
                ctx.wake_dependents(&key);
            }
            (verdicts, Some(failure.retry_after(failures)))
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
    let in_sync = result.as_ref().ok().and_then(|found| Some(found.swept.as_ref().ok()?.drifted == 0));
    ctx.serve_object(&ctx.brokers, ("Broker", broker), result.is_ok(), in_sync, false);
    Ok(again)
}

/// A deleted object takes no new finalizer; the API server would refuse it.
fn may_hold(broker: &Broker) -> bool {
    broker.metadata.deletion_timestamp.is_none() || finalizer::is_on(broker)
}

/// Connects, checks who answers, and sweeps. `tried`: the clients that it was done with.
async fn look(
    ctx: &Arc<Context>,
    broker: &Broker,
    (key, before): (&BrokerKey, &BrokerStatus),
    tried: &mut Option<Endpoint>,
) -> Result<Found, Failure> {
    let uid = broker.uid().unwrap_or_default();
    let endpoint = connect(ctx, broker, key).await?;
    *tried = Some(endpoint.clone());
    let asked = Instant::now();
    let cluster = who(ctx, key, &endpoint).await?;
    same_cluster(broker, before, &cluster)?;
    let link = Arc::new(Link {
        key: key.clone(),
        uid,
        since: on_cluster_since(broker, before, &cluster.id),
        spec: broker.spec.clone(),
        cluster_id: cluster.id.clone(),
        paused: annotated(broker, annotation::PAUSED),
        verified: Slot::default(),
        policies: PolicyCache::default(),
        looked: Looked::default(),
        endpoint,
    });
    link.verified.put(asked, cluster.id.clone());
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
    let swept = match &link.endpoint {
        Endpoint::Kafka(kafka) => sweep::run(ctx, &link, kafka).await,
        Endpoint::Rabbitmq(rabbit) => sweep_rabbitmq::run(ctx, &link, rabbit).await,
    };
    Ok(Found { cluster, since: link.since, swept })
}

/// The clients for what the spec says.
async fn connect(ctx: &Arc<Context>, broker: &Broker, key: &BrokerKey) -> Result<Endpoint, Failure> {
    let uid = broker.uid().unwrap_or_default();
    let names = settings::secret_names(&broker.spec);
    ctx.secrets.require(key, &names);
    let material = ctx.secrets.read(&key.namespace, &names).await?;
    let read = |name: &str, key: &str| material.text(name, key);
    let unreadable = |Rejection { reason, message }| Failure::waiting(reason, message);
    let refused = |error: String| Failure::waiting(Reason::InvalidSettings, error);
    if let Some(connection) = &broker.spec.kafka {
        let settings = settings::kafka(connection, CLIENT_ID, &read).map_err(unreadable)?;
        let observer = || {
            let (metrics, name) = (ctx.metrics.clone(), key.to_string());
            Observer::new(move |operation, result, took| {
                metrics.broker_request(&name, operation, result, took);
            })
        };
        let kafka = ctx
            .kafka
            .get_observed(&PoolKey(uid), &settings, observer)
            .map_err(|error| refused(error.to_string()))?;
        return Ok(Endpoint::Kafka(kafka));
    }
    if let Some(connection) = &broker.spec.rabbitmq {
        let mut settings = settings::rabbitmq(connection, &read).map_err(unreadable)?;
        settings.amqp_url = settings::amqp_url(connection, &read).map_err(unreadable)?;
        let rabbit =
            ctx.rabbitmq.get(&PoolKey(uid), &settings).map_err(|error| refused(error.to_string()))?;
        return Ok(Endpoint::Rabbitmq(rabbit));
    }
    Err(Failure::waiting(Reason::InvalidSpec, "the Broker has no connection: set kafka or rabbitmq"))
}

/// Asks the cluster who it is.
async fn who(ctx: &Context, key: &BrokerKey, endpoint: &Endpoint) -> Result<Cluster, Failure> {
    let asked = Instant::now();
    match endpoint {
        Endpoint::Kafka(kafka) => {
            let cluster = kafka.client.describe_cluster(TIMEOUT).await;
            let outcome = sweep::outcome(&cluster);
            ctx.metrics.broker_request(&key.to_string(), "DescribeCluster", outcome, asked.elapsed());
            let cluster = cluster?;
            Ok(Cluster { id: cluster.cluster_id, nodes: cluster.nodes.len(), version: None })
        }
        Endpoint::Rabbitmq(rabbit) => {
            let heard = |operation, outcome, asked: Instant| {
                ctx.metrics.broker_request(&key.to_string(), operation, outcome, asked.elapsed());
                Instant::now()
            };
            let id = rabbit.client.cluster_id().await;
            let asked = heard("GlobalParameters", sweep_rabbitmq::outcome(&id), asked);
            let id = id?;
            let overview = rabbit.client.overview().await;
            let asked = heard("Overview", sweep_rabbitmq::outcome(&overview), asked);
            let overview = overview?;
            let nodes = rabbit.client.nodes().await;
            heard("ListNodes", sweep_rabbitmq::outcome(&nodes), asked);
            let nodes = nodes?.iter().filter(|node| node.running).count();
            Ok(Cluster { id, nodes, version: Some(overview.version) })
        }
    }
}

/// A broker that was wiped, or another one behind the same address, has another id: no write
/// until a person says that it is meant.
fn same_cluster(broker: &Broker, before: &BrokerStatus, cluster: &Cluster) -> Result<(), Failure> {
    let Some(known) = &before.cluster_id else {
        return Ok(());
    };
    let accepted = broker.annotations().get(annotation::ACCEPT_CLUSTER);
    if *known == cluster.id || accepted == Some(&cluster.id) {
        return Ok(());
    }
    Err(Failure::waiting(
        Reason::ClusterChanged,
        format!(
            "the cluster's id is {} and was {known}: another cluster answers behind the same address, or this one was wiped. Nothing is written until you say that it is meant: kubectl annotate broker.spillway.dev {} {}={} --overwrite",
            cluster.id,
            broker.name_any(),
            annotation::ACCEPT_CLUSTER,
            cluster.id
        ),
    ))
}

/// Asks the cluster who it is, unless it said so within [`VERIFIED_FOR`]: before anything is made,
/// changed or deleted, so that another cluster behind the same address has none of it. One request
/// serves all who ask at once, also where it has no answer: hundreds would wait for it one after the other.
pub async fn verify(ctx: &Context, link: &Link) -> Result<(), Failure> {
    let now = Instant::now();
    let young = now.checked_sub(VERIFIED_FOR).unwrap_or(now);
    let told = link.verified.get(young, async || match &link.endpoint {
        Endpoint::Kafka(kafka) => {
            let cluster = kafka.client.describe_cluster(TIMEOUT).await;
            cluster.map(|cluster| cluster.cluster_id).map_err(Unanswered::Kafka)
        }
        Endpoint::Rabbitmq(rabbit) => rabbit.client.cluster_id().await.map_err(Unanswered::Rabbitmq),
    });
    let id = told.await?;
    if *id != link.cluster_id {
        ctx.wake_brokers.wake(&ObjectRef::new(&link.key.name).within(&link.key.namespace));
        return Err(Failure::waiting(
            Reason::ClusterChanged,
            format!(
                "Broker {}: the cluster's id is {} and was {}",
                link.key,
                ctx.secrets.redact(&link.key, &id),
                link.cluster_id
            ),
        ));
    }
    Ok(())
}

/// Since when a Broker has been on the cluster that answers.
fn on_cluster_since(broker: &Broker, before: &BrokerStatus, cluster_id: &str) -> Timestamp {
    let known = seniority::Known {
        cluster_id: before.cluster_id.as_deref(),
        since: before.cluster_since.as_ref().and_then(|since| since.parse().ok()),
    };
    let created = broker.metadata.creation_timestamp.as_ref().map(|time| time.0);
    seniority::since(known, cluster_id, created, Timestamp::now())
}

/// Two Brokers for one cluster: the one that has been on it for longer decides whose namespaces may come.
async fn claimed(ctx: &Context, link: &Link) -> Result<(), Failure> {
    let Some(oldest) = oldest_broker(ctx, &link.cluster_id) else { return Ok(()) };
    let rank = (guard::on_cluster_since(ctx, &oldest), oldest.uid());
    if rank >= (Some(link.since), Some(link.uid.clone())) {
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
    status.cluster_id = Some(found.cluster.id.clone());
    status.cluster_since = Some(found.since.to_string());
    status.version.clone_from(&found.cluster.version);
    status.nodes = Some(number(found.cluster.nodes));
    if let Ok(counts) = &found.swept {
        status.managed = Some(number(counts.managed));
        status.in_sync = Some(number(counts.in_sync));
        status.drifted = Some(number(counts.drifted));
        let unmanaged = Some(number(counts.unmanaged));
        status.unmanaged = Some(match counts.kind {
            Swept::Topics => Unmanaged { topics: unmanaged, queues: None },
            Swept::Queues => Unmanaged { topics: None, queues: unmanaged },
        });
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
        tracing::info!(kind = "Broker", namespace, name, detail = ready.message, "connected");
    } else {
        tracing::warn!(
            kind = "Broker",
            namespace,
            name,
            reason = ready.reason,
            detail = ready.message,
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
    ctx.rabbitmq.remove(&PoolKey(uid.clone()));
    ctx.metrics.forget_object("Broker", &key.namespace, &key.name);
    ctx.metrics.forget_broker(&key.to_string());
    ctx.forget(&uid);
    ctx.wake_dependents(&key);
}
