//! What holds along whole stories of a group: floods, silence, darkness, counts that a person writes. Stories are long
//! enough for replicas to go, which [`stories_reach_what_the_properties_are_about`] counts.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::super::{ConditionKind, Config, Decision, GroupRead, GroupState, Observation, State, decide};
use super::world::World;

/// What happens besides arrivals.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Nothing,
    /// Messages come at once.
    Flood(i64),
    /// Nothing can be read.
    Dark,
    /// One partition cannot be read.
    Leaderless,
    /// The group cannot be described.
    Unreadable,
    /// The group does not rest.
    Rebalancing,
    /// A person writes this count.
    Written(u32),
    /// Consumers do this many messages/s.
    Pace(f64),
}

#[derive(Debug, Clone)]
struct Chapter {
    polls: u32,
    /// Seconds between two polls.
    step: f64,
    /// Messages that arrive with each poll.
    arrive: i64,
    happens: Happens,
}

#[derive(Debug, Clone)]
struct Story {
    partitions: usize,
    config: Config,
    chapters: Vec<Chapter>,
}

fn chapter() -> impl Strategy<Value = Chapter> {
    let happens = prop_oneof![
        6 => Just(Happens::Nothing),
        3 => (1i64..4_000).prop_map(Happens::Flood),
        2 => Just(Happens::Dark),
        1 => Just(Happens::Leaderless),
        1 => Just(Happens::Unreadable),
        1 => Just(Happens::Rebalancing),
        1 => (0u32..20).prop_map(Happens::Written),
        1 => (0.0f64..30.0).prop_map(Happens::Pace),
    ];
    let arrive = prop_oneof![2 => Just(0i64), 2 => 0i64..8, 2 => 0i64..150];
    (10u32..150, prop::sample::select(vec![0.5, 1.0, 1.0, 5.0]), arrive, happens)
        .prop_map(|(polls, step, arrive, happens)| Chapter { polls, step, arrive, happens })
}

fn story() -> impl Strategy<Value = Story> {
    let config = (
        0u32..4,
        prop::option::of(4u32..14),
        1.0f64..60.0,
        (prop::option::of(5.0f64..60.0), prop::option::of(0.0f64..90.0), 5.0f64..60.0),
        prop::option::of(1u32..9),
    )
        .prop_map(
            |(
                min_replicas,
                max_replicas,
                target_delay,
                (stabilization, peak_memory, idle_after),
                unknown,
            )| {
                Config {
                    min_replicas,
                    max_replicas,
                    target_delay,
                    stabilization,
                    peak_memory,
                    idle_after,
                    unknown_after: 30.0,
                    unknown_replicas: unknown,
                    ..Config::default()
                }
            },
        );
    (1usize..17, config, prop::collection::vec(chapter(), 3..9)).prop_map(
        |(partitions, config, mut chapters)| {
            // With some work and a long silence at the end: whatever it was, replicas go.
            chapters.insert(0, Chapter { polls: 40, step: 1.0, arrive: 15, happens: Happens::Flood(900) });
            chapters.push(Chapter { polls: 200, step: 2.0, arrive: 0, happens: Happens::Nothing });
            Story { partitions, config, chapters }
        },
    )
}

/// One decision, and what it was made from.
struct Look {
    seen: Observation,
    before: State,
    decision: Decision,
    after: State,
    /// All of the group can be read now, and could be at some poll before.
    full: bool,
    known: bool,
    /// Messages that wait, whatever could be read.
    waiting: i64,
}

/// Tells a story, with what is decided carried out.
fn tell(
    story: &Story,
    mut each: impl FnMut(&Config, Look) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut world = World::new(story.partitions, story.config.clone());
    let mut known = false;
    for chapter in &story.chapters {
        world.edit = |_| {};
        match chapter.happens {
            Happens::Nothing => {}
            Happens::Flood(messages) => world.arrive(messages),
            Happens::Dark => world.edit = |seen| seen.kafka = None,
            Happens::Leaderless => {
                world.edit = |seen| {
                    let part = &mut seen.kafka.as_mut().unwrap().partitions[0];
                    (part.end, part.error) = (None, Some("leader not available".into()));
                };
            }
            Happens::Unreadable => {
                world.edit = |seen| seen.kafka.as_mut().unwrap().group = GroupRead::Unreadable;
            }
            Happens::Rebalancing => {
                world.edit = |seen| {
                    if let GroupRead::Known(group) = &mut seen.kafka.as_mut().unwrap().group {
                        group.state = GroupState::PreparingRebalance;
                    }
                };
            }
            Happens::Written(replicas) => world.scale(replicas),
            Happens::Pace(rate) => world.rate = rate,
        }
        let full = !matches!(chapter.happens, Happens::Dark | Happens::Leaderless | Happens::Unreadable);
        for _ in 0..chapter.polls {
            world.arrive(chapter.arrive);
            world.pass(chapter.step);
            let (seen, before) = (world.observation(), world.state.clone());
            let decision = world.look();
            world.carry_out(&decision);
            let (after, waiting) = (world.state.clone(), world.lag());
            each(&story.config, Look { seen, before, decision, after, full, known, waiting })?;
            known |= full;
        }
    }
    Ok(())
}

impl Look {
    /// Never outside of the limits, not even for a poll.
    fn within(&self, config: &Config) -> Result<(), TestCaseError> {
        let Decision { replicas, message, inputs, .. } = &self.decision;
        let spec = self.seen.target.spec;
        prop_assert!(config.max_replicas.is_none_or(|max| *replicas <= max), "{}", message);
        let cap = inputs.cap.unwrap_or(u32::MAX);
        prop_assert!(*replicas >= config.min_replicas.min(cap), "{} of {}: {}", replicas, spec, message);
        // Who wrote more than can work gets no more.
        prop_assert!(*replicas <= cap.max(spec), "{}", message);
        if *replicas == 0 && spec > 0 {
            prop_assert!(self.full && self.waiting == 0, "zero while {} wait: {}", self.waiting, message);
        }
        Ok(())
    }

    /// What is not known lowers nothing, but for a maximum, which is.
    fn held_while_unknown(&self, config: &Config) -> Result<(), TestCaseError> {
        let least = self.seen.target.spec.min(config.max_replicas.unwrap_or(u32::MAX));
        prop_assert!(self.full || self.decision.replicas >= least, "{}", self.decision.message);
        Ok(())
    }

    /// The same again is the same.
    fn again(&self, config: &Config) -> Result<(), TestCaseError> {
        let (decision, after) = decide(config, &self.seen, self.before.clone());
        prop_assert_eq!(&decision, &self.decision);
        prop_assert!(after == self.after, "the states differ");
        Ok(())
    }

    /// All else equal, and no guard active, more that waits never means fewer. False: a guard is active.
    ///
    /// What is more has waited since before the last poll: the rates that are told from polls are the same.
    fn more_is_not_fewer(&self, config: &Config, extra: &[i64]) -> Result<bool, TestCaseError> {
        let guarded = |decision: &Decision| {
            use ConditionKind::{MinAboveCap, TargetInfeasible};
            decision.conditions.iter().any(|c| !matches!(c.kind, MinAboveCap | TargetInfeasible))
        };
        let mut more = self.seen.clone();
        let Some(kafka) = more.kafka.as_mut().filter(|_| self.full && self.known) else {
            return Ok(false);
        };
        for (part, extra) in kafka.partitions.iter_mut().zip(extra) {
            part.end = part.end.map(|end| end + extra);
            part.hw = part.end;
        }
        let (fewer, _) = decide(config, &self.seen, remembered(&self.before, &[0; 17]));
        let (greater, _) = decide(config, &more, remembered(&self.before, extra));
        if guarded(&fewer) || guarded(&greater) {
            return Ok(false);
        }
        prop_assert_eq!(fewer.inputs.arrival, greater.inputs.arrival);
        prop_assert!(greater.inputs.class >= fewer.inputs.class, "{}\n{}", fewer.message, greater.message);
        prop_assert!(greater.inputs.need >= fewer.inputs.need, "{}\n{}", fewer.message, greater.message);
        prop_assert!(greater.replicas >= fewer.replicas, "{}\n{}", fewer.message, greater.message);
        Ok(true)
    }
}

/// The state with so many messages more on each partition, and without what a member did so far between two commits:
/// that one shows to be busy which did not before is another matter.
fn remembered(state: &State, extra: &[i64]) -> State {
    let mut state = serde_json::to_value(state).unwrap();
    let group = &mut state["group"];
    for (part, extra) in group["parts"].as_array_mut().unwrap().iter_mut().zip(extra) {
        for offset in ["/end", "/hw", "/end_moved/1"] {
            let offset = part.pointer_mut(offset).unwrap();
            *offset = (offset.as_i64().unwrap() + extra).into();
        }
    }
    group["members"]["whole"] = serde_json::Value::Null;
    for member in group["members"]["list"].as_array_mut().unwrap() {
        member["interval"] = serde_json::Value::Null;
    }
    serde_json::from_value(state).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_decision_of_a_story_is_outside_its_limits_or_lower_for_what_is_not_known(story in story()) {
        tell(&story, |config, look| {
            look.within(config)?;
            look.held_while_unknown(config)?;
            look.again(config)
        })?;
    }

    #[test]
    fn at_no_moment_of_a_story_does_more_lag_mean_fewer_replicas(
        story in story(),
        extra in prop::collection::vec(0i64..300, 17),
    ) {
        let mut poll = 0;
        tell(&story, |config, look| {
            poll += 1;
            // Each step down, and some of the other moments.
            if poll % 5 == 0 || look.decision.replicas < look.seen.target.spec {
                look.more_is_not_fewer(config, &extra)?;
            }
            Ok(())
        })?;
    }
}

#[test]
fn stories_reach_what_the_properties_are_about() {
    let mut runner = TestRunner::deterministic();
    let (mut ups, mut downs, mut zeros, mut raised, mut back, mut compared) = (0, 0, 0, 0, 0, 0);
    for _ in 0..40 {
        let story = story().new_tree(&mut runner).unwrap().current();
        let mut known = Vec::new();
        tell(&story, |config, look| {
            let (spec, replicas) = (look.seen.target.spec, look.decision.replicas);
            ups += u32::from(replicas > spec);
            downs += u32::from(replicas < spec);
            zeros += u32::from(replicas == 0 && spec > 0);
            raised += u32::from(spec < config.min_replicas && replicas > spec);
            if known.last() != Some(&look.full) {
                known.push(look.full);
            }
            if replicas < spec {
                compared += u32::from(look.more_is_not_fewer(config, &[50; 17])?);
            }
            Ok(())
        })
        .unwrap();
        back += u32::from(known.windows(3).any(|three| three == [true, false, true]));
    }
    let reached = [ups, downs, zeros, raised, back, compared];
    let least = [40, 40, 5, 5, 10, 10];
    assert!(
        reached.iter().zip(least).all(|(&reached, least)| reached >= least),
        "ups, downs, zeros, raised to the minimum, dark and back, downs compared: {reached:?}"
    );
}
