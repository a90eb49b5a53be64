//! What guards do after they have been entered: when they try again, and how they are left.

use super::super::{
    Bound, Committed, ConditionKind, Config, GroupRead, GroupState, OffsetReset, Pod, RabbitMq,
};
use super::guards::{has, named, settled};
use super::world::World;

/// Twelve replicas after a slow spell under 30 messages/s, which six would do at the old rate.
fn slowed() -> World {
    let mut world = settled(6, 30);
    world.rate = 4.0;
    world.run(300, 30);
    assert_eq!(world.spec, 12);
    world
}

#[test]
fn replicas_that_were_slow_once_are_tried_one_size_lower_and_stay_there() {
    let mut world = slowed();
    world.rate = 10.0;
    let mut lowered = None;
    for second in 0..3_600 {
        if world.run(1, 30).replicas < 12 {
            lowered.get_or_insert((second, world.spec));
        }
    }
    let (at, to) = lowered.expect("it was probed");
    assert!((200..1_500).contains(&at) && to == 6, "{at} s, {to}");
    assert!(world.spec <= 6);
}

#[test]
fn a_probe_that_fails_gives_back_the_old_size_and_not_twice_as_much() {
    // 52 a second are a need of 6.5: six replicas do it. What four left undone meanwhile made it 12, for six hours.
    let mut world = settled(6, 52);
    let mut counts = vec![world.spec];
    for _ in 0..24_000 {
        let replicas = world.run(1, 52).replicas;
        if counts.last() != Some(&replicas) {
            counts.push(replicas);
        }
    }
    assert!(counts.contains(&4) && counts.iter().all(|&count| count <= 6), "{counts:?}");
}

#[test]
fn a_probe_whose_patch_takes_a_while_is_a_probe_all_the_same() {
    let mut world = slowed();
    (world.rate, world.shows_after) = (10.0, 4.0);
    let mut lowered = None;
    for second in 0..3_600 {
        world.run(1, 30);
        if world.spec < 12 {
            lowered.get_or_insert(second);
        }
        assert!(lowered.is_none() || world.spec <= 6, "taken back after {second} s");
    }
    assert!(lowered.is_some());
}

#[test]
fn a_probe_that_fails_is_taken_back_and_the_next_one_waits_longer() {
    let mut world = slowed();
    let (mut lowered, mut before) = (Vec::new(), 12);
    for second in 0..14_400 {
        let decision = world.run(1, 30);
        if decision.replicas < before {
            assert_eq!(
                decision.bound,
                Bound::Trial,
                "the formula does not ask for fewer: {}",
                decision.message
            );
            lowered.push(second);
        }
        before = decision.replicas;
    }
    assert!((2..=6).contains(&lowered.len()) && world.lag() < 3_000, "{lowered:?}, {} wait", world.lag());
    let waits: Vec<i32> = lowered.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.windows(2).all(|pair| pair[1] > pair[0]), "{lowered:?}");
}

#[test]
fn a_group_without_a_first_commit_is_doubled_once_per_cold_start() {
    let config = Config { cold_start: Some(20.0), rebalance: Some(3.0), ..Config::default() };
    let mut world = World::new(12, config);
    world.rate = 0.0;
    world.run(20, 0);
    world.arrive(200);
    let mut ups = vec![(0, 1)];
    for second in 1..150 {
        let decision = world.second();
        if decision.patch {
            ups.push((second, decision.replicas));
        }
    }
    assert!(ups.len() >= 4, "{ups:?}");
    for pair in ups.windows(2).skip(1) {
        assert!(pair[1].1 >= 2 * pair[0].1 && pair[1].0 - pair[0].0 >= 20, "{ups:?}");
    }
}

#[test]
fn a_group_that_does_not_rest_may_lose_replicas_after_ten_minutes() {
    let mut world = settled(6, 30);
    world.edit = |seen| {
        if let GroupRead::Known(group) = &mut seen.kafka.as_mut().unwrap().group {
            group.state = GroupState::PreparingRebalance;
        }
    };
    assert_eq!(world.run(590, 2).replicas, 6);
    let decision = world.run(900, 2);
    assert!(decision.replicas < 6 && has(&decision, ConditionKind::GroupUnstable), "{}", decision.message);
}

#[test]
fn unacknowledged_messages_keep_the_consumers_that_hold_them() {
    fn queue(unacked: u64) -> RabbitMq {
        RabbitMq { kind: "quorum".into(), ready: Some(0), unacked: Some(unacked), ..RabbitMq::default() }
    }
    let config = Config { max_replicas: Some(20), rate_per_replica: Some(10.0), ..Config::default() };
    let mut world = World::new(1, config);
    (world.spec, world.ready) = (10, 10);
    world.edit = |seen| (seen.kafka, seen.rabbitmq) = (None, Some(queue(5_000)));
    let decision = world.run(2_000, 0);
    assert_eq!((decision.replicas, has(&decision, ConditionKind::PrefetchBound)), (10, true));
    world.edit = |seen| (seen.kafka, seen.rabbitmq) = (None, Some(queue(0)));
    assert!(world.run(2_000, 0).replicas < 10);
}

#[test]
fn what_is_full_downstream_is_tried_again_after_ever_longer_up_to_an_hour() {
    let mut world = settled(3, 20);
    world.arrive(3_000);
    let (mut waits, mut told) = (Vec::new(), Vec::new());
    for _ in 0..12_000 {
        world.rate = 30.0 / f64::from(world.ready.max(1));
        let decision = world.run(1, 40);
        if let Some(held) = named(&decision, ConditionKind::DownstreamBound) {
            told.push(held.detail.clone());
        } else if !told.is_empty() {
            assert!(told[0].ends_with("next try within 10 minutes") || !waits.is_empty(), "{}", told[0]);
            assert!(told[told.len() - 1].ends_with("next try within 10 s"), "{:?}", told.last());
            waits.push(told.drain(..).len());
        }
    }
    assert!(waits.starts_with(&[600, 1_200, 2_400]), "{waits:?}");
    assert!(waits.iter().all(|&wait| wait <= 3_600), "{waits:?}");
}

#[test]
fn replicas_that_get_slow_while_more_start_are_no_full_downstream() {
    let mut world = settled(6, 30);
    // More come for a backlog, and each gets slower before they are ready: the whole does less than before.
    (world.start, world.rate) = (1.0, 10.0);
    world.arrive(6_000);
    let mut named_at = None;
    for second in 0..400 {
        let decision = world.run(1, 90);
        if world.spec == 12 {
            world.rate = 4.0;
        }
        if has(&decision, ConditionKind::DownstreamBound) {
            named_at.get_or_insert(second);
        }
    }
    // Fewer do less still, which shows when they are tried; the next try would come after ten minutes.
    assert!(named_at.is_some_and(|at| at < 60), "{named_at:?}");
    assert_eq!(world.spec, 12, "the limit was none");
    assert!(!has(&world.run(1, 90), ConditionKind::DownstreamBound));
}

/// Six replicas, of which three would do as soon as nothing speaks against it.
pub fn resting() -> World {
    let mut world = settled(6, 30);
    world.config.min_replicas = 6;
    world.run(1_000, 20);
    world.config.min_replicas = 1;
    world
}

#[test]
fn nothing_speaks_against_fewer() {
    assert!(resting().run(5, 20).replicas < 6);
}

#[test]
fn other_code_is_given_a_stabilization_before_a_replica_goes() {
    let mut world = resting();
    world.edit = |seen| seen.target.revision = "b".into();
    assert_eq!(world.run(170, 20).replicas, 6);
    assert!(world.run(300, 20).replicas < 6);
}

#[test]
fn more_partitions_are_a_new_beginning() {
    let mut world = resting();
    world.ends.resize(16, 0);
    world.committed.resize(16, 0);
    let decision = world.run(170, 20);
    assert_eq!((decision.replicas, decision.inputs.cap), (6, Some(16)));
    assert!(world.run(300, 20).replicas < 6);
}

#[test]
fn a_deleted_group_is_a_new_beginning() {
    let mut world = resting();
    world.config.offset_reset = OffsetReset::Latest;
    world.edit = |seen| {
        for part in &mut seen.kafka.as_mut().unwrap().partitions {
            part.committed = Committed::None;
        }
    };
    assert_eq!(world.run(170, 20).replicas, 6);
    assert!(world.run(300, 20).replicas < 6);
}

#[test]
fn consumers_per_replica_are_learned_from_members_of_one_pod() {
    let mut world = World::new(12, Config::default());
    (world.spec, world.ready) = (4, 4);
    world.edit = |seen| {
        if let GroupRead::Known(group) = &mut seen.kafka.as_mut().unwrap().group {
            for (number, member) in group.members.iter_mut().enumerate() {
                member.pod = Pod::Known(format!("orders-{}", number / 2).into());
            }
        }
    };
    let decision = world.run(20, 20);
    assert_eq!(
        (decision.status.learned.consumers_per_replica, decision.inputs.cap),
        (Some(2), Some(6)),
        "{}",
        decision.message
    );
    world.config.consumers_per_replica = Some(3);
    assert_eq!(world.run(1, 20).inputs.cap, Some(4), "what is set outranks it");
}

#[test]
fn static_members_are_not_measured_until_the_session_of_one_that_left_is_over() {
    fn fresh_after(edit: fn(&mut super::super::Observation)) -> u32 {
        let mut world = settled(6, 30);
        world.edit = edit;
        world.run(60, 30);
        world.arrive(20_000);
        world.scale(3);
        world.apply = false;
        (1..200).find(|_| world.run(1, 30).inputs.mu_age.is_some_and(|age| age < 1.0)).unwrap()
    }
    let dynamic = fresh_after(|_| {});
    let fixed = fresh_after(|seen| {
        if let GroupRead::Known(group) = &mut seen.kafka.as_mut().unwrap().group {
            group.members.iter_mut().for_each(|member| member.is_static = true);
        }
    });
    assert!(dynamic < 20 && (45..70).contains(&fixed), "{dynamic} s, {fixed} s");
}

#[test]
fn replicas_that_come_one_step_after_the_other_and_bring_nothing_are_taken_back_together() {
    let mut world = World::new(12, Config::default());
    (world.rate, world.spec, world.ready) = (100.0, 2, 2);
    world.run(300, 150);
    world.shared = 200.0;
    let mut most = 0;
    for _ in 0..600 {
        most = most.max(world.run(1, 240).replicas);
    }
    let decision = world.second();
    assert!(has(&decision, ConditionKind::DownstreamBound), "{}", decision.message);
    assert!(world.spec <= 3, "{most} at most: {}", decision.message);
}

#[test]
fn messages_in_the_hands_of_slow_consumers_are_no_backlog_that_replicas_failed_to_do() {
    let mut world = World::new(12, Config::default());
    (world.rate, world.spec, world.ready) = (0.05, 6, 6);
    for second in 0..1_800 {
        if second % 10 % 4 == 0 {
            world.ends[second / 3 % 12] += 1;
        }
        let decision = world.second();
        assert!(!has(&decision, ConditionKind::DownstreamBound), "{}: {}", world.now, decision.message);
    }
    assert!(world.spec >= 6, "{}", world.spec);
}

#[test]
fn one_pod_that_never_comes_up_does_not_stop_the_others_from_getting_more() {
    let mut world = settled(4, 25);
    // One of four crashes from now on, whoever else comes.
    world.edit = |seen| seen.target.ready = seen.target.ready.map(|ready| ready.saturating_sub(1));
    world.run(120, 25);
    world.arrive(30_000);
    let decision = world.run(60, 25);
    assert!(world.spec > 4, "{}", decision.message);
    // It is said all the same, and said of that one.
    let pods = named(&decision, ConditionKind::PodsNotReady).map(|is| is.detail.clone());
    assert!(pods.as_ref().is_some_and(|pods| pods.starts_with("1 of ")), "{pods:?}: {}", decision.message);
}

#[test]
fn what_other_code_did_is_no_measured_rate_and_a_smaller_size_is_tried_soon() {
    let mut world = World::new(12, Config::default());
    (world.spec, world.ready) = (6, 6);
    world.arrive(6_000);
    world.run(900, 45);
    let before = world.spec;
    // A deploy: three times as fast.
    world.edit = |seen| seen.target.revision = "b".into();
    world.rate = 30.0;
    world.run(2_400, 45);
    assert!(world.spec < before, "{} of {before}", world.spec);
}

#[test]
fn after_a_flood_a_size_that_is_enough_but_for_its_room_is_tried_within_the_hour() {
    // Need 6.5 of 12 partitions: six do it, and from below six is what there would be.
    let mut world = World::new(12, Config::default());
    (world.spec, world.ready) = (6, 6);
    world.run(600, 52);
    assert_eq!(world.spec, 6);
    world.arrive(20_000);
    world.run(60, 52);
    assert_eq!(world.spec, 12);
    world.run(3_600, 52);
    assert_eq!(world.spec, 6);
}

#[test]
fn a_size_that_once_was_enough_is_not_once_its_replicas_are_seen_to_be_slower() {
    let mut world = slowed();
    world.rate = 10.0;
    world.run(3_600, 30);
    assert!(world.spec <= 6, "a trial has held");
    // Each message costs three times as much, without a deploy.
    world.rate = 3.0;
    world.run(900, 30);
    assert_eq!(world.spec, 12);
    let mut fewer = 0;
    for _ in 0..7_200 {
        fewer += u32::from(world.run(1, 30).replicas < 12);
    }
    assert_eq!(fewer, 0);
}

#[test]
fn a_trial_of_a_group_that_commits_every_two_minutes_waits_for_what_it_shows() {
    let mut world = World::new(12, Config::default());
    (world.rate, world.commit) = (100.0, 120.0);
    let mut behind = 0;
    for _ in 0..14_400 {
        let decision = world.run(1, 300);
        let mu = decision.status.learned.rate_per_replica.unwrap_or_default();
        assert!(mu < 120.0, "after {} s: {}", world.now, decision.message);
        // Two commit intervals' worth, and the target delay's.
        behind += u32::from(world.lag() > 300 * (240 + 30));
    }
    assert!(behind < 1_000, "{behind} s");
}

#[test]
fn a_limit_downstream_that_holds_nothing_is_not_why() {
    let mut world = settled(3, 20);
    world.arrive(3_000);
    for _ in 0..600 {
        world.rate = 30.0 / f64::from(world.ready.max(1));
        if has(&world.run(1, 40), ConditionKind::DownstreamBound) {
            break;
        }
    }
    world.rate = 100.0;
    let decision = world.run(120, 1);
    assert!(has(&decision, ConditionKind::DownstreamBound), "{}", decision.message);
    assert!(
        decision.bound != Bound::Downstream && !decision.also.contains(&Bound::Downstream),
        "{}",
        decision.message
    );
}
