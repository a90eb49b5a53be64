//! What a run cost and what it brought.

use serde::Serialize;

/// Adds up one run.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    target_delay: f64,
    /// Delays in buckets of a tenth of a second up to ten minutes, the last one open.
    delays: Vec<u64>,
    done: u64,
    late: u64,
    replica_seconds: f64,
    paused: f64,
    pub rebalances: u32,
    /// Patches: (when, from, to).
    pub events: Vec<(f64, u32, u32)>,
    /// Times that zero was written while messages waited or came.
    pub false_zeros: u32,
    pub trace: Vec<Point>,
    /// Where more replicas would have helped, by second.
    pub strain: Vec<Strain>,
    /// Late messages, and the longest delay, of the turn that goes on.
    turn: (u64, f64),
}

/// One second in which a replica that could have shared its work was busy throughout, with a backlog.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strain {
    /// Messages that it did too late.
    pub late: u64,
    /// When the oldest of them arrived.
    pub since: f64,
    /// It had such a replica at all.
    pub short: bool,
}

impl Strain {
    const NONE: Self = Self { late: 0, since: f64::INFINITY, short: false };
}

/// One second of a run, for the plot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub at: f64,
    pub lag: f64,
    pub replicas: u32,
    pub ready: u32,
    pub arrival: f64,
}

/// The columns of the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// Messages that waited longer than the target delay, percent.
    pub late: f64,
    /// 99th percentile of the delay, seconds.
    pub p99: f64,
    /// Seconds from the end of the last peak until nothing waited.
    pub drain: f64,
    /// Replica-seconds.
    pub cost: f64,
    /// Patches.
    pub events: f64,
    /// Changes of direction within ten minutes.
    pub flips: f64,
    /// Rebalances.
    pub rebalances: f64,
    /// Partition-seconds in which nobody worked.
    pub paused: f64,
    /// Most replicas wanted at once.
    pub peak: f64,
    /// Times that zero was written while messages waited or came.
    pub false_zeros: f64,
}

impl Meter {
    const BUCKETS: usize = 6_000;
    /// Seconds within which an up and a down are one flip.
    const FLIP: f64 = 600.0;
    /// A replica that does messages older than this has a backlog, seconds.
    const BACKLOG: f64 = 2.0;

    pub fn new(target_delay: f64) -> Self {
        Self {
            target_delay,
            delays: vec![0; Self::BUCKETS],
            done: 0,
            late: 0,
            replica_seconds: 0.0,
            paused: 0.0,
            rebalances: 0,
            events: Vec::new(),
            false_zeros: 0,
            trace: Vec::new(),
            strain: Vec::new(),
            turn: (0, 0.0),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn done(&mut self, delay: f64, messages: u64) {
        let bucket = ((delay.max(0.0) * 10.0) as usize).min(Self::BUCKETS - 1);
        self.delays[bucket] += messages;
        self.done += messages;
        self.turn.1 = self.turn.1.max(delay);
        if delay > self.target_delay {
            self.late += messages;
            self.turn.0 += messages;
        }
    }

    /// A replica begins its share of a step.
    pub fn begin_turn(&mut self) {
        self.turn = (0, 0.0);
    }

    /// A replica ends its share of a step. `strained`: it was busy throughout, and others could have helped.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn end_turn(&mut self, now: f64, strained: bool) {
        let (late, longest) = self.turn;
        if !strained || longest < Self::BACKLOG {
            return;
        }
        let second = now as usize;
        self.strain.resize(self.strain.len().max(second + 1), Strain::NONE);
        let strain = &mut self.strain[second];
        strain.short = true;
        if late > 0 {
            strain.late += late;
            strain.since = strain.since.min(now - longest);
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn tick(&mut self, seconds: f64, replicas: u32, paused: usize) {
        self.replica_seconds += seconds * f64::from(replicas);
        self.paused += seconds * paused as f64;
    }

    pub fn scaled(&mut self, now: f64, from: u32, to: u32) {
        if from != to {
            self.events.push((now, from, to));
        }
    }

    /// Changes of direction within ten minutes, after `settled` seconds.
    pub fn flips(&self, settled: f64) -> usize {
        self.events
            .windows(2)
            .filter(|w| {
                w[0].0 >= settled && (w[0].2 > w[0].1) != (w[1].2 > w[1].1) && w[1].0 - w[0].0 < Self::FLIP
            })
            .count()
    }

    /// The score, with what still waits counted as late where it is. `peak_end`: when the last peak ended.
    #[allow(clippy::cast_precision_loss)]
    pub fn score(&self, peak_end: f64) -> Score {
        let mut seen = 0;
        let p99 = self.delays.iter().position(|&n| {
            seen += n;
            seen as f64 >= 0.99 * self.done as f64
        });
        let drained = self.trace.iter().find(|p| p.at >= peak_end && p.lag < 1.0 + p.arrival).map(|p| p.at);
        let end = self.trace.last().map_or(0.0, |p| p.at);
        Score {
            late: 100.0 * self.late as f64 / (self.done as f64).max(1.0),
            p99: p99.unwrap_or(0) as f64 / 10.0,
            drain: (drained.unwrap_or(end) - peak_end).max(0.0),
            cost: self.replica_seconds,
            events: self.events.len() as f64,
            flips: self.flips(0.0) as f64,
            rebalances: f64::from(self.rebalances),
            paused: self.paused,
            peak: f64::from(self.trace.iter().map(|p| p.replicas).max().unwrap_or(0)),
            false_zeros: f64::from(self.false_zeros),
        }
    }
}
