//! The steps that change a topic. Each carries its words, written once: the plan, the event and
//! the log say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One change at the broker, safe to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the topic.
    Create {
        /// How many partitions; none: the broker's default.
        partitions: Option<i32>,
        /// How many replicas; none: the broker's default.
        replication_factor: Option<i16>,
        /// Configs to set from the start.
        config: BTreeMap<String, String>,
    },
    /// Add partitions. Messages with a key may go to another partition from then on.
    Grow {
        /// How many there are.
        from: i32,
        /// How many there shall be.
        to: i32,
    },
    /// Change configs.
    Configure {
        /// Keys to set: from what (none: the default) to what.
        set: BTreeMap<String, (Option<String>, String)>,
        /// Keys to take back to the default, with the value they have.
        unset: BTreeMap<String, String>,
    },
}

impl Step {
    /// A reason for the event: one word, past tense.
    #[must_use]
    pub const fn event(&self) -> &'static str {
        match self {
            Self::Create { .. } => "Created",
            Self::Grow { .. } => "PartitionsAdded",
            Self::Configure { .. } => "Configured",
        }
    }

    /// The configs that the broker shall have after a [`Step::Configure`], and those that it
    /// shall not.
    #[must_use]
    pub fn config_change(&self) -> (BTreeMap<String, String>, BTreeSet<String>) {
        match self {
            Self::Configure { set, unset } => (
                set.iter().map(|(key, (_, to))| (key.clone(), to.clone())).collect(),
                unset.keys().cloned().collect(),
            ),
            _ => (BTreeMap::new(), BTreeSet::new()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { partitions, replication_factor, config } => {
                f.write_str("create the topic with ")?;
                match partitions {
                    Some(1) => f.write_str("1 partition")?,
                    Some(n) => write!(f, "{n} partitions")?,
                    None => f.write_str("the broker's number of partitions")?,
                }
                match replication_factor {
                    Some(1) => f.write_str(", 1 replica each")?,
                    Some(n) => write!(f, ", {n} replicas each")?,
                    None => f.write_str(", the broker's replication factor")?,
                }
                for (key, value) in config {
                    write!(f, ", {key}={value}")?;
                }
                Ok(())
            }
            Self::Grow { from, to } => write!(f, "add partitions: {from} → {to}"),
            Self::Configure { set, unset } => {
                let mut between = "";
                for (key, (from, to)) in set {
                    match from {
                        Some(from) => write!(f, "{between}set {key}: {from} → {to}")?,
                        None => write!(f, "{between}set {key}={to}")?,
                    }
                    between = "; ";
                }
                for (key, value) in unset {
                    write!(f, "{between}unset {key} (was {value})")?;
                    between = "; ";
                }
                Ok(())
            }
        }
    }
}
