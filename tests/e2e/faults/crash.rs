//! A change, and a fault at each of its writes.
//!
//! ```text
//!  count ─▶ the change without a fault: W writes
//!  for N in 1..=W, and on until one run has no write N, each fault before and after it:
//!      world ─▶ operator ─▶ what was before ─▶ the change ─▶ fault ─▶ end state, and it stays
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use spillway_operator::api::Broker;

use crate::bed::{Fate, Object as _, Side, Site, bare_world, until};

/// Runs at a time, over all tests of this process.
const RUNS: usize = 4;
/// No write for this long: the operator has nothing more to do.
const QUIET: Duration = Duration::from_millis(700);
/// More writes than any change has.
const ENDLESS: usize = 80;

/// What happens at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The operator is killed, and a fresh one is started.
    Kill,
    /// The connection breaks, once.
    Cut,
    /// The brokers are away from this write of theirs on, until their Broker objects say so.
    Outage,
}

/// When it happens: the request never arrives, or its answer does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Before,
    After,
}

type Point = (usize, Fault, Moment);

/// How one run went.
struct Ran {
    hit: bool,
    writes: Vec<String>,
}

/// Proves that a change comes to its end whatever happens at whichever write. `before` makes what is
/// there before it, `change` asks for it, `end` waits for the end state and checks it.
pub fn at_every_write(
    faults: &[Fault],
    before: impl AsyncFn(&Site) + Sync,
    change: impl AsyncFn(&Site) + Sync,
    end: impl AsyncFn(&Site) + Sync,
) {
    let begun = Instant::now();
    let run = |at: Option<Point>| one(at, &before, &change, &end);
    let whole = run(None);
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    for (number, write) in whole.writes.iter().enumerate() {
        println!("{name}: {:>2} {write}", number + 1);
    }
    let of_brokers =
        |at: usize| whole.writes.get(at - 1).is_some_and(|write| !write.starts_with("Kubernetes"));
    let mut last = whole.writes.len() + 1;
    let mut next = 1;
    let mut hits = BTreeMap::new();
    // The order of writes may differ from run to run, and their number with it.
    while next <= last {
        let points: Vec<Point> = (next..=last)
            .flat_map(|at| faults.iter().map(move |fault| (at, *fault)))
            .filter(|(at, fault)| *fault != Fault::Outage || of_brokers(*at))
            .flat_map(|(at, fault)| [(at, fault, Moment::Before), (at, fault, Moment::After)])
            .collect();
        next = last + 1;
        let ran: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = points
                .iter()
                .map(|point| {
                    let thread = std::thread::Builder::new().name(format!("{name} {point:?}"));
                    let started = thread.spawn_scoped(scope, || run(Some(*point)));
                    (*point, started.expect("a thread"))
                })
                .collect();
            threads.into_iter().map(|(point, thread)| (point, thread.join())).collect()
        });
        let mut failed = Vec::new();
        for (point, outcome) in ran {
            match outcome {
                Ok(ran) => _ = hits.insert(point, ran.hit),
                Err(_) => failed.push(point),
            }
        }
        assert!(failed.is_empty(), "{name}: the end state was not reached after a fault at {failed:?}");
        if hits.iter().any(|((at, ..), hit)| *at == last && *hit) {
            last += 1;
        }
        assert!(last < ENDLESS, "the operator writes on and on");
    }
    let hits = hits.values().filter(|hit| **hit).count();
    println!("{name}: {} writes, {hits} faults survived in {:?}", last - 1, begun.elapsed());
    assert!(hits > 0, "no fault happened");
}

/// One run in a world of its own; None: without a fault.
fn one(
    at: Option<Point>,
    before: &impl AsyncFn(&Site),
    change: &impl AsyncFn(&Site),
    end: &impl AsyncFn(&Site),
) -> Ran {
    let mut ran = Ran { hit: false, writes: Vec::new() };
    let mut turn = Some(Turn::take());
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        before(&site).await;
        quiet(&site).await;
        let happened = Arc::new(AtomicBool::new(false));
        let away = Arc::new(AtomicBool::new(false));
        let (seen, down) = (happened.clone(), away.clone());
        site.cut.arm(&victim, move |request| {
            if request.side != Side::Kubernetes && down.load(Ordering::Relaxed) {
                return Fate::DropBefore;
            }
            let Some((_, fault, moment)) = at.filter(|(at, ..)| request.number == Some(*at)) else {
                return Fate::Pass;
            };
            if fault == Fault::Outage {
                if request.side == Side::Kubernetes {
                    return Fate::Pass;
                }
                down.store(true, Ordering::Relaxed);
            }
            seen.store(true, Ordering::Relaxed);
            match (fault, moment) {
                (Fault::Kill, Moment::Before) => Fate::KillBefore,
                (Fault::Kill, Moment::After) => Fate::KillAfter,
                (_, Moment::Before) => Fate::DropBefore,
                (_, Moment::After) => Fate::DropAfter,
            }
        });
        change(&site).await;
        tokio::select! {
            () = site.cut.death() => {}
            () = outage(&site, &away), if at.is_some_and(|(_, fault, _)| fault == Fault::Outage) => {}
            () = async { end(&site).await; quiet(&site).await } => {}
        }
        ran.writes = site.cut.writes();
        ran.hit = happened.load(Ordering::Relaxed);
        let dead = site.cut.is_dead();
        site.cut.disarm();
        if dead {
            bury(&site).await;
            site.start().await;
        }
        if ran.hit {
            end(&site).await;
            quiet(&site).await;
        }
        // What was reached stays.
        end(&site).await;
        for operator in w.operators() {
            assert!(!operator.text().contains("panicked at"), "{}", operator.tail());
        }
        turn = None;
    });
    drop(turn);
    ran
}

/// Waits until the brokers are away and it is said of each Broker; then they come back.
async fn outage(site: &Site<'_>, away: &AtomicBool) {
    // It may never come to that; then the end state is reached, and nobody waits for this any more.
    while !away.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.kafka.close();
    let api = site.w.api::<Broker>();
    until("every Broker is said to be away", async || {
        let brokers = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let up = brokers
            .items
            .iter()
            .find(|broker| broker.condition("Ready").is_none_or(|ready| ready.reason != "BrokerUnreachable"));
        up.map_or(Ok(()), |up| Err(up.summary()))
    })
    .await;
    site.kafka.open();
}

/// Waits until nothing has been written for a while.
pub async fn quiet(site: &Site<'_>) {
    quiet_for(site, QUIET).await;
}

/// Waits until nothing has been written for this long.
pub async fn quiet_for(site: &Site<'_>, quiet: Duration) {
    until("the operator has nothing more to write", async || {
        let before = site.cut.writes().len();
        let begun = Instant::now();
        while begun.elapsed() < quiet {
            tokio::time::sleep(quiet / 7).await;
            let writes = site.cut.writes();
            if writes.len() != before {
                return Err(format!("it wrote {:?}", writes.last()));
            }
        }
        Ok(())
    })
    .await;
}

/// Deletes the Lease of the dead: its successor need not wait until it expires.
pub async fn bury(site: &Site<'_>) {
    let leases: Api<Lease> = Api::namespaced(site.w.client.clone(), &site.w.namespace);
    leases
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .expect("the Lease is deleted");
}

/// One of [`RUNS`] places.
struct Turn;

static PLACES: (Mutex<usize>, Condvar) = (Mutex::new(RUNS), Condvar::new());

impl Turn {
    fn take() -> Self {
        let free = PLACES.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = PLACES.1.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *PLACES.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        PLACES.1.notify_one();
    }
}
