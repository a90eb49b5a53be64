use super::*;
use crate::api::binding::{AppliedBinding, Binding};
use proptest::prelude::*;

fn input<'a>(
    desired: &'a DesiredBinding,
    present: &'a [BindingId],
    memory: &'a BindingMemory,
    claimed: &'a BTreeSet<BindingId>,
) -> BindingInput<'a> {
    BindingInput {
        desired,
        present,
        memory,
        claimed,
        passing: false,
        management: ManagementPolicy::Manage,
        adoption: Adoption::IfIdentical,
        drift: DriftPolicy::Correct,
        edited: false,
        approved: None,
    }
}

#[test]
fn a_changed_binding_is_made_before_the_old_one_goes() {
    let want = DesiredBinding { id: bound("events", "new") };
    let memory = BindingMemory { owned: true, applied: vec![bound("events", "old")] };
    let (old, none) = (bound("events", "old"), BTreeSet::new());
    let plan = plan_binding(&input(&want, std::slice::from_ref(&old), &memory, &none)).unwrap();
    assert_eq!(
        words(&plan),
        [
            "bind queue \"q\" to exchange \"events\" with key \"new\"",
            "unbind queue \"q\" to exchange \"events\" with key \"old\""
        ]
    );
    assert_eq!(plan.loss, None, "an edit is no loss");
    let begun = BindingMemory { owned: true, applied: vec![bound("events", "new"), old.clone()] };
    assert_eq!(plan_binding(&input(&want, &[], &begun, &none)).unwrap().loss, None, "nor is one half done");
    let claimed = BTreeSet::from([old.clone()]);
    let shared = plan_binding(&input(&want, &[old], &memory, &claimed)).unwrap();
    assert_eq!(words(&shared), ["bind queue \"q\" to exchange \"events\" with key \"new\""]);
}

#[test]
fn a_binding_that_is_there_is_adopted_or_left_alone() {
    let want = DesiredBinding { id: bound("events", "k") };
    let (memory, none, present) = (BindingMemory::default(), BTreeSet::new(), [bound("events", "k")]);
    let adopted = input(&want, &present, &memory, &none);
    let plan = plan_binding(&adopted).unwrap();
    assert_eq!((plan.gate, plan.steps.len(), plan.loss), (Gate::Go, 0, None));
    let never = BindingInput { adoption: Adoption::Never, ..adopted };
    assert_eq!(plan_binding(&never).unwrap().gate, Gate::Foreign);
}

#[test]
fn a_vanished_binding_is_made_again_and_said() {
    let want = DesiredBinding { id: bound("events", "k") };
    let memory = BindingMemory { owned: true, applied: vec![bound("events", "k")] };
    let plan = plan_binding(&input(&want, &[], &memory, &BTreeSet::new())).unwrap();
    assert_eq!((plan.gate, plan.steps.len(), plan.loss), (Gate::Go, 1, Some(Loss::Vanished)));
}

#[test]
fn a_binding_that_went_with_its_end_is_no_drift() {
    let want = DesiredBinding { id: bound("events", "k") };
    let memory = BindingMemory { owned: true, applied: vec![bound("events", "k")] };
    let none = BTreeSet::new();
    let report = BindingInput { drift: DriftPolicy::Report, ..input(&want, &[], &memory, &none) };
    assert_eq!(plan_binding(&report).unwrap().gate, Gate::Report);
    let plan = plan_binding(&BindingInput { passing: true, ..report }).unwrap();
    assert_eq!((plan.gate, plan.loss, plan.expired), (Gate::Go, None, true));
}

#[test]
fn nothing_is_bound_from_or_to_the_default_exchange() {
    let spec = json!({"brokerRef": {"name": "b"}, "source": "s", "destination": {"queue": "q"}});
    let cr = Binding::new("b", serde_json::from_value(spec).unwrap());
    for (source, target) in [
        ("", Target::Queue("q".into())),
        ("amq.default", Target::Queue("q".into())),
        ("s", Target::Exchange(String::new())),
        ("s", Target::Queue(String::new())),
    ] {
        assert!(DesiredBinding::of(&cr, source, target).is_err());
    }
    assert!(DesiredBinding::of(&cr, "amq.topic", Target::Queue("amq.gen-1".into())).is_ok());
}

#[test]
fn a_binding_that_could_be_made_and_never_be_taken_away_is_refused() {
    let binding = |key: &str, arguments: Value| {
        let spec = json!({
            "brokerRef": {"name": "b"}, "source": "s", "destination": {"queue": "q"}, "routingKey": key, "arguments": arguments,
        });
        let cr = Binding::new("b", serde_json::from_value(spec).unwrap());
        DesiredBinding::of(&cr, "s", Target::Queue("q".into()))
    };
    for key in [".", ".."] {
        assert!(binding(key, json!({})).unwrap_err().message.contains("has no address"));
        assert!(binding(key, json!({"x": 1})).is_ok(), "its address ends with a hash of the arguments");
    }
    let made = binding("...", json!({})).expect("an address").id;
    let source = BindingId {
        source: "..".into(),
        arguments: Arguments::from([("x".into(), json!(1))]),
        ..made.clone()
    };
    let target = BindingId { target: Target::Exchange(".".into()), ..made.clone() };
    assert_eq!([&made, &source, &target].map(BindingId::has_address), [true, false, false]);
}

#[test]
fn a_binding_that_would_keep_the_broker_from_listing_any_is_refused() {
    let binding = |key: &str, arguments: Value| {
        let spec = json!({
            "brokerRef": {"name": "b"}, "source": "s", "destination": {"queue": "q"}, "routingKey": key, "arguments": arguments,
        });
        let cr = Binding::new("b", serde_json::from_value(spec).unwrap());
        DesiredBinding::of(&cr, "s", Target::Queue("q".into()))
    };
    let refused = binding("a~b", json!({"z": 1})).unwrap_err();
    assert!(refused.message.contains("can list no bindings from then on"), "{}", refused.message);
    assert!(binding("a~b", json!({})).is_ok() && binding("ab", json!({"z": "~"})).is_ok());
}

#[test]
fn an_integer_and_a_float_are_two_bindings() {
    let with = |number: Value| BindingId {
        arguments: Arguments::from([("n".into(), number)]),
        ..bound("events", "")
    };
    assert_ne!(with(json!(1)), with(json!(1.0)));
    let want = DesiredBinding { id: with(json!(1)) };
    let (memory, none) = (BindingMemory::default(), BTreeSet::new());
    let plan = plan_binding(&input(&want, &[with(json!(1.0))], &memory, &none)).unwrap();
    assert!(matches!(&plan.steps[..], [Step::Bind(made)] if *made == want.id), "{:?}", plan.steps);
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3i64..3).prop_map(|n| json!(n)),
        (-3i32..3).prop_map(|n| json!(f64::from(n))),
        "[ab]{0,2}".prop_map(|s| json!(s)),
        any::<bool>().prop_map(|b| json!(b)),
    ]
}

proptest! {
    #[test]
    fn a_binding_reads_back_from_status_the_same(
        source in "[a-z]{1,4}", queue: bool, key in "[a-z.]{0,4}",
        arguments in prop::collection::btree_map("[a-c]", values(), 0..3),
    ) {
        let target = if queue { Target::Queue("t".into()) } else { Target::Exchange("t".into()) };
        let id = BindingId { source, target, routing_key: key, arguments };
        let written = serde_json::to_string(&AppliedBinding::from(&id)).unwrap();
        let read: AppliedBinding = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(BindingId::from(&read), id);
    }
}
