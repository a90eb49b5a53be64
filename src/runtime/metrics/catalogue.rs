//! The registry, and beside it what each metric is called and means: a registry shows only what has
//! series.

use prometheus_client::collector::Collector;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};

use super::labels::Labels;
use super::owned::{Owned, OwnedFamily};

/// What a metric is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The name that queries use; of a histogram without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

/// All metrics of a process.
#[derive(Debug)]
pub(super) struct Catalogue {
    prefix: &'static str,
    registry: Registry,
    described: Vec<Described>,
}

impl Catalogue {
    /// Nothing yet; names will begin with `prefix`.
    pub fn new(prefix: &'static str) -> Self {
        Self { prefix, registry: Registry::default(), described: Vec::new() }
    }

    /// What to encode.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything that was registered, in that order.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// Series whose labels stay.
    pub fn family<L: Labels, M: Metric + TypedMetric + Clone + Default>(
        &mut self,
        name: &str,
        help: &'static str,
    ) -> Family<L, M> {
        self.show(name, help, M::TYPE, L::NAMES, Family::default())
    }

    /// Series that go with their owner.
    pub fn owned<L: Owned, M: Metric + TypedMetric + Clone + Default>(
        &mut self,
        name: &str,
        help: &'static str,
    ) -> OwnedFamily<L, M> {
        OwnedFamily::of_family(self.family(name, help))
    }

    /// Durations.
    pub fn histograms<L: Labels, C>(
        &mut self,
        name: &str,
        help: &'static str,
        buckets: C,
    ) -> Family<L, Histogram, C>
    where
        C: MetricConstructor<Histogram> + Clone + std::fmt::Debug + Send + Sync + 'static,
    {
        let family = Family::new_with_constructor(buckets);
        self.show(name, help, MetricType::Histogram, L::NAMES, family)
    }

    /// One series without labels.
    pub fn gauge(&mut self, name: &str, help: &'static str) -> Gauge {
        self.show(name, help, MetricType::Gauge, &[], Gauge::default())
    }

    /// Metrics that are read when they are asked for.
    pub fn collector(&mut self, collector: Box<dyn Collector>, described: impl Iterator<Item = Described>) {
        self.registry.register_collector(collector);
        self.described.extend(described);
    }

    fn show<M: Metric + Clone>(
        &mut self,
        name: &str,
        help: &'static str,
        kind: MetricType,
        labels: &'static [&'static str],
        metric: M,
    ) -> M {
        self.registry.register(format!("{}_{name}", self.prefix), help, metric.clone());
        match kind {
            MetricType::Counter => self.describe(&format!("{name}_total"), help, "counter", labels),
            MetricType::Histogram => self.describe(name, help, "histogram", labels),
            _ => self.describe(name, help, "gauge", labels),
        }
        metric
    }

    fn describe(
        &mut self,
        name: &str,
        help: &'static str,
        kind: &'static str,
        labels: &'static [&'static str],
    ) {
        let name = format!("{}_{name}", self.prefix);
        self.described.push(Described { name, kind, labels, help });
    }
}
