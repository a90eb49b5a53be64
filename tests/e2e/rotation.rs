//! Credentials that are exchanged for others while the operator works with them, both valid for a while as people do it:
//! no step fails, and no connection of the old ones stays.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use spillway_operator::api::{Broker, Consumer, Queue, Topic};

use crate::bed::{Object, RabbitAddress, World, deployment, login_yaml, required, until, world};

/// Objects that are edited in turn.
const OBJECTS: usize = 12;
/// Edits before the credentials change, and after nothing of the old ones is left.
const EDITS: usize = 2 * OBJECTS;

/// The operator's connections to a port, by their sockets.
fn connections(process: u32, port: u16) -> BTreeSet<String> {
    let remote = format!(":{port:04X}");
    let table = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{process}/net/{table}")));
    let established: BTreeSet<String> = table
        .iter()
        .flatten()
        .flat_map(|table| table.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 9 && fields[2].ends_with(&remote) && fields[3] == "01")
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    let open = fs::read_dir(format!("/proc/{process}/fd")).expect("a process of ours");
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .filter(|link| established.contains(link))
        .collect()
}

fn port(address: &str) -> u16 {
    let (_, port) = address.trim_end_matches('/').rsplit_once(':').expect("a port");
    port.parse().expect("a number")
}

/// When each object became Ready: a failed step would have made it anew.
async fn ready_since<K: Object>(w: &World) -> Vec<String> {
    let list = w.api::<K>().list(&ListParams::default()).await.expect("objects");
    let mut since: Vec<String> = list
        .items
        .iter()
        .map(|object| {
            let ready = object.condition("Ready");
            format!("{} {:?}", object.name_any(), ready.map(|ready| &ready.last_transition_time))
        })
        .collect();
    since.sort_unstable();
    since
}

/// Edits objects all the time; meanwhile the Secret gets other credentials. Nothing may fail.
async fn exchanged_under_load<K: Object>(w: &World, ports: &[u16], login: &str, edit: impl AsyncFn(usize)) {
    for object in 0..OBJECTS {
        edit(object).await;
    }
    for object in 0..OBJECTS {
        w.ready::<K>(&format!("o{object}")).await;
    }
    let before = ready_since::<K>(w).await;
    let process = w.operator().process();

    let (edits, over) = (Cell::new(0), Cell::new(false));
    let load = async {
        while !over.get() {
            edits.set(edits.get() + 1);
            edit(OBJECTS + edits.get()).await;
        }
    };
    let rotation = async {
        let reach =
            async |count: usize| {
                until("edits are made", async || {
                    if edits.get() >= count { Ok(()) } else { Err(edits.get().to_string()) }
                })
                .await;
            };
        reach(EDITS).await;
        // Those that idle are closed after a while, and opened again.
        let old = until("a connection to each port is open", async || {
            let old: Vec<_> = ports.iter().map(|port| (*port, connections(process, *port))).collect();
            if old.iter().any(|(_, old)| old.is_empty()) { Err(format!("{old:?}")) } else { Ok(old) }
        })
        .await;
        w.apply(login).await;
        for (port, old) in &old {
            until(&format!("all connections to {port} are new ones"), async || {
                let now = connections(process, *port);
                let left = now.intersection(old).count();
                if !now.is_empty() && left == 0 {
                    Ok(())
                } else {
                    Err(format!("{left} old ones of {}", now.len()))
                }
            })
            .await;
        }
        reach(edits.get() + EDITS).await;
        over.set(true);
    };
    futures::join!(load, rotation);

    for object in 0..OBJECTS {
        w.ready::<K>(&format!("o{object}")).await;
    }
    let after = ready_since::<K>(w).await;
    let since: Vec<_> = after.iter().filter(|after| !before.contains(after)).collect();
    assert!(since.is_empty(), "not Ready for a while: {since:?}");
    let events: Api<Event> = Api::namespaced(w.client.clone(), &w.namespace);
    let events = events.list(&ListParams::default()).await.expect("events");
    // A pod of this namespace has a kubelet, which warns of its own troubles.
    let of_ours = |e: &&Event| {
        e.involved_object.api_version.as_deref().is_some_and(|version| version.starts_with("spillway.dev/"))
    };
    let warnings: Vec<_> = events
        .items
        .iter()
        .filter(of_ours)
        .filter(|e| e.type_.as_deref() == Some("Warning"))
        .map(|e| (&e.involved_object.name, &e.reason, &e.message))
        .collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    let log = w.operator().text();
    // A step is part of a pass; the Lease, the watches and the API server are another story.
    let failed: Vec<_> = log
        .lines()
        .filter(|line| {
            line.contains("pass{") && line.contains("failed to ") && !line.contains("failed to write")
        })
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// A user of Kafka with a SCRAM password, gone with the test.
struct KafkaUser(String);

impl KafkaUser {
    fn new(name: &str, password: &str) -> Self {
        let user = Self(name.to_owned());
        if let Err(words) = user.alter("--add-config", &format!("SCRAM-SHA-512=[password={password}]")) {
            panic!("{words}");
        }
        user
    }

    fn alter(&self, what: &str, value: &str) -> Result<(), String> {
        let servers = required("SPILLWAY_TEST_KAFKA");
        let output = Command::new("kafka-configs")
            .args(["--bootstrap-server", &servers, "--alter", "--entity-type", "users"])
            .args(["--entity-name", &self.0, what, value])
            .output()
            .map_err(|error| format!("kafka-configs: {error}"))?;
        let words = String::from_utf8_lossy(&output.stdout);
        if output.status.success() { Ok(()) } else { Err(format!("kafka-configs: {words}")) }
    }
}

impl Drop for KafkaUser {
    fn drop(&mut self) {
        if let Err(words) = self.alter("--delete-config", "SCRAM-SHA-512") {
            eprintln!("{words}");
        }
    }
}

#[test]
fn kafkas_credentials_change_under_load_and_no_step_fails() {
    world(async |w| {
        let sasl = required("SPILLWAY_TEST_KAFKA_SASL");
        let (user, password) =
            (required("SPILLWAY_TEST_KAFKA_USER"), required("SPILLWAY_TEST_KAFKA_PASSWORD"));
        let name = format!("{}-second", w.namespace);
        let second =
            tokio::task::spawn_blocking(move || KafkaUser::new(&name, "another")).await.expect("a thread");
        w.apply(&login_yaml("login", &user, &password)).await;
        w.apply(&format!(
            "apiVersion: spillway.dev/v1alpha1\nkind: Broker\nmetadata: {{name: kafka}}\nspec:\n  resyncInterval: 5s\n  kafka:\n    bootstrapServers: ['{sasl}']\n    sasl: {{mechanism: SCRAM-SHA-512, credentialsSecretRef: {{name: login}}}}\n"
        ))
        .await;
        w.ready::<Broker>("kafka").await;
        // A group that is read each second holds a client, too.
        w.apply(&deployment(w, "worker", 1).await).await;
        w.topic("read", "partitions: 1").await;
        w.ready::<Topic>("read").await;
        w.apply(
            "
            apiVersion: spillway.dev/v1alpha1
            kind: Consumer
            metadata: {name: read}
            spec:
              scaleTargetRef: {name: worker}
              kafka: {brokerRef: {name: kafka}, group: '${PREFIX}read', topics: ['${PREFIX}read'], offsetReset: earliest}
              scaling: {mode: DryRun}
            ",
        )
        .await;
        w.ready::<Consumer>("read").await;

        let edit = async |round: usize| {
            let retention = 60_000 + round;
            let spec = format!("partitions: 1\nconfig: {{retention.ms: '{retention}'}}");
            w.topic(&format!("o{}", round % OBJECTS), &spec).await;
        };
        exchanged_under_load::<Topic>(w, &[port(&sasl)], &login_yaml("login", &second.0, "another"), edit)
            .await;
    });
}

#[test]
fn rabbitmqs_credentials_change_under_load_and_no_step_fails() {
    world(async |w| {
        let second = format!("{}-second", w.namespace);
        w.mq().await.user(&w.namespace, "first", "administrator").await;
        w.mq().await.user(&second, "another", "administrator").await;
        w.apply(&login_yaml("rabbitmq", &w.namespace, "first")).await;
        w.apply(&crate::bed::rabbit_yaml("resyncInterval: 5s")).await;
        w.ready::<Broker>("rabbitmq").await;
        // The depth of a queue is asked for each second, over AMQP.
        w.apply(&deployment(w, "worker", 1).await).await;
        w.queue("read", "type: classic").await;
        w.ready::<Queue>("read").await;
        w.apply(
            "
            apiVersion: spillway.dev/v1alpha1
            kind: Consumer
            metadata: {name: read}
            spec:
              scaleTargetRef: {name: worker}
              rabbitmq: {brokerRef: {name: rabbitmq}, vhost: '${VHOST}', queue: read}
              scaling: {mode: DryRun, maxReplicas: 1}
            ",
        )
        .await;
        w.ready::<Consumer>("read").await;
        let edit = async |round: usize| {
            w.queue(&format!("o{}", round % OBJECTS), &format!("maxLength: {}", 100 + round)).await;
        };
        let bed = RabbitAddress::of_the_bed();
        exchanged_under_load::<Queue>(
            w,
            &[port(&bed.management), port(&bed.amqp)],
            &login_yaml("rabbitmq", &second, "another"),
            edit,
        )
        .await;
    });
}
