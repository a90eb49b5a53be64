//! Topics: planned, applied, imported.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use spillway_operator::brokers::kafka::{NewTopic, TopicConfigChange};

use crate::bed::{Folder, TIMEOUT, Topics, client, kafka_at, kafka_broker, on, run, spillway, topic, unique};
use crate::between::Between;

fn json(said: &str) -> Value {
    serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Makes topics as somebody else does, and waits until they are known.
fn somebody_makes(topics: &[NewTopic]) {
    run(async {
        let client = client();
        for (name, made) in client.create_topics(topics, false, TIMEOUT).await.expect("the broker answers") {
            made.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
        let begun = std::time::Instant::now();
        loop {
            let seen = client.describe_topics(&names, TIMEOUT).await.expect("the broker answers");
            if seen.iter().all(|(_, topic)| topic.is_ok()) {
                return;
            }
            assert!(begun.elapsed() < TIMEOUT, "waited in vain for {names:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
}

fn new_topic(name: &str, partitions: i32, config: &[(&str, &str)]) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: Some(1),
        config: config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

#[test]
fn a_new_topic_is_planned_made_and_then_in_step() {
    let name = unique("new");
    let _gone = Topics(vec![name.clone(), format!("{name}.dlq"), format!("{name}.retry.10s")]);
    let folder = Folder::with_kafka();
    folder.write(
        "topics/new.yaml",
        &topic(
            &name,
            "partitions: 2, config: {retention.ms: '60000'}, deadLetter: {}, retry: {delays: [10s]}",
        ),
    );
    on("plan", &folder, &[])
        .exits(2)
        .says("create the topic with 2 partitions")
        .says("Plan: 3 to create, 0 in step.");
    on("apply", &folder, &["--yes"]).exits(0).says("Applied: 3 objects were changed.");
    on("plan", &folder, &[]).exits(0).says("Plan: 3 in step.");
    on("apply", &folder, &["--yes"]).exits(0).says("Plan: 3 in step.");
    let made = run(async { client().describe_topics(std::slice::from_ref(&name), TIMEOUT).await })
        .expect("an answer");
    assert_eq!(made[0].1.as_ref().expect("it is there").partitions.len(), 2);
}

#[test]
fn a_changed_config_and_more_partitions_are_one_change() {
    let name = unique("change");
    let _gone = Topics(vec![name.clone()]);
    somebody_makes(&[new_topic(&name, 1, &[("retention.ms", "60000"), ("segment.ms", "50000")])]);
    let folder = Folder::with_kafka();
    folder.write("a.yaml", &topic(&name, "partitions: 3, config: {retention.ms: '70000'}"));
    on("plan", &folder, &[])
        .exits(2)
        .says("set retention.ms: 60000 → 70000")
        .says("add partitions: 1 → 3")
        .says("1 to change");
    on("apply", &folder, &["--yes"]).exits(0);
    on("plan", &folder, &[]).exits(0);
    // What the manifest does not name is left alone.
    let kept = run(async { client().describe_configs(std::slice::from_ref(&name), TIMEOUT).await })
        .expect("an answer");
    let segment = kept[0].1.as_ref().expect("told").iter().find(|entry| entry.name == "segment.ms");
    assert_eq!(segment.and_then(|entry| entry.value.as_deref()), Some("50000"));
}

#[test]
fn a_topic_that_cannot_be_is_an_error_and_the_others_are_still_done() {
    let (shrunk, fresh) = (unique("shrunk"), unique("fresh"));
    let _gone = Topics(vec![shrunk.clone(), fresh.clone()]);
    somebody_makes(&[new_topic(&shrunk, 3, &[])]);
    let folder = Folder::with_kafka();
    folder.write("a.yaml", &(topic(&shrunk, "partitions: 2") + &topic(&fresh, "partitions: 1")));
    on("plan", &folder, &[])
        .exits(1)
        .says("PartitionsShrink: ")
        .says("Kafka cannot remove partitions")
        .says("1 to create, 0 in step, 1 error");
    on("apply", &folder, &["--yes"]).exits(1).says("Applied: 1 object was changed.");
    on("plan", &folder, &[]).exits(1).says("1 in step, 1 error");
}

#[test]
fn what_the_broker_refuses_is_told_in_its_own_words_before_anything_is_written() {
    let (bad, good) = (unique("bad"), unique("good"));
    let _gone = Topics(vec![bad.clone(), good.clone()]);
    somebody_makes(&[new_topic(&good, 1, &[])]);
    let folder = Folder::with_kafka();
    folder.write(
        "a.yaml",
        &(topic(&bad, "config: {retention.ms: soon}") + &topic(&good, "config: {no.such.key: '1'}")),
    );
    let said = on("plan", &folder, &[]).exits(1);
    assert_eq!(said.out.matches("BrokerRefused: ").count(), 2, "{}", said.all());
    said.says("soon").says("no.such.key");
}

#[test]
fn two_objects_for_one_topic_are_a_conflict_and_the_first_owns() {
    let name = unique("shared");
    let _gone = Topics(vec![name.clone()]);
    let folder = Folder::with_kafka();
    folder.write("a.yaml", &topic("first", &format!("name: {name}, partitions: 1")));
    folder.write("b.yaml", &topic("second", &format!("name: {name}, partitions: 2")));
    on("plan", &folder, &[])
        .exits(1)
        .says("create the topic with 1 partition")
        .says(&format!("Conflict: topic {name:?} is owned by Topic default/first"));
}

#[test]
fn topics_that_kafka_would_not_tell_apart_are_found_in_the_plan() {
    let name = unique("apart");
    let (dots, lines) = (format!("{name}.x"), format!("{name}_x"));
    let _gone = Topics(vec![dots.clone(), lines.clone()]);
    let folder = Folder::with_kafka();
    folder.write(
        "a.yaml",
        &(topic("first", &format!("name: {dots}")) + &topic("second", &format!("name: {lines}"))),
    );
    on("plan", &folder, &[])
        .exits(1)
        .says(&format!(
            "NameCollision: topic {lines:?} collides with {dots:?}, which Topic default/first declared before"
        ))
        .says("1 to create, 0 in step, 1 error");
}

#[test]
fn guard_rails_hold_without_a_cluster() {
    let name = unique("ruled");
    let folder = Folder::new();
    let rules = "rules: [{namespaces: [default], names: ['allowed.*']}]";
    folder.write("a.yaml", &(kafka_broker("kafka", rules) + &topic(&name, "")));
    on("plan", &folder, &[])
        .exits(1)
        .says("RuleViolated: no rule of the Broker lets namespace default declare");
    let other = kafka_broker("kafka", "").replace("name: kafka}", "name: kafka, namespace: brokers}");
    folder.write(
        "a.yaml",
        &(other + &topic(&name, "").replace("name: kafka}", "name: kafka, namespace: brokers}")),
    );
    on("plan", &folder, &[]).exits(1).says("NamespaceNotAllowed: ");
}

#[test]
fn an_observed_topic_is_shown_and_never_written() {
    let name = unique("observed");
    let _gone = Topics(vec![name.clone()]);
    somebody_makes(&[new_topic(&name, 1, &[])]);
    let folder = Folder::with_kafka();
    folder.write("a.yaml", &topic(&name, "partitions: 2, managementPolicy: Observe"));
    on("plan", &folder, &[]).exits(0).says("add partitions: 1 → 2").says("1 observed only and different");
    on("apply", &folder, &["--yes"]).exits(0);
    on("plan", &folder, &[]).exits(0).says("1 observed only and different");
}

#[test]
fn a_paused_object_is_shown_and_not_written() {
    let name = unique("paused");
    let folder = Folder::with_kafka();
    let annotation = "{name: NAME, annotations: {spillway.dev/paused: 'true'}}".replace("NAME", &name);
    folder.write("a.yaml", &topic(&name, "").replace(&format!("{{name: {name}}}"), &annotation));
    on("plan", &folder, &[]).exits(0).says("1 paused");
    on("apply", &folder, &["--yes"]).exits(0).says("1 paused");
}

#[test]
fn the_plan_is_json_for_programs() {
    let (name, shrunk) = (unique("json"), unique("shrunk"));
    let _gone = Topics(vec![name.clone(), shrunk.clone()]);
    somebody_makes(&[new_topic(&shrunk, 2, &[])]);
    let folder = Folder::with_kafka();
    let consumer = "---\n{apiVersion: spillway.dev/v1alpha1, kind: Consumer, metadata: {name: c}}\n";
    folder.write(
        "a.yaml",
        &(topic("mine", &format!("name: {name}, partitions: 1, deadLetter: {{name: {name}.dead}}"))
            + &topic(&shrunk, "partitions: 1")
            + consumer),
    );
    let said = on("plan", &folder, &["-o", "json"]).exits(1);
    let plan = json(&said.out);
    let dead = &plan["objects"][0];
    assert_eq!(dead["companionOf"], serde_json::json!(["default/mine"]));
    let mine = &plan["objects"][1];
    for (field, value) in [
        ("kind", "Topic"),
        ("namespace", "default"),
        ("metadataName", "mine"),
        ("broker", "default/kafka"),
        ("name", &name),
        ("action", "create"),
    ] {
        assert_eq!(mine[field], value, "{field}");
    }
    assert!(mine["source"].as_str().expect("a text").ends_with("a.yaml: document 1"), "{mine}");
    assert_eq!(mine["hash"].as_str().map(str::len), Some(12));
    assert_eq!(mine["steps"].as_array().map(Vec::len), Some(1));
    assert_eq!(plan["objects"][2]["error"]["reason"], "PartitionsShrink");
    let summary =
        serde_json::json!({"create": 2, "change": 0, "inStep": 0, "observed": 0, "paused": 0, "errors": 1});
    assert_eq!(plan["summary"], summary);
    assert_eq!(plan["leftAlone"], serde_json::json!({"Consumer": 1}));
    assert_eq!(plan["wrong"], serde_json::json!([]));
    assert_eq!(plan["hash"].as_str().map(str::len), Some(12));
    assert_eq!(json(&on("plan", &folder, &["-o", "json"]).out)["hash"], plan["hash"]);
}

#[test]
fn what_is_imported_plans_empty_at_once() {
    let prefix = unique("import");
    let names: Vec<_> = ["plain", "Upper_Case", "compacted"].map(|what| format!("{prefix}.{what}")).into();
    let hidden = format!("{prefix}.hidden");
    let _gone = Topics([names.clone(), vec![hidden.clone()]].concat());
    somebody_makes(&[
        new_topic(&names[0], 3, &[]),
        new_topic(&names[1], 1, &[]),
        new_topic(&names[2], 2, &[("cleanup.policy", "compact"), ("retention.ms", "-1")]),
        new_topic(&hidden, 1, &[]),
    ]);
    let folder = Folder::with_kafka();
    let broker = folder.path().join("broker.yaml");
    let wanted = format!("{prefix}.*");
    let import =
        ["import", "--broker", broker.to_str().expect("UTF-8"), "--match", &wanted, "--exclude", "*.hidden"];
    let said = spillway(&import).exits(0).says("Imported 3 objects.");
    assert!(said.out.contains("managementPolicy: Observe"), "{}", said.all());
    assert!(said.out.contains("cleanup.policy: compact"), "{}", said.all());
    folder.write("imported.yaml", &said.out);
    on("plan", &folder, &["--all"]).exits(0).says("Plan: 3 in step.");
    // As a program reads it, and without the manifests.
    let asked = |format: &str| {
        spillway(&[&import[..], &["-o", format]].concat()).exits(0).says("Imported 3 objects.")
    };
    let list = json(&asked("json").out);
    assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&"List".into(), Some(3)), "{list}");
    folder.write("imported.yaml", &list.to_string());
    on("plan", &folder, &["--all"]).exits(0).says("Plan: 3 in step.");
    std::fs::remove_file(folder.path().join("imported.yaml")).expect("removed");
    assert_eq!(asked("yaml").out, said.out);
    let (table, wide) = (asked("table").out, asked("wide").out);
    assert_eq!(table.lines().next(), Some("KIND   NAME"), "{table}");
    assert!(table.contains(&format!("Topic  {}", names[1])) && !table.contains("default/"), "{table}");
    assert!(wide.contains("OBJECT") && wide.contains(&format!("default/{}", names[0])), "{wide}");
    let files = folder.path().join("as-json");
    let files = files.to_str().expect("UTF-8");
    assert_eq!(spillway(&[&import[..], &["--out", files, "-o", "json"]].concat()).exits(0).out, "");
    spillway(&["plan", "-f", broker.to_str().expect("UTF-8"), "-f", files]).exits(0).says("Plan: 3 in step.");
    // The same with one file for each object, to be managed.
    let out = folder.path().join("managed");
    let out = out.to_str().expect("UTF-8");
    let more = ["--management-policy", "Manage", "--out", out];
    spillway(&[&import[..], &more].concat()).exits(0);
    spillway(&[&import[..], &more].concat()).exits(0);
    spillway(&["plan", "-f", broker.to_str().expect("UTF-8"), "-f", out]).exits(0).says("Plan: 3 in step.");
    assert_eq!(std::fs::read_dir(format!("{out}/topics")).expect("a folder").count(), 3);
    // A file that somebody edited since is not overwritten.
    let path = format!("{out}/topics/{}.yaml", names[0]);
    std::fs::write(&path, "edited").expect("written");
    spillway(&[&import[..], &more].concat()).exits(1).says("it exists and says something else");
    let nowhere = ["--out", "/dev/null/topology"];
    spillway(&[&import[..], &nowhere].concat()).exits(1).says("failed to write /dev/null/topology/topics/");
}

#[test]
fn the_brokers_own_topics_are_not_imported() {
    let name = unique("own");
    let (own, alike) = (format!("__{name}"), format!("_{name}"));
    let _gone = Topics(vec![own.clone(), alike.clone()]);
    somebody_makes(&[new_topic(&own, 1, &[]), new_topic(&alike, 1, &[])]);
    let folder = Folder::with_kafka();
    let broker = folder.path().join("broker.yaml");
    let wanted = format!("*{name}");
    let import = ["import", "--broker", broker.to_str().expect("UTF-8"), "--match", &wanted];
    let said = spillway(&import).exits(0).says("Imported 1 object.").says("of the broker's own");
    assert!(said.out.contains(&format!("name: {alike}\n")) && !said.out.contains(&own), "{}", said.all());
    folder.write("imported.yaml", &said.out);
    on("plan", &folder, &[]).exits(0).says("Plan: 1 in step.");
    // Nor with all that there is: of topics of other tests, one may go while it is read, and is left out.
    let said = spillway(&import[..3]);
    assert!(said.out.contains(&alike) && !said.out.contains("name: __"), "{}", said.all());
}

#[test]
fn two_thousand_topics_are_planned_in_a_few_requests() {
    let prefix = unique("many");
    let between = Between::kafka();
    let folder = Folder::new();
    let topics = (0..2_000).map(|n| topic(&format!("{prefix}.{n}"), "partitions: 1"));
    folder.write("a.yaml", &(kafka_at(&between.address(), "kafka", "") + &topics.collect::<String>()));
    on("plan", &folder, &[]).exits(2).says("Plan: 2000 to create");
    let asked = between.requests();
    println!("{asked} requests");
    // A look at 2,000 topics, and a rehearsal of their creation, in requests of some hundreds each.
    assert!((1..=60).contains(&asked), "{asked} requests");
}

#[test]
fn a_topic_that_changed_since_the_plan_was_shown_is_left_alone() {
    use spillway_operator::cli::offline::{input, objects::Objects, progress::Progress, session::Session};
    let name = unique("raced");
    let _gone = Topics(vec![name.clone()]);
    somebody_makes(&[new_topic(&name, 1, &[("retention.ms", "60000")])]);
    let mut input = input::Input::default();
    let text = kafka_broker("kafka", "") + &topic(&name, "config: {retention.ms: '70000'}");
    input::parse("a.yaml", &text, &mut input);
    let objects = Objects::of(input, "default", None);
    let refused = run(async {
        let session = Session::open(&objects).await;
        let entries = session.plan(&Progress::new()).await;
        let set = BTreeMap::from([("retention.ms".to_owned(), "65000".to_owned())]);
        let change = TopicConfigChange { topic: name.clone(), set, delete: BTreeSet::default() };
        client().incremental_alter_configs(&[change], false, TIMEOUT).await.expect("it answers");
        session.carry_out(&entries[0], std::time::Instant::now()).await
    });
    let refused = refused.expect_err("the plan is another one now").message;
    assert!(refused.contains("changed since the plan was shown"), "{refused}");
    assert!(refused.contains("65000 → 70000"), "{refused}");
}
