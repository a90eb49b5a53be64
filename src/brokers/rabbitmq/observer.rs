//! What is there, for many who ask at once.
//!
//! A listing of a virtual host costs about as much as asking for a sixteenth of its queues one by one. So few who ask
//! get requests of their own, and as soon as many ask in one virtual host, one listing serves them all:
//!
//! ```text
//! passes ──▶ few in the virtual host ──▶ one request per object ──▶ client
//!    │  └──▶ many ──▶ slot: one listing at a time, shared ────────▶ client
//!    └─ a kept answer that is young enough ◀── slot ◀── sweep: all virtual hosts, one request per kind
//! ```
//!
//! # Guarantees
//! - An answer comes from requests that began at or after the `not_before` of who asked.
//! - At most one listing of each kind is under way per virtual host.
//! - Listings are dropped after 10 seconds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::FutureExt as _;

use super::client::RabbitClient;
use super::error::{ErrorKind, RabbitError};
use super::types::{BindingInfo, ExchangeInfo, Policy, QueueInfo, QueueStatistics, Target, VhostPolicies};
use crate::brokers::lane::Lane;
use crate::brokers::slot::{self, KEEP};

/// The place of an answer of RabbitMQ's.
type Slot<T> = slot::Slot<T, RabbitError>;

/// From how many who ask in one virtual host on a listing serves them, at least.
const MANY: usize = 16;
/// The same as a share of the virtual host's queues. Measured with 2,500: a queue with its bindings takes 1.7 ms, the
/// listings of both take 0.25 s, which is 147 queues.
const SHARE: usize = 16;

/// A queue, and what leads to it.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenQueue {
    /// `None` when it does not exist.
    pub queue: Option<QueueInfo>,
    /// All bindings that lead to it, that of the default exchange left out.
    pub bindings: Vec<BindingInfo>,
}

/// The two ends of a binding, and what is between them.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenRoute {
    /// The exchange that messages come from; `None` when it does not exist.
    pub source: Option<ExchangeInfo>,
    /// Whether the queue or exchange that they go to exists.
    pub target_exists: bool,
    /// All bindings from the one to the other.
    pub bindings: Vec<BindingInfo>,
}

/// Everything in all virtual hosts that the user may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// When the requests began: the `not_before` of passes that are to be served from it.
    pub begun: Instant,
    /// Queues. Their operator policies and consumers are known only where the virtual host has operator policies.
    pub queues: Vec<Arc<QueueInfo>>,
    /// Exchanges, RabbitMQ's own included.
    pub exchanges: Vec<ExchangeInfo>,
    /// Bindings, those of the default exchange left out.
    pub bindings: Vec<Arc<BindingInfo>>,
    /// Policies.
    pub policies: Vec<Policy>,
    /// Operator policies.
    pub operator_policies: Vec<Policy>,
    /// Virtual hosts whose bindings RabbitMQ cannot list, and its words.
    pub unlisted: BTreeMap<String, RabbitError>,
}

/// Answers questions about one cluster. Clones share what they know.
#[derive(Clone)]
pub struct Observer {
    shared: Arc<Shared>,
}

struct Shared {
    client: RabbitClient,
    vhosts: Mutex<HashMap<String, Arc<Desk>>>,
}

/// Where questions about one virtual host arrive.
#[derive(Default)]
struct Desk {
    asking: AtomicUsize,
    /// How many queues there were when they were listed last.
    size: AtomicUsize,
    queues: Slot<HashMap<String, Arc<QueueInfo>>>,
    statistics: Slot<HashMap<String, QueueStatistics>>,
    exchanges: Slot<HashMap<String, ExchangeInfo>>,
    bindings: Slot<HashMap<Target, Vec<Arc<BindingInfo>>>>,
    policies: Slot<VhostPolicies>,
}

impl Sweep {
    /// The virtual hosts that there are, as far as the user may see them: every one has exchanges.
    #[must_use]
    pub fn vhosts(&self) -> HashSet<&str> {
        self.exchanges.iter().map(|exchange| exchange.vhost.as_str()).collect()
    }
}

impl Observer {
    /// An observer on a client.
    #[must_use]
    pub fn new(client: &RabbitClient) -> Self {
        Self { shared: Arc::new(Shared { client: client.clone(), vhosts: Mutex::default() }) }
    }

    /// A queue and what leads to it, as of `not_before` or later.
    ///
    /// Its operator policy is known where the virtual host has any, as of RabbitMQ's last statistics.
    pub async fn queue(
        &self,
        vhost: &str,
        name: &str,
        not_before: Instant,
        lane: Lane,
    ) -> Result<SeenQueue, RabbitError> {
        let look = self.look(vhost, not_before, lane);
        let target = Target::Queue(name.to_owned());
        let (queue, bindings) = futures::try_join!(look.queue(name), look.bindings_to(&target))?;
        let Some(queue) = queue else {
            return Ok(SeenQueue { queue: None, bindings: Vec::new() });
        };
        let queue = if look.has_operator_policies().await? {
            match look.statistics(name).await? {
                Some(statistics) => queue.with_statistics(statistics),
                None => queue,
            }
        } else {
            queue
        };
        Ok(SeenQueue { queue: Some(queue), bindings })
    }

    /// An exchange, as of `not_before` or later; `None` when it does not exist.
    pub async fn exchange(
        &self,
        vhost: &str,
        name: &str,
        not_before: Instant,
        lane: Lane,
    ) -> Result<Option<ExchangeInfo>, RabbitError> {
        self.look(vhost, not_before, lane).exchange(name).await
    }

    /// The ends of a binding and what is between them, as of `not_before` or later.
    pub async fn route(
        &self,
        vhost: &str,
        source: &str,
        target: &Target,
        not_before: Instant,
        lane: Lane,
    ) -> Result<SeenRoute, RabbitError> {
        let look = self.look(vhost, not_before, lane);
        let (source, target_exists, bindings) = futures::try_join!(
            look.exchange(source),
            look.exists(target),
            look.bindings_between(source, target)
        )?;
        Ok(SeenRoute { source, target_exists, bindings })
    }

    /// All policies of a virtual host, as of `not_before` or later.
    pub async fn policies(
        &self,
        vhost: &str,
        not_before: Instant,
        lane: Lane,
    ) -> Result<Arc<VhostPolicies>, RabbitError> {
        self.look(vhost, not_before, lane).policies(not_before).await
    }

    /// Looks at everything, with one request per kind of object. The answer also serves whoever asks for single
    /// objects as of its beginning.
    pub async fn sweep(&self, lane: Lane) -> Result<Sweep, RabbitError> {
        let client = self.shared.client.on(lane);
        let begun = Instant::now();
        let (mut queues, exchanges, bindings, policies, operator_policies) = futures::try_join!(
            client.list_queues(None),
            client.list_exchanges(None),
            client.list_bindings(None).map(Ok),
            client.list_policies(None),
            client.list_operator_policies(None),
        )?;
        let mut unlisted = BTreeMap::new();
        let bindings = match bindings {
            // One binding that it cannot write down is enough for that: what is in other virtual hosts is to be seen.
            Err(error) if error.kind == ErrorKind::Unavailable => {
                bindings_by_vhost(&client, &exchanges, error, &mut unlisted).await?
            }
            bindings => bindings?,
        };
        let limited: HashSet<String> = operator_policies.iter().map(|policy| policy.vhost.clone()).collect();
        let mut statistics = Vec::new();
        if !limited.is_empty() {
            statistics = client.list_queue_statistics(None).await?;
            statistics.retain(|of| limited.contains(&of.vhost));
            add(&mut queues, &statistics);
        }
        let queues = queues.into_iter().map(Arc::new).collect();
        let bindings = bindings.into_iter().map(Arc::new).collect();
        let sweep = Sweep { begun, queues, exchanges, bindings, policies, operator_policies, unlisted };
        self.seed(&sweep, &limited, statistics);
        Ok(sweep)
    }

    fn seed(&self, sweep: &Sweep, limited: &HashSet<String>, statistics: Vec<QueueStatistics>) {
        let mut seen: HashMap<&str, Seen> = HashMap::new();
        // Every virtual host has exchanges: one without queues is known to have none.
        for one in &sweep.exchanges {
            seen.entry(&one.vhost).or_default().exchanges.insert(one.name.clone(), one.clone());
        }
        for one in &sweep.queues {
            if let Some(seen) = seen.get_mut(one.vhost.as_str()) {
                seen.queues.insert(one.name.clone(), one.clone());
            }
        }
        for one in &sweep.bindings {
            if let Some(seen) = seen.get_mut(one.vhost.as_str()) {
                seen.bindings.entry(one.target.clone()).or_default().push(one.clone());
            }
        }
        for one in &sweep.policies {
            if let Some(seen) = seen.get_mut(one.vhost.as_str()) {
                seen.policies.policies.push(one.clone());
            }
        }
        for one in &sweep.operator_policies {
            if let Some(seen) = seen.get_mut(one.vhost.as_str()) {
                seen.policies.operator.push(one.clone());
            }
        }
        for one in statistics {
            if let Some(seen) = seen.get_mut(one.vhost.as_str()) {
                seen.statistics.insert(one.name.clone(), one);
            }
        }
        for (vhost, seen) in seen {
            let desk = self.desk(vhost);
            desk.size.store(seen.queues.len(), Ordering::Relaxed);
            desk.queues.put(sweep.begun, seen.queues);
            desk.exchanges.put(sweep.begun, seen.exchanges);
            if !sweep.unlisted.contains_key(vhost) {
                desk.bindings.put(sweep.begun, seen.bindings);
            }
            desk.policies.put(sweep.begun, seen.policies);
            if limited.contains(vhost) {
                desk.statistics.put(sweep.begun, seen.statistics);
            }
        }
        self.shared.tidy_later();
    }

    fn look<'a>(&'a self, vhost: &'a str, not_before: Instant, lane: Lane) -> Look<'a> {
        let desk = self.desk(vhost);
        let many = MANY.max(desk.size.load(Ordering::Relaxed) / SHARE);
        let many = desk.asking.fetch_add(1, Ordering::Relaxed) + 1 >= many;
        Look { shared: &self.shared, client: self.shared.client.on(lane), desk, vhost, not_before, many }
    }

    fn desk(&self, vhost: &str) -> Arc<Desk> {
        let mut vhosts = self.shared.vhosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(vhosts.entry(vhost.to_owned()).or_default())
    }
}

/// The bindings of each virtual host by itself, where those of all together cannot be had: `error`. Where none can be had,
/// it is not about one of them.
async fn bindings_by_vhost(
    client: &RabbitClient,
    exchanges: &[ExchangeInfo],
    error: RabbitError,
    unlisted: &mut BTreeMap<String, RabbitError>,
) -> Result<Vec<BindingInfo>, RabbitError> {
    let vhosts: BTreeSet<&str> = exchanges.iter().map(|exchange| exchange.vhost.as_str()).collect();
    let mut bindings = Vec::new();
    for vhost in &vhosts {
        match client.list_bindings(Some(vhost)).await {
            Ok(listed) => bindings.extend(listed),
            Err(error) if error.kind == ErrorKind::Unavailable => {
                unlisted.insert((*vhost).to_owned(), error);
            }
            Err(error) => return Err(error),
        }
    }
    if unlisted.len() == vhosts.len() { Err(error) } else { Ok(bindings) }
}

/// What a sweep saw of one virtual host.
#[derive(Default)]
struct Seen {
    queues: HashMap<String, Arc<QueueInfo>>,
    statistics: HashMap<String, QueueStatistics>,
    exchanges: HashMap<String, ExchangeInfo>,
    bindings: HashMap<Target, Vec<Arc<BindingInfo>>>,
    policies: VhostPolicies,
}

/// Adds to queues what statistics say of them.
fn add(queues: &mut [QueueInfo], statistics: &[QueueStatistics]) {
    let of: HashMap<_, _> = statistics.iter().map(|of| ((of.vhost.clone(), of.name.clone()), of)).collect();
    for queue in queues {
        if let Some(of) = of.get(&(queue.vhost.clone(), queue.name.clone())) {
            *queue = queue.clone().with_statistics((*of).clone());
        }
    }
}

impl Shared {
    /// Drops what is too old, once it is.
    fn tidy_later(self: &Arc<Self>) {
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(KEEP).await;
            if let Some(shared) = shared.upgrade() {
                shared.tidy();
            }
        });
    }

    fn tidy(&self) {
        let mut vhosts = self.vhosts.lock().unwrap_or_else(PoisonError::into_inner);
        // A desk in use stays: who asks there shares it with those who come.
        vhosts.retain(|_, desk| !desk.tidy() || Arc::strong_count(desk) > 1);
    }
}

impl Desk {
    /// Forgets what is too old. Whether nothing is left.
    fn tidy(&self) -> bool {
        let empty = [
            self.queues.tidy(),
            self.statistics.tidy(),
            self.exchanges.tidy(),
            self.bindings.tidy(),
            self.policies.tidy(),
        ];
        empty.iter().all(|empty| *empty)
    }
}

/// One question.
struct Look<'a> {
    shared: &'a Arc<Shared>,
    client: RabbitClient,
    desk: Arc<Desk>,
    vhost: &'a str,
    not_before: Instant,
    /// So many ask in this virtual host that a listing is cheaper.
    many: bool,
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.desk.asking.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Look<'_> {
    /// What is kept, or the listing when many ask; `None`: ask for the one object.
    async fn shared<T>(
        &self,
        slot: &Slot<T>,
        list: impl AsyncFnOnce() -> Result<T, RabbitError>,
    ) -> Result<Option<Arc<T>>, RabbitError> {
        if !self.many {
            return Ok(slot.kept(self.not_before));
        }
        self.fetch(slot, self.not_before, list).await.map(Some)
    }

    async fn fetch<T>(
        &self,
        slot: &Slot<T>,
        not_before: Instant,
        list: impl AsyncFnOnce() -> Result<T, RabbitError>,
    ) -> Result<Arc<T>, RabbitError> {
        slot.get(not_before, async || {
            let listed = list().await;
            self.shared.tidy_later();
            listed
        })
        .await
    }

    async fn queue(&self, name: &str) -> Result<Option<QueueInfo>, RabbitError> {
        let listed = self
            .shared(&self.desk.queues, async || {
                let queues = self.client.list_queues(Some(self.vhost)).await?;
                self.desk.size.store(queues.len(), Ordering::Relaxed);
                Ok(queues.into_iter().map(|queue| (queue.name.clone(), Arc::new(queue))).collect())
            })
            .await?;
        match listed {
            Some(queues) => Ok(queues.get(name).map(|queue| queue.as_ref().clone())),
            None => self.client.queue(self.vhost, name).await,
        }
    }

    async fn statistics(&self, name: &str) -> Result<Option<QueueStatistics>, RabbitError> {
        let listed = self
            .shared(&self.desk.statistics, async || {
                let all = self.client.list_queue_statistics(Some(self.vhost)).await?;
                Ok(all.into_iter().map(|of| (of.name.clone(), of)).collect())
            })
            .await?;
        match listed {
            Some(all) => Ok(all.get(name).cloned()),
            None => self.client.queue_statistics(self.vhost, name).await,
        }
    }

    async fn exchanges(&self) -> Result<Option<Arc<HashMap<String, ExchangeInfo>>>, RabbitError> {
        self.shared(&self.desk.exchanges, async || {
            let exchanges = self.client.list_exchanges(Some(self.vhost)).await?;
            Ok(exchanges.into_iter().map(|exchange| (exchange.name.clone(), exchange)).collect())
        })
        .await
    }

    async fn exchange(&self, name: &str) -> Result<Option<ExchangeInfo>, RabbitError> {
        match self.exchanges().await? {
            Some(exchanges) => Ok(exchanges.get(name).cloned()),
            None => self.client.exchange(self.vhost, name).await,
        }
    }

    async fn exists(&self, target: &Target) -> Result<bool, RabbitError> {
        match target {
            Target::Queue(name) => self.queue(name).await.map(|queue| queue.is_some()),
            Target::Exchange(name) => self.exchange(name).await.map(|exchange| exchange.is_some()),
        }
    }

    async fn bindings(&self) -> Result<Option<Arc<HashMap<Target, Vec<Arc<BindingInfo>>>>>, RabbitError> {
        let listed = self
            .shared(&self.desk.bindings, async || {
                let mut all: HashMap<Target, Vec<Arc<BindingInfo>>> = HashMap::new();
                for binding in self.client.list_bindings(Some(self.vhost)).await? {
                    all.entry(binding.target.clone()).or_default().push(Arc::new(binding));
                }
                Ok(all)
            })
            .await;
        match listed {
            // One binding that RabbitMQ cannot write down spoils the listing: the others can still be asked for.
            Err(error) if error.kind == ErrorKind::Unavailable => Ok(None),
            listed => listed,
        }
    }

    async fn bindings_to(&self, target: &Target) -> Result<Vec<BindingInfo>, RabbitError> {
        match self.bindings().await? {
            Some(all) => {
                let to = all.get(target).into_iter().flatten();
                Ok(to.map(|binding| binding.as_ref().clone()).collect())
            }
            None => self.client.bindings_to(self.vhost, target).await,
        }
    }

    async fn bindings_between(&self, source: &str, target: &Target) -> Result<Vec<BindingInfo>, RabbitError> {
        match self.bindings().await? {
            Some(all) => {
                let to = all.get(target).into_iter().flatten();
                let between = to.filter(|binding| binding.source == source);
                Ok(between.map(|binding| binding.as_ref().clone()).collect())
            }
            None => self.client.bindings_between(self.vhost, source, target).await,
        }
    }

    async fn policies(&self, not_before: Instant) -> Result<Arc<VhostPolicies>, RabbitError> {
        self.fetch(&self.desk.policies, not_before, async || {
            let (policies, operator) = futures::try_join!(
                self.client.list_policies(Some(self.vhost)),
                self.client.list_operator_policies(Some(self.vhost))
            )?;
            Ok(VhostPolicies { policies, operator })
        })
        .await
    }

    /// Whether the virtual host had operator policies within the last seconds: what is kept will do.
    async fn has_operator_policies(&self) -> Result<bool, RabbitError> {
        let lately = Instant::now().checked_sub(KEEP).unwrap_or(self.not_before).min(self.not_before);
        Ok(!self.policies(lately).await?.operator.is_empty())
    }
}
