//! Each guard is entered, does what it says, and is left again.

use super::super::{
    Bound, Committed, Condition, ConditionKind, Config, DeadLetter, Decision, Group, GroupKind, GroupRead,
    GroupState, Isolation, Lag, OffsetReset, Pod, RabbitMq, Retry, State, decide,
};
use super::world::World;

pub fn named(decision: &Decision, kind: ConditionKind) -> Option<&Condition> {
    decision.conditions.iter().find(|c| c.kind == kind)
}

pub fn has(decision: &Decision, kind: ConditionKind) -> bool {
    named(decision, kind).is_some()
}

/// A world with 12 partitions that has learned 10 messages/s and rests at `replicas`.
pub fn settled(replicas: u32, rate: i64) -> World {
    let mut world = World::new(12, Config { min_replicas: replicas, ..Config::default() });
    world.spec = replicas;
    world.ready = replicas;
    world.run(20, rate);
    world.arrive(i64::from(replicas) * 100);
    world.run(300, rate);
    assert_eq!((world.spec, world.lag() < 2 * rate + 2), (replicas, true), "settles");
    world.config.min_replicas = 1;
    world
}

/// A world that asked for a few more replicas, of which none will ever be ready; and how many there are to be.
pub fn growing_without_end() -> (World, u32) {
    let mut world = settled(3, 20);
    world.start = f64::INFINITY;
    world.arrive(500);
    world.run(3, 20);
    let first = world.spec;
    assert!((4..12).contains(&first), "{first}");
    (world, first)
}

#[test]
fn nothing_known_holds_and_is_left_with_data() {
    let mut world = settled(6, 30);
    world.edit = |seen| seen.kafka = None;
    for _ in 0..2_000 {
        let decision = world.second();
        assert_eq!((decision.replicas, decision.bound), (6, Bound::Unknown));
        assert!(has(&decision, ConditionKind::DataUnknown));
    }
    world.edit = |_| {};
    assert!(!has(&world.second(), ConditionKind::DataUnknown));
}

#[test]
fn nothing_known_for_long_raises_to_what_was_asked_and_never_lowers() {
    let mut world = settled(6, 30);
    world.config.unknown_replicas = Some(8);
    world.edit = |seen| seen.kafka = None;
    assert_eq!(world.run(290, 0).replicas, 6);
    assert_eq!(world.run(20, 0).replicas, 8);
    world.config.unknown_replicas = Some(2);
    assert_eq!(world.run(20, 0).replicas, 8);
}

#[test]
fn a_leader_that_never_knew_anything_raises_to_what_was_asked_too() {
    for (most, raised) in [(None, 8), (Some(5), 5)] {
        let config = Config { unknown_replicas: Some(8), max_replicas: most, ..Config::default() };
        let mut world = World::new(12, config);
        (world.spec, world.ready) = (3, 3);
        world.edit = |seen| seen.kafka = None;
        assert_eq!(world.run(290, 0).replicas, 3);
        let decision = world.run(20, 0);
        assert_eq!(decision.replicas, raised, "{}", decision.message);
        assert!(
            named(&decision, ConditionKind::DataUnknown).unwrap().detail.ends_with("more than 5 minutes")
        );
    }
}

#[test]
fn a_maximum_below_the_count_is_known_whatever_is_not() {
    let mut world = settled(6, 30);
    world.edit = |seen| seen.kafka = None;
    world.config.max_replicas = Some(4);
    assert_eq!(world.run(3, 0).replicas, 4);
}

#[test]
fn part_of_the_data_is_a_lower_bound_that_may_raise_and_never_lowers() {
    let mut world = settled(6, 30);
    world.edit = |seen| {
        let parts = &mut seen.kafka.as_mut().unwrap().partitions;
        parts[3].end = None;
        parts[3].error = Some("leader not available".into());
    };
    let decision = world.run(2_000, 0);
    assert_eq!((decision.replicas, has(&decision, ConditionKind::PartialData)), (6, true));
    world.arrive(3_000);
    world.second();
    assert_eq!(world.second().replicas, 12);
}

#[test]
fn an_unreadable_group_never_lowers() {
    let mut world = settled(6, 30);
    world.edit = |seen| seen.kafka.as_mut().unwrap().group = GroupRead::Unreadable;
    assert_eq!(world.run(2_000, 0).replicas, 6);
}

#[test]
fn a_stuck_partition_is_named_left_out_and_found_again() {
    let mut world = settled(12, 60);
    world.config.min_replicas = 1;
    world.frozen = Some(5);
    let mut seen_stuck = false;
    for _ in 0..400 {
        world.arrive(60);
        let decision = world.second();
        if let Some(condition) = named(&decision, ConditionKind::StuckPartition) {
            seen_stuck = true;
            assert_eq!(condition.partitions.iter().map(|p| &**p).collect::<Vec<_>>(), ["orders/5"]);
            assert!(decision.inputs.backlog.unwrap() < 100.0, "{}", decision.message);
        }
    }
    assert!(seen_stuck);
    world.frozen = None;
    assert!(!has(&world.run(10, 60), ConditionKind::StuckPartition), "it moves again");
}

#[test]
fn a_group_of_which_nothing_moves_is_held() {
    let mut world = settled(6, 30);
    world.rate = 0.0;
    let decision = world.run(400, 30);
    let spec = world.spec;
    assert_eq!((decision.bound, has(&decision, ConditionKind::AllStuck)), (Bound::Stuck, true));
    assert_eq!(world.run(300, 30).replicas, spec);
    world.rate = 10.0;
    assert!(!has(&world.run(20, 30), ConditionKind::AllStuck));
}

#[test]
fn a_partition_that_gets_more_than_one_consumer_can_do_buys_no_replicas() {
    let mut world = settled(6, 30);
    let mut last = None;
    for _ in 0..300 {
        world.arrive(20);
        world.ends[4] += 25;
        last = Some(world.second());
    }
    let decision = last.unwrap();
    let condition = named(&decision, ConditionKind::PartitionBound).expect("named");
    assert_eq!(condition.partitions.iter().map(|p| &**p).collect::<Vec<_>>(), ["orders/4"]);
    assert!(world.lag() > 1_000 && world.spec < 12, "{}", decision.message);
    world.run(300, 20);
    assert!(!has(&world.second(), ConditionKind::PartitionBound), "it cooled down");
}

#[test]
fn a_transaction_marker_is_not_lag() {
    let mut world = settled(1, 0);
    world.config.min_replicas = 0;
    world.config.idle_after = 300.0;
    // A marker ends each partition: the end is one beyond what can be committed.
    world.edit = |seen| {
        for part in &mut seen.kafka.as_mut().unwrap().partitions {
            part.end = part.end.map(|e| e + 1);
            part.hw = part.end;
        }
    };
    world.run(30, 12);
    let decision = world.run(100, 0);
    assert!(has(&decision, ConditionKind::PhantomLag), "{}", decision.message);
    assert_eq!(world.run(400, 0).replicas, 0, "a marker does not keep a replica");
    // At zero, a message beside the marker wakes one.
    world.arrive(1);
    assert_eq!(world.second().replicas, 1);
}

/// A job that takes longer than anything stands, in each partition or in one.
fn long_jobs(messages: i64) -> World {
    let mut world = settled(1, 7);
    world.run(60, 0);
    world.rate = 0.0;
    (world.config.min_replicas, world.config.idle_after) = (0, 60.0);
    world.arrive(messages);
    world
}

#[test]
fn a_message_that_takes_long_is_no_transaction_marker() {
    // Its replica was taken away in the middle of the job, and none came back for it.
    for messages in [1, 12] {
        let mut world = long_jobs(messages);
        for _ in 0..1_500 {
            let decision = world.second();
            assert!(decision.replicas >= 1, "{}", decision.message);
            assert!(!has(&decision, ConditionKind::PhantomLag), "{}", decision.message);
        }
    }
}

#[test]
fn a_new_leader_takes_a_message_that_takes_long_for_no_marker() {
    let mut world = long_jobs(1);
    let learned = world.run(30, 0).status.learned.rounded();
    world.state = State::seeded(&learned);
    for _ in 0..600 {
        let decision = world.second();
        assert!(decision.replicas >= 1, "{}", decision.message);
    }
}

#[test]
fn a_new_leader_at_zero_is_not_woken_by_transaction_markers() {
    let mut world = settled(1, 0);
    world.config.min_replicas = 0;
    world.edit = |seen| {
        for part in &mut seen.kafka.as_mut().unwrap().partitions {
            part.end = part.end.map(|e| e + 1);
            part.hw = part.end;
        }
    };
    world.run(30, 12);
    let learned = world.run(700, 0).status.learned.rounded();
    assert_eq!((world.spec, learned.phantom_lag), (0, Some(12)));
    world.state = State::seeded(&learned);
    let decision = world.run(100, 0);
    assert_eq!(
        (decision.replicas, decision.status.learned.phantom_lag),
        (0, Some(12)),
        "{}",
        decision.message
    );
    // One that came while nobody looked is one more than there were.
    world.state = State::seeded(&learned);
    world.arrive(1);
    assert_eq!(world.second().replicas, 1);
}

#[test]
fn a_commit_beyond_the_last_stable_offset_does_not_make_the_whole_log_lag() {
    let mut world = World::new(12, Config { isolation: Isolation::ReadCommitted, ..Config::default() });
    (world.spec, world.ready) = (3, 3);
    // A transaction is open from offset 200 on; the application reads what is in it all the same.
    world.edit = |seen| {
        for part in &mut seen.kafka.as_mut().unwrap().partitions {
            part.end = part.end.map(|e| e.min(200));
        }
    };
    for _ in 0..300 {
        world.arrive(20);
        let decision = world.second();
        assert!(decision.replicas <= 3, "{}", decision.message);
    }
    assert_eq!(world.second().inputs.lag, Some(0));
    assert!(world.committed[0] > 400);
}

#[test]
fn a_skip_to_the_end_is_no_rate_and_lowers_nothing_at_first() {
    let mut world = settled(6, 30);
    world.arrive(20_000);
    world.run(20, 30);
    assert_eq!(world.spec, 12);
    world.committed.clone_from(&world.ends);
    let mut lowest = 12;
    for _ in 0..170 {
        let decision = world.run(1, 30);
        lowest = lowest.min(decision.replicas);
        assert!(decision.inputs.mu.unwrap() < 35.0, "{}", decision.message);
    }
    assert_eq!(lowest, 12, "not within a stabilization");
    // And what comes next is met by the rate that was known.
    world.scale(6);
    world.run(60, 30);
    world.run(60, 95);
    assert_eq!(world.spec, 12);
}

#[test]
fn retention_makes_no_lag() {
    let mut world = World::new(3, Config::default());
    world.ends = vec![10_000; 3];
    world.committed = vec![100; 3];
    world.rate = 0.0;
    world.edit = |seen| {
        seen.kafka.as_mut().unwrap().partitions.iter_mut().for_each(|p| p.start = Some(9_990));
    };
    assert_eq!(world.run(5, 0).inputs.lag, Some(30));
}

#[test]
fn a_group_without_offsets_begins_where_it_is_told() {
    for (reset, lag) in [(OffsetReset::Earliest, 900), (OffsetReset::Latest, 0)] {
        let mut world = World::new(3, Config { offset_reset: reset, ..Config::default() });
        world.ends = vec![300; 3];
        world.rate = 0.0;
        world.edit = |seen| {
            seen.kafka.as_mut().unwrap().partitions.iter_mut().for_each(|p| p.committed = Committed::None);
        };
        assert_eq!(world.run(3, 0).inputs.lag, Some(lag));
    }
}

#[test]
fn unknown_commits_are_not_zero_lag() {
    let mut world = settled(6, 30);
    world.edit = |seen| {
        seen.kafka.as_mut().unwrap().partitions.iter_mut().for_each(|p| p.committed = Committed::Unknown);
    };
    let decision = world.run(1_000, 0);
    assert_eq!((decision.replicas, decision.inputs.lag), (6, None));
}

#[test]
fn a_broker_replaced_is_not_zero() {
    let mut world = settled(6, 30);
    world.config.min_replicas = 0;
    // Same topic id, empty log: every end is 0.
    world.edit = |seen| {
        for part in &mut seen.kafka.as_mut().unwrap().partitions {
            (part.end, part.hw) = (Some(0), Some(0));
        }
    };
    let decision = world.run(1_500, 0);
    assert_eq!((decision.replicas, decision.bound), (6, Bound::Unknown), "{}", decision.message);
    world.edit = |_| {};
    assert_ne!(world.run(5, 30).bound, Bound::Unknown);
}

#[test]
fn a_recreated_topic_is_a_new_beginning_and_no_reason_to_go_down_at_once() {
    let mut world = settled(6, 30);
    world.config.offset_reset = OffsetReset::Latest;
    world.edit = |seen| {
        for part in &mut seen.kafka.as_mut().unwrap().partitions {
            (part.topic_id, part.end, part.hw) = (Some("y".into()), Some(0), Some(0));
            part.committed = Committed::None;
        }
    };
    assert_eq!(world.run(170, 0).replicas, 6);
    assert!(world.run(2_000, 0).replicas < 6, "after a stabilization it is an ordinary idle topic");
}

#[test]
fn a_topic_that_is_recreated_late_and_whose_leaders_come_a_poll_later_is_one_too() {
    for leaders_late in [0, 1, 3] {
        let mut world = settled(6, 30);
        let before = world.run(900, 30).replicas;
        assert!(before > 1);
        // Nothing arrives any more: fewer would go as soon as that has lasted.
        assert_eq!(world.run(170, 0).replicas, before);
        let next = |world: &mut World, end: Option<i64>| {
            world.arrive(0);
            world.pass(1.0);
            let mut seen = world.observation();
            for part in &mut seen.kafka.as_mut().unwrap().partitions {
                (part.topic_id, part.end, part.hw, part.committed) =
                    (Some("y".into()), end, end, Committed::None);
                part.error = end.is_none().then(|| "LEADER_NOT_AVAILABLE".into());
            }
            let (decision, state) = decide(&world.config, &seen, std::mem::take(&mut world.state));
            world.state = state;
            decision
        };
        for _ in 0..leaders_late {
            assert_eq!(next(&mut world, None).replicas, before);
        }
        for second in 0..179 - leaders_late {
            let decision = next(&mut world, Some(0));
            assert_eq!(decision.replicas, before, "{leaders_late}: {second} s: {}", decision.message);
            assert!(!has(&decision, ConditionKind::DataUnknown), "{leaders_late}: {second} s");
        }
        assert!((0..2_000).map(|_| next(&mut world, Some(0)).replicas).any(|replicas| replicas < before));
    }
}

#[test]
fn a_hanging_transaction_forbids_zero_and_is_named() {
    let mut world = settled(1, 0);
    world.config.min_replicas = 0;
    world.config.isolation = Isolation::ReadCommitted;
    world.edit = |seen| {
        #[allow(clippy::cast_possible_truncation)]
        let t = seen.now as i64;
        seen.kafka.as_mut().unwrap().partitions[0].hw.as_mut().map(|hw| *hw += t).unwrap();
    };
    let decision = world.run(1_000, 0);
    assert_eq!((decision.replicas, has(&decision, ConditionKind::LsoStalled)), (1, true));
    world.edit = |_| {};
    let decision = world.run(700, 0);
    assert_eq!((decision.replicas, has(&decision, ConditionKind::LsoStalled)), (0, false));
}

#[test]
fn pods_that_do_not_become_ready_stop_ups_and_not_downs() {
    let mut world = settled(6, 30);
    world.start = f64::INFINITY;
    world.arrive(1_500);
    world.run(3, 30);
    assert_eq!(world.spec, 12);
    let decision = world.run(120, 30);
    assert!(has(&decision, ConditionKind::PodsNotReady), "{}", decision.message);
    let first = (0..3_000).map(|_| world.run(1, 0)).find(|decision| decision.replicas < 12).unwrap();
    assert!(has(&first, ConditionKind::PodsNotReady), "{}", first.message);
    let down = world.run(3_000, 0);
    assert!(down.replicas < 6);
    assert!(!has(&down, ConditionKind::PodsNotReady));
}

#[test]
fn a_rollout_is_not_pods_that_are_not_ready() {
    let mut world = settled(6, 30);
    world.edit = |seen| (seen.target.updating, seen.target.ready) = (true, Some(seen.target.spec - 1));
    for _ in 0..60 {
        let decision = world.run(1, 30);
        assert!(!has(&decision, ConditionKind::PodsNotReady), "{}", decision.message);
    }
    world.arrive(3_000);
    assert_eq!(world.run(3, 30).replicas, 12);
    // One that stands still is.
    assert!(has(&world.run(600, 30), ConditionKind::PodsNotReady));
}

#[test]
fn pods_of_a_second_scale_up_have_a_cold_start_of_their_own() {
    let (mut world, first) = growing_without_end();
    world.run(25, 20);
    world.arrive(4_000);
    world.run(3, 20);
    assert_eq!(world.spec, 12);
    assert!(!has(&world.run(25, 20), ConditionKind::PodsNotReady), "of {first} it would have been");
    assert!(has(&world.run(30, 20), ConditionKind::PodsNotReady));
}

#[test]
fn a_group_that_does_not_rest_gets_no_more_members() {
    let mut world = settled(3, 20);
    world.edit = |seen| {
        if let GroupRead::Known(group) = &mut seen.kafka.as_mut().unwrap().group {
            group.state = GroupState::PreparingRebalance;
        }
    };
    let decision = world.run(60, 20);
    assert!(has(&decision, ConditionKind::GroupUnstable));
    world.arrive(2_000);
    assert_eq!(world.run(10, 20).replicas, 3);
    world.edit = |_| {};
    assert_eq!(world.run(5, 20).replicas, 12);
}

#[test]
fn an_unknown_group_state_counts_as_rebalancing() {
    let state: GroupState = serde_json::from_str("\"SomethingNew\"").unwrap();
    assert_eq!(state, GroupState::Other);
}

#[test]
fn dead_letters_open_the_breaker_and_a_clean_window_closes_it() {
    static DEAD: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    let add = |n| DEAD.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    let mut world = settled(3, 20);
    world.config.breaker.dead_letter = Some("orders.dlq".into());
    world.edit = |seen| {
        seen.dead_letter = Some(DeadLetter {
            end: Some(DEAD.load(std::sync::atomic::Ordering::Relaxed)),
            ..DeadLetter::default()
        });
    };
    world.run(70, 20);
    for _ in 0..30 {
        add(15);
        world.run(1, 20);
    }
    world.arrive(3_000);
    for _ in 0..30 {
        add(15);
        let decision = world.run(1, 20);
        assert_eq!((decision.replicas, decision.bound), (3, Bound::Breaker));
        assert!(named(&decision, ConditionKind::BreakerOpen).unwrap().detail.contains("orders.dlq"));
    }
    // No more poison: closed by a clean window.
    let closed = world.run(130, 20);
    assert!(closed.replicas > 3, "{}", closed.message);
    assert!(!has(&closed, ConditionKind::BreakerOpen));
}

#[test]
fn a_half_open_breaker_lets_one_size_through_in_each_window() {
    static DEAD: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    let add = |n| DEAD.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    let mut world = settled(3, 20);
    world.edit = |seen| {
        seen.dead_letter = Some(DeadLetter {
            end: Some(DEAD.load(std::sync::atomic::Ordering::Relaxed)),
            ..DeadLetter::default()
        });
    };
    world.run(70, 20);
    for _ in 0..60 {
        add(15);
        world.run(1, 20);
    }
    // From here on between a half of maxRatio and the whole: neither poison nor clean.
    let mut sizes = vec![world.spec];
    let mut changed = Vec::new();
    for second in 0..260 {
        world.arrive(4_000);
        let before: i64 = world.committed.iter().sum();
        let decision = world.run(1, 20);
        add((world.committed.iter().sum::<i64>() - before) * 3 / 20);
        if sizes.last() != Some(&decision.replicas) {
            sizes.push(decision.replicas);
            changed.push(second);
        }
        let open = named(&decision, ConditionKind::BreakerOpen);
        assert!(open.is_some(), "{second} s: {}", decision.message);
    }
    assert!(sizes.starts_with(&[3, 4, 6]), "one size at a time: {sizes:?} at {changed:?}");
    assert!(changed[0] >= 60 && changed[1] - changed[0] >= 60, "a window apart: {changed:?}");
}

#[test]
fn dead_letters_that_cannot_be_counted_do_not_close_the_breaker() {
    static DEAD: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    let add = |n| DEAD.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    let counted = |seen: &mut crate::scaling::Observation| {
        seen.dead_letter = Some(DeadLetter {
            end: Some(DEAD.load(std::sync::atomic::Ordering::Relaxed)),
            ..DeadLetter::default()
        });
    };
    let mut world = settled(3, 20);
    world.edit = counted;
    world.run(70, 20);
    for _ in 0..40 {
        add(15);
        world.run(1, 20);
    }
    world.arrive(3_000);
    // Nobody leads the dead-letter topic: poison goes on, or not.
    world.edit = |seen| seen.dead_letter = Some(DeadLetter { end: None, ..DeadLetter::default() });
    for _ in 0..300 {
        let decision = world.run(1, 20);
        assert_eq!((decision.replicas, decision.bound), (3, Bound::Breaker), "{}", decision.message);
    }
    let blind = world.run(1, 20);
    assert!(named(&blind, ConditionKind::BreakerOpen).unwrap().detail.contains("not known"));
    world.edit = counted;
    assert!(!has(&world.run(130, 20), ConditionKind::BreakerOpen));
}

#[test]
fn what_lay_in_a_dead_letter_topic_that_is_new_to_the_breaker_does_not_open_it() {
    let mut world = settled(3, 20);
    world.edit = |seen| seen.dead_letter = Some(DeadLetter { end: Some(7), of: "a.dlq".into() });
    world.run(70, 20);
    world.edit = |seen| seen.dead_letter = Some(DeadLetter { end: Some(5_007), of: "a.dlq, b.dlq".into() });
    assert!(!has(&world.run(5, 20), ConditionKind::BreakerOpen));
}

#[test]
fn the_breaker_never_keeps_a_consumer_at_zero() {
    let mut world = settled(1, 5);
    world.config.min_replicas = 0;
    world.edit = |seen| {
        #[allow(clippy::cast_possible_truncation)]
        let end = (seen.now * 20.0) as i64;
        seen.dead_letter = Some(DeadLetter { end: Some(end), ..DeadLetter::default() });
    };
    assert!(has(&world.run(100, 5), ConditionKind::BreakerOpen));
    world.scale(0);
    world.arrive(5_000);
    let woken = world.second();
    assert_eq!((woken.replicas, has(&woken, ConditionKind::BreakerOpen)), (1, true), "{}", woken.message);
    assert_eq!(world.run(30, 5).replicas, 1, "and one it is");
}

#[test]
fn a_wake_from_zero_is_bound_by_what_brought_nothing() {
    let mut world = settled(3, 20);
    world.config.min_replicas = 0;
    world.arrive(3_000);
    let mut limit = None;
    for _ in 0..300 {
        world.rate = 30.0 / f64::from(world.ready.max(1));
        if has(&world.run(1, 40), ConditionKind::DownstreamBound) {
            limit = Some(world.spec);
        }
    }
    let limit = limit.expect("bound");
    world.scale(0);
    world.arrive(3_000);
    let woken = world.second();
    assert!(
        has(&woken, ConditionKind::DownstreamBound) && (1..=limit).contains(&woken.replicas),
        "{}",
        woken.message
    );
}

#[test]
fn a_scale_up_that_brings_nothing_is_taken_back_and_tried_again() {
    let mut world = settled(3, 20);
    // However many replicas there are, together they do 30 messages/s.
    let mut bound_at = None;
    world.arrive(3_000);
    for second in 0..300 {
        world.rate = 30.0 / f64::from(world.ready.max(1));
        let decision = world.run(1, 40);
        if has(&decision, ConditionKind::DownstreamBound) {
            bound_at.get_or_insert(second);
        }
    }
    assert!(bound_at.is_some() && world.spec <= 4, "{} replicas", world.spec);
    let mut again = false;
    for _ in 0..700 {
        world.rate = 30.0 / f64::from(world.ready.max(1));
        world.run(1, 40);
        again |= world.spec > 4;
    }
    assert!(again, "tried again after ten minutes");
}

#[test]
fn foreign_members_take_from_the_cap_and_are_named() {
    let mut world = settled(6, 30);
    world.edit = |seen| {
        if let GroupRead::Known(group) = &mut seen.kafka.as_mut().unwrap().group
            && group.members.len() > 2
        {
            group.members[0].pod = Pod::Foreign;
            group.members[1].pod = Pod::Foreign;
        }
    };
    let decision = world.run(5, 30);
    assert!(has(&decision, ConditionKind::ForeignMembers));
    assert_eq!(decision.inputs.cap, Some(10));
    world.edit = |seen| {
        if let GroupRead::Known(group) = &mut seen.kafka.as_mut().unwrap().group {
            group.members.iter_mut().for_each(|m| m.pod = Pod::Unknown);
        }
    };
    let decision = world.run(5, 30);
    assert!(!has(&decision, ConditionKind::ForeignMembers), "unknown is never foreign");
}

#[test]
fn an_application_that_assigns_by_itself_is_told() {
    let mut world = settled(3, 20);
    world.edit = |seen| {
        if let GroupRead::Known(group) = &mut seen.kafka.as_mut().unwrap().group {
            (group.state, group.members) = (GroupState::Empty, Vec::new());
        }
    };
    assert!(has(&world.run(60, 20), ConditionKind::Standalone));
    world.edit = |_| {};
    assert!(!has(&world.run(60, 20), ConditionKind::Standalone));
}

#[test]
fn three_foreign_writes_stop_patches_for_ten_minutes() {
    let mut world = settled(6, 30);
    for replicas in [5, 7, 4] {
        world.scale(replicas);
        world.run(5, 30);
    }
    let spec = world.spec;
    world.arrive(3_000);
    let decision = world.run(5, 30);
    assert_eq!((decision.patch, decision.bound, world.spec), (false, Bound::ScaleConflict, spec));
    assert!(decision.message.contains("not patched"));
    assert!(!has(&world.run(620, 30), ConditionKind::ScaleConflict));
}

#[test]
fn another_scaler_on_the_target_stops_patches_by_name() {
    let mut world = settled(6, 30);
    world.edit = |seen| seen.target.foreign_scaler = Some("hpa/orders".into());
    world.arrive(3_000);
    let decision = world.run(5, 30);
    assert_eq!((decision.patch, world.spec), (false, 6));
    assert!(named(&decision, ConditionKind::ScaleConflict).unwrap().detail.contains("hpa/orders"));
}

#[test]
fn paused_and_dry_run_decide_and_do_not_patch() {
    let mut world = settled(3, 20);
    world.edit = |seen| seen.target.paused = true;
    world.arrive(3_000);
    let decision = world.run(3, 20);
    assert_eq!((decision.replicas, decision.patch, decision.bound), (12, false, Bound::Paused));
    world.edit = |_| {};
    world.config.mode = super::super::Mode::DryRun;
    let decision = world.run(3, 20);
    assert_eq!((decision.replicas, decision.patch), (12, false));
    assert!(decision.message.contains("DryRun"));
}

#[test]
fn retry_topics_forbid_zero_and_unknown_ones_do_too() {
    for lag in [Some(3), None] {
        let mut world = settled(1, 0);
        world.config.min_replicas = 0;
        world.edit = match lag {
            Some(_) => |seen| seen.retry = Some(Retry { lag: Some(3) }),
            None => |seen| seen.retry = Some(Retry { lag: None }),
        };
        assert_eq!(world.run(1_000, 0).replicas, 1);
        world.edit = |seen| seen.retry = Some(Retry { lag: Some(0) });
        assert_eq!(world.run(400, 0).replicas, 0);
    }
}

#[test]
fn what_waits_to_be_tried_again_wakes_a_replica() {
    let mut world = settled(1, 0);
    world.config.min_replicas = 0;
    assert_eq!(world.run(1_000, 0).replicas, 0);
    world.edit = |seen| seen.retry = Some(Retry { lag: Some(5) });
    let decision = world.run(3, 0);
    assert_eq!((decision.replicas, decision.bound), (1, Bound::Lag), "{}", decision.message);
}

#[test]
fn a_message_of_a_long_job_or_a_burst_is_no_hot_partition() {
    let never_hot = |decision: &Decision| {
        assert!(!has(decision, ConditionKind::PartitionBound), "{}", decision.message);
    };
    let mut world = settled(4, 25);
    world.arrive(24_000);
    (0..120).for_each(|_| never_hot(&world.run(1, 25)));
    let config = Config { rate_per_replica: Some(1.0 / 120.0), ..Config::default() };
    let mut world = World::new(12, config);
    world.rate = 1.0 / 120.0;
    for minute in 0..60 {
        world.ends[minute % 12] += i64::from(minute % 4 == 0);
        (0..60).for_each(|_| never_hot(&world.second()));
    }
}

#[test]
fn a_partition_that_gets_too_much_in_batches_is_hot() {
    let mut world = settled(4, 25);
    let mut hot = false;
    for second in 0..400 {
        // Twice what its consumer does.
        world.ends[3] += if second % 60 == 0 { 1_200 } else { 0 };
        hot |= named(&world.run(1, 5), ConditionKind::PartitionBound).is_some();
    }
    assert!(hot);
}

#[test]
fn a_flood_on_one_partition_is_no_reason_for_a_replica_for_each() {
    let mut world = settled(1, 2);
    world.ends[3] += 20_000;
    let mut most = 0;
    for second in 0..300 {
        most = most.max(world.run(1, 2).replicas);
        assert!(second > 30 || most <= 2, "{most}");
    }
    // A consumer here does what waits longest first: what its other partitions get is late after a while, and theirs to do.
    assert!(most <= 4, "{most}");
}

#[test]
fn offsets_about_to_be_forgotten_wake_one_replica() {
    let mut world = settled(1, 0);
    world.config.min_replicas = 0;
    world.edit = |seen| seen.offsets_retention = Some(10_000.0);
    assert_eq!(world.run(700, 0).replicas, 0);
    let (mut woken, mut lasted) = (0, 0);
    for _ in 0..9_000 {
        let before = world.spec;
        let replicas = world.second().replicas;
        woken += u32::from(before == 0 && replicas == 1);
        lasted += u32::from(world.ready == 1 && replicas == 1);
    }
    // It was taken back at the next poll, before it could join the group.
    assert!(woken == 1 && lasted > 200, "{woken}, {lasted} s");
    assert_eq!(world.spec, 0, "it goes again");
}

#[test]
fn a_replica_that_is_woken_for_its_offsets_stays_until_it_is_there() {
    let mut world = settled(1, 0);
    world.config.min_replicas = 0;
    world.config.idle_after = 5.0;
    world.edit = |seen| seen.offsets_retention = Some(10_000.0);
    assert_eq!(world.run(700, 0).replicas, 0);
    world.start = 1_000.0;
    while world.second().replicas == 0 {}
    assert!(has(&world.run(900, 0), ConditionKind::OffsetsExpiring));
    assert_eq!(world.spec, 1, "it takes its time");
    world.run(300, 0);
    assert_eq!(world.spec, 0);
}

#[test]
fn with_each_new_leader_the_wait_for_offsets_to_be_forgotten_began_anew() {
    let mut world = settled(1, 0);
    world.config.min_replicas = 0;
    world.edit = |seen| seen.offsets_retention = Some(10_000.0);
    assert_eq!(world.run(700, 0).replicas, 0);
    world.state = State::default();
    assert_eq!(world.look().replicas, 0);
    world.state = State::default().at_zero_since(world.now - 8_500.0);
    assert_eq!(world.run(2, 0).replicas, 1);
}

#[test]
fn a_target_that_no_spike_can_meet_is_said() {
    let mut world = World::new(12, Config { target_delay: 5.0, ..Config::default() });
    assert!(has(&world.run(3, 0), ConditionKind::TargetInfeasible));
    world.config.target_delay = 60.0;
    assert!(!has(&world.run(3, 0), ConditionKind::TargetInfeasible));
}

#[test]
fn min_above_the_cap_gives_way_and_is_said() {
    let mut world = World::new(3, Config { min_replicas: 8, ..Config::default() });
    let decision = world.run(3, 0);
    assert_eq!((decision.replicas, has(&decision, ConditionKind::MinAboveCap)), (3, true));
    // Partitions were added: the minimum is possible now.
    world.ends.extend([0; 9]);
    world.committed.extend([0; 9]);
    let decision = world.run(3, 0);
    assert_eq!((decision.replicas, has(&decision, ConditionKind::MinAboveCap)), (8, false));
}

#[test]
fn unacknowledged_messages_are_no_reason_for_more_consumers() {
    let mut world =
        World::new(1, Config { max_replicas: Some(20), rate_per_replica: Some(10.0), ..Config::default() });
    world.edit = |seen| {
        seen.kafka = None;
        seen.rabbitmq = Some(RabbitMq {
            kind: "quorum".into(),
            ready: Some(0),
            unacked: Some(5_000),
            ..RabbitMq::default()
        });
    };
    let decision = world.run(10, 0);
    assert_eq!((decision.replicas, decision.bound), (1, Bound::Prefetch));
    world.edit = |seen| {
        seen.kafka = None;
        seen.rabbitmq = Some(RabbitMq {
            kind: "quorum".into(),
            ready: Some(5_000),
            unacked: Some(1_000),
            ..RabbitMq::default()
        });
    };
    let decision = world.run(3, 0);
    assert_eq!((decision.replicas, has(&decision, ConditionKind::PrefetchBound)), (17, false));
}

#[test]
fn a_stream_is_refused_with_a_reason_and_a_single_active_consumer_is_alone() {
    let mut world = World::new(1, Config { max_replicas: Some(20), ..Config::default() });
    world.edit = |seen| {
        seen.kafka = None;
        seen.rabbitmq = Some(RabbitMq { kind: "stream".into(), ready: Some(9_000), ..RabbitMq::default() });
    };
    let refused = world.run(3, 0);
    assert!(has(&refused, ConditionKind::Unsupported));
    assert_eq!((refused.replicas, refused.bound), (1, Bound::Unknown), "{}", refused.message);
    assert_eq!((refused.inputs.lag, &refused.status.lag), (None, &Lag::default()), "{}", refused.message);
    world.edit = |seen| {
        seen.kafka = None;
        seen.rabbitmq = Some(RabbitMq { ready: Some(9_000), single_active: true, ..RabbitMq::default() });
    };
    let decision = world.run(30, 0);
    assert_eq!((decision.replicas, decision.inputs.cap), (1, Some(1)));
}

#[test]
fn a_share_groups_lag_is_not_taken_for_one() {
    let mut world = settled(3, 20);
    world.edit = |seen| {
        let kafka = seen.kafka.as_mut().unwrap();
        kafka.partitions.iter_mut().for_each(|partition| partition.committed = Committed::None);
        kafka.group =
            GroupRead::Known(Group { kind: GroupKind::Other, state: GroupState::Dead, ..Group::default() });
    };
    for _ in 0..300 {
        let refused = world.run(1, 500);
        assert_eq!((refused.replicas, refused.bound), (3, Bound::Unknown), "{}", refused.message);
        assert!(has(&refused, ConditionKind::Unsupported));
        assert_eq!((refused.inputs.lag, &refused.status.lag), (None, &Lag::default()), "{}", refused.message);
    }
}

#[test]
fn what_others_did_wakes_nobody_and_what_waits_does() {
    fn queue(ready: u64, done: u64) -> RabbitMq {
        RabbitMq {
            kind: "quorum".into(),
            ready: Some(ready),
            unacked: Some(0),
            publish: Some(done),
            ack: Some(done),
            ..RabbitMq::default()
        }
    }
    let config = Config { min_replicas: 0, max_replicas: Some(5), ..Config::default() };
    let mut world = World::new(1, config);
    (world.spec, world.ready) = (0, 0);
    world.edit = |seen| (seen.kafka, seen.rabbitmq) = (None, Some(queue(0, 10)));
    assert_eq!(world.run(5, 0).replicas, 0);
    world.edit = |seen| (seen.kafka, seen.rabbitmq) = (None, Some(queue(0, 11)));
    assert_eq!(world.run(5, 0).replicas, 0, "someone else did it");
    world.edit = |seen| (seen.kafka, seen.rabbitmq) = (None, Some(queue(1, 11)));
    assert_eq!(world.run(1, 0).replicas, 1);
}
