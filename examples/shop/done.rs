//! Which events this process has done: what comes twice is done once.

use std::collections::{HashSet, VecDeque};

/// How many events a process remembers as done. At 100 bytes each, some 10 MB at most.
pub const REMEMBERED: usize = 100_000;

/// The events that this process has done, oldest forgotten first.
#[derive(Default)]
pub struct Done {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Done {
    pub fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Remembers an event, if it can be told from others.
    pub fn extend(&mut self, id: Option<String>) {
        if let Some(id) = id {
            self.insert(id);
        }
    }

    pub fn insert(&mut self, id: String) {
        if self.ids.insert(id.clone()) {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_event_is_forgotten_first() {
        let mut done = Done::default();
        for id in 0..=REMEMBERED {
            done.insert(id.to_string());
        }
        assert!(!done.contains("0"));
        assert!(done.contains("1") && done.contains(&REMEMBERED.to_string()));
        assert_eq!(done.ids.len(), REMEMBERED);
    }
}
