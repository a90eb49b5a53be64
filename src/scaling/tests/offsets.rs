//! Offsets that cannot be, and records that cannot be seen yet.

use super::super::{Bound, Committed, ConditionKind, Config, Decision, Isolation, Observation};
use super::guards::{has, named, settled};
use super::ways_out::resting;
use super::world::World;

/// Six replicas that stand still with something on each partition.
fn standing() -> World {
    let mut world = settled(6, 30);
    (world.rate, world.apply) = (0.0, false);
    world.arrive(240);
    world
}

fn one_end_fell(seen: &mut Observation) {
    let part = &mut seen.kafka.as_mut().unwrap().partitions[5];
    (part.end, part.hw) = (Some(3), Some(3));
}

fn partial(decision: &Decision) -> (bool, bool) {
    (has(decision, ConditionKind::PartialData), decision.bound == Bound::Unknown)
}

#[test]
fn an_end_that_fell_is_taken_for_the_last_one_twice_and_is_unknown_then_until_it_is_back() {
    let mut world = standing();
    let before = world.second().inputs.lag.unwrap();
    let there = u64::try_from(world.ends[5] - world.committed[5]).unwrap();
    assert!(there >= 20, "{there}");
    world.edit = one_end_fell;
    for poll in 1..=2 {
        let decision = world.second();
        assert_eq!((decision.inputs.lag, partial(&decision)), (Some(before), (false, false)), "poll {poll}");
    }
    for poll in 3..=10 {
        let decision = world.second();
        assert_eq!(
            (decision.inputs.lag, partial(&decision)),
            (Some(before - there), (true, true)),
            "poll {poll}"
        );
        assert!(decision.replicas >= 6, "{}", decision.message);
    }
    world.edit = |_| {};
    let decision = world.second();
    assert_eq!((decision.inputs.lag, partial(&decision)), (Some(before), (false, false)));
}

#[test]
fn nothing_is_known_from_the_third_poll_on_after_all_ends_fell() {
    let mut world = standing();
    let before = world.second().inputs.lag;
    world.edit = |seen| {
        for part in &mut seen.kafka.as_mut().unwrap().partitions {
            (part.end, part.hw) = (Some(0), Some(0));
        }
    };
    let lags: Vec<_> = (0..4).map(|_| world.second().inputs.lag).collect();
    assert_eq!(lags, [before, before, None, None]);
}

#[test]
fn a_log_that_lives_on_below_its_last_end_is_believed_and_is_a_new_beginning() {
    let mut world = resting();
    world.config.min_replicas = 6;
    // A message each second from an end on that is far below the last one.
    world.edit = |seen| {
        #[allow(clippy::cast_possible_truncation)]
        let end = seen.now as i64;
        let part = &mut seen.kafka.as_mut().unwrap().partitions[5];
        (part.end, part.hw, part.committed) = (Some(end), Some(end), Committed::At(end - 2));
    };
    assert!(world.ends[5] > 1_500, "{}", world.ends[5]);
    let polls: Vec<_> = (0..4).map(|_| partial(&world.run(1, 20))).collect();
    assert_eq!(polls, [(false, false), (false, false), (true, true), (false, false)]);
    world.config.min_replicas = 1;
    let others: i64 = (0..12).filter(|&p| p != 5).map(|p| world.ends[p] - world.committed[p]).sum();
    let lag = world.look().inputs.lag;
    assert_eq!(lag, u64::try_from(others + 2).ok());
    assert_eq!(world.run(170, 20).replicas, 6, "no replica goes for a stabilization");
    assert!(world.run(300, 20).replicas < 6);
}

#[test]
fn an_end_that_stands_below_the_last_one_is_believed_after_an_hour() {
    let mut world = settled(6, 30);
    world.edit = one_end_fell;
    assert_eq!(partial(&world.run(3_590, 30)), (true, true));
    assert_eq!(partial(&world.run(20, 30)), (false, false));
}

/// The high watermark of one partition goes on by 20 messages each second; its last stable offset stands.
fn hanging(seen: &mut Observation) {
    #[allow(clippy::cast_possible_truncation)]
    let more = 20 * seen.now as i64;
    seen.kafka.as_mut().unwrap().partitions[0].hw.as_mut().map(|hw| *hw += more).unwrap();
}

fn idle(isolation: Isolation) -> World {
    let mut world = settled(1, 0);
    (world.config.min_replicas, world.config.idle_after, world.config.isolation) = (0, 20.0, isolation);
    world
}

#[test]
fn a_transaction_is_called_hanging_after_a_minute_by_its_partition_and_no_longer_than_it_hangs() {
    let mut world = idle(Isolation::ReadCommitted);
    world.ends[0] += 1;
    world.run(1, 0);
    world.edit = hanging;
    let stalled = |d: &Decision| {
        let named = named(d, ConditionKind::LsoStalled)?;
        Some(named.partitions.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    for second in 1..=58 {
        let decision = world.run(1, 0);
        assert_eq!((decision.replicas, stalled(&decision)), (1, None), "{second} s");
    }
    world.run(3, 0);
    for _ in 0..500 {
        let decision = world.run(1, 0);
        assert_eq!((decision.replicas, decision.inputs.lag), (1, Some(0)), "{}", decision.message);
        assert_eq!(stalled(&decision), Some(vec!["orders/0".to_owned()]));
    }
    // It ends: all of it can be seen at once, and is work.
    world.edit = |_| {};
    world.ends[0] += 10_000;
    let decision = world.second();
    assert_eq!((stalled(&decision), decision.replicas), (None, 1), "{}", decision.message);
    assert!(decision.inputs.lag.unwrap() > 9_000);
    while world.lag() > 0 {
        world.run(1, 0);
    }
    assert_eq!(world.run(700, 0).replicas, 0);
}

#[test]
fn a_stable_offset_that_keeps_moving_behind_the_high_watermark_is_no_hanging_transaction() {
    let mut world = settled(3, 20);
    world.config.isolation = Isolation::ReadCommitted;
    world.edit = |seen| {
        seen.kafka.as_mut().unwrap().partitions.iter_mut().for_each(|p| p.hw = p.hw.map(|hw| hw + 5));
    };
    for _ in 0..300 {
        assert!(!has(&world.run(1, 20), ConditionKind::LsoStalled));
    }
}

#[test]
fn records_that_cannot_be_seen_yet_keep_a_replica_also_where_nothing_is_called_hanging() {
    let mut world = idle(Isolation::ReadCommitted);
    world.config.stabilization = Some(5.0);
    world.edit = |seen| {
        seen.kafka.as_mut().unwrap().partitions[0].hw.as_mut().map(|hw| *hw += 5).unwrap();
    };
    // They are as old as what is done: the high watermark has not gone on since.
    world.ends[0] += 1;
    for second in 1..=200 {
        let decision = world.run(1, 0);
        assert_eq!((decision.replicas, has(&decision, ConditionKind::LsoStalled)), (1, false), "{second} s");
    }
    world.edit = |_| {};
    assert_eq!(world.run(25, 0).replicas, 0, "they were rolled back");
}

#[test]
fn who_reads_open_transactions_has_their_records_for_work_and_none_that_hangs() {
    // The end is the high watermark then.
    let mut world = idle(Isolation::ReadUncommitted);
    world.rate = 50.0;
    for _ in 0..200 {
        world.ends[0] += 20;
        let decision = world.second();
        assert!(!has(&decision, ConditionKind::LsoStalled), "{}", decision.message);
    }
    let decision = world.second();
    assert!((18.0..22.0).contains(&decision.inputs.arrival.unwrap()), "{:?}", decision.inputs);
    // And the same log as one who reads committed records sees it.
    let mut world = settled(1, 0);
    world.config = Config { isolation: Isolation::ReadUncommitted, ..world.config };
    world.edit = hanging;
    assert!(!has(&world.run(200, 0), ConditionKind::LsoStalled));
    world.config.isolation = Isolation::ReadCommitted;
    let decision = world.run(200, 0);
    assert!(has(&decision, ConditionKind::LsoStalled));
    assert_eq!(decision.inputs.lag, Some(0), "{}", decision.message);
}
