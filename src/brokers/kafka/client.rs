//! The Kafka client: one native handle, shared by everyone who works on that cluster.
//!
//! # Guarantees
//! - Every call ends within its `timeout` plus one second, and with a reason: a time-out that comes from a broken
//!   connection carries that connection's error, and refused credentials end a call about a second after the
//!   broker refused them.
//! - Outcomes are kept apart per object. The call as a whole fails only when it brought no outcome at all.
//! - Giving up on a call (dropping its future) is sound and frees nothing that is in use; what was sent may
//!   still take effect on the broker.
//! - Dropping the last clone does not wait: the native handle winds down on its own thread.
//!
//! # Caveats
//! - Read-your-writes does not hold: a broker may answer `UnknownTopicOrPartition` for a topic that
//!   the controller has just created.
//! - Lists longer than one request carries are sent as several requests, so a long list is not atomic.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::connection::Connection;
use super::coordinator::{Calls, PATIENCE, Question, UnderWay, next_patience};
use super::error::{
    KafkaError, LOCAL_BAD_MSG, LOCAL_DESTROY, LOCAL_INVALID_ARG, LOCAL_TIMED_OUT, NOT_COORDINATOR, RawError,
};
use super::failover::Failover;
use super::ffi::{Native, Outcomes, Reply};
use super::settings::KafkaSettings;
use super::types::{
    ClusterInfo, ConfigEntry, ConfigQuery, GroupDescription, GroupListing, Isolation, NewTopic, OffsetQuery,
    OffsetSpec, TopicConfigChange, TopicDescription, TopicMeta, TopicPartition,
};

/// One outcome for each object asked about, in the order asked.
pub type PerObject<T> = Result<Vec<(String, Result<T, KafkaError>)>, KafkaError>;

/// Objects in one request at most. librdkafka matches answers by linear search, so its cost grows with the square.
const CHUNK: usize = 500;
/// Objects in one request that reads little of each: one look at all topics of a cluster is one request.
const LISTED: usize = 10_000;
/// With so few keys of each topic asked for, the answer for [`LISTED`] topics stays some megabytes small.
const FEW_KEYS: usize = 16;
/// Partitions in one request for offsets at most, for the same reason.
const OFFSETS_CHUNK: usize = 1_500;
/// How much later than librdkafka's own time-out a call is given up.
const SLACK: Duration = Duration::from_secs(1);
/// Longest text the protocol carries in the requests used here.
const MAX_TEXT: usize = i16::MAX as usize;
/// Topics Kafka keeps for itself.
const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// An asynchronous Kafka client for administration, offsets and groups. Clones share one native handle.
#[derive(Clone)]
pub struct KafkaClient {
    inner: Arc<Inner>,
}

struct Inner {
    native: Arc<Native>,
    connection: Arc<Connection>,
    calls: Calls,
    failover: Failover,
    made: Instant,
    /// How long a call to a coordinator may wait while the cluster answers others.
    patience: Duration,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.native.stop();
    }
}

/// What a call does, in words: to one object and to several.
#[derive(Clone, Copy)]
struct Words {
    one: &'static str,
    many: &'static str,
}

impl KafkaClient {
    /// Creates a client. Does not wait for a broker and does not need one.
    ///
    /// # Errors
    /// Settings that librdkafka refuses, such as a certificate it cannot read.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        Self::start(settings, PATIENCE)
    }

    /// As [`Self::connect`], in the place of one that [is lost](Self::is_lost); more patient than that one, if it was lost soon.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub fn instead_of(&self, settings: &KafkaSettings) -> Result<Self, KafkaError> {
        Self::start(settings, next_patience(self.inner.patience, self.inner.made.elapsed()))
    }

    fn start(settings: &KafkaSettings, patience: Duration) -> Result<Self, KafkaError> {
        const OPERATION: &str = "set up the Kafka client";
        if settings.bootstrap_servers.is_empty() {
            return Err(KafkaError::invalid_input(OPERATION, "no bootstrap servers given"));
        }
        let connection = Arc::new(Connection::new(&settings.bootstrap_servers));
        let noticed = Arc::clone(&connection);
        let native = Native::start(&settings.native_config(), move |notice| noticed.notice(notice))
            .map_err(|error| error.of(OPERATION))?;
        Ok(Self {
            inner: Arc::new(Inner {
                native,
                connection,
                calls: Calls::default(),
                failover: Failover::default(),
                made: Instant::now(),
                patience,
            }),
        })
    }

    /// What keeps the client from its brokers at the moment, if anything is known to. Asks nobody.
    #[must_use]
    pub fn connection_error(&self) -> Option<KafkaError> {
        self.inner.connection.trouble().map(|reason| reason.of("reach the Kafka cluster"))
    }

    /// Describes the cluster: its id, its controller, its live brokers.
    pub async fn describe_cluster(&self, timeout: Duration) -> Result<ClusterInfo, KafkaError> {
        let reply = self.inner.native.describe_cluster(timeout);
        self.answer(reply, timeout).await.map_err(|error| error.of("describe the cluster"))
    }

    /// Lists all topics with their partitions.
    pub async fn list_topics(&self, timeout: Duration) -> Result<Vec<TopicMeta>, KafkaError> {
        const OPERATION: &str = "list topics";
        let native = Arc::clone(&self.inner.native);
        let listed = self.blocking(move || native.list_topics(timeout)).await;
        let topics = listed.map_err(|error| self.inner.connection.explain(error).of(OPERATION))?;
        Ok(topics
            .into_iter()
            .map(|(name, partitions, error)| TopicMeta {
                internal: INTERNAL_TOPICS.contains(&name.as_str()),
                error: error.map(|error| error.of(format!("describe topic {name:?}"))),
                name,
                partitions,
            })
            .collect())
    }

    /// Describes topics by name. A name given twice is answered once.
    pub async fn describe_topics(&self, names: &[String], timeout: Duration) -> PerObject<TopicDescription> {
        let words = Words { one: "describe topic", many: "describe topics" };
        let names = distinct(names);
        let issue = |chunk: &[&String], timeout| self.inner.native.describe_topics(chunk, timeout);
        self.for_each_of(LISTED, words, &names, |name| name, |_| Ok(()), issue, timeout).await
    }

    /// Reads the configuration in force of topics. A name given twice is answered once.
    pub async fn describe_configs(
        &self,
        topics: &[String],
        timeout: Duration,
    ) -> PerObject<Vec<ConfigEntry>> {
        let all = |topic: &String| ConfigQuery { topic: topic.clone(), keys: BTreeSet::new() };
        let queries: Vec<_> = distinct(topics).into_iter().map(all).collect();
        self.describe_config_keys(&queries, timeout).await
    }

    /// Reads some configuration keys of topics: an answer is as much smaller as keys are fewer.
    pub async fn describe_config_keys(
        &self,
        queries: &[ConfigQuery],
        timeout: Duration,
    ) -> PerObject<Vec<ConfigEntry>> {
        let words =
            Words { one: "read the configuration of topic", many: "read the configuration of topics" };
        let few = queries.iter().all(|query| (1..=FEW_KEYS).contains(&query.keys.len()));
        let chunk = if few { LISTED } else { CHUNK };
        let queries: Vec<_> = queries.iter().collect();
        let issue = |chunk: &[&ConfigQuery], timeout| self.inner.native.describe_configs(chunk, timeout);
        self.for_each_of(chunk, words, &queries, |query| &query.topic, check_query, issue, timeout).await
    }

    /// Reads one configuration key of a broker; none where the broker has no such key or does not tell its value.
    pub async fn broker_config(
        &self,
        broker: i32,
        key: &str,
        timeout: Duration,
    ) -> Result<Option<String>, KafkaError> {
        let operation = || format!("read {key:?} of broker {broker}");
        check_name(key).map_err(|error| error.of(operation()))?;
        let reply = self.inner.native.describe_broker_config(broker, key, timeout);
        let answer = self.answer(reply, timeout).await;
        let entries = answer.and_then(|mut outcomes| outcomes.pop().ok_or_else(no_outcome)?.1);
        let entries = entries.map_err(|error| self.explained(error, operation()))?;
        Ok(entries.into_iter().find(|entry| entry.name == key).and_then(|entry| entry.value))
    }

    /// Creates topics, or with `validate_only` asks whether the broker would.
    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
        timeout: Duration,
    ) -> PerObject<()> {
        let words = Words { one: "create topic", many: "create topics" };
        let topics: Vec<_> = topics.iter().collect();
        let issue =
            |chunk: &[&NewTopic], timeout| self.inner.native.create_topics(chunk, validate_only, timeout);
        self.for_each(words, &topics, |topic| &topic.name, check_new_topic, issue, timeout).await
    }

    /// Grows topics to a total number of partitions each.
    pub async fn create_partitions(
        &self,
        topics: &[(String, i32)],
        validate_only: bool,
        timeout: Duration,
    ) -> PerObject<()> {
        let words = Words { one: "add partitions to topic", many: "add partitions to topics" };
        let topics: Vec<_> = topics.iter().collect();
        let check = |(_, total): &(String, i32)| check_partitions(*total, 1);
        let issue = |chunk: &[&(String, i32)], timeout| {
            self.inner.native.create_partitions(chunk, validate_only, timeout)
        };
        self.for_each(words, &topics, |(name, _)| name, check, issue, timeout).await
    }

    /// Changes single configuration keys of topics; keys not named keep their values.
    pub async fn incremental_alter_configs(
        &self,
        changes: &[TopicConfigChange],
        validate_only: bool,
        timeout: Duration,
    ) -> PerObject<()> {
        let words =
            Words { one: "change the configuration of topic", many: "change the configuration of topics" };
        let changes: Vec<_> = changes.iter().collect();
        let issue = |chunk: &[&TopicConfigChange], timeout| {
            self.inner.native.incremental_alter_configs(chunk, validate_only, timeout)
        };
        self.for_each(words, &changes, |change| &change.topic, check_change, issue, timeout).await
    }

    /// Deletes topics with all their records.
    pub async fn delete_topics(&self, names: &[String], timeout: Duration) -> PerObject<()> {
        let words = Words { one: "delete topic", many: "delete topics" };
        let names = distinct(names);
        let issue = |chunk: &[&String], timeout| self.inner.native.delete_topics(chunk, timeout);
        self.for_each(words, &names, |name| name, |_| Ok(()), issue, timeout).await
    }

    /// Reads the ends of partitions. A query given twice is answered once; the order is by query.
    pub async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: Isolation,
        timeout: Duration,
    ) -> Result<Vec<(OffsetQuery, Result<i64, KafkaError>)>, KafkaError> {
        let distinct: BTreeSet<&OffsetQuery> = queries.iter().collect();
        let sendable = distinct.iter().copied().filter(|query| check_name(&query.topic).is_ok());
        let (earliest, latest): (Vec<&OffsetQuery>, Vec<&OffsetQuery>) =
            sendable.partition(|query| query.spec == OffsetSpec::Earliest);
        let requests =
            earliest.chunks(OFFSETS_CHUNK).chain(latest.chunks(OFFSETS_CHUNK)).map(async |chunk| {
                let reply = self.inner.native.list_offsets(chunk, isolation, timeout);
                let outcomes = by_key(self.answer(reply, timeout).await?);
                Ok::<_, RawError>((chunk[0].spec, outcomes))
            });
        let mut found: HashMap<(TopicPartition, OffsetSpec), Result<i64, RawError>> = HashMap::new();
        let (mut failure, mut answered) = (None, false);
        for answer in join_all(requests).await {
            match answer {
                Ok((spec, outcomes)) => {
                    answered = true;
                    found.extend(outcomes.into_iter().map(|(partition, offset)| ((partition, spec), offset)));
                }
                Err(error) => failure = Some(error),
            }
        }
        if let (false, Some(error)) = (answered, &failure) {
            return Err(error.clone().of("read the offsets of partitions"));
        }
        let missing = failure.unwrap_or_else(no_outcome);
        let outcome = |query: &OffsetQuery| {
            let partition = TopicPartition { topic: query.topic.clone(), partition: query.partition };
            let offset = check_name(&query.topic).and_then(|()| {
                found.remove(&(partition, query.spec)).unwrap_or_else(|| Err(missing.clone()))
            });
            let operation =
                || format!("read offsets of partition {} of topic {:?}", query.partition, query.topic);
            (query.clone(), offset.map_err(|error| self.explained(error, operation())))
        };
        Ok(distinct.iter().copied().map(outcome).collect())
    }

    /// Reads what a consumer group has committed: `None` where it committed nothing for a partition.
    ///
    /// A group that does not exist has committed nothing: the list is empty.
    pub async fn committed_offsets(
        &self,
        group: &str,
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Result<Option<i64>, KafkaError>)>, KafkaError> {
        let operation = || format!("read the committed offsets of group {group:?}");
        check_name(group).map_err(|error| error.of(operation()))?;
        let reply = self
            .inner
            .calls
            .begin(Question::Offsets, &[group])
            .ok_or_else(still_waiting)
            .and_then(|under_way| self.inner.native.committed_offsets(group, under_way));
        let offsets = self.told(group, self.answer(reply, timeout).await);
        Ok(offsets
            .map_err(|error| error.of(operation()))?
            .into_iter()
            .map(|(partition, offset)| {
                (partition, offset.map_err(|error| self.explained(error, operation())))
            })
            .collect())
    }

    /// Whether calls to coordinators of groups wait for one that is gone, or go to a broker that is none (any more): only
    /// another client ([`Self::instead_of`]) finds the right one.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.inner.calls.lost(self.inner.patience, self.inner.connection.is_heard())
    }

    /// Remembers whether a group's coordinator is one.
    fn told<T>(&self, group: &str, answer: Result<T, RawError>) -> Result<T, RawError> {
        match &answer {
            Ok(_) => self.inner.calls.answered(group, true),
            Err(error) if error.code == NOT_COORDINATOR => self.inner.calls.answered(group, false),
            Err(_) => {}
        }
        answer
    }

    fn begin(&self, question: Question, groups: &[&String]) -> Result<UnderWay, RawError> {
        let groups: Vec<&str> = groups.iter().map(|group| group.as_str()).collect();
        self.inner.calls.begin(question, &groups).ok_or_else(still_waiting)
    }

    fn no_call_waits(&self, question: Question, group: &str) -> Result<(), RawError> {
        if self.inner.calls.waits(question, group) { Err(still_waiting()) } else { Ok(()) }
    }

    /// Lists all groups that the user may see, of whatever protocol.
    ///
    /// # Errors
    /// Fails as a whole when one of the brokers does not answer: half a list would look like vanished groups.
    pub async fn list_groups(&self, timeout: Duration) -> Result<Vec<GroupListing>, KafkaError> {
        let native = Arc::clone(&self.inner.native);
        let listed = self.blocking(move || native.list_groups(timeout)).await;
        listed.map_err(|error| self.explained(error, "list groups".to_owned()))
    }

    /// Describes a consumer group.
    ///
    /// One group to a call: librdkafka answers for several when the last of their coordinators has answered, and one
    /// that cannot be found would leave all of them without an answer for as long as it is away.
    pub async fn describe_group(
        &self,
        group: &str,
        timeout: Duration,
    ) -> Result<GroupDescription, KafkaError> {
        let operation = || format!("describe group {group:?}");
        check_name(group).map_err(|error| error.of(operation()))?;
        let reply = self
            .inner
            .calls
            .begin(Question::Members, &[group])
            .ok_or_else(still_waiting)
            .and_then(|under_way| self.inner.native.describe_group(group, under_way));
        let answer = self.answer(reply, timeout).await;
        let described = answer.and_then(|mut outcomes| outcomes.pop().ok_or_else(no_outcome)?.1);
        self.told(group, described).map_err(|error| self.explained(error, operation()))
    }

    /// Deletes consumer groups with their committed offsets. Only groups without members can be deleted.
    pub async fn delete_groups(&self, groups: &[String], timeout: Duration) -> PerObject<()> {
        let words = Words { one: "delete group", many: "delete groups" };
        let names = distinct(groups);
        let issue = |chunk: &[&String], _| {
            let under_way = self.begin(Question::Deletion, chunk)?;
            self.inner.native.delete_groups(chunk, under_way)
        };
        let check = |group: &String| self.no_call_waits(Question::Deletion, group);
        self.for_each(words, &names, |name| name, check, issue, timeout).await
    }

    /// Deletes the records before an offset in each partition; answers the first offset that is left.
    pub async fn delete_records(
        &self,
        before: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Result<i64, KafkaError>)>, KafkaError> {
        const OPERATION: &str = "delete records";
        for (partition, _) in before {
            check_name(&partition.topic).map_err(|error| error.of(OPERATION))?;
        }
        if before.is_empty() {
            return Ok(Vec::new());
        }
        let reply = self.inner.native.delete_records(before, timeout);
        let outcomes = self.answer(reply, timeout).await.map_err(|error| error.of(OPERATION))?;
        Ok(outcomes
            .into_iter()
            .map(|(partition, left)| {
                let operation = format!(
                    "delete records of partition {} of topic {:?}",
                    partition.partition, partition.topic
                );
                (partition, left.map_err(|error| self.explained(error, operation)))
            })
            .collect())
    }

    /// What librdkafka does in the thread that asks; over at once where the cluster refuses us.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, RawError> + Send + 'static,
    ) -> Result<T, RawError> {
        tokio::select! {
            done = tokio::task::spawn_blocking(call) => done.unwrap_or_else(|_| Err(gone())),
            refused = self.inner.connection.refused() => Err(refused),
        }
    }

    fn explained(&self, error: RawError, operation: String) -> KafkaError {
        self.inner.connection.explain(error).of(operation)
    }

    /// Waits for an answer, but not longer than makes sense, and gives a failure its reason.
    async fn answer<T>(&self, reply: Result<Reply<T>, RawError>, timeout: Duration) -> Result<T, RawError> {
        let Inner { native, connection, failover, .. } = &*self.inner;
        let answered = tokio::select! {
            biased;
            answered = reply? => answered.unwrap_or_else(|_| Err(gone())),
            refused = connection.refused() => Err(refused),
            never = failover.keep_looking(native, connection) => match never {},
            () = tokio::time::sleep(timeout + SLACK) => Err(timed_out()),
        };
        answered.map_err(|error| self.inner.connection.explain(error))
    }

    async fn for_each<S, T>(
        &self,
        words: Words,
        objects: &[&S],
        name: impl Fn(&S) -> &String,
        check: impl Fn(&S) -> Result<(), RawError>,
        issue: impl Fn(&[&S], Duration) -> Result<Reply<Outcomes<String, T>>, RawError>,
        timeout: Duration,
    ) -> PerObject<T> {
        self.for_each_of(CHUNK, words, objects, name, check, issue, timeout).await
    }

    /// Checks each object, sends those that pass in requests of `size` objects one after the other, and puts the
    /// outcomes into the order asked.
    #[allow(clippy::too_many_arguments)] // What a call is made of.
    async fn for_each_of<S, T>(
        &self,
        size: usize,
        words: Words,
        objects: &[&S],
        name: impl Fn(&S) -> &String,
        check: impl Fn(&S) -> Result<(), RawError>,
        issue: impl Fn(&[&S], Duration) -> Result<Reply<Outcomes<String, T>>, RawError>,
        timeout: Duration,
    ) -> PerObject<T> {
        let mut seen = HashSet::new();
        let checked: Vec<_> = objects
            .iter()
            .map(|&object| {
                check_name(name(object))?;
                check(object)?;
                if seen.insert(name(object)) {
                    Ok(object)
                } else {
                    Err(invalid("named twice in one call".to_owned()))
                }
            })
            .collect();
        let sendable: Vec<&S> = checked.iter().filter_map(|checked| checked.as_ref().ok().copied()).collect();

        let mut found = HashMap::new();
        let mut failed: HashMap<&String, RawError> = HashMap::new();
        let deadline = Instant::now() + timeout;
        for chunk in sendable.chunks(size) {
            let left = deadline.saturating_duration_since(Instant::now());
            let answered =
                if left.is_zero() { Err(timed_out()) } else { self.answer(issue(chunk, left), left).await };
            match answered {
                Ok(outcomes) => found.extend(by_key(outcomes)),
                Err(error) if found.is_empty() && failed.is_empty() && chunk.len() == objects.len() => {
                    let operation = match chunk {
                        [one] => format!("{} {:?}", words.one, name(one)),
                        _ => words.many.to_owned(),
                    };
                    return Err(error.of(operation));
                }
                Err(error) => failed.extend(chunk.iter().map(|&object| (name(object), error.clone()))),
            }
        }
        let outcomes = objects.iter().zip(checked).map(|(&object, checked)| {
            let name = name(object);
            let outcome = checked.and_then(|_| match found.remove(name) {
                Some(outcome) => outcome,
                None => Err(failed.remove(name).unwrap_or_else(no_outcome)),
            });
            (name.clone(), outcome.map_err(|error| self.explained(error, format!("{} {name:?}", words.one))))
        });
        Ok(outcomes.collect())
    }
}

fn by_key<K: Eq + Hash, T>(outcomes: Outcomes<K, T>) -> HashMap<K, Result<T, RawError>> {
    outcomes.into_iter().collect()
}

fn distinct(names: &[String]) -> Vec<&String> {
    let mut seen = HashSet::new();
    names.iter().filter(|name| seen.insert(*name)).collect()
}

fn gone() -> RawError {
    RawError::new(LOCAL_DESTROY, "the client is gone")
}

fn timed_out() -> RawError {
    RawError::new(LOCAL_TIMED_OUT, "no answer in time")
}

fn still_waiting() -> RawError {
    RawError::new(LOCAL_TIMED_OUT, "an earlier request still waits for the group's coordinator")
}

fn no_outcome() -> RawError {
    RawError::new(LOCAL_BAD_MSG, "the broker's answer does not mention it")
}

fn invalid(message: String) -> RawError {
    RawError::new(LOCAL_INVALID_ARG, message)
}

/// Refuses what the protocol cannot carry; what Kafka thinks of the name is for the broker to say.
fn check_name(name: &str) -> Result<(), RawError> {
    if name.is_empty() {
        return Err(invalid("the name is empty".to_owned()));
    }
    check_text("the name", name)
}

fn check_text(what: &str, text: &str) -> Result<(), RawError> {
    if text.contains('\0') {
        return Err(invalid(format!("{what} contains a NUL")));
    }
    if text.len() > MAX_TEXT {
        return Err(invalid(format!("{what} is longer than {MAX_TEXT} bytes")));
    }
    Ok(())
}

fn check_config<'a>(entries: impl Iterator<Item = (&'a String, &'a String)>) -> Result<(), RawError> {
    for (key, value) in entries {
        check_name(key).map_err(|error| invalid(format!("configuration key {key:?}: {}", error.message)))?;
        check_text(&format!("the value of {key:?}"), value)?;
    }
    Ok(())
}

fn check_partitions(partitions: i32, least: i32) -> Result<(), RawError> {
    const MOST: i32 = 100_000;
    if (least..=MOST).contains(&partitions) {
        return Ok(());
    }
    Err(invalid(format!("{partitions} is no number of partitions ({least} to {MOST})")))
}

fn check_new_topic(topic: &NewTopic) -> Result<(), RawError> {
    const MOST: i16 = 10_000;
    if let Some(partitions) = topic.partitions {
        check_partitions(partitions, 0)?;
    }
    if let Some(copies) = topic.replication_factor.filter(|copies| !(0..=MOST).contains(copies)) {
        return Err(invalid(format!("{copies} is no replication factor (1 to {MOST})")));
    }
    check_config(topic.config.iter())
}

fn check_query(query: &ConfigQuery) -> Result<(), RawError> {
    let none = String::new();
    check_config(query.keys.iter().map(|key| (key, &none)))
}

fn check_change(change: &TopicConfigChange) -> Result<(), RawError> {
    check_config(change.set.iter())?;
    let none = String::new();
    check_config(change.delete.iter().map(|key| (key, &none)))
}
