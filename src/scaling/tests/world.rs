//! A group whose offsets a test moves by hand.

use std::sync::Arc;

use super::super::{
    Committed, Config, Decision, Group, GroupKind, GroupRead, GroupState, Kafka, Member, Observation,
    Partition, Pod, State, Target, decide,
};

/// One topic, `orders`, and the group that reads it.
pub struct World {
    pub config: Config,
    pub state: State,
    pub now: f64,
    pub ends: Vec<i64>,
    pub committed: Vec<i64>,
    pub spec: u32,
    pub ready: u32,
    /// What each ready replica does, messages/s. Commits come with each second.
    pub rate: f64,
    /// What all of them do together at most, messages/s: a downstream that they share.
    pub shared: f64,
    /// Carry out patches; pods are then ready after `start` seconds.
    pub apply: bool,
    pub start: f64,
    /// Seconds until a patch shows in the target; 0: at once.
    pub shows_after: f64,
    /// Seconds between two commits; 0: what is done is committed at each look.
    pub commit: f64,
    /// A partition that nobody works on.
    pub frozen: Option<usize>,
    /// Members get one partition done before they begin the next, as where thousands of its messages were fetched.
    pub blocks: bool,
    /// Changes an observation before it is decided on.
    pub edit: fn(&mut Observation),
    sent: Option<(f64, u32)>,
    pending: Option<(f64, u32)>,
    done: f64,
    /// What the last commit said, and when it was.
    shown: (f64, Vec<i64>),
}

impl World {
    pub fn new(partitions: usize, config: Config) -> Self {
        Self {
            config,
            state: State::default(),
            now: 0.0,
            ends: vec![0; partitions],
            committed: vec![0; partitions],
            spec: 1,
            ready: 1,
            rate: 10.0,
            shared: f64::INFINITY,
            apply: true,
            start: 3.0,
            shows_after: 0.0,
            sent: None,
            commit: 0.0,
            frozen: None,
            blocks: false,
            edit: |_| {},
            pending: None,
            done: 0.0,
            shown: (0.0, vec![0; partitions]),
        }
    }

    /// Messages arrive, spread evenly.
    pub fn arrive(&mut self, messages: i64) {
        let partitions = i64::try_from(self.ends.len()).unwrap();
        for (i, end) in (0i64..).zip(self.ends.iter_mut()) {
            *end += messages / partitions + i64::from(i < messages % partitions);
        }
    }

    /// One second of work, then a decision.
    pub fn second(&mut self) -> Decision {
        self.after(1.0)
    }

    pub fn after(&mut self, seconds: f64) -> Decision {
        self.pass(seconds);
        let decision = self.look();
        self.carry_out(&decision);
        decision
    }

    /// Time and work, without a look.
    pub fn pass(&mut self, seconds: f64) {
        self.now += seconds;
        if let Some((_, replicas)) = self.sent.take_if(|(at, _)| self.now >= *at) {
            self.scale(replicas);
        }
        if self.pending.is_some_and(|(at, _)| self.now >= at) {
            self.ready = self.pending.take().map_or(self.ready, |(_, ready)| ready);
        }
        self.work(seconds);
        if self.now - self.shown.0 >= self.commit {
            self.shown = (self.now, self.committed.clone());
        }
    }

    pub fn carry_out(&mut self, decision: &Decision) {
        if !self.apply || !decision.patch {
            return;
        }
        if self.shows_after > 0.0 {
            self.sent.get_or_insert((self.now + self.shows_after, decision.replicas));
        } else {
            self.scale(decision.replicas);
        }
    }

    pub fn scale(&mut self, replicas: u32) {
        self.spec = replicas;
        if replicas < self.ready {
            self.ready = replicas;
            self.pending = None;
        } else {
            self.pending = Some((self.now + self.start, replicas));
        }
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn work(&mut self, seconds: f64) {
        let members = self.ready as usize;
        if members == 0 {
            return;
        }
        self.done += self.rate.min(self.shared / members as f64) * seconds;
        let each = self.done.floor() as i64;
        self.done -= each as f64;
        for member in 0..members {
            let mine: Vec<usize> =
                (0..self.ends.len()).filter(|&p| p % members == member && self.frozen != Some(p)).collect();
            let mut left = each;
            while left > 0 {
                let mut waiting = mine.iter().filter(|&&p| self.ends[p] > self.committed[p]);
                let next = if self.blocks {
                    waiting.next()
                } else {
                    waiting.max_by_key(|&&p| self.ends[p] - self.committed[p])
                };
                let Some(&next) = next else { break };
                self.committed[next] += 1;
                left -= 1;
            }
        }
    }

    pub fn observation(&self) -> Observation {
        let members = self.ready as usize;
        let name = |p: usize| -> Arc<str> { format!("orders/{p}").into() };
        let committed = if self.commit > 0.0 { &self.shown.1 } else { &self.committed };
        let mut seen = Observation {
            now: self.now,
            target: Target {
                spec: self.spec,
                ready: Some(self.ready),
                unschedulable: Some(0),
                revision: "a".into(),
                ..Target::default()
            },
            kafka: Some(Kafka {
                group: GroupRead::Known(Group {
                    kind: GroupKind::Classic,
                    state: if members == 0 { GroupState::Empty } else { GroupState::Stable },
                    assignor: "cooperative-sticky".into(),
                    members: (0..members)
                        .map(|m| Member {
                            id: format!("m{m}").into(),
                            pod: Pod::Known(format!("orders-{m}").into()),
                            is_static: false,
                            partitions: (m..self.ends.len()).step_by(members).map(name).collect(),
                        })
                        .collect(),
                }),
                partitions: (0..self.ends.len())
                    .map(|p| Partition {
                        tp: name(p),
                        topic_id: Some("x".into()),
                        start: Some(0),
                        end: Some(self.ends[p]),
                        hw: Some(self.ends[p]),
                        committed: Committed::At(committed[p]),
                        error: None,
                    })
                    .collect(),
                ..Kafka::default()
            }),
            ..Observation::default()
        };
        (self.edit)(&mut seen);
        seen
    }

    pub fn look(&mut self) -> Decision {
        let seen = self.observation();
        let (decision, state) = decide(&self.config, &seen, std::mem::take(&mut self.state));
        self.state = state;
        decision
    }

    /// Lets `seconds` pass with `rate` messages arriving in each; returns the last decision.
    pub fn run(&mut self, seconds: u32, rate: i64) -> Decision {
        let mut last = None;
        for _ in 0..seconds {
            self.arrive(rate);
            last = Some(self.second());
        }
        last.unwrap_or_else(|| self.look())
    }

    pub fn lag(&self) -> i64 {
        self.ends.iter().zip(&self.committed).map(|(e, c)| e - c).sum()
    }
}
