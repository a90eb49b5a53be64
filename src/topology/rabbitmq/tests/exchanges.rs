use super::*;
use crate::api::conditions::Reason;
use crate::api::exchange::Exchange;

fn exchange(spec: Value) -> Result<DesiredExchange, Rejection> {
    let mut spec = spec;
    spec["brokerRef"] = json!({"name": "rabbit"});
    DesiredExchange::of(&Exchange::new("x", serde_json::from_value(spec).unwrap()))
}

fn topic() -> ObservedExchange {
    ObservedExchange { kind: "topic".into(), durable: true, ..ObservedExchange::default() }
}

fn input<'a>(
    desired: &'a DesiredExchange,
    observed: Option<&'a ObservedExchange>,
    policies: &'a VhostPolicies,
) -> ExchangeInput<'a> {
    ExchangeInput {
        desired,
        observed,
        policies,
        owned: true,
        management: ManagementPolicy::Manage,
        adoption: Adoption::IfIdentical,
        drift: DriftPolicy::Correct,
        edited: false,
        approved: None,
        again: Again::NotYet,
    }
}

#[test]
fn a_missing_exchange_gets_its_policy_first() {
    let want = exchange(json!({"type": "topic", "alternateExchange": "rest"})).unwrap();
    let none = VhostPolicies::default();
    let plan = plan_exchange(&ExchangeInput { owned: false, ..input(&want, None, &none) }).unwrap();
    assert_eq!(
        words(&plan),
        ["set policy \"spillway.x.x\": alternate-exchange=rest", "declare the topic exchange \"x\""]
    );
    let Step::PutPolicy { policy, .. } = &plan.steps[0] else { panic!("a policy first") };
    assert_eq!((policy.pattern.as_str(), policy.apply_to.as_str()), ("^x$", "exchanges"));
    assert_eq!((plan.gate, plan.loss), (Gate::Go, None));
}

#[test]
fn an_argument_wins_over_the_alternate_exchange() {
    let want = exchange(json!({"type": "topic", "alternateExchange": "rest"})).unwrap();
    let arguments = Arguments::from([("alternate-exchange".to_owned(), json!("other"))]);
    let is = ObservedExchange { arguments, ..topic() };
    let plan = plan_exchange(&input(&want, Some(&is), &VhostPolicies::default())).unwrap();
    assert!(plan.steps.is_empty());
    assert_eq!(plan.obstacles[0].reason, Reason::ArgumentOverrides);
}

#[test]
fn what_an_exchange_was_declared_with_is_never_changed() {
    let want =
        exchange(json!({"type": "direct", "durable": false, "arguments": {"hash-header": "h"}})).unwrap();
    let refused = plan_exchange(&input(&want, Some(&topic()), &VhostPolicies::default())).unwrap_err();
    assert_eq!(refused.reason, Reason::Immutable);
    assert!(refused.message.contains("type is topic and the spec wants direct; durable is true and the spec wants false; argument hash-header is not set"));
}

#[test]
fn a_vanished_exchange_is_a_loss_unless_it_goes_by_itself() {
    let none = VhostPolicies::default();
    let lasting = exchange(json!({"type": "topic"})).unwrap();
    assert_eq!(plan_exchange(&input(&lasting, None, &none)).unwrap().loss, Some(Loss::Vanished));
    let passing = exchange(json!({"type": "topic", "autoDelete": true})).unwrap();
    assert_eq!(plan_exchange(&input(&passing, None, &none)).unwrap().loss, None);
}

#[test]
fn an_exchange_that_went_with_its_last_binding_is_no_drift() {
    let none = VhostPolicies::default();
    for (auto_delete, gate) in [(true, Gate::Go), (false, Gate::Report)] {
        let want = exchange(json!({"type": "topic", "autoDelete": auto_delete})).unwrap();
        let report = ExchangeInput { drift: DriftPolicy::Report, ..input(&want, None, &none) };
        let plan = plan_exchange(&report).unwrap();
        assert_eq!((plan.gate, plan.expired), (gate, auto_delete));
    }
}

#[test]
fn an_exchange_with_a_reserved_name_or_itself_as_alternate_is_refused() {
    for spec in [
        json!({"type": "topic", "name": "amq.mine"}),
        json!({"type": "topic", "name": ""}),
        json!({"type": "topic", "alternateExchange": "x"}),
        json!({"type": "topic", "arguments": {"alternate-exchange": "a"}}),
    ] {
        assert_eq!(exchange(spec.clone()).unwrap_err().reason, Reason::InvalidSpec, "{spec}");
    }
}
