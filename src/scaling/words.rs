//! The sentence that a person reads at 3 a.m.: what, why, and from which numbers.

use std::fmt::Write as _;

use super::decision::{Bound, Condition, ConditionKind, Inputs};
use super::observation::Retry;
use super::text::Brief;

/// What the sentence is about.
pub(super) struct Story<'a> {
    pub spec: u32,
    pub replicas: u32,
    /// Whether the change is made, or why not.
    pub held_by: Option<&'static str>,
    pub bound: Bound,
    pub inputs: &'a Inputs,
    /// Seconds for which no replica may go, whatever is needed.
    pub rests: Option<f64>,
    /// Seconds that the newest message waits.
    pub delay: Option<f64>,
    pub target_delay: f64,
    /// What waits is a lower bound.
    pub partial: bool,
    /// What waits in retry topics or queues, if there are any.
    pub retry: Option<Retry>,
    pub conditions: &'a [Condition],
}

impl Story<'_> {
    pub fn tell(&self) -> String {
        let mut text = String::with_capacity(200);
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        if self.replicas == self.spec {
            write!(out, "{} replicas: ", self.spec)?;
        } else {
            write!(out, "{} → {} replicas: ", self.spec, self.replicas)?;
        }
        out.push_str(self.reason());
        if self.bound == Bound::Stabilization && self.inputs.class.is_some_and(|class| class < self.spec) {
            let needed = self.inputs.stabilization.round();
            write!(out, " (fewer after {} s of a lower need", Brief(needed))?;
            match self.rests.map(f64::round).filter(|&left| left > 0.0) {
                Some(left) => write!(out, ", and not for {} s)", Brief(left))?,
                None => out.push(')'),
            }
        }
        self.numbers(out)?;
        match self.retry.map(|retry| retry.lag) {
            Some(Some(lag)) if lag > 0 => write!(out, "; {lag} wait to be tried again")?,
            Some(None) => out.push_str("; how many wait to be tried again is not known"),
            _ => {}
        }
        for condition in self.conditions {
            write!(out, "; {}", condition.kind.as_str())?;
            if let Some(first) = condition.partitions.first() {
                write!(out, " {first}")?;
                if condition.partitions.len() > 1 {
                    write!(out, " and {} more", condition.partitions.len() - 1)?;
                }
            }
            if !condition.detail.is_empty() {
                write!(out, " ({})", condition.detail)?;
            }
        }
        if let Some(why) = self.held_by {
            write!(out, "; not patched: {why}")?;
        }
        Ok(())
    }

    fn reason(&self) -> &'static str {
        match self.bound {
            Bound::Paused => "paused",
            Bound::ScaleConflict => "someone else writes the same /scale",
            Bound::Unknown if self.conditions.iter().any(|c| c.kind == ConditionKind::Unsupported) => {
                "what it reads is of a kind that is not scaled on"
            }
            Bound::Unknown if self.replicas > self.spec => "not enough is known: onUnknown says how many",
            Bound::Unknown => "not enough is known to lower it",
            Bound::Stuck => "nothing that waits is being worked on",
            Bound::GroupUnstable => "the group does not come to rest",
            Bound::PodsNotReady => "pods asked for are not ready",
            Bound::Breaker => "dead letters hold it",
            Bound::Downstream => "more replicas brought nothing",
            Bound::Prefetch => "the work is with consumers that have not acknowledged it",
            Bound::Partitions => "more cannot work on these partitions",
            Bound::Max => "maxReplicas",
            Bound::Min => "minReplicas",
            Bound::TooFew => "fewer were too few for as much a while ago",
            Bound::Trial => "fewer are tried, as nothing shows what a replica can do",
            Bound::Stabilization => "waiting before a change",
            Bound::Bootstrap => "the rate of a replica is not known yet",
            Bound::Idle => "nothing to do",
            Bound::Rate => "for what arrives",
            Bound::Lag => "for what waits",
        }
    }

    fn numbers(&self, out: &mut String) -> std::fmt::Result {
        let i = self.inputs;
        if let Some(arrival) = i.arrival {
            /// Messages/s that are none, to a person.
            const HARDLY: f64 = 0.001;
            if arrival > 0.0 && arrival < HARDLY {
                out.push_str("; hardly anything arrives");
            } else {
                write!(out, "; {} messages/s arrive", Brief(arrival))?;
            }
        }
        if let Some(lag) = i.lag {
            let at_least = if self.partial { "at least " } else { "" };
            write!(out, ", {at_least}{lag} wait")?;
            if let Some(delay) = self.delay.filter(|_| lag > 0) {
                write!(out, " ({} s; target {} s)", Brief(delay), Brief(self.target_delay))?;
            }
        }
        match (i.mu, i.mu_age) {
            (Some(mu), Some(age)) => {
                write!(out, "; a replica does {}/s (measured {} s ago)", Brief(mu), Brief(age.round()))?;
            }
            (Some(mu), None) => write!(out, "; a replica is taken to do {}/s (not measured)", Brief(mu))?,
            _ => {}
        }
        if let Some(need) = i.need {
            write!(out, "; need {}", Brief(need))?;
            if let Some(class) = i.class {
                write!(out, ", as a size {class}")?;
            }
            if let Some(cap) = i.cap {
                write!(out, " of at most {cap}")?;
            }
        }
        Ok(())
    }
}
