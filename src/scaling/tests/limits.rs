//! Limits, classes, and the way down.

use super::super::{Bound, Config, GroupRead};
use super::world::World;

fn flooded(partitions: usize, config: Config) -> World {
    let mut world = World::new(partitions, Config { rate_per_replica: Some(10.0), ..config });
    world.run(10, 0);
    world.arrive(1_000_000);
    world.run(60, 0);
    world
}

#[test]
fn twenty_four_partitions_reach_twenty_four() {
    assert_eq!(flooded(24, Config::default()).spec, 24);
}

#[test]
fn five_partitions_never_get_six() {
    let mut world = flooded(5, Config { min_replicas: 6, ..Config::default() });
    assert_eq!(world.spec, 5);
    for _ in 0..600 {
        world.arrive(500);
        assert!(world.second().replicas <= 5);
    }
}

#[test]
fn a_maximum_between_two_classes_is_the_class_below() {
    let world = flooded(12, Config { max_replicas: Some(8), ..Config::default() });
    assert_eq!(world.spec, 6);
}

#[test]
fn under_range_the_largest_topic_is_the_cap_and_else_the_sum() {
    for (assignor, cap) in [("range", 4), ("", 4), ("roundrobin", 7), ("cooperative-sticky", 7)] {
        let mut world = World::new(7, Config::default());
        let mut seen = world.observation();
        let kafka = seen.kafka.as_mut().unwrap();
        for (i, part) in kafka.partitions.iter_mut().enumerate() {
            part.tp = if i < 4 { format!("a/{i}") } else { format!("b/{}", i - 4) }.into();
        }
        if let GroupRead::Known(group) = &mut kafka.group {
            group.assignor = assignor.into();
        }
        let (decision, _) = super::super::decide(&world.config, &seen, std::mem::take(&mut world.state));
        assert_eq!(decision.inputs.cap, Some(cap), "{assignor}");
    }
}

#[test]
fn after_a_peak_that_would_be_late_if_it_came_back_it_goes_down_by_halves_and_keeps_half_for_a_while() {
    let mut world = World::new(12, Config { target_delay: 5.0, ..Config::default() });
    world.start = 20.0;
    world.run(30, 5);
    world.arrive(1_200);
    let mut counts = vec![(0, world.spec)];
    for second in 1..3_600 {
        world.arrive(5);
        world.second();
        if counts.last().unwrap().1 != world.spec {
            counts.push((second, world.spec));
        }
    }
    let sizes: Vec<u32> = counts.iter().map(|c| c.1).collect();
    assert!(matches!(sizes[..], [1, 12, 6, .., 1]), "{counts:?}");
    let halved = counts.iter().find(|c| c.1 == 6).unwrap().0;
    let below = counts.iter().skip_while(|c| c.1 != 6).nth(1).unwrap().0;
    assert!(halved >= 180 && below >= 900, "{counts:?}");
    assert!(counts.windows(2).skip(2).all(|w| w[1].0 - w[0].0 >= 180), "{counts:?}");
}

#[test]
fn with_a_minimum_of_one_an_idle_consumer_rests_at_one() {
    let mut world = World::new(12, Config::default());
    let decision = world.run(4_000, 0);
    assert_eq!((decision.replicas, decision.bound), (1, Bound::Min));
    assert!(decision.also.contains(&Bound::Idle));
}

#[test]
fn with_a_minimum_of_zero_it_goes_to_zero_after_idle_and_wakes_at_the_first_message() {
    let mut world = World::new(12, Config { min_replicas: 0, idle_after: 60.0, ..Config::default() });
    world.run(20, 3);
    assert_eq!(world.run(150, 0).replicas, 1, "not within a stabilization of the start");
    assert_eq!(world.run(100, 0).replicas, 0);
    assert_eq!(world.run(1_000, 0).replicas, 0);
    world.arrive(1);
    let decision = world.second();
    assert_eq!((decision.replicas, decision.patch), (1, true));
}

#[test]
fn no_replica_goes_during_a_rollout() {
    let mut world = World::new(12, Config::default());
    (world.spec, world.ready) = (6, 6);
    world.edit = |seen| seen.target.updating = true;
    assert_eq!(world.run(3_000, 1).replicas, 6);
    world.edit = |_| {};
    assert!(world.run(1_000, 1).replicas < 6);
}

#[test]
fn a_new_leader_with_what_was_learned_reacts_at_once_and_lowers_nothing_at_first() {
    let mut world = World::new(12, Config::default());
    (world.spec, world.ready) = (6, 6);
    world.run(30, 30);
    world.arrive(2_000);
    let learned = world.run(60, 30).status.learned.rounded();
    assert!(learned.rate_per_replica.is_some_and(|r| (8.0..=12.0).contains(&r)), "{learned:?}");
    world.state = super::super::State::seeded(&learned);
    (world.spec, world.ready) = (6, 6);
    assert!(world.run(170, 0).replicas >= 6);
}

#[test]
fn a_state_survives_being_written_down() {
    let mut world = World::new(12, Config::default());
    world.run(30, 30);
    world.arrive(500);
    world.run(20, 30);
    let text = serde_json::to_string(&world.state).unwrap();
    let seen = {
        world.now += 1.0;
        world.observation()
    };
    let state: super::super::State = serde_json::from_str(&text).unwrap();
    let (a, _) = super::super::decide(&world.config, &seen, world.state.clone());
    let (b, _) = super::super::decide(&world.config, &seen, state);
    assert_eq!(a, b);
}
