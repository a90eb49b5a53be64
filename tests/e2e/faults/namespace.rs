//! A namespace that is deleted with everything in it.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use spillway_operator::api::{Binding, Queue, Topic};

use crate::bed::{World, bare_world, until_within};

/// Time for two looks at what must be empty, and for the namespace controller.
const DEADLINE: Duration = Duration::from_secs(60);

async fn fill(w: &World) {
    w.broker("").await;
    w.rabbit("").await;
    for policy in ["Retain", "Delete", "DeleteIfEmpty"] {
        let name = policy.to_lowercase();
        w.topic(
            &format!("t-{name}"),
            &format!("partitions: 1\ndeletionPolicy: {policy}\ndeadLetter: {{}}\nretry: {{delays: [10s]}}"),
        )
        .await;
        w.queue(
            &format!("q-{name}"),
            &format!("maxLength: 9\ndeletionPolicy: {policy}\ndeadLetter: {{}}\nbindings: [{{source: amq.topic, routingKey: a}}]"),
        )
        .await;
        w.binding(
            &format!("b-{name}"),
            &format!("source: amq.direct\ndestination: {{queue: q-{name}}}\nroutingKey: b"),
        )
        .await;
    }
    for name in ["retain", "delete", "deleteifempty"] {
        w.ready::<Topic>(&format!("t-{name}")).await;
        w.ready::<Queue>(&format!("q-{name}")).await;
        w.ready::<Binding>(&format!("b-{name}")).await;
    }
}

#[test]
fn a_namespace_with_everything_in_it_goes_and_what_is_retained_stays_at_the_brokers() {
    bare_world(async |w| {
        let name = w.another_namespace("doomed", json!({})).await;
        w.start_operator().await;
        let doomed = w.at(&name);
        fill(&doomed).await;
        w.mq().await.publish("", "q-retain.dlq", "precious").await;
        let begun = Instant::now();
        let api: Api<Namespace> = Api::all(w.client.clone());
        api.delete(&name, &DeleteParams::default()).await.expect("deleted");
        until_within(DEADLINE, "the namespace is gone", async || match api.get_opt(&name).await {
            Ok(None) => Ok(()),
            Ok(Some(left)) => Err(format!("{:?}", left.status.and_then(|status| status.conditions))),
            Err(error) => Err(error.to_string()),
        })
        .await;
        println!("the namespace was gone {:?} after its deletion", begun.elapsed());
        assert!(w.kafka.topic(&w.name("t-retain")).await.is_some());
        for companion in ["t-delete.dlq", "t-retain.dlq", "t-deleteifempty.retry.10s"] {
            assert!(w.kafka.topic(&w.name(companion)).await.is_some(), "{companion}");
        }
        let mq = w.mq().await;
        let queues = mq.queues().await;
        for kept in ["q-retain", "q-retain.dlq", "q-delete.dlq", "q-deleteifempty.dlq"] {
            assert!(queues.contains(&kept.to_owned()), "{kept}: {queues:?}");
        }
        assert_eq!(w.amqp().await.depth("q-retain.dlq").await, Some((1, 0)));
        let retained = mq.the_queue("q-retain").await;
        assert_eq!(retained["policy"], "spillway.q.q-retain");
        // Also where the Secret went first.
        for gone in ["q-delete", "q-deleteifempty"] {
            assert!(!queues.contains(&gone.to_owned()), "{gone}: {queues:?}");
        }
        for policy in mq.policies().await {
            let queue = policy.trim_start_matches("spillway.q.").to_owned();
            assert!(queues.contains(&queue), "policy {policy} without its queue: {queues:?}");
        }
        let operator = w.operator();
        let twice = operator.text().matches("is gone already").count();
        assert_eq!(twice, 0, "what was deleted is not deleted once more: {}", operator.tail());
        assert_eq!(operator.exited(), None, "{}", operator.tail());
        assert!(!operator.text().contains("panicked at"), "{}", operator.tail());
    });
}
