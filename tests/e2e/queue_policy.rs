//! Policies that other people wrote, operator policies and arguments: what wins, and what is told.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_operator::api::Queue;

use crate::bed::{Object as _, never_within, world};

#[test]
fn a_persons_policy_is_displaced_and_its_keys_are_carried_over_and_followed() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s").await;
        let mq = w.mq().await;
        mq.put_policy("theirs", "^ord", 7, json!({"max-length": 1000, "message-ttl": 60_000})).await;
        w.queue("orders", "messageTtl: 30s").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.the_queue("orders").await["policy"], "spillway.q.orders");
        mq.until_effective("orders", &json!({"max-length": 1000, "message-ttl": 30_000})).await;

        mq.put_policy("theirs", "^ord", 7, json!({"max-length": 500})).await;
        mq.until_policy("spillway.q.orders", "follows the policy that it took the place of", |policy| {
            policy["definition"] == json!({"max-length": 500, "message-ttl": 30_000})
        })
        .await;

        mq.delete_policy("theirs").await;
        mq.until_policy("spillway.q.orders", "has its own keys only", |policy| {
            policy["definition"] == json!({"message-ttl": 30_000})
        })
        .await;
        w.ready::<Queue>("orders").await;
    });
}

/// `\Q…\E` and `\h` are PCRE's own: whether such a policy applies only RabbitMQ can tell, and only of a queue that is there.
#[test]
fn the_dead_letters_of_a_policy_whose_pattern_is_beyond_us_are_not_lost_to_ours() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s").await;
        let mq = w.mq().await;
        let theirs = json!({"dead-letter-exchange": "dlx", "max-length-bytes": 1000});
        mq.put_policy("theirs", r"^\Qord.\E", 7, theirs).await;
        mq.put_policy("spaces", r"^h\h$", 7, json!({"message-ttl": 1000})).await;
        w.queue("ord.x", "maxLength: 10").await;
        w.queue("ha", "maxLength: 10").await;
        w.ready::<Queue>("ord.x").await;
        w.ready::<Queue>("ha").await;
        let all = json!({"dead-letter-exchange": "dlx", "max-length-bytes": 1000, "max-length": 10});
        assert_eq!(mq.policy("spillway.q.ord.x").await.unwrap_or_default()["definition"], all);
        assert_eq!(
            mq.policy("spillway.q.ha").await.unwrap_or_default()["definition"],
            json!({"max-length": 10})
        );
        mq.until_effective("ord.x", &all).await;
    });
}

#[test]
fn a_policy_that_already_gives_what_is_wanted_is_left_in_force() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.put_policy("theirs", "^orders$", 0, json!({"max-length": 1000})).await;
        w.queue("orders", "maxLength: 1000").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.the_queue("orders").await["policy"], "theirs");
        assert_eq!(mq.policies().await, ["theirs"]);
    });
}

#[test]
fn the_policy_that_would_be_displaced_is_shown_in_the_plan_of_a_queue_that_was_there() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s").await;
        let mq = w.mq().await;
        mq.declare_queue("orders", json!({"x-queue-type": "quorum"})).await;
        mq.put_policy("theirs", "^ord", 7, json!({"max-length": 1000})).await;
        w.queue("orders", "messageTtl: 30s").await;
        // A policy that is a second old may not be seen at first.
        let queue: Queue = w
            .until("orders", "the plan shows what it takes the place of", |queue: &Queue| {
                let plan = queue.status.iter().flat_map(|status| &status.plan);
                let shown = |step: &String| step.contains("\"theirs\"") && step.contains("max-length=1000");
                plan.filter(|step| shown(step)).count() == 1
            })
            .await;
        assert_eq!(queue.condition("Ready").map(|ready| ready.reason.as_str()), Some("ApprovalNeeded"));
        let status = queue.status.expect("a status");
        assert_eq!(status.plan.len(), 1, "{:?}", status.plan);
        assert_eq!(mq.policies().await, ["theirs"]);

        let hash = status.plan_hash.expect("a hash");
        w.annotate::<Queue>("orders", "spillway.dev/approve-plan", Some(&hash)).await;
        w.ready::<Queue>("orders").await;
        mq.until_effective("orders", &json!({"max-length": 1000, "message-ttl": 30_000})).await;
    });
}

#[test]
fn a_persons_policy_with_a_higher_priority_wins_is_named_and_is_not_fought() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s").await;
        let mq = w.mq().await;
        mq.put_policy("theirs", "^orders$", 200, json!({"max-length": 3})).await;
        w.queue("orders", "messageTtl: 30s\nmaxLength: 10").await;
        let queue: Queue = w.condition("orders", "Ready", "False", "PolicyShadowed").await;
        let words = queue.message("Ready");
        assert!(words.contains("\"theirs\"") && words.contains("200"), "{words}");
        never_within(Duration::from_secs(12), "their policy stays in force", async || {
            let queue = mq.the_queue("orders").await;
            let theirs = mq.policy("theirs").await.unwrap_or_default();
            if queue["policy"] == "theirs" && theirs["priority"] == 200 {
                Ok(())
            } else {
                Err(queue.to_string())
            }
        })
        .await;
        mq.put_policy("theirs", "^orders$", 99, json!({"max-length": 3})).await;
        w.ready::<Queue>("orders").await;
        mq.until_effective("orders", &json!({"max-length": 10, "message-ttl": 30_000})).await;
    });
}

#[test]
fn an_operator_policy_that_limits_a_queue_is_named() {
    world(async |w| {
        w.rabbit("resyncInterval: 5s").await;
        let mq = w.mq().await;
        mq.put_operator_policy("house rules", "^orders$", json!({"max-length": 5})).await;
        w.queue("orders", "maxLength: 10").await;
        let queue: Queue = w.condition("orders", "Ready", "False", "PolicyShadowed").await;
        assert!(queue.message("Ready").contains("house rules"), "{}", queue.summary());
        mq.until_effective("orders", &json!({"max-length": 5})).await;
        // Below the operator's limit, the queue's own word counts.
        w.queue("orders", "maxLength: 4").await;
        w.ready::<Queue>("orders").await;
        w.queue("orders", "maxLength: 10").await;
        w.condition::<Queue>("orders", "Ready", "False", "PolicyShadowed").await;
        mq.delete_operator_policy("house rules").await;
        w.ready::<Queue>("orders").await;
    });
}

#[test]
fn a_policy_with_a_key_that_the_type_does_not_know_is_not_in_force_and_not_carried_over() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.put_policy("for quorum", ".*", 7, json!({"max-length": 1000, "delivery-limit": 3})).await;
        w.queue("orders", "type: classic\nmessageTtl: 30s").await;
        w.ready::<Queue>("orders").await;
        let policy = mq.policy("spillway.q.orders").await.expect("a policy");
        assert_eq!(policy["definition"], json!({"message-ttl": 30_000}));
        w.queue("bills", "messageTtl: 30s").await;
        w.ready::<Queue>("bills").await;
        let policy = mq.policy("spillway.q.bills").await.expect("a policy");
        assert_eq!(
            policy["definition"],
            json!({"message-ttl": 30_000, "max-length": 1000, "delivery-limit": 3})
        );
    });
}

#[test]
fn an_argument_that_an_application_declared_wins_and_is_named() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        let arguments =
            json!({"x-queue-type": "quorum", "x-max-length": 5, "x-dead-letter-exchange": "theirs"});
        mq.declare_queue("orders", arguments.clone()).await;
        w.queue("orders", "adoption: Adopt\nmaxLength: 10\nmessageTtl: 30s\ndeadLetter: {exchange: ours}")
            .await;
        let queue: Queue = w.condition("orders", "Ready", "False", "ArgumentOverrides").await;
        let words = queue.message("Ready");
        assert!(words.contains("x-max-length=5"), "{words}");
        assert!(words.contains("x-dead-letter-exchange=theirs"), "{words}");
        assert_eq!(mq.the_queue("orders").await["arguments"], arguments);
        // What can be in force is.
        let policy = mq.policy("spillway.q.orders").await.expect("a policy");
        assert_eq!(policy["definition"]["message-ttl"], 30_000);

        w.queue("orders", "adoption: Adopt\nmaxLength: 5\nmessageTtl: 30s\ndeadLetter: {exchange: theirs}")
            .await;
        w.ready::<Queue>("orders").await;
    });
}

#[test]
fn a_queue_that_was_there_is_never_declared_again_with_other_arguments() {
    world(async |w| {
        w.rabbit("").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        mq.declare_queue("typed", json!({"x-queue-type": "classic"})).await;
        mq.declare_queue("ranked", json!({"x-queue-type": "classic", "x-max-priority": 5})).await;
        mq.publish("", "typed", "precious").await;
        w.queue("typed", "adoption: Adopt\nmaxLength: 5").await;
        w.queue("ranked", "type: classic\nmaxPriority: 10\nadoption: Adopt").await;
        for (name, words) in [("typed", "classic"), ("ranked", "max-priority")] {
            let queue: Queue = w.condition(name, "Ready", "False", "Immutable").await;
            assert!(queue.message("Ready").contains(words), "{}", queue.summary());
            w.condition::<Queue>(name, "Stalled", "True", "").await;
        }
        assert_eq!(mq.the_queue("typed").await["type"], "classic");
        assert_eq!(mq.the_queue("ranked").await["arguments"]["x-max-priority"], 5);
        assert_eq!(mq.policies().await, [""; 0], "nothing was changed");
        assert_eq!(amqp.depth("typed").await.map(|depth| depth.0), Some(1));
    });
}

#[test]
fn a_queue_without_settings_needs_no_policy_whatever_others_wrote() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.put_policy("theirs", ".*", 200, json!({"max-length": 3})).await;
        w.queue("orders", "").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.the_queue("orders").await["policy"], "theirs");
        assert_eq!(mq.policies().await, ["theirs"]);
        assert_ne!(mq.the_queue("orders").await, Value::Null);
    });
}
