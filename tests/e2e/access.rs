//! Who may use a Broker, and for what.

use serde_json::json;
use spillway_operator::api::{Broker, Topic};

use crate::bed::{Object as _, World, bare_world, login_yaml, required, topic_yaml, world};

/// A Topic in another namespace, on the Broker of the first.
async fn foreign_topic(first: &World, second: &World) {
    let yaml = topic_yaml("orders", "partitions: 1")
        .replace("{name: kafka}", &format!("{{name: kafka, namespace: {}}}", first.namespace));
    second.apply(&yaml).await;
}

#[test]
fn another_namespace_may_use_a_broker_only_if_the_broker_says_so() {
    bare_world(async |w| {
        let team = w.at(&w.another_namespace("team", json!({})).await);
        w.start_operator().await;
        w.broker("").await;
        foreign_topic(w, &team).await;
        let topic: Topic = team.condition("orders", "Ready", "False", "NamespaceNotAllowed").await;
        assert!(topic.message("Ready").contains("allowedNamespaces"), "{}", topic.summary());
        assert!(w.kafka.topic(&w.name("orders")).await.is_none());

        w.broker("allowedNamespaces: {from: All}").await;
        team.ready::<Topic>("orders").await;
    });
}

#[test]
fn a_selector_picks_namespaces_by_their_labels() {
    bare_world(async |w| {
        let team = w.at(&w.another_namespace("team", json!({"kafka": "yes"})).await);
        let other = w.at(&w.another_namespace("other", json!({})).await);
        w.start_operator().await;
        w.broker("allowedNamespaces: {from: Selector, selector: {matchLabels: {kafka: 'yes'}}}").await;
        foreign_topic(w, &team).await;
        team.ready::<Topic>("orders").await;
        let yaml = topic_yaml("bills", "partitions: 1")
            .replace("{name: kafka}", &format!("{{name: kafka, namespace: {}}}", w.namespace));
        other.apply(&yaml).await;
        other.condition::<Topic>("bills", "Ready", "False", "NamespaceNotAllowed").await;
    });
}

#[test]
fn a_second_broker_to_the_same_kafka_is_no_way_around_the_first_one() {
    bare_world(async |w| {
        let team = w.at(&w.another_namespace("team", json!({})).await);
        w.start_operator().await;
        w.broker("rules: [{namespaces: ['${NS}'], names: ['${PREFIX}a.*']}]").await;
        w.a_second_after::<Broker>("kafka").await;
        // Another listener: the cluster says who it is.
        let secret = login_yaml(
            "login",
            &required("SPILLWAY_TEST_KAFKA_USER"),
            &required("SPILLWAY_TEST_KAFKA_PASSWORD"),
        );
        let mine = "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {name: mine}\nspec:\n  kafka:\n    bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SASL}']\n    sasl: {mechanism: PLAIN, credentialsSecretRef: {name: login}}\n";
        for at in [w, &team] {
            at.apply(&secret).await;
            at.apply(mine).await;
        }
        let on_mine =
            |name: &str, spec: &str| topic_yaml(name, spec).replace("{name: kafka}", "{name: mine}");
        w.ready::<Broker>("mine").await;
        w.apply(&on_mine("ruled", "name: ${PREFIX}b.orders\npartitions: 1")).await;
        w.condition::<Topic>("ruled", "Ready", "False", "RuleViolated").await;

        let claimed: Broker = team.condition("mine", "Ready", "False", "ClusterClaimed").await;
        assert!(
            claimed.message("Ready").contains(&format!("{}/kafka", w.namespace)),
            "{}",
            claimed.summary()
        );
        team.apply(&on_mine("claimed", "name: ${PREFIX}a.claimed\npartitions: 1\ndeletionPolicy: Delete"))
            .await;
        team.condition::<Topic>("claimed", "Ready", "False", "ClusterClaimed").await;
        for name in ["b.orders", "a.claimed"] {
            assert!(w.kafka.topic(&w.name(name)).await.is_none(), "{name}");
        }
        // What was never made there holds up nobody.
        team.delete::<Topic>("claimed").await;
        team.until_gone::<Topic>("claimed").await;
        // Once the first one allows the namespace, the second one may come, and its rules hold.
        w.broker(
            "allowedNamespaces: {from: All}\nrules: [{namespaces: ['${NS}*'], names: ['${PREFIX}a.*']}]",
        )
        .await;
        team.ready::<Broker>("mine").await;
        team.apply(&on_mine("free", "name: ${PREFIX}a.free\npartitions: 1")).await;
        team.ready::<Topic>("free").await;
    });
}

#[test]
fn rules_bound_names_and_deletion_policies_and_companions_too() {
    world(async |w| {
        let rule = "rules: [{namespaces: ['${NS}'], names: ['${PREFIX}a.*'], deletionPolicies: [Retain]}]";
        w.broker(rule).await;
        w.topic("good", "name: ${PREFIX}a.good\npartitions: 1").await;
        w.ready::<Topic>("good").await;
        w.topic("named", "name: ${PREFIX}b.bad\npartitions: 1").await;
        w.condition::<Topic>("named", "Ready", "False", "RuleViolated").await;
        w.topic("deleting", "name: ${PREFIX}a.bad\npartitions: 1\ndeletionPolicy: Delete").await;
        w.condition::<Topic>("deleting", "Ready", "False", "RuleViolated").await;
        w.topic("dead", "name: ${PREFIX}a.dead\npartitions: 1\ndeadLetter: {name: '${PREFIX}b.dlq'}").await;
        w.until("dead", "the parent says that its companion is not permitted", |topic: &Topic| {
            let ready = topic.condition("Ready");
            ready.is_some_and(|ready| {
                ready.status == "False"
                    && matches!(ready.reason.as_str(), "RuleViolated" | "CompanionNotReady")
            })
        })
        .await;
        for name in ["b.bad", "a.bad", "b.dlq"] {
            assert!(w.kafka.topic(&w.name(name)).await.is_none(), "{name}");
        }
    });
}
