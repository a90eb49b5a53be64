//! The poll: all Consumers of one broker in one sweep.
//!
//! One task for each broker that has Consumers. At each turn it takes the Consumers that are due,
//! reads everything they need together (groups in parallel, partitions deduplicated; queues by virtual
//! host), and hands each its observation. A broker that does not answer gives observations that say so: the
//! decision, not the collector, knows what to do about it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::act::{self, Seat};
use super::observe::{Facts, Sample, read};
use super::registry::Registration;
use crate::controllers::context::{BrokerKey, Context};

/// How soon a broker's task looks for Consumers again when none is due.
const IDLE: Duration = Duration::from_millis(250);

/// Keeps one task for each broker that has Consumers, until `stop`.
pub async fn run(ctx: Arc<Context>, stop: CancellationToken) {
    let mut changed = ctx.registry.changed();
    let mut running: HashMap<BrokerKey, tokio::task::JoinHandle<()>> = HashMap::new();
    loop {
        running.retain(|_, task| !task.is_finished());
        for broker in ctx.registry.by_broker().into_keys() {
            running
                .entry(broker.clone())
                .or_insert_with(|| tokio::spawn(poll(ctx.clone(), broker, stop.clone())));
        }
        tokio::select! {
            () = stop.cancelled() => break,
            _ = changed.changed() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    for (_, task) in running {
        let _ = task.await;
    }
}

/// One broker's Consumers, until there are none.
async fn poll(ctx: Arc<Context>, broker: BrokerKey, stop: CancellationToken) {
    let mut seats: HashMap<String, Seat> = HashMap::new();
    let mut facts = Facts::default();
    let mut changed = ctx.registry.changed();
    let heartbeat = format!("lag collector {broker}");
    loop {
        ctx.health.heartbeat(&heartbeat);
        changed.mark_unchanged();
        let registrations = ctx.registry.of(&broker);
        if registrations.is_empty() {
            ctx.health.ended(&heartbeat);
            return;
        }
        let uids: BTreeSet<&str> = registrations.iter().map(|r| r.uid.as_str()).collect();
        seats.retain(|uid, _| uids.contains(uid.as_str()));
        let due: Vec<Arc<Registration>> = registrations
            .iter()
            .filter(|registration| {
                let new = || Seat::new(registration, ctx.registry.pen(registration), ctx.now());
                let seat = seats.entry(registration.uid.clone()).or_insert_with(new);
                seat.due(registration, Instant::now())
            })
            .cloned()
            .collect();
        if !due.is_empty() {
            sweep(&ctx, &broker, &due, &mut seats, &mut facts).await;
        }
        let now = Instant::now();
        let next = seats.values().map(|seat| seat.rest(now)).min().unwrap_or(IDLE);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(next) => {}
            _ = changed.changed() => {}
        }
    }
}

/// The moment nearest to `wait` from `now` at which all who wait as long come together: one sweep reads for all of them,
/// whenever each of them began.
pub(super) fn on_grid(grid: Instant, now: Instant, wait: Duration) -> Instant {
    let steps = (now.saturating_duration_since(grid) + wait).as_secs_f64() / wait.as_secs_f64();
    if steps.is_finite() { grid + wait.mul_f64(steps.round()) } else { now + wait }
}

async fn sweep(
    ctx: &Arc<Context>,
    broker: &BrokerKey,
    due: &[Arc<Registration>],
    seats: &mut HashMap<String, Seat>,
    facts: &mut Facts,
) {
    let begun = Instant::now();
    let sample = match ctx.links.observable(broker) {
        Ok(link) => read(ctx, &link, due, facts).await,
        Err(failure) => Sample::nothing(&failure),
    };
    ctx.metrics.lag_sweep(&broker.to_string(), begun.elapsed());
    // One that went or moved to another broker meanwhile is no business of this one.
    for registration in due.iter().filter(|due| ctx.registry.reads_from(&due.uid, broker)) {
        if let Some(seat) = seats.get_mut(&registration.uid) {
            act::decide(ctx, registration, &sample, seat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_as_long_comes_together_and_nobody_twice_as_often() {
        let grid = Instant::now();
        let at = |millis: u64| grid + Duration::from_millis(millis);
        let second = Duration::from_secs(1);
        // One began on the grid and its sweep took a while; another joined in between.
        assert_eq!(on_grid(grid, at(10_080), second), at(11_000));
        assert_eq!(on_grid(grid, at(10_450), second), at(11_000));
        assert_eq!(on_grid(grid, at(10_550), second), at(12_000));
        for now in 0..3_000 {
            let wait = on_grid(grid, at(now), second) - at(now);
            assert!(wait >= second / 2 && wait <= second * 3 / 2, "{now}: {wait:?}");
        }
        assert_eq!(on_grid(grid, at(500), Duration::ZERO), at(500));
    }
}
