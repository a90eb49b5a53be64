//! One test's namespace, names, operator and helpers.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Event, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use spillway_operator::api::{Binding, Broker, Consumer, Exchange, Queue, Topic};
use tokio::sync::OnceCell;

use super::apply::{apply, documents};
use super::env;
use super::env::RabbitAddress;
use super::kafka::Kafka;
use super::object::Object;
use super::operator::{Operator, Start};
use super::rabbitmq::Rabbit;
use super::wait::until;

/// What a test has to itself.
pub struct World {
    pub client: Client,
    /// A namespace that only this test uses.
    pub namespace: String,
    /// What all its names at the broker begin with.
    pub prefix: String,
    pub kafka: Kafka,
    /// Its virtual host at RabbitMQ, made when it is first asked for.
    pub vhost: String,
    pub(super) rabbit: Arc<OnceCell<Rabbit>>,
    others: Mutex<Vec<String>>,
    operators: Mutex<Vec<Arc<Operator>>>,
}

/// Runs a test with an operator, then removes what it made.
pub fn world(test: impl AsyncFnOnce(&World)) {
    run(async |world| {
        world.start_operator().await;
        test(world).await;
    });
}

/// Runs a test that starts operators itself, or none.
pub fn bare_world(test: impl AsyncFnOnce(&World)) {
    run(test);
}

fn run(test: impl AsyncFnOnce(&World)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let world = World::new().await;
        let outcome = AssertUnwindSafe(test(&world)).catch_unwind().await;
        if outcome.is_err() {
            world.explain().await;
        }
        let removed = AssertUnwindSafe(world.remove(outcome.is_ok())).catch_unwind().await;
        if let Err(panic) = outcome.and(removed) {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The YAML of [`World::topic`].
pub fn topic_yaml(name: &str, spec: &str) -> String {
    let named =
        if spec.contains("name: ${PREFIX}") { String::new() } else { format!("\n  name: ${{PREFIX}}{name}") };
    format!(
        "apiVersion: spillway.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {name}}}\nspec:\n  brokerRef: {{name: kafka}}{named}\n  {}\n",
        spec.trim().replace('\n', "\n  ")
    )
}

/// The YAML of [`World::consumer`].
pub fn consumer_yaml(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: spillway.dev/v1alpha1\nkind: Consumer\nmetadata: {{name: {name}}}\nspec:\n  kafka: {{brokerRef: {{name: kafka}}, group: '${{PREFIX}}group', topics: ['${{PREFIX}}orders'], offsetReset: earliest}}\n  {}\n",
        spec.trim().replace('\n', "\n  ")
    )
}

impl World {
    async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let config = kube::Config::infer().await.unwrap_or_else(|error| {
            panic!("no cluster ({error}): run `make test`, or `eval \"$(hack/testbed env)\"` after `hack/testbed up`")
        });
        let client = Client::try_from(config).expect("a client");
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let unique = format!("{:x}-{}", millis & 0xfff_ffff, NEXT.fetch_add(1, Ordering::Relaxed));
        let namespace = format!("e2e-{}-{unique}", std::process::id());
        let world = Self {
            prefix: format!("{namespace}."),
            namespace: namespace.clone(),
            kafka: Kafka::connect(&env::kafka()),
            vhost: namespace.clone(),
            rabbit: Arc::default(),
            client,
            others: Mutex::default(),
            operators: Mutex::default(),
        };
        world.define_kinds().await;
        world.make_namespace(&namespace, json!({})).await;
        world
    }

    /// Another namespace, removed with the world. Make it before an operator starts that is to watch it.
    pub async fn another_namespace(&self, suffix: &str, labels: serde_json::Value) -> String {
        let name = format!("{}-{suffix}", self.namespace);
        self.others.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        self.make_namespace(&name, labels).await;
        name
    }

    /// The same world, seen from another of its namespaces.
    pub fn at(&self, namespace: &str) -> Self {
        Self {
            client: self.client.clone(),
            namespace: namespace.to_owned(),
            prefix: self.prefix.clone(),
            kafka: Kafka::connect(&env::kafka()),
            vhost: self.vhost.clone(),
            rabbit: self.rabbit.clone(),
            others: Mutex::default(),
            operators: Mutex::default(),
        }
    }

    /// Starts one more operator for the world's namespaces; ready when this returns.
    pub async fn start_operator(&self) -> Arc<Operator> {
        self.start_operator_as(&Start::default()).await
    }

    /// [`World::start_operator`], started in a special way.
    pub async fn start_operator_as(&self, how: &Start) -> Arc<Operator> {
        let number = self.operators().len() + 1;
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}.log", self.namespace));
        let operator = Arc::new(Operator::start(&self.namespaces(), &log, how).await);
        self.operators.lock().unwrap_or_else(PoisonError::into_inner).push(operator.clone());
        operator
    }

    /// The operator that was started last.
    pub fn operator(&self) -> Arc<Operator> {
        self.operators().last().cloned().expect("an operator was started")
    }

    /// All operators that were started.
    pub fn operators(&self) -> Vec<Arc<Operator>> {
        self.operators.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn namespaces(&self) -> Vec<String> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner).clone();
        std::iter::once(self.namespace.clone()).chain(others).collect()
    }

    /// A name at the broker.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Applies YAML with `${NS}`, `${PREFIX}`, `${VHOST}`, `${KAFKA}`, `${RABBITMQ}`, `${AMQP}` and the other variables of `hack/testbed env` filled in.
    pub async fn apply(&self, yaml: &str) {
        if let Err(error) = self.try_apply(yaml, false).await {
            panic!("not applied: {error}\n{yaml}");
        }
    }

    /// Applies YAML that the API server must refuse; its words.
    pub async fn refused(&self, yaml: &str) -> String {
        match self.try_apply(yaml, false).await {
            Ok(()) => panic!("applied, and should have been refused:\n{yaml}"),
            Err(kube::Error::Api(status)) => status.message.clone(),
            Err(error) => panic!("{error}\n{yaml}"),
        }
    }

    /// Lets the API server judge objects without keeping them.
    pub async fn judge(&self, object: &DynamicObject) -> kube::Result<()> {
        apply(&self.client, &self.namespace, object, true).await.map(drop)
    }

    async fn try_apply(&self, yaml: &str, dry_run: bool) -> kube::Result<()> {
        for object in documents(&self.filled(yaml)) {
            apply(&self.client, &self.namespace, &object, dry_run).await?;
        }
        Ok(())
    }

    /// YAML with what stands for the world's own filled in.
    pub fn filled(&self, yaml: &str) -> String {
        let mut text = yaml.replace("${NS}", &self.namespace).replace("${PREFIX}", &self.prefix);
        text = text.replace("${KAFKA}", &env::kafka()).replace("${VHOST}", &self.vhost);
        if text.contains("${RABBITMQ}") || text.contains("${AMQP}") {
            let address = RabbitAddress::of_the_bed();
            text = text.replace("${RABBITMQ}", &address.management).replace("${AMQP}", &address.amqp);
        }
        while let Some((_, rest)) = text.split_once("${") {
            let variable = rest.split('}').next().unwrap_or_default().to_owned();
            text = text.replace(&format!("${{{variable}}}"), &env::required(&variable));
        }
        text
    }

    /// The Broker that most tests use, ready. `more` is added to its spec.
    pub async fn broker(&self, more: &str) -> Broker {
        self.broker_at("${KAFKA}", more).await;
        self.ready("kafka").await
    }

    /// That Broker at another address, whatever is there.
    pub async fn broker_at(&self, addresses: &str, more: &str) {
        self.apply(&format!(
            "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: kafka}}\nspec:\n  kafka: {{bootstrapServers: ['{}']}}\n  {}\n",
            addresses.replace(',', "', '"),
            more.replace('\n', "\n  ")
        ))
        .await;
    }

    /// A Topic on that Broker: `${PREFIX}<name>` at Kafka, unless `spec` says otherwise.
    pub async fn topic(&self, name: &str, spec: &str) {
        self.apply(&topic_yaml(name, spec)).await;
    }

    /// A Consumer of `${PREFIX}orders` in the group `${PREFIX}group`, on that Broker.
    pub async fn consumer(&self, name: &str, spec: &str) {
        self.apply(&consumer_yaml(name, spec)).await;
    }

    /// An API of this namespace.
    pub fn api<K: Object>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An object as it is now.
    pub async fn get<K: Object>(&self, name: &str) -> K {
        self.api().get(name).await.unwrap_or_else(|error| panic!("{} {name}: {error}", K::kind(&())))
    }

    /// Waits until what is made now is younger than the object: creation times have whole seconds, and within one the
    /// kind and the UID decide whose something is.
    pub async fn a_second_after<K: Object>(&self, name: &str) {
        let born = self.get::<K>(name).await.creation_timestamp().expect("a time").0;
        until("a second has passed", async || {
            let age = jiff::Timestamp::now().duration_since(born);
            if age.as_secs() >= 2 { Ok(()) } else { Err(format!("{age:#}")) }
        })
        .await;
    }

    /// Waits until the object's Ready is True for what its spec says now.
    pub async fn ready<K: Object>(&self, name: &str) -> K {
        self.condition(name, "Ready", "True", "").await
    }

    /// Waits until a condition is so for what the spec says now; an empty reason is any.
    pub async fn condition<K: Object>(&self, name: &str, kind: &str, status: &str, reason: &str) -> K {
        let what = format!("{} {name} has {kind}={status} {reason}", K::kind(&()));
        self.until(name, &what, |object: &K| {
            object.observed() == object.meta().generation
                && object
                    .condition(kind)
                    .is_some_and(|is| is.status == status && (reason.is_empty() || is.reason == reason))
        })
        .await
    }

    /// Waits until `is` holds for an object.
    pub async fn until<K: Object>(&self, name: &str, what: &str, is: impl Fn(&K) -> bool) -> K {
        let api = self.api::<K>();
        until(what, async || match api.get_opt(name).await {
            Ok(Some(object)) if is(&object) => Ok(object),
            Ok(Some(object)) => Err(object.summary()),
            Ok(None) => Err("there is no such object".into()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// Deletes an object and does not wait.
    pub async fn delete<K: Object>(&self, name: &str) {
        let deleted = self.api::<K>().delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{} {name} is not deleted: {error}", K::kind(&())));
    }

    /// Waits until an object is gone.
    pub async fn until_gone<K: Object>(&self, name: &str) {
        let api = self.api::<K>();
        until(&format!("{} {name} is gone", K::kind(&())), async || match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(object)) => Err(object.summary()),
            Err(error) => Err(error.to_string()),
        })
        .await;
    }

    /// Sets an annotation, or removes it.
    pub async fn annotate<K: Object>(&self, name: &str, key: &str, value: Option<&str>) {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        let patched = self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|error| panic!("{} {name} is not annotated: {error}", K::kind(&())));
    }

    /// Waits until an event with this reason exists about an object; its type and its words.
    pub async fn event<K: Object>(&self, name: &str, reason: &str) -> (String, String) {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        until(&format!("{} {name} has an event {reason}", K::kind(&())), async || {
            let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let about = list.items.iter().filter(|event| event.involved_object.name.as_deref() == Some(name));
            let about: Vec<_> =
                about.filter(|event| event.involved_object.kind.as_deref() == Some(&K::kind(&()))).collect();
            let found = about.iter().find(|event| event.reason.as_deref() == Some(reason));
            found
                .map(|event| {
                    (event.type_.clone().unwrap_or_default(), event.message.clone().unwrap_or_default())
                })
                .ok_or_else(|| {
                    format!("{:?}", about.iter().filter_map(|event| event.reason.clone()).collect::<Vec<_>>())
                })
        })
        .await
    }

    async fn make_namespace(&self, name: &str, labels: serde_json::Value) {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {
            "name": name,
            "labels": labels,
            "annotations": {"spillway.dev/test": test},
        }}))
        .expect("a namespace");
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &namespace).await.expect("a namespace");
    }

    /// Applies the CRDs, once in a run.
    async fn define_kinds(&self) {
        static DEFINED: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
        DEFINED
            .get_or_init(async || {
                let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
                let files = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
                let mut names = Vec::new();
                for file in files {
                    let text = std::fs::read_to_string(file.expect("a file").path()).expect("a text");
                    for object in documents(&text) {
                        names.push(object.name_any());
                        apply(&self.client, "", &object, false)
                            .await
                            .unwrap_or_else(|error| panic!("{}: {error}", object.name_any()));
                    }
                }
                assert!(!names.is_empty(), "{folder} is empty");
                let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
                for name in names {
                    until(&format!("{name} is established"), async || {
                        let crd = api.get(&name).await.map_err(|error| error.to_string())?;
                        let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
                        let established =
                            conditions.iter().any(|is| is.type_ == "Established" && is.status == "True");
                        if established { Ok(()) } else { Err("it is not".into()) }
                    })
                    .await;
                }
            })
            .await;
    }

    /// What a person wants to see of a test that failed.
    async fn explain(&self) {
        let mut text = format!("--- namespace {} ---\n", self.namespace);
        for namespace in self.namespaces() {
            text += &self.summaries::<Broker>(&namespace).await;
            text += &self.summaries::<Topic>(&namespace).await;
            text += &self.summaries::<Exchange>(&namespace).await;
            text += &self.summaries::<Queue>(&namespace).await;
            text += &self.summaries::<Binding>(&namespace).await;
            text += &self.summaries::<Consumer>(&namespace).await;
        }
        for operator in self.operators() {
            text += &operator.tail();
            text += &operator.health().await;
        }
        eprintln!("{text}");
    }

    async fn summaries<K: Object>(&self, namespace: &str) -> String {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let list = api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        list.iter().map(|object| object.summary() + "\n").collect()
    }

    /// Ends the operators and removes all that the world made, here and at the broker. The namespaces are left to
    /// Kubernetes, which takes its time with hundreds of them: `hack/test` waits for the last.
    async fn remove(&self, passed: bool) {
        let mut unclean = Vec::new();
        for operator in self.operators() {
            if operator.exited().is_none() {
                operator.signal("CONT");
                let status = operator.stop().await;
                if !status.success() {
                    unclean
                        .push(format!("the operator ended with {status} after SIGTERM\n{}", operator.tail()));
                }
            }
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in self.namespaces() {
            let _ = namespaces.delete(&namespace, &DeleteParams::default()).await;
            self.release::<Topic>(&namespace).await;
            self.release::<Binding>(&namespace).await;
            self.release::<Queue>(&namespace).await;
            self.release::<Exchange>(&namespace).await;
            self.release::<Consumer>(&namespace).await;
            self.release::<Broker>(&namespace).await;
        }
        self.kafka.clean(&self.prefix).await;
        if let Some(rabbit) = self.rabbit.get() {
            rabbit.remove().await;
        }
        assert!(!passed || unclean.is_empty(), "{}", unclean.join("\n"));
    }

    /// Takes the finalizers off what an operator that is gone would have to release.
    async fn release<K: Object>(&self, namespace: &str) {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let list = api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        for object in list.iter().filter(|object| !object.finalizers().is_empty()) {
            let patch = json!({"metadata": {"finalizers": null}});
            let _ = api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
        }
    }
}
