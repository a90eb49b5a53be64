//! What a deleted CR asks of the broker: what every kind has in common.
//!
//! No broker has an atomic conditional delete: `DeleteIfEmpty` looks twice and deletes at once
//! after the second look, which is best effort and documented as such.

use crate::api::policy::{DeletionPolicy, ManagementPolicy};

/// How far apart the two looks at a Kafka topic are at least, in seconds.
pub const SECOND_LOOK: f64 = 3.0;

/// How far apart the two looks are at most, in seconds: an earlier one belongs to another attempt,
/// and the broker may have been away since.
pub const LOOKS_WITHIN: f64 = 60.0;

/// The answer to a look that found the object empty. `empty_for`: seconds since it was first seen
/// so; `apart`: how many there are at least between the two looks.
#[must_use]
pub fn second_look(empty_for: Option<f64>, apart: f64) -> Verdict {
    match empty_for {
        Some(seconds) if (apart..=LOOKS_WITHIN).contains(&seconds) => Verdict::Delete,
        _ => Verdict::LookAgain,
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let the CR go and leave the broker alone; the words say why.
    Release(&'static str),
    /// Delete the object, then let the CR go.
    Delete,
    /// Look again after [`SECOND_LOOK`], or what RabbitMQ needs.
    LookAgain,
    /// The object holds something, or may: keep the CR and say so.
    Keep(String),
}

/// What the answer depends on, whatever the kind.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What the CR says.
    pub policy: DeletionPolicy,
    /// Observe never deletes.
    pub management: ManagementPolicy,
    /// Whether this CR owns the object.
    pub owner: bool,
    /// Whether another CR takes over.
    pub heir: bool,
    /// The annotation that lets go.
    pub forced: bool,
    /// Whose the object is.
    pub object: Object,
}

/// Whose the broker's object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The broker does not have it.
    Gone,
    /// It is there, but was never adopted.
    Foreign,
    /// It was adopted or made.
    Ours,
}

impl Object {
    /// From whether it is there and whether it was adopted or made.
    #[must_use]
    pub const fn of(there: bool, known: bool) -> Self {
        match (there, known) {
            (false, _) => Self::Gone,
            (true, false) => Self::Foreign,
            (true, true) => Self::Ours,
        }
    }
}

/// The words of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Released by annotation.
    pub forced: &'static str,
    /// The policy keeps it.
    pub stays: &'static str,
    /// Another CR owns it.
    pub owned: &'static str,
    /// Another CR takes it over.
    pub heir: &'static str,
    /// It is gone.
    pub gone: &'static str,
    /// It was never adopted.
    pub unknown: &'static str,
}

/// The [`Words`] for an object that is called so.
macro_rules! words_of {
    ($object:literal) => {
        $crate::topology::deletion::Words {
            forced: concat!("released by annotation; the ", $object, " stays at the broker"),
            stays: concat!("the ", $object, " stays at the broker"),
            owned: concat!("another object owns the ", $object),
            heir: concat!("another object takes the ", $object, " over"),
            gone: concat!("the ", $object, " is gone already"),
            unknown: concat!("the ", $object, " was never adopted; it stays at the broker"),
        }
    };
}
pub(crate) use words_of;

/// Why the CR goes without a deletion at the broker, where it does.
#[must_use]
pub const fn release(asked: &Asked, words: &Words) -> Option<&'static str> {
    if asked.forced {
        return Some(words.forced);
    }
    if matches!(asked.policy, DeletionPolicy::Retain) || matches!(asked.management, ManagementPolicy::Observe)
    {
        return Some(words.stays);
    }
    if !asked.owner {
        return Some(words.owned);
    }
    if asked.heir {
        return Some(words.heir);
    }
    match asked.object {
        Object::Gone => Some(words.gone),
        Object::Foreign => Some(words.unknown),
        Object::Ours => None,
    }
}
