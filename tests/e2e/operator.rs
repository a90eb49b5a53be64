//! The process: started, stopped, killed, frozen, replaced.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::ListParams;
use spillway_operator::api::{Broker, Queue, Topic};

use crate::bed::{
    Audit, Fate, Operator, Request, Side, Site, Start, World, bare_world, binary, until, until_within, world,
};

/// The Lease, as it is now.
async fn lease(w: &World) -> LeaseSpec {
    let leases: Api<Lease> = Api::namespaced(w.client.clone(), &w.namespace);
    let leases = leases.list(&ListParams::default()).await.expect("Leases");
    assert!(leases.items.len() <= 1, "one Lease");
    leases.items.into_iter().next().and_then(|lease| lease.spec).unwrap_or_default()
}

/// The Lease's holder; empty if it was released.
async fn holder(w: &World) -> String {
    lease(w).await.holder_identity.unwrap_or_default()
}

/// A time of the Lease on this process's clock: that of the same machine.
fn since(time: Option<MicroTime>) -> Instant {
    let age = jiff::Timestamp::now().duration_since(time.expect("a time").0);
    Instant::now().checked_sub(Duration::try_from(age).expect("in the past")).expect("since the boot")
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

/// A Lease that is short, for tests that wait until it runs out.
const SHORT_LEASE: Duration = Duration::from_secs(6);
const SHORT: [&str; 2] = ["--lease-seconds", "6"];
/// From the operator to the proxy that counts.
const ON_THE_WAY: Duration = Duration::from_millis(200);

/// Waits until another one than `leader` holds the Lease; since when.
async fn taken_from(w: &World, leader: &str) -> Instant {
    until("the standby leads", async || match holder(w).await {
        holder if holder != leader && !holder.is_empty() => Ok(()),
        holder => Err(holder),
    })
    .await;
    since(lease(w).await.acquire_time)
}

/// The last part of the path of each write to RabbitMQ that begins with `what`, in order.
fn names(writes: &[String], what: &str) -> Vec<String> {
    let paths = writes.iter().filter(|write| write.starts_with(&format!("RabbitMq {what}")));
    let mut names: Vec<_> = paths.filter_map(|path| path.rsplit('/').next()).map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn what_a_killed_leader_left_is_finished_by_the_standby_once_and_nothing_else_is_written() {
    const QUEUES: usize = 24;
    bare_world(async |w| {
        let site = Site::new(w).await;
        let audit = Audit::begin();
        let first = site.start_with(&SHORT).await;
        w.broker_at(&site.kafka.address(), "").await;
        w.rabbit_at(&site.rabbitmq.url(), "").await;
        w.ready::<Broker>("kafka").await;
        w.ready::<Broker>("rabbitmq").await;
        let leader = holder(w).await;
        let second = site.start_with(&SHORT).await;
        // One by one they arrive, each later than the one before: it is killed in the middle of them.
        let mut late = Duration::ZERO;
        site.cut.arm(&first, move |request: &Request| {
            if !request.what.starts_with("PUT /api/queues/") {
                return Fate::Pass;
            }
            late += Duration::from_millis(150);
            Fate::Late(late)
        });
        let all: Vec<_> = (0..QUEUES).map(|n| format!("q{n:02}")).collect();
        for (n, name) in all.iter().enumerate() {
            w.queue(name, "bindings: [{source: amq.topic, routingKey: '#'}]").await;
            if n % 3 == 0 {
                w.topic(&format!("t{n}"), "partitions: 2\ndeadLetter: {}").await;
            }
        }
        let topics: Vec<_> = (0..QUEUES).step_by(3).map(|n| format!("t{n}")).collect();
        until("some queues are there, and some are not", async || {
            let there = w.mq().await.queues().await.len();
            if there > QUEUES / 4 { Ok(()) } else { Err(format!("{there} queues")) }
        })
        .await;
        first.kill();
        let killed = Instant::now();
        site.cut.disarm();
        let deadline = since(lease(w).await.renew_time) + SHORT_LEASE;
        // What had left it lands, and then nothing moves until its Lease has run out.
        tokio::time::sleep(ON_THE_WAY).await;
        let mut landed = w.mq().await.queues().await;
        landed.sort();
        let mut unbound = all.clone();
        for name in &landed {
            if w.mq().await.bindings(name).await.contains(&"amq.topic|#".to_owned()) {
                unbound.retain(|other| other != name);
            }
        }
        let at_kafka = kafka_topics(w, &topics).await;
        let took = taken_from(w, &leader).await;
        println!("{} of {QUEUES} queues and {} topics were there", landed.len(), at_kafka.len());
        assert!((1..QUEUES).contains(&landed.len()), "{landed:?}: it was not in the middle of them");
        assert!(took >= deadline, "the standby led {:?} before the Lease had run out", deadline - took);

        for name in &all {
            w.ready::<Queue>(name).await;
            w.mq().await.until_bindings(name, &["amq.topic|#"]).await;
        }
        for name in &topics {
            w.ready::<Topic>(name).await;
            assert!(w.kafka.topic(&w.name(&format!("{name}.dlq"))).await.is_some(), "{name}.dlq");
        }
        // The brokers' side: nobody wrote until it led, and then what was left, each once.
        let since_death = site.cut.writes_since(killed + ON_THE_WAY);
        let standbys = site.cut.writes_since(took);
        assert_eq!(
            since_death[..since_death.len().saturating_sub(standbys.len())],
            [""; 0],
            "written by nobody"
        );
        let left: Vec<_> = all.iter().filter(|name| !landed.contains(name)).cloned().collect();
        assert_eq!(names(&standbys, "PUT /api/queues/"), left);
        let bound = standbys.iter().filter(|write| write.starts_with("RabbitMq POST /api/bindings/"));
        let mut bound: Vec<_> = bound.filter_map(|path| path.rsplit('/').next()).collect();
        bound.sort_unstable();
        assert_eq!(bound, unbound, "bindings that were not there");
        let creations = standbys.iter().filter(|write| write.contains("CreateTopics")).count();
        assert_eq!(creations > 0, at_kafka.len() < topics.len() * 2, "{at_kafka:?}, {standbys:#?}");
        let strange: Vec<_> = standbys.iter().filter(|write| !is_expected(write)).collect();
        assert!(strange.is_empty(), "{strange:#?}");
        // The API server's side: each companion was made once, by whichever of the two. Of what the first had on its way when it
        // died, the audit log may say nothing.
        let mut made = audit.creations(&w.namespace, "spillway", "topics");
        made.sort();
        let mut once = made.clone();
        once.dedup();
        assert_eq!(made, once);
        let companions: Vec<_> = topics.iter().map(|name| format!("{name}.dlq")).collect();
        assert!(
            made.iter().all(|name| companions.contains(name)) && made.len() + 1 >= companions.len(),
            "{made:?}"
        );
        assert_eq!(second.metric("spillway_leader").await, Some(1.0));
    });
}

/// Which of these topics and their dead-letter topics Kafka has.
async fn kafka_topics(w: &World, names: &[String]) -> Vec<String> {
    let mut there = Vec::new();
    for name in names.iter().flat_map(|name| [name.clone(), format!("{name}.dlq")]) {
        if w.kafka.topic(&w.name(&name)).await.is_some() {
            there.push(name);
        }
    }
    there
}

/// What finishing those queues and topics takes: to make what is not there, and to say so.
fn is_expected(write: &str) -> bool {
    write.starts_with("RabbitMq PUT /api/queues/")
        || write.starts_with("RabbitMq POST /api/bindings/")
        || write == "Kafka CreateTopics"
        // Companions and statuses.
        || (write.starts_with("Kubernetes POST ") && write.contains("/topics?"))
        || (write.starts_with("Kubernetes PATCH ") && write.contains("/status?"))
}

#[test]
fn a_leader_that_was_frozen_in_the_middle_of_its_work_finds_itself_fenced_and_ends_without_a_write() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let first = site.start_with(&SHORT).await;
        w.broker_at(&site.kafka.address(), "resyncInterval: 5s").await;
        let leader = holder(w).await;
        // This one reaches the API server by itself, and the brokers as the first one does.
        let second = w
            .start_operator_as(&Start { arguments: SHORT.map(str::to_owned).to_vec(), ..Start::default() })
            .await;
        let bindings = much_to_correct(&site, &first).await;
        first.signal("STOP");
        let frozen = Instant::now();
        site.cut.disarm();
        let took = taken_from(w, &leader).await;
        w.topic("orders", "partitions: 1").await;
        w.ready::<Topic>("orders").await;
        let expected: Vec<_> = bindings.iter().map(String::as_str).collect();
        w.mq().await.until_bindings("work", &expected).await;
        w.ready::<Queue>("work").await;
        let between = site.cut.writes_since(frozen + ON_THE_WAY);
        let standbys = site.cut.writes_since(took);
        assert_eq!(
            between[..between.len().saturating_sub(standbys.len())],
            [""; 0],
            "written with no leader"
        );
        assert!(bound(&standbys) > 2, "nothing was left that could tempt the first one: {standbys:?}");
        // That of the moment in which it froze may be sent twice.
        let made = bound(&site.cut.writes());
        assert!((BINDINGS..BINDINGS + 2).contains(&made), "{made} bindings were made of {BINDINGS}");

        let (before, resumed) = (holder(w).await, Instant::now());
        let audit = Audit::begin();
        first.signal("CONT");
        let status = first.ended(Duration::from_secs(10)).await;
        assert!(!status.success(), "{status}");
        assert_eq!(holder(w).await, before);
        assert_eq!(site.cut.writes_since(resumed), [""; 0], "written after its deadline");
        // Of both: the other one has nothing to do but to stay the leader, and to tell what it did.
        let mut writes = audit.writes(&w.namespace, "spillway");
        writes.retain(|write| !write.starts_with("update leases ") && !write.contains(" events "));
        assert_eq!(writes, [""; 0]);
        assert!(!first.text().contains("/orders"), "it saw the topic and worked on it:\n{}", first.tail());
        assert_eq!(second.metric("spillway_leader").await, Some(1.0));
    });
}

/// How many bindings of one queue a leader has to make again, one after the other.
const BINDINGS: usize = 40;

/// A Queue with so many bindings that is as declared; they are gone when this returns, and `first` makes them again,
/// slowly: it has work for longer than its Lease lasts.
async fn much_to_correct(site: &Site<'_>, first: &Arc<Operator>) -> Vec<String> {
    let keys: Vec<_> = (0..BINDINGS).map(|n| format!("k{n:02}")).collect();
    let declared: Vec<_> =
        keys.iter().map(|key| format!("{{source: amq.topic, routingKey: {key}}}")).collect();
    site.w.rabbit_at(&site.rabbitmq.url(), "resyncInterval: 5s").await;
    site.w.queue("work", &format!("bindings: [{}]", declared.join(", "))).await;
    site.w.ready::<Queue>("work").await;
    site.cut.arm(first, |request: &Request| {
        let binds = request.what.starts_with("POST /api/bindings/");
        if binds { Fate::Late(Duration::from_millis(250)) } else { Fate::Pass }
    });
    let mq = site.w.mq().await;
    futures::future::join_all(keys.iter().map(|key| mq.unbind("amq.topic", "work", key))).await;
    until("the leader corrects it", async || match bound(&site.cut.writes()) {
        0 => Err("not yet".to_owned()),
        _ => Ok(()),
    })
    .await;
    keys.iter().map(|key| format!("amq.topic|{key}")).collect()
}

/// How many of the writes make a binding.
fn bound(writes: &[String]) -> usize {
    writes.iter().filter(|write| write.starts_with("RabbitMq POST /api/bindings/")).count()
}

#[test]
fn a_leader_that_is_cut_off_in_the_middle_of_its_work_begins_no_write_after_its_deadline() {
    bare_world(async |w| {
        let site = Site::new(w).await;
        let first = site.start_with(&SHORT).await;
        w.broker_at(&site.kafka.address(), "resyncInterval: 5s").await;
        w.topic("orders", "partitions: 1\nconfig: {retention.ms: '60000'}").await;
        w.ready::<Topic>("orders").await;
        let leader = holder(w).await;
        // This one reaches the API server by itself, and the brokers as the first one does.
        let arguments = SHORT.map(str::to_owned).to_vec();
        let second = w.start_operator_as(&Start { arguments, ..Start::default() }).await;
        let bindings = much_to_correct(&site, &first).await;

        site.api.close();
        let cut_off = Instant::now();
        // Of the Topic the first one cannot know; the work at RabbitMQ it has in hand.
        w.topic("late", "partitions: 1").await;
        let deadline = since(lease(w).await.renew_time) + SHORT_LEASE * 4 / 5;
        let status = first.ended(Duration::from_secs(15)).await;
        assert!(!status.success(), "{status}");
        let ended = Instant::now();
        site.cut.disarm();
        w.kafka.set_config(&w.name("orders"), &[]).await;
        let done = w.mq().await.bindings("work").await.len();
        assert!((2..BINDINGS - 2).contains(&done), "{done} bindings: it was not in the middle of them");
        let took = taken_from(w, &leader).await;
        println!(
            "after the cut: the deadline {:?}, the end {:?}, the other one's Lease {:?}; {done} bindings were made",
            deadline - cut_off,
            ended - cut_off,
            took - cut_off
        );
        assert!(ended < took, "it was there still when the other one led");
        assert!(took > deadline + ON_THE_WAY * 2, "{:?}: no room to look into", took - deadline);

        w.ready::<Topic>("late").await;
        w.kafka
            .until_topic(&w.name("orders"), "is as declared again", |topic| {
                topic.config.get("retention.ms").is_some_and(|value| value == "60000")
            })
            .await;
        let bindings: Vec<_> = bindings.iter().map(String::as_str).collect();
        w.mq().await.until_bindings("work", &bindings).await;
        w.ready::<Queue>("work").await;
        assert_eq!(second.metric("spillway_leader").await, Some(1.0));

        let wrote = site.cut.writes_since(cut_off);
        let late = site.cut.writes_since(deadline + ON_THE_WAY);
        let others = site.cut.writes_since(took);
        assert!(bound(&wrote[..wrote.len() - late.len()]) > 2, "nothing tempted it: {wrote:?}");
        assert_eq!(late[..late.len() - others.len()], [""; 0], "written after the deadline, with no leader");
        let made = wrote.iter().filter(|write| write.contains("CreateTopics")).count();
        assert_eq!(made, 1, "{wrote:?}");
        // That of the moment of its death may be sent twice.
        let made = bound(&site.cut.writes());
        assert!((BINDINGS..BINDINGS + 2).contains(&made), "{made} bindings were made of {BINDINGS}");
        assert!(!first.text().contains("/late"), "it worked on what it could not know:\n{}", first.tail());
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
