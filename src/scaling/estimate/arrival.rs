//! The arrival rate, λ: one slow mean, and one that reacts within two polls.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Told;
use super::series::Ewma;

/// Seconds of the slow mean: long enough to smooth Poisson arrivals, short enough to follow a ramp.
pub(in crate::scaling) const SLOW: f64 = 30.0;
/// Polls of which the raw rates are kept.
const RECENT: usize = 8;
/// The largest polls among them that are set aside when asking what normally arrives.
const BURSTS: usize = 2;

/// Messages of one replica that a lasting mean spans, at least: fewer are chance, and one more or less is a replica.
const SPANNED: f64 = 4.0;

/// A mean rate over some seconds, of polls that may see only some of what arrives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    now: Ewma,
    /// As of when all arrivals were known last, where polls see only some of them.
    known: Option<Ewma>,
}

impl Mean {
    fn add(&mut self, messages: f64, dt: f64, told: Told, tau: f64) {
        match told {
            Told::All => {
                self.now.add(messages / dt, dt, tau);
                self.known = None;
            }
            Told::AtLeast => {
                // What nobody has seen yet is taken to be as before.
                let known = *self.known.get_or_insert(self.now);
                self.now.add((messages / dt).max(known.cautious()), dt, tau);
            }
            Told::Settled(messages, seconds) => {
                self.now = self.known.unwrap_or(self.now);
                self.now.add(messages / seconds, seconds, tau);
                self.known = Some(self.now);
            }
        }
    }
}

/// λ of a whole Consumer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Arrival {
    slow: Mean,
    /// The same over as long as [`SPANNED`] messages take a replica, where that is longer; then also its span.
    #[serde(default)]
    slower: Option<(Mean, f64)>,
    /// (messages, seconds) of the last polls, newest last.
    recent: VecDeque<(f64, f64)>,
    /// (messages, seconds) of the last two times that counters told all.
    settled: VecDeque<(f64, f64)>,
}

impl Arrival {
    /// Takes in what was seen to arrive during `dt` seconds, and what that tells.
    pub fn add(&mut self, messages: f64, dt: f64, told: Told) {
        if !(messages.is_finite() && messages >= 0.0 && dt > 0.0) {
            return;
        }
        self.slow.add(messages, dt, told, SLOW);
        if let Some((slower, tau)) = &mut self.slower {
            slower.add(messages, dt, told, *tau);
        }
        match told {
            Told::All => self.settled.clear(),
            Told::AtLeast => {}
            Told::Settled(messages, seconds) => {
                if self.settled.len() == 2 {
                    self.settled.pop_front();
                }
                self.settled.push_back((messages, seconds));
            }
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((messages, dt));
    }

    /// A replica does `mu` messages/s, and a message may wait for `delay` seconds.
    pub fn spans(&mut self, mu: Option<f64>, delay: f64) {
        let tau = mu.map_or(SLOW, |mu| (SPANNED / mu).min(delay));
        if tau <= SLOW {
            self.slower = None;
        } else {
            self.slower.get_or_insert((Mean::default(), tau)).1 = tau;
        }
    }

    /// λ that a size must have air for: the slow mean, too low at first.
    pub fn lasting(&self) -> f64 {
        match &self.slower {
            Some((slower, _)) if slower.now.is_settled() => slower.now.mean(),
            _ => self.slow.now.cautious(),
        }
    }

    /// λ now: the slow mean, or what the last two polls both saw.
    pub fn for_up(&self) -> f64 {
        self.sustained().max(self.slow.now.cautious())
    }

    /// λ as a person would count it: where messages are few, that takes longer than half a minute.
    pub fn told(&self) -> f64 {
        if self.slower.is_some() { self.sustained().max(self.lasting()) } else { self.for_up() }
    }

    /// λ now beside a backlog: without the bursts that the backlog already counts.
    pub fn ordinary(&self) -> f64 {
        self.sustained().max(self.slow.now.cautious() * self.calm())
    }

    /// The last poll saw clearly more than the one before it: the end of a rise is not in sight.
    pub fn rising(&self) -> bool {
        /// Times the poll before; and standard deviations of a count.
        const CLEAR: (f64, f64) = (1.3, 3.0);
        let mut polls = self.recent.iter().rev();
        let (Some(&(last, dt)), Some(&(before, dt_before))) = (polls.next(), polls.next()) else {
            return false;
        };
        let expected = before / dt_before * dt;
        last > CLEAR.0 * expected && last - expected > CLEAR.1 * expected.max(1.0).sqrt()
    }

    /// The lower of the last two polls, less one standard deviation of a count like it: a burst within one
    /// poll is backlog, not a rate, and three messages instead of one are chance. The same of counters that move more
    /// rarely.
    fn sustained(&self) -> f64 {
        let sure = |&(messages, dt): &(f64, f64)| (messages - messages.sqrt()).max(0.0) / dt;
        let lower = |last: &VecDeque<(f64, f64)>| match last.len() {
            0 | 1 => 0.0,
            _ => last.iter().rev().take(2).map(sure).fold(f64::INFINITY, f64::min),
        };
        lower(&self.recent).max(lower(&self.settled))
    }

    /// The slow mean.
    pub fn mean(&self) -> f64 {
        self.slow.now.mean()
    }

    /// Share of the slow mean, 0 to 1, that arrives in ordinary polls: the rest came in bursts. Tells the lag
    /// that waits between two commits anyway from a flood.
    pub fn calm(&self) -> f64 {
        let mean = self.slow.now.mean();
        if mean <= 0.0 {
            return 1.0;
        }
        let mut rates = [0.0; RECENT];
        let n = self.recent.len();
        for (slot, &(messages, dt)) in rates.iter_mut().zip(&self.recent) {
            *slot = messages / dt;
        }
        rates[..n].sort_unstable_by(f64::total_cmp);
        let kept = n.saturating_sub(BURSTS);
        if kept == 0 {
            return 0.0;
        }
        #[allow(clippy::cast_precision_loss)]
        let ordinary = rates[..kept].iter().sum::<f64>() / kept as f64;
        (ordinary / mean).clamp(0.0, 1.0)
    }

    /// Polls since the last discontinuity, up to the number kept.
    pub fn polls(&self) -> usize {
        self.recent.len()
    }

    /// What arrived at the last poll.
    pub fn last(&self) -> f64 {
        self.recent.back().map_or(0.0, |&(messages, _)| messages)
    }

    /// Forgets the windows; the slow mean stays.
    pub fn interrupt(&mut self) {
        self.recent.clear();
        self.settled.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_counts_in_full_after_two_polls() {
        let mut arrival = Arrival::default();
        (0..60).for_each(|_| arrival.add(10.0, 1.0, Told::All));
        arrival.add(1_000.0, 1.0, Told::All);
        assert!(arrival.for_up() < 50.0, "one poll may be a burst");
        arrival.add(1_000.0, 1.0, Told::All);
        assert!(arrival.for_up() > 950.0);
    }

    #[test]
    fn a_burst_within_one_poll_is_no_rate() {
        let mut arrival = Arrival::default();
        (0..60).for_each(|_| arrival.add(10.0, 1.0, Told::All));
        arrival.add(1_000.0, 1.0, Told::All);
        arrival.add(10.0, 1.0, Told::All);
        assert!(arrival.for_up() < 50.0);
        assert!(arrival.calm() < 0.4, "most of the mean came in one burst");
    }

    #[test]
    fn a_steady_stream_is_calm() {
        let mut arrival = Arrival::default();
        (0..60).for_each(|_| arrival.add(10.0, 1.0, Told::All));
        assert!((arrival.calm() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_told_each_five_seconds_is_a_flat_rate() {
        let mut arrival = Arrival::default();
        let mut means = Vec::new();
        for t in 0..300 {
            let told = if t % 5 == 4 { Told::Settled(500.0, 5.0) } else { Told::AtLeast };
            arrival.add(if t % 5 == 4 { 500.0 } else { 0.0 }, 1.0, told);
            means.push(arrival.lasting());
        }
        assert!(means[200..].iter().all(|mean| (95.0..105.0).contains(mean)), "{:?}", &means[200..]);
    }

    #[test]
    fn a_rise_that_only_counters_see_counts_when_they_told_it_twice() {
        let mut arrival = Arrival::default();
        let mut five = |rate: f64| {
            (0..4).for_each(|_| arrival.add(0.0, 1.0, Told::AtLeast));
            arrival.add(5.0 * rate, 1.0, Told::Settled(5.0 * rate, 5.0));
            arrival.for_up()
        };
        (0..20).for_each(|_| _ = five(100.0));
        assert!(five(800.0) < 250.0, "once may be a burst");
        assert!(five(800.0) > 750.0);
    }
}
