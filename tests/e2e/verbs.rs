//! The verbs that read a cluster, as a person with a kubeconfig runs them.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use spillway_operator::api::{Consumer, Queue, Topic};

use crate::bed::{Start, World, bare_world, binary, deployment, required, until_within, world};

/// Runs the command line; its exit code, and all that it printed.
async fn ran(w: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--namespace", &w.namespace]).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a thread");
    let output = output.expect("the spillway binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs the command line; what it printed, or its error.
pub async fn spillway(w: &World, arguments: &[&str]) -> Result<String, String> {
    let (code, printed, error) = ran(w, arguments).await;
    if code == Some(0) { Ok(printed) } else { Err(error) }
}

/// A kubeconfig for somebody who may only do what a role says.
fn kubeconfig_of(user: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string(required("KUBECONFIG")).expect("a kubeconfig");
    let mut config: Value = serde_yaml::from_str(&text).expect("YAML");
    config["users"][0]["user"]["as"] = user.into();
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{user}.kubeconfig"));
    std::fs::write(&path, config.to_string()).expect("written");
    path
}

async fn lag(w: &World) -> Value {
    let text = spillway(w, &["lag", "-o", "json", "--interval", "0.5"]).await.expect("a lag");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn lag_and_explain_show_a_kafka_group_partition_by_partition() {
    world(async |w| {
        let none = spillway(w, &["lag"]).await.expect_err("there is nothing");
        assert!(none.contains("there are no Consumers in namespace"), "{none}");
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        w.apply(&deployment(w, "worker", 1).await).await;
        w.consumer("orders", "scaleTargetRef: {name: worker}\nscaling: {mode: DryRun, ratePerReplica: '20'}")
            .await;
        w.ready::<Consumer>("orders").await;
        w.kafka.produce(&w.name("orders"), 1, 40).await;
        let seen = lag(w).await;
        assert_eq!((&seen[0]["consumer"], &seen[0]["lag"]), (&json!("orders"), &json!(40)), "{seen}");
        assert_eq!(seen[0]["source"], "broker");
        let parts = seen[0]["partitions"].as_array().expect("partitions");
        let lags: Vec<_> = parts.iter().map(|part| part["lag"].as_u64().expect("a lag")).collect();
        assert_eq!(lags, [0, 40, 0]);
        let each = spillway(w, &["lag", "orders", "--interval", "0.5"]).await.expect("a lag");
        let worst = format!("{}/1", w.name("orders"));
        assert!(each.matches(&worst).count() == 2 && each.lines().count() == 5, "{each}");
        let wide = spillway(w, &["lag", "orders", "-o", "wide", "--interval", "0.5"]).await.expect("a lag");
        assert!(wide.contains(&format!("{}/1", w.name("orders"))), "{wide}");

        w.until("orders", "the flood is in the status", |consumer: &Consumer| {
            let lag = consumer.status.as_ref().and_then(|status| status.lag.as_ref()?.messages);
            lag.is_some_and(|lag| lag > 0)
        })
        .await;
        let told = spillway(w, &["explain", "consumer/orders"]).await.expect("an explanation");
        for expected in ["Formula", "bound by", "1, 2, 3: 3 partitions", "Ready=True", "minReplicas 1"] {
            assert!(told.contains(expected), "{expected} in\n{told}");
        }
        let told = spillway(w, &["explain", "consumer/orders", "-o", "json"]).await.expect("an explanation");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(
            (&told["consumer"], &told["scaling"]["mode"]),
            (&json!("orders"), &json!("DryRun")),
            "{told}"
        );
        assert!(told["status"]["decision"]["bound"].is_string(), "{told}");
        let missing = spillway(w, &["explain", "consumer/nobody"]).await.expect_err("there is none");
        assert!(missing.contains("there is no Consumer nobody in namespace"), "{missing}");
        let missing = spillway(w, &["lag", "nobody"]).await.expect_err("there is none");
        assert!(missing.contains("there is no Consumer nobody"), "{missing}");
    });
}

#[test]
fn lag_and_explain_show_a_queue_and_the_status_stands_in_for_a_broker_that_is_away() {
    world(async |w| {
        w.rabbit("").await;
        w.mq().await.declare_queue("tasks", json!({"x-queue-type": "quorum"})).await;
        w.apply(&deployment(w, "worker", 1).await).await;
        w.apply(
            "
            apiVersion: spillway.dev/v1alpha1
            kind: Consumer
            metadata: {name: tasks}
            spec:
              scaleTargetRef: {name: worker}
              rabbitmq: {brokerRef: {name: rabbitmq}, vhost: '${VHOST}', queue: tasks}
              scaling: {mode: DryRun, maxReplicas: 4, ratePerReplica: '5', targetDelay: 2s}
            ",
        )
        .await;
        w.ready::<Consumer>("tasks").await;
        w.amqp().await.flood("tasks", 60).await;
        let seen = until_within(Duration::from_secs(20), "the lag is 60", async || {
            let seen = lag(w).await;
            if seen[0]["lag"] == 60 { Ok(seen) } else { Err(seen.to_string()) }
        })
        .await;
        assert_eq!(seen[0]["partitions"][0]["ready"], 60, "{seen}");
        // RabbitMQ's statistics of a new queue come some seconds after it: until then, the bound is what is not known.
        w.until("tasks", "the decision is four, and the most", |consumer: &Consumer| {
            let decision = consumer.status.as_ref().and_then(|status| status.decision.as_ref());
            decision.is_some_and(|decision| decision.replicas == 4 && decision.bound == "Max")
        })
        .await;
        let told = spillway(w, &["explain", "consumer/tasks"]).await.expect("an explanation");
        for expected in
            ["queue \"tasks\"", "bound by Max", "a larger scaling.maxReplicas", "ScalingActive=False"]
        {
            assert!(told.contains(expected), "{expected} in\n{told}");
        }

        w.rabbit_at("http://127.0.0.1:1", "").await;
        let seen = lag(w).await;
        assert_eq!(seen[0]["source"], "status", "{seen}");
        assert!(seen[0]["note"].as_str().is_some_and(|note| note.contains("failed to")), "{seen}");
        let table = spillway(w, &["lag", "--interval", "0.5"]).await.expect("a lag");
        assert!(table.contains("from the status, up to a minute old"), "{table}");
    });
}

#[test]
fn status_says_what_is_wrong_first_and_counts_the_rest() {
    world(async |w| {
        let (code, printed, error) = ran(w, &["status"]).await;
        assert_eq!(code, Some(0), "{printed}{error}");
        assert!(printed.contains("There are no objects of Spillway's here."), "{printed}");
        w.broker("").await;
        w.topic("good", "partitions: 1").await;
        w.topic("bad", "partitions: 1\nreplicationFactor: 9").await;
        w.ready::<Topic>("good").await;
        w.condition::<Topic>("bad", "Stalled", "True", "BrokerRefused").await;
        let (code, printed, _) = ran(w, &["status"]).await;
        assert_eq!(code, Some(2), "{printed}");
        assert!(printed.contains("Stalled  Topic  "), "{printed}");
        assert!(!printed.contains("good"), "{printed}");
        assert!(printed.ends_with("Ready: Broker 1/1, Topic 1/2\n"), "{printed}");
        let (_, printed, _) = ran(w, &["status", "-o", "json"]).await;
        let report: Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(report["objects"][0]["state"], "Stalled", "{report}");
        assert_eq!(report["operator"]["leads"], true, "{report}");
        w.delete::<Topic>("bad").await;
        w.until_gone::<Topic>("bad").await;
        assert_eq!(ran(w, &["status"]).await.0, Some(0));
    });
}

#[test]
fn dead_letters_of_a_topic_are_shown_and_stay() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 2\ndeadLetter: {}").await;
        w.ready::<Topic>("orders").await;
        let dlq = w.name("orders") + ".dlq";
        for number in 0..12 {
            let body = format!("body {number}");
            w.kafka.produce_one(&dlq, "k", &body, ("x-error", "no such customer")).await;
        }
        for _ in 0..2 {
            let listed = spillway(w, &["dlq", "ls"]).await.expect("a list");
            assert!(listed.contains(&dlq) && listed.contains("orders  12 "), "{listed}");
            let shown = spillway(w, &["dlq", "show", "topic/orders", "-o", "json"]).await.expect("letters");
            let shown: Value = serde_json::from_str(&shown).expect("JSON");
            let bodies: Vec<_> =
                shown.as_array().expect("a list").iter().map(|one| one["body"].clone()).collect();
            let newest: Vec<_> = (2..12).map(|number| json!(format!("body {number}"))).collect();
            assert_eq!(bodies, newest);
            assert_eq!(shown[0]["headers"][0], json!(["x-error", "no such customer"]));
        }
        // The companion is a Topic, too.
        let shown = spillway(w, &["dlq", "show", "topic/orders.dlq", "--limit", "1"]).await.expect("letters");
        assert!(shown.contains("x-error: no such customer") && shown.contains("body 11"), "{shown}");
    });
}

#[test]
fn dead_letters_of_a_queue_are_shown_and_stay_and_a_look_that_would_count_is_refused() {
    world(async |w| {
        w.rabbit("").await;
        w.queue("orders", "deadLetter: {}").await;
        w.queue("counting", "").await;
        w.ready::<Queue>("orders").await;
        w.ready::<Queue>("counting").await;
        let mq = w.mq().await;
        mq.publish("", "orders", "poison").await;
        assert_eq!(mq.reject("orders").await.as_deref(), Some("poison"));
        until_within(Duration::from_secs(20), "the letter is counted", async || {
            let listed = spillway(w, &["dlq", "ls", "-o", "json"]).await?;
            let listed: Value = serde_json::from_str(&listed).map_err(|error| error.to_string())?;
            if listed[0]["messages"] == 1 { Ok(()) } else { Err(listed.to_string()) }
        })
        .await;
        // More looks than a delivery limit would let it live through.
        for _ in 0..25 {
            let shown = spillway(w, &["dlq", "show", "queue/orders"]).await.expect("letters");
            assert!(shown.contains("poison") && shown.contains("x-first-death-reason: rejected"), "{shown}");
        }
        // A quorum queue takes back at its end what was looked at: a look must not change what a redrive finds first.
        for body in ["second", "third"] {
            mq.publish("", "orders.dlq", body).await;
        }
        for _ in 0..2 {
            let shown = spillway(w, &["dlq", "show", "queue/orders", "--limit", "1"]).await.expect("letters");
            assert!(shown.contains("poison") && shown.contains("left where they are"), "{shown}");
        }
        for body in ["poison", "second", "third"] {
            assert_eq!(mq.take("orders.dlq").await.as_deref(), Some(body));
        }
        let refused = spillway(w, &["dlq", "show", "queue/counting"]).await.expect_err("it counts");
        assert!(refused.contains("a look counts as a delivery, and after 20 of them"), "{refused}");
    });
}

#[test]
fn release_takes_the_finalizers_off_and_leaves_the_brokers_alone() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 1\ndeletionPolicy: Delete").await;
        w.topic("going", "partitions: 1\ndeletionPolicy: Delete").await;
        w.ready::<Topic>("orders").await;
        w.ready::<Topic>("going").await;
        let refused = spillway(w, &["release", "--all", "--yes"]).await.expect_err("an operator leads");
        assert!(refused.contains("an operator leads"), "{refused}");
        for operator in w.operators() {
            operator.stop().await;
        }
        w.delete::<Topic>("going").await;
        // Operators of other tests lead, and watch other namespaces.
        let said = spillway(w, &["release", "--all", "--yes"]).await.expect("released");
        let going = said.lines().find(|line| line.contains(" going ")).expect("it is listed");
        assert!(going.contains('Z') && !going.ends_with('-'), "since when it is being deleted: {said}");
        assert!(said.contains("Released 3 of 3; nothing was changed at the brokers."), "{said}");
        w.until_gone::<Topic>("going").await;
        assert!(w.get::<Topic>("orders").await.metadata.finalizers.unwrap_or_default().is_empty());
        assert!(w.kafka.topic(&w.name("going")).await.is_some());
        let again = spillway(w, &["release", "--all", "--yes"]).await.expect("nothing to do");
        assert!(again.contains("Nothing has a finalizer"), "{again}");
        // A later operator must find its way again.
        w.start_operator().await;
        w.ready::<Topic>("orders").await;
    });
}

#[test]
fn an_operator_is_found_whatever_its_lease_is_called_and_release_waits_for_it() {
    // A release of another name than the chart's has another Lease, and was not found: "none leads", and `release` went on.
    bare_world(async |w| {
        let lease = ["--lease-name", "shop-spillway"].map(str::to_owned).to_vec();
        w.start_operator_as(&Start { arguments: lease, ..Start::default() }).await;
        w.broker("").await;
        let held = format!(" holds Lease {}/shop-spillway, renewed ", w.namespace);
        let (code, printed, error) = ran(w, &["status"]).await;
        assert_eq!(code, Some(0), "{printed}{error}");
        assert!(printed.starts_with("Operator: ") && printed.contains(&held), "{printed}");
        let refused = spillway(w, &["release", "--all", "--yes"]).await.expect_err("an operator leads");
        let seen = format!(" holds Lease {}/shop-spillway)", w.namespace);
        assert!(refused.contains("an operator leads") && refused.contains(&seen), "{refused}");

        let elsewhere = w.another_namespace("elsewhere", json!({})).await;
        let (code, printed, _) = ran(&w.at(&elsewhere), &["status"]).await;
        assert_eq!(code, Some(2), "{printed}");
        assert!(printed.contains("Operator: none leads"), "{printed}");

        let named = ["status", "--lease-namespace", &w.namespace, "--lease", "shop-spillway"];
        assert!(ran(w, &named).await.1.contains(&held));
        let named = ["status", "--lease-namespace", &w.namespace, "--lease", "spillway"];
        let (code, printed, _) = ran(w, &named).await;
        assert_eq!(code, Some(2), "{printed}");
        assert!(printed.contains("none leads"), "{printed}");
    });
}

#[test]
fn who_may_not_list_leases_everywhere_is_told_so_and_names_their_namespace() {
    world(async |w| {
        w.broker("").await;
        w.apply(
            "
            apiVersion: rbac.authorization.k8s.io/v1
            kind: Role
            metadata: {name: person}
            rules:
            - {apiGroups: [spillway.dev], resources: ['*'], verbs: [get, list, watch, patch]}
            - {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, list]}
            ---
            apiVersion: rbac.authorization.k8s.io/v1
            kind: RoleBinding
            metadata: {name: person}
            roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: person}
            subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: '${NS}'}]
            ",
        )
        .await;
        let kubeconfig = kubeconfig_of(&w.namespace);
        let as_person = async |arguments: &[&str]| {
            let mut command = Command::new(binary());
            command.args(arguments).args(["-n", &w.namespace]).env("KUBECONFIG", &kubeconfig);
            let output = command.stdin(Stdio::null()).output().expect("the spillway binary starts");
            let text = [output.stdout, output.stderr].concat();
            (output.status.code(), String::from_utf8(text).expect("UTF-8"))
        };
        // Not known is not the same as none.
        let (code, printed) = as_person(&["status"]).await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(
            printed.contains("Operator: not known: ") && printed.contains("--lease-namespace"),
            "{printed}"
        );
        let (code, printed) = as_person(&["status", "--lease-namespace", &w.namespace]).await;
        assert_eq!(code, Some(0), "{printed}");
        assert!(printed.contains(&format!("holds Lease {}/spillway", w.namespace)), "{printed}");
        let (code, printed) = as_person(&["release", "--all", "--yes"]).await;
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains("whether an operator leads is not known"), "{printed}");
    });
}
