//! RabbitMQ through a client of the tests' own: what the operator says is never asked.

// A test reads better as `declare_queue("orders", json!({}))`.
#![allow(clippy::needless_pass_by_value)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

use super::env::RabbitAddress;
use super::wait::until;

const TIMEOUT: Duration = Duration::from_secs(40);
/// A look without statistics, which are seconds old; the policy in force is in it at once.
const AT_ONCE: &str = "?disable_stats=true&enable_queue_totals=true";

/// One virtual host of a RabbitMQ, which one test has to itself.
pub struct Rabbit {
    http: reqwest::Client,
    address: RabbitAddress,
    pub vhost: String,
    /// What else goes with the test, as paths of the management API.
    others: Mutex<Vec<Vec<String>>>,
}

impl Rabbit {
    /// Makes the virtual host.
    pub async fn with_vhost(address: &RabbitAddress, vhost: &str) -> Self {
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        // Plain HTTP only: without this, the system's certificates would be read for every test.
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            // RabbitMQ ends idle connections, and a request may be under way to one just then.
            .pool_max_idle_per_host(0)
            .timeout(TIMEOUT)
            .build()
            .expect("an HTTP client");
        let rabbit =
            Self { http, address: address.clone(), vhost: vhost.to_owned(), others: Mutex::default() };
        rabbit.put(&["vhosts", vhost], json!({})).await;
        rabbit
    }

    /// The same RabbitMQ, at one more virtual host, which goes with this one.
    pub async fn another_vhost(&self, vhost: &str) -> Self {
        self.goes_too(&["vhosts", vhost]);
        Self::with_vhost(&self.address, vhost).await
    }

    /// Makes a user who may do everything in this virtual host, and who goes with it.
    pub async fn user(&self, name: &str, password: &str, tags: &str) {
        self.goes_too(&["users", name]);
        self.put(&["users", name], json!({"password": password, "tags": tags})).await;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.put(&["permissions", &self.vhost, name], all).await;
    }

    /// Remembers what else to remove.
    pub fn goes_too(&self, path: &[&str]) {
        self.others.lock().expect("no panic while it was held").push(owned(path));
    }

    /// Removes the virtual host and what goes with it.
    pub async fn remove(&self) {
        self.delete(&["vhosts", &self.vhost]).await;
        let others = self.others.lock().expect("no panic while it was held").clone();
        for path in others {
            self.delete(&path.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
    }

    /// The cluster's id, RabbitMQ's version, and how many nodes run.
    pub async fn cluster(&self) -> (String, String, usize) {
        let id = self.get(&["global-parameters", "internal_cluster_id"], "").await.expect("an id");
        let overview = self.get(&["overview"], "").await.expect("an overview");
        let nodes = self.get(&["nodes"], "").await.expect("nodes");
        (text(&id["value"]), text(&overview["rabbitmq_version"]), nodes.as_array().map_or(0, Vec::len))
    }

    /// A queue, without statistics: `type`, `durable`, `arguments`, `policy`.
    pub async fn queue(&self, name: &str) -> Option<Value> {
        self.get(&["queues", &self.vhost, name], AT_ONCE).await
    }

    /// A queue that must be there.
    pub async fn the_queue(&self, name: &str) -> Value {
        self.queue(name).await.unwrap_or_else(|| panic!("there is no queue {name:?}"))
    }

    /// The names of all queues.
    pub async fn queues(&self) -> Vec<String> {
        self.names("queues").await
    }

    /// The names of all exchanges but RabbitMQ's own.
    pub async fn exchanges(&self) -> Vec<String> {
        let mut names = self.names("exchanges").await;
        names.retain(|name| !name.is_empty() && !name.starts_with("amq."));
        names
    }

    async fn names(&self, kind: &str) -> Vec<String> {
        let all = self.get(&[kind, &self.vhost], "?disable_stats=true").await.unwrap_or_default();
        let mut names: Vec<_> = all.as_array().into_iter().flatten().map(|one| text(&one["name"])).collect();
        names.sort();
        names
    }

    /// Waits until the queue is there and `is` holds for it.
    pub async fn until_queue(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(&format!("queue {name:?} {what}"), async || match self.queue(name).await {
            Some(queue) if is(&queue) => Ok(queue),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// Waits until the queue is gone.
    pub async fn until_no_queue(&self, name: &str) {
        until(&format!("queue {name:?} is gone"), async || match self.queue(name).await {
            None => Ok(()),
            Some(queue) => Err(queue.to_string()),
        })
        .await;
    }

    /// Waits until what policies and operator policies set for the queue, as RabbitMQ itself combines
    /// them, is `expected`. It says so in its statistics only, which come every five seconds.
    pub async fn until_effective(&self, name: &str, expected: &Value) {
        until(&format!("the effective policy of {name:?} is {expected}"), async || {
            let queue = self.get(&["queues", &self.vhost, name], "").await.unwrap_or_default();
            let none = json!({});
            let is = match &queue["effective_policy_definition"] {
                Value::Object(_) => &queue["effective_policy_definition"],
                // RabbitMQ writes an empty map as an empty list.
                Value::Array(list) if list.is_empty() => &none,
                other => return Err(format!("{other}, policy {}", queue["policy"])),
            };
            if is == expected { Ok(()) } else { Err(format!("{is}, policy {}", queue["policy"])) }
        })
        .await;
    }

    /// Waits until RabbitMQ's own figures, seconds old, are as `is` wants them.
    pub async fn until_told(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(&format!("queue {name:?} {what}, as figures tell"), async || {
            match self.get(&["queues", &self.vhost, name], "").await {
                Some(queue) if is(&queue) => Ok(queue),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Waits until RabbitMQ's own figures, seconds old, say that the queue holds as many messages.
    pub async fn until_counted(&self, name: &str, messages: u64) {
        self.until_told(name, &format!("holds {messages} messages"), |queue| queue["messages"] == messages)
            .await;
    }

    /// How many dead letters a quorum queue keeps until their target takes them (at-least-once).
    pub async fn waiting_dead_letters(&self, name: &str) -> Option<u64> {
        self.get(&["queues", &self.vhost, name], "").await?["messages_dlx"].as_u64()
    }

    /// An exchange: `type`, `durable`, `auto_delete`, `internal`, `arguments`, `policy`.
    pub async fn exchange(&self, name: &str) -> Option<Value> {
        self.get(&["exchanges", &self.vhost, name], "?disable_stats=true").await
    }

    /// A policy: `pattern`, `apply-to`, `priority`, `definition`.
    pub async fn policy(&self, name: &str) -> Option<Value> {
        self.get(&["policies", &self.vhost, name], "").await
    }

    /// Waits until the policy is there and `is` holds for it.
    pub async fn until_policy(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(&format!("policy {name:?} {what}"), async || match self.policy(name).await {
            Some(policy) if is(&policy) => Ok(policy),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// The names of all policies.
    pub async fn policies(&self) -> Vec<String> {
        self.names("policies").await
    }

    /// Every binding to a queue or exchange but that of the default exchange, as `source|key`, with
    /// `|arguments` where there are some; sorted.
    pub async fn bindings(&self, to: &str) -> Vec<String> {
        let all = self.get(&["bindings", &self.vhost], "").await.unwrap_or_default();
        let all = all.as_array().cloned().unwrap_or_default();
        let to_it = all.iter().filter(|one| one["destination"] == to && one["source"] != "");
        let mut found: Vec<_> = to_it.map(in_words).collect();
        found.sort();
        found
    }

    /// Waits until these are all bindings to it.
    pub async fn until_bindings(&self, to: &str, expected: &[&str]) {
        until(&format!("the bindings of {to:?} are {expected:?}"), async || {
            let found = self.bindings(to).await;
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }

    /// Publishes; whether it was routed anywhere.
    pub async fn publish(&self, exchange: &str, key: &str, payload: &str) -> bool {
        self.publish_with(exchange, key, payload, json!({"delivery_mode": 2})).await
    }

    /// As [`Rabbit::publish`], with properties.
    pub async fn publish_with(&self, exchange: &str, key: &str, payload: &str, properties: Value) -> bool {
        let exchange = if exchange.is_empty() { "amq.default" } else { exchange };
        let body = json!({
            "routing_key": key, "payload": payload, "payload_encoding": "string", "properties": properties,
        });
        let answer = self.post(&["exchanges", &self.vhost, exchange, "publish"], body).await;
        answer["routed"].as_bool().expect("routed")
    }

    /// Takes one message out of the queue; none: it has none that is ready.
    pub async fn take(&self, queue: &str) -> Option<String> {
        self.get_one(queue, "ack_requeue_false").await
    }

    /// Takes one message and rejects it, as a consumer that cannot work on it does.
    pub async fn reject(&self, queue: &str) -> Option<String> {
        self.get_one(queue, "reject_requeue_false").await
    }

    /// All messages of a queue, put back again: `payload`, `properties` with their `headers`.
    pub async fn messages(&self, queue: &str) -> Vec<Value> {
        let body = json!({"count": 10_000, "ackmode": "ack_requeue_true", "encoding": "auto"});
        self.post(&["queues", &self.vhost, queue, "get"], body).await.as_array().cloned().unwrap_or_default()
    }

    /// The consumers of a queue, with their `prefetch_count`; known some seconds late.
    pub async fn consumers(&self, queue: &str) -> Vec<Value> {
        let all = self.get(&["consumers", &self.vhost], "").await;
        let mut all = all.and_then(|all| all.as_array().cloned()).unwrap_or_default();
        all.retain(|consumer| consumer["queue"]["name"] == queue);
        all
    }

    /// Takes a message as soon as there is one.
    pub async fn until_message(&self, queue: &str) -> String {
        until(&format!("{queue:?} has a message"), async || {
            self.take(queue).await.ok_or_else(|| "none is ready".to_owned())
        })
        .await
    }

    async fn get_one(&self, queue: &str, mode: &str) -> Option<String> {
        let body = json!({"count": 1, "ackmode": mode, "encoding": "auto"});
        let answer = self.post(&["queues", &self.vhost, queue, "get"], body).await;
        Some(text(&answer.as_array()?.first()?["payload"]))
    }

    /// Declares a queue by hand.
    pub async fn declare_queue(&self, name: &str, arguments: Value) {
        self.put(&["queues", &self.vhost, name], json!({"durable": true, "arguments": arguments})).await;
    }

    /// Deletes a queue by hand.
    pub async fn delete_queue(&self, name: &str) {
        self.delete(&["queues", &self.vhost, name]).await;
    }

    /// Declares an exchange by hand.
    pub async fn declare_exchange(&self, name: &str, kind: &str) {
        self.put(&["exchanges", &self.vhost, name], json!({"type": kind, "durable": true})).await;
    }

    /// Declares an exchange by hand that goes with its last binding.
    pub async fn declare_fleeting_exchange(&self, name: &str) {
        let body = json!({"type": "topic", "durable": true, "auto_delete": true});
        self.put(&["exchanges", &self.vhost, name], body).await;
    }

    /// Deletes an exchange by hand.
    pub async fn delete_exchange(&self, name: &str) {
        self.delete(&["exchanges", &self.vhost, name]).await;
    }

    /// Binds a queue by hand.
    pub async fn bind(&self, source: &str, queue: &str, key: &str, arguments: Value) {
        let body = json!({"routing_key": key, "arguments": arguments});
        self.post(&["bindings", &self.vhost, "e", source, "q", queue], body).await;
    }

    /// Removes a binding without arguments by hand.
    pub async fn unbind(&self, source: &str, queue: &str, key: &str) {
        // An empty key has a name of its own there.
        let properties = if key.is_empty() { "~" } else { key };
        self.delete(&["bindings", &self.vhost, "e", source, "q", queue, properties]).await;
    }

    /// Writes a policy by hand.
    pub async fn put_policy(&self, name: &str, pattern: &str, priority: i64, definition: Value) {
        let body = json!({
            "pattern": pattern, "apply-to": "queues", "priority": priority, "definition": definition,
        });
        self.put(&["policies", &self.vhost, name], body).await;
    }

    /// Deletes a policy by hand.
    pub async fn delete_policy(&self, name: &str) {
        self.delete(&["policies", &self.vhost, name]).await;
    }

    /// Writes an operator policy.
    pub async fn put_operator_policy(&self, name: &str, pattern: &str, definition: Value) {
        let body = json!({"pattern": pattern, "apply-to": "queues", "definition": definition});
        self.put(&["operator-policies", &self.vhost, name], body).await;
    }

    /// Deletes an operator policy.
    pub async fn delete_operator_policy(&self, name: &str) {
        self.delete(&["operator-policies", &self.vhost, name]).await;
    }

    async fn get(&self, path: &[&str], query: &str) -> Option<Value> {
        // RabbitMQ answers 500 when what it lists goes away just then.
        let path = &path;
        until(&format!("GET {path:?} is answered"), async || {
            match self.call(Method::GET, path, query, None).await {
                (404, _) => Ok(None),
                (200, body) => Ok(Some(body)),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    pub async fn put(&self, path: &[&str], body: Value) {
        let answer = self.call(Method::PUT, path, "", Some(body)).await;
        assert!(matches!(answer.0, 201 | 204), "PUT {path:?}: {answer:?}");
    }

    async fn post(&self, path: &[&str], body: Value) -> Value {
        let answer = self.call(Method::POST, path, "", Some(body)).await;
        assert!(matches!(answer.0, 200 | 201), "POST {path:?}: {answer:?}");
        answer.1
    }

    /// What is gone already is fine.
    async fn delete(&self, path: &[&str]) {
        let answer = self.call(Method::DELETE, path, "", None).await;
        assert!(matches!(answer.0, 204 | 404), "DELETE {path:?}: {answer:?}");
    }

    async fn call(&self, method: Method, path: &[&str], query: &str, body: Option<Value>) -> (u16, Value) {
        let path: Vec<_> =
            path.iter().map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()).collect();
        let url = format!("{}/api/{}{query}", self.address.management, path.join("/"));
        let mut request = self.http.request(method, &url);
        request = request.basic_auth(&self.address.username, Some(&self.address.password));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

fn owned(path: &[&str]) -> Vec<String> {
    path.iter().map(|&part| part.to_owned()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn in_words(binding: &Value) -> String {
    let words = format!("{}|{}", text(&binding["source"]), text(&binding["routing_key"]));
    let arguments: BTreeMap<String, Value> =
        serde_json::from_value(binding["arguments"].clone()).unwrap_or_default();
    if arguments.is_empty() { words } else { format!("{words}|{}", json!(arguments)) }
}
