//! A change that ends midway: refused, without an answer, or with the operator's death. What is remembered then?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use spillway_operator::api::{Binding, Exchange, Queue};

use super::rabbitmq;
use crate::bed::{
    Fate, Object, Rabbit, RabbitAddress, Request, Side, Site, World, bare_world, meanwhile, until,
};

/// RabbitMQ's answer to a binding whose exchange does not exist.
fn not_found() -> Fate {
    let body = json!({"error": "Object Not Found", "reason": "Not Found"});
    Fate::Answer(404, vec![("content-type", "application/json".into())], body.to_string())
}

/// RabbitMQ's answer to a user without the right.
fn forbidden() -> Fate {
    let body = json!({"error": "not_authorised", "reason": "access refused"});
    Fate::Answer(401, vec![("content-type", "application/json".into())], body.to_string())
}

/// RabbitMQ's answer while it boots.
fn unavailable() -> Fate {
    let body = json!({"error": "Service Unavailable", "reason": "not ready"});
    Fate::Answer(503, vec![("content-type", "application/json".into())], body.to_string())
}

/// Whether a request goes to RabbitMQ with this method, to a path of this kind.
fn is(request: &Request, method: &str, path: &str) -> bool {
    request.side == Side::RabbitMq
        && request.what.starts_with(method)
        && request.what.contains(&format!("/api/{path}/"))
}

#[test]
fn a_loss_is_told_although_what_follows_the_declaration_fails() {
    for crash in [false, true] {
        bare_world(async |w| {
            let site = Site::new(w).await;
            let victim = site.start().await;
            rabbitmq(&site).await;
            w.queue("orders", "bindings: [{source: amq.topic, routingKey: k}]").await;
            w.ready::<Queue>("orders").await;
            let mut first = true;
            site.cut.arm(&victim, move |request| {
                if !is(request, "POST", "bindings") || !std::mem::take(&mut first) {
                    return Fate::Pass;
                }
                if crash { Fate::KillBefore } else { not_found() }
            });
            w.mq().await.delete_queue("orders").await;
            if crash {
                site.cut.death().await;
                site.cut.disarm();
                site.start().await;
            }
            w.mq().await.until_bindings("orders", &["amq.topic|k"]).await;
            let queue: Queue = w.ready("orders").await;
            let lost = queue.condition("DataLost").is_some_and(|lost| lost.status == "True");
            assert!(lost, "{}", queue.summary());
        });
    }
}

#[test]
fn a_queue_is_made_after_all_of_its_companions() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        rabbitmq(&site).await;
        let made = Arc::new(Mutex::new(Vec::new()));
        let (seen, mut held) = (made.clone(), 0);
        site.cut.arm(&victim, move |request| {
            if !is(request, "PUT", "queues") {
                return Fate::Pass;
            }
            // The first tries for a retry queue have no luck: whoever does not wait comes first.
            if request.what.contains(".retry.") && held < 3 {
                held += 1;
                return unavailable();
            }
            let name = request.what.rsplit('/').next().unwrap_or_default().to_owned();
            seen.lock().expect("no panic").push(name);
            Fate::Pass
        });
        w.queue("orders", "deadLetter: {}\nretry: {delays: [5s, 10s]}").await;
        w.ready::<Queue>("orders").await;
        let made = made.lock().expect("no panic").clone();
        assert_eq!(made.len(), 4, "{made:?}");
        assert!(
            made[3].starts_with("orders") && !made[3].contains("retry") && !made[3].contains("dlq"),
            "{made:?}"
        );
    });
}

#[test]
fn what_was_refused_is_nobodys_when_others_make_it() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        rabbitmq(&site).await;
        let mq = w.mq().await;
        mq.declare_queue("target", json!({})).await;
        let refuses = Arc::new(AtomicBool::new(true));
        let refusing = refuses.clone();
        site.cut.arm(&victim, move |request| {
            let makes = is(request, "PUT", "queues")
                || is(request, "PUT", "exchanges")
                || is(request, "POST", "bindings");
            if makes && refusing.load(Ordering::Relaxed) { forbidden() } else { Fate::Pass }
        });
        // `Never` or not: nobody may be taken for the owner of what the broker refused to make.
        w.queue("q", "adoption: Never\ndeletionPolicy: Delete\nbindings: [{source: amq.topic}]").await;
        w.exchange("x", "type: topic\nadoption: Never\ndeletionPolicy: Delete").await;
        w.binding("b", "source: amq.topic\ndestination: {queue: target}\nadoption: Never").await;
        w.condition::<Queue>("q", "Ready", "False", "AuthorizationFailed").await;
        w.condition::<Exchange>("x", "Ready", "False", "AuthorizationFailed").await;
        w.condition::<Binding>("b", "Ready", "False", "AuthorizationFailed").await;
        mq.declare_queue("q", json!({"x-queue-type": "quorum"})).await;
        mq.declare_exchange("x", "topic").await;
        mq.bind("amq.topic", "target", "", json!({})).await;
        mq.publish("", "q", "precious").await;
        // A pass that looked before they were made must not make them: it could not tell, and nor could anybody.
        conflict::<Queue>(w, "q").await;
        conflict::<Exchange>(w, "x").await;
        conflict::<Binding>(w, "b").await;
        refuses.store(false, Ordering::Relaxed);
        left_alone::<Queue>(w, "q").await;
        left_alone::<Exchange>(w, "x").await;
        left_alone::<Binding>(w, "b").await;
        assert!(mq.exchange("x").await.is_some());
        assert_eq!(mq.bindings("target").await, ["amq.topic|"]);
        assert_eq!(mq.take("q").await.as_deref(), Some("precious"));
    });
}

#[test]
fn what_was_not_answered_and_others_make_otherwise_stays_with_its_messages_under_delete() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        rabbitmq(&site).await;
        let mq = w.mq().await;
        let away = Arc::new(AtomicBool::new(true));
        let is_away = away.clone();
        site.cut.arm(&victim, move |request| {
            if is(request, "PUT", "queues") && is_away.load(Ordering::Relaxed) {
                unavailable()
            } else {
                Fate::Pass
            }
        });
        w.queue("q", "deletionPolicy: Delete\nsingleActiveConsumer: true\nbindings: [{source: amq.topic}]")
            .await;
        w.until("q", "was about to be made", |queue: &Queue| {
            queue.status.as_ref().is_some_and(|status| status.pending.is_some())
        })
        .await;
        mq.declare_queue("q", json!({"x-queue-type": "quorum"})).await;
        mq.publish("", "q", "precious").await;
        away.store(false, Ordering::Relaxed);
        w.annotate::<Queue>("q", "spillway.dev/reconcile", Some("now")).await;
        w.condition::<Queue>("q", "Ready", "False", "Immutable").await;
        w.delete::<Queue>("q").await;
        w.until_gone::<Queue>("q").await;
        assert_eq!(mq.take("q").await.as_deref(), Some("precious"));
    });
}

/// Somebody else's: in conflict, and still there when the object goes.
async fn left_alone<K: Object>(w: &World, name: &str) {
    conflict::<K>(w, name).await;
    w.delete::<K>(name).await;
    w.until_gone::<K>(name).await;
}

async fn conflict<K: Object>(w: &World, name: &str) {
    w.annotate::<K>(name, "spillway.dev/reconcile", Some("now")).await;
    w.condition::<K>(name, "Ready", "False", "Conflict").await;
}

#[test]
fn what_somebody_declares_in_the_last_moment_is_not_adopted_under_never() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        rabbitmq(&site).await;
        let (vhost, mut declared) = (w.vhost.clone(), Vec::new());
        site.cut.arm(&victim, move |request| {
            for kind in ["queues", "exchanges"] {
                if is(request, "PUT", kind) && !declared.contains(&kind) {
                    declared.push(kind);
                    declare_now(&vhost, kind);
                }
            }
            Fate::Pass
        });
        w.queue("q", "adoption: Never\ndeletionPolicy: Delete").await;
        w.exchange("x", "type: topic\nadoption: Never\ndeletionPolicy: Delete").await;
        let mq = w.mq().await;
        left_alone::<Queue>(w, "q").await;
        left_alone::<Exchange>(w, "x").await;
        assert!(mq.queue("q").await.is_some() && mq.exchange("x").await.is_some());
    });
}

/// Declares what the operator is about to declare. A rule cannot wait for the test's own runtime.
fn declare_now(vhost: &str, kind: &str) {
    meanwhile(async || {
        let mq = Rabbit::with_vhost(&RabbitAddress::of_the_bed(), vhost).await;
        match kind {
            "queues" => mq.declare_queue("q", json!({"x-queue-type": "quorum"})).await,
            _ => mq.declare_exchange("x", "topic").await,
        }
    });
}

#[test]
fn what_was_made_right_before_a_crash_goes_with_its_object() {
    for kind in ["exchanges", "bindings"] {
        bare_world(async |w| {
            let site = Site::new(w).await;
            let victim = site.start().await;
            rabbitmq(&site).await;
            let mq = w.mq().await;
            mq.declare_queue("target", json!({})).await;
            let method = if kind == "bindings" { "POST" } else { "PUT" };
            site.cut.arm(
                &victim,
                move |request| {
                    if is(request, method, kind) { Fate::KillAfter } else { Fate::Pass }
                },
            );
            if kind == "exchanges" {
                w.exchange("one", "type: topic\ndeletionPolicy: Delete").await;
            } else {
                w.binding("one", "source: amq.topic\ndestination: {queue: target}").await;
            }
            site.cut.death().await;
            site.cut.disarm();
            if kind == "exchanges" {
                assert!(mq.exchange("one").await.is_some(), "it was made");
                w.delete::<Exchange>("one").await;
                site.start().await;
                w.until_gone::<Exchange>("one").await;
                assert!(mq.exchange("one").await.is_none(), "it is left behind");
            } else {
                assert_eq!(mq.bindings("target").await, ["amq.topic|"], "it was made");
                w.delete::<Binding>("one").await;
                site.start().await;
                w.until_gone::<Binding>("one").await;
                assert_eq!(mq.bindings("target").await, [""; 0], "it is left behind");
            }
        });
    }
}

#[test]
fn a_binding_that_was_made_right_before_a_crash_goes_when_its_key_is_edited_meanwhile() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        rabbitmq(&site).await;
        let mq = w.mq().await;
        mq.declare_queue("target", json!({})).await;
        site.cut.arm(
            &victim,
            |request| {
                if is(request, "POST", "bindings") { Fate::KillAfter } else { Fate::Pass }
            },
        );
        w.binding("one", "source: amq.topic\ndestination: {queue: target}\nroutingKey: old").await;
        site.cut.death().await;
        site.cut.disarm();
        assert_eq!(mq.bindings("target").await, ["amq.topic|old"], "it was made");
        w.binding("one", "source: amq.topic\ndestination: {queue: target}\nroutingKey: new").await;
        site.start().await;
        w.ready::<Binding>("one").await;
        assert_eq!(mq.bindings("target").await, ["amq.topic|new"], "the old one is left behind");
    });
}

#[test]
fn a_binding_of_a_new_queue_that_is_dropped_before_all_are_made_goes() {
    bare_world(async |w| {
        w.start_operator().await;
        w.rabbit("").await;
        let mq = w.mq().await;
        w.queue(
            "orders",
            "bindings: [{source: amq.topic, routingKey: a}, {source: not.there, routingKey: b}]",
        )
        .await;
        until("the first binding is made and the second is not", async || {
            let queue: Queue = w.get("orders").await;
            let bindings = mq.bindings("orders").await;
            let waits = queue.condition("Ready").is_some_and(|ready| ready.status == "False");
            if waits && bindings == ["amq.topic|a"] { Ok(()) } else { Err(format!("{bindings:?}")) }
        })
        .await;
        w.queue("orders", "bindings: [{source: amq.direct, routingKey: b}]").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.bindings("orders").await, ["amq.direct|b"]);
    });
}
