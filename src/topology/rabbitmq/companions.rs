//! The dead-letter and retry queues that a Queue implies.
//!
//! A companion is a Queue of its own, so that `kubectl get` shows it, owned by its parent. It
//! always stays at the broker: what went wrong must outlive what it came from. Its settings never
//! change, so they are arguments and cost no policy.
//!
//! * A dead-letter queue has no delivery limit: each look that is put back counts as a delivery,
//!   and with RabbitMQ's own limit of 20 the 21st drops the message.
//! * A retry queue holds a message for its delay and gives it back to its parent. It refuses what
//!   it cannot hold and dead-letters at least once, so that no hop loses a message.

use std::collections::BTreeSet;

use super::references::dead_letter_queue;
use super::value::{check_own_name, invalid};
use crate::api::label;
use crate::api::policy::DeletionPolicy;
use crate::api::queue::{
    ApplyVia, DeadLetterStrategy, Overflow, Queue, QueueDeadLetter, QueueSpec, QueueType,
};
use crate::api::topic::RetryStatus;
use crate::topology::Rejection;

pub use crate::topology::kafka::companions::{Role, metadata_name};

/// One companion as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueCompanion {
    /// What it is for.
    pub role: Role,
    /// The CR's name.
    pub metadata_name: String,
    /// The CR's spec.
    pub spec: QueueSpec,
}

impl QueueCompanion {
    /// The queue's name at the broker.
    #[must_use]
    pub fn queue(&self) -> &str {
        self.spec.name.as_deref().unwrap_or(&self.metadata_name)
    }
}

/// A Queue's companions, and how its status names them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueCompanions {
    /// All of them.
    pub all: Vec<QueueCompanion>,
    /// The dead-letter queue's name at the broker; none where dead letters go to an exchange.
    pub dead_letter: Option<String>,
    /// The retry queues.
    pub retries: Vec<RetryStatus>,
}

/// The companions that `parent` implies.
pub fn of(parent: &Queue) -> Result<QueueCompanions, Rejection> {
    let mut companions = QueueCompanions::default();
    if parent.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(label::COMPANION)) {
        return Ok(companions);
    }
    let queue = parent.queue_name();
    let cr = parent.metadata.name.as_deref().unwrap_or_default();
    if let Some(wish) = parent.spec.dead_letter.as_ref().filter(|wish| wish.exchange.is_none()) {
        let (name, metadata_name) = match &wish.queue {
            // A name that was chosen may be shared: every parent must come to the same CR.
            Some(name) => (name.clone(), shared_name(name, &parent.spec.vhost)),
            None => (dead_letter_queue(queue), metadata_name(&format!("{cr}.dlq"))),
        };
        check_own_name("dead-letter queue", &name)?;
        if name == queue {
            return Err(invalid(format!("queue {queue:?} cannot be its own dead-letter queue")));
        }
        companions.dead_letter = Some(name.clone());
        let spec = QueueSpec { delivery_limit: Some(-1), ..plain(parent, name) };
        companions.all.push(QueueCompanion { role: Role::DeadLetter, metadata_name, spec });
    }
    for delay in parent.spec.retry.iter().flat_map(|retry| &retry.delays) {
        let name = format!("{queue}.retry.{delay}");
        check_own_name("retry queue", &name)?;
        if companions.retries.iter().any(|retry| retry.name == name) {
            continue;
        }
        if companions.dead_letter.as_ref() == Some(&name) {
            return Err(invalid(format!(
                "queue {queue:?}: {name:?} cannot hold both dead letters and retries"
            )));
        }
        companions.retries.push(RetryStatus { name: name.clone(), delay: *delay });
        let spec = QueueSpec {
            message_ttl: Some(*delay),
            overflow: Some(Overflow::RejectPublish),
            dead_letter: Some(QueueDeadLetter {
                queue: Some(queue.to_owned()),
                strategy: Some(DeadLetterStrategy::AtLeastOnce),
                ..QueueDeadLetter::default()
            }),
            ..plain(parent, name)
        };
        let metadata_name = metadata_name(&format!("{cr}.retry.{delay}"));
        companions.all.push(QueueCompanion { role: Role::Retry, metadata_name, spec });
    }
    Ok(companions)
}

/// The queue that takes a declared queue's dead letters, where a queue does.
#[must_use]
pub fn next_dead_letter_queue(queue: &Queue) -> Option<String> {
    of(queue).ok()?.dead_letter
}

/// Whether a queue comes before its dead-letter queue: only in a circle of queues that are each
/// other's, and there only the first by name. `next`: a queue's dead-letter queue, as declared.
#[must_use]
pub fn goes_first(queue: &str, next: impl Fn(&str) -> Option<String>) -> bool {
    let mut circle = BTreeSet::from([queue.to_owned()]);
    let mut at = next(queue);
    while let Some(name) = at {
        if name == queue {
            return circle.first().is_some_and(|first| first == queue);
        }
        at = next(&name);
        if !circle.insert(name) {
            return false;
        }
    }
    false
}

/// The CR's name for a queue that several parents may share: one name in two virtual hosts is two
/// queues.
fn shared_name(name: &str, vhost: &str) -> String {
    if vhost == "/" { metadata_name(name) } else { metadata_name(&format!("{name}.{vhost}")) }
}

/// What all companions have in common.
fn plain(parent: &Queue, name: String) -> QueueSpec {
    QueueSpec {
        broker_ref: parent.spec.broker_ref.clone(),
        vhost: parent.spec.vhost.clone(),
        name: Some(name),
        kind: QueueType::Quorum,
        durable: true,
        max_length: None,
        max_length_bytes: None,
        overflow: None,
        message_ttl: None,
        expires: None,
        max_priority: None,
        delivery_limit: None,
        single_active_consumer: false,
        consumer_timeout: None,
        max_age: None,
        max_segment_size: None,
        leader_locator: None,
        initial_group_size: None,
        arguments: crate::api::arguments::Arguments::new(),
        apply_via: ApplyVia::Arguments,
        dead_letter: None,
        retry: None,
        bindings: Vec::new(),
        on_immutable_change: None,
        management_policy: parent.spec.management_policy,
        adoption: parent.spec.adoption,
        deletion_policy: Some(DeletionPolicy::Retain),
    }
}

#[cfg(test)]
mod tests;
