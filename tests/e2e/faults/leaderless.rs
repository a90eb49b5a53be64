//! Quorum queues that have lost their leader, one with a majority and one without, and a stream that has a new one:
//! RabbitMQ says that they hold nothing.

use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};
use spillway_operator::api::{Broker, Consumer, Queue};

use crate::bed::{
    Amqp, Object as _, Rabbit, RabbitAddress, World, bare_world, deployment, never_within, testbed, tidy,
    try_testbed, until_within,
};

const NAME: &str = "faults";
const PORT: u16 = 22_400;

/// Three nodes. Stopped when dropped.
struct Nodes;

impl Nodes {
    /// None where RabbitMQ is not the test bed's own: then there may be none to make three of.
    fn start() -> Option<Self> {
        let started = try_testbed(&["extra-rabbitmq", NAME, &PORT.to_string(), "--nodes", "3"]);
        if let Err(words) = &started {
            // The bed's own has TLS.
            let own = std::env::var("SPILLWAY_TEST_RABBITMQ_TLS").is_ok();
            assert!(!own, "three RabbitMQ nodes do not come up: {words}");
            println!("skipped: three RabbitMQ nodes are not to be had here: {words}");
        }
        started.ok().map(|()| Self)
    }

    fn address(&self, node: u16) -> RabbitAddress {
        let port = PORT + 10 * (node - 1);
        RabbitAddress {
            management: format!("http://127.0.0.1:{port}"),
            amqp: format!("amqp://127.0.0.1:{}", port + 1),
            username: "guest".into(),
            password: "guest".into(),
        }
    }

    /// Stops or starts a node's own replica of a queue: without it, the node votes for no leader.
    fn replica(&self, verb: &str, node: u16, vhost: &str, queue: &str) {
        let command = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>)), \
             {{Name, _}} = amqqueue:get_pid(Q), ok = ra:{verb}_server(quorum_queues, {{Name, node()}})."
        );
        let output = Command::new(format!("rabbitmqctl-{NAME}-{node}")).args(["eval", &command]).output();
        let output = output.expect("rabbitmqctl");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn act(&self, verb: &str, node: usize) {
        testbed(&[verb, &format!("rabbitmq-{NAME}-{node}")]);
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in 1..=3 {
            tidy(&["stop", &format!("rabbitmq-{NAME}-{node}")]);
        }
    }
}

/// Deletes the Queue, and waits until it is said why it is kept.
async fn is_kept(w: &World, name: &str) {
    w.delete::<Queue>(name).await;
    let kept: Queue = w.condition(name, "Ready", "False", "NotEmpty").await;
    assert!(kept.message("Ready").contains("hold"), "{}", kept.summary());
    println!("{}", kept.summary());
}

/// A Deployment with one replica, and a Consumer of the queue `jobs` that lets it go as soon as the queue is empty.
async fn consumer_of_jobs(w: &World) {
    w.apply(&deployment(w, "worker", 1).await).await;
    w.apply(
        "
        apiVersion: spillway.dev/v1alpha1
        kind: Consumer
        metadata: {name: jobs}
        spec:
          scaleTargetRef: {name: worker}
          rabbitmq: {brokerRef: {name: rabbitmq}, vhost: '${VHOST}', queue: jobs}
          scaling:
            minReplicas: 0
            maxReplicas: 4
            ratePerReplica: '10'
            idle: {after: 1s}
            scaleDown: {stabilization: 1s, peakMemory: 1s}
        ",
    )
    .await;
    w.until("jobs", "it knows of the message", |consumer: &Consumer| {
        let lag = consumer.status.as_ref().and_then(|status| status.lag.as_ref()?.messages);
        lag == Some(1) && consumer.condition("PartialData").is_none()
    })
    .await;
}

/// Whether so many replicas are wanted, else how many are.
async fn is_scaled_to(w: &World, replicas: i32) -> Result<(), String> {
    let deployments: Api<Deployment> = Api::namespaced(w.client.clone(), &w.namespace);
    let worker = deployments.get("worker").await.map_err(|error| error.to_string())?;
    match worker.spec.and_then(|spec| spec.replicas) {
        Some(wanted) if wanted == replicas => Ok(()),
        wanted => Err(format!("{wanted:?} replicas")),
    }
}

/// How many of its nodes run.
fn online(queue: &Value) -> usize {
    queue["online"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_quorum_queue_without_a_leader_is_never_taken_for_empty() {
    let Some(nodes) = Nodes::start() else { return };
    bare_world(async |w| {
        w.start_operator().await;
        let mq = Rabbit::with_vhost(&nodes.address(1), &w.vhost).await;
        w.rabbit_at(&nodes.address(1).management, "resyncInterval: 5s").await;
        w.ready::<Broker>("rabbitmq").await;
        // Its leader is where it is declared.
        let second = Rabbit::with_vhost(&nodes.address(2), &w.vhost).await;
        second.declare_queue("bills", json!({"x-queue-type": "quorum"})).await;
        for name in ["orders", "bills"] {
            w.queue(name, "deletionPolicy: DeleteIfEmpty").await;
            w.ready::<Queue>(name).await;
            mq.publish("", name, "precious").await;
            let amqp = Amqp::connect(&nodes.address(1), &w.vhost).await;
            amqp.until_ready(name, 1).await;
        }
        // A stream elects another one, and what that says of itself begins anew.
        second.declare_queue("ledger", json!({"x-queue-type": "stream"})).await;
        w.queue("ledger", "type: stream\ndeletionPolicy: DeleteIfEmpty").await;
        w.ready::<Queue>("ledger").await;
        mq.publish("", "ledger", "precious").await;
        mq.until_counted("ledger", 1).await;
        second.declare_queue("jobs", json!({"x-queue-type": "quorum"})).await;
        mq.publish("", "jobs", "precious").await;
        consumer_of_jobs(w).await;
        // Two of three nodes run, and none of them can become the leader of these two.
        for name in ["bills", "jobs"] {
            assert_eq!(mq.the_queue(name).await["leader"], "rabbit2@localhost");
            nodes.replica("stop", 1, &w.vhost, name);
            nodes.replica("stop", 3, &w.vhost, name);
        }
        nodes.act("kill", 2);
        let seen = mq
            .until_queue("bills", "has a majority, no leader, and is said to be empty", |queue| {
                let gone = queue["online"].as_array().is_some_and(|left| !left.contains(&queue["leader"]));
                gone && online(queue) == 2 && queue["messages"] == 0
            })
            .await;
        println!("RabbitMQ says: {seen}");
        let seen = mq
            .until_told("ledger", "has another leader", |queue| {
                queue["leader"].as_str().is_some_and(|leader| leader != "rabbit2@localhost")
            })
            .await;
        println!("RabbitMQ says: {seen}");
        is_kept(w, "ledger").await;
        is_kept(w, "bills").await;
        never_within(Duration::from_secs(15), "the queue stays, without a leader", async || {
            let seen = mq.queue("bills").await.ok_or("it was deleted")?;
            if seen["leader"] != "rabbit2@localhost" {
                return Err(seen.to_string());
            }
            is_scaled_to(w, 1).await
        })
        .await;
        w.condition::<Consumer>("jobs", "DataUnknown", "True", "").await;
        nodes.act("kill", 3);
        mq.until_queue("orders", "has no majority", |queue| online(queue) <= 1).await;
        is_kept(w, "orders").await;
        never_within(Duration::from_secs(15), "the queues stay", async || {
            for name in ["orders", "bills", "ledger"] {
                mq.queue(name).await.ok_or_else(|| format!("{name} was deleted"))?;
            }
            Ok(())
        })
        .await;

        nodes.act("start", 2);
        nodes.act("start", 3);
        nodes.replica("restart", 1, &w.vhost, "bills");
        nodes.replica("restart", 1, &w.vhost, "jobs");
        // It was there all the time, and nobody worked on it: only when it is done, nobody is needed.
        w.until("jobs", "the message is seen again", |consumer: &Consumer| {
            let lag = consumer.status.as_ref().and_then(|status| status.lag.as_ref()?.messages);
            lag == Some(1) && consumer.condition("DataUnknown").is_none()
        })
        .await;
        is_scaled_to(w, 1).await.expect("one replica for what waits");
        assert_eq!(mq.until_message("jobs").await, "precious");
        until_within(Duration::from_secs(60), "nothing to do", async || is_scaled_to(w, 0).await).await;
        for name in ["orders", "bills"] {
            assert_eq!(mq.until_message(name).await, "precious");
            w.until_gone::<Queue>(name).await;
            mq.until_no_queue(name).await;
        }
        // What a stream holds stays until its own limits take it.
        let kept: Queue = w.condition("ledger", "Ready", "False", "NotEmpty").await;
        println!("{}", kept.summary());
        mq.until_counted("ledger", 1).await;
        mq.remove().await;
    });
}
