//! What this process wrote last, until the watch shows it: a pass that comes before the watch must not work on a status
//! that is history already.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::{Resource, ResourceExt as _};

/// Objects as the API server answered to writes, by UID, until the watch has caught up with them.
#[derive(Default)]
pub struct Written(Mutex<HashMap<String, Arc<dyn Any + Send + Sync>>>);

impl Written {
    /// Remembers what the API server answered to a write.
    pub fn remember<K: Resource + Send + Sync + 'static>(&self, object: K) {
        if let Some(uid) = object.uid() {
            self.lock().insert(uid, Arc::new(object));
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The watch shows an object: a write that it has caught up with is forgotten.
    pub fn shown<K: Resource + Send + Sync + 'static>(&self, cached: &K) {
        let Some(uid) = cached.uid() else { return };
        let mut written = self.lock();
        if let Some(ours) = written.get(&uid)
            && !ours.downcast_ref::<K>().is_some_and(|ours| newer(ours, cached) || took_away(ours))
        {
            written.remove(&uid);
        }
    }

    /// The newest form of an object that was read from the cache, however long ago: what the cache has now, or what was
    /// written since. What the cache has caught up with is forgotten.
    pub fn newest<K: Resource + Send + Sync + 'static>(
        &self,
        held: Arc<K>,
        cached: impl FnOnce() -> Option<Arc<K>>,
    ) -> Arc<K> {
        self.shown(held.as_ref());
        self.since(held.as_ref(), cached).unwrap_or(held)
    }

    /// A form of an object that is newer than the given one, which a pass may hold for long: what was written last, or
    /// the cache's where that has caught up and the memory of the write is gone.
    pub fn since<K: Resource + Send + Sync + 'static>(
        &self,
        object: &K,
        cached: impl FnOnce() -> Option<Arc<K>>,
    ) -> Option<Arc<K>> {
        let uid = object.uid()?;
        let ours = self.of(&uid).filter(|ours: &Arc<K>| {
            newer(ours.as_ref(), object) || took_away(ours.as_ref()) && !took_away(object)
        });
        // In this order: a write is forgotten when the cache has it, not before.
        ours.or_else(|| {
            cached().filter(|cached| cached.uid().as_ref() == Some(&uid) && newer(cached.as_ref(), object))
        })
    }

    fn of<K: Send + Sync + 'static>(&self, uid: &str) -> Option<Arc<K>> {
        self.lock().get(uid)?.clone().downcast().ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<dyn Any + Send + Sync>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resource versions of one object are numbers that grow (KEP-5504); where one is none, the cache is believed.
fn newer<K: Resource>(one: &K, other: &K) -> bool {
    version(other).is_some_and(|other| version(one) > Some(other))
}

/// Whether that was the answer to the write that took the last finalizer off: there is no newer form than that, and the
/// API server gives it the version of the one before.
fn took_away<K: Resource>(answer: &K) -> bool {
    answer.meta().deletion_timestamp.is_some() && answer.finalizers().is_empty()
}

fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::api::ObjectMeta;

    use super::*;

    fn object(version: u64) -> ConfigMap {
        let metadata = ObjectMeta {
            uid: Some("u".into()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    fn of(found: Option<Arc<ConfigMap>>) -> Option<String> {
        found.and_then(|found| found.resource_version())
    }

    #[test]
    fn what_was_written_counts_until_the_cache_has_it() {
        let written = Written::default();
        let newest = |held| written.newest(held, || None);
        written.remember(object(11));
        assert_eq!(newest(Arc::new(object(9))), Arc::new(object(11)));
        assert_eq!(newest(Arc::new(object(100))), Arc::new(object(100)));
        assert_eq!(newest(Arc::new(object(9))), Arc::new(object(9)), "it is forgotten");
    }

    #[test]
    fn who_read_the_cache_before_it_caught_up_and_asks_afterwards_is_not_told_history() {
        let (written, held) = (Written::default(), Arc::new(object(9)));
        written.remember(object(11));
        written.shown(&object(11));
        assert_eq!(written.newest(held, || Some(Arc::new(object(11)))), Arc::new(object(11)));
    }

    #[test]
    fn a_pass_sees_its_own_write_after_somebody_else_saw_the_cache_catch_up() {
        let (written, held) = (Written::default(), object(9));
        assert_eq!(of(written.since(&held, || None)), None);
        written.remember(object(11));
        assert_eq!(of(written.since(&held, || Some(Arc::new(object(10))))).as_deref(), Some("11"));
        written.newest(Arc::new(object(11)), || None);
        assert_eq!(of(written.since(&held, || Some(Arc::new(object(11))))).as_deref(), Some("11"));
    }

    #[test]
    fn a_write_is_forgotten_as_soon_as_the_watch_shows_it() {
        let written = Written::default();
        written.remember(object(11));
        written.shown(&object(9));
        assert!(!written.lock().is_empty());
        written.shown(&object(11));
        assert!(written.lock().is_empty());
    }

    #[test]
    fn an_object_whose_last_finalizer_went_is_not_deleted_once_more_before_the_watch_shows_that_it_is_gone() {
        let written = Written::default();
        let mut deleted = object(11);
        deleted.metadata.deletion_timestamp = Some(Time("2026-11-28T12:00:00Z".parse().unwrap()));
        deleted.metadata.finalizers = Some(vec!["spillway.dev/topology".into()]);
        let mut answer = deleted.clone();
        answer.metadata.finalizers = None;
        written.remember(answer.clone());
        for _ in 0..2 {
            assert_eq!(written.newest(Arc::new(deleted.clone()), || None), Arc::new(answer.clone()));
        }
        assert_eq!(written.since(&answer, || None), None, "there is none that is newer");
        written.forget("u");
        assert!(written.lock().is_empty());
    }

    #[test]
    fn another_object_of_the_same_name_is_not_a_newer_form() {
        let mut other = object(11);
        other.metadata.uid = Some("v".into());
        assert_eq!(of(Written::default().since(&object(9), || Some(Arc::new(other)))), None);
    }
}
