//! Condition types and reasons: a closed set, so that alerts and tools can rely on them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::legible::legible;

/// Works as declared.
pub const READY: &str = "Ready";
/// The broker matches the spec, or says what differs.
pub const IN_SYNC: &str = "InSync";
/// Work is under way or will be tried again (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// Only an edit of the spec can help (kstatus).
pub const STALLED: &str = "Stalled";
/// Frozen by an annotation on the object or its Broker.
pub const PAUSED: &str = "Paused";
/// The broker's object vanished or was replaced, with its messages.
pub const DATA_LOST: &str = "DataLost";
/// The broker behind the address is another one than before.
pub const CLUSTER_CHANGED: &str = "ClusterChanged";
/// Scaling decisions are being carried out.
pub const SCALING_ACTIVE: &str = "ScalingActive";

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $help:literal),+ $(,)?) => {
        /// Why a condition is as it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name),+ }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The reason as it stands in a condition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim()),+ }
            }

            /// What helps, as Markdown in docs/runbooks; empty where nothing is wrong.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help),+ }
            }
        }
    };
}

reasons! {
    /// All is as declared.
    InStep => "",
    /// The cluster answers.
    Connected => "",
    /// Work is under way.
    Progressing => "wait; if it stays, the operator's log",
    /// What differs is shown and not changed (Observe, drift policy Report, adoption).
    Differs => "what `status.plan` or the message shows: an edit, `managementPolicy`, or what `adoption` and `driftPolicy` allow",
    /// The broker's object is not there, and Observe does not make it.
    NotFound => "make it, or `managementPolicy: Manage`; of a Consumer: the name of its topic or queue",
    /// The plan waits for the annotation that approves it.
    ApprovalNeeded => "read `status.plan`; if it is right, the annotation from the message",
    /// Frozen by an annotation.
    Paused => "take the annotation `spillway.dev/paused` off the object, or off its Broker",
    /// Another CR owns the broker's object, or it was there before and may not be adopted.
    Conflict => "the message says which object owns it: delete one of the two, or let `adoption` allow it",
    /// The Broker that is named does not exist.
    BrokerNotFound => "the name in `brokerRef`, or the Broker",
    /// The Broker does not allow this namespace.
    NamespaceNotAllowed => "the owner of the Broker widens `allowedNamespaces`",
    /// The Broker's rules do not permit this.
    RuleViolated => "the owner of the Broker widens `rules`, or an edit of the object",
    /// The broker does not answer.
    BrokerUnreachable => "[SpillwayBrokerDown](broker-down.md)",
    /// The broker refuses the credentials.
    AuthenticationFailed => "the Secret that the Broker names; a change is seen at once",
    /// The credentials may not do this.
    AuthorizationFailed => "the [permissions](../operations/broker-permissions.md) of the Broker's user",
    /// A Secret is missing.
    SecretNotFound => "create it: it is seen at once",
    /// A Secret may not be read, or lacks a key.
    SecretInvalid => "the key that the message names; is the Secret's name in `rbac.secretNames`?",
    /// The settings cannot be used.
    InvalidSettings => "an edit of the Broker, or of what its Secret holds: an address or a certificate that cannot be read",
    /// Another Broker came first for this cluster and does not allow this namespace.
    ClusterClaimed => "use the Broker that the message names, or have its owner allow this namespace",
    /// The cluster's id is not the one recorded.
    ClusterChanged => "make sure that it is meant, then the annotation from the message",
    /// Something in the spec cannot be.
    InvalidSpec => "an edit of the object",
    /// Kafka cannot remove partitions.
    PartitionsShrink => "an edit of the object: partitions can only be added",
    /// Kafka's replication factor is changed by reassignment, which Spillway does not do.
    ReassignmentUnsupported => "Kafka's own tools, or an edit of the object",
    /// Two topic names that differ in `.` and `_` only collide in Kafka's metrics.
    NameCollision => "another name",
    /// The broker refused a change.
    BrokerRefused => "the broker's own words in the message: mostly an edit of the object",
    /// A change failed and is tried again.
    Failed => "the message ends with what the broker or the API server said; it is tried again by itself",
    /// A dead-letter or retry companion is not ready.
    CompanionNotReady => "look at the companion, which the message names: `spillway status` lists it with its own reason",
    /// The broker's object was reverted too often: something else writes it, too.
    Contended => "find who else writes it: another operator, a script, an application",
    /// The object holds messages, and DeleteIfEmpty keeps it.
    NotEmpty => "take the messages out, or edit `deletionPolicy`; a queue goes by itself once it is empty",
    /// The broker's object vanished and was made again, empty.
    Vanished => "[SpillwayDataLost](data-lost.md)",
    /// The broker's object was replaced by another of the same name.
    Replaced => "[SpillwayDataLost](data-lost.md)",
    /// The scale target does not exist.
    TargetNotFound => "the name in `scaleTargetRef`, or the workload",
    /// The Deployment could not be made from the template.
    TemplateInvalid => "an edit of the template, in the API server's words; `forbidden`: `rbac.templates`",
    /// What is referenced does not exist yet.
    DependencyNotReady => "make what the message waits for: a Queue, an Exchange, a virtual host",
    /// What is referenced is on another Broker or in another virtual host.
    RefInvalid => "an edit of the reference",
    /// A setting differs that RabbitMQ fixes when the object is declared.
    Immutable => "an edit back to what is there; or `onImmutableChange: RecreateIfEmpty` and an empty queue",
    /// A person's policy, or an operator policy, wins over Spillway's.
    PolicyShadowed => "that policy, which the message names",
    /// An argument that the queue was declared with wins over, or limits, a setting.
    ArgumentOverrides => "the queue has to be declared anew without that argument (`onImmutableChange: RecreateIfEmpty`), or an edit",
    /// The queue has messages or consumers, so it is not recreated.
    NotRecreated => "let consumers stop and the queue drain: it is looked at again by itself",
    /// Decisions are made and carried out.
    Scaling => "",
    /// Decisions are made and not carried out.
    DryRun => "`scaling.mode`, when you have seen enough",
    /// What is needed for a decision is not known.
    Unknown => "the message says what cannot be read, and mostly why: [SpillwayBrokerDown](broker-down.md)",
    /// A scaling guard holds.
    Guard => "[SpillwayLagBehindTarget](lag-behind-target.md)",
}

/// Longest message in a condition, in bytes.
pub const MAX_MESSAGE: usize = 1024;

/// A condition as one pass of a controller sees it: without the time of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The condition's type.
    pub kind: &'static str,
    /// True, False or (None) Unknown.
    pub status: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// Why, for a person; cut to [`MAX_MESSAGE`].
    pub message: String,
}

impl Verdict {
    /// A condition that holds or does not.
    pub fn new(kind: &'static str, status: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, status: Some(status), reason, message: message.into() }
    }
}

/// Puts `verdicts` in the place of `previous`: a condition keeps its transition time while its
/// status stays, and one that nobody mentions any more is gone.
#[must_use]
pub fn merge(
    previous: &[Condition],
    verdicts: &[Verdict],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    verdicts
        .iter()
        .map(|verdict| {
            let status = match verdict.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let unchanged = previous
                .iter()
                .find(|condition| condition.type_ == verdict.kind && condition.status == status);
            Condition {
                type_: verdict.kind.into(),
                status: status.into(),
                reason: verdict.reason.as_str().into(),
                message: cut(&verdict.message, MAX_MESSAGE),
                observed_generation: generation,
                last_transition_time: unchanged.map_or_else(
                    || Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
                    |condition| condition.last_transition_time.clone(),
                ),
            }
        })
        .collect()
}

/// Whether `kind` is True among `conditions`.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
}

/// The loss that conditions tell of.
#[must_use]
pub fn data_lost(conditions: &[Condition]) -> Option<&Condition> {
    find(conditions, DATA_LOST).filter(|lost| lost.status == "True")
}

/// Whether the broker differs and is left alone because managementPolicy or driftPolicy say so. `InSync` alone does not tell:
/// what waits for an approval, belongs to others or is not there differs as well, and somebody has to see to that.
#[must_use]
pub fn left_alone(conditions: &[Condition]) -> bool {
    let differs =
        |condition: &Condition| condition.status == "False" && condition.reason == Reason::Differs.as_str();
    find(conditions, IN_SYNC).is_some_and(differs)
        && find(conditions, READY).is_some_and(|ready| ready.status == "True" || differs(ready))
}

/// The condition of that type.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// At most `limit` bytes of `text`, cut at a character. A broker's words may hold what a terminal obeys: that is escaped.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    let text = &*legible(text);
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let first = merge(&[], &[Verdict::new(READY, false, Reason::Progressing, "one")], Some(1), at(10));
        let second = merge(&first, &[Verdict::new(READY, false, Reason::Failed, "two")], Some(1), at(20));
        let third = merge(&second, &[Verdict::new(READY, true, Reason::InStep, "three")], Some(1), at(30));
        assert_eq!(second[0].last_transition_time.0, at(10));
        assert_eq!(second[0].reason, "Failed");
        assert_eq!(third[0].last_transition_time.0, at(30));
    }

    #[test]
    fn what_waits_for_an_approval_or_is_not_there_is_not_left_alone_as_asked() {
        let told = |ready: (bool, Reason), in_sync: (bool, Reason)| {
            let verdicts =
                [Verdict::new(READY, ready.0, ready.1, ""), Verdict::new(IN_SYNC, in_sync.0, in_sync.1, "")];
            left_alone(&merge(&[], &verdicts, Some(1), at(10)))
        };
        let differs = (false, Reason::Differs);
        assert!(told((true, Reason::InStep), differs), "driftPolicy: Report");
        assert!(told(differs, differs), "managementPolicy: Observe");
        for reason in [Reason::ApprovalNeeded, Reason::Conflict, Reason::NotFound] {
            assert!(!told((false, reason), differs), "{reason:?}");
        }
        let away = (false, Reason::BrokerUnreachable);
        assert!(!told(away, away) && !told((true, Reason::InStep), (true, Reason::InStep)));
    }

    #[test]
    fn every_reason_has_a_sentence() {
        for reason in Reason::ALL {
            assert!(reason.meaning().ends_with('.') && !reason.help().contains('|'), "{reason:?}");
        }
        assert_eq!(Reason::InStep.meaning(), "All is as declared.");
        assert_eq!(Reason::ALL.iter().filter(|reason| reason.help().is_empty()).count(), 3);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        assert_eq!(cut("\u{1b}[31mred\nline \"é\"", 99), "\\u{1b}[31mred\\nline \"é\"");
        assert_eq!(cut("no queue 'a\u{202e}b\u{2028}c'", 99), "no queue 'a\\u{202e}b\\u{2028}c'");
        let cut = cut(&"é".repeat(2000), MAX_MESSAGE);
        assert!(cut.len() <= MAX_MESSAGE && cut.ends_with('…'));
    }
}
