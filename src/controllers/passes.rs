//! Runs the passes over the objects of one kind: what a cache or a wake brings goes onto the [`Worklist`], and comes
//! off it as passes.
//!
//! ```text
//!  changes ─┐                ┌─▶ pass ─▶ when to look again ─┐
//!  wakes ───┴─▶ worklist ────┤                               ├─▶ worklist
//!  time ──────▶              └─▶ pass ─▶ failure, retry ─────┘
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::cache::{Cache, Cached, Change, Relevant};
use super::context::Context;
use super::failure::Failure;
use super::worklist::{Limits, Worklist};
use crate::brokers::lane::Lane;

/// When to look at an object again where no event will say so.
pub type Again = Option<Duration>;

/// How many events are taken in at once.
const EVENTS: usize = 256;

/// What a kind's passes are run with.
pub struct Work<K: Cached, F> {
    /// The kind's name.
    pub kind: &'static str,
    /// How many run at once.
    pub limits: Limits,
    /// Who waits for a pass over an object.
    pub lane: fn(&Context, &Arc<K>) -> Lane,
    /// One pass, over the newest form of an object.
    pub pass: fn(Arc<K>, Arc<Context>) -> F,
}

/// Runs passes over the objects of one kind until `stop`. Those that run then end first.
pub async fn run<K, F>(
    ctx: &Arc<Context>,
    cache: &Cache<K>,
    woken: impl Stream<Item = ObjectRef<K>> + Send,
    stop: &CancellationToken,
    work: Work<K, F>,
) where
    K: Cached,
    F: Future<Output = Result<Again, Failure>> + Send + 'static,
{
    let store = cache.store();
    let lane = |id: &ObjectRef<K>| store.get(id).map_or(Lane::Resync, |object| (work.lane)(ctx, &object));
    let mut relevant = Relevant::default();
    let changed = cache.subscribe().filter_map(move |change| {
        if let Change::Applied(object) = &change {
            ctx.written.shown(object.as_ref());
        }
        let edited = relevant.knows(&change);
        let passes = relevant.passes(&change);
        futures::future::ready(match change {
            Change::Applied(object) if passes => Some((ObjectRef::from_obj(object.as_ref()), edited)),
            _ => None,
        })
    });
    let woken = woken.map(|id| (id, false));
    let mut events = std::pin::pin!(futures::stream::select(changed, woken).ready_chunks(EVENTS));
    let mut list = Worklist::new(work.limits);
    let mut running: JoinSet<(ObjectRef<K>, Again)> = JoinSet::new();
    let mut stopped = false;
    while !stopped || !running.is_empty() {
        while !stopped && let Some(id) = list.start() {
            running.spawn(one(work.kind, id, cache.clone(), ctx.clone(), work.pass));
        }
        ctx.metrics.waiting(work.kind, &[Lane::User, Lane::Resync].map(|lane| (lane, list.waiting(lane))));
        let due = list.next_due();
        tokio::select! {
            () = stop.cancelled(), if !stopped => stopped = true,
            Some(events) = events.next(), if !stopped => for (id, edited) in events {
                let lane = if edited { Lane::User } else { lane(&id) };
                list.add(id, lane);
            },
            Some(ended) = running.join_next() => {
                // A mistake of our own ends the process here, as it does in a release build: who stands by goes on.
                let (id, again) = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                list.ended(&id, again.map(|after| Instant::now() + after));
            },
            () = at(due), if !stopped => list.due(Instant::now(), lane),
        }
    }
}

/// One pass, and when to look again if it failed.
async fn one<K, F>(
    kind: &'static str,
    id: ObjectRef<K>,
    cache: Cache<K>,
    ctx: Arc<Context>,
    pass: fn(Arc<K>, Arc<Context>) -> F,
) -> (ObjectRef<K>, Again)
where
    K: Cached,
    F: Future<Output = Result<Again, Failure>> + Send,
{
    let Some(object) = ctx.current(&id, &cache) else { return (id, None) };
    let span = tracing::info_span!("pass", kind, object = %Named(&id));
    let uid = object.uid().unwrap_or_default();
    // Hundreds run at once, and each future around this one would hold its kilobytes once more.
    let pass = Box::pin(pass(object, ctx.clone()));
    let work = async {
        let failure = match pass.await {
            Ok(again) => return again,
            Err(failure) => failure,
        };
        let failures = ctx.note(&uid, |notes| {
            notes.failures = notes.failures.saturating_add(1);
            notes.failures
        });
        let (namespace, name) = (id.namespace.as_deref().unwrap_or_default(), id.name.as_str());
        tracing::warn!(kind, namespace, name, error = %failure, "a pass failed; trying again");
        Some(failure.retry_after(failures))
    };
    let again = work.instrument(span).await;
    // What it noted about an object that went meanwhile, nobody else forgets.
    let (namespace, name) = (id.namespace.as_deref().unwrap_or_default(), id.name.as_str());
    if cache.get(namespace, name).is_none_or(|cached| cached.uid().as_ref() != Some(&uid)) {
        ctx.forget(&uid);
    }
    (id, again)
}

/// An object as a log line names it.
struct Named<'a, K: Cached>(&'a ObjectRef<K>);

impl<K: Cached> std::fmt::Display for Named<'_, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0.namespace.as_deref().unwrap_or_default(), self.0.name)
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
