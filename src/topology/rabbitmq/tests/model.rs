//! A broker in miniature: what RabbitMQ does with a step, and which policy it applies.

use super::*;
use crate::topology::rabbitmq::force::{in_force, merged, same_setting};
use crate::topology::rabbitmq::policy::Kind;

/// One virtual host with one queue, `q`.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub queue: Option<ObservedQueue>,
    pub bindings: Vec<BindingId>,
    pub policies: VhostPolicies,
}

/// The patterns that models use, and whether they match `q`.
pub const PATTERNS: [(&str, bool); 5] =
    [(".*", true), ("^q$", true), ("^(?!x)", true), ("^other$", false), ("^(?!q)", false)];

/// A key that each type knows not.
fn voids(kind: &str, key: &str) -> bool {
    match kind {
        "quorum" => key == "max-age",
        "classic" => matches!(key, "max-age" | "delivery-limit" | "dead-letter-strategy"),
        _ => {
            matches!(key, "max-length" | "expires" | "overflow" | "delivery-limit" | "message-ttl")
                || key.starts_with("dead-letter")
        }
    }
}

/// 1 and 1.0 are equal values, and two arguments.
fn as_text(arguments: &Arguments) -> String {
    json!(arguments).to_string()
}

impl Model {
    /// The policy in force, of `policies`: which of equals is chance, here the last name.
    pub fn winner<'a>(&self, policies: &'a [ObservedPolicy]) -> Option<&'a ObservedPolicy> {
        let kind = &self.queue.as_ref()?.kind;
        let own_type = match kind.as_str() {
            "stream" => "streams".to_owned(),
            kind => format!("{kind}_queues"),
        };
        let applies = |policy: &&ObservedPolicy| {
            let pattern = PATTERNS.iter().any(|(pattern, matches)| *pattern == policy.pattern && *matches);
            let apply_to = ["all", "queues", &own_type].contains(&policy.apply_to.as_str());
            pattern && apply_to && !policy.definition.keys().any(|key| voids(kind, key))
        };
        policies.iter().filter(applies).max_by_key(|policy| (policy.priority, policy.name.clone()))
    }

    /// What RabbitMQ would say after a step.
    pub fn refresh(&mut self) {
        let policy = self.winner(&self.policies.policies).map(|policy| policy.name.clone());
        if let Some(queue) = &mut self.queue {
            queue.policy = policy;
        }
    }

    /// Takes a step; panics where RabbitMQ would refuse it.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::DeclareQueue { name, kind, durable, arguments } => {
                assert!(self.queue.is_none(), "an existing queue is never declared again");
                assert_eq!(name, "q");
                self.queue = Some(ObservedQueue {
                    kind: kind.as_str().into(),
                    durable: *durable,
                    arguments: arguments.clone(),
                    ..ObservedQueue::default()
                });
            }
            Step::DeleteQueue { .. } => {
                assert!(self.queue.take().is_some(), "only what is there is deleted");
                self.bindings.clear();
            }
            Step::Bind(binding) => {
                assert!(self.queue.is_some(), "bound before it was declared");
                assert!(!self.bindings.contains(binding), "bound twice");
                self.bindings.push(binding.clone());
            }
            Step::Unbind(binding) => {
                let at = self
                    .bindings
                    .iter()
                    .position(|is| is == binding && as_text(&is.arguments) == as_text(&binding.arguments));
                self.bindings.remove(at.expect("only what is there is unbound"));
            }
            Step::PutPolicy { policy, .. } => {
                self.policies.policies.retain(|is| is.name != policy.name);
                self.policies.policies.push(policy.clone());
            }
            Step::ReapplyPolicy { policy } => {
                let is = self.policies.policies.iter().find(|is| is.name == policy.name);
                assert_eq!(is, Some(policy), "only what is there and the same is put once more");
            }
            Step::DeletePolicy { name } => self.policies.policies.retain(|is| is.name != *name),
            Step::DeclareExchange { .. } => panic!("no exchange is planned for a queue"),
        }
        self.refresh();
    }

    /// The wanted settings that are not in force.
    pub fn amiss(&self, desired: &DesiredQueue) -> Vec<String> {
        let queue = self.queue.as_ref().expect("a queue");
        let value =
            |from: Option<&ObservedPolicy>, key: &str| from.and_then(|p| p.definition.get(key)).cloned();
        let policy = self.winner(&self.policies.policies);
        let operator = self.winner(&self.policies.operator);
        let kind = Kind::Queue(desired.kind);
        desired
            .settings
            .iter()
            .filter(|(key, wanted)| {
                let by_policy = merged(key, value(policy, key).as_ref(), value(operator, key).as_ref());
                let argument = queue.arguments.get(&format!("x-{key}"));
                let is = in_force(kind, key, by_policy.as_ref(), argument);
                !is.is_some_and(|is| same_setting(key, &is, wanted))
            })
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The world of a plan, with this memory.
    pub fn world(&self, memory: QueueMemory, claimed: &BTreeSet<BindingId>) -> World {
        World {
            observed: self.queue.clone(),
            bindings: self.bindings.clone(),
            policies: self.policies.clone(),
            memory,
            claimed: claimed.clone(),
        }
    }
}
