//! What tries to break the operator: crashes, cut connections, dead and swapped brokers, frozen leaders.

mod anew;
mod binding;
mod cluster;
mod crash;
mod empty;
mod exchange;
mod fault;
mod intent;
mod kafka;
mod leaderless;
mod lease;
mod midway;
mod midway_kafka;
mod namespace;
mod queue;
mod reached;
mod restored;
mod seniority;
mod trouble;
mod turns;

use spillway_operator::api::{Broker, Queue, Topic};

use crate::bed::{Object, Site};

/// The Broker `kafka` behind the proxy, ready.
async fn kafka(site: &Site<'_>) {
    site.w.broker_at(&site.kafka.address(), "resyncInterval: 5s").await;
    site.w.ready::<Broker>("kafka").await;
}

/// The Broker `rabbitmq` behind the proxy, ready.
async fn rabbitmq(site: &Site<'_>) {
    site.w.rabbit_at(&site.rabbitmq.url(), "resyncInterval: 5s").await;
    site.w.ready::<Broker>("rabbitmq").await;
}

/// Ready, and nothing says that messages were lost.
async fn sound<K: Object>(site: &Site<'_>, name: &str) -> K {
    let object: K = site.w.ready(name).await;
    let lost = object.condition("DataLost").is_some_and(|lost| lost.status == "True");
    assert!(!lost, "{}", object.summary());
    object
}

/// A Topic that is [`sound`], with nothing left to do.
async fn topic(site: &Site<'_>, name: &str) {
    let topic: Topic = sound(site, name).await;
    let status = topic.status.clone().unwrap_or_default();
    assert_eq!((status.pending, status.plan.len()), (None, 0), "{}", topic.summary());
}

/// A Queue that is [`sound`], with nothing left to do.
async fn queue(site: &Site<'_>, name: &str) {
    let queue: Queue = sound(site, name).await;
    let status = queue.status.clone().unwrap_or_default();
    assert!(status.pending.is_none() && status.plan.is_empty(), "{status:?}");
}
