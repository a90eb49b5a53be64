//! Exchanges with a policy: faults at each write of each change.

use serde_json::{Value, json};
use spillway_operator::api::Exchange;

use super::crash::{Fault, at_every_write};
use super::{rabbitmq, sound};

fn spec(alternate: Option<&str>) -> String {
    let alternate = alternate.map(|name| format!("\nalternateExchange: {name}")).unwrap_or_default();
    format!("type: topic\ndeletionPolicy: Delete{alternate}")
}

#[test]
fn exchanges_get_change_and_lose_their_policies_whatever_happens_at_a_write() {
    at_every_write(
        &[Fault::Kill, Fault::Outage, Fault::ApiDown],
        &[
            "RabbitMq DELETE /api/policies/${VHOST}/spillway.x.stripped",
            "RabbitMq PUT /api/exchanges/${VHOST}/made",
            "RabbitMq PUT /api/policies/${VHOST}/spillway.x.changed",
            "RabbitMq PUT /api/policies/${VHOST}/spillway.x.made",
        ],
        async |site| {
            rabbitmq(site).await;
            let mq = site.w.mq().await;
            mq.declare_queue("kept", json!({})).await;
            for name in ["changed", "stripped"] {
                site.w.exchange(name, &spec(Some("before"))).await;
                site.w.ready::<Exchange>(name).await;
                // Would go with an exchange that is made anew.
                mq.bind(name, "kept", name, json!({})).await;
            }
        },
        async |site| {
            site.w.exchange("made", &spec(Some("after"))).await;
            site.w.exchange("changed", &spec(Some("after"))).await;
            site.w.exchange("stripped", &spec(None)).await;
        },
        async |site| {
            for name in ["made", "changed", "stripped"] {
                sound::<Exchange>(site, name).await;
            }
            let mq = site.w.mq().await;
            assert_eq!(mq.policies().await, ["spillway.x.changed", "spillway.x.made"]);
            for name in ["changed", "made"] {
                let policy = mq.policy(&format!("spillway.x.{name}")).await.expect("a policy");
                assert_eq!(policy["definition"], json!({"alternate-exchange": "after"}), "{name}");
                let exchange = mq.exchange(name).await.expect("an exchange");
                assert_eq!(exchange["policy"], format!("spillway.x.{name}"));
            }
            assert_eq!(mq.exchange("stripped").await.expect("an exchange")["policy"], Value::Null);
            assert_eq!(mq.bindings("kept").await, ["changed|changed", "stripped|stripped"]);
        },
    );
}
