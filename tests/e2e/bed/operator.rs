//! The real binary as a child process: started, stopped, killed, its log kept.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::http;
use super::wait::{until, until_within};

/// The binary to test: the one of this build, or `SPILLWAY_TEST_BINARY`.
pub fn binary() -> String {
    std::env::var("SPILLWAY_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_spillway").to_owned())
}

/// How an operator is started, beyond what every test wants.
#[derive(Clone, Default)]
pub struct Start {
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
}

/// One `spillway run`. Dropping it kills it.
pub struct Operator {
    child: Mutex<Child>,
    log: PathBuf,
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub address: String,
}

impl Operator {
    /// Starts it for `namespaces` only, with its Lease in the first of them. Returns when it is ready.
    pub async fn start(namespaces: &[String], log: &Path, how: &Start) -> Self {
        let operator = Self::launch(namespaces, log, how).await;
        until("the operator is ready", async || match http::get(&operator.address, "/readyz").await {
            Ok((200, _)) => Ok(()),
            Ok((code, body)) => Err(format!("{code}: {body}")),
            Err(error) => Err(error.to_string()),
        })
        .await;
        operator
    }

    async fn launch(namespaces: &[String], log: &Path, how: &Start) -> Self {
        let file = File::create(log).expect("a log file");
        let mut command = Command::new(binary());
        command.arg("run").args(["--http-address", "127.0.0.1:0"]);
        command.args(["--lease-namespace", &namespaces[0]]);
        for namespace in namespaces {
            command.args(["--watch-namespace", namespace]);
        }
        let child = command
            .args(&how.arguments)
            .env("SPILLWAY_LOG", "info,spillway_operator=debug")
            .envs(how.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the spillway binary starts");
        let mut operator = Self { child: Mutex::new(child), log: log.to_owned(), address: String::new() };
        operator.address = until("the operator listens", async || {
            if let Some(status) = operator.exited() {
                panic!("the operator ended at its start: {status}\n{}", operator.tail());
            }
            listening(&operator.text()).map(str::to_owned).ok_or_else(|| "no such line in its log".to_owned())
        })
        .await;
        operator
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child().id()
    }

    /// Sends a signal by its name, such as TERM, STOP, CONT.
    pub fn signal(&self, name: &str) {
        let process = self.child().id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &process]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} {process}");
    }

    /// SIGKILL: no time to clean up.
    pub fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// SIGTERM, then how it ended.
    pub async fn stop(&self) -> ExitStatus {
        self.signal("TERM");
        self.ended(Duration::from_secs(12)).await
    }

    /// Waits for its end.
    pub async fn ended(&self, limit: Duration) -> ExitStatus {
        until_within(limit, "the operator ends", async || {
            self.exited().ok_or_else(|| "it runs on".to_owned())
        })
        .await
    }

    /// How it ended, if it did.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("a child of this process")
    }

    /// A metric's value: the line that begins with `series` and a blank.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics").await.ok()?;
        let line = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// How it is: how it ended, or what it says of its own health.
    pub async fn health(&self) -> String {
        if let Some(status) = self.exited() {
            return format!("--- it ended: {status} ---\n");
        }
        match self.get("/healthz").await {
            Ok((code, body)) => format!("--- /healthz: {code} ---\n{body}"),
            Err(error) => format!("--- /healthz: {error} ---\n"),
        }
    }

    /// Asks it; a frozen one never answers.
    async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let asked = tokio::time::timeout(Duration::from_secs(5), http::get(&self.address, path)).await;
        asked.map_err(|_| "no answer within 5 s".to_owned())?.map_err(|error| error.to_string())
    }

    /// Its whole log.
    pub fn text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("--- the last lines of {} ---\n{last}\n", self.log.display())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address that a log names, whatever its format.
fn listening(log: &str) -> Option<&str> {
    let line = log.lines().find(|line| line.contains("listening for health and metrics"))?;
    let (_, rest) = line.split_once("address=").or_else(|| line.split_once("\"address\":\""))?;
    rest.split(['"', ' ']).next()
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
    }
}
