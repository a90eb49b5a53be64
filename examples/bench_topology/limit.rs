//! The limit: the calls to the broker in large batches, and one status for each object, by a client that decides
//! nothing, watches nothing but the outcome, and forgets everything.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::BenchError;
use crate::objects::{Counts, Kind, Objects};

/// Status patches at a time: what the API server is fastest with.
const PATCHES: usize = 64;
/// Requests to the broker at a time.
const IN_FLIGHT: usize = 2;

/// What one row's limit is made of.
pub struct Limit<'a> {
    pub objects: &'a Objects,
    pub names: &'a [(Kind, String)],
    /// Objects in one request to the broker.
    pub batch: usize,
    /// The generation that the status is about.
    pub generation: i64,
    /// The objects were lost, and are made again: the status says so, as the operator's does.
    pub lost: bool,
}

impl Limit<'_> {
    /// Makes the calls, and writes the status of what is done while the next batch is under way. Ends when the watch
    /// shows all of them ready, as it does for the operator.
    pub async fn measure(
        &self,
        call: impl AsyncFn(&[(Kind, String)]) -> Result<(), BenchError>,
    ) -> Result<Duration, BenchError> {
        let mut follows = self.objects.follow_all(self.names);
        for (follow, number) in &mut follows {
            follow.until("to be listed", |counts| counts.all == *number).await?;
        }
        crate::rows::rest("limit").await;
        let status = self.status();
        let (call, status) = (&call, &status);
        let begun = Instant::now();
        futures::stream::iter(self.names.chunks(self.batch))
            .map(|names| async move {
                call(names).await?;
                Ok::<_, BenchError>(futures::stream::iter(names).map(Ok))
            })
            .buffered(IN_FLIGHT)
            .try_flatten()
            .map_ok(|(kind, name)| self.objects.patch_status(*kind, name, status))
            .try_buffer_unordered(PATCHES)
            .try_collect::<()>()
            .await?;
        let mut ended = begun;
        let done = |counts: &Counts| if self.lost { counts.ready.min(counts.lost) } else { counts.ready };
        for (follow, number) in &mut follows {
            ended = ended.max(follow.until("to be ready", |counts| done(counts) == *number).await?);
        }
        Ok(ended.saturating_duration_since(begun))
    }

    /// A status as the operator writes it.
    fn status(&self) -> Value {
        let condition = |kind: &str| {
            json!({
                "type": kind, "status": "True", "reason": "InStep", "observedGeneration": self.generation,
                "message": format!("{:?} is as declared", self.names.first().map(|(_, name)| name)),
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let kinds = if self.lost { &["Ready", "InSync", "DataLost"][..] } else { &["Ready", "InSync"] };
        json!({
            "conditions": kinds.iter().map(|kind| condition(kind)).collect::<Vec<_>>(),
            "observedGeneration": self.generation,
        })
    }
}
