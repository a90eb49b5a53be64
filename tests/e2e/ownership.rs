//! Whose is a topic? Adoption of what was there, and two objects for one topic.

use std::time::Duration;

use spillway_operator::api::{Broker, Topic};

use crate::bed::{Object as _, never_within, topic_yaml, world};

#[test]
fn an_identical_topic_that_was_there_is_adopted_silently() {
    world(async |w| {
        w.broker("").await;
        w.kafka.create(&w.name("orders"), 2, &[("retention.ms", "60000")]).await;
        w.topic("orders", "partitions: 2\nconfig: {retention.ms: '60000'}").await;
        let topic: Topic = w.ready("orders").await;
        assert!(topic.status.expect("a status").topic_id.is_some());
    });
}

#[test]
fn a_topic_that_was_there_and_differs_waits_with_its_plan_until_the_plan_is_approved() {
    world(async |w| {
        w.broker("").await;
        w.kafka.create(&w.name("orders"), 2, &[]).await;
        w.topic("orders", "partitions: 4\nconfig: {retention.ms: '60000'}").await;
        let topic: Topic = w.condition("orders", "Ready", "False", "ApprovalNeeded").await;
        let status = topic.status.expect("a status");
        assert_eq!(status.plan, ["set retention.ms=60000", "add partitions: 2 → 4"]);
        let hash = status.plan_hash.expect("a hash");
        assert_eq!(w.kafka.topic(&w.name("orders")).await.expect("a topic").partitions, 2);

        w.annotate::<Topic>("orders", "spillway.dev/approve-plan", Some("000000000000")).await;
        never_within(Duration::from_secs(2), "a wrong hash approves nothing", async || {
            let partitions = w.kafka.topic(&w.name("orders")).await.expect("a topic").partitions;
            if partitions == 2 { Ok(()) } else { Err(format!("{partitions} partitions")) }
        })
        .await;

        w.annotate::<Topic>("orders", "spillway.dev/approve-plan", Some(&hash)).await;
        w.ready::<Topic>("orders").await;
        let seen = w.kafka.topic(&w.name("orders")).await.expect("a topic");
        assert_eq!((seen.partitions, seen.config["retention.ms"].as_str()), (4, "60000"));
    });
}

#[test]
fn adopt_changes_what_differs_and_keeps_foreign_configs() {
    world(async |w| {
        w.broker("").await;
        w.kafka.create(&w.name("orders"), 2, &[("segment.ms", "70000")]).await;
        w.topic("orders", "partitions: 4\nadoption: Adopt\nconfig: {retention.ms: '60000'}").await;
        w.ready::<Topic>("orders").await;
        let seen = w.kafka.topic(&w.name("orders")).await.expect("a topic");
        assert_eq!(seen.partitions, 4);
        assert_eq!(seen.config["segment.ms"], "70000");
        assert_eq!(seen.config["retention.ms"], "60000");
    });
}

#[test]
fn never_leaves_a_topic_that_was_there_alone() {
    world(async |w| {
        w.broker("defaults: {adoption: Never}").await;
        w.kafka.create(&w.name("orders"), 2, &[]).await;
        w.topic("orders", "partitions: 2").await;
        w.condition::<Topic>("orders", "Ready", "False", "Conflict").await;
        w.topic("fresh", "partitions: 1").await;
        w.ready::<Topic>("fresh").await;
    });
}

#[test]
fn of_two_objects_for_one_topic_the_older_owns_it_and_the_younger_names_the_owner() {
    world(async |w| {
        w.broker("").await;
        w.topic("older", "name: ${PREFIX}orders\npartitions: 2\ndeletionPolicy: Delete").await;
        w.ready::<Topic>("older").await;
        w.a_second_after::<Topic>("older").await;
        w.topic("younger", "name: ${PREFIX}orders\npartitions: 5\ndeletionPolicy: Delete").await;
        let younger: Topic = w.condition("younger", "Ready", "False", "Conflict").await;
        assert!(younger.message("Ready").contains("older"), "{}", younger.summary());
        assert_eq!(w.kafka.topic(&w.name("orders")).await.expect("a topic").partitions, 2);

        w.delete::<Topic>("younger").await;
        w.until_gone::<Topic>("younger").await;
        assert!(w.kafka.topic(&w.name("orders")).await.is_some(), "deleting the loser deleted the topic");

        w.topic("heir", "name: ${PREFIX}orders\npartitions: 2").await;
        w.condition::<Topic>("heir", "Ready", "False", "Conflict").await;
        w.delete::<Topic>("older").await;
        w.until_gone::<Topic>("older").await;
        w.ready::<Topic>("heir").await;
        assert!(
            w.kafka.topic(&w.name("orders")).await.is_some(),
            "deleting the owner deleted the heir's topic"
        );
    });
}

#[test]
fn of_two_objects_for_one_topic_on_two_brokers_of_one_cluster_the_older_owns_it() {
    world(async |w| {
        w.broker("").await;
        let second = "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {name: second}\nspec:\n  kafka: {bootstrapServers: ['${KAFKA}']}\n";
        w.apply(second).await;
        w.ready::<Broker>("second").await;
        let there =
            |name: &str, spec: &str| topic_yaml(name, spec).replace("{name: kafka}", "{name: second}");
        let orders = "name: ${PREFIX}orders\npartitions: 2\ndeletionPolicy: Delete";
        // The Broker that came later has the older object: it is the object's age that counts.
        w.apply(&there("older", orders)).await;
        w.ready::<Topic>("older").await;
        w.a_second_after::<Topic>("older").await;
        w.topic("younger", "name: ${PREFIX}orders\npartitions: 5\ndeletionPolicy: Delete").await;
        let younger: Topic = w.condition("younger", "Ready", "False", "Conflict").await;
        let owner = format!("Topic {}/older", w.namespace);
        assert!(younger.message("Ready").contains(&owner), "{}", younger.summary());
        w.delete::<Topic>("younger").await;
        w.until_gone::<Topic>("younger").await;
        let seen = w.kafka.topic(&w.name("orders")).await.expect("deleting the loser deleted the topic");
        assert_eq!(seen.partitions, 2);

        w.topic("heir", orders).await;
        w.condition::<Topic>("heir", "Ready", "False", "Conflict").await;
        w.delete::<Topic>("older").await;
        w.until_gone::<Topic>("older").await;
        w.ready::<Topic>("heir").await;
        w.event::<Topic>("heir", "HandedOver").await;
        assert!(
            w.kafka.topic(&w.name("orders")).await.is_some(),
            "deleting the owner deleted the heir's topic"
        );
        // Now it is the heir's alone, and goes with it.
        w.delete::<Topic>("heir").await;
        w.until_gone::<Topic>("heir").await;
        w.kafka.until_gone(&w.name("orders")).await;
    });
}

#[test]
fn a_person_in_a_companions_place_has_what_that_one_owned_and_nothing_else() {
    world(async |w| {
        w.broker("").await;
        let theirs = w.name("orders.dlq");
        w.kafka.create(&theirs, 1, &[]).await;
        w.kafka.produce(&theirs, 0, 1).await;
        w.topic("orders", "partitions: 1\ndeadLetter: {config: {retention.ms: '60000'}}").await;
        w.condition::<Topic>("orders.dlq", "Ready", "False", "ApprovalNeeded").await;
        w.topic("mine", "name: ${PREFIX}orders.dlq\npartitions: 2\nadoption: Never\ndeletionPolicy: Delete")
            .await;
        let mine: Topic = w.condition("mine", "Ready", "False", "Conflict").await;
        assert!(mine.message("Ready").contains("was there before"), "{}", mine.summary());
        w.delete::<Topic>("mine").await;
        w.until_gone::<Topic>("mine").await;
        let seen = w.kafka.topic(&theirs).await.expect("a topic");
        assert_eq!((seen.partitions, seen.config.len(), w.kafka.messages(&theirs, 0)), (1, 0, 1));

        w.topic("bills", "partitions: 1\ndeadLetter: {}").await;
        w.ready::<Topic>("bills").await;
        w.topic("yours", "name: ${PREFIX}bills.dlq\npartitions: 2\nadoption: Never").await;
        w.ready::<Topic>("yours").await;
        assert_eq!(w.kafka.topic(&w.name("bills.dlq")).await.expect("a topic").partitions, 2);
        w.until_gone::<Topic>("bills.dlq").await;
    });
}
