//! `spillway explain consumer/NAME`: why there are as many replicas as there are.
//!
//! Everything comes from the Consumer itself: its spec, and what the operator wrote into its status. The formula is
//! the scaler's, with the status' numbers filled in: means of half a minute. What decided, a moment's rate and what comes
//! until pods work included, is in the decision's message; what the status does not say, this does not invent.

use std::fmt::Write as _;

use kube::ResourceExt as _;

use super::CliError;
use super::cluster::{Cluster, NamespaceArgs};
use super::kubeconfig::KubeconfigArgs;
use super::offline::block_on;
use super::offline::show::printable;
use super::output::{Format, print, say};
use crate::api::Consumer;
use crate::api::conditions;
use crate::api::consumer::{ConsumerStatus, Scaling};
use crate::scaling::{Bound, ConditionKind, sizes};

const EXAMPLES: &str = "\
Examples:
  spillway explain consumer/orders
  spillway explain consumer/tasks --namespace queue-service
  spillway explain consumer/orders -o json | jq .status.decision

What is said is as of the Consumer's status: decisions and conditions are written at once, figures \
that merely moved once a minute. `spillway lag` shows the lag of now.";

/// The arguments of `spillway explain`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to explain, as KIND/NAME; the kind is consumer
    #[arg(value_name = "KIND/NAME", value_parser = consumer_name)]
    pub object: String,
    /// The namespace; default: the one of the kubeconfig's context
    #[arg(short, long, value_parser = crate::config::namespace, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// How to print: json and yaml give the figures as they are in the Consumer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

/// The name in `consumer/NAME`.
fn consumer_name(text: &str) -> Result<String, String> {
    let Some((kind, name)) = text.split_once('/') else {
        return Err(format!("say what kind it is: consumer/{text}"));
    };
    match kind.to_lowercase().as_str() {
        "consumer" | "consumers" | "swc" | "consumer.spillway.dev" | "consumers.spillway.dev"
            if !name.is_empty() =>
        {
            Ok(name.to_owned())
        }
        "consumer" | "consumers" | "swc" => Err("a name is missing: consumer/NAME".into()),
        _ => Err(format!("{kind:?} cannot be explained; consumer/NAME can")),
    }
}

/// Runs the verb.
pub fn execute(args: &Args, way: &KubeconfigArgs) -> Result<(), CliError> {
    block_on(async {
        let cluster = Cluster::connect(way).await?;
        let place = NamespaceArgs { namespace: args.namespace.clone(), all_namespaces: false };
        let namespace = cluster.namespace(&place).unwrap_or_default();
        let consumer = cluster.consumer(&namespace, &args.object).await?;
        match args.output.structured(&figures(&consumer)) {
            Some(text) => print(&text?),
            None => say(explain(&consumer).trim_end()),
        }
    })
}

/// What the explanation rests on, for programs.
fn figures(consumer: &Consumer) -> serde_json::Value {
    serde_json::json!({
        "namespace": consumer.namespace(),
        "consumer": consumer.name_any(),
        "reads": reads(consumer),
        "scaling": consumer.spec.scaling,
        "status": consumer.status,
    })
}

/// The explanation.
#[must_use]
pub fn explain(consumer: &Consumer) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, consumer);
    text
}

fn write(out: &mut String, consumer: &Consumer) -> std::fmt::Result {
    let status = consumer.status.clone().unwrap_or_default();
    let scaling = &consumer.spec.scaling;
    writeln!(out, "Consumer {}/{}", consumer.namespace().unwrap_or_default(), consumer.name_any())?;
    row(out, "reads", &reads(consumer))?;
    let target = consumer.spec.scale_target_ref.as_ref();
    let target = target.map_or_else(
        || format!("Deployment {} (made from the template)", consumer.name_any()),
        |target| format!("{} {}", target.kind.as_str(), target.name),
    );
    row(out, "scales", &target)?;
    row(
        out,
        "replicas",
        &format!(
            "{} wanted, {} ready, {} decided",
            number(status.replicas),
            number(status.ready_replicas),
            number(status.desired_replicas)
        ),
    )?;
    if status.observed_generation != consumer.metadata.generation {
        writeln!(
            out,
            "\nThe operator has not seen the last edit yet: what follows is about the one before."
        )?;
    }
    let Some(decision) = &status.decision else {
        writeln!(out, "\nNothing is decided yet.")?;
        return conditions(out, &status);
    };

    writeln!(
        out,
        "\nDecision: {} replicas, bound by {}, since {}",
        decision.replicas, decision.bound, decision.since
    )?;
    writeln!(out, "  {}", printable(&decision.message))?;
    if let Some(bound) = Bound::named(&decision.bound) {
        row(out, "loosened by", bound.way_out())?;
    }
    for other in decision.also.iter().filter_map(|name| Bound::named(name)) {
        row(out, &format!("also {}", other.as_str()), other.way_out())?;
    }
    inputs(out, scaling, &status)?;
    formula(out, scaling, &status)?;
    conditions(out, &status)
}

fn inputs(out: &mut String, scaling: &Scaling, status: &ConsumerStatus) -> std::fmt::Result {
    let rates = status.rates.clone().unwrap_or_default();
    let learned = status.learned.clone().unwrap_or_default();
    let lag = status.lag.clone().unwrap_or_default();
    writeln!(out, "\nInputs")?;
    row(out, "λ  arrival", &unit(rates.arrival.as_deref(), "messages/s"))?;
    let prior = scaling.rate_per_replica.as_ref();
    let mu = match (&rates.per_replica, prior) {
        (Some(rate), Some(_)) if learned.rate_per_replica.is_none() => {
            format!("{rate} messages/s (ratePerReplica; not measured yet)")
        }
        (Some(rate), _) => format!("{rate} messages/s"),
        (None, Some(prior)) => format!("{prior} messages/s (ratePerReplica; not measured yet)"),
        (None, None) => "not known yet".into(),
    };
    row(out, "μ  a replica's rate", &mu)?;
    let worst = lag.worst_partition.map(|worst| format!(", most of them in {worst}")).unwrap_or_default();
    let seconds = lag.seconds.map(|seconds| format!(", {seconds} s of work")).unwrap_or_default();
    row(out, "L  what waits", &format!("{} messages{seconds}{worst}", number(lag.messages)))?;
    row(out, "T  targetDelay", &scaling.target_delay.to_string())?;
    row(out, "ρ  utilization", &format!("{} %", scaling.tuning.utilization))?;
    let known = |learned: Option<crate::api::duration::Duration>,
                 set: Option<crate::api::duration::Duration>| match (set, learned) {
        (Some(set), _) => format!("{set} (set)"),
        (None, Some(learned)) => format!("{learned} (learned)"),
        (None, None) => "not learned yet".into(),
    };
    row(out, "cold start", &known(learned.cold_start, scaling.tuning.cold_start))?;
    row(out, "rebalance", &known(learned.rebalance, scaling.tuning.rebalance))?;
    if let Some(gap) = learned.commit_gap {
        row(out, "between commits", &gap.to_string())?;
    }
    Ok(())
}

fn formula(out: &mut String, scaling: &Scaling, status: &ConsumerStatus) -> std::fmt::Result {
    let figure = |text: Option<&String>| text.and_then(|text| text.parse::<f64>().ok());
    let rates = status.rates.as_ref();
    let arrival = figure(rates.and_then(|rates| rates.arrival.as_ref()));
    let mu = figure(rates.and_then(|rates| rates.per_replica.as_ref()))
        .or_else(|| figure(scaling.rate_per_replica.as_ref()));
    writeln!(out, "\nFormula")?;
    let (Some(arrival), Some(mu)) = (arrival, mu.filter(|&mu| mu > 0.0)) else {
        return writeln!(out, "  λ or μ is not known: the decision above says what was done without.");
    };
    let share = f64::from(scaling.tuning.utilization) / 100.0;
    let delay = scaling.target_delay.seconds();
    let keep = arrival / share / mu;
    row(out, "to keep up", &format!("λ / ρ / μ = {arrival} / {share:.2} / {mu} = {keep:.2}"))?;
    let waiting = status.lag.as_ref().and_then(|lag| lag.messages);
    #[allow(clippy::cast_precision_loss)]
    let clear = waiting.map(|waiting| (arrival + waiting.max(0) as f64 / delay) / mu);
    match (waiting, clear) {
        (Some(waiting), Some(clear)) => {
            let sum = format!("(λ + L / T) / μ = ({arrival} + {waiting} / {delay}) / {mu} = {clear:.2}");
            row(out, "to clear it in time", &sum)?;
        }
        _ => row(out, "to clear it in time", "not known: what waits is not known")?,
    }
    let need = keep.max(clear.unwrap_or_default());
    row(
        out,
        "need",
        &format!("about {need:.2}: these are means of half a minute; the message above has what decided"),
    )?;
    row(out, "  less", less(status))?;
    row(
        out,
        "  more",
        "what will arrive until more replicas work does, and a partition that is late by itself",
    )?;
    if let Some(partitions) = status.partitions.and_then(|count| u32::try_from(count).ok()) {
        row(out, "sizes", &even(partitions, status))?;
        row(out, "", "a need above one by less than a tenth of the step to the next is left there")?;
    }
    let max = scaling.max_replicas.map_or_else(|| "none".into(), |max| max.to_string());
    let cap = status.cap.map_or_else(|| "none".into(), |cap| cap.to_string());
    row(
        out,
        "limits",
        &format!("minReplicas {}, maxReplicas {max}, able to work at once {cap}", scaling.min_replicas),
    )
}

/// What waits and does not count.
fn less(status: &ConsumerStatus) -> &'static str {
    let holds = |kind: ConditionKind| conditions::is_true(&status.conditions, kind.as_str());
    // A queue has no partitions.
    if status.partitions.is_none() {
        return "what consumers hold unacknowledged, and what the next poll's deliveries take, does not count";
    }
    if [ConditionKind::StuckPartition, ConditionKind::AllStuck, ConditionKind::PhantomLag]
        .into_iter()
        .any(holds)
    {
        return "what waits between two commits anyway, and all of the partitions that stand (below), does not count";
    }
    "what waits between two commits anyway does not count"
}

fn conditions(out: &mut String, status: &ConsumerStatus) -> std::fmt::Result {
    writeln!(out, "\nConditions")?;
    if status.conditions.is_empty() {
        return writeln!(out, "  none yet: is the operator running, and does it watch this namespace?");
    }
    for condition in &status.conditions {
        let name = format!("{}={}", condition.type_, condition.status);
        row(out, &name, &format!("{}: {}", condition.reason, condition.message))?;
    }
    Ok(())
}

fn row(out: &mut String, name: &str, value: &str) -> std::fmt::Result {
    writeln!(out, "  {name:<20} {}", printable(value))
}

/// What a Consumer reads, in words.
fn reads(consumer: &Consumer) -> String {
    let namespace = consumer.namespace().unwrap_or_default();
    let broker = consumer.spec.broker_ref().map(|reference| {
        format!("on Broker {}/{}", reference.namespace.as_ref().unwrap_or(&namespace), reference.name)
    });
    let broker = broker.unwrap_or_default();
    match (&consumer.spec.kafka, &consumer.spec.rabbitmq) {
        (Some(kafka), _) => format!("topics {} as group {} {broker}", kafka.topics.join(", "), kafka.group),
        (None, Some(queue)) => format!("queue {:?} in virtual host {:?} {broker}", queue.queue, queue.vhost),
        (None, None) => "nothing".into(),
    }
}

/// Counts of replicas that differ in what they can do, as far as the status tells.
fn even(partitions: u32, status: &ConsumerStatus) -> String {
    let each = status.learned.as_ref().and_then(|learned| learned.consumers_per_replica).unwrap_or(1).max(1);
    let foreign = foreign(status);
    let sizes = sizes(partitions, each, foreign);
    let cap = status.cap.and_then(|cap| u32::try_from(cap).ok());
    if let Some(cap) = cap.filter(|cap| sizes.last() != Some(cap)) {
        return format!(
            "up to {cap}: of {partitions} partitions, those of each topic are spread by themselves"
        );
    }
    let mut who = String::new();
    if each > 1 {
        let _ = write!(who, ", for {each} consumers a replica");
    }
    if foreign > 0 {
        let _ = write!(who, ", beside {foreign} members outside our pods");
    }
    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    format!("{}: {partitions} partitions are spread evenly by no other{who}", shortened(&sizes))
}

/// Members outside our pods, as the condition counts them.
fn foreign(status: &ConsumerStatus) -> u32 {
    let named = ConditionKind::ForeignMembers.as_str();
    let holds =
        status.conditions.iter().find(|condition| condition.type_ == named && condition.status == "True");
    holds.and_then(|condition| condition.message.split(' ').next()?.parse().ok()).unwrap_or(0)
}

fn shortened(sizes: &[String]) -> String {
    /// More are not read by anybody.
    const MOST: usize = 16;
    if sizes.len() <= MOST {
        return sizes.join(", ");
    }
    format!("{}, … {}", sizes[..MOST - 1].join(", "), sizes[sizes.len() - 1])
}

fn number(number: Option<impl std::fmt::Display>) -> String {
    number.map_or_else(|| "?".into(), |number| number.to_string())
}

fn unit(value: Option<&str>, unit: &str) -> String {
    value.map_or_else(|| "not known yet".into(), |value| format!("{value} {unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn consumer(status: &serde_json::Value) -> Consumer {
        let mut consumer = Consumer::new(
            "order",
            serde_json::from_value(json!({
                "scaleTargetRef": {"name": "order"},
                "kafka": {"brokerRef": {"name": "kafka"}, "group": "order-service", "topics": ["orders"],
                    "offsetReset": "earliest"},
                "scaling": {"targetDelay": "30s"},
            }))
            .unwrap(),
        );
        consumer.metadata.namespace = Some("shop".into());
        consumer.status = serde_json::from_value(status.clone()).unwrap();
        consumer
    }

    #[test]
    fn the_formula_is_filled_in_with_the_numbers_of_the_status() {
        let text = explain(&consumer(&json!({
            "replicas": 6, "readyReplicas": 6, "desiredReplicas": 12, "partitions": 12, "cap": 12,
            "lag": {"messages": 12_000, "worstPartition": "orders/3", "seconds": 18},
            "rates": {"arrival": "620", "perReplica": "98"},
            "decision": {"replicas": 12, "bound": "Lag", "also": ["Partitions"], "message": "6 → 12 replicas: …",
                "since": "2026-11-21T12:00:00Z"},
            "learned": {"coldStart": "19s"},
            "conditions": [],
        })));
        for expected in [
            "620 / 0.80 / 98 = 7.91",
            "(620 + 12000 / 30) / 98 = 10.41",
            "1, 2, 3, 4, 6, 12: 12 partitions",
            "bound by Lag",
            "also Partitions",
            "19s (learned)",
            "most of them in orders/3",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }

    #[test]
    fn a_guess_is_not_shown_as_measured() {
        let status = |learned: serde_json::Value| {
            json!({"rates": {"arrival": "620", "perReplica": "98"}, "learned": learned, "conditions": [],
                "decision": {"replicas": 3, "bound": "Rate", "message": "m", "since": "s"}})
        };
        let explained = |learned| {
            let mut consumer = consumer(&status(learned));
            consumer.spec.scaling.rate_per_replica = Some("98".into());
            explain(&consumer)
        };
        assert!(explained(json!({})).contains("98 messages/s (ratePerReplica; not measured yet)"));
        assert!(!explained(json!({"ratePerReplica": "98"})).contains("not measured"));
    }

    #[test]
    fn sizes_know_consumers_per_replica_foreign_members_and_topics_by_themselves() {
        let explained = |cap: i32, learned: serde_json::Value, conditions: serde_json::Value| {
            explain(&consumer(&json!({
                "partitions": 12, "cap": cap, "rates": {"arrival": "620", "perReplica": "98"},
                "decision": {"replicas": 3, "bound": "Rate", "message": "m", "since": "s"},
                "learned": learned, "conditions": conditions,
            })))
        };
        let foreign = json!([{"type": "ForeignMembers", "status": "True", "reason": "ForeignMembers",
            "message": "2 members outside our pods", "lastTransitionTime": "2026-11-21T12:00:00Z"}]);
        for (text, expected) in [
            (explained(12, json!({}), json!([])), "1, 2, 3, 4, 6, 12: 12 partitions are spread"),
            (explained(3, json!({"consumersPerReplica": 4}), json!([])), "1, 2, 3: 12 partitions"),
            (explained(10, json!({}), foreign), "1, 2, 4, 10: 12 partitions"),
            (explained(4, json!({}), json!([])), "up to 4: of 12 partitions, those of each topic"),
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_said_and_nothing_is_invented() {
        let text = explain(&consumer(&json!({"conditions": []})));
        assert!(text.contains("Nothing is decided yet"), "{text}");
        let text = explain(&consumer(&json!({
            "decision": {"replicas": 3, "bound": "Unknown", "message": "m", "since": "s"}, "conditions": [],
        })));
        assert!(text.contains("λ or μ is not known") && text.contains("not known yet"), "{text}");
    }

    #[test]
    fn only_a_consumer_is_explained() {
        assert_eq!(consumer_name("swc/x").unwrap(), "x");
        assert!(consumer_name("x").unwrap_err().contains("consumer/x"));
        assert!(consumer_name("topic/x").unwrap_err().contains("topic"));
        assert!(consumer_name("consumer/").is_err());
    }

    #[test]
    fn every_bound_has_a_name_and_a_way_out() {
        for bound in Bound::ALL {
            assert_eq!(Bound::named(bound.as_str()), Some(bound));
            assert!(!bound.way_out().is_empty());
        }
    }
}
