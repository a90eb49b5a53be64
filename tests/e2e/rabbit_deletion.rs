//! What happens to queues, exchanges and bindings when their objects go.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use spillway_operator::api::{Binding, Broker, Exchange, Queue};

use crate::bed::{
    Object as _, Proxy, RabbitAddress, World, bare_world, never_within, rabbit_yaml, until_within, world,
};

#[test]
fn retain_keeps_queue_exchange_and_policy_and_needs_no_finalizer() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.exchange("events", "type: topic\nalternateExchange: x").await;
        w.queue("orders", "maxLength: 5\nbindings: [{source: events, routingKey: k}]").await;
        w.ready::<Exchange>("events").await;
        let queue: Queue = w.ready("orders").await;
        assert_eq!(queue.finalizers(), [""; 0]);
        w.delete::<Queue>("orders").await;
        w.until_gone::<Queue>("orders").await;
        w.delete::<Exchange>("events").await;
        w.until_gone::<Exchange>("events").await;
        // A queue that is kept keeps its limits.
        assert_eq!(mq.policies().await, ["spillway.q.orders", "spillway.x.events"]);
        assert_eq!(mq.bindings("orders").await, ["events|k"]);
    });
}

#[test]
fn delete_deletes_the_queue_with_its_messages_and_policy_and_keeps_its_companions() {
    world(async |w| {
        w.rabbit("").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        w.queue("orders", "maxLength: 5\ndeletionPolicy: Delete\ndeadLetter: {}\nretry: {delays: [1h]}")
            .await;
        w.ready::<Queue>("orders").await;
        mq.publish("", "orders", "one").await;
        mq.publish("", "orders.dlq", "two").await;
        w.delete::<Queue>("orders").await;
        w.until_gone::<Queue>("orders").await;
        assert_eq!(mq.queues().await, ["orders.dlq", "orders.retry.1h"]);
        assert_eq!(mq.policies().await, [""; 0]);
        amqp.until_ready("orders.dlq", 1).await;
    });
}

#[test]
fn delete_if_empty_keeps_a_queue_with_a_message_and_deletes_it_when_it_is_emptied() {
    world(async |w| {
        w.rabbit("").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        for (name, kind) in [("quorum", "quorum"), ("classic", "classic")] {
            w.queue(name, &format!("type: {kind}\ndeletionPolicy: DeleteIfEmpty\nmaxLength: 5")).await;
            w.ready::<Queue>(name).await;
            mq.publish("", name, "precious").await;
            // No time for RabbitMQ's figures to show it.
            w.delete::<Queue>(name).await;
        }
        for name in ["quorum", "classic"] {
            let kept: Queue = w.condition(name, "Ready", "False", "NotEmpty").await;
            assert!(kept.message("Ready").contains("1 message"), "{}", kept.summary());
            amqp.until_ready(name, 1).await;
            assert_eq!(mq.take(name).await.as_deref(), Some("precious"));
        }
        for name in ["quorum", "classic"] {
            w.until_gone::<Queue>(name).await;
            mq.until_no_queue(name).await;
        }
        assert_eq!(mq.policies().await, [""; 0]);
    });
}

#[test]
fn delete_if_empty_counts_a_message_that_a_consumer_holds() {
    world(async |w| {
        w.rabbit("").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        w.queue("orders", "deletionPolicy: DeleteIfEmpty").await;
        w.ready::<Queue>("orders").await;
        mq.publish("", "orders", "precious").await;
        let held = amqp.hold("orders").await;
        amqp.until_ready("orders", 0).await;
        w.delete::<Queue>("orders").await;
        w.condition::<Queue>("orders", "Ready", "False", "NotEmpty").await;
        never_within(Duration::from_secs(17), "the queue stays", async || match amqp.depth("orders").await {
            Some(_) => Ok(()),
            None => Err("it is gone".into()),
        })
        .await;
        held.done().await;
        w.until_gone::<Queue>("orders").await;
        mq.until_no_queue("orders").await;
    });
}

#[test]
fn delete_if_empty_keeps_a_stream_with_one_message_and_deletes_an_empty_one() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        for name in ["full", "empty"] {
            w.queue(name, "type: stream\ndeletionPolicy: DeleteIfEmpty").await;
            w.ready::<Queue>(name).await;
        }
        mq.publish("", "full", "precious").await;
        for name in ["full", "empty"] {
            w.delete::<Queue>(name).await;
        }
        w.condition::<Queue>("full", "Ready", "False", "NotEmpty").await;
        w.until_gone::<Queue>("empty").await;
        never_within(Duration::from_secs(17), "the stream stays", async || match mq.queue("full").await {
            Some(_) => Ok(()),
            None => Err("it is gone".into()),
        })
        .await;
        // A stream cannot be emptied; a person may delete it.
        mq.delete_queue("full").await;
        w.until_gone::<Queue>("full").await;
    });
}

#[test]
fn a_deleted_queue_that_is_gone_already_is_done() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "deletionPolicy: Delete").await;
        w.exchange("events", "type: topic\ndeletionPolicy: Delete").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Exchange>("events").await;
        w.mq().await.delete_queue("orders").await;
        w.mq().await.delete_exchange("events").await;
        w.delete::<Queue>("orders").await;
        w.delete::<Exchange>("events").await;
        w.until_gone::<Queue>("orders").await;
        w.until_gone::<Exchange>("events").await;
    });
}

#[test]
fn an_exchange_goes_with_delete_and_only_without_bindings_with_delete_if_unused() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({})).await;
        for (name, policy) in [("bound", "Delete"), ("used", "DeleteIfUnused"), ("unused", "DeleteIfUnused")]
        {
            w.exchange(name, &format!("type: topic\nalternateExchange: x\ndeletionPolicy: {policy}")).await;
            w.ready::<Exchange>(name).await;
        }
        mq.bind("bound", "orders", "k", json!({})).await;
        mq.bind("used", "orders", "k", json!({})).await;
        for name in ["bound", "used", "unused"] {
            w.delete::<Exchange>(name).await;
        }
        w.until_gone::<Exchange>("bound").await;
        w.until_gone::<Exchange>("unused").await;
        w.condition::<Exchange>("used", "Ready", "False", "NotEmpty").await;
        assert_eq!(mq.exchanges().await, ["used"]);
        mq.unbind("used", "orders", "k").await;
        w.until_gone::<Exchange>("used").await;
        assert_eq!(mq.exchanges().await, [""; 0]);
        assert_eq!(mq.policies().await, [""; 0]);
    });
}

#[test]
fn an_exchange_to_which_another_exchange_leads_is_used() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.exchange("inner", "type: topic\ndeletionPolicy: DeleteIfUnused").await;
        w.exchange("outer", "type: topic").await;
        w.binding("b", "source: outer\ndestination: {exchange: inner}\nroutingKey: '#'").await;
        w.ready::<Exchange>("inner").await;
        w.ready::<Binding>("b").await;
        w.delete::<Exchange>("inner").await;
        w.condition::<Exchange>("inner", "Ready", "False", "NotEmpty").await;
        assert_eq!(mq.exchanges().await, ["inner", "outer"]);
        w.delete::<Binding>("b").await;
        w.until_gone::<Exchange>("inner").await;
        assert_eq!(mq.exchanges().await, ["outer"]);
    });
}

#[test]
fn a_binding_goes_by_default_whatever_the_broker_says_and_stays_with_retain() {
    world(async |w| {
        w.rabbit("defaults: {deletionPolicy: Retain}").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({})).await;
        w.binding("goes", "source: amq.topic\ndestination: {queue: orders}\nroutingKey: goes").await;
        w.binding(
            "stays",
            "source: amq.topic\ndestination: {queue: orders}\nroutingKey: stays\ndeletionPolicy: Retain",
        )
        .await;
        w.ready::<Binding>("goes").await;
        w.ready::<Binding>("stays").await;
        for name in ["goes", "stays"] {
            w.delete::<Binding>(name).await;
            w.until_gone::<Binding>(name).await;
        }
        assert_eq!(mq.bindings("orders").await, ["amq.topic|stays"]);
    });
}

#[test]
fn a_binding_whose_queue_is_gone_goes_at_once() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "deletionPolicy: Delete").await;
        w.binding("b", "source: amq.topic\ndestination: {queueRef: {name: orders}}\nroutingKey: k").await;
        w.ready::<Binding>("b").await;
        w.delete::<Queue>("orders").await;
        w.until_gone::<Queue>("orders").await;
        w.delete::<Binding>("b").await;
        w.until_gone::<Binding>("b").await;
    });
}

#[test]
fn a_broker_s_default_deletes_exchanges_only_when_unused_and_queues_only_when_empty() {
    world(async |w| {
        w.rabbit("defaults: {deletionPolicy: DeleteIfEmpty}").await;
        let mq = w.mq().await;
        mq.declare_queue("theirs", json!({})).await;
        w.exchange("used", "type: topic").await;
        w.exchange("unused", "type: topic").await;
        w.queue("full", "").await;
        w.queue("empty", "").await;
        w.ready::<Exchange>("used").await;
        w.ready::<Exchange>("unused").await;
        w.ready::<Queue>("full").await;
        w.ready::<Queue>("empty").await;
        mq.bind("used", "theirs", "k", json!({})).await;
        mq.publish("", "full", "precious").await;
        for name in ["used", "unused"] {
            w.delete::<Exchange>(name).await;
        }
        for name in ["full", "empty"] {
            w.delete::<Queue>(name).await;
        }
        w.until_gone::<Exchange>("unused").await;
        w.until_gone::<Queue>("empty").await;
        w.condition::<Exchange>("used", "Ready", "False", "NotEmpty").await;
        w.condition::<Queue>("full", "Ready", "False", "NotEmpty").await;
        assert_eq!(mq.queues().await, ["full", "theirs"]);
    });
}

#[test]
fn while_rabbitmq_is_away_a_deleted_object_stays_until_it_comes_or_a_person_lets_go() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        for name in ["orders", "bills"] {
            w.queue(name, "deletionPolicy: Delete").await;
            w.ready::<Queue>(name).await;
        }
        let bed = RabbitAddress::of_the_bed();
        let mut proxy = Proxy::closed(bed.management.trim_start_matches("http://"));
        w.rabbit_at(&format!("http://{}", proxy.address()), "").await;
        w.condition::<Broker>("rabbitmq", "Ready", "False", "BrokerUnreachable").await;
        for name in ["orders", "bills"] {
            w.delete::<Queue>(name).await;
            w.condition::<Queue>(name, "Ready", "False", "BrokerUnreachable").await;
        }
        w.annotate::<Queue>("bills", "spillway.dev/force-release", Some("true")).await;
        w.until_gone::<Queue>("bills").await;
        proxy.open();
        w.until_gone::<Queue>("orders").await;
        mq.until_no_queue("orders").await;
        assert_eq!(mq.queues().await, ["bills"]);
    });
}

#[test]
fn a_broker_stays_while_a_queue_or_a_binding_of_it_needs_it() {
    world(async |w| {
        w.rabbit("").await;
        w.binding("b", "source: amq.topic\ndestination: {queue: orders}\nroutingKey: k").await;
        w.queue("orders", "").await;
        w.ready::<Binding>("b").await;
        until_within(Duration::from_secs(10), "the Broker is held", async || {
            let broker: Broker = w.get("rabbitmq").await;
            if broker.finalizers() == ["spillway.dev/topology"] { Ok(()) } else { Err(broker.summary()) }
        })
        .await;
        w.delete::<Broker>("rabbitmq").await;
        w.delete::<Queue>("orders").await;
        w.until_gone::<Queue>("orders").await;
        assert!(w.api::<Broker>().get_opt("rabbitmq").await.expect("an answer").is_some());
        w.delete::<Binding>("b").await;
        w.until_gone::<Binding>("b").await;
        w.until_gone::<Broker>("rabbitmq").await;
        assert_eq!(w.mq().await.bindings("orders").await, [""; 0]);
    });
}

#[test]
fn objects_of_a_virtual_host_that_is_gone_go_and_hold_up_no_namespace() {
    world(async |w| {
        w.rabbit("").await;
        let vhost = format!("{}-gone", w.vhost);
        let mq = w.mq().await.another_vhost(&vhost).await;
        let on = |spec: &str| format!("vhost: {vhost}\n{spec}");
        w.exchange("events", &on("type: topic\ndeletionPolicy: Delete")).await;
        w.exchange("unused", &on("type: topic\ndeletionPolicy: DeleteIfUnused")).await;
        w.queue("orders", &on("maxLength: 5\ndeletionPolicy: Delete")).await;
        w.queue("empty", &on("deletionPolicy: DeleteIfEmpty")).await;
        w.ready::<Exchange>("events").await;
        w.ready::<Exchange>("unused").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Queue>("empty").await;
        w.binding("b", &on("source: events\ndestination: {queue: orders}\nroutingKey: k")).await;
        w.ready::<Binding>("b").await;
        mq.remove().await;
        for name in ["orders", "empty"] {
            w.delete::<Queue>(name).await;
            w.until_gone::<Queue>(name).await;
        }
        for name in ["events", "unused"] {
            w.delete::<Exchange>(name).await;
            w.until_gone::<Exchange>(name).await;
        }
        w.delete::<Binding>("b").await;
        w.until_gone::<Binding>("b").await;
    });
}

/// A namespace with everything in it whose login is gone, and a queue of it that waits for that to be deleted.
async fn without_login(w: &World) -> World {
    let doomed = at_work(w, None).await;
    let secrets: Api<Secret> = Api::namespaced(w.client.clone(), &doomed.namespace);
    secrets.delete("rabbitmq", &DeleteParams::default()).await.expect("deleted");
    doomed.condition::<Broker>("rabbitmq", "Ready", "False", "SecretNotFound").await;
    // While the namespace stays, there is somebody who can bring the Secret back: nothing is let go.
    doomed.delete::<Queue>("orders").await;
    let kept: Queue = doomed.condition("orders", "Ready", "False", "SecretNotFound").await;
    assert!(kept.metadata.deletion_timestamp.is_some(), "{}", kept.summary());
    doomed
}

/// A namespace with a Broker, by way of `address` where there is one, and what is to be deleted at it.
async fn at_work(w: &World, address: Option<&str>) -> World {
    let name = w.another_namespace("doomed", json!({})).await;
    w.start_operator().await;
    let doomed = w.at(&name);
    match address {
        Some(address) => doomed.rabbit_at(address, "resyncInterval: 5s").await,
        None => drop(doomed.rabbit("resyncInterval: 5s").await),
    }
    doomed.exchange("events", "type: topic\ndeletionPolicy: Delete").await;
    let queue = "maxLength: 5\ndeletionPolicy: Delete\nbindings: [{source: events, routingKey: k}]";
    doomed.queue("orders", queue).await;
    doomed.binding("b", "source: amq.topic\ndestination: {queue: orders}\nroutingKey: k").await;
    doomed.ready::<Exchange>("events").await;
    doomed.ready::<Queue>("orders").await;
    doomed.ready::<Binding>("b").await;
    doomed
}

async fn delete_namespace(w: &World) {
    let namespaces: Api<Namespace> = Api::all(w.client.clone());
    namespaces.delete(&w.namespace, &DeleteParams::default()).await.expect("deleted");
    // What nothing can be done for is let go after two minutes.
    until_within(Duration::from_secs(180), "the namespace is gone", async || {
        match namespaces.get_opt(&w.namespace).await {
            Ok(None) => Ok(()),
            Ok(Some(left)) => Err(format!("{:?}", left.status.and_then(|status| status.conditions))),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

#[test]
fn a_namespace_whose_login_went_first_still_deletes_what_is_to_be_deleted() {
    bare_world(async |w| {
        let doomed = without_login(w).await;
        delete_namespace(&doomed).await;
        let mq = w.mq().await;
        let left = (mq.queues().await, mq.exchanges().await, mq.policies().await);
        assert_eq!(left, (vec![], vec![], vec![]), "{}", w.operator().tail());
    });
}

#[test]
fn a_broker_that_goes_after_its_login_still_deletes_what_is_to_be_deleted() {
    bare_world(async |w| {
        let doomed = without_login(w).await;
        // As `kubectl delete -f` does, in the order of the files.
        doomed.delete::<Broker>("rabbitmq").await;
        doomed.delete::<Exchange>("events").await;
        doomed.delete::<Binding>("b").await;
        doomed.until_gone::<Broker>("rabbitmq").await;
        let mq = w.mq().await;
        let left = (mq.queues().await, mq.exchanges().await, mq.policies().await);
        assert_eq!(left, (vec![], vec![], vec![]), "{}", w.operator().tail());
    });
}

#[test]
fn a_namespace_whose_login_and_broker_went_first_goes_too_and_leaves_everything_at_rabbitmq() {
    bare_world(async |w| {
        let bed = RabbitAddress::of_the_bed();
        w.mq().await;
        let mut proxy = Proxy::closed(bed.management.trim_start_matches("http://"));
        proxy.open();
        let doomed = at_work(w, Some(&format!("http://{}", proxy.address()))).await;
        let secrets: Api<Secret> = Api::namespaced(w.client.clone(), &doomed.namespace);
        secrets.delete("rabbitmq", &DeleteParams::default()).await.expect("deleted");
        doomed.condition::<Broker>("rabbitmq", "Ready", "False", "SecretNotFound").await;
        // RabbitMQ was in the namespace, too.
        drop(proxy);
        delete_namespace(&doomed).await;
        let mq = w.mq().await;
        assert_eq!((mq.queues().await, mq.exchanges().await), (vec!["orders".into()], vec!["events".into()]));
        let log = w.operator().text();
        assert_eq!(log.matches("the way to the broker is gone").count(), 3, "{}", w.operator().tail());
    });
}

#[test]
fn a_namespace_whose_login_nobody_knows_goes_too_and_leaves_everything_at_rabbitmq() {
    bare_world(async |w| {
        let doomed = without_login(w).await;
        // An operator that starts now never saw the login.
        w.operator().stop().await;
        w.start_operator().await;
        doomed.condition::<Broker>("rabbitmq", "Ready", "False", "SecretNotFound").await;
        delete_namespace(&doomed).await;
        let mq = w.mq().await;
        assert_eq!((mq.queues().await, mq.exchanges().await), (vec!["orders".into()], vec!["events".into()]));
        assert_eq!(mq.policies().await, ["spillway.q.orders"]);
        assert_eq!(mq.bindings("orders").await, ["amq.topic|k", "events|k"]);
        let log = w.operator().text();
        for kind in ["Queue", "Exchange", "Binding"] {
            let said = |line: &&str| line.contains("the way to the broker is gone") && line.contains(kind);
            assert_eq!(log.lines().filter(said).count(), 1, "{kind}: {}", w.operator().tail());
        }
    });
}

#[test]
fn an_exchange_and_a_binding_that_are_only_observed_are_never_made_changed_or_deleted() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_exchange("events", "topic").await;
        mq.declare_queue("orders", json!({})).await;
        mq.bind("events", "orders", "there", json!({})).await;
        let observed = |spec: &str| format!("{spec}\nmanagementPolicy: Observe\ndeletionPolicy: Delete");
        let binding =
            |key: &str| format!("source: events\ndestination: {{queue: orders}}\nroutingKey: {key}");
        w.exchange("missing", &observed("type: topic")).await;
        w.exchange("events", &observed("type: topic\nalternateExchange: rest")).await;
        w.binding("missing", &observed(&binding("missing"))).await;
        w.binding("there", &observed(&binding("there"))).await;
        w.condition::<Exchange>("missing", "Ready", "False", "NotFound").await;
        let events: Exchange = w.condition("events", "InSync", "False", "Differs").await;
        let status = events.status.clone().expect("a status");
        assert!(status.plan.len() == 1 && status.owned_since.is_none(), "{:?}", status.plan);
        w.condition::<Binding>("missing", "Ready", "False", "NotFound").await;
        w.ready::<Binding>("there").await;
        // Who only looks claims nothing, be it older.
        w.a_second_after::<Binding>("there").await;
        w.binding("owner", &binding("there")).await;
        w.ready::<Binding>("owner").await;
        // Nor is anything changed by an edit.
        w.binding("there", &observed(&binding("elsewhere"))).await;
        w.condition::<Binding>("there", "Ready", "False", "NotFound").await;
        for name in ["missing", "events"] {
            assert_eq!(w.get::<Exchange>(name).await.finalizers(), [""; 0]);
            w.delete::<Exchange>(name).await;
            w.until_gone::<Exchange>(name).await;
        }
        for name in ["missing", "there"] {
            assert_eq!(w.get::<Binding>(name).await.finalizers(), [""; 0]);
            w.delete::<Binding>(name).await;
            w.until_gone::<Binding>(name).await;
        }
        assert_eq!((mq.exchanges().await, mq.policies().await.len()), (vec!["events".to_owned()], 0));
        assert_eq!(mq.bindings("orders").await, ["events|there"]);
    });
}

#[test]
fn a_stream_that_took_a_queue_s_place_stays_with_delete() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.queue("orders", "deletionPolicy: Delete").await;
        w.ready::<Queue>("orders").await;
        mq.delete_queue("orders").await;
        mq.declare_queue("orders", json!({"x-queue-type": "stream"})).await;
        mq.publish("", "orders", "precious").await;
        w.annotate::<Queue>("orders", "spillway.dev/reconcile", Some("now")).await;
        w.condition::<Queue>("orders", "Ready", "False", "Immutable").await;
        w.delete::<Queue>("orders").await;
        w.until_gone::<Queue>("orders").await;
        assert_eq!(mq.the_queue("orders").await["type"], "stream");
    });
}

#[test]
fn what_took_the_place_of_a_queue_or_exchange_unseen_stays_with_delete_and_an_edit_is_no_such_thing() {
    world(async |w| {
        // No sweep comes in between.
        w.rabbit("resyncInterval: 1h").await;
        let mq = w.mq().await;
        for name in ["replaced", "edited"] {
            w.queue(name, "deletionPolicy: Delete\nsingleActiveConsumer: true").await;
            w.ready::<Queue>(name).await;
        }
        w.exchange("events", "type: topic\ndeletionPolicy: Delete").await;
        w.ready::<Exchange>("events").await;
        mq.delete_queue("replaced").await;
        mq.declare_queue("replaced", json!({"x-queue-type": "quorum"})).await;
        mq.publish("", "replaced", "precious").await;
        mq.delete_exchange("events").await;
        mq.declare_fleeting_exchange("events").await;
        w.queue("edited", "deletionPolicy: Delete").await;
        w.condition::<Queue>("edited", "Ready", "False", "Immutable").await;
        for name in ["replaced", "edited"] {
            w.delete::<Queue>(name).await;
            w.until_gone::<Queue>(name).await;
        }
        w.delete::<Exchange>("events").await;
        w.until_gone::<Exchange>("events").await;
        assert_eq!(
            (mq.queues().await, mq.exchanges().await),
            (vec!["replaced".into()], vec!["events".into()])
        );
        assert_eq!(mq.take("replaced").await.as_deref(), Some("precious"));
    });
}

#[test]
fn an_amqp_address_that_does_not_work_holds_up_delete_if_empty_but_not_delete() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        for name in ["goes", "stays"] {
            let policy = if name == "goes" { "Delete" } else { "DeleteIfEmpty" };
            w.queue(name, &format!("deletionPolicy: {policy}")).await;
            w.ready::<Queue>(name).await;
        }
        let closed = Proxy::closed("127.0.0.1:1");
        w.apply(&rabbit_yaml("").replace("${AMQP}", &format!("amqp://{}", closed.address()))).await;
        w.ready::<Broker>("rabbitmq").await;
        for name in ["goes", "stays"] {
            w.delete::<Queue>(name).await;
        }
        w.until_gone::<Queue>("goes").await;
        w.condition::<Queue>("stays", "Ready", "False", "BrokerUnreachable").await;
        assert_eq!(mq.queues().await, ["stays"]);
        w.rabbit("").await;
        w.until_gone::<Queue>("stays").await;
    });
}
