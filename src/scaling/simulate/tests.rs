//! What decisions must do to a plant.

mod oracle;
mod shows;

use super::super::Bound;
use super::run::{run, watch};
use super::scalers::Ours;
use super::workload::{queue, step};

#[test]
fn a_step_is_met_and_left_again() {
    let workload = step(5.0);
    let mut ours = Ours::new(workload.config.clone());
    let mut wanted = Vec::new();
    let done = watch(&workload, &mut ours, 1, |plant| {
        if wanted.last().is_none_or(|&(_, n)| n != plant.spec) {
            wanted.push((plant.now.round(), plant.spec));
        }
    });
    assert!(done.score.late < 0.1 && done.score.p99 < 10.0, "{:?} {wanted:?}", done.score);
    // Half of the peak is kept for as long as peaks are remembered.
    assert!(done.plant.spec <= 6, "{wanted:?}");
}

#[test]
fn a_step_on_a_queue_is_met_and_left_again_whatever_the_prefetch() {
    for prefetch in [1, 20, 1_000] {
        let workload =
            queue("step", prefetch, 2_700.0, |t| if (600.0..1_200.0).contains(&t) { 900.0 } else { 50.0 });
        let mut ours = Ours::new(workload.config.clone());
        let mut wanted = Vec::new();
        let done = watch(&workload, &mut ours, 1, |plant| {
            if wanted.last().is_none_or(|&(_, n)| n != plant.spec) {
                wanted.push((plant.now.round(), plant.spec));
            }
        });
        assert!(
            done.score.late < 0.1 && done.score.p99 < 15.0,
            "prefetch {prefetch}: {:?} {wanted:?}",
            done.score
        );
        assert!(done.plant.spec <= 2, "prefetch {prefetch}: {wanted:?}");
    }
}

#[test]
fn constant_load_on_a_queue_settles_and_stays() {
    for (prefetch, rate) in [(1, 80.0), (20, 450.0), (1_000, 450.0)] {
        let workload = queue("constant", prefetch, 2_700.0, move |_| rate);
        let mut ours = Ours::new(workload.config.clone());
        let done = run(&workload, &mut ours, 1);
        assert_eq!(done.plant.meter.flips(1_500.0), 0, "prefetch {prefetch}, {rate}/s");
    }
}

/// Counts of replicas over a workload of that name: (when, count).
fn counts(name: &str, seed: u64) -> Vec<(f64, u32)> {
    let workload = super::workload::all().into_iter().find(|w| w.name == name).unwrap();
    let mut counts: Vec<(f64, u32)> = Vec::new();
    watch(&workload, &mut Ours::new(workload.config.clone()), seed, |plant| {
        if counts.last().is_none_or(|&(_, n)| n != plant.spec) {
            counts.push((plant.now, plant.spec));
        }
    });
    counts
}

fn ups_between(counts: &[(f64, u32)], from: f64, to: f64) -> usize {
    counts.windows(2).filter(|w| w[1].1 > w[0].1 && (from..to).contains(&w[1].0)).count()
}

#[test]
fn twelve_replicas_do_not_run_for_a_need_of_six_and_a_bit() {
    let counts = counts("constant P=12 0.40", 1);
    assert_eq!(counts.last().map(|c| c.1), Some(6), "{counts:?}");
}

#[test]
fn a_size_that_was_too_small_beside_a_hot_partition_is_not_tried_every_few_minutes() {
    // It was 12, 6, 12, 6, … every 350 s.
    for seed in 1..=3 {
        let counts = counts("zipf skew", seed);
        assert!(ups_between(&counts, 700.0, 3_600.0) <= 3, "{counts:?}");
    }
}

#[test]
fn partitions_of_a_static_member_that_left_are_no_backlog() {
    // They wait for its session to end, 45 s: more replicas came, and went again, each three minutes.
    for seed in 1..=3 {
        let counts = counts("step static members", seed);
        assert_eq!(ups_between(&counts, 1_200.0, 1_800.0), 0, "{counts:?}");
    }
}

#[test]
fn a_stuck_partition_asks_for_nothing_when_it_gets_a_new_owner() {
    // It counted as backlog until it was found to be stuck again: 6, 12, 6, 12.
    for seed in 1..=3 {
        let counts = counts("stuck partition", seed);
        assert_eq!(ups_between(&counts, 1_210.0, 2_700.0), 0, "{counts:?}");
    }
}

#[test]
fn a_sudden_slow_spell_is_no_full_downstream() {
    // The work of before the spell was compared with that after it: a quarter of all messages were late.
    let workload = super::workload::all().into_iter().find(|w| w.name == "slow-down 0.4x").unwrap();
    for seed in 0..8 {
        let mut ours = Ours::new(workload.config.clone());
        let done = run(&workload, &mut ours, seed);
        assert!(done.score.late < 1.0, "seed {seed}: {:?} {:?}", done.score, ours.named);
    }
}

#[test]
fn a_size_that_is_kept_because_fewer_did_not_do_says_so() {
    let workload = super::workload::all().into_iter().find(|w| w.name == "zipf skew").unwrap();
    let mut ours = Ours::new(workload.config.clone());
    run(&workload, &mut ours, 2);
    let last = ours.last.unwrap();
    assert!(last.replicas == 12 && last.inputs.class == Some(6), "{}", last.message);
    assert!(
        last.bound == Bound::TooFew || last.also.contains(&Bound::TooFew),
        "{:?} {:?}",
        last.bound,
        last.also
    );
}
