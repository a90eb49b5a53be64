//! Quorum queues that have lost their leader, one with a majority and one without: RabbitMQ says that they hold
//! nothing.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_operator::api::{Broker, Queue};

use crate::bed::{
    Amqp, Object as _, Rabbit, RabbitAddress, World, bare_world, never_within, testbed, tidy, try_testbed,
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
        // Two of three nodes run, and none of them can become the leader of this one.
        assert_eq!(mq.the_queue("bills").await["leader"], "rabbit2@localhost");
        nodes.replica("stop", 1, &w.vhost, "bills");
        nodes.replica("stop", 3, &w.vhost, "bills");
        nodes.act("kill", 2);
        let seen = mq
            .until_queue("bills", "has a majority, no leader, and is said to be empty", |queue| {
                let gone = queue["online"].as_array().is_some_and(|left| !left.contains(&queue["leader"]));
                gone && online(queue) == 2 && queue["messages"] == 0
            })
            .await;
        println!("RabbitMQ says: {seen}");
        is_kept(w, "bills").await;
        never_within(Duration::from_secs(15), "the queue stays, without a leader", async || {
            let seen = mq.queue("bills").await.ok_or("it was deleted")?;
            if seen["leader"] == "rabbit2@localhost" { Ok(()) } else { Err(seen.to_string()) }
        })
        .await;
        nodes.act("kill", 3);
        mq.until_queue("orders", "has no majority", |queue| online(queue) <= 1).await;
        is_kept(w, "orders").await;
        never_within(Duration::from_secs(15), "the queues stay", async || {
            let there = mq.queue("orders").await.is_some() && mq.queue("bills").await.is_some();
            if there { Ok(()) } else { Err("one was deleted".into()) }
        })
        .await;

        nodes.act("start", 2);
        nodes.act("start", 3);
        nodes.replica("restart", 1, &w.vhost, "bills");
        for name in ["orders", "bills"] {
            assert_eq!(mq.until_message(name).await, "precious");
            w.until_gone::<Queue>(name).await;
            mq.until_no_queue(name).await;
        }
        mq.remove().await;
    });
}
