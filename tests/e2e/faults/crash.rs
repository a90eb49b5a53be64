//! A change, and a fault at each of its writes.
//!
//! ```text
//!  count ─▶ the change without a fault: W writes
//!  for N in 1..=W, and on until one run has no write N, each fault before and after it:
//!      world ─▶ operator ─▶ what was before ─▶ the change ─▶ fault ─▶ end state, and it stays
//! ```
//!
//! Who is killed before a write leaves what one leaves who is killed after the write before it, so a
//! kill comes before the first write and after each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

pub use super::fault::Fault;
use super::fault::{Point, api_down, moments, outage, rule};
use super::turns::{Pace, Turn};
use crate::bed::{Site, bare_world, until};

/// No write for this long: the operator has nothing more to do.
const QUIET: Duration = Duration::from_millis(700);
/// More writes than any change has.
const ENDLESS: usize = 80;

/// How one run went.
struct Ran {
    hit: bool,
    /// With `${VHOST}` for the world's virtual host.
    writes: Vec<String>,
}

impl Ran {
    /// What was written to RabbitMQ more often than in a run without a fault.
    fn repeats(&self, whole: &Self) -> Vec<&str> {
        let times = |ran: &Self, what: &str| ran.writes.iter().filter(|write| *write == what).count();
        let to_rabbitmq =
            self.writes.iter().map(String::as_str).filter(|write| write.starts_with("RabbitMq"));
        to_rabbitmq.filter(|what| times(self, what) > times(whole, what)).collect()
    }
}

/// Proves that a change comes to its end whatever happens at whichever write. `before` makes what is
/// there before it, `change` asks for it, `end` waits for the end state and checks it.
pub fn at_every_write(
    faults: &[Fault],
    before: impl AsyncFn(&Site) + Sync,
    change: impl AsyncFn(&Site) + Sync,
    end: impl AsyncFn(&Site) + Sync,
) {
    walk(Pace::Works, faults, before, change, end);
}

/// [`at_every_write`], of a change that mostly waits.
pub fn at_every_slow_write(
    faults: &[Fault],
    before: impl AsyncFn(&Site) + Sync,
    change: impl AsyncFn(&Site) + Sync,
    end: impl AsyncFn(&Site) + Sync,
) {
    walk(Pace::Waits, faults, before, change, end);
}

fn walk(
    pace: Pace,
    faults: &[Fault],
    before: impl AsyncFn(&Site) + Sync,
    change: impl AsyncFn(&Site) + Sync,
    end: impl AsyncFn(&Site) + Sync,
) {
    let begun = Instant::now();
    let run = |at: Option<Point>| one(pace, at, &before, &change, &end);
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
            .flat_map(|(at, fault)| {
                moments(at, fault, of_brokers(at)).iter().map(move |moment| (at, fault, *moment))
            })
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
                Ok(ran) => {
                    hits.insert(point, ran.hit);
                    let repeats = ran.repeats(&whole);
                    if point.1 == Fault::ApiDown && !repeats.is_empty() {
                        println!("{name}: after a fault at {point:?} it wrote more than once: {repeats:?}");
                        failed.push(point);
                    }
                }
                Err(_) => failed.push(point),
            }
        }
        assert!(
            failed.is_empty(),
            "{name}: the end state was not reached, or not at once, after a fault at {failed:?}"
        );
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
    pace: Pace,
    at: Option<Point>,
    before: &impl AsyncFn(&Site),
    change: &impl AsyncFn(&Site),
    end: &impl AsyncFn(&Site),
) -> Ran {
    let mut ran = Ran { hit: false, writes: Vec::new() };
    let mut turn = Some(Turn::take(pace));
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        before(&site).await;
        quiet(&site).await;
        let happened = Arc::new(AtomicBool::new(false));
        let away = Arc::new(AtomicBool::new(false));
        let (seen, down) = (happened.clone(), away.clone());
        site.cut.arm(&victim, rule(at, seen, down));
        change(&site).await;
        tokio::select! {
            () = site.cut.death() => {}
            () = outage(&site, &away), if at.is_some_and(|(_, fault, _)| fault == Fault::Outage) => {}
            () = api_down(&site, &away), if at.is_some_and(|(_, fault, _)| fault == Fault::ApiDown) => {}
            () = async { end(&site).await; quiet(&site).await } => {}
        }
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
        ran.writes = site.cut.writes().iter().map(|write| write.replace(&w.vhost, "${VHOST}")).collect();
        for operator in w.operators() {
            assert!(!operator.text().contains("panicked at"), "{}", operator.tail());
        }
        turn = None;
    });
    drop(turn);
    ran
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
