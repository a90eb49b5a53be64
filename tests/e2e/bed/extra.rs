//! One more Kafka, which a test may kill: nobody else uses it.

use std::process::Command;

use tokio::sync::{Mutex, MutexGuard};

/// The bed's name for it, and its port: beside those of the bed itself.
const NAME: &str = "e2e";
const PORT: &str = "21990";

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A Kafka with a cluster id of its own. Stopped when dropped.
pub struct ExtraKafka {
    unit: String,
    address: String,
    _turn: MutexGuard<'static, ()>,
}

impl ExtraKafka {
    /// Starts it, once no other test has it.
    pub async fn start() -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let extra = Self { unit: format!("kafka-{NAME}"), address: format!("127.0.0.1:{PORT}"), _turn: turn };
        testbed(&["extra-kafka", NAME, PORT]);
        extra
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// SIGKILL.
    pub fn kill(&self) {
        testbed(&["kill", &self.unit]);
    }

    /// Starts it again on its old data.
    pub fn revive(&self) {
        testbed(&["start", &self.unit]);
    }
}

impl Drop for ExtraKafka {
    fn drop(&mut self) {
        testbed(&["stop", &self.unit]);
    }
}

fn testbed(arguments: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/testbed");
    let output = Command::new(script).args(arguments).output().expect("hack/testbed");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hack/testbed {arguments:?}: {words}");
}
