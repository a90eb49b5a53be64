//! Policies: which of them applies to an object.
//!
//! RabbitMQ applies one policy and one operator policy to an object: of those whose virtual host,
//! `apply-to` and pattern fit and whose keys its type knows *all*, the one with the highest
//! priority. One key that the type does not know keeps a whole policy away, without a word.
//!
//! Where the object exists, RabbitMQ's own word (the name of the policy in force) counts for more
//! than anything computed here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::pattern::{matches, pattern, plainly_matches};
use super::value::same;
use crate::api::queue::QueueType;

/// The priority of Spillway's own policies. One of the same or a higher priority is a person's
/// decision, and wins.
pub const PRIORITY: i64 = 100;

/// What a policy or operator policy sets: key and value.
pub type Definition = BTreeMap<String, Value>;

/// A policy or operator policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedPolicy {
    /// Its name.
    pub name: String,
    /// The regular expression (PCRE) that names must match.
    pub pattern: String,
    /// `queues`, `classic_queues`, `quorum_queues`, `streams`, `exchanges` or `all`.
    pub apply_to: String,
    /// Which of several wins: the highest.
    pub priority: i64,
    /// What it sets.
    pub definition: Definition,
}

impl ObservedPolicy {
    /// Whether two policies are the same to RabbitMQ.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.pattern == other.pattern
            && self.apply_to == other.apply_to
            && self.priority == other.priority
            && self.definition.len() == other.definition.len()
            && holds(&self.definition, &other.definition)
    }
}

/// Whether `all` has every pair of `some`.
fn holds(all: &Definition, some: &Definition) -> bool {
    some.iter().all(|(key, value)| all.get(key).is_some_and(|is| same(is, value)))
}

/// All policies of a virtual host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VhostPolicies {
    /// People's policies and Spillway's.
    pub policies: Vec<ObservedPolicy>,
    /// Operator policies.
    pub operator: Vec<ObservedPolicy>,
}

/// What policies apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An exchange.
    Exchange,
    /// A queue of that type.
    Queue(QueueType),
}

/// One object, as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
}

impl Kind {
    /// The `apply-to` of Spillway's own policies.
    #[must_use]
    pub const fn apply_to(self) -> &'static str {
        match self {
            Self::Exchange => "exchanges",
            Self::Queue(QueueType::Quorum) => "quorum_queues",
            Self::Queue(QueueType::Classic) => "classic_queues",
            Self::Queue(QueueType::Stream) => "streams",
        }
    }

    /// The argument that says the same as a policy's key.
    #[must_use]
    pub fn argument(self, key: &str) -> String {
        match self {
            Self::Exchange => key.to_owned(),
            Self::Queue(_) => format!("x-{key}"),
        }
    }

    /// The keys that keep a policy away from this kind: RabbitMQ 4.0.5, `unsupported_policies` of
    /// each queue type's `capabilities/0`. An exchange takes any.
    const fn unsupported(self) -> &'static [&'static str] {
        match self {
            Self::Exchange => &[],
            Self::Queue(QueueType::Quorum) => &[
                "max-priority",
                "queue-mode",
                "single-active-consumer",
                "ha-mode",
                "ha-params",
                "ha-sync-mode",
                "ha-promote-on-shutdown",
                "ha-promote-on-failure",
                "queue-master-locator",
                "max-age",
                "stream-max-segment-size-bytes",
                "initial-cluster-size",
            ],
            Self::Queue(QueueType::Classic) => &[
                "max-age",
                "stream-max-segment-size-bytes",
                "initial-cluster-size",
                "delivery-limit",
                "dead-letter-strategy",
                "max-in-memory-length",
                "max-in-memory-bytes",
                "target-group-size",
            ],
            Self::Queue(QueueType::Stream) => &[
                "expires",
                "message-ttl",
                "dead-letter-exchange",
                "dead-letter-routing-key",
                "max-length",
                "max-in-memory-length",
                "max-in-memory-bytes",
                "max-priority",
                "overflow",
                "queue-mode",
                "single-active-consumer",
                "delivery-limit",
                "ha-mode",
                "ha-params",
                "ha-sync-mode",
                "ha-promote-on-shutdown",
                "ha-promote-on-failure",
                "queue-master-locator",
                "dead-letter-strategy",
                "target-group-size",
            ],
        }
    }
}

impl Subject<'_> {
    /// What it is, in a word.
    #[must_use]
    pub const fn noun(&self) -> &'static str {
        match self.kind {
            Kind::Exchange => "exchange",
            Kind::Queue(_) => "queue",
        }
    }

    /// The name of Spillway's own policy for it.
    #[must_use]
    pub fn policy_name(&self) -> String {
        match self.kind {
            Kind::Exchange => exchange_policy_name(self.name),
            Kind::Queue(_) => queue_policy_name(self.name),
        }
    }

    /// Spillway's own policy for it.
    #[must_use]
    pub fn policy(&self, definition: Definition) -> ObservedPolicy {
        ObservedPolicy {
            name: self.policy_name(),
            pattern: pattern(self.name),
            apply_to: self.kind.apply_to().to_owned(),
            priority: PRIORITY,
            definition,
        }
    }

    /// Whether a policy applies, priorities left aside; none: its pattern is beyond us.
    #[must_use]
    pub fn is_met_by(&self, policy: &ObservedPolicy) -> Option<bool> {
        let kind = match (policy.apply_to.as_str(), self.kind) {
            ("all" | "", _) | ("queues", Kind::Queue(_)) => true,
            (apply_to, kind) => apply_to == kind.apply_to(),
        };
        // The cheap look first: there may be thousands of policies, each for a name of its own.
        let met = if kind { plainly_matches(&policy.pattern, self.name) } else { Some(false) };
        if met == Some(false) {
            return met;
        }
        let unsupported = |key: &String| self.kind.unsupported().contains(&key.as_str());
        if policy.definition.keys().any(unsupported) {
            return Some(false);
        }
        met.or_else(|| matches(&policy.pattern, self.name))
    }
}

/// The name of Spillway's own policy for a queue of any type.
#[must_use]
pub fn queue_policy_name(queue: &str) -> String {
    format!("spillway.q.{queue}")
}

/// The name of Spillway's own policy for an exchange.
#[must_use]
pub fn exchange_policy_name(exchange: &str) -> String {
    format!("spillway.x.{exchange}")
}

/// What other policies mean for an object.
#[derive(Clone, Debug, Default)]
pub struct Others<'a> {
    /// The one that would be in force without Spillway's own.
    pub next: Option<&'a ObservedPolicy>,
    /// Others that might be as well: of equals, chance decides.
    pub equals: Vec<&'a ObservedPolicy>,
    /// The one that Spillway's own displaces: the winner of those with a lower priority.
    pub lower: Option<&'a ObservedPolicy>,
    /// The one that wins over Spillway's own, or shall: which of equals wins is chance.
    pub higher: Option<&'a ObservedPolicy>,
    /// One that may apply to an object that is not there yet: nobody but RabbitMQ can tell.
    pub unclear: Option<&'a ObservedPolicy>,
}

impl<'a> Others<'a> {
    /// Finds them. `in_force` is RabbitMQ's word where the object exists: the name of its policy,
    /// or that it has none. `ours` is what Spillway's own policy sets or will set.
    #[must_use]
    pub fn of(
        subject: &Subject<'_>,
        policies: &'a [ObservedPolicy],
        in_force: Option<Option<&str>>,
        ours: &Definition,
    ) -> Self {
        let own_name = subject.policy_name();
        let own = policies.iter().find(|policy| policy.name == own_name);
        let own_rules =
            own.filter(|own| own.priority <= PRIORITY && in_force.flatten() == Some(own.name.as_str()));
        let named = in_force
            .flatten()
            .filter(|name| *name != own_name)
            .and_then(|name| policies.iter().find(|policy| policy.name == name));
        let met = |policy: &ObservedPolicy| subject.is_met_by(policy);
        let equals = |next: &ObservedPolicy| -> Vec<&'a ObservedPolicy> {
            let like = |other: &&ObservedPolicy| {
                ![next.name.as_str(), &own_name].contains(&other.name.as_str())
                    && other.priority == next.priority
                    && met(other) != Some(false)
            };
            policies.iter().filter(like).collect()
        };
        match (in_force, named) {
            // RabbitMQ says that nothing applies.
            (Some(None), _) => return Self::default(),
            (_, Some(named)) if named.priority < PRIORITY => {
                let lower = Some(named);
                return Self { next: lower, equals: equals(named), lower, higher: None, unclear: None };
            }
            _ => {}
        }
        let carried = |policy: &ObservedPolicy| carried_before(own, policy, ours);
        // Whether another policy accounts for all that ours carries.
        let accounted = policies
            .iter()
            .any(|policy| policy.name != own_name && carried(policy).all && met(policy) == Some(true));
        let mut met: Vec<_> = policies
            .iter()
            .filter(|policy| policy.name != own_name)
            // What RabbitMQ did not prefer to ours has no higher priority, or does not apply.
            .filter(|policy| own_rules.is_none_or(|own| policy.priority <= own.priority))
            .filter(|policy| {
                let carried = carried(policy);
                // One that cannot be judged, and was edited since, is known by its keys.
                met(policy).unwrap_or(carried.pairs > Some(0) || (carried.keys > 0 && !accounted))
            })
            .collect();
        // Which of equals wins is RabbitMQ's secret: what was carried over before stays.
        met.sort_by(|a, b| {
            b.priority
                .cmp(&a.priority)
                .then_with(|| carried(b).cmp(&carried(a)))
                .then_with(|| a.name.cmp(&b.name))
        });
        let unjudged =
            |policy: &&ObservedPolicy| policy.name != own_name && subject.is_met_by(policy).is_none();
        // What our own policy has of it tells of one that was there before.
        let unclear = if in_force.is_none() && own.is_none() { policies.iter().find(unjudged) } else { None };
        let higher = named.or_else(|| met.iter().copied().find(|policy| policy.priority >= PRIORITY));
        let next = named.or_else(|| met.first().copied());
        let equals = next.map(equals).unwrap_or_default();
        let lower = met.into_iter().find(|policy| policy.priority < PRIORITY);
        Self { next, equals, lower, higher, unclear }
    }
}

/// What speaks for it that our own policy carries a policy's keys; more is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Carried {
    /// It accounts for all that ours has beside its own settings.
    all: bool,
    /// How many of the keys to carry ours has, whatever their values: the policy may have been edited.
    keys: usize,
    /// How many keys there are to carry, where ours has all of them with their values; none: it lacks one.
    pairs: Option<usize>,
}

fn carried_before(own: Option<&ObservedPolicy>, policy: &ObservedPolicy, ours: &Definition) -> Carried {
    let Some(own) = own else { return Carried::default() };
    let carried = carried_over(&policy.definition, ours);
    let extra = own.definition.keys().filter(|key| !ours.contains_key(*key)).count();
    let pairs = holds(&own.definition, &carried).then_some(carried.len());
    let keys = carried.keys().filter(|key| own.definition.contains_key(*key)).count();
    Carried { all: pairs == Some(extra), keys, pairs }
}

/// What our own policy, which sets `ours`, has from one that it displaces. Where dead letters go is
/// one setting: its routing key and strategy mean nothing with another exchange.
#[must_use]
pub fn carried_over(lower: &Definition, ours: &Definition) -> Definition {
    let exchange = "dead-letter-exchange";
    let elsewhere = ours.contains_key(exchange) && ours.get(exchange) != lower.get(exchange);
    lower
        .iter()
        .filter(|(key, _)| {
            let means_nothing = elsewhere && key.starts_with("dead-letter-");
            !ours.contains_key(*key) && !means_nothing
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The operator policy that applies: the one that RabbitMQ names, else the one computed.
#[must_use]
pub fn operator<'a>(
    subject: &Subject<'_>,
    policies: &'a [ObservedPolicy],
    in_force: Option<&str>,
) -> Option<&'a ObservedPolicy> {
    let named = in_force.and_then(|name| policies.iter().find(|policy| policy.name == name));
    named.or_else(|| {
        policies
            .iter()
            .filter(|policy| subject.is_met_by(policy) == Some(true))
            .min_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)))
    })
}

#[cfg(test)]
mod tests;
