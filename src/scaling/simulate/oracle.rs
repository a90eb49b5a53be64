//! What one would do who knows everything beforehand: the cheapest counts found with as few late messages as any found.
//!
//! 1. A first plan from the demand of each second, what a replica does then, and when a pod must be asked for to be
//!    there in time.
//! 2. More where the plant, run with the plan, was late although others could have helped.
//! 3. Fewer, piece by piece, where that makes no message late.
//!
//! Plans are tried with one seed and a target delay that is a fifth stricter, so that they hold with other seeds.

use super::plant::Event;
use super::run::run;
use super::scalers::Planned;
use super::workload::Workload;

/// Share of the target delay that plans are made for.
const STRICT: f64 = 0.8;
/// Points of late messages that make no difference.
const SAME: f64 = 0.05;
/// Most rounds of more where it was late.
const RAISES: usize = 12;
/// Seconds of the longest piece that is tried with fewer.
const PIECE: usize = 300;

/// The count for each second.
pub(super) fn plan(workload: &Workload) -> Vec<u32> {
    let facts = Facts::of(workload);
    let mut strict = workload.clone();
    strict.config.target_delay *= STRICT;
    let search = Search { facts, workload: strict };
    let first = search.attempt(search.facts.first_plan(&search.workload));
    let all = search.attempt(search.facts.seconds.iter().map(|s| s.most).collect());
    let mut tried = vec![all];
    let mut last = first;
    for _ in 0..RAISES {
        let raised = search.raise(&last);
        let done = raised == last.counts;
        tried.push(last);
        if done {
            break;
        }
        last = search.attempt(raised);
    }
    let least_late = tried.iter().map(|t| t.late).fold(f64::INFINITY, f64::min);
    tried
        .into_iter()
        .filter(|t| t.late <= least_late + SAME)
        .min_by(|a, b| a.cost.total_cmp(&b.cost))
        .map(|best| search.lower(best, least_late + SAME).counts)
        .unwrap_or_default()
}

/// What is so in one second.
#[derive(Debug, Clone, Copy)]
struct Second {
    /// Messages that arrive, and those that are to be done again.
    arrivals: f64,
    /// Messages/s of one replica.
    each: f64,
    /// Messages/s of all together, at most.
    together: f64,
    partitions: u32,
    /// Replicas that can run at all.
    most: u32,
    /// From when on a pod must have been asked for to be ready by now.
    asked: usize,
}

struct Facts {
    seconds: Vec<Second>,
    least: u32,
    /// A queue: any number of replicas shares evenly.
    queue: bool,
}

impl Facts {
    /// Seconds for which a count is kept rather than partitions moved.
    const KEEP: usize = 60;

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn of(workload: &Workload) -> Self {
        let design = &workload.design;
        let lead = design.cold_start * 1.25 + if design.prefetch.is_some() { 0.0 } else { design.pause };
        let mut partitions = design.partitions;
        let (mut pace, mut together, mut nodes, mut crashing) = (1.0, f64::INFINITY, u32::MAX, false);
        let mut events = design.events.iter().peekable();
        // Whether pods can start in a second.
        let mut open = Vec::new();
        let mut seconds: Vec<Second> = (0..workload.seconds as usize)
            .map(|t| {
                let mut arrivals = (workload.rate)(t as f64);
                while let Some(&(_, event)) = events.next_if(|e| e.0 <= t as f64) {
                    match event {
                        Event::Pace(share) => pace = share,
                        Event::Downstream(limit) => together = limit,
                        Event::Nodes(most) => nodes = most,
                        Event::CrashLoop(on) => crashing = on,
                        Event::Grow(more) => partitions += more,
                        Event::Rewind(messages) => arrivals += messages as f64 * partitions as f64,
                        _ => {}
                    }
                }
                open.push(!crashing);
                let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
                let most = partitions.min(nodes).min(workload.config.max_replicas.unwrap_or(u32::MAX));
                Second { arrivals, each: design.rate * pace, together, partitions, most, asked: 0 }
            })
            .collect();
        let mut asked = 0;
        for t in 0..seconds.len() {
            // The latest second from which a pod that starts as soon as it can is ready by `t`.
            while asked < t {
                let start = (asked + 1..seconds.len()).find(|&s| open[s]).unwrap_or(seconds.len());
                if start as f64 + lead > t as f64 {
                    break;
                }
                asked += 1;
            }
            seconds[t].asked = asked;
        }
        Self { seconds, least: workload.config.min_replicas, queue: design.prefetch.is_some() }
    }

    /// The smallest useful count for a need.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn class(&self, need: f64, at: usize) -> u32 {
        let Second { partitions, most, .. } = self.seconds[at];
        let count = if need <= 0.0 {
            0
        } else if self.queue {
            need.ceil() as u32
        } else {
            let k = (f64::from(partitions) / need).floor().clamp(1.0, f64::from(partitions)) as u32;
            partitions.div_ceil(k)
        };
        count.min(most).max(self.least)
    }

    /// The next useful count above.
    fn above(&self, count: u32, at: usize) -> u32 {
        let most = self.seconds[at].most.max(self.least);
        (count + 1..=most).find(|&n| self.class(f64::from(n), at) == n).unwrap_or(most.max(count))
    }

    /// The next useful count below.
    fn below(&self, count: u32, at: usize) -> u32 {
        (self.least..count).rev().find(|&n| self.class(f64::from(n), at) == n).unwrap_or(self.least)
    }

    /// Enough for the mean of every window as long as the target delay, asked for in time.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn first_plan(&self, workload: &Workload) -> Vec<u32> {
        let total = self.seconds.len();
        let window = (workload.config.target_delay.round() as usize).max(1);
        let sums: Vec<f64> = std::iter::once(0.0)
            .chain(self.seconds.iter().scan(0.0, |sum, s| {
                *sum += s.arrivals;
                Some(*sum)
            }))
            .collect();
        let mean = |from: usize, to: usize| (sums[to] - sums[from]) / window as f64;
        let needs: Vec<u32> = (0..total)
            .map(|t| {
                let second = self.seconds[t];
                let rate = mean(t, (t + window).min(total)).max(mean((t + 1).saturating_sub(window), t + 1));
                self.class(rate.min(second.together) / second.each.max(1e-9), t)
            })
            .collect();
        self.in_time(&needs)
    }

    /// Counts that are there when they are needed.
    fn in_time(&self, needs: &[u32]) -> Vec<u32> {
        let mut counts = vec![self.least; needs.len()];
        for (t, &need) in needs.iter().enumerate() {
            let to = (t + Self::KEEP).min(needs.len() - 1);
            for count in &mut counts[self.seconds[t].asked..=to] {
                *count = need.max(*count);
            }
        }
        for (count, second) in counts.iter_mut().zip(&self.seconds) {
            *count = (*count).min(second.most).max(self.least);
        }
        counts
    }
}

/// A plan and what came of it.
struct Attempt {
    counts: Vec<u32>,
    late: f64,
    cost: f64,
    strain: Vec<super::measure::Strain>,
}

struct Search {
    facts: Facts,
    workload: Workload,
}

impl Search {
    fn attempt(&self, counts: Vec<u32>) -> Attempt {
        let done = run(&self.workload, &mut Planned { counts: &counts }, 1);
        Attempt { counts, late: done.score.late, cost: done.score.cost, strain: done.plant.meter.strain }
    }

    /// The next class wherever a replica was busy while messages waited that became late.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn raise(&self, last: &Attempt) -> Vec<u32> {
        let total = last.counts.len();
        let mut needs = vec![0; total];
        for (t, strain) in last.strain.iter().enumerate().filter(|(_, s)| s.late > 0) {
            let from = (strain.since.max(0.0) as usize).min(total);
            let to = (t + 1).clamp(from, total);
            for (u, need) in needs.iter_mut().enumerate().take(to).skip(from) {
                if *need == 0 && last.strain[u].short {
                    *need = self.facts.above(last.counts[u], u);
                }
            }
        }
        let raised = self.facts.in_time(&needs);
        raised.into_iter().zip(&last.counts).map(|(a, &b)| a.max(b)).collect()
    }

    /// Fewer wherever no more than `late` percent become late by it, the dearest pieces first.
    #[allow(clippy::cast_precision_loss)]
    fn lower(&self, mut best: Attempt, late: f64) -> Attempt {
        let size = best.counts.len() * self.workload.design.partitions;
        let mut tries = (2_500_000 / size.max(1)).clamp(8, 60);
        let mut pieces = pieces(&best.counts);
        pieces.sort_by_key(|&(from, to)| std::cmp::Reverse((to - from) * best.counts[from] as usize));
        let mut open = std::collections::VecDeque::from(pieces);
        while let Some((from, to)) = open.pop_front() {
            let now = best.counts[from];
            let lower = self.facts.below(now, from);
            if tries == 0 || lower == now {
                continue;
            }
            tries -= 1;
            let mut counts = best.counts.clone();
            for count in &mut counts[from..to] {
                *count = lower.min(*count);
            }
            let next = self.attempt(counts);
            if next.late <= late && next.cost < best.cost {
                best = next;
                open.push_back((from, to));
            }
        }
        best
    }
}

/// Stretches of one count, none longer than [`PIECE`].
fn pieces(counts: &[u32]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    for t in 1..=counts.len() {
        if t == counts.len() || counts[t] != counts[from] || t - from >= PIECE {
            found.push((from, t));
            from = t;
        }
    }
    found
}
