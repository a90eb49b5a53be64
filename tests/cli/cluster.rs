//! The verbs that read a cluster, with one that is made up: what a person is asked there, and brokers that are away.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::bed::{Folder, Said, on_a_terminal, spillway_with};
use crate::between::request;

/// An API server that knows a few objects in the namespace `shop`, and remembers what was written.
struct Cluster {
    kubeconfig: Folder,
    writes: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    fn new(objects: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (objects, writes) = (Arc::new(objects), Arc::new(Mutex::new(Vec::new())));
        let written = writes.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (objects, written) = (objects.clone(), written.clone());
                thread::spawn(move || serve(&stream, &objects, &written));
            }
        });
        let kubeconfig = Folder::new();
        kubeconfig.write(
            "config",
            &json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "a",
                "clusters": [{"name": "a", "cluster": {"server": format!("http://{address}")}}],
                "users": [{"name": "a", "user": {}}],
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a", "namespace": "shop"}}],
            })
            .to_string(),
        );
        Self { kubeconfig, writes }
    }

    fn path(&self) -> String {
        self.kubeconfig.path().join("config").to_str().expect("UTF-8").to_owned()
    }

    fn ran(&self, arguments: &[&str]) -> Said {
        spillway_with(arguments, &[("KUBECONFIG", &self.path()), ("RUST_BACKTRACE", "1")], None)
    }

    fn typed(&self, arguments: &[&str], answer: &str) -> Said {
        on_a_terminal(arguments, &[("KUBECONFIG", &self.path())], answer)
    }

    fn writes(&self) -> Vec<String> {
        self.writes.lock().expect("no panic while it was held").clone()
    }
}

/// Answers requests on a connection until it ends.
fn serve(mut stream: &TcpStream, objects: &[Value], written: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    while let Ok(request) = request(&mut reader) {
        let request = String::from_utf8_lossy(&request).into_owned();
        let mut words = request.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if method != "GET" {
            written.lock().expect("no panic while it was held").push(format!("{method} {path}"));
        }
        let path = path.split('?').next().unwrap_or_default();
        let (code, body) = answer(path, objects);
        let head = format!(
            "HTTP/1.1 {code} It\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(path: &str, objects: &[Value]) -> (u16, String) {
    let plural = |object: &Value| format!("{}s", object["kind"].as_str().unwrap_or_default().to_lowercase());
    let found = objects.iter().find(|object| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        path.ends_with(&format!("/namespaces/shop/{}/{name}", plural(object)))
    });
    if let Some(object) = found {
        return (200, object.to_string());
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    if ["brokers", "topics", "exchanges", "queues", "bindings", "consumers", "leases"].contains(&last) {
        let items: Vec<_> = objects.iter().filter(|object| plural(object) == last).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
        return (200, list.to_string());
    }
    let status =
        json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "none", "code": 404});
    (404, status.to_string())
}

fn object(kind: &str, name: &str, more: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "spillway.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1"},
    });
    for (field, value) in more.as_object().expect("fields") {
        object[field] = value.clone();
    }
    object
}

fn topic() -> Value {
    object(
        "Topic",
        "orders",
        &json!({"spec": {"brokerRef": {"name": "kafka"}}, "status": {"deadLetter": "orders.dlq"}}),
    )
}

#[test]
fn a_kubeconfig_and_a_context_are_chosen_as_with_kubectl() {
    let (one, two) = (Cluster::new(vec![topic()]), Cluster::new(Vec::new()));
    let read = |cluster: &Cluster| std::fs::read_to_string(cluster.path()).expect("a kubeconfig");
    let mut both: Value = serde_json::from_str(&read(&one)).expect("JSON");
    let other: Value = serde_json::from_str(&read(&two).replace("\"a\"", "\"b\"")).expect("JSON");
    for list in ["clusters", "contexts"] {
        both[list].as_array_mut().expect("a list").push(other[list][0].clone());
    }
    one.kubeconfig.write("both", &both.to_string());
    let path = one.kubeconfig.path().join("both").to_str().expect("UTF-8").to_owned();
    let asked = |arguments: &[&str], kubeconfig: &str| {
        spillway_with(arguments, &[("KUBECONFIG", kubeconfig), ("RUST_BACKTRACE", "1")], None)
    };
    for arguments in [
        &["--kubeconfig", &path, "status", "-o", "wide"][..],
        &["status", "-o", "wide", "--kubeconfig", &path, "--context", "a"],
        &["--context=a", "--kubeconfig", &path, "status", "-o", "wide"],
    ] {
        asked(arguments, "/no/such/file").exits(2).says("orders");
    }
    let said = asked(&["--context", "b", "status", "-o", "wide"], &path).exits(2);
    assert!(!said.out.contains("orders"), "{}", said.all());
    for arguments in
        [&["--context", "c", "lag"][..], &["run", "--http-address", "127.0.0.1:0", "--context", "c"]]
    {
        let said = asked(arguments, &path).exits(1).says("there is no context \"c\"; it has a, b");
        assert_eq!((said.out.as_str(), said.err.lines().count()), ("", 1), "{}", said.all());
    }
    asked(&["--kubeconfig", "/no/such/file", "lag"], &path)
        .exits(1)
        .says("kubeconfig /no/such/file: No such file");
}

#[test]
fn release_asks_and_an_answer_that_is_no_yes_releases_nothing() {
    let mut held = topic();
    held["metadata"]["finalizers"] = json!(["spillway.dev/topology"]);
    let cluster = Cluster::new(vec![held]);
    for answer in ["no\n", "\n", ""] {
        let said = cluster.typed(&["release", "--all"], answer).exits(2);
        said.says("Topic  shop       orders  -")
            .says("Take the finalizer off this object? [y/N]")
            .says("Nothing was changed.");
    }
    cluster.ran(&["release", "--all"]).exits(1).says("use --yes");
    assert_eq!(cluster.writes(), [""; 0]);
    cluster.typed(&["release", "--all"], "yes\n").exits(0).says("Released 1 of 1");
    assert_eq!(cluster.writes().len(), 1, "{:?}", cluster.writes());
}

fn lease(renewed: &str) -> Value {
    object(
        "Lease",
        "spillway",
        &json!({"apiVersion": "coordination.k8s.io/v1", "spec": {
            "holderIdentity": "gone", "leaseDurationSeconds": 1, "renewTime": renewed,
        }}),
    )
}

#[test]
fn release_refuses_where_the_lease_that_is_named_is_not_there() {
    let mut held = topic();
    held["metadata"]["finalizers"] = json!(["spillway.dev/topology"]);
    let cluster = Cluster::new(vec![held]);
    let named = ["release", "--all", "--yes", "--lease-namespace", "typo"];
    cluster.ran(&named).exits(1).says("there is no Lease of Spillway's in namespace typo");
    assert_eq!(cluster.writes(), [""; 0]);
    cluster.ran(&[&named[..], &["--force"]].concat()).exits(0).says("Released 1 of 1");
}

#[test]
fn release_waits_for_a_lease_that_nobody_renews_whatever_the_clocks_say() {
    for renewed in ["1990-01-01T00:00:00.000000Z", "2990-01-01T00:00:00.000000Z"] {
        let mut held = topic();
        held["metadata"]["finalizers"] = json!(["spillway.dev/topology"]);
        let said = Cluster::new(vec![held, lease(renewed)]).ran(&["release", "--all", "--yes"]).exits(0);
        said.says("gone holds Lease shop/spillway; looking for 1 s").says("Released 1 of 1");
    }
}

#[test]
fn what_is_released_is_a_table_for_people_and_json_or_yaml_for_programs() {
    let held = |kind: &str, name: &str, since: Option<&str>| {
        let finalizers = json!(["spillway.dev/topology", "example.com/backup"]);
        let mut object = object(kind, name, &json!({"spec": {}}));
        object["metadata"]["finalizers"] = finalizers;
        object["metadata"]["deletionTimestamp"] = json!(since);
        object
    };
    let since = "2026-11-27T10:00:00Z";
    let cluster = Cluster::new(vec![held("Broker", "kafka", None), held("Topic", "orders", Some(since))]);
    let all = ["release", "--all", "--yes"];
    let table = cluster.ran(&all).exits(0).says("KIND").says("Released 2 of 2").out;
    assert!(table.contains(since) && !table.contains("example.com/backup"), "{table}");
    let wide = cluster.ran(&[&all[..], &["-o", "wide"]].concat()).exits(0).out;
    assert!(wide.contains("OTHER FINALIZERS") && wide.contains("example.com/backup"), "{wide}");
    let json: Value =
        serde_json::from_str(&cluster.ran(&[&all[..], &["-o", "json"]].concat()).exits(0).out).expect("JSON");
    let yaml: Value =
        serde_yaml::from_str(&cluster.ran(&[&all[..], &["-o", "yaml"]].concat()).exits(0).out).expect("YAML");
    assert_eq!(json, yaml);
    // The way to the broker goes last.
    let others = json!(["example.com/backup"]);
    let expected = json!({"objects": [
        {"kind": "Topic", "namespace": "shop", "name": "orders", "deletedSince": since, "otherFinalizers": others, "released": true},
        {"kind": "Broker", "namespace": "shop", "name": "kafka", "otherFinalizers": others, "released": true},
    ]});
    assert_eq!(json, expected);
    assert_eq!(cluster.writes().len(), 8, "{:?}", cluster.writes());
    cluster.ran(&["release", "--all", "-o", "json"]).exits(1).says("use --yes");
    let nothing = Cluster::new(Vec::new());
    let said = nothing.ran(&[&all[..], &["-o", "json"]].concat()).exits(0).out;
    assert_eq!(serde_json::from_str::<Value>(&said).expect("JSON"), json!({"objects": []}));
}

#[test]
fn a_broker_that_is_away_is_one_line_of_dlq_and_a_note_of_lag() {
    let on = |more: Value| {
        let mut spec = json!({"brokerRef": {"name": "rabbitmq"}});
        spec.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        spec
    };
    let broker = json!({"managementUrl": "http://127.0.0.1:9", "credentialsSecretRef": {"name": "login"}});
    let source = on(json!({"queue": "orders"}));
    let consumer =
        json!({"scaleTargetRef": {"name": "w"}, "rabbitmq": source, "scaling": {"maxReplicas": 2}});
    let cluster = Cluster::new(vec![
        object("Secret", "login", &json!({"data": {"username": "dQ==", "password": "cA=="}})),
        object("Broker", "rabbitmq", &json!({"spec": {"rabbitmq": broker}})),
        object("Queue", "orders", &json!({"spec": on(json!({})), "status": {"deadLetter": "orders.dlq"}})),
        object("Consumer", "worker", &json!({"spec": consumer})),
    ]);
    let said = cluster.ran(&["dlq", "show", "queue/orders"]).exits(1);
    assert_eq!((said.out.as_str(), said.err.lines().count()), ("", 1), "{}", said.all());
    assert!(said.err.starts_with("spillway: ") && said.err.contains("failed to "), "{}", said.all());
    for verb in [&["dlq", "ls"][..], &["lag"]] {
        let said = cluster.ran(verb).says("failed to ");
        assert!(!said.all().contains("panicked") && !said.all().contains("backtrace"), "{}", said.all());
    }
    cluster.ran(&["dlq", "show", "topic/bills"]).exits(1).says("there is no Topic bills in namespace shop");
    cluster
        .ran(&["explain", "consumer/nobody"])
        .exits(1)
        .says("there is no Consumer nobody in namespace shop");
}
