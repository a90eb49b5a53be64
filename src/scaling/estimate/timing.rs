//! How long things take here: commits, cold starts, rebalances. Learned, with priors.

use serde::{Deserialize, Serialize};

use super::super::config::Config;
use super::super::observation::{GroupKind, GroupState};
use super::series::{Durations, Ring};

/// Seconds from a patch to the first commit of a new replica until one was measured: image on the node, a
/// small runtime, one rebalance.
const COLD_START: f64 = 20.0;
/// Shortest pause of an eager rebalance: one heartbeat interval of the usual client.
const EAGER_PAUSE: f64 = 3.0;
/// Pause of the KIP-848 protocol: it moves by heartbeats of 5 s, two of them.
const CONSUMER_PAUSE: f64 = 10.0;
/// Seconds between two commits until they were measured: Kafka's default for automatic commits.
const COMMIT_GAP: f64 = 5.0;
/// A start or a rebalance that took longer than this is not learned from: something else went on.
const ABANDONED: f64 = 900.0;
/// Longest commit gap that counts; what stands longer is stuck, not slow.
const LONGEST_GAP: f64 = 600.0;
/// Seconds for which partitions may move after each member has, and the commit gaps they must span.
const STRAGGLERS: (f64, f64) = (10.0, 3.0);
/// Cold starts within which a pod that is not ready yet is about to join a group.
const JOINS: f64 = 2.0;
/// Weight of a commit gap that an earlier leader learned.
const SEED_WEIGHT: f32 = 20.0;

/// Durations of one Consumer, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Timing {
    gaps: Durations,
    cold: Ring,
    pause: Ring,
    /// From a patch to the end of the rebalance that its last replica made.
    #[serde(default)]
    whole: Ring,
    /// When the scale-up began whose last rebalance has not ended.
    #[serde(default)]
    rising: Option<f64>,
    /// The scale-up that is under way.
    pub up: Option<Up>,
    /// Since when members have been changing without all partitions having moved again.
    pub shuffle_since: Option<f64>,
    /// Since when each member with lag has worked after such a change.
    members_work_since: Option<f64>,
    /// Since when the group has not been stable.
    pub unstable_since: Option<f64>,
    consumer_protocol: bool,
    /// A queue has no partitions to move.
    pub queue: bool,
    /// When replicas or members last changed.
    changed_at: Option<f64>,
    /// When the number of replicas that is asked for last changed.
    #[serde(default)]
    resized_at: Option<f64>,
    /// Who has each partition is known: then members tell what moves, and not the pods that are ready.
    #[serde(default)]
    pub members_known: bool,
}

/// What has moved since a rebalance began, of what has work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scaling) enum Moved {
    /// Not all of it.
    Some,
    /// A partition of each member.
    Members,
    /// All partitions.
    Partitions,
}

/// A scale-up from the moment it was seen in the target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Up {
    pub at: f64,
    pub from: u32,
    pub to: u32,
    pub ready_at: Option<f64>,
    /// Replicas that were there before went meanwhile: what is waited for is not the new ones alone.
    #[serde(default)]
    pub hindered: bool,
}

impl Timing {
    /// Takes over what an earlier leader learned.
    pub fn seed(&mut self, cold_start: Option<f64>, rebalance: Option<f64>, gap: Option<f64>) {
        let plausible = |v: &f64| v.is_finite() && (0.0..=ABANDONED).contains(v);
        cold_start.filter(plausible).into_iter().for_each(|v| self.cold.push(v));
        rebalance.filter(plausible).into_iter().for_each(|v| self.pause.push(v));
        gap.filter(plausible).into_iter().for_each(|v| self.gaps.add(v, SEED_WEIGHT));
    }

    /// A commit came this long after there was something to commit.
    pub fn commit_gap_seen(&mut self, seconds: f64) {
        if seconds > 0.0 {
            self.gaps.add(seconds.min(LONGEST_GAP), 1.0);
        }
    }

    /// p95 of commit gaps as learned. `None`: not yet.
    pub fn learned_gap(&self) -> Option<f64> {
        self.gaps.p95()
    }

    /// Seconds within which two commits show whatever the gap is, when little is known of it.
    pub fn two_commits(&self) -> f64 {
        2.0 * self.gap().max(COMMIT_GAP)
    }

    /// p95 of commit gaps, or the usual one.
    pub fn gap(&self) -> f64 {
        self.learned_gap().unwrap_or(COMMIT_GAP)
    }

    /// p90 of cold starts as learned. `None`: not yet.
    pub fn learned_cold_start(&self) -> Option<f64> {
        self.cold.p90()
    }

    /// Seconds from a patch to a new replica's first commit.
    pub fn cold_start(&self, config: &Config) -> f64 {
        config.cold_start.or(self.learned_cold_start()).unwrap_or(COLD_START)
    }

    /// p90 of rebalance pauses as learned. `None`: not yet.
    pub fn learned_pause(&self) -> Option<f64> {
        self.pause.p90()
    }

    /// Seconds for which the group stands still when members change.
    pub fn pause(&self, config: &Config) -> f64 {
        let prior = match (self.queue, self.consumer_protocol) {
            (true, _) => 0.0,
            (_, true) => CONSUMER_PAUSE,
            _ => EAGER_PAUSE.max(self.gap()),
        };
        config.rebalance.or(self.learned_pause()).unwrap_or(prior)
    }

    /// Seconds from a patch to the work of all new replicas. Shorter than a cold start and a pause: the first of them join
    /// while the last ones start.
    pub fn to_full(&self, config: &Config) -> f64 {
        let apart = self.cold_start(config) + self.pause(config);
        let by_hand = config.cold_start.or(config.rebalance).is_some();
        self.whole.p90().filter(|_| !by_hand).map_or(apart, |whole| whole.min(apart))
    }

    /// What is left until a scale-up works: of the one under way, else of one that would start now.
    pub fn until_more(&self, config: &Config, now: f64) -> f64 {
        let whole = self.to_full(config);
        self.up.map_or(whole, |up| (whole - (now - up.at)).max(0.0))
    }

    /// Follows the target's count and the pods that are ready.
    pub fn target(&mut self, now: f64, before: Option<u32>, spec: u32, ready: Option<u32>) {
        if before != Some(spec) {
            self.resized_at = Some(now);
        }
        let start = self.learned_cold_start().unwrap_or(COLD_START);
        // A member that works is none the less so where its pod is not ready, or one of many is not.
        let joins = !self.members_known || self.up.is_some_and(|up| now - up.at < JOINS * start);
        if before != Some(spec) || joins && ready != Some(spec) {
            self.changed_at = Some(now);
        }
        match before {
            Some(before) if spec > before => {
                let from = self.up.map_or(before, |up| up.from.min(before));
                self.rising = self.rising.filter(|at| now - at < ABANDONED).or(Some(now));
                self.up = Some(Up { at: now, from, to: spec, ready_at: None, hindered: false });
            }
            Some(before) if spec < before => (self.up, self.rising) = (None, None),
            _ => {}
        }
        if let (Some(up), Some(ready)) = (&mut self.up, ready)
            && up.ready_at.is_none()
        {
            up.hindered |= ready < up.from;
            up.ready_at = (ready >= up.to).then_some(now);
            self.rising = self.rising.filter(|_| !up.hindered);
        }
        if self.up.is_some_and(|up| now - up.at > ABANDONED) {
            self.up = None;
        }
    }

    /// Ends a scale-up whose pods are ready: by the first commit of a new member, or, where there was no work
    /// to commit or members are not known, after a rebalance.
    pub fn work_seen(&mut self, now: f64, new_member_committed: bool, config: &Config) {
        let Some(Up { at, ready_at: Some(ready_at), hindered, .. }) = self.up else {
            return;
        };
        let took = if new_member_committed {
            now - at
        } else if now - ready_at > self.pause(config).max(self.gap()) {
            ready_at - at
        } else {
            return;
        };
        self.up = None;
        if !hindered {
            self.cold.push(took);
        }
    }

    /// Follows the group's state, when it was read.
    pub fn group(&mut self, now: f64, state: GroupState, kind: GroupKind, members_changed: bool) {
        self.consumer_protocol = kind == GroupKind::Consumer;
        let at_rest = matches!(state, GroupState::Stable | GroupState::Empty | GroupState::Dead);
        if at_rest {
            self.unstable_since = None;
        } else if self.unstable_since.is_none() {
            self.unstable_since = Some(now);
        }
        if members_changed || !at_rest {
            self.changed_at = Some(now);
            self.shuffle_since = self.shuffle_since.or(Some(now));
        }
    }

    /// Ends a rebalance once the group is at rest and each partition with lag has moved since it began, or some time
    /// after each member with lag has.
    pub fn moved(&mut self, now: f64, lagging: bool, moved: Moved) {
        let Some(since) = self.shuffle_since else { return };
        if self.unstable_since.is_some() || moved == Moved::Some {
            self.members_work_since = None;
            if self.unstable_since.is_none() && now - since > ABANDONED {
                self.shuffle_since = None;
            }
            return;
        }
        let work = *self.members_work_since.get_or_insert(now);
        if moved == Moved::Members && now - work < STRAGGLERS.0.max(STRAGGLERS.1 * self.gap()) {
            return;
        }
        let ended = if moved == Moved::Members { work } else { now };
        // With no lag anywhere nothing shows how long partitions stood still.
        if lagging && ended > since {
            self.pause.push(ended - since);
            // A later one may come while pods still start.
            let all_there = self.up.is_none_or(|up| up.ready_at.is_some());
            if let Some(at) = self.rising.take_if(|_| all_there)
                && (at..=at + ABANDONED).contains(&since)
            {
                self.whole.push(ended - at);
            }
        }
        (self.shuffle_since, self.members_work_since) = (None, None);
    }

    /// Seconds for which replicas and members have been the same and ready.
    pub fn steady_for(&self, now: f64) -> f64 {
        self.changed_at.map_or(0.0, |at| now - at)
    }

    /// Seconds for which so many replicas have been asked for.
    pub fn same_size_for(&self, now: f64) -> f64 {
        self.resized_at.map_or(0.0, |at| now - at)
    }

    /// Whether members are changing right now: rates measured now would be wrong.
    pub fn shuffling(&self) -> bool {
        self.shuffle_since.is_some() || self.unstable_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_start_on_a_full_cluster_is_not_how_long_starts_take() {
        let mut timing = Timing::default();
        let (config, mut now) = (Config::default(), 0.0);
        for took in [20.0, 400.0, 22.0] {
            timing.target(now, Some(1), 2, Some(1));
            timing.target(now + took, Some(2), 2, Some(2));
            timing.work_seen(now + took, true, &config);
            now += 1_000.0;
        }
        assert!((timing.cold_start(&config) - 22.0).abs() < 1e-9, "{}", timing.cold_start(&config));
    }

    #[test]
    fn a_start_amid_the_loss_of_others_says_nothing_of_starts() {
        let mut timing = Timing::default();
        timing.target(0.0, Some(3), 4, Some(3));
        timing.target(5.0, Some(4), 4, Some(2));
        timing.target(300.0, Some(4), 4, Some(4));
        timing.work_seen(300.0, true, &Config::default());
        assert_eq!((timing.up, timing.learned_cold_start()), (None, None));
    }
}
