//! A share group has no lag that its committed offsets tell: it is refused, and not scaled.

use std::time::Duration;

use spillway_operator::api::{Consumer, Topic};

use crate::bed::{Object as _, ShareMember, Workload, never_within, required, world};
use crate::verbs::spillway;

#[test]
fn a_share_group_is_refused_with_a_reason_and_all_that_its_topic_holds_is_not_its_lag() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        let (group, topic) = (w.name("group"), w.name("orders"));
        let floods = (0..3).map(|partition| w.kafka.produce(&topic, partition, 1_000));
        futures::future::join_all(floods).await;
        let member = ShareMember::join(&required("SPILLWAY_TEST_KAFKA"), &group, &topic);
        // What its pods do is not seen: nobody is in a group of consumers.
        let workload = Workload::start(w, "worker", 1, &w.name("nobody"), &topic, 1).await;
        let scaling = "scaling: {ratePerReplica: '10', targetDelay: 2s}";
        w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\n{scaling}")).await;
        let refused = w.condition::<Consumer>("orders", "Ready", "False", "InvalidSpec").await;
        let said = &refused.condition("Ready").expect("it is said").message;
        assert!(said.contains("share group"), "{said}");
        assert!(refused.condition("Stalled").is_some(), "{:?}", refused.conditions());

        let status = refused.status.as_ref().expect("a status");
        assert_eq!(status.lag.as_ref().and_then(|lag| lag.messages), None, "{status:?}");
        let lag = spillway(w, &["lag", "orders", "--interval", "0.5"]).await.expect("a table");
        assert!(lag.contains("is a share group or a streams group") && !lag.contains("3000"), "{lag}");

        // Neither before that was known, nor afterwards, nor by an operator to which it is new.
        w.operator().kill();
        w.start_operator().await;
        never_within(Duration::from_secs(12), "a share group is not scaled", async || {
            match workload.wanted() {
                wanted if wanted == [1] => Ok(()),
                wanted => Err(format!("{wanted:?}")),
            }
        })
        .await;

        // Without the share group, its consumers are to come as a group of consumers, from the beginning.
        drop(member);
        w.kafka.delete_group(&group).await;
        workload.until_wanted(3, Duration::from_secs(90)).await;
    });
}
