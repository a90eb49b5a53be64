//! Up: fast, in one patch, and no further than useful.

use super::super::Config;
use super::world::World;

fn target(seconds: f64) -> Config {
    Config { target_delay: seconds, ..Config::default() }
}

/// Patches, and polls after the flood until the first one.
fn patches(world: &mut World, seconds: u32) -> Vec<(u32, u32)> {
    let mut seen = Vec::new();
    for second in 1..=seconds {
        let decision = world.second();
        if decision.patch {
            seen.push((second, decision.replicas));
        }
    }
    seen
}

#[test]
fn a_first_flood_takes_three_partitions_from_one_to_three_within_two_polls() {
    let mut world = World::new(3, target(30.0));
    world.run(20, 0);
    world.arrive(1_000);
    assert_eq!(patches(&mut world, 30), [(2, 3)]);
}

#[test]
fn a_first_flood_with_a_short_target_takes_twelve_partitions_to_twelve_in_one_patch() {
    let mut world = World::new(12, target(5.0));
    world.run(20, 0);
    world.arrive(1_200);
    let seen = patches(&mut world, 30);
    assert!(matches!(seen[..], [(1 | 2, 12)]), "{seen:?}");
}

#[test]
fn a_first_flood_with_a_long_target_gets_what_the_formula_says() {
    let mut world = World::new(12, target(30.0));
    world.run(20, 0);
    world.arrive(1_200);
    let seen = patches(&mut world, 10);
    assert!(matches!(seen[..], [(1 | 2, 4 | 6)]), "{seen:?}");
}

#[test]
fn a_flood_that_arrives_while_it_is_looked_at_is_met_in_one_patch() {
    let mut world = World::new(12, target(5.0));
    world.run(20, 0);
    world.arrive(300);
    let first = world.second();
    world.arrive(900);
    let second = world.second();
    assert_eq!((first.patch, second.patch, second.replicas), (false, true, 12));
}

#[test]
fn an_edited_rate_per_replica_counts_and_is_not_learned() {
    let mut world = World::new(12, Config { rate_per_replica: Some(100.0), ..target(30.0) });
    let decision = world.run(20, 5);
    assert_eq!((decision.inputs.mu, decision.status.learned.rate_per_replica), (Some(100.0), None));
    world.config.rate_per_replica = Some(40.0);
    let decision = world.run(1, 5);
    assert_eq!((decision.inputs.mu, decision.status.learned.rate_per_replica), (Some(40.0), None));
}

#[test]
fn three_messages_are_no_flood() {
    let mut world = World::new(12, target(30.0));
    world.run(20, 0);
    world.arrive(3);
    assert_eq!(patches(&mut world, 30), []);
}

#[test]
fn a_learned_step_is_met_within_three_polls() {
    let mut world = World::new(12, target(30.0));
    world.run(30, 8);
    world.arrive(400);
    world.run(600, 5);
    assert_eq!(world.lag(), 0);
    let before = world.spec;
    let mut seen = Vec::new();
    for second in 1..=20 {
        world.arrive(100);
        let decision = world.second();
        if decision.patch {
            seen.push((second, decision.replicas));
        }
    }
    assert!(matches!(seen[..], [(1..=3, 12)]), "{before} {seen:?}");
}

#[test]
fn each_learned_spike_is_met_in_one_patch_within_two_polls() {
    let mut world = World::new(12, target(5.0));
    world.run(20, 2);
    world.arrive(1_200);
    for spike in 0..4 {
        world.run(3_600, 2);
        assert_eq!(world.spec, 1, "rests before spike {spike}");
        world.arrive(1_200);
        let seen = patches(&mut world, 20);
        assert!(matches!(seen[..], [(1 | 2, 12)]), "spike {spike}: {seen:?}");
    }
}

#[test]
fn a_first_flood_wakes_a_consumer_that_sleeps() {
    let config = Config { min_replicas: 0, idle_after: 30.0, ..target(5.0) };
    let mut world = World::new(12, config);
    world.run(400, 0);
    assert_eq!(world.spec, 0);
    world.arrive(1_200);
    assert_eq!(patches(&mut world, 10), [(1, 12)]);
}

/// In the shop, two consumers with hardly a message waiting were given three replicas each: a guess of ten
/// messages a second stood against thirty that one replica was doing all the time.
#[test]
fn a_guess_never_adds_replicas_to_a_group_that_keeps_up() {
    let mut world = World::new(3, target(300.0));
    world.rate = 100.0;
    world.run(20, 0);
    for _ in 0..60 {
        world.arrive(33);
        let decision = world.second();
        assert!(!decision.patch, "{}", decision.message);
    }
}
