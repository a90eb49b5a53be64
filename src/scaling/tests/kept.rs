//! How soon replicas go that are not needed any more, and that nobody waits for it if they are.

use std::collections::VecDeque;

use super::super::Config;
use super::world::World;

/// What one replica does, messages/s, is 10: this keeps eight busy.
const PEAK: i64 = 80;

fn world(start: f64, target_delay: f64) -> World {
    let mut world = World::new(12, Config { target_delay, ..Config::default() });
    world.start = start;
    world.run(120, 5);
    world
}

/// A peak of some minutes. Returns the longest that a message waited.
fn peak(world: &mut World, seconds: u32) -> f64 {
    let (mut sent, mut worst) = (VecDeque::new(), 0.0f64);
    let mut end: i64 = world.ends.iter().sum();
    for second in 0..seconds {
        world.arrive(PEAK);
        end += PEAK;
        sent.push_back((world.now, end));
        world.second();
        let done: i64 = world.committed.iter().sum();
        while let Some(&(at, upto)) = sent.front() {
            if upto > done {
                worst = worst.max(world.now - at);
                break;
            }
            sent.pop_front();
        }
        assert!(second < 60 || world.ready >= 6 || world.start > 50.0, "{} at {second}", world.ready);
    }
    worst
}

/// Seconds until fewer replicas are asked for, and for how many.
fn goes(world: &mut World) -> (u32, u32) {
    let before = world.spec;
    let after = (1..=1_200).find(|_| {
        world.run(1, 5);
        world.spec < before
    });
    (after.expect("none goes"), world.spec)
}

#[test]
fn replicas_that_would_be_back_in_time_go_soon_and_all_at_once() {
    let mut world = world(5.0, 30.0);
    peak(&mut world, 300);
    assert_eq!(world.spec, 12);
    let (seconds, left) = goes(&mut world);
    assert!((45..=90).contains(&seconds) && left <= 6, "{left} left after {seconds} s");
    // What arrived is a mean of half a minute, which fades.
    world.run(180 - seconds, 5);
    assert_eq!(world.spec, 1, "three minutes after the peak");
}

#[test]
fn replicas_that_would_be_back_too_late_go_by_halves_and_half_of_the_peak_stays() {
    let mut world = world(70.0, 10.0);
    peak(&mut world, 600);
    assert_eq!(world.spec, 12);
    let (seconds, left) = goes(&mut world);
    assert!(seconds >= 170 && left == 6, "{left} left after {seconds} s");
    world.run(400, 5);
    assert_eq!(world.spec, 6, "within a quarter of an hour");
    world.run(900, 5);
    assert_eq!(world.spec, 1);
}

#[test]
fn a_peak_that_comes_back_after_replicas_went_makes_no_message_late() {
    for (start, target_delay) in
        [(3.0, 10.0), (5.0, 30.0), (20.0, 30.0), (35.0, 30.0), (50.0, 30.0), (8.0, 5.0)]
    {
        for pause in [60, 150, 400, 800] {
            let mut world = world(start, target_delay);
            peak(&mut world, 400);
            world.run(pause, 5);
            let left = world.spec;
            let waited = peak(&mut world, 300);
            assert!(
                waited <= target_delay + 1.0,
                "{waited} s of {target_delay}, with {left} left after {pause} s, who are back in {start}"
            );
        }
    }
}

#[test]
fn a_load_that_swings_keeps_its_replicas_after_the_first_swing() {
    let mut world = world(5.0, 30.0);
    let mut changes = 0;
    for _ in 0..15 {
        for rate in [80, 5] {
            for _ in 0..90 {
                let before = world.spec;
                world.run(1, rate);
                changes += u32::from(world.spec != before);
            }
        }
    }
    assert!(changes <= 5, "{changes} changes in fifteen swings of three minutes");
}

#[test]
fn when_fewer_come_is_told_with_what_holds_them_beyond_the_need() {
    // An operator that has just begun lowers nothing for three minutes.
    let mut fresh = World::new(12, Config::default());
    (fresh.spec, fresh.ready) = (12, 12);
    fresh.arrive(600);
    let told = (0..170).map(|_| fresh.run(1, 5)).find(|told| told.message.contains("fewer after"));
    let told = told.expect("what it waits for").message;
    assert!(told.contains("(fewer after 180 s of a lower need, and not for "), "{told}");
    let mut world = world(5.0, 30.0);
    peak(&mut world, 300);
    let told = (0..60).map(|_| world.run(1, 5)).find(|told| told.message.contains("fewer after"));
    let told = told.expect("what it waits for").message;
    assert!(told.contains("(fewer after 45 s of a lower need)"), "{told}");
}

#[test]
fn who_asks_for_more_by_hand_keeps_them_for_three_minutes() {
    let mut world = world(5.0, 30.0);
    peak(&mut world, 200);
    goes(&mut world);
    world.run(300, 5);
    world.scale(9);
    world.run(170, 5);
    assert_eq!(world.spec, 9);
    world.run(60, 5);
    assert!(world.spec < 9);
}
