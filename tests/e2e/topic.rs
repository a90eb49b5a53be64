//! Topics: made as declared, changed as declared, refused in the right words.

use spillway_operator::api::Topic;
use spillway_operator::topology::kafka::desired::KAFKAS_OWN;

use crate::bed::{Object as _, topic_yaml, until, world};

#[test]
fn a_topic_is_made_with_its_partitions_and_configs() {
    world(async |w| {
        w.broker("").await;
        w.topic(
            "orders",
            "partitions: 3\nreplicationFactor: 1\nconfig: {retention.ms: '604800000', cleanup.policy: 'compact,delete'}",
        )
        .await;
        let topic: Topic = w.ready("orders").await;
        let seen = w.kafka.topic(&w.name("orders")).await.expect("a topic");
        assert_eq!((seen.partitions, seen.replication), (3, 1));
        assert_eq!(seen.config["retention.ms"], "604800000");
        assert_eq!(seen.config["cleanup.policy"], "compact,delete");
        assert_eq!(seen.config.len(), 2, "{:?}", seen.config);
        let status = topic.status.expect("a status");
        assert_eq!((status.partitions, status.replication_factor), (Some(3), Some(1)));
        assert_eq!(status.applied_config_keys, ["cleanup.policy", "retention.ms"]);
        assert!(status.topic_id.is_some_and(|id| !id.is_empty()));
        assert!(status.plan.is_empty(), "{:?}", status.plan);
        w.event::<Topic>("orders", "Created").await;
    });
}

#[test]
fn a_topic_without_numbers_takes_the_brokers_own() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "config: {}").await;
        w.ready::<Topic>("orders").await;
        let seen = w.kafka.topic(&w.name("orders")).await.expect("a topic");
        assert_eq!((seen.partitions, seen.replication), (1, 1));
    });
}

#[test]
fn a_topic_grows() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 2").await;
        w.ready::<Topic>("orders").await;
        w.topic("orders", "partitions: 5").await;
        w.kafka.until_topic(&w.name("orders"), "has 5 partitions", |topic| topic.partitions == 5).await;
        let topic: Topic = w.ready("orders").await;
        assert_eq!(topic.status.expect("a status").partitions, Some(5));
    });
}

#[test]
fn a_config_key_that_is_removed_goes_back_to_default_and_a_foreign_one_is_left_alone() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\nconfig: {retention.ms: '60000', max.message.bytes: '2000000'}")
            .await;
        w.ready::<Topic>("orders").await;
        let name = w.name("orders");
        w.kafka
            .set_config(
                &name,
                &[("retention.ms", "60000"), ("max.message.bytes", "2000000"), ("segment.ms", "70000")],
            )
            .await;

        w.topic("orders", "partitions: 1\nconfig: {max.message.bytes: '2000000'}").await;
        let seen = w
            .kafka
            .until_topic(&name, "has no retention.ms", |topic| !topic.config.contains_key("retention.ms"))
            .await;
        assert_eq!(seen.config["segment.ms"], "70000");
        assert_eq!(seen.config["max.message.bytes"], "2000000");
        w.condition::<Topic>("orders", "InSync", "True", "").await;
    });
}

#[test]
fn dead_letter_and_retry_topics_are_objects_and_topics_of_their_own() {
    world(async |w| {
        w.broker("").await;
        w.topic(
            "orders",
            "partitions: 2\ndeadLetter: {partitions: 1, config: {retention.ms: '1209600000'}}\nretry: {delays: [10s, 1m]}",
        )
        .await;
        let topic: Topic = w.ready("orders").await;
        let status = topic.status.clone().expect("a status");
        assert_eq!(status.dead_letter, Some(w.name("orders.dlq")));
        let retries: Vec<_> =
            status.retries.iter().map(|retry| (retry.name.clone(), retry.delay.to_string())).collect();
        assert_eq!(
            retries,
            [(w.name("orders.retry.10s"), "10s".into()), (w.name("orders.retry.1m"), "1m".into())]
        );

        for (name, partitions) in [("orders.dlq", 1), ("orders.retry.10s", 2), ("orders.retry.1m", 2)] {
            let companion: Topic = w.ready(name).await;
            let owners = companion.metadata.owner_references.clone().unwrap_or_default();
            assert_eq!(owners.len(), 1, "{owners:?}");
            assert_eq!(Some(&owners[0].uid), topic.metadata.uid.as_ref());
            let seen = w.kafka.topic(&w.name(name)).await.expect("a topic");
            assert_eq!(seen.partitions, partitions, "{name}");
        }
        let dead_letter = w.kafka.topic(&w.name("orders.dlq")).await.expect("a topic");
        assert_eq!(dead_letter.config["retention.ms"], "1209600000");
    });
}

#[test]
fn two_topics_share_one_dead_letter_topic() {
    world(async |w| {
        w.broker("").await;
        for name in ["payment", "order"] {
            w.topic(
                name,
                &format!("name: ${{PREFIX}}{name}\npartitions: 1\ndeadLetter: {{name: '${{PREFIX}}dlq'}}"),
            )
            .await;
        }
        let payment: Topic = w.ready("payment").await;
        w.ready::<Topic>("order").await;
        assert_eq!(payment.status.expect("a status").dead_letter, Some(w.name("dlq")));
        let shared: Topic = w
            .until(&w.name("dlq"), "the companion has both owners", |topic: &Topic| {
                topic.metadata.owner_references.as_ref().is_some_and(|owners| owners.len() == 2)
            })
            .await;
        let owners = shared.metadata.owner_references.unwrap_or_default();
        assert!(owners.iter().all(|owner| owner.controller != Some(true)), "{owners:?}");

        w.delete::<Topic>("payment").await;
        w.until_gone::<Topic>("payment").await;
        w.ready::<Topic>(&w.name("dlq")).await;
        assert!(w.kafka.topic(&w.name("dlq")).await.is_some());
    });
}

#[test]
fn a_retry_delay_that_is_removed_keeps_its_topic() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\nretry: {delays: [10s, 1m]}").await;
        w.ready::<Topic>("orders").await;
        w.topic("orders", "partitions: 1\nretry: {delays: [10s]}").await;
        w.until("orders", "the status names one retry topic", |topic: &Topic| {
            topic.status.as_ref().is_some_and(|status| status.retries.len() == 1)
        })
        .await;
        assert!(w.kafka.topic(&w.name("orders.retry.1m")).await.is_some());
    });
}

#[test]
fn a_config_key_that_the_broker_does_not_know_is_refused_in_its_own_words() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\nconfig: {retention.mss: '1'}").await;
        let topic: Topic = w.condition("orders", "Ready", "False", "BrokerRefused").await;
        assert!(
            topic.message("Ready").contains("Unknown topic config name: retention.mss"),
            "{}",
            topic.summary()
        );
        assert!(w.kafka.topic(&w.name("orders")).await.is_none());

        w.topic("orders", "partitions: 1\nconfig: {retention.ms: '60000'}").await;
        w.ready::<Topic>("orders").await;
    });
}

#[test]
fn what_kafka_refuses_is_found_before_the_first_companion_is_made() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\nconfig: {retention.mss: '1'}\ndeadLetter: {}").await;
        w.condition::<Topic>("orders", "Ready", "False", "BrokerRefused").await;
        assert!(w.api::<Topic>().get_opt("orders.dlq").await.expect("an answer").is_none());
    });
}

#[test]
fn a_name_that_collides_with_another_in_kafkas_metrics_is_told_in_its_own_words() {
    world(async |w| {
        w.broker("").await;
        w.kafka.create(&w.name("orders.v1"), 1, &[]).await;
        let spec = "name: ${PREFIX}orders_v1\npartitions: 1";
        for (name, more) in [("plain", ""), ("with-companions", "\ndeadLetter: {}\ndeletionPolicy: Delete")] {
            w.topic(name, &format!("{spec}{more}")).await;
            let topic: Topic = w.condition(name, "Ready", "False", "NameCollision").await;
            let words = topic.message("Ready");
            assert!(words.contains("collides with existing topic"), "{words}");
            w.condition::<Topic>(name, "Stalled", "True", "").await;
            w.delete::<Topic>(name).await;
            w.until_gone::<Topic>(name).await;
        }
        let made = w.api::<Topic>().list(&kube::api::ListParams::default()).await.expect("a list");
        assert_eq!(made.items.len(), 0);
        assert!(w.kafka.topic(&w.name("orders_v1")).await.is_none());
    });
}

#[test]
fn of_topics_that_kafka_would_not_tell_apart_the_first_that_is_declared_is_made() {
    world(async |w| {
        w.topic("first", "name: ${PREFIX}shop.orders\npartitions: 1").await;
        // The API server tells times in seconds.
        until("a later second", async || {
            let first: Topic = w.get("first").await;
            let created = first.metadata.creation_timestamp.expect("a time").0;
            let later = jiff::Timestamp::now().as_second() > created.as_second();
            if later { Ok(()) } else { Err("not yet".into()) }
        })
        .await;
        w.topic("second", "name: ${PREFIX}shop_orders\npartitions: 1\ndeadLetter: {}").await;
        // Both are new to the operator at once.
        w.broker("").await;
        w.ready::<Topic>("first").await;
        let second: Topic = w.condition("second", "Ready", "False", "NameCollision").await;
        let words = second.message("Ready");
        assert!(words.contains("which Topic") && words.contains("/first declared before"), "{words}");
        assert!(w.kafka.topic(&w.name("shop_orders")).await.is_none());
        assert!(w.api::<Topic>().get_opt("second.dlq").await.expect("an answer").is_none());
        // One that belongs to the same Topic is found before any of them is made.
        w.topic("own", "name: ${PREFIX}own.x\npartitions: 1\ndeadLetter: {name: '${PREFIX}own_x'}").await;
        w.condition::<Topic>("own", "Ready", "False", "NameCollision").await;
        assert!(w.kafka.topic(&w.name("own.x")).await.is_none());
    });
}

#[test]
fn more_replicas_than_brokers_are_refused_in_the_brokers_own_words() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\nreplicationFactor: 99").await;
        let topic: Topic = w.condition("orders", "Ready", "False", "BrokerRefused").await;
        let words = topic.message("Ready");
        assert!(words.contains("99") && words.to_lowercase().contains("replication"), "{words}");
    });
}

#[test]
fn fewer_partitions_are_refused_at_admission() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        let words = w.refused(&topic_yaml("orders", "partitions: 2")).await;
        assert!(words.contains("may grow but never shrink"), "{words}");
    });
}

#[test]
fn fewer_partitions_than_an_adopted_topic_has_are_refused_and_nothing_is_written() {
    world(async |w| {
        w.broker("").await;
        w.kafka.create(&w.name("orders"), 4, &[]).await;
        w.topic("orders", "partitions: 2\nadoption: Adopt\nconfig: {retention.ms: '60000'}").await;
        let topic: Topic = w.condition("orders", "Ready", "False", "PartitionsShrink").await;
        assert!(topic.message("Ready").contains("has 4 partitions"), "{}", topic.summary());
        w.condition::<Topic>("orders", "Stalled", "True", "").await;
        let seen = w.kafka.topic(&w.name("orders")).await.expect("a topic");
        assert_eq!((seen.partitions, seen.config.len()), (4, 0));
    });
}

#[test]
fn another_replication_factor_is_refused() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\nreplicationFactor: 1").await;
        w.ready::<Topic>("orders").await;
        w.topic("orders", "partitions: 1\nreplicationFactor: 2").await;
        let topic: Topic = w.condition("orders", "Ready", "False", "ReassignmentUnsupported").await;
        assert!(topic.message("Ready").contains("kafka-reassign-partitions"), "{}", topic.summary());
    });
}

#[test]
fn names_that_kafka_does_not_take_are_refused_at_admission() {
    world(async |w| {
        for name in ["'a/b'", "'..'", "'a b'", "''"] {
            let yaml = topic_yaml("orders", "partitions: 1").replace("${PREFIX}orders", name);
            let words = w.refused(&yaml).await;
            assert!(words.contains("spec.name"), "{name}: {words}");
        }
    });
}

#[test]
fn kafkas_own_topics_are_refused_at_admission_also_as_dead_letter_topics() {
    world(async |w| {
        for name in KAFKAS_OWN {
            let more = "adoption: Adopt\ndeletionPolicy: Delete";
            let yaml = topic_yaml("orders", more).replace("${PREFIX}orders", name);
            let words = w.refused(&yaml).await;
            assert!(words.contains("spec.name") && words.contains("keeps by itself"), "{name}: {words}");
            let words = w.refused(&topic_yaml("orders", &format!("deadLetter: {{name: {name}}}"))).await;
            assert!(words.contains("spec.deadLetter.name"), "{name}: {words}");
        }
        // Others begin that way, too. Nothing is made of it: there is no Broker.
        w.apply(&topic_yaml("orders", "").replace("${PREFIX}orders", "__debezium-heartbeat")).await;
    });
}

#[test]
fn a_name_and_a_broker_cannot_be_changed() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1").await;
        let yaml = topic_yaml("orders", "partitions: 1");
        let renamed = w.refused(&yaml.replace("${PREFIX}orders", "${PREFIX}other")).await;
        assert!(renamed.contains("name is immutable"), "{renamed}");
        let moved = w.refused(&yaml.replace("{name: kafka}", "{name: other}")).await;
        assert!(moved.contains("brokerRef is immutable"), "{moved}");
    });
}

#[test]
fn a_paused_topic_is_frozen_until_the_annotation_goes() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1").await;
        w.ready::<Topic>("orders").await;
        w.annotate::<Topic>("orders", "spillway.dev/paused", Some("true")).await;
        w.condition::<Topic>("orders", "Paused", "True", "").await;
        w.topic("orders", "partitions: 4").await;
        w.until("orders", "the new spec was looked at", |topic: &Topic| {
            topic.observed() == topic.metadata.generation
        })
        .await;
        assert_eq!(w.kafka.topic(&w.name("orders")).await.expect("a topic").partitions, 1);
        w.annotate::<Topic>("orders", "spillway.dev/paused", None).await;
        w.kafka.until_topic(&w.name("orders"), "has 4 partitions", |topic| topic.partitions == 4).await;
        let topic: Topic = w.ready("orders").await;
        assert!(
            topic.condition("Paused").is_none_or(|paused| paused.status == "False"),
            "{}",
            topic.summary()
        );
    });
}

#[test]
fn observe_looks_and_never_writes() {
    world(async |w| {
        w.broker("").await;
        w.topic("missing", "partitions: 1\nmanagementPolicy: Observe").await;
        w.condition::<Topic>("missing", "Ready", "False", "NotFound").await;
        assert!(w.kafka.topic(&w.name("missing")).await.is_none());

        w.kafka.create(&w.name("orders"), 1, &[]).await;
        w.topic("orders", "partitions: 3\nmanagementPolicy: Observe\ndeletionPolicy: Delete").await;
        let topic: Topic = w.condition("orders", "InSync", "False", "Differs").await;
        let plan = topic.status.expect("a status").plan;
        assert_eq!(plan, ["add partitions: 1 → 3"]);
        w.delete::<Topic>("orders").await;
        w.until_gone::<Topic>("orders").await;
        assert_eq!(w.kafka.topic(&w.name("orders")).await.expect("a topic").partitions, 1);
    });
}

#[test]
fn a_hundred_topics_are_made_in_seconds() {
    world(async |w| {
        w.broker("").await;
        for n in 0..100 {
            w.topic(&format!("t{n}"), "partitions: 1").await;
        }
        let api = w.api::<Topic>();
        until("100 topics are ready", async || {
            let topics =
                api.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
            let ready = |topic: &&Topic| topic.condition("Ready").is_some_and(|ready| ready.status == "True");
            let count = topics.items.iter().filter(ready).count();
            if count == 100 { Ok(()) } else { Err(format!("{count} are")) }
        })
        .await;
        for n in [0, 50, 99] {
            assert!(w.kafka.topic(&w.name(&format!("t{n}"))).await.is_some(), "t{n}");
        }
    });
}
