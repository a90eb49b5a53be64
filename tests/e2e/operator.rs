//! The process: started, stopped, killed, frozen, replaced.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;
use spillway_operator::api::{Broker, Queue, Topic};

use crate::bed::{
    Fate, Operator, Request, Side, Site, World, bare_world, binary, until, until_within, world,
};

/// The Lease's holder; empty if it was released.
async fn holder(w: &World) -> String {
    let leases: Api<Lease> = Api::namespaced(w.client.clone(), &w.namespace);
    let leases = leases.list(&ListParams::default()).await.expect("Leases");
    assert!(leases.items.len() <= 1, "one Lease");
    let spec = leases.items.into_iter().next().and_then(|lease| lease.spec);
    spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
}

/// How long after `asked` the first operator was gone and the second one led.
async fn handed_over(asked: Instant, first: &Operator, second: &Operator) -> (Duration, Duration) {
    let (mut gone, mut leads) = (None, None);
    until_within(Duration::from_secs(15), "one operator ends and the other leads", async || {
        if gone.is_none() && first.exited().is_some() {
            gone = Some(asked.elapsed());
        }
        if leads.is_none() && second.metric("spillway_leader").await == Some(1.0) {
            leads = Some(asked.elapsed());
        }
        gone.zip(leads).ok_or_else(|| format!("gone {gone:?}, leads {leads:?}"))
    })
    .await
}

#[test]
fn an_idle_operator_ends_within_a_second_of_sigterm_and_gives_its_lease_back() {
    world(async |w| {
        w.broker("").await;
        assert_ne!(holder(w).await, "");
        let begun = Instant::now();
        let status = w.operator().stop().await;
        println!("ended {:?} after SIGTERM", begun.elapsed());
        assert!(status.success(), "{status}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(holder(w).await, "");
    });
}

#[test]
fn a_standby_is_ready_and_leads_within_a_second_of_the_sigterm_to_an_idle_leader() {
    bare_world(async |w| {
        let first = w.start_operator().await;
        w.broker("").await;
        let leader = holder(w).await;
        let second = w.start_operator().await;
        assert_eq!(holder(w).await, leader);
        assert_eq!(first.metric("spillway_leader").await, Some(1.0));
        assert_eq!(second.metric("spillway_leader").await, Some(0.0));
        let asked = Instant::now();
        first.signal("TERM");
        let (gone, leads) = handed_over(asked, &first, &second).await;
        println!("the leader was gone {gone:?} and the standby led {leads:?} after SIGTERM");
        assert!(gone < Duration::from_secs(1), "gone {gone:?}");
        assert!(leads < Duration::from_secs(1), "leads {leads:?}");
        w.topic("orders", "partitions: 1").await;
        w.ready::<Topic>("orders").await;
        println!("the standby had a topic ready {:?} after SIGTERM", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    });
}

/// SIGTERM for the first of two operators while its declaration of Queue `work` takes `long`: how long after the signal
/// it was gone and the second one led, and its log. The queue is made either way.
async fn terminated_with_a_step_in_hand(w: &World, long: Duration) -> (Duration, Duration, String) {
    let site = Site::new(w).await;
    let first = site.start().await;
    w.rabbit_at(&site.rabbitmq.url(), "").await;
    w.ready::<Broker>("rabbitmq").await;
    let second = site.start().await;
    let asked = Arc::new(OnceLock::new());
    site.cut.arm(&first, {
        let (first, asked) = (first.clone(), asked.clone());
        move |request: &Request| {
            if !(request.side == Side::RabbitMq && request.what.starts_with("PUT /api/queues/")) {
                return Fate::Pass;
            }
            let mut fate = Fate::Pass;
            asked.get_or_init(|| {
                first.signal("TERM");
                fate = Fate::Late(long);
                Instant::now()
            });
            fate
        }
    });
    w.queue("work", "").await;
    let asked =
        until("the queue is declared", async || asked.get().copied().ok_or_else(|| "not yet".to_owned()))
            .await;
    w.queue("another", "").await;
    let (gone, leads) = handed_over(asked, &first, &second).await;
    println!("with a step of {long:?}: gone {gone:?}, and the standby led {leads:?} after SIGTERM");
    assert!(first.exited().is_some_and(|status| status.success()), "{:?}", first.exited());
    w.ready::<Queue>("work").await;
    w.ready::<Queue>("another").await;
    assert!(!first.text().contains("/another"), "it began something new:\n{}", first.tail());
    (gone, leads, first.text())
}

#[test]
fn a_leader_with_a_step_in_hand_ends_with_the_step() {
    bare_world(async |w| {
        let long = Duration::from_secs(3);
        let (gone, leads, log) = terminated_with_a_step_in_hand(w, long).await;
        assert!(gone > long && gone < long + Duration::from_secs(1), "gone {gone:?}");
        assert!(leads > long && leads < long + Duration::from_secs(1), "leads {leads:?}");
        assert!(!log.contains("did not end in time"), "{log}");
    });
}

#[test]
fn a_leader_whose_step_does_not_end_leaves_it_after_ten_seconds() {
    bare_world(async |w| {
        // The signal is a moment older than the clock of this test.
        let (least, most) = (Duration::from_millis(9_900), Duration::from_secs(11));
        let (gone, leads, log) = terminated_with_a_step_in_hand(w, Duration::from_secs(60)).await;
        assert!(gone > least && gone < most, "gone {gone:?}");
        assert!(leads > least && leads < most, "leads {leads:?}");
        assert!(log.contains("did not end in time"), "{log}");
    });
}

#[test]
fn what_a_killed_leader_left_is_finished_by_the_standby() {
    bare_world(async |w| {
        let first = w.start_operator().await;
        w.broker("").await;
        w.start_operator().await;
        for n in 0..20 {
            w.topic(&format!("t{n}"), "partitions: 2\ndeadLetter: {}").await;
        }
        first.kill();
        for n in 0..20 {
            w.ready::<Topic>(&format!("t{n}")).await;
            assert!(w.kafka.topic(&w.name(&format!("t{n}.dlq"))).await.is_some(), "t{n}.dlq");
        }
    });
}

#[test]
fn a_leader_that_was_frozen_finds_itself_fenced_and_ends_without_a_write() {
    bare_world(async |w| {
        let first = w.start_operator().await;
        w.broker("").await;
        let leader = holder(w).await;
        w.start_operator().await;
        first.signal("STOP");
        until("the standby leads", async || match holder(w).await {
            holder if holder != leader && !holder.is_empty() => Ok(()),
            holder => Err(holder),
        })
        .await;
        w.topic("orders", "partitions: 1").await;
        w.ready::<Topic>("orders").await;
        let before = holder(w).await;
        first.signal("CONT");
        let status = first.ended(Duration::from_secs(10)).await;
        assert!(!status.success(), "{status}");
        assert_eq!(holder(w).await, before);
        assert!(!first.text().contains("orders"), "it saw the topic and worked on it:\n{}", first.tail());
    });
}

#[test]
fn a_leader_that_is_cut_off_from_the_api_server_ends_before_another_one_writes() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let first = site.start().await;
        w.broker_at(&site.kafka.address(), "resyncInterval: 5s").await;
        w.topic("orders", "partitions: 1\nconfig: {retention.ms: '60000'}").await;
        w.ready::<Topic>("orders").await;
        let leader = holder(w).await;
        // This one reaches the API server by itself, and Kafka as the first one does.
        let second = w.start_operator().await;

        site.api.close();
        let cut_off = Instant::now();
        // The first one cannot know of the Topic, and sees the drift; only who leads may do something about either.
        w.topic("late", "partitions: 1").await;
        let status = first.ended(Duration::from_secs(30)).await;
        assert!(!status.success(), "{status}");
        let ended = cut_off.elapsed();
        w.kafka.set_config(&w.name("orders"), &[]).await;
        until("the standby leads", async || match holder(w).await {
            holder if holder != leader && !holder.is_empty() => Ok(()),
            holder => Err(holder),
        })
        .await;
        println!(
            "the first one ended {ended:?} and the second one led {:?} after the cut",
            cut_off.elapsed()
        );
        w.ready::<Topic>("late").await;
        w.kafka
            .until_topic(&w.name("orders"), "is as declared again", |topic| {
                topic.config.get("retention.ms").is_some_and(|value| value == "60000")
            })
            .await;
        assert_eq!(second.metric("spillway_leader").await, Some(1.0));
        let wrote = site.cut.writes_since(cut_off);
        let made = wrote.iter().filter(|write| write.contains("CreateTopics")).count();
        assert_eq!(made, 1, "{wrote:?}");
        assert!(!first.text().contains("late"), "it worked on what it could not know:\n{}", first.tail());
    });
}

#[test]
fn settings_that_cannot_be_used_end_the_process_with_one_clear_line() {
    let output = std::process::Command::new(binary())
        .args(["run", "--http-address", "nowhere"])
        .output()
        .expect("the spillway binary starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(words.contains("nowhere") && words.contains("--http-address"), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
}
