//! What all kinds have in common, as tests look at it.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use spillway_operator::api::{Binding, Broker, Consumer, Exchange, Queue, Topic};

/// A kind of the operator's.
pub trait Object:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The conditions of its status.
    fn conditions(&self) -> &[Condition];
    /// The generation that its status is about.
    fn observed(&self) -> Option<i64>;

    /// One condition.
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions().iter().find(|condition| condition.type_ == kind)
    }

    /// A condition's message; empty if it is not there.
    fn message(&self, kind: &str) -> &str {
        self.condition(kind).map_or("", |condition| &condition.message)
    }

    /// The status as one line for each condition.
    fn summary(&self) -> String {
        let name = self.meta().name.as_deref().unwrap_or_default();
        let observed = format!("generation {:?}, observed {:?}", self.meta().generation, self.observed());
        let conditions = self.conditions().iter().map(|condition| {
            let Condition { type_, status, reason, message, .. } = condition;
            format!("\n    {type_}={status} {reason}: {message}")
        });
        format!("{} {name} ({observed}):{}", Self::kind(&()), conditions.collect::<String>())
    }
}

macro_rules! objects {
    ($($kind:ty),+) => {$(
        impl Object for $kind {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }

            fn observed(&self) -> Option<i64> {
                self.status.as_ref()?.observed_generation
            }
        }
    )+};
}

objects!(Broker, Topic, Exchange, Queue, Binding, Consumer);
