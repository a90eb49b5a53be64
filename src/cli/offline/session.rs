//! Brokers connected, objects judged: what a plan is made from and what an apply goes through.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::{StreamExt as _, stream};
use kube::ResourceExt as _;

use super::candidates::{self, Candidate, Wanted};
use super::entry::{Action, Change, Entry};
use super::guard;
use super::links::{Link, Links};
use super::objects::{Declared, Objects};
use super::progress::Progress;
use super::rabbitmq::{PolicyCache, Site};
use super::topics;
use crate::api::conditions::Reason;
use crate::api::policy::{ManagementPolicy, Policies};
use crate::topology::Rejection;
use crate::topology::kafka::{Step, collision};
use crate::topology::ownership::Claim;

/// Objects that are looked at or changed at once. The clients put single calls together into
/// requests of a few hundred: what is asked at once goes out at once.
const AT_ONCE: usize = 1_000;

/// Objects, and the ways to their Brokers.
pub struct Session<'a> {
    objects: &'a Objects,
    candidates: Vec<Candidate>,
    links: Links,
    begun: Instant,
    kept: PolicyCache,
}

impl<'a> Session<'a> {
    /// Connects to every Broker of the input: one that no object names may be the oldest of its
    /// cluster, whose guard rails hold for all.
    pub async fn open(objects: &'a Objects) -> Self {
        let candidates = candidates::of(objects);
        let wanted = objects.brokers.iter().map(Declared::key).collect();
        let links = Links::open(objects, &wanted).await;
        Self { objects, candidates, links, begun: Instant::now(), kept: PolicyCache::default() }
    }

    /// Goes on with the ways to Brokers that are there, and other objects.
    #[must_use]
    pub fn with(links: Links, objects: &'a Objects) -> Self {
        Self {
            objects,
            candidates: candidates::of(objects),
            links,
            begun: Instant::now(),
            kept: PolicyCache::default(),
        }
    }

    /// Gives back the ways to the Brokers.
    #[must_use]
    pub fn into_links(self) -> Links {
        self.links
    }

    /// The ways to the Brokers.
    #[must_use]
    pub const fn links(&self) -> &Links {
        &self.links
    }

    /// How many Brokers cannot be used, are named by no object, and are on a cluster that nobody knows: should one be the
    /// oldest of a cluster here, its guard rails are missed.
    #[must_use]
    pub fn unknown_brokers(&self) -> usize {
        let named = |key: &str| self.candidates.iter().any(|candidate| candidate.broker == key);
        self.links.broken().filter(|(key, _)| !self.links.knows(key) && !named(key)).count()
    }

    /// What is to be done, object by object, in the order of the input.
    pub async fn plan(&self, progress: &Progress) -> Vec<Entry> {
        let verdicts = guard::judge(&self.candidates, &self.links, &self.objects.namespaces);
        let coming = self.coming(&verdicts);
        progress.begin("looked at", self.candidates.len());
        let mut entries: Vec<(usize, Entry)> = stream::iter(self.candidates.iter().zip(verdicts).enumerate())
            .map(async |(place, (candidate, verdict))| {
                let policies = verdict.as_ref().ok().copied();
                let outcome = match verdict {
                    Ok(policies) => self.look(candidate, policies, &coming).await,
                    Err(rejection) => Err(rejection),
                };
                progress.one();
                (
                    place,
                    Entry {
                        candidate: candidate.clone(),
                        policies,
                        outcome: outcome.map_err(|error| self.redact(&candidate.broker, &error)),
                    },
                )
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        progress.end();
        entries.sort_by_key(|(place, _)| *place);
        let mut entries: Vec<Entry> = entries.into_iter().map(|(_, entry)| entry).collect();
        self.refuse_collisions(&mut entries);
        let mut entries = without_orphans(entries);
        self.rehearse(&mut entries).await;
        entries
    }

    /// Of topics that Kafka would not tell apart and that are to be made, the first that is declared may be; and none that
    /// implies one that may not.
    fn refuse_collisions(&self, entries: &mut [Entry]) {
        let creates = |entry: &Entry| entry.candidate.kind == "Topic" && entry.action() == Action::Create;
        let key = |entry: &Entry| {
            let link = self.links.get(&entry.candidate.broker).ok()?;
            Some((link.cluster_id.clone(), collision::key(&entry.candidate.name)?))
        };
        let mut topics: BTreeMap<(String, String), Vec<(String, Claim)>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| creates(entry)) {
            if let Some(key) = key(entry) {
                let Candidate { name, claim, .. } = &entry.candidate;
                topics.entry(key).or_default().push((name.clone(), claim.clone()));
            }
        }
        let mut refused = BTreeMap::new();
        for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| creates(entry)) {
            let others = key(entry).and_then(|key| topics.get(&key));
            let Candidate { name, claim, parents, .. } = &entry.candidate;
            if let Some(Err(why)) = others.map(|others| collision::with_others(name, claim, others)) {
                refused.extend(parents.iter().map(|parent| (*parent, why.clone())));
                refused.insert(place, why);
            }
        }
        for (place, why) in refused {
            if creates(&entries[place]) {
                entries[place].outcome = Err(why);
            }
        }
    }

    /// What a broker would refuse is found before the first write.
    async fn rehearse(&self, entries: &mut [Entry]) {
        let mut topics: BTreeMap<&str, Vec<(&str, &[Step])>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.action().pending()) {
            if let Ok(change) = &entry.outcome {
                let Candidate { broker, name, .. } = &entry.candidate;
                topics.entry(broker).or_default().push((name, &change.rehearsal));
            }
        }
        let mut refused = BTreeMap::new();
        for (broker, topics) in topics {
            let Ok(kafka) = self.links.get(broker).and_then(|link| link.client.kafka()) else { continue };
            let refusals = topics::rehearse(kafka, &topics).await;
            refused.extend(refusals.into_iter().map(|(name, why)| ((broker.to_owned(), name), why)));
        }
        for entry in entries {
            let Candidate { broker, name, .. } = &entry.candidate;
            if entry.action().pending()
                && let Some(why) = refused.remove(&(broker.clone(), name.clone()))
            {
                let why = self.redact(broker, &why);
                entry.outcome = Err(why);
            }
        }
    }

    /// What will be at the brokers once all is applied: (cluster id, identity).
    fn coming(&self, verdicts: &[Result<Policies, Rejection>]) -> BTreeSet<(String, String)> {
        let goes = self.candidates.iter().zip(verdicts).filter(|(candidate, verdict)| {
            let manages =
                verdict.as_ref().is_ok_and(|policies| policies.management == ManagementPolicy::Manage);
            manages && candidate.wanted.is_ok()
        });
        goes.filter_map(|(candidate, _)| {
            let link = self.links.get(&candidate.broker).ok()?;
            Some((link.cluster_id.clone(), candidate.identity.clone()))
        })
        .collect()
    }

    async fn look(
        &self,
        candidate: &Candidate,
        policies: Policies,
        coming: &BTreeSet<(String, String)>,
    ) -> Result<Change, Rejection> {
        let wanted = candidate.wanted.as_ref().map_err(Clone::clone)?;
        let link = self.links.get(&candidate.broker)?;
        let mut change = match wanted {
            Wanted::Topic(desired) => topics::plan(link.client.kafka()?, desired, policies).await?.0,
            wanted => self.site(link, candidate, policies, coming)?.plan(wanted, self.begun).await?.0,
        };
        if (link.paused || candidate.paused) && change.action.pending() {
            change.action = Action::Paused;
        }
        Ok(change)
    }

    /// Takes the steps of one object, if they are still those that were shown. What is seen as of
    /// `since` or later is good enough for that.
    pub async fn carry_out(&self, entry: &Entry, since: Instant) -> Result<(), Rejection> {
        let candidate = &entry.candidate;
        let (Ok(wanted), Ok(change), Some(policies)) = (&candidate.wanted, &entry.outcome, entry.policies)
        else {
            return Err(Rejection::new(Reason::InvalidSpec, "the object could not be planned"));
        };
        let link = self.links.get(&candidate.broker)?;
        let done = match wanted {
            Wanted::Topic(desired) => topics::carry_out(link, desired, policies, &change.hash).await,
            wanted => {
                let none = BTreeSet::new();
                self.site(link, candidate, policies, &none)?.carry_out(wanted, since, &change.hash).await
            }
        };
        done.map_err(|error| self.redact(&candidate.broker, &error))
    }

    fn site<'b>(
        &'b self,
        link: &'b Link,
        candidate: &'b Candidate,
        policies: Policies,
        coming: &'b BTreeSet<(String, String)>,
    ) -> Result<Site<'b>, Rejection> {
        Ok(Site {
            link,
            rabbit: link.client.rabbitmq()?,
            vhost: candidate.vhost.as_deref().unwrap_or("/"),
            policies,
            coming,
            kept: &self.kept,
        })
    }

    /// Which Brokers are not the clusters any more that the plan was made from.
    pub async fn changed_clusters(&self, entries: &[&Entry]) -> BTreeMap<String, Rejection> {
        let keys: BTreeSet<&str> = entries.iter().map(|entry| entry.candidate.broker.as_str()).collect();
        let ask = async |key: &str| self.links.get(key)?.verify_now().await;
        stream::iter(keys)
            .map(async |key| (key.to_owned(), ask(key).await))
            .buffer_unordered(64)
            .filter_map(async |(key, answer)| {
                let answer = answer.err()?;
                let rejection = self.redact(&key, &answer);
                Some((key, rejection))
            })
            .collect()
            .await
    }

    /// A Broker's words without its Secrets.
    fn redact(&self, broker: &str, rejection: &Rejection) -> Rejection {
        let named = self.objects.brokers.iter().find(|declared| declared.key() == broker);
        let message = match named.map(|declared| &declared.object) {
            Some(broker) => {
                let namespace = broker.namespace().unwrap_or_default();
                self.objects.secrets.redact(&broker.spec, &namespace, &rejection.message)
            }
            None => rejection.message.clone(),
        };
        Rejection::new(rejection.reason, message.replace(['\r', '\n'], " "))
    }
}

/// A parent that is refused, cannot be planned, is frozen or only observed makes no companions.
fn without_orphans(entries: Vec<Entry>) -> Vec<Entry> {
    let goes: Vec<bool> = entries
        .iter()
        .map(|entry| {
            let manages =
                entry.policies.is_some_and(|policies| policies.management == ManagementPolicy::Manage);
            manages && !matches!(entry.action(), Action::Error | Action::Paused)
        })
        .collect();
    let kept = |entry: &Entry| {
        let parents = &entry.candidate.parents;
        parents.is_empty() || parents.iter().any(|parent| goes.get(*parent) == Some(&true))
    };
    entries.into_iter().filter(kept).collect()
}
