//! The process: started, stopped, killed, frozen, replaced.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;
use spillway_operator::api::Topic;

use crate::bed::{Site, World, bare_world, binary, until, world};

/// The Lease's holder; empty if it was released.
async fn holder(w: &World) -> String {
    let leases: Api<Lease> = Api::namespaced(w.client.clone(), &w.namespace);
    let leases = leases.list(&ListParams::default()).await.expect("Leases");
    assert!(leases.items.len() <= 1, "one Lease");
    let spec = leases.items.into_iter().next().and_then(|lease| lease.spec);
    spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
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
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(holder(w).await, "");
    });
}

#[test]
fn a_standby_is_ready_and_takes_over_at_once_when_the_leader_ends() {
    bare_world(async |w| {
        let first = w.start_operator().await;
        w.broker("").await;
        let leader = holder(w).await;
        let second = w.start_operator().await;
        assert_eq!(holder(w).await, leader);
        assert_eq!(first.metric("spillway_leader").await, Some(1.0));
        assert_eq!(second.metric("spillway_leader").await, Some(0.0));
        assert!(first.stop().await.success());
        let ended = Instant::now();
        w.topic("orders", "partitions: 1").await;
        w.ready::<Topic>("orders").await;
        println!("the standby had a topic ready {:?} after the leader's end", ended.elapsed());
        assert!(ended.elapsed() < Duration::from_secs(8), "{:?}", ended.elapsed());
        assert_eq!(second.metric("spillway_leader").await, Some(1.0));
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
}
