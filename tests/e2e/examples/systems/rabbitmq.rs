//! Systems 2, 4 and 6, on RabbitMQ.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{LONG, System, alerts, came_twice, ids, quick, set};
use crate::bed::{Rabbit, RabbitAddress, testbed, tidy, until, until_within, world};

/// Waits until a dead-letter queue holds so many messages; their properties by correlation id.
pub async fn letters(mq: &Rabbit, queue: &str, count: usize) -> Vec<(String, Value)> {
    until_within(LONG, &format!("{queue} has {count} dead letters"), async || {
        let messages = mq.messages(queue).await;
        let id = |properties: &Value| properties["correlation_id"].as_str().unwrap_or_default().to_owned();
        let letters =
            messages.iter().map(|message| (id(&message["properties"]), message["properties"].clone()));
        let mut letters: Vec<_> = letters.collect();
        letters.sort_by(|one, other| one.0.cmp(&other.0));
        if letters.len() == count { Ok(letters) } else { Err(format!("{letters:?}")) }
    })
    .await
}

/// Three retries of seconds, where the manifests have minutes.
pub fn soon(spec: &mut Value) {
    if spec["retry"].is_object() {
        set(spec, &["retry", "delays"], json!(["1s", "2s", "3s"]));
    }
}

/// A RabbitMQ that a test may kill. Stopped when dropped.
struct Own(&'static str);

const PORT: u16 = 22_500;

impl Own {
    fn start(name: &'static str) -> (Self, RabbitAddress) {
        testbed(&["extra-rabbitmq", name, &PORT.to_string()]);
        let address = RabbitAddress {
            management: format!("http://127.0.0.1:{PORT}"),
            amqp: format!("amqp://127.0.0.1:{}", PORT + 1),
            username: "guest".into(),
            password: "guest".into(),
        };
        (Self(name), address)
    }

    fn act(&self, verb: &str) {
        testbed(&[verb, &format!("rabbitmq-{}", self.0)]);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        tidy(&["stop", &format!("rabbitmq-{}", self.0)]);
    }
}

#[test]
fn bookings_on_rabbitmq_survive_a_broker_that_is_killed_and_started_again() {
    let (own, address) = Own::start("systems");
    world(async |w| {
        let mq = Rabbit::with_vhost(&address, &w.vhost).await;
        let adapt = |kind: &str, _: &str, spec: &mut Value| {
            soon(spec);
            if kind == "Consumer" {
                assert_eq!(spec["scaling"]["maxReplicas"], 5);
                set(spec, &["scaling"], json!({"targetDelay": "3s", "maxReplicas": 1}));
            }
        };
        let system = System::start_at(w, "02-tour-booking-rabbitmq", address.clone(), &[], adapt).await;
        let (events, service) = ("tour_booking_events", "notification-service");
        let unheard = system.to_exchange(events, "booking.cancelled.standard", &["--count", "1"]).await;
        assert!(unheard.is_err_and(|words| words.contains("no queue takes")), "it is bound to nothing");
        let premium = async |arguments: &[&str]| {
            system.to_exchange(events, "booking.confirmed.premium", arguments).await.expect("published");
        };
        system.twice(&[service], premium).await;
        system.allow(service, 5).await;
        for (key, prefix) in
            [("booking.confirmed.standard", "standard"), ("booking.confirmed.premium", "premium")]
        {
            let flood = ["--count", "300", "--poison", "1", "--flaky", "2", "--key", prefix];
            system.to_exchange(events, key, &flood).await.expect("published");
        }
        system.until_replicas(service, 5).await;
        until("some are handled", async || match system.staff.ids(service, "handled").len() {
            some if some >= 20 => Ok(()),
            few => Err(few.to_string()),
        })
        .await;
        own.act("kill");
        own.act("start");

        // The same processes find it again; what was not acknowledged comes again.
        let all = ids("standard", 0..299).union(&ids("premium", 0..299)).cloned().collect();
        system.until_handled(service, &all).await;
        let dead = letters(&mq, "notification_queue.dlq", 2).await;
        for ((id, letter), wanted) in dead.iter().zip(["premium-000299", "standard-000299"]) {
            assert_eq!(id, wanted);
            assert_eq!(letter["headers"]["spillway-original-queue"], "notification_queue");
        }
        let tried = system.staff.ids(service, "failed");
        for flaky in ["premium-000149", "standard-000149"] {
            assert!(tried.iter().any(|id| id == flaky), "{flaky} did not fail: {tried:?}");
        }
        assert!(!system.staff.logged(service, "the connection is disturbed: trying again").is_empty());
        drop(system);
        mq.remove().await;
    });
}

#[test]
fn mails_are_tried_three_times_more_then_are_dead_letters_and_somebody_is_alerted() {
    world(async |w| {
        let adapt = |kind: &str, _: &str, spec: &mut Value| {
            soon(spec);
            if kind == "Consumer" {
                assert_eq!(spec["scaling"]["maxReplicas"], 4);
                set(spec, &["scaling"], json!({"targetDelay": "5s", "maxReplicas": 1}));
            }
        };
        let system = System::start(w, "04-email-confirmations", adapt).await;
        let prometheus =
            alerts::watch(w, "04-email-confirmations/alerts/prometheusrule.yaml", "email-confirmations");
        prometheus.until("EmailConfirmationsFailed", false).await;
        let service = "email-confirmations";
        let send = async |arguments: &[&str]| {
            system.to_exchange("notifications", "email.confirmation", arguments).await.expect("published");
        };
        system.twice(&[service], &send).await;
        send(&["--count", "3", "--flaky", "3", "--outage", "3", "--key", "late"]).await;
        system.until_handled(service, &ids("late", 0..3)).await;
        let handled = system.staff.ids(service, "handled");
        assert_eq!(handled.len(), 13, "each once: {handled:?}");
        assert_eq!(system.staff.ids(service, "failed").len(), 9, "three tries each failed");
        assert!(w.mq().await.messages("email_failed").await.is_empty(), "the fourth held");

        send(&["--count", "2", "--flaky", "2", "--outage", "9", "--key", "never"]).await;
        send(&["--count", "1", "--poison", "1", "--key", "bad"]).await;
        let dead = letters(w.mq().await, "email_failed", 3).await;
        for (id, tries) in [("bad-000000", "1"), ("never-000000", "4"), ("never-000001", "4")] {
            let (_, properties) =
                dead.iter().find(|(dead, _)| dead == id).unwrap_or_else(|| panic!("{id}: {dead:?}"));
            let headers = &properties["headers"];
            assert_eq!(headers["spillway-attempt"], tries, "{properties}");
            assert_eq!(headers["spillway-original-queue"], "email_confirmations");
            assert!(
                headers["spillway-error"].as_str().is_some_and(|error| error.contains(": ")),
                "{headers}"
            );
        }
        let firing = prometheus.until("EmailConfirmationsFailed", true).await;
        assert_eq!(firing[0]["labels"]["severity"], "warning");

        system.allow(service, 4).await;
        send(&["--count", "400", "--key", "flood"]).await;
        system.until_replicas(service, 4).await;
        system.until_handled(service, &ids("flood", 0..400)).await;
    });
}

/// What the saga's services have done, as of now.
fn steps(system: &System, consumer: &str) -> BTreeSet<String> {
    system.staff.ids(consumer, "handled").into_iter().collect()
}

#[test]
fn a_payment_is_captured_and_booked_or_compensated_and_what_is_urgent_goes_first() {
    world(async |w| {
        let adapt = |kind: &str, _: &str, spec: &mut Value| {
            soon(spec);
            if kind == "Consumer" {
                set(spec, &["scaling", "maxReplicas"], json!(1));
                quick(spec);
            }
        };
        let system = System::start(w, "06-payment-saga", adapt).await;
        let pay = async |arguments: &[&str]| {
            system.to_exchange("payments", "payment.initiated", arguments).await.expect("published");
        };
        // Nobody works: what comes later and is more urgent is done first.
        system.staff.off("payment-processing");
        pay(&["--count", "5", "--priority", "1", "--key", "low"]).await;
        pay(&["--count", "5", "--priority", "9", "--key", "high"]).await;
        system.staff.back("payment-processing");
        let first: BTreeSet<_> = ids("low", 0..5).union(&ids("high", 0..5)).cloned().collect();
        system.until_handled("payment-processing", &first).await;
        let order = system.staff.logged("payment-processing", "handled");
        let urgent = order
            .iter()
            .take(5)
            .filter(|line| line["correlation_id"].as_str().is_some_and(|id| id.starts_with("high")));
        assert!(urgent.count() >= 4, "{order:?}");
        system.until_handled("booking-confirmation", &first).await;

        system.twice(&["payment-processing"], &pay).await;
        system.until_handled("booking-confirmation", &came_twice().into_iter().collect()).await;
        assert_eq!(system.done_of("booking-confirmation", "twice"), came_twice(), "captured once");

        // Three retries, and then others have to know.
        pay(&["--count", "2", "--flaky", "2", "--outage", "3", "--key", "late"]).await;
        pay(&["--count", "2", "--flaky", "2", "--outage", "9", "--key", "never"]).await;
        system.until_handled("booking-confirmation", &ids("late", 0..2)).await;
        system.until_handled("payment-compensation", &ids("never", 0..2)).await;
        let dead = letters(w.mq().await, "payment_failed", 2).await;
        assert!(
            dead.iter()
                .all(|(id, letter)| id.starts_with("never") && letter["headers"]["spillway-attempt"] == "4"),
            "{dead:?}"
        );
        assert_eq!(steps(&system, "payment-compensation"), ids("never", 0..2), "nothing else is undone");

        // More than one can do.
        system.allow("payment-processing", 3).await;
        pay(&["--count", "90", "--key", "flood"]).await;
        system.until_it_grows("payment-processing").await;
        system.until_handled("booking-confirmation", &ids("flood", 0..90)).await;
        system.until_replicas("payment-processing", 1).await;

        // Whom nobody processed within 30 s is a dead letter, and says that it expired.
        system.staff.off("payment-processing");
        pay(&["--count", "1", "--key", "forgotten"]).await;
        let dead = letters(w.mq().await, "payment_failed", 3).await;
        let (_, letter) = dead.iter().find(|(id, _)| id == "forgotten-000000").expect("the forgotten one");
        assert_eq!(letter["headers"]["x-death"][0]["reason"], "expired", "{letter}");
    });
}
