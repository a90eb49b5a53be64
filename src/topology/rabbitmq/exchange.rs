//! The plan for an Exchange.

use super::desired::DesiredExchange;
use super::settle::{Again, Wish, settle};
use super::step::Step;
use super::value::{bare, same};
use super::{Loss, ObservedExchange, Plan, VhostPolicies, hash};
use crate::api::broker::DriftPolicy;
use crate::api::conditions::Reason;
use crate::api::policy::{Adoption, ManagementPolicy};
use crate::topology::Rejection;
use crate::topology::gate::{Question, Standing, gate};

/// All that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeInput<'a> {
    /// What is wanted.
    pub desired: &'a DesiredExchange,
    /// What was seen; none: the broker says that there is no such exchange.
    pub observed: Option<&'a ObservedExchange>,
    /// All policies of the virtual host.
    pub policies: &'a VhostPolicies,
    /// Whether the CR owns the exchange.
    pub owned: bool,
    /// Who writes.
    pub management: ManagementPolicy,
    /// What to do with an exchange that was there before.
    pub adoption: Adoption,
    /// What to do about drift.
    pub drift: DriftPolicy,
    /// Whether the spec was edited since the broker was last in step.
    pub edited: bool,
    /// The hash that a person approved.
    pub approved: Option<&'a str>,
    /// Whether a policy that RabbitMQ does not apply may be put once more.
    pub again: Again,
}

/// Plans the steps from what was seen to what is wanted.
pub fn plan_exchange(input: &ExchangeInput<'_>) -> Result<Plan, Rejection> {
    let ExchangeInput { desired, observed, owned, management, adoption, drift, edited, approved, .. } =
        *input;
    if let Some(seen) = observed {
        check_same(desired, seen)?;
    }
    let settled = settle(&Wish {
        subject: desired.subject(),
        settings: &desired.settings,
        by_policy: true,
        arguments: observed.map_or(&desired.arguments, |seen| &seen.arguments),
        in_force: observed.map(|seen| seen.policy.as_deref().filter(|name| !name.is_empty())),
        anew: false,
        operator: None,
        policies: input.policies,
        again: input.again,
    });
    let unclear = settled.unclear.filter(|_| observed.is_none());
    let mut steps: Vec<Step> = settled.first.into_iter().filter(|_| unclear.is_none()).collect();
    if observed.is_none() {
        steps.push(Step::DeclareExchange {
            name: desired.name.clone(),
            kind: desired.kind.clone(),
            durable: desired.durable,
            auto_delete: desired.auto_delete,
            internal: desired.internal,
            arguments: desired.arguments.clone(),
        });
    }
    steps.extend(settled.last.filter(|_| unclear.is_none()));
    let gone = owned && observed.is_none();
    // One that goes with its last binding is made again quietly.
    let expired = gone && desired.auto_delete;
    let hash = hash(&format!("exchange {:?}", desired.name), &steps);
    let gate = gate(&Question {
        management,
        adoption,
        drift,
        edited: edited || expired,
        approved,
        standing: match (owned, observed) {
            (true, _) => Standing::Ours,
            (false, Some(_)) => Standing::Foreign,
            (false, None) => Standing::New,
        },
        differs: !steps.is_empty(),
        destructive: false,
        hash: &hash,
    });
    let loss = (gone && !expired).then_some(Loss::Vanished);
    let (obstacles, unapplied) = (settled.obstacles, settled.unapplied);
    Ok(Plan { steps, gate, loss, expired, obstacles, unapplied, unclear, hash })
}

/// Whether another exchange is in the place of one that was the CR's: what differs is fixed when an exchange is declared, and
/// nobody edited the spec since it was so. `edited`: somebody did, and may have asked for other arguments, which are all that
/// can be edited.
#[must_use]
pub fn is_another(desired: &DesiredExchange, seen: &ObservedExchange, edited: bool) -> bool {
    !fixed_fields(desired, seen).is_empty() || !edited && !arguments(desired, seen).is_empty()
}

/// Refuses what RabbitMQ cannot do to an existing exchange: change it.
fn check_same(desired: &DesiredExchange, seen: &ObservedExchange) -> Result<(), Rejection> {
    let differences = [fixed_fields(desired, seen), arguments(desired, seen)].concat();
    if differences.is_empty() {
        return Ok(());
    }
    Err(Rejection::new(
        Reason::Immutable,
        format!(
            "exchange {:?}: {}; RabbitMQ fixes these when an exchange is declared: make another exchange and move its bindings, or set the spec to what is there",
            desired.name,
            differences.join("; ")
        ),
    ))
}

/// The differences in what no edit of a spec changes.
fn fixed_fields(desired: &DesiredExchange, seen: &ObservedExchange) -> Vec<String> {
    let mut differences = Vec::new();
    if desired.kind != seen.kind {
        differences.push(format!("type is {} and the spec wants {}", seen.kind, desired.kind));
    }
    for (field, is, wanted) in [
        ("durable", seen.durable, desired.durable),
        ("autoDelete", seen.auto_delete, desired.auto_delete),
        ("internal", seen.internal, desired.internal),
    ] {
        if is != wanted {
            differences.push(format!("{field} is {is} and the spec wants {wanted}"));
        }
    }
    differences
}

/// The differences in arguments. Those that the spec does not name are left alone.
fn arguments(desired: &DesiredExchange, seen: &ObservedExchange) -> Vec<String> {
    let mut differences = Vec::new();
    for (argument, wanted) in &desired.arguments {
        let is = seen.arguments.get(argument);
        if !is.is_some_and(|is| same(is, wanted)) {
            let is = is.map_or_else(|| "not set".to_owned(), bare);
            differences.push(format!("argument {argument} is {is} and the spec wants {}", bare(wanted)));
        }
    }
    differences
}
