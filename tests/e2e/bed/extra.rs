//! One more Kafka, which a test may kill: nobody else uses it.

use std::process::Command;

use tokio::sync::{Mutex, MutexGuard};

/// The bed's name for it, and its port: beside those of the bed itself.
const NAME: &str = "e2e";
const PORT: &str = "21990";

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/testbed");
/// Where the one with ACLs has users.
const SASL_PORT: &str = "21996";

/// A Kafka with a cluster id of its own. Stopped when dropped.
pub struct ExtraKafka {
    unit: String,
    address: String,
    _turn: MutexGuard<'static, ()>,
}

/// Three brokers, each a controller, too. Stopped when dropped.
pub struct ThreeKafkas {
    _turn: MutexGuard<'static, ()>,
}

/// The bed's name for the three, and the port of the first.
const THREE: &str = "e2e-three";
const FIRST_PORT: u16 = 22_300;

impl ThreeKafkas {
    /// Starts them, once no other test has them.
    pub async fn start() -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
        let three = Self { _turn: ONE_AT_A_TIME.lock().await };
        testbed(&["extra-kafka", THREE, &FIRST_PORT.to_string(), "--nodes", "3"]);
        three
    }

    /// Where they listen.
    pub fn addresses(&self) -> String {
        [0, 2, 4].map(|after| format!("127.0.0.1:{}", FIRST_PORT + after)).join(",")
    }

    /// SIGKILL for one: 1 to 3.
    pub fn kill(&self, node: i32) {
        testbed(&["kill", &format!("kafka-{THREE}-{node}")]);
    }

    /// Starts one again on its old data.
    pub fn revive(&self, node: i32) {
        testbed(&["start", &format!("kafka-{THREE}-{node}")]);
    }
}

impl Drop for ThreeKafkas {
    fn drop(&mut self) {
        for node in 1..=3 {
            // Without its fellows a broker does not end in good order. One may be dead already.
            tidy(&["kill", &format!("kafka-{THREE}-{node}")]);
        }
    }
}

impl ExtraKafka {
    /// Starts it, once no other test has it.
    pub async fn start() -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let extra = Self { unit: format!("kafka-{NAME}"), address: format!("127.0.0.1:{PORT}"), _turn: turn };
        testbed(&["extra-kafka", NAME, PORT]);
        extra
    }

    /// One whose users, at [`Self::sasl`], may do nothing but what an ACL allows.
    pub async fn with_acls() -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let (name, port) = ("e2e-acls", "21994");
        let extra = Self { unit: format!("kafka-{name}"), address: format!("127.0.0.1:{port}"), _turn: turn };
        let mut command = Command::new(SCRIPT);
        let output = command.args(["extra-kafka", name, port]).env("KAFKA_SASL_PORT", SASL_PORT).output();
        let output = output.expect("hack/testbed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        extra
    }

    /// Where users log in.
    pub fn sasl(&self) -> String {
        format!("127.0.0.1:{SASL_PORT}")
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
        tidy(&["stop", &self.unit]);
    }
}

/// A command of the test bed's own script, which has to work.
pub fn testbed(arguments: &[&str]) {
    try_testbed(arguments).unwrap_or_else(|words| panic!("{words}"));
}

/// The same for whoever is being dropped, perhaps because a test fails: a second panic would end all of them.
pub fn tidy(arguments: &[&str]) {
    if let Err(words) = try_testbed(arguments) {
        eprintln!("{words}");
    }
}

/// The same, with what it said instead.
pub fn try_testbed(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(SCRIPT).args(arguments).output().map_err(|error| error.to_string())?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("hack/testbed {arguments:?}: {}", words.trim()))
    }
}
