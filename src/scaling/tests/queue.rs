//! A queue whose consumers a test moves by hand, with counters that move each five seconds.

use std::ops::Range;

use super::super::{Config, Decision, Learned, Mode, Observation, RabbitMq, State, Target, decide};

pub(super) struct Shop {
    pub config: Config,
    pub state: State,
    now: u32,
    pub ready: u64,
    published: u64,
    done: u64,
    /// Published and done as the statistics have it.
    shown: (u64, u64),
    pub replicas: u32,
    updating: bool,
    /// Replicas that were asked for and do not work yet.
    starting: u32,
    /// Messages that are ready whenever somebody looks, on their way to a consumer that waits for them.
    on_their_way: u64,
    /// Seconds by which `ack` moves later than `publish`.
    acks_late: u32,
}

impl Shop {
    /// Four replicas before more than they can do.
    pub fn new() -> Self {
        Self {
            config: Config { max_replicas: Some(12), ..Config::default() },
            state: State::default(),
            now: 0,
            ready: 50_000,
            published: 50_000,
            done: 0,
            shown: (50_000, 0),
            replicas: 4,
            updating: false,
            starting: 0,
            on_their_way: 0,
            acks_late: 0,
        }
    }

    /// A second in which 35 messages come and each replica does so many.
    pub fn second(&mut self, each: u64) -> Decision {
        let seen = self.look_after(each);
        let (decision, state) = decide(&self.config, &seen, std::mem::take(&mut self.state));
        self.state = state;
        decision
    }

    /// What is seen after such a second, not yet decided on.
    pub fn look_after(&mut self, each: u64) -> Observation {
        self.now += 1;
        self.published += 35;
        self.ready += 35;
        let done = (u64::from(self.replicas) * each).min(self.ready - self.on_their_way);
        self.ready -= done;
        self.done += done;
        if self.now.is_multiple_of(5) {
            self.shown.0 = self.published;
        }
        if self.now % 5 == self.acks_late {
            self.shown.1 = self.done;
        }
        Observation {
            now: f64::from(self.now),
            target: Target {
                spec: self.replicas + self.starting,
                ready: Some(self.replicas),
                updating: self.updating,
                ..Target::default()
            },
            rabbitmq: Some(RabbitMq {
                kind: "quorum".into(),
                ready: Some(self.ready),
                unacked: Some(0),
                publish: Some(self.shown.0),
                ack: Some(self.shown.1),
                consumers: Some(self.replicas),
                ..RabbitMq::default()
            }),
            ..Observation::default()
        }
    }

    /// So many seconds; what a replica does is known to be about `mu` at each of them.
    fn seconds(&mut self, seconds: u32, each: u64, mu: f64) {
        self.seconds_within(seconds, each, mu - 0.5..mu + 0.5);
    }

    fn seconds_within(&mut self, seconds: u32, each: u64, mu: Range<f64>) {
        for _ in 0..seconds {
            let inputs = self.second(each).inputs;
            assert!(mu.contains(&inputs.mu.unwrap()), "{} s: {inputs:?}", self.now);
        }
    }

    fn measured_lately(&mut self, each: u64) -> bool {
        self.second(each).inputs.mu_age.is_some_and(|age| age < 7.0)
    }
}

#[test]
fn what_consumers_of_a_queue_do_is_measured() {
    let mut shop = Shop::new();
    (0..60).for_each(|_| _ = shop.second(20));
    shop.seconds(20, 20, 20.0);
    assert!(shop.measured_lately(20));
    (0..240).for_each(|_| _ = shop.second(7));
    shop.seconds(20, 7, 7.0);
}

#[test]
fn what_a_replica_does_is_measured_while_more_of_them_start() {
    // A flood is where it shows first, and where it decides how many are too many.
    let mut shop = Shop::new();
    (shop.replicas, shop.starting) = (1, 11);
    let known = (0..30).find(|_| shop.second(20).inputs.mu_age.is_some()).expect("measured");
    assert!(known < 20, "{known} s");
    assert!((19.5..20.5).contains(&shop.second(20).inputs.mu.unwrap()));
}

#[test]
fn what_consumers_of_a_queue_do_during_a_roll_out_is_not_learned() {
    // It begins, and ends, at each of the moments between two moves of the counters.
    for phase in 0..5 {
        let mut shop = Shop::new();
        (0..60 + phase).for_each(|_| _ = shop.second(20));
        shop.updating = true;
        shop.seconds(61 - phase / 2, 3, 20.0);
        assert!(!shop.measured_lately(3));
        shop.updating = false;
        shop.seconds(30, 20, 20.0);
        assert!(shop.measured_lately(20), "and measured again when it is over");
    }
}

#[test]
fn a_roll_out_between_two_moves_of_the_counters_spoils_what_they_tell() {
    let mut shop = Shop::new();
    (0..60).for_each(|_| _ = shop.second(20));
    for _ in 0..20 {
        shop.seconds(1, 20, 20.0);
        shop.updating = true;
        shop.seconds(2, 3, 20.0);
        shop.updating = false;
        shop.seconds(2, 20, 20.0);
    }
}

#[test]
fn a_scaling_between_two_moves_of_the_counters_spoils_what_they_tell() {
    for phase in 0..5 {
        let mut shop = Shop::new();
        shop.ready = 500_000;
        (0..60 + phase).for_each(|_| _ = shop.second(20));
        for replicas in [12, 3, 9, 1, 12, 4] {
            shop.replicas = replicas;
            // What more of them did a moment ago still shows in what these are seen to do at least.
            shop.seconds_within(30, 20, 19.5..22.0);
            assert!(shop.measured_lately(20), "and measured again when it is over");
        }
    }
}

#[test]
fn counters_that_do_not_move_together_tell_one_rate() {
    for acks_late in 1..5 {
        let mut shop = Shop::new();
        shop.ready = 500_000;
        shop.acks_late = acks_late;
        (0..60).for_each(|_| _ = shop.second(20));
        shop.seconds(30, 20, 20.0);
        shop.replicas = 12;
        shop.seconds_within(30, 20, 19.5..22.0);
        assert!(shop.measured_lately(20));
    }
}

#[test]
fn who_works_on_a_long_job_was_not_measured() {
    let mut shop = Shop::new();
    shop.replicas = 1;
    for _ in 0..30 {
        let inputs = shop.second(0).inputs;
        assert!(inputs.mu_age.is_none(), "{inputs:?}");
    }
}

impl Shop {
    /// Nothing waits, and twelve replicas do what two would.
    fn idle() -> Self {
        Self { ready: 3, on_their_way: 3, replicas: 12, ..Self::new() }
    }

    /// Carries out what is decided, each replica doing up to 20 messages/s. The patches, by their seconds.
    fn obeys(&mut self, seconds: u32) -> Vec<(u32, u32)> {
        let mut patches = Vec::new();
        for second in 0..seconds {
            let decision = self.second(20);
            if decision.patch {
                patches.push((second, decision.replicas));
                self.replicas = decision.replicas;
            }
            assert!(self.ready < 35 * 30, "{second} s: {} wait; {patches:?}", self.ready);
        }
        patches
    }
}

#[test]
fn a_queue_whose_consumers_were_never_busy_goes_down_step_by_step() {
    let patches = Shop::idle().obeys(3 * 3_600);
    assert!(patches.windows(2).all(|pair| pair[1].1 < pair[0].1 || pair[1].1 <= 3), "{patches:?}");
    assert!((2..=3).contains(&patches.last().unwrap().1), "{patches:?}");
}

#[test]
fn a_size_that_held_proves_no_more_than_it_did() {
    // A seeded rate that was too low is mended by what held, and is not made too high by it: a replica does 20/s.
    let mut shop = Shop::idle();
    shop.state = State::seeded(&Learned { rate_per_replica: Some(3.6), ..Learned::default() });
    let patches = shop.obeys(6 * 3_600);
    assert!(patches.last().unwrap().1 <= 4, "{patches:?}");
    let decision = shop.second(20);
    assert!(decision.inputs.mu.unwrap() <= 21.0, "{}", decision.message);
}

#[test]
fn a_rate_that_an_earlier_leader_measured_is_doubted_after_ten_minutes_and_no_sooner() {
    let mut shop = Shop::idle();
    // By that rate, twelve are what 35 messages/s need.
    shop.state = State::seeded(&Learned { rate_per_replica: Some(3.6), ..Learned::default() });
    let patches = shop.obeys(900);
    assert!(matches!(patches[..], [(600.., 8), ..]), "{patches:?}");
}

#[test]
fn a_size_is_not_tried_where_it_is_not_carried_out() {
    let mut shop = Shop { config: Config { mode: Mode::DryRun, ..Shop::new().config }, ..Shop::idle() };
    for _ in 0..3_600 {
        let decision = shop.second(20);
        assert_eq!(decision.replicas, 12, "{}", decision.message);
    }
}
