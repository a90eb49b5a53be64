//! What is measured, in order. The limit of a row comes right before the row, on objects of its own that nobody
//! else acts on, so that both meet the same machine.
//!
//! An operator's time begins when its process is started, with all objects (or edits) waiting for it in the API
//! server: reading thousands of them is part of it, accepting them from their author is not, which takes the API
//! server as long as all else together. It ends when the last object is ready for what its spec says.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kafka::{CONFIG, Kafka};
use crate::limit::Limit;
use crate::objects::{Counts, Kind, Objects};
use crate::operator::Operator;
use crate::report::Report;
use crate::{BenchError, NAMESPACES, PATIENCE, PREFIX, Settings, restart, until};

/// How many objects of each kind a full run makes.
const TOPICS: usize = 5_000;
/// Topics that one request creates: Kafka takes no more than 10,000 records in one.
const CREATED_AT_ONCE: usize = 100;
/// Topics that one request configures.
const CONFIGURED_AT_ONCE: usize = 500;
/// The config's value as the topics are created with it, and as it is changed to.
const CONFIGS: [&str; 2] = ["3600000", "7200000"];

/// What all rows work with.
pub struct Bench<'a> {
    pub settings: &'a Settings,
    pub kafka: Kafka,
    /// What the operator watches.
    pub objects: Objects,
    /// What the bare client writes to.
    limit: Objects,
    pub topics: Vec<String>,
}

/// Measures all rows, and reports.
pub async fn run(settings: &Settings) -> Result<(), BenchError> {
    let names = |letter: &str, full| (0..settings.scaled(full)).map(|n| format!("{letter}-{n:05}")).collect();
    let bench = Bench {
        settings,
        kafka: Kafka::connect(&settings.place.kafka)?,
        objects: Objects::connect(NAMESPACES[0]).await?,
        limit: Objects::connect(NAMESPACES[1]).await?,
        topics: names("t", TOPICS),
    };
    let mut report = Report::begin(settings);
    for objects in [&bench.objects, &bench.limit] {
        objects.make_namespace().await?;
    }
    let broker = json!({"kafka": {"bootstrapServers": settings.place.kafka.split(',').collect::<Vec<_>>()}});
    bench.objects.create(Kind::Broker, std::iter::once(("kafka".to_owned(), broker))).await?;

    bench.topics_created(&mut report).await?;
    bench.topics_configured(&mut report).await?;
    bench.topics_restored(&mut report).await?;
    restart::in_step(&bench, &mut report).await?;
    let operator = restart::with_edits(&bench, &mut report).await?;
    restart::rest(&bench, operator, &mut report).await?;
    report.finish()
}

impl Bench<'_> {
    /// All objects that the operator is to look at, Brokers left out.
    pub fn all(&self) -> usize {
        self.topics.len()
    }

    async fn topics_created(&self, report: &mut Report<'_>) -> Result<(), BenchError> {
        self.create_topics(&self.limit).await?;
        let limit = self
            .limit_of_topics(CREATED_AT_ONCE, 1)
            .measure(async |names| Ok(self.kafka.create(&names, CONFIGS[0]).await?))
            .await?;
        let rate = self.create_topics(&self.objects).await?;
        let ours =
            self.started("topics-created", Kind::Topic, |counts| counts.ready == self.topics.len()).await?;
        report.row("topics_create", &format!("{} topics created", self.topics.len()), ours, limit);
        report.note(&format!("The API server accepted {rate:.0} Topics a second while nobody else worked."));
        Ok(())
    }

    async fn topics_configured(&self, report: &mut Report<'_>) -> Result<(), BenchError> {
        self.edit_topics(&self.limit).await?;
        let limit = self
            .limit_of_topics(CONFIGURED_AT_ONCE, 2)
            .measure(async |names| Ok(self.kafka.configure(&names, CONFIGS[1]).await?))
            .await?;
        self.kafka.clear(NAMESPACES[1]).await?;
        self.limit.delete_all(Kind::Topic).await?;
        self.edit_topics(&self.objects).await?;
        let ours = self
            .started("topics-configured", Kind::Topic, |counts| counts.ready == self.topics.len())
            .await?;
        report.row(
            "topics_config",
            &format!("a config changed on {} topics", self.topics.len()),
            ours,
            limit,
        );
        Ok(())
    }

    /// The broker is emptied while the operator is away. The limit is that of the creation.
    async fn topics_restored(&self, report: &mut Report<'_>) -> Result<(), BenchError> {
        self.kafka.clear(PREFIX).await?;
        let what = |counts: &Counts| (counts.ready, counts.lost) == (self.topics.len(), self.topics.len());
        let ours = self.started("topics-restored", Kind::Topic, what).await?;
        let wanted = self.topics.len();
        until(PATIENCE, Duration::from_millis(100), async || {
            let there = self.kafka.topics(&format!("{PREFIX}.")).await?.len();
            Ok(if there == wanted { Ok(()) } else { Err(format!("{wanted} topics to be back, not {there}")) })
        })
        .await?;
        report.row_beside("topics_restore", &format!("{wanted} topics made again"), ours, "topics_create");
        Ok(())
    }

    /// Starts the operator, waits until the objects are as wanted, and ends it; from the start until then.
    async fn started(
        &self,
        row: &str,
        kind: Kind,
        is: impl Fn(&Counts) -> bool,
    ) -> Result<Duration, BenchError> {
        let mut follow = self.objects.follow(kind);
        let mut operator = Operator::start(self.settings, &self.objects, row)?;
        let cpu = operator.process()?.cpu_seconds()?;
        let ended = tokio::select! {
            ended = follow.until(row, is) => ended?,
            died = self.watch_over(&mut operator) => return Err(died),
        };
        let process = operator.process()?;
        println!(
            "  {row}: the operator used {:.1} s of CPU and {:.0} MiB at most",
            process.cpu_seconds()? - cpu,
            process.memory()?.peak
        );
        let begun = operator.begun;
        operator.stop().await?;
        Ok(ended.saturating_duration_since(begun))
    }

    /// Returns when the operator is gone.
    async fn watch_over(&self, operator: &mut Operator) -> BenchError {
        loop {
            if let Err(error) = operator.process() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn limit_of_topics(&self, batch: usize, generation: i64) -> Limit<'_> {
        Limit {
            objects: &self.limit,
            kind: Kind::Topic,
            names: &self.topics,
            prefix: concat_prefix(&self.limit),
            batch,
            generation,
        }
    }

    /// Creates the Topics; how many the API server took in a second.
    async fn create_topics(&self, objects: &Objects) -> Result<f64, BenchError> {
        let begun = Instant::now();
        objects
            .create(Kind::Topic, self.topics.iter().map(|name| (name.clone(), topic(objects, name))))
            .await?;
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        Ok(self.topics.len() as f64 / begun.elapsed().as_secs_f64())
    }

    async fn edit_topics(&self, objects: &Objects) -> Result<(), BenchError> {
        let patch = |name: &String| (name.clone(), json!({"spec": {"config": {CONFIG: CONFIGS[1]}}}));
        objects.patch(Kind::Topic, self.topics.iter().map(patch)).await
    }
}

/// What the names at the broker begin with.
fn concat_prefix(objects: &Objects) -> String {
    format!("{}.", objects.namespace)
}

/// The topic's name at the broker.
pub fn topic_name(objects: &Objects, name: &str) -> String {
    format!("{}{name}", concat_prefix(objects))
}

fn topic(objects: &Objects, name: &str) -> Value {
    json!({
        "brokerRef": {"name": "kafka"}, "name": topic_name(objects, name), "partitions": 1,
        "config": {CONFIG: CONFIGS[0]},
    })
}
