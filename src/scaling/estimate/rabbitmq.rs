//! A queue from poll to poll.
//!
//! What is ready may be fresh at every poll, while unacknowledged messages and counters move only when the management
//! statistics do (each 5 s, and not all at once). So arrivals are added up from one move of the counters to the next:
//! what readiness shows in between counts at once, and the counters settle the rest. What one of them is early or late
//! with is remembered until the next move, so that nothing counts twice.

use serde::{Deserialize, Serialize};

use super::super::observation::RabbitMq;
use super::super::shape::Shape;
use super::{Data, Signals, Told};

/// Seconds over which counters tell a rate: they move each 5 s, but not all at once.
const SETTLE: f64 = 4.0;
/// Seconds after which counters that did not move have nothing to tell, and times the longest they lately took: two
/// intervals of the statistics, where listings are no rarer.
const QUIET: (f64, f64) = (10.0, 2.0);
/// Seconds for which counters that cannot be read are waited for: then depth is all there is.
const AWAY: f64 = 600.0;

/// What is remembered of a queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Queue {
    seen: Option<Seen>,
    counters: Option<Counters>,
    /// When the counters last moved.
    moved_at: Option<f64>,
    /// Since the counters last moved: change of depth, and arrivals already counted.
    grown: i64,
    counted: i64,
    /// What readiness showed beyond `publish` at the last move: `publish` will show it, too.
    ahead: i64,
    /// What depth lacked at the last move: messages given out that are not seen as unacknowledged yet.
    lacking: i64,
    /// Until when arrivals are known, and messages that were seen since then.
    settled_at: Option<f64>,
    pending: i64,
    /// Seconds that the counters took to move last, and whether they rest.
    took: f64,
    resting: bool,
    /// When what is done last moved, and whether messages waited at every poll since: `publish` and `ack` do not move
    /// together, and a long job moves neither.
    #[serde(default)]
    done_at: Option<f64>,
    busy: bool,
    /// Consumers, and since when there are so many.
    #[serde(default)]
    crew: Option<(u32, f64)>,
    /// Messages ready, and unacknowledged, at the last usable poll.
    pub ready: f64,
    pub unacked: f64,
    pub shape: Shape,
}

/// One poll's depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    ready: i64,
    unacked: i64,
    consumers: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Counters {
    publish: Option<u64>,
    done: u64,
}

impl Queue {
    /// Takes in one poll. `sample` gets messages and seconds of an interval in which all consumers were busy: there were
    /// more than `few` messages ready, which may be on their way to somebody who waits for them.
    pub fn observe(
        &mut self,
        queue: &RabbitMq,
        now: f64,
        dt: f64,
        few: f64,
        sample: impl FnOnce(f64, f64),
    ) -> Signals {
        self.shape = if queue.single_active { Shape::SingleActive } else { Shape::Queue };
        let Some(ready) = queue.ready.filter(|_| queue.kind.as_ref() != "stream") else {
            self.busy = false;
            return Signals::default();
        };
        // Work that nobody can see is work: what is known is a lower bound then.
        let data = if queue.unacked.is_some() { Data::Full } else { Data::Partial };
        let before = self.seen;
        let seen = Seen {
            ready: signed(ready),
            unacked: queue.unacked.map_or(before.map_or(0, |before| before.unacked), signed),
            consumers: queue.consumers,
        };
        let shown = before.map_or(0, |before| {
            let depth = |seen: Seen| seen.ready.saturating_add(seen.unacked);
            self.grown = self.grown.saturating_add(depth(seen).saturating_sub(depth(before)));
            came(before, seen)
        });
        self.seen = Some(seen);
        self.crew = seen.consumers.map(|count| match self.crew {
            Some((before, since)) if before == count => (count, since),
            _ => (count, now),
        });
        #[allow(clippy::cast_precision_loss)]
        {
            (self.ready, self.unacked) = (seen.ready as f64, seen.unacked as f64);
        }
        let done = queue.ack.map(|ack| ack.saturating_add(queue.deliver_no_ack.unwrap_or(0)));
        let counters = done.map(|done| Counters { publish: queue.publish, done });
        let mut signals = Signals { data, ..Signals::default() };
        let moved = matches!((counters, self.counters), (Some(new), Some(old)) if new != old);
        // This poll ends one interval, and may begin the next.
        let busy = self.ready > few;
        self.busy &= busy;
        let arrived = self.arrivals(counters, shown, now, &mut signals, sample);
        signals.told = self.told(arrived, counters.is_some(), moved && !signals.discontinuity, now);
        self.busy &= busy;
        #[allow(clippy::cast_precision_loss)]
        if dt > 0.0 {
            signals.arrived = arrived as f64 / dt;
        }
        signals.lag = self.ready + self.unacked;
        signals.lagging = signals.lag > 0.0;
        signals.new_member_committed = signals.departed > 0.0;
        signals
    }

    fn arrivals(
        &mut self,
        counters: Option<Counters>,
        shown: i64,
        now: f64,
        signals: &mut Signals,
        sample: impl FnOnce(f64, f64),
    ) -> i64 {
        // Counters that cannot be read for a while will tell what they missed.
        let lasts = self.moved_at.is_some_and(|at| now - at < AWAY);
        let before = self.counters.filter(|_| counters.is_some() || lasts);
        self.counters = counters.or(before);
        if counters.is_none() && before.is_some() {
            self.counted = self.counted.saturating_add(shown);
            return shown;
        }
        let (Some(new), Some(old)) = (counters, before) else {
            // Depth alone: what it loses was done, and nothing says how much came meanwhile.
            let arrived = self.grown.max(0);
            (self.grown, self.counted, self.ahead, self.lacking) = (0, 0, 0, 0);
            self.moved_at = counters.map(|_| now);
            (self.done_at, self.busy) = (None, false);
            return arrived;
        };
        if new == old {
            self.counted = self.counted.saturating_add(shown);
            return shown;
        }
        let fell = new.done < old.done || matches!((new.publish, old.publish), (Some(n), Some(o)) if n < o);
        let done = if fell { 0 } else { signed(new.done - old.done) };
        let published = match (new.publish, old.publish) {
            (Some(n), Some(o)) if !fell => signed(n - o),
            _ => 0,
        };
        // `publish` misses what comes by dead-lettering, depth misses what expires: the larger is nearer.
        let by_depth = self.grown.saturating_add(done);
        let arrived = by_depth
            .saturating_sub(self.lacking)
            .max(published.saturating_sub(self.ahead))
            .saturating_sub(self.counted)
            .max(shown);
        let all = arrived.saturating_add(self.counted);
        self.ahead = all.saturating_sub(published).max(0);
        self.lacking = published.max(self.counted).saturating_sub(by_depth).max(0);
        #[allow(clippy::cast_precision_loss)]
        {
            signals.departed = done as f64;
        }
        if fell || done > 0 {
            if let Some(since) = self.done_at.filter(|&since| self.busy && !fell && now > since) {
                sample(signals.departed, now - since);
            }
            (self.done_at, self.busy) = (Some(now), true);
        }
        (self.grown, self.counted, self.moved_at) = (0, 0, Some(now));
        if fell {
            (self.ahead, self.lacking) = (0, 0);
        }
        signals.discontinuity = fell;
        arrived
    }

    /// How much of the arrival rate this poll tells. The counters move each 5 s or so and bring 5 s of arrivals at once.
    fn told(&mut self, arrived: i64, read: bool, moved: bool, now: f64) -> Told {
        let Some(since) = self.settled_at.filter(|_| self.counters.is_some()) else {
            (self.settled_at, self.pending, self.resting) = (self.counters.map(|_| now), 0, false);
            return Told::All;
        };
        self.pending = self.pending.saturating_add(arrived);
        let waited = now - since;
        self.resting = read && !moved && (self.resting || waited >= QUIET.0.max(QUIET.1 * self.took));
        if !(self.resting && waited > 0.0 || moved && waited >= SETTLE) {
            return Told::AtLeast;
        }
        if moved {
            self.took = waited;
        }
        #[allow(clippy::cast_precision_loss)]
        let told = Told::Settled(self.pending as f64, waited);
        (self.settled_at, self.pending) = (Some(now), 0);
        told
    }

    /// Seconds for which exactly so many consumers have been there.
    pub fn alone_for(&self, consumers: f64, now: f64) -> f64 {
        self.crew
            .filter(|&(count, _)| (f64::from(count) - consumers).abs() < 0.5)
            .map_or(0.0, |(_, since)| now - since)
    }

    /// What is measured now would be no sample of ordinary work.
    pub fn interrupt(&mut self) {
        self.busy = false;
    }
}

/// Messages that came at least since the last poll, by what became ready. What is unacknowledged no more may be ready
/// again, and so may all of it where consumers left: that did not come.
fn came(before: Seen, seen: Seen) -> i64 {
    let left = matches!((before.consumers, seen.consumers), (Some(before), Some(now)) if now < before);
    let fewer = before.unacked.saturating_sub(seen.unacked).max(0);
    let returned = if left { before.unacked.max(seen.unacked) } else { fewer };
    seen.ready.saturating_sub(before.ready).saturating_sub(returned).max(0)
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
        let signals = queue.observe(&seen, t, 1.0, 0.0, |messages, seconds| {
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
    fn what_readiness_shows_before_the_counters_do_counts_once() {
        let mut queue = Queue::default();
        let _ = poll(&mut queue, 0.0, 10, 100, 90);
        // A flood, then a move of the counters that are from before it, then one that knows it.
        let arrived: f64 = [
            poll(&mut queue, 1.0, 1_010, 100, 90).0,
            poll(&mut queue, 2.0, 1_000, 110, 110).0,
            poll(&mut queue, 7.0, 950, 1_110, 160).0,
        ]
        .iter()
        .sum();
        assert!((1_000.0..=1_020.0).contains(&arrived), "{arrived}");
    }

    fn seen(ready: u64, unacked: u64, publish: u64, ack: u64, consumers: u32) -> RabbitMq {
        RabbitMq {
            ready: Some(ready),
            unacked: Some(unacked),
            publish: Some(publish),
            ack: Some(ack),
            consumers: Some(consumers),
            ..RabbitMq::default()
        }
    }

    #[test]
    fn what_consumers_take_at_their_start_did_not_come() {
        let mut queue = Queue::default();
        // Ten consumers take 2,500 messages; the counters move before the statistics know where they are.
        let polls = [
            (0.0, seen(5_000, 0, 5_000, 0, 0)),
            (1.0, seen(2_500, 0, 5_000, 0, 10)),
            (2.0, seen(2_480, 0, 5_000, 20, 10)),
            (3.0, seen(2_450, 2_500, 5_000, 20, 10)),
            (7.0, seen(2_400, 2_500, 5_000, 100, 10)),
        ];
        let arrived: f64 =
            polls.iter().map(|(t, seen)| queue.observe(seen, *t, 1.0, 0.0, |_, _| ()).arrived).sum();
        assert!(arrived < 1e-9, "{arrived}");
    }

    #[test]
    fn what_consumers_give_back_at_their_end_did_not_come() {
        let mut queue = Queue::default();
        let polls = [
            (0.0, seen(100, 500, 5_000, 1_000, 2)),
            (1.0, seen(600, 500, 5_000, 1_000, 0)),
            (2.0, seen(600, 0, 5_000, 1_000, 0)),
        ];
        let arrived: f64 =
            polls.iter().map(|(t, seen)| queue.observe(seen, *t, 1.0, 0.0, |_, _| ()).arrived).sum();
        assert!(arrived < 1e-9, "{arrived}");
    }

    #[test]
    fn messages_that_cannot_be_counted_make_the_rest_a_lower_bound() {
        let mut queue = Queue::default();
        let unknown = RabbitMq { unacked: None, ..seen(7, 0, 7, 0, 1) };
        let signals = queue.observe(&unknown, 0.0, 1.0, 0.0, |_, _| ());
        assert_eq!((signals.data, signals.lagging), (Data::Partial, true));
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
    fn counters_that_move_each_five_seconds_tell_the_rate_of_five_seconds() {
        let mut queue = Queue::default();
        let told: Vec<Told> = (0..=15u64)
            .map(|t| {
                let done = 50 * (t / 5);
                queue
                    .observe(
                        &seen(0, 0, done, done, 1),
                        f64::from(u32::try_from(t).unwrap()),
                        1.0,
                        0.0,
                        |_, _| (),
                    )
                    .told
            })
            .collect();
        assert_eq!(told[0], Told::All);
        for (t, told) in told.into_iter().enumerate().skip(1) {
            let expected = if t % 5 == 0 { Told::Settled(50.0, 5.0) } else { Told::AtLeast };
            assert_eq!(told, expected, "{t} s");
        }
    }

    #[test]
    fn counters_that_move_one_after_the_other_tell_one_rate() {
        let mut queue = Queue::default();
        // `publish` moves at 3, 8, 13 s, and `ack` at 5, 10, 15 s.
        let told: Vec<Told> = (0..=25u32)
            .map(|t| {
                let (publish, ack) = (50 * ((u64::from(t) + 2) / 5), 50 * (u64::from(t) / 5));
                queue.observe(&seen(0, 0, publish, ack, 1), f64::from(t), 1.0, 0.0, |_, _| ()).told
            })
            .collect();
        let settled: Vec<Told> =
            told.into_iter().skip(6).filter(|t| matches!(t, Told::Settled(..))).collect();
        assert_eq!(settled[1..], [Told::Settled(50.0, 5.0); 3], "{settled:?}");
    }

    #[test]
    fn counters_that_were_away_tell_what_they_missed_once() {
        let mut queue = Queue::default();
        let mut sum = 0.0;
        let mut told = Vec::new();
        for t in 0..=70u32 {
            let done = 50 * (u64::from(t) / 5);
            let known = seen(0, 0, done, done, 1);
            let away = RabbitMq { publish: None, ack: None, ..known.clone() };
            let signals = queue.observe(
                if (6..60).contains(&t) { &away } else { &known },
                f64::from(t),
                1.0,
                0.0,
                |_, _| (),
            );
            sum += signals.arrived;
            told.push(signals.told);
        }
        assert_eq!((told[30], told[60], sum), (Told::AtLeast, Told::Settled(550.0, 55.0), 700.0));
    }

    #[test]
    fn counters_that_rest_tell_that_nothing_comes() {
        let mut queue = Queue::default();
        let told: Vec<Told> = (0..=12)
            .map(|t| queue.observe(&seen(0, 0, 9, 9, 1), f64::from(t), 1.0, 0.0, |_, _| ()).told)
            .collect();
        assert_eq!(told[9], Told::AtLeast);
        assert_eq!(told[10..], [Told::Settled(0.0, 10.0), Told::Settled(0.0, 1.0), Told::Settled(0.0, 1.0)]);
    }

    #[test]
    fn a_counter_that_fell_is_a_reset() {
        let mut queue = Queue::default();
        let _ = poll(&mut queue, 0.0, 10, 500, 490);
        assert!(poll(&mut queue, 1.0, 10, 3, 2).0.abs() < 1e-9);
    }
}
