use super::*;

fn world() -> World {
    World {
        bindings: vec![bound("foreign", "a"), bound("ours", "b"), bound("dropped", "c")],
        memory: QueueMemory { applied_bindings: vec![bound("ours", "b"), bound("dropped", "c")], ..ours() },
        ..World::of(Some(seen("classic", json!({}))), &[])
    }
}

fn want() -> DesiredQueue {
    desired(json!({
        "type": "classic", "maxPriority": 5, "onImmutableChange": "RecreateIfEmpty",
        "bindings": [{"source": "ours", "routingKey": "b"}, {"source": "new"}],
    }))
}

const BINDS: [&str; 3] = [
    "bind queue \"q\" to exchange \"foreign\" with key \"a\"",
    "bind queue \"q\" to exchange \"new\" with key \"\"",
    "bind queue \"q\" to exchange \"ours\" with key \"b\"",
];

#[test]
fn a_recreation_restores_foreign_bindings_and_leaves_dropped_ones_out() {
    let plan = world().plan(&want());
    let words = words(&plan);
    assert_eq!(words[0], "delete the queue \"q\", which is empty, to declare it anew");
    assert_eq!(words[1], "declare the classic queue \"q\" with x-max-priority=5, x-queue-type=classic");
    assert_eq!(words[2..], BINDS);
    assert_eq!(plan.gate, Gate::Go);
}

#[test]
fn a_recreation_of_a_foreign_queue_takes_an_approval_under_adopt_too() {
    let world = World { memory: QueueMemory::default(), ..world() };
    let want = want();
    let adopt = QueueInput { adoption: Adoption::Adopt, ..world.input(&want) };
    let plan = plan_queue(&adopt).unwrap();
    assert_eq!(plan.gate, Gate::Approval);
    let approved = QueueInput { approved: Some(&plan.hash), ..adopt };
    assert_eq!(plan_queue(&approved).unwrap().gate, Gate::Go);
}

#[test]
fn a_recreation_goes_on_where_it_was_left() {
    let pending = vec![bound("foreign", "a"), bound("ours", "b"), bound("new", "")];
    let memory = QueueMemory { pending: Some(pending), ..world().memory };
    let gone = World { observed: None, bindings: Vec::new(), memory: memory.clone(), ..world() };
    let plan = gone.plan(&want());
    assert_eq!(words(&plan)[1..], BINDS);
    assert_eq!((plan.loss, plan.steps.len()), (None, 4), "what we deleted is no loss");

    let half = World {
        observed: Some(seen("classic", json!({"x-max-priority": 5}))),
        bindings: vec![bound("foreign", "a")],
        memory,
        ..world()
    };
    let want = want();
    assert_eq!(words(&half.plan(&want)), BINDS[1..]);
    let report = QueueInput { drift: DriftPolicy::Report, ..half.input(&want) };
    assert_eq!(plan_queue(&report).unwrap().gate, Gate::Go, "what was begun is no drift");
}

#[test]
fn a_stream_is_never_recreated() {
    let cr = queue_cr(json!({"type": "stream", "onImmutableChange": "RecreateIfEmpty"}));
    assert!(DesiredQueue::of(&cr, &[]).unwrap_err().message.contains("a stream is never recreated"));
}

#[test]
fn a_queue_that_was_not_touched_before_a_crash_is_told_from_one_that_was_deleted_by_what_is_bound_to_it() {
    let (own, theirs) = (bound("x", "own"), bound("x", "theirs"));
    let declared = BTreeSet::from([own.clone()]);
    let pending = [own.clone(), theirs.clone()];
    let untouched = |seen: &[&BindingId]| {
        crate::topology::rabbitmq::queue::is_untouched(
            &pending,
            &declared,
            &seen.iter().map(|&binding| binding.clone()).collect(),
        )
    };
    assert!(untouched(&[&theirs]), "a binding that is declared is made again anyway");
    assert!(untouched(&[&own, &theirs]));
    assert!(!untouched(&[&own]));
    assert!(!untouched(&[]));
}
