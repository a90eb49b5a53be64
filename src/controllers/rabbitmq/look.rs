//! How fresh a look at the broker has to be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt as _;

use super::super::guard;
use super::super::reconciler::{Pass, TopologyKind};
use super::Ours;
use crate::api::broker::DriftPolicy;
use crate::api::policy::Adoption;
use crate::apply::rabbitmq as apply;
use crate::brokers::rabbitmq::{RabbitError, RabbitHandle, VhostPolicies as Policies};
use crate::topology::gate::Gate;
use crate::topology::rabbitmq::settle::Again;
use crate::topology::rabbitmq::{Plan, Step, VhostPolicies};

/// How old a look may be at the beginning of a pass. Many passes share one listing; a declaration
/// that finds what the listing did not show yet is refused or changes nothing.
const AGE: Duration = Duration::from_secs(1);
/// The same in a crowd, where a listing of thousands would follow the other: for what is missing, whose declaration proves
/// it, and for what is the object's own.
pub const AGE_IN_A_CROWD: Duration = Duration::from_secs(3);

/// From when on a look is good enough for this object: what this process wrote for it must show.
pub fn fresh<K: TopologyKind>(pass: &Pass<'_, K>) -> Instant {
    let age = if pass.ctx.is_crowded() { AGE_IN_A_CROWD } else { AGE };
    let recent = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
    let wrote = pass.ctx.note(&pass.object.uid().unwrap_or_default(), |notes| notes.wrote);
    wrote.map_or(recent, |wrote| wrote.max(recent))
}

/// Whether a policy that RabbitMQ does not apply may be put once more: nothing is mended where drift is only reported.
#[must_use]
pub fn again<K: TopologyKind>(pass: &Pass<'_, K>) -> Again {
    if guard::drift(pass.ctx, &pass.link) == DriftPolicy::Report {
        return Again::NotYet;
    }
    pass.ctx.note(&pass.object.uid().unwrap_or_default(), |notes| notes.again())
}

/// The policies of a virtual host, as of `since` or later.
pub async fn policies<K: TopologyKind>(
    pass: &Pass<'_, K>,
    rabbit: &RabbitHandle,
    vhost: &str,
    since: Instant,
) -> Result<Arc<VhostPolicies>, RabbitError> {
    let read = rabbit.observer.policies(vhost, since, pass.lane).await?;
    Ok(pass.link.policies.of(vhost, &read))
}

/// The policies of each virtual host in the planner's form, made once for all who share a look.
#[derive(Default)]
pub struct PolicyCache(Mutex<HashMap<String, Kept>>);

struct Kept {
    read: Arc<Policies>,
    made: Arc<VhostPolicies>,
}

impl PolicyCache {
    fn of(&self, vhost: &str, read: &Arc<Policies>) -> Arc<VhostPolicies> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.get(vhost).filter(|kept| Arc::ptr_eq(&kept.read, read)) {
            return kept.made.clone();
        }
        let made = Arc::new(apply::seen_policies(read));
        kept.insert(vhost.to_owned(), Kept { read: read.clone(), made: made.clone() });
        made
    }
}

/// As of when to look again, where a look as of `since` is too old for a pass that began at `begun`.
pub(super) fn fresher<K: TopologyKind>(
    pass: &Pass<'_, K>,
    plan: &Plan,
    exists: bool,
    ours: Ours,
    (since, begun): (Instant, Instant),
) -> Option<Instant> {
    if since < begun && wants_a_fresh_look(pass, plan, exists) {
        return Some(begun);
    }
    // It may have been deleted with another CR a moment ago.
    let young = begun.checked_sub(AGE)?;
    (exists && ours == Ours::No && since < young).then_some(young)
}

/// Whether a look from before the pass is too old for this plan. That an object is not there is
/// believed only where its declaration, the one and only step, tells whether it was.
fn wants_a_fresh_look<K: TopologyKind>(pass: &Pass<'_, K>, plan: &Plan, exists: bool) -> bool {
    if pass.sweeping || exists {
        return false;
    }
    // What is there already and equal is taken over without a word, unless nothing may be.
    let alone = matches!(
        plan.steps.as_slice(),
        [Step::DeclareExchange { .. } | Step::DeclareQueue { .. } | Step::Bind(_)]
    );
    !(alone && plan.gate == Gate::Go && pass.policies.adoption != Adoption::Never)
}
