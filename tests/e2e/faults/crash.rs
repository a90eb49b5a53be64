//! A change, and a fault at each of its writes.
//!
//! ```text
//!  count ─▶ the change without a fault: W writes
//!  for N in 1..=W, and on until one run has no write N, each fault before and after it:
//!      world ─▶ operator ─▶ what was before ─▶ the change ─▶ fault ─▶ end state, and it stays
//!  for each write that every run has and no run met a fault at: once more, at the first one called so
//! ```
//!
//! Who is killed before a write leaves what one leaves who is killed after the write before it, so a
//! kill comes before the first write and after each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

pub use super::fault::Fault;
use super::fault::{Place, Point, api_down, called, moments, outage, rule};
use super::reached::{Reached, is_brokers};
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
/// there before it, `change` asks for it, `end` waits for the end state and checks it. `steps`: writes to brokers
/// that no run may lack; a fault happens at each of them, as at any other that each run has.
pub fn at_every_write(
    faults: &[Fault],
    steps: &[&str],
    before: impl AsyncFn(&Site) + Sync,
    change: impl AsyncFn(&Site) + Sync,
    end: impl AsyncFn(&Site) + Sync,
) {
    walk(Pace::Works, faults, steps, before, change, end);
}

/// [`at_every_write`], of a change that mostly waits.
pub fn at_every_slow_write(
    faults: &[Fault],
    steps: &[&str],
    before: impl AsyncFn(&Site) + Sync,
    change: impl AsyncFn(&Site) + Sync,
    end: impl AsyncFn(&Site) + Sync,
) {
    walk(Pace::Waits, faults, steps, before, change, end);
}

fn walk(
    pace: Pace,
    faults: &[Fault],
    steps: &[&str],
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
    let of_brokers = |at: usize| whole.writes.get(at - 1).is_some_and(|write| is_brokers(write));
    let mut reached = Reached::new(&whole.writes);
    let (mut last, mut next, mut survived) = (whole.writes.len() + 1, 1, 0);
    // The order of writes may differ from run to run, and their number with it.
    while next <= last {
        let points: Vec<Point> = (next..=last)
            .flat_map(|at| faults.iter().map(move |fault| (at, *fault)))
            .flat_map(|(at, fault)| {
                let moments = moments(at, fault, of_brokers(at)).iter();
                moments.map(move |moment| (Place::Nth(at), fault, *moment))
            })
            .collect();
        next = last + 1;
        let mut longer = false;
        for (point, ran) in all(&name, points, &whole, &run) {
            reached.note(&point, ran.hit, &ran.writes);
            survived += usize::from(ran.hit);
            longer |= ran.hit && point.0 == Place::Nth(last);
        }
        last += usize::from(longer);
        assert!(last < ENDLESS, "the operator writes on and on");
    }
    for (point, ran) in all(&name, reached.missed(faults), &whole, &run) {
        reached.note(&point, ran.hit, &ran.writes);
        survived += usize::from(ran.hit);
    }
    let missed = reached.missed(faults);
    println!("{name}: {} writes, {survived} faults survived in {:?}", last - 1, begun.elapsed());
    assert!(missed.is_empty(), "{name}: each run has these writes, and no fault happened there: {missed:?}");
    let unknown: Vec<_> = steps.iter().filter(|step| !reached.is_step(step)).collect();
    assert!(unknown.is_empty(), "{name}: not every run has {unknown:?}");
}

/// Runs with one fault each, side by side. All of them reach the end state.
fn all(
    name: &str,
    points: Vec<Point>,
    whole: &Ran,
    run: &(impl Fn(Option<Point>) -> Ran + Sync),
) -> Vec<(Point, Ran)> {
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = points
            .into_iter()
            .map(|point| {
                let thread = std::thread::Builder::new().name(format!("{name} {point:?}"));
                let at = point.clone();
                (point, thread.spawn_scoped(scope, || run(Some(at))).expect("a thread"))
            })
            .collect();
        threads.into_iter().map(|(point, thread)| (point, thread.join())).collect()
    });
    let (mut good, mut failed) = (Vec::new(), Vec::new());
    for (point, outcome) in outcomes {
        let Ok(ran) = outcome else {
            failed.push(point);
            continue;
        };
        let repeats = ran.repeats(whole);
        if point.1 == Fault::ApiDown && !repeats.is_empty() {
            println!("{name}: after a fault at {point:?} it wrote more than once: {repeats:?}");
            failed.push(point);
        } else {
            good.push((point, ran));
        }
    }
    assert!(
        failed.is_empty(),
        "{name}: the end state was not reached, or not at once, after a fault at {failed:?}"
    );
    good
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
        let fault = at.as_ref().map(|(_, fault, _)| *fault);
        site.cut.arm(&victim, rule(at, w.vhost.clone(), seen, down));
        change(&site).await;
        tokio::select! {
            () = site.cut.death() => {}
            () = outage(&site, &away), if fault == Some(Fault::Outage) => {}
            () = api_down(&site, &away), if fault == Some(Fault::ApiDown) => {}
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
        ran.writes = site.cut.writes().iter().map(|write| called(write, &w.vhost)).collect();
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
