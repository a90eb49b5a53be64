//! Who decides in a simulation: our `decide`, and what it is compared with.

use std::collections::VecDeque;

use super::super::state::State;
use super::super::{Config, Decision, decide};
use super::plant::Plant;
use super::view::View;

/// Something that scales a plant.
pub(super) trait Scaler {
    /// Looks at the plant, if it is time to. Returns the count it wants written.
    fn poll(&mut self, plant: &Plant) -> Option<u32>;
}

/// Our own decisions, which know nothing of the plant's truth.
pub(super) struct Ours {
    config: Config,
    state: State,
    view: View,
    next: f64,
    /// The last decision.
    pub last: Option<Decision>,
    failed_over: bool,
    /// Every condition that was ever named.
    pub named: std::collections::BTreeSet<&'static str>,
}

impl Ours {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            state: State::default(),
            view: View::default(),
            next: 0.0,
            last: None,
            failed_over: false,
            named: std::collections::BTreeSet::new(),
        }
    }
}

impl Scaler for Ours {
    fn poll(&mut self, plant: &Plant) -> Option<u32> {
        if plant.now + 1e-6 < self.next {
            return None;
        }
        if plant.failed_over && !self.failed_over {
            self.failed_over = true;
            let learned = self.last.as_ref().map(|d| d.status.learned.rounded()).unwrap_or_default();
            self.state = State::seeded(&learned);
        }
        let seen = self.view.look(plant);
        let (decision, state) = decide(&self.config, &seen, std::mem::take(&mut self.state));
        self.state = state;
        self.next = plant.now + decision.next_check;
        self.named.extend(decision.conditions.iter().map(|c| c.kind.as_str()));
        let wanted = decision.patch.then_some(decision.replicas);
        self.last = Some(decision);
        wanted
    }
}

/// KEDA's Kafka scaler and the HPA behind it, by their published formula.
pub(super) struct Keda {
    threshold: f64,
    most: u32,
    least: u32,
    next: f64,
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
    /// Seconds of the downscale stabilization window.
    const WINDOW: f64 = 300.0;

    pub fn new(threshold: f64, least: u32, most: u32, phase: f64) -> Self {
        Self { threshold, most, least, next: phase, wanted: VecDeque::new(), before: VecDeque::new() }
    }
}

impl Scaler for Keda {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn poll(&mut self, plant: &Plant) -> Option<u32> {
        if plant.now + 1e-6 < self.next {
            return None;
        }
        self.next += Self::SYNC;
        let now = plant.now;
        // The lag that KEDA reports is capped at partitions × threshold, so that it never wants more.
        let lag: i64 = plant.partitions.iter().map(|p| p.end - p.committed).sum();
        #[allow(clippy::cast_precision_loss)]
        let metric = (lag as f64).min(self.threshold * plant.partitions.len() as f64);
        let ready = plant.ready().max(1);
        let current = plant.spec;
        let per_pod = metric / (self.threshold * f64::from(ready));
        let wanted = if (per_pod - 1.0).abs() <= Self::TOLERANCE {
            current
        } else {
            (metric / self.threshold).ceil() as u32
        };
        let wanted = wanted.clamp(self.least.max(1), self.most);
        self.wanted.push_back((now, wanted));
        self.wanted.retain(|&(at, _)| now - at <= Self::WINDOW);
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

/// A fixed count.
pub(super) struct Static(pub u32);

impl Scaler for Static {
    fn poll(&mut self, plant: &Plant) -> Option<u32> {
        (plant.spec != self.0).then_some(self.0)
    }
}

/// Knows what will arrive, what a replica does and how long it takes to start.
pub(super) struct Oracle {
    /// The count for each second.
    pub counts: Vec<u32>,
}

impl Oracle {
    /// Seconds over which the oracle keeps a count rather than move partitions.
    const KEEP: usize = 60;

    /// `rate(t)`: messages/s that arrive; `each`: of one replica; `lead`: seconds until a patch helps.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub fn new(
        seconds: usize,
        rate: &dyn Fn(f64) -> f64,
        each: f64,
        partitions: u32,
        lead: f64,
        delay: f64,
        least: u32,
    ) -> Self {
        let classes = |need: f64| -> u32 {
            let k = (f64::from(partitions) / need.max(1e-9)).floor().clamp(1.0, f64::from(partitions)) as u32;
            partitions.div_ceil(k)
        };
        // What must be done per second so that nothing waits longer than the target: the mean over any window
        // of that length that begins or ends here, and enough for ρ = 1.
        let window = (delay.round() as usize).max(1);
        let arrivals: Vec<f64> = (0..seconds + window).map(|t| rate(t as f64)).collect();
        let needs: Vec<u32> = (0..seconds)
            .map(|t| {
                let mean = arrivals[t..t + window].iter().sum::<f64>() / window as f64;
                let back = arrivals[(t + 1).saturating_sub(window)..=t].iter().sum::<f64>() / window as f64;
                classes(mean.max(back) / each).max(least)
            })
            .collect();
        let lead = lead.ceil() as usize;
        let counts = (0..seconds)
            .map(|t| {
                let from = t.saturating_sub(Self::KEEP);
                let to = (t + lead + 1).min(seconds);
                needs[from..to].iter().copied().max().unwrap_or(least)
            })
            .collect();
        Self { counts }
    }
}

impl Scaler for Oracle {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn poll(&mut self, plant: &Plant) -> Option<u32> {
        let wanted = *self.counts.get(plant.now as usize).or(self.counts.last())?;
        (wanted != plant.spec).then_some(wanted)
    }
}
