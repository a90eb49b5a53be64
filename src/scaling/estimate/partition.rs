//! One partition from poll to poll: lag, arrivals, progress; and when its offsets cannot be believed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::config::OffsetReset;
use super::super::observation::{Committed, Partition};
use super::arrival::SLOW;
use super::series::Ewma;

/// Polls for which offsets that cannot be (an end that fell, a commit beyond the end) are put down to a read
/// from another replica, and the last good ones stand.
const IMPOSSIBLE_POLLS: u32 = 3;
/// Seconds after which a log end that fell and stands is the truth after all.
const FALLEN_IS_TRUE: f64 = 3_600.0;

/// Seconds within which two reads of a partition follow each other.
const TWO_POLLS: f64 = 15.0;

/// Fewer messages than this at once are no leap, however slow the group is.
const FEW: f64 = 100.0;

/// What is remembered of a partition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not a state
pub(in crate::scaling) struct Track {
    pub tp: Arc<str>,
    topic_id: Option<Arc<str>>,
    end: i64,
    end_at: f64,
    hw: Option<i64>,
    /// When the end last moved, and the high watermark then.
    end_moved: (f64, Option<i64>),
    committed: Option<i64>,
    /// When a commit last moved, or the partition was first seen.
    pub moved_at: f64,
    /// Since when something has waited for the next commit.
    pub waiting_since: Option<f64>,
    /// Slow mean of arrivals, messages/s.
    pub slow: Ewma,
    /// Messages not yet committed.
    pub lag: f64,
    /// An end below the last one: (polls, its first value, since when).
    fallen: Option<(u32, i64, f64)>,
    /// Polls for which the commit has been beyond the end.
    beyond: u32,
    /// When the commit was read, and whether it last went further than anyone can work.
    read_at: f64,
    leapt: bool,
    /// Index of the member that has it.
    pub owner: Option<usize>,
    /// Given to a member that was not there before the last change.
    pub new_owner: bool,
    pub stuck: bool,
    pub phantom: bool,
    /// Since when its owner has had nothing else to do.
    #[serde(default)]
    pub next_since: Option<f64>,
    /// What waited when it was first seen, and when that was, until a commit moves: whether anybody works on it is not known.
    #[serde(default)]
    found: Option<(f64, f64)>,
    /// Something came that no commit has followed: a message, and no marker behind those that are done.
    #[serde(default)]
    pub news: bool,
    /// Since when more has arrived than one member can do, the messages that came since, and whether for long.
    #[serde(default)]
    pub above: Option<(f64, f64)>,
    pub hot: bool,
    /// Messages beyond what waits between commits; of this poll.
    #[serde(skip)]
    pub backlog: f64,
    /// Messages committed, and arrived, since the last poll.
    #[serde(skip)]
    pub progressed: f64,
    #[serde(skip)]
    pub arrived: f64,
    /// Seconds that `arrived` took.
    #[serde(skip)]
    pub arrived_in: f64,
    /// A commit gap that ended at this poll.
    #[serde(skip)]
    pub gap: Option<f64>,
    /// Offsets of this poll are usable.
    #[serde(skip)]
    pub usable: bool,
    seen: bool,
    /// When an observation last named the partition, with offsets or without.
    named_at: f64,
}

/// What a poll showed beside numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scaling) enum Event {
    /// Nothing special.
    Ordinary,
    /// Offsets do not continue the earlier ones.
    Discontinuity,
}

impl Track {
    pub fn new(tp: Arc<str>) -> Self {
        Self { tp, ..Self::default() }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        self.tp.rsplit_once('/').map_or(&*self.tp, |(topic, _)| topic)
    }

    /// Begins a poll in which nothing is known of the partition yet.
    pub fn begin(&mut self) {
        (self.progressed, self.arrived, self.arrived_in, self.backlog) = (0.0, 0.0, 0.0, 0.0);
        self.gap = None;
        self.usable = false;
    }

    /// Takes in offsets: committed ones read at `committed_at`, end offsets at `end_at`. `possible`: messages/s that
    /// no consumer does.
    pub fn observe(
        &mut self,
        seen: &Partition,
        reset: OffsetReset,
        committed_at: f64,
        end_at: f64,
        possible: f64,
    ) -> Event {
        let mut event = Event::Ordinary;
        self.named_at = end_at;
        let other_topic = matches!((&self.topic_id, &seen.topic_id), (Some(a), Some(b)) if a != b);
        if other_topic {
            self.restart();
            event = Event::Discontinuity;
        }
        if seen.topic_id.is_some() && self.topic_id != seen.topic_id {
            self.topic_id.clone_from(&seen.topic_id);
        }
        let (Some(end), None) = (seen.end.filter(|&end| end >= 0), &seen.error) else {
            return event;
        };
        if seen.committed == Committed::Unknown {
            return event;
        }
        if self.seen && end < self.end {
            if !self.fallen_end(end, end_at) {
                return event;
            }
            self.restart();
            event = Event::Discontinuity;
        }
        self.fallen = None;
        self.arrivals(end, seen.hw, end_at);
        let Some(position) = self.position(seen, reset, end, (committed_at, possible), &mut event) else {
            return event;
        };
        let last = std::mem::replace(&mut self.read_at, committed_at);
        self.usable = true;
        #[allow(clippy::cast_precision_loss)]
        {
            self.lag = end.saturating_sub(position).max(0) as f64;
        }
        self.found.get_or_insert((self.lag, committed_at));
        if self.progressed > 0.0 {
            // What is done within a poll came after the last one.
            let since = self.waiting_since.or((committed_at - last < TWO_POLLS).then_some(last));
            self.gap = since.map(|since| committed_at - since);
            self.moved_at = committed_at;
            (self.waiting_since, self.news, self.found) = (None, false, Some((0.0, 0.0)));
        }
        if self.lag <= 0.0 {
            self.waiting_since = None;
        } else if self.waiting_since.is_none() {
            self.waiting_since = Some(committed_at);
        }
        event
    }

    /// An end below the last one; true once it must be believed.
    fn fallen_end(&mut self, end: i64, at: f64) -> bool {
        let (polls, first, since) = self.fallen.unwrap_or((0, end, at));
        self.fallen = Some((polls + 1, first, since));
        // Until then the last good values stand; after that the partition is unknown until its log lives on.
        self.usable = polls + 1 < IMPOSSIBLE_POLLS && self.committed.is_some();
        polls >= IMPOSSIBLE_POLLS && (end > first || at - since > FALLEN_IS_TRUE)
    }

    fn arrivals(&mut self, end: i64, hw: Option<i64>, at: f64) {
        let dt = at - self.end_at;
        if !self.seen {
            (self.seen, self.moved_at, self.end_moved) = (true, at, (at, hw));
        } else if dt > 0.0 {
            #[allow(clippy::cast_precision_loss)]
            let arrived = end.saturating_sub(self.end) as f64;
            (self.arrived, self.arrived_in) = (arrived, dt);
            self.slow.add(arrived / dt, dt, SLOW);
            if arrived > 0.0 {
                self.end_moved = (at, hw);
                self.news = true;
            }
        }
        (self.end, self.end_at, self.hw) = (end, at, hw);
    }

    /// Where the group stands, and how far it got. `None`: cannot be known.
    fn position(
        &mut self,
        seen: &Partition,
        reset: OffsetReset,
        end: i64,
        (at, possible): (f64, f64),
        event: &mut Event,
    ) -> Option<i64> {
        let start = seen.start.unwrap_or(0).max(0);
        let from_reset = || match reset {
            // Without a log start, all that is known is that it is not known.
            OffsetReset::Earliest => seen.start,
            OffsetReset::Latest => Some(end),
        };
        let Committed::At(committed) = seen.committed else {
            if self.committed.take().is_some() {
                // The group was deleted, or its offsets expired.
                *event = Event::Discontinuity;
                self.moved_at = at;
            }
            return from_reset();
        };
        let before = self.committed.replace(committed);
        // Beyond the last stable offset and not beyond the log: the application reads open transactions, too, and
        // nothing that is counted here waits for it.
        if committed > end && seen.hw.is_none_or(|hw| committed > hw) {
            self.beyond += 1;
            return if self.beyond < IMPOSSIBLE_POLLS { None } else { from_reset() };
        }
        self.beyond = 0;
        match before {
            Some(before) if committed < before => *event = Event::Discontinuity,
            Some(before) => {
                // What retention removed was not worked on.
                #[allow(clippy::cast_precision_loss)]
                let progress = committed.saturating_sub(before.max(start)).max(0) as f64;
                if self.leaps(progress, at, possible) {
                    *event = Event::Discontinuity;
                    (self.moved_at, self.waiting_since) = (at, None);
                } else {
                    self.progressed = progress;
                }
            }
            None => self.moved_at = at,
        }
        Some(committed.max(start))
    }

    /// Whether a commit went further than anyone can work: a seek or a skip. Twice in a row it is how fast this group
    /// is now.
    fn leaps(&mut self, progress: f64, at: f64, possible: f64) -> bool {
        if progress <= 0.0 {
            return false;
        }
        // What it is about may have been waiting for up to a poll when that was seen.
        let seconds = 2.0 * at - self.waiting_since.unwrap_or(self.read_at).min(self.read_at) - self.read_at;
        let far = progress >= FEW && progress > possible * seconds;
        let again = std::mem::replace(&mut self.leapt, far);
        far && !again
    }

    /// Takes what waits for no message: an earlier leader has seen it stand for long.
    pub fn known_phantom(&mut self, now: f64) {
        /// Longer than anything is asked to stand.
        const LONG: f64 = 1e6;
        (self.phantom, self.news) = (true, false);
        (self.moved_at, self.end_moved.0) = (now - LONG, now - LONG);
    }

    fn restart(&mut self) {
        *self = Self {
            tp: self.tp.clone(),
            topic_id: self.topic_id.clone(),
            owner: self.owner,
            named_at: self.named_at,
            found: Some((0.0, 0.0)),
            ..Self::default()
        };
    }

    /// Messages that were found at the start, less than `patience` seconds ago, and that nobody was seen to work on.
    pub fn inherited(&self, now: f64, patience: f64) -> f64 {
        self.found.filter(|&(_, at)| now - at < patience).map_or(0.0, |(lag, _)| lag)
    }

    /// Work waits here that a member can do.
    pub fn is_behind(&self) -> bool {
        self.lag > 0.0 && !self.phantom && !self.stuck
    }

    /// Seconds for which no observation has named the partition.
    pub fn unnamed_for(&self, now: f64) -> f64 {
        now - self.named_at
    }

    /// Seconds for which neither end nor commit have moved.
    pub fn still_for(&self, now: f64) -> f64 {
        now - self.moved_at.max(self.end_moved.0)
    }

    /// Seconds for which work has waited without a commit. 0: nothing waits.
    pub fn waiting_for(&self, now: f64) -> f64 {
        self.waiting_since.map_or(0.0, |since| now - since.max(self.moved_at))
    }

    /// Seconds for which the end has stood although the high watermark went on: a transaction hangs.
    pub fn end_held_for(&self, now: f64) -> f64 {
        match (self.end_moved.1, self.hw) {
            (Some(then), Some(hw)) if hw > then && hw > self.end => now - self.end_moved.0,
            _ => 0.0,
        }
    }

    /// The group has a committed offset here.
    pub fn ever_committed(&self) -> bool {
        self.committed.is_some()
    }

    /// Records that the application cannot see yet.
    pub fn hidden(&self) -> bool {
        self.hw.is_some_and(|hw| hw > self.end)
    }
}
