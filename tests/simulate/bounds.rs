//! The autoscaler under every simulated workload, three seeds each: nothing may become worse than its bound.
//!
//! `make test-simulate` runs it, optimised: fifty hours of simulated time thrice over would take ten minutes otherwise.
//! With `SPILLWAY_WRITE_BOUNDS=1` it writes the bounds anew, with some room; look at the difference.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::thread;

use serde::{Deserialize, Serialize};
use spillway_simulate::scaling::simulate::{self, Score};

const BOUNDS: &str = "bounds.json";
const SEEDS: u64 = 3;

/// The most that the median over the seeds may be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bound {
    /// Messages later than the target delay, percent.
    late: f64,
    /// 99th percentile of the delay, seconds.
    p99: f64,
    /// Replica-seconds.
    cost: f64,
    /// Changes of direction within ten minutes.
    flips: f64,
}

impl Bound {
    /// Room for what is no regression: three tenths of a point and a twentieth of the late messages, two seconds and a
    /// tenth of their delay, a twenty-fifth of the cost. The same code gives the same numbers: who changes it may
    /// write them anew.
    fn above(score: &Score) -> Self {
        let round = |number: f64| (number * 10.0).ceil() / 10.0;
        Self {
            late: round(score.late * 1.05 + 0.3),
            p99: round(score.p99 * 1.1 + 2.0),
            cost: (score.cost * 1.04 / 10.0).ceil() * 10.0,
            flips: score.flips,
        }
    }

    fn broken_by(&self, score: &Score) -> Vec<String> {
        [
            ("late %", self.late, score.late),
            ("p99 s", self.p99, score.p99),
            ("replica-seconds", self.cost, score.cost),
            ("flips", self.flips, score.flips),
        ]
        .into_iter()
        .filter(|(_, most, is)| is > most)
        .map(|(what, most, is)| format!("{what} {is:.1}, at most {most:.1}"))
        .collect()
    }
}

/// Medians of all workloads.
fn measured() -> BTreeMap<String, Score> {
    let open = Mutex::new(simulate::names());
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(name) = open.lock().unwrap().pop() else { return };
                    let row = simulate::ours(&name, SEEDS).unwrap();
                    done.lock().unwrap().insert(name, row.score);
                }
            });
        }
    });
    done.into_inner().unwrap()
}

#[test]
fn no_workload_is_worse_than_its_bound() {
    let measured = measured();
    if std::env::var_os("SPILLWAY_WRITE_BOUNDS").is_some() {
        let bounds: BTreeMap<_, _> =
            measured.iter().map(|(name, score)| (name, Bound::above(score))).collect();
        fs::write(BOUNDS, serde_json::to_string_pretty(&bounds).unwrap() + "\n").unwrap();
    }
    let bounds: BTreeMap<String, Bound> = serde_json::from_str(&fs::read_to_string(BOUNDS).unwrap()).unwrap();
    let names: Vec<_> = bounds.keys().collect();
    assert_eq!(names, measured.keys().collect::<Vec<_>>(), "{BOUNDS} has other workloads");
    let mut worse = Vec::new();
    for (name, score) in &measured {
        worse.extend(bounds[name].broken_by(score).into_iter().map(|what| format!("{name}: {what}")));
        if score.false_zeros > 0.0 {
            worse.push(format!("{name}: zero was written while messages waited"));
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}

#[test]
fn constant_load_settles_and_stays() {
    thread::scope(|scope| {
        let runs: Vec<_> = (1..=SEEDS)
            .map(|seed| scope.spawn(move || simulate::flips_at_constant_load(seed, 2_700.0)))
            .collect();
        for run in runs {
            assert_eq!(run.join().unwrap(), [] as [String; 0]);
        }
    });
}
