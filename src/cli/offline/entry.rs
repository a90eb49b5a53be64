//! What a plan says of one object: plain data, for a person and for programs.

use crate::api::conditions::Reason;
use crate::api::policy::Policies;
use crate::digest;
use crate::topology::Rejection;
use crate::topology::kafka::Step;

use super::candidates::Candidate;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Nothing: the broker is in step.
    None,
    /// Make it.
    Create,
    /// Change it.
    Change,
    /// Nothing, although it differs: it is only observed.
    Observe,
    /// Nothing, because an annotation freezes it or its Broker.
    Paused,
    /// Nothing, because it cannot be planned.
    Error,
}

impl Action {
    /// The word in the table.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "in step",
            Self::Create => "create",
            Self::Change => "change",
            Self::Observe => "differs",
            Self::Paused => "paused",
            Self::Error => "error",
        }
    }

    /// Whether an apply would do something.
    #[must_use]
    pub const fn pending(self) -> bool {
        matches!(self, Self::Create | Self::Change)
    }
}

/// The steps of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What kind of change it is.
    pub action: Action,
    /// The steps, in words.
    pub steps: Vec<String>,
    /// What else to know, in words.
    pub notes: Vec<String>,
    /// Stands for the steps and what they start from.
    pub hash: String,
    /// The steps that Kafka can be asked about beforehand.
    pub rehearsal: Vec<Step>,
}

impl Change {
    /// Refuses steps that are not those that were shown. Nothing left to do is no other plan: another
    /// object, or somebody else, brought it about.
    pub fn still(&self, shown: &str) -> Result<(), Rejection> {
        if self.hash == shown || self.steps.is_empty() {
            return Ok(());
        }
        let message = format!(
            "the broker changed since the plan was shown, so nothing was done: what is left now is {}; plan again",
            self.steps.join("; ")
        );
        Err(Rejection::new(Reason::Differs, message))
    }
}

/// One object in a plan.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The object.
    pub candidate: Candidate,
    /// The choices in force; none where the object was refused.
    pub policies: Option<Policies>,
    /// What is to be done, or why that cannot be told.
    pub outcome: Result<Change, Rejection>,
}

impl Entry {
    /// What is to be done.
    #[must_use]
    pub fn action(&self) -> Action {
        self.outcome.as_ref().map_or(Action::Error, |change| change.action)
    }
}

/// How many objects have which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// To be made.
    pub create: usize,
    /// To be changed.
    pub change: usize,
    /// In step.
    pub in_step: usize,
    /// Different, and only observed.
    pub observed: usize,
    /// Frozen.
    pub paused: usize,
    /// Cannot be planned, wrong documents included.
    pub errors: usize,
}

impl Summary {
    /// Counts.
    #[must_use]
    pub fn of(entries: &[Entry], wrong: usize) -> Self {
        let count = |action| entries.iter().filter(|entry| entry.action() == action).count();
        Self {
            create: count(Action::Create),
            change: count(Action::Change),
            in_step: count(Action::None),
            observed: count(Action::Observe),
            paused: count(Action::Paused),
            errors: count(Action::Error) + wrong,
        }
    }

    /// How many changes an apply would make.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.create + self.change
    }
}

/// Stands for a whole plan: the objects and their hashes.
#[must_use]
pub fn hash(entries: &[Entry]) -> String {
    let parts: Vec<&str> = entries
        .iter()
        .flat_map(|entry| {
            let hash = entry.outcome.as_ref().map_or("", |change| change.hash.as_str());
            let Candidate { kind, broker, name, vhost, .. } = &entry.candidate;
            [*kind, broker.as_str(), vhost.as_deref().unwrap_or_default(), name.as_str(), hash]
        })
        .collect();
    digest::short(parts, 6)
}
