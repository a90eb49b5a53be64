//! What somebody changes at RabbitMQ by hand, what vanishes, and who else writes.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use spillway_operator::api::{Binding, Broker, Exchange, Queue};

use crate::bed::{Object as _, World, never_within, until, world};

const OFTEN: &str = "resyncInterval: 5s";

async fn corrected(w: &World, kind: &str, times: f64) {
    let series = format!("spillway_drift_corrected_total{{kind=\"{kind}\"}}");
    until("the metric counts it", async || match w.operator().metric(&series).await {
        Some(count) if (count - times).abs() < 0.5 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[test]
fn a_queue_that_was_deleted_by_hand_is_made_again_and_the_loss_is_told_until_it_is_acknowledged() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.exchange("events", "type: topic").await;
        w.queue("orders", "maxLength: 5\nbindings: [{source: events, routingKey: k}]").await;
        w.binding("b", "source: events\ndestination: {queue: orders}\nroutingKey: l").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Binding>("b").await;
        mq.delete_queue("orders").await;
        w.condition::<Queue>("orders", "DataLost", "True", "Vanished").await;
        mq.until_bindings("orders", &["events|k", "events|l"]).await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.the_queue("orders").await["policy"], "spillway.q.orders");
        let (kind, words) = w.event::<Queue>("orders", "DataLost").await;
        assert_eq!(kind, "Warning", "{words}");
        let lost = w.operator().metric("spillway_objects_vanished_total{kind=\"Queue\"}").await;
        assert_eq!(lost.map(f64::to_bits), Some(1f64.to_bits()));
        w.ready::<Binding>("b").await;

        w.annotate::<Queue>("orders", "spillway.dev/acknowledge-data-loss", Some("true")).await;
        w.until("orders", "the loss is acknowledged", |queue: &Queue| {
            queue.condition("DataLost").is_none_or(|lost| lost.status == "False")
        })
        .await;
    });
}

#[test]
fn a_loss_is_told_while_what_the_queue_waits_for_keeps_it_from_being_made_again() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.queue("orders", "deadLetter: {}").await;
        w.ready::<Queue>("orders").await;
        w.annotate::<Queue>("orders.dlq", "spillway.dev/paused", Some("true")).await;
        w.condition::<Queue>("orders.dlq", "Paused", "True", "").await;
        mq.delete_queue("orders.dlq").await;
        mq.delete_queue("orders").await;
        w.condition::<Queue>("orders", "DataLost", "True", "Vanished").await;
        w.condition::<Queue>("orders", "Ready", "False", "CompanionNotReady").await;
        w.event::<Queue>("orders", "DataLost").await;
        w.annotate::<Queue>("orders.dlq", "spillway.dev/paused", None).await;
        w.ready::<Queue>("orders").await;
        w.ready::<Queue>("orders.dlq").await;
        let lost = w.operator().metric("spillway_objects_vanished_total{kind=\"Queue\"}").await;
        assert_eq!(lost.map(f64::to_bits), Some(2f64.to_bits()), "each is counted once");
    });
}

#[test]
fn a_binding_that_was_removed_by_hand_is_made_again() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.queue("orders", "bindings: [{source: amq.topic, routingKey: k}]").await;
        w.ready::<Queue>("orders").await;
        w.binding("b", "source: amq.topic\ndestination: {queue: orders}\nroutingKey: l").await;
        w.ready::<Binding>("b").await;
        mq.unbind("amq.topic", "orders", "k").await;
        mq.unbind("amq.topic", "orders", "l").await;
        mq.until_bindings("orders", &["amq.topic|k", "amq.topic|l"]).await;
        corrected(w, "Queue", 1.0).await;
        corrected(w, "Binding", 1.0).await;
        // A foreign binding is no drift.
        mq.bind("amq.topic", "orders", "theirs", json!({})).await;
        w.condition::<Queue>("orders", "InSync", "True", "").await;
    });
}

#[test]
fn a_policy_that_was_changed_or_deleted_by_hand_is_corrected() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.queue("orders", "maxLength: 5").await;
        w.exchange("events", "type: topic\nalternateExchange: x").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Exchange>("events").await;
        mq.put_policy("spillway.q.orders", "^orders", 3, json!({"max-length": 99})).await;
        mq.until_policy("spillway.q.orders", "is as it was", |policy| {
            policy["definition"] == json!({"max-length": 5})
                && policy["priority"] == 100
                && policy["pattern"] == "^orders$"
                && policy["apply-to"] == "quorum_queues"
        })
        .await;
        mq.delete_policy("spillway.q.orders").await;
        mq.delete_policy("spillway.x.events").await;
        mq.until_policy("spillway.q.orders", "is there again", |_| true).await;
        mq.until_policy("spillway.x.events", "is there again", |_| true).await;
        w.ready::<Queue>("orders").await;
    });
}

/// RabbitMQ forgets which policy applies to the queue, as it does when two policies change at once.
fn lose_the_policy(vhost: &str, queue: &str) {
    let command = format!(
        "rabbit_db_queue:update(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"{queue}\">>), \
         fun(Q) -> amqqueue:set_policy(Q, undefined) end)."
    );
    let output = Command::new("rabbitmqctl").args(["eval", &command]).output().expect("rabbitmqctl");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_policy_that_rabbitmq_does_not_apply_any_more_is_put_once_more() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.queue("orders", "maxLength: 5").await;
        w.ready::<Queue>("orders").await;
        lose_the_policy(&w.vhost, "orders");
        let queue: Queue = w.condition("orders", "Ready", "False", "PolicyShadowed").await;
        let said = queue.message("Ready");
        assert!(said.starts_with("RabbitMQ applies no policy to queue \"orders\""), "{said}");
        mq.until_effective("orders", &json!({"max-length": 5})).await;
        w.ready::<Queue>("orders").await;
        let policy = mq.until_policy("spillway.q.orders", "is as it was", |_| true).await;
        assert_eq!(policy["priority"], 100);
        let (kind, words) = w.event::<Queue>("orders", "DriftCorrected").await;
        assert_eq!(kind, "Warning", "{words}");
        assert!(words.contains("once more"), "{words}");
    });
}

#[test]
fn a_policy_that_rabbitmq_does_not_apply_stays_told_where_drift_is_only_reported() {
    world(async |w| {
        w.rabbit(&format!("{OFTEN}\ndriftPolicy: Report")).await;
        let mq = w.mq().await;
        w.queue("orders", "maxLength: 5").await;
        w.ready::<Queue>("orders").await;
        lose_the_policy(&w.vhost, "orders");
        w.condition::<Queue>("orders", "Ready", "False", "PolicyShadowed").await;
        never_within(Duration::from_secs(12), "it is put once more, or forgotten", async || {
            let queue: Queue = w.get("orders").await;
            let ready = queue.condition("Ready").is_some_and(|ready| ready.status == "True");
            let policy = mq.the_queue("orders").await["policy"].clone();
            if ready || policy.is_string() { Err(format!("{policy}; {}", queue.summary())) } else { Ok(()) }
        })
        .await;
    });
}

#[test]
fn an_exchange_that_was_deleted_by_hand_is_made_again_with_its_bindings() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.exchange("events", "type: topic").await;
        w.queue("orders", "bindings: [{source: events, routingKey: k}]").await;
        w.binding("b", "source: events\ndestination: {queue: orders}\nroutingKey: l").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Binding>("b").await;
        mq.delete_exchange("events").await;
        mq.until_bindings("orders", &["events|k", "events|l"]).await;
        w.ready::<Exchange>("events").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Binding>("b").await;
    });
}

/// A queue of another declaration than the Queue's is in its place, with a message in it: told as a loss, and left alone.
async fn told_and_left(w: &World, differs: &str) {
    w.mq().await.publish("", "orders", "precious").await;
    let queue: Queue = w.condition("orders", "Ready", "False", "Immutable").await;
    assert!(queue.message("Ready").contains(differs), "{}", queue.summary());
    let lost: Queue = w.condition("orders", "DataLost", "True", "Replaced").await;
    assert!(lost.message("DataLost").contains("another one was declared"), "{}", lost.summary());
    assert_eq!(lost.status.expect("a status").owned_since, None, "it is somebody else's");
    let (kind, words) = w.event::<Queue>("orders", "DataLost").await;
    assert_eq!(kind, "Warning", "{words}");
    w.amqp().await.until_ready("orders", 1).await;
}

/// It is as declared, nothing was lost since, and the loss is told until somebody says that they know.
async fn is_whole_again(w: &World) {
    w.ready::<Queue>("orders").await;
    w.condition::<Queue>("orders", "DataLost", "True", "Replaced").await;
    let lost = w.operator().metric("spillway_objects_vanished_total{kind=\"Queue\"}").await;
    assert_eq!(lost.map(f64::to_bits), Some(1f64.to_bits()));
    w.annotate::<Queue>("orders", "spillway.dev/acknowledge-data-loss", Some("true")).await;
    w.until("orders", "the loss is acknowledged", |queue: &Queue| {
        queue.condition("DataLost").is_none_or(|lost| lost.status == "False")
    })
    .await;
}

#[test]
fn a_queue_that_an_application_deleted_and_declared_with_another_type_is_told_as_a_loss_and_left() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.queue("orders", "singleActiveConsumer: true").await;
        w.ready::<Queue>("orders").await;
        mq.delete_queue("orders").await;
        mq.declare_queue("orders", json!({"x-queue-type": "classic"})).await;
        told_and_left(w, "classic").await;
        // Once theirs is gone, which is no loss, ours is made again.
        mq.delete_queue("orders").await;
        mq.until_queue("orders", "is a quorum queue again", |queue| queue["type"] == "quorum").await;
        is_whole_again(w).await;
    });
}

#[test]
fn a_queue_that_an_application_declared_with_other_arguments_is_told_and_left_and_adopted_when_put_right() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.queue("orders", "singleActiveConsumer: true\ndeletionPolicy: Delete").await;
        w.ready::<Queue>("orders").await;
        mq.delete_queue("orders").await;
        mq.declare_queue("orders", json!({"x-queue-type": "quorum"})).await;
        told_and_left(w, "argument x-single-active-consumer is not set and the spec wants true").await;
        // The application puts it right, with what it has.
        assert_eq!(mq.take("orders").await.as_deref(), Some("precious"));
        mq.delete_queue("orders").await;
        let right = json!({"x-queue-type": "quorum", "x-single-active-consumer": true});
        mq.declare_queue("orders", right).await;
        mq.publish("", "orders", "precious").await;
        // The next sweep sees it.
        is_whole_again(w).await;
        w.amqp().await.until_ready("orders", 1).await;
        let owned = w.get::<Queue>("orders").await.status.expect("a status").owned_since;
        assert!(owned.is_some(), "it is the Queue's again");
    });
}

#[test]
fn an_exchange_that_somebody_declared_otherwise_is_counted_and_not_the_exchanges_any_more() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.exchange("events", "type: topic\ndeletionPolicy: Delete").await;
        w.ready::<Exchange>("events").await;
        mq.delete_exchange("events").await;
        mq.declare_fleeting_exchange("events").await;
        let told: Exchange = w.condition("events", "Ready", "False", "Immutable").await;
        assert!(told.message("Ready").contains("autoDelete is true"), "{}", told.summary());
        assert_eq!(told.message("DataLost"), "");
        assert_eq!(told.status.expect("a status").owned_since, None);
        let lost = w.operator().metric("spillway_objects_vanished_total{kind=\"Exchange\"}").await;
        assert_eq!(lost.map(f64::to_bits), Some(1f64.to_bits()));
        w.delete::<Exchange>("events").await;
        w.until_gone::<Exchange>("events").await;
        assert!(mq.exchange("events").await.is_some());
    });
}

#[test]
fn a_queue_that_expired_is_made_again_quietly() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        w.queue("orders", "type: classic\nexpires: 3s\nbindings: [{source: amq.topic, routingKey: k}]").await;
        w.ready::<Queue>("orders").await;
        // A binding that a person made goes with the queue: that tells a new queue from the old one.
        let mq = w.mq().await;
        mq.bind("amq.topic", "orders", "theirs", json!({})).await;
        mq.until_bindings("orders", &["amq.topic|k"]).await;
        let queue: Queue = w.ready("orders").await;
        assert!(queue.condition("DataLost").is_none_or(|lost| lost.status == "False"), "{}", queue.summary());
    });
}

#[test]
fn a_queue_that_expired_is_made_again_with_its_bindings_and_counts_as_no_drift() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s\ndriftPolicy: Report").await;
        w.exchange("passing", "type: topic\nautoDelete: true").await;
        w.queue("orders", "type: classic\nexpires: 3s\nbindings: [{source: passing, routingKey: k}]").await;
        w.binding("b", "source: amq.topic\ndestination: {queue: orders}\nroutingKey: l").await;
        w.ready::<Exchange>("passing").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Binding>("b").await;
        let mq = w.mq().await;
        // A binding that a person made goes with the queue: that tells a new queue from the old one.
        mq.bind("amq.topic", "orders", "theirs", json!({})).await;
        mq.until_bindings("orders", &["amq.topic|l", "passing|k"]).await;
        for kind in ["Queue", "Exchange", "Binding"] {
            let series = format!("spillway_drift_corrected_total{{kind=\"{kind}\"}}");
            assert!(matches!(w.operator().metric(&series).await, None | Some(0.0)), "{kind}");
        }
    });
}

#[test]
fn with_drift_policy_report_drift_is_only_reported() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s\ndriftPolicy: Report").await;
        let mq = w.mq().await;
        w.queue("orders", "maxLength: 5\nbindings: [{source: amq.topic, routingKey: k}]").await;
        w.ready::<Queue>("orders").await;
        mq.unbind("amq.topic", "orders", "k").await;
        let queue: Queue = w.condition("orders", "InSync", "False", "Differs").await;
        let plan = queue.status.expect("a status").plan;
        assert_eq!(plan.len(), 1, "{plan:?}");
        assert!(plan[0].contains("amq.topic") && plan[0].contains('k'), "{plan:?}");
        w.until("rabbitmq", "the Broker counts it", |broker: &Broker| {
            broker.status.as_ref().is_some_and(|status| status.drifted == Some(1))
        })
        .await;
        assert_eq!(mq.bindings("orders").await, [""; 0]);
        // An edit is no drift.
        w.queue("orders", "maxLength: 6\nbindings: [{source: amq.topic, routingKey: k}]").await;
        mq.until_bindings("orders", &["amq.topic|k"]).await;
        w.condition::<Queue>("orders", "InSync", "True", "").await;
    });
}

#[test]
fn a_queue_that_vanished_under_report_is_not_ready_and_not_said_to_be_made_again() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s\ndriftPolicy: Report").await;
        w.queue("orders", "").await;
        w.ready::<Queue>("orders").await;
        w.mq().await.delete_queue("orders").await;
        let queue: Queue = w.condition("orders", "Ready", "False", "NotFound").await;
        assert!(!queue.message("DataLost").contains("made again"), "{}", queue.summary());
        w.condition::<Queue>("orders", "DataLost", "True", "Vanished").await;
        let (kind, words) = w.event::<Queue>("orders", "DataLost").await;
        assert_eq!(kind, "Warning", "{words}");
    });
}

#[test]
fn what_a_shadowed_queue_loses_is_drift() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s\ndriftPolicy: Report").await;
        let mq = w.mq().await;
        mq.put_policy("theirs", "^orders$", 200, json!({"max-length": 7})).await;
        w.queue("orders", "maxLength: 5\nbindings: [{source: amq.topic, routingKey: k}]").await;
        w.condition::<Queue>("orders", "Ready", "False", "PolicyShadowed").await;
        mq.unbind("amq.topic", "orders", "k").await;
        w.condition::<Queue>("orders", "InSync", "False", "Differs").await;
        assert_eq!(mq.bindings("orders").await, [""; 0]);
    });
}

#[test]
fn a_policy_that_somebody_keeps_changing_back_is_contended_and_left_alone() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.queue("orders", "maxLength: 5").await;
        w.ready::<Queue>("orders").await;
        let spoil =
            async || mq.put_policy("spillway.q.orders", "^orders$", 100, json!({"max-length": 1})).await;
        let contended = |queue: &Queue| queue.conditions().iter().any(|is| is.reason == "Contended");
        let mut reverts = 0;
        // A change in the midst of a correction is undone by the same correction: allow for two of them.
        while reverts < 8 {
            spoil().await;
            let over = until("the policy is corrected, or the queue is contended", async || {
                let policy = mq.policy("spillway.q.orders").await.unwrap_or_default();
                match (policy["definition"]["max-length"] == 5, contended(&w.get("orders").await)) {
                    (true, _) => Ok(false),
                    (_, true) => Ok(true),
                    _ => Err(policy.to_string()),
                }
            })
            .await;
            if over {
                break;
            }
            reverts += 1;
        }
        assert!((5..8).contains(&reverts), "{reverts} reverts");
        never_within(Duration::from_secs(8), "it is left alone", async || {
            let policy = mq.policy("spillway.q.orders").await.expect("a policy");
            if policy["definition"]["max-length"] == 1 { Ok(()) } else { Err(policy.to_string()) }
        })
        .await;
    });
}

#[test]
fn a_broker_from_which_everything_was_deleted_comes_back_by_itself() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let mq = w.mq().await;
        w.exchange("events", "type: topic\nalternateExchange: unrouted").await;
        w.exchange("unrouted", "type: fanout").await;
        for n in 0..10 {
            w.queue(
                &format!("q{n}"),
                &format!("maxLength: 5\ndeadLetter: {{}}\nretry: {{delays: [1s]}}\nbindings: [{{source: events, routingKey: k{n}}}]"),
            )
            .await;
            w.binding(
                &format!("b{n}"),
                &format!("sourceRef: {{name: unrouted}}\ndestination: {{queueRef: {{name: q{n}}}}}"),
            )
            .await;
        }
        for n in 0..10 {
            w.ready::<Queue>(&format!("q{n}")).await;
            w.ready::<Binding>(&format!("b{n}")).await;
        }
        let state = async || {
            let mut bindings = Vec::new();
            for n in 0..10 {
                bindings.push(mq.bindings(&format!("q{n}")).await);
            }
            (mq.queues().await, mq.exchanges().await, mq.policies().await, bindings)
        };
        let before = state().await;
        assert_eq!(before.0.len(), 30);
        for name in &before.2 {
            mq.delete_policy(name).await;
        }
        for name in &before.1 {
            mq.delete_exchange(name).await;
        }
        for name in &before.0 {
            mq.delete_queue(name).await;
        }
        until("all is back", async || {
            let now = state().await;
            if now == before { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        for n in 0..10 {
            w.ready::<Queue>(&format!("q{n}")).await;
            w.ready::<Binding>(&format!("b{n}")).await;
        }
    });
}

#[test]
fn a_virtual_host_that_was_deleted_and_made_again_is_filled_again() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        let name = format!("{}-short", w.vhost);
        let other = w.mq().await.another_vhost(&name).await;
        w.queue("orders", &format!("vhost: {name}\nmaxLength: 5")).await;
        w.ready::<Queue>("orders").await;
        other.remove().await;
        let queue: Queue = w.condition("orders", "Ready", "False", "DependencyNotReady").await;
        assert!(queue.message("Ready").contains(&name), "{}", queue.summary());
        w.condition::<Broker>("rabbitmq", "Ready", "True", "").await;
        let other = w.mq().await.another_vhost(&name).await;
        other.until_queue("orders", "is there again", |queue| queue["policy"] == "spillway.q.orders").await;
        w.ready::<Queue>("orders").await;
    });
}

#[test]
fn a_sweep_of_a_broker_in_step_changes_nothing_and_counts_nothing() {
    world(async |w| {
        w.rabbit(OFTEN).await;
        w.exchange("events", "type: topic\nalternateExchange: x").await;
        w.queue("orders", "maxLength: 5\nmessageTtl: 1h\ndeadLetter: {}\nretry: {delays: [10s]}\nbindings: [{source: events}]")
            .await;
        w.queue("log", "type: stream\nmaxAge: 168h").await;
        w.binding(
            "b",
            "source: amq.headers\ndestination: {queue: orders}\narguments: {x-match: any, a: 1.5}",
        )
        .await;
        w.ready::<Exchange>("events").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Queue>("log").await;
        w.ready::<Binding>("b").await;
        w.until("rabbitmq", "the Broker has counted them", |broker: &Broker| {
            let status = broker.status.as_ref();
            status.is_some_and(|status| (status.managed, status.in_sync) == (Some(6), Some(6)))
        })
        .await;
        let audit = crate::bed::Audit::begin();
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut writes = audit.writes(&w.namespace, "spillway");
        // On the RabbitMQ of all tests, queues come and go, and the Broker counts them.
        writes.retain(|write| !write.contains(" leases ") && !write.ends_with(" brokers/status rabbitmq"));
        assert_eq!(writes, [""; 0]);
        for kind in ["Queue", "Exchange", "Binding"] {
            let series = format!("spillway_drift_corrected_total{{kind=\"{kind}\"}}");
            assert!(matches!(w.operator().metric(&series).await, None | Some(0.0)), "{kind}");
        }
    });
}
