//! System 7: a work queue with limits, a virtual host and a user of its own, over TLS; and its backup.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_operator::api::Consumer;

use super::rabbitmq::{letters, soon};
use super::{System, TWICE, ids, quick, set};
use crate::bed::{
    Object as _, RabbitAddress, World, bare_world, login_yaml, required, until, until_within, world,
};
use crate::examples::{kind, objects_at, set_up};

/// RabbitMQ over TLS, as the manifests want it.
fn over_tls() -> RabbitAddress {
    RabbitAddress {
        management: required("SPILLWAY_TEST_RABBITMQ_TLS"),
        amqp: required("SPILLWAY_TEST_AMQPS"),
        ..RabbitAddress::of_the_bed()
    }
}

/// The Secrets that the folder's README makes.
async fn secrets(w: &World) {
    let ca = std::fs::read_to_string(required("SPILLWAY_TEST_RABBITMQ_CA")).expect("a certificate");
    let data = json!({"ca.crt": ca});
    w.apply(&format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: rabbitmq-ca}}, stringData: {data}}}"
    ))
    .await;
    w.apply(&login_yaml("rabbitmq-workers", &w.vhost, "of the new user")).await;
}

/// Publishes a task over REST, as the README says.
fn over_rest(w: &World, queue: &str, id: &str) -> Value {
    let message = json!({
        "routing_key": queue, "payload": json!({"id": id}).to_string(), "payload_encoding": "string",
        "properties": {"delivery_mode": 2, "correlation_id": id},
    });
    let url = format!("{}/api/exchanges/{}/amq.default/publish", over_tls().management, w.vhost);
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--cacert", &required("SPILLWAY_TEST_RABBITMQ_CA")])
        .args(["--user", &format!("{}:of the new user", w.vhost), &url, "--data", &message.to_string()])
        .env("no_proxy", "*")
        .output()
        .expect("curl");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

async fn metric(w: &World, name: &str) -> Option<f64> {
    w.operator().metric(&format!("{name}{{namespace=\"{}\",name=\"tasks\"}}", w.namespace)).await
}

/// Waits until the operator knows that so many wait, or more.
async fn until_waiting(w: &World, least: f64) {
    until(&format!("{least} tasks are seen to wait"), async || {
        match metric(w, "spillway_consumer_lag_messages").await {
            Some(length) if length >= least => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// By one worker, who begins when all is there: one that came for a single message may be on its way out.
async fn duplicates_are_done_once(w: &World, system: &System<'_>) {
    system.staff.off("tasks");
    for _ in 0..2 {
        system.to_exchange("", "tasks", &TWICE).await.expect("published");
    }
    until_waiting(w, 20.0).await;
    system.until_replicas("tasks", 1).await;
    system.staff.back("tasks");
    system.sees_twice(&["tasks"]).await;
}

#[test]
fn the_queue_service_works_over_tls_wakes_grows_refuses_what_is_too_much_and_opens_its_breaker() {
    world(async |w| {
        set_up(w).await;
        secrets(w).await;
        let ca = required("SPILLWAY_TEST_RABBITMQ_CA");
        let adapt = |kind: &str, name: &str, spec: &mut Value| {
            soon(spec);
            match (kind, name) {
                // As many as a test can publish.
                ("Queue", "tasks") => set(spec, &["maxLength"], json!(300)),
                ("Consumer", _) => {
                    assert_eq!(spec["scaling"]["maxReplicas"], 20);
                    set(spec, &["scaling", "maxReplicas"], json!(1));
                    set(spec, &["scaling", "targetDelay"], json!("3s"));
                    set(spec, &["scaling", "idle"], json!({"after": "3s"}));
                    quick(spec);
                }
                _ => {}
            }
        };
        let environment = [("SHOP_CA_FILE", ca.as_str())];
        let system = System::start_at(w, "07-queue-service", over_tls(), &environment, adapt).await;
        let mq = w.mq().await;

        // Nothing to do, nobody there; published over REST, the first task wakes one.
        system.until_replicas("tasks", 0).await;
        assert_eq!(over_rest(w, "tasks", "rest-000000"), json!({"routed": true}));
        system.until_handled("tasks", &ids("rest", 0..1)).await;
        duplicates_are_done_once(w, &system).await;
        system.allow("tasks", 4).await;
        // As RabbitMQ itself has it.
        until("the worker has its prefetch", async || {
            let consumers = mq.consumers("tasks").await;
            let prefetch: Vec<_> =
                consumers.iter().map(|consumer| consumer["prefetch_count"].clone()).collect();
            if prefetch.iter().any(|count| *count == 5) { Ok(()) } else { Err(format!("{consumers:?}")) }
        })
        .await;

        // Retries and dead letters, by a user who may declare nothing.
        let send = async |arguments: &[&str]| system.to_exchange("", "tasks", arguments).await;
        send(&["--count", "2", "--flaky", "2", "--outage", "3", "--key", "late"]).await.expect("published");
        send(&["--count", "1", "--flaky", "1", "--outage", "9", "--key", "never"]).await.expect("published");
        system.until_handled("tasks", &ids("late", 0..2)).await;
        let dead = letters(mq, "tasks.dlq", 1).await;
        assert_eq!(
            (dead[0].0.as_str(), &dead[0].1["headers"]["spillway-attempt"]),
            ("never-000000", &json!("4"))
        );

        // More than may wait is refused, with nobody at work; what was taken is done when they are back.
        system.staff.off("tasks");
        let mut refused = String::new();
        let mut taken = 0;
        for wave in 0..10 {
            match send(&["--count", "100", "--key", &format!("wave{wave}")]).await {
                Ok(()) => taken += 1,
                Err(words) => {
                    refused = words;
                    break;
                }
            }
        }
        assert!(refused.contains("the broker refused it"), "after {taken} waves: {refused}");
        assert!((2..=5).contains(&taken), "{taken} waves of 100 for 300 places");
        until_waiting(w, 200.0).await;
        system.staff.back("tasks");
        system.until_replicas("tasks", 4).await;
        for wave in 0..taken {
            system.until_handled("tasks", &ids(&format!("wave{wave}"), 0..100)).await;
        }
        for name in ["arrival_rate", "dead_letters", "desired_replicas"] {
            let name = format!("spillway_consumer_{name}");
            assert!(metric(w, &name).await.is_some(), "{name} is no metric");
        }

        // Most tasks fail: no worker is added for that.
        send(&["--count", "200", "--poison", "200", "--key", "bad"]).await.expect("published");
        until_within(Duration::from_secs(60), "the breaker opens", async || {
            let seen: Consumer = w.get("tasks").await;
            match seen.condition("BreakerOpen") {
                Some(is) if is.status == "True" => Ok(()),
                _ => Err(seen.summary()),
            }
        })
        .await;
        letters(mq, "tasks.dlq", 201).await;
        system.until_replicas("tasks", 0).await;
    });
}

/// The command line with a folder of manifests, and what it said.
fn spillway(expected: i32, arguments: &[&str]) -> String {
    let mut command = Command::new(crate::bed::binary());
    command.args(arguments).env_remove("KUBECONFIG").env("no_proxy", "*");
    let output = command.output().expect("spillway");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {said}{words}");
    said
}

#[test]
fn the_queue_services_topology_is_backed_up_and_made_again_on_an_emptied_broker() {
    bare_world(async |w| {
        set_up(w).await;
        let bed = RabbitAddress::of_the_bed();
        let mut topology = String::new();
        let mut broker = login_yaml("rabbitmq", &bed.username, &bed.password);
        for mut object in objects_at(w, "07-queue-service", &bed).await {
            let into = match kind(&object).as_str() {
                "Consumer" => continue,
                "Broker" => {
                    object.data["spec"]["rabbitmq"].as_object_mut().expect("a Broker").remove("tls");
                    &mut broker
                }
                _ => &mut topology,
            };
            for part in ["---\n", &serde_json::to_string(&object).expect("JSON"), "\n"] {
                into.push_str(part);
            }
        }
        let folder =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-backup", w.namespace));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
        std::fs::write(file("broker.yaml"), broker).expect("written");
        std::fs::write(file("topology.yaml"), topology).expect("written");
        let all = folder.to_str().expect("UTF-8").to_owned();

        spillway(0, &["apply", "-f", &all, "--yes"]);
        let import = [
            "import",
            "--broker",
            &file("broker.yaml"),
            "--vhost",
            &w.vhost,
            "--management-policy",
            "Manage",
        ];
        let backup = spillway(0, &import);
        std::fs::remove_file(file("topology.yaml")).expect("gone");
        std::fs::write(file("backup.yaml"), &backup).expect("written");
        spillway(0, &["plan", "-f", &all]);

        w.mq().await.remove().await;
        w.mq().await.put(&["vhosts", &w.vhost], json!({})).await;
        set_up(w).await;
        spillway(2, &["plan", "-f", &all]);
        spillway(0, &["apply", "-f", &all, "--yes"]);
        spillway(0, &["plan", "-f", &all]);
        assert_eq!(spillway(0, &import), backup, "what is there now is what was there");
        let _ = std::fs::remove_dir_all(&folder);
    });
}
