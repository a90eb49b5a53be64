//! Exchanges, queues and bindings: planned, applied, imported.

use std::time::Duration;

use crate::bed::{Folder, Vhost, on, rabbitmq_at, spillway, unique, with_rabbitmq};
use crate::between::Between;

/// The payments of a shop: everything that a Queue may say, and what it implies.
fn shop(vhost: &Vhost) -> String {
    [
        vhost.object("Exchange", "payments", "type: topic"),
        vhost.object(
            "Queue",
            "processing",
            "maxLength: 1000, messageTtl: 30s, deadLetter: {}, retry: {delays: [10s]}, bindings: [{sourceRef: {name: payments}, routingKey: payment.initiated}]",
        ),
        vhost.object("Queue", "log", "type: stream, maxAge: 24h, applyVia: Arguments"),
        vhost.object(
            "Binding",
            "log",
            "sourceRef: {name: payments}, destination: {queueRef: {name: log}}, routingKey: '#'",
        ),
    ]
    .concat()
}

fn import(folder: &Folder, vhost: &Vhost, more: &[&str]) -> crate::bed::Said {
    let path = folder.path().join("broker.yaml");
    let path = path.to_str().expect("UTF-8");
    spillway(&[&["import", "--broker", path, "--vhost", &vhost.0], more].concat())
}

#[test]
fn a_topology_is_planned_made_and_then_in_step() {
    let (vhost, folder) = (Vhost::new("shop"), with_rabbitmq());
    folder.write("shop.yaml", &shop(&vhost));
    on("plan", &folder, &[])
        .exits(2)
        .says("declare the topic exchange \"payments\"")
        .says("set policy \"spillway.q.processing\"")
        .says("bind queue \"processing\" to exchange \"payments\" with key \"payment.initiated\"")
        .says("Plan: 6 to create, 0 in step.");
    on("apply", &folder, &["--yes"]).exits(0).says("Applied: 6 objects were changed.");
    on("plan", &folder, &[]).exits(0).says("Plan: 6 in step.");
    on("apply", &folder, &["--yes"]).exits(0).says("Plan: 6 in step.");
    folder.write("shop.yaml", &shop(&vhost).replace("maxLength: 1000", "maxLength: 2000"));
    on("plan", &folder, &[]).exits(2).says("max-length=2000").says("Plan: 1 to change, 5 in step.");
    on("apply", &folder, &["--yes"]).exits(0);
    on("plan", &folder, &[]).exits(0);
}

#[test]
fn a_queue_is_left_alone_while_the_queue_for_its_dead_letters_cannot_be_made() {
    let (vhost, folder) = (Vhost::new("dead"), with_rabbitmq());
    vhost.queue("dead", r#"{"durable": true, "arguments": {"x-queue-type": "stream"}}"#);
    let orders = vhost.object("Queue", "orders", "deadLetter: {queue: dead}");
    folder.write("a.yaml", &(vhost.object("Queue", "dead", "") + &orders));
    on("apply", &folder, &["--yes"])
        .exits(1)
        .says("the queue that takes its dead letters is not there")
        .says("Applied: 0 objects were changed, 1 failed.");
    // Each comes after the one that it needs, and of two that need each other one comes first.
    let chain = [("a", "b"), ("b", "c"), ("c", "d"), ("ping", "pong"), ("pong", "ping")];
    let queue =
        |(name, to): &(&str, &str)| vhost.object("Queue", name, &format!("deadLetter: {{queue: {to}}}"));
    folder.write("a.yaml", &chain.iter().map(queue).collect::<String>());
    on("apply", &folder, &["--yes"]).exits(0).says("Applied: 6 objects were changed.");
}

#[test]
fn the_guard_rails_of_a_broker_that_no_object_names_hold() {
    let (vhost, folder) = (Vhost::new("rails"), with_rabbitmq());
    let both = std::fs::read_to_string(folder.path().join("broker.yaml")).expect("the Broker and its Secret");
    let (broker, secret) = both.split_once("---\n{").expect("two documents");
    let rules = "spec: {rules: [{namespaces: ['*'], names: ['nothing']}], ";
    let first = broker.replace("{name: rabbitmq}", "{name: first}").replace("spec: {", rules);
    folder.write("broker.yaml", &format!("{first}{broker}---\n{{{secret}"));
    folder.write("q.yaml", &vhost.object("Queue", "orders", ""));
    on("plan", &folder, &[]).exits(1).says("RuleViolated");
    // Nor are they got around while its address is away: its status says which cluster it is.
    folder.write("broker.yaml", &format!("{broker}status: {{clusterId: strange}}\n---\n{{{secret}"));
    let told = on("plan", &folder, &[]).exits(1).out;
    let (_, told) = told.split_once("the cluster's id is ").expect("an id");
    let id = told.split_whitespace().next().expect("an id");
    let (url, ..) = crate::bed::rabbitmq();
    let away = first.replace(&url, "http://127.0.0.1:9");
    let known = away.replace("\nspec:", &format!("\nstatus: {{clusterId: '{id}'}}\nspec:"));
    folder.write("broker.yaml", &format!("{known}{broker}---\n{{{secret}"));
    let said = on("plan", &folder, &[]).exits(1).says("RuleViolated").says("1 error.");
    assert!(!said.out.contains("Connection refused"), "{}", said.all());
    // Without one they are not known, and that is told.
    folder.write("broker.yaml", &format!("{away}{broker}---\n{{{secret}"));
    on("plan", &folder, &[])
        .exits(1)
        .says("its guard rails are not known here")
        .says("Plan: 1 to create, 0 in step, 1 error.");
    let said = on("plan", &folder, &["-o", "json"]).exits(1).says("\"broker\": \"default/first\"");
    assert!(said.out.contains("\"errors\": 1"), "{}", said.all());
}

#[test]
fn another_cluster_than_the_one_that_the_brokers_status_names_is_refused() {
    let (vhost, folder) = (Vhost::new("swapped"), with_rabbitmq());
    let both = std::fs::read_to_string(folder.path().join("broker.yaml")).expect("the Broker and its Secret");
    let (broker, secret) = both.split_once("---\n{").expect("two documents");
    folder.write("broker.yaml", &format!("{broker}status: {{clusterId: another}}\n---\n{{{secret}"));
    folder.write("q.yaml", &vhost.object("Queue", "orders", ""));
    on("plan", &folder, &[]).exits(1).says("and was another");
}

#[test]
fn what_rabbitmq_fixes_at_declaration_is_refused_in_words_and_nothing_is_deleted() {
    let (vhost, folder) = (Vhost::new("fixed"), with_rabbitmq());
    vhost.queue("old", r#"{"durable": true, "arguments": {"x-queue-type": "classic"}}"#);
    folder.write("a.yaml", &vhost.object("Queue", "old", ""));
    on("plan", &folder, &[])
        .exits(1)
        .says("Immutable: queue \"old\": its type is classic and the spec wants quorum");
    let wish = "type: classic, maxPriority: 5, onImmutableChange: RecreateIfEmpty";
    folder.write("a.yaml", &vhost.object("Queue", "old", wish));
    on("plan", &folder, &[]).exits(1).says("the command line never deletes");
    on("apply", &folder, &["--yes"]).exits(1);
    import(&folder, &vhost, &[]).exits(0).says("type: classic").says("Imported 1 object.");
}

#[test]
fn a_binding_needs_its_ends_there_or_in_the_input() {
    let (vhost, folder) = (Vhost::new("ends"), with_rabbitmq());
    let binding = vhost.object("Binding", "b", "source: events, destination: {queue: q}");
    folder.write("b.yaml", &binding);
    on("plan", &folder, &[])
        .exits(1)
        .says("DependencyNotReady: exchange \"events\" does not exist in virtual host");
    folder.write(
        "a.yaml",
        &(vhost.object("Exchange", "events", "type: fanout") + &vhost.object("Queue", "q", "")),
    );
    on("plan", &folder, &[]).exits(2).says("3 to create");
    on("apply", &folder, &["--yes"]).exits(0);
    on("plan", &folder, &[]).exits(0);
    let dangling = vhost.object("Binding", "b", "sourceRef: {name: nobody}, destination: {queue: q}");
    folder.write("b.yaml", &dangling);
    on("plan", &folder, &[]).exits(1).says("Exchange default/nobody is not in the input");
}

#[test]
fn a_binding_that_a_queue_declares_first_is_the_queues() {
    let (vhost, folder) = (Vhost::new("twice"), with_rabbitmq());
    vhost.exchange("events", r#"{"type": "fanout", "durable": true}"#);
    let text = vhost.object("Queue", "q", "bindings: [{source: events}]")
        + &vhost.object("Binding", "b", "source: events, destination: {queue: q}");
    folder.write("a.yaml", &text);
    on("plan", &folder, &[]).exits(1).says("is owned by Queue default/q, which comes first");
}

#[test]
fn a_virtual_host_that_does_not_exist_is_told() {
    let (vhost, folder) = (Vhost::new("real"), with_rabbitmq());
    folder.write("a.yaml", &vhost.object("Queue", "q", "").replace(&vhost.0, "no-such-vhost"));
    on("plan", &folder, &[]).exits(1).says("no-such-vhost");
    let path = folder.path().join("broker.yaml");
    let import = ["import", "--broker", path.to_str().expect("UTF-8"), "--vhost", "no-such-vhost"];
    spillway(&import).exits(1).says("no-such-vhost");
}

#[test]
fn an_import_that_leaves_out_what_was_asked_for_is_no_success() {
    let (vhost, folder) = (Vhost::new("left-out"), with_rabbitmq());
    vhost.queue("work", r#"{"durable": true, "arguments": {"x-queue-type": "quorum"}}"#);
    // A Broker that asks for a label which no namespace is known to have.
    let broker = std::fs::read_to_string(folder.path().join("broker.yaml")).expect("a Broker");
    let asks = "allowedNamespaces: {from: Selector, selector: {matchLabels: {team: shop}}}, rabbitmq: {";
    folder.write("broker.yaml", &broker.replacen("rabbitmq: {", asks, 1));
    for format in ["yaml", "json", "table"] {
        import(&folder, &vhost, &["-o", format])
            .exits(1)
            .says("left out Queue work: NamespaceNotAllowed")
            .says("Imported 0 objects. Left out: ")
            .says("1 that would not plan empty");
    }
    let shop = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: shop}}}\n";
    folder.write("shop.yaml", shop);
    let files = folder.path().join("shop.yaml");
    let more = ["-f", files.to_str().expect("UTF-8"), "-n", "shop"];
    import(&folder, &vhost, &more).exits(0).says("Imported 1 object.");
}

#[test]
fn what_is_imported_plans_empty_at_once() {
    let (vhost, folder) = (Vhost::new("import"), with_rabbitmq());
    // What Spillway made, by policy.
    folder.write("shop.yaml", &shop(&vhost));
    on("apply", &folder, &["--yes"]).exits(0);
    std::fs::remove_file(folder.path().join("shop.yaml")).expect("gone");
    // What others made: each argument that has a field, one that has none, headers, bindings between exchanges.
    vhost.queue("Old_Queue", r#"{"durable": true, "arguments": {"x-queue-type": "classic", "x-max-priority": 5, "x-message-ttl": 1500, "x-overflow": "reject-publish", "x-queue-mode": "lazy"}}"#);
    vhost.queue("plain", r#"{"durable": true}"#);
    vhost.queue("limited", r#"{"durable": true, "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 5, "x-quorum-initial-group-size": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "plain", "x-single-active-consumer": true}}"#);
    vhost.queue("to-nowhere", r#"{"durable": true, "arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "gone"}}"#);
    vhost.queue("temporary", r#"{"durable": true, "auto_delete": true}"#);
    vhost.exchange(
        "headers",
        r#"{"type": "headers", "durable": true, "arguments": {"alternate-exchange": "payments"}}"#,
    );
    vhost.exchange("passing", r#"{"type": "fanout", "durable": false, "internal": true}"#);
    vhost.bind("headers", "q/plain", r#"{"routing_key": "", "arguments": {"x-match": "all", "n": 5}}"#);
    vhost.bind("payments", "q/plain", r##"{"routing_key": "#"}"##);
    vhost.bind("payments", "q/plain", r#"{"routing_key": "*"}"#);
    vhost.bind("payments", "q/temporary", r#"{"routing_key": "*"}"#);
    vhost.bind("payments", "e/passing", r#"{"routing_key": "a"}"#);
    vhost.bind("amq.topic", "q/plain", r#"{"routing_key": "a"}"#);
    // A person's policy is nobody's field.
    vhost.put(
        &format!("/api/policies/{}/all", vhost.0),
        r#"{"pattern": "^plain$", "definition": {"max-length": 7}, "apply-to": "queues"}"#,
    );

    for policy in ["Observe", "Manage"] {
        // All but one is written as a whole: a dead-letter queue that is not there cannot be named.
        let said = import(&folder, &vhost, &["--management-policy", policy]).exits(1);
        assert!(said.err.contains("queue \"to-nowhere\""), "{}", said.all());
        assert!(said.err.contains("Written in part: 1."), "{}", said.all());
        for text in [
            "applyVia: Policy",
            "applyVia: Arguments",
            "x-queue-mode: lazy",
            "queue: plain",
            "internal: true",
        ] {
            assert!(said.out.contains(text), "no {text} in {}", said.all());
        }
        for text in ["name: temporary", "max-length", "maxLength: 7", "name: amq.direct", "queue: gone"] {
            assert!(!said.out.contains(text), "{text} in {}", said.all());
        }
        folder.write("imported.yaml", &said.out);
        // 3 exchanges, 8 queues (4 of the shop, 4 others), 7 bindings.
        let said = on("plan", &folder, &["--all"]).exits(0);
        assert!(said.out.contains("Plan: 18 in step."), "{}", said.all());
        std::fs::remove_file(folder.path().join("imported.yaml")).expect("gone");
    }
}

#[test]
fn an_import_that_cannot_say_all_that_a_queue_has_is_no_success_and_says_so() {
    let (vhost, folder) = (Vhost::new("in-part"), with_rabbitmq());
    let quorum = |arguments: &str| {
        format!(r#"{{"durable": true, "arguments": {{"x-queue-type": "quorum", {arguments}}}}}"#)
    };
    vhost.queue("unlimited", &quorum(r#""x-delivery-limit": -5"#));
    import(&folder, &vhost, &[]).exits(0).says("deliveryLimit: -1").says("Imported 1 object.");
    vhost.queue(
        "outside",
        &quorum(r#""x-dead-letter-exchange": "", "x-dead-letter-routing-key": "elsewhere""#),
    );
    vhost.queue(
        "strategy",
        &quorum(r#""x-dead-letter-exchange": "dlx", "x-dead-letter-strategy": "at-least-once""#),
    );
    let part = |name: &str, what: &str| {
        format!(
            "queue \"{name}\" in virtual host \"{}\" is written in part: no field of its Queue says {what}",
            vhost.0
        )
    };
    for format in ["yaml", "json", "table"] {
        import(&folder, &vhost, &["-o", format])
            .exits(1)
            .says(&part("outside", "argument x-dead-letter-exchange, argument x-dead-letter-routing-key"))
            .says(&part("strategy", "argument x-dead-letter-strategy"))
            .says("Imported 3 objects. Written in part: 2.");
    }
    // Who did not ask for it misses nothing.
    import(&folder, &vhost, &["--match", "unlimited"]).exits(0);
}

#[test]
fn what_is_a_clients_or_the_brokers_own_is_not_imported() {
    let (vhost, folder) = (Vhost::new("own"), with_rabbitmq());
    for name in ["orders", "orders.dead", "bills", "__internal"] {
        vhost.queue(name, r#"{"durable": true}"#);
    }
    vhost.queue("orders.fleeting", r#"{"durable": true, "auto_delete": true}"#);
    for (name, fleeting) in
        [("orders.x", false), ("orders.fleeting", true), ("bills.x", false), ("__x", false)]
    {
        vhost.exchange(name, &format!(r#"{{"type": "topic", "durable": true, "auto_delete": {fleeting}}}"#));
    }
    let client = vhost.exclusive(&["orders.exclusive", ""]);
    // To what stays, from all kinds; and from what stays, to all that does not.
    for source in ["orders.x", "orders.fleeting", "bills.x", "amq.topic"] {
        vhost.bind(source, "q/orders", r#"{"routing_key": "k"}"#);
    }
    for target in ["q/orders.fleeting", "q/bills", "q/__internal", "e/orders.fleeting", "e/bills.x"] {
        vhost.bind("orders.x", target, r#"{"routing_key": "k"}"#);
    }
    let chosen = ["--match", "orders*", "--match", "*internal", "--match", "__*", "--exclude", "*.dead"];
    let chosen = [&chosen[..], &["--management-policy", "Manage"]].concat();
    let said = import(&folder, &vhost, &chosen).exits(0);
    let out = said.out.clone();
    said.says("Imported 5 objects.").says("4 of a client's own").says("5 that lead elsewhere");
    for text in ["fleeting", "exclusive", "amq.gen", "__", ".dead", "queue: bills", "exchange: bills.x"] {
        assert!(!out.contains(text), "{text} in {out}");
    }
    for text in ["source: amq.topic", "source: bills.x", "source: orders.x"] {
        assert!(out.contains(text), "no {text} in {out}");
    }
    folder.write("imported.yaml", &out);
    on("plan", &folder, &["--all"]).exits(0).says("Plan: 5 in step.");
    // It is no less whole without the client, and all that it left out is still left out with no choice at all.
    drop(client);
    on("plan", &folder, &[]).exits(0);
    let all = import(&folder, &vhost, &[]).exits(0).says("of a client's own");
    assert!(!all.out.contains("fleeting") && !all.out.contains("name: __"), "{}", all.all());
    assert!(all.out.contains("name: orders.dead") && all.out.contains("name: bills.x"), "{}", all.all());
}

#[test]
fn what_was_imported_is_made_again_on_an_emptied_broker() {
    let (vhost, folder) = (Vhost::new("backup"), with_rabbitmq());
    folder.write("shop.yaml", &shop(&vhost));
    on("apply", &folder, &["--yes"]).exits(0);
    vhost
        .queue("theirs", r#"{"durable": true, "arguments": {"x-queue-type": "classic", "x-max-length": 9}}"#);
    vhost.bind("amq.topic", "q/theirs", r#"{"routing_key": "a"}"#);
    let backup = import(&folder, &vhost, &["--management-policy", "Manage"]).exits(0);
    std::fs::remove_file(folder.path().join("shop.yaml")).expect("gone");
    folder.write("backup.yaml", &backup.out);
    on("plan", &folder, &[]).exits(0);

    vhost.send(reqwest::Method::DELETE, &format!("/api/vhosts/{}", vhost.0), "");
    vhost.put(&format!("/api/vhosts/{}", vhost.0), "{}");
    on("plan", &folder, &[]).exits(2).says("create");
    on("apply", &folder, &["--yes"]).exits(0);
    on("plan", &folder, &[]).exits(0);
    let again = import(&folder, &vhost, &["--management-policy", "Manage"]).exits(0);
    assert_eq!(again.out, backup.out, "what is there now is what was there");
}

#[test]
fn a_policy_that_wins_over_spillways_is_an_error() {
    let (vhost, folder) = (Vhost::new("shadow"), with_rabbitmq());
    let policy =
        r#"{"pattern": ".*", "definition": {"max-length": 7}, "apply-to": "queues", "priority": 900}"#;
    vhost.put(&format!("/api/policies/{}/wins", vhost.0), policy);
    folder.write("a.yaml", &vhost.object("Queue", "q", "maxLength: 5"));
    on("plan", &folder, &[]).exits(2).says("\"wins\"");
    on("apply", &folder, &["--yes"]).exits(1).says("\"wins\"");
    on("plan", &folder, &[]).exits(1).says("PolicyShadowed: ");
}

#[test]
fn an_object_for_one_family_on_a_broker_of_the_other_is_an_error() {
    let folder = with_rabbitmq();
    folder.write("a.yaml", &crate::bed::topic("t", "").replace("name: kafka}", "name: rabbitmq}"));
    on("plan", &folder, &[]).exits(1).says("the object is for Kafka, and its Broker is a RabbitMQ");
}

#[test]
fn a_thousand_queues_are_planned_in_a_few_requests() {
    let between = Between::rabbitmq(Duration::ZERO);
    let (vhost, folder) = (Vhost::new("many"), rabbitmq_at(&format!("http://{}", between.address())));
    let queues: Vec<_> =
        (0..1_000).map(|n| vhost.object("Queue", &format!("q{n}"), "type: classic")).collect();
    folder.write("a.yaml", &queues.concat());
    on("plan", &folder, &[]).exits(2).says("Plan: 1000 to create");
    let asked = between.requests();
    println!("{asked} requests");
    // Some dozens are asked for one by one, until a listing is cheaper.
    assert!((1..=100).contains(&asked), "{asked} requests");
}

/// A global parameter that another cluster's id is read from, until the test ends.
struct AnotherCluster<'a>(&'a Vhost, String);

impl<'a> AnotherCluster<'a> {
    fn new(vhost: &'a Vhost) -> Self {
        let name = unique("cluster");
        let body = format!(r#"{{"name": "{name}", "value": "another-one"}}"#);
        vhost.put(&format!("/api/global-parameters/{name}"), &body);
        Self(vhost, name)
    }
}

impl Drop for AnotherCluster<'_> {
    fn drop(&mut self) {
        self.0.send(reqwest::Method::DELETE, &format!("/api/global-parameters/{}", self.1), "");
    }
}

#[test]
fn a_cluster_that_takes_the_place_of_another_between_two_phases_gets_nothing_of_the_second() {
    let vhost = Vhost::new("replaced");
    let (another, direct) = (AnotherCluster::new(&vhost), with_rabbitmq());
    let between = Between::replaced_rabbitmq(Duration::ZERO, "PUT /api/exchanges/", &another.1);
    let folder = rabbitmq_at(&format!("http://{}", between.address()));
    let events = vhost.object("Exchange", "events", "type: topic");
    for folder in [&folder, &direct] {
        folder.write("a.yaml", &(events.clone() + &vhost.object("Queue", "orders", "maxLength: 5")));
    }
    on("apply", &folder, &["--yes"])
        .exits(1)
        .says("the cluster's id is another-one and was ")
        .says("Applied: 1 object was changed, 1 failed.");
    on("plan", &direct, &[])
        .exits(2)
        .says("declare the quorum queue \"orders\"")
        .says("1 to create, 1 in step");
}

#[test]
fn a_cluster_that_takes_the_place_of_another_in_a_long_phase_gets_little_of_the_rest() {
    const QUEUES: usize = 40;
    let vhost = Vhost::new("long");
    let another = AnotherCluster::new(&vhost);
    // One request after the other: the phase takes four seconds.
    let between = Between::replaced_rabbitmq(Duration::from_millis(100), "PUT /api/queues/", &another.1);
    let folder = rabbitmq_at(&format!("http://{}", between.address()));
    let queue = |n| vhost.object("Queue", &format!("q{n}"), "type: classic");
    folder.write("a.yaml", &(0..QUEUES).map(queue).collect::<String>());
    let said = on("apply", &folder, &["--yes"]).exits(1).says("the cluster's id is another-one and was ");
    let failed = said.err.lines().filter(|line| line.contains("the cluster's id is another-one")).count();
    assert!(failed >= QUEUES / 4, "{failed} queues were spared\n{}", said.all());
}
