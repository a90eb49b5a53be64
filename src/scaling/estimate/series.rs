//! Small statistics over time: no clock, bounded size, always finite.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// An exponentially weighted mean rate, weighted by time and not by samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Ewma {
    sum: f64,
    weight: f64,
}

impl Ewma {
    /// Takes in a mean rate that held for `dt` seconds.
    pub fn add(&mut self, rate: f64, dt: f64, tau: f64) {
        let keep = (-dt / tau).exp();
        self.sum = self.sum * keep + rate * (1.0 - keep);
        self.weight = self.weight * keep + (1.0 - keep);
    }

    /// The mean over what was seen, also when that was short. 0 before the first sample.
    pub fn mean(&self) -> f64 {
        if self.weight > 0.0 { self.sum / self.weight } else { 0.0 }
    }

    /// It has seen enough for its span.
    pub fn is_settled(&self) -> bool {
        const ENOUGH: f64 = 0.6;
        self.weight > ENOUGH
    }

    /// The mean as if it had been 0 before the first sample: too low at first, never too high.
    pub fn cautious(&self) -> f64 {
        self.sum
    }
}

/// The largest value of the last `span` seconds, in at most about [`MaxWindow::SLOTS`] entries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct MaxWindow {
    /// (first time, last time, value), values falling.
    entries: VecDeque<(f64, f64, f64)>,
}

impl MaxWindow {
    const SLOTS: f64 = 64.0;

    pub fn push(&mut self, now: f64, value: f64, span: f64) {
        while self.entries.back().is_some_and(|&(_, _, v)| v <= value) {
            self.entries.pop_back();
        }
        match self.entries.back_mut() {
            // A smaller value soon after a larger one prolongs the larger one by a slot at most.
            Some(back) if now - back.0 < span / Self::SLOTS => back.1 = now,
            _ => self.entries.push_back((now, now, value)),
        }
        while self.entries.front().is_some_and(|&(_, last, _)| now - last > span) {
            self.entries.pop_front();
        }
    }

    pub fn max(&self) -> f64 {
        self.max_since(f64::NEG_INFINITY)
    }

    /// The largest value since a moment within the span.
    pub fn max_since(&self, from: f64) -> f64 {
        self.since(from).next().map_or(0.0, |&(_, _, v)| v)
    }

    /// What [`Self::max_since`] will be, and when, if the moment moves with the time and nothing larger than now comes: one
    /// for each time that it falls. `window`: seconds from the moment to now.
    pub fn falls(&self, from: f64, window: f64) -> impl Iterator<Item = (f64, f64)> {
        let leaves = self.since(from).map(move |&(_, last, _)| last + window);
        leaves.zip(self.since(from).skip(1).map(|&(_, _, value)| value))
    }

    fn since(&self, from: f64) -> impl Iterator<Item = &(f64, f64, f64)> {
        self.entries.iter().skip_while(move |&&(_, last, _)| last < from)
    }
}

/// The last few samples of something rare.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Ring {
    values: VecDeque<f64>,
}

impl Ring {
    const SIZE: usize = 31;

    pub fn push(&mut self, value: f64) {
        if self.values.len() == Self::SIZE {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The 90th percentile: of more than two samples never the largest, which may be the one time that a node was missing.
    pub fn p90(&self) -> Option<f64> {
        let n = self.values.len();
        #[allow(clippy::cast_precision_loss)]
        let largest_but_one = (n as f64 - 1.0) / n as f64;
        self.quantile(if n > 2 { largest_but_one.min(0.9) } else { 1.0 })
    }

    /// The value below which a share `q` of the samples lies.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let mut sorted = [0.0; Self::SIZE];
        let n = self.values.len();
        for (slot, &value) in sorted.iter_mut().zip(&self.values) {
            *slot = value;
        }
        sorted[..n].sort_unstable_by(f64::total_cmp);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = (q * n as f64).ceil() as usize;
        sorted[..n].get(index.saturating_sub(1)).copied()
    }
}

/// Durations from 0.1 s to an hour in buckets 25 % apart; old ones fade as new ones come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Durations {
    buckets: Vec<f32>,
    total: f32,
}

impl Durations {
    const BUCKETS: usize = 48;
    const FIRST: f64 = 0.1;
    const STEP: f64 = 1.25;
    /// Above this weight all buckets are halved, so that a changed habit shows after about as many samples.
    const FULL: f32 = 1_000.0;
    /// Fewer samples say nothing about a 95th percentile.
    const ENOUGH: f32 = 3.0;

    pub fn add(&mut self, seconds: f64, weight: f32) {
        // Empty before the first sample, or from a serialised state of another make.
        self.buckets.resize(Self::BUCKETS, 0.0);
        let position = (seconds.max(Self::FIRST) / Self::FIRST).ln() / Self::STEP.ln();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bucket = (position.ceil() as usize).min(Self::BUCKETS - 1);
        self.buckets[bucket] += weight;
        self.total += weight;
        if self.total > Self::FULL {
            self.buckets.iter_mut().for_each(|b| *b *= 0.5);
            self.total *= 0.5;
        }
    }

    /// The 95th percentile, as the upper edge of its bucket (at most 25 % too long). `None`: too few samples.
    pub fn p95(&self) -> Option<f64> {
        if self.total < Self::ENOUGH {
            return None;
        }
        let mut left = self.total * 0.05;
        for (i, count) in self.buckets.iter().enumerate().rev() {
            left -= count;
            if left < 0.0 {
                #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
                return Some(Self::FIRST * Self::STEP.powi(i as i32));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_rate_counts_time_and_not_polls() {
        let (mut often, mut seldom) = (Ewma::default(), Ewma::default());
        for _ in 0..10 {
            often.add(7.0, 1.0, 30.0);
        }
        seldom.add(7.0, 10.0, 30.0);
        assert!((often.mean() - 7.0).abs() < 1e-9 && (often.cautious() - seldom.cautious()).abs() < 1e-9);
    }

    #[test]
    fn a_window_keeps_its_largest_value_for_its_span_and_stays_small() {
        let mut window = MaxWindow::default();
        for t in 0..2_000 {
            window.push(f64::from(t), f64::from(2_000 - t), 180.0);
        }
        assert!((window.max() - 181.0).abs() <= 4.0, "{}", window.max());
        assert!(window.entries.len() <= 70);
        window.push(2_000.0, 500.0, 180.0);
        assert!((window.max() - 500.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_are_taken_from_the_last_samples() {
        let mut ring = Ring::default();
        assert_eq!(ring.quantile(0.9), None);
        (1..=100).for_each(|v| ring.push(f64::from(v)));
        assert_eq!((ring.quantile(0.5), ring.quantile(1.0)), (Some(85.0), Some(100.0)));
    }

    #[test]
    fn a_percentile_of_durations_is_at_most_a_bucket_too_long() {
        let mut gaps = Durations::default();
        assert_eq!(gaps.p95(), None);
        (0..100).for_each(|_| gaps.add(5.0, 1.0));
        gaps.add(400.0, 1.0);
        assert!((5.0..=6.25).contains(&gaps.p95().unwrap()));
    }
}
