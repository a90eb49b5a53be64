//! Scaling on a queue: real depth, real pods, consumers that the test runs.

use std::time::{Duration, Instant};

use serde_json::json;
use spillway_operator::api::{Broker, Consumer, Queue};

use crate::bed::{
    Audit, Object as _, Proxy, RabbitAddress, Workload, World, never_within, until, until_within, world,
};

/// Quick to go down, and honest about how fast the test's pods come.
const QUICK: &str = "scaleDown: {stabilization: 5s, peakMemory: 5s}, tuning: {coldStart: 2s}";

fn consumer_yaml(queue: &str, spec: &str) -> String {
    format!(
        "apiVersion: spillway.dev/v1alpha1\nkind: Consumer\nmetadata: {{name: {queue}}}\nspec:\n  scaleTargetRef: {{name: worker}}\n  rabbitmq: {{brokerRef: {{name: rabbitmq}}, vhost: '${{VHOST}}', queue: {queue}}}\n  {}\n",
        spec.trim().replace('\n', "\n  ")
    )
}

fn broker_yaml(management: &str, amqp: &str) -> String {
    format!(
        "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: rabbitmq}}\nspec:\n  resyncInterval: 5s\n  rabbitmq: {{managementUrl: '{management}', amqpUrl: '{amqp}', credentialsSecretRef: {{name: rabbitmq}}}}\n"
    )
}

async fn consumer(w: &World, scaling: &str) -> Consumer {
    w.apply(&consumer_yaml("tasks", &format!("scaling: {{{scaling}, {QUICK}}}"))).await;
    w.ready::<Consumer>("tasks").await;
    // A queue that was just made has no statistics yet.
    w.until("tasks", "all of its queue is known", |consumer: &Consumer| {
        consumer.condition("Ready").is_some_and(|ready| ready.status == "True")
            && consumer.condition("PartialData").is_none()
            && consumer.condition("DataUnknown").is_none()
    })
    .await
}

/// A quorum queue `tasks`, and a Deployment `worker` whose pods do `rate` messages a second each.
async fn shop(w: &World, replicas: i32, rate: u64) -> Workload {
    w.rabbit("").await;
    w.queue("tasks", "type: quorum").await;
    w.ready::<Queue>("tasks").await;
    Workload::start_on_queue(w, "worker", replicas, "tasks", 5, rate).await
}

async fn until_acknowledged(workload: &Workload, messages: u64) {
    until_within(Duration::from_secs(90), &format!("{messages} messages are done"), async || match workload
        .acknowledged()
    {
        done if done >= messages => Ok(()),
        done => Err(format!("{done} are")),
    })
    .await;
}

async fn stays(workload: &Workload, wanted: &[i32], time: Duration, why: &str) {
    never_within(time, why, async || match workload.wanted() {
        seen if seen == wanted => Ok(()),
        seen => Err(format!("{seen:?}")),
    })
    .await;
}

#[test]
fn a_consumer_of_a_queue_needs_a_maximum_and_reads_one_thing() {
    world(async |w| {
        let without = w.refused(&consumer_yaml("tasks", "scaling: {}")).await;
        assert!(without.contains("needs scaling.maxReplicas"), "{without}");
        let both = "kafka: {brokerRef: {name: kafka}, group: g, topics: [t], offsetReset: latest}\nscaling: {maxReplicas: 2}";
        let both = w.refused(&consumer_yaml("tasks", both)).await;
        assert!(both.contains("exactly one of kafka and rabbitmq"), "{both}");
    });
}

#[test]
fn a_spike_takes_one_patch_to_full_size_and_back_when_it_is_over() {
    world(async |w| {
        let workload = shop(w, 1, 50).await;
        consumer(w, "maxReplicas: 6, ratePerReplica: '50', targetDelay: 2s").await;
        workload.until_wanted(1, Duration::from_secs(5)).await;
        let audit = Audit::begin();
        w.amqp().await.flood("tasks", 1_500).await;
        let flooded = Instant::now();
        workload.until_wanted(6, Duration::from_secs(10)).await;
        println!("6 replicas wanted {:?} after the spike", flooded.elapsed());
        assert_eq!(workload.wanted(), [1, 6], "in one patch");
        let seen: Consumer = w
            .until("tasks", "the status explains the decision", |consumer: &Consumer| {
                let status = consumer.status.as_ref();
                let decision = status.and_then(|status| status.decision.as_ref());
                decision.is_some_and(|decision| decision.replicas == 6 && decision.bound == "Max")
            })
            .await;
        let status = seen.status.expect("a status");
        assert_eq!((status.cap, status.partitions), (None, None), "a queue has no partitions");
        until_acknowledged(&workload, 1_500).await;
        let patches: Vec<_> = audit
            .writes(&w.namespace, "spillway")
            .into_iter()
            .filter(|write| write.contains("deployments/scale"))
            .collect();
        assert_eq!(patches[0], "patch deployments/scale worker");
        workload.until_wanted(1, Duration::from_secs(90)).await;
        let wanted = workload.wanted();
        assert!(
            wanted.windows(2).skip(1).all(|step| step[1] < step[0]),
            "down and never up again: {wanted:?}"
        );
    });
}

#[test]
fn an_idle_queue_lets_the_last_replica_go_and_its_first_message_wakes_one() {
    world(async |w| {
        let workload = shop(w, 1, 100).await;
        consumer(w, "minReplicas: 0, maxReplicas: 3, idle: {after: 3s}").await;
        let amqp = w.amqp().await;
        amqp.flood("tasks", 1).await;
        until_acknowledged(&workload, 1).await;
        workload.until_wanted(0, Duration::from_secs(60)).await;
        until("its consumer is gone", async || match amqp.depth("tasks").await {
            Some((0, 0)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        amqp.flood("tasks", 1).await;
        let sent = Instant::now();
        workload.until_wanted(1, Duration::from_secs(10)).await;
        println!("woken {:?} after the first message", sent.elapsed());
        until_acknowledged(&workload, 2).await;
        println!("done {:?} after it was sent", sent.elapsed());
        assert!(!workload.wanted().iter().any(|&wanted| wanted > 1), "{:?}", workload.wanted());
    });
}

#[test]
fn while_rabbitmq_is_away_the_replicas_stay_and_the_consumer_says_so() {
    world(async |w| {
        let bed = RabbitAddress::of_the_bed();
        let host = |url: &str| url.split_once("://").expect("a URL").1.to_owned();
        let (mut management, mut amqp) =
            (Proxy::closed(&host(&bed.management)), Proxy::closed(&host(&bed.amqp)));
        management.open();
        amqp.open();
        w.mq().await;
        w.login("rabbitmq").await;
        let proxied =
            broker_yaml(&format!("http://{}", management.address()), &format!("amqp://{}", amqp.address()));
        w.apply(&proxied).await;
        w.ready::<Broker>("rabbitmq").await;
        w.mq().await.declare_queue("tasks", json!({"x-queue-type": "quorum"})).await;
        let workload = Workload::start_on_queue(w, "worker", 3, "tasks", 5, 100).await;
        consumer(w, "minReplicas: 3, maxReplicas: 6").await;
        workload.until_wanted(3, Duration::from_secs(5)).await;

        drop((management, amqp));
        let away: Consumer = w.condition("tasks", "ScalingActive", "False", "Unknown").await;
        let ready = away.condition("Ready").expect("a condition");
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "BrokerUnreachable"));
        // Only now: what was seen before the end would allow less.
        w.apply(&consumer_yaml(
            "tasks",
            &format!("scaling: {{minReplicas: 0, maxReplicas: 6, idle: {{after: 1s}}, {QUICK}}}"),
        ))
        .await;
        stays(&workload, &[3], Duration::from_secs(14), "unknown is not zero").await;

        // Back again, there is nothing to do: now the last one may go.
        w.apply(&broker_yaml(&bed.management, &bed.amqp)).await;
        w.ready::<Consumer>("tasks").await;
        workload.until_wanted(0, Duration::from_secs(90)).await;
    });
}

#[test]
fn a_flood_is_scaled_for_while_rabbitmqs_management_interface_is_away() {
    world(async |w| {
        let bed = RabbitAddress::of_the_bed();
        let mut management = Proxy::closed(bed.management.split_once("://").expect("a URL").1);
        management.open();
        w.mq().await;
        w.login("rabbitmq").await;
        w.apply(&broker_yaml(&format!("http://{}", management.address()), &bed.amqp)).await;
        w.ready::<Broker>("rabbitmq").await;
        w.mq().await.declare_queue("tasks", json!({"x-queue-type": "quorum"})).await;
        let workload = Workload::start_on_queue(w, "worker", 1, "tasks", 5, 50).await;
        consumer(w, "maxReplicas: 6, ratePerReplica: '50', targetDelay: 2s").await;

        drop(management);
        w.condition::<Broker>("rabbitmq", "Ready", "False", "BrokerUnreachable").await;
        w.amqp().await.flood("tasks", 1_500).await;
        let flooded = Instant::now();
        workload.until_wanted(6, Duration::from_secs(15)).await;
        println!("6 replicas wanted {:?} after the spike", flooded.elapsed());
    });
}

#[test]
fn a_queue_that_is_deleted_holds_the_replicas_and_is_named() {
    world(async |w| {
        let workload = shop(w, 2, 100).await;
        // Nobody is to make it again.
        w.delete::<Queue>("tasks").await;
        w.until_gone::<Queue>("tasks").await;
        consumer(w, "minReplicas: 2, maxReplicas: 6").await;
        w.mq().await.delete_queue("tasks").await;
        let gone: Consumer = w.condition("tasks", "Ready", "False", "NotFound").await;
        let message = gone.message("Ready");
        assert!(message.contains("queue \"tasks\" does not exist"), "{}", gone.summary());
        w.condition::<Consumer>("tasks", "ScalingActive", "False", "Unknown").await;
        w.apply(&consumer_yaml(
            "tasks",
            &format!("scaling: {{minReplicas: 0, maxReplicas: 6, idle: {{after: 1s}}, {QUICK}}}"),
        ))
        .await;
        stays(&workload, &[2], Duration::from_secs(14), "a queue that is gone is not an empty one").await;

        w.mq().await.declare_queue("tasks", json!({"x-queue-type": "quorum"})).await;
        w.ready::<Consumer>("tasks").await;
        workload.until_wanted(0, Duration::from_secs(90)).await;
    });
}

#[test]
fn a_single_active_consumer_is_one_and_a_stream_is_refused_in_words() {
    world(async |w| {
        w.rabbit("").await;
        let mq = w.mq().await;
        mq.declare_queue("tasks", json!({"x-queue-type": "quorum", "x-single-active-consumer": true})).await;
        mq.declare_queue("log", json!({"x-queue-type": "stream"})).await;
        let workload = Workload::start_on_queue(w, "worker", 1, "tasks", 5, 20).await;
        consumer(w, "maxReplicas: 6, ratePerReplica: '20', targetDelay: 2s").await;
        w.amqp().await.flood("tasks", 500).await;
        w.until("tasks", "one is the cap", |consumer: &Consumer| {
            let status = consumer.status.as_ref();
            status.is_some_and(|status| status.cap == Some(1) && status.desired_replicas == Some(1))
                && status.and_then(|status| status.decision.as_ref()).is_some_and(|d| d.bound == "Partitions")
        })
        .await;
        stays(&workload, &[1], Duration::from_secs(5), "others would only stand by").await;

        w.apply(&crate::bed::deployment(w, "reader", 1).await).await;
        let reader =
            consumer_yaml("log", "scaling: {maxReplicas: 3}").replace("name: worker", "name: reader");
        w.apply(&reader).await;
        let refused: Consumer = w.condition("log", "Ready", "False", "InvalidSpec").await;
        assert!(refused.message("Ready").contains("stream"), "{}", refused.summary());
        assert!(refused.condition("Stalled").is_some_and(|is| is.status == "True"));
    });
}

#[test]
fn messages_that_consumers_hold_are_no_reason_for_more_of_them() {
    world(async |w| {
        w.rabbit("").await;
        w.mq().await.declare_queue("tasks", json!({"x-queue-type": "quorum"})).await;
        let workload = Workload::start_on_queue(w, "worker", 1, "tasks", 1_000, 5).await;
        let amqp = w.amqp().await;
        until("the consumer is there", async || match amqp.depth("tasks").await {
            Some((_, 1)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        amqp.flood("tasks", 400).await;
        amqp.until_ready("tasks", 0).await;
        w.apply(&consumer_yaml(
            "tasks",
            &format!("scaling: {{maxReplicas: 6, ratePerReplica: '5', targetDelay: 2s, {QUICK}}}"),
        ))
        .await;
        let bound: Consumer = w.condition("tasks", "PrefetchBound", "True", "").await;
        assert!(bound.message("PrefetchBound").contains("unacknowledged"), "{}", bound.summary());
        assert_eq!(workload.wanted(), [1]);
    });
}

#[test]
fn of_two_consumers_of_one_queue_the_younger_is_in_conflict() {
    world(async |w| {
        w.rabbit("").await;
        w.mq().await.declare_queue("tasks", json!({})).await;
        for name in ["worker", "rival"] {
            w.apply(&crate::bed::deployment(w, name, 1).await).await;
        }
        consumer(w, "maxReplicas: 2").await;
        w.a_second_after::<Consumer>("tasks").await;
        let younger = consumer_yaml("tasks", "scaling: {maxReplicas: 2}")
            .replace("metadata: {name: tasks}", "metadata: {name: younger}")
            .replace("name: worker", "name: rival");
        w.apply(&younger).await;
        let younger: Consumer = w.condition("younger", "Ready", "False", "Conflict").await;
        assert!(younger.message("Ready").contains("tasks"), "{}", younger.summary());
    });
}

#[test]
fn a_steady_state_costs_one_listing_and_writes_nothing() {
    world(async |w| {
        w.rabbit("").await;
        for number in 0..5 {
            let queue = format!("tasks-{number}");
            w.mq().await.declare_queue(&queue, json!({})).await;
            w.apply(&crate::bed::deployment(w, &format!("worker-{number}"), 1).await).await;
            let yaml = consumer_yaml(&queue, "scaling: {maxReplicas: 2}");
            w.apply(&yaml.replace("name: worker", &format!("name: worker-{number}"))).await;
        }
        for number in 0..5 {
            w.ready::<Consumer>(&format!("tasks-{number}")).await;
        }
        // Pods come up and statistics come in: that is said first.
        let mut settled = (Vec::new(), Instant::now());
        // What merely moved is written once a minute.
        until_within(Duration::from_secs(90), "nothing is to be said any more", async || {
            let mut now = Vec::new();
            for number in 0..5 {
                let consumer: Consumer = w.get(&format!("tasks-{number}")).await;
                let ready = consumer.status.and_then(|status| status.ready_replicas);
                now.push((ready, consumer.metadata.resource_version));
            }
            if settled.0 != now || now.iter().any(|(ready, _)| *ready != Some(1)) {
                settled = (now, Instant::now());
            }
            if settled.1.elapsed() > Duration::from_secs(6) {
                Ok(())
            } else {
                Err(format!("{:?}", settled.0))
            }
        })
        .await;
        let operator = w.operator();
        let audit = Audit::begin();
        let count = async |operation: &str| {
            let series = format!(
                "spillway_broker_requests_total{{namespace=\"{0}\",broker=\"{0}/rabbitmq\",operation=\"{operation}\",result=\"ok\"}}",
                w.namespace
            );
            operator.metric(&series).await.unwrap_or_default()
        };
        let (begun, listed, probed) =
            (Instant::now(), count("ListQueues").await, count("PassiveDeclare").await);
        until_within(Duration::from_secs(30), "ten looks at five queues", async || {
            let seen = count("PassiveDeclare").await - probed;
            if seen >= 50.0 { Ok(()) } else { Err(format!("{seen} probes")) }
        })
        .await;
        let listings = count("ListQueues").await - listed;
        let most = begun.elapsed().as_secs_f64() / 2.0 + 2.0;
        assert!(listings <= most, "{listings} listings in {:?} for five Consumers", begun.elapsed());
        let mut writes = audit.writes(&w.namespace, "spillway");
        writes.retain(|write| !write.starts_with("update leases "));
        assert!(writes.is_empty(), "{writes:#?}");
    });
}
