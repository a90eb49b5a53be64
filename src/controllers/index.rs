//! Which objects have a key. Objects have several keys, and a key has one object more often than not: ten thousand
//! objects must not cost tens of MiB here.

use std::collections::HashMap;
use std::sync::Arc;

/// An object's namespace and name.
pub type Id = (String, String);

/// Objects by key.
#[derive(Default)]
pub struct Index(HashMap<Box<str>, Vec<Arc<Id>>>);

impl Index {
    /// The objects that have the key, by namespace and name.
    #[must_use]
    pub fn find(&self, key: &str) -> &[Arc<Id>] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The object has the key, whether or not it had it before.
    pub fn insert(&mut self, key: String, id: &Arc<Id>) {
        let ids = self.0.entry(key.into_boxed_str()).or_insert_with(|| Vec::with_capacity(1));
        if let Err(place) = ids.binary_search(id) {
            ids.insert(place, id.clone());
        }
    }

    /// The object has the key no more.
    pub fn remove(&mut self, key: &str, id: &Id) {
        let Some(ids) = self.0.get_mut(key) else { return };
        if let Ok(place) = ids.binary_search_by(|known| known.as_ref().cmp(id)) {
            ids.remove(place);
        }
        if ids.is_empty() {
            self.0.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_by_each_key_until_it_goes() {
        let id = |name: &str| Arc::new(("shop".to_owned(), name.to_owned()));
        let mut index = Index::default();
        for name in ["b", "a", "c", "a"] {
            index.insert("same".to_owned(), &id(name));
        }
        index.insert("own".to_owned(), &id("a"));
        let names = |index: &Index, key: &str| -> Vec<String> {
            index.find(key).iter().map(|id| id.1.clone()).collect()
        };
        assert_eq!(names(&index, "same"), ["a", "b", "c"]);
        index.remove("same", &id("b"));
        index.remove("same", &id("nobody"));
        assert_eq!(names(&index, "same"), ["a", "c"]);
        index.remove("own", &id("a"));
        assert!(index.find("own").is_empty());
        assert_eq!(index.0.len(), 1, "a key without objects is no entry");
    }
}
