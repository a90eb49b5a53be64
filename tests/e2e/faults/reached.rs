//! Which writes of a change a walk came to, and to which it has to come.

use std::collections::BTreeSet;

use super::fault::{Fault, Moment, Place, Point, moments};

/// What the runs of one walk came to.
pub struct Reached {
    /// Writes that each run without a fault has.
    always: BTreeSet<String>,
    hit: BTreeSet<(String, Fault, Moment)>,
}

impl Reached {
    /// Nothing yet; `writes`: those of a run without a fault.
    pub fn new(writes: &[String]) -> Self {
        Self { always: writes.iter().cloned().collect(), hit: BTreeSet::new() }
    }

    /// One more run went through.
    pub fn note(&mut self, (place, fault, moment): &Point, hit: bool, writes: &[String]) {
        if !hit {
            self.always.retain(|write| writes.contains(write));
            return;
        }
        let write = match place {
            Place::Nth(number) => writes[number - 1].clone(),
            Place::First(name) => name.clone(),
        };
        self.hit.insert((write, *fault, *moment));
    }

    /// Faults that happened at no write of a name, although each run has one: writes that come at once change places.
    pub fn missed(&self, faults: &[Fault]) -> Vec<Point> {
        let all = self.always.iter().flat_map(|write| faults.iter().map(move |fault| (write, *fault)));
        let all = all.flat_map(|(write, fault)| {
            // Later ones leave what a kill before them would leave.
            let moments = moments(usize::MAX, fault, is_brokers(write)).iter();
            moments.map(move |moment| (write, fault, *moment))
        });
        let missed =
            all.filter(|(write, fault, moment)| !self.hit.contains(&((*write).clone(), *fault, *moment)));
        missed.map(|(write, fault, moment)| (Place::First(write.clone()), fault, moment)).collect()
    }

    /// Whether each run has this write.
    pub fn is_step(&self, write: &str) -> bool {
        self.always.contains(write)
    }
}

/// Whether a write goes to a broker.
pub fn is_brokers(write: &str) -> bool {
    !write.starts_with("Kubernetes")
}
