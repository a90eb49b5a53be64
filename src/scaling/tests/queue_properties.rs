//! What holds for every queue.

use proptest::prelude::*;

use super::super::{ConditionKind, Decision, Observation, RabbitMq, decide};
use super::queue::Shop;

/// Which figures of a look at a queue are missing.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // Each figure is missing by itself.
struct Missing {
    ready: bool,
    unacked: bool,
    counters: bool,
    all: bool,
}

impl Missing {
    fn any() -> impl Strategy<Value = Self> {
        (any::<[bool; 3]>(), prop::bool::weighted(0.2)).prop_map(|([ready, unacked, counters], all)| Self {
            // Of a look that tells the whole backlog, nothing is unknown here.
            ready: ready || !unacked,
            unacked,
            counters,
            all,
        })
    }

    fn hide(self, seen: &mut Observation) {
        if self.all {
            seen.rabbitmq = None;
        }
        let Some(queue) = &mut seen.rabbitmq else { return };
        queue.ready = queue.ready.filter(|_| !self.ready);
        queue.unacked = queue.unacked.filter(|_| !self.unacked);
        if self.counters {
            (queue.publish, queue.ack, queue.deliver_no_ack) = (None, None, None);
        }
    }
}

/// A shop that has run for so long with so many messages ready at first.
fn shop(ready: u64, replicas: u32, each: u64, seconds: u32) -> Shop {
    let mut shop = Shop::new();
    (shop.ready, shop.replicas) = (ready, replicas);
    (0..seconds).for_each(|_| _ = shop.second(each));
    shop
}

/// A guard that takes back what brought nothing lowers the count.
fn is_guarded(decision: &Decision) -> bool {
    decision.conditions.iter().any(|is| is.kind == ConditionKind::DownstreamBound)
}

fn queue(seen: &mut Observation) -> &mut RabbitMq {
    seen.rabbitmq.as_mut().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_queue_of_which_something_is_unknown_never_lowers(
        ready in 0u64..60_000,
        replicas in 1u32..12,
        each in 0u64..60,
        warm in 0u32..400,
        zero in any::<bool>(),
        looks in prop::collection::vec(Missing::any(), 1..300),
    ) {
        let mut shop = shop(ready, replicas, each, warm);
        shop.config.min_replicas = u32::from(!zero);
        // With nothing left to do, and no patience, it would go down at the first look that shows it.
        (shop.config.stabilization, shop.config.idle_after) = (Some(1.0), 1.0);
        for missing in looks {
            let mut seen = shop.look_after(each.max(40));
            missing.hide(&mut seen);
            let (decision, state) = decide(&shop.config, &seen, std::mem::take(&mut shop.state));
            shop.state = state;
            prop_assert!(decision.replicas >= replicas, "{missing:?}: {}", decision.message);
        }
    }

    #[test]
    fn more_messages_that_are_ready_never_mean_fewer_replicas(
        ready in 0u64..20_000,
        replicas in 1u32..12,
        each in 0u64..60,
        warm in 5u32..400,
        extra in 0u64..100_000,
        delay in 1.0f64..120.0,
    ) {
        let mut shop = shop(ready, replicas, each, warm);
        shop.config.target_delay = delay;
        let less = shop.look_after(each);
        let mut more = less.clone();
        *queue(&mut more).ready.as_mut().unwrap() += extra;
        let (fewer, _) = decide(&shop.config, &less, shop.state.clone());
        let (mut greater, state) = decide(&shop.config, &more, shop.state);
        if greater.replicas < fewer.replicas {
            // A rise whose end is not in sight is looked at once more.
            more.now += shop.config.poll_interval;
            (greater, _) = decide(&shop.config, &more, state);
        }
        prop_assume!(!is_guarded(&fewer) && !is_guarded(&greater));
        prop_assert!(greater.replicas >= fewer.replicas, "{}\n{}", fewer.message, greater.message);
    }
}
