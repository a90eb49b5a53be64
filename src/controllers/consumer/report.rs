//! From a decision to what a person sees. Pure.

use jiff::Timestamp;

use super::observe::Trouble;
use super::registry::Front;
use crate::api::conditions::{self, Reason, Verdict};
use crate::api::consumer::{ConsumerStatus, DecisionStatus, LagStatus, LearnedStatus, RatesStatus};
use crate::scaling::{Bound, Condition, ConditionKind, Decision};

/// All that a status depends on.
pub struct Input<'a> {
    /// The status as it was last written.
    pub before: &'a ConsumerStatus,
    /// What the controller found.
    pub front: &'a Front,
    /// The decision; none where there is no target or no usable spec.
    pub decision: Option<&'a Decision>,
    /// Replicas that are wanted and ready, as the target says.
    pub replicas: Option<(u32, u32)>,
    /// Decides and says so, but does not patch.
    pub dry_run: bool,
    /// Frozen by annotation.
    pub paused: bool,
    /// Why nothing is known of what is read.
    pub trouble: Option<&'a Trouble>,
    /// The API server's words where it did not take the last patch.
    pub refused: Option<&'a str>,
    /// The generation that this is about.
    pub generation: Option<i64>,
    /// Now.
    pub now: Timestamp,
}

/// The status.
#[must_use]
pub fn status(input: &Input<'_>) -> ConsumerStatus {
    let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let mut status = input.before.clone();
    status.observed_generation = input.generation;
    status.conditions =
        conditions::merge(&input.before.conditions, &verdicts(input), input.generation, input.now);
    status.replicas = input.replicas.map(|(wanted, _)| number(wanted));
    status.ready_replicas = input.replicas.map(|(_, ready)| number(ready));
    status.zero_since = match input.replicas {
        Some((0, _)) => input.before.zero_since.clone().or_else(|| Some(second(input.now))),
        Some(_) => None,
        None => input.before.zero_since.clone(),
    };
    let Some(decision) = input.decision else {
        if matches!(input.front, Front::Bad { .. }) {
            // What was decided for another spec or target says nothing of this one. What was learned stays.
            (status.desired_replicas, status.partitions, status.cap) = (None, None, None);
            (status.lag, status.rates, status.decision) = (None, None, None);
        }
        return status;
    };
    status.desired_replicas = Some(number(decision.replicas));
    status.partitions = decision.status.partitions.map(number);
    status.cap = decision.status.cap.map(number);
    status.lag = Some(LagStatus {
        messages: decision.status.lag.messages.and_then(|n| i64::try_from(two_digits(n)).ok()),
        worst_partition: decision.status.lag.worst_partition.as_ref().map(ToString::to_string),
        seconds: decision.status.lag.seconds.map(whole),
    });
    status.rates = Some(RatesStatus {
        arrival: decision.status.arrival.map(text),
        per_replica: decision.status.per_replica.map(text),
    });
    status.learned = learned(decision);
    let same = input.before.decision.as_ref().filter(|old| {
        old.replicas == number(decision.replicas)
            && old.bound == decision.bound.as_str()
            && old.also.iter().map(String::as_str).eq(decision.also.iter().map(|bound| bound.as_str()))
    });
    status.decision = Some(match same {
        // The message stays as it was when the decision was made.
        Some(old) => old.clone(),
        None => DecisionStatus {
            replicas: number(decision.replicas),
            bound: decision.bound.as_str().into(),
            also: decision.also.iter().map(|bound| bound.as_str().into()).collect(),
            message: conditions::cut(&decision.message, conditions::MAX_MESSAGE),
            since: second(input.now),
        },
    });
    status
}

/// A moment to the second.
fn second(moment: Timestamp) -> String {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment).to_string()
}

/// How soon the difference between two statuses has to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Figures moved: once a minute.
    Figures,
    /// The same count for another reason, as it comes and goes with the load: at once, as long as that is seldom.
    Reason,
    /// At once.
    News,
}

/// How soon the difference has to be written.
#[must_use]
pub fn haste(before: &ConsumerStatus, after: &ConsumerStatus) -> Haste {
    // A guard's words may carry numbers that move: its standing is what matters.
    let standing = |status: &ConsumerStatus| -> Vec<(String, String, String)> {
        status.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect()
    };
    let decided = |status: &ConsumerStatus| {
        let decision = status.decision.as_ref()?;
        let bounds = std::iter::once(&decision.bound).chain(&decision.also);
        let guards: Vec<Bound> =
            bounds.filter_map(|name| Bound::named(name)).filter(|bound| bound.is_guard()).collect();
        Some((decision.replicas, guards))
    };
    if standing(before) != standing(after)
        || before.observed_generation != after.observed_generation
        || decided(before) != decided(after)
        || before.replicas != after.replicas
    {
        Haste::News
    } else if before.decision == after.decision {
        Haste::Figures
    } else {
        Haste::Reason
    }
}

fn learned(decision: &Decision) -> Option<LearnedStatus> {
    let value = serde_json::to_value(decision.status.learned.rounded()).ok()?;
    serde_json::from_value(value).ok()
}

fn verdicts(input: &Input<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    match input.front {
        Front::Bad { reason, message, stalled } => {
            verdicts.push(Verdict::new(conditions::READY, false, *reason, message.clone()));
            let kind = if *stalled { conditions::STALLED } else { conditions::RECONCILING };
            if *reason != Reason::Conflict {
                verdicts.push(Verdict::new(kind, true, *reason, message.clone()));
            }
        }
        Front::Good => match (input.trouble, input.replicas) {
            (Some(Trouble { reason, message, .. }), _) => {
                verdicts.push(Verdict::new(conditions::READY, false, *reason, message.clone()));
            }
            (None, Some(_)) if refused(input.decision).is_some() => {
                let words = refused(input.decision).map(|condition| condition.detail.clone());
                let words = words.unwrap_or_default();
                verdicts.push(Verdict::new(conditions::READY, false, Reason::InvalidSpec, words.clone()));
                verdicts.push(Verdict::new(conditions::STALLED, true, Reason::InvalidSpec, words));
            }
            (None, None) => {
                let message = "the workload is not there yet";
                verdicts.push(Verdict::new(conditions::READY, false, Reason::Progressing, message));
            }
            (None, Some(_)) => {
                let message = "the workload is there and its lag is read";
                verdicts.push(Verdict::new(conditions::READY, true, Reason::InStep, message));
            }
        },
    }
    if input.paused {
        let message = "paused by annotation: nothing is scaled";
        verdicts.push(Verdict::new(conditions::PAUSED, true, Reason::Paused, message));
    }
    let Some(decision) = input.decision else {
        return verdicts;
    };
    let guard = |kind| decision.conditions.iter().find(|condition| condition.kind == kind);
    let (unknown, conflict) = (guard(ConditionKind::DataUnknown), guard(ConditionKind::ScaleConflict));
    let (active, reason, message) = if input.paused {
        (false, Reason::Paused, "paused by annotation".to_owned())
    } else if input.dry_run {
        (false, Reason::DryRun, "mode is DryRun: decisions are made and not carried out".to_owned())
    } else if let Some(words) = input.refused {
        (false, Reason::Failed, words.to_owned())
    } else if let Some(conflict) = conflict {
        (false, Reason::Conflict, words(conflict))
    } else if let Some(unsupported) = refused(Some(decision)) {
        (false, Reason::InvalidSpec, words(unsupported))
    } else if let Some(unknown) = unknown {
        (false, Reason::Unknown, words(unknown))
    } else if guard(ConditionKind::PartialData).is_some() {
        let message = "decisions are made and carried out; none lowers while a part of the data is missing";
        (true, Reason::Scaling, message.to_owned())
    } else if decision.bound == Bound::Unknown {
        (false, Reason::Unknown, decision.message.clone())
    } else {
        (true, Reason::Scaling, "decisions are made and carried out".to_owned())
    };
    verdicts.push(Verdict::new(conditions::SCALING_ACTIVE, active, reason, message));
    for condition in &decision.conditions {
        verdicts.push(Verdict::new(condition.kind.as_str(), true, Reason::Guard, words(condition)));
    }
    verdicts
}

/// What is read is of a kind that cannot be scaled on.
fn refused(decision: Option<&Decision>) -> Option<&Condition> {
    decision?.conditions.iter().find(|condition| condition.kind == ConditionKind::Unsupported)
}

fn words(condition: &Condition) -> String {
    if condition.partitions.is_empty() {
        return condition.detail.clone();
    }
    let names: Vec<&str> = condition.partitions.iter().map(AsRef::as_ref).collect();
    if condition.detail.is_empty() {
        names.join(", ")
    } else {
        format!("{}: {}", names.join(", "), condition.detail)
    }
}

#[allow(clippy::cast_possible_truncation)] // A float that is no i64 saturates, which is what is meant.
fn whole(seconds: f64) -> i64 {
    seconds.ceil() as i64
}

/// A count with two significant digits: one that moves a little is not worth a write.
const fn two_digits(count: u64) -> u64 {
    let mut unit = 1;
    while count / unit >= 100 {
        unit *= 10;
    }
    (count + unit / 2) / unit * unit
}

/// A rate with two significant digits, as short as it can be written.
fn text(rate: f64) -> String {
    if rate <= 0.0 || !rate.is_finite() {
        return "0".into();
    }
    let digits = rate.log10().floor();
    let unit = 10f64.powf(digits - 1.0);
    let rounded = (rate / unit).round() * unit;
    if digits >= 1.0 { format!("{rounded:.0}") } else { format!("{:.*}", decimals(digits), rounded) }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Between 1 and 9 by the clamp.
fn decimals(digits: f64) -> usize {
    (1.0 - digits).clamp(1.0, 9.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::{Config, Observation, State, Target, decide};

    #[test]
    fn rates_have_two_digits() {
        for (rate, shown) in
            [(0.0, "0"), (617.3, "620"), (98.0, "98"), (9.84, "9.8"), (0.123, "0.12"), (12345.0, "12000")]
        {
            assert_eq!(text(rate), shown);
        }
    }

    #[test]
    fn counts_have_two_digits_and_none_is_rounded_to_nothing() {
        for (count, shown) in [(0, 0), (1, 1), (99, 99), (104, 100), (995, 1000), (12_345, 12_000)] {
            assert_eq!(two_digits(count), shown);
        }
        assert_eq!(two_digits(u64::MAX / 2), 9_200_000_000_000_000_000);
    }

    #[test]
    fn since_when_there_is_no_replica_stands_until_there_is_one() {
        let at = |seconds| Timestamp::from_second(seconds).expect("a moment");
        let next = |before: &ConsumerStatus, replicas, now| {
            status(&Input {
                before,
                front: &Front::Good,
                decision: None,
                replicas,
                dry_run: false,
                paused: false,
                trouble: None,
                refused: None,
                generation: None,
                now: at(now),
            })
        };
        let zero = next(&ConsumerStatus::default(), Some((0, 0)), 60);
        assert_eq!(zero.zero_since.as_deref(), Some("1970-01-01T00:01:00Z"));
        assert_eq!(next(&zero, Some((0, 0)), 90).zero_since, zero.zero_since);
        assert_eq!(next(&zero, None, 90).zero_since, zero.zero_since);
        assert_eq!(next(&zero, Some((1, 0)), 90).zero_since, None);
    }

    /// What `ScalingActive` says of a decision about this target of which nothing else is known.
    fn active(target: Target, edit: impl FnOnce(&mut Decision)) -> (String, String) {
        let (mut decision, _) =
            decide(&Config::default(), &Observation { target, ..Observation::default() }, State::default());
        edit(&mut decision);
        let after = status(&Input {
            before: &ConsumerStatus::default(),
            front: &Front::Good,
            decision: Some(&decision),
            replicas: Some((1, 1)),
            dry_run: false,
            paused: false,
            trouble: None,
            refused: None,
            generation: None,
            now: Timestamp::from_second(60).expect("a moment"),
        });
        let active = conditions::find(&after.conditions, conditions::SCALING_ACTIVE).expect("it is said");
        (active.status.clone(), active.reason.clone())
    }

    #[test]
    fn who_leaves_the_target_to_another_scaler_does_not_say_that_it_scales() {
        let target = Target { spec: 1, foreign_scaler: Some("hpa".into()), ..Target::default() };
        assert_eq!(active(target, |_| ()), ("False".to_owned(), "Conflict".to_owned()));
    }

    #[test]
    fn who_raises_on_a_part_of_the_data_says_that_it_scales() {
        let said = active(Target { spec: 1, ..Target::default() }, |decision| {
            let unknown = decision.conditions.iter_mut().find(|held| held.kind == ConditionKind::DataUnknown);
            unknown.expect("nothing is known").kind = ConditionKind::PartialData;
        });
        assert_eq!(said, ("True".to_owned(), "Scaling".to_owned()));
    }

    #[test]
    fn another_count_and_a_guard_are_news_and_another_reason_for_the_same_count_is_less() {
        let decided = |replicas, bound: &str| ConsumerStatus {
            decision: Some(DecisionStatus { replicas, bound: bound.into(), ..DecisionStatus::default() }),
            ..ConsumerStatus::default()
        };
        let before = decided(2, "Rate");
        let mut figures = before.clone();
        figures.lag = Some(LagStatus { messages: Some(7), ..LagStatus::default() });
        assert_eq!(haste(&before, &figures), Haste::Figures);
        assert_eq!(haste(&before, &decided(2, "Lag")), Haste::Reason);
        for news in [ConsumerStatus::default(), decided(3, "Rate"), decided(2, "Breaker")] {
            assert_eq!(haste(&before, &news), Haste::News);
        }
    }
}
