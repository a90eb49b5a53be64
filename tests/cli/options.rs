//! Input, credentials, errors, exit codes.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::bed::{Folder, environment, kafka_broker, object, on, spillway_with, topic, unique};

/// A Broker `kafka` that logs in, and the Secret's data as the bed has it.
fn sasl_broker() -> String {
    let server = environment("SPILLWAY_TEST_KAFKA_SASL");
    object(
        "Broker",
        "kafka",
        &format!(
            "kafka: {{bootstrapServers: ['{server}'], sasl: {{mechanism: SCRAM-SHA-512, credentialsSecretRef: {{name: kafka-user}}}}}}"
        ),
    )
}

fn secret(password: &str) -> String {
    let user = environment("SPILLWAY_TEST_KAFKA_USER");
    format!(
        "---\n{{apiVersion: v1, kind: Secret, metadata: {{name: kafka-user}}, stringData: {{username: '{user}', password: '{password}'}}}}\n"
    )
}

#[test]
fn a_secret_comes_from_the_input() {
    let folder = Folder::new();
    let password = environment("SPILLWAY_TEST_KAFKA_PASSWORD");
    folder.write("a.yaml", &(sasl_broker() + &topic(&unique("sasl"), "") + &secret(&password)));
    let said = on("plan", &folder, &[]).exits(2).says("1 to create");
    assert!(!said.all().contains(&password), "{}", said.all());
    let said = on("plan", &folder, &["-o", "json"]).exits(2);
    assert!(!said.all().contains(&password), "{}", said.all());
}

#[test]
fn a_secret_comes_from_a_folder_as_kubernetes_mounts_it() {
    let (folder, secrets) = (Folder::new(), Folder::new());
    folder.write("a.yaml", &(sasl_broker() + &topic(&unique("sasl"), "")));
    let path = secrets.path().to_str().expect("UTF-8");
    on("plan", &folder, &["--secrets", path])
        .exits(1)
        .says("Secret default/kafka-user (key \"username\") is not in");
    let mounted = [("username", "SPILLWAY_TEST_KAFKA_USER"), ("password", "SPILLWAY_TEST_KAFKA_PASSWORD")];
    for (key, variable) in mounted {
        secrets.write(&format!("kafka-user/{key}"), &(environment(variable) + "\n"));
    }
    on("plan", &folder, &["--secrets", path]).exits(2);
    // The namespace's own comes first.
    secrets.write("default/kafka-user/password", "wrong");
    on("plan", &folder, &["--secrets", path]).exits(1).says("Broker default/kafka: failed to ");
}

#[test]
fn a_secret_comes_from_the_environment() {
    let folder = Folder::new();
    folder.write("a.yaml", &(sasl_broker() + &topic(&unique("sasl"), "")));
    let (user, password) =
        (environment("SPILLWAY_TEST_KAFKA_USER"), environment("SPILLWAY_TEST_KAFKA_PASSWORD"));
    let variables = [
        ("SPILLWAY_SECRET_KAFKA_USER_USERNAME", &*user),
        ("SPILLWAY_SECRET_KAFKA_USER_PASSWORD", &*password),
    ];
    let path = folder.path().to_str().expect("UTF-8");
    spillway_with(&["plan", "-f", path], &variables, None).exits(2);
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let folder = Folder::new();
    folder.write("a.yaml", &(sasl_broker() + &topic(&unique("sasl"), "") + &secret("hunter22-wrong")));
    let said = on("plan", &folder, &[])
        .exits(1)
        .says("Broker default/kafka: failed to ")
        .says("(1 object waits for it)");
    assert!(!said.all().contains("hunter22"), "{}", said.all());
}

#[test]
fn a_broker_that_is_away_is_told_within_five_seconds_and_stops_no_other() {
    let folder = Folder::with_kafka();
    let away = object("Broker", "away", "kafka: {bootstrapServers: ['127.0.0.1:9']}");
    let orphan = topic(&unique("orphan"), "").replace("brokerRef: {name: kafka}", "brokerRef: {name: away}");
    folder.write("a.yaml", &(away + &orphan + &topic(&unique("fine"), "")));
    let begun = Instant::now();
    on("plan", &folder, &[]).exits(1).says("Broker default/away: failed to ").says("1 to create");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[test]
fn a_wrong_document_is_one_line_and_nothing_is_applied() {
    let folder = Folder::with_kafka();
    let name = unique("typo");
    folder.write("a.yaml", &(topic(&unique("fine"), "") + &topic(&name, "partitons: 3")));
    let line =
        format!("a.yaml: document 2: Topic {name}: spec.partitons: unknown field; did you mean partitions?");
    let said = on("plan", &folder, &[]).exits(1).says(&line).says("1 to create");
    assert_eq!(said.err.lines().count(), 1, "{}", said.all());
    on("apply", &folder, &["--yes"]).exits(1).says(&line).says("nothing was changed");
    on("plan", &folder, &[]).exits(1).says("1 to create");
    folder.write("a.yaml", "kind: [\n");
    let said = on("plan", &folder, &[]).exits(1).says("a.yaml: document 1: not YAML: ");
    assert_eq!(said.err.lines().count(), 1, "{}", said.all());
}

#[test]
fn standard_input_is_a_file_like_any_other() {
    let text = kafka_broker("kafka", "") + &topic(&unique("stdin"), "partitions: 1");
    spillway_with(&["plan", "-f", "-"], &[], Some(&text)).exits(2).says("1 to create");
    let said = spillway_with(&["plan", "-f", "-"], &[], Some("a: [")).exits(1);
    said.says("standard input: document 1: not YAML");
}

#[test]
fn without_a_terminal_apply_needs_a_yes() {
    let folder = Folder::with_kafka();
    folder.write("a.yaml", &topic(&unique("unasked"), ""));
    on("apply", &folder, &[]).exits(1).says("use --yes");
    on("plan", &folder, &[]).exits(2);
}

#[test]
fn as_a_plugin_of_kubectl_it_says_what_one_types_there() {
    let output = Command::new(env!("CARGO_BIN_EXE_spillway"))
        .arg0("/usr/local/bin/kubectl-spillway")
        .args(["status", "--help"])
        .output()
        .expect("the binary starts");
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(help.contains("Usage: kubectl spillway status"), "{help}");
}

#[test]
fn an_input_without_a_document_is_an_error() {
    let folder = Folder::new();
    folder.write("notes.txt", "kind: Topic");
    on("plan", &folder, &[]).exits(1).says("failed to read the input: no document in ");
}

#[test]
fn json_in_a_folder_that_is_no_manifest_is_left_aside_and_told() {
    let folder = Folder::with_kafka();
    folder.write("monitoring/queues.json", r#"{"title": "Queues", "panels": []}"#);
    folder.write("a.yaml", &topic(&unique("beside"), ""));
    let said = on("plan", &folder, &[])
        .exits(2)
        .says("1 to create")
        .says("Left alone: 1 JSON without apiVersion and kind.");
    assert_eq!(said.err, "", "{}", said.all());
    on("plan", &folder, &["-o", "json"]).exits(2).says("monitoring/queues.json: document 1");
    // What is named is meant.
    let named = folder.path().join("monitoring/queues.json");
    let said = spillway_with(&["plan", "-f", named.to_str().expect("UTF-8")], &[], None).exits(1);
    said.says("queues.json: document 1: kind: is required");
    on("plan", &Folder::new(), &[]).exits(1).says("no document in ");
    let dashboards = Folder::new();
    dashboards.write("queues.json", "{}");
    on("plan", &dashboards, &[])
        .exits(1)
        .says("no document in ")
        .says("but 1 JSON without apiVersion and kind");
}

#[test]
fn a_file_that_begins_with_a_byte_order_mark_is_read() {
    let folder = Folder::new();
    let text = kafka_broker("kafka", "") + &topic(&unique("mark"), "");
    folder.write("a.yaml", &format!("\u{feff}{}", text.replace('\n', "\r\n")));
    on("plan", &folder, &[]).exits(2).says("1 to create");
}

#[test]
fn what_kubectl_would_read_as_something_else_is_refused_with_its_place() {
    let folder = Folder::with_kafka();
    let queue = |mode: &str| {
        object(
            "Queue",
            "q",
            &format!("brokerRef: {{name: kafka}}, type: classic, arguments: {{x-queue-mode: {mode}}}"),
        )
    };
    folder.write("q.yaml", &queue("off"));
    let line = "q.yaml: document 1: Queue q: spec.arguments.x-queue-mode: is a text, and to kubectl a truth value: put it in quotes";
    on("plan", &folder, &[]).exits(1).says(line);
    on("apply", &folder, &["--yes"]).exits(1).says(line);
    folder.write("q.yaml", &queue("'off'"));
    let said = on("plan", &folder, &[]).exits(1);
    assert!(!said.all().contains("kubectl"), "{}", said.all());
}

#[test]
fn what_is_not_on_a_terminal_has_no_colours() {
    let folder = Folder::with_kafka();
    folder.write("a.yaml", &topic(&unique("plain"), ""));
    let said = on("plan", &folder, &[]).exits(2);
    assert!(!said.all().contains('\u{1b}'), "{}", said.all());
}
