//! The permissions that the page on them gives are enough for all of the work, and what it calls optional is so.
//!
//! What differs from the page: addresses, the virtual host, the user's name, and the prefix `shop.`, which is the test's.

use std::path::Path;

use spillway_operator::api::{Binding, Broker, Consumer, Exchange, Queue, Topic};

use crate::bed::{ExtraKafka, Kafka, Object as _, World, binary, deployment, login_yaml, until, world};
use crate::page::{Step, run, steps};

/// The page's commands with a word in them, in order.
fn commands(word: &str) -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations/broker-permissions.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let typed = steps(&page).into_iter().map(|step| match step {
        Step::Command(command, _) => command,
        Step::File(name, _) => panic!("{name} is no command"),
    });
    typed.filter(|command| command.contains(word)).collect()
}

fn typed(command: &str) {
    run(command, Path::new("/"), &binary());
}

/// What the command line says of a thing, or its error.
async fn spillway(w: &World, arguments: &[&str]) -> Result<String, String> {
    let mut command = std::process::Command::new(binary());
    command.args(arguments).args(["-n", &w.namespace]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a thread");
    let output = output.expect("the spillway binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn what_the_page_allows_a_kafka_user_is_enough_and_needed() {
    world(async |w| {
        let kafka = ExtraKafka::with_acls().await;
        let user = format!("{}-user", w.namespace);
        let commands: Vec<_> = commands("kafka-")
            .into_iter()
            .map(|command| command.replace("kafka:9092", kafka.address()).replace("shop.", &w.prefix))
            .map(|command| command.replace("spillway", &user))
            .collect();
        let [name, topics, groups, delete, read] = &commands[..] else { panic!("{commands:#?}") };
        assert!(delete.contains("--operation Delete") && read.contains("--operation Read"), "{commands:#?}");
        for command in [name, topics, groups] {
            typed(command);
        }

        w.apply(&login_yaml("login", &user, "change-me")).await;
        w.apply(&format!(
            "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: kafka}}\nspec:\n  resyncInterval: 5s\n  kafka:\n    bootstrapServers: ['{}']\n    sasl: {{mechanism: SCRAM-SHA-512, credentialsSecretRef: {{name: login}}}}\n",
            kafka.sasl()
        ))
        .await;
        w.ready::<Broker>("kafka").await;
        // Made, with companions; changed; corrected; read.
        let topic =
            "name: ${PREFIX}orders\nconfig: {retention.ms: '60000'}\ndeadLetter: {}\nretry: {delays: [10s]}";
        w.topic("orders", &format!("{topic}\npartitions: 1")).await;
        w.ready::<Topic>("orders").await;
        w.topic("orders", &format!("{topic}\npartitions: 3")).await;
        let admin = Kafka::connect(kafka.address());
        admin.until_topic(&w.name("orders"), "has three partitions", |topic| topic.partitions == 3).await;
        admin.set_config(&w.name("orders"), &[("retention.ms", "1000")]).await;
        let corrected = |value: Option<&String>| value.is_some_and(|value| value == "60000");
        admin
            .until_topic(&w.name("orders"), "is corrected", |topic| {
                corrected(topic.config.get("retention.ms"))
            })
            .await;
        w.apply(&deployment(w, "worker", 1).await).await;
        w.apply(
            "
            apiVersion: spillway.dev/v1alpha1
            kind: Consumer
            metadata: {name: orders}
            spec:
              scaleTargetRef: {name: worker}
              kafka: {brokerRef: {name: kafka}, group: '${PREFIX}orders', topics: ['${PREFIX}orders'], offsetReset: earliest}
              scaling: {mode: DryRun, ratePerReplica: '5', targetDelay: 2s}
            ",
        )
        .await;
        w.ready::<Consumer>("orders").await;
        admin.produce(&w.name("orders"), 0, 100).await;
        w.until("orders", "its lag is known", |consumer: &Consumer| {
            let lag = consumer.status.as_ref().and_then(|status| status.lag.as_ref()?.messages);
            lag.is_some_and(|lag| lag > 0)
        })
        .await;
        // Somebody else's names are not to be had.
        w.topic("theirs", "name: bills.orders\npartitions: 1").await;
        let topic: Topic = w.condition("theirs", "Ready", "False", "AuthorizationFailed").await;
        assert!(topic.message("Ready").contains("uthoriz"), "{}", topic.summary());

        admin.produce_one(&w.name("orders.dlq"), "k", "dead", ("x-error", "no such customer")).await;
        let refused = spillway(w, &["dlq", "show", "topic/orders"]).await.expect_err("it takes Read");
        assert!(refused.contains("failed to look at"), "{refused}");
        typed(read);
        until("dead letters are shown", async || {
            spillway(w, &["dlq", "show", "topic/orders"]).await.map(drop)
        })
        .await;

        w.topic("going", "name: ${PREFIX}going\npartitions: 1\ndeletionPolicy: Delete").await;
        w.ready::<Topic>("going").await;
        w.delete::<Topic>("going").await;
        w.condition::<Topic>("going", "Ready", "False", "AuthorizationFailed").await;
        typed(delete);
        w.until_gone::<Topic>("going").await;
        admin.until_gone(&w.name("going")).await;
    });
}

#[test]
fn what_the_page_allows_a_rabbitmq_user_is_enough() {
    world(async |w| {
        let user = format!("{}-user", w.namespace);
        let mq = w.mq().await;
        mq.goes_too(&["users", &user]);
        for command in commands("rabbitmqctl") {
            let command = command.replace("--vhost shop", &format!("--vhost {}", w.vhost));
            typed(&command.replace("spillway", &user));
        }
        w.apply(&login_yaml("rabbitmq", &user, "change-me")).await;
        w.apply(&crate::bed::rabbit_yaml("resyncInterval: 5s")).await;
        w.ready::<Broker>("rabbitmq").await;
        w.exchange("orders", "name: orders.x\ntype: topic\nalternateExchange: orders.rest").await;
        w.exchange("rest", "name: orders.rest\ntype: fanout\ndeletionPolicy: Delete").await;
        let queue = "name: orders\nmaxLength: 100\ndeadLetter: {}\nretry: {delays: [10s]}\nbindings: [{source: orders.x, routingKey: '#'}]";
        w.queue("orders", queue).await;
        w.queue("by-hand", "name: orders.fixed\napplyVia: Arguments\ndeadLetter: {exchange: orders.rest}\ndeletionPolicy: Delete")
            .await;
        w.binding("orders", "source: orders.x\ndestination: {exchange: orders.rest}\nroutingKey: lost").await;
        w.ready::<Exchange>("orders").await;
        w.ready::<Exchange>("rest").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Queue>("by-hand").await;
        w.ready::<Binding>("orders").await;
        mq.until_queue("orders", "is limited", |queue| queue["policy"] == "spillway.q.orders").await;
        w.queue("orders", &queue.replace("100", "200")).await;
        w.ready::<Queue>("orders").await;

        w.apply(&deployment(w, "worker", 1).await).await;
        w.apply(
            "
            apiVersion: spillway.dev/v1alpha1
            kind: Consumer
            metadata: {name: orders}
            spec:
              scaleTargetRef: {name: worker}
              rabbitmq: {brokerRef: {name: rabbitmq}, vhost: '${VHOST}', queue: orders}
              scaling: {mode: DryRun, maxReplicas: 4, ratePerReplica: '5', targetDelay: 2s}
            ",
        )
        .await;
        w.ready::<Consumer>("orders").await;
        mq.publish("orders.x", "new", "order").await;
        assert_eq!(mq.reject("orders").await.as_deref(), Some("order"));
        until("the dead letter is shown", async || {
            let shown = spillway(w, &["dlq", "show", "queue/orders"]).await?;
            if shown.contains("order") { Ok(()) } else { Err(shown) }
        })
        .await;

        w.queue("theirs", "name: bills").await;
        let queue: Queue = w.condition("theirs", "Ready", "False", "AuthorizationFailed").await;
        assert!(queue.message("Ready").contains("refused"), "{}", queue.summary());
        w.delete::<Binding>("orders").await;
        w.until_gone::<Binding>("orders").await;
        w.delete::<Queue>("by-hand").await;
        w.until_gone::<Queue>("by-hand").await;
        mq.until_no_queue("orders.fixed").await;
        w.delete::<Exchange>("rest").await;
        w.until_gone::<Exchange>("rest").await;
    });
}
