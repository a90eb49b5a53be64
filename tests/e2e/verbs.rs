//! `spillway lag` and `spillway explain`, as a person with a kubeconfig runs them.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use spillway_operator::api::{Consumer, Topic};

use crate::bed::{World, binary, deployment, until_within, world};

/// Runs the command line; what it printed, or its error.
async fn spillway(w: &World, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--namespace", &w.namespace]).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a thread");
    let output = output.expect("the spillway binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

async fn lag(w: &World) -> Value {
    let text = spillway(w, &["lag", "-o", "json", "--interval", "0.5"]).await.expect("a lag");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn lag_and_explain_show_a_kafka_group_partition_by_partition() {
    world(async |w| {
        let none = spillway(w, &["lag"]).await.expect_err("there is nothing");
        assert!(none.contains("there are no Consumers in namespace"), "{none}");
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        w.apply(&deployment(w, "worker", 1).await).await;
        w.consumer("orders", "scaleTargetRef: {name: worker}\nscaling: {mode: DryRun, ratePerReplica: '20'}")
            .await;
        w.ready::<Consumer>("orders").await;
        w.kafka.produce(&w.name("orders"), 1, 40).await;
        let seen = lag(w).await;
        assert_eq!((&seen[0]["consumer"], &seen[0]["lag"]), (&json!("orders"), &json!(40)), "{seen}");
        assert_eq!(seen[0]["source"], "broker");
        let parts = seen[0]["partitions"].as_array().expect("partitions");
        let lags: Vec<_> = parts.iter().map(|part| part["lag"].as_u64().expect("a lag")).collect();
        assert_eq!(lags, [0, 40, 0]);
        let wide = spillway(w, &["lag", "orders", "-o", "wide", "--interval", "0.5"]).await.expect("a lag");
        assert!(wide.contains(&format!("{}/1", w.name("orders"))), "{wide}");

        w.until("orders", "the flood is in the status", |consumer: &Consumer| {
            let lag = consumer.status.as_ref().and_then(|status| status.lag.as_ref()?.messages);
            lag.is_some_and(|lag| lag > 0)
        })
        .await;
        let told = spillway(w, &["explain", "consumer/orders"]).await.expect("an explanation");
        for expected in ["Formula", "bound by", "1, 2, 3: 3 partitions", "Ready=True", "minReplicas 1"] {
            assert!(told.contains(expected), "{expected} in\n{told}");
        }
        let missing = spillway(w, &["explain", "consumer/nobody"]).await.expect_err("there is none");
        assert!(missing.contains("there is no Consumer nobody in namespace"), "{missing}");
        let missing = spillway(w, &["lag", "nobody"]).await.expect_err("there is none");
        assert!(missing.contains("there is no Consumer nobody"), "{missing}");
    });
}

#[test]
fn lag_and_explain_show_a_queue_and_the_status_stands_in_for_a_broker_that_is_away() {
    world(async |w| {
        w.rabbit("").await;
        w.mq().await.declare_queue("tasks", json!({"x-queue-type": "quorum"})).await;
        w.apply(&deployment(w, "worker", 1).await).await;
        w.apply(
            "
            apiVersion: spillway.dev/v1alpha1
            kind: Consumer
            metadata: {name: tasks}
            spec:
              scaleTargetRef: {name: worker}
              rabbitmq: {brokerRef: {name: rabbitmq}, vhost: '${VHOST}', queue: tasks}
              scaling: {mode: DryRun, maxReplicas: 4, ratePerReplica: '5', targetDelay: 2s}
            ",
        )
        .await;
        w.ready::<Consumer>("tasks").await;
        w.amqp().await.flood("tasks", 60).await;
        let seen = until_within(Duration::from_secs(20), "the lag is 60", async || {
            let seen = lag(w).await;
            if seen[0]["lag"] == 60 { Ok(seen) } else { Err(seen.to_string()) }
        })
        .await;
        assert_eq!(seen[0]["partitions"][0]["ready"], 60, "{seen}");
        // RabbitMQ's statistics of a new queue come some seconds after it: until then, the bound is what is not known.
        w.until("tasks", "the decision is four, and the most", |consumer: &Consumer| {
            let decision = consumer.status.as_ref().and_then(|status| status.decision.as_ref());
            decision.is_some_and(|decision| decision.replicas == 4 && decision.bound == "Max")
        })
        .await;
        let told = spillway(w, &["explain", "consumer/tasks"]).await.expect("an explanation");
        for expected in
            ["queue \"tasks\"", "bound by Max", "a larger scaling.maxReplicas", "ScalingActive=False"]
        {
            assert!(told.contains(expected), "{expected} in\n{told}");
        }

        w.rabbit_at("http://127.0.0.1:1", "").await;
        let seen = lag(w).await;
        assert_eq!(seen[0]["source"], "status", "{seen}");
        assert!(seen[0]["note"].as_str().is_some_and(|note| note.contains("failed to")), "{seen}");
        let table = spillway(w, &["lag", "--interval", "0.5"]).await.expect("a lag");
        assert!(table.contains("from the status, up to a minute old"), "{table}");
    });
}
