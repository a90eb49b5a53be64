//! What a deleted CR asks of RabbitMQ, and when a queue is empty enough to be made anew.
//!
//! RabbitMQ reports 0 messages for a quorum queue whose leader is lost, and its own `if-empty`
//! deletes a stream with its data. So a queue counts as empty only if it runs, its leader is
//! online, and both of its counters are there and 0, twice, so far apart that the second look sees
//! all that was there at the first.

use super::desired::DesiredExchange;
use super::exchange::is_another;
use super::policy::{VhostPolicies, queue_policy_name};
use super::{ObservedExchange, ObservedQueue};
use crate::api::policy::{DeletionPolicy, ManagementPolicy};
use crate::api::queue::QueueType;
use crate::topology::deletion::{Asked, LOOKS_WITHIN, Object, Words, release, words_of};

pub use crate::topology::deletion::Verdict;

/// How far apart the two looks at a queue are at least, and how soon the next one comes, in seconds.
pub const SECOND_LOOK_RABBIT: f64 = 6.5;

/// How late the leader of a quorum queue or a stream tells its node what it holds, in seconds. The
/// node renews its statistics from that.
const TOLD_AFTER: f64 = 5.0;

/// Timers are late by so much at most, in seconds.
const LATE: f64 = 1.5;

/// For how long a first look is remembered while it is not known how often statistics are renewed,
/// in seconds.
const UNSEEN_WITHIN: f64 = 600.0;

const QUEUE: Words = words_of!("queue");
const EXCHANGE: Words = words_of!("exchange");
const BINDING: Words = words_of!("binding");

const NO_STATISTICS: &str = "RabbitMQ's statistics are switched off, so it may hold messages";
const TYPE_UNKNOWN: &str = "RabbitMQ does not tell the queue's type, so it may hold messages";

/// What the answers for all three kinds depend on.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// What the CR says. `DeleteIfEmpty` is an Exchange's `DeleteIfUnused`.
    pub policy: DeletionPolicy,
    /// Observe never deletes.
    pub management: ManagementPolicy,
    /// Whether this CR owns the object.
    pub owner: bool,
    /// Whether another CR takes over.
    pub heir: bool,
    /// The annotation that lets go.
    pub forced: bool,
    /// Whether the object was adopted or made (the CR's status says since when).
    pub owned: Owned,
}

/// Whether an object was ever adopted or made by the CR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// It was.
    Yes,
    /// It was not: it is somebody else's, or nobody's.
    Never,
}

/// How often RabbitMQ renews its statistics, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Renewed {
    /// They are switched off.
    Never,
    /// They were not seen to be renewed yet.
    Unseen,
    /// At least once in so many seconds.
    Every(f64),
}

impl Renewed {
    /// How far apart two looks at statistics have to be for the second to show all that was there at
    /// the first, in seconds; none: not known.
    fn apart(self) -> Option<f64> {
        match self {
            Self::Every(seconds) => Some(SECOND_LOOK_RABBIT.max(TOLD_AFTER + seconds + LATE)),
            Self::Never | Self::Unseen => None,
        }
    }

    /// For how long a first look is good, in seconds.
    #[must_use]
    pub fn within(self) -> f64 {
        self.apart().map_or(UNSEEN_WITHIN, |apart| apart + LOOKS_WITHIN)
    }

    /// The answer to a look that found a queue empty. `first_hand`: the queue itself said so, and not
    /// the statistics. `empty_for`: seconds since it was first seen so.
    fn second_look(self, first_hand: bool, empty_for: Option<f64>) -> Verdict {
        let apart = match (self, self.apart()) {
            _ if first_hand => SECOND_LOOK_RABBIT,
            (_, Some(apart)) => apart,
            (Self::Never, _) => return Verdict::Keep(NO_STATISTICS.into()),
            _ => return Verdict::LookAgain,
        };
        match empty_for {
            Some(seconds) if (apart..=self.within()).contains(&seconds) => Verdict::Delete,
            _ => Verdict::LookAgain,
        }
    }
}

impl Input {
    fn release(self, there: bool, words: &Words) -> Option<Verdict> {
        let Self { policy, management, owner, heir, forced, owned } = self;
        let object = Object::of(there, owned == Owned::Yes);
        let asked = Asked { policy, management, owner, heir, forced, object };
        release(&asked, words).map(Verdict::Release)
    }
}

/// Decides for a Queue whose spec says `kind`, which cannot be edited. `empty_for`: seconds since the
/// queue was first seen empty; none: not yet. What it holds, and how often that is `renewed`, is
/// needed for `DeleteIfEmpty` only. After [`Verdict::Delete`], and where [`policy_goes`] says so, its
/// policy goes, too.
#[must_use]
pub fn decide_queue(
    input: &Input,
    kind: QueueType,
    observed: Option<&ObservedQueue>,
    empty_for: Option<f64>,
    renewed: Renewed,
) -> Verdict {
    if let Some(verdict) = input.release(observed.is_some(), &QUEUE) {
        return verdict;
    }
    let Some(observed) = observed else { return Verdict::Release(QUEUE.gone) };
    // Spillway declares neither exclusive nor auto-delete queues, and no queue changes its type.
    let another = !observed.kind.is_empty() && observed.kind != kind.as_str();
    if another || observed.exclusive || observed.auto_delete {
        return Verdict::Release(
            "the queue was replaced by another of the same name, which stays at the broker",
        );
    }
    if observed.kind.is_empty() {
        return Verdict::Keep(TYPE_UNKNOWN.into());
    }
    if input.policy == DeletionPolicy::Delete {
        return Verdict::Delete;
    }
    match holds(observed) {
        Some(why) => Verdict::Keep(format!("{why}, and deletionPolicy is DeleteIfEmpty")),
        // A classic queue tells itself how many messages it holds.
        None => renewed.second_look(kind == QueueType::Classic, empty_for),
    }
}

/// The policy that goes with a queue, once the queue is gone: Spillway's own, where the CR's
/// deletion policy let the queue go. A queue that is retained keeps its policy.
#[must_use]
pub fn policy_goes(input: &Input, queue: &str, policies: &VhostPolicies) -> Option<String> {
    let name = queue_policy_name(queue);
    let deletes = input.owned == Owned::Yes
        && input.release(true, &QUEUE).is_none()
        && policies.policies.iter().any(|policy| policy.name == name);
    deletes.then_some(name)
}

/// Whether a queue may be deleted and declared anew: [`Verdict::Delete`] says so, [`Verdict::Keep`]
/// says why not. The same proof as for a deletion, and no consumers.
#[must_use]
pub fn may_recreate(observed: &ObservedQueue, empty_for: Option<f64>, renewed: Renewed) -> Verdict {
    match in_use(observed) {
        Some(why) => Verdict::Keep(why),
        // Only statistics know of consumers.
        None => renewed.second_look(false, empty_for),
    }
}

/// Why a queue may not be deleted to be declared anew, as of this look; none: nothing is known
/// against it.
#[must_use]
pub fn in_use(observed: &ObservedQueue) -> Option<String> {
    let why = holds(observed).or_else(|| match observed.consumers {
        Some(0) => None,
        Some(n) => Some(format!("the queue has {n} consumers")),
        None => Some("RabbitMQ does not tell whether the queue has consumers".into()),
    });
    why.map(|why| format!("{why}, so it is not recreated"))
}

/// Why a queue holds messages, or may; none: this look proves it empty.
fn holds(queue: &ObservedQueue) -> Option<String> {
    let replicated = match queue.kind.as_str() {
        "quorum" | "stream" => true,
        "classic" => false,
        _ => return Some(TYPE_UNKNOWN.into()),
    };
    if queue.state.as_deref() != Some("running") {
        let state = queue.state.as_deref().unwrap_or("not known");
        return Some(format!("the queue's state is {state}, so it may hold messages"));
    }
    match queue.leader_online {
        Some(false) => return Some("the queue's leader is not online, so it may hold messages".into()),
        None if replicated => {
            return Some(
                "RabbitMQ does not tell whether the queue's leader is online, so it may hold messages".into(),
            );
        }
        _ => {}
    }
    match (queue.messages, queue.unacked) {
        (Some(0), Some(0)) => None,
        (Some(messages), Some(unacked)) => {
            let held = messages.max(unacked);
            Some(format!("the queue holds {held} message{}", if held == 1 { "" } else { "s" }))
        }
        _ => Some("RabbitMQ does not tell how many messages the queue holds".into()),
    }
}

/// What refers to an exchange; `None`: not known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uses<'a> {
    /// How many bindings lead from it.
    pub from: Option<usize>,
    /// How many bindings lead to it.
    pub to: Option<usize>,
    /// The virtual host's policies, which may name it for dead letters or as an alternate.
    pub policies: Option<&'a VhostPolicies>,
}

/// Decides for an Exchange. `DeleteIfUnused` keeps it while any binding leads from it or to it, or
/// a policy sends messages to it; what queues' arguments say is not known here. `edited`: the spec may
/// ask for other arguments than those that the exchange was declared with.
#[must_use]
pub fn decide_exchange(
    input: &Input,
    desired: &DesiredExchange,
    edited: bool,
    observed: Option<&ObservedExchange>,
    uses: &Uses<'_>,
) -> Verdict {
    if let Some(verdict) = input.release(observed.is_some(), &EXCHANGE) {
        return verdict;
    }
    if observed.is_some_and(|seen| is_another(desired, seen, edited)) {
        return Verdict::Release(
            "the exchange was replaced by another of the same name, which stays at the broker",
        );
    }
    if input.policy == DeletionPolicy::Delete {
        return Verdict::Delete;
    }
    let keep = |why: String| Verdict::Keep(format!("{why}, and deletionPolicy is DeleteIfUnused"));
    let (Some(from), Some(to), Some(policies)) = (uses.from, uses.to, uses.policies) else {
        return keep("it is not known whether the exchange is in use".into());
    };
    if from > 0 || to > 0 {
        return keep(format!("{from} bindings lead from the exchange and {to} to it"));
    }
    let sends = |key: &str| key == "dead-letter-exchange" || key == "alternate-exchange";
    let user = policies.policies.iter().find(|policy| {
        policy.definition.iter().any(|(key, value)| sends(key) && value.as_str() == Some(&desired.name))
    });
    match user {
        Some(policy) => keep(format!("policy {:?} sends messages to the exchange", policy.name)),
        None => Verdict::Delete,
    }
}

/// The policy that goes with an exchange, as [`policy_goes`] has it for queues.
#[must_use]
pub fn exchange_policy_goes(input: &Input, exchange: &str, policies: &VhostPolicies) -> Option<String> {
    let name = super::policy::exchange_policy_name(exchange);
    let deletes = input.owned == Owned::Yes
        && input.release(true, &EXCHANGE).is_none()
        && policies.policies.iter().any(|policy| policy.name == name);
    deletes.then_some(name)
}

/// Decides for a Binding, which holds nothing: whether it is `there`.
#[must_use]
pub fn decide_binding(input: &Input, there: bool) -> Verdict {
    input.release(there, &BINDING).unwrap_or(Verdict::Delete)
}

#[cfg(test)]
mod tests;
