//! Changes of several steps, and an API server that takes no status before the first step, and none after it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use spillway_operator::api::{Binding, Queue, Topic};

use super::crash::quiet;
use super::trouble::overloaded;
use super::{kafka, queue, rabbitmq, sound, topic};
use crate::bed::{Fate, Request, Side, Site, bare_world, until};

/// For how long a status is refused, each time.
const REFUSED: Duration = Duration::from_millis(2_500);

/// One object that changes.
#[derive(Debug)]
struct Changing {
    /// Where its status is written.
    status: &'static str,
    /// What is in the address of each of its steps; nothing where addresses do not tell.
    step: Option<&'static str>,
    /// How many statuses come before the one that says what is to be done.
    words: usize,
    refused: Option<Instant>,
    begun: Option<Instant>,
    /// Steps that came while it was not written down that they were to come.
    early: Vec<String>,
}

impl Changing {
    const fn new(status: &'static str, step: Option<&'static str>, words: usize) -> Self {
        Self { status, step, words, refused: None, begun: None, early: Vec::new() }
    }

    /// Whether a write passes.
    fn passes(&mut self, request: &Request) -> bool {
        let just = |then: &Instant| then.elapsed() < REFUSED;
        if request.side == Side::RabbitMq && self.step.is_some_and(|step| request.what.contains(step)) {
            if self.refused.as_ref().is_none_or(just) {
                self.early.push(request.what.clone());
            }
            self.begun.get_or_insert_with(Instant::now);
            return true;
        }
        if request.side != Side::Kubernetes || !request.what.contains(self.status) {
            return true;
        }
        if self.words > 0 {
            self.words -= 1;
            return true;
        }
        !just(self.refused.get_or_insert_with(Instant::now)) && !self.begun.as_ref().is_some_and(just)
    }
}

#[test]
fn what_cannot_be_written_down_is_not_begun_and_later_done_once() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let operator = site.start().await;
        kafka(&site).await;
        rabbitmq(&site).await;
        change(&site, "old", "retention.ms: '60000'", "").await;
        let mq = w.mq().await;
        mq.bind("amq.topic", "anew", "theirs", json!({})).await;
        quiet(&site).await;

        let changing = [
            // Before it is known to be empty, it is said that it is looked at once more.
            Changing::new("/queues/anew/status", Some("/anew"), 1),
            Changing::new("/queues/inline/status", Some("/inline"), 0),
            Changing::new("/bindings/swapped/status", Some("/target"), 0),
            Changing::new("/topics/orders/status", None, 0),
        ];
        let changing = Arc::new(Mutex::new(changing));
        let (watched, mut turn) = (changing.clone(), 0);
        site.cut.arm(&operator, move |request: &Request| {
            let mut all = watched.lock().unwrap_or_else(PoisonError::into_inner);
            if request.number.is_none() || all.iter_mut().all(|one| one.passes(request)) {
                return Fate::Pass;
            }
            turn += 1;
            // By turns all but the one that is written and not heard of.
            overloaded(turn % 3)
        });
        change(&site, "new", "max.message.bytes: '2000000'", "\nsingleActiveConsumer: true").await;
        let refused = |n: usize| changing.lock().unwrap_or_else(PoisonError::into_inner)[n].refused.is_some();
        until(
            "the Topic's status is refused",
            async || {
                if refused(3) { Ok(()) } else { Err("not yet".into()) }
            },
        )
        .await;
        let seen = w.kafka.topic(&w.name("orders")).await.expect("a topic");
        assert_eq!(seen.config.keys().collect::<Vec<_>>(), ["retention.ms"]);
        end(&site).await;

        let changing = changing.lock().unwrap_or_else(PoisonError::into_inner);
        for one in changing.iter() {
            assert!(one.refused.is_some() && one.begun.is_some() == one.step.is_some(), "{one:?}");
            assert!(one.early.is_empty(), "{one:?}");
        }
        let mut steps = site.cut.writes();
        steps.retain(|write| write.starts_with("RabbitMq"));
        for method in ["PUT", "DELETE"] {
            let times = steps.iter().filter(|step| step.contains(&format!("{method} /api/queues/"))).count();
            assert_eq!(times, 1, "{steps:?}");
        }
        // Two that are swapped, and two of the queue that is made anew.
        let times = |what: &str| steps.iter().filter(|step| step.contains(what)).count();
        assert_eq!((times("POST /api/bindings/"), times("DELETE /api/bindings/")), (4, 2), "{steps:?}");
    });
}

/// Asks for the one state or the other.
async fn change(site: &Site<'_>, key: &str, config: &str, more: &str) {
    let w = site.w;
    w.queue(
        "anew",
        &format!(
            "onImmutableChange: RecreateIfEmpty\nbindings: [{{source: amq.topic, routingKey: ours}}]{more}"
        ),
    )
    .await;
    w.queue("inline", &format!("bindings: [{{source: amq.topic, routingKey: {key}}}]")).await;
    w.queue("target", "").await;
    let binding = format!("source: amq.topic\ndestination: {{queue: target}}\nroutingKey: {key}");
    w.binding("swapped", &binding).await;
    w.topic("orders", &format!("partitions: 1\nconfig: {{{config}}}")).await;
    if more.is_empty() {
        for name in ["anew", "inline", "target"] {
            queue(site, name).await;
        }
        w.ready::<Binding>("swapped").await;
        topic(site, "orders").await;
    }
}

async fn end(site: &Site<'_>) {
    let w = site.w;
    topic(site, "orders").await;
    let config = w.kafka.topic(&w.name("orders")).await.expect("a topic").config;
    assert_eq!(config.keys().collect::<Vec<_>>(), ["max.message.bytes"]);
    let status = w.get::<Topic>("orders").await.status.expect("a status");
    assert_eq!(status.applied_config_keys, ["max.message.bytes"]);
    sound::<Binding>(site, "swapped").await;
    queue(site, "inline").await;
    let mq = w.mq().await;
    assert_eq!(mq.bindings("target").await, ["amq.topic|new"]);
    assert_eq!(mq.bindings("inline").await, ["amq.topic|new"]);
    let anew: Queue = sound(site, "anew").await;
    assert!(anew.status.expect("a status").pending.is_none());
    assert_eq!(mq.the_queue("anew").await["arguments"]["x-single-active-consumer"], true);
    assert_eq!(mq.bindings("anew").await, ["amq.topic|ours", "amq.topic|theirs"]);
}
