//! Topics: looked at, planned and changed as the operator does, without anything remembered.

use std::collections::BTreeMap;

use futures::{FutureExt as _, StreamExt as _, stream};

use super::entry::{Action, Change};
use super::links::{Link, kafka_said};
use crate::api::broker::DriftPolicy;
use crate::api::conditions::Reason;
use crate::api::policy::{Adoption, ManagementPolicy, Policies};
use crate::apply::kafka as apply;
use crate::brokers::kafka::{KafkaHandle, Lane, NewTopic, TopicConfigChange};
use crate::controllers::failure::Failure;
use crate::topology::Rejection;
use crate::topology::kafka::{self, DesiredTopic, Gate, Memory, ObservedTopic, Plan, Step};

/// Topics in one rehearsal.
const CHUNK: usize = 200;

/// What is to be done, and what is only looked at.
pub async fn plan(
    kafka: &KafkaHandle,
    desired: &DesiredTopic,
    policies: Policies,
) -> Result<(Change, Plan), Rejection> {
    let observed = apply::observe(kafka, &desired.name, Lane::User).await.map_err(kafka_said)?;
    let plan = decide(desired, observed.as_ref(), policies)?;
    let there = observed.is_some();
    let change = Change {
        action: match (policies.management, plan.steps.is_empty(), there) {
            (_, true, _) => Action::None,
            (ManagementPolicy::Observe, ..) => Action::Observe,
            (_, _, false) => Action::Create,
            (_, _, true) => Action::Change,
        },
        steps: plan.steps.iter().map(ToString::to_string).collect(),
        notes: Vec::new(),
        hash: plan.hash.clone(),
        rehearsal: plan.steps.clone(),
    };
    Ok((change, plan))
}

fn decide(
    desired: &DesiredTopic,
    observed: Option<&ObservedTopic>,
    policies: Policies,
) -> Result<Plan, Rejection> {
    let input = kafka::Input {
        desired,
        observed,
        memory: &Memory::default(),
        management: policies.management,
        // The person who reads the plan and says yes approves it.
        adoption: match policies.adoption {
            Adoption::IfIdentical => Adoption::Adopt,
            adoption => adoption,
        },
        drift: DriftPolicy::Correct,
        edited: true,
        approved: None,
    };
    let plan = kafka::plan(&input)?;
    if plan.gate == Gate::Foreign && !plan.steps.is_empty() {
        let words: Vec<_> = plan.steps.iter().map(ToString::to_string).collect();
        let message = format!(
            "topic {:?} was there before and differs ({}), and adoption: Never leaves it alone",
            desired.name,
            words.join("; ")
        );
        return Err(Rejection::new(Reason::Conflict, message));
    }
    Ok(plan)
}

/// Plans again, and takes the steps if they are still those that were shown.
pub async fn carry_out(
    link: &Link,
    desired: &DesiredTopic,
    policies: Policies,
    shown: &str,
) -> Result<(), Rejection> {
    let (kafka, name) = (link.client.kafka()?, &desired.name);
    let (change, plan) = self::plan(kafka, desired, policies).await?;
    change.still(shown)?;
    if plan.steps.len() > 1 {
        apply::rehearse(kafka, name, &plan.steps, Lane::User).await.map_err(kafka_said)?;
    }
    for step in &plan.steps {
        link.verify().await?;
        apply::take(kafka, name, step, Lane::User).await.map_err(kafka_said)?;
    }
    let settled = apply::settled(kafka, name, &plan.steps, None, Lane::User).await.map_err(kafka_said)?;
    if settled.is_none() {
        let message = format!("topic {name:?} was changed; the broker does not show it yet");
        return Err(Rejection::new(Reason::Progressing, message));
    }
    Ok(())
}

/// Asks the broker whether it would take the steps of many topics, without taking them: in a few
/// requests. Tells what it refuses, by topic; what it cannot tell now (it is away, or the user may
/// only read) is told when the steps are taken.
pub async fn rehearse(kafka: &KafkaHandle, topics: &[(&str, &[Step])]) -> BTreeMap<String, Rejection> {
    let (mut create, mut grow, mut alter) = (Vec::new(), Vec::new(), Vec::new());
    for (name, step) in topics.iter().flat_map(|(name, steps)| steps.iter().map(move |step| (*name, step))) {
        match step {
            Step::Create { partitions, replication_factor, config } => create.push(NewTopic {
                name: name.to_owned(),
                partitions: *partitions,
                replication_factor: *replication_factor,
                config: config.clone(),
            }),
            Step::Grow { to, .. } => grow.push((name.to_owned(), *to)),
            Step::Configure { .. } => {
                let (set, delete) = step.config_change();
                alter.push(TopicConfigChange { topic: name.to_owned(), set, delete });
            }
        }
    }
    let client = &kafka.client;
    let requests = create
        .chunks(CHUNK)
        .map(|chunk| client.create_topics(chunk, true, apply::TIMEOUT).boxed())
        .chain(grow.chunks(CHUNK).map(|chunk| client.create_partitions(chunk, true, apply::TIMEOUT).boxed()))
        .chain(
            alter
                .chunks(CHUNK)
                .map(|chunk| client.incremental_alter_configs(chunk, true, apply::TIMEOUT).boxed()),
        );
    let answers: Vec<_> = stream::iter(requests).buffer_unordered(2).collect().await;
    let refusals = answers.into_iter().flatten().flatten().filter_map(|(name, answer)| {
        let failure = Failure::from(answer.err()?);
        failure.stalled().then(|| (name, Rejection::new(failure.reason(), failure.to_string())))
    });
    refusals.collect()
}
