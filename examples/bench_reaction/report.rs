//! The table, and the summary as one line of JSON.

use std::fs;

use serde_json::{Value, json};

use crate::common::process::Memory;
use crate::common::{machine, median};
use crate::spike::Spike;
use crate::{BenchError, FULL_SIZE, Settings};

/// KEDA + HPA on the same kind of bed, in a run of its own: polls each second, lagThreshold 10, twelve partitions,
/// eight spikes of 1,200 messages at random phases. Seconds to the first patch and to full size, median and worst.
const KEDA: [f64; 4] = [9.6, 15.0, 39.7, 45.1];

/// Everything that was measured.
pub struct Report<'a> {
    pub settings: &'a Settings,
    /// The spike that met an operator which had learned nothing yet.
    pub untaught: Spike,
    pub spikes: Vec<Spike>,
    pub cores: f64,
    pub memory: Memory,
    pub kubernetes: String,
}

impl Report<'_> {
    /// Prints the table, writes the summary, and returns whether every spike reached full size.
    pub fn finish(&self) -> Result<bool, BenchError> {
        let firsts = Reached::of(&self.spikes, Spike::first_patch);
        let fulls = Reached::of(&self.spikes, Spike::full_size);
        let readies = Reached::of(&self.spikes, |spike| spike.all_ready);
        let drains = Reached::of(&self.spikes, |spike| Some(spike.drained));
        let settings = self.settings;

        println!("\n{}; load {}", machine::facts(), machine::load());
        println!(
            "Kubernetes {}, Kafka {}; operator: {} build",
            self.kubernetes, settings.kafka_version, settings.build
        );
        println!(
            "{} spikes of {} messages, {FULL_SIZE} partitions, one replica, targetDelay 5s\n",
            self.spikes.len(),
            settings.messages
        );
        println!("{:<38}{:>10}{:>14}", "seconds from the flood's first message", "Spillway", "KEDA + HPA *");
        let keda = KEDA.map(Some);
        row("first patch, median", firsts.median, keda[0]);
        row("first patch, worst", firsts.worst, keda[1]);
        row("full size, median", fulls.median, keda[2]);
        row("full size, worst", fulls.worst, keda[3]);
        row("all replicas ready, median", readies.median, None);
        row("all messages committed, median", drains.median, None);
        row("first patch, nothing learned yet", self.untaught.first_patch(), None);
        row("full size, nothing learned yet", self.untaught.full_size(), None);
        println!(
            "* from another run on the same kind of bed: polls each second, lagThreshold 10, 8 spikes\n"
        );
        println!("operator, start to ready   {:>8.3} s, median", settings.ready);
        println!(
            "operator, memory at rest   {:>8.1} MiB (at most {:.1})",
            self.memory.resident, self.memory.peak
        );
        println!("operator, CPU at rest      {:>8.4} cores over {} s", self.cores, settings.rest);
        println!(
            "\nThe Consumer's scaling and work (scaleDown and rebalance make the way back short, all else is default):"
        );
        consumer_settings().for_each(|line| println!("  {line}"));
        let missed = fulls.missed;
        if missed > 0 {
            println!("\n{missed} of {} spikes never reached full size", self.spikes.len());
        }

        let figures = [
            ("first_p50_s", firsts.median, 2),
            ("first_max_s", firsts.worst, 2),
            ("full_p50_s", fulls.median, 2),
            ("full_max_s", fulls.worst, 2),
            ("rss_mib", Some(self.memory.resident), 1),
            ("cores_idle", Some(self.cores), 4),
            ("ready_s", Some(settings.ready), 3),
        ];
        // By hand, in this order: a map would sort its keys.
        let figures = figures.map(|(name, value, digits)| format!(r#","{name}":{}"#, rounded(value, digits)));
        let summary = format!(r#"{{"bench":"reaction"{}}}"#, figures.concat());
        let path = settings.out.join("reaction.json");
        fs::write(&path, format!("{summary}\n")).map_err(|error| BenchError::Write(path, error))?;
        Ok(missed == 0)
    }
}

/// What the bench's objects say about scaling and work, as they say it.
fn consumer_settings() -> impl Iterator<Item = &'static str> {
    let mut inside = false;
    include_str!("objects.yaml").lines().map(str::trim).filter(move |line| {
        inside = (inside || *line == "scaling:") && *line != "template:";
        inside && !line.starts_with('#') || line.starts_with("args:")
    })
}

/// A figure over all spikes. A spike that never got there has no time: then there is no worst one either.
struct Reached {
    median: Option<f64>,
    worst: Option<f64>,
    missed: usize,
}

impl Reached {
    fn of(spikes: &[Spike], figure: impl Fn(&Spike) -> Option<f64>) -> Self {
        let seconds: Vec<f64> = spikes.iter().map(|spike| figure(spike).unwrap_or(f64::INFINITY)).collect();
        let known = |value: f64| value.is_finite().then_some(value);
        Self {
            worst: known(seconds.iter().copied().fold(0.0, f64::max)),
            missed: seconds.iter().filter(|value| value.is_infinite()).count(),
            median: known(median(seconds)),
        }
    }
}

fn row(name: &str, ours: Option<f64>, theirs: Option<f64>) {
    let ours = ours.map_or("never".to_owned(), |value| format!("{value:.2}"));
    let theirs = theirs.map_or(String::new(), |value| format!("{value:.1}"));
    println!("{name:<38}{ours:>10}{theirs:>14}");
}

fn rounded(value: Option<f64>, digits: i32) -> Value {
    let scale = 10_f64.powi(digits);
    value.map_or(Value::Null, |value| json!((value * scale).round() / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_that_never_got_there_counts_as_the_worst_one() {
        let spike = |full: Option<f64>| Spike {
            ups: full.map(|at| (at, FULL_SIZE)).into_iter().collect(),
            all_ready: None,
            drained: 20.0,
            rested: 30.0,
        };
        let reached = Reached::of(&[spike(Some(1.0)), spike(None), spike(Some(2.0))], Spike::full_size);
        assert_eq!((reached.median, reached.worst, reached.missed), (Some(2.0), None, 1));
    }
}
