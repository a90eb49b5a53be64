//! Kafka topics: what is wanted, what was seen, and the steps between the two.
//!
//! * [`desired`]: a spec, validated once
//! * [`plan`]: desired + observed → steps, a gate that says whether to take them, or a rejection
//! * [`step`]: the steps and their words
//! * [`collision`]: names that Kafka would not tell apart
//! * [`companions`]: dead-letter and retry topics that a Topic implies
//! * [`deletion`]: what a deleted CR asks of the broker

pub mod collision;
pub mod companions;
pub mod deletion;
pub mod desired;
pub mod plan;
pub mod step;

pub use desired::DesiredTopic;
pub use plan::{Gate, Input, Loss, Memory, Plan, came_of_it, loss, plan};
pub use step::Step;

use std::collections::BTreeMap;

/// A topic as it was seen at the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedTopic {
    /// The topic's id (KIP-516); empty where the cluster does not know topic ids.
    pub id: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas its partitions have.
    pub replication_factor: i32,
    /// The configs set on the topic itself, the cluster's defaults left out.
    pub config: BTreeMap<String, String>,
}
