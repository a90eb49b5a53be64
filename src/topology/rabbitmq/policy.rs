//! Policies: which of them applies to an object.
//!
//! RabbitMQ applies one policy and one operator policy to an object: of those whose virtual host,
//! `apply-to` and pattern fit and whose keys its type knows *all*, the one with the highest
//! priority. One key that the type does not know keeps a whole policy away, without a word.
//!
//! Where the object exists, RabbitMQ's own word (the name of the policy in force) counts for more
//! than anything computed here.

use std::collections::BTreeMap;

use fancy_regex::RegexBuilder;
use serde_json::Value;

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
        if !kind || policy.definition.keys().any(|key| self.kind.unsupported().contains(&key.as_str())) {
            return Some(false);
        }
        matches(&policy.pattern, self.name)
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

/// A pattern that matches exactly this name.
#[must_use]
pub fn pattern(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len() + 2);
    pattern.push('^');
    for c in name.chars() {
        if is_meta(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('$');
    pattern
}

const fn is_meta(c: char) -> bool {
    matches!(c, '\\' | '^' | '$' | '.' | '[' | ']' | '|' | '(' | ')' | '?' | '*' | '+' | '{' | '}')
}

/// Whether a pattern matches a name as RabbitMQ sees it; none: the pattern cannot be judged here.
///
/// RabbitMQ runs PCRE on bytes, in Latin-1. So each byte becomes the character of its number.
fn matches(pattern: &str, name: &str) -> Option<bool> {
    if matches!(pattern, "" | ".*" | "^.*" | "^.*$" | "^") {
        return Some(true);
    }
    if let Some(matches) = literal_matches(pattern, name) {
        return Some(matches);
    }
    let latin1 = |text: &str| text.bytes().map(char::from).collect::<String>();
    let regex = RegexBuilder::new(&latin1(pattern)).backtrack_limit(100_000).build().ok()?;
    regex.is_match(&latin1(name)).ok()
}

/// As [`matches`], for `^literal$` only: Spillway's own policies, of which there may be thousands.
fn literal_matches(pattern: &str, name: &str) -> Option<bool> {
    let literal = pattern.strip_prefix('^')?.strip_suffix('$')?;
    let (mut literal, mut name) = (literal.chars(), name.chars());
    let mut equal = true;
    while let Some(c) = literal.next() {
        let c = match c {
            '\\' => literal.next().filter(|c| is_meta(*c))?,
            c if is_meta(c) => return None,
            c => c,
        };
        equal &= name.next() == Some(c);
    }
    Some(equal && name.next().is_none())
}

/// What other policies mean for an object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Others<'a> {
    /// The one that would be in force without Spillway's own.
    pub next: Option<&'a ObservedPolicy>,
    /// The one that Spillway's own displaces: the winner of those with a lower priority.
    pub lower: Option<&'a ObservedPolicy>,
    /// The one that wins over Spillway's own, or shall: which of equals wins is chance.
    pub higher: Option<&'a ObservedPolicy>,
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
        match (in_force, named) {
            // RabbitMQ says that nothing applies.
            (Some(None), _) => return Self::default(),
            (_, Some(named)) if named.priority < PRIORITY => {
                return Self { next: Some(named), lower: Some(named), higher: None };
            }
            _ => {}
        }
        let carried = |policy: &ObservedPolicy| carried_before(own, policy, ours);
        let mut met: Vec<_> = policies
            .iter()
            .filter(|policy| policy.name != own_name)
            // What RabbitMQ did not prefer to ours has no higher priority, or does not apply.
            .filter(|policy| own_rules.is_none_or(|own| policy.priority <= own.priority))
            .filter(|policy| {
                subject.is_met_by(policy).unwrap_or_else(|| carried(policy).is_some_and(|keys| keys > 0))
            })
            .collect();
        // Which of equals wins is RabbitMQ's secret: what was carried over before stays.
        met.sort_by(|a, b| {
            b.priority
                .cmp(&a.priority)
                .then_with(|| carried(b).cmp(&carried(a)))
                .then_with(|| a.name.cmp(&b.name))
        });
        let higher = named.or_else(|| met.iter().copied().find(|policy| policy.priority >= PRIORITY));
        let next = named.or_else(|| met.first().copied());
        Self { next, lower: met.into_iter().find(|policy| policy.priority < PRIORITY), higher }
    }
}

/// How many keys our own policy has that it can have from `policy`; none: it lacks one, so they
/// are not from there.
fn carried_before(own: Option<&ObservedPolicy>, policy: &ObservedPolicy, ours: &Definition) -> Option<usize> {
    let carried = carried_over(&policy.definition, ours);
    own.filter(|own| holds(&own.definition, &carried)).map(|_| carried.len())
}

/// What our own policy, which sets `ours`, has from one that it displaces. Where dead letters go is
/// one setting: its routing key and strategy mean nothing with another exchange.
#[must_use]
pub fn carried_over(lower: &Definition, ours: &Definition) -> Definition {
    let exchange = "dead-letter-exchange";
    let elsewhere = ours.contains_key(exchange) && ours.get(exchange) != lower.get(exchange);
    lower
        .iter()
        .filter(|(key, _)| !ours.contains_key(*key) && !(elsewhere && key.starts_with("dead-letter-")))
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const QUORUM: Kind = Kind::Queue(QueueType::Quorum);

    fn policy(name: &str, pattern: &str, priority: i64) -> ObservedPolicy {
        let definition = Definition::from([("max-length".to_owned(), json!(1))]);
        ObservedPolicy {
            name: name.into(),
            pattern: pattern.into(),
            apply_to: "all".into(),
            priority,
            definition,
        }
    }

    #[test]
    fn patterns_are_understood_as_pcre_on_bytes() {
        for (pattern, name, expected) in [
            (r"^(?!amq\.).*", "orders", Some(true)),
            (r"^(?!amq\.).*", "amq.gen-1", Some(false)),
            ("order", "my-orders", Some(true)),
            ("^order", "my-orders", Some(false)),
            (r"^a\.b$", "a.b", Some(true)),
            (r"^a\.b$", "aXb", Some(false)),
            ("^a.b$", "aXb", Some(true)),
            ("^a|b$", "xb", Some(true)),
            ("^é.$", "éx", Some(true)),
            ("^..$", "é", Some(true)),
            ("^.$", "é", Some(false)),
            ("^a(?C)b$", "ab", None),
            ("(", "(", None),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn one_key_that_a_type_does_not_know_keeps_the_whole_policy_away() {
        let classic = Subject { kind: Kind::Queue(QueueType::Classic), name: "q" };
        let mut some = policy("p", ".*", 1);
        assert_eq!(classic.is_met_by(&some), Some(true));
        some.definition.insert("delivery-limit".into(), json!(3));
        assert_eq!(classic.is_met_by(&some), Some(false));
        assert_eq!(Subject { kind: QUORUM, name: "q" }.is_met_by(&some), Some(true));
        assert_eq!(Subject { kind: Kind::Exchange, name: "q" }.is_met_by(&some), Some(true));
    }

    #[test]
    fn apply_to_tells_queue_types_apart() {
        for (apply_to, quorum, exchange) in [
            ("all", true, true),
            ("queues", true, false),
            ("quorum_queues", true, false),
            ("classic_queues", false, false),
            ("streams", false, false),
            ("exchanges", false, true),
        ] {
            let some = ObservedPolicy { apply_to: apply_to.into(), ..policy("p", "q", 1) };
            assert_eq!(Subject { kind: QUORUM, name: "q" }.is_met_by(&some), Some(quorum), "{apply_to}");
            let is = Subject { kind: Kind::Exchange, name: "q" }.is_met_by(&some);
            assert_eq!(is, Some(exchange), "{apply_to}");
        }
    }

    #[test]
    fn the_brokers_word_counts_for_more_than_what_is_computed() {
        let subject = Subject { kind: QUORUM, name: "q" };
        let policies = [policy("a", ".*", 5), policy("b", "(?C)", 7), policy("c", ".*", 100)];
        let none = Definition::new();
        let of = |in_force| Others::of(&subject, &policies, in_force, &none);
        let name = |policy: Option<&ObservedPolicy>| policy.map(|policy| policy.name.clone());
        let computed = of(None);
        assert_eq!((name(computed.lower), name(computed.higher)), (Some("a".into()), Some("c".into())));
        let said = of(Some(Some("b")));
        assert_eq!((name(said.lower), name(said.higher)), (Some("b".into()), None));
        let nothing = of(Some(None));
        assert_eq!((name(nothing.lower), name(nothing.higher)), (None, None));
        let gone = of(Some(Some("deleted meanwhile")));
        assert_eq!((name(gone.lower), name(gone.higher)), (Some("a".into()), Some("c".into())));
    }

    proptest! {
        #[test]
        fn our_pattern_matches_its_own_name_only(
            name in r"[a-c.*+?()\[\]{}|^$\\ #é-]{1,12}",
            other in r"[a-c.*+?()\[\]{}|^$\\ #é-]{1,12}",
        ) {
            prop_assert_eq!(matches(&pattern(&name), &name), Some(true));
            prop_assert_eq!(matches(&pattern(&name), &other), Some(name == other));
            // The short cut and the expression say the same.
            let long = format!("(?:{})", pattern(&name));
            prop_assert_eq!(matches(&long, &other), Some(name == other));
        }
    }
}
