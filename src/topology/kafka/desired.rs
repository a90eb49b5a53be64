//! A Topic's spec, validated once. Later code never looks at the raw spec again.

use std::collections::BTreeMap;

use crate::api::conditions::Reason;
use crate::api::topic::{Topic, TopicSpec};
use crate::topology::Rejection;

/// What Kafka keeps its own state in: offsets, transactions, share groups, the cluster's metadata and that of tiered storage.
/// Without them its groups, transactions or the cluster itself are lost. Other names with `__` are their users' own.
pub const KAFKAS_OWN: [&str; 5] = [
    "__cluster_metadata",
    "__consumer_offsets",
    "__remote_log_metadata",
    "__share_group_state",
    "__transaction_state",
];

/// Longest topic name that Kafka takes.
pub const MAX_NAME: usize = 249;

/// A topic as it is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredTopic {
    /// Its name at the broker.
    pub name: String,
    /// How many partitions; none: the broker's default, or as many as there are.
    pub partitions: Option<i32>,
    /// How many replicas; none: the broker's default, or as many as there are.
    pub replication_factor: Option<i16>,
    /// Configs to set.
    pub config: BTreeMap<String, String>,
}

impl DesiredTopic {
    /// Reads a CR. What the API server's schema already refused is refused here again: a CR may
    /// come from a file.
    pub fn of(topic: &Topic) -> Result<Self, Rejection> {
        let name = topic.topic_name();
        check_own_name(name)?;
        let TopicSpec { partitions, replication_factor, config, .. } = &topic.spec;
        if partitions.is_some_and(|n| n < 1) {
            return Err(invalid(format!("topic {name:?}: partitions must be at least 1")));
        }
        let replication_factor = replication_factor
            .map(|n| i16::try_from(n).ok().filter(|n| *n >= 1))
            .map(|n| {
                n.ok_or_else(|| invalid(format!("topic {name:?}: replicationFactor must be from 1 to 32767")))
            })
            .transpose()?;
        Ok(Self {
            name: name.to_owned(),
            partitions: *partitions,
            replication_factor,
            config: config.clone(),
        })
    }
}

fn invalid(message: String) -> Rejection {
    Rejection::new(Reason::InvalidSpec, message)
}

/// Kafka's rule for topic names (`org.apache.kafka.common.internals.Topic`).
fn check_name(name: &str) -> Result<(), Rejection> {
    let shown: String = name.chars().take(64).collect();
    if name.is_empty() || name == "." || name == ".." {
        return Err(invalid(format!("topic name {shown:?} is not allowed by Kafka")));
    }
    if name.len() > MAX_NAME {
        return Err(invalid(format!(
            "topic name {shown:?}… has {} characters; Kafka takes at most {MAX_NAME}",
            name.len()
        )));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(invalid(format!(
            "topic name {shown:?} is invalid: letters, digits, '.', '_' and '-' only"
        )));
    }
    Ok(())
}

/// Kafka's rule for topic names, for a topic that is declared: what a Consumer only reads may be Kafka's own.
pub fn check_own_name(name: &str) -> Result<(), Rejection> {
    check_name(name)?;
    if KAFKAS_OWN.contains(&name) {
        return Err(invalid(format!("topic {name:?} is Kafka's own: it makes and keeps it by itself")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topic::NOT_KAFKAS_OWN;
    use serde_json::json;

    #[test]
    fn what_kafka_keeps_its_own_state_in_is_nobodys_topic() {
        for name in KAFKAS_OWN {
            let spec = json!({"brokerRef": {"name": "kafka"}, "name": name, "managementPolicy": "Observe"});
            let refused =
                DesiredTopic::of(&Topic::new("t", serde_json::from_value(spec).unwrap())).unwrap_err();
            assert_eq!(refused.reason, Reason::InvalidSpec);
            assert!(refused.message.contains("Kafka's own"), "{}", refused.message);
            assert!(NOT_KAFKAS_OWN.contains(&format!("'{name}'")), "admission does not refuse {name}");
        }
        for users in ["__debezium-heartbeat", "__consumer_offsets.dlq", "_consumer_offsets"] {
            assert!(check_own_name(users).is_ok(), "{users}");
        }
    }

    #[test]
    fn names_follow_kafkas_rule() {
        for good in ["orders.v1", "A_b-c.9", &"x".repeat(MAX_NAME)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(MAX_NAME + 1)] {
            assert_eq!(check_name(bad).unwrap_err().reason, Reason::InvalidSpec, "{bad}");
        }
    }
}
