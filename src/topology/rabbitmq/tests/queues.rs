use super::*;
use crate::api::conditions::Reason;
use crate::topology::rabbitmq::queue::{is_another, is_replaced, may_be_ours};

#[test]
fn a_missing_queue_gets_its_policy_first_then_itself_then_its_bindings() {
    let want = desired(json!({
        "maxLength": 10, "singleActiveConsumer": true,
        "bindings": [{"source": "payments", "routingKey": "payment.initiated"}],
    }));
    let plan = World::default().plan(&want);
    assert_eq!(
        words(&plan),
        [
            "set policy \"spillway.q.q\": max-length=10",
            "declare the quorum queue \"q\" with x-queue-type=quorum, x-single-active-consumer=true",
            "bind queue \"q\" to exchange \"payments\" with key \"payment.initiated\"",
        ]
    );
    assert_eq!((plan.gate, plan.loss), (Gate::Go, None));
    let Step::PutPolicy { policy, .. } = &plan.steps[0] else { panic!("a policy first") };
    assert_eq!((policy.pattern.as_str(), policy.apply_to.as_str()), ("^q$", "quorum_queues"));
}

#[test]
fn a_queue_without_settings_gets_no_policy_and_one_by_arguments_neither() {
    assert_eq!(
        words(&World::default().plan(&desired(json!({})))),
        ["declare the quorum queue \"q\" with x-queue-type=quorum"]
    );
    let want = desired(json!({"applyVia": "Arguments", "maxLength": 10, "deadLetter": {}}));
    assert_eq!(
        words(&World::default().plan(&want)),
        [
            "declare the quorum queue \"q\" with x-dead-letter-exchange=\"\", x-dead-letter-routing-key=q.dlq, x-max-length=10, x-queue-type=quorum"
        ]
    );
}

#[test]
fn an_identical_foreign_queue_is_adopted_without_a_step() {
    let want = desired(json!({"maxLength": 10, "messageTtl": "1s"}));
    let by_arguments = quorum(json!({"x-max-length": 10, "x-message-ttl": 1000.0, "x-foreign": 1}));
    let by_policy = in_force("all", quorum(json!({"x-max-length": 10})));
    let all = policy("all", 3, json!({"message-ttl": 1000, "expires": 5}));
    for (observed, policies) in [(by_arguments, vec![]), (by_policy, vec![all])] {
        let world = World { memory: QueueMemory::default(), ..World::of(Some(observed), &policies) };
        let plan = world.plan(&want);
        assert_eq!((words(&plan), plan.gate), (vec![], Gate::Go));
        assert!(plan.obstacles.is_empty(), "{:?}", plan.obstacles);
        let never = QueueInput { adoption: Adoption::Never, ..world.input(&want) };
        assert_eq!(plan_queue(&never).unwrap().gate, Gate::Foreign);
    }
}

#[test]
fn a_foreign_queue_that_differs_waits_for_the_plans_hash() {
    let want = desired(json!({"maxLength": 10}));
    let world = World { memory: QueueMemory::default(), ..World::of(Some(quorum(json!({}))), &[]) };
    let waiting = world.plan(&want);
    assert_eq!((waiting.gate, waiting.steps.len()), (Gate::Approval, 1));
    let approved = QueueInput { approved: Some(&waiting.hash), ..world.input(&want) };
    assert_eq!(plan_queue(&approved).unwrap().gate, Gate::Go);
    let adopt = QueueInput { adoption: Adoption::Adopt, ..world.input(&want) };
    assert_eq!(plan_queue(&adopt).unwrap().gate, Gate::Go);
}

#[test]
fn the_keys_of_a_displaced_policy_are_carried_over_and_ours_win() {
    let want = desired(json!({"maxLength": 10}));
    let all = policy("all", 3, json!({"max-length": 99, "expires": 60_000, "overflow": "drop-head"}));
    for observed in [Some(in_force("all", quorum(json!({})))), None] {
        let plan = World::of(observed, std::slice::from_ref(&all)).plan(&want);
        assert_eq!(
            words(&plan)[0],
            "set policy \"spillway.q.q\": max-length=10; it takes the place of policy \"all\", of which it keeps expires=60000, overflow=drop-head"
        );
    }
}

#[test]
fn carried_keys_follow_the_policy_that_they_came_from() {
    let want = desired(json!({"maxLength": 10}));
    let observed = in_force("spillway.q.q", quorum(json!({})));
    let is = own(json!({"max-length": 10, "expires": 60_000}));
    let same = policy("all", 3, json!({"expires": 60_000}));
    assert!(World::of(Some(observed.clone()), &[is.clone(), same]).plan(&want).steps.is_empty());
    let changed = policy("all", 3, json!({"expires": 70_000}));
    assert_eq!(
        words(&World::of(Some(observed.clone()), &[is.clone(), changed]).plan(&want)),
        [
            "set policy \"spillway.q.q\": max-length=10; it takes the place of policy \"all\", of which it keeps expires=70000 (was: expires=60000, max-length=10)"
        ]
    );
    assert_eq!(
        words(&World::of(Some(observed), &[is]).plan(&want)),
        ["set policy \"spillway.q.q\": max-length=10 (was: expires=60000, max-length=10)"]
    );
}

#[test]
fn a_pattern_that_cannot_be_judged_counts_if_the_broker_names_it_and_while_its_keys_are_carried() {
    let want = desired(json!({"maxLength": 10}));
    let odd = ObservedPolicy { pattern: "(?C)".into(), ..policy("odd", 3, json!({"expires": 9})) };
    let before = World::of(Some(in_force("odd", quorum(json!({})))), std::slice::from_ref(&odd)).plan(&want);
    let Step::PutPolicy { policy, carried, .. } = &before.steps[0] else { panic!("a policy") };
    assert_eq!(carried, &["expires"]);
    let after = World::of(Some(in_force("spillway.q.q", quorum(json!({})))), &[odd.clone(), policy.clone()]);
    assert!(after.plan(&want).steps.is_empty());
}

#[test]
fn ours_waits_for_the_queue_where_only_the_broker_can_tell_what_it_would_displace() {
    let want = desired(json!({"maxLength": 10, "bindings": [{"source": "s", "routingKey": "k"}]}));
    let odd = ObservedPolicy {
        pattern: r"^\Qq\E".into(),
        ..policy("odd", 3, json!({"dead-letter-exchange": "d"}))
    };
    let first = World::of(None, std::slice::from_ref(&odd)).plan(&want);
    assert_eq!(words(&first), ["declare the quorum queue \"q\" with x-queue-type=quorum"]);
    assert_eq!((first.unclear.as_deref(), first.gate), (Some("odd"), Gate::Go));
    // RabbitMQ says that it applies, or that nothing does.
    for (name, carried) in [("odd", "dead-letter-exchange=d, "), ("", "")] {
        let then = World::of(Some(in_force(name, quorum(json!({})))), std::slice::from_ref(&odd)).plan(&want);
        assert!(words(&then)[0].contains("set policy \"spillway.q.q\""), "{:?}", words(&then));
        let Step::PutPolicy { policy, .. } = &then.steps[0] else { panic!("a policy first") };
        assert_eq!(
            (policy.definition.len(), then.steps.len(), then.unclear),
            (1 + carried.len().min(1), 2, None)
        );
    }
    // Where no policy is needed, nothing waits.
    let plain = desired(json!({}));
    assert_eq!(World::of(None, std::slice::from_ref(&odd)).plan(&plain).unclear, None);
}

#[test]
fn a_foreign_routing_key_is_not_carried_to_another_dead_letter_exchange() {
    let want = desired(json!({"deadLetter": {"exchange": "mine"}}));
    let all = policy(
        "all",
        3,
        json!({"dead-letter-exchange": "theirs", "dead-letter-routing-key": "k", "expires": 9}),
    );
    let plan = World::of(Some(in_force("all", quorum(json!({})))), &[all]).plan(&want);
    let Step::PutPolicy { carried, .. } = &plan.steps[0] else { panic!("a policy") };
    assert_eq!(carried, &["expires"]);
}

#[test]
fn a_policy_of_the_same_or_a_higher_priority_is_named_and_never_fought() {
    let want = desired(json!({"maxLength": 10}));
    // Beside one of the same priority, chance would decide: ours gives way.
    let gives_way = vec!["delete policy \"spillway.q.q\", which is not needed any more"];
    for (priority, steps) in [(100, gives_way), (500, vec![])] {
        for in_force_now in ["boss", "spillway.q.q"] {
            if priority > 100 && in_force_now != "boss" {
                continue;
            }
            let boss = policy("boss", priority, json!({"max-length": 5}));
            let is = own(json!({"max-length": 10}));
            let plan = World::of(Some(in_force(in_force_now, quorum(json!({})))), &[boss, is]).plan(&want);
            assert_eq!(words(&plan), steps);
            assert_eq!(plan.obstacles[0].reason, Reason::PolicyShadowed);
            assert!(plan.obstacles[0].message.contains("max-length is 5 and not 10: policy \"boss\""));
        }
    }
    let boss = policy("boss", 500, json!({"max-length": 10}));
    let agrees = World::of(Some(in_force("boss", quorum(json!({})))), &[boss]).plan(&want);
    assert!(agrees.steps.is_empty() && agrees.obstacles.is_empty());
}

#[test]
fn an_operator_policy_that_limits_a_key_is_named() {
    let want = desired(json!({"maxLength": 10, "deliveryLimit": -1, "overflow": "reject-publish"}));
    let definition = json!({"max-length": 10, "delivery-limit": -1, "overflow": "reject-publish"});
    let mut world = World::of(Some(in_force("spillway.q.q", quorum(json!({})))), &[own(definition)]);
    let operator = |definition| policy("guard", 0, definition);
    world.policies.operator = vec![operator(json!({"max-length": 20}))];
    assert!(world.plan(&want).obstacles.is_empty(), "a looser limit limits nothing");
    world.policies.operator =
        vec![operator(json!({"max-length": 5, "delivery-limit": 3, "overflow": "drop-head"}))];
    let plan = world.plan(&want);
    let said: Vec<_> = plan.obstacles.iter().map(|o| o.message.split(':').next().unwrap()).collect();
    assert_eq!(
        said,
        [
            "delivery-limit is 3 and not -1",
            "max-length is 5 and not 10",
            "overflow is drop-head and not reject-publish"
        ]
    );
    assert!(
        plan.obstacles.iter().all(|o| o.reason == Reason::PolicyShadowed && o.message.contains("\"guard\""))
    );
}

#[test]
fn an_argument_that_wins_or_limits_is_named() {
    let want = desired(json!({"maxLength": 10, "deadLetter": {"queue": "lost"}}));
    let arguments =
        json!({"x-max-length": 5, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "old"});
    let plan = World::of(Some(quorum(arguments)), &[]).plan(&want);
    assert!(plan.steps.is_empty(), "a policy would change nothing: {:?}", words(&plan));
    let said: Vec<_> =
        plan.obstacles.iter().map(|o| (o.reason, o.message.split(',').next().unwrap())).collect();
    assert_eq!(
        said,
        [
            (
                Reason::ArgumentOverrides,
                "dead-letter-routing-key is old and not lost: queue \"q\" was declared with the argument x-dead-letter-routing-key=old"
            ),
            (
                Reason::ArgumentOverrides,
                "max-length is 5 and not 10: queue \"q\" was declared with the argument x-max-length=5"
            ),
        ]
    );
    let tighter = desired(json!({"maxLength": 3}));
    let plan = World::of(Some(quorum(json!({"x-max-length": 5}))), &[]).plan(&tighter);
    assert_eq!((plan.steps.len(), plan.obstacles.len()), (1, 0), "the smaller of both counts");
}

#[test]
fn our_policy_that_rabbitmq_leaves_out_is_said() {
    let want = desired(json!({"maxLength": 10}));
    let world = World::of(Some(quorum(json!({}))), &[own(json!({"max-length": 10}))]);
    let plan = world.plan(&want);
    assert!(plan.steps.is_empty() && plan.unapplied);
    assert!(plan.obstacles[0].message.contains("RabbitMQ applies no policy to queue \"q\" instead of"));
}

#[test]
fn our_policy_that_rabbitmq_lost_while_another_one_changed_is_put_once_more_and_once_only() {
    let want = desired(json!({"maxLength": 10}));
    for is in [quorum(json!({})), in_force("all", quorum(json!({})))] {
        let policies = [own(json!({"max-length": 10})), policy("all", 0, json!({"max-length": 7}))];
        let world = World::of(Some(is), &policies);
        let again = |again| plan_queue(&QueueInput { again, ..world.input(&want) }).unwrap();
        let due = again(Again::Due);
        assert_eq!(words(&due), ["set policy \"spillway.q.q\" once more: RabbitMQ does not apply it"]);
        assert!(due.unapplied && due.obstacles.is_empty());
        for other in [Again::NotYet, Again::Done] {
            let plan = again(other);
            assert!(plan.steps.is_empty() && plan.unapplied);
            assert_eq!(
                plan.obstacles[0].message.contains("although it was put once more"),
                other == Again::Done
            );
        }
    }
    let applied =
        World::of(Some(in_force("spillway.q.q", quorum(json!({})))), &[own(json!({"max-length": 10}))]);
    let plan = plan_queue(&QueueInput { again: Again::Due, ..applied.input(&want) }).unwrap();
    assert!(plan.steps.is_empty() && plan.obstacles.is_empty() && !plan.unapplied);
}

#[test]
fn our_policy_with_a_key_that_the_type_does_not_know_is_not_put_once_more() {
    let want = desired(json!({"maxLength": 10}));
    let lower = policy("all", 0, json!({"max-age": "1h", "max-length": 7}));
    let both = own(json!({"max-length": 10, "max-age": "1h"}));
    let world = World::of(Some(in_force("all", quorum(json!({})))), &[lower, both]);
    let plan = plan_queue(&QueueInput { again: Again::Due, ..world.input(&want) }).unwrap();
    assert!(!words(&plan).iter().any(|step| step.contains("once more")), "{:?}", words(&plan));
}

#[test]
fn a_policy_that_is_not_needed_any_more_goes_last() {
    let want = desired(json!({"bindings": [{"source": "new"}]}));
    let world = World {
        bindings: vec![bound("old", "")],
        memory: QueueMemory { applied_bindings: vec![bound("old", "")], ..ours() },
        ..World::of(Some(in_force("spillway.q.q", quorum(json!({})))), &[own(json!({"max-length": 1}))])
    };
    assert_eq!(
        words(&world.plan(&want)),
        [
            "bind queue \"q\" to exchange \"new\" with key \"\"",
            "unbind queue \"q\" to exchange \"old\" with key \"\"",
            "delete policy \"spillway.q.q\", which is not needed any more",
        ]
    );
}

#[test]
fn only_bindings_that_we_made_and_nobody_else_declares_are_removed() {
    let world = World {
        bindings: vec![bound("ours", ""), bound("shared", ""), bound("foreign", "")],
        memory: QueueMemory {
            applied_bindings: vec![bound("ours", ""), bound("shared", ""), bound("gone", "")],
            ..ours()
        },
        claimed: BTreeSet::from([bound("shared", "")]),
        ..World::of(Some(quorum(json!({}))), &[])
    };
    assert_eq!(
        words(&world.plan(&desired(json!({})))),
        ["unbind queue \"q\" to exchange \"ours\" with key \"\""]
    );
}

#[test]
fn a_vanished_queue_is_a_loss_unless_it_expires() {
    let plan = |spec, policies: &[ObservedPolicy]| World::of(None, policies).plan(&desired(spec)).loss;
    assert_eq!(plan(json!({}), &[]), Some(Loss::Vanished));
    assert_eq!(plan(json!({"expires": "1h"}), &[]), None);
    assert_eq!(plan(json!({}), &[policy("all", 1, json!({"expires": 9}))]), None);
    let never_ours = World { memory: QueueMemory::default(), ..World::default() };
    assert_eq!(never_ours.plan(&desired(json!({}))).loss, None);
}

#[test]
fn a_queue_that_expired_is_no_drift() {
    let world = World::of(None, &[]);
    let plan = |spec| {
        let desired = desired(spec);
        let report = QueueInput { drift: DriftPolicy::Report, ..world.input(&desired) };
        plan_queue(&report).unwrap()
    };
    let expired = plan(json!({"type": "classic", "expires": "1h"}));
    assert_eq!((expired.gate, expired.expired), (Gate::Go, true));
    let vanished = plan(json!({}));
    assert_eq!((vanished.gate, vanished.expired), (Gate::Report, false));
}

#[test]
fn what_is_fixed_at_declaration_is_refused_in_words() {
    let want =
        desired(json!({"type": "classic", "durable": false, "maxPriority": 10, "arguments": {"x-a": 1}}));
    let refused =
        World::of(Some(seen("classic", json!({"x-max-priority": 5, "x-other": 2}))), &[]).refused(&want);
    assert_eq!(refused.reason, Reason::Immutable);
    for said in [
        "durable is true and the spec wants false",
        "argument x-a is not set and the spec wants 1",
        "argument x-max-priority is 5 and the spec wants 10",
    ] {
        assert!(refused.message.contains(said), "{refused}");
    }
    assert!(!refused.message.contains("x-other"));
    let single =
        World::of(Some(quorum(json!({"x-single-active-consumer": true}))), &[]).refused(&desired(json!({})));
    assert!(single.message.contains("singleActiveConsumer is true and the spec wants false"));
}

#[test]
fn an_exclusive_queue_an_auto_delete_one_and_another_type_are_refused_whatever_the_spec_says() {
    let want = desired(json!({"type": "classic", "onImmutableChange": "RecreateIfEmpty"}));
    let classic = || seen("classic", json!({}));
    for (observed, reason) in [
        (ObservedQueue { exclusive: true, ..classic() }, Reason::Conflict),
        (ObservedQueue { auto_delete: true, ..classic() }, Reason::Immutable),
        (quorum(json!({})), Reason::Immutable),
        (ObservedQueue { kind: String::new(), ..classic() }, Reason::Immutable),
    ] {
        assert_eq!(World::of(Some(observed), &[]).refused(&want).reason, reason);
    }
}

#[test]
fn drift_is_reported_or_corrected_but_an_edit_is_always_carried_out() {
    let want = desired(json!({"maxLength": 10}));
    let world = World::of(Some(quorum(json!({}))), &[]);
    let report = QueueInput { drift: DriftPolicy::Report, ..world.input(&want) };
    assert_eq!(plan_queue(&report).unwrap().gate, Gate::Report);
    assert_eq!(plan_queue(&QueueInput { edited: true, ..report }).unwrap().gate, Gate::Go);
    let observe = QueueInput { management: ManagementPolicy::Observe, ..report };
    assert_eq!(plan_queue(&observe).unwrap().gate, Gate::Observe);
}

#[test]
fn what_others_made_otherwise_while_our_own_declaration_had_no_answer_is_not_ours() {
    let want = desired(json!({"singleActiveConsumer": true}));
    let single = json!({"x-single-active-consumer": true});
    assert!(may_be_ours(&want, &quorum(single.clone())));
    assert!(!may_be_ours(&want, &quorum(json!({}))), "one less");
    assert!(
        !may_be_ours(&want, &quorum(json!({"x-single-active-consumer": true, "x-max-length": 5}))),
        "one more"
    );
    for edit in [
        (|seen: &mut ObservedQueue| seen.kind = "classic".into()) as fn(&mut ObservedQueue),
        |seen| seen.durable = false,
        |seen| seen.exclusive = true,
        |seen| seen.auto_delete = true,
    ] {
        let mut seen = quorum(single.clone());
        edit(&mut seen);
        assert!(!may_be_ours(&want, &seen), "{seen:?}");
    }
}

#[test]
fn a_queue_that_was_declared_otherwise_in_the_place_of_ours_is_a_loss() {
    let want = desired(json!({"singleActiveConsumer": true}));
    let as_wanted = quorum(json!({"x-single-active-consumer": true}));
    let world = |queue: &ObservedQueue| World::of(Some(queue.clone()), &[]);
    assert!(!is_replaced(&world(&as_wanted).input(&want)));
    let of_another_kind = [
        seen("classic", json!({"x-single-active-consumer": true})),
        ObservedQueue { exclusive: true, ..as_wanted.clone() },
        ObservedQueue { auto_delete: true, ..as_wanted.clone() },
    ];
    let otherwise = [quorum(json!({})), ObservedQueue { durable: false, ..as_wanted.clone() }];
    for queue in of_another_kind.iter().chain(&otherwise) {
        let world = world(queue);
        assert!(is_replaced(&world.input(&want)), "{queue:?}");
        // The author may have asked for other settings; nobody can ask for another type.
        let edited = QueueInput { edited: true, ..world.input(&want) };
        assert_eq!(is_replaced(&edited), of_another_kind.contains(queue), "{queue:?}");
        assert_eq!(is_another(&want, queue, true), of_another_kind.contains(queue), "{queue:?}");
        for memory in [
            QueueMemory::default(),
            // What a companion had, and another type is wanted now.
            QueueMemory { known: false, ..ours() },
            QueueMemory { pending: Some(Vec::new()), ..ours() },
        ] {
            let input = QueueInput { memory: &memory, ..edited };
            assert!(!is_replaced(&input), "{queue:?} {memory:?}");
        }
        let expiring = [policy("all", 1, json!({"expires": 1000}))];
        assert!(!is_replaced(&World::of(Some(queue.clone()), &expiring).input(&want)), "it may have expired");
    }
    // Not asked: it may be ours.
    assert!(!is_replaced(&world(&ObservedQueue { kind: String::new(), ..as_wanted }).input(&want)));
}

#[test]
fn what_took_the_place_of_a_queue_that_may_be_made_anew_is_a_loss_before_that() {
    let want = desired(json!({"singleActiveConsumer": true, "onImmutableChange": "RecreateIfEmpty"}));
    let world = World::of(Some(quorum(json!({}))), &[]);
    let plan = world.plan(&want);
    assert_eq!((plan.loss, plan.gate), (Some(Loss::Replaced), Gate::Go));
    let edited = plan_queue(&QueueInput { edited: true, ..world.input(&want) }).unwrap();
    assert_eq!(edited.loss, None);
}
