//! Which policy of Spillway's an object needs, and what stands in the way of its settings.
//!
//! A policy is needed where it would change what is in force: where arguments, or somebody else's
//! policy, already give what is wanted, there is none (each costs RabbitMQ time). It takes the place
//! of the policy that applied before: policies replace, they do not merge. So what that one set is
//! carried over.

use serde_json::Value;

use super::force::{in_force, merged, same_setting};
use super::policy::{
    Definition, ObservedPolicy, Others, PRIORITY, Subject, VhostPolicies, carried_over, operator,
};
use super::step::Step;
use super::value::bare;
use crate::api::arguments::Arguments;
use crate::api::conditions::Reason;
use crate::topology::Rejection;

/// An object's settings by a policy's keys: `max-length`, `alternate-exchange`, ….
pub type Settings = Definition;

/// All that the answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The object.
    pub subject: Subject<'a>,
    /// What is wanted.
    pub settings: &'a Settings,
    /// Whether a policy shall bring it; else arguments do.
    pub by_policy: bool,
    /// The arguments that the object has, or will have once it is declared.
    pub arguments: &'a Arguments,
    /// RabbitMQ's word on the policy in force; none: there is no such object yet.
    pub in_force: Option<Option<&'a str>>,
    /// The object is to be declared anew: which policy it gets then is decided again.
    pub anew: bool,
    /// RabbitMQ's word on the operator policy in force, where it said something.
    pub operator: Option<&'a str>,
    /// All policies of the virtual host.
    pub policies: &'a VhostPolicies,
    /// Whether Spillway's own may be put once more where RabbitMQ does not apply it.
    pub again: Again,
}

/// Whether a policy that is there as it is to be, and is not applied, may be put once more.
///
/// RabbitMQ reads the policies of a virtual host, and only then locks the objects that it applies them
/// to (4.0.5, `rabbit_policy:update_matched_objects/3`): of two policies that change at once, the slower
/// takes back what the faster brought, and nothing mends that but another change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// Not yet: it may show in a moment.
    #[default]
    NotYet,
    /// It is time.
    Due,
    /// It was, and that did not help.
    Done,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settled {
    /// The policy to write before the object is declared or used.
    pub first: Option<Step>,
    /// The policy to delete when all else is done.
    pub last: Option<Step>,
    /// What is not in force although it is wanted.
    pub obstacles: Vec<Rejection>,
    /// Spillway's own policy is as it is to be, nothing wins over it, and RabbitMQ does not apply it.
    pub unapplied: bool,
    /// The policy that may be displaced, of which only RabbitMQ can tell, once the object is there: until then Spillway's own
    /// must wait, or what that one sets would be lost.
    pub unclear: Option<String>,
}

/// Decides.
#[must_use]
pub fn settle(wish: &Wish<'_>) -> Settled {
    let subject = &wish.subject;
    let others = Others::of(subject, &wish.policies.policies, wish.in_force, wish.settings);
    let present = wish.policies.policies.iter().find(|policy| policy.name == subject.policy_name());
    // Beside one of the same priority ours would win by chance, and that is no way to yield.
    let yields = others.higher.is_some_and(|higher| higher.priority == PRIORITY);
    let needed = wish.by_policy
        && !yields
        && wish.settings.iter().any(|(key, value)| wish.would_help(key, value, &others));
    let carried =
        others.lower.map(|lower| carried_over(&lower.definition, wish.settings)).unwrap_or_default();
    let policy = needed.then(|| {
        let definition = carried.iter().chain(wish.settings).map(|(k, v)| (k.clone(), v.clone())).collect();
        subject.policy(definition)
    });
    let mut settled = Settled::default();
    if policy.is_some() {
        settled.unclear = others.unclear.map(|policy| policy.name.clone());
    }
    match (&policy, present) {
        (Some(policy), present) if present.is_none_or(|present| !present.is_same(policy)) => {
            settled.first = Some(Step::PutPolicy {
                policy: policy.clone(),
                before: present.cloned(),
                displaced: others.lower.map(|lower| lower.name.clone()),
                carried: carried.into_keys().collect(),
            });
        }
        (None, Some(present)) => settled.last = Some(Step::DeletePolicy { name: present.name.clone() }),
        _ => {}
    }
    let ignored = settled.first.is_none() && others.higher.is_none();
    settled.obstacles = match (&policy, wish.in_force) {
        (Some(policy), Some(is)) if ignored && is != Some(&policy.name) => {
            settled.unapplied = true;
            if wish.again == Again::Due && subject.is_met_by(policy) != Some(false) {
                settled.first = Some(Step::ReapplyPolicy { policy: policy.clone() });
                Vec::new()
            } else {
                vec![not_applied(subject, policy, is, wish.again)]
            }
        }
        _ => wish.obstacles(others.higher.or(policy.as_ref()).or(others.next)),
    };
    settled
}

impl Wish<'_> {
    fn argument(&self, key: &str) -> Option<&Value> {
        self.arguments.get(&self.subject.kind.argument(key))
    }

    /// Whether a policy of Spillway's own would change what is in force.
    fn would_help(&self, key: &str, wanted: &Value, others: &Others<'_>) -> bool {
        let argument = self.argument(key);
        let with = in_force(self.subject.kind, key, Some(wanted), argument);
        let changes = |policy: Option<&ObservedPolicy>| {
            let by_policy = policy.and_then(|policy| policy.definition.get(key));
            let without = in_force(self.subject.kind, key, by_policy, argument);
            match (without, &with) {
                (Some(without), Some(with)) => !same_setting(key, &without, with),
                (without, with) => without.is_some() != with.is_some(),
            }
        };
        // What is there by chance is nothing to rely on once it is decided again, nor a reason to take ours away.
        let own = self.subject.policy_name();
        let told = self.in_force.flatten().is_some_and(|name| name != own)
            && !self.anew
            && self.policies.policies.iter().all(|policy| policy.name != own);
        changes(others.next) || (!told && others.equals.iter().any(|other| changes(Some(other))))
    }

    /// What keeps settings from being in force while `winner` is the policy in force.
    fn obstacles(&self, winner: Option<&ObservedPolicy>) -> Vec<Rejection> {
        let operator = operator(&self.subject, &self.policies.operator, self.operator);
        let kind = self.subject.kind;
        let mut obstacles = Vec::new();
        for (key, wanted) in self.settings {
            let argument = self.argument(key);
            let by_policy = winner.and_then(|policy| policy.definition.get(key));
            let by_operator = operator.and_then(|policy| policy.definition.get(key));
            let with_operator = merged(key, by_policy, by_operator);
            let is = in_force(kind, key, with_operator.as_ref(), argument);
            if is.as_ref().is_some_and(|is| same_setting(key, is, wanted)) {
                continue;
            }
            let at_best = in_force(kind, key, Some(wanted), argument);
            let is_text = is.as_ref().map_or_else(|| "not set".to_owned(), bare);
            let wants = format!("{key} is {is_text} and not {}", bare(wanted));
            obstacles.push(match (argument, operator, winner) {
                (Some(argument), ..) if !at_best.is_some_and(|best| same_setting(key, &best, wanted)) => {
                    Rejection::new(
                        Reason::ArgumentOverrides,
                        format!(
                            "{wants}: {} was declared with the argument {}={}, which wins over or limits what policies say, and cannot change",
                            self.object(), kind.argument(key), bare(argument)
                        ),
                    )
                }
                (_, Some(operator), _) if with_operator.as_ref() != by_policy => Rejection::new(
                    Reason::PolicyShadowed,
                    format!(
                        "{wants}: the operator policy {:?} applies to {} and sets {key}={}",
                        operator.name,
                        self.object(),
                        by_operator.map(bare).unwrap_or_default()
                    ),
                ),
                (_, _, Some(winner)) => Rejection::new(
                    Reason::PolicyShadowed,
                    format!(
                        "{wants}: policy {:?} with priority {} applies to {}; lower it below {}, or exclude the {} from it",
                        winner.name, winner.priority, self.object(), PRIORITY, self.noun()
                    ),
                ),
                (_, _, None) => Rejection::new(Reason::PolicyShadowed, wants),
            });
        }
        obstacles
    }

    fn noun(&self) -> &'static str {
        self.subject.noun()
    }

    fn object(&self) -> String {
        format!("{} {:?}", self.noun(), self.subject.name)
    }
}

/// Spillway's policy is there, nothing has a higher priority, and yet RabbitMQ does not apply it.
fn not_applied(subject: &Subject<'_>, policy: &ObservedPolicy, is: Option<&str>, again: Again) -> Rejection {
    let is = is.map_or_else(|| "no policy".to_owned(), |name| format!("policy {name:?}"));
    let keys: Vec<_> = policy.definition.keys().map(String::as_str).collect();
    let why = match again {
        Again::Done => "although it was put once more",
        Again::NotYet | Again::Due => "which it may while another policy changes",
    };
    Rejection::new(
        Reason::PolicyShadowed,
        format!(
            "RabbitMQ applies {is} to {} {:?} instead of {:?}, {why}; it leaves a policy out when the object's type does not know one of its keys ({})",
            subject.noun(),
            subject.name,
            policy.name,
            keys.join(", ")
        ),
    )
}
