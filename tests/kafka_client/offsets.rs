//! Offsets and groups, with real records and real consumers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use spillway_operator::brokers::kafka::{
    ErrorCode, GroupKind, GroupState, Isolation, KafkaClient, KafkaSettings, OffsetQuery, OffsetSpec,
    TopicPartition,
};

use crate::support::{TIMEOUT, client, create, delete, environment, eventually, topic, unique};

fn partition(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.to_owned(), partition }
}

fn query(topic: &str, partition: i32, spec: OffsetSpec) -> OffsetQuery {
    OffsetQuery { topic: topic.to_owned(), partition, spec }
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", environment("SPILLWAY_TEST_KAFKA"));
    config
}

fn produce(topic: &str, partition: i32, records: usize) {
    let producer: BaseProducer = config().create().expect("valid");
    for _ in 0..records {
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload("record");
        producer.send(record).expect("queued");
    }
    producer.flush(TIMEOUT).expect("delivered");
}

/// Joins a group, reads `records` records, commits them, and stays.
fn consume(topic: &str, group: &str, protocol: &str, records: usize) -> BaseConsumer {
    let mut config = config();
    config.set("group.id", group).set("client.id", "worker").set("group.protocol", protocol);
    config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("valid");
    consumer.subscribe(&[topic]).expect("subscribed");
    let deadline = Instant::now() + TIMEOUT;
    for _ in 0..records {
        let record = loop {
            assert!(Instant::now() < deadline, "the records did not arrive");
            if let Some(record) = consumer.poll(Duration::from_millis(100)) {
                break record;
            }
        };
        record.expect("a record");
    }
    consumer.commit_consumer_state(CommitMode::Sync).expect("committed");
    consumer
}

async fn consume_in_background(
    topic: &str,
    group: &str,
    protocol: &'static str,
    records: usize,
) -> BaseConsumer {
    let (topic, group) = (topic.to_owned(), group.to_owned());
    tokio::task::spawn_blocking(move || consume(&topic, &group, protocol, records)).await.expect("consumed")
}

async fn describe(client: &KafkaClient, group: &str) -> spillway_operator::brokers::kafka::GroupDescription {
    client.describe_group(group, TIMEOUT).await.expect("described")
}

#[tokio::test]
async fn both_ends_of_partitions_are_read_and_errors_stay_with_their_partition() {
    let client = client();
    let (name, absent) = (unique("ends"), unique("absent"));
    create(&client, &[topic(&name, 2)]).await;
    produce(&name, 0, 5);
    let records = client.delete_records(&[(partition(&name, 0), 2)], TIMEOUT).await.expect("answered");
    assert_eq!(records, [(partition(&name, 0), Ok(2))]);

    let queries = [
        query(&name, 0, OffsetSpec::Latest),
        query(&name, 0, OffsetSpec::Earliest),
        query(&name, 1, OffsetSpec::Latest),
        query(&name, 0, OffsetSpec::Latest),
        query(&name, 7, OffsetSpec::Latest),
        query(&absent, 0, OffsetSpec::Latest),
        query("nul\0", 0, OffsetSpec::Latest),
    ];
    let clock = Instant::now();
    let offsets = client.list_offsets(&queries, Isolation::ReadCommitted, TIMEOUT).await.expect("answered");
    assert!(
        clock.elapsed() < TIMEOUT / 4,
        "one bad partition must not hold up the others: {:?}",
        clock.elapsed()
    );
    let offsets: BTreeMap<_, _> = offsets.into_iter().collect();
    assert_eq!(offsets.len(), 6, "the query given twice is answered once");
    assert_eq!(offsets[&queries[0]], Ok(5));
    assert_eq!(offsets[&queries[1]], Ok(2));
    assert_eq!(offsets[&queries[2]], Ok(0));
    for unknown in [&queries[4], &queries[5]] {
        let error = offsets[unknown].as_ref().expect_err("does not exist");
        assert_eq!(error.code, ErrorCode::UnknownTopicOrPartition, "{error}");
    }
    assert_eq!(offsets[&queries[6]].as_ref().expect_err("has a NUL").code, ErrorCode::InvalidInput);
    let listed = client.list_topics(TIMEOUT).await.expect("answered");
    assert!(listed.iter().all(|topic| topic.name != absent), "asking must not create");
    delete(&client, &[name]).await;
}

#[tokio::test]
async fn the_lag_of_a_classic_group_can_be_computed_while_it_works_and_after_it_left() {
    let client = client();
    let (name, group) = (unique("classic"), unique("classic-group"));
    create(&client, &[topic(&name, 2)]).await;
    assert_eq!(client.committed_offsets(&group, TIMEOUT).await.expect("answered"), []);
    produce(&name, 0, 3);
    let consumer = consume_in_background(&name, &group, "classic", 3).await;
    produce(&name, 0, 4);

    let committed = client.committed_offsets(&group, TIMEOUT).await.expect("answered");
    assert!(committed.contains(&(partition(&name, 0), Ok(Some(3)))), "{committed:?}");
    let latest = [query(&name, 0, OffsetSpec::Latest)];
    let ends = client.list_offsets(&latest, Isolation::ReadUncommitted, TIMEOUT);
    assert_eq!(ends.await.expect("answered")[0].1, Ok(7));

    let described = describe(&client, &group).await;
    assert_eq!((described.state, described.kind), (GroupState::Stable, GroupKind::Classic));
    assert_eq!(described.members.len(), 1);
    let member = &described.members[0];
    assert_eq!((member.client_id.as_str(), member.assignment.len()), ("worker", 2));
    assert!(member.assignment.contains(&partition(&name, 1)));
    let refused =
        client.delete_groups(std::slice::from_ref(&group), TIMEOUT).await.expect("answered").remove(0).1;
    assert_eq!(refused.expect_err("has a member").code, ErrorCode::NonEmptyGroup);

    tokio::task::spawn_blocking(move || drop(consumer)).await.expect("left");
    let left = eventually("the group is empty", async || {
        let described = describe(&client, &group).await;
        (described.state == GroupState::Empty).then_some(described)
    });
    assert_eq!(left.await.members, []);
    let listed = client.list_groups(TIMEOUT).await.expect("answered");
    assert!(listed.iter().any(|listed| listed.group == group && listed.protocol == "consumer"));
    let deleted =
        client.delete_groups(std::slice::from_ref(&group), TIMEOUT).await.expect("answered").remove(0).1;
    deleted.expect("empty groups can be deleted");
    let absent = client.delete_groups(&[group], TIMEOUT).await.expect("answered").remove(0).1;
    assert_eq!(absent.expect_err("deleted").code, ErrorCode::GroupIdNotFound);
    delete(&client, &[name]).await;
}

#[tokio::test]
async fn a_group_of_the_new_protocol_is_described_with_its_members() {
    let client = client();
    let (name, group) = (unique("next"), unique("next-group"));
    create(&client, &[topic(&name, 2)]).await;
    produce(&name, 1, 2);
    let consumer = consume_in_background(&name, &group, "consumer", 2).await;
    let described = describe(&client, &group).await;
    assert_eq!((described.kind, described.members.len()), (GroupKind::Consumer, 1));
    assert_eq!(described.state, GroupState::Stable);
    assert_eq!(described.members[0].assignment.len(), 2);
    let committed = client.committed_offsets(&group, TIMEOUT).await.expect("answered");
    assert!(committed.contains(&(partition(&name, 1), Ok(Some(2)))), "{committed:?}");
    tokio::task::spawn_blocking(move || drop(consumer)).await.expect("left");
    delete(&client, &[name]).await;
}

#[tokio::test]
async fn the_offsets_of_five_hundred_groups_are_read_in_parallel() {
    const GROUPS: usize = 500;
    let client = client();
    let name = unique("shared");
    create(&client, &[topic(&name, 4)]).await;
    let groups: Vec<_> = (0..GROUPS).map(|index| format!("{name}-{index}")).collect();
    commit(&name, &groups).await;

    let clock = Instant::now();
    let reads = groups.iter().map(|group| client.committed_offsets(group, TIMEOUT));
    let committed = futures::future::try_join_all(reads).await.expect("answered");
    println!("read the committed offsets of {GROUPS} groups in {:?}", clock.elapsed());
    for (index, offsets) in committed.iter().enumerate() {
        let index = i64::try_from(index).expect("small");
        assert!(offsets.contains(&(partition(&name, 3), Ok(Some(index)))), "group {index}: {offsets:?}");
    }
    let clock = Instant::now();
    let described = groups.iter().map(|group| client.describe_group(group, TIMEOUT));
    let described = futures::future::try_join_all(described).await.expect("described");
    println!("described {GROUPS} groups in {:?}", clock.elapsed());
    assert!(described.iter().all(|group| group.state == GroupState::Empty));
    for (group, deleted) in client.delete_groups(&groups, TIMEOUT).await.expect("answered") {
        deleted.unwrap_or_else(|error| panic!("{group}: {error}"));
    }
    delete(&client, &[name]).await;
}

#[tokio::test]
async fn a_broker_tells_for_how_long_it_keeps_offsets() {
    let client = client();
    let cluster = client.describe_cluster(TIMEOUT).await.expect("answered");
    let minutes = client.broker_config(cluster.nodes[0].id, "offsets.retention.minutes", TIMEOUT).await;
    assert!(
        minutes.as_ref().is_ok_and(|minutes| minutes.as_deref().is_some_and(|m| m.parse::<u32>().is_ok())),
        "{minutes:?}"
    );
    let unknown = client.broker_config(cluster.nodes[0].id, "no.such.key", TIMEOUT).await;
    assert_eq!(unknown, Ok(None));
}

/// Commits the group's own number for partition 3, without members.
async fn commit(topic: &str, groups: &[String]) {
    let (topic, groups) = (topic.to_owned(), groups.to_vec());
    let committed = tokio::task::spawn_blocking(move || {
        std::thread::scope(|scope| {
            for (first, chunk) in groups.chunks(25).enumerate() {
                let topic = &topic;
                scope.spawn(move || {
                    for (offset, group) in chunk.iter().enumerate() {
                        let consumer: BaseConsumer = config().set("group.id", group).create().expect("valid");
                        let mut offsets = rdkafka::TopicPartitionList::new();
                        let offset = i64::try_from(first * 25 + offset).expect("small");
                        offsets
                            .add_partition_offset(topic, 3, rdkafka::Offset::Offset(offset))
                            .expect("a valid offset");
                        consumer.commit(&offsets, CommitMode::Sync).expect("committed");
                    }
                });
            }
        });
    });
    committed.await.expect("all committed");
}

/// The process was killed by a null pointer here: a coordinator that moved between its lookup and the
/// question, as it does when a cluster is new.
#[tokio::test]
async fn a_coordinator_that_moved_is_an_error_and_no_crash() {
    let cluster = MockCluster::new(1).expect("a cluster in this process");
    cluster
        .request_errors(RDKafkaApiKey::OffsetFetch, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; 3]);
    let settings = KafkaSettings::plaintext(vec![cluster.bootstrap_servers()], "test");
    let client = KafkaClient::connect(&settings).expect("valid settings");
    for _ in 0..4 {
        if let Err(error) = client.committed_offsets("nobody", Duration::from_secs(5)).await {
            assert!(error.is_retriable(), "{error}");
        }
    }
    client.committed_offsets("nobody", Duration::from_secs(5)).await.expect("the coordinator is there now");
}
