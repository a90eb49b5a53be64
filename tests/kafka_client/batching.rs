//! Single calls put together, at the size of a large installation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::join_all;
use spillway_operator::brokers::kafka::{
    AdminBatcher, BrokerKey, ErrorCode, KafkaClient, KafkaPool, KafkaSettings, Lane, NewTopic,
    TopicConfigChange,
};
use spillway_operator::runtime::lease::Fence;

use crate::support::{TIMEOUT, client, eventually, plain_settings, topic, unique};

#[tokio::test]
async fn two_thousand_topics_are_created_read_changed_and_deleted_one_by_one() {
    const COUNT: usize = 2_000;
    let client = client();
    let batcher = AdminBatcher::new(&client, TIMEOUT * 3);
    let prefix = unique("batch");
    let names: Vec<_> = (0..COUNT).map(|index| format!("{prefix}-{index}")).collect();
    let config = BTreeMap::from([("retention.ms".to_owned(), "60000".to_owned())]);

    let clock = Instant::now();
    let create = |name: &String| {
        batcher.create_topic(NewTopic { config: config.clone(), ..topic(name, 1) }, Lane::User)
    };
    for created in join_all(names.iter().map(create)).await {
        created.expect("created");
    }
    println!("created {COUNT} topics through the batcher in {:?}", clock.elapsed());

    let clock = Instant::now();
    eventually("the broker knows all topics", async || {
        let described = client.describe_topics(&names, TIMEOUT).await.expect("answered");
        described.iter().all(|(_, topic)| topic.is_ok()).then_some(())
    })
    .await;
    println!("the broker knew {COUNT} topics after {:?}", clock.elapsed());
    let clock = Instant::now();
    let read = join_all(names.iter().map(|name| batcher.describe_topic(name.clone(), Lane::Resync))).await;
    println!("described {COUNT} topics through the batcher in {:?}", clock.elapsed());
    let observed = read.into_iter().map(|observed| observed.expect("answered").expect("exists"));
    for (observed, name) in observed.zip(&names) {
        assert_eq!((&observed.name, observed.partitions, observed.replication_factor), (name, 1, 1));
        assert_eq!(observed.config, config);
    }

    let clock = Instant::now();
    let change = |name: &String| TopicConfigChange {
        topic: name.clone(),
        set: BTreeMap::from([("retention.ms".to_owned(), "90000".to_owned())]),
        ..TopicConfigChange::default()
    };
    for changed in join_all(names.iter().map(|name| batcher.alter_configs(change(name), Lane::Resync))).await
    {
        changed.expect("changed");
    }
    println!("changed {COUNT} topics through the batcher in {:?}", clock.elapsed());

    let clock = Instant::now();
    for grown in
        join_all(names.iter().map(|name| batcher.create_partitions(name.clone(), 2, Lane::User))).await
    {
        grown.expect("grown");
    }
    println!("grew {COUNT} topics through the batcher in {:?}", clock.elapsed());

    let clock = Instant::now();
    for deleted in join_all(names.iter().map(|name| batcher.delete_topic(name.clone(), Lane::User))).await {
        deleted.expect("deleted");
    }
    println!("deleted {COUNT} topics through the batcher in {:?}", clock.elapsed());
    println!("resident memory: {}", resident());
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.expect("VmRSS").trim().to_owned()
}

#[tokio::test]
async fn each_object_gets_its_own_outcome_and_the_same_topic_waits_its_turn() {
    let batcher = AdminBatcher::new(&client(), TIMEOUT);
    let name = unique("turns");
    let bad = NewTopic { replication_factor: Some(99), ..topic(&unique("bad"), 1) };
    let (first, second, refused, absent) = tokio::join!(
        batcher.create_topic(topic(&name, 1), Lane::User),
        batcher.create_topic(topic(&name, 1), Lane::User),
        batcher.create_topic(bad, Lane::User),
        batcher.describe_topic(unique("absent"), Lane::User),
    );
    first.expect("created");
    assert_eq!(second.expect_err("exists by then").code, ErrorCode::TopicAlreadyExists);
    assert_eq!(refused.expect_err("too many copies").code, ErrorCode::InvalidReplicationFactor);
    assert_eq!(absent, Ok(None));
    batcher.delete_topic(name.clone(), Lane::User).await.expect("deleted");
    let gone = batcher.delete_topic(name, Lane::User).await.expect_err("gone");
    assert!(gone.is_unknown_topic(), "{gone}");
}

#[tokio::test]
async fn a_call_given_up_in_the_queue_is_never_sent() {
    let client = client();
    let batcher = AdminBatcher::new(&client, TIMEOUT);
    let name = unique("first");
    let given_up = unique("withdrawn");
    let mut withdrawn = Box::pin(batcher.create_topic(topic(&given_up, 1), Lane::User));
    // Queued by the first poll; the worker gets no chance to send it before it is dropped.
    assert!(withdrawn.as_mut().now_or_never().is_none());
    drop(withdrawn);
    batcher.create_topic(topic(&name, 1), Lane::User).await.expect("created");
    let listed = client.list_topics(TIMEOUT).await.expect("answered");
    assert!(listed.iter().all(|topic| topic.name != given_up));
    batcher.delete_topic(name, Lane::User).await.expect("deleted");
}

#[tokio::test]
async fn when_a_request_fails_as_a_whole_each_object_is_told_so() {
    let down = KafkaSettings::plaintext(vec!["127.0.0.1:1".to_owned()], "spillway-test");
    let batcher = AdminBatcher::new(&KafkaClient::connect(&down).expect("valid"), Duration::from_millis(700));
    let calls = (0..20).map(|index| batcher.create_topic(topic(&format!("topic-{index}"), 1), Lane::User));
    for (index, outcome) in join_all(calls).await.into_iter().enumerate() {
        let error = outcome.expect_err("nobody listens there");
        assert!(
            error.to_string().starts_with(&format!("failed to create topic \"topic-{index}\": ")),
            "{error}"
        );
        assert!(error.to_string().ends_with("Connection refused"), "{error}");
    }
}

#[tokio::test]
async fn a_replaced_client_serves_its_last_callers() {
    let pool = KafkaPool::new(TIMEOUT, Fence::open());
    let key = BrokerKey(unique("broker"));
    let old = pool.get(&key, &plain_settings()).expect("valid");
    let changed = KafkaSettings { client_id: "spillway-test-2".to_owned(), ..plain_settings() };
    let new = pool.get(&key, &changed).expect("valid");
    assert!(!Arc::ptr_eq(&old, &new));
    let (of_old, of_new) =
        tokio::join!(old.client.describe_cluster(TIMEOUT), new.client.describe_cluster(TIMEOUT));
    assert_eq!(of_old.expect("answered"), of_new.expect("answered"));
}
