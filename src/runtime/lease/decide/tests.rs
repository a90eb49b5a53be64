use proptest::prelude::*;

use super::*;

const ME: &str = "me";

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn record(holder: &str, renewed: i64) -> Record {
    Record { holder: holder.into(), duration: seconds(15), renewed: Some(renewed), transitions: 0 }
}

fn seen(steps: &[(u64, Option<Record>)]) -> Observed {
    let mut observed = Observed::default();
    for (at, record) in steps {
        observed.note(record.clone(), seconds(*at));
    }
    observed
}

#[test]
fn a_candidate_that_has_not_read_the_lease_does_nothing() {
    let decision = Observed::default().decide(ME, seconds(1000));
    assert_eq!(decision, Decision::WaitUntil(Reading::MAX));
}

#[test]
fn an_absent_lease_is_made_at_once() {
    assert_eq!(seen(&[(1, None)]).decide(ME, seconds(1)), Decision::Create);
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let observed = seen(&[(1, Some(record("other", 1))), (2, Some(record("", 2)))]);
    assert_eq!(observed.decide(ME, seconds(2)), Decision::Take);
    assert_eq!(observed.holder(), None);
}

#[test]
fn a_held_lease_expires_its_duration_after_we_saw_its_last_renewal() {
    let observed = seen(&[(1, Some(record("other", 1))), (9, Some(record("other", 2)))]);
    assert_eq!(observed.decide(ME, seconds(23)), Decision::WaitUntil(seconds(24)));
    assert_eq!(observed.decide(ME, seconds(24)), Decision::Take);
}

#[test]
fn seeing_the_same_record_again_is_no_renewal() {
    let observed = seen(&[(1, Some(record("other", 1))), (9, Some(record("other", 1)))]);
    assert_eq!(observed.decide(ME, seconds(16)), Decision::Take);
}

#[test]
fn the_holders_clock_does_not_matter() {
    let long_ago = seen(&[(1, Some(record("other", i64::MIN)))]);
    let far_ahead = seen(&[(1, Some(record("other", i64::MAX)))]);
    assert_eq!(long_ago.decide(ME, seconds(2)), Decision::WaitUntil(seconds(16)));
    assert_eq!(far_ahead.decide(ME, seconds(16)), Decision::Take);
}

#[test]
fn a_lease_that_bears_our_name_is_ours() {
    assert_eq!(seen(&[(1, Some(record(ME, 1)))]).decide(ME, seconds(1)), Decision::Take);
}

#[test]
fn a_lease_that_is_deleted_while_held_stays_held_until_it_would_have_expired() {
    let observed = seen(&[(1, Some(record("other", 1))), (2, None)]);
    assert_eq!(observed.decide(ME, seconds(15)), Decision::WaitUntil(seconds(16)));
    assert_eq!(observed.decide(ME, seconds(16)), Decision::Create);
}

/// What happens to a Lease in the eyes of the API server, at some millisecond.
#[derive(Clone, Debug)]
enum Event {
    Renewed(&'static str),
    Released,
    Deleted,
}

/// Time since the event before, how late the candidate sees it (both in milliseconds), and the event.
fn events() -> impl Strategy<Value = Vec<(u64, u64, Event)>> {
    let event = prop_oneof![
        6 => Just(Event::Renewed("a")),
        2 => Just(Event::Renewed("b")),
        1 => Just(Event::Released),
        1 => Just(Event::Deleted),
    ];
    prop::collection::vec((0_u64..20_000, 0_u64..5_000, event), 1..40)
}

proptest! {
    /// Whatever is seen, and however late: a Lease is never taken from a holder that renewed it
    /// less than its duration before, and a released one is taken as soon as that is seen.
    #[test]
    fn a_lease_is_never_taken_from_a_holder_that_renewed_in_time(
        events in events(),
        looks in prop::collection::vec(0_u64..30_000, 1..40),
        skew in any::<i32>(),
    ) {
        let mut observed = Observed::default();
        let (mut made, mut now) = (0, 0);
        let mut held_until = 0;
        for (step, (after, late, event)) in events.into_iter().enumerate() {
            made += after;
            // The candidate sees events in their order.
            now = (made + late).max(now);
            let renewed = i64::try_from(made).unwrap() + i64::from(skew);
            let (record, until) = match &event {
                Event::Renewed(holder) => (Some(record(holder, renewed)), made + 15_000),
                Event::Released => (Some(record("", renewed)), made),
                Event::Deleted => (None, held_until),
            };
            held_until = until;
            observed.note(record, Duration::from_millis(now));
            let look = now + looks[step % looks.len()];
            let decision = observed.decide(ME, Duration::from_millis(look));
            match (&event, decision) {
                (Event::Released, decision) => prop_assert_eq!(decision, Decision::Take),
                (_, Decision::Create | Decision::Take) => prop_assert!(look >= held_until),
                (_, Decision::WaitUntil(then)) => prop_assert!(then > Duration::from_millis(look)),
            }
        }
    }

    /// Waiting ends: at the reading that was announced, the Lease may be taken.
    #[test]
    fn a_silent_holder_loses_the_lease_at_the_reading_that_was_announced(
        at in 0_u64..1_000_000,
        look in 0_u64..14_999,
    ) {
        let at = Duration::from_millis(at);
        let mut observed = Observed::default();
        observed.note(Some(record("a", 1)), at);
        let Decision::WaitUntil(then) = observed.decide(ME, at + Duration::from_millis(look)) else {
            return Err(TestCaseError::fail("taken too early"));
        };
        prop_assert_eq!(observed.decide(ME, then), Decision::Take);
    }
}
