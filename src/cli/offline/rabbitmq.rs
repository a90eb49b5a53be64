//! Exchanges, queues and bindings: looked at, planned and changed as the operator does, without
//! anything remembered.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::candidates::{Wanted, identity};
use super::entry::{Action, Change};
use super::links::{Link, rabbitmq_said};
use crate::api::broker::DriftPolicy;
use crate::api::conditions::Reason;
use crate::api::policy::{Adoption, ManagementPolicy, Policies};
use crate::api::queue::OnImmutableChange;
use crate::apply::rabbitmq as apply;
use crate::brokers::lane::Lane;
use crate::brokers::rabbitmq::{RabbitHandle, VhostPolicies as Read};
use crate::topology::Rejection;
use crate::topology::rabbitmq::settle::Again;
use crate::topology::rabbitmq::{
    BindingId, BindingInput, BindingMemory, DesiredBinding, DesiredExchange, DesiredQueue, ExchangeInput,
    Gate, Plan, QueueInput, QueueMemory, Step, Target, VhostPolicies, plan_binding, plan_exchange,
    plan_queue,
};

/// How long a change may take to show.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);
/// How often to look for it.
const LOOK: Duration = Duration::from_millis(100);

/// A virtual host, and how to look at it.
pub struct Site<'a> {
    /// The way to the broker.
    pub link: &'a Link,
    /// Its clients.
    pub rabbit: &'a RabbitHandle,
    /// The virtual host.
    pub vhost: &'a str,
    /// The choices in force.
    pub policies: Policies,
    /// What will be there once all is applied, by identity: it may be referred to already.
    pub coming: &'a BTreeSet<(String, String)>,
    /// Policies that were read already.
    pub kept: &'a PolicyCache,
}

/// The policies of each virtual host in the planner's form, made once for all who share a look.
#[derive(Default)]
pub struct PolicyCache(Mutex<HashMap<(String, String), Kept>>);

/// What was read, and what was made of it.
type Kept = (Arc<Read>, Arc<VhostPolicies>);

impl PolicyCache {
    fn of(&self, cluster_id: &str, vhost: &str, read: &Arc<Read>) -> Arc<VhostPolicies> {
        let key = (cluster_id.to_owned(), vhost.to_owned());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get(&key) {
            Some((from, made)) if Arc::ptr_eq(from, read) => Arc::clone(made),
            _ => {
                let made = Arc::new(apply::seen_policies(read));
                kept.insert(key, (Arc::clone(read), Arc::clone(&made)));
                made
            }
        }
    }
}

impl Site<'_> {
    /// What is to be done, as of `since` or later.
    pub async fn plan(&self, wanted: &Wanted, since: Instant) -> Result<(Change, Plan), Rejection> {
        let (plan, exists) = match wanted {
            Wanted::Exchange(desired) => self.exchange(desired, since).await?,
            Wanted::Queue(desired) => self.queue(desired, since).await?,
            Wanted::Binding(desired) => self.binding(desired, since).await?,
            Wanted::Topic(_) => return Err(Rejection::new(Reason::InvalidSpec, "a topic lives at Kafka")),
        };
        let change = self.change(&plan, exists)?;
        Ok((change, plan))
    }

    /// Plans again, and takes the steps if they are still those that were shown.
    pub async fn carry_out(&self, wanted: &Wanted, since: Instant, shown: &str) -> Result<(), Rejection> {
        let (change, mut plan) = self.plan(wanted, since).await?;
        change.still(shown)?;
        self.take(&plan).await?;
        if plan.unclear.take().is_some() {
            // What was shown as to be planned once the object is there.
            plan = self.plan(wanted, Instant::now()).await?.1;
            self.take(&plan).await?;
        }
        if plan.steps.iter().all(shows_at_once) {
            return Ok(());
        }
        // What a policy brings about is not said in the answer to it.
        let until = Instant::now() + SHOWS_WITHIN;
        loop {
            let left = match self.plan(wanted, Instant::now()).await {
                Ok((change, _)) if change.steps.is_empty() => return Ok(()),
                Ok((change, _)) => Rejection::new(
                    Reason::Progressing,
                    format!("it was changed; the broker does not show it yet: {}", change.steps.join("; ")),
                ),
                Err(rejection) => rejection,
            };
            if Instant::now() > until {
                return Err(left);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn take(&self, plan: &Plan) -> Result<(), Rejection> {
        let client = self.rabbit.client.on(Lane::User);
        for step in &plan.steps {
            let _turn = self.link.turn().await?;
            apply::take(&client, self.vhost, step).await.map_err(rabbitmq_said)?;
        }
        Ok(())
    }

    async fn exchange(&self, desired: &DesiredExchange, since: Instant) -> Result<(Plan, bool), Rejection> {
        let seen = self.rabbit.observer.exchange(self.vhost, &desired.name, since, Lane::User).await;
        let observed = seen.map_err(rabbitmq_said)?.as_ref().map(apply::seen_exchange);
        let policies = self.vhost_policies(since).await?;
        let plan = plan_exchange(&ExchangeInput {
            desired,
            observed: observed.as_ref(),
            policies: &policies,
            owned: false,
            management: self.policies.management,
            adoption: self.adoption(),
            drift: DriftPolicy::Correct,
            edited: true,
            approved: None,
            again: Again::NotYet,
        })?;
        Ok((plan, observed.is_some()))
    }

    async fn queue(&self, desired: &DesiredQueue, since: Instant) -> Result<(Plan, bool), Rejection> {
        let seen = self.rabbit.observer.queue(self.vhost, &desired.name, since, Lane::User).await;
        let seen = seen.map_err(rabbitmq_said)?;
        let observed = seen.queue.as_ref().map(apply::seen_queue).transpose().map_err(rabbitmq_said)?;
        let bindings: Vec<BindingId> = seen.bindings.iter().map(apply::seen_binding).collect();
        // Nothing is deleted from here, so nothing is made anew.
        let recreates = desired.on_immutable_change == OnImmutableChange::RecreateIfEmpty;
        let refusing = DesiredQueue { on_immutable_change: OnImmutableChange::Refuse, ..desired.clone() };
        let policies = self.vhost_policies(since).await?;
        let plan = plan_queue(&QueueInput {
            desired: &refusing,
            observed: observed.as_ref(),
            bindings: &bindings,
            policies: &policies,
            memory: &QueueMemory::default(),
            claimed: &BTreeSet::new(),
            management: self.policies.management,
            adoption: self.adoption(),
            drift: DriftPolicy::Correct,
            edited: true,
            approved: None,
            again: Again::NotYet,
        });
        let plan = plan.map_err(|mut rejection| {
            if recreates && rejection.reason == Reason::Immutable {
                rejection.message +=
                    " (onImmutableChange: RecreateIfEmpty is the operator's to do: the command line never deletes)";
            }
            rejection
        })?;
        for step in &plan.steps {
            if let Step::Bind(binding) = step {
                self.source(binding, since).await?;
            }
        }
        Ok((plan, observed.is_some()))
    }

    async fn binding(&self, desired: &DesiredBinding, since: Instant) -> Result<(Plan, bool), Rejection> {
        let id = &desired.id;
        let target = apply::at(&id.target);
        let seen = self.rabbit.observer.route(self.vhost, &id.source, &target, since, Lane::User).await;
        let seen = seen.map_err(rabbitmq_said)?;
        if seen.source.is_none() {
            self.comes(&Target::Exchange(id.source.clone()))?;
        }
        if !seen.target_exists {
            self.comes(&id.target)?;
        }
        let present: Vec<_> = seen.bindings.iter().map(apply::seen_binding).collect();
        let plan = plan_binding(&BindingInput {
            desired,
            present: &present,
            memory: &BindingMemory::default(),
            claimed: &BTreeSet::new(),
            passing: false,
            management: self.policies.management,
            adoption: self.adoption(),
            drift: DriftPolicy::Correct,
            edited: true,
            approved: None,
        })?;
        Ok((plan, present.contains(id)))
    }

    /// Refuses an inline binding whose exchange neither is there nor comes.
    async fn source(&self, binding: &BindingId, since: Instant) -> Result<(), Rejection> {
        let seen = self.rabbit.observer.exchange(self.vhost, &binding.source, since, Lane::User).await;
        match seen.map_err(rabbitmq_said)? {
            Some(_) => Ok(()),
            None => self.comes(&Target::Exchange(binding.source.clone())),
        }
    }

    fn comes(&self, target: &Target) -> Result<(), Rejection> {
        let kind = match target {
            Target::Queue(_) => "Queue",
            Target::Exchange(_) => "Exchange",
        };
        let identity = identity(kind, self.vhost, target.name());
        if self.coming.contains(&(self.link.cluster_id.clone(), identity)) {
            return Ok(());
        }
        let message =
            format!("{target} does not exist in virtual host {:?}, and nothing here makes it", self.vhost);
        Err(Rejection::new(Reason::DependencyNotReady, message))
    }

    async fn vhost_policies(&self, since: Instant) -> Result<Arc<VhostPolicies>, Rejection> {
        let read = self.rabbit.observer.policies(self.vhost, since, Lane::User).await;
        Ok(self.kept.of(&self.link.cluster_id, self.vhost, &read.map_err(rabbitmq_said)?))
    }

    /// The person who reads the plan and says yes approves it.
    const fn adoption(&self) -> Adoption {
        match self.policies.adoption {
            Adoption::Never => Adoption::Never,
            Adoption::IfIdentical | Adoption::Adopt => Adoption::Adopt,
        }
    }

    fn change(&self, plan: &Plan, exists: bool) -> Result<Change, Rejection> {
        let steps: Vec<String> = plan.steps.iter().map(ToString::to_string).collect();
        if plan.gate == Gate::Foreign && !steps.is_empty() {
            let message = format!(
                "it was there before and differs ({}), and adoption: Never leaves it alone",
                steps.join("; ")
            );
            return Err(Rejection::new(Reason::Conflict, message));
        }
        let unclear = plan.unclear.as_ref().map(|policy| {
            format!(
                "then its policy, in the same apply, as it is planned once the object is there: only RabbitMQ can tell whether policy {policy:?} applies to it, whose settings are to be kept"
            )
        });
        let notes: Vec<String> = plan.obstacles.iter().map(ToString::to_string).chain(unclear).collect();
        let observes = self.policies.management == ManagementPolicy::Observe;
        let action = match (steps.is_empty(), plan.obstacles.first()) {
            // All is done that can be done, and yet it is not in force.
            (true, Some(obstacle)) if !observes => {
                return Err(Rejection::new(obstacle.reason, notes.join("; ")));
            }
            (true, None) => Action::None,
            _ if observes => Action::Observe,
            _ if exists => Action::Change,
            _ => Action::Create,
        };
        Ok(Change { action, steps, notes, hash: plan.hash.clone(), rehearsal: Vec::new() })
    }
}

/// Whether the broker's answer to a step is proof enough.
const fn shows_at_once(step: &Step) -> bool {
    matches!(step, Step::DeclareExchange { .. } | Step::DeclareQueue { .. } | Step::Bind(_))
}
