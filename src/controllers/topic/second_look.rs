//! A topic that a broker does not know may only be new to that broker: it lags behind the controller. Before it is said for
//! the first time that one vanished, somebody else confirms it: the controller, asked to make it again, or another look.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::loss::Lost;
use crate::api::conditions::Reason;
use crate::api::{Topic, TopicStatus};
use crate::apply::kafka as apply;
use crate::brokers::kafka::ErrorCode;
use crate::controllers::failure::Failure;
use crate::controllers::reconciler::Pass;
use crate::topology::kafka::{Gate, Plan};

/// How long after the first look the second one is.
pub const AFTER: Duration = Duration::from_secs(1);

/// Whether a loss would be said for the first time, and nothing is going to be asked of the controller.
pub fn is_due(lost: Option<&Lost>, plan: Option<&Plan>, status: &TopicStatus) -> bool {
    let asks = plan.is_some_and(|plan| plan.gate == Gate::Go);
    !asks && lost.is_some_and(|lost| lost.vanished() && !lost.is_said(&status.conditions))
}

/// What becomes of a pass that said for the first time that the topic vanished, and failed: unless another look confirms
/// it, that is taken back. `said`: the conditions before.
pub async fn unless_there(
    pass: &Pass<'_, Topic>,
    failure: Failure,
    said: Vec<Condition>,
    status: &mut TopicStatus,
) -> Failure {
    let exists = matches!(&failure, Failure::Kafka(error) if error.code == ErrorCode::TopicAlreadyExists);
    let gone = !exists && {
        tokio::time::sleep(AFTER).await;
        match pass.link.kafka() {
            Ok(kafka) => {
                matches!(apply::observe(kafka, pass.object.topic_name(), pass.lane).await, Ok(None))
            }
            Err(_) => false,
        }
    };
    judge(failure, gone, said, status)
}

fn judge(failure: Failure, gone: bool, said: Vec<Condition>, status: &mut TopicStatus) -> Failure {
    if gone {
        return failure;
    }
    // Whatever is there now, the next pass says it.
    status.conditions = said;
    match failure {
        Failure::Kafka(error) if error.code == ErrorCode::TopicAlreadyExists => {
            let message =
                format!("a broker that lags behind was asked for the topic; looking again: {error}");
            Failure::Soon { reason: Reason::Progressing, message, after: AFTER }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::loss::vanished_since;
    use super::super::remembered;
    use super::*;
    use crate::api::broker::DriftPolicy;
    use crate::api::policy::{Adoption, ManagementPolicy};
    use crate::brokers::kafka::KafkaError;
    use crate::topology::kafka::{self, DesiredTopic, Memory, ObservedTopic};

    fn want() -> DesiredTopic {
        DesiredTopic { name: "orders".into(), ..DesiredTopic::default() }
    }

    fn known() -> TopicStatus {
        TopicStatus { topic_id: Some("id-1".into()), ..TopicStatus::default() }
    }

    fn memory() -> Memory {
        remembered(&known(), "the cluster")
    }

    fn lost(observed: Option<&ObservedTopic>) -> Option<Lost> {
        Lost::of(&want(), &memory(), observed)
    }

    fn saying_so() -> TopicStatus {
        let mut status = known();
        lost(None).expect("a loss").note(Some(1), &mut status);
        status
    }

    #[test]
    fn a_topic_that_only_a_broker_that_lags_behind_does_not_know_is_not_lost() {
        let (known, said) = (known(), saying_so());
        assert!(vanished_since(&known.conditions, &said.conditions));
        assert!(!vanished_since(&said.conditions, &said.conditions), "it was said before");
        let after = |code, gone| {
            let mut status = said.clone();
            let error = KafkaError { operation: "change".into(), code, message: "no".into() };
            (judge(error.into(), gone, known.conditions.clone(), &mut status), status)
        };
        let (there, status) = after(ErrorCode::TopicAlreadyExists, false);
        assert!(matches!(there, Failure::Soon { .. }) && status == known, "{there}");
        // The controller was away, and a second look found the topic, or nothing.
        let (failure, status) = after(ErrorCode::NotController, false);
        assert!(matches!(failure, Failure::Kafka(_)) && status == known, "{failure}");
        let (failure, status) = after(ErrorCode::Timeout, true);
        assert!(matches!(failure, Failure::Kafka(_)) && status == said, "{failure}");
    }

    #[test]
    fn a_topic_is_looked_for_again_before_a_loss_is_said_where_nothing_will_make_it() {
        let (want, memory) = (want(), memory());
        let plan = |management| {
            let input = kafka::Input {
                desired: &want,
                observed: None,
                memory: &memory,
                management,
                adoption: Adoption::IfIdentical,
                drift: DriftPolicy::Correct,
                edited: true,
                approved: None,
            };
            kafka::plan(&input).expect("a plan")
        };
        let (observe, make) = (plan(ManagementPolicy::Observe), plan(ManagementPolicy::Manage));
        assert!(is_due(lost(None).as_ref(), Some(&observe), &known()));
        assert!(!is_due(lost(None).as_ref(), Some(&make), &known()), "the controller will be asked");
        assert!(!is_due(lost(None).as_ref(), Some(&observe), &saying_so()));
        let there = |id: &str| ObservedTopic { id: id.into(), ..ObservedTopic::default() };
        assert!(!is_due(lost(Some(&there("id-1"))).as_ref(), Some(&observe), &known()));
        assert!(!is_due(lost(Some(&there("id-2"))).as_ref(), Some(&observe), &known()), "it was seen");
    }
}
