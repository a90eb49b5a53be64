//! Declaring, reading back and removing, and what RabbitMQ refuses.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;
use spillway_operator::api::arguments::Arguments;
use spillway_operator::brokers::rabbitmq::{ErrorKind, Policy, QueueDeclaration, Target};

use crate::support::{
    arguments, client, eventually, exchange, in_vhost, publish, queue, raw, to_queue, unique,
};

/// Names that an address has to encode, each in its own way.
const NAMES: [&str; 6] = ["a/b", "100%", "two words", "grün", "a?b#c&d=e+f", "%2F..;~"];

fn quorum(name: &str) -> QueueDeclaration {
    let arguments = arguments(json!({"x-queue-type": "quorum", "x-max-length": 10}));
    QueueDeclaration { arguments, ..queue(name) }
}

#[tokio::test]
async fn a_declaration_says_whether_it_made_the_queue_or_found_it_equal_or_different() {
    in_vhost(async |client, vhost| {
        assert!(client.declare_queue(&vhost, &quorum("q")).await.expect("it is valid").created);
        assert!(!client.declare_queue(&vhost, &quorum("q")).await.expect("it is equal").created);
        let mut other = quorum("q");
        other.arguments.insert("x-max-length".into(), json!(11));
        let error = client.declare_queue(&vhost, &other).await.expect_err("it is different");
        assert_eq!(error.kind, ErrorKind::Inequivalent);
        assert_eq!(
            error.to_string(),
            format!(
                "failed to declare queue \"q\": inequivalent arg 'x-max-length' for queue 'q' in vhost '{vhost}': \
                 received '11' but current is '10'"
            )
        );
        let seen = client.queue(&vhost, "q").await.expect("RabbitMQ answers").expect("it was made");
        assert_eq!((seen.kind.as_str(), seen.durable, seen.auto_delete), ("quorum", true, false));
        assert_eq!(seen.arguments, quorum("q").arguments);
        assert_eq!((seen.leader_online, seen.messages, seen.consumers), (Some(true), Some(0), None));
        assert_eq!(seen.state.as_deref(), Some("running"));
    })
    .await;
}

#[tokio::test]
async fn what_rabbitmq_calls_invalid_is_for_the_author_to_mend() {
    in_vhost(async |client, vhost| {
        let mut priority = queue("q");
        priority.arguments.insert("x-max-priority".into(), json!(1000));
        let error = client.declare_queue(&vhost, &priority).await.expect_err("it is above 255");
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        let transient = QueueDeclaration { durable: false, ..quorum("q") };
        let error = client.declare_queue(&vhost, &transient).await.expect_err("quorum queues are durable");
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        let error = client.declare_exchange(&vhost, &exchange("e", "x-unheard-of")).await;
        assert_eq!(error.expect_err("there is no such type").kind, ErrorKind::Invalid);
        let error = client.put_policy(&policy(&vhost, "p", json!({"maxx-length": 5}))).await;
        let error = error.expect_err("there is no such key");
        assert_eq!(error.kind, ErrorKind::Invalid);
        let words =
            "failed to put policy \"p\": Validation failed [{<<\"maxx-length\">>,5}] are not recognised policy settings";
        assert_eq!(error.to_string(), words);
        let error = client.declare_queue(&vhost, &queue("amq.mine")).await.expect_err("it is reserved");
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Authorization, "Access refused."));
        for name in [".", "..", ""] {
            let error = client.declare_queue(&vhost, &queue(name)).await.expect_err("no address carries it");
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
            assert!(!error.is_retriable() && error.is_refused());
        }
    })
    .await;
}

#[tokio::test]
async fn names_with_any_characters_go_there_and_back() {
    in_vhost(async |client, vhost| {
        for name in NAMES {
            assert!(client.declare_queue(&vhost, &queue(name)).await.expect(name).created);
            assert!(client.declare_exchange(&vhost, &exchange(name, "topic")).await.expect(name).created);
            client.bind(&vhost, name, &to_queue(name), name, &Arguments::new()).await.expect(name);
        }
        let mut listed: Vec<_> = client.list_queues(Some(&vhost)).await.expect("RabbitMQ answers");
        listed.sort_by_key(|queue| NAMES.iter().position(|name| *name == queue.name));
        assert_eq!(listed.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), NAMES);
        for name in NAMES {
            let seen = client.queue(&vhost, name).await.expect(name).expect(name);
            assert_eq!((seen.name.as_str(), seen.vhost.as_str()), (name, vhost.as_str()));
            assert_eq!(client.exchange(&vhost, name).await.expect(name).expect(name).kind, "topic");
            let bindings = client.bindings_to(&vhost, &to_queue(name)).await.expect(name);
            assert_eq!((bindings.len(), bindings[0].routing_key.as_str()), (1, name));
            assert_eq!(client.bindings_from(&vhost, name).await.expect(name), bindings);
            let unbound = client.unbind(&vhost, name, &to_queue(name), name, &Arguments::new()).await;
            assert!(unbound.expect(name), "{name}");
            assert!(client.delete_queue(&vhost, name, false, false).await.expect(name));
            assert!(!client.delete_queue(&vhost, name, false, false).await.expect("404 is done"));
            assert!(client.delete_exchange(&vhost, name, false).await.expect(name));
            assert!(!client.delete_exchange(&vhost, name, false).await.expect("404 is done"));
        }
        assert_eq!(client.list_bindings(Some(&vhost)).await.expect("RabbitMQ answers"), []);
    })
    .await;
}

#[tokio::test]
async fn of_bindings_between_the_same_ends_exactly_one_goes() {
    in_vhost(async |client, vhost| {
        let target = Target::Exchange("to".into());
        client.declare_exchange(&vhost, &exchange("from", "headers")).await.expect("valid");
        client.declare_exchange(&vhost, &exchange("to", "fanout")).await.expect("valid");
        let all = [
            ("", json!({})),
            ("~", json!({})),
            ("k", json!({})),
            ("k", json!({"x-match": "all", "size": 1})),
            ("k", json!({"x-match": "all", "size": 2})),
            ("k", json!({"x-match": "all", "size": 1, "list": [1, "a", true], "float": 1.5})),
            ("", json!({"x-match": "any", "ü": "/"})),
        ];
        for (key, of) in &all {
            client.bind(&vhost, "from", &target, key, &arguments(of.clone())).await.expect("valid");
            client.bind(&vhost, "from", &target, key, &arguments(of.clone())).await.expect("there already");
        }
        let mut left: Vec<_> =
            all.iter().map(|(key, of)| ((*key).to_owned(), arguments(of.clone()))).collect();
        while let Some((key, of)) = left.pop() {
            assert!(client.unbind(&vhost, "from", &target, &key, &of).await.expect("RabbitMQ answers"));
            assert!(!client.unbind(&vhost, "from", &target, &key, &of).await.expect("RabbitMQ answers"));
            let bindings = client.bindings_between(&vhost, "from", &target).await.expect("RabbitMQ answers");
            assert_eq!(bindings.len(), left.len());
            for (key, of) in &left {
                assert!(
                    bindings.iter().any(|one| one.routing_key == *key && one.arguments == *of),
                    "{key} {of:?}"
                );
            }
        }
    })
    .await;
}

fn policy(vhost: &str, name: &str, definition: serde_json::Value) -> Policy {
    Policy {
        vhost: vhost.to_owned(),
        name: name.to_owned(),
        pattern: "^q$".into(),
        apply_to: "queues".into(),
        priority: 100_000,
        definition: serde_json::from_value::<BTreeMap<_, _>>(definition).expect("it is an object"),
    }
}

#[tokio::test]
async fn a_policy_is_read_back_and_seen_in_force_at_once() {
    in_vhost(async |client, vhost| {
        client.declare_queue(&vhost, &quorum("q")).await.expect("valid");
        let ours = policy(&vhost, "ours", json!({"max-length": 5, "overflow": "reject-publish"}));
        assert!(client.put_policy(&ours).await.expect("valid").created);
        assert!(!client.put_policy(&ours).await.expect("valid").created);
        assert_eq!(client.list_policies(Some(&vhost)).await.expect("RabbitMQ answers"), [ours]);
        let seen = client.queue(&vhost, "q").await.expect("RabbitMQ answers").expect("it is there");
        assert_eq!(seen.policy.as_deref(), Some("ours"));
        let listed = client.list_queues(Some(&vhost)).await.expect("RabbitMQ answers");
        assert_eq!(listed[0].policy.as_deref(), Some("ours"));
        assert_eq!(listed[0].leader_online, Some(true));
        assert!(client.delete_policy(&vhost, "ours").await.expect("RabbitMQ answers"));
        assert!(!client.delete_policy(&vhost, "ours").await.expect("404 is done"));
        let seen = client.queue(&vhost, "q").await.expect("RabbitMQ answers").expect("it is there");
        assert_eq!(seen.policy, None);
    })
    .await;
}

#[tokio::test]
async fn an_operator_policy_and_what_a_stream_holds_are_known_from_statistics() {
    in_vhost(async |client, vhost| {
        let stream =
            QueueDeclaration { arguments: arguments(json!({"x-queue-type": "stream"})), ..queue("q") };
        client.declare_queue(&vhost, &stream).await.expect("valid");
        let definition =
            json!({"pattern": "^q$", "definition": {"max-length-bytes": 1_000_000}, "apply-to": "streams"});
        let path = format!("operator-policies/{vhost}/op");
        assert_eq!(raw(Method::PUT, &path, Some(definition)).await.0, 201);
        publish(&vhost, "q", 2).await;
        let operator = client.list_operator_policies(Some(&vhost)).await.expect("RabbitMQ answers");
        assert_eq!(operator[0].name, "op");
        let live = client.queue(&vhost, "q").await.expect("RabbitMQ answers").expect("it is there");
        assert_eq!((live.messages, live.consumers, live.leader_online), (None, None, None));
        let seen = eventually("statistics tell of it", async || {
            let seen =
                client.queue_in_full(&vhost, "q").await.expect("RabbitMQ answers").expect("it is there");
            (seen.operator_policy.is_some() && seen.messages == Some(2)).then_some(seen)
        })
        .await;
        assert_eq!(seen.operator_policy.as_deref(), Some("op"));
        assert_eq!((seen.consumers, seen.unacked, seen.leader_online), (Some(0), Some(0), Some(true)));
        assert_eq!(client.queue_in_full(&vhost, "none").await.expect("RabbitMQ answers"), None);
    })
    .await;
}

#[tokio::test]
async fn a_missing_vhost_is_told_apart_from_a_missing_queue() {
    in_vhost(async |client, vhost| {
        assert_eq!(client.queue(&vhost, "none").await.expect("the virtual host is there"), None);
        assert_eq!(client.exchange(&vhost, "none").await.expect("the virtual host is there"), None);
        assert_eq!(
            client.bindings_to(&vhost, &to_queue("none")).await.expect("the virtual host is there"),
            []
        );
        let error = client.bind(&vhost, "amq.topic", &to_queue("none"), "", &Arguments::new()).await;
        let error = error.expect_err("there is no queue");
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(error.message, format!("no queue 'none' in vhost '{vhost}'"));
    })
    .await;
    let (client, vhost) = (client(), unique("none"));
    let words = format!("virtual host {vhost:?} does not exist");
    let errors = [
        client.queue(&vhost, "q").await.map(drop),
        client.exchange(&vhost, "e").await.map(drop),
        client.bindings_to(&vhost, &to_queue("q")).await.map(drop),
        client.bindings_from(&vhost, "e").await.map(drop),
        client.list_queues(Some(&vhost)).await.map(drop),
        client.list_policies(Some(&vhost)).await.map(drop),
        client.declare_queue(&vhost, &queue("q")).await.map(drop),
        client.declare_exchange(&vhost, &exchange("e", "topic")).await.map(drop),
        client.bind(&vhost, "e", &to_queue("q"), "", &Arguments::new()).await,
        client.put_policy(&policy(&vhost, "p", json!({"max-length": 5}))).await.map(drop),
    ];
    for error in errors {
        let error = error.expect_err("there is no such virtual host");
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::NoVhost, words.as_str()), "{error}");
    }
    assert!(!client.delete_queue(&vhost, "q", false, false).await.expect("404 is done"));
}

#[tokio::test]
async fn conditions_of_a_deletion_hold_where_rabbitmq_knows_them() {
    in_vhost(async |client, vhost| {
        client.declare_queue(&vhost, &queue("full")).await.expect("valid");
        publish(&vhost, "full", 1).await;
        let error = client.delete_queue(&vhost, "full", true, false).await.expect_err("it holds a message");
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        client.declare_exchange(&vhost, &exchange("e", "fanout")).await.expect("valid");
        client.bind(&vhost, "e", &to_queue("full"), "", &Arguments::new()).await.expect("valid");
        let error = client.delete_exchange(&vhost, "e", true).await.expect_err("it has a binding");
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        client.declare_queue(&vhost, &quorum("quorum")).await.expect("valid");
        let error = client.delete_queue(&vhost, "quorum", true, false).await.expect_err("no such condition");
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
        assert!(client.delete_queue(&vhost, "full", false, true).await.expect("it has no consumers"));
    })
    .await;
}

#[tokio::test]
async fn definitions_are_imported_into_a_virtual_host() {
    in_vhost(async |client, vhost| {
        let definitions = json!({
            "queues": [{"name": "q", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum"}}],
            "exchanges": [{"name": "e", "type": "topic", "durable": true, "auto_delete": false, "internal": false,
                "arguments": {}}],
            "bindings": [{"source": "e", "destination": "q", "destination_type": "queue", "routing_key": "#",
                "arguments": {}}],
        });
        client.import_definitions(Some(&vhost), &definitions).await.expect("valid");
        assert_eq!(client.bindings_to(&vhost, &to_queue("q")).await.expect("RabbitMQ answers").len(), 1);
        assert!(client.vhosts().await.expect("RabbitMQ answers").contains(&vhost));
    })
    .await;
}
