//! The three choices that every topology kind has.
//!
//! None has a schema default: a default there would make the Broker's own `defaults` dead. The
//! order is the object's field, the Broker's `defaults`, then what [`Policies::resolve`] says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who writes to the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManagementPolicy {
    /// Spillway keeps the broker's object as declared.
    #[default]
    Manage,
    /// Spillway only looks: it never writes to the broker and never claims the object.
    Observe,
}

/// What to do with an object that was at the broker before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adoption {
    /// Take it over if nothing has to change; else show the plan and wait for the annotation
    /// `spillway.dev/approve-plan` with the plan's hash.
    #[default]
    IfIdentical,
    /// Take it over and change what differs, without a destructive step.
    Adopt,
    /// Leave it alone: `Ready` is False with reason `Conflict`.
    Never,
}

/// What happens at the broker when the CR is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The broker keeps the object and its messages.
    #[default]
    Retain,
    /// The object is deleted, with its messages.
    Delete,
    /// The object is deleted only when it was seen to be empty twice; else the CR stays and says so.
    DeleteIfEmpty,
}

impl DeletionPolicy {
    /// Whether something has to be done at the broker before the CR may go.
    #[must_use]
    pub const fn needs_finalizer(self) -> bool {
        !matches!(self, Self::Retain)
    }
}

/// The choices as an object or a Broker's `defaults` gives them: each may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDefaults {
    /// Who writes to the broker: Manage or Observe. Default Manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ManagementPolicy", extend("nullable" = true))]
    pub management_policy: Option<ManagementPolicy>,
    /// What to do with an object that was at the broker before: IfIdentical, Adopt or Never.
    /// Default IfIdentical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Adoption", extend("nullable" = true))]
    pub adoption: Option<Adoption>,
    /// What happens at the broker when the CR is deleted: Retain, Delete or DeleteIfEmpty.
    /// Default Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy", extend("nullable" = true))]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// The choices in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    /// Who writes to the broker.
    pub management: ManagementPolicy,
    /// What to do with an object that was there before.
    pub adoption: Adoption,
    /// What happens at the broker when the CR is deleted.
    pub deletion: DeletionPolicy,
}

impl Policies {
    /// The object's own word first, then the Broker's, then Manage, IfIdentical, Retain.
    #[must_use]
    pub fn resolve(own: PolicyDefaults, broker: PolicyDefaults) -> Self {
        Self {
            management: own.management_policy.or(broker.management_policy).unwrap_or_default(),
            adoption: own.adoption.or(broker.adoption).unwrap_or_default(),
            deletion: own.deletion_policy.or(broker.deletion_policy).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_objects_own_word_comes_before_the_brokers() {
        let own = PolicyDefaults { deletion_policy: Some(DeletionPolicy::Retain), ..Default::default() };
        let broker = PolicyDefaults {
            deletion_policy: Some(DeletionPolicy::Delete),
            adoption: Some(Adoption::Never),
            ..Default::default()
        };
        let policies = Policies::resolve(own, broker);
        assert_eq!(policies.deletion, DeletionPolicy::Retain);
        assert_eq!(policies.adoption, Adoption::Never);
        assert_eq!(policies.management, ManagementPolicy::Manage);
    }
}
