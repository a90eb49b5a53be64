use super::*;
use crate::api::conditions::Reason;

fn read(spec: serde_json::Value) -> Result<DesiredQueue, Rejection> {
    let mut spec = spec;
    spec["brokerRef"] = json!({"name": "rabbit"});
    let cr = Queue::new("q", serde_json::from_value(spec).unwrap());
    DesiredQueue::of(&cr, &[])
}

#[test]
fn fields_become_rabbitmqs_keys_in_its_units() {
    let all = read(json!({
        "maxLength": 5, "maxLengthBytes": "1Ki", "overflow": "reject-publish", "messageTtl": "30s",
        "expires": "1h", "deliveryLimit": -1, "consumerTimeout": "1m",
        "deadLetter": {"queue": "lost", "strategy": "AtLeastOnce"},
    }))
    .unwrap();
    let expected = json!({
        "max-length": 5, "max-length-bytes": 1024, "overflow": "reject-publish", "message-ttl": 30_000,
        "expires": 3_600_000, "delivery-limit": -1, "consumer-timeout": 60_000,
        "dead-letter-exchange": "", "dead-letter-routing-key": "lost", "dead-letter-strategy": "at-least-once",
    });
    assert_eq!(json!(all.settings), expected);
    let stream = read(json!({
        "type": "stream", "maxAge": "168h", "maxSegmentSize": "100M", "maxLengthBytes": "5G",
        "leaderLocator": "balanced", "initialGroupSize": 3,
    }))
    .unwrap();
    let expected = json!({
        "max-age": "604800s", "stream-max-segment-size-bytes": 100_000_000, "max-length-bytes": 5_000_000_000_u64,
    });
    assert_eq!(json!(stream.settings), expected);
    let expected =
        json!({"x-queue-type": "stream", "x-queue-leader-locator": "balanced", "x-initial-cluster-size": 3});
    assert_eq!(json!(stream.arguments), expected);
}

#[test]
fn what_a_type_does_not_know_is_refused() {
    for (kind, field, value) in [
        ("classic", "deliveryLimit", json!(3)),
        ("quorum", "maxPriority", json!(3)),
        ("quorum", "maxAge", json!("1h")),
        ("quorum", "overflow", json!("reject-publish-dlx")),
        ("classic", "maxSegmentSize", json!("1M")),
        ("quorum", "leaderLocator", json!("balanced")),
        ("classic", "initialGroupSize", json!(1)),
        ("stream", "maxLength", json!(3)),
        ("stream", "overflow", json!("drop-head")),
        ("stream", "messageTtl", json!("1s")),
        ("stream", "expires", json!("1h")),
        ("stream", "singleActiveConsumer", json!(true)),
        ("stream", "consumerTimeout", json!("1m")),
        ("stream", "deadLetter", json!({})),
        ("stream", "durable", json!(false)),
        ("classic", "deadLetter", json!({"strategy": "AtLeastOnce"})),
        ("quorum", "deadLetter", json!({"strategy": "AtLeastOnce"})),
    ] {
        let refused = read(json!({"type": kind, field: value})).unwrap_err();
        assert_eq!(refused.reason, Reason::InvalidSpec, "{kind} {field}");
    }
}

#[test]
fn values_that_rabbitmq_refuses_are_refused_here() {
    for spec in [
        json!({"expires": "0s"}),
        json!({"messageTtl": "90000h"}),
        json!({"type": "stream", "maxAge": "1500ms"}),
        json!({"type": "stream", "maxSegmentSize": "4G"}),
        json!({"maxLength": -1}),
        json!({"type": "classic", "maxPriority": 256}),
        json!({"name": "amq.q"}),
        json!({"deadLetter": {"queue": "q"}}),
        json!({"deadLetter": {"queue": "a", "exchange": "b"}}),
        json!({"deadLetter": {"routingKey": "b"}}),
        json!({"arguments": {"x-max-length": 1}}),
        json!({"arguments": {"x-queue-type": "quorum"}}),
        json!({"arguments": {"x-anything": null}}),
        json!({"bindings": [{"source": "unresolved"}]}),
    ] {
        assert_eq!(read(spec.clone()).unwrap_err().reason, Reason::InvalidSpec, "{spec}");
    }
    assert!(
        read(json!({"arguments": {"x-queue-leader-locator": "balanced"}})).is_ok(),
        "no field for quorum"
    );
}
