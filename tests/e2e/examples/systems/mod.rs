//! The nine systems of the examples at work, one test each: their own manifests, their services with real traffic.
//!
//! Only two things are not the folders' own: times are shortened where a test would wait for minutes ([`System::start`]'s
//! `adapt`), and the services run as processes beside their pods ([`staff`]).

mod alerts;
mod kafka;
mod queue_service;
mod rabbitmq;
mod staff;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use spillway_operator::api::Consumer;

pub use self::staff::{Staff, shop};
use crate::bed::{RabbitAddress, World, required, until_within};
use crate::examples::{all_ready, kind, objects_at, the_folders_own};

/// Long enough for a backlog of this size on a busy machine.
const LONG: Duration = Duration::from_secs(150);

/// Whether all of `part` is in `whole`: of objects each key, of lists each item, in whatever order.
fn holds(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| holds(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            part.iter().all(|part| whole.iter().any(|whole| holds(whole, part)))
        }
        (whole, part) => whole == part,
    }
}

/// A system at work.
pub struct System<'a> {
    w: &'a World,
    pub staff: Staff,
    rabbitmq: RabbitAddress,
    environment: Vec<(String, String)>,
}

impl<'a> System<'a> {
    /// Applies a folder's manifests, each object's spec changed by `adapt(kind, name, spec)`; every object is ready, and
    /// every Consumer has its least number of workers, when this returns.
    pub async fn start(w: &'a World, folder: &str, adapt: impl Fn(&str, &str, &mut Value)) -> Self {
        Self::start_at(w, folder, RabbitAddress::of_the_bed(), &[], adapt).await
    }

    /// [`System::start`], with a RabbitMQ of its own and more variables for its workers.
    pub async fn start_at(
        w: &'a World,
        folder: &str,
        rabbitmq: RabbitAddress,
        environment: &[(&str, &str)],
        adapt: impl Fn(&str, &str, &mut Value),
    ) -> Self {
        let mut objects = objects_at(w, folder, &rabbitmq).await;
        for object in &mut objects {
            let (kind, name) = (kind(object), object.metadata.name.clone().expect("a name"));
            adapt(&kind, &name, &mut object.data["spec"]);
        }
        if objects.iter().any(|object| object.data["spec"]["rabbitmq"].is_object()) {
            w.mq().await;
            w.login("rabbitmq").await;
        }
        // What the workers are told of their topics and queues is complete from the start: no second rollout.
        let (consumers, others): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|object| kind(object) == "Consumer");
        all_ready(w, &others).await;
        let staff = Staff::hire(w, environment);
        all_ready(w, &consumers).await;
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let system = Self { w, staff, rabbitmq, environment: environment.iter().map(own).collect() };
        system.are_at_work(&consumers).await;
        system
    }

    async fn are_at_work(&self, consumers: &[DynamicObject]) {
        for object in consumers {
            let name = object.metadata.name.as_deref().expect("a name");
            self.w.ready::<Consumer>(name).await;
            self.is_staffed_as_declared(name, &object.data["spec"]["template"]["spec"]).await;
            if object.data["spec"]["scaling"]["minReplicas"] != json!(0) {
                until_within(LONG, &format!("somebody works for {name}"), async || {
                    let there = self.staff.logged(name, "consuming").len();
                    if there > 0 { Ok(()) } else { Err("nobody does".into()) }
                })
                .await;
            }
        }
    }

    /// The Deployment's pods are the folder's, but for what `sleeps` replaces and what Spillway and the API server add.
    async fn is_staffed_as_declared(&self, name: &str, declared: &Value) {
        let deployments: Api<Deployment> = Api::namespaced(self.w.client.clone(), &self.w.namespace);
        let made = json!(deployments.get(name).await.expect("a Deployment"));
        let (made, declared) = (&made["spec"]["template"]["spec"], the_folders_own(declared));
        assert!(holds(made, &declared), "{name}: {made:#} is not {declared:#}");
    }

    /// The shop with the address of its broker, to publish.
    fn publisher(&self) -> Command {
        let mut command = shop();
        command
            .arg("publish")
            .env("SPILLWAY_KAFKA_BOOTSTRAP_SERVERS", required("SPILLWAY_TEST_KAFKA"))
            .env("SPILLWAY_AMQP_URL", &self.rabbitmq.amqp)
            .env("SPILLWAY_AMQP_VHOST", &self.w.vhost)
            .env("SPILLWAY_AMQP_USERNAME", &self.rabbitmq.username)
            .env("SPILLWAY_AMQP_PASSWORD", &self.rabbitmq.password)
            .envs(self.environment.iter().cloned());
        command
    }

    /// Publishes `arguments` to a topic and waits for every acknowledgement.
    pub async fn to_topic(&self, topic: &str, arguments: &[&str]) {
        let mut command = self.publisher();
        command.args(["--topic", &self.w.name(topic)]).args(arguments);
        succeeds(command).await.expect("published");
    }

    /// Publishes `arguments` to an exchange and waits for every confirm; Err in the shop's words.
    pub async fn to_exchange(&self, exchange: &str, key: &str, arguments: &[&str]) -> Result<(), String> {
        let mut command = self.publisher();
        command.args(["--exchange", exchange, "--routing-key", key]).args(arguments);
        succeeds(command).await
    }

    /// Sets the most replicas that a Consumer may have.
    pub async fn allow(&self, consumer: &str, most: i32) {
        let patch = Patch::Merge(json!({"spec": {"scaling": {"maxReplicas": most}}}));
        let patched = self.w.api::<Consumer>().patch(consumer, &PatchParams::default(), &patch).await;
        patched.unwrap_or_else(|error| panic!("{consumer}: {error}"));
    }

    /// How many replicas the Deployment of a Consumer is set to.
    pub async fn replicas(&self, consumer: &str) -> i32 {
        let deployments: Api<Deployment> = Api::namespaced(self.w.client.clone(), &self.w.namespace);
        let found = deployments.get_opt(consumer).await.ok().flatten();
        found.and_then(|found| found.spec?.replicas).unwrap_or(1)
    }

    /// Waits until a Consumer has so many.
    pub async fn until_replicas(&self, consumer: &str, replicas: i32) {
        until_within(LONG, &format!("{consumer} has {replicas} replicas"), async || {
            match self.replicas(consumer).await {
                now if now == replicas => Ok(()),
                now => Err(format!("{now}")),
            }
        })
        .await;
    }

    /// Waits until a Consumer has more than one.
    pub async fn until_it_grows(&self, consumer: &str) {
        until_within(LONG, &format!("{consumer} has more than one replica"), async || {
            match self.replicas(consumer).await {
                now if now > 1 => Ok(()),
                now => Err(format!("{now}")),
            }
        })
        .await;
    }

    /// Publishes the same messages twice, by `send`; those who work for these Consumers do each once, and see it twice.
    pub async fn twice(&self, consumers: &[&str], send: impl AsyncFn(&[&str])) {
        for _ in 0..2 {
            send(&TWICE).await;
        }
        self.sees_twice(consumers).await;
    }

    /// Waits until each Consumer has seen twice, and done once, what [`TWICE`] published twice. The process remembers what
    /// it did, so whoever works for one of them works on, alone, until this returns.
    pub async fn sees_twice(&self, consumers: &[&str]) {
        for consumer in consumers {
            until_within(LONG, &format!("{consumer} sees what comes twice"), async || {
                let skipped = self.staff.ids(consumer, "skipped a duplicate");
                if skipped == came_twice() { Ok(()) } else { Err(format!("{skipped:?}")) }
            })
            .await;
            assert_eq!(self.done_of(consumer, "twice"), came_twice(), "{consumer} does each once");
        }
    }

    /// What those who work for a Consumer have handled of the messages that begin so: an id for each time.
    pub fn done_of(&self, consumer: &str, key: &str) -> Vec<String> {
        let mut ids = self.staff.ids(consumer, "handled");
        ids.retain(|id| id.starts_with(key));
        ids
    }

    /// Waits until those who work for a Consumer have handled these, each once at least.
    pub async fn until_handled(&self, consumer: &str, wanted: &BTreeSet<String>) {
        until_within(LONG, &format!("{consumer} handles all of {}", wanted.len()), async || {
            let there: BTreeSet<_> = self.staff.ids(consumer, "handled").into_iter().collect();
            let missing: Vec<_> = wanted.difference(&there).take(5).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{} are; not {missing:?}", there.len())) }
        })
        .await;
    }
}

async fn succeeds(mut command: Command) -> Result<(), String> {
    let output = tokio::task::spawn_blocking(move || command.output().expect("the shop runs")).await;
    let output = output.expect("no panic");
    output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The ids of a flood that began with `--key KEY`: `KEY-000000` and so on.
pub fn ids(key: &str, numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    numbers.into_iter().map(|number| format!("{key}-{number:06}")).collect()
}

/// What [`System::twice`] publishes.
pub const TWICE: [&str; 4] = ["--count", "10", "--key", "twice"];

/// The ids of it.
pub fn came_twice() -> Vec<String> {
    ids("twice", 0..10).into_iter().collect()
}

/// Sets what stands at a path of keys below `spec`.
pub fn set(spec: &mut Value, path: &[&str], value: Value) {
    let place = path.iter().fold(spec, |place, key| &mut place[*key]);
    *place = value;
}

/// Waits of seconds where the manifests have minutes, so that the way back to rest can be seen.
pub fn quick(spec: &mut Value) {
    set(spec, &["scaling", "scaleDown"], json!({"stabilization": "5s", "peakMemory": "8s"}));
}
