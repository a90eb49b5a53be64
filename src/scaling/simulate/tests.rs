//! What decisions must do to a plant.

mod oracle;
mod shows;

use super::run::{run, watch};
use super::scalers::Ours;
use super::workload::{constant, queue, step};

#[test]
fn constant_load_settles_and_stays() {
    assert_eq!(flips_at_constant_load(1, 2_700.0), [] as [String; 0]);
}

fn flips_at_constant_load(seed: u64, seconds: f64) -> Vec<String> {
    let mut bad = Vec::new();
    for partitions in [1, 3, 5, 7, 12, 24, 64, 100] {
        for share in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95] {
            let workload = constant(partitions, share, 10.0, seconds);
            let mut ours = Ours::new(workload.config.clone());
            let done = run(&workload, &mut ours, seed);
            // A start from nothing goes to half its peak for as long as peaks are remembered.
            let after = done.plant.meter.flips(1_500.0);
            if after > 0 {
                bad.push(format!("{}: {after} flips after settling, {} now", workload.name, done.plant.spec));
            }
        }
    }
    bad
}

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
    assert!(done.score.late < 5.0, "{:?} {wanted:?}", done.score);
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
        assert!(done.score.late < 10.0, "prefetch {prefetch}: {:?} {wanted:?}", done.score);
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
