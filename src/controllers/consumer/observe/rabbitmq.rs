//! From RabbitMQ to observations: how deep queues are, and what became of their messages.
//!
//! Two sources, each for what it is good at. A passive declaration over AMQP tells what is ready, as of now, and is asked
//! at every poll: one small frame for each queue, on kept channels. The management interface tells the rest as of its
//! last statistics, up to 5 seconds old, each queue's at a moment of its own; it is asked less often, by one request for
//! each virtual host (a hundred queues in it), however many Consumers there are. Without AMQP, statistics are all there is.
//!
//! A zero is believed only of a queue whose leader is known to be there: without it RabbitMQ says 0, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{Side, Trouble, crowd, side};
use crate::api::conditions::Reason;
use crate::brokers::rabbitmq::{Depth, QueueFigures, RabbitError, RabbitHandle};
use crate::controllers::consumer::registry::{QueueName, Registration};
use crate::controllers::context::Context;
use crate::controllers::failure::Failure;
use crate::controllers::links::Link;
use crate::controllers::sweep_rabbitmq::outcome;
use crate::scaling::{Observation, RabbitMq, Retry};

/// How long one request of a sweep may take.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How often statistics are read where depths come by AMQP: often enough to see each of their moves.
const LIST_EVERY: Duration = Duration::from_secs(2);
/// Statistics are read for at most this share of the time: 1/20.
const SHARE: u32 = 20;
/// How old statistics may be beyond their turn: what an outage of the management interface leaves of them is history.
const STALE: Duration = Duration::from_secs(10);
/// For how long a virtual host that nobody asks for is remembered.
const FORGET: Duration = Duration::from_secs(60);

/// What statistics said last, by virtual host.
#[derive(Default)]
pub struct Facts(HashMap<String, Listed>);

/// One virtual host's statistics.
#[derive(Clone)]
struct Listed {
    begun: Instant,
    took: Duration,
    names: BTreeSet<String>,
    queues: Result<Arc<BTreeMap<String, QueueFigures>>, RabbitError>,
    /// The last ones that could be read.
    good: Option<(Instant, Arc<BTreeMap<String, QueueFigures>>)>,
}

impl Listed {
    /// How long they hold until the next ones.
    fn turn(&self, amqp: bool) -> Duration {
        let share = self.took * SHARE;
        if amqp { share.max(LIST_EVERY) } else { share }
    }

    /// Statistics that are young enough to speak of now.
    fn fresh(&self, amqp: bool, now: Instant) -> Option<&BTreeMap<String, QueueFigures>> {
        let (begun, queues) = self.good.as_ref()?;
        (now.duration_since(*begun) < self.turn(amqp) + STALE).then_some(queues.as_ref())
    }
}

/// What one sweep brought.
pub struct Sample {
    at: f64,
    queues: HashMap<QueueName, Seen>,
    side: HashMap<String, Side>,
}

/// What is known of a queue.
#[derive(Clone, Debug)]
struct Seen {
    /// As the scaler wants it.
    queue: RabbitMq,
    /// Messages that ever came in, as far as what left is counted: dead letters, which `publish` misses.
    came: Option<i64>,
    /// Why its depth is not known.
    trouble: Option<Trouble>,
}

impl Sample {
    /// Why nothing is known of a queue, if that is so.
    #[must_use]
    pub fn trouble(&self, queue: &QueueName) -> Option<Trouble> {
        self.queues.get(queue)?.trouble.clone()
    }
}

/// Names by virtual host.
type Names = BTreeMap<String, BTreeSet<String>>;

/// Reads what the due Consumers need.
pub async fn read(
    ctx: &Arc<Context>,
    (link, rabbit): (&Link, &RabbitHandle),
    due: &[Arc<Registration>],
    facts: &mut Facts,
) -> Sample {
    let (mut probed, mut listed) = (Names::new(), Names::new());
    let mut sides = HashMap::new();
    let now: BTreeSet<&str> = due.iter().map(|registration| registration.uid.as_str()).collect();
    // Those who are not due share the listing with those who are.
    for registration in ctx.registry.of(&link.key) {
        let Some(queue) = registration.source.queue() else { continue };
        let side = side(ctx, &registration);
        let names = std::iter::once(&queue.name).chain(&side.retries);
        if now.contains(registration.uid.as_str()) {
            probed.entry(queue.vhost.clone()).or_default().extend(names.clone().cloned());
        }
        listed.entry(queue.vhost.clone()).or_default().extend(names.chain(&side.dead_letters).cloned());
        sides.insert(registration.uid.clone(), side);
    }
    let (depths, ()) =
        tokio::join!(probe(ctx, (link, rabbit), &probed), list(ctx, (link, rabbit), &listed, facts));
    let (amqp, now) = (rabbit.amqp.is_some(), Instant::now());
    let mut queues = HashMap::new();
    for (vhost, names) in listed {
        let Some(known) = facts.0.get(&vhost) else { continue };
        for name in names {
            let queue = QueueName { vhost: vhost.clone(), name };
            let seen = combine(&queue, depths.get(&queue), known, amqp, now);
            queues.insert(queue, seen);
        }
    }
    Sample { at: ctx.now(), queues, side: sides }
}

/// Depths by AMQP, where the Broker has it.
async fn probe(
    ctx: &Context,
    (link, rabbit): (&Link, &RabbitHandle),
    names: &Names,
) -> HashMap<QueueName, Result<Option<Depth>, RabbitError>> {
    let Some(amqp) = &rabbit.amqp else {
        return HashMap::new();
    };
    let broker = link.key.to_string();
    let mut queues = Vec::new();
    for (vhost, names) in names {
        queues.extend(names.iter().map(|name| QueueName { vhost: vhost.clone(), name: name.clone() }));
    }
    let answers = crowd::ask(queues, async |queue: QueueName| {
        let asked = Instant::now();
        let answer = amqp.depth_within(&queue.vhost, &queue.name, TIMEOUT).await;
        ctx.metrics.broker_request(&broker, "PassiveDeclare", outcome(&answer), asked.elapsed());
        (queue, answer)
    });
    answers.await.into_iter().collect()
}

/// Statistics of every virtual host whose turn it is.
async fn list(ctx: &Context, (link, rabbit): (&Link, &RabbitHandle), names: &Names, facts: &mut Facts) {
    let amqp = rabbit.amqp.is_some();
    facts.0.retain(|_, listed| listed.begun.elapsed() < FORGET.max(listed.turn(amqp)));
    let client = rabbit.client.with_timeout(TIMEOUT);
    let mut due = Vec::new();
    for (vhost, names) in names {
        let listed = facts.0.get(vhost);
        if listed.is_none_or(|l| l.begun.elapsed() >= l.turn(amqp) || !l.names.is_superset(names)) {
            due.push((vhost.clone(), names.clone()));
        }
    }
    let broker = link.key.to_string();
    let answers = join_all(due.into_iter().map(async |(vhost, names)| {
        let begun = Instant::now();
        let answer = client.queue_figures(&vhost, &names).await;
        let took = begun.elapsed();
        ctx.metrics.broker_request(&broker, "ListQueues", outcome(&answer), took);
        (vhost, names, begun, took, answer.map(Arc::new))
    }))
    .await;
    for (vhost, names, begun, took, queues) in answers {
        let before = facts.0.remove(&vhost).and_then(|listed| listed.good);
        let good = queues.as_ref().ok().map(|queues| (begun, queues.clone())).or(before);
        facts.0.insert(vhost, Listed { begun, took, names, queues, good });
    }
}

/// What both sources say together.
fn combine(
    queue: &QueueName,
    depth: Option<&Result<Option<Depth>, RabbitError>>,
    listed: &Listed,
    amqp: bool,
    now: Instant,
) -> Seen {
    let fresh = listed.fresh(amqp, now);
    let figures = fresh.and_then(|queues| queues.get(&queue.name));
    let probe = match depth {
        Some(Ok(Some(depth))) => Some(*depth),
        _ => None,
    };
    let trouble = trouble(queue, depth, figures, listed);
    let listed_now = figures.is_some();
    let figures = figures.cloned().unwrap_or_default();
    let (ready, consumers) = match (probe, &listed.queues) {
        (Some(depth), _) => (Some(u64::from(depth.ready)), Some(depth.consumers)),
        // Old statistics are worth something beside a depth, and nothing by themselves.
        (None, Ok(_)) => (figures.ready, figures.consumers),
        (None, Err(_)) => (None, None),
    };
    // A queue without its leader answers with nothing at all: no messages, no consumers.
    let led = listed_now && trouble.is_none() && {
        let blank = ready == Some(0) && consumers == Some(0);
        let busy = figures.consumers.is_some_and(|count| count > 0)
            || figures.ready.is_some_and(|count| count > 0)
            || figures.unacked.is_some_and(|count| count > 0);
        !(probe.is_some() && blank && busy)
    };
    let ready = ready.filter(|&ready| trouble.is_none() && (ready > 0 || led));
    let left = figures.ack.zip(figures.no_ack).map_or(0, |(ack, no_ack)| ack.saturating_add(no_ack));
    let held = figures.ready.zip(figures.unacked).map(|(ready, unacked)| ready.saturating_add(unacked));
    Seen {
        queue: RabbitMq {
            kind: figures.kind.as_str().into(),
            ready,
            unacked: figures.unacked.filter(|_| ready.is_some()),
            publish: figures.publish,
            ack: figures.ack,
            deliver_no_ack: figures.no_ack,
            consumers,
            single_active: figures.single_active,
        },
        came: held.and_then(|held| i64::try_from(held.saturating_add(left)).ok()),
        trouble,
    }
}

/// Why the depth of a queue is not known, if it is not.
fn trouble(
    queue: &QueueName,
    depth: Option<&Result<Option<Depth>, RabbitError>>,
    figures: Option<&QueueFigures>,
    listed: &Listed,
) -> Option<Trouble> {
    let failed = |error: &RabbitError| Trouble::of(&Failure::from(error.clone()));
    let missing = || {
        let message = format!("queue {:?} does not exist in virtual host {:?}", queue.name, queue.vhost);
        Trouble::new(Reason::NotFound, message, "")
    };
    let down = figures.and_then(|figures| {
        let state = figures.state.as_deref().unwrap_or("running");
        let words = match (figures.leader_online, state) {
            (Some(false), _) => "has no leader".to_owned(),
            (_, "running" | "idle" | "flow") => return None,
            (_, state) => format!("is {state}"),
        };
        let message = format!("queue {:?} in virtual host {:?} {words}", queue.name, queue.vhost);
        Some(Trouble::new(Reason::Unknown, message, ""))
    });
    match (depth, &listed.queues) {
        _ if down.is_some() => down,
        (Some(Ok(Some(_))), _) => None,
        // RabbitMQ also says that a queue does not exist where only its node is away, but it does not list it then.
        (Some(Ok(None)), _) => Some(missing()),
        (_, Ok(queues)) if queues.contains_key(&queue.name) => None,
        (_, Err(error)) | (Some(Err(error)), Ok(_)) => Some(failed(error)),
        (None, Ok(_)) => Some(missing()),
    }
}

/// One Consumer's observation, but for its target.
#[must_use]
pub fn observation(sample: &Sample, registration: &Registration, queue: &QueueName) -> Observation {
    let side = sample.side.get(&registration.uid).cloned().unwrap_or_default();
    let of = |name: &String| sample.queues.get(&QueueName { vhost: queue.vhost.clone(), name: name.clone() });
    let waiting = |name: &String| {
        let queue = &of(name)?.queue;
        Some(queue.ready?.saturating_add(queue.unacked?))
    };
    Observation {
        now: sample.at,
        rabbitmq: sample.queues.get(queue).map(|seen| seen.queue.clone()),
        dead_letter: side.dead_letter(|name| of(name).is_some(), |name| of(name)?.came),
        retry: (!side.retries.is_empty())
            .then(|| Retry { lag: side.retries.iter().map(waiting).sum::<Option<u64>>() }),
        ..Observation::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::rabbitmq::ErrorKind;

    fn figures(ready: u64, unacked: u64, consumers: u32) -> QueueFigures {
        QueueFigures {
            name: "tasks".into(),
            kind: "quorum".into(),
            state: Some("running".into()),
            leader_online: Some(true),
            ready: Some(ready),
            unacked: Some(unacked),
            consumers: Some(consumers),
            publish: Some(100),
            ack: Some(90),
            no_ack: Some(0),
            ..QueueFigures::default()
        }
    }

    fn listed(queue: Option<QueueFigures>) -> Listed {
        let queues: Arc<BTreeMap<_, _>> =
            Arc::new(queue.into_iter().map(|queue| (queue.name.clone(), queue)).collect());
        let begun = Instant::now();
        let names = BTreeSet::from(["tasks".to_owned()]);
        Listed { begun, took: Duration::ZERO, names, good: Some((begun, queues.clone())), queues: Ok(queues) }
    }

    fn failed(listed: Listed) -> Listed {
        Listed { queues: Err(error()), ..listed }
    }

    fn error() -> RabbitError {
        RabbitError {
            operation: "read queue".into(),
            kind: ErrorKind::Unreachable,
            message: "connection refused".into(),
        }
    }

    type Probe = Result<Option<Depth>, RabbitError>;

    fn seen(depth: impl Into<Option<Probe>>, listed: &Listed) -> Seen {
        let queue = QueueName { vhost: "/".into(), name: "tasks".into() };
        combine(&queue, depth.into().as_ref(), listed, true, Instant::now())
    }

    #[allow(clippy::unnecessary_wraps)] // What a probe brings.
    const fn depth(ready: u32, consumers: u32) -> Probe {
        Ok(Some(Depth { ready, consumers }))
    }

    #[test]
    fn what_is_ready_is_as_of_now_and_the_rest_as_of_the_statistics() {
        let seen = seen(depth(40, 3), &listed(Some(figures(10, 5, 2))));
        assert_eq!((seen.queue.ready, seen.queue.consumers), (Some(40), Some(3)));
        assert_eq!((seen.queue.unacked, seen.queue.ack, seen.came), (Some(5), Some(90), Some(105)));
        assert_eq!(seen.trouble, None);
    }

    #[test]
    fn without_amqp_statistics_are_all_there_is() {
        let seen = seen(None, &listed(Some(figures(10, 5, 2))));
        assert_eq!((seen.queue.ready, seen.queue.consumers), (Some(10), Some(2)));
    }

    #[test]
    fn a_zero_without_a_leader_is_unknown_and_said() {
        let mut queue = figures(7, 0, 0);
        queue.leader_online = Some(false);
        let seen = seen(depth(0, 0), &listed(Some(queue)));
        assert_eq!(seen.queue.ready, None);
        assert!(seen.trouble.unwrap().message.contains("has no leader"));
    }

    #[test]
    fn nothing_at_all_where_statistics_knew_something_is_unknown_until_they_agree() {
        assert_eq!(seen(depth(0, 0), &listed(Some(figures(7, 0, 2)))).queue.ready, None);
        assert_eq!(seen(depth(0, 0), &listed(Some(figures(0, 0, 0)))).queue.ready, Some(0));
        assert_eq!(seen(depth(0, 2), &listed(Some(figures(7, 0, 2)))).queue.ready, Some(0));
    }

    #[test]
    fn a_queue_that_is_gone_is_unknown_and_said() {
        let seen = seen(Some(Ok(None)), &listed(None));
        assert_eq!((seen.queue.ready, seen.queue.unacked), (None, None));
        let trouble = seen.trouble.unwrap();
        assert_eq!(trouble.reason, Reason::NotFound);
        assert_eq!(trouble.message, "queue \"tasks\" does not exist in virtual host \"/\"");
    }

    #[test]
    fn a_broker_that_is_away_is_unknown_whatever_was_known() {
        let seen = seen(Some(Err(error())), &failed(listed(Some(figures(7, 0, 2)))));
        assert_eq!(seen.queue.ready, None);
        assert_eq!(seen.trouble.unwrap().reason, Reason::BrokerUnreachable);
    }

    #[test]
    fn a_depth_counts_while_the_management_interface_is_away_but_a_zero_only_while_the_leader_was_just_seen()
    {
        let mut away = failed(listed(Some(figures(7, 0, 2))));
        assert_eq!(seen(depth(9, 2), &away).queue.ready, Some(9));
        away.good = None;
        assert_eq!(seen(depth(9, 2), &away).queue.ready, Some(9));
        assert_eq!(seen(depth(9, 2), &away).queue.unacked, None);
        assert_eq!(seen(depth(0, 2), &away).queue.ready, None);
    }
}
