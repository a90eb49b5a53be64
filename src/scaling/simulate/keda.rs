//! KEDA's Kafka scaler and the HPA behind it, by their published formula.

use std::collections::VecDeque;

use super::plant::Plant;
use super::scalers::Scaler;

/// Lags per replica that KEDA is tried with.
pub(super) const THRESHOLDS: [f64; 8] = [5.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0];

/// How a `ScaledObject` is written, beside its lag threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Variant {
    /// As it is called in the report.
    pub name: &'static str,
    /// `ensureEvenDistributionOfPartitions`.
    even: bool,
    /// `limitToPartitionsWithLag`.
    lagging: bool,
    /// Seconds of the HPA's downscale stabilization window.
    window: f64,
}

impl Variant {
    /// All defaults.
    pub const PLAIN: Self = Self { name: "", even: false, lagging: false, window: 300.0 };
    /// A queue has no partitions to distribute.
    pub const OF_QUEUES: [Self; 2] = [Self::PLAIN, Self { name: "30 s", window: 30.0, ..Self::PLAIN }];
    pub const OF_TOPICS: [Self; 5] = [
        Self::PLAIN,
        Self { name: "even", even: true, ..Self::PLAIN },
        Self { name: "lagging", lagging: true, ..Self::PLAIN },
        Self { name: "30 s", window: 30.0, ..Self::PLAIN },
        Self { name: "even 30 s", even: true, window: 30.0, ..Self::PLAIN },
    ];
}

/// KEDA with one threshold.
pub(super) struct Keda {
    threshold: f64,
    variant: Variant,
    most: u32,
    least: u32,
    next: f64,
    /// Since when nothing waits.
    idle_since: Option<f64>,
    /// (when, what the metric wanted) of the downscale window.
    wanted: VecDeque<(f64, u32)>,
    /// (when, count) before each change of the last 15 s.
    before: VecDeque<(f64, u32)>,
}

impl Keda {
    /// HPA sync period, and the period of its default scale-up policies.
    const SYNC: f64 = 15.0;
    /// Share by which the metric may be off before the HPA acts.
    const TOLERANCE: f64 = 0.1;
    /// KEDA's `cooldownPeriod`: seconds without lag before it goes to zero.
    const COOLDOWN: f64 = 300.0;

    pub fn new(threshold: f64, variant: Variant, least: u32, most: u32, phase: f64) -> Self {
        Self {
            threshold,
            variant,
            most,
            least,
            next: phase,
            idle_since: None,
            wanted: VecDeque::new(),
            before: VecDeque::new(),
        }
    }

    /// The lag, and what KEDA reports of it. `None`: one partition that cannot be read is an error for all.
    #[allow(clippy::cast_precision_loss)]
    fn metric(&self, plant: &Plant) -> Option<(f64, f64)> {
        if plant.dark || plant.partitions.iter().any(|p| p.leaderless) {
            return None;
        }
        let lags = plant.partitions.iter().map(|p| (p.end - p.committed).max(0) as f64);
        let (total, behind) = lags.fold((0.0, 0.0), |(sum, n), lag| (sum + lag, n + f64::from(lag > 0.0)));
        let partitions = plant.partitions.len();
        let mut reported = total;
        if self.variant.even {
            let factor = (1..=partitions)
                .find(|&f| partitions.is_multiple_of(f) && f as f64 * self.threshold >= total)
                .unwrap_or(partitions);
            reported = factor as f64 * self.threshold;
        }
        let bound = if self.variant.lagging { behind } else { partitions as f64 };
        if (reported / self.threshold).floor() > bound {
            reported = bound * self.threshold;
        }
        Some((total, reported))
    }

    /// What KEDA itself does, the way to zero and back. `None`: it is the HPA's turn.
    fn activation(&mut self, lag: f64, plant: &Plant) -> Option<u32> {
        self.idle_since = if lag > 0.0 { None } else { self.idle_since.or(Some(plant.now)) };
        let idle = self.idle_since.is_some_and(|since| plant.now - since >= Self::COOLDOWN);
        match plant.spec {
            0 => Some(u32::from(lag > 0.0)),
            _ if self.least == 0 && idle => Some(0),
            _ => None,
        }
    }
}

impl Scaler for Keda {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn poll(&mut self, plant: &Plant) -> Option<u32> {
        if plant.now + 1e-6 < self.next {
            return None;
        }
        self.next += Self::SYNC;
        let (now, current) = (plant.now, plant.spec);
        let (lag, metric) = self.metric(plant)?;
        if let Some(count) = self.activation(lag, plant) {
            return (count != current).then_some(count);
        }
        let per_pod = metric / (self.threshold * f64::from(current));
        let wanted = if (per_pod - 1.0).abs() <= Self::TOLERANCE {
            current
        } else {
            (metric / self.threshold).ceil() as u32
        };
        let wanted = wanted.clamp(self.least.max(1), self.most);
        self.wanted.push_back((now, wanted));
        self.wanted.retain(|&(at, _)| now - at <= self.variant.window);
        let stable = self.wanted.iter().map(|&(_, n)| n).max().unwrap_or(wanted);
        let next = if wanted > current {
            self.before.retain(|&(at, _)| now - at < Self::SYNC);
            let start = self.before.front().map_or(current, |&(_, n)| n);
            wanted.min((start + 4).max(start * 2))
        } else {
            stable.min(current)
        };
        if next == current {
            return None;
        }
        self.before.push_back((now, current));
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::ordinary;
    use super::*;

    /// Twelve partitions, of which the first has all the lag.
    fn behind(lag: i64) -> Plant {
        let mut plant = Plant::new(ordinary(), 30.0, 1);
        plant.partitions[0].end = lag;
        plant
    }

    fn reported(variant: usize, lag: i64) -> Option<f64> {
        let keda = Keda::new(100.0, Variant::OF_TOPICS[variant], 1, 12, 0.0);
        keda.metric(&behind(lag)).map(|(_, reported)| reported)
    }

    #[test]
    fn the_metric_is_what_kedas_scaler_reports() {
        for (variant, lag, metric) in [
            (0, 450, 450.0),
            (0, 9_000, 1_200.0),
            // The next number of replicas that divides 12.
            (1, 450, 600.0),
            (1, 650, 1_200.0),
            (1, 0, 100.0),
            // Only one partition has lag.
            (2, 450, 100.0),
            (2, 50, 50.0),
        ] {
            assert_eq!(reported(variant, lag), Some(metric), "{} at {lag}", Variant::OF_TOPICS[variant].name);
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_metric() {
        let mut plant = behind(450);
        plant.partitions[3].leaderless = true;
        let mut keda = Keda::new(100.0, Variant::PLAIN, 1, 12, 0.0);
        assert_eq!(keda.metric(&plant), None);
        assert_eq!(keda.poll(&plant), None);
    }
}
