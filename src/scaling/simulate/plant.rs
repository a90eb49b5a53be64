//! A consumer group, or the consumers of a queue, with what hurts in it: pods that start slowly, members that take
//! time to leave, rebalances that stop the work and repeat some of it, commits that lag behind, a limit downstream,
//! poison.
//!
//! Time moves in [`STEP`]s. The plant knows everything; a scaler sees only [`super::view`].

mod queue;

use std::collections::VecDeque;

use super::measure::Meter;
use super::random::Random;

/// Seconds of one step.
pub(super) const STEP: f64 = 0.1;

/// Seconds for which a group keeps the partitions of a static member that left: Kafka's `session.timeout.ms`.
const SESSION: f64 = 45.0;

/// How members share partitions when some come or go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Everyone stops; partitions are dealt out anew.
    Eager,
    /// Only partitions that move stop.
    Cooperative,
    /// KIP-848: only partitions that move stop, for a heartbeat.
    Consumer,
}

/// What a plant is made of.
#[derive(Debug, Clone)]
pub(super) struct Design {
    pub partitions: usize,
    /// Messages/s of one replica.
    pub rate: f64,
    /// Seconds between two commits of a member.
    pub commit: f64,
    /// Seconds from a patch to a ready pod, give or take a quarter.
    pub cold_start: f64,
    /// Seconds that a rebalance stops partitions for.
    pub pause: f64,
    pub protocol: Protocol,
    /// Members have a `group.instance.id`: nobody gets the partitions of one that left until its session ends.
    pub static_members: bool,
    /// A queue instead of a topic: how many messages a consumer holds at a time. `partitions` is then the most
    /// replicas.
    pub prefetch: Option<u64>,
    /// Seconds until a member that is stopped has left.
    pub leave: f64,
    /// Weight of each partition's arrivals; empty: equal.
    pub weights: Vec<f64>,
    pub replicas: u32,
    /// Things that happen at given seconds.
    pub events: Vec<(f64, Event)>,
}

/// Something that happens to a plant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Event {
    /// All replicas work at this share of their rate.
    Pace(f64),
    /// The first pod works at this share of its rate.
    SlowPod(f64),
    /// One partition is not worked on, or is again.
    Stuck(usize, bool),
    /// All replicas together do no more than this.
    Downstream(f64),
    /// This share of messages ends as dead letters.
    Poison(f64),
    /// This share of messages is rejected to a retry queue, and comes back after so many seconds.
    Retry(f64, f64),
    /// No more pods than this find a node.
    Nodes(u32),
    /// New pods never become ready, or do again.
    CrashLoop(bool),
    /// The template changes: all pods are replaced, one at a time.
    Rollout,
    /// So many members outside the workload join.
    Foreign(u32),
    /// Nothing can be read, or can be again.
    Dark(bool),
    /// One partition cannot be read, or can be again.
    Leaderless(usize, bool),
    /// A person moves all commits to the log end.
    SkipToEnd,
    /// A person moves all commits back by this many messages.
    Rewind(u64),
    /// The topic is deleted and made again.
    Recreate,
    /// Partitions are added.
    Grow(usize),
    /// A transaction hangs: nothing beyond it is seen, or is again.
    HoldTransaction(bool),
    /// Another leader takes over, with what the status says.
    Failover,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Partition {
    /// Messages that wait: (arrived at, how many).
    queue: VecDeque<(f64, u64)>,
    pub end: i64,
    pub position: i64,
    pub committed: i64,
    /// Messages at the front that were done before a rebalance and are done again.
    redo: i64,
    pub owner: Option<usize>,
    paused_until: f64,
    stuck: bool,
    pub leaderless: bool,
    /// End that readers of committed records see while a transaction hangs.
    pub held_end: Option<i64>,
}

#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub id: u64,
    ready_at: Option<f64>,
    pub joined: bool,
    leaving_at: Option<f64>,
    pub foreign: bool,
    factor: f64,
    credit: f64,
    next_commit: f64,
    turn: usize,
    revision: u32,
    /// Its partitions.
    mine: Vec<usize>,
    /// Of a queue: where messages came from, when they arrived, how many.
    held: VecDeque<(usize, f64, u64)>,
}

impl Pod {
    /// A member that works. A static one that left is a member for a while, and does nothing.
    fn works(&self, now: f64) -> bool {
        self.joined && self.leaving_at.is_none_or(|at| at > now)
    }
}

/// A running plant.
#[allow(clippy::struct_excessive_bools)] // independent facts, not a state
pub(super) struct Plant {
    pub design: Design,
    pub now: f64,
    pub partitions: Vec<Partition>,
    pub pods: Vec<Pod>,
    pub spec: u32,
    pub topic: u32,
    pub revision: u32,
    pub dead_letters: i64,
    pub dark: bool,
    pub failed_over: bool,
    /// Until when the group is rebalancing.
    pub rebalancing_until: f64,
    pub meter: Meter,
    random: Random,
    next_pod: u64,
    next_event: usize,
    pace: f64,
    downstream: f64,
    poison: f64,
    retry: Option<(f64, f64)>,
    /// Of a queue: messages in the retry queue, each with when it comes back.
    away: VecDeque<(f64, u64)>,
    /// Of a queue: messages that came back.
    returned: u64,
    last_arrival: f64,
    nodes: u32,
    crash_loop: bool,
    rollout: bool,
    pub statistics: queue::Statistics,
}

impl Plant {
    pub fn new(design: Design, target_delay: f64, seed: u64) -> Self {
        let mut plant = Self {
            now: 0.0,
            partitions: vec![Partition::default(); design.partitions],
            pods: Vec::new(),
            spec: design.replicas,
            topic: 0,
            revision: 0,
            dead_letters: 0,
            dark: false,
            failed_over: false,
            rebalancing_until: 0.0,
            meter: Meter::new(target_delay),
            random: Random::new(seed),
            next_pod: 0,
            next_event: 0,
            pace: 1.0,
            downstream: f64::INFINITY,
            poison: 0.0,
            retry: None,
            away: VecDeque::new(),
            returned: 0,
            last_arrival: f64::NEG_INFINITY,
            nodes: u32::MAX,
            crash_loop: false,
            rollout: false,
            statistics: queue::Statistics::default(),
            design,
        };
        for _ in 0..plant.spec {
            plant.create(Some(0.0), false);
        }
        plant.pods.iter_mut().for_each(|p| p.joined = true);
        plant.assign(false);
        plant
    }

    /// Replicas that are ready.
    pub fn ready(&self) -> u32 {
        count(self.ours().filter(|p| p.ready_at.is_some_and(|at| at <= self.now)))
    }

    /// Pods that no node takes.
    pub fn unschedulable(&self) -> u32 {
        count(self.ours()).saturating_sub(self.nodes)
    }

    /// A rollout is going on.
    pub fn updating(&self) -> bool {
        self.rollout
    }

    /// Messages that wait.
    pub fn waiting(&self) -> u64 {
        self.ready_messages() + self.held()
    }

    fn ours(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|p| !p.foreign && p.leaving_at.is_none())
    }

    /// Messages wait, or came a moment ago: no time to go to zero.
    fn has_work(&self) -> bool {
        /// Seconds.
        const MOMENT: f64 = 30.0;
        self.waiting() > 0 || self.now - self.last_arrival < MOMENT
    }

    /// Messages/s of one replica, and how many messages/s all together can do at most.
    pub fn pace(&self) -> (f64, f64) {
        (self.design.rate * self.pace, self.downstream)
    }

    /// Someone patches the count.
    pub fn scale(&mut self, replicas: u32) {
        if replicas == 0 && self.spec > 0 && self.has_work() {
            self.meter.false_zeros += 1;
        }
        self.meter.scaled(self.now, self.spec, replicas);
        self.spec = replicas;
        let mut extra = count(self.ours()).saturating_sub(replicas);
        // As a ReplicaSet does: pods that are not ready go first, then the newest.
        for ready in [false, true] {
            for i in (0..self.pods.len()).rev() {
                let pod = &self.pods[i];
                let is_ready = pod.ready_at.is_some_and(|at| at <= self.now);
                if extra > 0 && !pod.foreign && pod.leaving_at.is_none() && is_ready == ready {
                    self.pods[i].leaving_at = Some(self.now + self.design.leave);
                    extra -= 1;
                }
            }
        }
    }

    fn create(&mut self, ready_at: Option<f64>, foreign: bool) {
        let next_commit = self.now + self.design.commit * self.random.unit();
        self.pods.push(Pod {
            id: self.next_pod,
            ready_at,
            joined: false,
            leaving_at: None,
            foreign,
            factor: 1.0,
            credit: 0.0,
            next_commit,
            turn: 0,
            revision: self.revision,
            mine: Vec::new(),
            held: VecDeque::new(),
        });
        self.next_pod += 1;
    }

    /// One step, in which `arrivals` messages/s come.
    pub fn step(&mut self, arrivals: f64) {
        self.now += STEP;
        while let Some(&(at, event)) = self.design.events.get(self.next_event).filter(|e| e.0 <= self.now) {
            debug_assert!(at <= self.now);
            self.next_event += 1;
            self.happen(event);
        }
        self.arrive(arrivals);
        self.pods_move();
        if let Some(prefetch) = self.design.prefetch {
            self.serve(prefetch);
        } else {
            self.work();
            self.commit();
        }
        let idle = self.partitions.iter().filter(|p| p.paused_until > self.now || p.owner.is_none()).count();
        let orphaned: usize =
            self.pods.iter().filter(|p| p.joined && !p.works(self.now)).map(|p| p.mine.len()).sum();
        self.meter.tick(STEP, count(self.ours()), idle + orphaned);
    }

    fn arrive(&mut self, rate: f64) {
        let total: f64 = self.design.weights.iter().take(self.partitions.len()).sum();
        #[allow(clippy::cast_precision_loss)]
        let even = 1.0 / self.partitions.len().max(1) as f64;
        for (i, partition) in self.partitions.iter_mut().enumerate() {
            let share = self.design.weights.get(i).map_or(even, |w| w / total);
            let messages = self.random.poisson(rate * share * STEP);
            if messages > 0 {
                self.last_arrival = self.now;
                partition.end += messages.cast_signed();
                partition.queue.push_back((self.now, messages));
            }
        }
        while let Some(&(_, messages)) = self.away.front().filter(|m| m.0 <= self.now) {
            self.away.pop_front();
            self.returned += messages;
            self.partitions[0].end += messages.cast_signed();
            self.partitions[0].queue.push_back((self.now, messages));
        }
    }

    /// Pods are made, become ready, join, and leave; the group rebalances.
    fn pods_move(&mut self) {
        let now = self.now;
        self.roll();
        while count(self.ours()) < self.spec {
            self.create(None, false);
        }
        let (nodes, crash_loop) = (self.nodes, self.crash_loop);
        let mut placed = 0;
        for i in 0..self.pods.len() {
            let pod = &self.pods[i];
            if pod.foreign || pod.leaving_at.is_some() {
                continue;
            }
            placed += 1;
            if pod.ready_at.is_none() && placed <= nodes && !crash_loop {
                let start = self.design.cold_start * self.random.between(0.75, 1.25);
                self.pods[i].ready_at = Some(now + start);
            }
        }
        if self.design.prefetch.is_some() {
            self.take_back();
        } else {
            self.goodbye();
        }
        let before = self.pods.len();
        let joined = self.pods.iter().filter(|p| p.joined).count();
        let session = if self.design.static_members { SESSION } else { 0.0 };
        self.pods.retain(|p| p.leaving_at.is_none_or(|at| at + session > now));
        let mut changed = self.pods.len() < before && self.pods.iter().filter(|p| p.joined).count() < joined;
        for pod in &mut self.pods {
            if !pod.joined && pod.leaving_at.is_none() && pod.ready_at.is_some_and(|at| at <= now) {
                pod.joined = true;
                changed = true;
            }
        }
        if changed {
            self.meter.rebalances += 1;
            self.rebalancing_until =
                now + if self.design.prefetch.is_some() { 0.0 } else { self.design.pause };
            self.assign(true);
        }
    }

    /// A member that leaves in good order commits what it did.
    fn goodbye(&mut self) {
        for pod in self.pods.iter().filter(|p| p.joined && p.leaving_at.is_some_and(|at| at <= self.now)) {
            for &p in &pod.mine {
                self.partitions[p].committed = self.partitions[p].position;
            }
        }
    }

    fn roll(&mut self) {
        if !self.rollout {
            return;
        }
        let waiting = self.ours().any(|p| p.ready_at.is_none_or(|at| at > self.now));
        let old = self
            .pods
            .iter()
            .position(|p| !p.foreign && p.leaving_at.is_none() && p.revision != self.revision);
        match old {
            Some(i) if !waiting => self.pods[i].leaving_at = Some(self.now + self.design.leave),
            Some(_) => {}
            None => self.rollout = waiting,
        }
    }

    /// Deals partitions out. Those that move, or all under the eager protocol, stop for a while, and what was
    /// done since the last commit is done again.
    fn assign(&mut self, pause: bool) {
        if self.design.prefetch.is_some() {
            // Nothing is dealt out, and nothing stops.
            self.partitions.iter_mut().for_each(|p| p.owner = Some(0));
            return;
        }
        let members: Vec<usize> = (0..self.pods.len()).filter(|&i| self.pods[i].joined).collect();
        let owners = self.deal(&members);
        let until = self.now + if pause { self.design.pause } else { 0.0 };
        let eager = self.design.protocol == Protocol::Eager;
        for (partition, owner) in self.partitions.iter_mut().zip(owners) {
            let id = owner.map(|o| usize::try_from(self.pods[o].id).unwrap_or(usize::MAX));
            if eager || partition.owner != id {
                partition.paused_until = until;
                partition.redo += partition.position - partition.committed;
                partition.position = partition.committed;
            }
            partition.owner = id;
        }
        for pod in &mut self.pods {
            let id = usize::try_from(pod.id).ok();
            pod.mine = (0..self.partitions.len()).filter(|&p| self.partitions[p].owner == id).collect();
        }
    }

    /// New owners by index into `pods`. Eager groups are dealt like `range`; others keep what they can.
    fn deal(&self, members: &[usize]) -> Vec<Option<usize>> {
        let total = self.partitions.len();
        if members.is_empty() {
            return vec![None; total];
        }
        let (share, rest) = (total / members.len(), total % members.len());
        let quota = |m: usize| share + usize::from(m < rest);
        if self.design.protocol == Protocol::Eager {
            return members.iter().enumerate().flat_map(|(m, &i)| vec![Some(i); quota(m)]).collect();
        }
        let mut owners = vec![None; total];
        let mut held = vec![0; members.len()];
        for (p, partition) in self.partitions.iter().enumerate() {
            let kept = members
                .iter()
                .position(|&i| partition.owner.is_some_and(|id| self.pods[i].id == id as u64))
                .filter(|&m| held[m] < quota(m));
            if let Some(m) = kept {
                owners[p] = Some(members[m]);
                held[m] += 1;
            }
        }
        for owner in owners.iter_mut().filter(|o| o.is_none()) {
            let m = (0..members.len()).find(|&m| held[m] < quota(m)).unwrap_or(0);
            *owner = Some(members[m]);
            held[m] += 1;
        }
        owners
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn work(&mut self) {
        let now = self.now;
        let wanted: f64 =
            self.pods.iter().filter(|p| p.works(now)).map(|p| self.design.rate * self.pace * p.factor).sum();
        let share = if wanted > self.downstream { self.downstream / wanted } else { 1.0 };
        for i in 0..self.pods.len() {
            let pod = &mut self.pods[i];
            if !pod.works(now) {
                continue;
            }
            let divisible = share >= 1.0 && pod.mine.len() > 1;
            self.meter.begin_turn();
            let mine = &pod.mine;
            pod.credit += self.design.rate * self.pace * pod.factor * share * STEP;
            let mut budget = pod.credit.floor() as u64;
            pod.credit -= budget as f64;
            let mut idle = 0;
            while budget > 0 && idle < mine.len() {
                let partition = &mut self.partitions[mine[pod.turn % mine.len()]];
                pod.turn = (pod.turn + 1) % mine.len().max(1);
                let done = partition.take(budget.min(10), now, &mut self.meter);
                idle = if done == 0 { idle + 1 } else { 0 };
                budget -= done;
                if self.poison > 0.0 {
                    self.dead_letters +=
                        self.random.poisson(done as f64 * self.poison).min(done).cast_signed();
                }
            }
            self.meter.end_turn(now, divisible && budget == 0);
        }
    }

    fn commit(&mut self) {
        for i in 0..self.pods.len() {
            if self.pods[i].joined && self.now >= self.pods[i].next_commit {
                self.pods[i].next_commit += self.design.commit.max(STEP);
                for &p in &self.pods[i].mine {
                    self.partitions[p].committed = self.partitions[p].position;
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Pace(pace) => self.pace = pace,
            Event::SlowPod(factor) => {
                if let Some(pod) = self.pods.first_mut() {
                    pod.factor = factor;
                }
            }
            Event::Stuck(p, stuck) => self.partitions[p].stuck = stuck,
            Event::Downstream(limit) => self.downstream = limit,
            Event::Poison(share) => self.poison = share,
            Event::Retry(share, after) => self.retry = Some((share, after)),
            Event::Nodes(nodes) => self.nodes = nodes,
            Event::CrashLoop(on) => self.crash_loop = on,
            Event::Rollout => {
                self.revision += 1;
                self.rollout = true;
            }
            Event::Foreign(members) => {
                self.pods.iter_mut().filter(|p| p.foreign).for_each(|p| p.leaving_at = Some(self.now));
                (0..members).for_each(|_| self.create(Some(self.now), true));
            }
            Event::Dark(dark) => self.dark = dark,
            Event::Leaderless(p, on) => self.partitions[p].leaderless = on,
            Event::SkipToEnd => self.partitions.iter_mut().for_each(Partition::skip),
            Event::Rewind(messages) => {
                let now = self.now;
                self.partitions.iter_mut().for_each(|p| p.rewind(messages, now));
            }
            Event::Recreate => {
                self.topic += 1;
                for partition in &mut self.partitions {
                    *partition = Partition { owner: partition.owner, ..Partition::default() };
                }
            }
            Event::Grow(more) => {
                self.partitions.extend(vec![Partition::default(); more]);
                self.assign(true);
            }
            Event::HoldTransaction(on) => {
                self.partitions.iter_mut().for_each(|p| p.held_end = on.then_some(p.end));
            }
            Event::Failover => self.failed_over = true,
        }
    }
}

impl Partition {
    /// Works on up to `budget` messages. Returns how many were done.
    fn take(&mut self, budget: u64, now: f64, meter: &mut Meter) -> u64 {
        if self.stuck || self.paused_until > now || self.leaderless {
            return 0;
        }
        if self.redo > 0 {
            let again = budget.min(self.redo.unsigned_abs());
            self.redo -= again.cast_signed();
            self.position += again.cast_signed();
            return again;
        }
        let mut done = 0;
        while done < budget {
            let visible = self.held_end.map_or(u64::MAX, |end| (end - self.position).max(0).unsigned_abs());
            let Some((arrived, messages)) = self.queue.front_mut().filter(|_| visible > 0) else {
                break;
            };
            let taken = (budget - done).min(*messages).min(visible);
            meter.done(now - *arrived, taken);
            *messages -= taken;
            if *messages == 0 {
                self.queue.pop_front();
            }
            done += taken;
            self.position += taken.cast_signed();
        }
        done
    }

    fn skip(&mut self) {
        self.queue.clear();
        (self.position, self.committed, self.redo) = (self.end, self.end, 0);
    }

    fn rewind(&mut self, messages: u64, now: f64) {
        let back = messages.min(self.committed.max(0).unsigned_abs());
        self.queue.push_front((now, back + self.redo.max(0).unsigned_abs()));
        self.committed -= back.cast_signed();
        (self.position, self.redo) = (self.committed, 0);
    }
}

fn count<'a>(pods: impl Iterator<Item = &'a Pod>) -> u32 {
    u32::try_from(pods.count()).unwrap_or(u32::MAX)
}
