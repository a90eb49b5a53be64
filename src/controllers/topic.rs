//! Topics: what the generic pass needs to know of Kafka.

mod collision;
pub mod loss;
mod second_look;
mod steps;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource as _, ResourceExt as _};

use super::broker;
use super::cache::Cache;
use super::companions::{self, Parent, Wanted};
use super::context::Context;
use super::failure::Failure;
use super::gate::{self, Planned};
use super::guard;
use super::reconciler::{self, Outcome, Pass, TopologyKind};
use super::status;
use super::wake::Wake;
use crate::api::conditions::{self, Reason, Verdict};
use crate::api::policy::{DeletionPolicy, ManagementPolicy, PolicyDefaults};
use crate::api::{BrokerRef, Topic, TopicSpec, TopicStatus, annotation};
use crate::apply::kafka::{self as apply, Shape};
use crate::brokers::kafka::ErrorCode;
use crate::brokers::lane::Lane;
use crate::topology::kafka::companions as wanted;
use crate::topology::kafka::{self, DesiredTopic, Gate, Memory, ObservedTopic, Plan, deletion};
use crate::topology::ownership::Holding;

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

    fn keys(&self) -> Vec<String> {
        std::iter::once(self.identity()).chain(collision::key(self.topic_name())).collect()
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

    fn owned(status: &TopicStatus) -> Option<String> {
        status.topic_id.clone()
    }

    fn wrote(ctx: &Context, object: &Self, before: &TopicStatus, after: &TopicStatus) {
        loss::tell(ctx, object, before, after);
    }

    fn cache(ctx: &Context) -> &Cache<Self> {
        &ctx.topics
    }

    fn wake(ctx: &Context) -> &Wake<Self> {
        &ctx.wake_topics
    }

    async fn work(pass: &Pass<'_, Self>, status: &mut TopicStatus) -> Result<Outcome, Failure> {
        let said = status.conditions.clone();
        match converge(pass, status).await {
            Err(failure) if loss::vanished_since(&said, &status.conditions) => {
                Err(second_look::unless_there(pass, failure, said, status).await)
            }
            done => done,
        }
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
        // Of a topic that would stay anyway, nobody has to know.
        let missed = observed.is_none()
            && pass.is_owner()
            && pass.policies.management == ManagementPolicy::Manage
            && pass.policies.deletion != DeletionPolicy::Retain
            && pass.object.status.as_ref().is_some_and(|status| status.topic_id.is_some())
            && apply::controller_knows(pass.link.kafka()?, &name, pass.lane).await?;
        let verdict = deletion::decide(&deletion::Input {
            name: &name,
            policy: pass.policies.deletion,
            management: pass.policies.management,
            owner: pass.is_owner(),
            heir: pass.has_heir(),
            forced: false,
            known_id: known_id(pass.object, &pass.link.cluster_id, observed.as_ref()),
            observed: observed.as_ref(),
            may_appear: missed || may_appear(pass),
            extent: extent.as_ref(),
            empty_for,
        });
        pass.ctx.note(&uid, |notes| notes.saw(verdict == deletion::Verdict::LookAgain && observed.is_some()));
        if verdict == deletion::Verdict::Delete {
            // Offsets may have taken a while, and Kafka deletes by name: another cluster, or topic, behind it stays.
            broker::verify(pass.ctx, &pass.link).await?;
            let now = apply::observe(pass.link.kafka()?, &name, pass.lane).await?;
            if now.as_ref().map(|now| &now.id) != observed.as_ref().map(|seen| &seen.id) {
                return Ok(deletion::Verdict::LookAgain);
            }
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

/// Looks, plans, takes the steps.
async fn converge(pass: &Pass<'_, Topic>, status: &mut TopicStatus) -> Result<Outcome, Failure> {
    let uid = pass.object.uid().unwrap_or_default();
    let desired = DesiredTopic::of(pass.object)?;
    let companions = wanted::of(pass.object)?;
    if let Holding::This(id) = pass.inherited()
        && pass.policies.management == ManagementPolicy::Manage
    {
        status.topic_id = Some(id.clone());
    }
    let memory = remembered(status, &pass.link.cluster_id);
    let mut observed = match swept(pass, &desired, &memory).await {
        Some(observed) => Some(observed),
        None => apply::observe(pass.link.kafka()?, &desired.name, pass.lane).await?,
    };
    let mut looked_twice = false;
    let (planned, loss) = loop {
        let planned = kafka::plan(&input(pass, &desired, observed.as_ref(), &memory));
        let loss = loss::Lost::of(&desired, &memory, observed.as_ref());
        let drifts = planned.as_ref().is_ok_and(|plan| steps::drift(pass, plan, status));
        let again = if drifts && steps::may_show(pass) {
            steps::LOOK
        } else if !looked_twice && second_look::is_due(loss.as_ref(), planned.as_ref().ok(), status) {
            looked_twice = true;
            second_look::AFTER
        } else {
            break (planned, loss);
        };
        tokio::time::sleep(again).await;
        observed = apply::observe(pass.link.kafka()?, &desired.name, pass.lane).await?;
    };
    if let Some(lost) = &loss {
        lost.note(pass.object.meta().generation, status);
    }
    let plan = planned.inspect_err(|_| reconciler::no_plan::<Topic>(status))?;
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
        drift: steps::drift(pass, &plan, status),
        data_lost: loss.as_ref().map(|lost| lost.verdict(false)),
    };
    if let Some(outcome) = gate::hold(pass, &planned)? {
        return Ok(outcome);
    }
    if observed.is_none() {
        collision::check(pass, &desired.name, &companions.all)?;
    }

    // Where messages go when they fail comes before where they come from.
    let all: Vec<_> = companions
        .all
        .iter()
        .map(|c| Wanted { role: c.role, object: Topic::new(&c.metadata_name, c.spec.clone()) })
        .collect();
    // One step before which nothing is written is refused or done as a whole.
    let many = plan.steps.len() > 1 || !all.is_empty();
    if !plan.steps.is_empty() && (many || steps::notes(pass, &plan)) {
        steps::rehearse(pass, &desired.name, &plan.steps, status).await?;
    }
    let missing = companions::keep(pass, &all).await?;
    status.dead_letter.clone_from(&companions.dead_letter);
    status.retries.clone_from(&companions.retries);
    let shape = match observed {
        Some(observed) if plan.steps.is_empty() => Shape::of(&observed),
        observed => steps::carry_out(pass, &desired.name, &plan, observed.as_ref(), status).await?,
    };
    reconciler::no_plan::<Topic>(status);
    settle(status);
    status.applied_config_keys = plan.applied_keys.iter().cloned().collect();
    describe(&shape, status);
    status.owned_since.get_or_insert_with(|| Timestamp::now().to_string());
    let mut outcome = Outcome::in_step(format!("topic {:?} is as declared", desired.name));
    outcome.data_lost = loss.map(|lost| lost.verdict(true));
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

/// The id of the topic that is known to be ours: the remembered one, or the one that came of a creation that was begun.
fn known_id<'a>(topic: &'a Topic, cluster_id: &str, observed: Option<&'a ObservedTopic>) -> Option<&'a str> {
    let status = topic.status.as_ref()?;
    let memory = remembered(status, cluster_id);
    let kept = observed.is_some_and(|seen| status.topic_id.as_ref() == Some(&seen.id));
    if memory.creating && !kept {
        let desired = DesiredTopic::of(topic).ok()?;
        let ours = observed.filter(|seen| kafka::came_of_it(&desired, &memory, seen));
        return ours.map(|observed| observed.id.as_str());
    }
    status.topic_id.as_deref()
}

/// Whether the topic was made moments ago, or may have been: then a broker that does not know it proves nothing.
fn may_appear(pass: &Pass<'_, Topic>) -> bool {
    let Some(status) = &pass.object.status else { return false };
    let recent = |then: Timestamp| {
        Timestamp::now().duration_since(then) < SignedDuration::from_secs(deletion::APPEARS_WITHIN)
    };
    // No creation is begun after the deletion.
    let begun = || pass.object.meta().deletion_timestamp.as_ref().is_none_or(|asked| recent(asked.0));
    let owned = || status.owned_since.as_ref().and_then(|since| since.parse().ok()).is_some_and(recent);
    let made = || pass.ctx.note(&pass.object.uid().unwrap_or_default(), |notes| notes.wrote);
    (status.pending.as_deref() == Some(CREATE) && begun())
        || owned()
        || made().is_some_and(|made| made.elapsed().as_secs() < deletion::APPEARS_WITHIN.unsigned_abs())
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
        drift: guard::drift(pass.ctx, &pass.link),
        edited: pass.edited,
        approved: pass.object.annotations().get(annotation::APPROVE_PLAN).map(String::as_str),
    }
}

/// What the status remembers, on the cluster with this id.
#[must_use]
pub fn remembered(status: &TopicStatus, cluster_id: &str) -> Memory {
    Memory {
        topic_id: status.topic_id.clone(),
        applied_keys: status.applied_config_keys.iter().cloned().collect(),
        creating: status.pending.as_deref() == Some(CREATE)
            && status.pending_cluster_id.as_deref().is_none_or(|begun| begun == cluster_id),
    }
}

/// Nothing is under way.
fn settle(status: &mut TopicStatus) {
    status.pending = None;
    status.pending_cluster_id = None;
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
