//! After data was missing, after a leader was lost, after somebody else scaled: what is decided on too little.

use super::super::{Bound, ConditionKind, Config, Observation, State};
use super::guards::{has, named, settled};
use super::world::World;

/// Twelve replicas under what twelve do, for a while.
fn busy() -> World {
    let mut world = World::new(12, Config::default());
    (world.spec, world.ready) = (12, 12);
    world.run(400, 90);
    assert_eq!(world.spec, 12);
    world
}

fn hide(seen: &mut Observation, partitions: usize) {
    for part in seen.kafka.as_mut().unwrap().partitions.iter_mut().take(partitions) {
        part.error = Some("not leader for partition".into());
    }
}

/// Lets data come back, and expects that no replica goes before it was seen for a while what is needed.
fn nothing_goes(world: &mut World) {
    world.edit = |_| {};
    for _ in 0..120 {
        let decision = world.run(1, 90);
        assert_eq!(decision.replicas, 12, "{}", decision.message);
    }
}

#[test]
fn the_first_whole_look_after_partial_data_lowers_nothing() {
    let mut world = busy();
    world.edit = |seen| hide(seen, 10);
    world.run(300, 90);
    nothing_goes(&mut world);
}

#[test]
fn what_was_needed_while_nobody_looked_is_not_known_either() {
    // Its target could not be read, or its namespace was not allowed, for five minutes in which little came.
    let mut world = busy();
    world.pass(300.0);
    nothing_goes(&mut world);
}

#[test]
fn looks_that_are_always_far_apart_lower_what_is_too_much() {
    let mut world = busy();
    for _ in 0..80 {
        world.arrive(20 * 15);
        world.after(15.0);
    }
    assert!(world.spec < 12, "{}", world.spec);
}

#[test]
fn a_new_leader_whose_broker_was_away_at_first_lowers_nothing_at_the_first_look() {
    let mut world = busy();
    let learned = world.second().status.learned.rounded();
    for state in [State::seeded(&learned), State::default()] {
        world.state = state;
        world.edit = |seen| seen.kafka = None;
        world.run(300, 90);
        nothing_goes(&mut world);
    }
}

#[test]
fn what_is_known_in_part_says_so_by_name_and_in_the_broker_s_words() {
    let mut world = settled(3, 20);
    world.edit = |seen| hide(seen, 1);
    let decision = world.run(1, 20);
    let partial = named(&decision, ConditionKind::PartialData).expect("it is said");
    assert_eq!(partial.partitions.iter().map(|p| &**p).collect::<Vec<_>>(), ["orders/0"]);
    assert!(partial.detail.contains("not leader for partition"), "{}", partial.detail);
    assert!(decision.message.contains("at least"), "{}", decision.message);
    // A flood in what is known asks for more, and that is why there are more.
    world.arrive(50_000);
    let decision = (0..10).map(|_| world.second()).find(|is| is.patch).expect("more");
    assert!(decision.replicas > 3 && decision.bound != Bound::Unknown, "{}", decision.message);
    assert!(decision.also.contains(&Bound::Unknown), "{:?}", decision.also);
}

#[test]
fn replicas_that_somebody_asked_for_ahead_of_time_are_left_for_a_while() {
    let mut world = settled(3, 20);
    world.run(300, 20);
    world.scale(10);
    for _ in 0..150 {
        let decision = world.run(1, 20);
        assert_eq!(decision.replicas, 10, "{}", decision.message);
    }
    world.run(600, 20);
    assert!(world.spec < 10, "and not for ever");
}

#[test]
fn a_partition_that_stands_does_not_make_a_replica_look_slow() {
    // Ten a second are nothing for two: the rest of its member's work was taken for all that it can do.
    let mut world = settled(3, 20);
    (world.spec, world.ready, world.frozen) = (3, 3, Some(0));
    world.run(30, 24);
    for second in 0..600 {
        let decision = world.run(1, 24);
        assert!(decision.replicas <= 4 || second > 110, "{second} s: {}", decision.message);
        assert!(decision.inputs.mu.is_some_and(|mu| mu > 8.0), "{second} s: {}", decision.message);
    }
}

#[test]
fn a_partition_that_stands_beside_ones_that_are_done_is_named_after_a_minute() {
    let mut world = World::new(12, Config::default());
    (world.spec, world.ready) = (4, 4);
    world.run(200, 24);
    world.frozen = Some(0);
    let count = world.spec;
    for second in 0..600 {
        let decision = world.run(1, 24);
        assert!(decision.replicas <= count, "{second} s: {}", decision.message);
        let named = has(&decision, ConditionKind::StuckPartition);
        assert!(named || second < 75, "{second} s: {}", decision.message);
    }
}

#[test]
fn what_stands_is_something_to_do_and_the_wait_for_zero_begins_after_it() {
    let mut world = settled(1, 5);
    (world.config.min_replicas, world.config.idle_after) = (0, 120.0);
    world.rate = 0.0;
    world.arrive(60);
    world.run(600, 0);
    assert_eq!(world.spec, 1);
    world.rate = 100.0;
    let mut at = None;
    for second in 0..300 {
        if world.run(1, 0).replicas == 0 {
            at.get_or_insert(second);
        }
    }
    assert!(at.is_some_and(|at| at >= 119), "{at:?}");
}

#[test]
fn a_new_leader_asks_for_nothing_because_of_a_partition_that_stood_before() {
    let mut world = settled(3, 20);
    world.frozen = Some(0);
    let before = world.run(400, 20);
    assert!(has(&before, ConditionKind::StuckPartition), "{}", before.message);
    let count = world.spec;
    world.state = State::seeded(&before.status.learned.rounded());
    world.state =
        std::mem::take(&mut world.state).with_guard(ConditionKind::StuckPartition, count, world.now);
    // For as long as it takes to tell one that stands from one that was not worked on yet.
    for second in 0..60 {
        let decision = world.run(1, 20);
        assert!(decision.replicas <= count, "{second} s: {}", decision.message);
    }
}

#[test]
fn a_new_leader_keeps_a_breaker_open_until_a_window_was_clean() {
    let mut world = settled(3, 20);
    let learned = world.second().status.learned.rounded();
    let state = State::seeded(&learned).with_guard(ConditionKind::BreakerOpen, 3, world.now);
    world.state = state;
    world.arrive(30_000);
    for second in 0..50 {
        let decision = world.run(1, 20);
        assert_eq!(
            (decision.replicas, decision.bound),
            (3, Bound::Breaker),
            "{second} s: {}",
            decision.message
        );
    }
    world.run(120, 20);
    assert!(world.spec > 3, "and not for ever");
}

#[test]
fn a_new_leader_keeps_the_size_above_which_nothing_was_gained_and_a_conflict() {
    let mut world = settled(3, 20);
    let learned = world.second().status.learned.rounded();
    world.state = State::seeded(&learned).with_guard(ConditionKind::DownstreamBound, 3, world.now);
    world.arrive(30_000);
    let decision = world.run(60, 20);
    assert_eq!((decision.replicas, decision.bound), (3, Bound::Downstream), "{}", decision.message);

    world.state = State::seeded(&learned).with_guard(ConditionKind::ScaleConflict, 3, world.now);
    let decision = world.run(500, 20);
    assert!(has(&decision, ConditionKind::ScaleConflict) && !decision.patch, "{}", decision.message);
    let decision = world.run(120, 20);
    assert!(!has(&decision, ConditionKind::ScaleConflict), "{}", decision.message);
}

#[test]
fn zero_is_for_nothing_to_do_and_not_for_what_arrives() {
    let mut world = settled(1, 7);
    (world.config.min_replicas, world.config.idle_after) = (0, 20.0);
    let decision = (0..120).map(|_| world.second()).find(|is| is.replicas == 0).expect("zero");
    assert_eq!((decision.bound, decision.inputs.need), (Bound::Idle, None), "{}", decision.message);
}
