use super::model::{Model, PATTERNS};
use super::*;
use crate::api::queue::OnImmutableChange;
use crate::topology::Reason;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Settings that a spec may have and arguments or policies may say, with small values.
fn setting(kind: &'static str) -> impl Strategy<Value = (&'static str, &'static str, Value)> {
    let n = || (1i64..4).prop_map(|n| json!(n));
    let limits = match kind {
        "stream" => vec!["max-length-bytes"],
        "classic" => vec!["max-length", "max-length-bytes", "expires", "message-ttl"],
        _ => vec!["max-length", "max-length-bytes", "expires", "message-ttl", "delivery-limit"],
    };
    let numbers = (select(limits), n()).prop_map(|(key, n)| {
        let field = match key {
            "max-length" => "maxLength",
            "max-length-bytes" => "maxLengthBytes",
            "expires" => "expires",
            "message-ttl" => "messageTtl",
            _ => "deliveryLimit",
        };
        (field, key, n)
    });
    let words = if kind == "stream" {
        ("maxAge", "max-age", vec!["60s", "1m", "2h"])
    } else {
        ("overflow", "overflow", vec!["drop-head", "reject-publish"])
    };
    prop_oneof![
        numbers,
        select(words.2).prop_map(move |value| (words.0, words.1, json!(value))),
        select(vec!["a", "b"]).prop_map(move |x| match kind {
            "stream" => ("maxAge", "max-age", json!("2h")),
            _ => ("deadLetter", "dead-letter-exchange", json!(x)),
        }),
    ]
}

fn spec(kind: &'static str) -> impl Strategy<Value = DesiredQueue> {
    let settings = prop::collection::vec(setting(kind), 0..4);
    let bindings = subsequence(all_bindings(), 0..3);
    let recreate = kind != "stream";
    (settings, bindings, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        move |(settings, bindings, arguments, again, priority)| {
            let mut spec = json!({"type": kind, "applyVia": if arguments { "Arguments" } else { "Policy" }});
            for (field, key, value) in settings {
                spec[field] = match field {
                    "expires" | "messageTtl" => json!(format!("{value}ms")),
                    "maxAge" if value == json!("60s") => json!("1m"),
                    "deadLetter" => json!({"exchange": value}),
                    _ => value,
                };
                assert!(!key.is_empty());
            }
            if recreate && again {
                spec["onImmutableChange"] = json!("RecreateIfEmpty");
            }
            if kind == "classic" && priority {
                spec["maxPriority"] = json!(5);
            }
            spec["bindings"] = bindings
                .iter()
                .map(|b| json!({"source": b.source, "routingKey": b.routing_key, "arguments": b.arguments}))
                .collect();
            desired(spec)
        },
    )
}

fn turn<T>(list: &mut [T], seed: u8) {
    list.reverse();
    let by = usize::from(seed) % list.len().max(1);
    list.rotate_left(by);
}

fn all_bindings() -> Vec<BindingId> {
    let with =
        |value: Value| BindingId { arguments: Arguments::from([("n".into(), value)]), ..bound("h", "") };
    vec![bound("a", ""), bound("a", "k"), bound("b", ""), with(json!(1)), with(json!(2.0))]
}

fn definition() -> impl Strategy<Value = Value> {
    let of = |kind| prop::collection::vec(setting(kind), 1..3);
    let routing = any::<bool>();
    (prop_oneof![of("quorum"), of("classic"), of("stream")], routing).prop_map(|(settings, routing)| {
        let mut definition = json!({});
        for (_, key, value) in settings {
            definition[key] = value;
        }
        if routing && definition.get("dead-letter-exchange").is_some() {
            definition["dead-letter-routing-key"] = json!("k");
        }
        definition
    })
}

fn policies() -> impl Strategy<Value = Vec<ObservedPolicy>> {
    let names = subsequence(vec!["a", "b", "c", "spillway.q.q"], 0..=4);
    let rest = (
        select(PATTERNS.map(|(pattern, _)| pattern).to_vec()),
        select(vec!["all", "queues", "quorum_queues", "classic_queues", "streams", "exchanges"]),
        select(vec![0, 50, 50, 100, 200]),
        definition(),
    );
    (names, prop::collection::vec(rest, 4)).prop_map(|(names, rest)| {
        let one = |(name, (pattern, apply_to, priority, definition)): (&str, (&str, &str, i64, Value))| {
            let (pattern, apply_to) = (pattern.to_owned(), apply_to.to_owned());
            ObservedPolicy { pattern, apply_to, ..policy(name, priority, definition) }
        };
        names.into_iter().zip(rest).map(one).collect()
    })
}

/// What there may be at the broker, what may be wanted of it, and what is remembered.
#[derive(Clone, Debug)]
struct Case {
    desired: DesiredQueue,
    model: Model,
    memory: QueueMemory,
    claimed: BTreeSet<BindingId>,
}

impl Case {
    fn plan(&self) -> Result<Plan, Rejection> {
        plan_queue(&self.model.world(self.memory.clone(), &self.claimed).input(&self.desired))
    }

    /// What Spillway removes: its own bindings that nobody declares any more.
    fn dropped(&self, binding: &BindingId) -> bool {
        self.memory.applied_bindings.contains(binding)
            && !self.desired.bindings.contains(binding)
            && !self.claimed.contains(binding)
    }

    /// Takes `steps` and remembers what the status would.
    fn after(&self, steps: &[Step], done: bool) -> Self {
        let mut after = self.clone();
        for step in steps {
            after.model.take(step);
        }
        after.memory.owned = true;
        if done {
            after.memory = QueueMemory { owned: true, known: true, ..QueueMemory::default() };
            after.memory.applied_bindings = self.desired.bindings.iter().cloned().collect();
        }
        after
    }
}

fn case() -> impl Strategy<Value = Case> {
    select(vec!["quorum", "classic", "stream"]).prop_flat_map(|kind| {
        let some = || subsequence(all_bindings(), 0..=5);
        let arguments = prop::collection::vec(setting(kind), 0..3);
        let queue = prop::option::weighted(0.8, arguments);
        let rest = (some(), some(), some(), prop::option::weighted(0.2, some()), any::<bool>());
        (spec(kind), queue, policies(), policies(), rest).prop_map(
            move |(desired, queue, policies, mut operator, (bindings, applied, claimed, pending, owned))| {
                operator.retain(|policy| policy.name != "spillway.q.q");
                // Which of two equal operator policies applies is not told without statistics.
                for (policy, priority) in operator.iter_mut().zip(0..) {
                    policy.priority = priority;
                }
                let queue = queue.map(|settings| {
                    let mut arguments = json!({});
                    for (_, key, value) in settings {
                        arguments[format!("x-{key}")] = value;
                    }
                    seen(kind, arguments)
                });
                let bindings = if queue.is_some() { bindings } else { Vec::new() };
                let mut model = Model { queue, bindings, policies: VhostPolicies { policies, operator } };
                model.refresh();
                let memory = QueueMemory { owned, known: owned, applied_bindings: applied, pending };
                Case { desired, model, memory, claimed: claimed.into_iter().collect() }
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn applying_a_plan_reaches_what_is_wanted_and_a_second_plan_is_empty(case in case()) {
        let first = match case.plan() {
            Ok(first) => first,
            Err(refused) => {
                // Only for what RabbitMQ fixes at declaration.
                let queue = case.model.queue.as_ref().unwrap();
                let wanted = case.desired.declaration();
                let same = |argument: &String| {
                    wanted
                        .get(argument)
                        .is_some_and(|value| same_text(argument, queue.arguments.get(argument), value))
                };
                prop_assert_eq!(refused.reason, Reason::Immutable);
                let all_are = wanted.keys().chain(queue.arguments.keys()).all(same);
                prop_assert!(!all_are, "{}", refused.message);
                return Ok(());
            }
        };
        let after = case.after(&first.steps, true);
        let queue = after.model.queue.as_ref().unwrap();
        for (argument, value) in case.desired.declaration() {
            prop_assert!(same_text(&argument, queue.arguments.get(&argument), &value));
        }
        for binding in &case.desired.bindings {
            prop_assert!(after.model.bindings.contains(binding));
        }
        for binding in &case.model.bindings {
            prop_assert_eq!(after.model.bindings.contains(binding), !case.dropped(binding), "{}", binding);
        }
        let second = after.plan().unwrap();
        prop_assert_eq!(words(&second), Vec::<String>::new());
        prop_assert_eq!(second.loss, None);
        // What is not in force is said, and nothing else.
        let said: Vec<_> = second.obstacles.iter().map(|o| o.message.split(' ').next().unwrap().to_owned()).collect();
        prop_assert_eq!(&said, &after.model.amiss(&case.desired));
    }

    #[test]
    fn no_key_of_a_displaced_policy_is_lost(case in case()) {
        let Ok(plan) = case.plan() else { return Ok(()) };
        let after = case.after(&plan.steps, true);
        let (Some(queue), Some(now)) = (&case.model.queue, &after.model.queue) else { return Ok(()) };
        let find = |name: &Option<String>, model: &Model| {
            model.policies.policies.iter().find(|p| Some(&p.name) == name.as_ref()).cloned()
        };
        let Some(before) = find(&queue.policy, &case.model).filter(|p| p.name != "spillway.q.q") else { return Ok(()) };
        let Some(is) = find(&now.policy, &after.model) else { panic!("{before:?} went without another") };
        let ours = &case.desired.settings;
        for (key, value) in &before.definition {
            let dead_letters = key.starts_with("dead-letter-") && ours.contains_key("dead-letter-exchange");
            if !ours.contains_key(key) && !dead_letters {
                prop_assert_eq!(is.definition.get(key), Some(value));
            }
        }
    }

    #[test]
    fn a_queue_is_deleted_only_to_be_recreated_as_the_spec_allows(case in case()) {
        let Ok(plan) = case.plan() else { return Ok(()) };
        let deletes = plan.steps.iter().position(|step| matches!(step, Step::DeleteQueue { .. }));
        if let Some(at) = deletes {
            prop_assert_eq!(case.desired.on_immutable_change, OnImmutableChange::RecreateIfEmpty);
            prop_assert!(case.desired.kind != crate::api::queue::QueueType::Stream);
            let next = matches!(&plan.steps[at + 1], Step::DeclareQueue { .. });
            prop_assert!(next, "what is deleted is declared at once");
        }
        for step in &plan.steps {
            match step {
                Step::Unbind(binding) => prop_assert!(case.dropped(binding)),
                Step::PutPolicy { policy, .. } => prop_assert_eq!(&policy.name, "spillway.q.q"),
                Step::DeletePolicy { name } => prop_assert_eq!(name, "spillway.q.q"),
                _ => {}
            }
        }
    }

    #[test]
    fn a_plan_is_the_same_whatever_the_order_of_what_was_seen(case in case(), seed: u8) {
        let mut other = case.clone();
        turn(&mut other.model.policies.policies, seed);
        turn(&mut other.model.policies.operator, seed);
        turn(&mut other.model.bindings, seed);
        turn(&mut other.memory.applied_bindings, seed);
        other.memory.pending.iter_mut().for_each(|pending| turn(pending, seed));
        prop_assert_eq!(case.plan(), other.plan());
    }

    #[test]
    fn a_crash_after_any_step_loses_no_binding_and_ends_the_same(case in case()) {
        let Ok(plan) = case.plan() else { return Ok(()) };
        let end = case.after(&plan.steps, true);
        let recreates = plan.steps.iter().any(|step| matches!(step, Step::DeleteQueue { .. }));
        for steps in 0..=plan.steps.len() {
            let mut crashed = case.after(&plan.steps[..steps], false);
            // What the status says before the first step.
            crashed.memory.applied_bindings.extend(case.desired.bindings.iter().cloned());
            if recreates {
                let binds = plan.steps.iter().filter_map(|step| match step {
                    Step::Bind(binding) => Some(binding.clone()),
                    _ => None,
                });
                crashed.memory.pending = Some(binds.collect());
            }
            let rest = crashed.plan().unwrap();
            let resumed = crashed.after(&rest.steps, true);
            let sorted = |model: &Model| model.bindings.iter().cloned().collect::<BTreeSet<_>>();
            prop_assert_eq!(sorted(&resumed.model), sorted(&end.model), "after {} steps", steps);
            prop_assert_eq!(&resumed.model.queue, &end.model.queue);
            if recreates {
                prop_assert_eq!(rest.loss, None);
            }
            prop_assert!(resumed.plan().unwrap().steps.is_empty());
        }
    }
}

fn same_text(argument: &str, is: Option<&Value>, wanted: &Value) -> bool {
    is.is_some_and(|is| crate::topology::rabbitmq::force::same_setting(argument, is, wanted))
}
