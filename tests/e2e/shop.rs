//! The example services at work on what the examples declare: published, failed, tried again, dead-lettered, done once.
//!
//! The services are `examples/shop`, as processes of this machine, with the settings that Spillway injects into pods.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rdkafka::Message as _;
use rdkafka::message::Headers as _;

use crate::bed::{World, required, until, world};
use crate::examples::applied;

/// The shop's binary, beside the operator's.
fn shop() -> Command {
    let beside = Path::new(env!("CARGO_BIN_EXE_spillway")).with_file_name("examples/shop");
    assert!(beside.exists(), "{} is not there: cargo build --example shop", beside.display());
    let mut command = Command::new(beside);
    command.env("SPILLWAY_KAFKA_BOOTSTRAP_SERVERS", required("SPILLWAY_TEST_KAFKA")).stderr(Stdio::null());
    command
}

/// A service that runs until it is dropped, by kill -9.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a service that reads `topic`, with its dead letters and retries as environment.
fn service(w: &World, work: &[&str], topic: &str, letters: Option<&str>, retries: &[&str]) -> Service {
    let group = w.name(&format!("{}-{topic}", work[0]));
    let steps: Vec<_> =
        retries.iter().map(|delay| format!("{}.retry.{delay}={delay}", w.name(topic))).collect();
    let mut command = shop();
    command
        .args(work)
        .env("SPILLWAY_KAFKA_GROUP", group)
        .env("SPILLWAY_KAFKA_TOPICS", w.name(topic))
        .env("SPILLWAY_RETRY", steps.join(","))
        .env("SPILLWAY_DEAD_LETTER", letters.map(|letters| w.name(letters)).unwrap_or_default());
    Service(command.spawn().expect("the shop starts"))
}

/// Publishes payments `key-000000`, `key-000001`, … and waits for every acknowledgement.
fn publish(w: &World, topic: &str, arguments: &[&str]) {
    let output =
        shop().args(["publish", "--topic", &w.name(topic)]).args(arguments).output().expect("it ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The correlation ids of a topic's records, one for each record.
fn correlation_ids(w: &World, topic: &str) -> Vec<String> {
    let read = |record: &rdkafka::message::OwnedMessage| {
        let headers = record.headers().expect("headers");
        let header = headers.iter().find(|header| header.key == "correlation-id").expect("a correlation id");
        String::from_utf8(header.value.expect("a value").to_vec()).expect("UTF-8")
    };
    w.kafka.records(&w.name(topic)).iter().map(read).collect()
}

/// `key-000000` and so on, without some.
fn ids(count: usize, without: &[usize]) -> BTreeSet<String> {
    (0..count).filter(|number| !without.contains(number)).map(|number| format!("k-{number:06}")).collect()
}

async fn until_there(w: &World, topic: &str, wanted: &BTreeSet<String>) {
    until("every message arrives", async || {
        let there: BTreeSet<_> = correlation_ids(w, topic).into_iter().collect();
        if there == *wanted { Ok(()) } else { Err(format!("{} of {}", there.len(), wanted.len())) }
    })
    .await;
}

#[test]
fn bookings_are_done_once_whether_they_come_twice_or_fail_at_first_and_poison_is_a_dead_letter() {
    const POISON: [usize; 3] = [19, 39, 59];
    const FLAKY: [usize; 3] = [9, 29, 49];
    world(async |w| {
        applied(w, "03-tour-booking-kafka").await;
        let (bookings, letters) = ("tour_booking_events", "tour_booking_events.dlq");
        w.kafka.create(&w.name("sent"), 1, &[]).await;
        let output = w.name("sent");
        let work = ["order", "--work", "1ms", "--output", &output];
        let _notifications = service(w, &work, bookings, Some(letters), &["5s", "30s", "5m"]);
        let flood = ["--count", "60", "--poison", "3", "--flaky", "6", "--key", "k"];
        publish(w, bookings, &flood);
        publish(w, bookings, &flood);

        until_there(w, "sent", &ids(60, &POISON)).await;
        // All is read twice, tries and duplicates of tries as well.
        let group = w.name("order-tour_booking_events");
        w.kafka.until_committed(&group, &w.name(bookings), 6, 120).await;
        let tries = format!("{bookings}.retry.5s");
        let tried = correlation_ids(w, &tries);
        assert_eq!(tried.iter().cloned().collect::<BTreeSet<_>>(), FLAKY.map(|n| format!("k-{n:06}")).into());
        let tried = i64::try_from(tried.len()).expect("few");
        w.kafka.until_committed(&group, &w.name(&tries), 6, tried).await;
        assert_eq!(correlation_ids(w, "sent").len(), 57, "each once");
        let mut dead = correlation_ids(w, letters);
        dead.sort();
        assert_eq!(dead, POISON.map(|n| format!("k-{n:06}")), "each once");
        assert_eq!(correlation_ids(w, &format!("{bookings}.retry.30s")), [""; 0], "the second try held");
    });
}

#[test]
fn two_services_write_to_each_other_and_nothing_is_lost_when_one_is_killed() {
    const POISON: [usize; 2] = [99, 199];
    world(async |w| {
        applied(w, "08-two-microservices").await;
        let (there, back) = (w.name("micro-1.events"), w.name("micro-2.events"));
        let _first = service(
            w,
            &["order", "--work", "1ms", "--output", &there],
            "user.events",
            Some("user.events.dlq"),
            &[],
        );
        let second = || {
            let work = ["email", "--work", "20ms", "--output", &back];
            service(w, &work, "micro-1.events", Some("micro-1.events.dlq"), &[])
        };
        let slow = second();
        let _hears = service(w, &["analytics"], "micro-2.events", None, &[]);
        publish(w, "user.events", &["--count", "200", "--poison", "2", "--key", "k"]);
        until("the second service answers", async || match correlation_ids(w, "micro-2.events").len() {
            some if some >= 20 => Ok(()),
            few => Err(format!("{few} answers")),
        })
        .await;
        drop(slow);
        let _again = second();

        until_there(w, "micro-2.events", &ids(200, &POISON)).await;
        let dead: BTreeSet<_> = correlation_ids(w, "user.events.dlq").into_iter().collect();
        assert_eq!(dead, POISON.map(|n| format!("k-{n:06}")).into());
        assert_eq!(correlation_ids(w, "micro-1.events").len(), 198);
        let answers = i64::try_from(correlation_ids(w, "micro-2.events").len()).expect("few");
        let group = w.name("analytics-micro-2.events");
        w.kafka.until_committed(&group, &back, 3, answers).await;
    });
}
