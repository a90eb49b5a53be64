//! What each named workload must show, where a run is cheap. One seed.

use std::collections::BTreeSet;

use super::super::plant::Plant;
use super::super::run::{Finished, run};
use super::super::scalers::Ours;
use super::super::workload::{Workload, all};

/// What ours did until `seconds`, and the conditions that it named.
fn ours(name: &str, seconds: f64) -> (Finished, BTreeSet<&'static str>) {
    let mut workload = named(name);
    workload.seconds = workload.seconds.min(seconds);
    let mut ours = Ours::new(workload.config.clone());
    let done = run(&workload, &mut ours, 1);
    (done, ours.named)
}

fn named(name: &str) -> Workload {
    all().into_iter().find(|w| w.name == name).unwrap_or_else(|| panic!("no workload {name:?}"))
}

/// Patches to fewer between two seconds.
fn downs(plant: &Plant, from: f64, to: f64) -> Vec<(f64, u32, u32)> {
    let events = plant.meter.events.iter().copied();
    events.filter(|&(at, before, after)| (from..to).contains(&at) && after < before).collect()
}

#[test]
fn what_is_not_known_lowers_nothing() {
    for (name, from, to) in [
        ("leaderless partition", 900.0, 1_500.0),
        ("all unknown", 900.0, 1_500.0),
        ("failover mid-peak", 700.0, 1_200.0),
    ] {
        let (done, _) = ours(name, to);
        assert_eq!(downs(&done.plant, from, to), [], "{name}");
        assert!(done.plant.spec >= 6, "{name}: {}", done.plant.spec);
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (name, seconds, condition) in [
        ("leaderless partition", 950.0, "PartialData"),
        ("all unknown", 950.0, "DataUnknown"),
        ("stuck partition", 1_400.0, "StuckPartition"),
        ("zipf skew", 1_200.0, "PartitionBound"),
        ("downstream cap", 1_200.0, "DownstreamBound"),
        ("poison 30%", 900.0, "BreakerOpen"),
        ("poison 100%", 900.0, "BreakerOpen"),
        ("unschedulable", 900.0, "PodsNotReady"),
        ("crash loop", 900.0, "PodsNotReady"),
        ("foreign member", 1_000.0, "ForeignMembers"),
        ("hanging transaction", 1_200.0, "LsoStalled"),
        ("rabbitmq rejects 30%", 900.0, "BreakerOpen"),
        ("step cold 60s", 700.0, "TargetInfeasible"),
    ] {
        let (_, named) = ours(name, seconds);
        assert!(named.contains(condition), "{name}: {named:?} without {condition}");
    }
}

#[test]
fn nothing_is_named_where_nothing_is_wrong() {
    for (name, seconds) in [("ramp", 1_200.0), ("constant P=12 0.40", 1_200.0), ("step cold 5s", 1_000.0)] {
        let (_, named) = ours(name, seconds);
        assert_eq!(named, BTreeSet::new(), "{name}");
    }
}

#[test]
fn zero_is_never_written_while_messages_wait() {
    for name in ["hand reset", "recreated topic", "more partitions", "hanging transaction"] {
        let (done, _) = ours(name, 2_100.0);
        assert_eq!(done.plant.meter.false_zeros, 0, "{name}");
        assert!(done.plant.meter.events.iter().all(|&(_, _, to)| to > 0), "{name}: zero");
    }
}

#[test]
fn a_group_goes_to_zero_when_nothing_comes_and_is_back_with_the_first_message() {
    let (done, _) = ours("to zero and back", 3_600.0);
    let events = &done.plant.meter.events;
    assert_eq!(done.plant.meter.false_zeros, 0);
    for from in [900.0, 2_400.0] {
        let back = events.iter().find(|&&(at, before, _)| at >= from && before == 0);
        assert!(back.is_some_and(|&(at, ..)| at < from + 3.0), "{from}: {events:?}");
    }
    assert_eq!(done.plant.spec, 0, "{events:?}");
}

#[test]
fn a_step_is_drained_within_a_cold_start_of_its_end() {
    // An oracle has nothing left then.
    for (name, cold_start) in [
        ("step cold 5s", 5.0),
        ("step cold 20s", 20.0),
        ("step cold 60s", 60.0),
        ("step eager", 10.0),
        ("step kip-848", 10.0),
        ("step static members", 10.0),
    ] {
        let (done, _) = ours(name, 1_300.0);
        assert!(done.score.drain <= cold_start, "{name}: {:?}", done.score);
    }
}

#[test]
fn slow_commits_cost_one_class_at_most() {
    for commit in [1, 5, 30, 50] {
        let name = format!("commit {commit}s");
        let (done, _) = ours(&name, 3_600.0);
        // 450 messages/s at 100 a replica and 12 partitions: an oracle has six for 2,400 s, and two before. The next class
        // is twelve, which commits as rare as these may ask for now and then and not for good.
        let (spec, cost) = (done.plant.spec, done.score.cost);
        assert!((6..=12).contains(&spec), "{name}: {spec}");
        let most = if commit <= 5 { 18_500.0 } else { 28_000.0 };
        assert!((15_000.0..most).contains(&cost), "{name}: {cost} replica-seconds");
        assert!(commit > 5 || spec == 6, "{name}: {spec}");
    }
}

#[test]
fn consumers_that_were_slow_for_a_while_are_seen_to_be_fast_again() {
    let (done, _) = ours("slow-down 0.4x", 3_600.0);
    // Three do 300 messages/s; the class above is four.
    assert!(done.plant.spec <= 4, "{:?}", done.plant.meter.events);
}

#[test]
fn more_replicas_than_the_downstream_bears_are_given_back_and_nothing_is_lost_by_it() {
    let (done, _) = ours("downstream cap", 1_800.0);
    let last = done.plant.meter.trace.last().map_or(0.0, |p| p.lag);
    // 300 messages/s too many for 1,200 s.
    assert!(last < 1.1 * 360_000.0, "{last}");
    assert!(done.plant.spec < 12, "{:?}", done.plant.meter.events);
}

#[test]
fn pods_that_could_not_run_are_used_when_they_can() {
    for name in ["unschedulable", "crash loop"] {
        let (done, _) = ours(name, 3_600.0);
        let waits = done.plant.meter.trace.last().map_or(f64::INFINITY, |p| p.lag);
        assert!(waits < 2_000.0, "{name}: {waits} wait, {:?}", done.plant.meter.events);
    }
}
