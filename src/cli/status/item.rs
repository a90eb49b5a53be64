//! From an object's conditions to how it is. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde::Serialize;

use crate::api::conditions::{self, Reason};
use crate::cli::leases::Leader;
use crate::scaling::ConditionKind;

/// How an object is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum State {
    /// Messages may be gone: the broker's object vanished or was replaced.
    DataLost,
    /// Only an edit of the spec can help.
    Stalled,
    /// Not ready, and tried again.
    NotReady,
    /// Being deleted, and not gone yet.
    Deleting,
    /// Ready, but the broker differs and is left alone.
    Differs,
    /// Ready, but no decision is carried out.
    NotScaling,
    /// Ready, but a guard of its scaling stands that somebody has to look at.
    Held,
    /// The operator has not looked at the last edit.
    Unseen,
    /// On its way.
    UnderWay,
    /// Frozen by an annotation.
    Paused,
    /// As declared.
    Ready,
}

impl State {
    /// As it stands in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DataLost => "DataLost",
            Self::Stalled => "Stalled",
            Self::NotReady => "NotReady",
            Self::Deleting => "Deleting",
            Self::Differs => "Differs",
            Self::NotScaling => "NotScaling",
            Self::Held => "Held",
            Self::Unseen => "Unseen",
            Self::UnderWay => "UnderWay",
            Self::Paused => "Paused",
            Self::Ready => "Ready",
        }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    pub state: State,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Since when, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Item {
    /// How one object is.
    pub fn of(kind: &str, object: &DynamicObject) -> Self {
        let status = &object.data["status"];
        let conditions: Vec<Condition> =
            serde_json::from_value(status["conditions"].clone()).unwrap_or_default();
        let (state, because) = state(object, &conditions);
        Self {
            state,
            kind: kind.to_owned(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            reason: because.map(|c| c.reason.clone()).unwrap_or_default(),
            since: because.map(|c| c.last_transition_time.0.to_string()),
            message: because.map(|c| c.message.clone()).unwrap_or_default(),
        }
    }
}

/// Guards of a Consumer that say that messages are not being worked on as they should be, the worst first. The others tell
/// what is ordinary, or what is known already.
const TROUBLE: [ConditionKind; 8] = [
    ConditionKind::AllStuck,
    ConditionKind::PodsNotReady,
    ConditionKind::GroupUnstable,
    ConditionKind::BreakerOpen,
    ConditionKind::StuckPartition,
    ConditionKind::LsoStalled,
    ConditionKind::DownstreamBound,
    ConditionKind::PartitionBound,
];

/// The state, and the condition that says so.
fn state<'a>(object: &DynamicObject, all: &'a [Condition]) -> (State, Option<&'a Condition>) {
    let find = |kind| conditions::find(all, kind);
    let is = |kind, status: &str| find(kind).filter(|condition| condition.status == status);
    let ready = find(conditions::READY);
    let unseen = object.data["status"]["observedGeneration"].as_i64() != object.metadata.generation;
    if let Some(lost) = is(conditions::DATA_LOST, "True") {
        return (State::DataLost, Some(lost));
    }
    if object.metadata.deletion_timestamp.is_some() {
        return (State::Deleting, ready);
    }
    if unseen || ready.is_none() {
        return (State::Unseen, ready);
    }
    if let Some(stalled) = is(conditions::STALLED, "True") {
        return (State::Stalled, Some(stalled));
    }
    if let Some(paused) = is(conditions::PAUSED, "True") {
        return (State::Paused, Some(paused));
    }
    if let Some(not) = is(conditions::READY, "False") {
        let ordinary = [Reason::Progressing, Reason::CompanionNotReady, Reason::DependencyNotReady];
        let under_way = ordinary.iter().any(|reason| not.reason == reason.as_str());
        return (if under_way { State::UnderWay } else { State::NotReady }, Some(not));
    }
    if let Some(differs) = is(conditions::IN_SYNC, "False") {
        return (State::Differs, Some(differs));
    }
    if let Some(idle) = is(conditions::SCALING_ACTIVE, "False") {
        return (State::NotScaling, Some(idle));
    }
    if let Some(guard) = TROUBLE.iter().find_map(|kind| is(kind.as_str(), "True")) {
        return (State::Held, Some(guard));
    }
    (State::Ready, ready)
}

/// What is known of the operators that look after the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operator {
    /// Whether one leads; none: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leads: Option<bool>,
    /// In words.
    pub message: String,
    /// Their Leases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<Leader>,
}

impl Operator {
    /// From the Leases that were found; `namespace` is the one that is looked at, none all.
    pub fn of(leaders: Result<Vec<Leader>, String>, namespace: Option<&str>) -> Self {
        let leaders = match leaders {
            Ok(leaders) => leaders,
            Err(why) => {
                let message = format!(
                    "not known: failed to read Leases: {why} (--lease-namespace names the one that it runs in)"
                );
                return Self { leads: None, message, leases: Vec::new() };
            }
        };
        let elsewhere = leaders.iter().filter(|leader| leader.leads).count();
        let mut leases: Vec<_> = leaders.into_iter().filter(|leader| leader.watches(namespace)).collect();
        leases.sort_by_key(|leader| (!leader.leads, leader.namespace.clone(), leader.lease.clone()));
        let leads = leases.iter().any(|leader| leader.leads);
        // A Lease that was let go is told where nothing better is: an uninstalled operator leaves its own.
        leases.retain(|leader| leader.holder.is_some() || !leads);
        let told: Vec<_> = leases.iter().map(Leader::in_words).collect();
        let message = match (leads, told.is_empty()) {
            (true, _) => told.join("; "),
            (false, false) => format!("none leads: {}", told.join("; ")),
            (false, true) if elsewhere > 0 => "none leads that watches this namespace".to_owned(),
            (false, true) => "none leads: there is no Lease of Spillway's: is it installed?".to_owned(),
        };
        Self { leads: Some(leads), message, leases }
    }
}

/// All that there is to say.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub operator: Operator,
    /// The worst first.
    pub objects: Vec<Item>,
}

impl Report {
    /// Whether nothing needs anybody.
    pub fn is_well(&self) -> bool {
        self.operator.leads != Some(false) && self.objects.iter().all(|item| item.state == State::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(generation: i64, conditions: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "spillway.dev/v1alpha1", "kind": "Topic",
            "metadata": {"name": "orders", "namespace": "shop", "generation": generation},
            "status": {"observedGeneration": 1, "conditions": conditions},
        }))
        .unwrap()
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": format!("{kind} {reason}"),
            "lastTransitionTime": "2026-11-21T12:00:00Z"})
    }

    fn of(conditions: &[Value]) -> Item {
        Item::of("Topic", &object(1, &json!(conditions)))
    }

    #[test]
    fn the_worst_that_is_said_counts() {
        let ready = condition("Ready", "True", "InStep");
        let not = |reason| condition("Ready", "False", reason);
        assert_eq!(of(std::slice::from_ref(&ready)).state, State::Ready);
        assert_eq!(of(&[ready.clone(), condition("DataLost", "True", "Vanished")]).state, State::DataLost);
        assert_eq!(of(&[ready.clone(), condition("DataLost", "False", "Vanished")]).state, State::Ready);
        assert_eq!(
            of(&[not("BrokerRefused"), condition("Stalled", "True", "BrokerRefused")]).state,
            State::Stalled
        );
        assert_eq!(of(&[not("BrokerUnreachable")]).state, State::NotReady);
        assert_eq!(of(&[not("CompanionNotReady")]).state, State::UnderWay);
        assert_eq!(of(&[not("Paused"), condition("Paused", "True", "Paused")]).state, State::Paused);
        assert_eq!(of(&[ready.clone(), condition("InSync", "False", "Differs")]).state, State::Differs);
        assert_eq!(of(&[ready, condition("ScalingActive", "False", "Unknown")]).state, State::NotScaling);
        let ready = condition("Ready", "True", "InStep");
        let held = of(&[ready, condition("PodsNotReady", "True", "PodsNotReady")]);
        assert_eq!((held.state, held.reason.as_str()), (State::Held, "PodsNotReady"));
        let ready = condition("Ready", "True", "InStep");
        assert_eq!(of(&[ready, condition("TargetInfeasible", "True", "x")]).state, State::Ready);
    }

    #[test]
    fn what_the_operator_did_not_see_is_not_called_ready() {
        let ready = json!([condition("Ready", "True", "InStep")]);
        assert_eq!(Item::of("Topic", &object(2, &ready)).state, State::Unseen);
        assert_eq!(of(&[]).state, State::Unseen);
    }

    #[test]
    fn a_status_that_cannot_be_read_is_not_ready() {
        assert_eq!(Item::of("Topic", &object(1, &json!("nonsense"))).state, State::Unseen);
    }

    fn leader(lease: &str, leads: bool, watches: &[&str]) -> Leader {
        Leader {
            namespace: "ops".into(),
            lease: lease.into(),
            holder: Some("pod".into()),
            renewed: Some(7),
            leads,
            watches: watches.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn an_expired_lease_is_no_leader() {
        assert_eq!(Operator::of(Ok(vec![leader("spillway", true, &[])]), None).leads, Some(true));
        let gone = Operator::of(Ok(vec![leader("spillway", false, &[])]), None);
        assert_eq!(gone.leads, Some(false));
        assert_eq!(gone.message, "none leads: pod held Lease ops/spillway and renewed it 7 s ago last");
        assert_eq!(Operator::of(Ok(Vec::new()), None).leads, Some(false));
        assert_eq!(Operator::of(Err("forbidden".into()), None).leads, None);
    }

    #[test]
    fn every_operator_of_a_namespace_is_told_and_no_other() {
        let all =
            || Ok(vec![leader("a", true, &["shop"]), leader("b", true, &[]), leader("c", false, &["bills"])]);
        let shop = Operator::of(all(), Some("shop")).message;
        assert_eq!(shop, "pod holds Lease ops/a, renewed 7 s ago; pod holds Lease ops/b, renewed 7 s ago");
        assert_eq!(Operator::of(all(), None).leases.len(), 3);
        let one = Operator::of(Ok(vec![leader("a", true, &["shop"])]), Some("bills"));
        assert_eq!((one.leads, &*one.message), (Some(false), "none leads that watches this namespace"));
    }

    #[test]
    fn what_an_uninstalled_operator_left_is_told_only_where_none_leads() {
        let left = || Leader { holder: None, ..leader("old", false, &[]) };
        let both = Operator::of(Ok(vec![left(), leader("new", true, &[])]), None);
        assert_eq!(both.message, "pod holds Lease ops/new, renewed 7 s ago");
        assert_eq!(Operator::of(Ok(vec![left()]), None).message, "none leads: nobody holds Lease ops/old");
    }
}
