//! Consumers: what is refused, what they scale, what they make from a template.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, EnvVar};
use kube::Api;
use serde_json::json;
use spillway_operator::api::{Broker, Consumer, Topic};

use crate::bed::{Object as _, World, bare_world, consumer_yaml, deployment, sleeping_pod, until, world};

fn deployments(w: &World) -> Api<Deployment> {
    Api::namespaced(w.client.clone(), &w.namespace)
}

/// The Deployment, once `is` holds for it.
async fn until_deployment(w: &World, name: &str, what: &str, is: impl Fn(&Deployment) -> bool) -> Deployment {
    let api = deployments(w);
    until(&format!("Deployment {name} {what}"), async || match api.get_opt(name).await {
        Ok(Some(deployment)) if is(&deployment) => Ok(deployment),
        Ok(Some(deployment)) => Err(format!("{:?}", deployment.spec)),
        Ok(None) => Err("there is none".into()),
        Err(error) => Err(error.to_string()),
    })
    .await
}

fn containers(deployment: &Deployment) -> Vec<Container> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let pod = pod.expect("a pod template");
    pod.containers.iter().chain(pod.init_containers.iter().flatten()).cloned().collect()
}

fn environment(container: &Container) -> BTreeMap<String, EnvVar> {
    container.env.iter().flatten().map(|variable| (variable.name.clone(), variable.clone())).collect()
}

async fn broker_and_topic(w: &World) {
    w.broker("").await;
    w.topic("orders", "partitions: 3\ndeadLetter: {}\nretry: {delays: [10s]}").await;
    w.ready::<Topic>("orders").await;
}

#[test]
fn a_consumer_names_exactly_one_of_a_target_and_a_template() {
    world(async |w| {
        let neither = w.refused(&consumer_yaml("orders", "scaling: {}")).await;
        assert!(neither.contains("exactly one of scaleTargetRef and template"), "{neither}");
        let both = "scaleTargetRef: {name: orders}\ntemplate: {spec: {containers: [{name: main, image: x}]}}";
        let both = w.refused(&consumer_yaml("orders", both)).await;
        assert!(both.contains("exactly one of scaleTargetRef and template"), "{both}");
        let nothing = "{apiVersion: spillway.dev/v1alpha1, kind: Consumer, metadata: {name: orders}, spec: {scaleTargetRef: {name: orders}}}";
        let nothing = w.refused(nothing).await;
        assert!(nothing.contains("exactly one of kafka and rabbitmq"), "{nothing}");
        let order = "scaleTargetRef: {name: orders}\nscaling: {minReplicas: 5, maxReplicas: 2}";
        let order = w.refused(&consumer_yaml("orders", order)).await;
        assert!(order.contains("maxReplicas must be at least minReplicas"), "{order}");
        for (spec, words) in [
            (
                "scaleTargetRef: {name: a}\ncredentialsSecretRef: {name: b}",
                "credentialsSecretRef is for the environment of pods",
            ),
            ("scaleTargetRef: {name: a, kind: DaemonSet}", "Unsupported value: \"DaemonSet\""),
            ("scaleTargetRef: {name: a}\nscaling: {targetDelay: 999ms}", "targetDelay must be at least 1s"),
            (
                "scaleTargetRef: {name: a}\nscaling: {tuning: {pollInterval: 499ms}}",
                "pollInterval must be from 500ms to 1m",
            ),
            (
                "scaleTargetRef: {name: a}\nscaling: {tuning: {pollInterval: 61s}}",
                "pollInterval must be from 500ms to 1m",
            ),
            ("scaleTargetRef: {name: a}\nscaling: {tuning: {utilization: 101}}", "utilization"),
            ("scaleTargetRef: {name: a}\nscaling: {consumersPerReplica: 0}", "consumersPerReplica"),
            ("scaleTargetRef: {name: a}\nscaling: {ratePerReplica: '-1'}", "ratePerReplica"),
            ("scaleTargetRef: {name: a}\nscaling: {breaker: {maxRatio: '1.1'}}", "maxRatio"),
            ("scaleTargetRef: {name: a}\nscaling: {breaker: {minCount: 0}}", "minCount"),
        ] {
            let refused = w.refused(&consumer_yaml("orders", spec)).await;
            assert!(refused.contains(words), "{spec}: {refused}");
        }
        let twice =
            consumer_yaml("orders", "scaleTargetRef: {name: a}").replace("'${PREFIX}orders'", "a, b, a");
        let twice = w.refused(&twice).await;
        assert!(twice.contains("topics names one topic twice"), "{twice}");
    });
}

#[test]
fn a_target_that_does_not_exist_is_told_and_noticed_when_it_appears() {
    world(async |w| {
        broker_and_topic(w).await;
        w.consumer("orders", "scaleTargetRef: {name: worker}").await;
        let consumer: Consumer = w.condition("orders", "Ready", "False", "TargetNotFound").await;
        assert!(consumer.message("Ready").contains("worker"), "{}", consumer.summary());
        w.apply(&deployment(w, "worker", 1).await).await;
        let consumer: Consumer = w.ready("orders").await;
        let status = consumer.status.expect("a status");
        assert_eq!((status.replicas, status.partitions, status.cap), (Some(1), Some(3), Some(3)));
    });
}

#[test]
fn a_consumer_reads_from_the_broker_of_another_namespace_as_long_as_that_broker_says_so() {
    bare_world(async |w| {
        let team = w.at(&w.another_namespace("team", json!({})).await);
        w.start_operator().await;
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        team.apply(&deployment(&team, "worker", 1).await).await;
        let yaml = consumer_yaml("orders", "scaleTargetRef: {name: worker}")
            .replace("{name: kafka}", &format!("{{name: kafka, namespace: {}}}", w.namespace));
        team.apply(&yaml).await;
        for _ in 0..2 {
            let refused: Consumer = team.condition("orders", "Ready", "False", "NamespaceNotAllowed").await;
            assert!(refused.message("Ready").contains("allowedNamespaces"), "{}", refused.summary());
            w.broker("allowedNamespaces: {from: All}").await;
            let consumer: Consumer = team.ready("orders").await;
            assert_eq!(consumer.status.and_then(|status| status.partitions), Some(3));
            w.broker("").await;
        }
        team.condition::<Consumer>("orders", "Ready", "False", "NamespaceNotAllowed").await;
    });
}

#[test]
fn a_second_broker_opens_no_cluster_to_a_consumer_whose_namespace_the_oldest_does_not_allow() {
    bare_world(async |w| {
        let team = w.at(&w.another_namespace("team", json!({})).await);
        w.start_operator().await;
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        w.a_second_after::<Broker>("kafka").await;
        w.apply("apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {name: open}\nspec: {kafka: {bootstrapServers: ['${KAFKA}']}, allowedNamespaces: {from: All}}\n").await;
        w.ready::<Broker>("open").await;
        team.apply(&deployment(&team, "worker", 1).await).await;
        let yaml = consumer_yaml("orders", "scaleTargetRef: {name: worker}")
            .replace("{name: kafka}", &format!("{{name: open, namespace: {}}}", w.namespace));
        team.apply(&yaml).await;
        let refused: Consumer = team.condition("orders", "Ready", "False", "NamespaceNotAllowed").await;
        assert_eq!(refused.status.and_then(|status| status.partitions), None);
        w.broker("allowedNamespaces: {from: All}").await;
        team.ready::<Consumer>("orders").await;
    });
}

#[test]
fn a_template_becomes_a_deployment_with_the_environment_in_every_container() {
    world(async |w| {
        broker_and_topic(w).await;
        w.apply(
            "{apiVersion: v1, kind: Secret, metadata: {name: login}, stringData: {username: u, password: p}}",
        )
        .await;
        let pod = sleeping_pod(w).await.replace(
            "containers: [",
            "initContainers: [{name: first, image: 'example.com/none', env: [{name: OWN, value: kept}]}], containers: [{name: side, image: 'example.com/none'}, ",
        );
        w.consumer(
            "orders",
            &format!("credentialsSecretRef: {{name: login}}\ntemplate: {{metadata: {{labels: {{team: a}}}}, spec: {pod}}}"),
        )
        .await;
        let made = until_deployment(w, "orders", "is made", |_| true).await;
        let consumer: Consumer = w.get("orders").await;
        let owners = made.metadata.owner_references.clone().unwrap_or_default();
        assert_eq!(owners.len(), 1);
        assert_eq!(
            (Some(&owners[0].uid), owners[0].controller),
            (consumer.metadata.uid.as_ref(), Some(true))
        );
        let labels = made.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
        assert_eq!(labels.expect("labels")["team"], "a");

        let containers = containers(&made);
        assert_eq!(containers.len(), 3);
        for container in &containers {
            let environment = environment(container);
            let value = |name: &str| {
                let variable =
                    environment.get(name).unwrap_or_else(|| panic!("{name} in {}", container.name));
                variable.value.clone().unwrap_or_default()
            };
            assert_eq!(
                value("SPILLWAY_KAFKA_BOOTSTRAP_SERVERS"),
                crate::bed::required("SPILLWAY_TEST_KAFKA")
            );
            assert_eq!(value("SPILLWAY_KAFKA_GROUP"), w.name("group"));
            assert_eq!(value("SPILLWAY_KAFKA_TOPICS"), w.name("orders"));
            assert_eq!(value("SPILLWAY_KAFKA_SECURITY_PROTOCOL"), "PLAINTEXT");
            assert_eq!(value("SPILLWAY_DEAD_LETTER"), w.name("orders.dlq"));
            assert_eq!(value("SPILLWAY_RETRY"), format!("{}=10s", w.name("orders.retry.10s")));
            let source = |name: &str| environment[name].value_from.clone().expect(name);
            let field = source("SPILLWAY_KAFKA_CLIENT_ID").field_ref.expect("a field");
            assert_eq!(field.field_path, "metadata.name");
            for (variable, key) in
                [("SPILLWAY_KAFKA_USERNAME", "username"), ("SPILLWAY_KAFKA_PASSWORD", "password")]
            {
                let secret = source(variable).secret_key_ref.expect("a Secret");
                assert_eq!((secret.name.as_str(), secret.key.as_str()), ("login", key));
            }
        }
        let first =
            containers.iter().find(|container| container.name == "first").expect("the init container");
        assert_eq!(environment(first)["OWN"].value.as_deref(), Some("kept"));
    });
}

#[test]
fn an_edit_of_the_template_reaches_the_deployment_and_leaves_its_replicas() {
    world(async |w| {
        broker_and_topic(w).await;
        let pod = sleeping_pod(w).await;
        let spec = |team: &str| {
            format!(
                "scaling: {{mode: DryRun}}\ntemplate: {{metadata: {{labels: {{team: {team}}}}}, spec: {pod}}}"
            )
        };
        w.consumer("orders", &spec("a")).await;
        until_deployment(w, "orders", "is made", |_| true).await;
        let two = kube::api::Patch::Merge(serde_json::json!({"spec": {"replicas": 2}}));
        deployments(w)
            .patch_scale("orders", &kube::api::PatchParams::default(), &two)
            .await
            .expect("scaled by hand");
        w.consumer("orders", &spec("b")).await;
        let edited = until_deployment(w, "orders", "has the new label", |deployment| {
            let labels =
                deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.as_ref());
            labels.is_some_and(|labels| labels["team"] == "b")
        })
        .await;
        assert_eq!(edited.spec.expect("a spec").replicas, Some(2));
    });
}

#[test]
fn a_template_that_is_no_pod_is_told_in_the_api_servers_words() {
    world(async |w| {
        broker_and_topic(w).await;
        w.consumer("orders", "template: {spec: {containers: [{name: 'Not A Name', image: x}]}}").await;
        let consumer: Consumer = w.condition("orders", "Ready", "False", "TemplateInvalid").await;
        assert!(consumer.message("Ready").contains("Not A Name"), "{}", consumer.summary());
        let pod = sleeping_pod(w).await;
        w.consumer("orders", &format!("template: {{spec: {pod}}}")).await;
        w.ready::<Consumer>("orders").await;
    });
}

#[test]
fn a_deployment_that_somebody_else_made_is_not_overwritten_by_a_template() {
    world(async |w| {
        broker_and_topic(w).await;
        w.apply(&deployment(w, "orders", 2).await).await;
        let before = until_deployment(w, "orders", "is there", |_| true).await;
        let pod = sleeping_pod(w).await;
        w.consumer("orders", &format!("template: {{metadata: {{labels: {{mine: 'yes'}}}}, spec: {pod}}}"))
            .await;
        w.condition::<Consumer>("orders", "Ready", "False", "Conflict").await;
        let after = until_deployment(w, "orders", "is there", |_| true).await;
        assert_eq!(before.spec, after.spec);
        assert_eq!(after.metadata.owner_references, None);
    });
}

#[test]
fn a_deleted_consumer_takes_its_deployment_with_it_and_leaves_a_foreign_target() {
    world(async |w| {
        broker_and_topic(w).await;
        let pod = sleeping_pod(w).await;
        w.consumer("made", &format!("template: {{spec: {pod}}}")).await;
        w.apply(&deployment(w, "foreign", 1).await).await;
        let scaled = consumer_yaml("scaled", "scaleTargetRef: {name: foreign}")
            .replace("${PREFIX}group", "${PREFIX}group-2");
        w.apply(&scaled).await;
        w.ready::<Consumer>("made").await;
        w.ready::<Consumer>("scaled").await;
        w.delete::<Consumer>("made").await;
        w.delete::<Consumer>("scaled").await;
        w.until_gone::<Consumer>("made").await;
        w.until_gone::<Consumer>("scaled").await;
        until("the Deployment is gone", async || match deployments(w).get_opt("made").await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        until_deployment(w, "foreign", "stays", |deployment| {
            deployment.metadata.deletion_timestamp.is_none()
        })
        .await;
    });
}

#[test]
fn of_two_consumers_of_one_group_the_younger_is_in_conflict() {
    world(async |w| {
        broker_and_topic(w).await;
        w.apply(&deployment(w, "a", 1).await).await;
        w.apply(&deployment(w, "b", 1).await).await;
        w.consumer("older", "scaleTargetRef: {name: a}").await;
        w.ready::<Consumer>("older").await;
        w.a_second_after::<Consumer>("older").await;
        w.consumer("younger", "scaleTargetRef: {name: b}").await;
        let younger: Consumer = w.condition("younger", "Ready", "False", "Conflict").await;
        assert!(younger.message("Ready").contains("older"), "{}", younger.summary());
        w.delete::<Consumer>("older").await;
        w.ready::<Consumer>("younger").await;
    });
}

#[test]
fn of_a_consumer_that_moves_from_broker_to_broker_the_last_word_is_about_the_last() {
    const CONSUMERS: usize = 24;
    const MOVES: usize = 6;
    world(async |w| {
        let moves = |n: usize| async move {
            for step in 0..MOVES {
                let broker = if step % 2 == 0 { "nowhere" } else { "elsewhere" };
                let yaml = consumer_yaml(&format!("c{n}"), "scaleTargetRef: {name: worker}");
                w.apply(&yaml.replace("brokerRef: {name: kafka}", &format!("brokerRef: {{name: {broker}}}")))
                    .await;
            }
        };
        futures::future::join_all((0..CONSUMERS).map(moves)).await;
        for n in 0..CONSUMERS {
            let name = format!("c{n}");
            until(&format!("{name} says what is so of the last broker"), async || {
                let consumer: Consumer = w.get(&name).await;
                let status = consumer.status.clone().unwrap_or_default();
                let newest = status.observed_generation == consumer.metadata.generation;
                if newest && consumer.message("Ready").contains("elsewhere") {
                    return Ok(());
                }
                Err(format!("{:?} of {:?}", status, consumer.metadata.generation))
            })
            .await;
        }
    });
}
