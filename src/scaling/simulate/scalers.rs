//! Who decides in a simulation: our `decide`, and what it is compared with.

use super::super::state::State;
use super::super::{Config, Decision, decide};
use super::plant::Plant;
use super::view::View;

/// Something that scales a plant.
pub(super) trait Scaler {
    /// Looks at the plant, if it is time to. Returns the count it wants written.
    fn poll(&mut self, plant: &Plant) -> Option<u32>;
}

/// Our own decisions, which know nothing of the plant's truth.
pub(super) struct Ours {
    config: Config,
    state: State,
    view: View,
    next: f64,
    /// The last decision.
    pub last: Option<Decision>,
    failed_over: bool,
    /// Every condition that was ever named.
    pub named: std::collections::BTreeSet<&'static str>,
}

impl Ours {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            state: State::default(),
            view: View::default(),
            next: 0.0,
            last: None,
            failed_over: false,
            named: std::collections::BTreeSet::new(),
        }
    }
}

impl Scaler for Ours {
    fn poll(&mut self, plant: &Plant) -> Option<u32> {
        if plant.now + 1e-6 < self.next {
            return None;
        }
        if plant.failed_over && !self.failed_over {
            self.failed_over = true;
            let learned = self.last.as_ref().map(|d| d.status.learned.rounded()).unwrap_or_default();
            self.state = State::seeded(&learned);
        }
        let seen = self.view.look(plant);
        let (decision, state) = decide(&self.config, &seen, std::mem::take(&mut self.state));
        self.state = state;
        self.next = plant.now + decision.next_check;
        self.named.extend(decision.conditions.iter().map(|c| c.kind.as_str()));
        let wanted = decision.patch.then_some(decision.replicas);
        self.last = Some(decision);
        wanted
    }
}

/// A fixed count.
pub(super) struct Static(pub u32);

impl Scaler for Static {
    fn poll(&mut self, plant: &Plant) -> Option<u32> {
        (plant.spec != self.0).then_some(self.0)
    }
}

/// Follows a plan.
pub(super) struct Planned<'a> {
    /// The count for each second.
    pub counts: &'a [u32],
}

impl Scaler for Planned<'_> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn poll(&mut self, plant: &Plant) -> Option<u32> {
        let wanted = *self.counts.get(plant.now as usize).or(self.counts.last())?;
        (wanted != plant.spec).then_some(wanted)
    }
}
