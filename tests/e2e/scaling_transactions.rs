//! Scaling beside transactions: one that hangs hides records, one that ended leaves an offset without any.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use spillway_operator::api::{Consumer, Topic};

use crate::bed::{Object as _, World, consumer_yaml, deployment, required, until, until_within, world};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A producer of transactions that nobody ends but the test.
fn transactional(w: &World) -> FutureProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", required("SPILLWAY_TEST_KAFKA"))
        .set("transactional.id", w.name("transactions"))
        .set("transaction.timeout.ms", "600000");
    let producer: FutureProducer = config.create().expect("a producer");
    producer.init_transactions(TIMEOUT).expect("transactions");
    producer
}

/// Begins a transaction with so many records.
async fn begin(producer: &FutureProducer, topic: &str, records: usize) {
    producer.begin_transaction().expect("a transaction");
    for _ in 0..records {
        let record = FutureRecord::<(), _>::to(topic).partition(0).payload("in a transaction");
        producer.send(record, TIMEOUT).await.expect("sent");
    }
}

/// What the group would have committed after this many offsets. No member is needed: what is said of lag and of
/// transactions depends on offsets alone.
fn commit(w: &World, group: &str, topic: &str, offset: i64) {
    let outsider: BaseConsumer = w.kafka.member(&w.name(group)).create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&w.name(topic), 0, Offset::Offset(offset)).expect("an offset");
    outsider.commit(&list, CommitMode::Sync).expect("committed");
}

/// A Consumer that may go to zero, of a group and a workload of its own name.
async fn reader(w: &World, name: &str, topic: &str, isolation: &str, tolerance: u32) {
    w.apply(&deployment(w, name, 1).await).await;
    let scaling = format!(
        "scaling: {{minReplicas: 0, idle: {{after: 3s, lagTolerance: {tolerance}}}, \
         scaleDown: {{stabilization: 3s, peakMemory: 3s}}, tuning: {{coldStart: 2s, rebalance: 500ms}}}}"
    );
    let yaml = consumer_yaml(name, &format!("scaleTargetRef: {{name: {name}}}\n{scaling}"))
        .replace("${PREFIX}group", &format!("${{PREFIX}}{name}"))
        .replace("${PREFIX}orders", &format!("${{PREFIX}}{topic}"))
        .replace("offsetReset: earliest", &format!("offsetReset: earliest, isolation: {isolation}"));
    w.apply(&yaml).await;
    w.ready::<Consumer>(name).await;
}

async fn wanted(w: &World, name: &str) -> Option<i32> {
    let deployments: Api<Deployment> = Api::namespaced(w.client.clone(), &w.namespace);
    deployments.get(name).await.expect("a Deployment").spec.and_then(|spec| spec.replicas)
}

async fn until_wanted(w: &World, name: &str, replicas: i32) {
    until(&format!("{name} is to have {replicas}"), async || match wanted(w, name).await {
        Some(now) if now == replicas => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn until_lag(w: &World, name: &str, messages: u32) {
    let series = format!("spillway_consumer_lag_messages{{namespace=\"{}\",name=\"{name}\"}}", w.namespace);
    until(&format!("{messages} messages wait for {name}"), async || {
        match w.operator().metric(&series).await {
            Some(lag) if (lag - f64::from(messages)).abs() < 0.5 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Waits until a guard about the topic stands, longer than any takes; meanwhile a replica each stays with `kept`.
async fn until_guard(w: &World, name: &str, guard: &str, topic: &str, kept: &[&str]) {
    until_within(Duration::from_secs(120), &format!("{name} has {guard}"), async || {
        for name in kept {
            assert_eq!(wanted(w, name).await, Some(1), "{name} while something may wait");
        }
        let consumer: Consumer = w.get(name).await;
        let named = format!("{}/0: ", w.name(topic));
        let stands =
            consumer.condition(guard).is_some_and(|is| is.status == "True" && is.message.contains(&named));
        if stands { Ok(()) } else { Err(consumer.summary()) }
    })
    .await;
}

async fn until_no_guard(w: &World, name: &str, guard: &str) {
    w.until(name, &format!("{guard} is over"), |consumer: &Consumer| consumer.condition(guard).is_none())
        .await;
}

#[test]
fn an_open_transaction_holds_who_reads_what_is_committed_and_nobody_else_and_a_marker_is_no_message() {
    world(async |w| {
        w.broker("").await;
        for topic in ["orders", "marked"] {
            w.topic(topic, "partitions: 1").await;
            w.ready::<Topic>(topic).await;
        }
        let producer = transactional(w);
        // What a consumer of these three records commits is the marker's offset.
        begin(&producer, &w.name("marked"), 3).await;
        producer.commit_transaction(TIMEOUT).expect("committed");
        commit(w, "tolerant", "marked", 3);
        commit(w, "strict", "marked", 3);
        w.kafka.produce(&w.name("orders"), 0, 5).await;
        commit(w, "careful", "orders", 5);
        commit(w, "eager", "orders", 5);
        // Open before anybody looks: nothing is idle in between.
        begin(&producer, &w.name("orders"), 4).await;
        reader(w, "careful", "orders", "ReadCommitted", 1).await;
        reader(w, "eager", "orders", "ReadUncommitted", 1).await;
        reader(w, "tolerant", "marked", "ReadCommitted", 1).await;
        reader(w, "strict", "marked", "ReadCommitted", 0).await;
        w.kafka.produce(&w.name("orders"), 0, 3).await;

        until_lag(w, "eager", 7).await;
        until_lag(w, "careful", 0).await;
        until_lag(w, "strict", 1).await;
        commit(w, "eager", "orders", 12);
        until_wanted(w, "eager", 0).await;
        until_guard(w, "careful", "LsoStalled", "orders", &["careful", "strict"]).await;
        until_guard(w, "tolerant", "PhantomLag", "marked", &["careful", "strict"]).await;
        until_wanted(w, "tolerant", 0).await;

        producer.commit_transaction(TIMEOUT).expect("committed");
        until_no_guard(w, "careful", "LsoStalled").await;
        // What was hidden, what was written after it, and the marker.
        until_lag(w, "careful", 8).await;
        assert_eq!(wanted(w, "careful").await, Some(1));
        commit(w, "careful", "orders", 13);
        until_wanted(w, "careful", 0).await;

        // A message ends the other one.
        w.kafka.produce(&w.name("marked"), 0, 1).await;
        until_wanted(w, "tolerant", 1).await;
        until_no_guard(w, "tolerant", "PhantomLag").await;
        assert_eq!(wanted(w, "strict").await, Some(1), "a marker is a message to who tolerates none");
    });
}
