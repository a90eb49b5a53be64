//! Systems 1, 3, 5, 8 and 9, on Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::message::{Headers as _, OwnedMessage};
use serde_json::{Value, json};
use spillway_operator::api::Consumer;

use super::{LONG, System, came_twice, ids, quick, set};
use crate::bed::{World, until_within, world};

/// The headers of a record as text.
fn headers(record: &OwnedMessage) -> BTreeMap<String, String> {
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    let headers = record.headers().expect("headers");
    headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
}

/// The correlation ids of a topic's records, one for each record, sorted.
fn correlation_ids(w: &World, topic: &str) -> Vec<String> {
    let records = w.kafka.records(&w.name(topic));
    let mut ids: Vec<_> = records.iter().map(|record| headers(record)["correlation-id"].clone()).collect();
    ids.sort();
    ids
}

/// Those of a topic that begin so.
fn of(w: &World, topic: &str, key: &str) -> Vec<String> {
    let mut ids = correlation_ids(w, topic);
    ids.retain(|id| id.starts_with(key));
    ids
}

/// Asserts that these went through a service, by the lines of its log.
fn passed(system: &System, service: &str, wanted: &BTreeSet<String>) {
    let seen: BTreeSet<_> = system.staff.ids(service, "handled").into_iter().collect();
    assert!(seen.is_superset(wanted), "{service}: {} of {}", seen.len(), wanted.len());
}

/// Asserts that the dead letters of a topic are these, each as it was and with what was wrong.
fn malformed(w: &World, dead_letters: &str, topic: &str, wanted: &BTreeSet<String>) {
    let dead = w.kafka.records(&w.name(dead_letters));
    let keys: BTreeSet<_> = dead.iter().map(|record| headers(record)["correlation-id"].clone()).collect();
    assert_eq!(keys, *wanted);
    for letter in &dead {
        let headers = headers(letter);
        assert_eq!(headers["spillway-original-topic"], w.name(topic));
        assert_eq!(headers["spillway-attempt"], "1", "what cannot be read is not tried again: {headers:?}");
        assert!(headers["spillway-error"].starts_with("malformed message: "), "{headers:?}");
        headers["spillway-failed-at"].parse::<jiff::Timestamp>().expect("a time");
        assert!(letter.payload().is_some_and(|payload| payload.starts_with(b"{")), "as it was");
    }
}

/// Waits until these, each once at least, and no others are in a topic.
async fn until_there(w: &World, topic: &str, wanted: &BTreeSet<String>) {
    until_within(LONG, &format!("every message arrives in {topic}"), async || {
        let there: BTreeSet<_> = correlation_ids(w, topic).into_iter().collect();
        if there == *wanted { Ok(()) } else { Err(format!("{} of {}", there.len(), wanted.len())) }
    })
    .await;
}

async fn until_committed(w: &World, group: &str, topic: &str, partitions: i32, messages: i64) {
    until_within(LONG, &format!("{group} commits {messages} of {topic}"), async || {
        match w.kafka.committed(&w.name(group), &w.name(topic), partitions) {
            now if now == messages => Ok(()),
            now => Err(now.to_string()),
        }
    })
    .await;
}

#[test]
fn black_friday_grows_to_three_drains_the_flood_keeps_the_poison_and_comes_to_rest() {
    const POISON: [usize; 5] = [199, 399, 599, 799, 999];
    world(async |w| {
        let system = System::start(w, "01-black-friday", |kind, _, spec| {
            if kind == "Consumer" {
                quick(spec);
            }
        })
        .await;
        let payments = "payment-successful";
        system.twice(&["order"], async |arguments| system.to_topic(payments, arguments).await).await;
        let began = Instant::now();
        system.to_topic(payments, &["--count", "1000", "--poison", "5", "--key", "k"]).await;
        let lag = format!("spillway_consumer_lag_messages{{namespace=\"{}\",name=\"order\"}}", w.namespace);
        until_within(Duration::from_secs(20), "the lag is seen", async || {
            match w.operator().metric(&lag).await {
                Some(lag) if lag > 500.0 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        system.until_replicas("order", 3).await;
        println!("3 replicas {:?} after the flood began", began.elapsed());

        let mut good = ids("k", (0..1000).filter(|number| !POISON.contains(number)));
        good.extend(came_twice());
        until_there(w, "order-created", &good).await;
        let drained = began.elapsed();
        println!("drained {drained:?} after the flood began");
        assert!(drained < Duration::from_secs(90), "{drained:?}: no faster than one replica");
        until_there(w, "email-sent", &good).await;
        for topic in ["order-created", "email-sent"] {
            assert_eq!(of(w, topic, "twice"), came_twice(), "{topic}: once for what came twice");
        }
        for topic in [payments, "order-created", "email-sent"] {
            let records = i64::try_from(correlation_ids(w, topic).len()).expect("few");
            until_committed(w, "analytics", topic, 3, records).await;
        }

        malformed(w, "dlq-payment", payments, &ids("k", POISON));
        for service in ["order", "email", "analytics"] {
            passed(&system, service, &good);
        }
        system.until_replicas("order", 1).await;
    });
}

#[test]
fn bookings_on_kafka_are_done_once_tried_three_times_more_and_shared_by_six() {
    world(async |w| {
        let system = System::start(w, "03-tour-booking-kafka", |kind, _, spec| match kind {
            "Topic" => set(spec, &["retry", "delays"], json!(["1s", "2s", "3s"])),
            "Consumer" => set(spec, &["scaling"], json!({"targetDelay": "5s", "maxReplicas": 1})),
            _ => {}
        })
        .await;
        let (bookings, service) = ("tour_booking_events", "notification-service");
        // Twice the same, while one works for all.
        for _ in 0..2 {
            system.to_topic(bookings, &["--count", "60", "--key", "twice"]).await;
        }
        until_committed(w, "notification_service_group", bookings, 6, 120).await;
        assert_eq!(system.staff.ids(service, "handled"), Vec::from_iter(ids("twice", 0..60)), "each once");
        assert_eq!(system.staff.ids(service, "skipped a duplicate"), Vec::from_iter(ids("twice", 0..60)));

        // Some succeed at the third try, some never do, some cannot be read.
        system.to_topic(bookings, &["--count", "3", "--flaky", "3", "--outage", "2", "--key", "late"]).await;
        system.to_topic(bookings, &["--count", "2", "--flaky", "2", "--outage", "9", "--key", "never"]).await;
        system.to_topic(bookings, &["--count", "2", "--poison", "2", "--key", "bad"]).await;
        system.until_handled(service, &ids("late", 0..3)).await;
        let dead: BTreeSet<_> = ids("never", 0..2).union(&ids("bad", 0..2)).cloned().collect();
        until_there(w, "tour_booking_events.dlq", &dead).await;
        for letter in w.kafka.records(&w.name("tour_booking_events.dlq")) {
            let headers = headers(&letter);
            let tries = if headers["correlation-id"].starts_with("never") { "4" } else { "1" };
            assert_eq!(headers["spillway-attempt"], tries, "{headers:?}");
            assert_eq!(headers["spillway-original-topic"], w.name(bookings));
        }
        let tries = system.staff.ids(service, "failed");
        assert_eq!(tries.iter().filter(|id| id.starts_with("late")).count(), 6, "two tries each: {tries:?}");

        system.allow(service, 6).await;
        system.to_topic(bookings, &["--count", "1200", "--key", "flood"]).await;
        system.until_replicas(service, 6).await;
        system.until_handled(service, &ids("flood", 0..1200)).await;
    });
}

#[test]
fn clicks_are_read_by_three_groups_each_to_its_own_maximum_and_again_from_the_beginning() {
    world(async |w| {
        let groups = [("realtime-analytics", 4), ("data-warehouse", 2), ("ml-training", 1)]
            .map(|(name, most)| (name, name.replace('-', "_"), most));
        let system = System::start(w, "05-click-analytics", |kind, name, spec| {
            if kind == "Consumer" {
                let most = groups.iter().find(|(consumer, ..)| *consumer == name).map(|(.., most)| *most);
                assert_eq!(spec["scaling"]["maxReplicas"], json!(most), "{name}");
                set(spec, &["scaling", "targetDelay"], json!("2s"));
            }
        })
        .await;
        let consumers = groups.each_ref().map(|(consumer, ..)| *consumer);
        system.twice(&consumers, async |arguments| system.to_topic("user_clicks", arguments).await).await;
        system.to_topic("user_clicks", &["--count", "1500", "--poison", "3", "--key", "click"]).await;
        for (consumer, _, most) in &groups {
            system.until_replicas(consumer, *most).await;
        }
        for (consumer, group, _) in &groups {
            until_committed(w, group, "user_clicks", 12, 1520).await;
            let seen: Consumer = w.get(consumer).await;
            assert_eq!(seen.status.and_then(|status| status.cap), Some(12), "{consumer}");
            passed(&system, consumer, &ids("click", 0..1500));
            // Whoever counts acts on nothing, so what cannot be read is counted as such, and stops nobody.
            let counted = system.staff.logged(consumer, "counted");
            assert!(
                counted.iter().any(|line| line["malformed"].as_u64() > Some(0)),
                "{consumer}: {counted:?}"
            );
        }
        // Replay: what is read again is work like any other, and nobody else notices.
        system.staff.off("realtime-analytics");
        w.kafka.reset_to_the_beginning(&w.name("realtime_analytics"), &w.name("user_clicks"), 12).await;
        system.staff.back("realtime-analytics");
        until_committed(w, "realtime_analytics", "user_clicks", 12, 1520).await;
        let again = system.staff.ids("realtime-analytics", "handled").len();
        assert!(again >= 3000, "{again}: all of it twice");
        assert!(system.staff.ids("data-warehouse", "handled").len() < 3000);
    });
}

#[test]
fn two_services_talk_both_ways_and_nothing_is_lost_when_one_is_killed() {
    world(async |w| {
        let system = System::start(w, "08-two-microservices", |_, name, spec| {
            if name == "micro-2" {
                set(spec, &["scaling"], json!({"targetDelay": "1s"}));
            }
        })
        .await;
        let events = "user.events";
        system.twice(&["micro-1"], async |arguments| system.to_topic(events, arguments).await).await;
        // The first one works on while the second one is away, and more of the second one come for what waits.
        system.staff.off("micro-2");
        system.to_topic(events, &["--count", "400", "--poison", "2", "--key", "k"]).await;
        let poison = ids("k", [199, 399]);
        let mut good: BTreeSet<_> = ids("k", 0..400).difference(&poison).cloned().collect();
        good.extend(came_twice());
        until_there(w, "micro-1.events", &good).await;
        system.staff.back("micro-2");
        system.until_it_grows("micro-2").await;
        until_within(LONG, "the second service answers", async || {
            match correlation_ids(w, "micro-2.events").len() {
                some if some >= 40 => Ok(()),
                few => Err(format!("{few} answers")),
            }
        })
        .await;
        system.staff.kill("micro-2");

        until_there(w, "micro-2.events", &good).await;
        until_there(w, "notification.events", &good).await;
        until_there(w, "user.events.dlq", &poison).await;
        malformed(w, "user.events.dlq", events, &poison);
        assert_eq!(
            correlation_ids(w, "micro-1.events").len(),
            good.len(),
            "each once, where nobody was killed"
        );
        let told = i64::try_from(correlation_ids(w, "notification.events").len()).expect("few");
        until_committed(w, "notifications", "notification.events", 3, told).await;
        // One id leads through the logs of all.
        for service in ["micro-1", "micro-2", "micro-1-answers", "notifications"] {
            passed(&system, service, &good);
        }
    });
}

#[test]
fn one_consumer_becomes_three_under_a_flood_and_one_bad_message_does_not_stop_it() {
    world(async |w| {
        let adapt = |kind: &str, _: &str, spec: &mut Value| {
            if kind == "Consumer" {
                set(spec, &["scaling"], json!({"targetDelay": "3s"}));
                quick(spec);
            }
        };
        let system = System::start(w, "09-producer-consumer", adapt).await;
        let (topic, service) = ("message-topic", "message-consumer");
        system.twice(&[service], async |arguments| system.to_topic(topic, arguments).await).await;
        system.to_topic(topic, &["--count", "600", "--poison", "1", "--key", "k"]).await;
        system.until_replicas(service, 3).await;
        until_committed(w, "message-group", topic, 3, 620).await;
        system.until_handled(service, &ids("k", 0..599)).await;
        malformed(w, "message-topic.dlq", topic, &ids("k", [599]));
        system.until_replicas(service, 1).await;
    });
}
