//! A change, and a crash at each of its writes.
//!
//! ```text
//!  count ─▶ the change without a crash: W writes
//!  for N in 1..=W, and on until one run needs no kill, the operator killed before and after write N:
//!      world ─▶ operator ─▶ what was before ─▶ the change ─▶ kill -9 ─▶ fresh operator ─▶ end state
//! ```

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use crate::bed::{Fate, Site, bare_world, until};

/// Runs at a time, over all tests of this process.
const RUNS: usize = 10;
/// No write for this long: the operator has nothing more to do.
const QUIET: Duration = Duration::from_millis(700);
/// More writes than any change has.
const ENDLESS: usize = 80;

/// When the operator dies, seen from the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Before,
    After,
}

/// How one run went.
struct Ran {
    killed: bool,
    writes: Vec<String>,
}

/// Proves that a change comes to its end whatever write the operator dies at. `before` makes what is
/// there before it, `change` asks for it, `end` waits for the end state and checks it.
pub fn at_every_write(
    before: impl AsyncFn(&Site) + Sync,
    change: impl AsyncFn(&Site) + Sync,
    end: impl AsyncFn(&Site) + Sync,
) {
    let begun = Instant::now();
    let run = |at: Option<(usize, Moment)>| one(at, &before, &change, &end);
    let whole = run(None);
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{name}: {} writes in {:?}", whole.writes.len(), begun.elapsed());
    for (number, write) in whole.writes.iter().enumerate() {
        println!("  {:>2} {write}", number + 1);
    }
    let mut last = whole.writes.len() + 1;
    let mut next = 1;
    let mut survived = BTreeMap::new();
    // The order of writes may differ from run to run, and their number with it.
    while next <= last {
        let points: Vec<_> =
            (next..=last).flat_map(|at| [(at, Moment::Before), (at, Moment::After)]).collect();
        next = last + 1;
        let ran: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = points
                .iter()
                .map(|point| {
                    let thread = std::thread::Builder::new().name(format!("{name} {point:?}"));
                    let started = thread.spawn_scoped(scope, || run(Some(*point)));
                    (point, started.expect("a thread"))
                })
                .collect();
            threads.into_iter().map(|(point, thread)| (*point, thread.join())).collect()
        });
        let mut failed = Vec::new();
        for (point, outcome) in ran {
            match outcome {
                Ok(ran) => _ = survived.insert(point, ran.killed),
                Err(_) => failed.push(point),
            }
        }
        assert!(failed.is_empty(), "the end state was not reached after a crash at {failed:?}");
        if survived.get(&(last, Moment::Before)) == Some(&true) {
            last += 1;
        }
        assert!(last < ENDLESS, "the operator writes on and on");
    }
    let kills = survived.values().filter(|killed| **killed).count();
    println!("{name}: {kills} crashes survived at {} writes, {:?}", last - 1, begun.elapsed());
    assert!(kills > 0, "no crash was tried");
}

/// One run in a world of its own; None: without a crash.
fn one(
    at: Option<(usize, Moment)>,
    before: &impl AsyncFn(&Site),
    change: &impl AsyncFn(&Site),
    end: &impl AsyncFn(&Site),
) -> Ran {
    let mut ran = Ran { killed: false, writes: Vec::new() };
    let mut turn = Some(Turn::take());
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        before(&site).await;
        quiet(&site).await;
        site.cut.arm(&victim, move |request| match at {
            Some((number, Moment::Before)) if request.number == Some(number) => Fate::KillBefore,
            Some((number, Moment::After)) if request.number == Some(number) => Fate::KillAfter,
            _ => Fate::Pass,
        });
        change(&site).await;
        tokio::select! {
            () = site.cut.death() => {}
            () = async { end(&site).await; quiet(&site).await } => {}
        }
        ran.writes = site.cut.writes();
        ran.killed = site.cut.is_dead();
        site.cut.disarm();
        if ran.killed {
            bury(&site).await;
            site.start().await;
            end(&site).await;
            quiet(&site).await;
        }
        // What was reached stays.
        end(&site).await;
        for operator in w.operators() {
            let text = operator.text();
            assert!(!text.contains("panicked at"), "{}", operator.tail());
        }
        turn = None;
    });
    ran
}

/// Waits until nothing has been written for a while.
async fn quiet(site: &Site<'_>) {
    until("the operator has nothing more to write", async || {
        let before = site.cut.writes().len();
        let begun = Instant::now();
        while begun.elapsed() < QUIET {
            tokio::time::sleep(QUIET / 7).await;
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
async fn bury(site: &Site<'_>) {
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
