//! Whether the machine rests, from `/proc`.

use std::fs;
use std::time::Duration;

/// Waits until the processors have little to do: what one row left behind, as brokers that remove files, is not to be paid
/// by the next. False: they did not come to rest.
pub async fn at_rest() -> bool {
    /// Share of the time without work, for so many seconds in a row, and how many are waited for.
    const IDLE: f64 = 0.7;
    const SECONDS: (u32, u32) = (3, 180);
    let (mut quiet, mut before) = (0, times());
    for _ in 0..SECONDS.1 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = times();
        quiet = if idle(before, now).is_some_and(|share| share >= IDLE) { quiet + 1 } else { 0 };
        if quiet == SECONDS.0 {
            return true;
        }
        before = now;
    }
    false
}

/// Ticks of all processors without work, and in all.
fn times() -> Option<(u64, u64)> {
    ticks(&fs::read_to_string("/proc/stat").ok()?)
}

fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    Some((*ticks.get(3)?, ticks.iter().sum()))
}

#[expect(clippy::cast_precision_loss, reason = "some hundreds")]
fn idle(before: Option<(u64, u64)>, now: Option<(u64, u64)>) -> Option<f64> {
    let (before, now) = before.zip(now)?;
    let all = now.1.checked_sub(before.1).filter(|&all| all > 0)?;
    Some(now.0.saturating_sub(before.0) as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_idle_ticks_is_read() {
        let (before, now) = (ticks("cpu  10 0 10 80 0\ncpu0 1"), ticks("cpu  20 0 10 170 0\ncpu0 1"));
        assert_eq!(idle(before, now), Some(0.9));
        assert_eq!((idle(now, now), ticks("intr 7")), (None, None));
    }
}
