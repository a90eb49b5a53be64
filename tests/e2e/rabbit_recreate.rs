//! A setting that RabbitMQ fixes at declaration changes: refused, or the queue is made anew while it is empty.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_operator::api::{Broker, Exchange, Queue};

use crate::bed::{
    Fate, Object as _, Operator, Rabbit, RabbitAddress, Request, Side, Site, World, bare_world, meanwhile,
    never_within, rabbit_yaml, world,
};

const WAS: &str = "onImmutableChange: RecreateIfEmpty\ndeletionPolicy: Retain\nbindings: [{source: amq.topic, routingKey: ours}]";
const IS: &str = "onImmutableChange: RecreateIfEmpty\nsingleActiveConsumer: true\ndeletionPolicy: Retain\nbindings: [{source: amq.topic, routingKey: ours}]";

/// A queue with a binding of its own, one that a person made, and one with arguments.
async fn bound_queue(w: &World) {
    w.rabbit("").await;
    w.queue("orders", WAS).await;
    w.ready::<Queue>("orders").await;
    let mq = w.mq().await;
    mq.bind("amq.topic", "orders", "theirs.*", json!({})).await;
    mq.bind("amq.headers", "orders", "", json!({"x-match": "all", "size": 5})).await;
}

async fn is_new(w: &World) {
    w.ready::<Queue>("orders").await;
    let mq = w.mq().await;
    assert_eq!(mq.the_queue("orders").await["arguments"]["x-single-active-consumer"], true);
    assert_eq!(
        mq.bindings("orders").await,
        ["amq.headers||{\"size\":5,\"x-match\":\"all\"}", "amq.topic|ours", "amq.topic|theirs.*"]
    );
    let queue: Queue = w
        .until("orders", "nothing is pending any more", |queue: &Queue| {
            queue.status.as_ref().is_some_and(|status| status.pending.is_none())
        })
        .await;
    assert!(queue.condition("DataLost").is_none_or(|lost| lost.status == "False"), "{}", queue.summary());
}

/// Nothing happens to the queue for longer than it takes to look twice.
async fn is_left_alone(w: &World, messages: u32) {
    let (mq, amqp) = (w.mq().await, w.amqp().await);
    never_within(Duration::from_secs(17), "the queue stays as it is", async || {
        let queue = mq.the_queue("orders").await;
        if queue["arguments"]["x-single-active-consumer"] != Value::Null {
            return Err(queue.to_string());
        }
        match amqp.depth("orders").await {
            Some((ready, _)) if ready == messages => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[test]
fn without_leave_a_fixed_setting_is_refused_in_words_and_nothing_changes() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "").await;
        w.ready::<Queue>("orders").await;
        w.queue("orders", "singleActiveConsumer: true\nmaxLength: 5").await;
        let queue: Queue = w.condition("orders", "Ready", "False", "Immutable").await;
        assert!(queue.message("Ready").contains("single-active-consumer"), "{}", queue.summary());
        w.condition::<Queue>("orders", "Stalled", "True", "").await;
        let mq = w.mq().await;
        assert_eq!(mq.the_queue("orders").await["arguments"], json!({"x-queue-type": "quorum"}));
        w.queue("orders", "maxLength: 5").await;
        w.ready::<Queue>("orders").await;
    });
}

#[test]
fn an_empty_queue_is_made_anew_with_all_its_bindings_other_peoples_too() {
    world(async |w| {
        bound_queue(w).await;
        w.queue("orders", IS).await;
        is_new(w).await;
    });
}

#[test]
fn a_queue_with_a_message_is_not_made_anew_until_the_message_is_gone() {
    world(async |w| {
        bound_queue(w).await;
        let mq = w.mq().await;
        mq.publish("", "orders", "precious").await;
        mq.until_counted("orders", 1).await;
        w.queue("orders", IS).await;
        let queue: Queue = w.condition("orders", "Ready", "False", "NotRecreated").await;
        assert!(queue.message("Ready").contains("1 message"), "{}", queue.summary());
        is_left_alone(w, 1).await;
        assert_eq!(mq.take("orders").await.as_deref(), Some("precious"));
        is_new(w).await;
    });
}

#[test]
fn a_message_that_was_published_a_moment_ago_is_not_overlooked() {
    world(async |w| {
        bound_queue(w).await;
        let mq = w.mq().await;
        // RabbitMQ's figures are seconds old: they still say that the queue is empty.
        mq.publish("", "orders", "precious").await;
        w.queue("orders", IS).await;
        w.condition::<Queue>("orders", "Ready", "False", "NotRecreated").await;
        is_left_alone(w, 1).await;
        assert_eq!(mq.take("orders").await.as_deref(), Some("precious"));
    });
}

#[test]
fn a_queue_with_a_consumer_is_not_made_anew_until_the_consumer_is_gone() {
    world(async |w| {
        bound_queue(w).await;
        let amqp = w.amqp().await;
        let consumer = amqp.consumer("orders").await;
        w.queue("orders", IS).await;
        let queue: Queue = w.condition("orders", "Ready", "False", "NotRecreated").await;
        assert!(queue.message("Ready").contains("consumer"), "{}", queue.summary());
        is_left_alone(w, 0).await;
        consumer.leave().await;
        is_new(w).await;
    });
}

#[test]
fn settings_by_arguments_change_by_making_the_queue_anew() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.queue(
            "orders",
            "type: classic\napplyVia: Arguments\nmaxLength: 5\nonImmutableChange: RecreateIfEmpty",
        )
        .await;
        w.ready::<Queue>("orders").await;
        w.queue(
            "orders",
            "type: classic\napplyVia: Arguments\nmaxLength: 6\nonImmutableChange: RecreateIfEmpty",
        )
        .await;
        mq.until_queue("orders", "has the new limit", |queue| queue["arguments"]["x-max-length"] == 6).await;
        w.ready::<Queue>("orders").await;
    });
}

#[test]
fn arguments_give_way_to_a_policy_by_making_the_queue_anew() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.queue(
            "orders",
            "type: classic\napplyVia: Arguments\nmaxLength: 6\nonImmutableChange: RecreateIfEmpty",
        )
        .await;
        w.ready::<Queue>("orders").await;
        w.queue("orders", "type: classic\nmaxLength: 7\nonImmutableChange: RecreateIfEmpty").await;
        mq.until_policy("spillway.q.orders", "has the new limit", |policy| {
            policy["definition"]["max-length"] == 7
        })
        .await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.the_queue("orders").await["arguments"]["x-max-length"], Value::Null);
    });
}

#[test]
fn a_queue_that_was_there_and_is_not_ours_is_never_deleted_to_be_made_anew() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({"x-queue-type": "classic", "x-max-priority": 5})).await;
        w.queue(
            "orders",
            "type: classic\nmaxPriority: 6\nonImmutableChange: RecreateIfEmpty\nadoption: Adopt",
        )
        .await;
        // `Adopt` is no leave to destroy: that takes an approval of its own.
        let queue: Queue = w.condition("orders", "Ready", "False", "").await;
        let ready = queue.condition("Ready").expect("Ready");
        assert!(ready.reason == "ApprovalNeeded" && ready.message.contains("delete"), "{}", queue.summary());
        never_within(Duration::from_secs(17), "the queue stays as it is", async || {
            let queue = mq.the_queue("orders").await;
            if queue["arguments"]["x-max-priority"] == 5 { Ok(()) } else { Err(queue.to_string()) }
        })
        .await;
    });
}

/// A queue that is about to be made anew, and what somebody does to it after the plan and before its deletion.
async fn made_anew_while(
    w: &World,
    somebody: impl AsyncFn(Rabbit) + Send + Sync + 'static,
) -> (Site<'_>, Arc<Operator>) {
    let site = Site::new(w).await;
    let operator = site.start().await;
    let mq = w.mq().await;
    w.login("rabbitmq").await;
    w.apply(&rabbit_yaml("").replace("${RABBITMQ}", &site.rabbitmq.url())).await;
    w.queue("orders", WAS).await;
    w.ready::<Queue>("orders").await;
    let vhost = mq.vhost.clone();
    site.cut.arm(&operator, move |request: &Request| {
        // The policy comes first, long after the queue and its bindings were looked at.
        if request.what.starts_with("PUT ") && request.what.contains("/policies/") {
            meanwhile(async || {
                somebody(Rabbit::with_vhost(&RabbitAddress::of_the_bed(), &vhost).await).await;
            });
        }
        Fate::Pass
    });
    w.queue("orders", &format!("{IS}\nmaxLength: 5")).await;
    (site, operator)
}

#[test]
fn a_message_that_comes_between_the_second_look_and_the_deletion_is_not_lost() {
    bare_world(async |w| {
        let (site, _operator) = made_anew_while(w, async |mq: Rabbit| {
            assert!(mq.publish("", "orders", "precious").await, "it is routed");
        })
        .await;
        w.until("orders", "the message keeps the queue", |queue: &Queue| {
            queue
                .condition("Ready")
                .is_some_and(|ready| ready.reason == "NotRecreated" && ready.message.contains("1 message"))
        })
        .await;
        let mq = w.mq().await;
        assert_eq!(mq.take("orders").await.as_deref(), Some("precious"));
        site.cut.disarm();
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.the_queue("orders").await["arguments"]["x-single-active-consumer"], true);
    });
}

#[test]
fn a_binding_that_was_made_after_the_plan_went_with_the_old_queue() {
    bare_world(async |w| {
        let late = async |mq: Rabbit| mq.bind("amq.topic", "orders", "late", json!({})).await;
        let (site, _operator) = made_anew_while(w, late).await;
        w.ready::<Queue>("orders").await;
        site.cut.disarm();
        let mq = w.mq().await;
        assert_eq!(mq.the_queue("orders").await["arguments"]["x-single-active-consumer"], true);
        assert_eq!(mq.bindings("orders").await, ["amq.topic|late", "amq.topic|ours"]);
    });
}

#[test]
fn what_deletes_an_object_without_its_cr_is_no_way_around_a_rule_that_permits_retain_only() {
    world(async |w| {
        let rule = |policies: &str| {
            format!("rules: [{{namespaces: ['*'], names: ['*'], deletionPolicies: [{policies}]}}]")
        };
        w.rabbit("").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        let recreates = "onImmutableChange: RecreateIfEmpty";
        w.queue("orders", recreates).await;
        w.queue("bills", "maxLength: 5").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Queue>("bills").await;
        mq.publish("", "bills", "precious").await;
        w.rabbit(&rule("Retain")).await;

        w.queue("orders", &format!("{recreates}\nsingleActiveConsumer: true")).await;
        // RabbitMQ would delete it with its message.
        w.queue("bills", "maxLength: 5\nexpires: 100ms").await;
        w.exchange("events", "type: topic\nautoDelete: true").await;
        for (name, word) in [("orders", "RecreateIfEmpty"), ("bills", "expires")] {
            let queue: Queue = w.condition(name, "Ready", "False", "RuleViolated").await;
            assert!(queue.message("Ready").contains(word), "{}", queue.summary());
        }
        let events: Exchange = w.condition("events", "Ready", "False", "RuleViolated").await;
        assert!(events.message("Ready").contains("autoDelete"), "{}", events.summary());
        never_within(Duration::from_secs(2), "the queues stay as they are", async || {
            match (amqp.depth("bills").await, amqp.depth("orders").await) {
                (Some((1, _)), Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert_eq!(mq.the_queue("orders").await["arguments"]["x-single-active-consumer"], Value::Null);
        assert_eq!(mq.exchanges().await, [""; 0]);

        // Each is permitted with the deletion policy that goes as far.
        w.rabbit(&rule("Retain, DeleteIfEmpty")).await;
        w.ready::<Exchange>("events").await;
        w.until("orders", "it may be made anew", |queue: &Queue| {
            queue.condition("Ready").is_some_and(|ready| ready.reason != "RuleViolated")
        })
        .await;
        w.condition::<Queue>("bills", "Ready", "False", "RuleViolated").await;
        amqp.until_ready("bills", 1).await;
        w.queue("bills", "maxLength: 5\nexpires: 1h").await;
        w.rabbit(&rule("Retain, Delete")).await;
        w.ready::<Queue>("bills").await;
        mq.until_policy("spillway.q.bills", "expires", |policy| policy["definition"]["expires"] == 3_600_000)
            .await;
    });
}

#[test]
fn a_queue_is_not_made_anew_while_an_exchange_would_go_with_it() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.queue("orders", "onImmutableChange: RecreateIfEmpty").await;
        w.ready::<Queue>("orders").await;
        mq.declare_fleeting_exchange("fleeting").await;
        mq.bind("fleeting", "orders", "theirs", json!({})).await;
        w.queue("orders", "onImmutableChange: RecreateIfEmpty\nsingleActiveConsumer: true").await;
        let told = w
            .until("orders", "it says why", |queue: &Queue| {
                queue.message("Ready").contains("exchange \"fleeting\" is auto-delete")
            })
            .await;
        assert_eq!(told.condition("Ready").expect("a condition").reason, "NotRecreated");
        assert_eq!(mq.bindings("orders").await, ["fleeting|theirs"]);
        assert!(mq.the_queue("orders").await["arguments"].get("x-single-active-consumer").is_none());
        // Once the binding is gone, nothing stands in the way.
        mq.unbind("fleeting", "orders", "theirs").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.the_queue("orders").await["arguments"]["x-single-active-consumer"], true);
    });
}

#[test]
fn a_queue_that_was_about_to_be_made_anew_and_may_not_be_is_told_when_it_is_lost() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let victim = site.start().await;
        w.rabbit_at(&site.rabbitmq.url(), "").await;
        w.ready::<Broker>("rabbitmq").await;
        w.queue("orders", WAS).await;
        w.ready::<Queue>("orders").await;
        let mq = w.mq().await;
        mq.bind("amq.topic", "orders", "theirs.*", json!({})).await;
        site.cut.arm(&victim, |request| {
            let deletes = request.side == Side::RabbitMq && request.what.starts_with("DELETE /api/queues/");
            if deletes { Fate::KillBefore } else { Fate::Pass }
        });
        w.queue("orders", IS).await;
        site.cut.death().await;
        site.cut.disarm();
        mq.publish("", "orders", "precious").await;
        site.start().await;
        w.condition::<Queue>("orders", "Ready", "False", "NotRecreated").await;
        w.until("orders", "nothing is under way any more", |queue: &Queue| {
            queue.status.as_ref().is_some_and(|status| status.pending.is_none())
        })
        .await;
        mq.delete_queue("orders").await;
        w.annotate::<Queue>("orders", "spillway.dev/reconcile", Some("now")).await;
        w.condition::<Queue>("orders", "DataLost", "True", "").await;
        w.ready::<Queue>("orders").await;
    });
}
