//! The chart's alerts, fired by a real Prometheus that scrapes a real operator. Their rules are tested one by one by
//! `tests/chart/alerts.yaml`; here is shown that metrics, labels and rules fit together.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use spillway_operator::api::{Broker, Consumer, Topic};

use crate::bed::{ExtraKafka, World, deployment, http, until, world};

/// One Prometheus. Killed, and its data removed, when dropped.
pub struct Prometheus {
    child: Child,
    address: String,
    folder: PathBuf,
}

impl Prometheus {
    /// Starts one that asks the operator every second, and fires what holds for two seconds.
    pub fn start(w: &World, rules: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-prometheus", w.namespace));
        std::fs::create_dir_all(&folder).expect("a folder");
        let quick: Vec<String> = rules
            .lines()
            .map(|line| match line.split_once("for: ") {
                Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 2s"),
                _ => line.to_owned(),
            })
            .collect();
        let alerts = rules.matches("alert: ").count();
        let wait = quick.iter().filter(|line| line.trim() == "for: 2s").count();
        assert!(alerts > 0 && wait == alerts, "of {alerts} alerts {wait} wait before they fire");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yaml]\nscrape_configs:\n- job_name: spillway\n  static_configs: [{{targets: ['{}']}}]\n",
            w.operator().address
        );
        std::fs::write(folder.join("rules.yaml"), quick.join("\n")).expect("rules");
        std::fs::write(folder.join("prometheus.yaml"), config).expect("a configuration");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let log = std::fs::File::create(folder.join("log")).expect("a log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("prometheus does not start ({error}): hack/testbed up tools, and its env")
            });
        Self { child, address, folder }
    }

    /// Waits until an alert fires, or fires no more; the labels and annotations of those that fire.
    pub async fn until(&self, alert: &str, fires: bool) -> Vec<Value> {
        until(&format!("{alert} {}", if fires { "fires" } else { "is over" }), async || {
            let (code, body) =
                http::get(&self.address, "/api/v1/alerts").await.map_err(|error| error.to_string())?;
            let all: Value =
                serde_json::from_str(&body).map_err(|error| format!("{code}: {error}: {body}"))?;
            let firing: Vec<Value> = all["data"]["alerts"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|one| one["labels"]["alertname"] == alert && one["state"] == "firing")
                .cloned()
                .collect();
            if firing.is_empty() == fires { Err(all["data"]["alerts"].to_string()) } else { Ok(firing) }
        })
        .await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn rules() -> String {
    std::fs::read_to_string("charts/spillway/files/alerts.yaml").expect("the chart's rules")
}

#[test]
fn a_dead_broker_and_a_dead_operator_fire_their_alerts() {
    world(async |w| {
        let extra = ExtraKafka::start().await;
        w.broker_at(extra.address(), "resyncInterval: 5s").await;
        w.ready::<Broker>("kafka").await;
        let prometheus = Prometheus::start(w, &rules());
        prometheus.until("SpillwayBrokerDown", false).await;

        extra.kill();
        let firing = prometheus.until("SpillwayBrokerDown", true).await;
        assert_eq!(firing.len(), 1, "{firing:?}");
        assert_eq!(firing[0]["labels"]["severity"], "critical");
        let summary = firing[0]["annotations"]["summary"].as_str().unwrap_or_default();
        assert_eq!(summary, format!("Broker {}/kafka is not ready", w.namespace));
        extra.revive();
        prometheus.until("SpillwayBrokerDown", false).await;

        prometheus.until("SpillwayDown", false).await;
        for operator in w.operators() {
            operator.kill();
        }
        prometheus.until("SpillwayDown", true).await;
    });
}

#[test]
fn messages_that_wait_while_no_replica_ever_is_ready_fire_the_lag_alert() {
    world(async |w| {
        w.broker("").await;
        w.topic("orders", "partitions: 3").await;
        w.ready::<Topic>("orders").await;
        let nowhere = "spec: {nodeSelector: {spillway.dev/none: here}, hostNetwork: true";
        w.apply(&deployment(w, "worker", 1).await.replace("spec: {hostNetwork: true", nowhere)).await;
        w.consumer(
            "orders",
            "scaleTargetRef: {name: worker}\nscaling: {ratePerReplica: '10', targetDelay: 2s}",
        )
        .await;
        w.ready::<Consumer>("orders").await;
        let prometheus = Prometheus::start(w, &rules());
        prometheus.until("SpillwayLagBehindTarget", false).await;
        w.kafka.produce(&w.name("orders"), 0, 300).await;
        let firing = prometheus.until("SpillwayLagBehindTarget", true).await;
        assert_eq!(firing.len(), 1, "{firing:?}");
        let summary = firing[0]["annotations"]["summary"].as_str().unwrap_or_default();
        assert_eq!(summary, format!("Consumer {}/orders is behind its target", w.namespace));
        // As nobody knows how long they wait, the alert goes by what the metrics do not say.
        let (_, metrics) = http::get(&w.operator().address, "/metrics").await.expect("metrics");
        let of = format!("{{namespace=\"{}\",name=\"orders\"}}", w.namespace);
        assert!(metrics.contains(&format!("spillway_consumer_lag_messages{of} 300")), "{metrics}");
        assert!(!metrics.contains(&format!("spillway_consumer_lag_seconds{of}")), "{metrics}");
        w.delete::<Consumer>("orders").await;
        prometheus.until("SpillwayLagBehindTarget", false).await;
    });
}
