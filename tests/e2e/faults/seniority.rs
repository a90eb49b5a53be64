//! Two Brokers of one cluster, and only the younger one gets there: the older keeps what it owns.

use serde_json::json;
use spillway_operator::api::{Binding, Broker, Exchange, Queue, Topic};

use super::{kafka, queue, sound, topic};
use crate::bed::{
    Object, Site, World, bare_world, binding_yaml, exchange_yaml, queue_yaml, rabbit_yaml, topic_yaml,
};

const RULES: &str = "resyncInterval: 5s\nallowedNamespaces: {from: Same}\nrules: [{namespaces: ['${NS}'], names: [orders, events, amq.topic, x], vhosts: ['${VHOST}']}]";
const BINDING: &str = "source: amq.topic\ndestination: {queue: orders}\nroutingKey: k";

/// What wants to have what the older Broker's objects own, by way of the younger one.
async fn rivals(w: &World) {
    let through = |yaml: &str| yaml.replace("brokerRef: {name: rabbitmq}", "brokerRef: {name: younger}");
    let greedy = "adoption: Adopt\ndeletionPolicy: Delete";
    for yaml in [
        queue_yaml("q", &format!("name: orders\nmaxLength: 9\n{greedy}")),
        exchange_yaml("x", &format!("name: events\ntype: topic\nalternateExchange: x\n{greedy}")),
        binding_yaml("b2", BINDING),
        queue_yaml("secret", "name: secret"),
    ] {
        w.apply(&through(&yaml)).await;
    }
    let topic = topic_yaml("t", &format!("name: ${{PREFIX}}orders\npartitions: 5\n{greedy}"));
    w.apply(&topic.replace("{name: kafka}", "{name: younger-kafka}")).await;
}

/// Looks once more, and is in conflict with its elder.
async fn loses<K: Object>(w: &World, name: &str, owner: &str) {
    w.annotate::<K>(name, "spillway.dev/reconcile", Some(&jiff::Timestamp::now().to_string())).await;
    let object: K = w.condition(name, "Ready", "False", "Conflict").await;
    assert!(object.message("Ready").contains(owner), "{}", object.summary());
}

async fn nothing_is_taken_over(site: &Site<'_>) {
    let w = site.w;
    loses::<Queue>(w, "q", "/orders").await;
    loses::<Exchange>(w, "x", "/events").await;
    loses::<Binding>(w, "b2", "/b").await;
    loses::<Topic>(w, "t", "/orders").await;
    // The older one's rules hold, too.
    w.condition::<Queue>("secret", "Ready", "False", "RuleViolated").await;
    is_as_it_was(site).await;
}

async fn is_as_it_was(site: &Site<'_>) {
    let (w, mq) = (site.w, site.w.mq().await);
    assert_eq!((mq.queues().await, mq.exchanges().await), (vec!["orders".into()], vec!["events".into()]));
    assert_eq!(mq.policies().await, ["spillway.q.orders"]);
    let policy = mq.policy("spillway.q.orders").await.expect("a policy");
    assert_eq!(policy["definition"], json!({"max-length": 5}));
    assert_eq!(mq.bindings("orders").await, ["amq.topic|a", "amq.topic|k"]);
    assert_eq!(w.amqp().await.depth("orders").await, Some((1, 0)));
    let topic = w.kafka.topic(&w.name("orders")).await.expect("a topic");
    assert_eq!((topic.partitions, w.kafka.messages(&w.name("orders"), 0)), (2, 1));
}

#[test]
fn a_younger_broker_takes_nothing_over_while_the_oldest_ones_link_is_down() {
    bare_world(async |w| {
        let team = w.at(&w.another_namespace("team", json!({})).await);
        let site = Site::new(w).await;
        let operator = site.start().await;
        kafka(&site).await;
        w.rabbit_at(&site.rabbitmq.url(), RULES).await;
        w.queue(
            "orders",
            "maxLength: 5\ndeletionPolicy: Delete\nbindings: [{source: amq.topic, routingKey: a}]",
        )
        .await;
        w.exchange("events", "type: topic\ndeletionPolicy: Delete").await;
        w.topic("orders", "partitions: 2\ndeletionPolicy: Delete").await;
        queue(&site, "orders").await;
        sound::<Exchange>(&site, "events").await;
        topic(&site, "orders").await;
        w.binding("b", BINDING).await;
        w.ready::<Binding>("b").await;
        w.mq().await.publish("", "orders", "precious").await;
        w.kafka.produce(&w.name("orders"), 0, 1).await;
        w.a_second_after::<Binding>("b").await;
        w.apply(&rabbit_yaml("").replace("metadata: {name: rabbitmq}", "metadata: {name: younger}")).await;
        w.apply("apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {name: younger-kafka}\nspec:\n  kafka: {bootstrapServers: ['${KAFKA}']}\n").await;
        w.ready::<Broker>("younger").await;
        w.ready::<Broker>("younger-kafka").await;

        site.rabbitmq.close();
        site.kafka.close();
        for name in ["rabbitmq", "kafka"] {
            w.condition::<Broker>(name, "Ready", "False", "BrokerUnreachable").await;
        }
        rivals(w).await;
        nothing_is_taken_over(&site).await;
        // One that starts now knows of the older Brokers what their statuses say.
        assert!(operator.stop().await.success());
        site.start().await;
        nothing_is_taken_over(&site).await;
        team.login("rabbitmq").await;
        team.apply(&rabbit_yaml("")).await;
        team.condition::<Broker>("rabbitmq", "Ready", "False", "ClusterClaimed").await;

        // Nor do they take anything along.
        w.delete::<Exchange>("x").await;
        w.delete::<Binding>("b2").await;
        w.delete::<Topic>("t").await;
        w.until_gone::<Exchange>("x").await;
        w.until_gone::<Binding>("b2").await;
        w.until_gone::<Topic>("t").await;
        is_as_it_was(&site).await;
        // The owner goes by its own way, and hands over.
        w.delete::<Queue>("orders").await;
        w.condition::<Queue>("orders", "Ready", "False", "BrokerUnreachable").await;
        loses::<Queue>(w, "q", "/orders").await;
        is_as_it_was(&site).await;
        site.rabbitmq.open();
        w.until_gone::<Queue>("orders").await;
        w.ready::<Queue>("q").await;
        w.event::<Queue>("q", "HandedOver").await;
        assert_eq!(w.amqp().await.depth("orders").await, Some((1, 0)));
        let policy = w.mq().await.policy("spillway.q.orders").await.expect("a policy");
        assert_eq!(policy["definition"], json!({"max-length": 9}));
    });
}
