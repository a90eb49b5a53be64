//! The Deployment that a Consumer's template becomes. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{Container, EnvVar, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::{Resource as _, ResourceExt as _};

use crate::api::conditions::Reason;
use crate::api::{Consumer, label};
use crate::digest;
use crate::topology::Rejection;

/// The annotation that tells whether a Deployment is as its template says.
pub const HASH: &str = "spillway.dev/template-hash";

/// What is tried when a Deployment is applied: the first words of the error.
pub const APPLY: &str = "apply the Deployment";

/// The Deployment. It names no replicas: their number is the scaler's, and a person's.
pub fn deployment(consumer: &Consumer, environment: &[EnvVar]) -> Result<Deployment, Rejection> {
    let name = consumer.name_any();
    let template = consumer.spec.template.clone().unwrap_or_default();
    let mut template: PodTemplateSpec = serde_json::from_value(template).map_err(|error| {
        Rejection::new(Reason::TemplateInvalid, format!("the template is no pod template: {error}"))
    })?;
    let labels = BTreeMap::from([(label::CONSUMER.to_owned(), label_value(&name))]);
    template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(labels.clone());
    let Some(pod) = &mut template.spec else {
        return Err(Rejection::new(Reason::TemplateInvalid, "the template has no spec"));
    };
    for container in pod.containers.iter_mut().chain(pod.init_containers.iter_mut().flatten()) {
        inject(container, environment);
    }
    let mut deployment = Deployment {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: consumer.namespace(),
            labels: Some(labels.clone()),
            owner_references: Some(consumer.controller_owner_ref(&()).into_iter().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            selector: LabelSelector { match_labels: Some(labels), match_expressions: None },
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    };
    let text = serde_json::to_string(&deployment).unwrap_or_default();
    let hash = digest::short([text.as_str()], 8);
    deployment.metadata.annotations = Some(BTreeMap::from([(HASH.to_owned(), hash)]));
    Ok(deployment)
}

/// Puts the variables into a container. What the template says itself stays: its author knows.
fn inject(container: &mut Container, environment: &[EnvVar]) {
    let own = container.env.get_or_insert_default();
    let missing: Vec<_> =
        environment.iter().filter(|variable| !own.iter().any(|o| o.name == variable.name)).cloned().collect();
    // First, so that the template's own variables may refer to them: $(SPILLWAY_KAFKA_GROUP).
    own.splice(0..0, missing);
}

/// A label's value: at most 63 characters, told apart by a hash where the name is longer.
fn label_value(name: &str) -> String {
    if name.len() <= 63 {
        return name.to_owned();
    }
    let hash = digest::short([name], 4);
    format!("{}-{hash}", name[..54].trim_end_matches(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn consumer(template: &serde_json::Value) -> Consumer {
        let mut consumer = Consumer::new(
            "orders",
            serde_json::from_value(json!({
                "template": template,
                "kafka": {"brokerRef": {"name": "kafka"}, "group": "g", "topics": ["t"], "offsetReset": "latest"},
            }))
            .unwrap(),
        );
        consumer.metadata.uid = Some("uid-1".into());
        consumer
    }

    fn variable(name: &str, value: &str) -> EnvVar {
        EnvVar { name: name.into(), value: Some(value.into()), value_from: None }
    }

    #[test]
    fn every_container_gets_the_environment_and_keeps_its_own_word() {
        let consumer = consumer(&json!({"spec": {
            "containers": [
                {"name": "a", "env": [{"name": "X", "value": "$(SPILLWAY_KAFKA_GROUP)"}]},
                {"name": "b", "env": [{"name": "SPILLWAY_KAFKA_GROUP", "value": "mine"}]}],
            "initContainers": [{"name": "i"}]}}));
        let made = deployment(&consumer, &[variable("SPILLWAY_KAFKA_GROUP", "g")]).unwrap();
        let pod = made.spec.unwrap().template.spec.unwrap();
        let env = |container: &Container| {
            container
                .env
                .iter()
                .flatten()
                .map(|v| format!("{}={}", v.name, v.value.clone().unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(env(&pod.containers[0]), ["SPILLWAY_KAFKA_GROUP=g", "X=$(SPILLWAY_KAFKA_GROUP)"]);
        assert_eq!(env(&pod.containers[1]), ["SPILLWAY_KAFKA_GROUP=mine"]);
        assert_eq!(env(&pod.init_containers.unwrap()[0]), ["SPILLWAY_KAFKA_GROUP=g"]);
    }

    #[test]
    fn the_deployment_names_no_replicas_and_its_hash_follows_the_template() {
        let template = |image| json!({"spec": {"containers": [{"name": "a", "image": image}]}});
        let one = deployment(&consumer(&template("x:1")), &[]).unwrap();
        let same = deployment(&consumer(&template("x:1")), &[]).unwrap();
        let other = deployment(&consumer(&template("x:2")), &[]).unwrap();
        assert_eq!(one.spec.as_ref().unwrap().replicas, None);
        assert_eq!(one.annotations()[HASH], same.annotations()[HASH]);
        assert_ne!(one.annotations()[HASH], other.annotations()[HASH]);
    }

    #[test]
    fn a_template_that_is_none_is_refused_in_words() {
        let wrong = deployment(&consumer(&json!({"spec": {"containers": "x"}})), &[]).unwrap_err();
        assert_eq!(wrong.reason, Reason::TemplateInvalid);
        assert!(wrong.message.starts_with("the template is no pod template:"), "{wrong}");
        assert!(deployment(&consumer(&json!({})), &[]).is_err());
    }

    #[test]
    fn a_long_name_makes_a_label_that_kubernetes_takes() {
        let value = label_value(&"a.".repeat(120));
        assert!(value.len() <= 63 && !value.contains(".-") && !value.ends_with(['.', '-']), "{value}");
    }
}
