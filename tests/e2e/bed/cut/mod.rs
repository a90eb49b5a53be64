//! Faults at the one place where an operator touches the world: its requests.
//!
//! ```text
//!  operator ──▶ HTTP proxy ──▶ API server            each asks the one [`Cut`] what is to become of
//!           ──▶ HTTP proxy ──▶ RabbitMQ's management   a request: it passes, late perhaps, is answered
//!           ──▶ Kafka proxy ─▶ Kafka                   with an error, is dropped, or the operator dies
//! ```
//!
//! Writes are numbered in one order over all three, from 1. What a clock causes, or what is sent beside
//! the work, is left out: renewals of the Lease, the statuses of Brokers, events.

mod http;
mod kafka;
mod site;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::operator::Operator;
pub use http::HttpProxy;
pub use kafka::KafkaProxy;
pub use site::Site;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Kubernetes,
    RabbitMq,
    Kafka,
}

/// One request of the operator.
#[derive(Clone, Debug)]
pub struct Request {
    pub side: Side,
    /// `PATCH /api/…` or `CreateTopics`.
    pub what: String,
    /// Its place among the writes; None for what is not counted.
    pub number: Option<usize>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is forwarded, and its answer, too.
    Pass,
    /// It is forwarded after so long, and its answer, too.
    Late(Duration),
    /// The operator is killed, and the request never arrives.
    KillBefore,
    /// The request arrives and is answered; the operator is killed before it hears.
    KillAfter,
    /// The request never arrives, and its connection breaks.
    DropBefore,
    /// The request arrives, and its connection breaks before the answer.
    DropAfter,
    /// The proxy answers in the server's place: status, headers, body. Not for Kafka.
    Answer(u16, Vec<(&'static str, String)>, String),
}

/// Does something else while a rule decides, which may not wait: on a thread and a runtime of its own.
pub fn meanwhile<T: Send, F: Future<Output = T>>(work: impl FnOnce() -> F + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(work())
        });
        done.join().expect("a thread")
    })
}

type Rule = Box<dyn FnMut(&Request) -> Fate + Send>;

/// Decides over every request of one operator after another, and remembers the writes.
pub struct Cut {
    state: Mutex<State>,
    killed: Notify,
}

#[derive(Default)]
struct State {
    writes: Vec<(Instant, String)>,
    rule: Option<Rule>,
    /// Asked where the rule lets pass.
    lasting: Option<Rule>,
    victim: Option<Arc<Operator>>,
    dead: bool,
}

impl Cut {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), killed: Notify::new() })
    }

    /// Numbers writes from 1 again; from now on `rule` decides, and `victim` is whom it may kill.
    pub fn arm(&self, victim: &Arc<Operator>, rule: impl FnMut(&Request) -> Fate + Send + 'static) {
        let mut state = self.state();
        state.writes.clear();
        state.dead = false;
        state.victim = Some(victim.clone());
        state.rule = Some(Box::new(rule));
    }

    /// From now on, armed or not, this rule decides over what passes otherwise. It may not kill.
    pub fn lastingly(&self, rule: impl FnMut(&Request) -> Fate + Send + 'static) {
        self.state().lasting = Some(Box::new(rule));
    }

    /// No rule is left but a lasting one, also for another operator after one that was killed.
    pub fn disarm(&self) {
        let mut state = self.state();
        state.rule = None;
        state.victim = None;
        state.dead = false;
    }

    /// What was written since it was armed, in order, also what never arrived.
    pub fn writes(&self) -> Vec<String> {
        self.state().writes.iter().map(|(_, what)| what.clone()).collect()
    }

    /// The writes since then.
    pub fn writes_since(&self, moment: Instant) -> Vec<String> {
        let state = self.state();
        state.writes.iter().filter(|(at, _)| *at > moment).map(|(_, what)| what.clone()).collect()
    }

    /// Whether the victim was killed.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Waits for the victim's death.
    pub async fn death(&self) {
        loop {
            let killed = self.killed.notified();
            if self.is_dead() {
                return;
            }
            killed.await;
        }
    }

    /// Asked by a proxy before it forwards a request.
    fn judge(&self, side: Side, what: String, write: bool) -> Fate {
        let mut state = self.state();
        let number = write.then(|| {
            state.writes.push((Instant::now(), format!("{side:?} {what}")));
            state.writes.len()
        });
        if state.dead {
            // It left the operator before its death; it may as well never have left.
            return Fate::DropBefore;
        }
        let request = Request { side, what, number };
        let fate = state.rule.as_mut().map_or(Fate::Pass, |rule| rule(&request));
        let fate = match (fate, state.lasting.as_mut()) {
            (Fate::Pass, Some(lasting)) => lasting(&request),
            (fate, _) => fate,
        };
        if fate == Fate::KillBefore {
            state.kill();
            drop(state);
            self.killed.notify_waiters();
        }
        fate
    }

    /// Told by a proxy that has the answer to a request whose fate is [`Fate::KillAfter`].
    fn answered(&self) {
        self.state().kill();
        self.killed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn kill(&mut self) {
        if let Some(victim) = self.victim.take() {
            victim.kill();
            self.rule = None;
            self.dead = true;
        }
    }
}
