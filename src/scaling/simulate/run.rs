//! One plant under one workload with one scaler.

use super::measure::{Point, Score};
use super::plant::{Plant, STEP};
use super::scalers::Scaler;
use super::workload::Workload;

/// A finished run.
pub(super) struct Finished {
    pub plant: Plant,
    pub score: Score,
}

/// Runs a workload to its end.
pub(super) fn run(workload: &Workload, scaler: &mut dyn Scaler, seed: u64) -> Finished {
    watch(workload, scaler, seed, |_| {})
}

/// Runs a workload to its end and shows the plant after each second.
pub(super) fn watch(
    workload: &Workload,
    scaler: &mut dyn Scaler,
    seed: u64,
    mut each_second: impl FnMut(&Plant),
) -> Finished {
    let mut plant = Plant::new(workload.design.clone(), workload.config.target_delay, seed);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let steps = (workload.seconds / STEP).round() as u64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let per_second = (1.0 / STEP).round() as u64;
    for step in 0..steps {
        let rate = (workload.rate)(plant.now);
        plant.step(rate);
        if let Some(replicas) = scaler.poll(&plant) {
            plant.scale(replicas);
        }
        if step % per_second == per_second - 1 {
            #[allow(clippy::cast_precision_loss)]
            let lag = plant.waiting() as f64;
            let (at, replicas, ready) = (plant.now, plant.spec, plant.ready());
            plant.meter.trace.push(Point { at, lag, replicas, ready, arrival: rate });
            each_second(&plant);
        }
    }
    let score = plant.meter.score(workload.peak_end);
    Finished { plant, score }
}
