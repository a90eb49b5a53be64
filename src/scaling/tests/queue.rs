//! A queue whose consumers a test moves by hand, with counters that move each five seconds.

use super::super::{Config, Decision, Observation, RabbitMq, State, Target, decide};

struct Shop {
    config: Config,
    state: State,
    now: u32,
    ready: u64,
    published: u64,
    done: u64,
    /// Published and done as the statistics have it.
    shown: (u64, u64),
    replicas: u32,
    updating: bool,
}

impl Shop {
    /// Four replicas before more than they can do.
    fn new() -> Self {
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
        }
    }

    /// A second in which 35 messages come and each replica does so many.
    fn second(&mut self, each: u64) -> Decision {
        self.now += 1;
        let done = (u64::from(self.replicas) * each).min(self.ready);
        self.published += 35;
        self.ready = self.ready + 35 - done;
        self.done += done;
        if self.now.is_multiple_of(5) {
            self.shown = (self.published, self.done);
        }
        let seen = Observation {
            now: f64::from(self.now),
            target: Target {
                spec: self.replicas,
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
        };
        let (decision, state) = decide(&self.config, &seen, std::mem::take(&mut self.state));
        self.state = state;
        decision
    }

    /// So many seconds; what a replica does is known to be about `mu` at each of them.
    fn seconds(&mut self, seconds: u32, each: u64, mu: f64) {
        for _ in 0..seconds {
            let inputs = self.second(each).inputs;
            assert!((mu - 0.5..mu + 0.5).contains(&inputs.mu.unwrap()), "{} s: {inputs:?}", self.now);
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
