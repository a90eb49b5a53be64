//! Topics: what the generic pass needs to know of Kafka.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource as _, ResourceExt as _};

use super::broker;
use super::cache::Cache;
use super::companions::{self, Parent, Wanted};
use super::context::Context;
use super::failure::Failure;
use super::gate::{self, Planned};
use super::reconciler::{self, Outcome, Pass, TopologyKind, last_written};
use super::status;
use super::wake::Wake;
use crate::api::conditions::{self, Reason, Verdict};
use crate::api::policy::{Adoption, DeletionPolicy, PolicyDefaults};
use crate::api::{BrokerRef, Topic, TopicSpec, TopicStatus, annotation};
use crate::apply::kafka::{self as apply, Shape};
use crate::brokers::kafka::ErrorCode;
use crate::brokers::lane::Lane;
use crate::topology::kafka::companions as wanted;
use crate::topology::kafka::{self, DesiredTopic, Gate, Loss, Memory, ObservedTopic, Plan, Step, deletion};

/// `status.pending` while a creation is under way.
const CREATE: &str = "create";
/// How soon to look at a companion that is not ready; the pause doubles, up to 32 s.
const COMPANION_LOOK: Duration = Duration::from_millis(500);

impl TopologyKind for Topic {
    const KIND: &'static str = "Topic";
    const SECOND_LOOK: f64 = deletion::SECOND_LOOK;
    type Status = TopicStatus;

    fn broker_ref(&self) -> &BrokerRef {
        &self.spec.broker_ref
    }

    fn broker_name(&self) -> String {
        self.topic_name().to_owned()
    }

    fn identity(&self) -> String {
        self.topic_name().to_owned()
    }

    fn policies(&self) -> PolicyDefaults {
        self.spec.policies()
    }

    fn status(&self) -> Option<&TopicStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &TopicStatus) -> (&[Condition], Option<i64>) {
        (&status.conditions, status.observed_generation)
    }

    fn set_conditions(status: &mut TopicStatus, conditions: Vec<Condition>, generation: Option<i64>) {
        status.conditions = conditions;
        status.observed_generation = generation;
    }

    fn plan_mut(status: &mut TopicStatus) -> (&mut Vec<String>, &mut Option<String>) {
        (&mut status.plan, &mut status.plan_hash)
    }

    fn owned_since(status: &mut TopicStatus) -> &mut Option<String> {
        &mut status.owned_since
    }

    fn cache(ctx: &Context) -> &Cache<Self> {
        &ctx.topics
    }

    fn wake(ctx: &Context) -> &Wake<Self> {
        &ctx.wake_topics
    }

    async fn work(pass: &Pass<'_, Self>, status: &mut TopicStatus) -> Result<Outcome, Failure> {
        let uid = pass.object.uid().unwrap_or_default();
        let desired = DesiredTopic::of(pass.object)?;
        let companions = wanted::of(pass.object)?;
        let mut memory = remembered(status);
        memory.creating |= pass.inherits();
        let observed = match swept(pass, &desired, &memory).await {
            Some(observed) => Some(observed),
            None => apply::observe(pass.link.kafka()?, &desired.name, pass.lane).await?,
        };
        let plan = kafka::plan(&input(pass, &desired, observed.as_ref(), &memory));
        let plan = plan.inspect_err(|_| reconciler::no_plan::<Topic>(status))?;
        show(&plan, status);
        if plan.gate == Gate::Observe
            && let Some(observed) = &observed
        {
            status.partitions = Some(observed.partitions);
            status.replication_factor = Some(observed.replication_factor);
        }
        let planned = Planned {
            gate: plan.gate,
            what: &format!("topic {:?}", desired.name),
            words: &status.plan,
            hash: &plan.hash,
            exists: observed.is_some(),
            drift: drift(pass, &plan, status),
            data_lost: lost(&plan, &desired.name),
        };
        if let Some(outcome) = gate::hold(pass, &planned)? {
            return Ok(outcome);
        }

        // Where messages go when they fail comes before where they come from.
        let all: Vec<_> = companions
            .all
            .iter()
            .map(|c| Wanted { role: c.role, object: Topic::new(&c.metadata_name, c.spec.clone()) })
            .collect();
        let missing = companions::keep(pass, &all).await?;
        status.dead_letter.clone_from(&companions.dead_letter);
        status.retries.clone_from(&companions.retries);
        let shape = match observed {
            Some(observed) if plan.steps.is_empty() => Shape::of(&observed),
            observed => carry_out(pass, &desired, &plan, observed.as_ref(), status).await?,
        };
        reconciler::no_plan::<Topic>(status);
        status.pending = None;
        status.applied_config_keys = plan.applied_keys.iter().cloned().collect();
        describe(&shape, status);
        status.owned_since.get_or_insert_with(|| Timestamp::now().to_string());
        let mut outcome = Outcome::in_step(format!("topic {:?} is as declared", desired.name));
        outcome.data_lost = lost(&plan, &desired.name);
        if missing.is_empty() {
            pass.ctx.note(&uid, |notes| notes.looks = 0);
        } else {
            let message = format!("waiting for {}", missing.join(", "));
            outcome.ready = Verdict::new(conditions::READY, false, Reason::CompanionNotReady, message);
            // One that a person declared is not ours and does not wake its parents.
            let looks = pass.ctx.note(&uid, |notes| {
                notes.looks = notes.looks.saturating_add(1);
                notes.looks
            });
            outcome.again = Some(COMPANION_LOOK * (1 << looks.min(6)));
        }
        Ok(outcome)
    }

    async fn remove(pass: &Pass<'_, Self>) -> Result<deletion::Verdict, Failure> {
        let name = pass.object.topic_name().to_owned();
        let uid = pass.object.uid().unwrap_or_default();
        let observed = apply::observe(pass.link.kafka()?, &name, pass.lane).await?;
        let extent = match &observed {
            Some(observed) if pass.policies.deletion == DeletionPolicy::DeleteIfEmpty => {
                Some(apply::extent(&pass.link.kafka()?.client, &name, observed.partitions).await?)
            }
            _ => None,
        };
        let empty_for = pass.ctx.note(&uid, |notes| notes.empty_for());
        let verdict = deletion::decide(&deletion::Input {
            policy: pass.policies.deletion,
            management: pass.policies.management,
            owner: pass.is_owner(),
            heir: pass.has_heir(),
            forced: false,
            known_id: known_id(pass.object.status.as_ref(), observed.as_ref()),
            observed: observed.as_ref(),
            extent: extent.as_ref(),
            empty_for,
        });
        pass.ctx.note(&uid, |notes| notes.saw(verdict == deletion::Verdict::LookAgain));
        if verdict == deletion::Verdict::Delete {
            pass.ctx.may_write()?;
            match pass.link.kafka()?.batcher.delete_topic(name, pass.lane).await {
                Ok(()) => {}
                Err(error) if error.code == ErrorCode::UnknownTopicOrPartition => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(verdict)
    }
}

impl Parent for Topic {
    fn had(&self) -> Vec<String> {
        let status = self.status.iter();
        let names = status.flat_map(|status| {
            status.dead_letter.iter().cloned().chain(status.retries.iter().map(|retry| retry.name.clone()))
        });
        names.collect()
    }

    /// As wanted, but never with fewer partitions than it asked for.
    fn follow(existing: &Self, wanted: &Self) -> Self {
        let mut follows = existing.clone();
        follows.spec = TopicSpec {
            broker_ref: existing.spec.broker_ref.clone(),
            name: existing.spec.name.clone(),
            partitions: wanted.spec.partitions.max(existing.spec.partitions),
            ..wanted.spec.clone()
        };
        follows
    }
}

/// The id of the topic that is known to be ours: the remembered one, or the one that appeared after
/// its creation was begun.
fn known_id<'a>(status: Option<&'a TopicStatus>, observed: Option<&'a ObservedTopic>) -> Option<&'a str> {
    let status = status?;
    if status.pending.as_deref() == Some(CREATE) {
        return observed.map(|observed| observed.id.as_str());
    }
    status.topic_id.as_deref()
}

/// The topic as the sweep saw it, where that is enough: nobody edited the Topic, and nothing is to be done.
async fn swept(pass: &Pass<'_, Topic>, desired: &DesiredTopic, memory: &Memory) -> Option<ObservedTopic> {
    if pass.lane == Lane::User || pass.edited {
        return None;
    }
    let seen = pass.link.looked.topic(&desired.name).await?;
    let plan = kafka::plan(&input(pass, desired, Some(&seen), memory)).ok()?;
    (plan.steps.is_empty() && plan.loss.is_none() && plan.gate == Gate::Go).then_some(seen)
}

/// All that the plan depends on.
fn input<'a>(
    pass: &'a Pass<'_, Topic>,
    desired: &'a DesiredTopic,
    observed: Option<&'a ObservedTopic>,
    memory: &'a Memory,
) -> kafka::Input<'a> {
    kafka::Input {
        desired,
        observed,
        memory,
        management: pass.policies.management,
        adoption: pass.policies.adoption,
        drift: pass.link.spec.drift_policy,
        edited: pass.edited,
        approved: pass.object.annotations().get(annotation::APPROVE_PLAN).map(String::as_str),
    }
}

/// What the status remembers.
#[must_use]
pub fn remembered(status: &TopicStatus) -> Memory {
    Memory {
        topic_id: status.topic_id.clone(),
        applied_keys: status.applied_config_keys.iter().cloned().collect(),
        creating: status.pending.as_deref() == Some(CREATE),
    }
}

/// The plan in words, as it stands in a status.
#[must_use]
pub fn words(plan: &Plan) -> Vec<String> {
    status::words(&plan.steps)
}

/// Puts the plan into the status, in words.
fn show(plan: &Plan, status: &mut TopicStatus) {
    status.plan = words(plan);
    status.plan_hash = (!plan.steps.is_empty()).then(|| plan.hash.clone());
}

fn describe(shape: &Shape, status: &mut TopicStatus) {
    status.topic_id = (!shape.id.is_empty()).then(|| shape.id.clone());
    status.partitions = Some(shape.partitions);
    status.replication_factor = Some(shape.replication_factor);
}

/// Whether the steps undo what somebody else did, and not what the author wants.
fn drift(pass: &Pass<'_, Topic>, plan: &Plan, status: &TopicStatus) -> bool {
    status.topic_id.is_some() && !pass.edited && !plan.steps.is_empty()
}

/// Takes the steps, and reads back what came of them.
async fn carry_out(
    pass: &Pass<'_, Topic>,
    desired: &DesiredTopic,
    plan: &Plan,
    before: Option<&ObservedTopic>,
    status: &mut TopicStatus,
) -> Result<Shape, Failure> {
    let name = &desired.name;
    let drifted = drift(pass, plan, status);
    remember(pass, plan, status).await?;
    if !plan.steps.is_empty() {
        broker::verify(pass.ctx, &pass.link).await?;
    }
    if plan.steps.len() > 1 {
        apply::rehearse(&pass.link.kafka()?.client, name, &plan.steps).await?;
    }
    for step in &plan.steps {
        pass.ctx.may_write()?;
        apply::take(pass.link.kafka()?, name, step, pass.lane).await?;
        tracing::info!(
            kind = Topic::KIND, namespace = pass.object.namespace(), name = pass.object.name_any(), topic = name,
            step = %step, "done"
        );
        pass.ctx.events.publish(pass.object.object_ref(&()), false, step.event(), "Apply", &step.to_string());
    }
    if drifted {
        let (now, uid) = (pass.ctx.now(), pass.object.uid().unwrap_or_default());
        pass.ctx.note(&uid, |notes| notes.reverts.record(now));
        pass.ctx.metrics.drift_corrected(Topic::KIND);
        let words = words(plan).join("; ");
        pass.ctx.events.publish(pass.object.object_ref(&()), true, "DriftCorrected", "Apply", &words);
    }
    if plan.loss == Some(Loss::Vanished) {
        pass.ctx.metrics.vanished(Topic::KIND);
    }
    if let Some(verdict) = lost(plan, name) {
        pass.ctx.events.publish(pass.object.object_ref(&()), true, "DataLost", "Observe", &verdict.message);
    }
    let settled = apply::settled(pass.link.kafka()?, name, &plan.steps, before, pass.lane).await?;
    settled.ok_or_else(|| {
        let message = format!("topic {name:?} was changed; the broker does not show it yet");
        Failure::waiting(Reason::Progressing, message)
    })
}

/// What a crash in between would make ambiguous is written down first: keys that were never
/// Spillway's and are about to be set, and a creation whose topic could later look like somebody
/// else's. (An ordinary new topic needs no such note: it is identical, and adopted silently.)
async fn remember(pass: &Pass<'_, Topic>, plan: &Plan, status: &mut TopicStatus) -> Result<(), Failure> {
    let known: BTreeSet<String> = status.applied_config_keys.iter().cloned().collect();
    let before = last_written(pass.ctx, pass.object);
    let mut after = before.clone();
    for step in &plan.steps {
        match step {
            Step::Configure { .. } => {
                after.applied_config_keys = known.union(&plan.applied_keys).cloned().collect();
            }
            Step::Create { .. } => {
                let ambiguous = plan.loss.is_some()
                    || pass.policies.adoption != Adoption::IfIdentical
                    || pass.policies.deletion != DeletionPolicy::Retain;
                if ambiguous {
                    after.pending = Some(CREATE.into());
                }
            }
            Step::Grow { .. } => {}
        }
    }
    status::write(pass.ctx, pass.object, &before, &after).await?;
    status.applied_config_keys = after.applied_config_keys;
    status.pending = after.pending;
    Ok(())
}

/// What to say of a topic that is not the one that is remembered.
fn lost(plan: &Plan, name: &str) -> Option<Verdict> {
    let (reason, what) = match plan.loss? {
        Loss::Vanished => (Reason::Vanished, "vanished from the broker and was made again, empty"),
        Loss::Replaced => (Reason::Replaced, "was deleted at the broker and made again by somebody else"),
    };
    let message = format!(
        "topic {name:?} {what}; its messages are gone. Acknowledge with the annotation {}=true",
        annotation::ACKNOWLEDGE_DATA_LOSS
    );
    Some(Verdict::new(conditions::DATA_LOST, true, reason, message))
}
