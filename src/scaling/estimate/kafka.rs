//! A consumer group from poll to poll.

use serde::{Deserialize, Serialize};

use super::super::config::Config;
use super::super::observation::{GroupRead, GroupState, Kafka, Observation};
use super::super::shape::Shape;
use super::members::Members;
use super::partition::{Event, Track};
use super::timing::{Moved, Timing};
use super::{Data, Signals};

/// Seconds after which a partition that is no longer named is forgotten.
const FORGET: f64 = 600.0;

/// What is remembered of a group and its topics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not a state
pub(in crate::scaling) struct Group {
    pub parts: Vec<Track>,
    pub members: Members,
    pub shape: Shape,
    /// Number of partitions and way of spreading that `shape` was made for.
    shaped_for: Option<(usize, bool)>,
    /// Some partition moved lately.
    pub moving: bool,
    /// When a commit last moved anywhere, and since when the group has had no members.
    pub progress_at: Option<f64>,
    empty_since: Option<f64>,
    /// The last attempt to describe the group failed.
    unreadable: bool,
    /// Messages that an earlier leader knew to be none, until the first look.
    pub known_phantoms: Option<u64>,
    /// An earlier leader found partitions that stood.
    #[serde(default)]
    pub stood: bool,
    /// An earlier leader knew the group.
    #[serde(default)]
    pub inherited: bool,
}

impl Group {
    /// Takes in one poll.
    pub fn observe(
        &mut self,
        config: &Config,
        seen: &Observation,
        kafka: &Kafka,
        timing: &mut Timing,
        possible: f64,
    ) -> Signals {
        let now = seen.now;
        let mut signals = Signals { data: Data::Missing, ..Signals::default() };
        let (committed_at, end_at) = (now + past(kafka.read_at.committed), now + past(kafka.read_at.end));
        self.parts.iter_mut().for_each(Track::begin);
        self.offsets(config, kafka, (committed_at, end_at, possible), &mut signals);
        self.recognise(config, seen);
        self.forget(now, &mut signals);
        self.describe(kafka, now, timing, &mut signals);
        self.reshape();
        self.sum(now, timing, &mut signals);
        signals
    }

    /// Offsets into tracks.
    fn offsets(
        &mut self,
        config: &Config,
        kafka: &Kafka,
        (committed_at, end_at, possible): (f64, f64, f64),
        signals: &mut Signals,
    ) {
        let known = self.parts.len();
        for (position, partition) in kafka.partitions.iter().enumerate() {
            let index = match self.parts.get(position) {
                Some(track) if track.tp == partition.tp => position,
                _ => self.parts.iter().position(|p| p.tp == partition.tp).unwrap_or_else(|| {
                    self.parts.push(Track::new(partition.tp.clone()));
                    self.parts.len() - 1
                }),
            };
            let event =
                self.parts[index].observe(partition, config.offset_reset, committed_at, end_at, possible);
            signals.discontinuity |= event == Event::Discontinuity;
        }
        signals.discontinuity |= self.parts.len() > known && known > 0;
    }

    /// A new leader finds no replicas, and as much waiting as was no message before: it still is none.
    fn recognise(&mut self, config: &Config, seen: &Observation) {
        let Some(known) = self.known_phantoms else {
            if std::mem::take(&mut self.inherited) {
                // An earlier leader took nothing that waits here for a marker.
                self.parts.iter_mut().filter(|p| p.lag > 0.0).for_each(|p| p.news = true);
            }
            return;
        };
        if self.parts.iter().any(|p| !p.usable) && seen.target.spec == 0 {
            return;
        }
        (self.known_phantoms, self.inherited) = (None, false);
        #[allow(clippy::cast_precision_loss)]
        let (known, tolerance) = (known as f64, config.lag_tolerance as f64);
        let lags = || self.parts.iter().map(|p| p.lag);
        let same = (lags().sum::<f64>() - known).abs() < 0.5 && lags().all(|lag| lag <= tolerance);
        if same && seen.target.spec == 0 {
            self.parts.iter_mut().filter(|p| p.lag > 0.0).for_each(|p| p.known_phantom(seen.now));
        }
    }

    /// Messages that wait and are none, where nothing else waits.
    pub fn phantom_lag(&self) -> Option<u64> {
        if self.known_phantoms.is_some() {
            return self.known_phantoms;
        }
        let mut waiting = self.parts.iter().filter(|p| p.lag > 0.0).peekable();
        waiting.peek()?;
        if waiting.clone().any(|p| !p.phantom) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(waiting.map(|p| p.lag).sum::<f64>() as u64)
    }

    /// Drops partitions that no observation has named for long: the Consumer no longer reads their topic.
    /// Until then they count as unknown, since a broker that is away names nothing either.
    fn forget(&mut self, now: f64, signals: &mut Signals) {
        let before = self.parts.len();
        if self.parts.iter().any(|p| p.usable) {
            self.parts.retain(|p| p.unnamed_for(now) < FORGET);
        }
        if self.parts.len() < before {
            self.members.reassign();
            signals.discontinuity = true;
        }
    }

    fn reshape(&mut self) {
        let key = (self.parts.len(), self.members.by_topic());
        if self.shaped_for != Some(key) {
            self.shape = self.spread();
            self.shaped_for = Some(key);
        }
    }

    fn describe(&mut self, kafka: &Kafka, now: f64, timing: &mut Timing, signals: &mut Signals) {
        match &kafka.group {
            GroupRead::NotRead => {}
            GroupRead::Unreadable => self.unreadable = true,
            GroupRead::Known(group) => {
                self.unreadable = false;
                let empty = matches!(group.state, GroupState::Empty | GroupState::Dead);
                self.empty_since = empty.then(|| self.empty_since.unwrap_or(now));
                let changed = self.members.describe(group, &mut self.parts);
                timing.group(now, group.state, group.kind, changed);
                signals.members = super::Members::Same;
                if changed || timing.unstable_since.is_some() {
                    self.members.interrupt();
                    signals.members = super::Members::Changed;
                }
            }
        }
        signals.foreign = self.members.foreign;
    }

    /// Adds partitions up.
    fn sum(&mut self, now: f64, timing: &mut Timing, signals: &mut Signals) {
        let (mut usable, mut lagging, mut newcomer) = (0, false, false);
        for part in &self.parts {
            usable += usize::from(part.usable);
            if !part.usable {
                continue;
            }
            signals.lag += part.lag;
            signals.hidden |= part.hidden();
            if let Some(gap) = part.gap.filter(|_| timing.shuffle_since.is_none()) {
                timing.commit_gap_seen(gap);
            }
            newcomer |= part.new_owner && part.progressed > 0.0;
            signals.departed += part.progressed;
            if part.arrived_in > 0.0 && !part.stuck {
                signals.arrived += part.arrived / part.arrived_in;
            }
            lagging |= part.is_behind();
        }
        if signals.departed > 0.0 {
            self.progress_at = Some(now);
        }
        if let Some(since) = timing.shuffle_since {
            timing.moved(now, lagging, self.moved_since(since));
        }
        signals.lagging = lagging;
        signals.new_member_committed = newcomer;
        signals.data = match usable {
            0 => Data::Missing,
            n if n == self.parts.len() && !self.unreadable => Data::Full,
            _ => Data::Partial,
        };
    }

    /// What has moved since a rebalance began. A member with thousands of messages of one partition at hand works on no
    /// other one for minutes, so that its partitions say less than it.
    fn moved_since(&self, since: f64) -> Moved {
        let behind = || self.parts.iter().filter(|p| p.usable && p.is_behind());
        if behind().all(|p| p.moved_at >= since) {
            return Moved::Partitions;
        }
        let mut works = vec![false; self.members.len()];
        for part in self.parts.iter().filter(|p| p.usable && p.moved_at >= since) {
            if let Some(owner) = part.owner.and_then(|owner| works.get_mut(owner)) {
                *owner = true;
            }
        }
        let theirs = |p: &Track| p.owner.and_then(|owner| works.get(owner)).is_some_and(|works| *works);
        if self.members.known() && behind().all(theirs) { Moved::Members } else { Moved::Some }
    }

    /// The shape of the work, by topic and assignor.
    fn spread(&self) -> Shape {
        let mut counts: Vec<(&str, u32)> = Vec::new();
        for part in &self.parts {
            match counts.iter_mut().find(|(topic, _)| *topic == part.topic()) {
                Some((_, count)) => *count += 1,
                None => counts.push((part.topic(), 1)),
            }
        }
        if counts.is_empty() {
            return Shape::Unknown;
        }
        Shape::Topics { counts: counts.into_iter().map(|(_, n)| n).collect(), range: self.members.by_topic() }
    }

    /// Messages that wait in partitions that stand, each for so long the only one that its member has to work on.
    pub fn alone(&self, now: f64, long: f64) -> f64 {
        let alone = |p: &&Track| p.next_since.is_some_and(|since| now - since >= long);
        let stands = |p: &&Track| p.usable && p.waiting_for(now) >= long;
        let alone = self.parts.iter().filter(stands).filter(alone);
        alone.map(|p| p.backlog).sum()
    }

    /// Seconds for which the group has had no members, by its descriptions.
    pub fn empty_for(&self, now: f64) -> f64 {
        self.empty_since.map_or(0.0, |since| now - since)
    }
}

/// A read time relative to now; what cannot be is taken as now.
fn past(relative: f64) -> f64 {
    if relative.is_finite() && relative <= 0.0 { relative } else { 0.0 }
}
