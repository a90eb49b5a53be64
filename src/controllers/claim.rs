//! What a Binding is about to make, noted on the object in the same write as its finalizer.
//!
//! A Binding goes with its object, so what was made has to be known whatever happens between the broker's answer and the
//! status: the process dies, and the key is edited before the next one starts. A status written beforehand would do, too,
//! and be a third write for each of thousands.
//!
//! The note is believed only while the status cannot know better: it says nothing of anything made, and nothing but that
//! the binding waits for its ends, as of the very generation that the note is about. It is written only where what is
//! there already would be taken over anyway.

use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::reconciler::Pass;
use crate::api::binding::AppliedBinding;
use crate::api::conditions::{self, Reason};
use crate::api::policy::Adoption;
use crate::api::{Binding, BindingStatus, annotation};

/// The value of the annotation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The object that it was written on: a copy of the object has made nothing.
    uid: String,
    generation: i64,
    cluster_id: String,
    since: String,
    /// What is about to be made.
    pub binding: AppliedBinding,
}

impl Claim {
    /// The note that goes on with the finalizer. None: the status will have to say it.
    pub fn of(pass: &Pass<'_, Binding>, binding: AppliedBinding) -> Result<Option<String>, Failure> {
        if pass.policies.adoption == Adoption::Never || !knows_nothing(pass.object) {
            return Ok(None);
        }
        let (Some(uid), Some(generation)) = (pass.object.uid(), pass.object.metadata.generation) else {
            return Ok(None);
        };
        let (cluster_id, since) = (pass.link.cluster_id.clone(), Timestamp::now().to_string());
        // A note that cannot be written is none.
        Ok(serde_json::to_string(&Self { uid, generation, cluster_id, since, binding }).ok())
    }

    /// The note on an object, while it is to be believed.
    #[must_use]
    pub fn on(object: &Binding) -> Option<Self> {
        let note = object.annotations().get(annotation::CLAIM)?;
        let claim: Self = serde_json::from_str(note).ok()?;
        let own = Some(&claim.uid) == object.metadata.uid.as_ref();
        (own && (knows_nothing(object) || waits(object, claim.generation))).then_some(claim)
    }

    /// Whether it is about this binding on this cluster.
    #[must_use]
    pub fn covers(&self, binding: &AppliedBinding, cluster_id: &str) -> bool {
        self.binding == *binding && self.cluster_id == cluster_id
    }

    /// Puts what only the note knows into a status.
    pub fn recall(object: &Binding, status: &mut BindingStatus) {
        if let Some(claim) = Self::on(object) {
            status.applied = Some(claim.binding);
            status.cluster_id = Some(claim.cluster_id);
            status.owned_since = Some(claim.since);
        }
    }
}

fn made_nothing(status: &BindingStatus) -> bool {
    status.applied.is_none() && status.stale.is_empty() && status.owned_since.is_none()
}

/// No pass has said anything yet.
fn knows_nothing(object: &Binding) -> bool {
    object.status.as_ref().is_none_or(|status| status.observed_generation.is_none() && made_nothing(status))
}

/// All that was said of this generation is that the ends are not there yet: nothing was asked of the broker, and so
/// nothing refused.
fn waits(object: &Binding, generation: i64) -> bool {
    object.status.as_ref().is_some_and(|status| {
        let ready = conditions::find(&status.conditions, conditions::READY);
        made_nothing(status)
            && status.observed_generation == Some(generation)
            && ready.is_some_and(|ready| ready.reason == Reason::DependencyNotReady.as_str())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn noted(status: &serde_json::Value) -> Binding {
        let claim = json!({
            "uid": "u", "generation": 1, "clusterId": "c", "since": "2026-01-01T00:00:00Z",
            "binding": {"source": "x", "queue": "q", "routingKey": "old"},
        });
        serde_json::from_value(json!({
            "apiVersion": "spillway.dev/v1alpha1", "kind": "Binding",
            "metadata": {
                "name": "b", "uid": "u", "generation": 2,
                "annotations": {annotation::CLAIM: claim.to_string()},
            },
            "spec": {
                "brokerRef": {"name": "r"}, "source": "x", "destination": {"queue": "q"}, "routingKey": "new",
            },
            "status": status,
        }))
        .unwrap()
    }

    fn ready(reason: &str, generation: i64) -> serde_json::Value {
        json!({"observedGeneration": generation, "conditions": [{
            "type": "Ready", "status": "False", "reason": reason, "message": "", "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]})
    }

    fn recalled(object: &Binding) -> Option<String> {
        let mut status = object.status.clone().unwrap_or_default();
        Claim::recall(object, &mut status);
        assert_eq!(status.applied.is_some(), status.owned_since.is_some());
        status.applied.map(|binding| binding.routing_key)
    }

    #[test]
    fn what_was_begun_before_a_crash_is_known_after_an_edit() {
        assert_eq!(recalled(&noted(&json!(null))).as_deref(), Some("old"));
    }

    #[test]
    fn what_waited_for_its_ends_may_have_been_made_since() {
        assert_eq!(recalled(&noted(&ready("DependencyNotReady", 1))).as_deref(), Some("old"));
    }

    #[test]
    fn what_was_refused_or_never_asked_for_is_not_claimed() {
        assert_eq!(recalled(&noted(&ready("AuthorizationFailed", 1))), None);
        assert_eq!(
            recalled(&noted(&ready("DependencyNotReady", 2))),
            None,
            "the note is about another generation"
        );
    }

    #[test]
    fn a_status_knows_better() {
        let mut status = ready("DependencyNotReady", 1);
        status["applied"] = json!({"source": "x", "queue": "q", "routingKey": "made"});
        status["ownedSince"] = json!("2026-02-02T00:00:00Z");
        assert_eq!(recalled(&noted(&status)).as_deref(), Some("made"));
    }

    #[test]
    fn a_copy_of_an_object_has_made_nothing() {
        let mut copy = noted(&json!(null));
        copy.metadata.uid = Some("another".into());
        assert_eq!(recalled(&copy), None);
    }

    #[test]
    fn a_note_that_is_none_is_passed_over() {
        let mut object = noted(&json!(null));
        object.annotations_mut().insert(annotation::CLAIM.into(), "{".into());
        assert_eq!(recalled(&object), None);
    }
}
