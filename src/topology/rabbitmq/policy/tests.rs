use super::*;
use serde_json::json;

const QUORUM: Kind = Kind::Queue(QueueType::Quorum);

fn policy(name: &str, pattern: &str, priority: i64) -> ObservedPolicy {
    let definition = Definition::from([("max-length".to_owned(), json!(1))]);
    ObservedPolicy {
        name: name.into(),
        pattern: pattern.into(),
        apply_to: "all".into(),
        priority,
        definition,
    }
}

#[test]
fn one_key_that_a_type_does_not_know_keeps_the_whole_policy_away() {
    let classic = Subject { kind: Kind::Queue(QueueType::Classic), name: "q" };
    let mut some = policy("p", ".*", 1);
    assert_eq!(classic.is_met_by(&some), Some(true));
    some.definition.insert("delivery-limit".into(), json!(3));
    assert_eq!(classic.is_met_by(&some), Some(false));
    assert_eq!(Subject { kind: QUORUM, name: "q" }.is_met_by(&some), Some(true));
    assert_eq!(Subject { kind: Kind::Exchange, name: "q" }.is_met_by(&some), Some(true));
}

#[test]
fn apply_to_tells_queue_types_apart() {
    for (apply_to, quorum, exchange) in [
        ("all", true, true),
        ("queues", true, false),
        ("quorum_queues", true, false),
        ("classic_queues", false, false),
        ("streams", false, false),
        ("exchanges", false, true),
    ] {
        let some = ObservedPolicy { apply_to: apply_to.into(), ..policy("p", "q", 1) };
        assert_eq!(Subject { kind: QUORUM, name: "q" }.is_met_by(&some), Some(quorum), "{apply_to}");
        let is = Subject { kind: Kind::Exchange, name: "q" }.is_met_by(&some);
        assert_eq!(is, Some(exchange), "{apply_to}");
    }
}

#[test]
fn the_brokers_word_counts_for_more_than_what_is_computed() {
    let subject = Subject { kind: QUORUM, name: "q" };
    let policies = [policy("a", ".*", 5), policy("b", "(?C)", 7), policy("c", ".*", 100)];
    let none = Definition::new();
    let of = |in_force| Others::of(&subject, &policies, in_force, &none);
    let name = |policy: Option<&ObservedPolicy>| policy.map(|policy| policy.name.clone());
    let computed = of(None);
    assert_eq!((name(computed.lower), name(computed.higher)), (Some("a".into()), Some("c".into())));
    let said = of(Some(Some("b")));
    assert_eq!((name(said.lower), name(said.higher)), (Some("b".into()), None));
    let nothing = of(Some(None));
    assert_eq!((name(nothing.lower), name(nothing.higher)), (None, None));
    let gone = of(Some(Some("deleted meanwhile")));
    assert_eq!((name(gone.lower), name(gone.higher)), (Some("a".into()), Some("c".into())));
}

#[test]
fn a_policy_that_was_edited_after_its_keys_were_carried_over_is_still_known() {
    let subject = Subject { kind: QUORUM, name: "q" };
    let ttl = |name: &str, pattern: &str, key: &str, value: u64| ObservedPolicy {
        definition: [(key.to_owned(), json!(value))].into(),
        ..policy(name, pattern, 5)
    };
    let ours = Definition::from([("max-length".to_owned(), json!(9))]);
    let mut own = subject.policy(ours.clone());
    own.definition.insert("message-ttl".into(), json!(1));
    let lower = |policies: &[ObservedPolicy]| {
        let others = Others::of(&subject, policies, Some(Some(&own.name)), &ours);
        others.lower.map(|policy| policy.name.clone())
    };
    // Its pattern cannot be judged; and which of two equals was in force is RabbitMQ's secret.
    let unjudged = ttl("edited", "(?C)", "message-ttl", 2);
    assert_eq!(lower(&[own.clone(), unjudged.clone()]).as_deref(), Some("edited"));
    let equals = [own.clone(), ttl("a", ".*", "expires", 1), ttl("edited", ".*", "message-ttl", 2)];
    assert_eq!(lower(&equals).as_deref(), Some("edited"));
    // One that another policy accounts for says nothing.
    let accounted = [own.clone(), ttl("plain", ".*", "message-ttl", 1), unjudged];
    assert_eq!(lower(&accounted).as_deref(), Some("plain"));
    assert_eq!(lower(&[own.clone(), ttl("strange", "(?C)", "expires", 1)]), None);
}

#[test]
fn of_equals_the_one_that_had_nothing_to_carry_stays_the_displaced_one() {
    let subject = Subject { kind: QUORUM, name: "q" };
    let of = |name: &str, key: &str, value: u64| ObservedPolicy {
        definition: [(key.to_owned(), json!(value))].into(),
        ..policy(name, ".*", 5)
    };
    let ours = Definition::from([("message-ttl".to_owned(), json!(1))]);
    let own = subject.policy(ours.clone());
    // RabbitMQ had "c" in force, of which nothing was to be kept; "b" was never ours to carry.
    let policies = [of("b", "max-length", 1), of("c", "message-ttl", 2), own.clone()];
    let others = Others::of(&subject, &policies, Some(Some(&own.name)), &ours);
    assert_eq!(others.lower.map(|policy| policy.name.as_str()), Some("c"));
}

#[test]
fn which_of_equals_would_be_in_force_is_chance() {
    let subject = Subject { kind: QUORUM, name: "q" };
    let equals = |policies: &[ObservedPolicy], in_force| {
        let others = Others::of(&subject, policies, in_force, &Definition::new());
        others.equals.iter().map(|policy| policy.name.clone()).collect::<Vec<_>>()
    };
    let both = [policy("a", ".*", 5), policy("b", ".*", 5)];
    assert_eq!(equals(&both, None), ["b"]);
    assert_eq!(equals(&both, Some(Some("b"))), ["a"], "another time it may be the other one");
    assert!(equals(&[policy("a", ".*", 5), policy("b", ".*", 4)], None).is_empty());
    assert!(equals(&[policy("a", ".*", 5), policy("b", "^other$", 5)], None).is_empty());
}
