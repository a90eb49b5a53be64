//! What the plans of Exchanges and Bindings promise, whatever is there: the ones of Queues are in
//! [`super::properties`].

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::api::exchange::Exchange;
use crate::topology::rabbitmq::force::{in_force as combined, same_setting};
use crate::topology::rabbitmq::policy::Kind;

const KEY: &str = "alternate-exchange";
const PATTERNS: [(&str, bool); 3] = [(".*", true), ("^x$", true), ("^other$", false)];

/// A virtual host with one exchange, `x`, perhaps.
#[derive(Clone, Debug)]
struct Host {
    exchange: Option<ObservedExchange>,
    policies: Vec<ObservedPolicy>,
}

impl Host {
    fn winner(&self) -> Option<&ObservedPolicy> {
        let applies = |policy: &&ObservedPolicy| {
            PATTERNS.contains(&(policy.pattern.as_str(), true))
                && ["all", "exchanges"].contains(&policy.apply_to.as_str())
        };
        self.policies.iter().filter(applies).max_by_key(|policy| policy.priority)
    }

    fn refresh(&mut self) {
        let policy = self.winner().map(|policy| policy.name.clone());
        if let Some(exchange) = &mut self.exchange {
            exchange.policy = policy;
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::DeclareExchange { kind, durable, auto_delete, internal, arguments, .. } => {
                assert!(self.exchange.is_none(), "an existing exchange is never declared again");
                self.exchange = Some(ObservedExchange {
                    kind: kind.clone(),
                    durable: *durable,
                    auto_delete: *auto_delete,
                    internal: *internal,
                    arguments: arguments.clone(),
                    policy: None,
                });
            }
            Step::PutPolicy { policy, .. } => {
                self.policies.retain(|is| is.name != policy.name);
                self.policies.push(policy.clone());
            }
            Step::DeletePolicy { name } => self.policies.retain(|is| is.name != *name),
            other => panic!("an exchange's plan never says: {other}"),
        }
        self.refresh();
    }

    fn plan(&self, desired: &DesiredExchange, owned: bool) -> Plan {
        plan_exchange(&ExchangeInput {
            desired,
            observed: self.exchange.as_ref(),
            policies: &vhost(&self.policies),
            owned,
            management: ManagementPolicy::Manage,
            adoption: Adoption::Adopt,
            drift: DriftPolicy::Correct,
            edited: false,
            approved: None,
            again: Again::NotYet,
        })
        .expect("it has the wanted type")
    }

    fn alternate(&self) -> Option<Value> {
        let by_policy = self.winner().and_then(|policy| policy.definition.get(KEY));
        let argument = self.exchange.as_ref().and_then(|exchange| exchange.arguments.get(KEY));
        combined(Kind::Exchange, KEY, by_policy, argument)
    }
}

/// A policy's name and priority, and its pattern, what it applies to and where it leads.
type Drawn<'a> = ((&'a str, i64), ((&'a str, bool), &'a str, &'a str));

fn host() -> impl Strategy<Value = Host> {
    let names = subsequence(vec![("a", 0), ("b", 50), ("spillway.x.x", 100), ("c", 200)], 0..=4);
    let rest =
        (select(PATTERNS.to_vec()), select(vec!["all", "exchanges", "queues"]), select(vec!["m", "n"]));
    let argument = prop::option::of(select(vec!["m", "n"]));
    (names, prop::collection::vec(rest, 4), any::<bool>(), argument).prop_map(
        |(names, rest, there, argument)| {
            let one = |((name, priority), ((pattern, _), apply_to, to)): Drawn<'_>| {
                // Spillway's own is always for the one exchange.
                let own = name == "spillway.x.x";
                ObservedPolicy {
                    pattern: if own { "^x$".into() } else { pattern.into() },
                    apply_to: if own { "exchanges".into() } else { apply_to.into() },
                    ..policy(name, priority, json!({KEY: to}))
                }
            };
            let policies = names.into_iter().zip(rest).map(one).collect();
            let arguments = argument.map(|to| (KEY.to_owned(), json!(to))).into_iter().collect();
            let exchange = there.then(|| ObservedExchange {
                kind: "topic".into(),
                durable: true,
                arguments,
                ..ObservedExchange::default()
            });
            let mut host = Host { exchange, policies };
            host.refresh();
            host
        },
    )
}

fn wanted() -> impl Strategy<Value = DesiredExchange> {
    prop::option::of(select(vec!["m", "n"])).prop_map(|alternate| {
        let mut spec = json!({"brokerRef": {"name": "rabbit"}, "type": "topic"});
        if let Some(alternate) = alternate {
            spec["alternateExchange"] = json!(alternate);
        }
        DesiredExchange::of(&Exchange::new("x", serde_json::from_value(spec).unwrap())).unwrap()
    })
}

fn all_bindings() -> Vec<BindingId> {
    let with =
        |value: Value| BindingId { arguments: Arguments::from([("n".into(), value)]), ..bound("h", "") };
    vec![bound("a", ""), bound("a", "k"), bound("b", ""), with(json!(1)), with(json!(2))]
}

fn some_bindings() -> impl Strategy<Value = Vec<BindingId>> {
    subsequence(all_bindings(), 0..=5)
}

fn plan_of(
    id: &BindingId,
    present: &[BindingId],
    memory: &BindingMemory,
    claimed: &BTreeSet<BindingId>,
) -> Plan {
    plan_binding(&BindingInput {
        desired: &DesiredBinding { id: id.clone() },
        present,
        memory,
        claimed,
        passing: false,
        management: ManagementPolicy::Manage,
        adoption: Adoption::Adopt,
        drift: DriftPolicy::Correct,
        edited: false,
        approved: None,
    })
    .expect("a binding's plan is never refused")
}

proptest! {
    #[test]
    fn an_exchange_becomes_as_wanted_and_then_needs_nothing_more(
        host in host(), desired in wanted(), owned: bool,
    ) {
        let mut after = host.clone();
        let plan = host.plan(&desired, owned);
        for step in &plan.steps {
            after.take(step);
        }
        prop_assert!(after.exchange.is_some());
        let again = after.plan(&desired, true);
        prop_assert!(again.steps.is_empty(), "{:?} after {:?}", words(&again), words(&plan));
        if let Some(alternate) = desired.settings.get(KEY) && again.obstacles.is_empty() {
            let is = after.alternate();
            prop_assert!(is.as_ref().is_some_and(|is| same_setting(KEY, is, alternate)), "{is:?}");
        }
        // What is other people's stays as it is.
        let theirs = |host: &Host| {
            let mut theirs = host.policies.clone();
            theirs.retain(|policy| policy.name != "spillway.x.x");
            theirs
        };
        prop_assert_eq!(theirs(&after), theirs(&host));
    }

    #[test]
    fn an_exchange_s_plan_is_the_same_whatever_the_order_of_policies(
        host in host(), desired in wanted(), owned: bool,
    ) {
        let mut turned = host.clone();
        turned.policies.reverse();
        prop_assert_eq!(turned.plan(&desired, owned), host.plan(&desired, owned));
    }

    #[test]
    fn a_binding_becomes_as_wanted_and_nothing_of_anybody_else_s_goes(
        id in select(all_bindings()), present in some_bindings(), applied in some_bindings(),
        claimed in some_bindings(), owned: bool,
    ) {
        let claimed: BTreeSet<_> = claimed.into_iter().collect();
        let memory = BindingMemory { owned, applied };
        let plan = plan_of(&id, &present, &memory, &claimed);
        let mut after = present.clone();
        let mut unbound = false;
        for step in &plan.steps {
            match step {
                Step::Bind(bound) => {
                    prop_assert!(!unbound, "a gap between two bindings");
                    prop_assert!(*bound == id && !after.contains(bound));
                    after.push(bound.clone());
                }
                Step::Unbind(old) => {
                    unbound = true;
                    prop_assert!(memory.applied.contains(old) && !claimed.contains(old) && *old != id);
                    let before = after.len();
                    after.retain(|is| is != old);
                    prop_assert_eq!(after.len(), before - 1);
                }
                other => panic!("a binding's plan never says: {other}"),
            }
        }
        prop_assert!(after.contains(&id));
        let stays = |is: &&BindingId| !memory.applied.contains(is) || claimed.contains(is);
        prop_assert!(present.iter().filter(stays).all(|is| after.contains(is)));
        for memory in [memory, BindingMemory { owned: true, applied: vec![id.clone()] }] {
            let again = plan_of(&id, &after, &memory, &claimed);
            prop_assert!(again.steps.is_empty(), "{:?}", words(&again));
        }
    }

    #[test]
    fn a_binding_s_plan_is_the_same_whatever_the_order(
        id in select(all_bindings()), present in some_bindings(), applied in some_bindings(),
        claimed in some_bindings(), owned: bool,
    ) {
        let claimed: BTreeSet<_> = claimed.into_iter().collect();
        let mut memory = BindingMemory { owned, applied };
        let plan = plan_of(&id, &present, &memory, &claimed);
        memory.applied.reverse();
        let turned: Vec<_> = present.into_iter().rev().collect();
        prop_assert_eq!(plan_of(&id, &turned, &memory, &claimed), plan);
    }
}
