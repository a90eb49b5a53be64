//! The task behind one kind of call: gathers, sends, hands out.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, Instant};

use super::super::client::{KafkaClient, PerObject};
use super::super::error::{KafkaError, LOCAL_DESTROY, RawError};
use super::lanes::{Bounds, Lanes, Waiting};
use super::{Lane, Observer};
use crate::runtime::lease::Fence;

/// Requests of one kind under way at most.
const IN_FLIGHT: usize = 2;
/// How long calls gather while a request is under way, or for a small crowd: every request costs the controller a commit
/// and the brokers a round of news, however few topics are in it.
const GATHER: Duration = Duration::from_millis(100);
/// How long they gather at most.
const GATHER_IN_A_CROWD: Duration = Duration::from_millis(300);
/// A request with so many objects is taken for a crowd: those who come next wait for each other.
const CROWD: usize = 4;

/// How long calls gather after a request with so many objects: where many come, it is worth waiting for more of them.
fn gathering_time(last: usize) -> Duration {
    let crowds = u32::try_from(last / CROWD).unwrap_or(u32::MAX);
    GATHER.saturating_mul(crowds).clamp(GATHER, GATHER_IN_A_CROWD)
}

/// A kind of call that can be sent for many topics at once.
pub(super) trait Kind: Send + Sync + 'static {
    type Request: Send + 'static;
    type Outcome: Clone + Send + 'static;

    const BOUNDS: Bounds;
    /// Whether only the leader may send it: what changes anything, and the question that comes right before.
    const FENCED: bool;
    /// What the call does to one topic, in words.
    const OPERATION: &'static str;

    fn name(request: &Self::Request) -> &str;
    /// Its share of a request.
    fn weight(_: &Self::Request) -> usize {
        1
    }
    /// Sends one batch; `observer` hears of each request.
    fn send(
        client: &KafkaClient,
        observer: &Observer,
        requests: Vec<Self::Request>,
        timeout: Duration,
    ) -> impl Future<Output = PerObject<Self::Outcome>> + Send;
}

/// The way to the task of one kind. The task ends when all clones are gone and nothing is under way.
pub(super) struct Worker<K: Kind> {
    inbox: mpsc::UnboundedSender<(Call<K>, Lane)>,
}

impl<K: Kind> Clone for Worker<K> {
    fn clone(&self) -> Self {
        Self { inbox: self.inbox.clone() }
    }
}

struct Call<K: Kind> {
    request: K::Request,
    answer: oneshot::Sender<Result<K::Outcome, KafkaError>>,
}

impl<K: Kind> Waiting for Call<K> {
    fn name(&self) -> &str {
        K::name(&self.request)
    }

    fn weight(&self) -> usize {
        K::weight(&self.request)
    }

    fn is_withdrawn(&self) -> bool {
        self.answer.is_closed()
    }
}

impl<K: Kind> Worker<K> {
    pub fn start(client: &KafkaClient, timeout: Duration, fence: &Fence, observer: &Observer) -> Self {
        let (inbox, calls) = mpsc::unbounded_channel();
        tokio::spawn(run::<K>(client.clone(), timeout, fence.clone(), observer.clone(), calls));
        Self { inbox }
    }

    pub async fn call(&self, request: K::Request, lane: Lane) -> Result<K::Outcome, KafkaError> {
        let operation = operation::<K>(K::name(&request));
        let (answer, answered) = oneshot::channel();
        let gone = |operation| RawError::new(LOCAL_DESTROY, "the client is shutting down").of(operation);
        if self.inbox.send((Call { request, answer }, lane)).is_err() {
            return Err(gone(operation));
        }
        answered.await.unwrap_or_else(|_| Err(gone(operation)))
    }
}

fn operation<K: Kind>(name: &str) -> String {
    format!("{} {name:?}", K::OPERATION)
}

async fn run<K: Kind>(
    client: KafkaClient,
    timeout: Duration,
    fence: Fence,
    observer: Observer,
    mut inbox: mpsc::UnboundedReceiver<(Call<K>, Lane)>,
) {
    let mut lanes = Lanes::new();
    let mut busy = HashSet::new();
    let mut flights = FuturesUnordered::new();
    let mut gathering_since = Instant::now();
    let (mut last, mut idle_since) = (0, Instant::now());
    let mut open = true;
    while open || !flights.is_empty() {
        let may_send = |flights: usize, waiting: usize, last: usize| {
            let gathered = waiting >= K::BOUNDS.objects || gathering_since.elapsed() >= gathering_time(last);
            flights < IN_FLIGHT && (gathered || (flights == 0 && last < CROWD))
        };
        while !lanes.is_empty() && may_send(flights.len(), lanes.len(), last) {
            let batch = lanes.take(K::BOUNDS, &busy);
            if batch.is_empty() {
                break;
            }
            last = batch.len();
            let names: Vec<String> = batch.iter().map(|call: &Call<K>| call.name().to_owned()).collect();
            busy.extend(names.iter().cloned());
            flights.push(async {
                fly(&client, &fence, &observer, timeout, batch).await;
                names
            });
        }
        let gathering = !lanes.is_empty() && flights.len() < IN_FLIGHT;
        let gathered = gathering_since + gathering_time(last);
        let mut arrived = Vec::new();
        tokio::select! {
            count = inbox.recv_many(&mut arrived, usize::MAX), if open => open = count > 0,
            Some(names) = flights.next() => {
                idle_since = Instant::now();
                for name in names {
                    busy.remove(&name);
                }
            },
            () = time::sleep_until(gathered), if gathering && gathered > Instant::now() => (),
        }
        if lanes.is_empty() && !arrived.is_empty() {
            gathering_since = Instant::now();
            if flights.is_empty() && idle_since.elapsed() > gathering_time(last) {
                // The crowd is gone.
                last = 0;
            }
        }
        for (call, lane) in arrived {
            lanes.push(call, lane);
        }
    }
}

async fn fly<K: Kind>(
    client: &KafkaClient,
    fence: &Fence,
    observer: &Observer,
    timeout: Duration,
    batch: Vec<Call<K>>,
) {
    let (mut requests, mut waiting) = (Vec::new(), Vec::new());
    for call in batch {
        waiting.push((call.name().to_owned(), call.answer));
        requests.push(call.request);
    }
    let started = Instant::now();
    // They waited since they were allowed.
    let outcomes = match fence.check() {
        Err(fenced) if K::FENCED => Err(RawError::new(LOCAL_DESTROY, fenced.to_string()).of(K::OPERATION)),
        _ => K::send(client, observer, requests, timeout).await,
    };
    tracing::debug!(
        operation = K::OPERATION,
        topics = waiting.len(),
        milliseconds = started.elapsed().as_millis(),
        failed = outcomes.is_err(),
        "sent a batch to Kafka"
    );
    match outcomes {
        Ok(outcomes) => {
            let outcomes: HashMap<String, _> = outcomes.into_iter().collect();
            for (name, answer) in waiting {
                if let Some(outcome) = outcomes.get(&name) {
                    let _ = answer.send(outcome.clone());
                }
            }
        }
        Err(error) => {
            for (name, answer) in waiting {
                let _ = answer.send(Err(error.for_operation(operation::<K>(&name))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_came_the_longer_the_next_ones_wait_for_each_other_up_to_a_bound() {
        let waits = [0, 1, CROWD, 2 * CROWD, 3 * CROWD, 1_000].map(|last| gathering_time(last).as_millis());
        assert_eq!(waits, [100, 100, 100, 200, 300, 300]);
    }
}
