//! Many questions at a time, and never too many: one for each group, or queue, of a sweep.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How many are asked at once.
const AT_ONCE: usize = 64;
/// After which time one that is not answered keeps no other back: what waits for one coordinator, or connection, that is
/// gone is not to hold up all others.
const SLOW: Duration = Duration::from_millis(250);

/// Asks for each item; answers come in any order.
pub async fn ask<I, F>(items: impl IntoIterator<Item = I>, question: impl Fn(I) -> F) -> Vec<F::Output>
where
    F: Future,
{
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let begun = futures::stream::iter(items).then(|item| {
        let slots = slots.clone();
        async move { (slots.acquire_owned().await, item) }
    });
    let answered = begun.map(|(slot, item)| {
        let asked = question(item);
        async move {
            let mut asked = pin!(asked);
            if let Ok(answer) = timeout(SLOW, &mut asked).await {
                return answer;
            }
            drop(slot);
            asked.await
        }
    });
    answered.buffer_unordered(usize::MAX).collect().await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn groups_of_a_coordinator_that_is_gone_held_up_all_others_for_half_a_minute() {
        let begun = Instant::now();
        let answers = ask(0..1_000, async |group| {
            let lost = group % 3 == 0;
            sleep(if lost { Duration::from_secs(5) } else { Duration::from_millis(10) }).await;
            (lost, begun.elapsed())
        })
        .await;
        assert_eq!(answers.len(), 1_000);
        let last = answers.iter().filter(|(lost, _)| !lost).map(|(_, at)| *at).max().unwrap();
        assert!(last < Duration::from_secs(2), "{last:?}");
        assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_asked_at_once_than_a_client_takes() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        ask(0..500, async |_| {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(Duration::from_millis(10)).await;
            now.fetch_sub(1, Ordering::Relaxed);
        })
        .await;
        assert_eq!(most.into_inner(), AT_ONCE);
    }
}
