//! The client: one method for one thing that RabbitMQ's management interface can do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{ErrorKind, RabbitError};
use super::figures::{self, QueueFigures};
use super::http::{Call, Http, Terms};
use super::rhythm::{Renewal, Rhythm};
use super::settings::RabbitSettings;
use super::types::{
    BindingInfo, Declared, DeliveryLimit, ExchangeDeclaration, ExchangeInfo, Message, NodeInfo, Overview,
    Policy, QueueDeclaration, QueueInfo, QueueRecord, QueueStatistics, Target,
};
use crate::api::arguments::Arguments;
use crate::brokers::lane::Lane;
use crate::runtime::lease::Fence;

/// How long a request may take unless told otherwise. RabbitMQ itself gives up after 15 seconds on a quorum queue for
/// which no majority is up, and says why.
const TIMEOUT: Duration = Duration::from_secs(20);
/// An exchange that is in every virtual host and that nobody can delete.
const EVERYWHERE: &str = "amq.direct";
/// Of one queue: no statistics are put together, but type, policy and totals are there at once. A listing in this form
/// leaves out the queues whose node is down.
const LIVE: &[(&str, &str)] = &[("disable_stats", "true"), ("enable_queue_totals", "true")];
/// Of one queue, this form lacks the policy.
const NO_STATS: &[(&str, &str)] = &[("disable_stats", "true")];
const STATISTICS: &[(&str, &str)] = &[(
    "columns",
    "vhost,name,operator_policy,state,leader,online,messages,messages_unacknowledged,consumers",
)];

/// A listing.
#[derive(serde::Deserialize)]
struct Listed<T>(Vec<Record<T>>);

/// One object in a listing.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Record<T> {
    /// As it should be.
    Whole(T),
    /// An object that went while it was listed: Erlang writes nothing as an empty list.
    Gone([(); 0]),
}

/// A client of one RabbitMQ cluster. Clones share its connections and its limit of 16 requests under way.
///
/// # Errors
/// Every call can fail with any [`ErrorKind`] of the connection. A virtual host that does not exist is
/// [`ErrorKind::NoVhost`] with its name in the message, never an object that does not exist.
#[derive(Clone)]
pub struct RabbitClient {
    http: Arc<Http>,
    terms: Terms,
    rhythm: Arc<Mutex<Rhythm>>,
}

impl RabbitClient {
    /// A client with these settings, in [`Lane::User`], with 20 seconds for each request. Sends nothing.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub fn connect(settings: &RabbitSettings) -> Result<Self, RabbitError> {
        Self::fenced(settings, Fence::open())
    }

    /// As [`RabbitClient::connect`]; once `fence` is closed, nothing that changes anything is sent.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub fn fenced(settings: &RabbitSettings, fence: Fence) -> Result<Self, RabbitError> {
        let http = Http::connect(settings, fence)?;
        Ok(Self { http, terms: Terms { lane: Lane::User, timeout: TIMEOUT }, rhythm: Arc::default() })
    }

    /// The same client for someone else's calls: a quarter of the requests is kept for users.
    #[must_use]
    pub fn on(&self, lane: Lane) -> Self {
        Self { terms: Terms { lane, ..self.terms }, ..self.clone() }
    }

    /// The same client with another time-out for each request; the wait for its turn is not in it.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { terms: Terms { timeout, ..self.terms }, ..self.clone() }
    }

    /// Requests sent by all clones together.
    #[must_use]
    pub fn requests_sent(&self) -> u64 {
        self.http.sent()
    }

    /// Version and name of the cluster.
    pub async fn overview(&self) -> Result<Overview, RabbitError> {
        let query = [("columns", "rabbitmq_version,cluster_name,disable_stats")];
        self.read("read the overview", &["overview"], &query).await
    }

    /// The id the cluster gave itself when it was made. The user needs the tag `policymaker` or `administrator`.
    pub async fn cluster_id(&self) -> Result<String, RabbitError> {
        #[derive(Deserialize)]
        struct Parameter {
            value: String,
        }
        let segments = ["global-parameters", "internal_cluster_id"];
        self.read("read the cluster id", &segments, &[]).await.map(|parameter: Parameter| parameter.value)
    }

    /// The cluster's nodes. The user needs the tag `monitoring` or `administrator`.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, RabbitError> {
        let nodes: Vec<NodeInfo> =
            self.read("list nodes", &["nodes"], &[("columns", "name,running,uptime")]).await?;
        self.rhythm.lock().unwrap_or_else(PoisonError::into_inner).saw(&nodes);
        Ok(nodes)
    }

    /// How often the cluster renews its statistics, as far as what [`Self::nodes`] listed so far tells.
    #[must_use]
    pub fn renewal(&self) -> Renewal {
        self.rhythm.lock().unwrap_or_else(PoisonError::into_inner).renewal()
    }

    /// The virtual hosts that the user may use, or with the tag `monitoring` or `administrator` all.
    pub async fn vhosts(&self) -> Result<Vec<String>, RabbitError> {
        #[derive(Deserialize)]
        struct Vhost {
            name: String,
        }
        let vhosts: Vec<Vhost> = self
            .read("list virtual hosts", &["vhosts"], &[("disable_stats", "true"), ("columns", "name")])
            .await?;
        Ok(vhosts.into_iter().map(|vhost| vhost.name).collect())
    }

    /// The queues of a virtual host, or of all that the user may use, also those whose node is down. What they hold,
    /// consumers and operator policies are not in it.
    pub async fn list_queues(&self, vhost: Option<&str>) -> Result<Vec<QueueInfo>, RabbitError> {
        self.list::<QueueRecord>("queues", vhost, NO_STATS)
            .await
            .map(|all| all.into_iter().map(QueueInfo::from).collect())
    }

    /// What statistics know of the queues of a virtual host, or of all that the user may use.
    pub async fn list_queue_statistics(
        &self,
        vhost: Option<&str>,
    ) -> Result<Vec<QueueStatistics>, RabbitError> {
        self.list::<QueueRecord>("queues", vhost, STATISTICS)
            .await
            .map(|all| all.into_iter().map(QueueStatistics::from).collect())
    }

    /// What statistics know of some queues of a virtual host, by name; one that does not exist is left out.
    ///
    /// One request for each hundred queues, whose cost is that of the queues that are named.
    pub async fn queue_figures(
        &self,
        vhost: &str,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, QueueFigures>, RabbitError> {
        let operation = figures::operation(names);
        let (operation, segments) = (operation.as_str(), ["queues", vhost]);
        let missing = |error: RabbitError| match error.kind {
            ErrorKind::NotFound => RabbitError::no_vhost(error.operation, vhost),
            _ => error,
        };
        let mut found = Vec::new();
        for pattern in figures::patterns(names.iter().map(String::as_str)) {
            let query = [
                ("page", "1"),
                ("page_size", figures::PAGE),
                ("use_regex", "true"),
                ("name", pattern.as_str()),
                ("columns", figures::COLUMNS),
            ];
            let page: figures::Page = self.read(operation, &segments, &query).await.map_err(missing)?;
            if page.page_count > 1 {
                // Many more than were named: names that differ in their case only.
                let all: Vec<Value> = self
                    .read(operation, &segments, &[("columns", figures::COLUMNS)])
                    .await
                    .map_err(missing)?;
                return Ok(figures::named(all.into_iter().filter_map(figures::read), names));
            }
            found.extend(page.items.into_iter().filter_map(figures::read));
        }
        Ok(figures::named(found, names))
    }

    /// The exchanges of a virtual host, or of all that the user may use, RabbitMQ's own included.
    pub async fn list_exchanges(&self, vhost: Option<&str>) -> Result<Vec<ExchangeInfo>, RabbitError> {
        self.list("exchanges", vhost, NO_STATS).await
    }

    /// The bindings of a virtual host, or of all that the user may use, without those of the default exchange.
    pub async fn list_bindings(&self, vhost: Option<&str>) -> Result<Vec<BindingInfo>, RabbitError> {
        self.list("bindings", vhost, &[]).await.map(declared_only)
    }

    /// The policies of a virtual host, or of all that the user may use.
    pub async fn list_policies(&self, vhost: Option<&str>) -> Result<Vec<Policy>, RabbitError> {
        self.list("policies", vhost, &[]).await
    }

    /// The operator policies of a virtual host, or of all that the user may use.
    pub async fn list_operator_policies(&self, vhost: Option<&str>) -> Result<Vec<Policy>, RabbitError> {
        self.list("operator-policies", vhost, &[]).await
    }

    /// A queue as it is now, without what only statistics know: operator policy, consumers, and of a stream what it
    /// holds and whether its leader is up. `None` when it does not exist. A classic queue whose node is down is
    /// [`ErrorKind::Unavailable`].
    pub async fn queue(&self, vhost: &str, name: &str) -> Result<Option<QueueInfo>, RabbitError> {
        let found = self.find::<QueueRecord>(&Target::Queue(name.to_owned()), vhost, LIVE).await?;
        Ok(found.map(QueueInfo::from))
    }

    /// What statistics know of a queue; `None` when the queue does not exist.
    pub async fn queue_statistics(
        &self,
        vhost: &str,
        name: &str,
    ) -> Result<Option<QueueStatistics>, RabbitError> {
        let found = self.find::<QueueRecord>(&Target::Queue(name.to_owned()), vhost, STATISTICS).await?;
        Ok(found.map(QueueStatistics::from))
    }

    /// A queue with all that is known of it: what to decide on whether it may be deleted.
    pub async fn queue_in_full(&self, vhost: &str, name: &str) -> Result<Option<QueueInfo>, RabbitError> {
        let (live, statistics) =
            futures::try_join!(self.queue(vhost, name), self.queue_statistics(vhost, name))?;
        Ok(live.zip(statistics).map(|(live, statistics)| live.with_statistics(statistics)))
    }

    /// An exchange; `None` when it does not exist.
    pub async fn exchange(&self, vhost: &str, name: &str) -> Result<Option<ExchangeInfo>, RabbitError> {
        self.find(&Target::Exchange(name.to_owned()), vhost, NO_STATS).await
    }

    /// The bindings that lead to a queue or an exchange, without that of the default exchange; none when it does not
    /// exist.
    pub async fn bindings_to(&self, vhost: &str, target: &Target) -> Result<Vec<BindingInfo>, RabbitError> {
        let operation = format!("list the bindings to {target}");
        match target {
            Target::Queue(name) => {
                self.bindings(operation, vhost, &["queues", vhost, name, "bindings"]).await
            }
            Target::Exchange(name) => {
                self.bindings(operation, vhost, &["exchanges", vhost, name, "bindings", "destination"]).await
            }
        }
    }

    /// The bindings that lead from an exchange; none when it does not exist.
    pub async fn bindings_from(&self, vhost: &str, exchange: &str) -> Result<Vec<BindingInfo>, RabbitError> {
        let operation = format!("list the bindings from exchange {exchange:?}");
        self.bindings(operation, vhost, &["exchanges", vhost, exchange, "bindings", "source"]).await
    }

    /// The bindings from an exchange to a queue or another exchange; none when one of them does not exist.
    pub async fn bindings_between(
        &self,
        vhost: &str,
        source: &str,
        target: &Target,
    ) -> Result<Vec<BindingInfo>, RabbitError> {
        let operation = format!("list the bindings from exchange {source:?} to {target}");
        self.bindings(operation, vhost, &between(vhost, source, target)).await
    }

    /// Declares a queue. On one that exists it changes nothing: equal is a success, different
    /// [`ErrorKind::Inequivalent`].
    pub async fn declare_queue(
        &self,
        vhost: &str,
        queue: &QueueDeclaration,
    ) -> Result<Declared, RabbitError> {
        let operation = format!("declare queue {:?}", queue.name);
        self.put(operation, vhost, &["queues", vhost, &queue.name], queue).await
    }

    /// Declares an exchange, as [`Self::declare_queue`] does a queue.
    pub async fn declare_exchange(
        &self,
        vhost: &str,
        exchange: &ExchangeDeclaration,
    ) -> Result<Declared, RabbitError> {
        let operation = format!("declare exchange {:?}", exchange.name);
        self.put(operation, vhost, &["exchanges", vhost, &exchange.name], exchange).await
    }

    /// Makes a binding; one that is there already stays. An end that does not exist is [`ErrorKind::NotFound`].
    pub async fn bind(
        &self,
        vhost: &str,
        source: &str,
        target: &Target,
        routing_key: &str,
        arguments: &Arguments,
    ) -> Result<(), RabbitError> {
        #[derive(Serialize)]
        struct Body<'a> {
            routing_key: &'a str,
            arguments: &'a Arguments,
        }
        let operation = format!("bind {target} to exchange {source:?} by key {routing_key:?}");
        let segments = between(vhost, source, target);
        let body = Body { routing_key, arguments };
        self.change(operation, vhost, Method::POST, &segments, &[], Some(&body)).await.map(drop)
    }

    /// Removes exactly one binding. Whether it was there.
    pub async fn unbind(
        &self,
        vhost: &str,
        source: &str,
        target: &Target,
        routing_key: &str,
        arguments: &Arguments,
    ) -> Result<bool, RabbitError> {
        let operation = format!("unbind {target} from exchange {source:?} by key {routing_key:?}");
        let all =
            self.bindings_between(vhost, source, target).await.map_err(|error| rename(error, &operation))?;
        let Some(found) =
            all.iter().find(|one| one.routing_key == routing_key && one.arguments == *arguments)
        else {
            return Ok(false);
        };
        let mut segments = between(vhost, source, target).to_vec();
        segments.push(&found.properties_key);
        self.remove(operation, &segments, &[]).await
    }

    /// Deletes a queue with all its messages. Whether it was there. A condition that does not hold is
    /// [`ErrorKind::Refused`]; neither holds anyone back from a stream, and `if_empty` breaks on quorum queues.
    pub async fn delete_queue(
        &self,
        vhost: &str,
        name: &str,
        if_empty: bool,
        if_unused: bool,
    ) -> Result<bool, RabbitError> {
        let conditions: Vec<_> = [("if-empty", if_empty), ("if-unused", if_unused)]
            .into_iter()
            .filter_map(|(condition, wanted)| wanted.then_some((condition, "true")))
            .collect();
        self.remove(format!("delete queue {name:?}"), &["queues", vhost, name], &conditions).await
    }

    /// Deletes an exchange with all its bindings. Whether it was there.
    pub async fn delete_exchange(
        &self,
        vhost: &str,
        name: &str,
        if_unused: bool,
    ) -> Result<bool, RabbitError> {
        let conditions: &[_] = if if_unused { &[("if-unused", "true")] } else { &[] };
        self.remove(format!("delete exchange {name:?}"), &["exchanges", vhost, name], conditions).await
    }

    /// Makes a policy as given, whatever it was before. It is of the virtual host that it names.
    pub async fn put_policy(&self, policy: &Policy) -> Result<Declared, RabbitError> {
        let operation = format!("put policy {:?}", policy.name);
        self.put(operation, &policy.vhost, &["policies", &policy.vhost, &policy.name], policy).await
    }

    /// Deletes a policy. Whether it was there.
    pub async fn delete_policy(&self, vhost: &str, name: &str) -> Result<bool, RabbitError> {
        self.remove(format!("delete policy {name:?}"), &["policies", vhost, name], &[]).await
    }

    /// How many deliveries a message of a queue survives; `None` when the queue does not exist. Only quorum queues
    /// count, and since RabbitMQ 4.0 all do.
    pub async fn delivery_limit(
        &self,
        vhost: &str,
        name: &str,
    ) -> Result<Option<DeliveryLimit>, RabbitError> {
        let target = Target::Queue(name.to_owned());
        let columns = [("columns", "type,delivery_limit")];
        let Some(found) = self.find::<BTreeMap<String, Value>>(&target, vhost, &columns).await? else {
            return Ok(None);
        };
        let counts = found.get("type").is_none_or(|kind| kind != "classic" && kind != "stream");
        Ok(Some(match found.get("delivery_limit") {
            _ if !counts => DeliveryLimit::None,
            Some(Value::String(words)) if words == "unlimited" => DeliveryLimit::None,
            Some(Value::Number(limit)) => {
                limit.as_u64().map_or(DeliveryLimit::None, DeliveryLimit::Deliveries)
            }
            _ => DeliveryLimit::Untold,
        }))
    }

    /// Takes up to `count` messages from the head of a queue and gives them back: to where they were, but a quorum queue takes
    /// them at its end. It counts as a delivery: see [`RabbitClient::delivery_limit`]. Bodies are cut after `bytes`.
    pub async fn look_at_messages(
        &self,
        vhost: &str,
        name: &str,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<Message>, RabbitError> {
        let body = serde_json::json!({
            "count": count, "ackmode": "ack_requeue_true", "encoding": "auto", "truncate": bytes,
        });
        let call = Call {
            operation: format!("look at the messages of queue {name:?}"),
            method: Method::POST,
            segments: &["queues", vhost, name, "get"],
            query: &[],
        };
        self.http.ask(&call, Some(&body), self.terms).await
    }

    /// Makes everything in a definitions file; into one virtual host when it is named.
    pub async fn import_definitions(
        &self,
        vhost: Option<&str>,
        definitions: &Value,
    ) -> Result<(), RabbitError> {
        let segments: Vec<_> = std::iter::once("definitions").chain(vhost).collect();
        let operation = "import definitions".to_owned();
        self.change(operation, vhost.unwrap_or_default(), Method::POST, &segments, &[], Some(definitions))
            .await
            .map(drop)
    }

    /// Whether a virtual host exists.
    pub(super) async fn vhost_exists(&self, vhost: &str) -> Result<bool, RabbitError> {
        let operation = format!("look for virtual host {vhost:?}");
        let segments = ["exchanges", vhost, EVERYWHERE];
        let call = get(operation, &segments, NO_STATS);
        match self.http.read::<BTreeMap<String, Value>>(&call, self.terms).await {
            Ok(_) => Ok(true),
            // In RabbitMQ's own words: what stands before it may answer 404 in JSON, too.
            Err(error) if error.kind == ErrorKind::NotFound && error.message == "Not Found" => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn read<T: serde::de::DeserializeOwned>(
        &self,
        operation: &str,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, RabbitError> {
        self.http.read(&get(operation.to_owned(), segments, query), self.terms).await
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        vhost: Option<&str>,
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, RabbitError> {
        let segments: Vec<_> = std::iter::once(what).chain(vhost).collect();
        let operation = format!("list {}", what.replace('-', " "));
        let call = get(operation, &segments, query);
        let listed: Listed<T> = match (self.http.read(&call, self.terms).await, vhost) {
            (Err(error), Some(vhost)) if error.kind == ErrorKind::NotFound => {
                // On the heap: many listings are under way at once, and this is rare.
                Box::pin(self.vhost_must_exist(call.operation, vhost)).await?;
                return Err(error);
            }
            (listed, _) => listed?,
        };
        Ok(listed
            .0
            .into_iter()
            .filter_map(|one| match one {
                Record::Whole(one) => Some(one),
                Record::Gone(_) => None,
            })
            .collect())
    }

    /// One object; a 404 is asked about: the virtual host may be what is missing.
    async fn find<T: serde::de::DeserializeOwned>(
        &self,
        object: &Target,
        vhost: &str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, RabbitError> {
        let operation = format!("read {object}");
        let collection = match object {
            Target::Queue(_) => "queues",
            Target::Exchange(_) => "exchanges",
        };
        match self.http.read(&get(operation, &[collection, vhost, object.name()], query), self.terms).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind == ErrorKind::NotFound => {
                self.vhost_must_exist(error.operation, vhost).await.map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    /// Bindings; RabbitMQ lists none also where there is no virtual host.
    async fn bindings(
        &self,
        operation: String,
        vhost: &str,
        segments: &[&str],
    ) -> Result<Vec<BindingInfo>, RabbitError> {
        let call = get(operation, segments, &[]);
        let found: Vec<BindingInfo> = self.http.read(&call, self.terms).await?;
        let found = declared_only(found);
        if found.is_empty() {
            self.vhost_must_exist(call.operation, vhost).await?;
        }
        Ok(found)
    }

    async fn vhost_must_exist(&self, operation: String, vhost: &str) -> Result<(), RabbitError> {
        match self.vhost_exists(vhost).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(RabbitError::no_vhost(operation, vhost)),
            Err(error) => Err(rename(error, &operation)),
        }
    }

    async fn put(
        &self,
        operation: String,
        vhost: &str,
        segments: &[&str],
        body: &(impl Serialize + Sync),
    ) -> Result<Declared, RabbitError> {
        let status = self.change(operation, vhost, Method::PUT, segments, &[], Some(body)).await?;
        Ok(Declared { created: status == StatusCode::CREATED })
    }

    async fn remove(
        &self,
        operation: String,
        segments: &[&str],
        conditions: &[(&str, &str)],
    ) -> Result<bool, RabbitError> {
        match self.change(operation, "", Method::DELETE, segments, conditions, None::<&()>).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn change(
        &self,
        operation: String,
        vhost: &str,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<&(impl Serialize + Sync + ?Sized)>,
    ) -> Result<StatusCode, RabbitError> {
        let call = Call { operation, method, segments, query };
        self.http.write(&call, body.as_ref(), self.terms).await.map_err(|error| {
            if error.kind == ErrorKind::NotFound && error.message == "vhost_not_found" {
                RabbitError::no_vhost(error.operation, vhost)
            } else {
                error
            }
        })
    }
}

fn get<'a>(operation: String, segments: &'a [&'a str], query: &'a [(&'a str, &'a str)]) -> Call<'a> {
    Call { operation, method: Method::GET, segments, query }
}

/// The address of the bindings between two ends.
fn between<'a>(vhost: &'a str, source: &'a str, target: &'a Target) -> [&'a str; 6] {
    let kind = match target {
        Target::Queue(_) => "q",
        Target::Exchange(_) => "e",
    };
    ["bindings", vhost, "e", source, kind, target.name()]
}

fn declared_only(mut bindings: Vec<BindingInfo>) -> Vec<BindingInfo> {
    bindings.retain(|binding| !binding.source.is_empty());
    bindings
}

fn rename(error: RabbitError, operation: &str) -> RabbitError {
    RabbitError { operation: operation.to_owned(), ..error }
}
