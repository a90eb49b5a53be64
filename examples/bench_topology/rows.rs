//! What is measured, in order. The limit of a row comes right before the row, on objects of its own that nobody
//! else acts on, so that both meet the same machine.
//!
//! An operator's time begins when its process is started, with all objects (or edits) waiting for it in the API
//! server: reading thousands of them is part of it, accepting them from their author is not, which takes the API
//! server as long as all else together. It ends when the last object is ready for what its spec says.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::machine;
use crate::kafka::{CONFIG, Kafka};
use crate::limit::Limit;
use crate::objects::{Counts, Kind, Objects};
use crate::operator::Operator;
use crate::rabbit::{Rabbit, SOURCE};
use crate::report::Report;
use crate::{BenchError, NAMESPACES, PATIENCE, PREFIX, Part, Settings, idle, restart, until};

/// How many objects of each kind a full run makes.
const TOPICS: usize = 5_000;
const CLASSIC_QUEUES: usize = 2_500;
const QUORUM_QUEUES: usize = 1_000;
/// Topics that one request creates: Kafka takes no more than 10,000 records in one.
const CREATED_AT_ONCE: usize = 100;
/// Topics that one request configures.
const CONFIGURED_AT_ONCE: usize = 500;
/// Objects in one import of definitions.
const IMPORTED_AT_ONCE: usize = 500;
const QUORUM_AT_ONCE: usize = 100;
/// The config's value as the topics are created with it, and as it is changed to.
const CONFIGS: [&str; 2] = ["3600000", "7200000"];

/// What all rows work with.
pub struct Bench<'a> {
    pub settings: &'a Settings,
    pub kafka: Kafka,
    pub rabbit: Rabbit,
    /// What the operator watches.
    pub objects: Objects,
    /// What the bare client writes to.
    limit: Objects,
    pub topics: Vec<(Kind, String)>,
    /// Each queue with its binding.
    pub classic: Vec<(Kind, String)>,
    quorum: Vec<(Kind, String)>,
}

/// Measures all rows, and reports.
pub async fn run(settings: &Settings) -> Result<(), BenchError> {
    let names = |kind: Kind, letter: &str, full| -> Vec<(Kind, String)> {
        (0..settings.scaled(full)).map(|n| (kind, format!("{letter}-{n:05}"))).collect()
    };
    let queues = names(Kind::Queue, "c", CLASSIC_QUEUES);
    let bench = Bench {
        settings,
        kafka: Kafka::connect(&settings.place.kafka)?,
        rabbit: Rabbit::connect(&settings.place.rabbitmq)?,
        objects: Objects::connect(NAMESPACES[0]).await?,
        limit: Objects::connect(NAMESPACES[1]).await?,
        topics: names(Kind::Topic, "t", TOPICS),
        classic: queues
            .into_iter()
            .flat_map(|(_, name)| [(Kind::Queue, name.clone()), (Kind::Binding, name)])
            .collect(),
        quorum: names(Kind::Queue, "q", QUORUM_QUEUES),
    };
    let mut report = Report::begin(settings);
    bench.prepare().await?;
    if settings.wants(Part::Topics) {
        bench.topics_created(&mut report).await?;
        bench.topics_configured(&mut report).await?;
        bench.topics_restored(&mut report).await?;
    }
    if settings.wants(Part::Queues) {
        bench.queues_created(&mut report).await?;
        bench.queues_restored(&mut report).await?;
    }
    if settings.only.is_none() {
        // Ten thousand objects are in step here.
        restart::in_step(&bench, &mut report).await?;
        let operator = restart::with_edits(&bench, &mut report).await?;
        restart::rest(&bench, operator, &mut report).await?;
    }
    if settings.wants(Part::Quorum) {
        bench.quorum_created(&mut report).await?;
        bench.quorum_restored(&mut report).await?;
    }
    if settings.only.is_some() {
        return Ok(());
    }
    report.finish()
}

impl Bench<'_> {
    /// All objects that the operator is to look at during restarts, Brokers left out.
    pub fn all(&self) -> usize {
        self.topics.len() + self.classic.len()
    }

    /// Makes namespaces, virtual hosts, and the Brokers.
    async fn prepare(&self) -> Result<(), BenchError> {
        for objects in [&self.objects, &self.limit] {
            objects.make_namespace().await?;
            self.rabbit.make_vhost(&objects.namespace).await?;
        }
        let Rabbit { url, user, password, .. } = &self.rabbit;
        self.objects.make_secret("rabbitmq", &[("username", user), ("password", password)]).await?;
        let servers: Vec<&str> = self.settings.place.kafka.split(',').collect();
        let brokers = [
            ("kafka", json!({"kafka": {"bootstrapServers": servers}})),
            (
                "rabbitmq",
                json!({"rabbitmq": {"managementUrl": url, "credentialsSecretRef": {"name": "rabbitmq"}}}),
            ),
        ];
        let brokers = brokers.map(|(name, spec)| (Kind::Broker, name.to_owned(), spec));
        self.objects.create(brokers.into_iter()).await
    }

    async fn topics_created(&self, report: &mut Report<'_>) -> Result<(), BenchError> {
        let mut rate = 0.0;
        let pairs = self
            .repeated(async |first| {
                if !first {
                    self.forget(&[Kind::Topic]).await?;
                    self.kafka.clear(PREFIX).await?;
                }
                self.create(&self.limit, &self.topics).await?;
                let limit = self
                    .limit(&self.topics, CREATED_AT_ONCE, 1)
                    .measure(async |topics| {
                        Ok(self.kafka.create(&self.limit_topics(topics), CONFIGS[0]).await?)
                    })
                    .await?;
                rate = self.create(&self.objects, &self.topics).await?;
                let ours = self.started("topics-created", &self.topics, |counts| counts.ready).await?;
                Ok((ours, limit))
            })
            .await?;
        report.rows("topics_create", &format!("{} topics created", self.topics.len()), pairs);
        report.note(&format!("The API server accepted {rate:.0} Topics a second while nobody else worked."));
        Ok(())
    }

    async fn topics_configured(&self, report: &mut Report<'_>) -> Result<(), BenchError> {
        self.edit_topics(&self.limit).await?;
        let limit = self
            .limit(&self.topics, CONFIGURED_AT_ONCE, 2)
            .measure(async |topics| Ok(self.kafka.configure(&self.limit_topics(topics), CONFIGS[1]).await?))
            .await?;
        self.edit_topics(&self.objects).await?;
        let ours = self.started("topics-configured", &self.topics, |counts| counts.ready).await?;
        report.row(
            "topics_config",
            &format!("a config changed on {} topics", self.topics.len()),
            ours,
            limit,
        );
        Ok(())
    }

    /// Kafka is emptied while the operator is away.
    async fn topics_restored(&self, report: &mut Report<'_>) -> Result<(), BenchError> {
        self.kafka.clear(PREFIX).await?;
        let limit = Limit { lost: true, ..self.limit(&self.topics, CREATED_AT_ONCE, 2) }
            .measure(async |topics| Ok(self.kafka.create(&self.limit_topics(topics), CONFIGS[1]).await?))
            .await?;
        let ours =
            self.started("topics-restored", &self.topics, |counts| counts.ready.min(counts.lost)).await?;
        let wanted = self.topics.len();
        let there = self.kafka.topics(&topic_name(&self.objects, "")).await?.len();
        if there != wanted {
            return Err(BenchError::Waited(ours, format!("{wanted} topics to be back, not {there}")));
        }
        report.row("topics_restore", &format!("{wanted} topics made again"), ours, limit);
        self.kafka.clear(NAMESPACES[1]).await?;
        self.limit.delete_all(Kind::Topic).await
    }

    async fn queues_created(&self, report: &mut Report<'_>) -> Result<(), BenchError> {
        let pairs = self
            .repeated(async |first| {
                if !first {
                    self.forget_queues().await?;
                }
                self.create(&self.limit, &self.classic).await?;
                let limit = self.limit_of_import(&self.classic, IMPORTED_AT_ONCE, "classic", false).await?;
                self.create(&self.objects, &self.classic).await?;
                let ours = self.started("queues-created", &self.classic, |counts| counts.ready).await?;
                Ok((ours, limit))
            })
            .await?;
        let name = format!("{0} classic queues and {0} bindings created", self.classic.len() / 2);
        report.rows("rabbit_create", &name, pairs);
        Ok(())
    }

    async fn queues_restored(&self, report: &mut Report<'_>) -> Result<(), BenchError> {
        let vhost = &self.limit.namespace;
        self.empty(vhost).await?;
        let limit = self.limit_of_import(&self.classic, IMPORTED_AT_ONCE, "classic", true).await?;
        let ours = self.restored("queues-restored", &self.classic).await?;
        let name = format!("{0} classic queues and {0} bindings made again", self.classic.len() / 2);
        report.row("rabbit_restore", &name, ours, limit);
        Ok(())
    }

    /// Empties RabbitMQ: the virtual host is deleted and made again.
    async fn empty(&self, vhost: &str) -> Result<(), BenchError> {
        self.rabbit.delete_vhost(vhost).await?;
        self.rabbit.make_vhost(vhost).await
    }

    /// RabbitMQ is emptied while the operator is away.
    async fn restored(&self, run: &str, names: &[(Kind, String)]) -> Result<Duration, BenchError> {
        let vhost = &self.objects.namespace;
        self.empty(vhost).await?;
        let queues: Vec<_> = names.iter().filter(|(kind, _)| *kind == Kind::Queue).cloned().collect();
        rest(run).await;
        let mut operator = Operator::start(self.settings, &self.objects, run)?;
        let begun = operator.begun;
        let told = self.until_all(&queues, |counts| counts.ready.min(counts.lost), &mut operator).await?;
        // What is bound again does not show in a status.
        let wanted = (queues.len(), names.len() - queues.len());
        let bound = until(PATIENCE, Duration::from_millis(100), async || {
            let there = self.rabbit.count(vhost).await?;
            Ok(if there == wanted {
                Ok(Instant::now())
            } else {
                Err(format!("{wanted:?} to be back, not {there:?}"))
            })
        })
        .await?;
        self.end(operator, run).await?;
        Ok(told.max(bound).saturating_duration_since(begun))
    }

    async fn quorum_created(&self, report: &mut Report<'_>) -> Result<(), BenchError> {
        // The other queues go first: two hundred megabytes that quorum queues should not compete with.
        self.forget_queues().await?;
        self.create(&self.limit, &self.quorum).await?;
        let limit = self.limit_of_import(&self.quorum, QUORUM_AT_ONCE, "quorum", false).await?;
        self.rabbit.delete_vhost(&self.limit.namespace).await?;
        self.create(&self.objects, &self.quorum).await?;
        let ours = self.started("quorum-created", &self.quorum, |counts| counts.ready).await?;
        report.row("quorum_create", &format!("{} quorum queues created", self.quorum.len()), ours, limit);
        Ok(())
    }

    async fn quorum_restored(&self, report: &mut Report<'_>) -> Result<(), BenchError> {
        let vhost = &self.limit.namespace;
        self.rabbit.make_vhost(vhost).await?;
        let limit = self.limit_of_import(&self.quorum, QUORUM_AT_ONCE, "quorum", true).await?;
        self.rabbit.delete_vhost(vhost).await?;
        let ours = self.restored("quorum-restored", &self.quorum).await?;
        let name = format!("{} quorum queues made again", self.quorum.len());
        report.row("quorum_restore", &name, ours, limit);
        Ok(())
    }

    /// Measures a row as often as is wanted, each time beside its limit: what one says on a shared machine is chance.
    async fn repeated(
        &self,
        mut row: impl AsyncFnMut(bool) -> Result<(Duration, Duration), BenchError>,
    ) -> Result<Vec<(Duration, Duration)>, BenchError> {
        let mut pairs = Vec::new();
        for round in 0..self.settings.repeat.get() {
            pairs.push(row(round == 0).await?);
        }
        Ok(pairs)
    }

    /// Deletes the objects of these kinds, the operator's and the limit's; nobody is there who deletes at the brokers.
    async fn forget(&self, kinds: &[Kind]) -> Result<(), BenchError> {
        for kind in kinds {
            self.objects.delete_all(*kind).await?;
            self.limit.delete_all(*kind).await?;
        }
        Ok(())
    }

    /// Deletes Queues and Bindings, and what RabbitMQ has of them.
    async fn forget_queues(&self) -> Result<(), BenchError> {
        self.forget(&[Kind::Binding, Kind::Queue]).await?;
        for objects in [&self.objects, &self.limit] {
            self.empty(&objects.namespace).await?;
        }
        Ok(())
    }

    async fn limit_of_import(
        &self,
        names: &[(Kind, String)],
        batch: usize,
        kind: &str,
        lost: bool,
    ) -> Result<Duration, BenchError> {
        let vhost = &self.limit.namespace;
        Limit { lost, ..self.limit(names, batch, 1) }
            .measure(async |objects| Ok(self.rabbit.import(vhost, objects, kind).await?))
            .await
    }

    /// Starts the operator, waits until the objects are as wanted, and ends it; from the start until then.
    async fn started(
        &self,
        row: &str,
        names: &[(Kind, String)],
        count: impl Fn(&Counts) -> usize,
    ) -> Result<Duration, BenchError> {
        rest(row).await;
        let mut operator = Operator::start(self.settings, &self.objects, row)?;
        let ended = self.until_all(names, count, &mut operator).await?;
        let begun = operator.begun;
        self.end(operator, row).await?;
        Ok(ended.saturating_duration_since(begun))
    }

    /// Waits until so many of each kind are as wanted, or the operator has ended; when that was.
    async fn until_all(
        &self,
        names: &[(Kind, String)],
        count: impl Fn(&Counts) -> usize,
        operator: &mut Operator,
    ) -> Result<Instant, BenchError> {
        let mut last = operator.begun;
        for (follow, number) in &mut self.objects.follow_all(names) {
            let reached = tokio::select! {
                reached = follow.until("to be as wanted", |counts| count(counts) == *number) => reached?,
                ended = operator.ended() => return Err(ended),
            };
            last = last.max(reached);
        }
        Ok(last)
    }

    /// Says what the operator cost, and ends it.
    async fn end(&self, mut operator: Operator, row: &str) -> Result<(), BenchError> {
        let process = operator.process()?;
        println!(
            "  {row}: the operator used {:.1} s of CPU and {:.0} MiB at most",
            process.cpu_seconds()?,
            process.memory()?.peak
        );
        operator.stop().await
    }

    fn limit<'a>(&'a self, names: &'a [(Kind, String)], batch: usize, generation: i64) -> Limit<'a> {
        Limit { objects: &self.limit, names, batch, generation, lost: false }
    }

    /// Creates objects; how many the API server took in a second.
    async fn create(&self, objects: &Objects, names: &[(Kind, String)]) -> Result<f64, BenchError> {
        let begun = Instant::now();
        let quorum = names.first() == self.quorum.first();
        let specs =
            names.iter().map(|(kind, name)| (*kind, name.clone(), spec(objects, *kind, name, quorum)));
        objects.create(specs).await?;
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        Ok(names.len() as f64 / begun.elapsed().as_secs_f64())
    }

    async fn edit_topics(&self, objects: &Objects) -> Result<(), BenchError> {
        let patch =
            |(_, name): &(Kind, String)| (name.clone(), json!({"spec": {"config": {CONFIG: CONFIGS[1]}}}));
        objects.patch(Kind::Topic, self.topics.iter().map(patch)).await
    }

    fn limit_topics(&self, topics: &[(Kind, String)]) -> Vec<String> {
        topics.iter().map(|(_, name)| topic_name(&self.limit, name)).collect()
    }
}

/// Waits until the machine rests, or says that it does not.
pub async fn rest(row: &str) {
    if !idle::at_rest().await {
        println!("  {row}: the machine does not come to rest; load {}", machine::load());
    }
}

/// The topic's name at the broker.
pub fn topic_name(objects: &Objects, name: &str) -> String {
    format!("{}.{name}", objects.namespace)
}

fn spec(objects: &Objects, kind: Kind, name: &str, quorum: bool) -> Value {
    let vhost = &objects.namespace;
    match kind {
        Kind::Broker => json!({}),
        Kind::Topic => json!({
            "brokerRef": {"name": "kafka"}, "name": topic_name(objects, name), "partitions": 1,
            "config": {CONFIG: CONFIGS[0]},
        }),
        Kind::Queue => json!({
            "brokerRef": {"name": "rabbitmq"}, "vhost": vhost, "type": if quorum { "quorum" } else { "classic" },
        }),
        Kind::Binding => json!({
            "brokerRef": {"name": "rabbitmq"}, "vhost": vhost, "source": SOURCE, "routingKey": name,
            "destination": {"queue": name},
        }),
    }
}
