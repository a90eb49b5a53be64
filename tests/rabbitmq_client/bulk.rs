//! How long a large topology takes.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use spillway_operator::api::arguments::Arguments;
use spillway_operator::brokers::lane::Lane;
use spillway_operator::brokers::rabbitmq::{Observer, RabbitClient};

use crate::support::{exchange, in_vhost, queue, to_queue};

const QUEUES: usize = 1_000;

fn name(number: usize) -> String {
    format!("bulk.{number:04}")
}

async fn timed<T>(what: &str, done: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let result = done.await;
    println!("{what}: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(120), "{what} took {:?}", begun.elapsed());
    result
}

async fn declare(client: &RabbitClient, vhost: &str) {
    let queues = (0..QUEUES).map(async |number| client.declare_queue(vhost, &queue(&name(number))).await);
    let declared = timed("declare a thousand queues", try_join_all(queues)).await.expect("they are new");
    assert!(declared.iter().all(|declared| declared.created));
    client.declare_exchange(vhost, &exchange("e", "topic")).await.expect("valid");
    let bindings = (0..QUEUES).map(async |number| {
        client.bind(vhost, "e", &to_queue(&name(number)), &name(number), &Arguments::new()).await
    });
    timed("make a thousand bindings", try_join_all(bindings)).await.expect("both ends are there");
}

#[tokio::test]
async fn a_thousand_queues_are_declared_listed_and_observed_in_seconds() {
    in_vhost(async |client, vhost| {
        declare(&client, &vhost).await;
        let queues = timed("list queues", client.list_queues(Some(&vhost))).await.expect("RabbitMQ answers");
        assert_eq!(queues.len(), QUEUES);
        let statistics = timed("list statistics of queues", client.list_queue_statistics(Some(&vhost))).await;
        assert_eq!(statistics.expect("RabbitMQ answers").len(), QUEUES);
        let bindings = timed("list bindings", client.list_bindings(Some(&vhost))).await;
        assert_eq!(bindings.expect("RabbitMQ answers").len(), QUEUES);

        let observer = Observer::new(&client);
        timed("sweep", observer.sweep(Lane::Resync)).await.expect("RabbitMQ answers");
        let (asked, before) = (Instant::now(), client.requests_sent());
        let ask = async |number| observer.queue(&vhost, &name(number), asked, Lane::User).await;
        let seen = timed("observe every queue", try_join_all((0..QUEUES).map(ask))).await;
        assert!(seen.expect("RabbitMQ answers").iter().all(|seen| seen.queue.is_some()));
        println!("requests: {}", client.requests_sent() - before);
        let ask = async |number| client.queue(&vhost, &name(number)).await;
        timed("read 500 queues one by one", try_join_all((0..500).map(ask))).await.expect("RabbitMQ answers");
        let ask = async |number| client.bindings_to(&vhost, &to_queue(&name(number))).await;
        timed("read the bindings of 500 queues", try_join_all((0..500).map(ask)))
            .await
            .expect("RabbitMQ answers");
    })
    .await;
}
