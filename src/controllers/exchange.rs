//! Exchanges: what the generic pass needs to know of them.

use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::cache::Cache;
use super::context::Context;
use super::failure::Failure;
use super::guard;
use super::rabbitmq::{self, Look, Ours, Rabbit};
use super::reconciler::{Outcome, Pass, TopologyKind, last_written};
use super::status;
use super::wake::Wake;
use crate::api::policy::{DeletionPolicy, PolicyDefaults};
use crate::api::{BrokerRef, Exchange, ExchangeStatus, annotation};
use crate::apply::rabbitmq as apply;
use crate::brokers::rabbitmq::{ErrorKind, RabbitHandle, Target as At};
use crate::topology::access::Deletes;
use crate::topology::deletion;
use crate::topology::rabbitmq::{self as planner, DesiredExchange, ExchangeInput, Plan, Step};

impl TopologyKind for Exchange {
    const KIND: &'static str = "Exchange";
    const SECOND_LOOK: f64 = planner::deletion::SECOND_LOOK_RABBIT;
    type Status = ExchangeStatus;

    fn broker_ref(&self) -> &BrokerRef {
        &self.spec.broker_ref
    }

    fn broker_name(&self) -> String {
        self.exchange_name().to_owned()
    }

    fn vhost(&self) -> Option<&str> {
        Some(&self.spec.vhost)
    }

    fn refers_to(&self, _ctx: &Context) -> Vec<String> {
        self.spec.alternate_exchange.iter().cloned().collect()
    }

    fn deletes(&self) -> Vec<Deletes> {
        planner::deletes::of_exchange(self)
    }

    fn identity(&self) -> String {
        rabbitmq::end_key(&self.spec.vhost, 'x', self.exchange_name())
    }

    fn policies(&self) -> PolicyDefaults {
        self.spec.policies()
    }

    fn status(&self) -> Option<&ExchangeStatus> {
        self.status.as_ref()
    }

    fn conditions(status: &ExchangeStatus) -> (&[Condition], Option<i64>) {
        (&status.conditions, status.observed_generation)
    }

    fn set_conditions(status: &mut ExchangeStatus, conditions: Vec<Condition>, generation: Option<i64>) {
        status.conditions = conditions;
        status.observed_generation = generation;
    }

    fn plan_mut(status: &mut ExchangeStatus) -> (&mut Vec<String>, &mut Option<String>) {
        (&mut status.plan, &mut status.plan_hash)
    }

    fn owned_since(status: &mut ExchangeStatus) -> &mut Option<String> {
        &mut status.owned_since
    }

    fn cache(ctx: &Context) -> &Cache<Self> {
        &ctx.exchanges
    }

    fn wake(ctx: &Context) -> &Wake<Self> {
        &ctx.wake_exchanges
    }

    fn turned(ctx: &Context, object: &Self) {
        rabbitmq::wake_bindings(ctx, object, 'x');
    }

    async fn work(pass: &Pass<'_, Self>, status: &mut ExchangeStatus) -> Result<Outcome, Failure> {
        rabbitmq::converge(pass, status).await
    }

    async fn remove(pass: &Pass<'_, Self>) -> Result<deletion::Verdict, Failure> {
        let name = pass.object.exchange_name();
        let vhost = pass.object.spec.vhost.as_str();
        if !planner::value::is_addressable(name) {
            return Ok(deletion::Verdict::Release("it can never have been made: no address can name it"));
        }
        let rabbit = pass.link.rabbitmq()?;
        let client = rabbit.client.on(pass.lane);
        let observed = client.exchange(vhost, name).await?.as_ref().map(apply::seen_exchange);
        let policies = rabbitmq::policies(pass, rabbit, vhost, Instant::now()).await?;
        let (from, to) = if observed.is_some() {
            let target = At::Exchange(name.to_owned());
            let (from, to) =
                tokio::try_join!(client.bindings_from(vhost, name), client.bindings_to(vhost, &target))?;
            (Some(from.len()), Some(to.len()))
        } else {
            (None, None)
        };
        let input = rabbitmq::removal(pass);
        let uses = planner::deletion::Uses { from, to, policies: Some(&policies) };
        let verdict = planner::deletion::decide_exchange(
            &input,
            &DesiredExchange::unchecked(pass.object),
            pass.edited,
            observed.as_ref(),
            &uses,
        );
        if verdict == deletion::Verdict::Delete {
            rabbitmq::may_write(pass).await?;
            let only_unused = pass.policies.deletion == DeletionPolicy::DeleteIfEmpty;
            match client.delete_exchange(vhost, name, only_unused).await {
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::Refused && only_unused => {
                    return Ok(deletion::Verdict::Keep(pass.said(error)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // After the exchange, and also where a crash came between the two.
        if (verdict == deletion::Verdict::Delete || observed.is_none())
            && let Some(policy) = planner::deletion::exchange_policy_goes(
                &rabbitmq::removal_of_policy(pass, input),
                name,
                &policies,
            )
        {
            rabbitmq::may_write(pass).await?;
            client.delete_policy(vhost, &policy).await?;
        }
        Ok(verdict)
    }
}

impl Rabbit for Exchange {
    // What was routed through it is lost to publishers, and no message was in it.
    const HOLDS_MESSAGES: bool = false;

    fn cluster_id(status: &mut ExchangeStatus) -> &mut Option<String> {
        &mut status.cluster_id
    }

    fn makes(step: &Step) -> bool {
        matches!(step, Step::DeclareExchange { .. })
    }

    async fn look(
        pass: &Pass<'_, Self>,
        rabbit: &RabbitHandle,
        since: Instant,
        ours: Ours,
        _status: &ExchangeStatus,
    ) -> Result<Look, Failure> {
        let desired = DesiredExchange::of(pass.object)?;
        let vhost = &pass.object.spec.vhost;
        let seen = rabbit.observer.exchange(vhost, &desired.name, since, pass.lane).await?;
        let observed = seen.as_ref().map(apply::seen_exchange);
        let policies = rabbitmq::policies(pass, rabbit, vhost, since).await?;
        let owned = ours.holds(observed.is_some());
        let another =
            observed.as_ref().is_some_and(|seen| planner::exchange::is_another(&desired, seen, false));
        let plan = planner::plan_exchange(&ExchangeInput {
            desired: &desired,
            observed: observed.as_ref(),
            policies: &policies,
            owned,
            management: pass.policies.management,
            adoption: pass.policies.adoption,
            drift: guard::drift(pass.ctx, &pass.link),
            edited: pass.edited,
            approved: pass.object.annotations().get(annotation::APPROVE_PLAN).map(String::as_str),
            again: rabbitmq::again(pass),
        });
        Ok(Look { plan, exists: observed.is_some(), replaced: owned && another && !pass.edited })
    }

    async fn prepare(pass: &Pass<'_, Self>, plan: &Plan, status: &mut ExchangeStatus) -> Result<(), Failure> {
        if rabbitmq::claim_first(pass, plan, status) {
            let before = last_written(pass.ctx, pass.object);
            let after = ExchangeStatus {
                owned_since: status.owned_since.clone(),
                cluster_id: status.cluster_id.clone(),
                ..before.clone()
            };
            status::write(pass.ctx, pass.object, &before, &after).await?;
        }
        Ok(())
    }

    fn is_back(pass: &Pass<'_, Self>) {
        rabbitmq::wake_bindings(pass.ctx, pass.object, 'x');
    }

    fn take_back(before: &ExchangeStatus, status: &mut ExchangeStatus, refused: bool) {
        status.owned_since = before.owned_since.clone().filter(|_| !refused);
    }

    async fn still_may(_: &Pass<'_, Self>, _: &Step) -> Result<(), Failure> {
        Ok(())
    }

    async fn finish(_: &Pass<'_, Self>, _: &mut Outcome, _: &mut ExchangeStatus) -> Result<(), Failure> {
        Ok(())
    }
}
