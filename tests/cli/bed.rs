//! What the tests share: a folder of manifests, the binary, the brokers.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use spillway_operator::brokers::kafka::{KafkaClient, KafkaSettings};

pub const TIMEOUT: Duration = Duration::from_secs(20);

pub fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: these tests need the test bed"))
}

/// A name no other test and no other run uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    format!("cli-{now:x}-{}-{}-{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A folder of manifests that goes with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("folder"));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// A folder with a Broker `kafka` for the bed's Kafka.
    pub fn with_kafka() -> Self {
        let folder = Self::new();
        folder.write("broker.yaml", &kafka_broker("kafka", ""));
        folder
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A Broker for the bed's Kafka without credentials; `more` goes into its spec.
pub fn kafka_broker(name: &str, more: &str) -> String {
    kafka_at(&environment("SPILLWAY_TEST_KAFKA"), name, more)
}

/// That Broker at another address.
pub fn kafka_at(server: &str, name: &str, more: &str) -> String {
    object("Broker", name, &format!("kafka: {{bootstrapServers: ['{server}']}}, {more}"))
}

/// A document; `spec` is the inside of a flow map.
pub fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: spillway.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

/// A Topic on the Broker `kafka`.
pub fn topic(name: &str, more: &str) -> String {
    object("Topic", name, &format!("brokerRef: {{name: kafka}}, {more}"))
}

/// What the binary said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it ended by itself"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Both outputs, for a message.
    pub fn all(&self) -> String {
        format!("exit code {}\n{}{}", self.code, self.out, self.err)
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.all());
        self
    }

    /// Asserts that the output says something.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.err.contains(text), "no {text:?} in\n{}", self.all());
        self
    }
}

/// Runs the binary with these arguments.
pub fn spillway(arguments: &[&str]) -> Said {
    spillway_with(arguments, &[], None)
}

/// Runs the binary on a folder.
pub fn on(verb: &str, folder: &Folder, more: &[&str]) -> Said {
    let path = folder.path().to_str().expect("UTF-8");
    spillway(&[&[verb, "-f", path], more].concat())
}

/// Runs the binary with variables and a text on standard input.
pub fn spillway_with(arguments: &[&str], variables: &[(&str, &str)], input: Option<&str>) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    if let Some(text) = input {
        child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    }
    Said::of(child.wait_with_output().expect("it ends"))
}

/// Runs the binary on a terminal, where somebody types `answer` and goes away. A terminal knows one output only.
pub fn on_a_terminal(arguments: &[&str], variables: &[(&str, &str)], answer: &str) -> Said {
    let typed = [&[env!("CARGO_BIN_EXE_spillway")], arguments].concat().join(" ");
    let mut command = Command::new("script");
    command.args(["-qec", &typed, "/dev/null"]).envs(variables.iter().copied());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script, which Debian has in bsdutils");
    // Who is not asked does not listen either.
    let _ = child.stdin.take().expect("piped").write_all(answer.as_bytes());
    Said::of(child.wait_with_output().expect("it ends"))
}

/// Topics that go when the test ends.
pub struct Topics(pub Vec<String>);

impl Drop for Topics {
    fn drop(&mut self) {
        run(async {
            let _ = client().delete_topics(&self.0, TIMEOUT).await;
        });
    }
}

/// A client of the bed's Kafka; inside of [`run`] only.
pub fn client() -> KafkaClient {
    let settings = KafkaSettings::plaintext(vec![environment("SPILLWAY_TEST_KAFKA")], "spillway-test");
    KafkaClient::connect(&settings).expect("plain settings are valid")
}

/// Runs async work.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(work)
}

/// The bed's RabbitMQ: address, user, password.
pub fn rabbitmq() -> (String, String, String) {
    let url = environment("SPILLWAY_TEST_RABBITMQ");
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (login, host) = rest.split_once('@').expect("credentials");
    let (user, password) = login.split_once(':').expect("a password");
    (format!("{scheme}://{host}"), user.to_owned(), password.to_owned())
}

/// A virtual host of the bed's RabbitMQ that goes when the test ends.
pub struct Vhost(pub String);

impl Vhost {
    pub fn new(what: &str) -> Self {
        let vhost = Self(unique(what));
        vhost.put(&format!("/api/vhosts/{}", vhost.0), "{}");
        vhost
    }

    /// A PUT that must be good; `PATH` begins with a slash.
    #[track_caller]
    pub fn put(&self, path: &str, body: &str) {
        self.send(reqwest::Method::PUT, path, body);
    }

    #[track_caller]
    #[allow(clippy::unused_self)] // It reads better on a bed.
    pub fn send(&self, method: reqwest::Method, path: &str, body: &str) {
        let (url, user, password) = rabbitmq();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let status = run(async {
            let client = reqwest::Client::builder().no_proxy().build().expect("a client");
            let request = client.request(method, format!("{url}{path}")).basic_auth(user, Some(password));
            let request = request.header("content-type", "application/json").body(body.to_owned());
            request.send().await.expect("it answers").status()
        });
        assert!(status.is_success(), "{path}: {status}");
    }

    /// Declares as somebody else does.
    #[track_caller]
    pub fn queue(&self, name: &str, body: &str) {
        self.put(&format!("/api/queues/{}/{name}", self.0), body);
    }

    #[track_caller]
    pub fn exchange(&self, name: &str, body: &str) {
        self.put(&format!("/api/exchanges/{}/{name}", self.0), body);
    }

    #[track_caller]
    pub fn bind(&self, source: &str, to: &str, body: &str) {
        self.send(reqwest::Method::POST, &format!("/api/bindings/{}/e/{source}/{to}", self.0), body);
    }

    /// A client that has queues to itself, for as long as it lives; one with an empty name is named by RabbitMQ.
    pub fn exclusive(&self, names: &[&str]) -> Client {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (_, user, password) = rabbitmq();
        let address = environment("SPILLWAY_TEST_AMQP");
        let (scheme, rest) = address.split_once("://").expect("a scheme");
        let host = rest.rsplit('@').next().and_then(|host| host.split('/').next()).expect("a host");
        let url = format!("{scheme}://{user}:{password}@{host}/{}", self.0);
        let connection = runtime.block_on(async {
            let connection =
                Connection::connect(&url, ConnectionProperties::default()).await.expect("a login");
            let channel = connection.create_channel().await.expect("a channel");
            let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
            for name in names {
                let declared = channel.queue_declare((*name).into(), exclusive, FieldTable::default()).await;
                declared.expect("a queue");
            }
            (connection, channel)
        });
        Client { runtime, connection }
    }

    /// A document on the Broker `rabbitmq` and in this virtual host.
    pub fn object(&self, kind: &str, name: &str, more: &str) -> String {
        object(kind, name, &format!("brokerRef: {{name: rabbitmq}}, vhost: '{}', {more}", self.0))
    }
}

/// A client with a connection of its own, which ends with it.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    connection: (Connection, Channel),
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.connection.0.close(200, "done".into()));
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        self.send(reqwest::Method::DELETE, &format!("/api/vhosts/{}", self.0), "");
    }
}

/// A folder with a Broker `rabbitmq` for the bed's RabbitMQ, and its Secret.
pub fn with_rabbitmq() -> Folder {
    rabbitmq_at(&rabbitmq().0)
}

/// That folder, with another address in it.
pub fn rabbitmq_at(url: &str) -> Folder {
    let (_, user, password) = rabbitmq();
    let folder = Folder::new();
    let spec = format!("rabbitmq: {{managementUrl: '{url}', credentialsSecretRef: {{name: login}}}}");
    let secret = format!(
        "---\n{{apiVersion: v1, kind: Secret, metadata: {{name: login}}, stringData: {{username: '{user}', password: '{password}'}}}}\n"
    );
    folder.write("broker.yaml", &(object("Broker", "rabbitmq", &spec) + &secret));
    folder
}
