//! Exchanges: made as declared, changed where RabbitMQ lets them change, refused in the right words.

use serde_json::json;
use spillway_operator::api::Exchange;

use crate::bed::{Object as _, exchange_yaml, world};

#[test]
fn an_exchange_of_each_type_is_made_with_its_settings() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        for kind in ["direct", "fanout", "topic", "headers"] {
            w.exchange(kind, &format!("type: {kind}")).await;
            let exchange: Exchange = w.ready(kind).await;
            assert_eq!(exchange.status.expect("a status").plan, [""; 0]);
            let seen = mq.exchange(kind).await.expect("an exchange");
            let is = json!([seen["type"], seen["durable"], seen["auto_delete"], seen["internal"]]);
            assert_eq!(is, json!([kind, true, false, false]));
            assert_eq!(seen["policy"], serde_json::Value::Null);
        }
        w.exchange("special", "type: topic\ndurable: false\nautoDelete: true\ninternal: true").await;
        w.ready::<Exchange>("special").await;
        let seen = mq.exchange("special").await.expect("an exchange");
        assert_eq!(
            json!([seen["durable"], seen["auto_delete"], seen["internal"]]),
            json!([false, true, true])
        );
        assert_eq!(mq.policies().await, [""; 0], "an exchange without settings needs no policy");
        w.event::<Exchange>("special", "Declared").await;
    });
}

#[test]
fn an_alternate_exchange_is_kept_by_a_policy_and_changes_while_the_exchange_lives() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        for name in ["first", "second"] {
            mq.declare_exchange(name, "fanout").await;
            mq.declare_queue(name, json!({})).await;
            mq.bind(name, name, "", json!({})).await;
        }
        w.exchange("logs", "type: topic\nalternateExchange: first").await;
        w.ready::<Exchange>("logs").await;
        assert_eq!(mq.exchange("logs").await.expect("an exchange")["arguments"], json!({}));
        let policy = mq.policy("spillway.x.logs").await.expect("a policy");
        assert_eq!(policy["apply-to"], "exchanges");
        assert_eq!(policy["definition"], json!({"alternate-exchange": "first"}));
        assert!(mq.publish("logs", "nobody.listens", "one").await);
        assert_eq!(mq.until_message("first").await, "one");

        w.exchange("logs", "type: topic\nalternateExchange: second").await;
        w.ready::<Exchange>("logs").await;
        assert!(mq.publish("logs", "nobody.listens", "two").await);
        assert_eq!(mq.until_message("second").await, "two");
        assert_eq!(mq.take("first").await, None);

        w.exchange("logs", "type: topic").await;
        w.ready::<Exchange>("logs").await;
        assert_eq!(mq.policies().await, [""; 0], "nothing needs the policy any more");
        assert!(!mq.publish("logs", "nobody.listens", "three").await);
    });
}

#[test]
fn what_rabbitmq_fixes_at_declaration_is_refused_at_admission() {
    world(async |w| {
        w.rabbit("").await;
        w.exchange("events", "name: evts\ntype: topic").await;
        w.ready::<Exchange>("events").await;
        let fixed = "type, durable, autoDelete and internal of an exchange are fixed";
        for (spec, words) in [
            ("name: evts\ntype: direct", fixed),
            ("name: evts\ntype: topic\ndurable: false", fixed),
            ("name: evts\ntype: topic\nautoDelete: true", fixed),
            ("name: evts\ntype: topic\ninternal: true", fixed),
            ("name: other\ntype: topic", "name is immutable"),
            ("name: evts\ntype: topic\nvhost: other", "vhost is immutable"),
        ] {
            let said = w.refused(&exchange_yaml("events", spec)).await;
            assert!(said.contains(words), "{spec}: {said}");
        }
        let moved =
            exchange_yaml("events", "name: evts\ntype: topic").replace("{name: rabbitmq}", "{name: other}");
        let said = w.refused(&moved).await;
        assert!(said.contains("brokerRef is immutable"), "{said}");
        for (spec, words) in [
            ("type: topik", "type is direct, fanout, topic, headers"),
            ("name: amq.mine\ntype: topic", "names that begin with amq. are RabbitMQ's own"),
            ("durable: true", "spec.type"),
        ] {
            let said = w.refused(&exchange_yaml("fresh", spec)).await;
            assert!(said.contains(words), "{spec}: {said}");
        }
    });
}

#[test]
fn an_argument_may_not_repeat_the_alternate_exchange() {
    world(async |w| {
        w.rabbit("").await;
        w.exchange("events", "type: topic\narguments: {alternate-exchange: x}").await;
        let exchange: Exchange = w.condition("events", "Ready", "False", "InvalidSpec").await;
        assert!(exchange.message("Ready").contains("alternate-exchange"), "{}", exchange.summary());
        w.condition::<Exchange>("events", "Stalled", "True", "").await;
        assert_eq!(w.mq().await.exchanges().await, [""; 0]);
    });
}

#[test]
fn a_type_of_a_plugin_that_is_not_there_is_refused_in_rabbitmqs_words() {
    world(async |w| {
        w.rabbit("").await;
        w.exchange("events", "type: x-no-such-type").await;
        let exchange: Exchange = w.condition("events", "Ready", "False", "BrokerRefused").await;
        let words = exchange.message("Ready");
        assert!(words.contains("x-no-such-type") && words.contains("exchange type"), "{words}");
        w.condition::<Exchange>("events", "Stalled", "True", "").await;
    });
}

#[test]
fn an_exchange_that_was_there_with_another_type_is_immutable_and_left_as_it_is() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_exchange("events", "fanout").await;
        w.exchange("events", "type: topic\nadoption: Adopt\nalternateExchange: x").await;
        let exchange: Exchange = w.condition("events", "Ready", "False", "Immutable").await;
        let words = exchange.message("Ready");
        assert!(words.contains("fanout") && words.contains("topic"), "{words}");
        assert_eq!(mq.exchange("events").await.expect("an exchange")["type"], "fanout");
        assert_eq!(mq.policies().await, [""; 0]);
    });
}

#[test]
fn one_of_rabbitmqs_own_exchanges_cannot_be_declared_and_may_be_bound_to() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "bindings: [{source: amq.topic, routingKey: 'order.*'}]").await;
        w.ready::<spillway_operator::api::Queue>("orders").await;
        assert!(w.mq().await.publish("amq.topic", "order.made", "one").await);
        let said = w.refused(&exchange_yaml("amq.topic", "name: amq.topic\ntype: topic")).await;
        assert!(said.contains("RabbitMQ's own"), "{said}");
    });
}

#[test]
fn a_person_s_policy_on_an_exchange_is_displaced_with_its_keys() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        let theirs = json!({
            "pattern": "^logs", "apply-to": "exchanges", "priority": 3,
            "definition": {"alternate-exchange": "theirs"},
        });
        mq.put(&["policies", &w.vhost, "theirs"], theirs).await;
        w.exchange("logs", "type: topic\nalternateExchange: ours").await;
        w.ready::<Exchange>("logs").await;
        let seen = mq.exchange("logs").await.expect("an exchange");
        assert_eq!(seen["policy"], "spillway.x.logs");
        w.exchange("logs.more", "type: topic").await;
        w.ready::<Exchange>("logs.more").await;
        assert_eq!(mq.exchange("logs.more").await.expect("an exchange")["policy"], "theirs");
    });
}
