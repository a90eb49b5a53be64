//! What a guard holds, it holds below the cap, too, where the formula asks for more.

use super::super::{Bound, ConditionKind, Config, Decision};
use super::guards::{growing_without_end, has, named, settled};
use super::world::World;

fn names(decision: &Decision, kind: ConditionKind) -> Vec<&str> {
    named(decision, kind).map_or_else(Vec::new, |c| c.partitions.iter().map(|p| &**p).collect())
}

#[test]
fn pods_that_are_not_ready_get_no_more_beside_them_until_they_are() {
    let (mut world, first) = growing_without_end();
    world.run(60, 20);
    world.arrive(4_000);
    let mut asked = 0;
    for _ in 0..60 {
        let decision = world.run(1, 20);
        assert_eq!((decision.replicas, decision.bound), (first, Bound::PodsNotReady), "{}", decision.message);
        assert!(has(&decision, ConditionKind::PodsNotReady) && !decision.patch);
        asked += u32::from(decision.inputs.class == Some(12));
    }
    assert!(asked > 50, "the formula asked for twelve at {asked} polls");
    world.ready = world.spec;
    let decision = world.run(3, 20);
    assert_eq!(
        (world.spec, has(&decision, ConditionKind::PodsNotReady)),
        (12, false),
        "{}",
        decision.message
    );
}

#[test]
fn a_group_of_which_nothing_moves_gets_no_more_replicas_and_loses_none() {
    let mut world = settled(6, 30);
    world.committed.clone_from(&world.ends);
    world.rate = 0.0;
    world.ends[..6].iter_mut().for_each(|end| *end += 3);
    let decision = world.run(90, 0);
    assert_eq!(
        names(&decision, ConditionKind::AllStuck),
        ["orders/0", "orders/1", "orders/2", "orders/3", "orders/4", "orders/5"]
    );
    // What comes to the others is work that waits for too short a time to be stuck.
    let mut asked = 0;
    for _ in 0..55 {
        world.ends[6..].iter_mut().for_each(|end| *end += 9);
        let decision = world.second();
        assert_eq!((decision.replicas, decision.bound), (6, Bound::Stuck), "{}", decision.message);
        assert!(has(&decision, ConditionKind::AllStuck));
        asked += u32::from(decision.inputs.class == Some(12));
    }
    assert!(asked > 20, "the formula asked for twelve at {asked} polls");
    for _ in 0..2_500 {
        let decision = world.second();
        assert_eq!((decision.replicas, decision.bound), (6, Bound::Stuck), "{}", decision.message);
    }
    world.rate = 10.0;
    let decision = world.run(20, 0);
    assert!(!has(&decision, ConditionKind::AllStuck), "{}", decision.message);
    assert_eq!(world.run(20, 100).replicas, 12, "nothing holds it any more");
}

#[test]
fn a_stuck_partition_counts_in_neither_rate_nor_backlog_and_keeps_its_place_in_the_cap() {
    let mut world = World::new(4, Config::default());
    (world.spec, world.ready) = (4, 4);
    let second = |world: &mut World| {
        for (end, messages) in world.ends.iter_mut().zip([9, 3, 3, 3]) {
            *end += messages;
        }
        world.second()
    };
    world.arrive(400);
    let before = (0..400).map(|_| second(&mut world)).last().unwrap();
    // 18 messages/s at 10 a replica and 80 %.
    assert_eq!((before.inputs.class, before.inputs.cap), (Some(4), Some(4)), "{}", before.message);
    assert!((17.5..18.5).contains(&before.inputs.arrival.unwrap()), "{:?}", before.inputs);

    world.frozen = Some(0);
    let waits = (0..55).map(|_| second(&mut world)).last().unwrap();
    assert!(!has(&waits, ConditionKind::StuckPartition), "not within a minute");
    assert!(waits.inputs.backlog.unwrap() > 400.0 && waits.inputs.arrival.unwrap() > 17.5);

    let stuck = (0..150).map(|_| second(&mut world)).last().unwrap();
    assert_eq!(names(&stuck, ConditionKind::StuckPartition), ["orders/0"]);
    assert!((8.5..9.5).contains(&stuck.inputs.arrival.unwrap()), "{:?}", stuck.inputs);
    assert!(stuck.inputs.backlog.unwrap() < 5.0, "{:?}", stuck.inputs);
    assert_eq!((stuck.inputs.class, stuck.inputs.cap, stuck.status.partitions), (Some(2), Some(4), Some(4)));
    assert!(stuck.inputs.lag.unwrap() > 1_500, "what waits is shown all the same: {:?}", stuck.inputs);

    let fewer = (0..1_500).map(|_| second(&mut world)).last().unwrap();
    assert_eq!((world.spec, fewer.inputs.cap), (2, Some(4)), "{}", fewer.message);
    assert!(has(&fewer, ConditionKind::StuckPartition), "other owners do not make it move");
}

#[test]
fn a_group_that_gets_all_done_between_two_looks_is_known_to_commit_often() {
    let mut world = World::new(2, Config { min_replicas: 2, ..Config::default() });
    (world.spec, world.ready) = (2, 2);
    for _ in 0..30 {
        world.arrive(4);
        let decision = world.second();
        assert_eq!(decision.inputs.lag, Some(0), "nothing is ever seen waiting");
    }
    world.frozen = Some(0);
    let stands = |decision: &Decision| has(decision, ConditionKind::StuckPartition);
    let found = (0..300).find(|_| {
        world.arrive(4);
        stands(&world.second())
    });
    assert!(found.is_some_and(|after| (60..70).contains(&after)), "{found:?}");
}
