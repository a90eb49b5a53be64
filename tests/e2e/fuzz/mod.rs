//! Thousands of random objects against one operator: none may stop it, confuse it, or be left without
//! an answer.
//!
//! `FUZZ` is how many (default 300), `FUZZ_SEED` the seed (default: one that is printed). The same
//! seed and number make the same objects.

mod random;
mod specs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde_json::{Value, json};
use spillway_operator::api::{Binding, Broker, Consumer, Exchange, Queue, Topic};

use self::random::Random;
use crate::bed::{World, bare_world, until_within};

/// Requests to the API server at a time.
const AT_ONCE: usize = 16;
/// How soon an ordinary object is ready, whatever else there is.
const SOON: Duration = Duration::from_secs(15);

fn kinds() -> BTreeMap<&'static str, ApiResource> {
    fn of<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>() -> ApiResource {
        ApiResource::erase::<K>(&())
    }
    [
        ("Topic", of::<Topic>()),
        ("Queue", of::<Queue>()),
        ("Exchange", of::<Exchange>()),
        ("Binding", of::<Binding>()),
        ("Consumer", of::<Consumer>()),
        ("Broker", of::<Broker>()),
    ]
    .into()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text:?}")))
}

#[test]
fn random_objects_are_all_answered_and_stop_nobody() {
    let count = number("FUZZ").unwrap_or(300);
    let seed = number("FUZZ_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("FUZZ={count} FUZZ_SEED={seed}");
    bare_world(async |w| {
        let begun = Instant::now();
        w.start_operator().await;
        brokers(w).await;
        let (refused, kept) = apply_all(w, seed, count).await;
        println!("{kept} objects applied, {refused} refused by the API server, after {:?}", begun.elapsed());
        let patience =
            Duration::from_secs(60) + Duration::from_millis(40) * u32::try_from(count).expect("32 bits");
        let reasons = answered(w, patience).await;
        println!("all answered after {:?}: {reasons:?}", begun.elapsed());
        well(w).await;
        ordinary(w).await;
        println!("ordinary objects ready after {:?}", begun.elapsed());
        well(w).await;
        delete_all(w, patience).await;
        println!("all deleted after {:?}", begun.elapsed());
        well(w).await;
    });
}

/// The good Brokers, one that is not there, one that looks only, and one with rules.
async fn brokers(w: &World) {
    w.broker("").await;
    let first = w.rabbit("").await;
    // The oldest Broker's rules hold for its whole cluster, and ages are counted in seconds.
    let made = first.metadata.creation_timestamp.expect("it was made").0;
    until_within(SOON, "the next Broker is younger", async || {
        let age = jiff::Timestamp::now().duration_since(made);
        if age.as_secs() >= 1 { Ok(()) } else { Err(format!("{age}")) }
    })
    .await;
    w.apply(
        "
        {apiVersion: spillway.dev/v1alpha1, kind: Broker, metadata: {name: away}, spec: {kafka: {bootstrapServers: ['127.0.0.1:9']}}}
        ---
        {apiVersion: spillway.dev/v1alpha1, kind: Broker, metadata: {name: away-too}, spec: {rabbitmq: {managementUrl: 'http://127.0.0.1:9', credentialsSecretRef: {name: rabbitmq}}}}
        ---
        {apiVersion: spillway.dev/v1alpha1, kind: Broker, metadata: {name: looks}, spec: {kafka: {bootstrapServers: ['${KAFKA}']}, defaults: {managementPolicy: Observe}}}
        ---
        {apiVersion: spillway.dev/v1alpha1, kind: Broker, metadata: {name: ruled}, spec: {rabbitmq: {managementUrl: '${RABBITMQ}', credentialsSecretRef: {name: rabbitmq}}, rules: [{namespaces: ['*'], names: ['q-*'], deletionPolicies: [Retain]}]}}
        ",
    )
    .await;
}

/// Applies them, some twice with another spec. How many were refused, and how many are there.
async fn apply_all(w: &World, seed: u64, count: u64) -> (usize, usize) {
    let resources = kinds();
    let site = specs::Site { prefix: w.prefix.clone(), vhost: w.vhost.clone() };
    let answers = stream::iter(0..count)
        .map(|n| {
            let (kind, objects) = specs::objects(&mut Random::new(seed, n), n, &site);
            let api: Api<DynamicObject> =
                Api::namespaced_with(w.client.clone(), &w.namespace, &resources[kind]);
            async move {
                let (mut refused, mut kept) = (0, false);
                for object in objects {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                    let params = PatchParams::apply("fuzz").force();
                    match api.patch(&name, &params, &Patch::Apply(&object)).await {
                        Ok(_) => kept = true,
                        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => refused += 1,
                        // What cannot be applied as an object at all: `spec: ""`.
                        Err(kube::Error::Api(status)) if status.message.contains("typed patch object") => {
                            refused += 1;
                        }
                        Err(kube::Error::Api(status)) => panic!("{status:?} for {object}"),
                        // What no URL can hold.
                        Err(_) => refused += 1,
                    }
                }
                (refused, usize::from(kept))
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<(usize, usize)>>()
        .await;
    answers.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

async fn all(w: &World) -> Vec<(&'static str, DynamicObject)> {
    let mut all = Vec::new();
    for (kind, resource) in kinds() {
        let api: Api<DynamicObject> = Api::namespaced_with(w.client.clone(), &w.namespace, &resource);
        let list = api.list(&ListParams::default()).await.expect("a list");
        all.extend(list.items.into_iter().map(|object| (kind, object)));
    }
    all
}

/// Why an object has no answer yet; None: it has.
fn unanswered(object: &DynamicObject) -> Option<String> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let status = &object.data["status"];
    let ready = status["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "Ready");
    match ready {
        None => Some(format!("{name}: no Ready: {} {status}", object.data["spec"])),
        Some(_) if status["observedGeneration"].as_i64() != object.metadata.generation => {
            Some(format!("{name}: generation {:?} is not observed: {status}", object.metadata.generation))
        }
        Some(_) => None,
    }
}

/// Waits until every object has a Ready that is about its newest spec; how many have which reason.
async fn answered(w: &World, limit: Duration) -> BTreeMap<String, usize> {
    let objects = until_within(limit, "every object is answered", async || {
        let objects = all(w).await;
        let open: Vec<_> = objects
            .iter()
            .filter_map(|(kind, object)| Some(format!("{kind} {}", unanswered(object)?)))
            .collect();
        if open.is_empty() {
            Ok(objects)
        } else {
            Err(format!("{} are not: {:?}", open.len(), &open[..open.len().min(5)]))
        }
    })
    .await;
    let mut reasons = BTreeMap::new();
    for (_, object) in objects {
        let conditions = object.data["status"]["conditions"].clone();
        let ready = conditions.as_array().into_iter().flatten().find(|one| one["type"] == "Ready");
        let reason = ready.and_then(|ready| ready["reason"].as_str()).unwrap_or_default().to_owned();
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
}

/// The operator lives, is healthy, and never panicked.
async fn well(w: &World) {
    let operator = w.operator();
    assert_eq!(operator.exited(), None, "{}", operator.tail());
    let health = operator.health().await;
    assert!(health.contains("/healthz: 200"), "{health}");
    let text = operator.text();
    let panic = text.lines().find(|line| line.contains("panicked at"));
    assert_eq!(panic, None);
}

/// No worker is stuck: what is made last is ready within seconds.
async fn ordinary(w: &World) {
    w.topic("ordinary", "name: ${PREFIX}ordinary-topic\npartitions: 1").await;
    w.queue("ordinary", "name: ordinary-queue\ntype: classic").await;
    until_within(SOON, "the ordinary objects are ready", async || {
        let ready = |value: Value| {
            let conditions = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
        };
        let (topic, queue): (Topic, Queue) = (w.get("ordinary").await, w.get("ordinary").await);
        if ready(json!(topic)) && ready(json!(queue)) { Ok(()) } else { Err(format!("{topic:?} {queue:?}")) }
    })
    .await;
}

/// What a person would do about an object that may not be deleted as its author wishes: it stays, and says why.
fn kept(object: &DynamicObject) -> Option<Value> {
    let conditions = object.data["status"]["conditions"].as_array()?;
    let reason = conditions.iter().find(|one| one["type"] == "Ready")?["reason"].as_str()?;
    match reason {
        "NotEmpty" => Some(json!({"spillway.dev/force-release": "true"})),
        // What is at the broker is not touched while it is paused.
        "Paused" => Some(json!({"spillway.dev/paused": null})),
        _ => None,
    }
}

/// Deletes everything, the Brokers last; all goes, but what is used.
async fn delete_all(w: &World, limit: Duration) {
    for last in [false, true] {
        for (kind, resource) in kinds() {
            if (kind == "Broker") == last {
                let api: Api<DynamicObject> = Api::namespaced_with(w.client.clone(), &w.namespace, &resource);
                api.delete_collection(&DeleteParams::default(), &ListParams::default())
                    .await
                    .expect("deleted");
            }
        }
        until_within(limit, "what was deleted is gone", async || {
            let left: BTreeSet<_> = all(w)
                .await
                .into_iter()
                .filter(|(kind, object)| (last || *kind != "Broker") && kept(object).is_none())
                .map(|(kind, object)| format!("{kind} {:?} {}", object.metadata.name, object.data))
                .collect();
            if left.is_empty() {
                return Ok(());
            }
            Err(format!("{} are left: {:#?}", left.len(), left.iter().take(3).collect::<Vec<_>>()))
        })
        .await;
        release_kept(w).await;
    }
}

/// Lets go of what is kept, as a person would: what is paused no more may turn out to be in use.
async fn release_kept(w: &World) {
    let resources: BTreeMap<_, _> = kinds().into_iter().collect();
    for (kind, object) in all(w).await.into_iter().filter(|(_, object)| kept(object).is_some()) {
        let name = object.metadata.name.unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(w.client.clone(), &w.namespace, &resources[kind]);
        until_within(2 * SOON, "what is released is gone", async || {
            let Some(object) = api.get_opt(&name).await.expect("an answer") else { return Ok(()) };
            if let Some(annotations) = kept(&object) {
                let patch = json!({"metadata": {"annotations": annotations}});
                let _ = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            }
            Err(format!("{object:?}"))
        })
        .await;
    }
}
