//! What this process wrote last, until the watch shows it: a pass that comes before the watch must not work on a status
//! that is history already.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::{Resource, ResourceExt as _};

/// Objects as the API server answered to writes, by UID.
#[derive(Default)]
pub struct Written(Mutex<HashMap<String, Box<dyn Any + Send>>>);

impl Written {
    /// Remembers what the API server answered to a write.
    pub fn remember<K: Resource + Clone + Send + 'static>(&self, object: &K) {
        if let Some(uid) = object.uid() {
            self.lock().insert(uid, Box::new(object.clone()));
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The newest form of an object: the cache's, or what was written since. What the cache has caught up with is
    /// forgotten.
    pub fn newest<K: Resource + Clone + 'static>(&self, cached: Arc<K>) -> Arc<K> {
        let Some(uid) = cached.uid() else { return cached };
        let mut written = self.lock();
        match written.get(&uid).and_then(|object| object.downcast_ref::<K>()) {
            Some(ours) if newer(ours, cached.as_ref()) => Arc::new(ours.clone()),
            _ => {
                written.remove(&uid);
                cached
            }
        }
    }

    /// A form of an object that is newer than the given one, which a pass may hold for long: what was written last, or
    /// the cache's where that has caught up and the memory of the write is gone.
    pub fn since<K: Resource + Clone + 'static>(
        &self,
        object: &K,
        cached: impl FnOnce() -> Option<Arc<K>>,
    ) -> Option<Arc<K>> {
        let uid = object.uid()?;
        let ours = {
            let written = self.lock();
            let ours = written.get(&uid).and_then(|ours| ours.downcast_ref::<K>());
            ours.filter(|ours| newer(*ours, object)).map(|ours| Arc::new(ours.clone()))
        };
        // In this order: a write is forgotten when the cache has it, not before.
        ours.or_else(|| {
            cached().filter(|cached| cached.uid().as_ref() == Some(&uid) && newer(cached.as_ref(), object))
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Box<dyn Any + Send>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resource versions of one object are numbers that grow (KEP-5504); where one is none, the cache is believed.
fn newer<K: Resource>(one: &K, other: &K) -> bool {
    version(other).is_some_and(|other| version(one) > Some(other))
}

fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
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
        written.remember(&object(11));
        assert_eq!(written.newest(Arc::new(object(9))), Arc::new(object(11)));
        assert_eq!(written.newest(Arc::new(object(100))), Arc::new(object(100)));
        assert_eq!(written.newest(Arc::new(object(9))), Arc::new(object(9)), "it is forgotten");
    }

    #[test]
    fn a_pass_sees_its_own_write_after_somebody_else_saw_the_cache_catch_up() {
        let (written, held) = (Written::default(), object(9));
        assert_eq!(of(written.since(&held, || None)), None);
        written.remember(&object(11));
        assert_eq!(of(written.since(&held, || Some(Arc::new(object(10))))).as_deref(), Some("11"));
        written.newest(Arc::new(object(11)));
        assert_eq!(of(written.since(&held, || Some(Arc::new(object(11))))).as_deref(), Some("11"));
    }

    #[test]
    fn another_object_of_the_same_name_is_not_a_newer_form() {
        let mut other = object(11);
        other.metadata.uid = Some("v".into());
        assert_eq!(of(Written::default().since(&object(9), || Some(Arc::new(other)))), None);
    }
}
