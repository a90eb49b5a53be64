//! A quorum queue that has lost its leader: RabbitMQ says that it holds nothing.

use std::process::Command;
use std::time::Duration;

use spillway_operator::api::{Broker, Queue};

use crate::bed::{Amqp, Object as _, Rabbit, RabbitAddress, bare_world, never_within, until};

const NAME: &str = "faults";
const PORT: u16 = 22_400;

/// Three nodes. Stopped when dropped.
struct Nodes;

impl Nodes {
    /// None where RabbitMQ is not the test bed's own: then there may be none to make three of.
    fn start() -> Option<Self> {
        let started = testbed(&["extra-rabbitmq", NAME, &PORT.to_string(), "--nodes", "3"]);
        if let Err(words) = &started {
            // The bed's own has TLS.
            let own = std::env::var("SPILLWAY_TEST_RABBITMQ_TLS").is_ok();
            assert!(!own, "three RabbitMQ nodes do not come up: {words}");
            println!("skipped: three RabbitMQ nodes are not to be had here: {words}");
        }
        started.ok().map(|()| Self)
    }

    fn address(&self) -> RabbitAddress {
        RabbitAddress {
            management: format!("http://127.0.0.1:{PORT}"),
            amqp: format!("amqp://127.0.0.1:{}", PORT + 1),
            username: "guest".into(),
            password: "guest".into(),
        }
    }

    fn act(&self, verb: &str, node: usize) {
        testbed(&[verb, &format!("rabbitmq-{NAME}-{node}")]).expect("a node");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in 1..=3 {
            let _ = testbed(&["stop", &format!("rabbitmq-{NAME}-{node}")]);
        }
    }
}

fn testbed(arguments: &[&str]) -> Result<(), String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/testbed");
    let output = Command::new(script).args(arguments).output().map_err(|error| error.to_string())?;
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    output.status.success().then_some(()).ok_or(words)
}

#[test]
fn a_quorum_queue_without_a_leader_is_never_taken_for_empty() {
    let Some(nodes) = Nodes::start() else { return };
    bare_world(async |w| {
        w.start_operator().await;
        let mq = Rabbit::with_vhost(&nodes.address(), &w.vhost).await;
        w.rabbit_at(&nodes.address().management, "resyncInterval: 5s").await;
        w.ready::<Broker>("rabbitmq").await;
        w.queue("orders", "deletionPolicy: DeleteIfEmpty").await;
        w.ready::<Queue>("orders").await;
        mq.publish("", "orders", "precious").await;
        until("the message is in the queue", async || {
            let amqp = Amqp::connect(&nodes.address(), &w.vhost).await;
            match amqp.depth("orders").await {
                Some((1, 0)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        nodes.act("kill", 2);
        nodes.act("kill", 3);
        until("the queue has no majority", async || {
            let queue = mq.the_queue("orders").await;
            let online = queue["online"].as_array().map_or(0, Vec::len);
            if online <= 1 { Ok(()) } else { Err(queue.to_string()) }
        })
        .await;
        println!("RabbitMQ says: {}", mq.the_queue("orders").await);

        w.delete::<Queue>("orders").await;
        until("it is said why the queue is kept", async || {
            let kept: Queue = w.get("orders").await;
            match kept.condition("Ready").map(|ready| (ready.reason.clone(), ready.message.clone())) {
                Some((reason, words))
                    if ["NotEmpty", "Failed", "BrokerUnreachable"].contains(&reason.as_str()) =>
                {
                    println!("{reason}: {words}");
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        never_within(Duration::from_secs(25), "the queue stays", async || {
            let there = mq.queue("orders").await.is_some();
            if there { Ok(()) } else { Err("it was deleted".into()) }
        })
        .await;

        nodes.act("start", 2);
        nodes.act("start", 3);
        assert_eq!(mq.until_message("orders").await, "precious");
        w.until_gone::<Queue>("orders").await;
        mq.until_no_queue("orders").await;
        mq.remove().await;
    });
}
