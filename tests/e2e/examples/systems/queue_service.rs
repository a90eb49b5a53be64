//! System 7: a work queue with limits, a virtual host and a user of its own, over TLS; and its backup.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_operator::api::Consumer;

use super::rabbitmq::{letters, soon};
use super::{System, TWICE, ids, quick, set};
use crate::bed::{
    Object as _, RabbitAddress, World, bare_world, login_yaml, required, until, until_within, world,
};
use crate::examples::{FOLDER, kind, objects_at, set_up};

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

/// The commands of the README's chapter about backups.
fn commands() -> Vec<String> {
    let page = std::fs::read_to_string(format!("{FOLDER}/07-queue-service/README.md")).expect("the README");
    let chapter = page.split("\n## Backup and restore\n").nth(1).expect("a chapter");
    let block =
        chapter.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let commands = block.lines().filter_map(|line| line.strip_prefix("$ "));
    commands.filter(|command| !command.starts_with("cd ")).map(str::to_owned).collect()
}

/// A folder that is removed when the test has passed.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

impl Copy {
    /// The example's folder `base/`, with the addresses of the bed in its Broker and nothing else changed.
    fn of_base(w: &World) -> Self {
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-backup", w.namespace));
        std::fs::create_dir_all(copy.join("base")).expect("a folder");
        for file in ["namespace.yaml", "broker.yaml"] {
            let mut text =
                std::fs::read_to_string(format!("{FOLDER}/07-queue-service/base/{file}")).expect(file);
            for (theirs, ours) in [
                ("https://rabbitmq.rabbitmq.svc:15671", over_tls().management),
                ("amqps://rabbitmq.rabbitmq.svc:5671", over_tls().amqp),
            ] {
                assert_eq!(text.contains(theirs), file == "broker.yaml", "{file}: {theirs}");
                text = text.replace(theirs, &ours);
            }
            std::fs::write(copy.join("base").join(file), text).expect("written");
        }
        Self(copy)
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).expect(name)
    }

    /// A command line there, with the Secrets in the environment.
    fn types(&self, expected: i32, command: &str) {
        let login = RabbitAddress::of_the_bed();
        let ca = std::fs::read_to_string(required("SPILLWAY_TEST_RABBITMQ_CA")).expect("a certificate");
        let output = Command::new("bash")
            .args(["-c", &format!("spillway() {{ {} \"$@\"; }}; {command}", crate::bed::binary())])
            .current_dir(&self.0)
            .env_remove("KUBECONFIG")
            .env("no_proxy", "*")
            .env("SPILLWAY_SECRET_RABBITMQ_USERNAME", login.username)
            .env("SPILLWAY_SECRET_RABBITMQ_PASSWORD", login.password)
            .env("SPILLWAY_SECRET_RABBITMQ_CA_CA_CRT", ca)
            .output()
            .expect("bash");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{command}: {said}");
    }
}

#[test]
fn the_queue_services_topology_is_backed_up_and_made_again_on_an_emptied_broker() {
    bare_world(async |w| {
        set_up(w).await;
        let copy = Copy::of_base(w);
        let mut topology = String::new();
        for object in objects_at(w, "07-queue-service", &over_tls()).await {
            if !["Broker", "Consumer"].contains(&kind(&object).as_str()) {
                topology.extend(["---\n", &serde_json::to_string(&object).expect("JSON"), "\n"]);
            }
        }
        std::fs::write(copy.0.join("topology.yaml"), topology).expect("written");
        let [import, apply] = <[String; 2]>::try_from(commands()).expect("two commands");
        let import = import.replace("--vhost production", &format!("--vhost {}", w.vhost));
        assert!(import.contains(&w.vhost), "{import}");
        // As the README has it, but for the question.
        let apply = format!("{} --yes", apply.split(" #").next().unwrap_or_default().trim());
        let plan = apply.replace("spillway apply", "spillway plan").replace(" --yes", "");

        copy.types(0, &apply.replace("backup.yaml", "topology.yaml"));
        copy.types(0, &import);
        let backup = copy.file("backup.yaml");
        copy.types(0, &plan);

        w.mq().await.remove().await;
        w.mq().await.put(&["vhosts", &w.vhost], json!({})).await;
        set_up(w).await;
        copy.types(2, &plan);
        copy.types(0, &apply);
        copy.types(0, &plan);
        copy.types(0, &import);
        assert_eq!(copy.file("backup.yaml"), backup, "what is there now is what was there");
    });
}
