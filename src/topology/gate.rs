//! Whether the steps of a plan are taken: the same answer for every kind.

use crate::api::broker::DriftPolicy;
use crate::api::policy::{Adoption, ManagementPolicy};

/// Whether steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Take them.
    Go,
    /// Only look: the management policy is Observe.
    Observe,
    /// Only report: the difference is drift and the Broker's drift policy is Report.
    Report,
    /// Wait for a person to approve the hash.
    Approval,
    /// The object was there before and may not be adopted.
    Foreign,
}

/// How the object of the memory went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is gone, with its messages.
    Vanished,
    /// Another one of the same name is in its place.
    Replaced,
}

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody's yet: it was never made.
    New,
    /// Ours, or it was before it vanished.
    Ours,
    /// It is there, and somebody else made it.
    Foreign,
}

/// All that the gate depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who writes.
    pub management: ManagementPolicy,
    /// What to do with an object that was there before.
    pub adoption: Adoption,
    /// What to do about drift.
    pub drift: DriftPolicy,
    /// Whether the difference is the author's will and no drift.
    pub edited: bool,
    /// The hash that a person approved.
    pub approved: Option<&'a str>,
    /// Whose the object is.
    pub standing: Standing,
    /// Whether there is anything to do.
    pub differs: bool,
    /// Whether a step destroys something: then `Adopt` alone is no leave to take it.
    pub destructive: bool,
    /// The plan's hash.
    pub hash: &'a str,
}

/// Whether the steps may be taken now.
#[must_use]
pub fn gate(question: &Question<'_>) -> Gate {
    let q = question;
    if q.management == ManagementPolicy::Observe {
        return Gate::Observe;
    }
    if q.standing == Standing::Foreign {
        let approved = !q.differs || q.approved == Some(q.hash);
        return match q.adoption {
            Adoption::Never => Gate::Foreign,
            Adoption::IfIdentical if !approved => Gate::Approval,
            Adoption::Adopt if q.destructive && !approved => Gate::Approval,
            _ => Gate::Go,
        };
    }
    let drift = q.standing == Standing::Ours && !q.edited && q.differs;
    if drift && q.drift == DriftPolicy::Report { Gate::Report } else { Gate::Go }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Question<'_> = Question {
        management: ManagementPolicy::Manage,
        adoption: Adoption::Adopt,
        drift: DriftPolicy::Correct,
        edited: false,
        approved: None,
        standing: Standing::Foreign,
        differs: true,
        destructive: false,
        hash: "abc",
    };

    #[test]
    fn adopt_is_no_leave_to_destroy() {
        assert_eq!(gate(&ASKED), Gate::Go);
        let destructive = Question { destructive: true, ..ASKED };
        assert_eq!(gate(&destructive), Gate::Approval);
        assert_eq!(gate(&Question { approved: Some("abc"), ..destructive }), Gate::Go);
        assert_eq!(gate(&Question { approved: Some("abd"), ..destructive }), Gate::Approval);
    }

    #[test]
    fn observe_comes_before_everything() {
        for standing in [Standing::New, Standing::Ours, Standing::Foreign] {
            let asked = Question { management: ManagementPolicy::Observe, standing, ..ASKED };
            assert_eq!(gate(&asked), Gate::Observe);
        }
    }
}
