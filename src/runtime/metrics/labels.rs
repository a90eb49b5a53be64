//! Label sets. Every value is from a closed set, or the name of an object that exists.

use prometheus_client::encoding::EncodeLabelSet;

use super::owned::Owned;

/// Labels without an owner: their values are few and stay.
macro_rules! labels {
    ($($name:ident { $($field:ident: $type:ty),+ $(,)? })+) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name { $(pub $field: $type),+ }
    )+};
}

labels! {
    Reconcile { kind: &'static str, result: &'static str }
    Kind { kind: &'static str }
    Operation { operation: &'static str }
    ApiWrite { verb: &'static str, resource: &'static str }
    Build { version: &'static str, revision: &'static str }
    Object { kind: &'static str, namespace: String, name: String }
    Consumer { namespace: String, name: String }
    Decision { namespace: String, name: String, bound: &'static str }
    ScalePatch { namespace: String, name: String, direction: &'static str }
    Broker { broker: String }
    BrokerRequest { broker: String, operation: &'static str, result: &'static str }
}

impl Owned for Object {
    type Owner = Self;

    fn owner(&self) -> Self {
        self.clone()
    }
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
