//! What one decision costs, an hour of them, and a simulated hour.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use spillway_operator::scaling::replay::Replay;
use spillway_operator::scaling::simulate::{Group as Simulated, foretell};
use spillway_operator::scaling::{
    Committed, Config, Group, GroupRead, GroupState, Kafka, Member, Observation, Partition, Pod, State,
    Target, decide,
};

/// A second-by-second hour of one group: 50 messages/s a partition, commits each second, a peak in the middle.
fn hour(partitions: usize, described_every: usize) -> Vec<Observation> {
    let names: Vec<std::sync::Arc<str>> = (0..partitions).map(|p| format!("orders/{p}").into()).collect();
    let members: Vec<Member> = names
        .iter()
        .enumerate()
        .map(|(i, name)| Member {
            id: format!("m{i}").into(),
            pod: Pod::Known(format!("pod-{i}").into()),
            is_static: false,
            partitions: vec![name.clone()],
        })
        .collect();
    let group = GroupRead::Known(Group {
        state: GroupState::Stable,
        assignor: "cooperative-sticky".into(),
        members,
        ..Group::default()
    });
    let spec = u32::try_from(partitions).unwrap_or(u32::MAX);
    (0..3_600usize)
        .map(|t| {
            let second = i64::try_from(t).unwrap_or_default();
            let peak = (second - 1_200).clamp(0, 600) * 100;
            let waiting = (peak - (second - 1_200).max(0) * 30).max(0);
            let end = second * 50 + peak;
            Observation {
                now: f64::from(u32::try_from(t).unwrap_or_default()),
                target: Target { spec, ready: Some(spec), revision: "a".into(), ..Target::default() },
                kafka: Some(Kafka {
                    group: if t % described_every == 0 { group.clone() } else { GroupRead::NotRead },
                    partitions: names
                        .iter()
                        .map(|name| Partition {
                            tp: name.clone(),
                            topic_id: Some("x".into()),
                            start: Some(0),
                            end: Some(end),
                            hw: Some(end),
                            committed: Committed::At(end - waiting),
                            error: None,
                        })
                        .collect(),
                    ..Kafka::default()
                }),
                ..Observation::default()
            }
        })
        .collect()
}

fn decisions(c: &mut Criterion) {
    for partitions in [12, 100, 1_000] {
        let seen = hour(partitions, 5);
        let config = Config::default();
        c.bench_function(&format!("an hour of decisions, {partitions} partitions"), |b| {
            b.iter(|| {
                let mut state = State::default();
                for observation in &seen {
                    let (decision, next) = decide(&config, black_box(observation), state);
                    black_box(&decision);
                    state = next;
                }
                state
            });
        });
    }
}

fn replay(c: &mut Criterion) {
    let lines: Vec<String> = hour(12, 1)
        .iter()
        .enumerate()
        .map(|(i, seen)| {
            let mut line = serde_json::to_value(seen).unwrap_or_default();
            line["v"] = 1.into();
            line["seq"] = i.into();
            if i == 0 {
                line["config"] = serde_json::json!({"scaling": {"targetDelay": "30s"}});
            }
            line.to_string()
        })
        .collect();
    c.bench_function("a replayed hour, 12 partitions", |b| {
        b.iter(|| {
            let mut replay = Replay::default();
            for line in &lines {
                black_box(replay.answer(black_box(line.as_bytes())));
            }
        });
    });
}

/// An hour of one Consumer: the plant's 36,000 steps and 3,600 decisions. Aim: below 50 ms.
fn simulated(c: &mut Criterion) {
    let group = Simulated {
        partitions: 12,
        rate: 100.0,
        commit: 1.0,
        cold_start: 10.0,
        rebalance: 3.0,
        config: Config::default(),
        pace: Vec::new(),
        seconds: 3_600.0,
    };
    c.bench_function("a simulated hour, 12 partitions", |b| {
        b.iter(|| foretell(black_box(&group), |t| if t > 1_200.0 { 450.0 } else { 150.0 }, 1));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = decisions, replay, simulated
}
criterion_main!(benches);
