//! No secret is ever printed: planted passwords, through every failure of theirs, in whatever anybody can read.

use std::process::{Command, Stdio};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::ListParams;
use spillway_operator::api::{Binding, Broker, Consumer, Exchange, Queue, Topic};

use crate::bed::{Object, World, binary, deployment, http, sleeping_pod, until, world};

/// What must be nowhere: also as URLs and Secrets write it, and without what a URL would cut off.
const PLANTED: [&str; 5] =
    ["Pl4nted/P@ss:w0rd?", "Pl4nted%2FP%40ss%3Aw0rd%3F", "UGw0bnRlZC9QQHNzOncwcmQ/", "Pl4nted", "UGw0bnRlZ"];

const SECRETS: &str = "
apiVersion: v1
kind: Secret
metadata: {name: wrong}
stringData: {username: somebody, password: 'Pl4nted/P@ss:w0rd?'}
---
apiVersion: v1
kind: Secret
metadata: {name: half}
stringData: {user: somebody, password: 'Pl4nted/P@ss:w0rd?'}
---
apiVersion: v1
kind: Secret
metadata: {name: no-certificate}
stringData: {ca.crt: 'Pl4nted/P@ss:w0rd?', tls.crt: 'Pl4nted/P@ss:w0rd?', tls.key: 'Pl4nted/P@ss:w0rd?'}
---
apiVersion: v1
kind: Secret
metadata: {name: torn}
stringData: {username: somebody, password: \"Pl4nted\\nPl4nted\"}
";

/// Brokers that fail in ways of their own, by name.
const BROKERS: [(&str, &str); 9] = [
    (
        "kafka-refused",
        "kafka: {bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SASL}'], sasl: {mechanism: SCRAM-SHA-512, credentialsSecretRef: {name: wrong}}}",
    ),
    (
        "kafka-plain",
        "kafka: {bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SASL}'], sasl: {mechanism: PLAIN, credentialsSecretRef: {name: wrong}}}",
    ),
    (
        "kafka-half",
        "kafka: {bootstrapServers: ['${SPILLWAY_TEST_KAFKA_SASL}'], sasl: {mechanism: PLAIN, credentialsSecretRef: {name: half}}}",
    ),
    (
        "kafka-no-certificate",
        "kafka: {bootstrapServers: ['127.0.0.1:9'], tls: {caSecretRef: {name: no-certificate}}, sasl: {mechanism: PLAIN, credentialsSecretRef: {name: wrong}}}",
    ),
    (
        "kafka-away",
        "kafka: {bootstrapServers: ['127.0.0.1:9'], sasl: {mechanism: PLAIN, credentialsSecretRef: {name: torn}}}",
    ),
    (
        "rabbitmq-refused",
        "rabbitmq: {managementUrl: '${RABBITMQ}', amqpUrl: '${AMQP}', credentialsSecretRef: {name: wrong}}",
    ),
    ("rabbitmq-half", "rabbitmq: {managementUrl: '${RABBITMQ}', credentialsSecretRef: {name: half}}"),
    (
        "rabbitmq-no-certificate",
        "rabbitmq: {managementUrl: 'https://127.0.0.1:9', credentialsSecretRef: {name: wrong}, tls: {caSecretRef: {name: no-certificate}}}",
    ),
    (
        "rabbitmq-away",
        "rabbitmq: {managementUrl: 'http://127.0.0.1:9', amqpUrl: 'amqp://127.0.0.1:9', credentialsSecretRef: {name: torn}}",
    ),
];

/// What anybody said, and where.
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, place: &str, text: String) {
        self.0.push((place.to_owned(), text));
    }

    fn planted(&self) -> Vec<String> {
        let found = self.0.iter().flat_map(|(place, text)| {
            let lines = text.lines().filter(|line| PLANTED.iter().any(|planted| line.contains(planted)));
            lines.map(move |line| format!("{place}: {line}"))
        });
        found.collect()
    }
}

async fn objects<K: Object>(w: &World, said: &mut Said) {
    let all = w.api::<K>().list(&ListParams::default()).await.expect("a list");
    said.add(&format!("every {}", K::kind(&())), serde_yaml::to_string(&all.items).expect("YAML"));
}

/// All that the command line prints, whether it succeeds or not.
async fn command_line(w: &World, arguments: &[&str], input: Option<&str>) -> String {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
    if let Some(input) = input {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.yaml", w.namespace));
        std::fs::write(&path, input).expect("a file");
        command.arg("-f").arg(&path);
    } else {
        command.args(["--namespace", &w.namespace]);
    }
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("it starts");
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn deployments(w: &World) -> Api<Deployment> {
    Api::namespaced(w.client.clone(), &w.namespace)
}

/// Consumers whose pods get credentials, and the Deployments that Spillway makes of them: by reference.
async fn made_from_templates(w: &World) {
    w.broker("").await;
    w.rabbit("").await;
    w.topic("orders", "partitions: 1").await;
    w.ready::<Topic>("orders").await;
    w.mq().await.declare_queue("tasks", serde_json::json!({})).await;
    let pod = sleeping_pod(w).await;
    for (name, reads) in [
        (
            "kafka-made",
            "kafka: {brokerRef: {name: kafka}, group: '${PREFIX}made', topics: ['${PREFIX}orders'], offsetReset: earliest}",
        ),
        ("rabbitmq-made", "rabbitmq: {brokerRef: {name: rabbitmq}, vhost: '${VHOST}', queue: tasks}"),
    ] {
        w.apply(&format!(
            "apiVersion: spillway.dev/v1alpha1\nkind: Consumer\nmetadata: {{name: {name}}}\nspec:\n  {reads}\n  credentialsSecretRef: {{name: wrong}}\n  template: {{metadata: {{labels: {{app: {name}}}}}, spec: {pod}}}\n  scaling: {{maxReplicas: 3}}\n"
        ))
        .await;
        until(&format!("{name} has a Deployment that refers to the Secret"), async || {
            let made = deployments(w).get_opt(name).await.map_err(|error| error.to_string())?;
            let made = serde_yaml::to_string(&made).expect("YAML");
            if made.contains("secretKeyRef") && made.contains("wrong") { Ok(()) } else { Err(made) }
        })
        .await;
    }
}

#[test]
#[allow(clippy::too_many_lines)] // One password, everywhere.
fn a_planted_password_is_in_nothing_that_anybody_can_read() {
    world(async |w| {
        w.mq().await;
        w.apply(SECRETS).await;
        let mut files = SECRETS.to_owned();
        for (name, spec) in BROKERS {
            let broker = format!(
                "---\napiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
            );
            w.apply(&broker).await;
            let on = if name.starts_with("kafka") {
                format!(
                    "kind: Topic\nmetadata: {{name: {name}}}\nspec: {{brokerRef: {{name: {name}}}, name: '${{PREFIX}}{name}', deletionPolicy: Delete}}"
                )
            } else {
                format!(
                    "kind: Queue\nmetadata: {{name: {name}}}\nspec: {{brokerRef: {{name: {name}}}, vhost: '${{VHOST}}', deletionPolicy: Delete}}"
                )
            };
            let object = format!("---\napiVersion: spillway.dev/v1alpha1\n{on}\n");
            w.apply(&object).await;
            files += &broker;
            files += &object;
        }
        w.apply(&deployment(w, "worker", 1).await).await;
        for (name, reads) in [
            (
                "kafka-reader",
                "kafka: {brokerRef: {name: kafka-refused}, group: g, topics: [t], offsetReset: earliest}",
            ),
            (
                "rabbitmq-reader",
                "rabbitmq: {brokerRef: {name: rabbitmq-refused}, vhost: '${VHOST}', queue: q}",
            ),
        ] {
            w.apply(&format!(
                "apiVersion: spillway.dev/v1alpha1\nkind: Consumer\nmetadata: {{name: {name}}}\nspec:\n  {reads}\n  scaleTargetRef: {{name: worker}}\n  scaling: {{maxReplicas: 3}}\n"
            ))
            .await;
            w.condition::<Consumer>(name, "Ready", "False", "").await;
        }
        made_from_templates(w).await;
        for (name, _) in BROKERS {
            w.condition::<Broker>(name, "Ready", "False", "").await;
            let kind = if name.starts_with("kafka") { "Topic" } else { "Queue" };
            until(&format!("{kind} {name} says what is wrong"), async || {
                let said = match kind {
                    "Topic" => w.get::<Topic>(name).await.message("Ready").to_owned(),
                    _ => w.get::<Queue>(name).await.message("Ready").to_owned(),
                };
                if said.is_empty() { Err("nothing".into()) } else { Ok(()) }
            })
            .await;
        }

        let mut said = Said(Vec::new());
        objects::<Broker>(w, &mut said).await;
        objects::<Topic>(w, &mut said).await;
        objects::<Exchange>(w, &mut said).await;
        objects::<Queue>(w, &mut said).await;
        objects::<Binding>(w, &mut said).await;
        objects::<Consumer>(w, &mut said).await;
        let events: Api<Event> = Api::namespaced(w.client.clone(), &w.namespace);
        let events = events.list(&ListParams::default()).await.expect("events");
        assert!(!events.items.is_empty(), "failures are events");
        said.add("events", serde_yaml::to_string(&events.items).expect("YAML"));
        let operator = w.operator();
        for path in ["/metrics", "/healthz", "/readyz"] {
            said.add(path, http::get(&operator.address, path).await.expect("an answer").1);
        }
        for verb in [
            vec!["status", "-o", "yaml"],
            vec!["status", "-o", "wide"],
            vec!["lag", "--interval", "0.5"],
            vec!["explain", "consumer/kafka-reader"],
            vec!["explain", "consumer/kafka-made", "-o", "yaml"],
            vec!["dlq", "ls"],
            vec!["dlq", "show", "topic/kafka-refused"],
            vec!["dlq", "show", "topic/kafka-no-certificate"],
            vec!["dlq", "show", "queue/rabbitmq-refused"],
            vec!["dlq", "show", "queue/rabbitmq-away"],
            vec!["release", "--all", "--yes"],
        ] {
            said.add(&verb.join(" "), command_line(w, &verb, None).await);
        }
        let files = w.filled(&files);
        for verb in [vec!["plan"], vec!["plan", "-o", "json"], vec!["apply", "--yes"]] {
            let printed = command_line(w, &verb, Some(&files)).await;
            assert!(printed.len() > 100, "{printed}");
            said.add(&verb.join(" "), printed);
        }
        for (name, _) in BROKERS {
            let printed = command_line(w, &["import", "--broker", name], Some(&files)).await;
            assert!(printed.contains(name), "{printed}");
            said.add(&format!("import {name}"), printed);
        }
        let deployments = deployments(w).list(&ListParams::default()).await.expect("Deployments");
        said.add("Deployments", serde_yaml::to_string(&deployments.items).expect("YAML"));
        operator.stop().await;
        let released = command_line(w, &["release", "--all", "--yes"], None).await;
        assert!(released.contains("Released "), "{released}");
        said.add("release", released);
        said.add("the operator's log", operator.text());
        assert_eq!(said.planted(), Vec::<String>::new());

        // What is looked for would be found.
        said.add("a leak", format!("failed: user:{}@host", PLANTED[1]));
        assert_eq!(said.planted().len(), 1);
    });
}
