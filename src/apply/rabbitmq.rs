//! RabbitMQ: the planner's form of what was read, and the steps.

use crate::brokers::lane::Lane;
use crate::brokers::rabbitmq::{
    BindingInfo, ErrorKind, ExchangeDeclaration, ExchangeInfo, Policy, QueueDeclaration, QueueInfo,
    QueueStatistics, RabbitClient, RabbitError, RabbitHandle, Renewal, Target as At,
    VhostPolicies as Policies,
};
use crate::topology::rabbitmq::deletion::Renewed;
use crate::topology::rabbitmq::{
    BindingId, ObservedExchange, ObservedPolicy, ObservedQueue, Step, Target, VhostPolicies,
};

/// A queue, for the planner. One whose declaration RabbitMQ tells in part only is half there: an
/// error, to look again.
pub fn seen_queue(queue: &QueueInfo) -> Result<ObservedQueue, RabbitError> {
    if let Some(untold) = queue.untold {
        return Err(RabbitError {
            operation: format!("read queue {:?}", queue.name),
            kind: ErrorKind::Unavailable,
            message: format!("RabbitMQ does not tell its {untold}"),
        });
    }
    Ok(ObservedQueue {
        kind: queue.kind.clone(),
        durable: queue.durable,
        auto_delete: queue.auto_delete,
        exclusive: queue.exclusive,
        arguments: queue.arguments.clone(),
        policy: queue.policy.clone(),
        operator_policy: queue.operator_policy.clone(),
        state: queue.state.clone(),
        leader_online: queue.leader_online,
        messages: queue.messages,
        unacked: queue.unacked,
        consumers: queue.consumers,
    })
}

/// An exchange, for the planner.
#[must_use]
pub fn seen_exchange(exchange: &ExchangeInfo) -> ObservedExchange {
    ObservedExchange {
        kind: exchange.kind.clone(),
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        arguments: exchange.arguments.clone(),
        policy: exchange.policy.clone(),
    }
}

/// A binding, for the planner.
#[must_use]
pub fn seen_binding(binding: &BindingInfo) -> BindingId {
    BindingId {
        source: binding.source.clone(),
        target: match &binding.target {
            At::Queue(name) => Target::Queue(name.clone()),
            At::Exchange(name) => Target::Exchange(name.clone()),
        },
        routing_key: binding.routing_key.clone(),
        arguments: binding.arguments.clone(),
    }
}

/// All policies of a virtual host, for the planner.
#[must_use]
pub fn seen_policies(policies: &Policies) -> VhostPolicies {
    let one = |policy: &Policy| ObservedPolicy {
        name: policy.name.clone(),
        pattern: policy.pattern.clone(),
        apply_to: policy.apply_to.clone(),
        priority: policy.priority,
        definition: policy.definition.clone(),
    };
    VhostPolicies {
        policies: policies.policies.iter().map(one).collect(),
        operator: policies.operator.iter().map(one).collect(),
    }
}

/// Where a binding leads, for the client.
#[must_use]
pub fn at(target: &Target) -> At {
    match target {
        Target::Queue(name) => At::Queue(name.clone()),
        Target::Exchange(name) => At::Exchange(name.clone()),
    }
}

/// What a queue holds, asked of the broker, of its statistics and, where there is an AMQP address,
/// over AMQP: what none of them knows is unknown, and the largest count is believed. It is also a look
/// at how often statistics are [`renewed`].
pub async fn weigh(
    rabbit: &RabbitHandle,
    vhost: &str,
    name: &str,
    lane: Lane,
) -> Result<Option<ObservedQueue>, RabbitError> {
    let client = rabbit.client.on(lane);
    let (live, late) = (client.queue(vhost, name).await?, client.queue_statistics(vhost, name).await?);
    let Some(live) = live else { return Ok(None) };
    client.nodes().await?;
    let larger = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.max(b)).or(a).or(b);
    let (messages, unacked) = match &late {
        Some(QueueStatistics { messages, unacked, .. }) => {
            (larger(live.messages, *messages), larger(live.unacked, *unacked))
        }
        None => (live.messages, live.unacked),
    };
    let mut seen = seen_queue(&match late {
        Some(late) => live.with_statistics(late),
        None => live,
    })?;
    seen.messages = messages;
    seen.unacked = unacked;
    if let Some(amqp) = &rabbit.amqp
        && let Some(depth) = amqp.depth(vhost, name).await?
    {
        seen.messages = seen.messages.map(|messages| messages.max(depth.ready.into()));
        seen.consumers = seen.consumers.map(|consumers| consumers.max(depth.consumers.into()));
    }
    Ok(Some(seen))
}

/// How often the statistics are renewed, for the planner.
#[must_use]
pub fn renewed(rabbit: &RabbitHandle) -> Renewed {
    match rabbit.client.renewal() {
        Renewal::Off => Renewed::Never,
        Renewal::Unseen => Renewed::Unseen,
        Renewal::Every(interval) => Renewed::Every(interval.as_secs_f64()),
    }
}

/// Takes one step. False: what was to be declared was there already, and equal.
pub async fn take(client: &RabbitClient, vhost: &str, step: &Step) -> Result<bool, RabbitError> {
    match step {
        Step::DeclareExchange { name, kind, durable, auto_delete, internal, arguments } => {
            let exchange = ExchangeDeclaration {
                name: name.clone(),
                kind: kind.clone(),
                durable: *durable,
                auto_delete: *auto_delete,
                internal: *internal,
                arguments: arguments.clone(),
            };
            client.declare_exchange(vhost, &exchange).await.map(|declared| declared.created)
        }
        Step::DeclareQueue { name, durable, arguments, .. } => {
            let queue = QueueDeclaration {
                name: name.clone(),
                durable: *durable,
                auto_delete: false,
                arguments: arguments.clone(),
            };
            client.declare_queue(vhost, &queue).await.map(|declared| declared.created)
        }
        Step::PutPolicy { policy, .. } => client.put_policy(&put(vhost, policy)).await.map(|_| true),
        Step::ReapplyPolicy { policy } => {
            // RabbitMQ does nothing about a policy that is there and the same: it takes a change to have
            // the objects looked at. Stopped in between, the next look finds a policy to put right.
            let is = put(vhost, policy);
            client.put_policy(&Policy { priority: is.priority - 1, ..is.clone() }).await?;
            client.put_policy(&is).await.map(|_| true)
        }
        Step::DeletePolicy { name } => client.delete_policy(vhost, name).await.map(|_| true),
        Step::Bind(binding) => {
            let BindingId { source, target, routing_key, arguments } = binding;
            client.bind(vhost, source, &at(target), routing_key, arguments).await.map(|()| true)
        }
        Step::Unbind(binding) => {
            let BindingId { source, target, routing_key, arguments } = binding;
            client.unbind(vhost, source, &at(target), routing_key, arguments).await.map(|_| true)
        }
        Step::DeleteQueue { name, classic, .. } => {
            client.delete_queue(vhost, name, *classic, *classic).await.map(|_| true)
        }
    }
}

/// A policy, for the client.
fn put(vhost: &str, policy: &ObservedPolicy) -> Policy {
    Policy {
        vhost: vhost.to_owned(),
        name: policy.name.clone(),
        pattern: policy.pattern.clone(),
        apply_to: policy.apply_to.clone(),
        priority: policy.priority,
        definition: policy.definition.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_is_half_there_is_no_classic_queue_without_arguments() {
        let whole = QueueInfo {
            vhost: "/".into(),
            name: "q".into(),
            untold: None,
            kind: "quorum".into(),
            durable: true,
            auto_delete: false,
            exclusive: false,
            arguments: [("x-queue-type".to_owned(), "quorum".into())].into(),
            policy: None,
            operator_policy: None,
            state: Some("running".into()),
            leader_online: None,
            messages: None,
            unacked: None,
            consumers: None,
        };
        assert!(seen_queue(&whole).is_ok());
        let error = seen_queue(&QueueInfo { untold: Some("type"), ..whole }).expect_err("it is half there");
        assert!(error.is_retriable(), "{error}");
        assert_eq!(error.to_string(), "failed to read queue \"q\": RabbitMQ does not tell its type");
    }
}
