//! A queue from poll to poll.
//!
//! Depth may be fresh at every poll, while counters move only when the management statistics do (each 5 s). So
//! arrivals are added up from one move of the counters to the next: what depth shows in between counts at once,
//! and the counters settle the rest.

use serde::{Deserialize, Serialize};

use super::super::observation::RabbitMq;
use super::super::shape::Shape;
use super::{Data, Signals};

/// What is remembered of a queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Queue {
    depth: Option<i64>,
    counters: Option<Counters>,
    /// When the counters last moved.
    moved_at: Option<f64>,
    /// Since the counters last moved: change of depth, and arrivals already counted.
    grown: i64,
    counted: i64,
    /// Messages were ready at every poll since the counters last moved.
    busy: bool,
    /// Messages ready, and unacknowledged, at the last usable poll.
    pub ready: f64,
    pub unacked: f64,
    pub shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Counters {
    publish: Option<u64>,
    done: u64,
}

impl Queue {
    /// Takes in one poll. `sample` gets messages and seconds of an interval in which all consumers were busy.
    pub fn observe(&mut self, queue: &RabbitMq, now: f64, dt: f64, sample: impl FnOnce(f64, f64)) -> Signals {
        self.shape = if queue.single_active { Shape::SingleActive } else { Shape::Queue };
        let Some(ready) = queue.ready.filter(|_| queue.kind.as_ref() != "stream") else {
            self.busy = false;
            return Signals::default();
        };
        let unacked = queue.unacked.unwrap_or(0);
        let depth = ready.saturating_add(unacked).min(i64::MAX.cast_unsigned()).cast_signed();
        #[allow(clippy::cast_precision_loss)]
        {
            (self.ready, self.unacked) = (ready as f64, unacked as f64);
        }
        self.grown = self.grown.saturating_add(self.depth.map_or(0, |before| depth.saturating_sub(before)));
        self.depth = Some(depth);
        let done = queue.ack.map(|ack| ack.saturating_add(queue.deliver_no_ack.unwrap_or(0)));
        let counters = done.map(|done| Counters { publish: queue.publish, done });
        let mut signals = Signals { data: Data::Full, ..Signals::default() };
        let arrived = self.arrivals(counters, now, &mut signals, sample);
        self.busy &= ready > 0;
        #[allow(clippy::cast_precision_loss)]
        if dt > 0.0 {
            signals.arrived = arrived as f64 / dt;
        }
        signals.lag = self.ready + self.unacked;
        signals.lagging = depth > 0;
        signals.new_member_committed = signals.departed > 0.0;
        signals
    }

    fn arrivals(
        &mut self,
        counters: Option<Counters>,
        now: f64,
        signals: &mut Signals,
        sample: impl FnOnce(f64, f64),
    ) -> i64 {
        let before = self.counters;
        self.counters = counters.or(before);
        let (Some(new), Some(old)) = (counters, before) else {
            // Depth alone: what it loses was done, and nothing says how much came meanwhile.
            let arrived = self.grown.max(0);
            (self.grown, self.counted) = (0, 0);
            self.moved_at = counters.map(|_| now);
            return arrived;
        };
        if new == old {
            let arrived = (self.grown - self.counted).max(0);
            self.counted += arrived;
            return arrived;
        }
        let fell = new.done < old.done || matches!((new.publish, old.publish), (Some(n), Some(o)) if n < o);
        let done = if fell { 0 } else { signed(new.done - old.done) };
        let published = match (new.publish, old.publish) {
            (Some(n), Some(o)) if !fell => signed(n - o),
            _ => 0,
        };
        // `publish` misses what comes by dead-lettering, depth misses what expires: the larger is nearer.
        let arrived = (self.grown.saturating_add(done).max(published) - self.counted).max(0);
        #[allow(clippy::cast_precision_loss)]
        {
            signals.departed = done as f64;
        }
        if let Some(since) = self.moved_at.filter(|&since| self.busy && !fell && now > since) {
            sample(signals.departed, now - since);
        }
        (self.grown, self.counted, self.busy, self.moved_at) = (0, 0, true, Some(now));
        signals.discontinuity = fell;
        arrived
    }

    /// What is measured now would be no sample of ordinary work.
    pub fn interrupt(&mut self) {
        self.busy = false;
    }
}

fn signed(count: u64) -> i64 {
    count.min(i64::MAX.cast_unsigned()).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(queue: &mut Queue, t: f64, ready: u64, publish: u64, ack: u64) -> (f64, Option<(f64, f64)>) {
        let seen = RabbitMq {
            ready: Some(ready),
            unacked: Some(0),
            publish: Some(publish),
            ack: Some(ack),
            ..RabbitMq::default()
        };
        let mut sample = None;
        let signals = queue.observe(&seen, t, 1.0, |messages, seconds| {
            sample = Some((messages, seconds));
        });
        (signals.arrived, sample)
    }

    #[test]
    fn arrivals_are_counted_once_by_depth_and_counters() {
        let mut queue = Queue::default();
        let _ = poll(&mut queue, 0.0, 0, 100, 100);
        // 1,000 come at once; depth shows it, the counters follow four polls later.
        let arrived: f64 = [
            poll(&mut queue, 1.0, 1_000, 100, 100).0,
            poll(&mut queue, 2.0, 990, 100, 100).0,
            poll(&mut queue, 3.0, 980, 100, 100).0,
            poll(&mut queue, 4.0, 970, 1_100, 130).0,
        ]
        .iter()
        .sum();
        assert!((arrived - 1_000.0).abs() < 1e-9, "{arrived}");
    }

    #[test]
    fn dead_lettered_arrivals_that_publish_misses_are_counted() {
        let mut queue = Queue::default();
        let _ = poll(&mut queue, 0.0, 50, 100, 100);
        let (arrived, _) = poll(&mut queue, 5.0, 50, 100, 150);
        assert!((arrived - 50.0).abs() < 1e-9);
    }

    #[test]
    fn busy_consumers_are_measured_between_two_moves_of_the_counters() {
        let mut queue = Queue::default();
        let _ = poll(&mut queue, 0.0, 500, 500, 0);
        let _ = poll(&mut queue, 5.0, 450, 500, 50);
        assert_eq!(poll(&mut queue, 10.0, 400, 500, 100).1, Some((50.0, 5.0)));
        let _ = poll(&mut queue, 12.0, 0, 500, 100);
        assert_eq!(poll(&mut queue, 15.0, 0, 500, 500).1, None, "idle in between");
    }

    #[test]
    fn a_counter_that_fell_is_a_reset() {
        let mut queue = Queue::default();
        let _ = poll(&mut queue, 0.0, 10, 500, 490);
        assert!(poll(&mut queue, 1.0, 10, 3, 2).0.abs() < 1e-9);
    }
}
