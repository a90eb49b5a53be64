//! Under what the cache finds Consumers: a thousand of them are not looked through for each one's sake.

use std::sync::Arc;

use kube::{Resource as _, ResourceExt as _};

use super::registry::{QueueName, Source};
use super::target;
use crate::api::Consumer;
use crate::controllers::context::Context;

/// All keys of a Consumer: what only one may have, and the topics that it reads.
#[must_use]
pub fn of(consumer: &Consumer) -> Vec<String> {
    let topics = consumer.spec.kafka.iter().flat_map(|kafka| &kafka.topics);
    contested(consumer).into_iter().chain(topics.map(|topic| read(topic))).collect()
}

/// What only one Consumer may have: its workload, and its group or queue.
fn contested(consumer: &Consumer) -> Vec<String> {
    let target = target(consumer);
    let source = Source::of(consumer).map(|source| match source {
        Source::Kafka(group) => format!("group/{}", group.name),
        Source::Rabbitmq(name) => queue(&name),
    });
    let workload = scaled(target.kind.as_str(), &target.namespace, &target.name);
    [workload].into_iter().chain(source).collect()
}

/// Who scales a workload.
#[must_use]
pub fn scaled(kind: &str, namespace: &str, name: &str) -> String {
    format!("scales/{kind}/{namespace}/{name}")
}

/// Who reads a topic.
#[must_use]
pub fn read(topic: &str) -> String {
    format!("topic/{topic}")
}

/// Who reads a queue.
#[must_use]
pub fn queue(QueueName { vhost, name }: &QueueName) -> String {
    format!("queue/{vhost}/{name}")
}

/// Other Consumers that scale the same workload, or that are of the same group or queue by name.
pub fn others(ctx: &Context, consumer: &Consumer) -> Vec<Arc<Consumer>> {
    let mut found: Vec<_> = contested(consumer)
        .iter()
        .flat_map(|key| ctx.consumers.find(key))
        .filter(|other| other.meta().uid != consumer.meta().uid)
        .collect();
    found.sort_by_key(|other| other.uid());
    found.dedup_by_key(|other| other.uid());
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn consumer(spec: serde_json::Value) -> Consumer {
        let mut consumer = Consumer::new("orders", serde_json::from_value(spec).expect("a spec"));
        consumer.metadata.namespace = Some("shop".into());
        consumer
    }

    #[test]
    fn a_consumer_is_found_by_its_workload_and_by_all_that_it_reads() {
        let kafka = consumer(json!({
            "kafka": {"brokerRef": {"name": "kafka"}, "group": "orders", "topics": ["a", "b"], "offsetReset": "earliest"},
            "scaleTargetRef": {"name": "worker", "kind": "StatefulSet"},
        }));
        assert_eq!(of(&kafka), ["scales/StatefulSet/shop/worker", "group/orders", "topic/a", "topic/b"]);
        let rabbitmq = consumer(json!({
            "rabbitmq": {"brokerRef": {"name": "rabbitmq"}, "vhost": "v", "queue": "q"},
            "scaling": {"maxReplicas": 2},
        }));
        assert_eq!(of(&rabbitmq), ["scales/Deployment/shop/orders", "queue/v/q"]);
    }
}
