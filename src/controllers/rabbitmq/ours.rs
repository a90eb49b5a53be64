//! Whose an object at the broker is, as its CR remembers, and what is noted of that before it is made.

use super::super::failure::Failure;
use super::super::reconciler::{Pass, last_written};
use super::super::status;
use super::Rabbit;
use crate::api::policy::{Adoption, DeletionPolicy};
use crate::topology::rabbitmq::Plan;
use crate::topology::rabbitmq::deletion::{self, Owned};
use jiff::Timestamp;
use kube::ResourceExt as _;

/// Whose an object is, as its CR remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours {
    /// It was never adopted or made.
    No,
    /// It is the CR's.
    Here,
    /// It was the CR's on a cluster that another one has taken the place of.
    Elsewhere,
}

impl Ours {
    /// Whether it is the CR's on this cluster. What was owned elsewhere and is not here is missed,
    /// and made again; what is here of it is somebody else's.
    #[must_use]
    pub const fn holds(self, exists: bool) -> bool {
        match self {
            Self::No => false,
            Self::Here => true,
            Self::Elsewhere => !exists,
        }
    }
}

/// Reads whose the object is from a status, and takes out of it what is about another cluster.
pub fn remembered<K: Rabbit>(pass: &Pass<'_, K>, status: &mut K::Status) -> Ours {
    let owned = K::owned_since(status).is_some();
    if is_elsewhere(pass, status) {
        K::forget(status);
        return if owned { Ours::Elsewhere } else { Ours::No };
    }
    if owned { Ours::Here } else { Ours::No }
}

fn is_elsewhere<K: Rabbit>(pass: &Pass<'_, K>, status: &mut K::Status) -> bool {
    K::cluster_id(status).as_ref().is_some_and(|id| *id != pass.link.cluster_id)
}

/// Begins anew on this cluster, before its first step here: what is not here is still missed.
pub(super) async fn move_here<K: Rabbit>(
    pass: &Pass<'_, K>,
    exists: bool,
    status: &mut K::Status,
) -> Result<(), Failure> {
    let before = last_written(pass.ctx, pass.object);
    let mut after = before.clone();
    for status in [&mut after, status] {
        K::forget(status);
        *K::cluster_id(status) = Some(pass.link.cluster_id.clone());
        if exists {
            *K::owned_since(status) = None;
        }
    }
    status::write(pass.ctx, pass.object, &before, &after).await
}

/// Notes in a status whose the object will be before it is made, where an answer that never comes
/// would leave it to nobody: its deletion has something to do, or `adoption: Never` takes nothing
/// over that was there before. True: the note has to be written.
pub fn claim_first<K: Rabbit>(pass: &Pass<'_, K>, plan: &Plan, status: &mut K::Status) -> bool {
    let matters =
        pass.policies.adoption == Adoption::Never || pass.policies.deletion != DeletionPolicy::Retain;
    let claims = matters && plan.steps.iter().any(K::makes) && K::owned_since(status).is_none();
    if claims {
        *K::owned_since(status) = Some(Timestamp::now().to_string());
        *K::cluster_id(status) = Some(pass.link.cluster_id.clone());
    }
    claims
}

/// What the answer to a deletion depends on.
#[must_use]
pub fn removal<K: Rabbit>(pass: &Pass<'_, K>) -> deletion::Input {
    let mut status = pass.object.status().cloned().unwrap_or_default();
    pass.object.recall(&mut status);
    // What is there under the name of what was owned on another cluster is somebody else's.
    let owned =
        (K::owned_since(&mut status).is_some() || K::was_begun(&status)) && !is_elsewhere(pass, &mut status);
    deletion::Input {
        policy: pass.policies.deletion,
        management: pass.policies.management,
        owner: pass.is_owner(),
        heir: pass.has_heir(),
        forced: false,
        owned: if owned { Owned::Yes } else { Owned::Never },
    }
}

/// What the answer depends on for the policy of an object that is not at the broker: where this process wrote for it, a
/// policy of its name is what is left, although the object itself was never known to be made.
#[must_use]
pub fn removal_of_policy<K: Rabbit>(pass: &Pass<'_, K>, of_object: deletion::Input) -> deletion::Input {
    let wrote = pass.ctx.note(&pass.object.uid().unwrap_or_default(), |notes| notes.wrote.is_some());
    deletion::Input { owned: if wrote { Owned::Yes } else { of_object.owned }, ..of_object }
}
