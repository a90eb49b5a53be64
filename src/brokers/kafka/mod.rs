//! Kafka: administration, offsets and groups over librdkafka.
//!
//! ```text
//! pool ──▶ batch (one object per call → bounded requests) ──▶ client (async, typed) ──▶ ffi ──▶ librdkafka
//!   one per Broker and Secret version                            settings, error, types: pure
//! ```
//!
//! Reading order: [`types`] (what goes in and out), [`settings`], [`error`], [`client`], [`batch`], [`pool`].
//! [`peek`] reads messages for a person; nothing else does.
//! `ffi` is the one file of the crate with `unsafe` code.

pub mod batch;
pub mod client;
mod connection;
mod coordinator;
pub mod error;
mod failover;
mod ffi;
mod live;
pub mod peek;
pub mod pool;
pub mod settings;
pub mod types;

pub use batch::{AdminBatcher, ObservedTopic, Observer};
pub use client::KafkaClient;
pub use error::{ErrorCode, KafkaError};
pub use live::wait_until_gone;
pub use pool::{BrokerKey, KafkaHandle, KafkaPool};
pub use settings::{KafkaSettings, SaslMechanism, SaslSettings};
pub use types::{
    ClusterInfo, ConfigEntry, ConfigQuery, ConfigSource, GroupDescription, GroupKind, GroupListing,
    GroupMember, GroupState, Isolation, NewTopic, Node, OffsetQuery, OffsetSpec, PartitionMeta,
    TopicConfigChange, TopicDescription, TopicMeta, TopicPartition,
};

pub use super::lane::Lane;
pub use super::settings::{Secret, TlsSettings};
