//! A consumer workload whose pods do nothing and whose work is done by the test itself: one member of
//! the group, or one consumer of the queue, for each ready pod, at a rate that the test sets.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use tokio::task::JoinHandle;

use super::{Amqp, Kafka, RabbitAddress, World, until_within};

/// Follows a Deployment: records its wanted replicas, runs a member for each ready pod.
pub struct Workload {
    wanted: Arc<Mutex<Vec<i32>>>,
    pace: Arc<Pace>,
    done: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// How fast the members of a group work, as the test sets it.
#[derive(Default)]
struct Pace {
    /// Messages a second of each.
    each: AtomicU64,
    /// Messages a second of all of them; 0: as many as they can.
    all: AtomicU64,
    members: AtomicU64,
    /// Nobody works, whatever pods there are.
    away: AtomicBool,
    /// Partitions whose next message nobody gets done.
    hung: Mutex<BTreeSet<i32>>,
}

impl Pace {
    /// For how long a message occupies a member.
    fn message(&self) -> Duration {
        let all = self.all.load(Ordering::Relaxed);
        let share = if all == 0 { u64::MAX } else { all / self.members.load(Ordering::Relaxed).max(1) };
        let rate = self.each.load(Ordering::Relaxed).min(share).max(1);
        Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX)
    }

    fn is_hung(&self, partition: i32) -> bool {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner).contains(&partition)
    }
}

/// What the members read.
enum Source {
    Kafka { topic: String, config: Box<ClientConfig> },
    Rabbitmq { vhost: String, queue: String, prefetch: u16 },
}

impl Workload {
    /// Makes the Deployment `name` with `replicas` pods that sleep, and runs it as `group`, each
    /// member at `rate` messages a second.
    pub async fn start(
        world: &World,
        name: &str,
        replicas: i32,
        group: &str,
        topic: &str,
        rate: u64,
    ) -> Self {
        Self::start_at(&world.kafka, world, name, replicas, group, topic, rate).await
    }

    /// [`Self::start`], with a group on another Kafka.
    pub async fn start_at(
        kafka: &Kafka,
        world: &World,
        name: &str,
        replicas: i32,
        group: &str,
        topic: &str,
        rate: u64,
    ) -> Self {
        let source = Source::Kafka { topic: topic.to_owned(), config: Box::new(kafka.member(group)) };
        Self::start_on(source, world, name, replicas, rate).await
    }

    /// Makes the Deployment `name` with `replicas` pods that sleep, each a consumer of `queue` in the
    /// world's virtual host, `prefetch` messages at a time, at `rate` messages a second.
    pub async fn start_on_queue(
        world: &World,
        name: &str,
        replicas: i32,
        queue: &str,
        prefetch: u16,
        rate: u64,
    ) -> Self {
        world.mq().await;
        let source = Source::Rabbitmq { vhost: world.vhost.clone(), queue: queue.to_owned(), prefetch };
        Self::start_on(source, world, name, replicas, rate).await
    }

    async fn start_on(source: Source, world: &World, name: &str, replicas: i32, rate: u64) -> Self {
        world.apply(&deployment(world, name, replicas).await).await;
        let wanted = Arc::new(Mutex::new(Vec::new()));
        let pace = Arc::new(Pace { each: AtomicU64::new(rate), ..Pace::default() });
        let done = Arc::new(AtomicU64::new(0));
        let follower = Follower {
            deployments: Api::namespaced(world.client.clone(), &world.namespace),
            pods: Api::namespaced(world.client.clone(), &world.namespace),
            name: name.to_owned(),
            source,
            wanted: wanted.clone(),
            pace: pace.clone(),
            done: done.clone(),
            members: BTreeMap::new(),
        };
        Self { wanted, pace, done, task: tokio::spawn(follower.run()) }
    }

    /// Every number of replicas that was wanted, in order.
    pub fn wanted(&self) -> Vec<i32> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of replicas that is wanted now; None until it was seen.
    pub fn wanted_now(&self) -> Option<i32> {
        self.wanted().last().copied()
    }

    /// Waits until so many replicas are wanted.
    pub async fn until_wanted(&self, replicas: i32, limit: Duration) {
        until_within(limit, &format!("{replicas} replicas are wanted"), async || match self.wanted_now() {
            Some(now) if now == replicas => Ok(()),
            _ => Err(format!("{:?}", self.wanted())),
        })
        .await;
    }

    /// Messages that consumers of the queue have acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Sets the rate of each member, in messages a second.
    pub fn set_rate(&self, rate: u64) {
        self.pace.each.store(rate, Ordering::Relaxed);
    }

    /// Lets all members of the group together do no more than so many messages a second, as a full database would.
    pub fn limit_all(&self, rate: u64) {
        self.pace.all.store(rate, Ordering::Relaxed);
    }

    /// Has all members leave the group, and join it again. The pods stay, and what is wanted goes on being recorded.
    pub fn set_away(&self, away: bool) {
        self.pace.away.store(away, Ordering::Relaxed);
    }

    /// Lets nobody get the next message of these partitions done: its member keeps it, and stays in the group.
    pub fn hang(&self, partitions: &[i32]) {
        let mut hung = self.pace.hung.lock().unwrap_or_else(PoisonError::into_inner);
        *hung = partitions.iter().copied().collect();
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A Deployment whose pods sleep, on the host's network; in an image that the node has.
pub async fn deployment(world: &World, name: &str, replicas: i32) -> String {
    format!(
        "
        apiVersion: apps/v1
        kind: Deployment
        metadata: {{name: {name}}}
        spec:
          replicas: {replicas}
          selector: {{matchLabels: {{app: {name}}}}}
          template:
            metadata: {{labels: {{app: {name}}}}}
            spec: {}
        ",
        sleeping_pod(world).await
    )
}

/// The spec of a pod that sleeps, as YAML in one line.
pub async fn sleeping_pod(world: &World) -> String {
    let nodes: Api<Node> = Api::all(world.client.clone());
    let nodes = nodes.list(&ListParams::default()).await.expect("nodes");
    let images = nodes.items.iter().filter_map(|node| node.status.as_ref()?.images.as_ref()).flatten();
    let mut names = images.flat_map(|image| image.names.iter().flatten());
    let image =
        names.find(|name| name.contains("/pause:")).cloned().unwrap_or("registry.k8s.io/pause:3.10".into());
    format!(
        "{{hostNetwork: true, terminationGracePeriodSeconds: 0, containers: [{{name: main, image: '{image}', imagePullPolicy: IfNotPresent}}]}}"
    )
}

struct Follower {
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    name: String,
    source: Source,
    wanted: Arc<Mutex<Vec<i32>>>,
    pace: Arc<Pace>,
    done: Arc<AtomicU64>,
    members: BTreeMap<String, Member>,
}

impl Follower {
    async fn run(mut self) {
        let mut changes = pin!(kube::runtime::watcher::watch_object(self.deployments.clone(), &self.name));
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                Some(change) = changes.next() => if let Ok(Some(deployment)) = change {
                    self.record(&deployment);
                },
                _ = look.tick() => self.match_pods().await,
            }
        }
    }

    fn record(&self, deployment: &Deployment) {
        let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let mut all = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if all.last() != Some(&wanted) {
            all.push(wanted);
        }
    }

    async fn match_pods(&mut self) {
        if self.pace.away.load(Ordering::Relaxed) {
            self.members.clear();
            return;
        }
        let selector = ListParams::default().labels(&format!("app={}", self.name));
        let Ok(pods) = self.pods.list(&selector).await else {
            return;
        };
        let ready: Vec<_> =
            pods.items.iter().filter(|pod| is_ready(pod)).map(ResourceExt::name_any).collect();
        self.members.retain(|pod, _| ready.contains(pod));
        for pod in ready {
            let (source, pace, done) = (&self.source, &self.pace, &self.done);
            self.members.entry(pod).or_insert_with_key(|pod| match source {
                Source::Kafka { topic, config } => Member::start(config, pod, topic, pace.clone()),
                Source::Rabbitmq { vhost, queue, prefetch } => {
                    let work = worker(vhost.clone(), queue.clone(), *prefetch, pace.clone(), done.clone());
                    Member::Task(tokio::spawn(work))
                }
            });
        }
        let members = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        self.pace.members.store(members, Ordering::Relaxed);
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|all| all.iter().any(|is| is.type_ == "Ready" && is.status == "True"))
}

/// One member of the group, or one consumer of the queue; leaves it when dropped.
enum Member {
    Thread(Arc<AtomicBool>),
    Task(JoinHandle<()>),
}

/// Consumes the queue, whatever happens to it.
async fn worker(vhost: String, queue: String, prefetch: u16, pace: Arc<Pace>, done: Arc<AtomicU64>) {
    loop {
        let amqp = Amqp::connect(&RabbitAddress::of_the_bed(), &vhost).await;
        amqp.work(&queue, prefetch, &pace.each, &done).await;
        // The queue is gone, or not there yet.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

impl Member {
    fn start(config: &ClientConfig, client_id: &str, topic: &str, pace: Arc<Pace>) -> Self {
        let mut config = config.clone();
        let consumer: BaseConsumer = config.set("client.id", client_id).create().expect("a consumer");
        consumer.subscribe(&[topic]).expect("a subscription");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        thread::spawn(move || consume(&consumer, &pace, &stopped));
        Self::Thread(stop)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        match self {
            Self::Thread(stop) => stop.store(true, Ordering::Relaxed),
            Self::Task(task) => task.abort(),
        }
    }
}

const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// Processes messages one by one, as a real consumer does, until it is stopped.
fn consume(consumer: &BaseConsumer, pace: &Pace, stop: &AtomicBool) {
    let mut committed = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
            while pace.is_hung(message.partition()) {
                if stop.load(Ordering::Relaxed) {
                    // Not done, so not committed: who comes next gets it again.
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(pace.message());
        }
        if committed.elapsed() >= COMMIT_EVERY {
            // There is nothing to commit before the first message.
            let _ = consumer.commit_consumer_state(CommitMode::Async);
            committed = Instant::now();
        }
    }
    let _ = consumer.commit_consumer_state(CommitMode::Sync);
}
