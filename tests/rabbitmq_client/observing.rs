//! Many who ask at once.

use std::time::Instant;

use futures::future::try_join_all;
use reqwest::Method;
use serde_json::json;
use spillway_operator::api::arguments::Arguments;
use spillway_operator::brokers::lane::Lane;
use spillway_operator::brokers::rabbitmq::{ErrorKind, Observer, RabbitClient};

use crate::support::{client, eventually, exchange, in_vhost, queue, raw, to_queue, unique};

const QUEUES: usize = 50;
const ASKING: usize = 500;

fn name(number: usize) -> String {
    format!("q{}", number % QUEUES)
}

/// Queues, each bound to the exchange `e`.
async fn fill(client: &RabbitClient, vhost: &str) {
    client.declare_exchange(vhost, &exchange("e", "topic")).await.expect("valid");
    try_join_all((0..QUEUES).map(async |number| {
        client.declare_queue(vhost, &queue(&name(number))).await?;
        client.bind(vhost, "e", &to_queue(&name(number)), &name(number), &Arguments::new()).await
    }))
    .await
    .expect("valid");
}

#[tokio::test]
async fn five_hundred_who_ask_at_once_cost_few_requests() {
    in_vhost(async |client, vhost| {
        fill(&client, &vhost).await;
        let (observer, before) = (Observer::new(&client), client.requests_sent());
        let asked = Instant::now();
        let ask = |number: usize| {
            let (observer, vhost) = (observer.clone(), vhost.clone());
            async move { observer.queue(&vhost, &name(number), asked, Lane::Resync).await }
        };
        let answers = try_join_all((0..ASKING).map(ask)).await.expect("RabbitMQ answers");
        for (number, seen) in answers.iter().enumerate() {
            assert_eq!(seen.queue.as_ref().expect("it is there").name, name(number));
            assert_eq!(seen.bindings.len(), 1);
            assert_eq!(seen.bindings[0].routing_key, name(number));
        }
        let sent = client.requests_sent() - before;
        println!("{ASKING} questions: {sent} requests in {:?}", asked.elapsed());
        assert!(sent < 40, "{sent}");
        let missing = observer.queue(&vhost, "none", asked, Lane::User).await.expect("RabbitMQ answers");
        assert_eq!((missing.queue, missing.bindings), (None, vec![]));
        assert_eq!(client.requests_sent() - before, sent, "what is kept was enough");
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_never_older_than_what_was_asked_for() {
    in_vhost(async |client, vhost| {
        fill(&client, &vhost).await;
        let observer = Observer::new(&client);
        observer.sweep(Lane::Resync).await.expect("RabbitMQ answers");
        for round in 0..3 {
            let new = format!("new{round}");
            client.declare_queue(&vhost, &queue(&new)).await.expect("valid");
            let declared = Instant::now();
            let ask = async |_| observer.queue(&vhost, &new, declared, Lane::User).await;
            for seen in try_join_all((0..100).map(ask)).await.expect("RabbitMQ answers") {
                assert!(seen.queue.is_some(), "round {round}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_sweep_serves_who_asks_after_it_without_another_request() {
    in_vhost(async |client, vhost| {
        fill(&client, &vhost).await;
        let observer = Observer::new(&client);
        let before = client.requests_sent();
        let sweep = observer.sweep(Lane::Resync).await.expect("RabbitMQ answers");
        assert!(client.requests_sent() - before <= 6);
        assert_eq!(sweep.queues.iter().filter(|queue| queue.vhost == vhost).count(), QUEUES);
        assert_eq!(sweep.bindings.iter().filter(|binding| binding.vhost == vhost).count(), QUEUES);
        let before = client.requests_sent();
        let seen = observer.queue(&vhost, "q1", sweep.begun, Lane::Resync).await.expect("it is kept");
        assert_eq!((seen.queue.map(|queue| queue.name), seen.bindings.len()), (Some("q1".into()), 1));
        let none = observer.queue(&vhost, "none", sweep.begun, Lane::Resync).await.expect("it is kept");
        assert_eq!(none.queue, None);
        let seen = observer.route(&vhost, "e", &to_queue("q2"), sweep.begun, Lane::Resync).await;
        let seen = seen.expect("it is kept");
        assert_eq!((seen.source.expect("it is there").kind.as_str(), seen.target_exists), ("topic", true));
        assert_eq!(seen.bindings.len(), 1);
        let policies = observer.policies(&vhost, sweep.begun, Lane::Resync).await.expect("it is kept");
        assert!(policies.policies.is_empty() && policies.operator.is_empty());
        assert_eq!(client.requests_sent(), before);
    })
    .await;
}

#[tokio::test]
async fn a_missing_vhost_is_an_error_for_few_and_for_many() {
    let (observer, vhost) = (Observer::new(&client()), unique("none"));
    let asked = Instant::now();
    let ask = async |_: usize| observer.queue(&vhost, "q", asked, Lane::User).await;
    let mut answers = vec![ask(0).await];
    answers.extend(futures::future::join_all((0..100).map(ask)).await);
    for answer in answers {
        let error = answer.expect_err("there is no such virtual host");
        assert_eq!(error.kind, ErrorKind::NoVhost);
        assert!(error.message.contains(&vhost), "{error}");
    }
}

#[tokio::test]
async fn an_operator_policy_shows_where_there_is_one() {
    in_vhost(async |client, vhost| {
        client.declare_queue(&vhost, &queue("q")).await.expect("valid");
        let definition = json!({"pattern": "^q$", "definition": {"max-length": 5}, "apply-to": "queues"});
        assert_eq!(raw(Method::PUT, &format!("operator-policies/{vhost}/op"), Some(definition)).await.0, 201);
        let observer = Observer::new(&client);
        let seen = eventually("statistics tell of it", async || {
            let asked = Instant::now();
            let seen = observer.queue(&vhost, "q", asked, Lane::User).await.expect("RabbitMQ answers");
            seen.queue.filter(|queue| queue.operator_policy.is_some())
        })
        .await;
        assert_eq!(seen.operator_policy.as_deref(), Some("op"));
        let sweep = observer.sweep(Lane::Resync).await.expect("RabbitMQ answers");
        let swept = sweep.queues.iter().find(|queue| queue.vhost == vhost).expect("it is there");
        assert_eq!(swept.operator_policy.as_deref(), Some("op"));
    })
    .await;
}
