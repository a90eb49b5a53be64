//! Label sets. Every value is from a closed set, or the name of an object that exists.

use std::hash::Hash;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;

use super::owned::Owned;

/// A label set whose names are known before it has a value.
pub(super) trait Labels:
    EncodeLabelSet + Clone + Eq + Hash + Send + Sync + std::fmt::Debug + 'static
{
    /// The names, in the order of the fields.
    const NAMES: &'static [&'static str];
}

macro_rules! labels {
    ($($name:ident { $($field:ident: $type:ty),+ $(,)? })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        #[allow(clippy::struct_field_names)] // They are the labels' names.
        pub(super) struct $name { $(pub $field: $type),+ }

        impl Labels for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];
        }
    )+};
}

labels! {
    Reconcile { kind: &'static str, result: &'static str }
    Kind { kind: &'static str }
    Waiting { kind: &'static str, lane: &'static str }
    Operation { operation: &'static str }
    ApiWrite { verb: &'static str, resource: &'static str }
    Build { version: &'static str, revision: &'static str }
    Object { kind: &'static str, namespace: Arc<str>, name: Arc<str> }
    Consumer { namespace: String, name: String }
    Guard { namespace: String, name: String, guard: &'static str }
    Decision { namespace: String, name: String, bound: &'static str }
    ScalePatch { namespace: String, name: String, direction: &'static str }
    Broker { namespace: String, broker: String }
    BrokerRequest { namespace: String, broker: String, operation: &'static str, result: &'static str }
}

impl Owned for Broker {
    type Owner = String;

    fn owner(&self) -> String {
        self.broker.clone()
    }
}

impl Owned for BrokerRequest {
    type Owner = String;

    fn owner(&self) -> String {
        self.broker.clone()
    }
}

/// A Consumer's namespace and name.
type Name = (String, String);

impl Owned for Consumer {
    type Owner = Name;

    fn owner(&self) -> Name {
        (self.namespace.clone(), self.name.clone())
    }
}

impl Owned for Guard {
    type Owner = Name;

    fn owner(&self) -> Name {
        (self.namespace.clone(), self.name.clone())
    }
}

impl Owned for Decision {
    type Owner = Name;

    fn owner(&self) -> Name {
        (self.namespace.clone(), self.name.clone())
    }
}

impl Owned for ScalePatch {
    type Owner = Name;

    fn owner(&self) -> Name {
        (self.namespace.clone(), self.name.clone())
    }
}
