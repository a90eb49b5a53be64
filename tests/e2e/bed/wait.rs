//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Time enough for what takes seconds, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(45);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// What takes long is looked at more rarely, a tenth of its time apart: looking is most of what the API server does here.
const SHARE: (u32, Duration) = (10, Duration::from_millis(500));

/// Looks until `look` gives Ok. Err says what is there instead; the last one is in the failure.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    until_within(PATIENCE, what, look).await
}

/// [`until`], with a limit of its own.
pub async fn until_within<T>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(instead) if begun.elapsed() > limit => {
                panic!("not within {limit:?}: {what}; instead {instead}")
            }
            Err(_) => {
                let pause = (begun.elapsed() / SHARE.0).clamp(BETWEEN_LOOKS, SHARE.1);
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Looks for `time` and fails as soon as `look` gives Err: what must not happen did.
pub async fn never_within(time: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if let Err(happened) = look().await {
            panic!("after {:?}: {what}; {happened}", begun.elapsed());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
