//! What holds for every input.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::replay::Replay;
use super::super::{
    Bound, Committed, Config, Decision, Group, GroupRead, GroupState, Kafka, Member, Observation, Partition,
    Pod, RabbitMq, State, Target, decide,
};
use super::world::World;

/// A number or unknown, now and then absurd.
fn offset() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        6 => (0i64..100_000).prop_map(Some),
        1 => Just(None),
        1 => any::<i64>().prop_map(Some),
    ]
}

fn committed() -> impl Strategy<Value = Committed> {
    prop_oneof![
        6 => (0i64..100_000).prop_map(Committed::At),
        1 => Just(Committed::None),
        1 => Just(Committed::Unknown),
        1 => any::<i64>().prop_map(Committed::At),
    ]
}

fn partition(number: usize) -> impl Strategy<Value = Partition> {
    (offset(), offset(), offset(), committed(), prop::option::weighted(0.1, "[a-z]{3}"), 0u8..3).prop_map(
        move |(start, end, hw, committed, error, id)| Partition {
            tp: format!("orders/{number}").into(),
            topic_id: (id > 0).then(|| id.to_string().into()),
            start,
            end,
            hw,
            committed,
            error,
        },
    )
}

fn group() -> impl Strategy<Value = GroupRead> {
    let state = prop_oneof![
        4 => Just(GroupState::Stable),
        1 => Just(GroupState::Empty),
        1 => Just(GroupState::Reconciling),
        1 => Just(GroupState::Other),
    ];
    let member = (0usize..6, 0usize..8, 0u8..3).prop_map(|(id, p, pod)| Member {
        id: format!("m{id}").into(),
        pod: [Pod::Unknown, Pod::Foreign, Pod::Known("p".into())][usize::from(pod)].clone(),
        is_static: false,
        partitions: vec![format!("orders/{p}").into()],
    });
    prop_oneof![
        Just(GroupRead::NotRead),
        Just(GroupRead::Unreadable),
        (state, prop::collection::vec(member, 0..6), prop_oneof![Just(""), Just("range"), Just("sticky")])
            .prop_map(|(state, members, assignor)| GroupRead::Known(Group {
                state,
                members,
                assignor: assignor.into(),
                ..Group::default()
            })),
    ]
}

fn observation() -> impl Strategy<Value = Observation> {
    let kafka = (group(), (1usize..7).prop_flat_map(|n| (0..n).map(partition).collect::<Vec<_>>()))
        .prop_map(|(group, partitions)| Kafka { group, partitions, ..Kafka::default() });
    let target = (0u32..20, prop::option::of(0u32..20), any::<bool>(), 0u8..8, 0u8..8).prop_map(
        |(spec, ready, updating, revision, paused)| Target {
            spec,
            ready,
            updating,
            revision: Arc::from(if revision == 0 { "b" } else { "a" }),
            paused: paused == 0,
            ..Target::default()
        },
    );
    (target, prop::option::weighted(0.9, kafka), 0.0f64..60.0).prop_map(|(target, kafka, dt)| Observation {
        now: dt,
        target,
        kafka,
        ..Observation::default()
    })
}

fn config() -> impl Strategy<Value = Config> {
    (0u32..5, prop::option::of(5u32..12), 1.0f64..60.0, prop::option::of(0.01f64..1e4)).prop_map(
        |(min_replicas, max_replicas, target_delay, rate_per_replica)| Config {
            min_replicas,
            max_replicas,
            target_delay,
            rate_per_replica,
            ..Config::default()
        },
    )
}

/// Whether the count is somebody else's for now, and stands as it was found.
fn hands_off(decision: &Decision) -> bool {
    matches!(decision.bound, Bound::Paused | Bound::ScaleConflict)
}

/// Makes the times of a list of observations, which are steps, into moments.
fn in_order(mut list: Vec<Observation>) -> Vec<Observation> {
    let mut now = 0.0;
    for seen in &mut list {
        now += seen.now;
        seen.now = now;
    }
    list
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_decision_is_never_outside_its_limits_and_the_same_each_time(
        config in config(),
        list in prop::collection::vec(observation(), 1..40),
    ) {
        let (mut state, mut twin) = (State::default(), State::default());
        for seen in in_order(list) {
            let (decision, next) = decide(&config, &seen, state);
            let (again, next_twin) = decide(&config, &seen, twin);
            prop_assert_eq!(&decision, &again);
            (state, twin) = (next, next_twin);
            if let Some(max) = config.max_replicas {
                prop_assert!(decision.replicas <= max.max(1), "{}", decision.message);
            }
            // A count above what can work is never raised further.
            if let Some(cap) = decision.inputs.cap {
                prop_assert!(decision.replicas <= cap.max(seen.target.spec), "{}", decision.message);
                prop_assert!(
                    decision.replicas >= config.min_replicas.min(cap) || hands_off(&decision),
                    "{}", decision.message
                );
            }
            for number in [decision.inputs.need, decision.inputs.mu, decision.inputs.arrival, decision.inputs.backlog] {
                prop_assert!(number.is_none_or(f64::is_finite), "{:?}", decision.inputs);
            }
            prop_assert!(decision.next_check > 0.0 && !decision.message.contains("NaN"));
        }
    }

    #[test]
    fn unknown_never_lowers(config in config(), spec in 0u32..20, list in prop::collection::vec(observation(), 1..40)) {
        let mut state = State::default();
        for mut seen in in_order(list) {
            if let Some(kafka) = &mut seen.kafka {
                kafka.partitions[0].error = Some("gone".into());
            }
            seen.target.spec = spec;
            let (decision, next) = decide(&config, &seen, state);
            state = next;
            // A maximum that a person sets is known.
            let spec = spec.min(config.max_replicas.unwrap_or(u32::MAX));
            prop_assert!(decision.replicas >= spec, "{}", decision.message);
        }
    }

    #[test]
    fn more_lag_never_means_fewer_replicas(
        partitions in 1usize..30,
        rate in 0i64..200,
        warm in 5u32..120,
        extra in prop::collection::vec(0i64..5_000, 30),
        delay in 1.0f64..120.0,
    ) {
        let mut world = World::new(partitions, Config { target_delay: delay, ..Config::default() });
        world.run(warm, rate);
        world.now += 1.0;
        world.arrive(rate);
        let less = world.observation();
        let mut more = less.clone();
        for (part, extra) in more.kafka.as_mut().unwrap().partitions.iter_mut().zip(&extra) {
            part.end = part.end.map(|e| e + extra);
            part.hw = part.end;
        }
        let (fewer, _) = decide(&world.config, &less, world.state.clone());
        let (mut greater, state) = decide(&world.config, &more, world.state);
        // A guard that takes a hot partition out of the need may well lower it, and one that takes back what brought
        // nothing lowers the count.
        let guarded = |d: &super::super::Decision| {
            use super::super::ConditionKind::{DownstreamBound, PartitionBound};
            d.conditions.iter().any(|c| matches!(c.kind, DownstreamBound | PartitionBound))
        };
        prop_assume!(!guarded(&fewer) && !guarded(&greater));
        // Beyond what can work, one need is as good as another.
        let most = f64::from(fewer.inputs.cap.unwrap_or(u32::MAX));
        let no_less = fewer.inputs.need.zip(greater.inputs.need)
            .is_none_or(|(less, more)| more >= less.min(most) * (1.0 - 1e-9));
        prop_assert!(
            no_less && greater.inputs.class >= fewer.inputs.class,
            "{}\n{}", fewer.message, greater.message
        );
        if greater.replicas < fewer.replicas {
            // A rise whose end is not in sight is looked at once more.
            more.now += world.config.poll_interval;
            (greater, _) = decide(&world.config, &more, state);
        }
        prop_assume!(!guarded(&greater));
        prop_assert!(greater.replicas >= fewer.replicas, "{}\n{}", fewer.message, greater.message);
    }

    #[test]
    fn a_queue_never_panics_and_stays_within_its_limits(
        list in prop::collection::vec((any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u64>>(), 0.0f64..9.0), 1..40)
    ) {
        let config = Config { max_replicas: Some(9), ..Config::default() };
        let (mut state, mut now) = (State::default(), 0.0);
        for (ready, unacked, publish, ack, dt) in list {
            now += dt;
            let seen = Observation {
                now,
                target: Target { spec: 2, ready: Some(2), ..Target::default() },
                rabbitmq: Some(RabbitMq { ready, unacked, publish, ack, ..RabbitMq::default() }),
                ..Observation::default()
            };
            let (decision, next) = decide(&config, &seen, state);
            state = next;
            prop_assert!((1..=9).contains(&decision.replicas));
            prop_assert!(decision.inputs.need.is_none_or(f64::is_finite));
        }
    }

    #[test]
    fn a_replay_answers_every_line(lines in prop::collection::vec("\\PC{0,80}", 1..20)) {
        let mut replay = Replay::default();
        for line in lines {
            let answer: serde_json::Value = serde_json::from_str(&replay.answer(line.as_bytes())).unwrap();
            prop_assert_eq!(&answer["v"], 1);
        }
    }

    #[test]
    fn a_replay_answers_lines_that_are_nearly_right(
        cuts in prop::collection::vec((0usize..700, 0u8..255, any::<bool>()), 1..30)
    ) {
        let mut replay = Replay::default();
        for (i, (at, byte, whole)) in (0u32..).zip(cuts) {
            let mut line = format!(
                r#"{{"v":1,"seq":{i},"t":{i}.0,"config":{{"scaling":{{"targetDelay":"30s","minReplicas":0}},"offsetReset":"earliest"}},"target":{{"spec":2,"ready":2,"revision":"a"}},"kafka":{{"group":{{"type":"Classic","state":"Stable","assignor":"range","members":[{{"id":"m0","pod":"p0","partitions":["orders/0"]}}]}},"partitions":[{{"tp":"orders/0","topicId":"x","start":0,"end":900,"hw":901,"committed":850,"error":null}}]}},"deadLetter":{{"end":7}}}}"#
            ).into_bytes();
            if !whole {
                let at = at % line.len();
                line[at] = byte;
            }
            let answer: serde_json::Value = serde_json::from_str(&replay.answer(&line)).unwrap();
            prop_assert!(answer["error"].is_string() || answer["replicas"].is_u64());
        }
    }
}
