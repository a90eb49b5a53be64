use super::super::policy::ObservedPolicy;
use super::*;
use crate::api::exchange::Exchange;
use proptest::prelude::*;
use serde_json::json;

const INPUT: Input = Input {
    policy: DeletionPolicy::DeleteIfEmpty,
    management: ManagementPolicy::Manage,
    owner: true,
    heir: false,
    forced: false,
    owned: Owned::Yes,
};

/// How often RabbitMQ renews its statistics unless told otherwise.
const OFTEN: Renewed = Renewed::Every(5.0);

fn empty(kind: &str) -> ObservedQueue {
    ObservedQueue {
        kind: kind.into(),
        state: Some("running".into()),
        leader_online: (kind != "classic").then_some(true),
        messages: Some(0),
        unacked: Some(0),
        consumers: Some(0),
        ..ObservedQueue::default()
    }
}

fn of(kind: &str) -> QueueType {
    let all = [QueueType::Quorum, QueueType::Classic, QueueType::Stream];
    all.into_iter().find(|one| one.as_str() == kind).expect("a type")
}

#[test]
fn what_took_the_queue_s_place_is_not_deleted_even_with_delete() {
    for policy in [DeletionPolicy::Delete, DeletionPolicy::DeleteIfEmpty] {
        let decide = |queue: ObservedQueue| {
            decide_queue(&Input { policy, ..INPUT }, QueueType::Quorum, Some(&queue), Some(30.0), OFTEN)
        };
        for replaced in [
            empty("stream"),
            empty("classic"),
            ObservedQueue { exclusive: true, ..empty("quorum") },
            ObservedQueue { auto_delete: true, ..empty("quorum") },
        ] {
            let verdict = decide(replaced);
            assert!(matches!(verdict, Verdict::Release(why) if why.contains("replaced")), "{verdict:?}");
        }
        assert!(matches!(decide(empty("")), Verdict::Keep(_)), "it may be ours");
        assert_eq!(decide(empty("quorum")), Verdict::Delete);
        // An edit may have asked for another one.
        assert_eq!(decide(ObservedQueue { durable: true, ..empty("quorum") }), Verdict::Delete);
    }
}

#[test]
fn an_empty_queue_is_deleted_at_the_second_look() {
    for (kind, apart) in [("classic", 6.5), ("quorum", 11.5), ("stream", 11.5)] {
        let decide = |empty_for| decide_queue(&INPUT, of(kind), Some(&empty(kind)), empty_for, OFTEN);
        assert_eq!(decide(None), Verdict::LookAgain);
        assert_eq!(decide(Some(apart - 0.1)), Verdict::LookAgain);
        assert_eq!(decide(Some(apart)), Verdict::Delete);
    }
}

#[test]
fn both_looks_came_from_one_sample_where_statistics_were_renewed_every_thirty_seconds() {
    let rarely = Renewed::Every(30.0);
    for kind in ["quorum", "stream"] {
        let decide =
            |empty_for, renewed| decide_queue(&INPUT, of(kind), Some(&empty(kind)), empty_for, renewed);
        assert_eq!(decide(Some(30.0), rarely), Verdict::LookAgain);
        assert_eq!(decide(Some(36.5), rarely), Verdict::Delete);
        assert_eq!(decide(Some(36.5), Renewed::Every(600.0)), Verdict::LookAgain);
        assert_eq!(decide(Some(606.5), Renewed::Every(600.0)), Verdict::Delete);
        assert_eq!(decide(Some(30.0), Renewed::Unseen), Verdict::LookAgain);
        assert!(
            matches!(decide(Some(30.0), Renewed::Never), Verdict::Keep(why) if why.contains("switched off"))
        );
    }
    // A classic queue itself says what it holds, but not how many consumers it has.
    let classic = empty("classic");
    for renewed in [rarely, Renewed::Unseen, Renewed::Never] {
        assert_eq!(
            decide_queue(&INPUT, QueueType::Classic, Some(&classic), Some(7.0), renewed),
            Verdict::Delete
        );
        assert_ne!(may_recreate(&classic, Some(7.0), renewed), Verdict::Delete);
    }
}

#[test]
fn a_look_from_before_an_interruption_does_not_count() {
    for kind in ["classic", "quorum", "stream"] {
        assert_eq!(
            decide_queue(&INPUT, of(kind), Some(&empty(kind)), Some(180.0), OFTEN),
            Verdict::LookAgain
        );
        assert_eq!(may_recreate(&empty(kind), Some(180.0), OFTEN), Verdict::LookAgain);
    }
}

#[test]
fn what_is_not_known_is_not_empty() {
    let quorum = || empty("quorum");
    for (queue, said) in [
        (ObservedQueue { messages: None, ..quorum() }, "does not tell how many messages"),
        (ObservedQueue { unacked: None, ..quorum() }, "does not tell how many messages"),
        (ObservedQueue { state: None, ..quorum() }, "state is not known"),
        (ObservedQueue { state: Some("down".into()), ..quorum() }, "state is down"),
        (ObservedQueue { leader_online: None, ..quorum() }, "does not tell whether the queue's leader"),
        (ObservedQueue { leader_online: Some(false), ..quorum() }, "leader is not online"),
        (ObservedQueue { kind: String::new(), ..quorum() }, "does not tell the queue's type"),
        (ObservedQueue { messages: Some(3), ..quorum() }, "holds 3 messages"),
        (ObservedQueue { unacked: Some(2), ..quorum() }, "holds 2 messages"),
    ] {
        let verdict = decide_queue(&INPUT, QueueType::Quorum, Some(&queue), Some(30.0), OFTEN);
        assert!(matches!(&verdict, Verdict::Keep(why) if why.contains(said)), "{verdict:?} {said}");
        assert!(matches!(may_recreate(&queue, Some(30.0), OFTEN), Verdict::Keep(_)));
    }
}

#[test]
fn a_queue_with_consumers_is_not_recreated_but_may_be_deleted() {
    for consumers in [Some(1), None] {
        let queue = ObservedQueue { consumers, ..empty("classic") };
        assert!(
            matches!(may_recreate(&queue, Some(30.0), OFTEN), Verdict::Keep(why) if why.contains("consumers"))
        );
        assert_eq!(
            decide_queue(&INPUT, QueueType::Classic, Some(&queue), Some(30.0), OFTEN),
            Verdict::Delete
        );
    }
    assert_eq!(may_recreate(&empty("classic"), Some(30.0), OFTEN), Verdict::Delete);
}

#[test]
fn a_policy_goes_with_a_queue_that_goes_and_stays_with_one_that_stays() {
    let ours = ObservedPolicy { name: "spillway.q.q".into(), ..ObservedPolicy::default() };
    let policies = VhostPolicies { policies: vec![ours], operator: Vec::new() };
    let goes = |input: &Input| policy_goes(input, "q", &policies);
    assert_eq!(goes(&INPUT), Some("spillway.q.q".into()));
    assert_eq!(policy_goes(&INPUT, "other", &policies), None);
    for stays in [
        Input { policy: DeletionPolicy::Retain, ..INPUT },
        Input { management: ManagementPolicy::Observe, ..INPUT },
        Input { owner: false, ..INPUT },
        Input { heir: true, ..INPUT },
        Input { forced: true, ..INPUT },
        Input { owned: Owned::Never, ..INPUT },
    ] {
        assert_eq!(goes(&stays), None, "{stays:?}");
    }
}

#[test]
fn an_exchange_in_use_is_kept_and_so_is_one_that_may_be() {
    let (wanted, exchange) = (exchange(json!({"type": "topic"})), topic());
    let none = VhostPolicies::default();
    let unused = Uses { from: Some(0), to: Some(0), policies: Some(&none) };
    let decide = |uses: &Uses<'_>| decide_exchange(&INPUT, &wanted, false, Some(&exchange), uses);
    assert_eq!(decide(&unused), Verdict::Delete);
    let definition = [("dead-letter-exchange".to_owned(), json!("x"))].into();
    let sends = ObservedPolicy { name: "all".into(), definition, ..ObservedPolicy::default() };
    let named = VhostPolicies { policies: vec![sends], operator: Vec::new() };
    for used in [
        Uses { from: Some(1), ..unused },
        Uses { to: Some(1), ..unused },
        Uses { from: None, ..unused },
        Uses { to: None, ..unused },
        Uses { policies: None, ..unused },
        Uses { policies: Some(&named), ..unused },
    ] {
        assert!(matches!(decide(&used), Verdict::Keep(_)), "{used:?}");
    }
    let delete = Input { policy: DeletionPolicy::Delete, ..INPUT };
    assert_eq!(decide_exchange(&delete, &wanted, false, Some(&exchange), &Uses::default()), Verdict::Delete);
}

fn exchange(spec: serde_json::Value) -> DesiredExchange {
    let mut spec = spec;
    spec["brokerRef"] = json!({"name": "rabbit"});
    DesiredExchange::of(&Exchange::new("x", serde_json::from_value(spec).unwrap())).unwrap()
}

fn topic() -> ObservedExchange {
    ObservedExchange { kind: "topic".into(), durable: true, ..ObservedExchange::default() }
}

#[test]
fn an_exchange_that_somebody_declared_otherwise_in_the_exchange_s_place_was_deleted() {
    let none = VhostPolicies::default();
    let uses = Uses { from: Some(0), to: Some(0), policies: Some(&none) };
    let wanted = exchange(json!({"type": "topic", "arguments": {"hash-header": "h"}}));
    let arguments = |value: &str| [("hash-header".to_owned(), json!(value))].into();
    let ours = ObservedExchange { arguments: arguments("h"), ..topic() };
    for policy in [DeletionPolicy::Delete, DeletionPolicy::DeleteIfEmpty] {
        let decide = |seen: &ObservedExchange, edited| {
            decide_exchange(&Input { policy, ..INPUT }, &wanted, edited, Some(seen), &uses)
        };
        assert_eq!(decide(&ours, false), Verdict::Delete);
        for another in [
            ObservedExchange { kind: "fanout".into(), ..ours.clone() },
            ObservedExchange { durable: false, ..ours.clone() },
            ObservedExchange { auto_delete: true, ..ours.clone() },
            ObservedExchange { internal: true, ..ours.clone() },
        ] {
            for edited in [false, true] {
                let verdict = decide(&another, edited);
                assert!(matches!(verdict, Verdict::Release(why) if why.contains("replaced")), "{another:?}");
            }
        }
        let other = ObservedExchange { arguments: arguments("i"), ..ours.clone() };
        assert!(matches!(decide(&other, false), Verdict::Release(_)));
        assert_eq!(decide(&other, true), Verdict::Delete, "an edit asks for what cannot be changed");
        // What was adopted may have more.
        let mut more = ours.clone();
        more.arguments.insert("alternate-exchange".into(), json!("rest"));
        assert_eq!(decide(&more, false), Verdict::Delete);
    }
}

#[test]
fn the_words_name_the_object() {
    let gone = |verdict| matches!(verdict, Verdict::Release(why) if why.contains("gone already"));
    assert!(
        gone(decide_queue(&INPUT, QueueType::Quorum, None, None, OFTEN))
            && gone(decide_binding(&INPUT, false))
    );
    let retain = Input { policy: DeletionPolicy::Retain, ..INPUT };
    assert_eq!(decide_binding(&retain, true), Verdict::Release("the binding stays at the broker"));
    assert_eq!(decide_binding(&INPUT, true), Verdict::Delete);
}

proptest! {
    #[test]
    fn nothing_is_deleted_unless_told_in_so_many_words(
        policy in prop::sample::select(vec![DeletionPolicy::Retain, DeletionPolicy::Delete, DeletionPolicy::DeleteIfEmpty]),
        management in prop::sample::select(vec![ManagementPolicy::Manage, ManagementPolicy::Observe]),
        owner: bool, heir: bool, forced: bool, owned: bool,
        kind in prop::sample::select(vec!["quorum", "classic", "stream", ""]),
        wanted in prop::sample::select(vec![QueueType::Quorum, QueueType::Classic, QueueType::Stream]),
        state in prop::sample::select(vec![None, Some("running"), Some("down")]),
        leader_online: Option<bool>,
        messages in prop::option::of(0u64..2), unacked in prop::option::of(0u64..2), consumers in prop::option::of(0u64..2),
        empty_for in prop::option::of(0.0f64..130.0),
        renewed in prop_oneof![Just(Renewed::Never), Just(Renewed::Unseen), (1.0f64..60.0).prop_map(Renewed::Every)],
    ) {
        let owned = if owned { Owned::Yes } else { Owned::Never };
        let input = Input { policy, management, owner, heir, forced, owned };
        let queue = ObservedQueue {
            kind: kind.into(), state: state.map(Into::into), leader_online, messages, unacked, consumers,
            ..ObservedQueue::default()
        };
        let online = leader_online == Some(true) || kind == "classic" && leader_online.is_none();
        let empty = !kind.is_empty() && state == Some("running") && online
            && messages == Some(0) && unacked == Some(0);
        let within = |apart: f64| empty_for.is_some_and(|s| (apart..=apart + 60.0).contains(&s));
        let proven = matches!(renewed, Renewed::Every(seconds) if within(seconds + 6.5));
        let empty_twice = empty && (proven || kind == "classic" && empty_for.is_some_and(|s| s >= 6.5));
        if decide_queue(&input, wanted, Some(&queue), empty_for, renewed) == Verdict::Delete {
            prop_assert_eq!(kind, wanted.as_str());
            prop_assert!(owner && !heir && !forced && management == ManagementPolicy::Manage && owned == Owned::Yes);
            prop_assert!(policy == DeletionPolicy::Delete || policy == DeletionPolicy::DeleteIfEmpty && empty_twice);
        }
        let recreated = empty && proven && consumers == Some(0);
        prop_assert_eq!(may_recreate(&queue, empty_for, renewed) == Verdict::Delete, recreated);
    }
}
