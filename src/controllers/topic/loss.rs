//! A topic that is not the one that is remembered, with its messages.
//!
//! A status remembers the lost topic's id until another one is made or taken over in its place. So a
//! loss is found again by every pass before that, whatever becomes of the pass, and told once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource as _;

use jiff::Timestamp;

use crate::api::conditions::{self, DATA_LOST, Reason, Verdict};
use crate::api::{Topic, TopicStatus, annotation};
use crate::controllers::context::Context;
use crate::controllers::reconciler::TopologyKind as _;
use crate::topology::kafka::{self, DesiredTopic, Loss, Memory, ObservedTopic};

/// What was lost.
pub struct Lost {
    loss: Loss,
    name: String,
    id: String,
}

impl Lost {
    /// What was lost of a topic, if anything.
    #[must_use]
    pub fn of(desired: &DesiredTopic, memory: &Memory, observed: Option<&ObservedTopic>) -> Option<Self> {
        let loss = kafka::loss(desired, memory, observed)?;
        Some(Self { loss, name: desired.name.clone(), id: memory.topic_id.clone().unwrap_or_default() })
    }

    /// Nothing was seen in its place.
    #[must_use]
    pub fn vanished(&self) -> bool {
        self.loss == Loss::Vanished
    }

    /// What to say of it. `made`: the topic is there again.
    #[must_use]
    pub fn verdict(&self, made: bool) -> Verdict {
        let (reason, what) = match (self.loss, made) {
            (Loss::Vanished, true) => {
                (Reason::Vanished, "vanished from the broker and was made again, empty")
            }
            (Loss::Vanished, false) => (Reason::Vanished, "vanished from the broker"),
            (Loss::Replaced, _) => (Reason::Replaced, "was deleted at the broker, and another one was made"),
        };
        let message = format!(
            "topic {:?} with the id {} {what}; its messages are gone. Acknowledge with the annotation {}=true",
            self.name,
            self.id,
            annotation::ACKNOWLEDGE_DATA_LOSS
        );
        Verdict::new(DATA_LOST, true, reason, message)
    }

    /// Puts it into the status before anything is done about it, so that it is said also where that fails.
    pub fn note(&self, generation: Option<i64>, status: &mut TopicStatus) {
        let lost =
            conditions::merge(&status.conditions, &[self.verdict(false)], generation, Timestamp::now());
        status.conditions.retain(|condition| condition.type_ != DATA_LOST);
        status.conditions.extend(lost);
    }

    /// Whether conditions say so already.
    #[must_use]
    pub fn is_said(&self, conditions: &[Condition]) -> bool {
        says(conditions, &self.id)
    }
}

/// Whether conditions say that a topic vanished, and those before them did not.
#[must_use]
pub fn vanished_since(before: &[Condition], after: &[Condition]) -> bool {
    conditions::data_lost(after).is_some_and(|lost| {
        let same = conditions::data_lost(before).is_some_and(|was| was.message == lost.message);
        !same && lost.reason == Reason::Vanished.as_str()
    })
}

fn says(conditions: &[Condition], id: &str) -> bool {
    conditions::data_lost(conditions).is_some_and(|lost| lost.message.contains(id))
}

/// Counts and tells a loss when it stands in the status for the first time.
pub fn tell(ctx: &Context, object: &Topic, before: &TopicStatus, after: &TopicStatus) {
    if let Some(lost) = news(before, after) {
        ctx.metrics.vanished(Topic::KIND);
        ctx.events.publish(object.object_ref(&()), true, "DataLost", "Observe", &lost.message);
    }
}

/// The loss that a status says and the one before it did not. What was lost is the topic that was remembered.
fn news<'a>(before: &TopicStatus, after: &'a TopicStatus) -> Option<&'a Condition> {
    let lost = conditions::data_lost(&after.conditions)?;
    let same = conditions::data_lost(&before.conditions).is_some_and(|was| was.message == lost.message);
    let known = before.topic_id.as_deref().is_some_and(|id| says(&before.conditions, id));
    (!same && !known).then_some(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(id: &str, observed: Option<&str>) -> Lost {
        let memory = Memory { topic_id: Some(id.into()), ..Memory::default() };
        let observed = observed.map(|id| ObservedTopic { id: id.into(), ..ObservedTopic::default() });
        let desired = DesiredTopic { name: "orders".into(), ..DesiredTopic::default() };
        Lost::of(&desired, &memory, observed.as_ref()).expect("a loss")
    }

    fn status(id: &str, lost: &[Verdict]) -> TopicStatus {
        let conditions = conditions::merge(&[], lost, Some(1), Timestamp::UNIX_EPOCH);
        TopicStatus { topic_id: Some(id.into()), conditions, ..TopicStatus::default() }
    }

    #[test]
    fn a_loss_is_told_once_also_where_it_waits_before_the_topic_is_made_again() {
        let lost = lost("id-1", None);
        let (before, waits) = (status("id-1", &[]), status("id-1", &[lost.verdict(false)]));
        assert!(news(&before, &before).is_none());
        assert!(news(&before, &waits).is_some());
        assert!(news(&waits, &waits).is_none());
        let made = status("id-2", &[lost.verdict(true)]);
        assert!(news(&waits, &made).is_none());
        assert!(news(&before, &made).is_some());
        // It stays until it is acknowledged.
        assert!(news(&made, &made).is_none());
        assert!(news(&made, &status("id-2", &[])).is_none());
    }

    #[test]
    fn a_second_loss_before_the_first_one_is_acknowledged_is_told_as_well() {
        let first = status("id-2", &[lost("id-1", None).verdict(true)]);
        let second = lost("id-2", Some("id-3"));
        assert!(!second.is_said(&first.conditions));
        let both = status("id-2", &[second.verdict(false)]);
        assert!(news(&first, &both).is_some());
        assert!(second.is_said(&both.conditions));
    }

    #[test]
    fn a_topic_that_is_not_made_again_is_not_said_to_be() {
        let vanished = lost("id-1", None);
        assert!(!vanished.verdict(false).message.contains("made"));
        assert!(vanished.verdict(true).message.contains("made again, empty"));
        let replaced = lost("id-1", Some("id-2")).verdict(false);
        assert_eq!(replaced.reason, Reason::Replaced);
    }

    #[test]
    fn a_loss_that_is_noted_stands_beside_the_other_conditions() {
        let mut status = status("id-1", &[Verdict::new(conditions::READY, true, Reason::InStep, "")]);
        lost("id-1", None).note(Some(2), &mut status);
        lost("id-1", None).note(Some(2), &mut status);
        let kinds: Vec<_> = status.conditions.iter().map(|is| is.type_.as_str()).collect();
        assert_eq!(kinds, [conditions::READY, DATA_LOST]);
    }
}
