//! The oracle is a yardstick only where nobody is earlier.

use super::super::oracle::plan;
use super::super::plant::Event;
use super::super::run::run;
use super::super::scalers::{Ours, Planned};
use super::super::workload::{Workload, all, queue};

fn named(name: &str, seconds: f64) -> Workload {
    let mut workload =
        all().into_iter().find(|w| w.name == name).unwrap_or_else(|| panic!("no workload {name:?}"));
    workload.seconds = seconds;
    workload
}

/// Late messages and replica-seconds of the oracle and of ours, with a seed that the oracle did not plan with.
fn beside(workload: &Workload) -> [(f64, f64); 2] {
    let counts = plan(workload);
    let oracle = run(workload, &mut Planned { counts: &counts }, 2).score;
    let ours = run(workload, &mut Ours::new(workload.config.clone()), 2).score;
    [(oracle.late, oracle.cost), (ours.late, ours.cost)]
}

#[test]
fn nobody_is_earlier_than_the_oracle_whatever_happens() {
    for (name, seconds) in [
        ("slow-down 0.4x", 1_200.0),
        ("more partitions", 1_300.0),
        ("hand reset", 1_200.0),
        ("crash loop", 900.0),
    ] {
        let [oracle, ours] = beside(&named(name, seconds));
        assert!(oracle.0 <= ours.0 + 0.1, "{name}: oracle {oracle:?}, ours {ours:?}");
    }
}

#[test]
fn the_oracle_of_a_queue_uses_any_count() {
    let workload = queue("seven", 20, 300.0, |_| 640.0);
    let counts = plan(&workload);
    assert_eq!(counts.last(), Some(&7), "{counts:?}");
}

#[test]
fn the_oracle_asks_for_pods_before_they_cannot_start_any_more() {
    let mut workload = queue("crash", 20, 400.0, |t| if t > 250.0 { 640.0 } else { 90.0 });
    workload.design.events = vec![(200.0, Event::CrashLoop(true))];
    let counts = plan(&workload);
    // Six are 40 messages/s too few for 150 s: nothing waits for longer than ten seconds.
    assert!(counts[199] >= 6, "{counts:?}");
    let [oracle, _] = beside(&workload);
    assert!(oracle.0 < 0.1, "{oracle:?}");
}
