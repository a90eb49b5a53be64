//! What an operator at work shows of it: its log, in both formats, and its metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use serde_json::Value;
use spillway_operator::api::{Binding, Broker, Consumer, Exchange, Queue, Topic};

use crate::bed::{
    Object, Operator, Start, Workload, World, bare_world, http, topic_yaml, until, until_within,
};

/// An operator that logs in this format.
async fn logging(w: &World, format: &str) -> std::sync::Arc<Operator> {
    let environment = vec![("SPILLWAY_LOG_FORMAT".to_owned(), format.to_owned())];
    w.start_operator_as(&Start { environment, ..Start::default() }).await
}

/// The metrics of the generated table, with their labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = include_str!("../../docs/metrics.md");
    let (_, table) = page.split_once("<!-- metrics: generated, begin -->").expect("a table");
    let (table, _) = table.split_once("<!-- metrics: end -->").expect("its end");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let words = |cell: &str| {
        let words = cell.split(", ").map(|word| word.trim_matches([' ', '`']).to_owned());
        words.filter(|word| !word.is_empty()).collect()
    };
    rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").collect();
        (cells[0].trim_end_matches('`').to_owned(), words(cells[2]))
    })
    .collect()
}

/// The series that an operator serves: the metric as the table names it, and its labels.
async fn served(operator: &Operator) -> Vec<(String, BTreeMap<String, String>)> {
    let (code, body) = http::get(&operator.address, "/metrics").await.expect("an answer");
    assert_eq!(code, 200, "{body}");
    let series = body.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a value"));
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(all, _)| all);
        // No value here has a comma in it.
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        let labels = labels
            .map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned()))
            .filter(|(label, _)| label != "le");
        let name =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        (name.to_owned(), labels.collect())
    });
    series.collect()
}

/// Work of every kind at both brokers: made, changed by hand and corrected, lost and made again, let go.
async fn topology(w: &World) {
    w.broker("resyncInterval: 5s").await;
    w.rabbit("resyncInterval: 5s").await;
    w.topic("orders", "partitions: 3\ndeadLetter: {}\nconfig: {retention.ms: '60000'}").await;
    w.topic("lost", "partitions: 1").await;
    w.exchange("events", "type: topic").await;
    w.queue("tasks", "maxLength: 9\nbindings: [{source: amq.topic, routingKey: a}]").await;
    w.binding("tasks", "source: amq.topic\ndestination: {queue: tasks}\nroutingKey: b").await;
    w.ready::<Topic>("orders").await;
    w.ready::<Topic>("lost").await;
    w.ready::<Exchange>("events").await;
    w.ready::<Queue>("tasks").await;
    w.ready::<Binding>("tasks").await;
    w.kafka.set_config(&w.name("orders"), &[]).await;
    w.kafka.delete(&[&w.name("lost")]).await;
    w.annotate::<Binding>("tasks", "spillway.dev/force-release", Some("true")).await;
    w.delete::<Binding>("tasks").await;
    w.until_gone::<Binding>("tasks").await;
    w.binding("tasks", "source: amq.topic\ndestination: {queue: tasks}\nroutingKey: b").await;
    w.ready::<Binding>("tasks").await;
    // Its Broker is nowhere.
    w.apply(&topic_yaml("astray", "partitions: 1").replace("{name: kafka}", "{name: nowhere}")).await;
}

/// What names an object of the namespace, in the metrics of an operator.
async fn of_objects(w: &World, operator: &Operator) -> Vec<String> {
    let brokers = format!("{}/", w.namespace);
    let series = served(operator).await.into_iter().filter(|(_, labels)| {
        labels.get("namespace") == Some(&w.namespace)
            || labels.get("broker").is_some_and(|broker| broker.starts_with(&brokers))
    });
    series.map(|(name, labels)| format!("{name} {labels:?}")).collect()
}

async fn delete_all<K: Object>(w: &World) {
    let (how, all) = (DeleteParams::default(), ListParams::default());
    let deleted = w.api::<K>().delete_collection(&how, &all).await;
    assert!(deleted.is_ok(), "{}: {:?}", K::kind(&()), deleted.err());
}

/// What a line says of a step: its kind, object and words.
fn step(line: &Value) -> Option<(&str, &str, &str)> {
    (line["message"] == "done")
        .then(|| Some((line["kind"].as_str()?, line["name"].as_str()?, line["step"].as_str()?)))?
}

/// Each line is JSON and says when, how grave and where from; what is about an object names it.
fn lines_are_whole(w: &World, log: &str) {
    let lines: Vec<Value> = log
        .lines()
        .inspect(|line| assert_eq!(line.matches("\"message\":").count(), 1, "two messages: {line}"))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let mut of_kinds = BTreeSet::new();
    for line in &lines {
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line[key].is_string(), "no {key}: {line}");
        }
        let in_a_pass = line["span"]["name"] == "pass";
        if line["kind"].is_string() || in_a_pass {
            assert_eq!(line["namespace"], w.namespace.as_str(), "{line}");
            assert!(line["name"].as_str().is_some_and(|name| !name.is_empty()), "{line}");
            of_kinds.insert(line["kind"].as_str().unwrap_or_else(|| panic!("no kind: {line}")));
        }
        assert!(line["step"].is_null() || step(line).is_some(), "a step of nothing: {line}");
    }
    assert_eq!(of_kinds, ["Binding", "Broker", "Consumer", "Exchange", "Queue", "Topic"].into());
    let steps: Vec<_> = lines.iter().filter_map(step).collect();
    for (kind, name, word) in [
        ("Topic", "orders", "create"),
        ("Topic", "orders", "retention.ms"),
        ("Topic", "lost", "create"),
        ("Exchange", "events", "events"),
        ("Queue", "tasks", "tasks"),
        ("Binding", "tasks", "amq.topic"),
    ] {
        let told =
            steps.iter().any(|(of, object, step)| (*of, *object) == (kind, name) && step.contains(word));
        assert!(told, "no line of {kind} {name} with {word:?}: {steps:?}");
    }
    let failed = lines.iter().find(|line| line["message"] == "not ready" && line["name"] == "astray");
    assert_eq!(failed.expect("a line")["reason"], "BrokerNotFound");
    assert!(
        lines.iter().any(|line| line["message"] == "scaled" && line["to"] == 3),
        "no line of the scaling"
    );
}

#[test]
fn an_operator_at_work_serves_the_metrics_of_the_table_and_logs_each_step_with_its_object() {
    bare_world(async |w| {
        let operator = logging(w, "json").await;
        topology(w).await;
        let workload = Workload::start(w, "worker", 1, &w.name("group"), &w.name("orders"), 50).await;
        w.consumer(
            "orders",
            "scaleTargetRef: {name: worker}\nscaling: {ratePerReplica: '50', targetDelay: 2s}",
        )
        .await;
        w.ready::<Consumer>("orders").await;
        for partition in 0..3 {
            w.kafka.produce(&w.name("orders"), partition, 400).await;
        }
        workload.until_wanted(3, Duration::from_secs(20)).await;
        // Something that differs and is left alone, as it was asked for.
        w.kafka.create(&w.name("watched"), 1, &[]).await;
        w.topic("watched", "partitions: 3\nmanagementPolicy: Observe").await;
        w.condition::<Topic>("watched", "InSync", "False", "Differs").await;

        let table = documented();
        assert!(table.len() > 20, "{table:?}");
        let mut seen = BTreeSet::new();
        until_within(Duration::from_secs(60), "every metric of the table has series", async || {
            for (name, labels) in served(&operator).await {
                let known = table.get(&name).unwrap_or_else(|| panic!("{name} is in no table"));
                assert_eq!(labels.into_keys().collect::<BTreeSet<_>>(), *known, "the labels of {name}");
                seen.insert(name);
            }
            let missing: Vec<_> = table.keys().filter(|name| !seen.contains(*name)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("none of {missing:?}")) }
        })
        .await;
        assert!(!of_objects(w, &operator).await.is_empty());

        delete_all::<Consumer>(w).await;
        delete_all::<Binding>(w).await;
        delete_all::<Queue>(w).await;
        delete_all::<Exchange>(w).await;
        delete_all::<Topic>(w).await;
        delete_all::<Broker>(w).await;
        until("what is gone has no series", async || {
            let left = of_objects(w, &operator).await;
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        })
        .await;
        w.until_gone::<Broker>("kafka").await;
        operator.stop().await;
        lines_are_whole(w, &operator.text());

        let operator = logging(w, "text").await;
        w.broker("").await;
        w.topic("bills", "partitions: 1").await;
        w.ready::<Topic>("bills").await;
        let log = operator.text();
        let step =
            log.lines().find(|line| line.contains(" done ")).unwrap_or_else(|| panic!("no step: {log}"));
        for part in [
            " INFO pass{kind=\"Topic\" object=".to_owned(),
            format!("kind=\"Topic\" namespace=\"{}\" name=\"bills\"", w.namespace),
            " step=create".to_owned(),
        ] {
            assert!(step.contains(&part), "no {part:?}: {step}");
        }
    });
}
