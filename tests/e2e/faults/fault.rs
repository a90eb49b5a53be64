//! What may happen at a write, and how it is made to happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::api::ListParams;
use spillway_operator::api::Broker;

use super::trouble::overloaded;
use crate::bed::{Fate, Object as _, Request, Side, Site, until};

/// For how long the API server is away.
const AWAY: Duration = Duration::from_secs(3);

/// What happens at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The operator is killed, and a fresh one is started.
    Kill,
    /// The connection breaks, once.
    Cut,
    /// The brokers are away from this write of theirs on, until their Broker objects say so.
    Outage,
    /// The API server is away for a while: from this write on, or right after it where it is a broker's.
    ApiDown,
}

/// When it happens: the request never arrives, or its answer does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    Before,
    After,
}

/// Which write it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The one with this number.
    Nth(usize),
    /// The first one that is called so, with `${VHOST}` for the world's own names.
    First(String),
}

/// A write, and what happens at it.
pub type Point = (Place, Fault, Moment);

/// What a write is called, whatever the world is.
pub fn called(write: &str, world: &str) -> String {
    write.replace(world, "${VHOST}")
}

/// The moments at which a fault comes to a write.
pub fn moments(at: usize, fault: Fault, of_broker: bool) -> &'static [Moment] {
    match fault {
        Fault::Kill if at > 1 => &[Moment::After],
        Fault::Outage if !of_broker => &[],
        Fault::ApiDown => &[Moment::Before],
        Fault::Kill | Fault::Cut | Fault::Outage => &[Moment::Before, Moment::After],
    }
}

/// What becomes of each request. `world`: what its names begin with; `seen`: the fault has happened; `away`: who is away still
/// is.
pub fn rule(
    at: Option<Point>,
    world: String,
    seen: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
) -> impl FnMut(&Request) -> Fate + Send + 'static {
    let mut turn = 0;
    move |request| {
        let kubernetes = request.side == Side::Kubernetes;
        let Some((place, fault, moment)) = &at else { return Fate::Pass };
        let (fault, moment) = (*fault, *moment);
        if away.load(Ordering::Relaxed) && kubernetes == (fault == Fault::ApiDown) {
            turn += 1;
            let answers = kubernetes && request.number.is_some();
            return if answers { overloaded(turn) } else { Fate::DropBefore };
        }
        let here = match place {
            Place::Nth(number) => request.number == Some(*number),
            Place::First(name) => {
                let what = format!("{:?} {}", request.side, request.what);
                request.number.is_some() && !seen.load(Ordering::Relaxed) && called(&what, &world) == *name
            }
        };
        if !here || (fault == Fault::Outage && kubernetes) {
            return Fate::Pass;
        }
        seen.store(true, Ordering::Relaxed);
        away.store(matches!(fault, Fault::Outage | Fault::ApiDown), Ordering::Relaxed);
        match (fault, moment) {
            (Fault::Kill, Moment::Before) => Fate::KillBefore,
            (Fault::Kill, Moment::After) => Fate::KillAfter,
            (Fault::ApiDown, _) if kubernetes => overloaded(turn),
            (Fault::ApiDown, _) => Fate::Pass,
            (_, Moment::Before) => Fate::DropBefore,
            (_, Moment::After) => Fate::DropAfter,
        }
    }
}

/// Waits until the brokers are away and it is said of each Broker; then they come back.
pub async fn outage(site: &Site<'_>, away: &AtomicBool) {
    begins(away).await;
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

/// Waits until the API server takes nothing, has its connections broken, too, and brings it back after
/// a while.
pub async fn api_down(site: &Site<'_>, away: &AtomicBool) {
    begins(away).await;
    tokio::time::sleep(AWAY / 3).await;
    site.api.close();
    tokio::time::sleep(AWAY * 2 / 3).await;
    away.store(false, Ordering::Relaxed);
    site.api.open();
}

/// It may never come to that; then the end state is reached, and nobody waits for this any more.
async fn begins(away: &AtomicBool) {
    while !away.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
