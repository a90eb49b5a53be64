//! Who may use a Broker for what, and the ways around its guard rails that must not be there.

use std::time::Duration;

use serde_json::json;
use spillway_operator::api::{Binding, Broker, Exchange, Queue};

use crate::bed::{
    Object, Proxy, RabbitAddress, World, bare_world, binding_yaml, exchange_yaml, never_within, queue_yaml,
    rabbit_yaml, world,
};

/// A rule for this namespace: names that begin with `a.`, in the world's virtual host.
const RULE: &str = "rules: [{namespaces: ['${NS}'], names: ['a.*'], vhosts: ['${VHOST}']}]";

async fn violated<K: Object>(w: &World, name: &str, word: &str) {
    let object: K = w.condition(name, "Ready", "False", "RuleViolated").await;
    assert!(object.message("Ready").contains(word), "{}", object.summary());
}

/// Another namespace, whose objects name the Broker of the first.
fn from_afar(w: &World, yaml: &str) -> String {
    yaml.replace(
        "brokerRef: {name: rabbitmq}",
        &format!("brokerRef: {{name: rabbitmq, namespace: {}}}", w.namespace),
    )
}

#[test]
fn another_namespace_may_use_a_rabbitmq_only_if_its_broker_says_so() {
    bare_world(async |w| {
        let team = w.at(&w.another_namespace("team", json!({})).await);
        w.start_operator().await;
        w.rabbit("").await;
        let yamls = [
            queue_yaml("q", "deadLetter: {}"),
            exchange_yaml("x", "type: topic"),
            binding_yaml("b", "source: amq.topic\ndestination: {queue: theirs}"),
        ];
        w.mq().await.declare_queue("theirs", json!({})).await;
        for yaml in &yamls {
            team.apply(&from_afar(w, yaml)).await;
        }
        team.condition::<Queue>("q", "Ready", "False", "NamespaceNotAllowed").await;
        team.condition::<Exchange>("x", "Ready", "False", "NamespaceNotAllowed").await;
        team.condition::<Binding>("b", "Ready", "False", "NamespaceNotAllowed").await;
        let mq = w.mq().await;
        assert_eq!((mq.queues().await, mq.exchanges().await), (vec!["theirs".to_owned()], Vec::new()));
        assert_eq!(mq.bindings("theirs").await, [""; 0]);
        w.rabbit("allowedNamespaces: {from: All}").await;
        team.ready::<Queue>("q").await;
        team.ready::<Exchange>("x").await;
        team.ready::<Binding>("b").await;
    });
}

#[test]
fn an_older_queue_that_a_selector_refuses_kept_its_owner_from_it() {
    bare_world(async |w| {
        let squatter = w.at(&w.another_namespace("squatter", json!({"team": "c"})).await);
        let team = w.at(&w.another_namespace("team", json!({"team": "a"})).await);
        w.start_operator().await;
        w.rabbit(
            "allowedNamespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [a, b]}]}}",
        )
        .await;
        squatter.apply(&from_afar(w, &queue_yaml("q", "name: orders"))).await;
        squatter.condition::<Queue>("q", "Ready", "False", "NamespaceNotAllowed").await;
        squatter.a_second_after::<Queue>("q").await;
        team.apply(&from_afar(w, &queue_yaml("q", "name: orders\ndeletionPolicy: Delete"))).await;
        team.ready::<Queue>("q").await;
        // Nor is it an heir.
        team.delete::<Queue>("q").await;
        team.until_gone::<Queue>("q").await;
        assert_eq!(w.mq().await.queues().await, [""; 0]);
    });
}

#[test]
fn rules_bound_names_virtual_hosts_and_deletion_policies() {
    world(async |w| {
        w.rabbit("rules: [{namespaces: ['${NS}'], names: ['a.*'], vhosts: ['${VHOST}'], deletionPolicies: [Retain, DeleteIfEmpty]}]")
            .await;
        let other = format!("{}-other", w.vhost);
        let elsewhere = w.mq().await.another_vhost(&other).await;
        w.queue("good", "name: a.good").await;
        w.exchange("good", "name: a.good\ntype: topic\ndeletionPolicy: DeleteIfUnused").await;
        w.queue("named", "name: ab").await;
        w.exchange("named", "name: b.a.\ntype: topic").await;
        w.queue("placed", &format!("name: a.placed\nvhost: {other}")).await;
        w.queue("deleting", "name: a.deleting\ndeletionPolicy: Delete").await;
        w.exchange("deleting", "name: a.deleting\ntype: topic\ndeletionPolicy: Delete").await;
        w.ready::<Queue>("good").await;
        w.ready::<Exchange>("good").await;
        violated::<Queue>(w, "named", "\"ab\"").await;
        violated::<Exchange>(w, "named", "b.a.").await;
        violated::<Queue>(w, "placed", &other).await;
        violated::<Queue>(w, "deleting", "Delete").await;
        violated::<Exchange>(w, "deleting", "Delete").await;
        let mq = w.mq().await;
        assert_eq!(
            (mq.queues().await, mq.exchanges().await),
            (vec!["a.good".to_owned()], vec!["a.good".to_owned()])
        );
        assert_eq!(elsewhere.queues().await, [""; 0]);
    });
}

#[test]
fn rules_bound_the_names_that_an_object_refers_to() {
    world(async |w| {
        w.rabbit(RULE).await;
        let mq = w.mq().await;
        mq.declare_queue("secret", json!({})).await;
        mq.declare_exchange("secret", "topic").await;
        w.queue("good", "name: a.good\ndeadLetter: {}\nretry: {delays: [1s]}").await;
        w.exchange("good", "name: a.good\ntype: topic\nalternateExchange: a.rest").await;
        w.binding("good", "source: a.good\ndestination: {queue: a.good}").await;
        w.ready::<Queue>("good").await;
        w.ready::<Exchange>("good").await;
        w.ready::<Binding>("good").await;

        w.queue("letters", "name: a.letters\ndeadLetter: {queue: secret}").await;
        w.queue("fresh-letters", "name: a.fresh\ndeadLetter: {queue: fresh}").await;
        w.queue("routed", "name: a.routed\ndeadLetter: {exchange: secret, routingKey: k}").await;
        w.queue("drawing", "name: a.drawing\nbindings: [{source: secret, routingKey: '#'}]").await;
        w.exchange("alternate", "name: a.alternate\ntype: topic\nalternateExchange: secret").await;
        w.binding("source", "source: secret\ndestination: {queue: a.good}\nroutingKey: '#'").await;
        w.binding("flooding", "source: a.good\ndestination: {queue: secret}").await;
        w.binding("flooding-x", "source: a.good\ndestination: {exchange: secret}").await;
        for name in ["letters", "routed", "drawing"] {
            violated::<Queue>(w, name, "\"secret\"").await;
        }
        violated::<Queue>(w, "fresh-letters", "\"fresh\"").await;
        violated::<Exchange>(w, "alternate", "\"secret\"").await;
        for name in ["source", "flooding", "flooding-x"] {
            violated::<Binding>(w, name, "\"secret\"").await;
        }
        assert_eq!(mq.queues().await, ["a.good", "a.good.dlq", "a.good.retry.1s", "secret"]);
        assert_eq!(mq.bindings("secret").await, [""; 0]);
        assert_eq!(mq.bindings("a.good").await, ["a.good|"]);
        assert_eq!(mq.policies().await.iter().filter(|name| !name.ends_with("good")).count(), 0);
    });
}

#[test]
fn a_reference_is_no_way_around_a_rule() {
    world(async |w| {
        w.rabbit(RULE).await;
        let mq = w.mq().await;
        mq.declare_queue("secret", json!({"x-queue-type": "quorum"})).await;
        mq.declare_exchange("secret", "topic").await;
        // Each may be applied, and is refused; yet there it is, to be referred to.
        w.exchange("secret", "type: topic\nmanagementPolicy: Observe").await;
        w.queue("secret", "managementPolicy: Observe").await;
        violated::<Exchange>(w, "secret", "\"secret\"").await;
        violated::<Queue>(w, "secret", "\"secret\"").await;
        w.exchange("mine", "name: a.mine\ntype: topic").await;
        w.queue("mine", "name: a.mine").await;
        w.ready::<Exchange>("mine").await;
        w.ready::<Queue>("mine").await;
        w.queue("drawing", "name: a.drawing\nbindings: [{sourceRef: {name: secret}, routingKey: '#'}]").await;
        w.binding("source", "sourceRef: {name: secret}\ndestination: {queue: a.mine}\nroutingKey: '#'").await;
        w.binding("flooding", "source: a.mine\ndestination: {queueRef: {name: secret}}").await;
        w.binding("flooding-x", "source: a.mine\ndestination: {exchangeRef: {name: secret}}").await;
        never_within(Duration::from_secs(6), "nothing is bound", async || {
            let found =
                [mq.bindings("secret").await, mq.bindings("a.mine").await, mq.bindings("a.drawing").await];
            if found.iter().all(Vec::is_empty) { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
        violated::<Queue>(w, "drawing", "\"secret\"").await;
        for name in ["source", "flooding", "flooding-x"] {
            violated::<Binding>(w, name, "\"secret\"").await;
        }
    });
}

#[test]
fn raw_arguments_are_no_way_around_a_rule() {
    world(async |w| {
        w.rabbit(RULE).await;
        w.queue(
            "letters",
            "name: a.letters\narguments: {x-dead-letter-exchange: '', x-dead-letter-routing-key: secret}",
        )
        .await;
        w.exchange("alternate", "name: a.alternate\ntype: topic\narguments: {alternate-exchange: secret}")
            .await;
        w.condition::<Queue>("letters", "Ready", "False", "InvalidSpec").await;
        w.condition::<Exchange>("alternate", "Ready", "False", "InvalidSpec").await;
        let mq = w.mq().await;
        assert_eq!((mq.queues().await, mq.exchanges().await), (Vec::new(), Vec::new()));
    });
}

#[test]
fn a_virtual_host_that_only_looks_alike_is_another_one() {
    world(async |w| {
        let secret = format!("{}/secret", w.vhost);
        let hidden = w.mq().await.another_vhost(&secret).await;
        // What the rules permit are literal names: an encoded one, one with a slash, one with a blank.
        w.rabbit("rules: [{namespaces: ['*'], names: ['*'], vhosts: ['${VHOST}', '${VHOST}%2Fsecret', '${VHOST}/', '${VHOST} ', '*/../*']}]")
            .await;
        let alike = [
            format!("{}%2Fsecret", w.vhost),
            format!("{}/", w.vhost),
            format!("{} ", w.vhost),
            format!("x/../{secret}"),
        ];
        for (n, vhost) in alike.iter().enumerate() {
            w.queue(&format!("q{n}"), &format!("vhost: '{vhost}'")).await;
        }
        w.queue("direct", &format!("vhost: '{secret}'")).await;
        w.queue("encoded", &format!("vhost: '{}'", w.vhost.replace('-', "%2D"))).await;
        violated::<Queue>(w, "direct", &secret).await;
        violated::<Queue>(w, "encoded", "%2D").await;
        for n in 0..alike.len() {
            w.condition::<Queue>(&format!("q{n}"), "Ready", "False", "DependencyNotReady").await;
        }
        assert_eq!(hidden.queues().await, [""; 0]);
        assert_eq!(w.mq().await.queues().await, [""; 0]);
    });
}

#[test]
fn a_companion_may_not_have_a_name_that_its_parent_may_not_have() {
    world(async |w| {
        w.rabbit("rules: [{namespaces: ['${NS}'], names: ['a.orders', 'b.*']}]").await;
        w.queue("orders", "name: a.orders\nretry: {delays: [1s]}").await;
        w.until("orders", "its retry queue is not permitted", |queue: &Queue| {
            let ready = queue.condition("Ready");
            ready.is_some_and(|ready| {
                ready.status == "False"
                    && matches!(ready.reason.as_str(), "RuleViolated" | "CompanionNotReady")
            })
        })
        .await;
        w.queue("letters", "name: b.orders\ndeadLetter: {queue: a.dlq}").await;
        violated::<Queue>(w, "letters", "a.dlq").await;
        never_within(Duration::from_secs(3), "no companion is made", async || {
            let found = w.mq().await.queues().await;
            if found.iter().all(|name| !name.contains("retry") && !name.contains("dlq")) {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
    });
}

#[test]
fn a_second_broker_to_the_same_cluster_is_no_way_around_the_first_ones_rules() {
    bare_world(async |w| {
        let team = w.at(&w.another_namespace("team", json!({})).await);
        w.start_operator().await;
        w.rabbit(RULE).await;
        w.a_second_after::<Broker>("rabbitmq").await;
        // Another address, and another user: the cluster says who it is.
        let bed = RabbitAddress::of_the_bed();
        let mut proxy = Proxy::closed(bed.management.trim_start_matches("http://"));
        proxy.open();
        let mine = rabbit_yaml("").replace("metadata: {name: rabbitmq}", "metadata: {name: mine}");
        let mine = mine.replace("${RABBITMQ}", &format!("http://{}/", proxy.address()));
        w.apply(&mine).await;
        w.ready::<Broker>("mine").await;
        let through = |yaml: &str| yaml.replace("{name: rabbitmq}", "{name: mine}");
        w.apply(&through(&queue_yaml("q", "name: b.q"))).await;
        w.apply(&through(&binding_yaml("b", "source: amq.topic\ndestination: {queue: b.q}"))).await;
        violated::<Queue>(w, "q", "b.q").await;
        violated::<Binding>(w, "b", "").await;
        // Of one queue on both, the older object owns.
        w.queue("first", "name: a.orders\nmaxLength: 5\ndeletionPolicy: Delete").await;
        w.ready::<Queue>("first").await;
        w.a_second_after::<Queue>("first").await;
        let rival = queue_yaml("second", "name: a.orders\nmaxLength: 9\ndeletionPolicy: Delete");
        w.apply(&through(&rival)).await;
        let second: Queue = w.condition("second", "Ready", "False", "Conflict").await;
        let owner = format!("Queue {}/first", w.namespace);
        assert!(second.message("Ready").contains(&owner), "{}", second.summary());
        w.delete::<Queue>("second").await;
        w.until_gone::<Queue>("second").await;
        let policy = w.mq().await.policy("spillway.q.a.orders").await.expect("a policy");
        assert_eq!(policy["definition"]["max-length"], 5);
        w.delete::<Queue>("first").await;
        w.until_gone::<Queue>("first").await;

        team.login("rabbitmq").await;
        team.apply(&mine).await;
        team.condition::<Broker>("mine", "Ready", "False", "ClusterClaimed").await;
        team.apply(&through(&queue_yaml("q", "name: a.q"))).await;
        let queue: Queue = team.condition("q", "Ready", "False", "").await;
        assert!(!queue.message("Ready").is_empty());
        assert_eq!(w.mq().await.queues().await, [""; 0]);
    });
}

#[test]
fn a_second_broker_to_the_same_cluster_does_not_correct_what_the_first_only_reports() {
    world(async |w| {
        w.rabbit("driftPolicy: Report").await;
        w.ready::<Broker>("rabbitmq").await;
        w.a_second_after::<Broker>("rabbitmq").await;
        let mine = rabbit_yaml("resyncInterval: 5s\ndriftPolicy: Correct");
        w.apply(&mine.replace("metadata: {name: rabbitmq}", "metadata: {name: mine}")).await;
        w.ready::<Broker>("mine").await;
        let queue = queue_yaml("orders", "bindings: [{source: amq.topic, routingKey: k}]");
        w.apply(&queue.replace("{name: rabbitmq}", "{name: mine}")).await;
        w.ready::<Queue>("orders").await;
        let mq = w.mq().await;
        mq.unbind("amq.topic", "orders", "k").await;
        w.condition::<Queue>("orders", "InSync", "False", "Differs").await;
        assert_eq!(mq.bindings("orders").await, [""; 0]);
    });
}

#[test]
fn an_older_object_on_a_younger_broker_that_the_oldest_one_refuses_blocks_nobody() {
    bare_world(async |w| {
        let team = w.at(&w.another_namespace("team", json!({})).await);
        w.start_operator().await;
        let allowed = "rules: [{namespaces: ['${NS}'], names: ['a.*', amq.topic]}, {namespaces: ['*-team'], names: ['b.*']}]";
        w.rabbit(&format!("allowedNamespaces: {{from: All}}\n{allowed}")).await;
        w.a_second_after::<Broker>("rabbitmq").await;
        team.login("rabbitmq").await;
        team.apply(&rabbit_yaml("resyncInterval: 5s")).await;
        team.ready::<Broker>("rabbitmq").await;
        team.queue("squatter", "name: a.orders").await;
        team.binding("squatter", "source: amq.topic\ndestination: {queue: a.orders}\nroutingKey: k").await;
        violated::<Queue>(&team, "squatter", "a.orders").await;
        violated::<Binding>(&team, "squatter", "").await;
        team.a_second_after::<Queue>("squatter").await;
        let bound = "name: a.orders\ndeletionPolicy: Delete\nbindings: [{source: amq.topic, routingKey: k}]";
        w.queue("orders", bound).await;
        w.ready::<Queue>("orders").await;

        // Neither while the younger Broker may be there at all, nor after that.
        w.rabbit(allowed).await;
        team.condition::<Broker>("rabbitmq", "Ready", "False", "ClusterClaimed").await;
        w.queue("orders", "name: a.orders\ndeletionPolicy: Delete").await;
        w.ready::<Queue>("orders").await;
        let mq = w.mq().await;
        assert_eq!(mq.bindings("a.orders").await, [""; 0]);
        w.delete::<Queue>("orders").await;
        w.until_gone::<Queue>("orders").await;
        mq.until_no_queue("a.orders").await;
    });
}

#[test]
fn an_older_object_that_the_rules_refuse_blocks_nobody_and_keeps_nothing_alive() {
    bare_world(async |w| {
        let team = w.at(&w.another_namespace("team", json!({})).await);
        w.start_operator().await;
        w.rabbit("allowedNamespaces: {from: All}\nrules: [{namespaces: ['${NS}'], names: ['a.*', amq.topic]}, {namespaces: ['*-team'], names: ['t.*']}]")
            .await;
        team.apply(&from_afar(w, &queue_yaml("squatter", "name: a.orders\nmaxLength: 1"))).await;
        let binding = "source: amq.topic\ndestination: {queue: a.orders}\nroutingKey: k";
        team.apply(&from_afar(w, &binding_yaml("squatter", binding))).await;
        violated::<Queue>(&team, "squatter", "a.orders").await;
        violated::<Binding>(&team, "squatter", "").await;
        team.a_second_after::<Queue>("squatter").await;
        w.queue("orders", "name: a.orders\nmaxLength: 5\nbindings: [{source: amq.topic, routingKey: k}]")
            .await;
        w.ready::<Queue>("orders").await;
        let mq = w.mq().await;
        assert_eq!(mq.bindings("a.orders").await, ["amq.topic|k"]);
        w.queue("orders", "name: a.orders\nmaxLength: 5\ndeletionPolicy: Delete").await;
        mq.until_bindings("a.orders", &[]).await;
        w.ready::<Queue>("orders").await;
        w.delete::<Queue>("orders").await;
        w.until_gone::<Queue>("orders").await;
        mq.until_no_queue("a.orders").await;
    });
}

#[test]
fn a_rule_that_forbids_deletion_afterwards_lets_the_object_go_and_the_queue_stay() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "deletionPolicy: Delete").await;
        w.exchange("events", "type: topic\ndeletionPolicy: Delete").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Exchange>("events").await;
        w.rabbit("rules: [{namespaces: ['*'], names: ['*'], deletionPolicies: [Retain]}]").await;
        w.condition::<Queue>("orders", "Ready", "False", "RuleViolated").await;
        w.condition::<Exchange>("events", "Ready", "False", "RuleViolated").await;
        w.delete::<Queue>("orders").await;
        w.delete::<Exchange>("events").await;
        w.until_gone::<Queue>("orders").await;
        w.until_gone::<Exchange>("events").await;
        let mq = w.mq().await;
        assert_eq!(
            (mq.queues().await, mq.exchanges().await),
            (vec!["orders".to_owned()], vec!["events".to_owned()])
        );
        // A binding holds nothing and may always be deleted.
        w.binding("b", "source: events\ndestination: {queue: orders}").await;
        w.ready::<Binding>("b").await;
        w.delete::<Binding>("b").await;
        w.until_gone::<Binding>("b").await;
        assert_eq!(mq.bindings("orders").await, [""; 0]);
    });
}

#[test]
fn the_brokers_default_deletion_policy_is_bounded_by_its_rules_too() {
    world(async |w| {
        w.rabbit("defaults: {deletionPolicy: Delete}\nrules: [{namespaces: ['*'], names: ['*'], deletionPolicies: [Retain, DeleteIfEmpty]}]")
            .await;
        w.queue("orders", "").await;
        w.queue("bills", "deletionPolicy: DeleteIfEmpty").await;
        violated::<Queue>(w, "orders", "Delete").await;
        w.ready::<Queue>("bills").await;
    });
}

#[test]
fn a_label_that_a_person_sets_makes_no_companion_and_opens_nothing() {
    world(async |w| {
        w.rabbit(RULE).await;
        let labelled = |yaml: &str| {
            yaml.replace(
                "metadata: {name: fake}",
                "metadata: {name: fake, labels: {spillway.dev/companion: dead-letter}}",
            )
        };
        w.apply(&labelled(&queue_yaml("fake", "name: b.dlq\ndeletionPolicy: Delete"))).await;
        violated::<Queue>(w, "fake", "b.dlq").await;
        assert_eq!(w.mq().await.queues().await, [""; 0]);
    });
}
