use super::*;
use crate::api::broker::DriftPolicy;
use crate::api::policy::ManagementPolicy;
use crate::brokers::kafka::ErrorCode;
use crate::controllers::topic::remembered;
use crate::topology::gate::Loss;
use crate::topology::kafka::{self, DesiredTopic, Gate};

const CLUSTER: &str = "the cluster";
const DELETE: Policies = Policies { deletion: DeletionPolicy::Delete, ..PLAIN };
const NEVER: Policies = Policies { adoption: Adoption::Never, ..PLAIN };
const PLAIN: Policies = Policies {
    management: ManagementPolicy::Manage,
    adoption: Adoption::IfIdentical,
    deletion: DeletionPolicy::Retain,
};

fn desired(keys: &[&str]) -> DesiredTopic {
    let config = keys.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect();
    DesiredTopic { name: "orders".into(), partitions: Some(3), replication_factor: None, config }
}

fn seen(id: &str, keys: &[&str]) -> ObservedTopic {
    ObservedTopic { id: id.into(), partitions: 3, replication_factor: 1, config: desired(keys).config }
}

fn plan(
    desired: &DesiredTopic,
    observed: Option<&ObservedTopic>,
    status: &TopicStatus,
    of: Policies,
) -> Plan {
    let memory = remembered(status, CLUSTER);
    let input = kafka::Input {
        desired,
        observed,
        memory: &memory,
        management: of.management,
        adoption: of.adoption,
        drift: DriftPolicy::Correct,
        edited: true,
        approved: None,
    };
    kafka::plan(&input).expect("a plan")
}

fn error(code: ErrorCode) -> KafkaError {
    KafkaError { operation: "change".into(), code, message: "no".into() }
}

const REFUSED: [ErrorCode; 4] = [
    ErrorCode::Authorization,
    ErrorCode::InvalidConfig,
    ErrorCode::PolicyViolation,
    ErrorCode::TopicAlreadyExists,
];
const UNKNOWN: [ErrorCode; 4] =
    [ErrorCode::Timeout, ErrorCode::Transport, ErrorCode::NotController, ErrorCode::Other(-1)];

#[test]
fn what_was_refused_is_nobodys_when_others_make_it() {
    for policies in [DELETE, NEVER] {
        let (want, before) = (desired(&["a"]), TopicStatus::default());
        let create = plan(&want, None, &before, policies);
        for code in REFUSED {
            let mut status = noted(&before, &create, policies, CLUSTER);
            assert_eq!(status.pending.as_deref(), Some(CREATE));
            take_back(&before, &mut status, create.steps.first(), &error(code));
            assert_eq!(status, before, "{code}");
            let gate = plan(&want, Some(&seen("theirs", &[])), &status, policies).gate;
            assert!(matches!(gate, Gate::Approval | Gate::Foreign), "{gate:?}");
        }
        for code in UNKNOWN {
            let mut status = noted(&before, &create, policies, CLUSTER);
            take_back(&before, &mut status, create.steps.first(), &error(code));
            assert_eq!(status.pending.as_deref(), Some(CREATE), "{code}");
        }
    }
}

#[test]
fn an_attempt_of_which_nothing_was_heard_is_only_disproved_by_what_tells_that_there_is_no_topic() {
    let before = TopicStatus { pending: Some(CREATE.into()), ..TopicStatus::default() };
    let create = plan(&desired(&[]), None, &before, DELETE);
    let after = |code| {
        let mut status = before.clone();
        take_back(&before, &mut status, create.steps.first(), &error(code));
        status.pending
    };
    assert_eq!(after(ErrorCode::InvalidReplicationFactor), None);
    // It may be the one that the earlier attempt made.
    assert_eq!(after(ErrorCode::TopicAlreadyExists), before.pending);
    assert_eq!(after(ErrorCode::Authorization), before.pending);
}

#[test]
fn a_persons_config_is_not_unset_after_a_change_of_it_was_refused() {
    let before = TopicStatus {
        topic_id: Some("id".into()),
        applied_config_keys: vec!["a".into()],
        ..TopicStatus::default()
    };
    let theirs = ObservedTopic {
        config: [("a", "1"), ("b", "theirs")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..seen("id", &[])
    };
    let change = plan(&desired(&["a", "b"]), Some(&theirs), &before, PLAIN);
    let reverted = |code| {
        let mut status = noted(&before, &change, PLAIN, CLUSTER);
        assert_eq!(status.applied_config_keys, ["a", "b"]);
        take_back(&before, &mut status, change.steps.first(), &error(code));
        plan(&desired(&["a"]), Some(&theirs), &status, PLAIN).steps
    };
    for code in REFUSED {
        assert_eq!(reverted(code).len(), 0, "{code}");
    }
    // It may have been set.
    for code in UNKNOWN {
        assert_eq!(reverted(code).len(), 1, "{code}");
    }
    // That partitions are refused says nothing of configs that were set before them.
    let mut status = noted(&before, &change, PLAIN, CLUSTER);
    let grow = Step::Grow { from: 3, to: 4 };
    take_back(&before, &mut status, Some(&grow), &error(ErrorCode::InvalidPartitions));
    assert_eq!(status.applied_config_keys, ["a", "b"]);
}

#[test]
fn a_crash_before_a_lost_topic_that_was_made_again_is_written_down_hides_no_loss_and_owns_nothing_wrongly() {
    let known = TopicStatus {
        topic_id: Some("id-1".into()),
        applied_config_keys: vec!["a".into()],
        ..TopicStatus::default()
    };
    let want = desired(&["a"]);
    let again = plan(&want, None, &known, PLAIN);
    assert_eq!((again.gate, again.loss), (Gate::Go, Some(Loss::Vanished)));
    // Nothing is written first: the id tells.
    assert_eq!(noted(&known, &again, PLAIN, CLUSTER), known);
    let ours = plan(&want, Some(&seen("id-2", &["a"])), &known, PLAIN);
    assert_eq!((ours.gate, ours.loss, ours.steps.len()), (Gate::Go, Some(Loss::Replaced), 0));
    let theirs = plan(&want, Some(&seen("id-3", &[])), &known, PLAIN);
    assert_eq!((theirs.gate, theirs.loss), (Gate::Approval, Some(Loss::Replaced)));
    // What deletes its topic, or takes nothing over, has to know its own.
    for policies in [DELETE, NEVER] {
        let noted = noted(&known, &plan(&want, None, &known, policies), policies, CLUSTER);
        let ours = plan(&want, Some(&seen("id-2", &["a"])), &noted, policies);
        assert_eq!((ours.gate, ours.loss), (Gate::Go, Some(Loss::Vanished)));
    }
}

#[test]
fn a_creation_that_was_begun_on_one_cluster_claims_nothing_on_another() {
    let want = desired(&["a"]);
    let begun =
        noted(&TopicStatus::default(), &plan(&want, None, &TopicStatus::default(), NEVER), NEVER, CLUSTER);
    assert!(remembered(&begun, CLUSTER).creating);
    assert!(!remembered(&begun, "another").creating);
}
