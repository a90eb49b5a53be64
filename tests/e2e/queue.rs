//! Queues: made as declared, each field read back from RabbitMQ itself, refused in the right words.

use serde_json::{Value, json};
use spillway_operator::api::Queue;

use crate::bed::{Object as _, queue_yaml, until, world};

#[test]
fn a_queue_of_each_type_is_made_durable_and_without_a_policy() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("default", "").await;
        for kind in ["quorum", "classic", "stream"] {
            w.queue(kind, &format!("type: {kind}")).await;
        }
        w.queue("volatile", "type: classic\ndurable: false").await;
        let mq = w.mq().await;
        for (name, kind, durable) in [
            ("default", "quorum", true),
            ("quorum", "quorum", true),
            ("classic", "classic", true),
            ("stream", "stream", true),
            ("volatile", "classic", false),
        ] {
            let queue: Queue = w.ready(name).await;
            let status = queue.status.expect("a status");
            assert_eq!(status.plan, [""; 0]);
            assert!(status.owned_since.is_some());
            let seen = mq.the_queue(name).await;
            assert_eq!(json!([seen["type"], seen["durable"]]), json!([kind, durable]), "{name}");
            assert_eq!(seen["arguments"]["x-queue-type"], kind, "{name}");
            assert_eq!(seen["policy"], Value::Null, "{name}");
        }
        assert_eq!(mq.policies().await, [""; 0]);
        w.event::<Queue>("quorum", "Declared").await;
    });
}

/// Every field that a policy can bring, and what RabbitMQ calls it; by type.
fn live_fields(kind: &str) -> (&'static str, Value) {
    match kind {
        "quorum" => (
            "maxLength: 1000\nmaxLengthBytes: 100Mi\noverflow: reject-publish\nmessageTtl: 30s\nexpires: 1h\ndeliveryLimit: 7\nconsumerTimeout: 5m\ndeadLetter: {exchange: dead, routingKey: letters, strategy: AtLeastOnce}",
            json!({
                "max-length": 1000, "max-length-bytes": 104_857_600, "overflow": "reject-publish",
                "message-ttl": 30_000, "expires": 3_600_000, "delivery-limit": 7,
                "consumer-timeout": 300_000, "dead-letter-exchange": "dead",
                "dead-letter-routing-key": "letters", "dead-letter-strategy": "at-least-once",
            }),
        ),
        "classic" => (
            "maxLength: 0\nmaxLengthBytes: 5k\noverflow: reject-publish-dlx\nmessageTtl: 0s\nexpires: 90m\nconsumerTimeout: 5m\ndeadLetter: {exchange: dead}",
            json!({
                "max-length": 0, "max-length-bytes": 5000, "overflow": "reject-publish-dlx",
                "message-ttl": 0, "expires": 5_400_000, "consumer-timeout": 300_000,
                "dead-letter-exchange": "dead",
            }),
        ),
        _ => (
            "maxLengthBytes: 5Gi\nmaxAge: 168h\nmaxSegmentSize: 50M",
            json!({
                "max-length-bytes": 5_368_709_120_i64, "max-age": "604800s",
                "stream-max-segment-size-bytes": 50_000_000,
            }),
        ),
    }
}

#[test]
fn every_live_field_reaches_a_queue_of_each_type_by_a_policy_that_rabbitmq_applies() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        for (kind, apply_to) in
            [("quorum", "quorum_queues"), ("classic", "classic_queues"), ("stream", "streams")]
        {
            let (fields, definition) = live_fields(kind);
            w.queue(kind, &format!("type: {kind}\n{fields}")).await;
            w.ready::<Queue>(kind).await;
            let seen = mq.the_queue(kind).await;
            assert_eq!(seen["policy"], format!("spillway.q.{kind}"));
            assert_eq!(seen["arguments"], json!({"x-queue-type": kind}));
            let policy = mq.policy(&format!("spillway.q.{kind}")).await.expect("a policy");
            assert_eq!(policy["apply-to"], apply_to);
            assert_eq!(policy["pattern"], format!("^{kind}$"));
            assert_eq!(policy["priority"], 100);
            assert_eq!(policy["definition"], definition);
        }
        for kind in ["quorum", "classic", "stream"] {
            mq.until_effective(kind, &live_fields(kind).1).await;
        }
    });
}

#[test]
fn every_live_field_reaches_a_queue_of_each_type_by_arguments_when_it_says_so() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        for kind in ["quorum", "classic", "stream"] {
            let (fields, definition) = live_fields(kind);
            w.queue(kind, &format!("type: {kind}\napplyVia: Arguments\n{fields}")).await;
            w.ready::<Queue>(kind).await;
            let mut expected = json!({"x-queue-type": kind});
            for (key, value) in definition.as_object().expect("a map") {
                expected[format!("x-{key}")] = value.clone();
            }
            assert_eq!(mq.the_queue(kind).await["arguments"], expected, "{kind}");
        }
        assert_eq!(mq.policies().await, [""; 0]);
    });
}

#[test]
fn fields_that_are_fixed_at_declaration_become_arguments() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("classic", "type: classic\nmaxPriority: 10\nsingleActiveConsumer: true").await;
        w.queue("quorum", "singleActiveConsumer: true\narguments: {x-quorum-initial-group-size: 1}").await;
        w.queue("stream", "type: stream\nleaderLocator: balanced\ninitialGroupSize: 1").await;
        let mq = w.mq().await;
        for (name, arguments) in [
            ("classic", json!({"x-max-priority": 10, "x-single-active-consumer": true})),
            ("quorum", json!({"x-single-active-consumer": true, "x-quorum-initial-group-size": 1})),
            ("stream", json!({"x-queue-leader-locator": "balanced", "x-initial-cluster-size": 1})),
        ] {
            w.ready::<Queue>(name).await;
            let mut expected = arguments;
            expected["x-queue-type"] = json!(name);
            assert_eq!(mq.the_queue(name).await["arguments"], expected);
        }
    });
}

#[test]
fn limits_change_while_the_queue_lives_and_keep_its_messages() {
    world(async |w| {
        w.rabbit("").await;
        let (mq, amqp) = (w.mq().await, w.amqp().await);
        w.queue("orders", "messageTtl: 1h\nmaxLength: 1000\nconsumerTimeout: 10m").await;
        w.ready::<Queue>("orders").await;
        for n in 0..5 {
            assert!(mq.publish("", "orders", &format!("message {n}")).await);
        }
        amqp.until_ready("orders", 5).await;

        w.queue("orders", "messageTtl: 2h\nmaxLength: 3").await;
        w.ready::<Queue>("orders").await;
        let policy = mq.policy("spillway.q.orders").await.expect("a policy");
        assert_eq!(policy["definition"], json!({"message-ttl": 7_200_000, "max-length": 3}));
        amqp.until_ready("orders", 3).await;
        assert_eq!(mq.take("orders").await.as_deref(), Some("message 2"), "the oldest two were pushed out");

        w.queue("orders", "").await;
        w.ready::<Queue>("orders").await;
        assert_eq!(mq.policies().await, [""; 0], "nothing needs the policy any more");
        amqp.until_ready("orders", 2).await;
        let queue: Queue = w.get("orders").await;
        assert_eq!(queue.message("DataLost"), "");
    });
}

#[test]
fn what_cannot_be_a_queue_is_refused_at_admission() {
    world(async |w| {
        let stream = "a stream takes maxLengthBytes, maxAge";
        let streams_only = "maxAge, maxSegmentSize, leaderLocator and initialGroupSize are for streams";
        for (spec, words) in [
            ("durable: false", "only a classic queue may be durable: false"),
            ("maxPriority: 5", "maxPriority is for classic queues"),
            ("type: classic\ndeliveryLimit: 5", "deliveryLimit is for quorum queues"),
            ("type: stream\nmaxLength: 5", stream),
            ("type: stream\noverflow: drop-head", stream),
            ("type: stream\nmessageTtl: 5s", stream),
            ("type: stream\nexpires: 5s", stream),
            ("type: stream\nsingleActiveConsumer: true", stream),
            ("type: stream\nconsumerTimeout: 5m", stream),
            ("type: stream\ndeadLetter: {}", stream),
            ("type: stream\nretry: {delays: [1s]}", stream),
            ("maxAge: 5h", streams_only),
            ("maxSegmentSize: 5M", streams_only),
            ("leaderLocator: balanced", streams_only),
            ("type: classic\ninitialGroupSize: 1", streams_only),
            ("overflow: reject-publish-dlx", "reject-publish-dlx is for classic queues"),
            ("deadLetter: {strategy: AtLeastOnce}", "needs a quorum queue with overflow: reject-publish"),
            (
                "type: classic\noverflow: reject-publish\ndeadLetter: {strategy: AtLeastOnce}",
                "needs a quorum queue with overflow: reject-publish",
            ),
            ("type: stream\nonImmutableChange: RecreateIfEmpty", "a stream is never recreated"),
            ("deadLetter: {queue: a, exchange: b}", "set queue or exchange, not both"),
            ("deadLetter: {routingKey: a}", "routingKey belongs to exchange"),
            ("bindings: [{routingKey: a}]", "exactly one of source and sourceRef"),
            ("bindings: [{source: a, sourceRef: {name: a}}]", "exactly one of source and sourceRef"),
            ("name: amq.mine", "names that begin with amq. are RabbitMQ's own"),
            ("expires: 0s", "expires must be at least 1ms"),
            ("type: stream\nmaxAge: 500ms", "maxAge must be at least 1s"),
            ("maxLength: -1", "spec.maxLength"),
            ("deliveryLimit: -2", "spec.deliveryLimit"),
            ("type: classic\nmaxPriority: 256", "spec.maxPriority"),
            ("maxLengthBytes: 5MB", "spec.maxLengthBytes"),
            ("type: lazy", "spec.type"),
            ("retry: {delays: []}", "spec.retry.delays"),
        ] {
            let said = w.refused(&queue_yaml("orders", spec)).await;
            assert!(said.contains(words), "{spec}: {said}");
        }
    });
}

#[test]
fn what_identifies_a_queue_cannot_be_changed() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "name: o").await;
        w.ready::<Queue>("orders").await;
        for (spec, words) in [
            ("name: p", "name is immutable"),
            ("", "name is immutable"),
            ("name: o\ntype: classic", "type is immutable"),
            ("name: o\nvhost: other", "vhost is immutable"),
        ] {
            let said = w.refused(&queue_yaml("orders", spec)).await;
            assert!(said.contains(words), "{spec}: {said}");
        }
        let moved = queue_yaml("orders", "name: o").replace("{name: rabbitmq}", "{name: other}");
        let said = w.refused(&moved).await;
        assert!(said.contains("brokerRef is immutable"), "{said}");
    });
}

#[test]
fn an_argument_that_repeats_a_field_is_refused_before_the_first_write() {
    world(async |w| {
        w.rabbit("").await;
        let typed = [
            ("x-queue-type", "stream"),
            ("x-max-length", "5"),
            ("x-message-ttl", "5"),
            ("x-dead-letter-exchange", "''"),
            ("x-single-active-consumer", "true"),
        ];
        for (n, (argument, value)) in typed.iter().enumerate() {
            w.queue(&format!("q{n}"), &format!("arguments: {{{argument}: {value}}}")).await;
        }
        w.queue("nothing", "arguments: {x-nothing: null}").await;
        let nothing: Queue = w.condition("nothing", "Ready", "False", "InvalidSpec").await;
        assert!(nothing.message("Ready").contains("null"), "{}", nothing.summary());
        for (n, (argument, _)) in typed.iter().enumerate() {
            let queue: Queue = w.condition(&format!("q{n}"), "Ready", "False", "InvalidSpec").await;
            assert!(queue.message("Ready").contains(argument), "{}", queue.summary());
            assert_eq!(queue.condition("Stalled").map(|stalled| stalled.status.as_str()), Some("True"));
        }
        assert_eq!(w.mq().await.queues().await, [""; 0]);
    });
}

#[test]
fn an_argument_that_rabbitmq_refuses_is_told_in_its_words() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "arguments: {x-quorum-initial-group-size: many}").await;
        let queue: Queue = w.condition("orders", "Ready", "False", "BrokerRefused").await;
        assert!(queue.message("Ready").contains("x-quorum-initial-group-size"), "{}", queue.summary());
        w.condition::<Queue>("orders", "Stalled", "True", "").await;
        w.queue("orders", "arguments: {x-quorum-initial-group-size: 1}").await;
        w.ready::<Queue>("orders").await;
    });
}

#[test]
fn names_with_blanks_slashes_percents_umlauts_and_regex_characters_work_end_to_end() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        let names = ["a b", "a/b", "a%2Fb", "größe", "a.b*c", "a+(b)[c]{1}|^$?", "#\\", "ä/ %ü.*", "~"];
        for (n, name) in names.iter().enumerate() {
            let quoted = serde_json::to_string(name).expect("a text");
            let other = serde_json::to_string(names[(n + 1) % names.len()]).expect("a text");
            w.exchange(&format!("x{n}"), &format!("name: {quoted}\ntype: topic\nalternateExchange: {other}"))
                .await;
            w.queue(
                &format!("q{n}"),
                &format!(
                    "name: {quoted}\nmaxLength: {}\nbindings: [{{source: {quoted}, routingKey: {quoted}}}]",
                    n + 5
                ),
            )
            .await;
        }
        // A pattern that is not escaped or not anchored would catch these.
        for name in ["aXbbbc", "a.b*cd", "xa.b*c", "a  b", "a%252Fb"] {
            mq.declare_queue(name, json!({"x-queue-type": "quorum"})).await;
        }
        for (n, name) in names.iter().enumerate() {
            w.ready::<Queue>(&format!("q{n}")).await;
            w.ready::<spillway_operator::api::Exchange>(&format!("x{n}")).await;
            assert_eq!(mq.the_queue(name).await["policy"], format!("spillway.q.{name}"));
            let policy = mq.policy(&format!("spillway.q.{name}")).await.expect("a policy");
            assert_eq!(policy["definition"]["max-length"], n + 5, "{name}");
            assert_eq!(mq.bindings(name).await, [format!("{name}|{name}")]);
            assert!(mq.publish(name, name, name).await || name.contains(['*', '#']), "{name}");
        }
        for name in ["aXbbbc", "a.b*cd", "xa.b*c", "a  b", "a%252Fb"] {
            assert_eq!(mq.the_queue(name).await["policy"], Value::Null, "{name}");
        }
        for n in 0..names.len() {
            w.delete::<Queue>(&format!("q{n}")).await;
            w.until_gone::<Queue>(&format!("q{n}")).await;
        }
    });
}

#[test]
fn a_name_that_no_request_can_carry_or_that_is_too_long_is_refused() {
    world(async |w| {
        w.rabbit("").await;
        let long = "ü".repeat(128);
        for (n, name) in ["..", ".", "a\\nb", long.as_str()].iter().enumerate() {
            w.queue(&format!("q{n}"), &format!("name: \"{name}\"")).await;
        }
        for n in 0..4 {
            let queue: Queue = w.condition(&format!("q{n}"), "Ready", "False", "").await;
            let reason = &queue.condition("Ready").expect("Ready").reason;
            assert!(matches!(reason.as_str(), "InvalidSpec" | "BrokerRefused"), "{}", queue.summary());
            assert_eq!(queue.condition("Stalled").map(|stalled| stalled.status.as_str()), Some("True"));
        }
        assert_eq!(w.mq().await.queues().await, [""; 0]);
    });
}

#[test]
fn a_paused_queue_is_frozen_until_the_annotation_goes() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "maxLength: 5").await;
        w.ready::<Queue>("orders").await;
        w.annotate::<Queue>("orders", "spillway.dev/paused", Some("true")).await;
        w.condition::<Queue>("orders", "Paused", "True", "").await;
        w.queue("orders", "maxLength: 6").await;
        w.until("orders", "the new spec was looked at", |queue: &Queue| {
            queue.observed() == queue.metadata.generation
        })
        .await;
        let mq = w.mq().await;
        assert_eq!(mq.policy("spillway.q.orders").await.expect("a policy")["definition"]["max-length"], 5);
        w.annotate::<Queue>("orders", "spillway.dev/paused", None).await;
        mq.until_policy("spillway.q.orders", "has the new limit", |policy| {
            policy["definition"]["max-length"] == 6
        })
        .await;
    });
}

#[test]
fn a_queue_and_an_exchange_that_are_observed_are_never_written() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        w.queue("missing", "managementPolicy: Observe\ndeadLetter: {}").await;
        w.condition::<Queue>("missing", "Ready", "False", "NotFound").await;
        mq.declare_queue("orders", json!({"x-queue-type": "quorum"})).await;
        mq.declare_exchange("events", "topic").await;
        w.queue(
            "orders",
            "maxLength: 5\nmanagementPolicy: Observe\ndeletionPolicy: Delete\nbindings: [{source: events, routingKey: a}]",
        )
        .await;
        let queue: Queue = w.condition("orders", "InSync", "False", "Differs").await;
        let plan = queue.status.expect("a status").plan;
        assert_eq!(plan.len(), 2, "a policy and a binding: {plan:?}");
        w.delete::<Queue>("orders").await;
        w.until_gone::<Queue>("orders").await;
        assert_eq!(mq.queues().await, ["orders"]);
        assert_eq!((mq.policies().await.len(), mq.bindings("orders").await.len()), (0, 0));
    });
}

#[test]
fn a_hundred_queues_with_policies_are_made_in_seconds() {
    world(async |w| {
        w.rabbit("").await;
        for n in 0..100 {
            w.queue(&format!("q{n}"), "type: classic\nmaxLength: 100").await;
        }
        let api = w.api::<Queue>();
        until("100 queues are ready", async || {
            let queues =
                api.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
            let ready = |queue: &&Queue| queue.condition("Ready").is_some_and(|ready| ready.status == "True");
            let count = queues.items.iter().filter(ready).count();
            if count == 100 { Ok(()) } else { Err(format!("{count} are")) }
        })
        .await;
        let mq = w.mq().await;
        assert_eq!((mq.queues().await.len(), mq.policies().await.len()), (100, 100));
    });
}
