//! Members of the group: whose they are, and what a saturated one does between two commits.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::observation::{Group, GroupKind, Member, Pod};
use super::partition::Track;

/// The group as last described.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::scaling) struct Members {
    list: Vec<Watch>,
    /// Hash of member ids and assignments: whether anything changed.
    signature: Option<u64>,
    kind: GroupKind,
    assignor: Arc<str>,
    /// Members outside our pods.
    pub foreign: u32,
    /// Members of ours, and ones that cannot be told.
    pub ours: u32,
    /// The most members that were seen in one pod.
    per_pod: Option<u32>,
    has_static: bool,
    /// Without members known, the whole group is watched as one.
    whole: Option<Interval>,
}

/// One member between two commits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Watch {
    id: Arc<str>,
    foreign: bool,
    interval: Option<Interval>,
    #[serde(skip)]
    now: Poll,
}

/// From the last commit on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Interval {
    since: f64,
    /// Lag just after the commit that began it.
    lag: f64,
}

/// What a member did between two commits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::scaling) struct Sample {
    pub messages: f64,
    pub seconds: f64,
    /// It had work throughout: this is what it can do. Otherwise it can do at least this.
    pub saturated: bool,
}

/// One member at one poll.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Poll {
    lag: f64,
    progressed: f64,
    arrival: f64,
    partitions: u32,
    waiting: u32,
    /// Partitions with lag that no commit of the interval touched, and the lag of those that have stood for long.
    standing: u32,
    stands: f64,
}

impl Interval {
    /// The interval that a commit ends now.
    fn ends(self, poll: &Poll, now: f64, poll_seconds: f64) -> Sample {
        /// Polls by whose arrivals the lag just after a commit may be overstated.
        const LATE: f64 = 2.0;
        // One partition that stands while all others are done shows no full hands. Several may be next in turn.
        let stands = if poll.standing == 1 { poll.stands } else { 0.0 };
        let slack = poll.progressed / 2.0 + poll.arrival * poll_seconds * LATE;
        Sample {
            messages: poll.progressed,
            seconds: now - self.since,
            saturated: self.lag.min(poll.lag - stands) > slack,
        }
    }
}

impl Members {
    /// The protocol, as last described.
    pub const fn kind(&self) -> GroupKind {
        self.kind
    }

    /// Takes in a description. True if members or assignments changed.
    pub fn describe(&mut self, group: &Group, parts: &mut [Track]) -> bool {
        self.kind = group.kind;
        if !group.assignor.is_empty() {
            self.assignor.clone_from(&group.assignor);
        }
        let signature = signature(group, parts.len());
        if self.signature == Some(signature) {
            return false;
        }
        // An empty group that had no members to lose is no rebalance.
        let changed = self.signature.is_some();
        self.signature = Some(signature);
        self.assign(group, parts);
        changed
    }

    fn assign(&mut self, group: &Group, parts: &mut [Track]) {
        let known = |id: &Arc<str>| self.list.iter().any(|w| w.id == *id);
        let newcomers: Vec<bool> =
            group.members.iter().map(|m| !self.list.is_empty() && !known(&m.id)).collect();
        let index: BTreeMap<Arc<str>, usize> =
            parts.iter().enumerate().map(|(i, p)| (p.tp.clone(), i)).collect();
        for part in parts.iter_mut() {
            (part.owner, part.new_owner) = (None, false);
        }
        for (m, member) in group.members.iter().enumerate() {
            for tp in &member.partitions {
                if let Some(&i) = index.get(tp) {
                    (parts[i].owner, parts[i].new_owner) = (Some(m), newcomers[m]);
                }
            }
        }
        self.list = group.members.iter().map(Watch::new).collect();
        #[allow(clippy::cast_possible_truncation)]
        {
            self.foreign = self.list.iter().filter(|w| w.foreign).count() as u32;
            self.ours = self.list.len() as u32 - self.foreign;
        }
        self.has_static = group.members.iter().any(|m| m.is_static);
        let mut pods: BTreeMap<&str, u32> = BTreeMap::new();
        for member in &group.members {
            if let Pod::Known(pod) = &member.pod {
                *pods.entry(pod).or_default() += 1;
            }
        }
        self.per_pod = pods.values().max().copied().or(self.per_pod);
    }

    /// Whether the assignor spreads each topic by itself. Unknown counts as `range`, Kafka's own first choice.
    pub fn by_topic(&self) -> bool {
        self.kind != GroupKind::Consumer && (self.assignor.is_empty() || self.assignor.starts_with("range"))
            || self.assignor.as_ref() == "range"
    }

    /// Consumers per replica as the members show it: per pod where pods are known, else per ready replica.
    pub fn per_replica(&self, ready: Option<u32>) -> Option<u32> {
        self.per_pod.or_else(|| {
            let ready = ready.filter(|&r| r > 0 && self.ours >= r)?;
            Some((self.ours + ready / 2) / ready)
        })
    }

    /// Some member is static: its partitions stay with it for a while after it is gone.
    pub fn is_static(&self) -> bool {
        self.has_static
    }

    /// Members, foreign ones too.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether each partition's owner is known.
    pub fn known(&self) -> bool {
        !self.list.is_empty()
    }

    /// The next description is taken in afresh: partition indices have changed.
    pub fn reassign(&mut self) {
        self.signature = None;
        self.list.clear();
    }

    /// Forgets intervals: what goes on now is no sample of ordinary work.
    pub fn interrupt(&mut self) {
        self.whole = None;
        self.list.iter_mut().for_each(|w| w.interval = None);
    }

    /// Adds up this poll and hands out a sample for each member of ours whose interval ended. `divisor`: consumers
    /// that share the work where members are not known.
    pub fn sample(
        &mut self,
        parts: &[Track],
        now: f64,
        poll_seconds: f64,
        divisor: f64,
        mut sink: impl FnMut(Sample),
    ) {
        /// Seconds after which a partition that stands is more than next in turn.
        const LONG: f64 = 10.0;
        if self.list.is_empty() {
            let mut poll = Poll::default();
            parts.iter().filter(|p| p.usable).for_each(|p| poll.add(p));
            // Someone is idle where nothing waits: only a group that is busy everywhere is a sample.
            let busy = poll.waiting == poll.partitions;
            if !busy {
                self.whole = None;
            }
            if let Some(sample) = advance(&mut self.whole, &poll, now, poll_seconds) {
                sink(Sample { messages: sample.messages / divisor, ..sample });
            }
            return;
        }
        self.list.iter_mut().for_each(|w| w.now = Poll::default());
        for part in parts.iter().filter(|p| p.usable && !p.stuck) {
            if let Some(watch) = part.owner.and_then(|o| self.list.get_mut(o)) {
                watch.now.add(part);
                if part.lag > 0.0 && watch.interval.is_some_and(|interval| part.moved_at < interval.since) {
                    watch.now.standing += 1;
                    let long = part.waiting_for(now) > LONG || part.inherited(now, f64::INFINITY) > 0.0;
                    watch.now.stands += if long { part.lag } else { 0.0 };
                }
            }
        }
        for watch in self.list.iter_mut().filter(|w| !w.foreign) {
            let poll = watch.now;
            if let Some(sample) = advance(&mut watch.interval, &poll, now, poll_seconds) {
                sink(sample);
            }
        }
    }
}

/// Ends the interval at a commit, and begins the next one.
fn advance(interval: &mut Option<Interval>, poll: &Poll, now: f64, poll_seconds: f64) -> Option<Sample> {
    if poll.progressed <= 0.0 {
        return None;
    }
    let ended = interval.take().map(|i| i.ends(poll, now, poll_seconds));
    *interval = Some(Interval { since: now, lag: poll.lag });
    ended.filter(|sample| sample.seconds > 0.0)
}

impl Watch {
    fn new(member: &Member) -> Self {
        Self { id: member.id.clone(), foreign: member.pod == Pod::Foreign, ..Self::default() }
    }
}

impl Poll {
    fn add(&mut self, part: &Track) {
        self.lag += part.lag;
        self.progressed += part.progressed;
        self.arrival += part.slow.mean();
        self.partitions += 1;
        self.waiting += u32::from(part.lag > 0.0);
    }
}

/// The hasher has fixed keys: the same group hashes the same everywhere.
fn signature(group: &Group, partitions: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    partitions.hash(&mut hasher);
    for member in &group.members {
        member.id.hash(&mut hasher);
        member.partitions.hash(&mut hasher);
        matches!(member.pod, Pod::Foreign).hash(&mut hasher);
    }
    hasher.finish()
}
