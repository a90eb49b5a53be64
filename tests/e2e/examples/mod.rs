//! Every example folder, applied as its README says, and what is then at the broker.
//!
//! Only what belongs to a cluster is replaced: the namespace, the broker's address and login, and the
//! virtual host, which is the world's own.

mod systems;

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use spillway_operator::api::{Binding, Broker, Exchange, Queue, Topic};

use crate::bed::{Object, RabbitAddress, World, documents, required, sleeping_pod, world};

pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/examples");

/// What `kubectl apply -k` would apply, made fit for this world, with RabbitMQ at `rabbitmq`.
pub async fn objects_at(w: &World, folder: &str, rabbitmq: &RabbitAddress) -> Vec<DynamicObject> {
    let pod: Value = serde_yaml::from_str(&sleeping_pod(w).await).expect("a pod");
    let folder = format!("{FOLDER}/{folder}");
    let output = Command::new("kubectl").args(["kustomize", &folder]).output().expect("kubectl");
    assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    let mut objects = documents(&String::from_utf8(output.stdout).expect("UTF-8"));
    for namespace in objects.extract_if(.., |object| kind(object) == "Namespace") {
        labelled(w, &namespace).await;
    }
    for object in &mut objects {
        object.metadata.namespace = None;
        let kind = kind(object);
        let spec = &mut object.data["spec"];
        match kind.as_str() {
            "Broker" if spec["kafka"].is_object() => {
                spec["kafka"]["bootstrapServers"] = json!([required("SPILLWAY_TEST_KAFKA")]);
            }
            "Broker" => {
                spec["rabbitmq"]["managementUrl"] = json!(rabbitmq.management);
                spec["rabbitmq"]["amqpUrl"] = json!(rabbitmq.amqp);
            }
            "Consumer" if spec["rabbitmq"].is_object() => {
                spec["rabbitmq"]["vhost"] = json!(w.vhost);
                sleeps(&mut spec["template"]["spec"], &pod);
            }
            "Consumer" => {
                sleeps(&mut spec["template"]["spec"], &pod);
                for argument in
                    spec["template"]["spec"]["containers"][0]["args"].as_array_mut().expect("args")
                {
                    if let Some(topic) = argument.as_str().and_then(|text| text.strip_prefix("--output=")) {
                        *argument = json!(format!("--output={}", w.name(topic)));
                    }
                }
                spec["kafka"]["group"] = json!(w.name(spec["kafka"]["group"].as_str().expect("a group")));
                for topic in spec["kafka"]["topics"].as_array_mut().expect("topics") {
                    *topic = json!(w.name(topic.as_str().expect("a topic")));
                }
            }
            "Exchange" | "Queue" | "Binding" => spec["vhost"] = json!(w.vhost),
            // All tests share one Kafka, where a namespace of names is what a virtual host is here.
            "Topic" => {
                let name = spec["name"].as_str().or(object.metadata.name.as_deref()).expect("a name");
                spec["name"] = json!(w.name(name));
                if let Some(letters) = spec["deadLetter"]["name"].as_str() {
                    spec["deadLetter"]["name"] = json!(w.name(letters));
                }
            }
            _ => {}
        }
    }
    objects
}

/// Gives the labels of the folder's namespace, which its Broker may ask for, to the world's.
async fn labelled(w: &World, namespace: &DynamicObject) {
    if let Some(labels) = &namespace.metadata.labels {
        let api: Api<Namespace> = Api::all(w.client.clone());
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        api.patch(&w.namespace, &PatchParams::default(), &patch).await.expect("labels");
    }
}

/// What of a template is not the folder's own, and why:
///
/// - the image, and that it is not pulled: a pod that sleeps, as `systems::staff` does the work. The shop's own would have
///   to be built and loaded by whoever runs the tests;
/// - its user: that image may name none, and then nobody starts it with `runAsNonRoot`;
/// - the network, where pods can only have the host's (the test bed: `SPILLWAY_TEST_HOST_NETWORK`).
const REPLACED: [&str; 4] = [
    "/hostNetwork",
    "/containers/0/image",
    "/containers/0/imagePullPolicy",
    "/containers/0/securityContext/runAsUser",
];

/// Puts the image of a pod that sleeps into a template.
fn sleeps(template: &mut Value, pod: &Value) {
    let before = template.clone();
    if std::env::var_os("SPILLWAY_TEST_HOST_NETWORK").is_some() {
        template["hostNetwork"] = json!(true);
    }
    let container = &mut template["containers"][0];
    assert_eq!(container["image"], "spillway-shop:latest");
    for key in ["image", "imagePullPolicy"] {
        container[key] = pod["containers"][0][key].clone();
    }
    assert_eq!(container["securityContext"]["runAsNonRoot"], true);
    container["securityContext"]["runAsUser"] = json!(65_532);
    assert_eq!(the_folders_own(template), the_folders_own(&before));
}

/// A template without [`REPLACED`].
pub fn the_folders_own(template: &Value) -> Value {
    let mut own = template.clone();
    for path in REPLACED {
        let (parent, key) = path.rsplit_once('/').expect("a path");
        if let Some(parent) = own.pointer_mut(parent).and_then(Value::as_object_mut) {
            parent.remove(key);
        }
    }
    own
}

pub fn kind(object: &DynamicObject) -> String {
    object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default()
}

/// Applies them, but for Consumers, and waits until they are ready.
async fn applied(w: &World, folder: &str) {
    let mut objects = objects_at(w, folder, &RabbitAddress::of_the_bed()).await;
    objects.retain(|object| kind(object) != "Consumer");
    if objects.iter().any(|object| object.data["spec"]["rabbitmq"].is_object()) {
        w.mq().await;
        w.login("rabbitmq").await;
    }
    for object in &mut objects {
        // Over TLS they are in the system's own test.
        if let Some(rabbitmq) = object.data["spec"].get_mut("rabbitmq").and_then(Value::as_object_mut) {
            rabbitmq.remove("tls");
        }
    }
    all_ready(w, &objects).await;
}

/// Applies objects, and waits until each of them that is neither a Consumer nor another project's is ready.
pub async fn all_ready(w: &World, objects: &[DynamicObject]) {
    for object in objects {
        w.apply(&serde_json::to_string(object).expect("JSON")).await;
    }
    for object in objects {
        let name = object.metadata.name.as_deref().expect("a name");
        match kind(object).as_str() {
            "Broker" => is_ready::<Broker>(w, name).await,
            "Topic" => is_ready::<Topic>(w, name).await,
            "Exchange" => is_ready::<Exchange>(w, name).await,
            "Queue" => is_ready::<Queue>(w, name).await,
            "Binding" => is_ready::<Binding>(w, name).await,
            _ => {}
        }
    }
}

async fn is_ready<K: Object>(w: &World, name: &str) {
    w.ready::<K>(name).await;
}

/// Topics as the broker has them: name and partitions.
async fn has_topics(w: &World, expected: &[(&str, usize)]) {
    for (name, partitions) in expected {
        let seen = w.kafka.until_topic(&w.name(name), "is there", |_| true).await;
        assert_eq!(seen.partitions, *partitions, "{name}");
    }
}

#[test]
fn every_folder_of_the_examples_is_a_system_that_a_test_puts_to_work() {
    let tests = [
        include_str!("systems/kafka.rs"),
        include_str!("systems/rabbitmq.rs"),
        include_str!("systems/queue_service.rs"),
    ];
    let tests: String = tests.concat().split_whitespace().collect();
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(Path::new(FOLDER)).expect("the folder") {
        let entry = entry.expect("an entry");
        if entry.path().is_dir() {
            folders.push(entry.file_name().into_string().expect("UTF-8"));
        }
    }
    assert!(folders.len() >= 9, "{folders:?}");
    for folder in folders {
        // Traffic, not only objects: what is started this way has its services at work.
        let started = |how: &str| tests.contains(&format!("System::{how}(w,\"{folder}\""));
        assert!(started("start") || started("start_at"), "{folder} is not put to work by any test");
    }
}

#[test]
fn the_black_friday_shop_has_its_topics() {
    world(async |w| {
        applied(w, "01-black-friday").await;
        has_topics(
            w,
            &[("payment-successful", 3), ("order-created", 3), ("email-sent", 3), ("dlq-payment", 1)],
        )
        .await;
    });
}

#[test]
fn tour_bookings_on_rabbitmq_deliver_standard_and_premium_and_nothing_else() {
    world(async |w| {
        applied(w, "02-tour-booking-rabbitmq").await;
        let mq = w.mq().await;
        let exchange = mq.exchange("tour_booking_events").await.expect("an exchange");
        assert_eq!(json!([exchange["type"], exchange["durable"]]), json!(["topic", true]));
        let queue = mq.the_queue("notification_queue").await;
        assert_eq!(json!([queue["type"], queue["durable"]]), json!(["quorum", true]));
        for key in ["booking.confirmed.standard", "booking.confirmed.premium"] {
            assert!(mq.publish("tour_booking_events", key, key).await);
            assert_eq!(mq.until_message("notification_queue").await, key);
        }
        for key in ["booking.cancelled.standard", "booking.confirmed", "booking.confirmed.premium.late"] {
            assert!(!mq.publish("tour_booking_events", key, key).await, "{key}");
        }
    });
}

#[test]
fn tour_bookings_on_kafka_have_retries_and_dead_letters() {
    world(async |w| {
        applied(w, "03-tour-booking-kafka").await;
        let name = "tour_booking_events";
        has_topics(w, &[(name, 6)]).await;
        for delay in ["5s", "30s", "5m"] {
            has_topics(w, &[(&format!("{name}.retry.{delay}"), 6)]).await;
        }
        has_topics(w, &[("tour_booking_events.dlq", 1)]).await;
        let letters = w.kafka.topic(&w.name("tour_booking_events.dlq")).await.expect("a topic");
        assert_eq!(letters.config["retention.ms"], "2592000000");
    });
}

/// A message that fails goes to the dead letters; the headers of the contract travel with it.
async fn dies(w: &World, queue: &str, letters: &str) {
    let mq = w.mq().await;
    assert!(mq.publish("", queue, "poison").await);
    assert_eq!(mq.reject(queue).await.as_deref(), Some("poison"));
    assert_eq!(mq.until_message(letters).await, "poison");
}

/// What a retry queue does with a message: its time to wait, and where it goes then.
async fn gives_back(w: &World, queue: &str, delays: &[(&str, u64)]) {
    for (delay, milliseconds) in delays {
        let retry = w.mq().await.the_queue(&format!("{queue}.retry.{delay}")).await;
        let arguments = &retry["arguments"];
        assert_eq!(arguments["x-message-ttl"], *milliseconds, "{retry}");
        assert_eq!(
            json!([arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"]]),
            json!(["", queue])
        );
    }
}

/// A message waits in the shortest retry queue and comes back.
async fn comes_back(w: &World, queue: &str, delay: &str) {
    let mq = w.mq().await;
    assert!(mq.publish("", &format!("{queue}.retry.{delay}"), "again").await);
    assert_eq!(mq.until_message(queue).await, "again");
}

#[test]
fn email_confirmations_are_tried_three_times_more_and_then_are_dead_letters() {
    world(async |w| {
        applied(w, "04-email-confirmations").await;
        let mq = w.mq().await;
        assert_eq!(mq.exchange("notifications").await.expect("an exchange")["type"], "direct");
        gives_back(w, "email_confirmations", &[("10s", 10_000), ("1m", 60_000), ("10m", 600_000)]).await;
        assert!(mq.publish("notifications", "email.confirmation", "mail").await);
        assert_eq!(mq.until_message("email_confirmations").await, "mail");
        assert!(!mq.publish("notifications", "email.other", "mail").await);
        dies(w, "email_confirmations", "email_failed").await;
        comes_back(w, "email_confirmations", "10s").await;
    });
}

#[test]
fn click_analytics_has_twelve_partitions_and_a_week_to_read_them() {
    world(async |w| {
        applied(w, "05-click-analytics").await;
        has_topics(w, &[("user_clicks", 12)]).await;
        let clicks = w.kafka.topic(&w.name("user_clicks")).await.expect("a topic");
        assert_eq!(clicks.config["retention.ms"], "604800000");
    });
}

#[test]
fn the_payment_saga_leads_each_step_to_its_queue_with_priorities_retries_and_dead_letters() {
    world(async |w| {
        applied(w, "06-payment-saga").await;
        let mq = w.mq().await;
        for (key, queue) in
            [("payment.captured", "booking_confirmation"), ("payment.failed", "payment_compensation")]
        {
            assert!(mq.publish("payments", key, key).await);
            assert_eq!(mq.until_message(queue).await, key);
        }
        for (payload, priority) in [("low", 1), ("high", 9)] {
            let properties = json!({"priority": priority, "delivery_mode": 2});
            assert!(mq.publish_with("payments", "payment.initiated", payload, properties).await);
        }
        assert_eq!(mq.until_message("payment_processing").await, "high");
        assert_eq!(mq.until_message("payment_processing").await, "low");
        let settings = json!({
            "message-ttl": 30_000, "dead-letter-exchange": "", "dead-letter-routing-key": "payment_failed",
        });
        mq.until_effective("payment_processing", &settings).await;
        gives_back(w, "payment_processing", &[("1s", 1_000), ("5s", 5_000), ("25s", 25_000)]).await;
        dies(w, "payment_processing", "payment_failed").await;
        comes_back(w, "payment_processing", "1s").await;
    });
}

/// Makes the example's virtual host and user with its own script.
pub async fn set_up(w: &World) {
    let bed = RabbitAddress::of_the_bed();
    w.mq().await.goes_too(&["users", &w.vhost]);
    let output = Command::new(format!("{FOLDER}/07-queue-service/set-up.sh"))
        .arg(&w.vhost)
        .env("MANAGEMENT", &bed.management)
        .env("ADMIN", format!("{}:{}", bed.username, bed.password))
        .env("PASSWORD", "of the new user")
        .env("no_proxy", "*")
        .output()
        .expect("set-up.sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_queue_service_works_with_its_work_queue_fan_out_and_topic_routing() {
    world(async |w| {
        set_up(w).await;
        applied(w, "07-queue-service").await;
        let mq = w.mq().await;
        // Work queue.
        mq.until_effective(
            "tasks",
            &json!({
                "max-length": 10_000, "overflow": "reject-publish", "delivery-limit": 5,
                "dead-letter-exchange": "", "dead-letter-routing-key": "tasks.dlq",
                "dead-letter-strategy": "at-least-once",
            }),
        )
        .await;
        dies(w, "tasks", "tasks.dlq").await;
        dies(w, "tasks.urgent", "tasks.dlq").await;
        gives_back(w, "tasks", &[("1s", 1_000), ("10s", 10_000), ("1m", 60_000)]).await;
        comes_back(w, "tasks", "1s").await;
        assert_eq!(mq.the_queue("tasks.urgent").await["arguments"]["x-max-priority"], 5);
        // Fan-out.
        assert!(mq.publish("events", "", "event").await);
        for queue in ["events.audit", "events.search"] {
            assert_eq!(mq.until_message(queue).await, "event");
        }
        // Topic routing.
        for key in ["billing.error", "billing.critical"] {
            assert!(mq.publish("logs", key, key).await);
            assert_eq!(mq.until_message("logs.errors").await, key);
        }
        assert!(mq.publish("logs", "billing.info", "info").await);
        assert_eq!(mq.take("logs.errors").await, None);
        assert_eq!(mq.the_queue("logs.archive").await["type"], "stream");
        mq.until_counted("logs.archive", 3).await;
        assert_eq!(mq.exchange("logs").await.expect("an exchange")["policy"], "spillway.x.logs");
    });
}

#[test]
fn the_user_of_the_queue_service_may_publish_and_consume_and_declare_nothing() {
    world(async |w| {
        set_up(w).await;
        let bed = RabbitAddress::of_the_bed();
        let user = RabbitAddress { username: w.vhost.clone(), password: "of the new user".into(), ..bed };
        w.mq().await.declare_queue("tasks", json!({})).await;
        let amqp = crate::bed::Amqp::connect(&user, &w.vhost).await;
        let publisher = amqp.publisher("", "tasks").await;
        let consumer = amqp.hold("tasks").await;
        consumer.leave().await;
        assert_eq!(publisher.stop().await.returned, 0);
        assert!(!amqp.may_declare("mine").await);
        assert_ne!(w.mq().await.the_queue("tasks").await, Value::Null);
    });
}

#[test]
fn two_services_that_talk_to_each_other_have_their_topics_and_dead_letters() {
    world(async |w| {
        applied(w, "08-two-microservices").await;
        for name in ["user.events", "notification.events", "micro-1.events", "micro-2.events"] {
            has_topics(w, &[(name, 3), (&format!("{name}.dlq"), 1)]).await;
        }
    });
}

#[test]
fn one_producer_and_one_consumer_have_their_topic() {
    world(async |w| {
        applied(w, "09-producer-consumer").await;
        has_topics(w, &[("message-topic", 3)]).await;
    });
}
