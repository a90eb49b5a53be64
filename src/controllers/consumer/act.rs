//! Asks the scaler, and carries out what it says: one patch of `/scale`, status, event, metrics.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::budget::Budget;
use super::collector::on_grid;
use super::observe::{Sample, observation};
use super::pen::Pen;
use super::registry::{Front, Registration, Source};
use super::report::{self, Haste};
use super::targets::{Target as Known, TargetKey};
use crate::api::conditions::{self, Reason};
use crate::api::consumer::TargetKind;
use crate::api::{Consumer, ConsumerStatus, FIELD_MANAGER, annotation};
use crate::controllers::context::Context;
use crate::controllers::failure::Failure;
use crate::controllers::reconciler::annotated;
use crate::controllers::status;
use crate::runtime::metrics::ConsumerFigures;
use crate::scaling::{self, Bound, ConditionKind, Decision, Learned, State, Target};

/// How often figures that moved are written when nothing else changed.
const FIGURES_EVERY: Duration = Duration::from_secs(60);
/// How long the API server usually takes to answer a patch of a status.
const WRITE_TAKES: Duration = Duration::from_millis(100);
/// How long the API server may take to answer a patch.
const PATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A patch that the API server did not take.
struct Refused {
    words: String,
    /// What it asked for.
    to: u32,
    count: u32,
    at: Instant,
}

impl Refused {
    /// The next try comes after a growing pause, a minute at most.
    fn pause(&self) -> Duration {
        Duration::from_secs((1 << self.count.min(6)).min(60))
    }
}

/// What is kept of one Consumer between polls.
pub struct Seat {
    /// When to look again.
    pub next: Instant,
    state: Option<State>,
    generation: Option<i64>,
    source: Option<Source>,
    front: Option<Front>,
    figures_at: Instant,
    pen: Arc<Pen>,
    /// A status that waits for the one that is being written.
    put_off: bool,
    /// When a status that was sent is written, or is to be sent once more.
    sent_until: Instant,
    refused: Arc<Mutex<Option<Refused>>>,
    said: Option<(u32, Bound)>,
    /// Other reasons for the same count: those that were said, and those that were written.
    sayings: Budget,
    writings: Budget,
}

impl Seat {
    /// A Consumer that is new here: what the last leader learned is where it goes on.
    #[must_use]
    pub fn new(registration: &Registration, pen: Arc<Pen>, now: f64) -> Self {
        let status = registration.consumer.status.as_ref();
        let learned = learned_before(&registration.consumer);
        let mut state = learned.map_or_else(State::default, |learned| State::seeded(&learned));
        let zero_since = status.and_then(|status| status.zero_since.as_ref()?.parse::<Timestamp>().ok());
        if let Some(since) = zero_since {
            let ago = Timestamp::now().duration_since(since).as_secs_f64();
            state = state.at_zero_since(now - ago.max(0.0));
        }
        let replicas = status.and_then(|status| u32::try_from(status.desired_replicas?).ok()).unwrap_or(0);
        for condition in status.map_or(&[][..], |status| &status.conditions) {
            let kind = ConditionKind::ALL.into_iter().find(|kind| kind.as_str() == condition.type_);
            if let Some(kind) = kind.filter(|_| condition.status == "True") {
                state = state.with_guard(kind, replicas, now);
            }
        }
        Self {
            next: Instant::now(),
            state: Some(state),
            generation: None,
            source: None,
            front: None,
            figures_at: Instant::now(),
            pen,
            put_off: false,
            sent_until: Instant::now(),
            refused: Arc::default(),
            said: None,
            sayings: Budget::default(),
            writings: Budget::default(),
        }
    }

    /// Whether it is time: by its interval, or because the controller found something new.
    #[must_use]
    pub fn due(&self, registration: &Registration, now: Instant) -> bool {
        now >= self.next
            || self.generation != registration.consumer.metadata.generation
            || self.front.as_ref() != Some(&registration.front)
            || self.owes(now)
    }

    /// How long nobody has to look here, unless something changes.
    #[must_use]
    pub fn rest(&self, now: Instant) -> Duration {
        let rest = self.next.saturating_duration_since(now);
        if self.put_off {
            rest.min(WRITE_TAKES)
        } else if self.pen.writing.load(Ordering::Acquire) || self.pen.failed.load(Ordering::Acquire) {
            rest.min(self.sent_until.saturating_duration_since(now).max(WRITE_TAKES))
        } else {
            rest
        }
    }

    /// Whether a status has to be written that could not be: the next poll may be minutes away.
    fn owes(&self, now: Instant) -> bool {
        let failed = self.pen.failed.load(Ordering::Acquire) && now >= self.sent_until;
        (self.put_off || failed) && !self.pen.writing.load(Ordering::Acquire)
    }
}

/// What the last leader learned of a Consumer.
#[must_use]
pub fn learned_before(consumer: &Consumer) -> Option<Learned> {
    let learned = consumer.status.as_ref()?.learned.as_ref()?;
    serde_json::from_value(json!(learned)).ok()
}

/// Decides for one Consumer and starts what follows from it.
pub fn decide(ctx: &Arc<Context>, registration: &Arc<Registration>, sample: &Sample, seat: &mut Seat) {
    seat.generation = registration.consumer.metadata.generation;
    if seat.source.as_ref().is_some_and(|before| !before.shares(&registration.source)) {
        // Another group or queue: what was learned of the old one says nothing.
        seat.state = None;
    }
    seat.source = Some(registration.source.clone());
    seat.front = Some(registration.front.clone());
    let known = ctx.targets.get(&registration.target);
    let paused = annotated(registration.consumer.as_ref(), annotation::PAUSED)
        || ctx
            .brokers
            .get(&registration.broker.namespace, &registration.broker.name)
            .is_some_and(|broker| annotated(broker.as_ref(), annotation::PAUSED));
    let mut wait = registration.poll_interval();

    // With a conflict or an unusable spec there is nothing to decide; a broker that is away is
    // something that the scaler wants to know.
    let usable = match &registration.front {
        Front::Good => true,
        Front::Bad { reason, .. } => !matches!(
            reason,
            Reason::Conflict
                | Reason::InvalidSpec
                | Reason::NamespaceNotAllowed
                | Reason::RefInvalid
                | Reason::TargetNotFound
        ),
    };
    let decision = match (&registration.config, &known) {
        (Some(config), Some(known)) if usable => {
            let mut seen = observation(
                sample,
                registration,
                target(ctx, &registration.target, known, paused),
                ctx.now(),
            );
            // What brokers say of a partition comes into messages.
            for part in seen.kafka.iter_mut().flat_map(|kafka| &mut kafka.partitions) {
                part.error = part.error.take().map(|words| ctx.secrets.redact(&registration.broker, &words));
            }
            let dead_letters = seen.dead_letter.as_ref().and_then(|dead_letter| dead_letter.end);
            let (namespace, name) = (&registration.target.namespace, registration.consumer.name_any());
            ctx.metrics.consumer_aim(namespace, &name, config.target_delay, dead_letters);
            let state = seat.state.take().unwrap_or_default();
            let (decision, state) = scaling::decide(config, &seen, state);
            seat.state = Some(state);
            wait = decision.next_check.clamp(0.05, wait.max(0.05));
            Some(decision)
        }
        _ => None,
    };
    let (now, wait) = (Instant::now(), Duration::from_secs_f64(wait));
    // A look out of turn comes when it is needed.
    let in_turn = wait.as_secs_f64() >= registration.poll_interval();
    seat.next = if in_turn { on_grid(ctx.started, now, wait) } else { now + wait };

    if let Some(decision) = &decision {
        tell(ctx, registration, seat, decision, known.as_ref());
        if let (true, Some(known)) = (decision.patch, &known) {
            patch(ctx, registration, seat, decision, known.wanted);
        }
    } else {
        let (namespace, name) = (&registration.target.namespace, registration.consumer.name_any());
        ctx.metrics.consumer(namespace, &name, &ConsumerFigures::default());
        ctx.metrics.consumer_guards(namespace, &name, &[]);
    }
    let before = seat.pen.written().unwrap_or_default();
    let trouble = sample
        .trouble(registration)
        .map(|trouble| trouble.hiding(|words| ctx.secrets.redact(&registration.broker, words)));
    let refused = {
        let mut refused = seat.refused.lock().unwrap_or_else(PoisonError::into_inner);
        // A patch without an answer may have taken effect, and somebody else may have done the same.
        let had = |refused: &Refused| known.as_ref().is_some_and(|known| known.wanted == refused.to);
        // And what is not wanted any more is missed by nobody.
        let over =
            decision.as_ref().zip(known.as_ref()).is_some_and(|(is, known)| is.replicas == known.wanted);
        refused.take_if(|refused| over || had(refused));
        refused.as_ref().map(|refused| refused.words.clone())
    };
    let after = report::status(&report::Input {
        before: &before,
        front: &registration.front,
        decision: decision.as_ref(),
        replicas: known.as_ref().map(|known| (known.wanted, known.ready)),
        dry_run: registration.dry_run,
        paused,
        trouble: trouble.as_ref(),
        refused: refused.as_deref(),
        generation: registration.consumer.metadata.generation,
        now: Timestamp::now(),
    });
    let ready = conditions::is_true(&after.conditions, conditions::READY);
    let (namespace, name) = (&registration.target.namespace, registration.consumer.name_any());
    ctx.metrics.object("Consumer", namespace, &name, Some(ready), None);
    if ctx.consumers.get(namespace, &name).is_none() {
        // It went while it was looked at: its series are gone already, and would stay.
        ctx.metrics.forget_consumer(namespace, &name);
    }
    write(ctx, registration, seat, before, after);
}

fn target(ctx: &Context, key: &TargetKey, known: &Known, paused: bool) -> Target {
    Target {
        spec: known.wanted,
        ready: Some(known.ready),
        unschedulable: None,
        updating: known.updating,
        revision: known.revision.as_str().into(),
        accepted: known.accepted,
        asked: known.asked,
        paused,
        foreign_scaler: ctx.targets.foreign_scaler(key),
    }
}

/// Metrics at every poll; a log line and an event when the decision changed.
fn tell(
    ctx: &Context,
    registration: &Registration,
    seat: &mut Seat,
    decision: &Decision,
    known: Option<&Known>,
) {
    let (namespace, name) = (&registration.target.namespace, registration.consumer.name_any());
    let status = &decision.status;
    ctx.metrics.consumer(
        namespace,
        &name,
        &ConsumerFigures {
            lag_messages: status.lag.messages,
            lag_seconds: status.lag.seconds,
            replicas: known.map(|known| known.wanted),
            desired_replicas: Some(decision.replicas),
            arrival_rate: status.arrival,
            rate_per_replica: status.per_replica,
        },
    );
    let standing: Vec<_> = decision.conditions.iter().map(|condition| condition.kind.as_str()).collect();
    ctx.metrics.consumer_guards(namespace, &name, &standing);
    let said = (decision.replicas, decision.bound);
    let before = seat.said;
    if before == Some(said) {
        return;
    }
    let is_reason =
        |(replicas, bound): (u32, Bound)| replicas == said.0 && !bound.is_guard() && !said.1.is_guard();
    if before.is_some_and(is_reason) && !seat.sayings.take(Instant::now()) {
        return;
    }
    seat.said = Some(said);
    ctx.metrics.scaling_decision(namespace, &name, decision.bound.as_str());
    tracing::info!(
        kind = "Consumer",
        namespace,
        name,
        replicas = decision.replicas,
        bound = decision.bound.as_str(),
        detail = decision.message,
        "decided"
    );
    // What a leader finds is no change.
    if before.is_some() {
        let note =
            format!("{} replicas ({}): {}", decision.replicas, decision.bound.as_str(), decision.message);
        ctx.events.publish(registration.consumer.object_ref(&()), false, "Decided", "Scale", &note);
    }
}

/// One patch of `/scale`. The poll does not wait for it; the next patch does.
fn patch(ctx: &Arc<Context>, registration: &Arc<Registration>, seat: &Seat, decision: &Decision, from: u32) {
    let waits = seat
        .refused
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .is_some_and(|refused| refused.at.elapsed() < refused.pause());
    if registration.dry_run || waits || seat.pen.scaling.swap(true, Ordering::AcqRel) {
        return;
    }
    let (ctx, registration, pen) = (ctx.clone(), registration.clone(), seat.pen.clone());
    let refused = seat.refused.clone();
    let to = decision.replicas;
    let message = decision.message.clone();
    tokio::spawn(async move {
        let name = registration.consumer.name_any();
        let namespace = registration.target.namespace.clone();
        let answer = match tokio::time::timeout(PATCH_TIMEOUT, scale(&ctx, &registration.target, to)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("failed to patch /scale: the API server did not answer in time".into()),
        };
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(()) => {
                *refused = None;
                ctx.metrics.scale_patch(&namespace, &name, from, to);
                tracing::info!(kind = "Consumer", namespace, name, from, to, detail = message, "scaled");
                // The decision's own words begin with both numbers.
                ctx.events.publish(registration.consumer.object_ref(&()), false, "Scaled", "Scale", &message);
            }
            Err(words) => {
                tracing::warn!(kind = "Consumer", namespace, name, from, to, error = words, "not scaled");
                let note = format!("{from} → {to} replicas: {words}");
                ctx.events.publish(
                    registration.consumer.object_ref(&()),
                    true,
                    "ScaleFailed",
                    "Scale",
                    &note,
                );
                let count = refused.as_ref().map_or(0, |refused| refused.count.saturating_add(1));
                *refused = Some(Refused { words, to, count, at: Instant::now() });
            }
        }
        drop(refused);
        pen.scaling.store(false, Ordering::Release);
    });
}

async fn scale(ctx: &Context, key: &TargetKey, replicas: u32) -> Result<(), Failure> {
    ctx.may_write()?;
    let body = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let ticket = ctx.targets.sends(key, replicas);
    let answer = match key.kind {
        TargetKind::Deployment => {
            Api::<Deployment>::namespaced(ctx.client.clone(), &key.namespace)
                .patch_scale(&key.name, &params, &body)
                .await
        }
        TargetKind::StatefulSet => {
            Api::<StatefulSet>::namespaced(ctx.client.clone(), &key.namespace)
                .patch_scale(&key.name, &params, &body)
                .await
        }
    };
    ctx.metrics.api_write("patch", "scale");
    match &answer {
        Ok(scale) => {
            let version = scale.metadata.resource_version.as_deref().unwrap_or_default();
            ctx.targets.answered(key, ticket, Some(version));
        }
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
            ctx.targets.answered(key, ticket, None);
        }
        // It may have taken effect all the same.
        Err(_) => {}
    }
    answer.map(drop).map_err(Failure::kube("patch /scale"))
}

/// The status as the API server has it, as far as is known.
fn shown(ctx: &Context, registration: &Registration) -> ConsumerStatus {
    let cached = ctx.consumers.get(&registration.target.namespace, &registration.consumer.name_any());
    cached
        .map(|cached| ctx.newest(cached, &ctx.consumers))
        .and_then(|consumer| consumer.status.clone())
        .unwrap_or_default()
}

/// Writes the status: what is urgent at once, what merely moved once a minute.
fn write(
    ctx: &Arc<Context>,
    registration: &Arc<Registration>,
    seat: &mut Seat,
    before: ConsumerStatus,
    after: ConsumerStatus,
) {
    // After a failed write nobody knows what the API server has: what the watch shows is the base.
    let again = seat.pen.failed.load(Ordering::Acquire);
    let before = if again { shown(ctx, registration) } else { before };
    let now = Instant::now();
    let haste = report::haste(&before, &after);
    let urgent = again
        || seat.pen.written().is_none()
        || haste == Haste::News
        || haste == Haste::Reason && seat.writings.has(now);
    seat.put_off = false;
    if before == after {
        seat.pen.failed.store(false, Ordering::Release);
        return;
    }
    if !(urgent || seat.figures_at.elapsed() >= FIGURES_EVERY) {
        return;
    }
    if !seat.pen.take(&after) {
        seat.put_off = true;
        return;
    }
    if haste == Haste::Reason {
        seat.writings.take(now);
    }
    seat.sent_until = now + PATCH_TIMEOUT;
    seat.figures_at = now;
    let (ctx, registration, pen) = (ctx.clone(), registration.clone(), seat.pen.clone());
    tokio::spawn(async move {
        let written = tokio::time::timeout(
            PATCH_TIMEOUT,
            status::write(&ctx, registration.consumer.as_ref(), &before, &after),
        )
        .await;
        if let Ok(Err(error)) = &written {
            let (namespace, name) =
                (registration.consumer.namespace().unwrap_or_default(), registration.consumer.name_any());
            tracing::warn!(kind = "Consumer", namespace, name, %error, "status not written");
        }
        pen.put_back(matches!(written, Ok(Ok(()))));
    });
}
