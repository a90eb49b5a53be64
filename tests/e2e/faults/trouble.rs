//! Servers that answer badly for a while: a RabbitMQ that boots, an API server that is overloaded.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use spillway_operator::api::{Binding, Broker, Exchange, Queue, Topic};

use super::{kafka, queue, rabbitmq, topic};
use crate::bed::{Fate, Object as _, Request, Side, Site, World, bare_world, never_within, until_within};

/// Time enough to come to an end once the server is well again, with the longest pause in between.
const SOON: Duration = Duration::from_secs(40);
/// For how long the server is unwell.
const ILL: Duration = Duration::from_secs(4);

fn site(test: impl AsyncFnOnce(&Site, &World)) {
    bare_world(async |w| {
        let site = Site::new(w).await;
        test(&site, w).await;
    });
}

/// What a RabbitMQ node says that is not up yet, by turns.
fn booting(turn: usize) -> Fate {
    match turn % 3 {
        0 => Fate::Answer(
            503,
            vec![],
            json!({"error": "service_unavailable", "reason": "the node is booting"}).to_string(),
        ),
        1 => Fate::Answer(
            400,
            vec![],
            json!({"error": "bad_request", "reason": "{timeout,{rabbitmq_metadata,rabbit@localhost}}"})
                .to_string(),
        ),
        _ => Fate::Answer(500, vec![], "Internal Server Error".into()),
    }
}

/// What an API server says that has too much to do, by turns, and connections that break.
pub fn overloaded(turn: usize) -> Fate {
    let status = |code: u16, reason: &str| {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
            "reason": reason, "message": "the server has too much to do"})
        .to_string()
    };
    match turn % 4 {
        0 => Fate::Answer(429, vec![("retry-after", "1".into())], status(429, "TooManyRequests")),
        1 => Fate::Answer(500, vec![], status(500, "InternalError")),
        2 => Fate::DropBefore,
        _ => Fate::DropAfter,
    }
}

/// How often something was written that passed.
fn times(site: &Site<'_>, since: Instant, what: &str) -> usize {
    site.cut.writes_since(since).iter().filter(|write| write.contains(what)).count()
}

#[test]
fn a_queue_is_made_once_by_a_rabbitmq_that_boots_and_nobody_is_told_to_edit_it() {
    site(async |site, w| {
        let operator = site.start().await;
        rabbitmq(site).await;
        let (begun, mut turn) = (Instant::now(), 0);
        site.cut.arm(&operator, move |request: &Request| {
            if request.side != Side::RabbitMq || begun.elapsed() > ILL {
                return Fate::Pass;
            }
            turn += 1;
            booting(turn)
        });
        w.queue("orders", "maxLength: 9\ndeadLetter: {}\nbindings: [{source: amq.topic, routingKey: a}]")
            .await;
        until_within(ILL + SOON, "the queue is ready", async || {
            let queue: Queue = w.get("orders").await;
            let stalled = queue.condition("Stalled").is_some_and(|stalled| stalled.status == "True");
            assert!(!stalled, "{}", queue.summary());
            let ready = queue.condition("Ready").is_some_and(|ready| ready.status == "True");
            if ready { Ok(()) } else { Err(queue.summary()) }
        })
        .await;
        queue(site, "orders").await;
        // Once it was well: the queue and its dead-letter queue, each declared once.
        let well = begun + ILL;
        assert_eq!(times(site, well, "RabbitMq PUT /api/queues/"), 2, "{:?}", site.cut.writes());
        assert_eq!(times(site, well, "RabbitMq DELETE"), 0, "{:?}", site.cut.writes());
        assert_eq!(w.mq().await.bindings("orders").await, ["amq.topic|a"]);
    });
}

#[test]
fn a_broker_that_boots_is_connected_to_when_it_is_up() {
    site(async |site, w| {
        let operator = site.start().await;
        let (begun, mut turn) = (Instant::now(), 0);
        site.cut.arm(&operator, move |request: &Request| {
            if request.side != Side::RabbitMq || begun.elapsed() > ILL {
                return Fate::Pass;
            }
            turn += 1;
            booting(turn)
        });
        w.rabbit_at(&site.rabbitmq.url(), "").await;
        w.queue("orders", "").await;
        w.ready::<Broker>("rabbitmq").await;
        queue(site, "orders").await;
    });
}

#[test]
fn a_step_that_fails_while_a_node_boots_does_not_undo_or_repeat_what_was_done() {
    site(async |site, w| {
        let operator = site.start().await;
        rabbitmq(site).await;
        // The queue is declared; then the node is not up for its binding.
        let (begun, mut turn) = (Instant::now(), 0);
        site.cut.arm(&operator, move |request: &Request| {
            if !request.what.contains("/api/bindings/") || request.number.is_none() || begun.elapsed() > ILL {
                return Fate::Pass;
            }
            turn += 1;
            booting(turn)
        });
        w.queue("orders", "bindings: [{source: amq.topic, routingKey: a}]").await;
        queue(site, "orders").await;
        let declared = site.cut.writes().iter().filter(|write| write.contains("PUT /api/queues/")).count();
        assert_eq!(declared, 1, "{:?}", site.cut.writes());
        assert_eq!(w.mq().await.bindings("orders").await, ["amq.topic|a"]);
    });
}

#[test]
fn what_was_edited_while_the_api_server_was_away_is_done_once_when_it_is_back() {
    site(async |site, w| {
        let operator = site.start().await;
        kafka(site).await;
        rabbitmq(site).await;
        w.topic("orders", "partitions: 1").await;
        w.queue("orders", "maxLength: 9").await;
        topic(site, "orders").await;
        queue(site, "orders").await;

        site.api.close();
        let away = Instant::now();
        w.topic("orders", "partitions: 2").await;
        w.queue("orders", "maxLength: 8\nbindings: [{source: amq.topic, routingKey: a}]").await;
        w.queue("bills", "deletionPolicy: Delete").await;
        never_within(ILL, "an operator that hears nothing writes nothing", async || {
            let writes = times(site, away, "RabbitMq") + times(site, away, "Kafka");
            if writes == 0 { Ok(()) } else { Err(format!("{:?}", site.cut.writes_since(away))) }
        })
        .await;
        site.api.open();
        topic(site, "orders").await;
        queue(site, "orders").await;
        queue(site, "bills").await;
        assert_eq!(w.kafka.topic(&w.name("orders")).await.expect("a topic").partitions, 2);
        assert_eq!(w.mq().await.bindings("orders").await, ["amq.topic|a"]);
        assert_eq!(times(site, away, "RabbitMq PUT /api/queues/"), 1, "{:?}", site.cut.writes_since(away));
        assert_eq!(operator.exited(), None);
    });
}

#[test]
fn watches_that_expired_while_the_api_server_was_away_begin_anew_and_miss_nothing() {
    site(async |site, w| {
        let operator = site.start().await;
        kafka(site).await;
        w.topic("orders", "partitions: 1").await;
        w.topic("bills", "partitions: 1\ndeletionPolicy: Delete").await;
        topic(site, "orders").await;
        topic(site, "bills").await;
        site.api.close();
        w.topic("orders", "partitions: 2").await;
        w.topic("letters", "partitions: 1").await;
        w.delete::<Topic>("bills").await;
        // Its store was compacted meanwhile: nobody can go on from where they were.
        let expired = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 410,
            "reason": "Expired", "message": "too old resource version"});
        let (told, mut known) = (Arc::new(AtomicUsize::new(0)), BTreeSet::new());
        let tells = told.clone();
        site.cut.lastingly(move |request: &Request| {
            let path = request.what.split('?').next().unwrap_or_default().to_owned();
            if request.side != Side::Kubernetes || !request.what.contains("watch=true") || !known.insert(path)
            {
                return Fate::Pass;
            }
            tells.fetch_add(1, Ordering::Relaxed);
            Fate::Answer(410, vec![("content-type", "application/json".into())], expired.to_string())
        });
        site.api.open();
        topic(site, "orders").await;
        topic(site, "letters").await;
        w.until_gone::<Topic>("bills").await;
        assert_eq!(w.kafka.topic(&w.name("orders")).await.expect("a topic").partitions, 2);
        assert!(told.load(Ordering::Relaxed) >= 6, "of each kind, one: {told:?}");
        assert_eq!(operator.exited(), None);
    });
}

#[test]
fn what_was_edited_and_deleted_while_rabbitmq_was_away_is_done_when_it_is_back() {
    site(async |site, w| {
        let _operator = site.start().await;
        rabbitmq(site).await;
        w.queue("orders", "maxLength: 9\ndeletionPolicy: Delete").await;
        w.queue("bills", "deletionPolicy: Delete").await;
        w.exchange("events", "type: topic\nalternateExchange: x").await;
        queue(site, "orders").await;
        queue(site, "bills").await;
        w.ready::<Exchange>("events").await;
        let binding = "source: events\ndestination: {queue: orders}\nroutingKey";
        w.binding("b", &format!("{binding}: old")).await;
        w.ready::<Binding>("b").await;

        site.rabbitmq.close();
        w.condition::<Broker>("rabbitmq", "Ready", "False", "BrokerUnreachable").await;
        w.queue(
            "orders",
            "maxLength: 8\ndeletionPolicy: Delete\nbindings: [{source: amq.topic, routingKey: a}]",
        )
        .await;
        w.delete::<Queue>("bills").await;
        w.exchange("events", "type: topic").await;
        w.binding("b", &format!("{binding}: new")).await;
        w.condition::<Exchange>("events", "Ready", "False", "BrokerUnreachable").await;
        w.condition::<Binding>("b", "Ready", "False", "BrokerUnreachable").await;
        w.condition::<Queue>("orders", "Ready", "False", "BrokerUnreachable").await;
        w.condition::<Queue>("bills", "Ready", "False", "BrokerUnreachable").await;
        assert!(w.mq().await.queue("bills").await.is_some(), "nobody could delete it");

        site.rabbitmq.open();
        queue(site, "orders").await;
        w.until_gone::<Queue>("bills").await;
        w.ready::<Exchange>("events").await;
        w.ready::<Binding>("b").await;
        assert_eq!(w.mq().await.queues().await, ["orders"]);
        assert_eq!(w.mq().await.bindings("orders").await, ["amq.topic|a", "events|new"]);
        assert_eq!(w.mq().await.policies().await, ["spillway.q.orders"]);
        w.mq().await.until_effective("orders", &json!({"max-length": 8})).await;
    });
}

#[test]
fn an_overloaded_api_server_delays_and_changes_nothing() {
    site(async |site, w| {
        let operator = site.start().await;
        kafka(site).await;
        rabbitmq(site).await;
        let (begun, mut turn) = (Instant::now(), 0);
        site.cut.arm(&operator, move |request: &Request| {
            if request.side != Side::Kubernetes || request.number.is_none() || begun.elapsed() > ILL {
                return Fate::Pass;
            }
            turn += 1;
            overloaded(turn)
        });
        w.topic("orders", "partitions: 1\ndeletionPolicy: Delete\ndeadLetter: {}").await;
        w.queue("orders", "maxLength: 9\ndeletionPolicy: Delete\ndeadLetter: {}\nbindings: [{source: amq.topic, routingKey: a}]").await;
        until_within(ILL + SOON, "both are ready", async || {
            let (topic, queue): (Topic, Queue) = (w.get("orders").await, w.get("orders").await);
            let ready = |is: Option<&str>| is == Some("True");
            let status = |is: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>| {
                ready(is.map(|is| is.status.as_str()))
            };
            match (status(topic.condition("Ready")), status(queue.condition("Ready"))) {
                (true, true) => Ok(()),
                _ => Err(format!("{}\n{}", topic.summary(), queue.summary())),
            }
        })
        .await;
        topic(site, "orders").await;
        queue(site, "orders").await;
        assert_eq!(w.mq().await.queues().await, ["orders", "orders.dlq"]);
        assert_eq!(operator.exited(), None);

        let (begun, mut turn) = (Instant::now(), 0);
        site.cut.arm(&operator, move |request: &Request| {
            if request.side != Side::Kubernetes || request.number.is_none() || begun.elapsed() > ILL {
                return Fate::Pass;
            }
            turn += 1;
            overloaded(turn)
        });
        w.delete::<Topic>("orders").await;
        w.delete::<Queue>("orders").await;
        w.until_gone::<Topic>("orders").await;
        w.until_gone::<Queue>("orders").await;
        w.kafka.until_gone(&w.name("orders")).await;
        assert_eq!(w.mq().await.queues().await, ["orders.dlq"]);
    });
}

#[test]
fn a_queue_of_which_rabbitmq_tells_no_numbers_is_never_taken_for_empty() {
    site(async |site, w| {
        let operator = site.start().await;
        rabbitmq(site).await;
        w.queue("orders", "deletionPolicy: DeleteIfEmpty\ntype: classic").await;
        queue(site, "orders").await;
        w.mq().await.publish("", "orders", "precious").await;
        let answer = w.mq().await.the_queue("orders").await;
        let mut silent = answer.as_object().expect("an object").clone();
        for figure in ["messages", "messages_ready", "messages_unacknowledged", "consumers"] {
            silent.remove(figure);
        }
        let silent = json!(silent).to_string();
        site.cut.arm(&operator, move |request: &Request| {
            if request.what.starts_with("GET /api/queues/") && request.what.contains("/orders") {
                return Fate::Answer(200, vec![], silent.clone());
            }
            Fate::Pass
        });
        w.delete::<Queue>("orders").await;
        let kept: Queue = w.condition("orders", "Ready", "False", "NotEmpty").await;
        assert!(kept.message("Ready").contains("does not tell"), "{}", kept.summary());
        assert_eq!(w.amqp().await.depth("orders").await, Some((1, 0)));
        site.cut.disarm();
        assert_eq!(w.mq().await.take("orders").await.as_deref(), Some("precious"));
        w.until_gone::<Queue>("orders").await;
        w.mq().await.until_no_queue("orders").await;
    });
}
