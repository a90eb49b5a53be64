//! A metric family whose series go when their owner goes.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Metric;

use super::labels::Labels;

/// Labels that belong to something that comes and goes.
pub(super) trait Owned: Labels {
    /// What the series belongs to; all series of one owner go together.
    type Owner: Clone + Eq + Hash + Send + Sync + std::fmt::Debug + 'static;

    fn owner(&self) -> Self::Owner;
}

/// A family that can forget all series of one owner.
#[derive(Debug)]
pub(super) struct OwnedFamily<L: Owned, M> {
    family: Family<L, M>,
    series: Arc<Mutex<HashMap<L::Owner, HashSet<L>>>>,
}

impl<L: Owned, M: Metric + TypedMetric + Clone + Default> OwnedFamily<L, M> {
    /// A family that can forget what `family` shows.
    pub fn of_family(family: Family<L, M>) -> Self {
        Self { family, series: Arc::default() }
    }

    /// The series of `labels`.
    pub fn of(&self, labels: L) -> M {
        // The lock is held over both maps: a series that is made while its owner goes would stay.
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let metric = self.family.get_or_create_owned(&labels);
        series.entry(labels.owner()).or_default().insert(labels);
        metric
    }

    /// Removes one series.
    pub fn remove(&self, labels: &L) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        self.family.remove(labels);
        if let Some(owned) = series.get_mut(&labels.owner()) {
            owned.remove(labels);
        }
    }

    /// Removes all series of `owner`.
    pub fn forget(&self, owner: &L::Owner) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for labels in series.remove(owner).unwrap_or_default() {
            self.family.remove(&labels);
        }
    }

    /// Removes those series of `owner` that do not pass.
    pub fn keep(&self, owner: &L::Owner, passes: impl Fn(&L) -> bool) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owned) = series.get_mut(owner) {
            owned.retain(|labels| passes(labels) || !self.family.remove(labels));
        }
    }
}
