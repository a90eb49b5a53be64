//! Who is in the groups: it costs more than offsets and changes seldom, so it is read between polls, and none waits
//! for it. A group that is new here is described at once: without members, its cap is a guess.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::crowd;
use crate::brokers::kafka::{GroupDescription, GroupState, KafkaClient, KafkaError};
use crate::controllers::context::Context;
use crate::controllers::sweep::outcome;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How old members may be at least, in seconds, and how many polls old: with slow polls, half of the groups are
/// described after one, the others after the next.
const AGE: Age = Age { seconds: 2.5, polls: 1.5 };
/// The same of a group in which nothing goes on: a quarter of them at a time.
const QUIET: Age = Age { seconds: 10.0, polls: 3.5 };
/// How long before the next poll members are read at the latest, in seconds: they are not to be old by then.
const AHEAD: f64 = 2.0;
/// For how long a group that nobody asks for is remembered.
const FORGET: Duration = Duration::from_secs(60);

struct Age {
    seconds: f64,
    polls: f64,
}

impl Age {
    fn of(&self, interval: f64) -> f64 {
        self.seconds.max(self.polls * interval)
    }
}

/// What a description came to.
pub type Told = Result<GroupDescription, KafkaError>;

/// A group of a sweep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Seconds between two polls of it.
    pub interval: f64,
    /// What its members depend on and do.
    pub signs: Signs,
}

/// While none of these changes, hardly anything goes on in a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signs {
    /// Replicas that are wanted, and ready.
    pub replicas: (u32, u32),
    /// All that it committed, added up.
    pub committed: i64,
}

/// When a group was described, and what was seen then.
#[derive(Debug)]
struct Turn {
    at: Instant,
    /// Its number among those that came together: the first time, they part.
    place: Option<u8>,
    /// None: the group is to be looked at often, whatever is seen of it.
    signs: Option<Signs>,
    forget: Instant,
}

/// The descriptions of one broker's groups.
#[derive(Default)]
pub struct Members {
    turns: HashMap<String, Turn>,
    told: Arc<Mutex<HashMap<String, Told>>>,
    /// It ends with this.
    asking: JoinSet<()>,
}

impl Members {
    /// What was read since the last poll, and of groups that are new: now.
    pub async fn read(
        &mut self,
        ctx: &Context,
        broker: &str,
        client: &KafkaClient,
        groups: &BTreeMap<&str, f64>,
    ) -> HashMap<String, Told> {
        let mut told: HashMap<String, Told> = {
            let mut all = lock(&self.told);
            groups.keys().filter_map(|group| all.remove_entry(*group)).collect()
        };
        let new: Vec<String> = self.newcomers(groups.keys().copied(), Instant::now());
        told.extend(describe(ctx, broker, client, new).await);
        for (group, told) in &told {
            let rests = |told: &GroupDescription| {
                matches!(told.state, GroupState::Stable | GroupState::Empty | GroupState::Dead)
            };
            if let (false, Some(turn)) = (told.as_ref().is_ok_and(rests), self.turns.get_mut(group)) {
                turn.signs = None;
            }
        }
        told
    }

    /// Reads what will be due at the next poll, shortly before that.
    pub fn prepare(
        &mut self,
        ctx: &Arc<Context>,
        broker: &str,
        client: &KafkaClient,
        groups: &BTreeMap<&str, Wanted>,
    ) {
        while self.asking.try_join_next().is_some() {}
        let due = self.due(groups, Instant::now());
        let turns = &self.turns;
        lock(&self.told).retain(|group, _| turns.contains_key(group));
        for (delay, groups) in due {
            let (ctx, broker, client) = (ctx.clone(), broker.to_owned(), client.clone());
            let told = self.told.clone();
            self.asking.spawn(async move {
                tokio::time::sleep(delay).await;
                let answers = describe(&ctx, &broker, &client, groups).await;
                lock(&told).extend(answers);
            });
        }
    }

    /// Groups that were never described.
    fn newcomers<'a>(&mut self, groups: impl Iterator<Item = &'a str>, now: Instant) -> Vec<String> {
        let new: Vec<String> =
            groups.filter(|group| !self.turns.contains_key(*group)).map(Into::into).collect();
        for (place, group) in (0..4).cycle().zip(&new) {
            let turn = Turn { at: now, place: Some(place), signs: None, forget: now + FORGET };
            self.turns.insert(group.clone(), turn);
        }
        new
    }

    /// The groups to describe before the next poll, by how long from now.
    fn due(&mut self, groups: &BTreeMap<&str, Wanted>, now: Instant) -> BTreeMap<Duration, Vec<String>> {
        let mut due: BTreeMap<Duration, Vec<String>> = BTreeMap::new();
        for (&group, &Wanted { interval, signs }) in groups {
            let Some(turn) = self.turns.get_mut(group) else { continue };
            let poll = Duration::from_secs_f64(interval);
            turn.forget = now + FORGET + poll;
            let quiet = turn.signs == Some(signs);
            let (age, parts) = if quiet { (QUIET, 4) } else { (AGE, 2) };
            let earlier = turn.place.map_or(0.0, |place| interval * f64::from(place % parts));
            // What is due by the next poll is read before it.
            let left = (age.of(interval) - earlier - interval).max(0.0);
            if now.saturating_duration_since(turn.at).as_secs_f64() < left {
                continue;
            }
            let delay = Duration::from_secs_f64((interval / 2.0).max(interval - AHEAD).max(0.0));
            *turn = Turn { at: now + poll, place: None, signs: Some(signs), forget: turn.forget };
            due.entry(delay).or_default().push(group.to_owned());
        }
        self.turns.retain(|_, turn| now < turn.forget);
        due
    }
}

fn lock(told: &Mutex<HashMap<String, Told>>) -> MutexGuard<'_, HashMap<String, Told>> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn describe(
    ctx: &Context,
    broker: &str,
    client: &KafkaClient,
    groups: Vec<String>,
) -> Vec<(String, Told)> {
    crowd::ask(groups, async |group| {
        let asked = Instant::now();
        let answer = client.describe_group(&group, TIMEOUT).await;
        ctx.metrics.broker_request(broker, "DescribeGroups", outcome(&answer), asked.elapsed());
        (group, answer)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which groups are described for each of six polls; `quiet`: nothing goes on in them.
    fn read(interval: f64, quiet: bool) -> Vec<String> {
        let (begun, mut members) = (Instant::now(), Members::default());
        let mut described = vec![members.newcomers(["a", "b", "c", "d"].into_iter(), begun).concat()];
        for poll in 0..5_u32 {
            let signs = Signs { committed: if quiet { 0 } else { i64::from(poll) }, ..Signs::default() };
            if quiet {
                members.turns.values_mut().for_each(|turn| turn.signs = Some(signs));
            }
            let wanted = ["a", "b", "c", "d"].map(|group| (group, Wanted { interval, signs }));
            let now = begun + Duration::from_secs_f64(interval) * poll;
            let due = members.due(&wanted.into(), now);
            described.push(due.into_values().flatten().collect());
        }
        described
    }

    #[test]
    fn with_slow_polls_the_members_of_half_of_the_groups_are_read_for_each_and_with_quick_ones_for_every_third()
     {
        assert_eq!(read(5.0, false), ["abcd", "bd", "ac", "bd", "ac", "bd"]);
        assert_eq!(read(1.0, false), ["abcd", "", "bd", "ac", "", "bd"]);
        assert_eq!(read(30.0, false), ["abcd", "bd", "ac", "bd", "ac", "bd"]);
    }

    #[test]
    fn of_groups_in_which_nothing_goes_on_a_quarter_is_read_at_a_time() {
        assert_eq!(read(5.0, true), ["abcd", "d", "c", "b", "a", "d"]);
    }

    #[test]
    fn members_are_read_shortly_before_the_poll_that_wants_them() {
        let (now, mut members) = (Instant::now(), Members::default());
        members.newcomers(["a", "b", "c", "d"].into_iter(), now);
        let signs = Signs { committed: 1, ..Signs::default() };
        let wanted = [("b", Wanted { interval: 30.0, signs }), ("d", Wanted { interval: 5.0, signs })];
        let due = members.due(&wanted.into(), now);
        let due: Vec<_> =
            due.into_iter().map(|(delay, groups)| (delay.as_secs_f64(), groups.concat())).collect();
        assert_eq!(due, [(3.0, "d".to_owned()), (28.0, "b".to_owned())]);
    }
}
