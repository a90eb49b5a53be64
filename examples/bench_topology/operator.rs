//! The operator: a process that is started and ended, and what its metrics say.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::process::{Process, free_address};
use crate::objects::Objects;
use crate::{BenchError, Settings, http, until};

/// An end in good order takes less.
const END: Duration = Duration::from_secs(15);
/// Requests to a broker that only read begin with one of these words.
const READS: [&str; 4] = ["Describe", "List", "GlobalParameters", "Overview"];

/// One `spillway run`.
pub struct Operator {
    child: Child,
    log: PathBuf,
    address: String,
    /// When it was started.
    pub begun: Instant,
}

impl Operator {
    /// Starts it for the namespace of `objects`; does not wait for anything. `row` names its log.
    pub fn start(settings: &Settings, objects: &Objects, row: &str) -> Result<Self, BenchError> {
        let failed = |error| BenchError::Run(settings.spillway.clone(), error);
        let log = settings.out.join(format!("operator-{row}.log"));
        let file = File::create(&log).map_err(|error| BenchError::Write(log.clone(), error))?;
        let address = free_address().map_err(failed)?.to_string();
        // It ends with this process, whatever ends that.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(&settings.spillway).args([
            "run",
            "--http-address",
            &address,
        ]);
        command.args(["--watch-namespace", &objects.namespace, "--lease-namespace", &objects.namespace]);
        command.args(["--lease-name", "spillway"]).stdin(Stdio::null());
        command.stdout(file.try_clone().map_err(failed)?).stderr(file);
        let begun = Instant::now();
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child, log, address, begun })
    }

    /// The process, if it has not ended.
    pub fn process(&mut self) -> Result<Process, BenchError> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(BenchError::Ended(status, self.log.clone())),
            _ => Ok(Process(self.child.id())),
        }
    }

    /// Returns once it has ended by itself.
    pub async fn ended(&mut self) -> BenchError {
        loop {
            if let Err(error) = self.process() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Ends it in good order, so that its Lease is free for the next one.
    pub async fn stop(mut self) -> Result<(), BenchError> {
        let failed = |error| BenchError::Run("spillway".into(), error);
        self.process()?.terminate().map_err(failed)?;
        until(END, Duration::from_millis(10), async || {
            let ended = self.child.try_wait().map_err(failed)?;
            Ok(ended.map(drop).ok_or_else(|| "the operator to end after SIGTERM".to_owned()))
        })
        .await
    }

    /// Its metrics now.
    pub async fn metrics(&mut self) -> Result<Metrics, BenchError> {
        self.process()?;
        match http::get(&self.address, "/metrics").await {
            Ok((200, body)) => Ok(Metrics(body)),
            Ok((code, _)) => Err(BenchError::Metrics(format!("status {code}"))),
            Err(error) => Err(BenchError::Metrics(error.to_string())),
        }
    }
}

impl Drop for Operator {
    /// A run that failed leaves no operator behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Metrics as Prometheus reads them.
pub struct Metrics(String);

impl Metrics {
    /// The sum of all series of a metric whose labels pass.
    pub fn sum(&self, metric: &str, labels: impl Fn(&str) -> bool) -> f64 {
        let series = self.0.lines().filter_map(|line| {
            let (labels, value) = line.strip_prefix(metric)?.strip_prefix('{')?.rsplit_once("} ")?;
            Some((labels, value.parse::<f64>().ok()?))
        });
        series.filter(|(found, _)| labels(found)).fold(0.0, |sum, (_, value)| sum + value)
    }

    /// Objects that were looked at and are ready. Brokers are left out.
    pub fn ready(&self) -> f64 {
        self.sum("spillway_object_ready", |labels| !labels.contains("kind=\"Broker\""))
    }

    /// Looks at everything the brokers have, one for each broker.
    pub fn sweeps(&self) -> f64 {
        self.sum("spillway_reconciles_total", |labels| labels.contains("kind=\"Broker\""))
    }

    /// Requests of one operation to brokers.
    pub fn asked(&self, operation: &str) -> f64 {
        let label = format!("operation=\"{operation}\"");
        self.sum("spillway_broker_requests_total", |labels| labels.contains(&label))
    }

    /// Requests to brokers.
    pub fn requests(&self) -> f64 {
        self.sum("spillway_broker_requests_total", |_| true)
    }

    /// Requests to brokers that change something there.
    pub fn writes(&self) -> f64 {
        self.sum("spillway_broker_requests_total", |labels| !reads(labels))
    }
}

fn reads(labels: &str) -> bool {
    let operation = labels.split_once("operation=\"").map_or("", |(_, rest)| rest);
    READS.iter().any(|word| operation.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_write_are_told_from_those_that_read() {
        let metrics = Metrics(
            "# TYPE spillway_broker_requests counter\n\
             spillway_broker_requests_total{broker=\"a/b\",operation=\"ListTopics\",result=\"ok\"} 3\n\
             spillway_broker_requests_total{broker=\"a/b\",operation=\"CreateTopics\",result=\"ok\"} 2\n\
             spillway_broker_request_duration_seconds_count{operation=\"ListTopics\"} 3\n"
                .into(),
        );
        assert!((metrics.requests() - 5.0).abs() < f64::EPSILON);
        assert!((metrics.writes() - 2.0).abs() < f64::EPSILON);
    }
}
