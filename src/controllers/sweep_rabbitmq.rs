//! RabbitMQ's drift sweep: one look at everything in all virtual hosts, compared with everything
//! that is declared.
//!
//! The number of requests does not grow with the number of objects: one for each kind. An object
//! that differs is woken; its own pass looks again before it writes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use kube::runtime::reflector::ObjectRef;

use super::context::Context;
use super::dependents;
use super::failure::Failure;
use super::links::Link;
use super::rabbitmq::{self, Look, Rabbit, end_key};
use super::reconciler::{self, TopologyKind as _};
use super::status::words;
use super::sweep::{Counts, Swept};
use crate::api::conditions::{self, Reason};
use crate::api::{Binding, Exchange, Queue};
use crate::brokers::lane::Lane;
use crate::brokers::rabbitmq::{RabbitError, RabbitHandle, Sweep};

/// The result of a request, as metrics name it.
pub fn outcome<T>(result: &Result<T, RabbitError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) if error.is_unreachable() => "unreachable",
        Err(_) => "error",
    }
}

/// Looks once; wakes what differs.
pub async fn run(ctx: &Arc<Context>, link: &Link, rabbit: &RabbitHandle) -> Result<Counts, Failure> {
    let asked = Instant::now();
    let seen = rabbit.observer.sweep(Lane::Resync).await;
    let (broker, took) = (link.key.to_string(), asked.elapsed());
    // They are under way together, so each took at most this long.
    for request in ["ListQueues", "ListExchanges", "ListBindings", "ListPolicies", "ListOperatorPolicies"] {
        ctx.metrics.broker_request(&broker, request, outcome(&seen), took);
    }
    let seen = seen?;
    if !seen.operator_policies.is_empty() {
        ctx.metrics.broker_request(&broker, "ListQueueStatistics", "ok", took);
    }
    for (vhost, error) in &seen.unlisted {
        // What is in it is asked for one by one, and says so itself where that fails.
        tracing::warn!(broker, vhost, "RabbitMQ cannot list the bindings of this virtual host: {error}");
    }
    let mut counts = Counts { kind: Swept::Queues, ..Counts::default() };
    compare::<Exchange>(ctx, link, rabbit, &seen, &mut counts).await;
    compare::<Queue>(ctx, link, rabbit, &seen, &mut counts).await;
    compare::<Binding>(ctx, link, rabbit, &seen, &mut counts).await;
    let declared: HashSet<String> =
        dependents::on::<Queue>(ctx, &link.key).iter().map(|queue| queue.identity()).collect();
    let foreign = seen.queues.iter().filter(|queue| !queue.exclusive && !queue.auto_delete);
    counts.unmanaged = foreign
        .filter(|queue| !queue.name.starts_with("amq."))
        .filter(|queue| !declared.contains(&end_key(&queue.vhost, 'q', &queue.name)))
        .count();
    Ok(counts)
}

/// Compares all objects of one kind with what was seen.
async fn compare<K: Rabbit>(
    ctx: &Arc<Context>,
    link: &Link,
    rabbit: &RabbitHandle,
    seen: &Sweep,
    counts: &mut Counts,
) {
    let vhosts = seen.vhosts();
    for object in dependents::on::<K>(ctx, &link.key) {
        counts.managed += 1;
        let object = ctx.newest(object, K::cache(ctx));
        let Ok(mut pass) = reconciler::gather(ctx, object.as_ref()) else { continue };
        pass.sweeping = true;
        let mut status = object.status().cloned().unwrap_or_default();
        let ours = rabbitmq::remembered(&pass, &mut status);
        let (conditions, observed) = K::conditions(&status);
        let own_pass_is_coming =
            observed != object.meta().generation || object.meta().deletion_timestamp.is_some();
        let ready = conditions::find(conditions, conditions::READY).cloned();
        // Of a virtual host that was not listed, nothing was: each look would be a request of its own.
        let listed = pass.object.vhost().is_none_or(|vhost| vhosts.contains(vhost));
        let look = if listed { K::look(&pass, rabbit, seen.begun, ours, &status).await.ok() } else { None };
        let (matches, known) = match look {
            Some(Look { plan: Ok(plan), .. }) => {
                let obstacle = ready.as_ref().is_some_and(|ready| {
                    [Reason::PolicyShadowed, Reason::ArgumentOverrides]
                        .iter()
                        .any(|reason| ready.reason == reason.as_str())
                });
                // A plan where there was none: somebody put it right.
                let refused = ready.as_ref().is_some_and(|ready| ready.reason == Reason::Immutable.as_str());
                let said = words(&plan.steps) == *K::plan_mut(&mut status).0
                    && plan.obstacles.is_empty() != obstacle
                    && !refused;
                (plan.steps.is_empty() && plan.obstacles.is_empty(), said)
            }
            // What took its place has to be told, whatever is said already.
            Some(Look { replaced: true, .. }) => (false, false),
            _ => (false, ready.is_some_and(|ready| ready.status != "True")),
        };
        if matches {
            counts.in_sync += 1;
        } else {
            counts.drifted += 1;
        }
        if !known && !own_pass_is_coming {
            K::wake(ctx).wake(&ObjectRef::from_obj(object.as_ref()));
        }
        // Thousands of comparisons must not keep other work waiting.
        tokio::task::consume_budget().await;
    }
}
