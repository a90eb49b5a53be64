//! The life of a topic, and the broker's words when it refuses.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use spillway_operator::brokers::kafka::{ConfigSource, ErrorCode, KafkaError, NewTopic, TopicConfigChange};

use crate::support::{TIMEOUT, client, create, delete, eventually, topic, unique};

fn change(topic: &str, set: &[(&str, &str)], delete: &[&str]) -> TopicConfigChange {
    TopicConfigChange {
        topic: topic.to_owned(),
        set: set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        delete: delete.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>(),
    }
}

fn only<T>(mut outcomes: Vec<(String, Result<T, KafkaError>)>) -> Result<T, KafkaError> {
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0).1
}

#[tokio::test]
async fn the_cluster_tells_its_id_its_controller_and_its_brokers() {
    let cluster = client().describe_cluster(TIMEOUT).await.expect("the broker answers");
    assert!(!cluster.cluster_id.is_empty());
    let controller = cluster.controller_id.expect("there is a controller");
    assert!(cluster.nodes.iter().any(|node| node.id == controller && node.port != 0));
}

#[tokio::test]
async fn a_topic_is_created_changed_grown_and_deleted() {
    let client = client();
    let name = unique("life");
    let names = [name.clone()];
    let config = BTreeMap::from([
        ("retention.ms".to_owned(), "60000".to_owned()),
        ("cleanup.policy".to_owned(), "compact".to_owned()),
    ]);
    create(&client, &[NewTopic { config, ..topic(&name, 3) }]).await;

    let described = only(client.describe_topics(&names, TIMEOUT).await.expect("answered")).expect("exists");
    assert_eq!((described.partitions.len(), described.internal), (3, false));
    assert_eq!(described.topic_id.len(), 22, "16 bytes in base64: {}", described.topic_id);
    assert_eq!(described.partitions[2].replicas, described.partitions[2].isr);

    let changes = [change(&name, &[("retention.ms", "120000")], &["cleanup.policy"])];
    only(client.incremental_alter_configs(&changes, false, TIMEOUT).await.expect("answered"))
        .expect("allowed");
    let own = eventually("the change is seen", async || {
        let entries =
            only(client.describe_configs(&names, TIMEOUT).await.expect("answered")).expect("exists");
        let own: Vec<_> = entries
            .into_iter()
            .filter(|entry| entry.source == ConfigSource::DynamicTopic)
            .map(|entry| (entry.name, entry.value.unwrap_or_default()))
            .collect();
        (own.len() == 1).then_some(own)
    })
    .await;
    assert_eq!(own, [("retention.ms".to_owned(), "120000".to_owned())]);

    only(client.create_partitions(&[(name.clone(), 5)], false, TIMEOUT).await.expect("answered"))
        .expect("grows");
    eventually("the topic has grown", async || {
        let described =
            only(client.describe_topics(&names, TIMEOUT).await.expect("answered")).expect("exists");
        (described.partitions.len() == 5).then_some(())
    })
    .await;
    let listed = client.list_topics(TIMEOUT).await.expect("answered");
    let listed = listed.iter().find(|topic| topic.name == name).expect("listed");
    assert_eq!((listed.partitions.len(), listed.internal, listed.error.clone()), (5, false, None));

    delete(&client, &names).await;
    let error = eventually("the topic is gone", async || {
        only(client.describe_topics(&names, TIMEOUT).await.expect("answered")).err()
    })
    .await;
    assert_eq!(error.code, ErrorCode::UnknownTopicOrPartition);
    assert!(error.is_unknown_topic());
}

#[tokio::test]
async fn what_is_left_out_takes_the_brokers_default() {
    let client = client();
    let name = unique("defaults");
    create(&client, &[NewTopic { partitions: None, replication_factor: None, ..topic(&name, 0) }]).await;
    let described =
        only(client.describe_topics(std::slice::from_ref(&name), TIMEOUT).await.expect("answered"))
            .expect("exists");
    assert!(!described.partitions.is_empty() && !described.partitions[0].replicas.is_empty());
    delete(&client, &[name]).await;
}

#[tokio::test]
async fn a_refusal_carries_the_brokers_words_and_leaves_the_others_alone() {
    let client = client();
    let good = unique("good");
    let config = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let wishes = [
        topic(&good, 1),
        topic("not a name", 1),
        NewTopic { replication_factor: Some(99), ..topic(&unique("copies"), 1) },
        NewTopic { config: config("retention.ms", "soon"), ..topic(&unique("value"), 1) },
        NewTopic { config: config("retention.fs", "1"), ..topic(&unique("key"), 1) },
        topic(&unique("none"), 0),
        topic("", 1),
        topic("nul\0inside", 1),
        NewTopic { partitions: Some(-7), ..topic(&unique("negative"), 1) },
        topic(&good, 2),
    ];
    let outcomes = client.create_topics(&wishes, false, TIMEOUT).await.expect("the broker answers");
    let expected: [Option<(ErrorCode, &str)>; 10] = [
        None,
        Some((ErrorCode::InvalidTopic, "contains one or more characters other than ASCII alphanumerics")),
        Some((ErrorCode::InvalidReplicationFactor, "replication factor of 99 cannot be reached")),
        Some((ErrorCode::InvalidConfig, "Invalid value soon for configuration retention.ms")),
        Some((ErrorCode::InvalidConfig, "Unknown topic config name: retention.fs")),
        Some((ErrorCode::InvalidPartitions, "non-positive")),
        Some((ErrorCode::InvalidInput, "the name is empty")),
        Some((ErrorCode::InvalidInput, "contains a NUL")),
        Some((ErrorCode::InvalidInput, "-7 is no number of partitions")),
        Some((ErrorCode::InvalidInput, "named twice")),
    ];
    assert_eq!(outcomes.len(), expected.len());
    for ((wish, (name, outcome)), expected) in wishes.iter().zip(&outcomes).zip(expected) {
        assert_eq!(&wish.name, name);
        match (outcome, expected) {
            (Ok(()), None) => (),
            (Err(error), Some((code, words))) => {
                assert_eq!(error.code, code, "{error}");
                assert!(error.message.contains(words), "{error}");
                assert!(
                    error.to_string().starts_with(&format!("failed to create topic {name:?}: ")),
                    "{error}"
                );
                assert!(!error.is_retriable() && !error.is_unreachable(), "{error}");
            }
            (outcome, expected) => panic!("{name:?}: {outcome:?}, expected {expected:?}"),
        }
    }

    delete(&client, &[good]).await;
}

#[tokio::test]
async fn what_a_topic_has_already_is_refused_in_the_brokers_words() {
    let client = client();
    let good = unique("has");
    create(&client, &[topic(&good, 1)]).await;
    let again = only(client.create_topics(&[topic(&good, 1)], false, TIMEOUT).await.expect("answered"));
    assert_eq!(again.expect_err("exists").code, ErrorCode::TopicAlreadyExists);
    let fewer = only(client.create_partitions(&[(good.clone(), 1)], false, TIMEOUT).await.expect("answered"));
    let fewer = fewer.expect_err("not an increase");
    assert_eq!(fewer.code, ErrorCode::InvalidPartitions);
    assert!(fewer.message.contains("1 partition"), "{fewer}");
    let changes = [change(&good, &[("retention.ms", "soon")], &[])];
    let value = only(client.incremental_alter_configs(&changes, false, TIMEOUT).await.expect("answered"));
    let value = value.expect_err("not a number");
    assert_eq!(value.code, ErrorCode::InvalidConfig);
    assert!(value.message.contains("Invalid value soon for configuration retention.ms"), "{value}");
    delete(&client, &[good]).await;
}

#[tokio::test]
async fn a_trial_run_answers_like_the_real_one_and_changes_nothing() {
    let client = client();
    let name = unique("trial");
    let good = only(client.create_topics(&[topic(&name, 1)], true, TIMEOUT).await.expect("answered"));
    good.expect("would be created");
    let bad = NewTopic { replication_factor: Some(99), ..topic(&name, 1) };
    let bad = only(client.create_topics(&[bad], true, TIMEOUT).await.expect("answered"));
    assert_eq!(bad.expect_err("too many copies").code, ErrorCode::InvalidReplicationFactor);

    create(&client, &[topic(&name, 1)]).await;
    only(client.create_partitions(&[(name.clone(), 4)], true, TIMEOUT).await.expect("answered"))
        .expect("would grow");
    let changes = [change(&name, &[("retention.ms", "1")], &[])];
    only(client.incremental_alter_configs(&changes, true, TIMEOUT).await.expect("answered"))
        .expect("would change");
    let described =
        only(client.describe_topics(std::slice::from_ref(&name), TIMEOUT).await.expect("answered"))
            .expect("exists");
    assert_eq!(described.partitions.len(), 1);
    let entries =
        only(client.describe_configs(std::slice::from_ref(&name), TIMEOUT).await.expect("answered"))
            .expect("exists");
    assert!(entries.iter().all(|entry| entry.source != ConfigSource::DynamicTopic));
    delete(&client, &[name]).await;
}

#[tokio::test]
async fn asking_about_a_topic_does_not_create_it() {
    let client = client();
    let name = unique("never");
    let names = [name.clone()];
    assert!(only(client.describe_topics(&names, TIMEOUT).await.expect("answered")).is_err());
    assert!(only(client.describe_configs(&names, TIMEOUT).await.expect("answered")).is_err());
    assert!(only(client.delete_topics(&names, TIMEOUT).await.expect("answered")).is_err());
    let listed = client.list_topics(TIMEOUT).await.expect("answered");
    assert!(listed.iter().all(|topic| topic.name != name));
}

#[tokio::test]
async fn five_thousand_topics_are_created_described_and_deleted_in_bounded_requests() {
    const COUNT: usize = 5_000;
    let client = client();
    let prefix = unique("many");
    let topics: Vec<_> = (0..COUNT).map(|index| topic(&format!("{prefix}-{index}"), 1)).collect();
    let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
    let timeout = TIMEOUT * 6;
    let clock = std::time::Instant::now();
    let created = client.create_topics(&topics, false, timeout).await.expect("the broker answers");
    println!("created {COUNT} topics in {:?}", clock.elapsed());
    assert!(created.iter().zip(&names).all(|((name, created), asked)| name == asked && created.is_ok()));

    let clock = std::time::Instant::now();
    let ids = eventually("the broker knows them all", async || {
        let described = client.describe_topics(&names, timeout).await.expect("the broker answers");
        assert_eq!(described.len(), COUNT);
        described.into_iter().map(|(_, topic)| Some(topic.ok()?.topic_id)).collect::<Option<HashSet<_>>>()
    })
    .await;
    println!("knew and described {COUNT} topics in {:?}", clock.elapsed());
    assert_eq!(ids.len(), COUNT, "each has an id of its own");

    let clock = std::time::Instant::now();
    let deleted = client.delete_topics(&names, timeout).await.expect("the broker answers");
    println!("deleted {COUNT} topics in {:?}", clock.elapsed());
    assert!(deleted.iter().all(|(_, deleted)| deleted.is_ok()));
}
