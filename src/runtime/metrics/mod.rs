//! Every metric there is, and the one way to feed each.
//!
//! Cardinality is bounded: labels are from closed sets (`&'static str`), or name an object; what
//! names an object goes when the object goes ([`Metrics::forget_object`],
//! [`Metrics::forget_consumer`], [`Metrics::forget_broker`]).

mod catalogue;
mod labels;
mod owned;
mod process;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use catalogue::Catalogue;
pub use catalogue::Described;
use labels::{
    ApiWrite, Broker, BrokerRequest, Build, Consumer, Decision, Guard, Kind, Object, Operation, Reconcile,
    ScalePatch, Waiting,
};
use owned::OwnedFamily;

use crate::brokers::lane::Lane;

type Float = Gauge<f64, AtomicU64>;

/// The kinds whose objects are at brokers.
const TOPOLOGY: [&str; 4] = ["Topic", "Exchange", "Queue", "Binding"];
/// How a pass ends.
const RESULTS: [&str; 2] = ["ok", "error"];

/// 1 ms to 16 s.
#[derive(Clone, Debug)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
    }
}

type Durations<L> = Family<L, Histogram, Buckets>;

/// What is known of a Consumer just now. What is None has no series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ConsumerFigures {
    /// Messages that the consumer has not processed.
    pub lag_messages: Option<u64>,
    /// How long the oldest of them has waited, in seconds.
    pub lag_seconds: Option<f64>,
    /// Replicas that the target is set to.
    pub replicas: Option<u32>,
    /// Replicas that it should be set to.
    pub desired_replicas: Option<u32>,
    /// Messages a second that arrive.
    pub arrival_rate: Option<f64>,
    /// Messages a second that one replica processes.
    pub rate_per_replica: Option<f64>,
}

/// All metrics of the process. Cheap to clone; all clones are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    catalogue: Catalogue,
    reconciles: Family<Reconcile, Counter>,
    reconcile_duration: Durations<Kind>,
    passes_waiting: Family<Waiting, Gauge>,
    broker_requests: OwnedFamily<BrokerRequest, Counter>,
    broker_request_duration: Durations<Operation>,
    object_ready: Family<Object, Gauge>,
    object_in_sync: Family<Object, Gauge>,
    left_alone: Family<Object, Gauge>,
    last_vanished: Family<Kind, Float>,
    vanished: Family<Kind, Counter>,
    drift_corrected: Family<Kind, Counter>,
    released: Family<Kind, Counter>,
    lag_messages: OwnedFamily<Consumer, Gauge>,
    lag_seconds: OwnedFamily<Consumer, Float>,
    replicas: OwnedFamily<Consumer, Gauge>,
    desired_replicas: OwnedFamily<Consumer, Gauge>,
    arrival_rate: OwnedFamily<Consumer, Float>,
    rate_per_replica: OwnedFamily<Consumer, Float>,
    target_delay: OwnedFamily<Consumer, Float>,
    dead_letters: OwnedFamily<Consumer, Gauge>,
    guards: OwnedFamily<Guard, Gauge>,
    decisions: OwnedFamily<Decision, Counter>,
    scale_patches: OwnedFamily<ScalePatch, Counter>,
    sweep_duration: OwnedFamily<Broker, Float>,
    leader: Gauge,
    api_writes: Family<ApiWrite, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, without series of what may come.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self::bare();
        metrics.begin();
        metrics
    }

    /// Counters whose series are few and known count from 0: `increase()` does not see with what a series begins, and the
    /// first loss of a kind is as bad as the second.
    fn begin(&self) {
        let inner = &*self.0;
        for kind in TOPOLOGY {
            for counter in [&inner.vanished, &inner.drift_corrected, &inner.released] {
                drop(counter.get_or_create(&Kind { kind }));
            }
        }
        for kind in TOPOLOGY.into_iter().chain(["Broker", "Consumer"]) {
            for result in RESULTS {
                drop(inner.reconciles.get_or_create(&Reconcile { kind, result }));
            }
        }
    }

    fn bare() -> Self {
        let mut r = Catalogue::new("spillway");
        let build = Build {
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("SPILLWAY_REVISION").unwrap_or("unknown"),
        };
        let versions: Family<Build, Gauge> = r.family("build_info", "The version that runs");
        versions.get_or_create(&build).set(1);
        r.collector(Box::new(process::ThisProcess::begins()), process::described());
        Self(Arc::new(Inner {
            reconciles: r.family("reconciles", "Passes over one object, by result (ok, error)"),
            reconcile_duration: r
                .histograms("reconcile_duration_seconds", "How long a pass over one object takes", Buckets),
            passes_waiting: r.family(
                "passes_waiting",
                "Passes that wait for their turn, by kind and lane: after an edit (user), or a look at everything (resync)",
            ),
            broker_requests: r.owned(
                "broker_requests",
                "Requests to a broker (namespace/name of the Broker), by operation and result",
            ),
            broker_request_duration: r.histograms(
                "broker_request_duration_seconds",
                "How long brokers take to answer, by operation",
                Buckets,
            ),
            object_ready: r.family("object_ready", "1 if the object's Ready condition is True, else 0"),
            object_in_sync: r.family(
                "object_in_sync",
                "1 if the broker matches the object (of a Broker: all its objects), 0 if not; no series if unknown",
            ),
            left_alone: r.family(
                "object_left_alone",
                "1 if the broker differs from the object and is left alone, as managementPolicy or driftPolicy ask; no series otherwise",
            ),
            last_vanished: r.family(
                "objects_last_vanished_timestamp_seconds",
                "When an object vanished last, in seconds since 1970; no series before the first",
            ),
            vanished: r.family("objects_vanished", "Objects that vanished from a broker, or were replaced there, behind our back"),
            drift_corrected: r.family(
                "drift_corrected",
                "Objects that were brought back in step after somebody changed them at the broker",
            ),
            released: r.family("released", "Deleted objects that were let go without touching the broker"),
            lag_messages: r.owned("consumer_lag_messages", "Messages that the consumer has not processed"),
            lag_seconds: r
                .owned("consumer_lag_seconds", "How long a message that arrives now waits at the present rate"),
            replicas: r.owned("consumer_replicas", "Replicas that the scale target is set to"),
            desired_replicas: r
                .owned("consumer_desired_replicas", "Replicas that the scale target should be set to"),
            arrival_rate: r.owned("consumer_arrival_rate", "Messages a second that arrive"),
            rate_per_replica: r
                .owned("consumer_rate_per_replica", "Messages a second that one replica processes"),
            target_delay: r
                .owned("consumer_target_delay_seconds", "How long a message may wait: scaling.targetDelay"),
            dead_letters: r.owned(
                "consumer_dead_letters",
                "Messages ever written to the dead-letter topic or queue that the breaker watches, as its broker counts them: a gauge, as that begins anew when the topic or queue does; ask with delta()",
            ),
            guards: r.owned(
                "consumer_guard",
                "1 for each scaling guard that stands, by the name of its condition; no series where it does not",
            ),
            decisions: r.owned("scaling_decisions", "Scaling decisions, by what bounded the result"),
            scale_patches: r.owned("scale_patches", "Writes to a scale target, by direction (up, down)"),
            sweep_duration: r
                .owned("lag_sweep_duration_seconds", "How long the last reading of all offsets of a broker took"),
            leader: r.gauge("leader", "1 if this process is the leader, else 0"),
            api_writes: r.family("api_writes", "Writes to the Kubernetes API, by verb and resource"),
            catalogue: r,
        }))
    }

    /// Every metric there is, whether it has series or not.
    #[must_use]
    pub fn described(&self) -> &[Described] {
        self.0.catalogue.described()
    }

    /// The metrics as `OpenMetrics` text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut body = String::new();
        // Writing into a String fails only if a metric refuses to be encoded; what came before is good.
        if let Err(error) = text::encode(&mut body, self.0.catalogue.registry()) {
            tracing::error!(%error, "failed to encode the metrics");
        }
        body
    }

    /// The metrics in the older text format, for who does not ask for `OpenMetrics`.
    #[must_use]
    pub fn encode_plain(&self) -> String {
        plain(&self.encode())
    }

    /// One pass over an object of `kind` ended.
    pub fn reconciled(&self, kind: &'static str, ok: bool, elapsed: Duration) {
        let [well, badly] = RESULTS;
        let result = if ok { well } else { badly };
        self.0.reconciles.get_or_create(&Reconcile { kind, result }).inc();
        self.0.reconcile_duration.get_or_create(&Kind { kind }).observe(elapsed.as_secs_f64());
    }

    /// So many passes over objects of `kind` wait for their turn, in each lane.
    pub fn waiting(&self, kind: &'static str, waiting: &[(Lane, usize)]) {
        for (lane, count) in waiting {
            let lane = match lane {
                Lane::User => "user",
                Lane::Resync => "resync",
            };
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.0.passes_waiting.get_or_create(&Waiting { kind, lane }).set(count);
        }
    }

    /// `broker` (`namespace/name`) answered, or did not: `result` is `ok` or an error's code.
    pub fn broker_request(
        &self,
        broker: &str,
        operation: &'static str,
        result: &'static str,
        elapsed: Duration,
    ) {
        let labels = BrokerRequest { namespace: namespace(broker), broker: broker.into(), operation, result };
        self.0.broker_requests.of(labels).inc();
        self.0.broker_request_duration.get_or_create(&Operation { operation }).observe(elapsed.as_secs_f64());
    }

    /// All offsets of `broker` (`namespace/name`) were read.
    pub fn lag_sweep(&self, broker: &str, elapsed: Duration) {
        let labels = Broker { namespace: namespace(broker), broker: broker.into() };
        self.0.sweep_duration.of(labels).set(elapsed.as_secs_f64());
    }

    /// The Broker is gone.
    pub fn forget_broker(&self, broker: &str) {
        self.0.broker_requests.forget(&broker.to_owned());
        self.0.sweep_duration.forget(&broker.to_owned());
    }

    /// An object's Ready and `InSync` as they stand in its status; None where they are Unknown or absent.
    pub fn object(
        &self,
        kind: &'static str,
        namespace: &str,
        name: &str,
        ready: Option<bool>,
        in_sync: Option<bool>,
    ) {
        let labels = object(kind, namespace, name);
        self.0.object_ready.get_or_create_owned(&labels).set(i64::from(ready == Some(true)));
        match in_sync {
            Some(in_sync) => drop(self.0.object_in_sync.get_or_create_owned(&labels).set(i64::from(in_sync))),
            None => drop(self.0.object_in_sync.remove(&labels)),
        }
    }

    /// Whether the broker differs from an object and is to be left alone.
    pub fn left_alone(&self, kind: &'static str, namespace: &str, name: &str, is: bool) {
        let labels = object(kind, namespace, name);
        if is {
            self.0.left_alone.get_or_create_owned(&labels).set(1);
        } else {
            self.0.left_alone.remove(&labels);
        }
    }

    /// The object is gone.
    pub fn forget_object(&self, kind: &'static str, namespace: &str, name: &str) {
        let labels = object(kind, namespace, name);
        self.0.object_ready.remove(&labels);
        self.0.object_in_sync.remove(&labels);
        self.0.left_alone.remove(&labels);
    }

    /// A broker's object vanished or was replaced.
    pub fn vanished(&self, kind: &'static str) {
        self.0.vanished.get_or_create(&Kind { kind }).inc();
        if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            self.0.last_vanished.get_or_create(&Kind { kind }).set(now.as_secs_f64());
        }
    }

    /// Drift of a broker's object was corrected.
    pub fn drift_corrected(&self, kind: &'static str) {
        self.0.drift_corrected.get_or_create(&Kind { kind }).inc();
    }

    /// A deleted object was let go by force-release.
    pub fn released(&self, kind: &'static str) {
        self.0.released.get_or_create(&Kind { kind }).inc();
    }

    /// What is known of a Consumer just now.
    pub fn consumer(&self, namespace: &str, name: &str, figures: &ConsumerFigures) {
        let labels = Consumer { namespace: namespace.into(), name: name.into() };
        let messages = figures.lag_messages.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        set(&self.0.lag_messages, labels.clone(), messages);
        set(&self.0.replicas, labels.clone(), figures.replicas.map(i64::from));
        set(&self.0.desired_replicas, labels.clone(), figures.desired_replicas.map(i64::from));
        set_float(&self.0.lag_seconds, labels.clone(), figures.lag_seconds);
        set_float(&self.0.arrival_rate, labels.clone(), figures.arrival_rate);
        set_float(&self.0.rate_per_replica, labels, figures.rate_per_replica);
    }

    /// What a Consumer aims at, and the end of what its breaker watches.
    pub fn consumer_aim(&self, namespace: &str, name: &str, target_delay: f64, dead_letters: Option<i64>) {
        let labels = Consumer { namespace: namespace.into(), name: name.into() };
        set_float(&self.0.target_delay, labels.clone(), Some(target_delay));
        set(&self.0.dead_letters, labels, dead_letters);
    }

    /// The guards that stand just now; all others of the Consumer do not.
    pub fn consumer_guards(&self, namespace: &str, name: &str, standing: &[&'static str]) {
        let labels = |guard| Guard { namespace: namespace.into(), name: name.into(), guard };
        self.0
            .guards
            .keep(&(namespace.to_owned(), name.to_owned()), |series| standing.contains(&series.guard));
        for guard in standing {
            self.0.guards.of(labels(guard)).set(1);
        }
    }

    /// A scaling decision was made; `bound` names what bounded it.
    pub fn scaling_decision(&self, namespace: &str, name: &str, bound: &'static str) {
        let labels = Decision { namespace: namespace.into(), name: name.into(), bound };
        self.0.decisions.of(labels).inc();
    }

    /// A scale target was written.
    pub fn scale_patch(&self, namespace: &str, name: &str, from: u32, to: u32) {
        let direction = if to > from { "up" } else { "down" };
        let labels = ScalePatch { namespace: namespace.into(), name: name.into(), direction };
        self.0.scale_patches.of(labels).inc();
    }

    /// The Consumer is gone.
    pub fn forget_consumer(&self, namespace: &str, name: &str) {
        let owner = (namespace.to_owned(), name.to_owned());
        let inner = &*self.0;
        for gauges in [&inner.lag_messages, &inner.replicas, &inner.desired_replicas, &inner.dead_letters] {
            gauges.forget(&owner);
        }
        for gauges in [&inner.lag_seconds, &inner.arrival_rate, &inner.rate_per_replica, &inner.target_delay]
        {
            gauges.forget(&owner);
        }
        inner.guards.forget(&owner);
        self.forget_object("Consumer", namespace, name);
        inner.decisions.forget(&owner);
        inner.scale_patches.forget(&owner);
    }

    /// Whether this process leads.
    pub fn leader(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// Something was written to the Kubernetes API.
    pub fn api_write(&self, verb: &'static str, resource: &'static str) {
        self.0.api_writes.get_or_create(&ApiWrite { verb, resource }).inc();
    }
}

fn object(kind: &'static str, namespace: &str, name: &str) -> Object {
    Object { kind, namespace: namespace.into(), name: name.into() }
}

fn set<L: owned::Owned>(gauges: &OwnedFamily<L, Gauge>, labels: L, value: Option<i64>) {
    match value {
        Some(value) => drop(gauges.of(labels).set(value)),
        None => gauges.remove(&labels),
    }
}

fn set_float<L: owned::Owned>(gauges: &OwnedFamily<L, Float>, labels: L, value: Option<f64>) {
    match value {
        Some(value) => drop(gauges.of(labels).set(value)),
        None => gauges.remove(&labels),
    }
}

/// The namespace of a Broker that is called `namespace/name`.
fn namespace(broker: &str) -> String {
    broker.split_once('/').map_or("", |(namespace, _)| namespace).to_owned()
}

/// `OpenMetrics` text in Prometheus' own format, 0.0.4: there, a counter is called what its series are.
fn plain(text: &str) -> String {
    let counters: HashSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let about = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let name = about.and_then(|about| about.split(' ').next()).filter(|name| counters.contains(name));
        match name {
            Some(name) => plain.push_str(&line.replacen(name, &format!("{name}_total"), 1)),
            None => plain.push_str(line),
        }
        plain.push('\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(metrics: &Metrics) -> Vec<String> {
        let text = metrics.encode();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn without_objects_there_are_no_series_of_objects() {
        let lines = lines(&Metrics::new());
        assert!(lines[0].starts_with("spillway_build_info{version=\"0."), "{lines:?}");
        let others: Vec<_> = lines[1..].iter().filter(|line| !line.contains("{kind=")).collect();
        let names = others.iter().filter_map(|line| line.split(' ').next()).collect::<Vec<_>>();
        assert_eq!(
            names,
            [
                "spillway_leader",
                "process_start_time_seconds",
                "process_cpu_seconds_total",
                "process_resident_memory_bytes",
                "process_virtual_memory_bytes",
                "process_open_fds",
                "process_max_fds",
            ]
        );
        assert!(others.iter().any(|line| *line == "spillway_leader 0"), "{others:?}");
        assert!(!lines.iter().any(|line| line.contains("name=")), "{lines:?}");
    }

    #[test]
    fn a_counter_of_losses_is_there_before_the_first_one() {
        let lines = lines(&Metrics::new());
        let kinds = ["Topic", "Exchange", "Queue", "Binding"];
        let loss = |kind| format!("spillway_objects_vanished_total{{kind=\"{kind}\"}} 0");
        let drift = |kind| format!("spillway_drift_corrected_total{{kind=\"{kind}\"}} 0");
        let released = |kind| format!("spillway_released_total{{kind=\"{kind}\"}} 0");
        for line in kinds.into_iter().flat_map(|kind| [loss(kind), drift(kind), released(kind)]) {
            assert!(lines.contains(&line), "{line} is not in {lines:#?}");
        }
        for kind in kinds.into_iter().chain(["Broker", "Consumer"]) {
            for result in ["ok", "error"] {
                let line = format!("spillway_reconciles_total{{kind=\"{kind}\",result=\"{result}\"}} 0");
                assert!(lines.contains(&line), "{line} is not in {lines:#?}");
            }
        }
    }

    #[test]
    fn what_is_about_a_broker_can_be_asked_for_by_its_namespace() {
        let metrics = Metrics::new();
        metrics.broker_request("shop/kafka", "ListTopics", "ok", Duration::from_millis(3));
        metrics.lag_sweep("shop/kafka", Duration::from_secs(2));
        let lines = lines(&metrics);
        for series in ["spillway_broker_requests_total", "spillway_lag_sweep_duration_seconds"] {
            let begin = format!("{series}{{namespace=\"shop\",broker=\"shop/kafka\"");
            assert!(lines.iter().any(|line| line.starts_with(&begin)), "{begin} is not in {lines:#?}");
        }
    }

    #[test]
    fn counters_end_in_total() {
        let metrics = Metrics::new();
        metrics.reconciled("Topic", false, Duration::from_millis(3));
        metrics.released("Topic");
        let lines = lines(&metrics);
        let has = |line: &str| assert!(lines.iter().any(|l| l == line), "{line} is not in {lines:#?}");
        has("spillway_reconciles_total{kind=\"Topic\",result=\"error\"} 1");
        has("spillway_released_total{kind=\"Topic\"} 1");
        has("spillway_reconcile_duration_seconds_bucket{le=\"0.002\",kind=\"Topic\"} 0");
        has("spillway_reconcile_duration_seconds_bucket{le=\"0.005\",kind=\"Topic\"} 1");
    }

    #[test]
    fn the_older_format_names_counters_as_their_series_and_knows_no_end() {
        let metrics = Metrics::new();
        metrics.vanished("Topic");
        let plain = metrics.encode_plain();
        assert!(plain.contains("\n# TYPE spillway_objects_vanished_total counter\n"), "{plain}");
        assert!(plain.contains("# TYPE spillway_build_info gauge\n"), "{plain}");
        let typed = ["counter", "gauge", "histogram"];
        for line in plain.lines().filter(|line| line.starts_with('#')) {
            let known = line.starts_with("# HELP ") || typed.iter().any(|kind| line.ends_with(kind));
            assert!(known, "{line}");
        }
    }

    #[test]
    fn a_forgotten_object_leaves_no_series() {
        let metrics = Metrics::new();
        let empty = lines(&metrics);
        metrics.object("Topic", "ns", "a", Some(true), Some(false));
        metrics.left_alone("Topic", "ns", "a", true);
        metrics.consumer(
            "ns",
            "a",
            &ConsumerFigures {
                lag_messages: Some(7),
                lag_seconds: Some(1.5),
                replicas: Some(1),
                desired_replicas: Some(3),
                arrival_rate: Some(0.5),
                rate_per_replica: Some(2.0),
            },
        );
        metrics.object("Consumer", "ns", "a", Some(true), None);
        metrics.consumer_aim("ns", "a", 15.0, Some(3));
        metrics.consumer_guards("ns", "a", &["BreakerOpen", "PartitionBound"]);
        for bound in ["Lag", "Rate", "Max"] {
            metrics.scaling_decision("ns", "a", bound);
        }
        metrics.scale_patch("ns", "a", 1, 3);
        metrics.scale_patch("ns", "a", 3, 1);
        metrics.lag_sweep("ns/kafka", Duration::from_millis(9));
        assert_eq!(lines(&metrics).len(), empty.len() + 20);
        metrics.forget_object("Topic", "ns", "a");
        metrics.forget_consumer("ns", "a");
        metrics.forget_broker("ns/kafka");
        assert_eq!(lines(&metrics), empty);
    }

    #[test]
    fn what_is_not_known_has_no_series() {
        let metrics = Metrics::new();
        let known = ConsumerFigures { lag_messages: Some(7), ..ConsumerFigures::default() };
        metrics.consumer("ns", "a", &known);
        assert!(metrics.encode().contains("spillway_consumer_lag_messages{namespace=\"ns\",name=\"a\"} 7"));
        metrics.consumer("ns", "a", &ConsumerFigures::default());
        assert!(!metrics.encode().contains("lag_messages{"));
    }

    #[test]
    fn a_guard_that_fell_has_no_series() {
        let metrics = Metrics::new();
        metrics.consumer_guards("ns", "a", &["BreakerOpen", "PartitionBound"]);
        metrics.consumer_guards("ns", "b", &["BreakerOpen"]);
        metrics.consumer_guards("ns", "a", &["PartitionBound"]);
        let lines = lines(&metrics);
        let guards: Vec<_> = lines.iter().filter(|line| line.contains("consumer_guard{")).collect();
        assert_eq!(guards.len(), 2, "{guards:?}");
        assert!(
            guards.iter().any(|line| line.contains("name=\"a\",guard=\"PartitionBound\"} 1")),
            "{guards:?}"
        );
    }

    #[test]
    fn passes_wait_by_kind_and_lane() {
        let metrics = Metrics::new();
        metrics.waiting("Topic", &[(Lane::User, 1), (Lane::Resync, 2)]);
        metrics.waiting("Topic", &[(Lane::User, 0), (Lane::Resync, 2)]);
        let said = metrics.encode();
        assert!(said.contains("spillway_passes_waiting{kind=\"Topic\",lane=\"user\"} 0"), "{said}");
        assert!(said.contains("spillway_passes_waiting{kind=\"Topic\",lane=\"resync\"} 2"), "{said}");
    }

    #[test]
    fn names_with_quotes_and_newlines_are_escaped() {
        let metrics = Metrics::new();
        metrics.object("Topic", "n\"s", "a\nb", Some(true), None);
        assert!(metrics.encode().contains(r#"namespace="n\"s",name="a\nb""#), "{}", metrics.encode());
    }
}
