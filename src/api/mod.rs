//! The custom resources: what a person types, and what Spillway answers in `status`.
//!
//! One file per kind. These types are the *raw* form: they are turned into validated values once
//! (`topology`, `scaling`), and later code never looks at the raw spec again. Field docs are
//! written for the person who types `kubectl explain`.
//!
//! * [`broker`], [`topic`], [`exchange`], [`queue`], [`binding`], [`consumer`]: the kinds
//! * [`policy`]: the three choices that every topology kind has, and their defaults
//! * [`conditions`]: condition types and reasons, a closed set
//! * [`duration`]: `30s`, `5m`, `168h`; [`bytes`]: `100Mi`; [`arguments`]: RabbitMQ's maps of values
//! * [`schema`]: helpers that bound what a schema accepts

// `kubectl explain` shows these docs as they are: backticks around every value are noise there.
#![allow(clippy::doc_markdown)]

pub mod arguments;
pub mod binding;
pub mod broker;
pub mod bytes;
pub mod conditions;
pub mod consumer;
pub mod duration;
pub mod exchange;
pub mod policy;
pub mod queue;
pub mod schema;
pub mod topic;

pub use binding::{Binding, BindingSpec, BindingStatus};
pub use broker::{Broker, BrokerRef, BrokerSpec, BrokerStatus};
pub use consumer::{Consumer, ConsumerSpec, ConsumerStatus};
pub use duration::Duration;
pub use exchange::{Exchange, ExchangeSpec, ExchangeStatus};
pub use queue::{Queue, QueueSpec, QueueStatus};
pub use topic::{Topic, TopicSpec, TopicStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The API group of every kind.
pub const GROUP: &str = "spillway.dev";

/// The one field manager that Spillway writes with.
pub const FIELD_MANAGER: &str = "spillway";

/// The finalizer that keeps an object until its broker object is dealt with.
pub const FINALIZER: &str = "spillway.dev/topology";

/// Annotations that people set on objects.
pub mod annotation {
    /// `"true"` freezes one object: nothing is written to its broker.
    pub const PAUSED: &str = "spillway.dev/paused";
    /// Approves the plan whose hash is given: the very steps, as long as it stays on, and no others.
    pub const APPROVE_PLAN: &str = "spillway.dev/approve-plan";
    /// `"true"` lets a deleted object go without touching the broker.
    pub const FORCE_RELEASE: &str = "spillway.dev/force-release";
    /// Accepts the cluster id that is given as the Broker's own.
    pub const ACCEPT_CLUSTER: &str = "spillway.dev/accept-cluster";
    /// `"true"` clears the `DataLost` condition.
    pub const ACKNOWLEDGE_DATA_LOSS: &str = "spillway.dev/acknowledge-data-loss";
    /// Spillway's own note on a Binding of what it is about to make; of no meaning once the status says what was made.
    pub const CLAIM: &str = "spillway.dev/claim";
}

/// Annotations that Spillway sets itself.
pub mod own_annotation {
    /// On the operator's Lease: the namespaces that it watches, with commas between; `*` for all.
    pub const WATCHES: &str = "spillway.dev/watches";
}

/// Labels that Spillway sets.
pub mod label {
    /// On a companion CR: `dead-letter` or `retry`.
    pub const COMPANION: &str = "spillway.dev/companion";
    /// On what Spillway makes for a Consumer: the Consumer's name.
    pub const CONSUMER: &str = "spillway.dev/consumer";
}

/// All CRDs, in the order in which a person meets them.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds =
        vec![Broker::crd(), Topic::crd(), Exchange::crd(), Queue::crd(), Binding::crd(), Consumer::crd()];
    let versions = crds.iter_mut().flat_map(|crd| &mut crd.spec.versions);
    for schema in versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut()) {
        schema::flow_descriptions(schema);
    }
    crds
}
