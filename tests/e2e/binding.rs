//! Bindings, inline and as objects of their own: made, swapped without a gap, waited for, left alone.

use std::time::{Duration, Instant};

use serde_json::json;
use spillway_operator::api::{Binding, Exchange, Queue};

use crate::bed::{Audit, Object as _, World, binding_yaml, never_within, until, world};

#[test]
fn inline_bindings_come_and_go_with_the_spec_and_other_peoples_stay() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_exchange("events", "topic").await;
        w.queue(
            "orders",
            "bindings: [{source: events, routingKey: a.*}, {source: events, routingKey: 'b.#'}]",
        )
        .await;
        w.ready::<Queue>("orders").await;
        mq.bind("events", "orders", "theirs", json!({})).await;
        assert_eq!(mq.bindings("orders").await, ["events|a.*", "events|b.#", "events|theirs"]);
        w.queue("orders", "bindings: [{source: events, routingKey: a.*}]").await;
        mq.until_bindings("orders", &["events|a.*", "events|theirs"]).await;
        let queue: Queue = w.ready("orders").await;
        assert_eq!(queue.status.expect("a status").applied_bindings.len(), 1);
        w.queue("orders", "").await;
        mq.until_bindings("orders", &["events|theirs"]).await;
        w.ready::<Queue>("orders").await;
    });
}

#[test]
fn a_binding_leads_to_a_queue_or_to_an_exchange_with_keys_and_arguments() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_exchange("first", "topic").await;
        mq.declare_exchange("second", "headers").await;
        mq.declare_queue("orders", json!({})).await;
        w.binding("between", "source: first\ndestination: {exchange: second}\nroutingKey: 'a/b %ü.#'").await;
        w.binding(
            "headers",
            "source: second\ndestination: {queue: orders}\narguments: {x-match: all, size: 5, price: 1.5, big: 4294967296, vip: true, kind: x}",
        )
        .await;
        w.ready::<Binding>("between").await;
        w.ready::<Binding>("headers").await;
        assert_eq!(mq.bindings("second").await, ["first|a/b %ü.#"]);
        let words = "second||{\"big\":4294967296,\"kind\":\"x\",\"price\":1.5,\"size\":5,\"vip\":true,\"x-match\":\"all\"}";
        assert_eq!(mq.bindings("orders").await, [words]);
        let headers =
            json!({"headers": {"size": 5, "price": 1.5, "big": 4_294_967_296_i64, "vip": true, "kind": "x"}});
        assert!(mq.publish_with("first", "a/b %ü.c", "one", headers).await);
        assert_eq!(mq.until_message("orders").await, "one");
        assert!(!mq.publish("first", "a/b %ü.c", "two").await);
    });
}

#[test]
fn what_a_binding_refers_to_is_waited_for_and_then_it_is_ready_at_once() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.binding("b", "sourceRef: {name: events}\ndestination: {queueRef: {name: orders}}\nroutingKey: k")
            .await;
        w.queue("inline", "bindings: [{sourceRef: {name: events}, routingKey: k}]").await;
        let binding: Binding = w.condition("b", "Ready", "False", "DependencyNotReady").await;
        assert!(binding.message("Ready").contains("Exchange events"), "{}", binding.summary());
        w.condition::<Queue>("inline", "Ready", "False", "DependencyNotReady").await;
        assert!(binding.condition("Stalled").is_none_or(|stalled| stalled.status == "False"));

        let begun = Instant::now();
        w.queue("orders", "name: the.orders").await;
        w.exchange("events", "name: the.events\ntype: topic").await;
        w.ready::<Binding>("b").await;
        w.ready::<Queue>("inline").await;
        println!("ready {:?} after what was missing was applied", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(mq.bindings("the.orders").await, ["the.events|k"]);
        assert_eq!(mq.bindings("inline").await, ["the.events|k"]);
    });
}

#[test]
fn a_binding_that_no_address_can_name_is_mended_and_deleted_like_any_other() {
    // It was noted as made before it was looked at, and what nobody can ask RabbitMQ for could not be taken away.
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_exchange("events", "topic").await;
        mq.declare_queue("orders", json!({})).await;
        for (name, source) in [("mended", ".."), ("deleted", ".")] {
            w.binding(name, &format!("source: {source:?}\ndestination: {{queue: orders}}\nroutingKey: k"))
                .await;
            let binding: Binding = w.condition(name, "Ready", "False", "InvalidSpec").await;
            assert!(binding.status.is_some_and(|status| status.applied.is_none()));
        }
        w.binding("mended", "source: events\ndestination: {queue: orders}\nroutingKey: k").await;
        w.ready::<Binding>("mended").await;
        assert_eq!(mq.bindings("orders").await, ["events|k"]);
        w.delete::<Binding>("deleted").await;
        w.until_gone::<Binding>("deleted").await;
    });
}

#[test]
fn a_binding_by_names_waits_for_what_an_application_declares() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s").await;
        let mq = w.mq().await;
        w.binding("b", "source: events\ndestination: {queue: orders}").await;
        w.condition::<Binding>("b", "Ready", "False", "DependencyNotReady").await;
        mq.declare_exchange("events", "fanout").await;
        let binding: Binding = w.condition("b", "Ready", "False", "DependencyNotReady").await;
        assert!(binding.message("Ready").contains("orders") || binding.message("Ready").contains("events"));
        mq.declare_queue("orders", json!({})).await;
        w.ready::<Binding>("b").await;
        assert_eq!(mq.bindings("orders").await, ["events|"]);
    });
}

#[test]
fn a_reference_to_another_virtual_host_or_broker_is_invalid() {
    world(async |w| {
        w.rabbit("").await;
        let other = format!("{}-other", w.vhost);
        w.mq().await.another_vhost(&other).await;
        w.queue("elsewhere", &format!("vhost: {other}")).await;
        w.exchange("events", "type: topic").await;
        w.ready::<Queue>("elsewhere").await;
        w.binding("b", "sourceRef: {name: events}\ndestination: {queueRef: {name: elsewhere}}").await;
        let binding: Binding = w.condition("b", "Ready", "False", "RefInvalid").await;
        assert!(binding.message("Ready").contains(&other), "{}", binding.summary());

        w.apply(
            &crate::bed::rabbit_yaml("").replace("metadata: {name: rabbitmq}", "metadata: {name: second}"),
        )
        .await;
        w.ready::<spillway_operator::api::Broker>("second").await;
        let foreign = crate::bed::queue_yaml("foreign", "")
            .replace("brokerRef: {name: rabbitmq}", "brokerRef: {name: second}");
        w.apply(&foreign).await;
        w.ready::<Queue>("foreign").await;
        w.binding("c", "sourceRef: {name: events}\ndestination: {queueRef: {name: foreign}}").await;
        w.condition::<Binding>("c", "Ready", "False", "RefInvalid").await;
    });
}

/// Publishes with the key `order.made` while `change` happens; fails if one message was not routed.
async fn without_a_gap(w: &World, change: impl AsyncFnOnce()) {
    let publisher = w.amqp().await.publisher("events", "order.made").await;
    publisher.goes_on(1).await;
    change().await;
    publisher.goes_on(1).await;
    let count = publisher.stop().await;
    println!("{count:?}");
    assert_eq!(count.returned, 0, "{count:?}");
}

#[test]
fn a_changed_binding_is_made_before_the_old_one_goes() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.exchange("events", "type: topic").await;
        w.queue("orders", "").await;
        w.binding("b", "source: events\ndestination: {queue: orders}\nroutingKey: 'order.*'").await;
        w.ready::<Binding>("b").await;
        without_a_gap(w, async || {
            for key in ["*.made", "order.made", "order.#"] {
                w.binding(
                    "b",
                    &format!("source: events\ndestination: {{queue: orders}}\nroutingKey: '{key}'"),
                )
                .await;
                mq.until_bindings("orders", &[&format!("events|{key}")]).await;
            }
        })
        .await;
        let binding: Binding = w.ready("b").await;
        assert_eq!(binding.status.and_then(|status| status.applied).expect("applied").routing_key, "order.#");
    });
}

#[test]
fn a_binding_that_moves_to_another_queue_is_made_there_before_the_old_one_goes() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.exchange("events", "type: topic").await;
        w.queue("first", "").await;
        w.queue("second", "").await;
        w.binding("b", "source: events\ndestination: {queue: first}\nroutingKey: 'order.*'").await;
        w.ready::<Binding>("b").await;
        w.ready::<Queue>("second").await;
        without_a_gap(w, async || {
            w.binding("b", "source: events\ndestination: {queueRef: {name: second}}\nroutingKey: 'order.*'")
                .await;
            mq.until_bindings("second", &["events|order.*"]).await;
            mq.until_bindings("first", &[]).await;
        })
        .await;
    });
}

#[test]
fn an_inline_binding_that_changes_is_made_before_the_old_one_goes() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.exchange("events", "type: topic").await;
        w.queue("orders", "bindings: [{source: events, routingKey: 'order.*'}]").await;
        w.ready::<Queue>("orders").await;
        without_a_gap(w, async || {
            for key in ["*.made", "order.made", "#"] {
                w.queue("orders", &format!("bindings: [{{source: events, routingKey: '{key}'}}]")).await;
                mq.until_bindings("orders", &[&format!("events|{key}")]).await;
            }
        })
        .await;
        w.ready::<Queue>("orders").await;
    });
}

#[test]
fn a_binding_that_another_object_declares_too_is_never_removed() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.exchange("events", "type: topic").await;
        w.queue("orders", "bindings: [{source: events, routingKey: k}]").await;
        w.ready::<Queue>("orders").await;
        w.a_second_after::<Queue>("orders").await;
        w.binding("b", "source: events\ndestination: {queue: orders}\nroutingKey: k").await;
        w.condition::<Binding>("b", "Ready", "False", "Conflict").await;

        w.queue("orders", "").await;
        w.ready::<Binding>("b").await;
        assert_eq!(mq.bindings("orders").await, ["events|k"], "the binding was handed over");
        w.queue("orders", "bindings: [{source: events, routingKey: k}]").await;
        w.until("orders", "the new spec was looked at", |queue: &Queue| {
            queue.observed() == queue.metadata.generation
        })
        .await;
        w.delete::<Binding>("b").await;
        w.until_gone::<Binding>("b").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.bindings("orders").await, ["events|k"]);
    });
}

#[test]
fn the_same_binding_written_with_other_numbers_is_one_binding() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({})).await;
        mq.bind("amq.headers", "orders", "", json!({"size": 5, "x-match": "any"})).await;
        w.binding(
            "b",
            "source: amq.headers\ndestination: {queue: orders}\narguments: {x-match: any, size: 5.0}",
        )
        .await;
        w.ready::<Binding>("b").await;
        never_within(Duration::from_secs(8), "there is one binding", async || {
            let found = mq.bindings("orders").await;
            if found.len() == 1 { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
        w.condition::<Binding>("b", "InSync", "True", "").await;
    });
}

#[test]
fn what_cannot_be_a_binding_is_refused_at_admission() {
    world(async |w| {
        let source = "exactly one of source and sourceRef";
        let destination = "exactly one of queue, exchange, queueRef and exchangeRef";
        for (spec, words) in [
            ("destination: {queue: a}", source),
            ("source: a\nsourceRef: {name: a}\ndestination: {queue: a}", source),
            ("source: a\ndestination: {}", destination),
            ("source: a\ndestination: {queue: a, exchange: b}", destination),
            ("source: a\ndestination: {queueRef: {name: a}, exchangeRef: {name: b}}", destination),
            ("source: a\ndestination: {queue: a}\ndeletionPolicy: DeleteIfEmpty", "spec.deletionPolicy"),
        ] {
            let said = w.refused(&binding_yaml("b", spec)).await;
            assert!(said.contains(words), "{spec}: {said}");
        }
        w.binding("b", "source: a\ndestination: {queue: a}").await;
        let said = w.refused(&binding_yaml("b", "source: a\ndestination: {queue: a}\nvhost: other")).await;
        assert!(said.contains("vhost is immutable"), "{said}");
        let moved =
            binding_yaml("b", "source: a\ndestination: {queue: a}").replace("{name: rabbitmq}", "{name: x}");
        let said = w.refused(&moved).await;
        assert!(said.contains("brokerRef is immutable"), "{said}");
    });
}

/// Waits until so many Bindings are ready.
async fn all_ready(w: &World, wanted: usize) {
    let api = w.api::<Binding>();
    until(&format!("{wanted} bindings are ready"), async || {
        let list = api.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
        let ready = |one: &&Binding| one.condition("Ready").is_some_and(|ready| ready.status == "True");
        let count = list.items.iter().filter(ready).count();
        if count == wanted { Ok(()) } else { Err(format!("{count} are")) }
    })
    .await;
}

#[test]
fn two_hundred_bindings_that_came_before_their_queues_are_all_ready_soon_after_them() {
    world(async |w| {
        w.rabbit("").await;
        for n in 0..100 {
            w.binding(
                &format!("b{n}"),
                &format!(
                    "sourceRef: {{name: events}}\ndestination: {{queueRef: {{name: q{n}}}}}\nroutingKey: k{n}"
                ),
            )
            .await;
            w.binding(
                &format!("c{n}"),
                &format!("source: events\ndestination: {{queue: q{n}}}\nroutingKey: l{n}"),
            )
            .await;
        }
        let begun = Instant::now();
        w.exchange("events", "type: direct").await;
        for n in 0..100 {
            w.queue(&format!("q{n}"), "type: classic").await;
        }
        w.ready::<Exchange>("events").await;
        all_ready(w, 200).await;
        println!("{:?}", begun.elapsed());
        assert_eq!(w.mq().await.bindings("q42").await, ["events|k42", "events|l42"]);
    });
}

#[test]
fn a_queue_and_its_binding_that_wait_for_the_operator_cost_it_three_writes() {
    world(async |w| {
        w.rabbit("").await;
        w.mq().await.declare_exchange("events", "direct").await;
        w.operator().stop().await;
        for n in 0..40 {
            w.binding(
                &format!("b{n}"),
                &format!("source: events\ndestination: {{queueRef: {{name: q{n}}}}}\nroutingKey: k{n}"),
            )
            .await;
            w.queue(&format!("q{n}"), "type: classic").await;
        }
        let audit = Audit::begin();
        w.start_operator().await;
        all_ready(w, 40).await;
        let mut writes = audit.writes(&w.namespace, "spillway");
        writes.retain(|write| write.contains(" bindings") || write.contains(" queues"));
        writes.sort();
        let mut wanted: Vec<_> = (0..40)
            .flat_map(|n| {
                [
                    format!("patch bindings b{n}"),
                    format!("patch bindings/status b{n}"),
                    format!("patch queues/status q{n}"),
                ]
            })
            .collect();
        wanted.sort();
        assert_eq!(writes, wanted);
    });
}
