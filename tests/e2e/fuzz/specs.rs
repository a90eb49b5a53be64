//! Objects as nobody in their right mind, a careless person, or an attacker would write them.

use serde_json::{Map, Value, json};

use super::random::Random;

/// Where names lead.
pub struct Site {
    pub prefix: String,
    pub vhost: String,
}

/// What breaks patterns, paths, log lines and sorting.
const HOSTILE: [&str; 24] = [
    ".",
    "..",
    " ",
    "a b",
    "ä",
    "日本語",
    "%2F",
    "%00",
    "a/b",
    "../../etc",
    "'; DROP TABLE queues; --",
    "(.*)",
    "^$",
    "[a",
    "a\\",
    "a\nb",
    "a\u{0}b",
    "\u{202e}kcab",
    "{{name}}",
    "${NS}",
    "amq.direct",
    "#",
    "*.*.#",
    "\"quoted\"",
];

const DURATIONS: [&str; 12] =
    ["10s", "1m", "1h", "168h", "0s", "1ms", "-1s", "9999999h", "10", "1.5s", "", "ten seconds"];
const BYTES: [&str; 10] = ["1Mi", "100Ki", "1G", "0", "1", "-1", "99999999999Gi", "1.5Mi", "", "much"];

/// One object's kind, and what is applied one after the other under its name.
pub fn objects(random: &mut Random, n: u64, site: &Site) -> (&'static str, Vec<Value>) {
    let kind = *random.pick(&[
        "Topic", "Topic", "Queue", "Queue", "Queue", "Exchange", "Binding", "Binding", "Consumer", "Broker",
    ]);
    let name = metadata_name(random, kind, n);
    let times = if random.chance(25) { 2 } else { 1 };
    let base = spec(random, kind, site);
    let mut objects = Vec::new();
    for time in 0..times {
        let mut spec = if time == 0 { base.clone() } else { edit(random, kind, site, &base) };
        if random.chance(15) {
            spoil(random, &mut spec);
        }
        objects.push(json!({
            "apiVersion": "spillway.dev/v1alpha1",
            "kind": kind,
            "metadata": metadata(random, &name),
            "spec": spec,
        }));
    }
    (kind, objects)
}

fn metadata_name(random: &mut Random, kind: &str, n: u64) -> String {
    let kind = kind.to_lowercase();
    match random.below(50) {
        0 => format!("{kind}-{n}-{}", "x".repeat(240)),
        1 => format!("{kind}-{n}.{}", "y.".repeat(60)) + "z",
        2 => format!("UPPER-{n}"),
        3 => format!("{kind}_{n}"),
        _ => format!("{kind}-{n}"),
    }
}

fn metadata(random: &mut Random, name: &str) -> Value {
    let mut metadata = json!({"name": name});
    let annotations = [
        ("spillway.dev/paused", "true"),
        ("spillway.dev/approve-plan", "000000000000"),
        ("spillway.dev/approve-plan", "\u{1f980}"),
        ("spillway.dev/force-release", "true"),
        ("spillway.dev/accept-cluster", "nobody"),
        ("spillway.dev/acknowledge-data-loss", "true"),
        ("spillway.dev/reconcile", "now"),
    ];
    if random.chance(15) {
        let (key, value) = random.pick(&annotations);
        metadata["annotations"] = json!({*key: value});
    }
    if random.chance(3) {
        metadata["labels"] = json!({"spillway.dev/companion": "dead-letter"});
    }
    metadata
}

/// The spec once more with some fields of another.
fn edit(random: &mut Random, kind: &str, site: &Site, base: &Value) -> Value {
    let other = spec(random, kind, site);
    let (Value::Object(base), Value::Object(other)) = (base, other) else { return base.clone() };
    let mut edited = base.clone();
    for (key, value) in other {
        let fixed = ["brokerRef", "vhost", "name", "type"].contains(&key.as_str());
        if random.chance(if fixed { 3 } else { 50 }) {
            edited.insert(key, value);
        }
    }
    Value::Object(edited)
}

/// Puts junk somewhere.
fn spoil(random: &mut Random, value: &mut Value) {
    let junk = [
        Value::Null,
        json!(-1),
        json!(i64::MAX),
        json!(1.5e300),
        json!(""),
        json!("x".repeat(5_000)),
        json!([]),
        json!([[[[[[]]]]]]),
        json!({"a": {"b": {"c": {}}}}),
        json!(true),
    ];
    match value {
        Value::Object(map) if !map.is_empty() && random.chance(85) => {
            let keys: Vec<_> = map.keys().cloned().collect();
            let key = random.pick(&keys).clone();
            if random.chance(50) {
                // A topic is never made with very many partitions: the shared Kafka would not like it.
                let junk = if key == "partitions" { json!(-1) } else { random.pick(&junk).clone() };
                map.insert(key, junk);
            } else if let Some(inner) = map.get_mut(&key) {
                spoil(random, inner);
            }
        }
        Value::Array(list) if !list.is_empty() && random.chance(85) => {
            let at = random.below(list.len());
            spoil(random, &mut list[at]);
        }
        other => *other = random.pick(&junk).clone(),
    }
}

fn spec(random: &mut Random, kind: &str, site: &Site) -> Value {
    match kind {
        "Topic" => topic(random, site),
        "Queue" => queue(random, site),
        "Exchange" => exchange(random, site),
        "Binding" => binding(random, site),
        "Consumer" => consumer(random, site),
        _ => broker(random),
    }
}

/// Adds a field, `percent` times in a hundred.
fn maybe(
    random: &mut Random,
    map: &mut Map<String, Value>,
    percent: usize,
    key: &str,
    value: impl FnOnce(&mut Random) -> Value,
) {
    if random.chance(percent) {
        let value = value(random);
        map.insert(key.to_owned(), value);
    }
}

fn policies(random: &mut Random, map: &mut Map<String, Value>, deletion: &[&str]) {
    maybe(random, map, 15, "managementPolicy", |r| json!(r.pick(&["Manage", "Observe"])));
    maybe(random, map, 40, "adoption", |r| json!(r.pick(&["IfIdentical", "Adopt", "Never"])));
    maybe(random, map, 50, "deletionPolicy", |r| json!(r.pick(deletion)));
}

fn topic_name(random: &mut Random, site: &Site) -> String {
    match random.below(12) {
        0 => format!("{}{}", site.prefix, random.pick(&HOSTILE)),
        1 => format!("{}{}", site.prefix, "x".repeat(230)),
        2 => format!("{}a.b", site.prefix),
        3 => format!("{}a_b", site.prefix),
        _ => format!("{}t{}", site.prefix, random.below(40)),
    }
}

fn topic(random: &mut Random, site: &Site) -> Value {
    let mut map = Map::new();
    let broker =
        *random.pick(&["kafka", "kafka", "kafka", "kafka", "kafka", "looks", "away", "rabbitmq", "nowhere"]);
    map.insert("brokerRef".into(), json!({"name": broker}));
    map.insert("name".into(), json!(topic_name(random, site)));
    maybe(random, &mut map, 80, "partitions", |r| json!(r.pick(&[1, 1, 1, 2, 2, 3, 0, -1])));
    maybe(random, &mut map, 15, "replicationFactor", |r| json!(r.pick(&[1, 1, 3, 32767, 0, -5])));
    maybe(random, &mut map, 40, "config", |r| {
        let mut config = Map::new();
        for _ in 0..r.below(4) {
            let key = *r.pick(&[
                "retention.ms",
                "cleanup.policy",
                "segment.ms",
                "no.such.key",
                "max.message.bytes",
                "",
            ]);
            let value = *r.pick(&["60000", "-1", "compact", "delete", "compact,delete", "", "lots", "\u{0}"]);
            config.insert(key.into(), json!(value));
        }
        if r.chance(5) {
            config.extend((0..200).map(|n| (format!("key.{n}"), json!("x".repeat(n)))));
        }
        Value::Object(config)
    });
    maybe(random, &mut map, 25, "deadLetter", |r| {
        if r.chance(50) { json!({}) } else { json!({"name": topic_name(r, site)}) }
    });
    maybe(random, &mut map, 20, "retry", delays);
    policies(random, &mut map, &["Retain", "Delete", "DeleteIfEmpty"]);
    Value::Object(map)
}

fn delays(random: &mut Random) -> Value {
    let many = random.below(4);
    json!({"delays": (0..many).map(|_| *random.pick(&DURATIONS)).collect::<Vec<_>>()})
}

fn rabbit_ref(random: &mut Random, site: &Site, map: &mut Map<String, Value>) {
    let broker = *random.pick(&[
        "rabbitmq", "rabbitmq", "rabbitmq", "rabbitmq", "rabbitmq", "rabbitmq", "ruled", "away-too", "kafka",
        "nowhere",
    ]);
    map.insert("brokerRef".into(), json!({"name": broker}));
    let vhost = if random.chance(92) {
        site.vhost.as_str()
    } else {
        *random.pick(&["no-such-host", "%2F", "", "a\u{0}"])
    };
    map.insert("vhost".into(), json!(vhost));
}

fn queue_name(random: &mut Random) -> String {
    match random.below(10) {
        0 => (*random.pick(&HOSTILE)).to_owned(),
        1 => "q".repeat(*random.pick(&[200, 255, 256])),
        _ => format!("q-{}", random.below(60)),
    }
}

fn exchange_name(random: &mut Random) -> String {
    match random.below(10) {
        0 => (*random.pick(&HOSTILE)).to_owned(),
        1 => (*random.pick(&["amq.topic", "amq.direct", "amq.headers", "amq.fanout"])).to_owned(),
        _ => format!("x-{}", random.below(20)),
    }
}

fn arguments(random: &mut Random) -> Value {
    let mut map = Map::new();
    for _ in 0..random.below(4) {
        let key = *random.pick(&[
            "x-match",
            "x-max-length",
            "x-queue-type",
            "x-dead-letter-exchange",
            "size",
            "x-foo",
            "",
            "x-queue-mode",
            "x-message-ttl",
        ]);
        let value = random
            .pick(&[json!("all"), json!(5), json!(-5), json!(true), json!("lazy"), json!(1.5), json!("")])
            .clone();
        map.insert(key.into(), value);
    }
    Value::Object(map)
}

fn queue(random: &mut Random, site: &Site) -> Value {
    let mut map = Map::new();
    rabbit_ref(random, site, &mut map);
    map.insert("name".into(), json!(queue_name(random)));
    // Mostly classic: cheap for the shared RabbitMQ.
    let kind = *random.pick(&["classic", "classic", "classic", "classic", "quorum", "stream", "lazy"]);
    map.insert("type".into(), json!(kind));
    maybe(random, &mut map, 5, "durable", |_| json!(false));
    maybe(random, &mut map, 20, "maxLength", |r| json!(r.pick(&[0, 1, 100, -1])));
    maybe(random, &mut map, 15, "maxLengthBytes", |r| json!(r.pick(&BYTES)));
    maybe(random, &mut map, 15, "overflow", |r| {
        json!(r.pick(&["drop-head", "reject-publish", "reject-publish-dlx", "explode"]))
    });
    maybe(random, &mut map, 15, "messageTtl", |r| json!(r.pick(&DURATIONS)));
    maybe(random, &mut map, 5, "expires", |r| json!(r.pick(&DURATIONS)));
    maybe(random, &mut map, 5, "maxPriority", |r| json!(r.pick(&[1, 10, 255, 256, 0])));
    maybe(random, &mut map, 5, "deliveryLimit", |r| json!(r.pick(&[-1, 0, 20])));
    maybe(random, &mut map, 5, "singleActiveConsumer", |_| json!(true));
    maybe(random, &mut map, 5, "consumerTimeout", |r| json!(r.pick(&DURATIONS)));
    if kind == "stream" {
        maybe(random, &mut map, 50, "maxAge", |r| json!(r.pick(&DURATIONS)));
        maybe(random, &mut map, 20, "maxSegmentSize", |r| json!(r.pick(&BYTES)));
    }
    maybe(random, &mut map, 10, "arguments", arguments);
    maybe(random, &mut map, 20, "applyVia", |r| json!(r.pick(&["Policy", "Arguments"])));
    // From one pool of names: cycles come by themselves.
    maybe(random, &mut map, 25, "deadLetter", |r| match r.below(4) {
        0 => json!({}),
        1 => json!({"exchange": exchange_name(r), "routingKey": *r.pick(&HOSTILE)}),
        2 => json!({"queue": queue_name(r), "strategy": "AtLeastOnce"}),
        _ => json!({"queue": queue_name(r)}),
    });
    maybe(random, &mut map, 15, "retry", delays);
    maybe(random, &mut map, 30, "bindings", |r| {
        let many = *r.pick(&[1, 1, 2, 3, 64, 65]);
        let one = |r: &mut Random| match r.below(5) {
            0 => json!({"sourceRef": {"name": format!("exchange-{}", r.below(300))}, "routingKey": "a"}),
            1 => {
                json!({"source": exchange_name(r), "routingKey": *r.pick(&HOSTILE), "arguments": arguments(r)})
            }
            _ => json!({"source": exchange_name(r), "routingKey": format!("k{}", r.below(9))}),
        };
        json!((0..many).map(|_| one(r)).collect::<Vec<_>>())
    });
    maybe(random, &mut map, 15, "onImmutableChange", |r| json!(r.pick(&["Refuse", "RecreateIfEmpty"])));
    policies(random, &mut map, &["Retain", "Delete", "DeleteIfEmpty"]);
    Value::Object(map)
}

fn exchange(random: &mut Random, site: &Site) -> Value {
    let mut map = Map::new();
    rabbit_ref(random, site, &mut map);
    map.insert("name".into(), json!(exchange_name(random)));
    map.insert(
        "type".into(),
        json!(random.pick(&["topic", "topic", "direct", "fanout", "headers", "x-no-such", ""])),
    );
    maybe(random, &mut map, 10, "durable", |r| json!(r.chance(50)));
    maybe(random, &mut map, 5, "autoDelete", |_| json!(true));
    maybe(random, &mut map, 5, "internal", |_| json!(true));
    maybe(random, &mut map, 15, "alternateExchange", |r| json!(exchange_name(r)));
    maybe(random, &mut map, 10, "arguments", arguments);
    policies(random, &mut map, &["Retain", "Delete", "DeleteIfUnused"]);
    Value::Object(map)
}

fn binding(random: &mut Random, site: &Site) -> Value {
    let mut map = Map::new();
    rabbit_ref(random, site, &mut map);
    if random.chance(25) {
        map.insert("sourceRef".into(), json!({"name": format!("exchange-{}", random.below(300))}));
    } else {
        map.insert("source".into(), json!(exchange_name(random)));
    }
    let to = match random.below(4) {
        0 => json!({"queueRef": {"name": format!("queue-{}", random.below(300))}}),
        1 => json!({"exchange": exchange_name(random)}),
        2 => json!({"exchangeRef": {"name": format!("exchange-{}", random.below(300))}}),
        _ => json!({"queue": queue_name(random)}),
    };
    map.insert("destination".into(), to);
    maybe(random, &mut map, 60, "routingKey", |r| {
        if r.chance(20) { json!(r.pick(&HOSTILE)) } else { json!(format!("k{}", r.below(9))) }
    });
    maybe(random, &mut map, 20, "arguments", arguments);
    policies(random, &mut map, &["Retain", "Delete"]);
    Value::Object(map)
}

fn consumer(random: &mut Random, site: &Site) -> Value {
    let mut map = Map::new();
    map.insert("scaleTargetRef".into(), json!({"name": format!("worker-{}", random.below(20))}));
    let broker = *random.pick(&["kafka", "kafka", "away", "rabbitmq", "nowhere"]);
    let group = if random.chance(20) {
        (*random.pick(&HOSTILE)).to_owned()
    } else {
        format!("{}g{}", site.prefix, random.below(20))
    };
    let topics: Vec<_> = (0..=random.below(3)).map(|_| topic_name(random, site)).collect();
    map.insert(
        "kafka".into(),
        json!({"brokerRef": {"name": broker}, "group": group, "topics": topics, "offsetReset": random.pick(&["earliest", "latest", "never"])}),
    );
    maybe(
        random,
        &mut map,
        50,
        "scaling",
        |r| json!({"minReplicas": r.pick(&[0, 1, 5, -1]), "maxReplicas": r.pick(&[1, 10, 0, 1_000_000]), "targetDelay": r.pick(&DURATIONS)}),
    );
    Value::Object(map)
}

/// Brokers that nobody should be able to hurt the process with; all lead nowhere.
fn broker(random: &mut Random) -> Value {
    let mut map = Map::new();
    if random.chance(50) {
        let server = *random.pick(&[
            "127.0.0.1:9",
            "127.0.0.1:0",
            "no-such-host.invalid:9092",
            "127.0.0.1",
            ":9092",
            "[::1]:9",
            "a b:1",
            "127.0.0.1:99999",
        ]);
        map.insert("kafka".into(), json!({"bootstrapServers": [server]}));
    }
    if random.chance(50) {
        let url = *random.pick(&[
            "http://127.0.0.1:9",
            "https://127.0.0.1:9",
            "http://no-such-host.invalid",
            "ftp://127.0.0.1",
            "http://",
            "http://user:password@127.0.0.1:9",
            "http://127.0.0.1:9/../x?y#z",
        ]);
        let secret = *random.pick(&["rabbitmq", "no-such-secret"]);
        map.insert(
            "rabbitmq".into(),
            json!({"managementUrl": url, "credentialsSecretRef": {"name": secret}}),
        );
    }
    maybe(random, &mut map, 30, "resyncInterval", |r| json!(r.pick(&DURATIONS)));
    maybe(random, &mut map, 20, "driftPolicy", |r| json!(r.pick(&["Correct", "Report"])));
    maybe(
        random,
        &mut map,
        20,
        "allowedNamespaces",
        |r| json!({"from": r.pick(&["Same", "All", "Selector"])}),
    );
    maybe(
        random,
        &mut map,
        20,
        "rules",
        |r| json!([{"namespaces": ["*"], "names": [*r.pick(&HOSTILE)], "vhosts": [*r.pick(&HOSTILE)]}]),
    );
    Value::Object(map)
}
