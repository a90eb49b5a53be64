//! What the tests share: the broker, names, waiting for a condition.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use spillway_operator::brokers::kafka::{KafkaClient, KafkaSettings, NewTopic};

pub const TIMEOUT: Duration = Duration::from_secs(20);

pub fn environment(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: these tests need a real Kafka (test bed)"))
}

pub fn plain_settings() -> KafkaSettings {
    KafkaSettings::plaintext(vec![environment("SPILLWAY_TEST_KAFKA")], "spillway-test")
}

pub fn client() -> KafkaClient {
    KafkaClient::connect(&plain_settings()).expect("plain settings are valid")
}

/// A name no other test and no other run uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    format!("test-{now:x}-{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: Some(1),
        config: BTreeMap::new(),
    }
}

/// Asks until the answer is there: what the controller decided, a broker knows a moment later. With thousands of
/// topics on a busy machine that moment takes a while.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + TIMEOUT * 6;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn create(client: &KafkaClient, topics: &[NewTopic]) {
    for (name, created) in client.create_topics(topics, false, TIMEOUT).await.expect("the broker answers") {
        created.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
    eventually("the topics are known", async || {
        let described = client.describe_topics(&names, TIMEOUT).await.expect("the broker answers");
        let led = |partitions: &[spillway_operator::brokers::kafka::PartitionMeta]| {
            partitions.iter().all(|partition| partition.leader.is_some())
        };
        described
            .iter()
            .all(|(_, topic)| topic.as_ref().is_ok_and(|topic| led(&topic.partitions)))
            .then_some(())
    })
    .await;
}

pub async fn delete(client: &KafkaClient, names: &[String]) {
    for (name, deleted) in client.delete_topics(names, TIMEOUT).await.expect("the broker answers") {
        deleted.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
