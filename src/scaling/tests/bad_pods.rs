//! One pod of many that is not ready, or comes and goes: the others work, and are measured, all the same.

use super::super::{ConditionKind, Config, Observation};
use super::guards::{has, settled};
use super::world::World;

fn one_is_not_ready(seen: &mut Observation) {
    seen.target.ready = Some(seen.target.spec.saturating_sub(1));
}

/// Five seconds of each minute.
fn one_flickers(seen: &mut Observation) {
    if seen.now % 60.0 < 5.0 {
        one_is_not_ready(seen);
    }
}

#[test]
fn a_partition_that_stands_is_named_although_a_pod_is_not_ready() {
    for bad in [one_is_not_ready, one_flickers] {
        let mut world = settled(4, 25);
        (world.edit, world.frozen) = (bad, Some(0));
        let mut most = 0;
        let named = (0..600).any(|_| {
            let decision = world.run(1, 25);
            most = most.max(decision.replicas);
            has(&decision, ConditionKind::StuckPartition)
        });
        assert!(named && most <= 6, "{most}");
    }
}

#[test]
fn consumers_that_get_slower_are_measured_although_a_pod_is_not_ready() {
    for bad in [one_is_not_ready, one_flickers] {
        let mut world = settled(4, 25);
        (world.edit, world.rate) = (bad, 4.0);
        world.run(60, 25);
        let decision = world.run(60, 25);
        let mu = decision.inputs.mu.expect("a rate");
        assert!((3.0..5.0).contains(&mu), "{}", decision.message);
    }
}

#[test]
fn fewer_are_tried_although_a_pod_flickers() {
    let mut world = settled(6, 30);
    world.rate = 4.0;
    world.run(300, 30);
    assert_eq!(world.spec, 12);
    (world.rate, world.edit) = (10.0, one_flickers);
    world.run(3_600, 30);
    assert!(world.spec <= 6, "{}", world.spec);
}

#[test]
fn a_first_guess_is_doubted_although_a_pod_is_restarted_every_few_minutes() {
    let mut world = World::new(12, Config::default());
    world.rate = 100.0;
    world.arrive(3_000);
    for second in 0..7_200 {
        // A restart: a member goes, and comes back.
        let restarts = second % 300 < 10 && world.spec > 1;
        world.ready = if restarts { world.spec - 1 } else { world.spec };
        world.run(1, 300);
    }
    assert!(world.spec <= 6, "{}", world.spec);
}
