//! Specs, validated once. Later code never looks at a raw spec again. What the API server's schema
//! already refused is refused here again: a CR may come from a file.

mod settings;

use std::collections::BTreeSet;

use serde_json::json;

use self::settings::{declared, settings};
use super::binding::{BindingId, Target};
use super::policy::{Kind, Subject};
use super::settle::Settings;
use super::value::{check_arguments, check_name, check_own_name, invalid};
use crate::api::arguments::Arguments;
use crate::api::binding::Binding;
use crate::api::exchange::Exchange;
use crate::api::queue::{ApplyVia, OnImmutableChange, Queue, QueueType};
use crate::topology::Rejection;

/// The policy key and argument of an exchange's alternate.
const ALTERNATE: &str = "alternate-exchange";

/// An exchange as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredExchange {
    /// Its name at the broker.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Whether it outlives a restart.
    pub durable: bool,
    /// Whether it goes with its last binding.
    pub auto_delete: bool,
    /// Whether only exchanges may publish to it.
    pub internal: bool,
    /// The arguments that it is declared with.
    pub arguments: Arguments,
    /// What its policy sets.
    pub settings: Settings,
}

impl DesiredExchange {
    /// Reads a CR.
    pub fn of(exchange: &Exchange) -> Result<Self, Rejection> {
        let (name, spec) = (exchange.exchange_name(), &exchange.spec);
        check_own_name("exchange", name)?;
        let of = format!("exchange {name:?}");
        if spec.kind.is_empty() {
            return Err(invalid(format!("{of} needs a type")));
        }
        check_arguments(&of, &spec.arguments)?;
        if spec.arguments.contains_key(ALTERNATE) {
            return Err(invalid(format!("{of}: set alternateExchange instead of the argument {ALTERNATE}")));
        }
        if let Some(alternate) = &spec.alternate_exchange {
            check_name("alternate exchange", alternate)?;
            if alternate == name {
                return Err(invalid(format!("{of} cannot be its own alternate exchange")));
            }
        }
        Ok(Self::unchecked(exchange))
    }

    /// What a CR says, right or wrong: for what only compares.
    #[must_use]
    pub fn unchecked(exchange: &Exchange) -> Self {
        let spec = &exchange.spec;
        let settings = spec.alternate_exchange.iter().map(|name| (ALTERNATE.to_owned(), json!(name)));
        Self {
            name: exchange.exchange_name().to_owned(),
            kind: spec.kind.clone(),
            durable: spec.durable,
            auto_delete: spec.auto_delete,
            internal: spec.internal,
            arguments: spec.arguments.clone(),
            settings: settings.collect(),
        }
    }

    /// The exchange as policies see it.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject { kind: Kind::Exchange, name: &self.name }
    }
}

/// A queue as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredQueue {
    /// Its name at the broker.
    pub name: String,
    /// Its type.
    pub kind: QueueType,
    /// Whether it outlives a restart.
    pub durable: bool,
    /// The arguments that are fixed at declaration whatever `via` says, `x-queue-type` among them.
    pub arguments: Arguments,
    /// Limits, times and dead letters, by the names that policies have for them.
    pub settings: Settings,
    /// How the settings reach the queue.
    pub via: ApplyVia,
    /// Its inline bindings.
    pub bindings: BTreeSet<BindingId>,
    /// Whether only one consumer at a time may get messages. Left out of a declaration when false:
    /// streams refuse even that.
    pub single_active_consumer: bool,
    /// What to do when something differs that is fixed at declaration.
    pub on_immutable_change: OnImmutableChange,
}

impl DesiredQueue {
    /// Reads a CR. `sources` are the exchanges of its inline bindings, in order, as resolved.
    pub fn of(queue: &Queue, sources: &[String]) -> Result<Self, Rejection> {
        let (name, spec) = (queue.queue_name(), &queue.spec);
        check_own_name("queue", name)?;
        let of = format!("queue {name:?}");
        if !spec.durable && spec.kind != QueueType::Classic {
            return Err(invalid(format!("{of}: only a classic queue may be durable: false")));
        }
        let on_immutable_change = spec.on_immutable_change.unwrap_or_default();
        if on_immutable_change == OnImmutableChange::RecreateIfEmpty && spec.kind == QueueType::Stream {
            return Err(invalid(format!(
                "{of}: a stream is never recreated: onImmutableChange RecreateIfEmpty is for classic and quorum queues"
            )));
        }
        if sources.len() != spec.bindings.len() {
            return Err(invalid(format!("{of}: not every binding's source is known")));
        }
        let mut bindings = BTreeSet::new();
        for (inline, source) in spec.bindings.iter().zip(sources) {
            let target = Target::Queue(name.to_owned());
            bindings.insert(binding(source, target, &inline.routing_key, &inline.arguments)?);
        }
        Ok(Self {
            name: name.to_owned(),
            kind: spec.kind,
            durable: spec.durable,
            arguments: declared(&of, spec)?,
            settings: settings(name, spec)?,
            via: spec.apply_via,
            bindings,
            single_active_consumer: spec.single_active_consumer,
            on_immutable_change,
        })
    }

    /// The queue as policies see it.
    #[must_use]
    pub fn subject(&self) -> Subject<'_> {
        Subject { kind: Kind::Queue(self.kind), name: &self.name }
    }

    /// All arguments that it is declared with.
    #[must_use]
    pub fn declaration(&self) -> Arguments {
        let mut arguments = self.arguments.clone();
        if self.via == ApplyVia::Arguments {
            let kind = Kind::Queue(self.kind);
            let settings = self.settings.iter().map(|(key, value)| (kind.argument(key), value.clone()));
            arguments.extend(settings);
        }
        arguments
    }
}

/// A binding as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredBinding {
    /// The binding itself.
    pub id: BindingId,
}

impl DesiredBinding {
    /// Reads a CR, its source and destination resolved.
    pub fn of(cr: &Binding, source: &str, target: Target) -> Result<Self, Rejection> {
        Ok(Self { id: binding(source, target, &cr.spec.routing_key, &cr.spec.arguments)? })
    }
}

fn binding(
    source: &str,
    target: Target,
    routing_key: &str,
    arguments: &Arguments,
) -> Result<BindingId, Rejection> {
    let default = |name: &str| name.is_empty() || name == "amq.default";
    if default(source) || matches!(&target, Target::Exchange(name) if default(name)) {
        return Err(invalid(
            "the default exchange takes no bindings: every queue is bound to it by its name already",
        ));
    }
    check_name("exchange", source)?;
    match &target {
        Target::Queue(name) => check_name("queue", name)?,
        Target::Exchange(name) => check_name("exchange", name)?,
    }
    let id = BindingId {
        source: source.to_owned(),
        target,
        routing_key: routing_key.to_owned(),
        arguments: arguments.clone(),
    };
    if routing_key.len() > super::value::MAX_NAME {
        let shown: String = routing_key.chars().take(64).collect();
        return Err(invalid(format!(
            "binding key {shown:?}… has {} bytes; RabbitMQ takes at most 255",
            routing_key.len()
        )));
    }
    if id.blinds() {
        return Err(invalid(format!(
            "binding key {routing_key:?} has a ~ in it, and the binding has arguments: RabbitMQ makes such a binding and can list no bindings from then on; use another key, or no arguments"
        )));
    }
    if !id.has_address() {
        return Err(invalid(format!(
            "binding key {routing_key:?}: RabbitMQ's management interface has no address for such a binding without arguments"
        )));
    }
    check_arguments(&format!("binding of {id}"), arguments)?;
    Ok(id)
}

#[cfg(test)]
mod tests;
