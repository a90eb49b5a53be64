//! What is to go only where it is empty or unused: faults at each write of its deletion.

use serde_json::json;
use spillway_operator::api::{Exchange, Queue, Topic};

use super::crash::{Fault, at_every_slow_write};
use super::{kafka, queue, rabbitmq, sound, topic};

#[test]
fn what_is_empty_or_unused_goes_and_nothing_else_does_whatever_happens_at_a_write() {
    at_every_slow_write(
        &[Fault::Kill, Fault::Outage],
        &[
            "Kafka DeleteTopics",
            "RabbitMq DELETE /api/exchanges/${VHOST}/unused?if-unused=true",
            "RabbitMq DELETE /api/policies/${VHOST}/spillway.q.empty",
            "RabbitMq DELETE /api/policies/${VHOST}/spillway.x.unused",
            "RabbitMq DELETE /api/queues/${VHOST}/empty",
        ],
        async |site| {
            kafka(site).await;
            rabbitmq(site).await;
            for name in ["empty", "full"] {
                site.w.queue(name, "maxLength: 9\ndeletionPolicy: DeleteIfEmpty").await;
                site.w.topic(name, "partitions: 2\ndeletionPolicy: DeleteIfEmpty").await;
                queue(site, name).await;
                topic(site, name).await;
            }
            for name in ["unused", "used"] {
                site.w
                    .exchange(name, "type: topic\nalternateExchange: x\ndeletionPolicy: DeleteIfUnused")
                    .await;
                sound::<Exchange>(site, name).await;
            }
            let mq = site.w.mq().await;
            mq.bind("used", "full", "k", json!({})).await;
            mq.publish("", "full", "precious").await;
            site.w.kafka.produce(&site.w.name("full"), 1, 1).await;
        },
        async |site| {
            for name in ["empty", "full"] {
                site.w.delete::<Queue>(name).await;
                site.w.delete::<Topic>(name).await;
            }
            for name in ["unused", "used"] {
                site.w.delete::<Exchange>(name).await;
            }
        },
        async |site| {
            site.w.until_gone::<Queue>("empty").await;
            site.w.until_gone::<Topic>("empty").await;
            site.w.until_gone::<Exchange>("unused").await;
            site.w.kafka.until_gone(&site.w.name("empty")).await;
            site.w.condition::<Queue>("full", "Ready", "False", "NotEmpty").await;
            site.w.condition::<Topic>("full", "Ready", "False", "NotEmpty").await;
            site.w.condition::<Exchange>("used", "Ready", "False", "NotEmpty").await;
            let mq = site.w.mq().await;
            assert_eq!((mq.queues().await, mq.exchanges().await), (vec!["full".into()], vec!["used".into()]));
            assert_eq!(mq.policies().await, ["spillway.q.full", "spillway.x.used"]);
            assert_eq!(site.w.amqp().await.depth("full").await, Some((1, 0)));
            assert_eq!(site.w.kafka.messages(&site.w.name("full"), 1), 1);
        },
    );
}
