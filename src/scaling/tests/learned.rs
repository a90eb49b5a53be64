//! What was learned of how long things take changes what is decided.

use super::super::{ConditionKind, Config, GroupRead, GroupState, Observation};
use super::guards::{has, settled};
use super::world::World;

/// Three replicas that do 30 messages/s and get 20, after a scale-up whose pods took so many seconds.
fn started_in(seconds: f64) -> World {
    let mut world = settled(3, 20);
    world.start = seconds;
    world.arrive(2_000);
    let decision = world.run(300, 20);
    let learned = decision.status.learned.cold_start.unwrap();
    assert!((seconds - 1.0..seconds + 8.0).contains(&learned), "{learned} s");
    world.scale(3);
    world.run(60, 20);
    assert_eq!(world.spec, 3);
    world
}

#[test]
fn who_starts_slowly_gets_more_at_once_for_what_comes_until_they_help() {
    let first = |seconds| {
        let mut world = started_in(seconds);
        (0..10).map(|_| world.run(1, 50)).find(|decision| decision.patch).map(|decision| decision.replicas)
    };
    let (soon, late) = (first(3.0).unwrap(), first(60.0).unwrap());
    assert!(soon <= 6 && late == 12, "{soon} of those that start soon, {late} of those that take a minute");
}

#[test]
fn pods_are_late_by_what_pods_took_before() {
    let after = |seconds| {
        let mut world = started_in(seconds);
        world.start = f64::INFINITY;
        world.arrive(4_000);
        world.run(3, 20);
        assert_eq!(world.spec, 12);
        (3..400).find(|_| has(&world.run(1, 20), ConditionKind::PodsNotReady)).unwrap()
    };
    let (soon, late) = (after(3.0), after(60.0));
    assert!((6..30).contains(&soon) && (118..150).contains(&late), "{soon} s, {late} s");
}

fn rebalancing(seen: &mut Observation) {
    if let GroupRead::Known(group) = &mut seen.kafka.as_mut().unwrap().group {
        group.state = GroupState::PreparingRebalance;
    }
}

/// Six replicas after a rebalance that stopped all work for so many seconds.
fn rebalanced_in(seconds: u32) -> World {
    let mut world = settled(6, 30);
    world.apply = false;
    (world.edit, world.rate) = (rebalancing, 0.0);
    world.run(seconds, 30);
    world.edit = |_| {};
    world.rate = 10.0;
    let decision = world.run(100, 30);
    world.apply = true;
    let (learned, took) = (decision.status.learned.rebalance.unwrap(), f64::from(seconds));
    assert!((took..took + 8.0).contains(&learned), "{learned} s");
    world
}

#[test]
fn a_rebalance_takes_too_long_by_what_they_took_before() {
    let after = |seconds| {
        let mut world = rebalanced_in(seconds);
        world.edit = rebalancing;
        (1..400).find(|_| has(&world.run(1, 20), ConditionKind::GroupUnstable)).unwrap()
    };
    let (soon, late) = (after(5), after(40));
    assert!((30..34).contains(&soon) && (118..140).contains(&late), "{soon} s, {late} s");
}

#[test]
fn the_next_replica_goes_after_ten_rebalances_where_they_are_long() {
    let between = |seconds| {
        let mut world = rebalanced_in(seconds);
        world.config.peak_memory = Some(0.0);
        let downs: Vec<i32> = (0..3_000)
            .filter(|_| {
                let before = world.spec;
                world.run(1, 2).replicas < before
            })
            .take(2)
            .collect();
        downs[1] - downs[0]
    };
    let (short, long) = (between(5), between(40));
    assert!((180..230).contains(&short) && (395..450).contains(&long), "{short} s, {long} s");
}

#[test]
fn a_rebalance_is_over_when_all_members_work_though_they_get_one_partition_done_after_the_other() {
    let mut world = World::new(4, Config::default());
    (world.spec, world.ready, world.blocks, world.apply) = (4, 4, true, false);
    world.run(10, 8);
    // Minutes of work in each partition, and two in each member's hands.
    world.arrive(24_000);
    world.scale(2);
    world.rate = 0.0;
    world.run(5, 8);
    world.rate = 10.0;
    let decision = world.run(60, 8);
    let learned = decision.status.learned.rebalance.unwrap();
    assert!((4.0..8.0).contains(&learned), "{learned} s");
    assert!(!has(&decision, ConditionKind::GroupUnstable), "{}", decision.message);
}

#[test]
fn what_waits_between_two_commits_is_no_backlog_where_it_is_known_how_rare_they_are() {
    let config = Config { target_delay: 10.0, ..Config::default() };
    // One that has always committed each half minute.
    let mut world = World::new(12, Config { min_replicas: 6, ..config.clone() });
    (world.spec, world.ready, world.commit) = (6, 6, 30.0);
    world.arrive(3_000);
    let decision = world.run(1_500, 30);
    let learned = decision.status.learned.commit_gap.unwrap();
    assert!((28.0..38.0).contains(&learned), "{learned} s");
    (world.spec, world.ready) = (6, 6);
    world.run(300, 30);
    let mut most = 0;
    for _ in 0..300 {
        let decision = world.run(1, 30);
        most = most.max(decision.inputs.lag.unwrap());
        assert!(decision.replicas <= 6, "{}", decision.message);
    }
    assert!(most > 800, "a half minute's work waits: {most}");
    // One that committed each second until now.
    let mut world = settled(6, 30);
    world.config = config;
    world.commit = 30.0;
    let decision = world.run(29, 30);
    assert_eq!(world.spec, 12, "{}", decision.message);
}

#[test]
fn what_members_do_during_a_roll_out_is_not_learned() {
    let mut world = settled(6, 30);
    world.apply = false;
    world.arrive(20_000);
    let before = world.run(60, 30).inputs;
    assert!((9.5..10.5).contains(&before.mu.unwrap()) && before.mu_age.unwrap() < 5.0, "{before:?}");
    world.edit = |seen| seen.target.updating = true;
    world.rate = 2.0;
    for _ in 0..60 {
        let inputs = world.run(1, 30).inputs;
        assert!((9.5..10.5).contains(&inputs.mu.unwrap()), "{inputs:?}");
    }
    world.edit = |_| {};
    world.rate = 10.0;
    for _ in 0..30 {
        let inputs = world.run(1, 30).inputs;
        assert!((9.5..10.5).contains(&inputs.mu.unwrap()), "{inputs:?}");
    }
    assert!(world.run(1, 30).inputs.mu_age.unwrap() < 5.0, "measured again");
}
