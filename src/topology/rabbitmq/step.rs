//! The steps that change RabbitMQ. Each carries its words, written once: the plan, the event and
//! the log say the same.

use std::collections::BTreeSet;
use std::fmt;

use super::binding::BindingId;
use super::policy::ObservedPolicy;
use super::value::shown;
use crate::api::arguments::Arguments;
use crate::api::queue::QueueType;

/// One change at the broker, safe to repeat.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the exchange.
    DeclareExchange {
        /// Its name.
        name: String,
        /// Its type.
        kind: String,
        /// Whether it outlives a restart.
        durable: bool,
        /// Whether it goes with its last binding.
        auto_delete: bool,
        /// Whether only exchanges may publish to it.
        internal: bool,
        /// Its arguments.
        arguments: Arguments,
    },
    /// Make the queue.
    DeclareQueue {
        /// Its name.
        name: String,
        /// Its type, which is in the arguments, too.
        kind: QueueType,
        /// Whether it outlives a restart.
        durable: bool,
        /// All its arguments.
        arguments: Arguments,
    },
    /// Write Spillway's own policy for the object.
    PutPolicy {
        /// The policy as it is to be.
        policy: ObservedPolicy,
        /// The policy as it is.
        before: Option<ObservedPolicy>,
        /// The policy of somebody else's in whose place it comes.
        displaced: Option<String>,
        /// The keys that it has from that one.
        carried: Vec<String>,
    },
    /// Put Spillway's own policy once more, as it is: RabbitMQ lost it while another one changed.
    ReapplyPolicy {
        /// The policy as it is, and is to be.
        policy: ObservedPolicy,
    },
    /// Remove Spillway's own policy, which is not needed any more.
    DeletePolicy {
        /// Its name.
        name: String,
    },
    /// Make a binding.
    Bind(BindingId),
    /// Remove a binding that Spillway made.
    Unbind(BindingId),
    /// Delete the queue, to declare it anew. Only after [`super::deletion::may_recreate`] said so.
    DeleteQueue {
        /// Its name.
        name: String,
        /// Whether it is a classic queue: RabbitMQ itself then refuses unless it is empty and
        /// unused. Of other types it knows no such condition.
        classic: bool,
        /// What led to it when this was planned: bindings that come or go later want another plan.
        bindings: BTreeSet<BindingId>,
    },
}

impl Step {
    /// The request that it takes, as metrics name it.
    #[must_use]
    pub const fn request(&self) -> &'static str {
        match self {
            Self::DeclareExchange { .. } => "DeclareExchange",
            Self::DeclareQueue { .. } => "DeclareQueue",
            Self::PutPolicy { .. } | Self::ReapplyPolicy { .. } => "PutPolicy",
            Self::DeletePolicy { .. } => "DeletePolicy",
            Self::Bind(_) => "Bind",
            Self::Unbind(_) => "Unbind",
            Self::DeleteQueue { .. } => "DeleteQueue",
        }
    }

    /// A reason for the event: one word, past tense.
    #[must_use]
    pub const fn event(&self) -> &'static str {
        match self {
            Self::DeclareExchange { .. } | Self::DeclareQueue { .. } => "Declared",
            Self::PutPolicy { .. } | Self::ReapplyPolicy { .. } => "PolicySet",
            Self::DeletePolicy { .. } => "PolicyDeleted",
            Self::Bind(_) => "Bound",
            Self::Unbind(_) => "Unbound",
            Self::DeleteQueue { .. } => "Deleted",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeclareExchange { name, kind, durable, auto_delete, internal, arguments } => {
                write!(f, "declare the {kind} exchange {name:?}")?;
                for (is, word) in [
                    (!durable, "not durable"),
                    (*auto_delete, "deleted with its last binding"),
                    (*internal, "internal"),
                ] {
                    if is {
                        write!(f, ", {word}")?;
                    }
                }
                with(f, arguments)
            }
            Self::DeclareQueue { name, kind, durable, arguments } => {
                write!(f, "declare the {} queue {name:?}", kind.as_str())?;
                if !durable {
                    f.write_str(", not durable")?;
                }
                with(f, arguments)
            }
            Self::PutPolicy { policy, before, displaced, carried } => {
                put_policy(f, policy, before.as_ref(), displaced.as_deref(), carried)
            }
            Self::ReapplyPolicy { policy } => {
                write!(f, "set policy {:?} once more: RabbitMQ does not apply it", policy.name)
            }
            Self::DeletePolicy { name } => write!(f, "delete policy {name:?}, which is not needed any more"),
            Self::Bind(binding) => write!(f, "bind {binding}"),
            Self::Unbind(binding) => write!(f, "unbind {binding}"),
            Self::DeleteQueue { name, .. } => {
                write!(f, "delete the queue {name:?}, which is empty, to declare it anew")
            }
        }
    }
}

fn with(f: &mut fmt::Formatter<'_>, arguments: &Arguments) -> fmt::Result {
    if arguments.is_empty() { Ok(()) } else { write!(f, " with {}", shown(arguments)) }
}

fn put_policy(
    f: &mut fmt::Formatter<'_>,
    policy: &ObservedPolicy,
    before: Option<&ObservedPolicy>,
    displaced: Option<&str>,
    carried: &[String],
) -> fmt::Result {
    let own = policy.definition.iter().filter(|(key, _)| !carried.contains(key));
    write!(f, "set policy {:?}: {}", policy.name, shown(own))?;
    if let Some(displaced) = displaced {
        write!(f, "; it takes the place of policy {displaced:?}")?;
        let kept = policy.definition.iter().filter(|(key, _)| carried.contains(key));
        let kept = shown(kept);
        if !kept.is_empty() {
            write!(f, ", of which it keeps {kept}")?;
        }
    }
    let Some(before) = before else { return Ok(()) };
    write!(f, " (was: {}", shown(&before.definition))?;
    for (what, is, was) in
        [("pattern", &policy.pattern, &before.pattern), ("apply-to", &policy.apply_to, &before.apply_to)]
    {
        if is != was {
            write!(f, ", {what} {was}")?;
        }
    }
    if before.priority != policy.priority {
        write!(f, ", priority {}", before.priority)?;
    }
    f.write_str(")")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policys_words_show_what_it_keeps_of_the_one_it_displaces() {
        let definition = [("max-length".to_owned(), json!(3)), ("expires".to_owned(), json!(60_000))];
        let policy = ObservedPolicy {
            name: "spillway.q.q".into(),
            definition: definition.into(),
            ..ObservedPolicy::default()
        };
        let step = Step::PutPolicy {
            before: Some(ObservedPolicy { priority: 7, ..policy.clone() }),
            policy,
            displaced: Some("all".into()),
            carried: vec!["expires".into()],
        };
        assert_eq!(
            step.to_string(),
            "set policy \"spillway.q.q\": max-length=3; it takes the place of policy \"all\", of which it keeps expires=60000 (was: expires=60000, max-length=3, priority 7)"
        );
    }
}
