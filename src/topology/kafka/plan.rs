//! From what is wanted and what was seen to steps.
//!
//! Rules that hold for every plan:
//! * no plan deletes: deletion is [`super::deletion`]'s, and only on a deleted CR;
//! * keys that the spec does not name and Spillway did not set are left alone;
//! * applying a plan and planning again gives no steps.

use std::collections::{BTreeMap, BTreeSet};

use super::{DesiredTopic, ObservedTopic, Step};
use crate::api::broker::DriftPolicy;
use crate::api::conditions::Reason;
use crate::api::policy::{Adoption, ManagementPolicy};
use crate::digest;
use crate::topology::Rejection;
use crate::topology::gate::{Question, Standing, gate};

pub use crate::topology::gate::{Gate, Loss};

/// What Spillway remembers of a topic (from the CR's status).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The id of the topic that was adopted or made; none before that.
    pub topic_id: Option<String>,
    /// The config keys that Spillway set.
    pub applied_keys: BTreeSet<String>,
    /// A creation was begun on this cluster and its end was not written down: a topic that is there, just as it was asked
    /// for, is ours.
    pub creating: bool,
}

/// All that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What is wanted.
    pub desired: &'a DesiredTopic,
    /// What was seen; none: the broker says that there is no such topic.
    pub observed: Option<&'a ObservedTopic>,
    /// What is remembered.
    pub memory: &'a Memory,
    /// Who writes.
    pub management: ManagementPolicy,
    /// What to do with a topic that was there before.
    pub adoption: Adoption,
    /// What to do about drift.
    pub drift: DriftPolicy,
    /// Whether the spec was edited since the broker was last in step: then a difference is the
    /// author's will and no drift.
    pub edited: bool,
    /// The hash that a person approved.
    pub approved: Option<&'a str>,
}

/// What is to be done, and whether to do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in order; empty when the broker is in step.
    pub steps: Vec<Step>,
    /// Whether to take them.
    pub gate: Gate,
    /// What was lost, where the topic is not the one that is remembered.
    pub loss: Option<Loss>,
    /// The config keys to remember as Spillway's once the steps are done.
    pub applied_keys: BTreeSet<String>,
    /// The plan's hash, for a person to approve.
    pub hash: String,
}

/// What was lost, whether or not there is a plan for what is there now.
#[must_use]
pub fn loss(desired: &DesiredTopic, memory: &Memory, observed: Option<&ObservedTopic>) -> Option<Loss> {
    match (&memory.topic_id, observed) {
        (Some(_), None) => Some(Loss::Vanished),
        (Some(id), Some(seen)) if !seen.id.is_empty() && *id != seen.id => {
            Some(if came_of_it(desired, memory, seen) { Loss::Vanished } else { Loss::Replaced })
        }
        _ => None,
    }
}

/// Whether a topic is what came of a creation of which nothing was heard. Somebody may have made another one since: what
/// differs from what was asked for is theirs.
#[must_use]
pub fn came_of_it(desired: &DesiredTopic, memory: &Memory, seen: &ObservedTopic) -> bool {
    memory.creating
        && desired.partitions.is_none_or(|wanted| wanted == seen.partitions)
        && desired.replication_factor.is_none_or(|wanted| i32::from(wanted) == seen.replication_factor)
        && change(desired, seen, &Memory::default()).is_empty()
}

/// Plans the steps from what was seen to what is wanted.
pub fn plan(input: &Input<'_>) -> Result<Plan, Rejection> {
    let Input { desired, observed, memory, .. } = *input;
    let loss = loss(desired, memory, observed);
    let steps = match observed {
        None => vec![Step::Create {
            partitions: desired.partitions,
            replication_factor: desired.replication_factor,
            config: desired.config.clone(),
        }],
        Some(seen) => {
            check_possible(desired, seen)?;
            change(desired, seen, memory)
        }
    };
    let standing = standing(input, loss);
    let hash = hash(desired, observed.filter(|_| standing == Standing::Foreign), &steps);
    let mut applied_keys: BTreeSet<String> = desired.config.keys().cloned().collect();
    let gate = may_go(input, &steps, &hash, standing);
    if gate != Gate::Go {
        // What was set before stays remembered until it is really taken back.
        applied_keys.clone_from(&memory.applied_keys);
    }
    Ok(Plan { steps, gate, loss, applied_keys, hash })
}

/// Refuses what Kafka cannot do to an existing topic.
fn check_possible(desired: &DesiredTopic, seen: &ObservedTopic) -> Result<(), Rejection> {
    if let Some(wanted) = desired.partitions
        && wanted < seen.partitions
    {
        return Err(Rejection::new(
            Reason::PartitionsShrink,
            format!(
                "topic {:?} has {} partitions and the spec wants {wanted}: Kafka cannot remove partitions; set partitions to {} or more",
                desired.name, seen.partitions, seen.partitions
            ),
        ));
    }
    if let Some(wanted) = desired.replication_factor
        && i32::from(wanted) != seen.replication_factor
    {
        return Err(Rejection::new(
            Reason::ReassignmentUnsupported,
            format!(
                "topic {:?} has replication factor {} and the spec wants {wanted}: that takes a partition reassignment, which Spillway does not do; reassign with Kafka's own tool (kafka-reassign-partitions) or set replicationFactor to {}",
                desired.name, seen.replication_factor, seen.replication_factor
            ),
        ));
    }
    Ok(())
}

/// The steps for a topic that is there.
fn change(desired: &DesiredTopic, seen: &ObservedTopic, memory: &Memory) -> Vec<Step> {
    let mut steps = Vec::new();
    let set: BTreeMap<_, _> = desired
        .config
        .iter()
        .filter(|(key, wanted)| seen.config.get(*key).is_none_or(|is| !same_value(is, wanted)))
        .map(|(key, wanted)| (key.clone(), (seen.config.get(key).cloned(), wanted.clone())))
        .collect();
    let unset: BTreeMap<_, _> = memory
        .applied_keys
        .iter()
        .filter(|key| !desired.config.contains_key(*key))
        .filter_map(|key| seen.config.get(key).map(|is| (key.clone(), is.clone())))
        .collect();
    // Configs first: a refused one stops the plan before partitions are added for good.
    if !set.is_empty() || !unset.is_empty() {
        steps.push(Step::Configure { set, unset });
    }
    if let Some(to) = desired.partitions
        && to > seen.partitions
    {
        steps.push(Step::Grow { from: seen.partitions, to });
    }
    steps
}

/// Whose the topic is.
fn standing(input: &Input<'_>, loss: Option<Loss>) -> Standing {
    let Input { desired, memory, observed, .. } = *input;
    let known = memory.topic_id.is_some() || memory.creating;
    let foreign = observed.is_some_and(|seen| match memory.topic_id {
        Some(_) => loss == Some(Loss::Replaced),
        None => !came_of_it(desired, memory, seen),
    });
    match (foreign, known) {
        (true, _) => Standing::Foreign,
        (false, true) => Standing::Ours,
        (false, false) => Standing::New,
    }
}

/// Whether the steps may be taken now.
fn may_go(input: &Input<'_>, steps: &[Step], hash: &str, standing: Standing) -> Gate {
    let Input { management, adoption, drift, edited, approved, .. } = *input;
    gate(&Question {
        management,
        adoption,
        drift,
        edited,
        approved,
        standing,
        differs: !steps.is_empty(),
        destructive: false,
        hash,
    })
}

/// Whether two texts are the same value to Kafka, which prints numbers, booleans and lists its own way.
fn same_value(is: &str, wanted: &str) -> bool {
    let (is, wanted) = (is.trim(), wanted.trim());
    if is == wanted {
        return true;
    }
    if let (Ok(a), Ok(b)) = (is.parse::<i64>(), wanted.parse::<i64>()) {
        return a == b;
    }
    if let (Ok(a), Ok(b)) = (is.parse::<f64>(), wanted.parse::<f64>()) {
        return a.is_finite() && (a - b).abs() <= f64::EPSILON * a.abs();
    }
    if matches!(is, "true" | "false") {
        return is.eq_ignore_ascii_case(wanted);
    }
    let list = |text: &str| text.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>();
    is.contains(',') && list(is) == list(wanted)
}

/// Twelve hex digits that stand for the steps and what they start from. An approval is for this very
/// topic of somebody else's: one that takes its place, and differs in the same way, wants its own.
fn hash(desired: &DesiredTopic, foreign: Option<&ObservedTopic>, steps: &[Step]) -> String {
    let words: Vec<String> = steps.iter().map(ToString::to_string).collect();
    let about = std::iter::once(desired.name.as_str()).chain(foreign.map(|seen| seen.id.as_str()));
    digest::short(about.chain(words.iter().map(String::as_str)), 6)
}

#[cfg(test)]
mod tests;
