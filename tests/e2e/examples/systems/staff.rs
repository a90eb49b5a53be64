//! The workers of a system: for each ready pod of its Consumers one process of `examples/shop`, with the arguments and
//! the environment that stand in the pod. The pods themselves sleep: so no image has to be built and loaded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::bed::World;

/// The label that Spillway gives to the pods of a Consumer.
const CONSUMER: &str = "spillway.dev/consumer";
/// A service finishes the message in hand before it goes.
const GRACE: Duration = Duration::from_secs(10);

/// The shop's binary, beside the operator's.
pub fn shop() -> Command {
    let beside = Path::new(env!("CARGO_BIN_EXE_spillway")).with_file_name("examples/shop");
    assert!(beside.exists(), "{} is not there: cargo build --example shop", beside.display());
    Command::new(beside)
}

/// The processes. All are killed when this is dropped.
pub struct Staff {
    shared: Arc<Mutex<Shared>>,
    folder: PathBuf,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// By the pod's name.
    workers: HashMap<String, Worker>,
    /// Consumers that nobody works for at present.
    off: BTreeSet<String>,
    /// How many were started: each has a log of its own.
    started: usize,
}

struct Worker {
    consumer: String,
    child: Child,
}

impl Staff {
    /// Watches the pods of the world's namespace. `environment` goes to every worker, over what its pod says.
    pub fn hire(w: &World, environment: &[(&str, &str)]) -> Self {
        let shared = Arc::default();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-staff", w.namespace));
        std::fs::create_dir_all(&folder).expect("a folder");
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let office = Office {
            client: w.client.clone(),
            namespace: w.namespace.clone(),
            environment: environment.iter().map(own).collect(),
            folder: folder.clone(),
            shared: Arc::clone(&shared),
        };
        Self { shared, folder, task: tokio::spawn(office.run()) }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody works for the Consumer until [`Staff::back`]; they end in good order.
    pub fn off(&self, consumer: &str) {
        let mut shared = self.shared();
        shared.off.insert(consumer.to_owned());
        let those: Vec<_> = shared.workers.extract_if(|_, worker| worker.consumer == consumer).collect();
        drop(shared);
        for (_, worker) in those {
            worker.leave();
        }
    }

    /// Work begins again.
    pub fn back(&self, consumer: &str) {
        self.shared().off.remove(consumer);
    }

    /// SIGKILL for all who work for the Consumer; others take their places, as a kubelet would have it.
    pub fn kill(&self, consumer: &str) {
        let mut killed = 0;
        for worker in self.shared().workers.values_mut().filter(|worker| worker.consumer == consumer) {
            worker.child.kill().expect("a running process");
            worker.child.wait().expect("an end");
            killed += 1;
        }
        assert!(killed > 0, "nobody works for {consumer}");
    }

    /// What those who work, or worked, for the Consumer logged with this message, in time; an object for each line.
    pub fn logged(&self, consumer: &str, message: &str) -> Vec<Value> {
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(&self.folder).expect("the logs") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.split_once('.').is_some_and(|(_, of)| of == consumer) {
                let text = std::fs::read_to_string(&path).expect("a log");
                lines.extend(text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()));
            }
        }
        lines.retain(|line| line["message"] == message);
        lines.sort_by_key(|line| line["timestamp"].to_string());
        lines
    }

    /// The correlation ids in those lines, one for each line, sorted.
    pub fn ids(&self, consumer: &str, message: &str) -> Vec<String> {
        let id = |line: &Value| line["correlation_id"].as_str().unwrap_or("none").to_owned();
        let mut ids: Vec<_> = self.logged(consumer, message).iter().map(id).collect();
        ids.sort();
        ids
    }
}

impl Drop for Staff {
    fn drop(&mut self) {
        self.task.abort();
        for (_, mut worker) in std::mem::take(&mut self.shared().workers) {
            let _ = worker.child.kill();
            let _ = worker.child.wait();
        }
        // Of a test that failed they tell why.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl Worker {
    /// SIGTERM, and an end.
    fn leave(mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let begun = std::time::Instant::now();
        while begun.elapsed() < GRACE && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts and ends the processes.
struct Office {
    client: Client,
    namespace: String,
    environment: Vec<(String, String)>,
    folder: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

impl Office {
    async fn run(self) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let ours = ListParams::default().labels(CONSUMER);
        let mut look = tokio::time::interval(Duration::from_millis(300));
        loop {
            look.tick().await;
            if let Ok(pods) = pods.list(&ours).await {
                let ready: Vec<_> = pods.items.into_iter().filter(is_ready).collect();
                self.let_go(&ready);
                for pod in ready {
                    self.employ(&pod).await;
                }
            }
        }
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose pod is gone leaves in good order; who ended is forgotten, and will be replaced.
    fn let_go(&self, ready: &[Pod]) {
        let mut shared = self.shared();
        let gone = |pod: &String| !ready.iter().any(|is| is.name_any() == *pod);
        let leaving: Vec<_> = shared
            .workers
            .extract_if(|pod, worker| gone(pod) || worker.child.try_wait().is_ok_and(|end| end.is_some()))
            .collect();
        drop(shared);
        for (_, worker) in leaving {
            tokio::task::spawn_blocking(|| worker.leave());
        }
    }

    async fn employ(&self, pod: &Pod) {
        let name = pod.name_any();
        let consumer = pod.labels().get(CONSUMER).cloned().unwrap_or_default();
        let Some(container) = pod.spec.as_ref().and_then(|spec| spec.containers.first()) else { return };
        {
            let shared = self.shared();
            if shared.workers.contains_key(&name) || shared.off.contains(&consumer) {
                return;
            }
        }
        let mut command = shop();
        command.args(container.args.iter().flatten()).envs(self.variables(&name, container).await);
        command.envs(self.environment.iter().cloned());
        let mut shared = self.shared();
        shared.started += 1;
        let log = self.folder.join(format!("{}.{consumer}", shared.started));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).expect("a log"))
            .spawn()
            .expect("the shop starts");
        shared.workers.insert(name, Worker { consumer, child });
    }

    /// The variables of the container, as a kubelet would make them.
    async fn variables(&self, pod: &str, container: &Container) -> BTreeMap<String, String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut variables = BTreeMap::new();
        for variable in container.env.iter().flatten() {
            let from = variable.value_from.as_ref();
            let value = match from.and_then(|from| from.secret_key_ref.as_ref()) {
                Some(key) => {
                    let secret =
                        secrets.get(&key.name).await.unwrap_or_else(|error| panic!("{}: {error}", key.name));
                    let data = secret.data.unwrap_or_default();
                    String::from_utf8(data[&key.key].0.clone()).expect("UTF-8")
                }
                None if from.is_some() => pod.to_owned(),
                None => variable.value.clone().unwrap_or_default(),
            };
            variables.insert(variable.name.clone(), value);
        }
        variables
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|all| all.iter().any(|is| is.type_ == "Ready" && is.status == "True"))
}
