//! What comes from outside and is parsed: whatever it is, the answer is a value or an error.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use spillway_operator::api::bytes::Bytes;
use spillway_operator::api::duration::Duration as Interval;
use spillway_operator::brokers::rabbitmq::{RabbitClient, RabbitSettings, Target};
use spillway_operator::brokers::settings::Secret;
use spillway_operator::scaling::replay::{self, Replay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// JSON of any shape; objects use RabbitMQ's own keys, too.
fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "name",
        "vhost",
        "value",
        "type",
        "durable",
        "auto_delete",
        "exclusive",
        "arguments",
        "policy",
        "state",
        "leader",
        "online",
        "messages",
        "messages_unacknowledged",
        "consumers",
        "source",
        "destination",
        "destination_type",
        "routing_key",
        "pattern",
        "apply-to",
        "priority",
        "definition",
        "running",
        "rabbitmq_version",
        "error",
        "reason",
    ]);
    let key = prop_oneof![3 => keys.prop_map(str::to_owned), 1 => ".{0,8}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,12}".prop_map(Value::from),
        Just(json!("running")),
        Just(json!("quorum")),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..10).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_a_duration_or_is_refused_and_one_that_is_reads_back_the_same(text in "[-+]?[0-9]{0,20}[.]?[0-9]{0,9}(ms|us|ns|s|m|h|d| |µs|.){0,3}") {
        if let Ok(duration) = text.parse::<Interval>() {
            let again: Interval = duration.to_string().parse().expect("its own words");
            prop_assert_eq!(again, duration);
        }
    }

    #[test]
    fn any_text_is_a_size_or_is_refused_and_one_that_is_reads_back_the_same(text in "[-+]?[0-9]{0,24}[.]?[0-9]{0,4}(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E|e|.){0,2}[0-9]{0,2}") {
        if let Ok(bytes) = text.parse::<Bytes>() {
            let again: Bytes = bytes.to_string().parse().expect("its own words");
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn any_unicode_is_a_duration_and_a_size_or_is_refused(text in "\\PC{0,40}") {
        let _ = text.parse::<Interval>();
        let _ = text.parse::<Bytes>();
    }

    #[test]
    fn any_bytes_are_a_replay_line_or_are_answered_with_an_error(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)) {
        let mut replay = Replay::default();
        for line in lines {
            answered(&mut replay, &line)?;
        }
    }

    #[test]
    fn a_replay_line_with_odd_values_is_answered(lines in prop::collection::vec((any_json(), prop::collection::vec((0usize..1000, any_json()), 0..3)), 1..6)) {
        let mut replay = Replay::default();
        for (junk, changes) in lines {
            let mut line = good_line();
            for (at, value) in changes {
                put(&mut line, at, value);
            }
            answered(&mut replay, line.to_string().as_bytes())?;
            answered(&mut replay, junk.to_string().as_bytes())?;
        }
    }
}

fn answered(replay: &mut Replay, line: &[u8]) -> Result<(), TestCaseError> {
    let answer = replay.answer(line);
    let answer: Result<Value, _> = serde_json::from_str(&answer);
    prop_assert!(answer.as_ref().is_ok_and(Value::is_object), "{answer:?}");
    Ok(())
}

/// A line that can be used.
fn good_line() -> Value {
    json!({
        "v": 1, "seq": 1, "t": 0.0,
        "config": {"scaling": {"targetDelay": "30s"}, "offsetReset": "earliest", "isolation": "ReadCommitted"},
        "target": {"spec": 2, "ready": 2, "unschedulable": 0, "updating": false, "revision": "a", "paused": false},
        "kafka": {
            "readAt": {"committed": -0.02, "end": 0.0},
            "group": {
                "type": "Classic", "state": "Stable", "assignor": "range",
                "members": [{"id": "m0", "pod": "p0", "static": false, "partitions": ["orders/0"]}],
            },
            "partitions": [{"tp": "orders/0", "topicId": "x", "start": 0, "end": 900, "hw": 901, "committed": 850, "error": null}],
        },
        "deadLetter": {"end": 7},
    })
}

#[test]
fn the_line_that_is_spoiled_can_be_used_as_it_is() {
    let answer: Value =
        serde_json::from_str(&Replay::default().answer(good_line().to_string().as_bytes())).expect("JSON");
    assert!(answer["replicas"].is_u64(), "{answer}");
}

/// Puts a value in the place of the `at`-th one, counted through the whole tree.
fn put(tree: &mut Value, at: usize, value: Value) {
    let mut places = Vec::new();
    collect(tree, String::new(), &mut places);
    let place = &places[at % places.len()];
    if let Some(found) = tree.pointer_mut(place) {
        *found = value;
    }
}

fn collect(tree: &Value, path: String, places: &mut Vec<String>) {
    match tree {
        Value::Object(map) => {
            for (key, value) in map {
                collect(value, format!("{path}/{key}"), places);
            }
        }
        Value::Array(list) => {
            for (at, value) in list.iter().enumerate() {
                collect(value, format!("{path}/{at}"), places);
            }
        }
        _ => {}
    }
    places.push(path);
}

/// Minutes of a group, or of a queue, as lines: silence, a flood, and silence again, at two seconds a line. What a line's
/// answer says is the next one's count.
fn minutes(queue: bool) -> Vec<Value> {
    let mut replay = Replay::default();
    let (mut lines, mut count, mut arrived, mut done) = (Vec::new(), 1, 0i64, 0i64);
    for number in 0..140 {
        arrived += if (20..30).contains(&number) { 400 } else { i64::from(number < 100) * 8 };
        done = arrived.min(done + 20 * count);
        let line = if queue {
            queue_line(number, count, arrived, done)
        } else {
            group_line(number, count, arrived, done)
        };
        let answer: Value = serde_json::from_str(&replay.answer(line.to_string().as_bytes())).expect("JSON");
        count = answer["replicas"].as_i64().unwrap_or_else(|| panic!("{answer} to {line}"));
        lines.push(line);
    }
    lines
}

fn group_line(number: i64, count: i64, arrived: i64, done: i64) -> Value {
    let tps: Vec<String> = (0..4).map(|p| format!("orders/{p}")).collect();
    let members: Vec<Value> = (0..count.min(4))
        .map(|m| {
            let mine: Vec<&String> = tps
                .iter()
                .skip(usize::try_from(m).unwrap_or(0))
                .step_by(usize::try_from(count).unwrap_or(1))
                .collect();
            json!({"id": format!("m{m}"), "pod": format!("p{m}"), "static": false, "partitions": mine})
        })
        .collect();
    let partitions: Vec<Value> = tps
        .iter()
        .map(|tp| {
            let (end, committed) = (arrived / 4, done / 4);
            json!({"tp": tp, "topicId": "x", "start": 0, "end": end, "hw": end, "committed": committed, "error": null})
        })
        .collect();
    let mut line = head(number, count);
    line["kafka"] = json!({
        "readAt": {"committed": -0.02, "end": 0.0},
        "group": {"type": "Classic", "state": "Stable", "assignor": "cooperative-sticky", "members": members},
        "partitions": partitions,
    });
    line["deadLetter"] = json!({"end": done / 10});
    line["retry"] = json!({"lag": 0});
    line
}

fn queue_line(number: i64, count: i64, arrived: i64, done: i64) -> Value {
    let mut line = head(number, count);
    line["rabbitmq"] = json!({
        "type": "quorum", "ready": arrived - done, "unacked": 0, "publish": arrived, "ack": done, "deliverNoAck": 0,
        "consumers": count, "singleActive": false,
    });
    line
}

/// Everything but what the broker says. The configuration is short of breath, so that all of it happens in minutes.
fn head(number: i64, count: i64) -> Value {
    let mut line = json!({
        "v": 1, "seq": number, "t": 2 * number,
        "target": {"spec": count, "ready": count, "unschedulable": 0, "updating": false, "revision": "a", "paused": false},
        "offsetsRetention": 604_800.0,
    });
    if number % 10 == 0 {
        line["config"] = json!({
            "scaling": {
                "minReplicas": 0, "maxReplicas": 12, "targetDelay": "10s",
                "scaleDown": {"stabilization": "10s", "peakMemory": "10s"}, "idle": {"after": "10s"},
                "breaker": {"deadLetter": "orders.dlq", "window": "20s"}, "onUnknown": {"after": "10s", "replicas": 3},
            },
            "offsetReset": "earliest", "isolation": "ReadCommitted",
        });
    }
    line
}

/// Lines of which some values, and some bytes, are others. Time goes on in most of them.
fn spoiled() -> impl Strategy<Value = Vec<Vec<u8>>> {
    static MINUTES: [LazyLock<Vec<Value>>; 2] =
        [LazyLock::new(|| minutes(false)), LazyLock::new(|| minutes(true))];
    let values = prop::collection::vec((any::<prop::sample::Index>(), 0usize..1_000, any_json()), 0..24);
    let bytes = prop::collection::vec(
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()),
        0..8,
    );
    (any::<bool>(), values, bytes).prop_map(|(queue, values, bytes)| {
        let mut lines = MINUTES[usize::from(queue)].clone();
        for (line, at, value) in values {
            let number = line.index(lines.len());
            let line = &mut lines[number];
            let t = line["t"].clone();
            put(line, at, value);
            if let Some(map) = line.as_object_mut() {
                map.insert("t".to_owned(), t);
            } else {
                *line = MINUTES[usize::from(queue)][number].clone();
            }
        }
        let mut lines: Vec<Vec<u8>> = lines.iter().map(|line| line.to_string().into_bytes()).collect();
        for (line, at, byte) in bytes.into_iter().filter(|(.., byte)| *byte != b'\n') {
            let number = line.index(lines.len());
            let at = at.index(lines[number].len());
            lines[number][at] = byte;
        }
        lines
    })
}

/// The answers to lines, as `spillway replay` gives them.
fn answers(lines: &[Vec<u8>]) -> Vec<Value> {
    let mut out = Vec::new();
    replay::run(lines.join(&b'\n').as_slice(), &mut out)
        .expect("memory neither fails to be read nor to be written");
    let out = String::from_utf8(out).expect("text");
    out.lines().map(|answer| serde_json::from_str(answer).expect("JSON")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn minutes_with_odd_lines_among_them_are_answered_line_by_line(lines in spoiled()) {
        let answers = answers(&lines);
        prop_assert_eq!(answers.len(), lines.len());
        for answer in answers {
            prop_assert_eq!(&answer["v"], 1);
            prop_assert!(answer["error"].is_string() != answer["replicas"].is_u64(), "{}", answer);
        }
    }
}

#[test]
fn minutes_go_up_and_down_and_to_zero_and_most_of_the_spoiled_ones_are_decided() {
    for queue in [false, true] {
        let counts: Vec<i64> =
            minutes(queue).iter().map(|line| line["target"]["spec"].as_i64().expect("a count")).collect();
        let falls = counts.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(counts.iter().max() >= Some(&4) && falls >= 2 && counts.last() == Some(&0), "{counts:?}");
    }
    let mut runner = TestRunner::deterministic();
    let (mut lines, mut decided, mut falls) = (0, 0, 0);
    for _ in 0..30 {
        let spoiled = spoiled().new_tree(&mut runner).expect("lines").current();
        let answers = answers(&spoiled);
        lines += spoiled.len();
        decided += answers.iter().filter(|answer| answer["error"].is_null()).count();
        let counts: Vec<u64> = answers.iter().filter_map(|answer| answer["replicas"].as_u64()).collect();
        falls += counts.windows(2).filter(|pair| pair[1] < pair[0]).count();
    }
    assert!(decided > lines / 2 && falls > 30, "{decided} of {lines} decided, {falls} fewer than before");
}

/// A server that answers every request with what it is told: a status and bytes.
struct Odd {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, Vec<u8>)>>,
}

impl Odd {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let answer = Arc::new(Mutex::new((200, Vec::new())));
        let told = answer.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (code, body) = told.lock().expect("no panic while it was held").clone();
                tokio::spawn(async move {
                    let mut request = [0; 8192];
                    let _ = stream.read(&mut request).await;
                    let head = format!(
                        "HTTP/1.1 {code} Odd\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        body.len()
                    );
                    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
                });
            }
        });
        Self { address, answer }
    }

    fn say(&self, code: u16, body: Vec<u8>) {
        *self.answer.lock().expect("no panic while it was held") = (code, body);
    }
}

/// Asks everything that is read from RabbitMQ. Whatever comes back is a value or an error.
async fn ask_all(client: &RabbitClient) {
    let target = Target::Queue("q".into());
    let _ = client.overview().await;
    let _ = client.cluster_id().await;
    let _ = client.nodes().await;
    let _ = client.vhosts().await;
    let _ = client.list_queues(None).await;
    let _ = client.list_queue_statistics(Some("v")).await;
    let _ = client.list_exchanges(Some("v")).await;
    let _ = client.list_bindings(Some("v")).await;
    let _ = client.list_policies(Some("v")).await;
    let _ = client.list_operator_policies(Some("v")).await;
    let _ = client.queue("v", "q").await;
    let _ = client.exchange("v", "x").await;
    let _ = client.bindings_to("v", &target).await;
    let _ = client.bindings_from("v", "x").await;
    let _ = client.delete_queue("v", "q", false, false).await;
}

#[test]
fn any_answer_of_rabbitmqs_management_interface_is_a_value_or_an_error() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let odd = runtime.block_on(Odd::start());
    let settings = RabbitSettings {
        management_url: format!("http://{}", odd.address),
        amqp_url: None,
        username: "guest".into(),
        password: Secret::new("guest"),
        tls: None,
    };
    let client = runtime
        .block_on(async { RabbitClient::connect(&settings) })
        .expect("a client")
        .with_timeout(Duration::from_secs(5));
    let bodies = prop_oneof![
        any_json().prop_map(|value| value.to_string().into_bytes()),
        prop::collection::vec(any_json(), 0..4).prop_map(|list| json!(list).to_string().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..300),
        Just(b"[[[[[[[[[[".repeat(200)),
    ];
    let codes =
        prop::sample::select(vec![200, 200, 200, 201, 204, 301, 400, 401, 404, 405, 429, 500, 503, 999]);
    let config = ProptestConfig { cases: 64, ..ProptestConfig::default() };
    proptest!(config, |(code in codes, body in bodies)| {
        odd.say(code, body);
        runtime.block_on(ask_all(&client));
    });
}
