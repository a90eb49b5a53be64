//! What a broker has, as objects. Only reads.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;

use super::Args;
use crate::api::{Binding, Exchange, Queue, Topic};
use crate::apply;
use crate::brokers::kafka::KafkaHandle;
use crate::brokers::lane::Lane;
use crate::brokers::rabbitmq::{Policy, QueueInfo, RabbitHandle};
use crate::cli::offline::export::Exporter;
use crate::cli::offline::export::rabbitmq::{unsaid_of_exchange, unsaid_of_queue};
use crate::cli::offline::links::{kafka_said, rabbitmq_said};
use crate::topology::Rejection;
use crate::topology::rabbitmq::Target;
use crate::topology::rabbitmq::policy::{exchange_policy_name, queue_policy_name};
use crate::topology::rabbitmq::value::{has_whole_float, is_addressable};

/// Topics that are looked at at once.
const AT_ONCE: usize = 1_000;

/// Why what goes with whoever uses it is left out: what is exclusive or auto-delete.
const OF_A_CLIENT: &str = "of a client's own";
/// Why what was asked for is missing: what the manifest of it would not keep as it is,
pub const NOT_EMPTY: &str = "that would not plan empty";
/// a binding that would become another one on its way through the API server,
const WHOLE_FLOAT: &str = "with a number such as 1.0 in its arguments, of which Kubernetes makes 1";
/// and a queue whose node does not answer.
const UNTOLD: &str = "that RabbitMQ tells only in part";

/// What was found and what was left out.
#[derive(Default)]
pub struct Found {
    /// Topics.
    pub topics: Vec<Topic>,
    /// Exchanges.
    pub exchanges: Vec<Exchange>,
    /// Queues.
    pub queues: Vec<Queue>,
    /// Bindings.
    pub bindings: Vec<Binding>,
    /// How many broker objects were left out, by why.
    pub left_out: BTreeMap<&'static str, usize>,
    /// What is written in part.
    pub in_part: Vec<InPart>,
}

/// An object whose manifest does not say all that it is at the broker.
pub struct InPart {
    /// The manifest's kind and name.
    pub manifest: (&'static str, String),
    /// What the manifest is of, for a person.
    pub what: String,
    /// What it does not say.
    pub unsaid: Vec<String>,
}

impl Found {
    /// Counts one that is left out.
    pub fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_default() += 1;
    }

    /// Whether nothing is missing: what was left out is nobody's loss.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let missing = [NOT_EMPTY, UNTOLD, WHOLE_FLOAT];
        self.in_part.is_empty() && !missing.iter().any(|why| self.left_out.contains_key(why))
    }

    /// Notes what a manifest does not say, if there is anything.
    fn note(&mut self, kind: &'static str, name: String, what: String, unsaid: Vec<String>) {
        if !unsaid.is_empty() {
            self.in_part.push(InPart { manifest: (kind, name), what, unsaid });
        }
    }

    /// Keeps only what `keep` says of kind and name.
    pub fn keep(&mut self, keep: impl Fn(&'static str, &str) -> bool) {
        self.topics.retain(|object| keep("Topic", &object.name_any()));
        self.exchanges.retain(|object| keep("Exchange", &object.name_any()));
        self.queues.retain(|object| keep("Queue", &object.name_any()));
        self.bindings.retain(|object| keep("Binding", &object.name_any()));
        self.in_part.retain(|one| keep(one.manifest.0, &one.manifest.1));
    }
}

/// Kafka's topics.
pub async fn topics(args: &Args, kafka: &KafkaHandle, mut exporter: Exporter) -> Result<Found, Rejection> {
    let mut found = Found::default();
    let mut names = Vec::new();
    for topic in kafka.client.list_topics(apply::kafka::TIMEOUT).await.map_err(kafka_said)? {
        if topic.internal || topic.name.starts_with("__") {
            found.leave_out("of the broker's own");
        } else if args.wants(&topic.name) {
            names.push(topic.name);
        } else {
            found.leave_out("not asked for");
        }
    }
    names.sort_unstable();
    let mut seen = stream::iter(names)
        .map(async |name| {
            let seen = apply::kafka::observe(kafka, &name, Lane::User).await;
            (name, seen)
        })
        .buffered(AT_ONCE);
    while let Some((name, seen)) = seen.next().await {
        match seen.map_err(kafka_said)? {
            Some(seen) => found.topics.push(exporter.topic(&name, &seen)),
            None => found.leave_out("gone meanwhile"),
        }
    }
    Ok(found)
}

/// RabbitMQ's exchanges, queues and bindings.
pub async fn rabbitmq(
    args: &Args,
    rabbit: &RabbitHandle,
    mut exporter: Exporter,
) -> Result<Found, Rejection> {
    let mut seen = rabbit.observer.sweep(Lane::User).await.map_err(rabbitmq_said)?;
    for vhost in &args.vhost {
        // One that does not exist must not look like an empty one.
        rabbit.client.list_exchanges(Some(vhost)).await.map_err(rabbitmq_said)?;
    }
    let here = |vhost: &str| args.vhost.is_empty() || args.vhost.iter().any(|wanted| wanted == vhost);
    if let Some((_, error)) = seen.unlisted.iter().find(|(vhost, _)| here(vhost)) {
        return Err(rabbitmq_said(error.clone()));
    }
    seen.exchanges.retain(|exchange| here(&exchange.vhost));
    seen.exchanges.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    seen.queues.retain(|queue| here(&queue.vhost));
    seen.queues.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    seen.bindings.retain(|binding| here(&binding.vhost));

    let mut found = Found::default();
    let mut exported: BTreeSet<(String, Target)> = BTreeSet::new();
    for exchange in &seen.exchanges {
        let name = &exchange.name;
        let why = wanted(args, name).err().or_else(|| exchange.auto_delete.then_some(OF_A_CLIENT));
        if let Some(why) = why {
            found.leave_out(why);
            continue;
        }
        let own =
            own(&seen.policies, &exchange.vhost, &exchange_policy_name(name), exchange.policy.as_deref());
        let observed = apply::rabbitmq::seen_exchange(exchange);
        match exporter.exchange(&exchange.vhost, name, &observed, own) {
            Some(object) => {
                let unsaid = unsaid_of_exchange(&object, &observed, own);
                found.note("Exchange", object.name_any(), within("exchange", name, &exchange.vhost), unsaid);
                exported.insert((exchange.vhost.clone(), Target::Exchange(name.clone())));
                found.exchanges.push(object);
            }
            None => found.leave_out("of a type that Spillway does not keep"),
        }
    }
    let mut queues: Vec<&QueueInfo> = Vec::new();
    for queue in &seen.queues {
        let why = match wanted(args, &queue.name) {
            Err(why) => Some(why),
            Ok(()) if queue.untold.is_some() => Some(UNTOLD),
            Ok(()) if queue.exclusive || queue.auto_delete => Some(OF_A_CLIENT),
            Ok(()) if !matches!(queue.kind.as_str(), "classic" | "quorum" | "stream") => {
                Some("of a type that Spillway does not keep")
            }
            Ok(()) => None,
        };
        if let Some(why) = why {
            found.leave_out(why);
            continue;
        }
        exported.insert((queue.vhost.clone(), Target::Queue(queue.name.clone())));
        queues.push(queue);
    }
    for queue in queues {
        let own = own(&seen.policies, &queue.vhost, &queue_policy_name(&queue.name), queue.policy.as_deref());
        let known = |name: &str| exported.contains(&(queue.vhost.clone(), Target::Queue(name.to_owned())));
        let Ok(observed) = apply::rabbitmq::seen_queue(queue) else { continue };
        if let Some(object) = exporter.queue(&queue.vhost, &queue.name, &observed, own, known) {
            let unsaid = unsaid_of_queue(&object, &observed, own);
            found.note("Queue", object.name_any(), within("queue", &queue.name, &queue.vhost), unsaid);
            found.queues.push(object);
        }
    }
    let mut bindings: Vec<_> = seen
        .bindings
        .iter()
        .map(|binding| (binding.vhost.clone(), apply::rabbitmq::seen_binding(binding)))
        .filter(|(_, binding)| !binding.source.is_empty())
        .collect();
    bindings.sort();
    let fleeting: BTreeSet<(&str, &str)> = seen
        .exchanges
        .iter()
        .filter(|x| x.auto_delete)
        .map(|x| (x.vhost.as_str(), x.name.as_str()))
        .collect();
    for (vhost, binding) in bindings {
        // One that leads to what is not exported belongs to that, and one goes with an exchange that goes.
        if !binding.has_address() {
            found.leave_out("that no address can name");
        } else if binding.arguments.values().any(has_whole_float)
            && exported.contains(&(vhost.clone(), binding.target.clone()))
        {
            found.leave_out(WHOLE_FLOAT);
        } else if fleeting.contains(&(vhost.as_str(), binding.source.as_str())) {
            found.leave_out(OF_A_CLIENT);
        } else if exported.contains(&(vhost.clone(), binding.target.clone()))
            && !args.excludes(&binding.source)
        {
            found.bindings.push(exporter.binding(&vhost, &binding));
        } else {
            found.leave_out("that lead elsewhere");
        }
    }
    Ok(found)
}

/// A name at the broker, with its virtual host where that is not the usual one.
fn within(what: &str, name: &str, vhost: &str) -> String {
    if vhost == "/" {
        format!("{what} {name:?}")
    } else {
        format!("{what} {name:?} in virtual host {vhost:?}")
    }
}

/// Whether an exchange or a queue of this name is wanted, or why not.
fn wanted(args: &Args, name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.starts_with("amq.") || name.starts_with("__") {
        Err("of the broker's own")
    } else if !is_addressable(name) {
        Err("that no address can name")
    } else if args.wants(name) {
        Ok(())
    } else {
        Err("not asked for")
    }
}

/// What Spillway's own policy for an object sets, where it is the one in force.
fn own<'a>(
    policies: &'a [Policy],
    vhost: &str,
    name: &str,
    in_force: Option<&str>,
) -> Option<&'a BTreeMap<String, serde_json::Value>> {
    let ours = |policy: &&Policy| policy.vhost == vhost && policy.name == name && in_force == Some(name);
    policies.iter().find(ours).map(|policy| &policy.definition)
}
