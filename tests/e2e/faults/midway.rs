//! A change that ends midway: refused, without an answer, or with the operator's death. What is remembered then?

use serde_json::json;
use spillway_operator::api::Queue;

use super::rabbitmq;
use crate::bed::{Fate, Object as _, Request, Side, Site, bare_world};

/// RabbitMQ's answer to a binding whose exchange does not exist.
fn not_found() -> Fate {
    let body = json!({"error": "Object Not Found", "reason": "Not Found"});
    Fate::Answer(404, vec![("content-type", "application/json".into())], body.to_string())
}

/// Whether a request goes to RabbitMQ with this method, to a path of this kind.
fn is(request: &Request, method: &str, path: &str) -> bool {
    request.side == Side::RabbitMq
        && request.what.starts_with(method)
        && request.what.contains(&format!("/api/{path}/"))
}

#[test]
fn a_loss_is_told_although_what_follows_the_declaration_fails() {
    for crash in [false, true] {
        bare_world(async |w| {
            let site = Site::new(w).await;
            let victim = site.start().await;
            rabbitmq(&site).await;
            w.queue("orders", "bindings: [{source: amq.topic, routingKey: k}]").await;
            w.ready::<Queue>("orders").await;
            let mut first = true;
            site.cut.arm(&victim, move |request| {
                if !is(request, "POST", "bindings") || !std::mem::take(&mut first) {
                    return Fate::Pass;
                }
                if crash { Fate::KillBefore } else { not_found() }
            });
            w.mq().await.delete_queue("orders").await;
            if crash {
                site.cut.death().await;
                site.cut.disarm();
                site.start().await;
            }
            w.mq().await.until_bindings("orders", &["amq.topic|k"]).await;
            let queue: Queue = w.ready("orders").await;
            let lost = queue.condition("DataLost").is_some_and(|lost| lost.status == "True");
            assert!(lost, "{}", queue.summary());
        });
    }
}
