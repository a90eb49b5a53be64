//! Whose is a queue, an exchange, a binding? Adoption of what was there, and two objects for one.

use std::time::Duration;

use serde_json::json;
use spillway_operator::api::{Binding, Broker, Exchange, Queue};

use crate::bed::{Fate, Object, Site, bare_world, never_within, queue_yaml, rabbit_yaml, world};

#[test]
fn identical_objects_that_were_there_are_adopted_silently_with_their_messages() {
    world(async |w| {
        w.rabbit("").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        mq.declare_queue("orders", json!({"x-queue-type": "quorum"})).await;
        mq.declare_exchange("events", "topic").await;
        mq.bind("events", "orders", "k", json!({})).await;
        mq.publish("events", "k", "precious").await;
        w.exchange("events", "type: topic").await;
        w.queue("orders", "bindings: [{source: events, routingKey: k}]").await;
        w.ready::<Exchange>("events").await;
        let queue: Queue = w.ready("orders").await;
        assert!(queue.status.expect("a status").owned_since.is_some());
        amqp.until_ready("orders", 1).await;
    });
}

#[test]
fn a_queue_that_was_there_and_differs_waits_until_its_plan_is_approved() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({"x-queue-type": "quorum"})).await;
        mq.declare_exchange("events", "topic").await;
        w.queue("orders", "maxLength: 5\nbindings: [{source: events, routingKey: k}]").await;
        let queue: Queue = w.condition("orders", "Ready", "False", "ApprovalNeeded").await;
        let status = queue.status.clone().expect("a status");
        assert_eq!(status.plan.len(), 2, "{:?}", status.plan);
        let hash = status.plan_hash.expect("a hash");
        assert!(queue.message("Ready").contains(&hash), "{}", queue.summary());

        w.annotate::<Queue>("orders", "spillway.dev/approve-plan", Some("000000000000")).await;
        never_within(Duration::from_secs(3), "a wrong hash approves nothing", async || {
            match (mq.policies().await.len(), mq.bindings("orders").await.len()) {
                (0, 0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        w.annotate::<Queue>("orders", "spillway.dev/approve-plan", Some(&hash)).await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.the_queue("orders").await["policy"], "spillway.q.orders");
        assert_eq!(mq.bindings("orders").await, ["events|k"]);
        // What is ours is changed without asking.
        w.queue("orders", "maxLength: 6").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.bindings("orders").await, [""; 0]);
    });
}

#[test]
fn adopt_goes_ahead_and_keeps_foreign_bindings() {
    world(async |w| {
        w.rabbit("defaults: {adoption: Adopt}").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({"x-queue-type": "quorum"})).await;
        mq.bind("amq.topic", "orders", "theirs", json!({})).await;
        w.queue("orders", "maxLength: 5\nbindings: [{source: amq.topic, routingKey: ours}]").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.bindings("orders").await, ["amq.topic|ours", "amq.topic|theirs"]);
        assert_eq!(mq.the_queue("orders").await["policy"], "spillway.q.orders");
    });
}

#[test]
fn never_leaves_alone_what_was_there_and_makes_what_was_not() {
    world(async |w| {
        w.rabbit("defaults: {adoption: Never}").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({"x-queue-type": "quorum"})).await;
        mq.declare_exchange("events", "topic").await;
        w.queue("orders", "deletionPolicy: Delete").await;
        w.exchange("events", "type: topic\ndeletionPolicy: Delete").await;
        w.condition::<Queue>("orders", "Ready", "False", "Conflict").await;
        w.condition::<Exchange>("events", "Ready", "False", "Conflict").await;
        w.queue("fresh", "").await;
        w.ready::<Queue>("fresh").await;
        w.delete::<Queue>("orders").await;
        w.delete::<Exchange>("events").await;
        w.until_gone::<Queue>("orders").await;
        w.until_gone::<Exchange>("events").await;
        assert_eq!(mq.queues().await, ["fresh", "orders"]);
        assert_eq!(mq.exchanges().await, ["events"]);
    });
}

#[test]
fn of_two_queues_for_one_the_older_owns_it_and_hands_it_over_when_it_goes() {
    world(async |w| {
        w.rabbit("").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        w.queue("older", "name: orders\nmaxLength: 5\ndeletionPolicy: Delete").await;
        w.ready::<Queue>("older").await;
        w.a_second_after::<Queue>("older").await;
        w.queue("younger", "name: orders\nmaxLength: 9\ndeletionPolicy: Delete").await;
        let younger: Queue = w.condition("younger", "Ready", "False", "Conflict").await;
        assert!(younger.message("Ready").contains("older"), "{}", younger.summary());
        let limit = async || {
            mq.policy("spillway.q.orders").await.expect("a policy")["definition"]["max-length"].clone()
        };
        assert_eq!(limit().await, 5);
        mq.publish("", "orders", "precious").await;

        w.delete::<Queue>("younger").await;
        w.until_gone::<Queue>("younger").await;
        assert_eq!(limit().await, 5, "deleting the loser changed the policy");
        w.queue("heir", "name: orders\nmaxLength: 5").await;
        w.condition::<Queue>("heir", "Ready", "False", "Conflict").await;
        w.delete::<Queue>("older").await;
        w.until_gone::<Queue>("older").await;
        w.ready::<Queue>("heir").await;
        let (kind, words) = w.event::<Queue>("heir", "HandedOver").await;
        assert_eq!(
            (kind.as_str(), words.contains("\"orders\" was handed over")),
            ("Normal", true),
            "{words}"
        );
        amqp.until_ready("orders", 1).await;
        assert_eq!(limit().await, 5);
        // It is the heir's now: it may change it without asking.
        w.queue("heir", "name: orders\nmaxLength: 7").await;
        mq.until_policy("spillway.q.orders", "is the heir's", |policy| {
            policy["definition"]["max-length"] == 7
        })
        .await;
    });
}

#[test]
fn a_rival_on_a_broker_that_never_connected_cancelled_a_deletion() {
    world(async |w| {
        w.rabbit("").await;
        let dead = rabbit_yaml("").replace("{name: rabbitmq}\nspec", "{name: dead}\nspec");
        let dead = dead.replace("    amqpUrl: ${AMQP}\n", "").replace("${RABBITMQ}", "http://127.0.0.1:1");
        w.apply(&dead).await;
        w.condition::<Broker>("dead", "Ready", "False", "BrokerUnreachable").await;
        w.queue("ours", "name: orders\ndeletionPolicy: Delete").await;
        w.ready::<Queue>("ours").await;
        let rival = queue_yaml("rival", "name: orders");
        w.apply(&rival.replace("brokerRef: {name: rabbitmq}", "brokerRef: {name: dead}")).await;
        w.condition::<Queue>("rival", "Ready", "False", "").await;
        w.delete::<Queue>("ours").await;
        let ours: Queue = w.condition("ours", "Ready", "False", "DependencyNotReady").await;
        let said = format!("Queue {0}/rival on Broker {0}/dead", w.namespace);
        assert!(ours.message("Ready").contains(&said), "{}", ours.summary());
        let mq = w.mq().await;
        assert_eq!(mq.queues().await, ["orders"]);
        w.delete::<Queue>("rival").await;
        w.until_gone::<Queue>("ours").await;
        assert_eq!(mq.queues().await, [""; 0]);
    });
}

#[test]
fn of_two_exchanges_for_one_the_older_owns_it_and_hands_it_over_when_it_goes() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.exchange("older", "name: events\ntype: topic\ndeletionPolicy: Delete").await;
        w.ready::<Exchange>("older").await;
        w.a_second_after::<Exchange>("older").await;
        w.exchange("younger", "name: events\ntype: topic\nalternateExchange: x\ndeletionPolicy: Delete")
            .await;
        let younger: Exchange = w.condition("younger", "Ready", "False", "Conflict").await;
        assert!(younger.message("Ready").contains("older"), "{}", younger.summary());
        assert_eq!(mq.policies().await, [""; 0]);
        w.delete::<Exchange>("older").await;
        w.until_gone::<Exchange>("older").await;
        // An heir that wants something else asks first.
        let heir: Exchange = w.condition("younger", "Ready", "False", "ApprovalNeeded").await;
        let (_, words) = w.event::<Exchange>("younger", "HandedOver").await;
        assert!(words.contains("\"events\" was handed over"), "{words}");
        assert_eq!((mq.exchanges().await, mq.policies().await.len()), (vec!["events".to_owned()], 0));
        let hash = heir.status.and_then(|status| status.plan_hash).expect("a hash");
        w.annotate::<Exchange>("younger", "spillway.dev/approve-plan", Some(&hash)).await;
        w.ready::<Exchange>("younger").await;
        assert_eq!(mq.exchanges().await, ["events"]);
        assert_eq!(mq.policies().await, ["spillway.x.events"]);
    });
}

#[test]
fn of_two_bindings_for_one_the_older_owns_it_and_the_younger_inherits_it() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({})).await;
        let spec = "source: amq.topic\ndestination: {queue: orders}\nroutingKey: k";
        w.binding("older", spec).await;
        w.ready::<Binding>("older").await;
        w.a_second_after::<Binding>("older").await;
        w.binding("younger", spec).await;
        let younger: Binding = w.condition("younger", "Ready", "False", "Conflict").await;
        assert!(younger.message("Ready").contains("older"), "{}", younger.summary());
        w.delete::<Binding>("older").await;
        w.until_gone::<Binding>("older").await;
        w.ready::<Binding>("younger").await;
        assert_eq!(mq.bindings("orders").await, ["amq.topic|k"], "it was handed over");
        w.delete::<Binding>("younger").await;
        w.until_gone::<Binding>("younger").await;
        mq.until_bindings("orders", &[]).await;
    });
}

#[test]
fn a_binding_older_than_the_queue_that_has_it_inline_keeps_it() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({"x-queue-type": "quorum"})).await;
        w.binding("b", "source: amq.topic\ndestination: {queue: orders}\nroutingKey: k").await;
        w.ready::<Binding>("b").await;
        w.a_second_after::<Binding>("b").await;
        w.queue("orders", "adoption: Adopt\nbindings: [{source: amq.topic, routingKey: k}]").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Binding>("b").await;
        w.queue("orders", "adoption: Adopt").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.bindings("orders").await, ["amq.topic|k"]);
        w.delete::<Queue>("orders").await;
        w.until_gone::<Queue>("orders").await;
        w.ready::<Binding>("b").await;
        assert_eq!(mq.bindings("orders").await, ["amq.topic|k"]);
    });
}

#[test]
fn a_binding_that_moves_between_a_queue_and_an_object_with_references_is_never_removed() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let operator = site.start().await;
        w.rabbit_at(&site.rabbitmq.url(), "resyncInterval: 5m").await;
        w.ready::<Broker>("rabbitmq").await;
        let mq = w.mq().await;
        w.exchange("events", "name: events.v1\ntype: topic").await;
        w.queue("orders", "name: orders.v1\nbindings: [{source: events.v1, routingKey: k}]").await;
        w.ready::<Queue>("orders").await;
        let binding = "sourceRef: {name: events}\ndestination: {queueRef: {name: orders}}\nroutingKey: k";
        w.a_second_after::<Queue>("orders").await;
        site.cut.arm(&operator, |_| Fate::Pass);
        w.binding("b", binding).await;
        w.condition::<Binding>("b", "Ready", "False", "Conflict").await;
        w.queue("orders", "name: orders.v1").await;
        w.ready::<Binding>("b").await;
        assert_eq!(mq.bindings("orders.v1").await, ["events.v1|k"]);
        // And back, by a reference, too.
        w.queue("orders", "name: orders.v1\nbindings: [{sourceRef: {name: events}, routingKey: k}]").await;
        w.delete::<Binding>("b").await;
        w.until_gone::<Binding>("b").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.bindings("orders.v1").await, ["events.v1|k"]);
        let removed: Vec<_> =
            site.cut.writes().into_iter().filter(|write| write.contains("DELETE /api/bindings")).collect();
        assert!(removed.is_empty(), "{removed:?}");
    });
}

#[test]
fn a_queue_of_the_same_name_in_another_virtual_host_is_another_queue() {
    world(async |w| {
        w.rabbit("").await;
        let other = format!("{}/other", w.vhost);
        let elsewhere = w.mq().await.another_vhost(&other).await;
        w.queue("here", "name: orders\nmaxLength: 5").await;
        w.queue("there", &format!("name: orders\nmaxLength: 6\nvhost: '{other}'")).await;
        w.ready::<Queue>("here").await;
        w.ready::<Queue>("there").await;
        let limit =
            |policy: Option<serde_json::Value>| policy.expect("a policy")["definition"]["max-length"].clone();
        assert_eq!(limit(w.mq().await.policy("spillway.q.orders").await), 5);
        assert_eq!(limit(elsewhere.policy("spillway.q.orders").await), 6);
    });
}

#[test]
fn a_binding_that_was_edited_takes_its_former_one_along_unless_another_object_declares_it() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({})).await;
        let to = |source: &str, key: &str| {
            format!("source: {source}\ndestination: {{queue: orders}}\nroutingKey: {key}")
        };
        w.binding("kept", &to("amq.topic", "k1")).await;
        w.binding("gone", &to("amq.topic", "k2")).await;
        w.ready::<Binding>("kept").await;
        w.ready::<Binding>("gone").await;
        w.a_second_after::<Binding>("kept").await;
        w.binding("heir", &to("amq.topic", "k1")).await;
        w.condition::<Binding>("heir", "Ready", "False", "Conflict").await;
        // Neither comes to its new binding.
        for name in ["kept", "gone"] {
            w.binding(name, &to("not-there-yet", name)).await;
            w.condition::<Binding>(name, "Ready", "False", "").await;
        }
        assert_eq!(mq.bindings("orders").await, ["amq.topic|k1", "amq.topic|k2"]);
        w.delete::<Binding>("kept").await;
        w.until_gone::<Binding>("kept").await;
        assert_eq!(mq.bindings("orders").await, ["amq.topic|k1", "amq.topic|k2"]);
        w.delete::<Binding>("gone").await;
        w.until_gone::<Binding>("gone").await;
        assert_eq!(mq.bindings("orders").await, ["amq.topic|k1"]);
        w.ready::<Binding>("heir").await;
    });
}
