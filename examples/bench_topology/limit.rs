//! The limit: the calls to the broker in large batches, and one status for each object, by a client that decides
//! nothing, watches nothing but the outcome, and forgets everything.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::BenchError;
use crate::objects::{Kind, Objects};

/// Status patches at a time: what the API server is fastest with.
const PATCHES: usize = 64;
/// Requests to the broker at a time.
const IN_FLIGHT: usize = 2;

/// What one row's limit is made of.
pub struct Limit<'a> {
    pub objects: &'a Objects,
    pub kind: Kind,
    /// Names of the objects, and what names at the broker begin with.
    pub names: &'a [String],
    pub prefix: String,
    /// Objects in one request to the broker.
    pub batch: usize,
    /// The generation that the status is about.
    pub generation: i64,
}

impl Limit<'_> {
    /// Makes the calls, and writes the status of what is done while the next batch is under way. Ends when the watch
    /// shows all of them ready, as it does for the operator.
    pub async fn measure(
        &self,
        call: impl AsyncFn(Vec<String>) -> Result<(), BenchError>,
    ) -> Result<Duration, BenchError> {
        let mut follow = self.objects.follow(self.kind);
        follow.until("to be listed", |counts| counts.all == self.names.len()).await?;
        let status = self.status();
        let (call, status) = (&call, &status);
        let begun = Instant::now();
        futures::stream::iter(self.names.chunks(self.batch))
            .map(|names| async move {
                call(names.iter().map(|name| format!("{}{name}", self.prefix)).collect()).await?;
                Ok::<_, BenchError>(futures::stream::iter(names).map(Ok))
            })
            .buffered(IN_FLIGHT)
            .try_flatten()
            .map_ok(|name| self.objects.patch_status(self.kind, name, status))
            .try_buffer_unordered(PATCHES)
            .try_collect::<()>()
            .await?;
        let ended = follow.until("to be ready", |counts| counts.ready == self.names.len()).await?;
        Ok(ended.saturating_duration_since(begun))
    }

    /// A status as the operator writes it.
    fn status(&self) -> Value {
        let condition = |kind: &str| {
            json!({
                "type": kind, "status": "True", "reason": "InStep", "observedGeneration": self.generation,
                "message": format!("{:?} is as declared", self.names.first()),
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        json!({
            "conditions": [condition("Ready"), condition("InSync")],
            "observedGeneration": self.generation,
        })
    }
}
