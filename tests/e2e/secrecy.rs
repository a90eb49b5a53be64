//! No secret is ever printed: planted passwords, through every failure of theirs, in whatever anybody can read.

mod planted;

use std::process::{Command, Stdio};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use spillway_operator::api::{Binding, Broker, Consumer, Exchange, Queue, Topic};

use self::planted::{BROKERS, PLANTED, client_key, secrets};
use crate::bed::{Object, Start, World, binary, deployment, http, sleeping_pod, until, world};

/// What anybody said, and where.
struct Said {
    all: Vec<(String, String)>,
    planted: Vec<String>,
}

impl Said {
    fn add(&mut self, place: &str, text: String) {
        self.all.push((place.to_owned(), text));
    }

    fn planted(&self) -> Vec<String> {
        let found = self.all.iter().flat_map(|(place, text)| {
            let lines = text.lines().filter(|line| self.planted.iter().any(|planted| line.contains(planted)));
            lines.map(move |line| format!("{place}: {line}"))
        });
        found.collect()
    }
}

/// Forgets what was reported, so that an operator which begins anew says it again.
async fn forget<K: Object>(w: &World) {
    for object in w.api::<K>().list(&ListParams::default()).await.expect("a list") {
        let patch = Patch::Merge(json!({"status": null}));
        let written = w.api::<K>().patch_status(&object.name_any(), &PatchParams::default(), &patch).await;
        written.unwrap_or_else(|error| panic!("{}: {error}", object.name_any()));
    }
}

/// Every Broker fails, and what is on it.
async fn all_fail(w: &World) {
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
}

async fn objects<K: Object>(w: &World, said: &mut Said) {
    let all = w.api::<K>().list(&ListParams::default()).await.expect("a list");
    said.add(&format!("every {}", K::kind(&())), serde_yaml::to_string(&all.items).expect("YAML"));
}

/// Commands that run at a time: most of them wait for a broker that does not answer.
const AT_ONCE: usize = 12;

/// All that the command line prints, whether it succeeds or not.
async fn command_line(w: &World, arguments: &str, file: Option<&std::path::Path>) -> String {
    let mut command = Command::new(binary());
    command.args(arguments.split(' ')).stdin(Stdio::null()).env("RUST_BACKTRACE", "1");
    match file {
        Some(file) => command.arg("-f").arg(file),
        None => command.args(["--namespace", &w.namespace]),
    };
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

/// The same failures in the log of another operator, as JSON.
async fn in_json(w: &World) -> String {
    forget::<Broker>(w).await;
    forget::<Topic>(w).await;
    forget::<Queue>(w).await;
    forget::<Consumer>(w).await;
    let set = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let environment = [("SPILLWAY_LOG_FORMAT", "json"), ("SPILLWAY_LOG", "trace")].map(set).to_vec();
    let operator = w.start_operator_as(&Start { environment, ..Start::default() }).await;
    all_fail(w).await;
    operator.stop().await;
    let log = operator.text();
    for (name, _) in BROKERS {
        assert!(log.contains(&format!("\"name\":\"{name}\"")), "nothing about {name}:\n{}", operator.tail());
    }
    log
}

#[test]
#[allow(clippy::too_many_lines)] // One password, everywhere.
fn a_planted_password_is_in_nothing_that_anybody_can_read() {
    world(async |w| {
        w.mq().await;
        let (key, in_key) = client_key();
        let mut files = secrets(&key);
        w.apply(&files).await;
        let mut all = Vec::new();
        for (name, spec) in BROKERS {
            let broker = format!(
                "---\napiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
            );
            let on = if name.starts_with("kafka") {
                format!(
                    "kind: Topic\nmetadata: {{name: {name}}}\nspec: {{brokerRef: {{name: {name}}}, name: '${{PREFIX}}{name}', deletionPolicy: Delete}}"
                )
            } else {
                format!(
                    "kind: Queue\nmetadata: {{name: {name}}}\nspec: {{brokerRef: {{name: {name}}}, vhost: '${{VHOST}}', deletionPolicy: Delete}}"
                )
            };
            all.push(format!("{broker}---\napiVersion: spillway.dev/v1alpha1\n{on}\n"));
        }
        futures::future::join_all(all.iter().map(|yaml| w.apply(yaml))).await;
        files += &all.concat();
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
        all_fail(w).await;

        let planted = PLANTED.iter().map(|planted| (*planted).to_owned()).chain(in_key);
        let mut said = Said { all: Vec::new(), planted: planted.collect() };
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
        let verbs = [
            "status -o yaml",
            "status -o wide",
            "lag --interval 0.5",
            "explain consumer/kafka-reader",
            "explain consumer/kafka-made -o yaml",
            "dlq ls",
            "dlq show topic/kafka-refused",
            "dlq show topic/kafka-no-certificate",
            "dlq show topic/kafka-client",
            "dlq show queue/rabbitmq-refused",
            "dlq show queue/rabbitmq-away",
            "dlq show queue/rabbitmq-connection",
            "release --all --yes",
        ];
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.yaml", w.namespace));
        std::fs::write(&path, w.filled(&files)).expect("a file");
        let of_the_file = ["plan", "plan -o json", "apply --yes"].map(str::to_owned).into_iter();
        let of_the_file: Vec<_> =
            of_the_file.chain(BROKERS.map(|(name, _)| format!("import --broker {name}"))).collect();
        let commands = verbs.map(|verb| (verb, None)).into_iter();
        let commands = commands.chain(of_the_file.iter().map(|verb| (verb.as_str(), Some(path.as_path()))));
        let printed = commands.map(async |(verb, file)| (verb, command_line(w, verb, file).await));
        let printed: Vec<_> = stream::iter(printed).buffered(AT_ONCE).collect().await;
        for (verb, printed) in printed {
            let (name, least) = verb.split_once("--broker ").map_or(("", 0), |(_, name)| (name, 1));
            let least = if verb.starts_with("plan") || verb.starts_with("apply") { 100 } else { least };
            assert!(printed.len() > least && printed.contains(name), "{verb}: {printed}");
            said.add(verb, printed);
        }
        let _ = std::fs::remove_file(&path);
        let deployments = deployments(w).list(&ListParams::default()).await.expect("Deployments");
        said.add("Deployments", serde_yaml::to_string(&deployments.items).expect("YAML"));
        operator.stop().await;
        let released = command_line(w, "release --all --yes", None).await;
        assert!(released.contains("Released "), "{released}");
        said.add("release", released);
        said.add("the operator's log", operator.text());
        let log = in_json(w).await;
        said.add("the operator's log in JSON", log);
        assert_eq!(said.planted(), Vec::<String>::new());

        // What is looked for would be found.
        said.add("a leak", format!("failed: user:{}@host", PLANTED[1]));
        said.add("a leak of the key", key);
        assert_eq!(said.planted().len(), 2);
    });
}

#[test]
fn who_names_an_object_after_a_guess_cannot_tell_whether_it_is_somebodys_password() {
    world(async |w| {
        w.broker("").await;
        let login = "apiVersion: v1\nkind: Secret\nmetadata: {name: theirs}\nstringData: {username: a, password: precious-guess}\n";
        w.apply(login).await;
        w.apply("apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {name: theirs}\nspec: {kafka: {bootstrapServers: ['127.0.0.1:9'], sasl: {mechanism: PLAIN, credentialsSecretRef: {name: theirs}}}}\n").await;
        // Its Secret is known from here on.
        w.condition::<Broker>("theirs", "Ready", "False", "").await;
        w.topic("guess", "name: ${PREFIX}precious-guess\nconfig: {precious-guess: '1'}").await;
        let told: Topic = w.condition("guess", "Ready", "False", "BrokerRefused").await;
        // In Spillway's words and in the broker's.
        assert_eq!(told.message("Ready").matches("precious-guess").count(), 2, "{}", told.summary());
    });
}
