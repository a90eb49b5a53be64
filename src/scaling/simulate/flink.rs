//! A rate rule like the autoscaler's of the Flink Kubernetes Operator (`JobVertexScaler`, `ScalingMetricEvaluator`):
//! mean arrivals over a window against a replica's rate, kept at a target utilization, with what it takes to catch up.
//!
//! It is told what a replica does, which Flink measures as busy time.

use std::collections::VecDeque;

use super::plant::Plant;
use super::scalers::Scaler;
use super::workload::Workload;

/// `job.autoscaler.*`; seconds and shares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// `utilization.target`.
    target: f64,
    /// `utilization.min` and `utilization.max`: no scaling between them.
    bounds: (f64, f64),
    /// `metrics.window`; full before anything is scaled.
    window: f64,
    /// `stabilization.interval`: no scaling after one.
    stabilization: f64,
    /// `catch-up.duration`.
    catch_up: f64,
    /// `restart.time`.
    restart: f64,
    /// `scale-down.interval`: the largest need of that time counts.
    scale_down: f64,
}

impl Rule {
    /// `scale-down.max-factor`.
    const MOST_DOWN: f64 = 0.6;
    /// `backlog-processing.lag-threshold`, seconds: none goes while more waits.
    const LAG: f64 = 300.0;
    /// Seconds between two looks.
    const POLL: f64 = 5.0;

    /// The defaults of Flink, whose jobs stop for minutes to be rescaled.
    pub const FLINK: Self = Self {
        target: 0.7,
        bounds: (0.4, 1.0),
        window: 900.0,
        stabilization: 300.0,
        catch_up: 1_800.0,
        restart: 300.0,
        scale_down: 3_600.0,
    };

    /// The same rule as it would be set for this workload by one who knows it.
    pub fn fitted(workload: &Workload) -> Self {
        Self {
            window: 30.0,
            stabilization: 30.0,
            catch_up: workload.config.target_delay,
            restart: workload.design.pause,
            scale_down: workload.config.longest_stabilization(),
            ..Self::FLINK
        }
    }
}

/// A running rule.
pub(super) struct Flink {
    rule: Rule,
    least: u32,
    most: u32,
    next: f64,
    /// When it may scale again.
    ready_at: f64,
    /// (when, messages that arrived until then, messages/s of one replica).
    seen: VecDeque<(f64, i64, f64)>,
    /// Since when fewer would do, and the most of them that was wanted.
    fewer: Option<(f64, u32)>,
}

impl Flink {
    pub fn new(rule: Rule, least: u32, most: u32) -> Self {
        let ready_at = rule.window;
        Self { rule, least: least.max(1), most, next: 0.0, ready_at, seen: VecDeque::new(), fewer: None }
    }

    /// Arrivals per second and the rate of a replica, means over the window.
    #[allow(clippy::cast_precision_loss)]
    fn means(&mut self, plant: &Plant) -> Option<(f64, f64)> {
        let end = plant.partitions.iter().map(|p| p.end).sum();
        let rate = plant.pace().0.min(plant.pace().1 / f64::from(plant.spec.max(1)));
        self.seen.push_back((plant.now, end, rate));
        self.seen.retain(|s| plant.now - s.0 <= self.rule.window + 1e-6);
        let first = self.seen.front()?;
        let seconds = plant.now - first.0;
        let arrivals = (end - first.1).max(0) as f64 / seconds;
        let rate = self.seen.iter().map(|s| s.2).sum::<f64>() / self.seen.len() as f64;
        (seconds > 0.0).then_some((arrivals, rate))
    }
}

impl Scaler for Flink {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn poll(&mut self, plant: &Plant) -> Option<u32> {
        if plant.now + 1e-6 < self.next || plant.dark {
            return None;
        }
        self.next = plant.now + Rule::POLL;
        let (arrivals, rate) = self.means(plant)?;
        if plant.now < self.ready_at || rate <= 0.0 {
            return None;
        }
        let rule = self.rule;
        let lag = plant.partitions.iter().map(|p| (p.end - p.committed).max(0)).sum::<i64>() as f64;
        let catching_up = lag / rule.catch_up;
        let current = plant.spec;
        let able = f64::from(current) * rate;
        let least_able = arrivals / rule.bounds.1 + catching_up;
        let most_able = arrivals / rule.bounds.0 + catching_up;
        let backlogged = lag > arrivals * Rule::LAG;
        if able >= least_able && (able <= most_able || backlogged) {
            self.fewer = None;
            return None;
        }
        let target = arrivals / rule.target + catching_up + arrivals * rule.restart / rule.catch_up;
        let factor = (target / able.max(1e-9)).max(1.0 - Rule::MOST_DOWN);
        let wanted = (f64::from(current) * factor).ceil() as u32;
        let wanted = aligned(wanted, plant).clamp(self.least, self.most);
        let wanted = if wanted < current {
            let (since, largest) = self.fewer.unwrap_or((plant.now, wanted));
            self.fewer = Some((since, largest.max(wanted)));
            if plant.now - since < rule.scale_down {
                return None;
            }
            largest.max(wanted)
        } else {
            wanted
        };
        self.fewer = None;
        if wanted == current {
            return None;
        }
        // Metrics of another size do not count.
        self.seen.clear();
        self.ready_at = plant.now + rule.stabilization + rule.window;
        Some(wanted)
    }
}

/// The next number that shares partitions evenly; of a queue, the number itself.
fn aligned(wanted: u32, plant: &Plant) -> u32 {
    let partitions = u32::try_from(plant.partitions.len()).unwrap_or(u32::MAX);
    if plant.design.prefetch.is_some() {
        return wanted;
    }
    (wanted.max(1)..=partitions).find(|&n| partitions.is_multiple_of(n)).unwrap_or(partitions)
}
