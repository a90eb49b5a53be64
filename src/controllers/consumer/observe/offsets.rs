//! The offsets of one sweep, small and quick to look up: a thousand groups are kept at a time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::brokers::kafka::{Isolation, KafkaError, OffsetQuery, OffsetSpec, TopicPartition};
use crate::scaling::Committed;

/// What a group committed, by topic and in the order of partitions.
#[derive(Debug, Default)]
pub struct GroupOffsets(HashMap<String, Vec<(i32, Committed)>>);

impl GroupOffsets {
    /// Nothing said of a partition is nothing committed.
    #[must_use]
    pub fn at(&self, topic: &str, partition: i32) -> Committed {
        let Some(offsets) = self.0.get(topic) else { return Committed::None };
        match offsets.binary_search_by_key(&partition, |(partition, _)| *partition) {
            Ok(at) => offsets[at].1,
            Err(_) => Committed::None,
        }
    }

    /// Whether it committed nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.0.values().flatten().any(|(_, committed)| matches!(committed, Committed::At(_)))
    }

    /// All offsets, added up.
    #[must_use]
    pub fn sum(&self) -> i64 {
        let offsets = self.0.values().flatten().filter_map(|(_, committed)| match committed {
            Committed::At(offset) => Some(*offset),
            Committed::None | Committed::Unknown => None,
        });
        offsets.fold(0, i64::wrapping_add)
    }
}

impl FromIterator<(TopicPartition, Result<Option<i64>, KafkaError>)> for GroupOffsets {
    fn from_iter<A>(answers: A) -> Self
    where
        A: IntoIterator<Item = (TopicPartition, Result<Option<i64>, KafkaError>)>,
    {
        let mut topics: HashMap<String, Vec<(i32, Committed)>> = HashMap::new();
        for (TopicPartition { topic, partition }, answer) in answers {
            let committed = match answer {
                Ok(Some(offset)) => Committed::At(offset),
                Ok(None) => Committed::None,
                Err(_) => Committed::Unknown,
            };
            topics.entry(topic).or_default().push((partition, committed));
        }
        for offsets in topics.values_mut() {
            offsets.sort_unstable_by_key(|(partition, _)| *partition);
            offsets.shrink_to_fit();
        }
        Self(topics)
    }
}

/// Both ends of a partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Ends {
    /// `topic/number`.
    pub name: Arc<str>,
    /// Log start offset.
    pub start: Option<i64>,
    /// High watermark.
    pub high: Option<i64>,
    /// Last stable offset, where somebody wants it.
    pub stable: Option<i64>,
    /// Why one of the first two could not be read.
    pub error: Option<String>,
}

impl Ends {
    /// Nothing is known yet.
    #[must_use]
    pub const fn of(name: Arc<str>) -> Self {
        Self { name, start: None, high: None, stable: None, error: None }
    }

    /// Takes in one answer.
    pub fn take(&mut self, spec: OffsetSpec, isolation: Isolation, answer: Result<i64, KafkaError>) {
        match (answer, spec, isolation) {
            (Ok(offset), OffsetSpec::Earliest, _) => self.start = Some(offset),
            (Ok(offset), OffsetSpec::Latest, Isolation::ReadUncommitted) => self.high = Some(offset),
            (Ok(offset), OffsetSpec::Latest, Isolation::ReadCommitted) => self.stable = Some(offset),
            (Err(error), _, Isolation::ReadUncommitted) => self.error = Some(error.message),
            (Err(_), _, Isolation::ReadCommitted) => {}
        }
    }
}

/// The ends of topics' partitions, each topic's in order.
pub type TopicEnds = HashMap<String, Vec<Ends>>;

/// The partition that a question was about.
pub fn partition<'a>(ends: &'a mut TopicEnds, query: &OffsetQuery) -> Option<&'a mut Ends> {
    ends.get_mut(&query.topic)?.get_mut(usize::try_from(query.partition).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_committed_and_what_cannot_be_read_is_not_known() {
        let at = |topic: &str, partition| TopicPartition { topic: topic.into(), partition };
        let failed = KafkaError::invalid_input("x", "y");
        let offsets: GroupOffsets = [
            (at("a", 2), Ok(Some(7))),
            (at("a", 0), Ok(None)),
            (at("b", 0), Err(failed)),
            (at("a", 1), Ok(Some(5))),
        ]
        .into_iter()
        .collect();
        let read = |topic, partition| offsets.at(topic, partition);
        assert_eq!(
            [read("a", 0), read("a", 1), read("a", 2)],
            [Committed::None, Committed::At(5), Committed::At(7)]
        );
        assert_eq!(
            (read("b", 0), read("b", 1), read("c", 0)),
            (Committed::Unknown, Committed::None, Committed::None)
        );
        assert_eq!(offsets.sum(), 12);
    }
}
