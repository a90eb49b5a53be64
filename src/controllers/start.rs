//! All controllers together: caches first, leadership next, work last.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt as _};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Cached, Change, Relevant, apis};
use super::consumer::registry::QueueName;
use super::consumer::registry::Registry;
use super::consumer::targets::Targets;
use super::context::{BrokerKey, Context, WRITERS};
use super::dependents::KINDS;
use super::events::Events;
use super::labels::Labels;
use super::links::Links;
use super::passes::{self, Work};
use super::reconciler::TopologyKind;
use super::secrets::Secrets;
use super::wake::Wake;
use super::worklist::Limits;
use super::written::Written;
use super::{broker, consumer, reconciler, unreadable};
use crate::api::{Binding, Broker, Consumer, Exchange, Queue, Topic};
use crate::brokers::kafka::KafkaPool;
use crate::brokers::lane::Lane;
use crate::brokers::rabbitmq::RabbitPool;
use crate::runtime::http::Health;
use crate::runtime::lease::Fence;
use crate::runtime::metrics::Metrics;

/// How many passes over one kind of topology run at once.
const TOPOLOGY: Limits = Limits { users: 512, resyncs: 256 };
/// How many passes over Brokers, and over Consumers, run at once.
const OTHERS: Limits = Limits { users: 512, resyncs: 256 };
/// How long one batched request to a broker may take.
const BROKER_TIMEOUT: Duration = Duration::from_secs(15);

/// The caches of a process, warm before it leads.
pub struct Caches {
    brokers: Cache<Broker>,
    topics: Cache<Topic>,
    exchanges: Cache<Exchange>,
    queues: Cache<Queue>,
    bindings: Cache<Binding>,
    consumers: Cache<Consumer>,
    namespaces: Option<Cache<Namespace>>,
    labels: Labels,
    targets: Targets,
}

impl Caches {
    /// Starts all watches: on the whole cluster, or on some namespaces.
    #[must_use]
    pub fn start(client: &Client, namespaces: &[String]) -> Self {
        Self {
            brokers: Cache::start(apis(client, namespaces), |_| Vec::new(), |_| ()),
            topics: Cache::start(apis(client, namespaces), Topic::keys, |_| ()),
            exchanges: Cache::start(apis(client, namespaces), Exchange::keys, |_| ()),
            queues: Cache::start(apis(client, namespaces), Queue::keys, |_| ()),
            bindings: Cache::start(apis(client, namespaces), Binding::keys, |_| ()),
            consumers: Cache::start(apis(client, namespaces), consumer::keys::of, |_| ()),
            // Namespaces are no namespace's: who may only look into some of them knows no labels.
            namespaces: namespaces.is_empty().then(|| {
                Cache::start(
                    vec![(None, kube::Api::all(client.clone()))],
                    |_| Vec::new(),
                    |namespace: &mut Namespace| {
                        namespace.spec = None;
                        namespace.status = None;
                    },
                )
            }),
            labels: Labels::of(namespaces.to_vec()),
            targets: Targets::start(client, namespaces),
        }
    }

    /// Returns when all of them have listed what exists.
    pub async fn synced(&self) {
        self.brokers.synced().await;
        self.topics.synced().await;
        self.exchanges.synced().await;
        self.queues.synced().await;
        self.bindings.synced().await;
        self.consumers.synced().await;
        if let Some(namespaces) = &self.namespaces {
            namespaces.synced().await;
        }
        self.targets.synced().await;
    }
}

/// Runs all controllers until `stop`. What is under way then ends first.
pub async fn run(
    client: Client,
    caches: Caches,
    fence: Fence,
    metrics: Metrics,
    health: Health,
    identity: String,
    stop: CancellationToken,
) {
    let wake_brokers: Arc<Wake<Broker>> = Arc::default();
    let wake = wake_brokers.clone();
    let secrets = Secrets::new(client.clone(), move |broker: &BrokerKey| {
        wake.wake(&ObjectRef::new(&broker.name).within(&broker.namespace));
    });
    let ctx = Arc::new(Context {
        events: Events::start(client.clone(), identity, Arc::new(fence.clone())),
        client,
        metrics,
        brokers: caches.brokers,
        topics: caches.topics,
        exchanges: caches.exchanges,
        queues: caches.queues,
        bindings: caches.bindings,
        consumers: caches.consumers,
        namespaces: caches.namespaces,
        labels: caches.labels,
        links: Links::default(),
        kafka: KafkaPool::new(BROKER_TIMEOUT, fence.clone()),
        rabbitmq: RabbitPool::new(fence.clone()),
        fence,
        secrets,
        wake_brokers,
        wake_topics: Wake::default(),
        wake_exchanges: Wake::default(),
        wake_queues: Wake::default(),
        wake_bindings: Wake::default(),
        wake_consumers: Wake::default(),
        targets: caches.targets,
        registry: Registry::default(),
        health,
        writers: Semaphore::new(WRITERS),
        holding: tokio::sync::Mutex::default(),
        notes: Mutex::default(),
        written: Written::default(),
        started: Instant::now(),
    });
    tokio::join!(
        passes::run(
            &ctx,
            &ctx.brokers,
            ctx.wake_brokers.listen(),
            &stop,
            others("Broker", broker::reconcile),
        ),
        topology::<Topic>(&ctx, &stop),
        topology::<Exchange>(&ctx, &stop),
        topology::<Queue>(&ctx, &stop),
        topology::<Binding>(&ctx, &stop),
        until(&stop, gone_ones::<Exchange>(ctx.clone())),
        until(&stop, gone_ones::<Queue>(ctx.clone())),
        until(&stop, gone_ones::<Binding>(ctx.clone())),
        passes::run(
            &ctx,
            &ctx.consumers,
            ctx.wake_consumers.listen(),
            &stop,
            others("Consumer", consumer::reconcile),
        ),
        until(&stop, unreadable::tell(ctx.clone(), ctx.brokers.clone())),
        until(&stop, unreadable::tell(ctx.clone(), ctx.topics.clone())),
        until(&stop, unreadable::tell(ctx.clone(), ctx.exchanges.clone())),
        until(&stop, unreadable::tell(ctx.clone(), ctx.queues.clone())),
        until(&stop, unreadable::tell(ctx.clone(), ctx.bindings.clone())),
        until(&stop, unreadable::tell(ctx.clone(), ctx.consumers.clone())),
        consumer::collector::run(ctx.clone(), stop.clone()),
        until(&stop, react(ctx.clone())),
    );
}

async fn until(stop: &CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// How passes over Brokers and Consumers run: there are few, and none waits for another.
fn others<K: Cached, F>(kind: &'static str, pass: fn(Arc<K>, Arc<Context>) -> F) -> Work<K, F> {
    Work { kind, limits: OTHERS, lane: |_, _| Lane::User, pass }
}

/// Passes over one kind of topology.
async fn topology<K: TopologyKind>(ctx: &Arc<Context>, stop: &CancellationToken) {
    let work = Work {
        kind: K::KIND,
        limits: TOPOLOGY,
        lane: reconciler::lane_of::<K>,
        pass: reconciler::reconcile::<K>,
    };
    passes::run(ctx, K::cache(ctx), K::wake(ctx).listen(), stop, work).await;
}

/// What a change of one object means for others.
async fn react(ctx: Arc<Context>) {
    let mut brokers = std::pin::pin!(ctx.brokers.subscribe());
    let mut topics = std::pin::pin!(ctx.topics.subscribe());
    let mut queues = std::pin::pin!(ctx.queues.subscribe());
    let mut consumers = std::pin::pin!(ctx.consumers.subscribe());
    let mut deployments = std::pin::pin!(ctx.targets.deployments.subscribe());
    let mut stateful_sets = std::pin::pin!(ctx.targets.stateful_sets.subscribe());
    let mut namespaces = std::pin::pin!(match &ctx.namespaces {
        Some(all) => all.subscribe().left_stream(),
        None => futures::stream::pending().right_stream(),
    });
    let (mut relevant, mut relabelled) = (Relevant::default(), Relevant::default());
    let mut relevant_queues = Relevant::default();
    loop {
        tokio::select! {
            Some(change) = brokers.next() => match change {
                Change::Deleted(object) => broker::forget(&ctx, &object),
                // Dependents that came first wait for it.
                Change::Applied(object) if ctx.links.get(&BrokerKey::from_broker(&object)).is_err() => {
                    ctx.wake_dependents(&BrokerKey::from_broker(&object));
                }
                Change::Applied(_) => {}
            },
            Some(change) = topics.next() => {
                let news = relevant.passes(&change);
                let (Change::Applied(topic) | Change::Deleted(topic)) = &change;
                if matches!(change, Change::Deleted(_)) {
                    gone(&ctx, topic.as_ref());
                }
                if news {
                    wake_readers(&ctx, topic);
                }
            },
            Some(change) = queues.next() => if relevant_queues.passes(&change) {
                let (Change::Applied(queue) | Change::Deleted(queue)) = &change;
                wake_queue_readers(&ctx, queue);
            },
            // Labels decide which Brokers a namespace may use.
            Some(change) = namespaces.next() => if relabelled.passes(&change) {
                let (Change::Applied(namespace) | Change::Deleted(namespace)) = &change;
                wake_all_in(&ctx, &namespace.name_any());
            },
            Some(change) = consumers.next() => if let Change::Deleted(object) = change {
                consumer::forget(&ctx, &object);
            },
            Some(change) = deployments.next() => wake_scaler(&ctx, &change),
            Some(change) = stateful_sets.next() => wake_scaler(&ctx, &change),
            else => return,
        }
    }
}

/// Everything in a namespace looks again.
fn wake_all_in(ctx: &Context, namespace: &str) {
    for kind in KINDS {
        kind.wake_in(ctx, namespace);
    }
    for consumer in ctx.consumers.all().iter().filter(|c| c.metadata.namespace.as_deref() == Some(namespace))
    {
        ctx.wake_consumers.wake(&ObjectRef::from_obj(consumer.as_ref()));
    }
}

/// Watches for objects of one kind that go.
async fn gone_ones<K: TopologyKind>(ctx: Arc<Context>) {
    let mut changes = std::pin::pin!(K::cache(&ctx).subscribe());
    while let Some(change) = changes.next().await {
        if let Change::Deleted(object) = change {
            gone(&ctx, object.as_ref());
        }
    }
}

/// An object is gone: the next in line takes over, its parents miss it, its Broker may be let go.
fn gone<K: TopologyKind>(ctx: &Arc<Context>, object: &K) {
    let namespace = object.namespace().unwrap_or_default();
    ctx.metrics.forget_object(K::KIND, &namespace, &object.name_any());
    ctx.forget(&object.uid().unwrap_or_default());
    reconciler::wake_claimants(ctx, object);
    reconciler::wake_owners(ctx, object);
    let broker = BrokerKey::of(object.broker_ref(), &namespace);
    ctx.wake_brokers.wake(&ObjectRef::new(&broker.name).within(&broker.namespace));
}

/// Consumers of a topic whose dead letters and retries may have changed.
fn wake_readers(ctx: &Context, topic: &Topic) {
    wake_consumers(ctx, &consumer::keys::read(topic.topic_name()), |_| true);
}

/// Consumers of a queue whose dead letters and retries may have changed.
fn wake_queue_readers(ctx: &Context, queue: &Queue) {
    let name = QueueName { vhost: queue.spec.vhost.clone(), name: queue.queue_name().to_owned() };
    wake_consumers(ctx, &consumer::keys::queue(&name), |_| true);
}

/// Consumers whose workload came or went.
fn wake_scaler<K: Cached>(ctx: &Context, change: &Change<K>) {
    let (Change::Applied(object) | Change::Deleted(object)) = change;
    let (namespace, name) = (object.meta().namespace.as_deref(), object.meta().name.as_deref());
    let key = consumer::keys::scaled(&K::kind(&()), namespace.unwrap_or_default(), name.unwrap_or_default());
    wake_consumers(ctx, &key, |consumer| {
        matches!(change, Change::Deleted(_)) || ctx.registry.misses(&consumer.uid().unwrap_or_default())
    });
}

fn wake_consumers(ctx: &Context, key: &str, which: impl Fn(&Consumer) -> bool) {
    for consumer in ctx.consumers.find(key).iter().filter(|consumer| which(consumer)) {
        ctx.wake_consumers.wake(&ObjectRef::from_obj(consumer.as_ref()));
    }
}
