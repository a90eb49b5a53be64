//! What is told of scaling: events, a refused patch in the API server's words, and figures that agree with each other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;
use spillway_operator::api::{Consumer, Topic};

use crate::bed::{
    Object as _, Start, Workload, World, bare_world, consumer_yaml, deployment, http, required, until, world,
};

const QUICK: &str =
    "scaleDown: {stabilization: 5s, peakMemory: 5s}, tuning: {coldStart: 2s, rebalance: 500ms}";

/// All that an operator for one namespace may do there; `scale` names what else.
fn role(scale: &str) -> String {
    format!(
        "
        apiVersion: rbac.authorization.k8s.io/v1
        kind: Role
        metadata: {{name: operator}}
        rules:
        - {{apiGroups: [spillway.dev, events.k8s.io, coordination.k8s.io, autoscaling], resources: ['*'], verbs: ['*']}}
        - {{apiGroups: [''], resources: [secrets, namespaces], verbs: ['*']}}
        - {{apiGroups: [apps], resources: [deployments, statefulsets{scale}], verbs: ['*']}}
        ---
        apiVersion: rbac.authorization.k8s.io/v1
        kind: RoleBinding
        metadata: {{name: operator}}
        roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: operator}}
        subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: '${{NS}}-operator'}}]
        "
    )
}

/// The kubeconfig of the role's user.
fn kubeconfig(w: &World) -> PathBuf {
    let user = format!("{}-operator", w.namespace);
    let text = std::fs::read_to_string(required("KUBECONFIG")).expect("a kubeconfig");
    let mut config: Value = serde_yaml::from_str(&text).expect("YAML");
    config["users"][0]["user"]["as"] = user.as_str().into();
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{user}.kubeconfig"));
    std::fs::write(&path, config.to_string()).expect("written");
    path
}

/// The events about a Consumer with this reason: type, words, and how often.
async fn events(w: &World, name: &str, reason: &str) -> Vec<(String, String, i32)> {
    let events: Api<Event> = Api::namespaced(w.client.clone(), &w.namespace);
    let list = events.list(&ListParams::default()).await.expect("events");
    let about = |event: &Event| {
        let regarding = event.regarding.as_ref();
        event.reason.as_deref() == Some(reason)
            && regarding
                .is_some_and(|is| (is.kind.as_deref(), is.name.as_deref()) == (Some("Consumer"), Some(name)))
    };
    let told = list.items.into_iter().filter(about).map(|event| {
        let count = event.series.map_or(1, |series| series.count);
        (event.type_.unwrap_or_default(), event.note.unwrap_or_default(), count)
    });
    told.collect()
}

/// How often an operator decided something else about a Consumer, by its log.
fn decided(log: &str, w: &World, name: &str) -> usize {
    let of = format!("decided kind=\"Consumer\" namespace=\"{}\" name=\"{name}\"", w.namespace);
    log.lines().filter(|line| line.contains(&of)).count()
}

/// The values of a Consumer's series of a metric, by the label that they have beside its name; by none, "".
async fn figures(w: &World, name: &str, metric: &str) -> BTreeMap<String, f64> {
    let (_, body) = http::get(&w.operator().address, "/metrics").await.expect("metrics");
    let of = format!("{metric}{{namespace=\"{}\",name=\"{name}\"", w.namespace);
    let series = body.lines().filter_map(|line| line.strip_prefix(&of)?.split_once("} "));
    series
        .map(|(label, value)| {
            let label = label.split('"').nth(1).unwrap_or_default();
            (label.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

/// One value of a Consumer.
async fn figure(w: &World, name: &str, metric: &str) -> f64 {
    let found = figures(w, name, &format!("spillway_consumer_{metric}")).await;
    found.get("").copied().unwrap_or_else(|| panic!("no {metric} of {name}: {found:?}"))
}

#[test]
fn a_refused_patch_is_told_in_the_api_servers_words_and_tried_until_it_may_and_every_step_is_an_event() {
    bare_world(async |w| {
        w.apply(&role("")).await;
        let environment = vec![("KUBECONFIG".to_owned(), kubeconfig(w).display().to_string())];
        let operator = w.start_operator_as(&Start { environment, ..Start::default() }).await;
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        let workload = Workload::start(w, "worker", 1, &w.name("group"), &w.name("orders"), 20).await;
        let scaling = format!("ratePerReplica: '20', targetDelay: 2s, {QUICK}");
        w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\nscaling: {{{scaling}}}")).await;
        w.ready::<Consumer>("orders").await;
        for partition in 0..3 {
            w.kafka.produce(&w.name("orders"), partition, 300).await;
        }

        let words = "cannot patch resource \"deployments/scale\"";
        let refused: Consumer = w.condition("orders", "ScalingActive", "False", "Failed").await;
        assert!(refused.message("ScalingActive").contains(words), "{}", refused.summary());
        // It is tried again, more and more rarely; what is the same is one event.
        let failed = until("the third try has failed, too", async || {
            let failed = events(w, "orders", "ScaleFailed").await;
            let tries: i32 = failed.iter().map(|(_, _, count)| count).sum();
            if tries >= 3 { Ok(failed) } else { Err(format!("{failed:?}")) }
        })
        .await;
        let last = failed.last().expect("an event");
        assert!(
            last.0 == "Warning" && last.1.contains("1 → 3 replicas: ") && last.1.contains(words),
            "{last:?}"
        );
        assert!(failed.len() <= 2, "one event for each try: {failed:?}");
        assert_eq!(workload.wanted(), [1]);

        w.apply(&role(", deployments/scale")).await;
        workload.until_wanted(3, Duration::from_secs(30)).await;
        w.condition::<Consumer>("orders", "ScalingActive", "True", "Scaling").await;
        until("one write is counted: what was refused is none", async || {
            match figures(w, "orders", "spillway_scale_patches_total").await {
                ups if ups == BTreeMap::from([("up".to_owned(), 1.0)]) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;

        workload.set_rate(5_000);
        workload.until_wanted(1, Duration::from_secs(60)).await;
        let steps = workload.wanted();
        until("each step has an event with its own numbers", async || {
            let told = events(w, "orders", "Scaled").await;
            let has = |step: &[i32]| {
                let begin = format!("{} → {} replicas: ", step[0], step[1]);
                told.iter().any(|(_, note, count)| note.starts_with(&begin) && *count == 1)
            };
            if steps.windows(2).all(has) { Ok(()) } else { Err(format!("{steps:?}: {told:?}")) }
        })
        .await;
        // A decision is told when it changes, with its numbers, and not at each of a minute's polls.
        let told = events(w, "orders", "Decided").await;
        let up = told
            .iter()
            .find(|(_, note, _)| note.starts_with("3 replicas (") && note.contains("): 1 → 3 replicas: "));
        let up = up.unwrap_or_else(|| panic!("no event of the decision for three: {told:?}"));
        for part in ["messages/s arrive", " wait", "need ", "of at most 3"] {
            assert!(up.1.contains(part), "no {part:?} in {}", up.1);
        }
        let times: i32 = told.iter().map(|(_, _, count)| count).sum();
        let changes = decided(&operator.text(), w, "orders");
        assert!(usize::try_from(times).is_ok_and(|times| times <= changes), "{changes} changes: {told:?}");
    });
}

/// The status of the Consumer `orders` as it is written after an edit: every figure as of now.
async fn written_anew(w: &World, scaling: &str) -> Consumer {
    w.consumer("orders", &format!("scaleTargetRef: {{name: worker}}\nscaling: {{{scaling}}}")).await;
    w.until("orders", "the status is about the edit", |consumer: &Consumer| {
        consumer.observed() == consumer.metadata.generation
    })
    .await
}

/// Waits until it is known that nothing waits for this Consumer.
async fn until_nothing_waits(w: &World, name: &str) {
    until("it is known that nothing waits", async || {
        match figures(w, name, "spillway_consumer_lag_messages").await.get("") {
            Some(lag) if *lag < 0.5 => Ok(()),
            lag => Err(format!("{lag:?}")),
        }
    })
    .await;
}

#[test]
fn the_metrics_of_a_consumer_are_the_numbers_of_its_status() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.topic("bills", "partitions: 2").await;
        w.ready::<Topic>("orders").await;
        w.ready::<Topic>("bills").await;
        w.apply(&deployment(w, "worker", 1).await).await;
        w.apply(&deployment(w, "other", 1).await).await;
        // Two consumers in a replica: of three partitions, two replicas have a use.
        let scaling = |delay: &str| {
            format!(
                "mode: DryRun, consumersPerReplica: 2, ratePerReplica: '5', targetDelay: {delay}, \
                 tuning: {{coldStart: 2s, rebalance: 1s}}"
            )
        };
        written_anew(w, &scaling("2s")).await;
        // The same messages, for a group that begins behind the last one; and one more topic.
        let late = consumer_yaml("late", "scaleTargetRef: {name: other}\nscaling: {mode: DryRun}")
            .replace("${PREFIX}group", "${PREFIX}late")
            .replace("offsetReset: earliest", "offsetReset: latest")
            .replace("['${PREFIX}orders']", "['${PREFIX}orders', '${PREFIX}bills']");
        w.apply(&late).await;
        w.ready::<Consumer>("orders").await;
        w.ready::<Consumer>("late").await;
        // What comes before the first look is lag and no arrival.
        until_nothing_waits(w, "orders").await;
        for (partition, count) in [(0, 10), (1, 20), (2, 30)] {
            w.kafka.produce(&w.name("orders"), partition, count).await;
        }
        until("60 messages wait", async || match figure(w, "orders", "lag_messages").await {
            lag if (lag - 60.0).abs() < 0.5 => Ok(()),
            lag => Err(lag.to_string()),
        })
        .await;
        until("two replicas would be right, and the one that is there is ready", async || {
            let desired = figure(w, "orders", "desired_replicas").await;
            let seconds = figures(w, "orders", "spillway_consumer_lag_seconds").await;
            let settled = desired > 1.5 && !seconds.is_empty();
            if settled { Ok(()) } else { Err(format!("{desired}, {seconds:?}")) }
        })
        .await;
        let infeasible: Consumer = w.condition("orders", "TargetInfeasible", "True", "").await;
        assert!(
            infeasible.message("TargetInfeasible").contains("targetDelay 2 s"),
            "{}",
            infeasible.summary()
        );
        let guards = figures(w, "orders", "spillway_consumer_guard").await;
        assert_eq!(guards, BTreeMap::from([("TargetInfeasible".to_owned(), 1.0)]));

        // Nothing arrives any more: the mean of what did only falls.
        let most = figure(w, "orders", "arrival_rate").await;
        let seen = written_anew(w, &scaling("4s")).await;
        let least = figure(w, "orders", "arrival_rate").await;
        let status = seen.status.clone().expect("a status");
        let (lag, rates) = (status.lag.expect("a lag"), status.rates.expect("rates"));
        assert_eq!((lag.messages, status.cap, status.partitions), (Some(60), Some(2), Some(3)), "{lag:?}");
        assert_eq!(lag.worst_partition, Some(format!("{}/2", w.name("orders"))));
        let number = |text: Option<String>| text.and_then(|text| text.parse::<f64>().ok()).expect("a number");
        let arrival = number(rates.arrival);
        assert!(least > 0.0 && (least * 0.95..=most * 1.05).contains(&arrival), "{least}, {arrival}, {most}");
        assert!(seen.condition("TargetInfeasible").is_none(), "{}", seen.summary());
        assert!(figures(w, "orders", "spillway_consumer_guard").await.is_empty());
        #[allow(clippy::cast_precision_loss)]
        let seconds = lag.seconds.expect("seconds") as f64;
        let decision = status.decision.expect("a decision");
        for (metric, value) in [
            ("lag_messages", 60.0),
            ("rate_per_replica", number(rates.per_replica)),
            ("target_delay_seconds", 4.0),
            ("replicas", f64::from(status.replicas.expect("replicas"))),
            ("desired_replicas", f64::from(status.desired_replicas.expect("replicas"))),
        ] {
            let served = figure(w, "orders", metric).await;
            assert!((served - value).abs() < 1e-6, "{metric}: {served} is served, {value} is in the status");
        }
        let served = figure(w, "orders", "lag_seconds").await;
        assert!(
            (seconds - 1.0..=seconds).contains(&served),
            "{served} is served, {seconds} is in the status"
        );
        assert_eq!((status.replicas, status.desired_replicas, decision.replicas), (Some(1), Some(2), 2));

        until("each decision is counted by its bound", async || {
            let counts = figures(w, "orders", "spillway_scaling_decisions_total").await;
            let changes = u32::try_from(decided(&w.operator().text(), w, "orders")).expect("a few");
            let all = (counts.values().sum::<f64>() - f64::from(changes)).abs() < 0.5;
            let counted = all && counts.contains_key(&decision.bound);
            if counted { Ok(()) } else { Err(format!("{counts:?} of {changes}")) }
        })
        .await;

        // What was there before is no lag of who begins at the end.
        until_nothing_waits(w, "late").await;
        let late: Consumer = w.get("late").await;
        assert_eq!(late.status.and_then(|status| status.partitions), Some(5));
        let written = figures(w, "orders", "spillway_scale_patches_total").await;
        assert!(written.is_empty(), "a dry run writes nothing: {written:?}");
    });
}
