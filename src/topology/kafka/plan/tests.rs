use super::*;
use proptest::prelude::*;

fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn desired(partitions: Option<i32>, pairs: &[(&str, &str)]) -> DesiredTopic {
    DesiredTopic { name: "orders".into(), partitions, replication_factor: None, config: config(pairs) }
}

fn seen(partitions: i32, pairs: &[(&str, &str)]) -> ObservedTopic {
    ObservedTopic { id: "id-1".into(), partitions, replication_factor: 1, config: config(pairs) }
}

fn ours(keys: &[&str]) -> Memory {
    Memory {
        topic_id: Some("id-1".into()),
        applied_keys: keys.iter().map(|k| (*k).to_owned()).collect(),
        creating: false,
    }
}

fn input<'a>(
    desired: &'a DesiredTopic,
    observed: Option<&'a ObservedTopic>,
    memory: &'a Memory,
) -> Input<'a> {
    Input {
        desired,
        observed,
        memory,
        management: ManagementPolicy::Manage,
        adoption: Adoption::IfIdentical,
        drift: DriftPolicy::Correct,
        edited: false,
        approved: None,
    }
}

fn words(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

#[test]
fn a_missing_topic_is_created_with_all_that_is_declared() {
    let want = desired(Some(3), &[("retention.ms", "1000")]);
    let plan = plan(&input(&want, None, &Memory::default())).unwrap();
    assert_eq!(
        words(&plan),
        ["create the topic with 3 partitions, the broker's replication factor, retention.ms=1000"]
    );
    assert_eq!((plan.gate, plan.loss), (Gate::Go, None));
}

#[test]
fn a_removed_key_goes_back_to_default_and_a_foreign_key_is_left_alone() {
    let want = desired(None, &[("retention.ms", "2000")]);
    let is = seen(3, &[("retention.ms", "1000"), ("segment.ms", "5"), ("max.message.bytes", "9")]);
    let plan = plan(&input(&want, Some(&is), &ours(&["retention.ms", "segment.ms"]))).unwrap();
    assert_eq!(words(&plan), ["set retention.ms: 1000 → 2000; unset segment.ms (was 5)"]);
    assert_eq!(plan.applied_keys, BTreeSet::from(["retention.ms".to_owned()]));
}

#[test]
fn partitions_grow_after_the_configs_and_never_shrink() {
    let want = desired(Some(6), &[("retention.ms", "1")]);
    let plan1 = plan(&input(&want, Some(&seen(3, &[])), &ours(&[]))).unwrap();
    assert_eq!(words(&plan1), ["set retention.ms=1", "add partitions: 3 → 6"]);
    let refused = plan(&input(&want, Some(&seen(9, &[])), &ours(&[]))).unwrap_err();
    assert_eq!(refused.reason, Reason::PartitionsShrink);
    assert!(refused.message.contains("has 9 partitions and the spec wants 6"), "{refused}");
}

#[test]
fn a_changed_replication_factor_is_refused_in_words() {
    let want = DesiredTopic { replication_factor: Some(3), ..desired(None, &[]) };
    let refused = plan(&input(&want, Some(&seen(1, &[])), &ours(&[]))).unwrap_err();
    assert_eq!(refused.reason, Reason::ReassignmentUnsupported);
}

#[test]
fn values_that_kafka_prints_otherwise_are_no_difference() {
    for (is, wanted) in [
        ("1000", "01000"),
        ("true", "TRUE"),
        ("0.5", "0.50"),
        ("compact,delete", "compact, delete"),
        ("x", " x "),
    ] {
        assert!(same_value(is, wanted), "{is} {wanted}");
    }
    for (is, wanted) in
        [("1000", "1001"), ("true", "false"), ("compact,delete", "delete,compact"), ("a", "A")]
    {
        assert!(!same_value(is, wanted), "{is} {wanted}");
    }
}

#[test]
fn a_foreign_topic_is_adopted_silently_only_if_nothing_differs() {
    let want = desired(Some(3), &[("retention.ms", "1")]);
    let memory = Memory::default();
    let same = seen(3, &[("retention.ms", "1"), ("segment.ms", "7")]);
    let quiet = plan(&input(&want, Some(&same), &memory)).unwrap();
    assert_eq!((quiet.gate, quiet.steps.len()), (Gate::Go, 0));

    let other = seen(3, &[("retention.ms", "9")]);
    let waiting = plan(&input(&want, Some(&other), &memory)).unwrap();
    assert_eq!(waiting.gate, Gate::Approval);
    assert!(waiting.applied_keys.is_empty());
    let approved =
        plan(&Input { approved: Some(&waiting.hash), ..input(&want, Some(&other), &memory) }).unwrap();
    assert_eq!(approved.gate, Gate::Go);
    let stale =
        plan(&Input { approved: Some("123456789abc"), ..input(&want, Some(&other), &memory) }).unwrap();
    assert_eq!(stale.gate, Gate::Approval);

    let never = plan(&Input { adoption: Adoption::Never, ..input(&want, Some(&same), &memory) }).unwrap();
    assert_eq!(never.gate, Gate::Foreign);
    let adopt = plan(&Input { adoption: Adoption::Adopt, ..input(&want, Some(&other), &memory) }).unwrap();
    assert_eq!(adopt.gate, Gate::Go);
}

#[test]
fn an_approval_holds_only_for_what_was_shown() {
    let want = desired(Some(3), &[("retention.ms", "1")]);
    let memory = Memory::default();
    let shown = plan(&input(&want, Some(&seen(3, &[("retention.ms", "9")])), &memory)).unwrap();
    let moved = seen(3, &[("retention.ms", "8")]);
    let later = plan(&Input { approved: Some(&shown.hash), ..input(&want, Some(&moved), &memory) }).unwrap();
    assert_eq!(later.gate, Gate::Approval);
}

#[test]
fn a_vanished_topic_is_a_loss_and_a_replaced_one_is_not_taken_over_unseen() {
    let want = desired(Some(3), &[]);
    let memory = ours(&[]);
    let gone = plan(&input(&want, None, &memory)).unwrap();
    assert_eq!((gone.loss, gone.gate), (Some(Loss::Vanished), Gate::Go));
    let other = ObservedTopic { id: "id-2".into(), ..seen(2, &[]) };
    let replaced = plan(&input(&want, Some(&other), &memory)).unwrap();
    assert_eq!((replaced.loss, replaced.gate), (Some(Loss::Replaced), Gate::Approval));
}

#[test]
fn an_approval_for_one_topic_is_none_for_another_that_takes_its_place() {
    let want = desired(Some(3), &[("retention.ms", "1")]);
    let memory = ours(&[]);
    let there = |id: &str| ObservedTopic { id: id.into(), ..seen(3, &[("retention.ms", "9")]) };
    for memory in [Memory::default(), memory] {
        let (second, third) = (there("id-2"), there("id-3"));
        let shown = plan(&input(&want, Some(&second), &memory)).unwrap();
        let approved = |is| {
            plan(&Input { approved: Some(&shown.hash), ..input(&want, Some(is), &memory) }).unwrap().gate
        };
        assert_eq!((approved(&second), approved(&third)), (Gate::Go, Gate::Approval));
    }
}

#[test]
fn a_topic_that_was_made_again_with_other_numbers_is_a_loss_although_it_cannot_be_changed() {
    let want = DesiredTopic { replication_factor: Some(1), ..desired(Some(3), &[]) };
    let memory = ours(&[]);
    for other in [
        ObservedTopic { replication_factor: 3, ..seen(3, &[]) },
        ObservedTopic { partitions: 9, ..seen(3, &[]) },
    ] {
        let other = ObservedTopic { id: "id-2".into(), ..other };
        assert!(plan(&input(&want, Some(&other), &memory)).is_err());
        assert_eq!(loss(&want, &memory, Some(&other)), Some(Loss::Replaced));
    }
}

#[test]
fn a_topic_whose_creation_was_begun_is_ours_when_it_appears() {
    let want = desired(Some(3), &[]);
    let begun = Memory { creating: true, ..Memory::default() };
    let is = seen(3, &[]);
    let never = Input { adoption: Adoption::Never, ..input(&want, Some(&is), &begun) };
    assert_eq!(plan(&never).unwrap().gate, Gate::Go);
    let again = Memory { creating: true, topic_id: Some("id-0".into()), ..Memory::default() };
    let vanished = plan(&input(&want, Some(&is), &again)).unwrap();
    assert_eq!((vanished.loss, vanished.gate), (Some(Loss::Vanished), Gate::Go));
}

#[test]
fn a_topic_that_others_made_after_a_creation_without_an_answer_is_theirs() {
    let want = DesiredTopic { replication_factor: Some(1), ..desired(Some(3), &[("retention.ms", "1")]) };
    let as_asked = seen(3, &[("retention.ms", "1")]);
    let others = [
        ObservedTopic { partitions: 2, ..as_asked.clone() },
        ObservedTopic { config: config(&[("retention.ms", "9")]), ..as_asked.clone() },
        ObservedTopic { config: config(&[]), ..as_asked.clone() },
    ];
    let begun = Memory { creating: true, ..Memory::default() };
    let again = Memory { topic_id: Some("id-0".into()), ..begun.clone() };
    for adoption in [Adoption::Never, Adoption::IfIdentical] {
        for memory in [&begun, &again] {
            let of = |seen| plan(&Input { adoption, ..input(&want, Some(seen), memory) }).unwrap();
            assert_eq!(of(&as_asked).gate, Gate::Go);
            for other in &others {
                let theirs = of(other);
                assert!(matches!(theirs.gate, Gate::Foreign | Gate::Approval), "{theirs:?}");
                assert_eq!(theirs.loss, memory.topic_id.as_ref().map(|_| Loss::Replaced));
            }
        }
    }
}

#[test]
fn drift_is_reported_or_corrected_but_an_edit_is_always_carried_out() {
    let want = desired(None, &[("retention.ms", "1")]);
    let is = seen(3, &[("retention.ms", "9")]);
    let memory = ours(&["retention.ms"]);
    let report = Input { drift: DriftPolicy::Report, ..input(&want, Some(&is), &memory) };
    assert_eq!(plan(&report).unwrap().gate, Gate::Report);
    assert_eq!(plan(&Input { edited: true, ..report }).unwrap().gate, Gate::Go);
    assert_eq!(plan(&Input { management: ManagementPolicy::Observe, ..report }).unwrap().gate, Gate::Observe);
}

/// A broker in miniature: what Kafka does with a step.
fn apply(observed: Option<ObservedTopic>, steps: &[Step]) -> ObservedTopic {
    let mut topic = observed.unwrap_or_default();
    for step in steps {
        match step {
            Step::Create { partitions, replication_factor, config } => {
                topic = ObservedTopic {
                    id: "made".into(),
                    partitions: partitions.unwrap_or(1),
                    replication_factor: replication_factor.map_or(1, i32::from),
                    config: config.clone(),
                };
            }
            Step::Grow { to, .. } => topic.partitions = *to,
            Step::Configure { set, unset } => {
                topic.config.retain(|key, _| !unset.contains_key(key));
                topic.config.extend(set.iter().map(|(key, (_, to))| (key.clone(), to.clone())));
            }
        }
    }
    topic
}

fn configs() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-d]", "[0-3]", 0..4)
}

fn topics() -> impl Strategy<Value = ObservedTopic> {
    (1i32..5, configs()).prop_map(|(partitions, config)| ObservedTopic {
        id: "id-1".into(),
        partitions,
        replication_factor: 1,
        config,
    })
}

/// How the topic that is seen stands to what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Absent,
    Vanished,
    Ours,
    Foreign,
    Replaced,
    BeingMade,
}

fn befores() -> impl Strategy<Value = Before> {
    use Before::{Absent, BeingMade, Foreign, Ours, Replaced, Vanished};
    prop::sample::select(vec![Absent, Vanished, Ours, Foreign, Replaced, BeingMade])
}

proptest! {
    #[test]
    fn applying_a_plan_reaches_what_is_wanted_and_a_second_plan_is_empty(
        partitions in prop::option::of(1i32..8),
        replication_factor in prop::option::of(1i16..3),
        config in configs(),
        before in befores(),
        topic in topics(),
        applied in prop::collection::btree_set("[a-d]", 0..4),
        adoption in prop::sample::select(vec![Adoption::IfIdentical, Adoption::Adopt, Adoption::Never]),
    ) {
        let there = !matches!(before, Before::Absent | Before::Vanished);
        let observed = there.then_some(topic);
        let want = DesiredTopic { name: "t".into(), partitions, replication_factor, config };
        let topic_id = match before {
            Before::Absent | Before::Foreign | Before::BeingMade => None,
            Before::Vanished | Before::Replaced => Some("id-0".to_owned()),
            Before::Ours => Some("id-1".to_owned()),
        };
        let memory = Memory { topic_id, applied_keys: applied, creating: before == Before::BeingMade };
        let asked = Input { adoption, ..input(&want, observed.as_ref(), &memory) };
        prop_assert_eq!(loss(&want, &memory, observed.as_ref()), match before {
            Before::Vanished => Some(Loss::Vanished),
            Before::Replaced => Some(Loss::Replaced),
            _ => None,
        });
        let first = match plan(&asked) {
            Ok(first) => first,
            Err(refused) => {
                let seen = observed.unwrap();
                let shrinks = partitions.is_some_and(|n| n < seen.partitions);
                let moves = replication_factor.is_some_and(|n| i32::from(n) != seen.replication_factor);
                let so = if refused.reason == Reason::PartitionsShrink { shrinks } else { moves };
                prop_assert!(so);
                return Ok(());
            }
        };
        let theirs = match before {
            Before::Foreign | Before::Replaced => true,
            Before::BeingMade => observed.as_ref().is_some_and(|seen| !came_of_it(&want, &memory, seen)),
            _ => false,
        };
        let waits = match adoption {
            Adoption::Never => theirs,
            Adoption::IfIdentical => theirs && !first.steps.is_empty(),
            Adoption::Adopt => false,
        };
        prop_assert_eq!(first.gate == Gate::Go, !waits);
        let first = if waits {
            prop_assert_eq!(&first.applied_keys, &memory.applied_keys);
            let approved = plan(&Input { approved: Some(&first.hash), ..asked }).unwrap();
            prop_assert_eq!(approved.gate == Gate::Go, adoption == Adoption::IfIdentical);
            if approved.gate != Gate::Go {
                return Ok(());
            }
            approved
        } else {
            first
        };
        let foreign: BTreeMap<_, _> = observed.iter().flat_map(|o| o.config.clone())
            .filter(|(k, _)| !memory.applied_keys.contains(k) && !want.config.contains_key(k)).collect();
        let after = apply(observed, &first.steps);
        prop_assert!(want.config.iter().all(|(k, v)| after.config.get(k) == Some(v)));
        prop_assert!(foreign.iter().all(|(k, v)| after.config.get(k) == Some(v)));
        prop_assert_eq!(after.config.len(), want.config.len() + foreign.len());
        prop_assert!(partitions.is_none_or(|n| n == after.partitions));
        prop_assert!(replication_factor.is_none_or(|n| i32::from(n) == after.replication_factor));
        let memory =
            Memory { topic_id: Some(after.id.clone()), applied_keys: first.applied_keys, creating: false };
        let second = plan(&Input { adoption, ..input(&want, Some(&after), &memory) }).unwrap();
        prop_assert!(second.steps.is_empty());
        prop_assert_eq!((second.gate, second.loss), (Gate::Go, None));
    }

    #[test]
    fn a_crash_after_any_step_ends_the_same(
        partitions in prop::option::of(1i32..8),
        config in configs(),
        observed in prop::option::of(topics()),
        applied in prop::collection::btree_set("[a-d]", 0..4),
    ) {
        let want = DesiredTopic { name: "t".into(), partitions, replication_factor: None, config };
        let memory = Memory { topic_id: observed.as_ref().map(|o| o.id.clone()), applied_keys: applied, creating: observed.is_none() };
        let Ok(first) = plan(&input(&want, observed.as_ref(), &memory)) else { return Ok(()) };
        let end = apply(observed.clone(), &first.steps);
        for steps in 0..=first.steps.len() {
            let crashed = if steps == 0 { observed.clone() } else { Some(apply(observed.clone(), &first.steps[..steps])) };
            let rest = plan(&input(&want, crashed.as_ref(), &memory)).unwrap();
            prop_assert_eq!(rest.gate, Gate::Go);
            prop_assert_eq!(apply(crashed, &rest.steps), end.clone(), "after {} steps", steps);
        }
    }

    #[test]
    fn a_plan_never_shrinks_and_names_no_key_that_is_not_ours(
        partitions in prop::option::of(1i32..8),
        config in configs(),
        observed in topics(),
        applied in prop::collection::btree_set("[a-d]", 0..4),
    ) {
        let want = DesiredTopic { name: "t".into(), partitions, replication_factor: None, config };
        let memory = Memory { topic_id: Some("id-1".into()), applied_keys: applied, creating: false };
        if let Ok(plan) = plan(&input(&want, Some(&observed), &memory)) {
            for step in &plan.steps {
                match step {
                    Step::Create { .. } => prop_assert!(false, "created over an existing topic"),
                    Step::Grow { from, to } => prop_assert!(to > from && *from == observed.partitions),
                    Step::Configure { set, unset } => {
                        prop_assert!(set.keys().all(|k| want.config.contains_key(k)));
                        prop_assert!(unset.keys().all(|k| memory.applied_keys.contains(k)));
                    }
                }
            }
        }
    }
}
