//! The plant as a queue: any consumer takes any message, a prefetch of them at a time, and what it has not
//! acknowledged when it goes is ready again. Statistics are as old as RabbitMQ's.
//!
//! The partitions are only where messages are kept; together they are the queue.

use super::{Plant, STEP};

/// Seconds between two statistics.
const INTERVAL: f64 = 5.0;

/// What the management interface knows.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::scaling::simulate) struct Statistics {
    at: f64,
    pub unacked: u64,
    pub publish: u64,
    pub ack: u64,
}

impl Plant {
    /// Messages that no consumer was given.
    pub fn ready_messages(&self) -> u64 {
        self.partitions.iter().flat_map(|p| &p.queue).map(|&(_, n)| n).sum()
    }

    /// Messages that consumers hold.
    pub(super) fn held(&self) -> u64 {
        self.pods.iter().flat_map(|pod| &pod.held).map(|&(_, _, n)| n).sum()
    }

    /// Consumers take messages and work on them; one step.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub(super) fn serve(&mut self, prefetch: u64) {
        let wanted: f64 =
            self.pods.iter().filter(|p| p.joined).map(|p| self.design.rate * self.pace * p.factor).sum();
        let share = if wanted > self.downstream { self.downstream / wanted } else { 1.0 };
        // Each takes a little in turn, as RabbitMQ deals messages out.
        let mut given = true;
        while given {
            given = false;
            for i in 0..self.pods.len() {
                given |= self.give(i, prefetch);
            }
        }
        for i in 0..self.pods.len() {
            if !self.pods[i].joined {
                continue;
            }
            self.meter.begin_turn();
            self.pods[i].credit += self.design.rate * self.pace * self.pods[i].factor * share * STEP;
            let mut budget = self.pods[i].credit.floor() as u64;
            self.pods[i].credit -= budget as f64;
            while budget > 0 {
                let Some((partition, arrived, messages)) = self.pods[i].held.front_mut() else {
                    // What was acknowledged makes room at once.
                    if !self.give(i, prefetch) {
                        break;
                    }
                    continue;
                };
                let done = budget.min(*messages);
                self.meter.done(self.now - *arrived, done);
                let kept = &mut self.partitions[*partition];
                kept.position += done.cast_signed();
                kept.committed = kept.position;
                *messages -= done;
                if *messages == 0 {
                    self.pods[i].held.pop_front();
                }
                budget -= done;
                if self.poison > 0.0 {
                    self.dead_letters +=
                        self.random.poisson(done as f64 * self.poison).min(done).cast_signed();
                }
                if let Some((share, after)) = self.retry {
                    let rejected = self.random.poisson(done as f64 * share).min(done);
                    if rejected > 0 {
                        self.away.push_back((self.now + after, rejected));
                    }
                }
            }
            self.meter.end_turn(self.now, share >= 1.0 && budget == 0);
        }
        if self.now - self.statistics.at >= INTERVAL {
            let sum = |of: fn(&super::Partition) -> i64| {
                self.partitions.iter().map(of).sum::<i64>().max(0).cast_unsigned()
            };
            // What comes back as a dead letter of the retry queue is not counted as published.
            let (publish, ack) = (sum(|p| p.end).saturating_sub(self.returned), sum(|p| p.position));
            self.statistics = Statistics { at: self.now, unacked: self.held(), publish, ack };
        }
    }

    /// Gives one batch to a consumer that has room. Whether there was one.
    fn give(&mut self, pod: usize, prefetch: u64) -> bool {
        let to = &mut self.pods[pod];
        let room = prefetch.saturating_sub(to.held.iter().map(|&(_, _, n)| n).sum());
        if !to.joined || room == 0 {
            return false;
        }
        let oldest = self
            .partitions
            .iter_mut()
            .enumerate()
            .filter_map(|(i, p)| Some((i, p.queue.front()?.0)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((index, arrived)) = oldest else { return false };
        let queue = &mut self.partitions[index].queue;
        let Some((_, messages)) = queue.front_mut() else { return false };
        let taken = room.min(*messages).min(10);
        *messages -= taken;
        if *messages == 0 {
            queue.pop_front();
        }
        to.held.push_back((index, arrived, taken));
        true
    }

    /// What consumers that are gone had not acknowledged is ready again.
    pub(super) fn take_back(&mut self) {
        for i in 0..self.pods.len() {
            if self.pods[i].leaving_at.is_some_and(|at| at <= self.now) {
                while let Some((partition, arrived, messages)) = self.pods[i].held.pop_back() {
                    self.partitions[partition].queue.push_front((arrived, messages));
                }
            }
        }
    }
}
