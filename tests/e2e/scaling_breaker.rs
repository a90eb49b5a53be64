//! The breaker on a Kafka group, with every figure of its own.

use std::time::Duration;

use spillway_operator::api::{Consumer, Topic};

use crate::bed::{Object as _, Workload, never_within, world};

#[test]
fn dead_letters_hold_it_until_a_clean_window_as_long_as_the_breaker_says() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.topic("graves", "partitions: 1").await;
        w.ready::<Topic>("orders").await;
        w.ready::<Topic>("graves").await;
        let workload = Workload::start(w, "worker", 1, &w.name("group"), &w.name("orders"), 20).await;
        let graves = w.name("graves");
        let breaker =
            format!("breaker: {{deadLetter: '{graves}', maxRatio: '0.6', window: 4s, minCount: 8}}");
        let quick =
            "scaleDown: {stabilization: 5s, peakMemory: 5s}, tuning: {coldStart: 2s, rebalance: 500ms}";
        let scaling = format!("ratePerReplica: '20', targetDelay: 2s, {breaker}, {quick}");
        w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\nscaling: {{{scaling}}}")).await;
        w.ready::<Consumer>("orders").await;
        // Fewer than minCount are nothing.
        w.kafka.produce(&graves, 0, 7).await;
        never_within(Duration::from_secs(5), "seven are too few", async || {
            let consumer: Consumer = w.get("orders").await;
            if consumer.condition("BreakerOpen").is_some() { Err(consumer.summary()) } else { Ok(()) }
        })
        .await;
        let poison = async {
            let mut each = tokio::time::interval(Duration::from_millis(500));
            loop {
                each.tick().await;
                w.kafka.produce(&graves, 0, 20).await;
            }
        };
        let held = async {
            let open: Consumer = w.condition("orders", "BreakerOpen", "True", "").await;
            let words = open.message("BreakerOpen");
            assert!(words.contains("in the last 4 s") && words.contains(&graves), "{}", open.summary());
            for partition in 0..3 {
                w.kafka.produce(&w.name("orders"), partition, 600).await;
            }
            never_within(Duration::from_secs(6), "more make only more dead letters", async || {
                let wanted = workload.wanted();
                if wanted == [1] { Ok(()) } else { Err(format!("{wanted:?}")) }
            })
            .await;
        };
        tokio::select! {
            () = poison => unreachable!("it has no end"),
            () = held => {}
        }
        // A window without any.
        workload.until_wanted(3, Duration::from_secs(15)).await;
        w.until("orders", "the breaker is closed", |consumer: &Consumer| {
            consumer.condition("BreakerOpen").is_none()
        })
        .await;
    });
}
