//! An operator that finds everything in step: how soon it knows, whether a person's edit waits for that, and what
//! it costs from then on.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::audit::Audit;
use crate::kafka::CONFIG;
use crate::objects::Kind;
use crate::operator::Operator;
use crate::report::Report;
use crate::rows::{Bench, topic_name};
use crate::{BenchError, PATIENCE, metadata_log, until};

/// How often the operator is asked whether it has looked at everything.
const LOOK: Duration = Duration::from_millis(100);
/// The config of the topics that are edited during a restart: while the operator is away, and once it leads.
const EDITS: [&str; 2] = ["10800000", "14400000"];
/// The binding key of the Binding that is edited.
const KEY: &str = "edited";

/// A restart with nothing to do: the time until every object was looked at, and what was written on the way.
pub async fn in_step(bench: &Bench<'_>, report: &mut Report<'_>) -> Result<(), BenchError> {
    let (before, declared) = (records(bench)?, bench.rabbit.churn().await?);
    let audit = Audit::begin();
    let mut operator = Operator::start(bench.settings, &bench.objects, "restart")?;
    let took = synced(bench, &mut operator).await?;
    let asked = operator.metrics().await?.writes();
    let written = (records(bench)? - before, bench.rabbit.churn().await? - declared);
    let writes = api_writes(&audit, bench);
    operator.stop().await?;
    report.restart(took, asked, written, &writes);
    Ok(())
}

/// A restart that edits meet: a Topic and a Binding from before it, and a Topic as the operator takes the lead. The
/// operator is left running.
pub async fn with_edits(bench: &Bench<'_>, report: &mut Report<'_>) -> Result<Operator, BenchError> {
    let edited = [bench.topics.len() / 2, bench.topics.len() / 3].map(|at| bench.topics[at].1.as_str());
    let (_, queue) = &bench.classic[bench.classic.len() / 2];
    edit(bench, edited[0], EDITS[0]).await?;
    let patch = json!({"spec": {"routingKey": KEY}});
    bench.objects.patch(Kind::Binding, std::iter::once((queue.clone(), patch))).await?;
    let led = leader(bench);
    let mut operator = Operator::start(bench.settings, &bench.objects, "edited")?;
    let led = led.await?;
    let (first, bound, second) = tokio::join!(in_force(bench, edited[0], EDITS[0]), bound(bench), async {
        edit(bench, edited[1], EDITS[1]).await?;
        let accepted = Instant::now();
        let done = in_force(bench, edited[1], EDITS[1]).await?;
        Ok::<_, BenchError>(done.saturating_duration_since(accepted))
    });
    let waited = first?.max(bound?).saturating_duration_since(led);
    report.edits(waited, second?);
    synced(bench, &mut operator).await?;
    Ok(operator)
}

/// What an operator costs that has nothing to do.
pub async fn rest(
    bench: &Bench<'_>,
    mut operator: Operator,
    report: &mut Report<'_>,
) -> Result<(), BenchError> {
    // The edits of before are over when each broker has been looked at once more, and what was seen is written.
    let before = operator.metrics().await?;
    until(PATIENCE, Duration::from_millis(500), async || {
        let now = operator.metrics().await?;
        let [kafka, rabbit] = ["ListTopics", "ListQueues"].map(|look| now.asked(look) - before.asked(look));
        let ended = now.sweeps() - before.sweeps();
        let all = kafka >= 1.0 && rabbit >= 1.0 && ended >= kafka + rabbit;
        Ok(if all { Ok(()) } else { Err("one more look at both brokers".to_owned()) })
    })
    .await?;
    let rest = Duration::from_secs(bench.settings.rest);
    println!("Watching the operator at rest for {} s", rest.as_secs());
    let audit = Audit::begin();
    let before = operator.metrics().await?;
    let process = operator.process()?;
    let cores = process.cores(rest).await?;
    let after = operator.metrics().await?;
    let sweeps = after.sweeps() - before.sweeps();
    if sweeps < 1.0 {
        return Err(BenchError::Waited(rest, "one look at the broker".to_owned()));
    }
    let requests = (after.requests() - before.requests()) / sweeps;
    let memory = process.memory()?;
    let writes = api_writes(&audit, bench);
    operator.stop().await?;
    report.rest(&writes, requests, cores, memory);
    Ok(())
}

/// Waits until the operator has looked at every object, and found it ready.
async fn synced(bench: &Bench<'_>, operator: &mut Operator) -> Result<Duration, BenchError> {
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let wanted = bench.all() as f64;
    until(PATIENCE, LOOK, async || {
        // It does not listen from its first moment.
        let ready = match operator.metrics().await {
            Ok(metrics) => metrics.ready(),
            Err(BenchError::Metrics(_)) => 0.0,
            Err(error) => return Err(error),
        };
        let all = ready >= wanted;
        Ok(if all {
            Ok(operator.begun.elapsed())
        } else {
            Err(format!("{wanted} objects to be ready, not {ready}"))
        })
    })
    .await
}

async fn edit(bench: &Bench<'_>, name: &str, value: &str) -> Result<(), BenchError> {
    let patch = json!({"spec": {"config": {CONFIG: value}}});
    bench.objects.patch(Kind::Topic, std::iter::once((name.to_owned(), patch))).await
}

/// When the broker has the value.
async fn in_force(bench: &Bench<'_>, name: &str, value: &str) -> Result<Instant, BenchError> {
    let name = topic_name(&bench.objects, name);
    until(PATIENCE, Duration::from_millis(20), async || {
        let is = bench.kafka.config(&name).await?;
        Ok(if is.as_deref() == Some(value) {
            Ok(Instant::now())
        } else {
            Err(format!("{name} to have {value}"))
        })
    })
    .await
}

/// When the broker has the edited binding.
async fn bound(bench: &Bench<'_>) -> Result<Instant, BenchError> {
    until(PATIENCE, Duration::from_millis(100), async || {
        let is = bench.rabbit.bound(&bench.objects.namespace, KEY).await?;
        Ok(if is { Ok(Instant::now()) } else { Err("the edited binding".to_owned()) })
    })
    .await
}

/// When the Lease is next taken: watched from the call on, not from the first poll.
fn leader(bench: &Bench<'_>) -> impl Future<Output = Result<Instant, BenchError>> {
    let leases: Api<Lease> = Api::namespaced(bench.objects.client(), &bench.objects.namespace);
    let taken = tokio::spawn(async move {
        let events = watcher(leases, watcher::Config::default()).default_backoff().applied_objects();
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let Ok(lease) = event else { continue };
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
            if lease.name_any() == "spillway" && holder.is_some_and(|holder| !holder.is_empty()) {
                return Some(Instant::now());
            }
        }
        None
    });
    async move {
        let waited = || BenchError::Waited(PATIENCE, "the operator to lead".to_owned());
        tokio::time::timeout(PATIENCE, taken).await.ok().and_then(Result::ok).flatten().ok_or_else(waited)
    }
}

/// What the operator wrote to the API server, but its Lease.
fn api_writes(audit: &Audit, bench: &Bench<'_>) -> Vec<String> {
    let mut writes = audit.writes(&bench.objects.namespace, "spillway");
    writes.retain(|write| !write.contains(" leases "));
    writes
}

fn records(bench: &Bench<'_>) -> Result<usize, BenchError> {
    let logs = &bench.settings.kafka_logs;
    metadata_log::records(logs).map_err(|error| BenchError::MetadataLog(logs.clone(), error))
}
