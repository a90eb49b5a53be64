//! The leader: renews the Lease until told to stop, or until it is lost.

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio_util::sync::CancellationToken;

use super::acquire::Won;
use super::request::{Failure, bounded};
use super::{Fence, Leadership, LeaseSettings, record};

pub(super) fn start(api: Api<Lease>, settings: LeaseSettings, won: Won) -> Leadership {
    let stop = CancellationToken::new();
    let lost = CancellationToken::new();
    let holder = Holder { api, settings, fence: won.fence.clone(), lease: won.lease };
    // The guard also fires when the task panics or is aborted.
    let guard = lost.clone().drop_guard();
    let task = tokio::spawn({
        let stop = stop.clone();
        async move {
            let _guard = guard;
            holder.run(&stop).await;
        }
    });
    Leadership { fence: won.fence, lost, stop, task }
}

/// All that was read from the API server so far is of no use: what it says now is older, and watches wait for versions
/// that are long in coming.
pub(super) const RESTORED: &str =
    "the API server's store went back in time (a restored backup?): starting over with what it says now";

/// The Lease is not ours any more, and why.
struct Lost(String);

struct Holder {
    api: Api<Lease>,
    settings: LeaseSettings,
    fence: Fence,
    /// As it was last read or written.
    lease: Lease,
}

impl Holder {
    async fn run(mut self, stop: &CancellationToken) {
        let mut pause = self.settings.renew_interval();
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.give_back().await,
                () = tokio::time::sleep(pause.min(self.remaining())) => {}
            }
            // A renewal that has begun is seen to its end: else we would not know what we hold. The next one is due by
            // when it was asked for: two slow answers in a row are no reason to step down.
            let asked = Instant::now();
            pause = match self.renew().await {
                Ok(true) => {
                    let left = self.settings.renew_interval().saturating_sub(asked.elapsed());
                    left.max(self.settings.retry_interval())
                }
                Ok(false) => self.settings.retry_interval(),
                Err(Lost(reason)) => {
                    if !stop.is_cancelled() {
                        tracing::error!(lease = self.settings.name, "lost the leader Lease: {reason}");
                    }
                    self.fence.close();
                    return;
                }
            };
        }
    }

    fn remaining(&self) -> std::time::Duration {
        self.fence.remaining().unwrap_or_default()
    }

    /// Renews once. False: not yet, try again soon.
    async fn renew(&mut self) -> Result<bool, Lost> {
        let limit = self.remaining().min(self.settings.renew_interval());
        if limit.is_zero() {
            return Err(Lost("it could not be renewed in time".into()));
        }
        let sent = Instant::now();
        let lease = record::held(self.lease.clone(), &self.settings, Timestamp::now());
        match self.replace(limit, &lease).await {
            Ok(lease) => {
                self.lease = lease;
                self.fence
                    .extend(sent + self.settings.fence_duration())
                    .map_err(|_| Lost("the answer to its renewal came too late".into()))?;
                Ok(true)
            }
            Err(failure) if failure.code() == Some(409) => self.reread().await,
            Err(failure) if failure.code() == Some(404) => self.recreate().await,
            Err(failure) => {
                tracing::warn!(lease = self.settings.name, "failed to renew the Lease: {failure}");
                Ok(false)
            }
        }
    }

    async fn replace(&self, limit: std::time::Duration, lease: &Lease) -> Result<Lease, Failure> {
        let parameters = PostParams::default();
        let replace = self.api.replace(&self.settings.name, &parameters, lease);
        bounded(limit, replace).await
    }

    /// After a conflict: somebody wrote the Lease, or an answer to our own write was lost.
    async fn reread(&mut self) -> Result<bool, Lost> {
        let limit = self.remaining().min(self.settings.renew_interval());
        match bounded(limit, self.api.get_opt(&self.settings.name)).await {
            Ok(Some(lease)) if record::went_back(&self.lease, &lease) => {
                return Err(Lost(RESTORED.into()));
            }
            Ok(Some(lease)) => {
                let holder = record::read(&lease, self.settings.duration).holder;
                if holder != self.settings.identity {
                    return Err(Lost(match holder.as_str() {
                        "" => "somebody released it".into(),
                        other => format!("{other} holds it"),
                    }));
                }
                self.lease = lease;
            }
            Ok(None) => return self.recreate().await,
            Err(failure) => {
                tracing::warn!(lease = self.settings.name, "failed to read the Lease: {failure}");
            }
        }
        Ok(false)
    }

    /// The Lease was deleted. Nobody else may have it before our deadline, so it is made again.
    async fn recreate(&mut self) -> Result<bool, Lost> {
        let limit = self.remaining().min(self.settings.renew_interval());
        let sent = Instant::now();
        let lease = record::created(&self.settings, Timestamp::now());
        match bounded(limit, self.api.create(&PostParams::default(), &lease)).await {
            Ok(lease) => {
                tracing::warn!(lease = self.settings.name, "somebody deleted the Lease; made it again");
                self.lease = lease;
                self.fence
                    .extend(sent + self.settings.fence_duration())
                    .map_err(|_| Lost("it was deleted, and made again too late".into()))?;
                Ok(true)
            }
            Err(failure) => {
                tracing::warn!(
                    lease = self.settings.name,
                    "failed to make the deleted Lease again: {failure}"
                );
                Ok(false)
            }
        }
    }

    async fn give_back(self) {
        self.fence.close();
        let limit = (self.settings.duration / 5).min(std::time::Duration::from_secs(3));
        let lease = record::released(self.lease.clone(), Timestamp::now());
        match self.replace(limit, &lease).await {
            Ok(_) => tracing::info!(lease = self.settings.name, "released the leader Lease"),
            Err(failure) => tracing::warn!(
                lease = self.settings.name,
                "failed to release the Lease, it expires by itself: {failure}"
            ),
        }
    }
}
