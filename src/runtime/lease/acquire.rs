//! The candidate: watches the Lease until it may take it.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::utils::{Backoff, StreamBackoff};
use kube::runtime::watcher;

use super::decide::{Decision, Observed, Reading};
use super::hold::RESTORED;
use super::request::{Failure, bounded, chain};
use super::{Fence, LeaseError, LeaseSettings, record};
use crate::runtime::complaint::Complaint;

/// A Lease that bears our name, and the fence that came with it.
pub(super) struct Won {
    pub lease: Lease,
    pub fence: Fence,
}

pub(super) async fn acquire(api: &Api<Lease>, settings: &LeaseSettings) -> Result<Won, LeaseError> {
    let mut candidate = Candidate::new(api, settings);
    candidate.look().await?;
    let watch = watcher::watch_object(api.clone(), &settings.name);
    let mut watch = pin!(StreamBackoff::new(watch, Every(settings.retry_interval())));
    loop {
        let now = candidate.now();
        let wait = match candidate.observed.decide(&settings.identity, now) {
            Decision::Create | Decision::Take => match candidate.take().await? {
                Some(won) => return Ok(won),
                None => settings.retry_interval(),
            },
            Decision::WaitUntil(expiry) => expiry.saturating_sub(now).min(candidate.patience()),
        };
        tokio::select! {
            seen = watch.next() => match seen {
                Some(Ok(lease)) => candidate.note(lease),
                Some(Err(error)) => candidate.complain("watch", &error),
                None => candidate.look().await?,
            },
            () = tokio::time::sleep(wait) => if candidate.patience().is_zero() {
                candidate.look().await?;
            },
        }
    }
}

struct Candidate<'a> {
    api: &'a Api<Lease>,
    settings: &'a LeaseSettings,
    origin: Instant,
    observed: Observed,
    current: Option<Lease>,
    /// When to look for ourselves if nothing is heard until then.
    next_look: Reading,
    answered: bool,
    complaint: Complaint,
}

impl<'a> Candidate<'a> {
    fn new(api: &'a Api<Lease>, settings: &'a LeaseSettings) -> Self {
        Self {
            api,
            settings,
            origin: Instant::now(),
            observed: Observed::default(),
            current: None,
            next_look: Reading::ZERO,
            answered: false,
            complaint: Complaint::default(),
        }
    }

    fn now(&self) -> Reading {
        self.origin.elapsed()
    }

    /// How long to wait for news before looking for ourselves.
    fn patience(&self) -> Duration {
        self.next_look.saturating_sub(self.now())
    }

    fn note(&mut self, lease: Option<Lease>) {
        let now = self.now();
        let before = self.observed.holder().map(str::to_owned);
        let record = lease.as_ref().map(|lease| record::read(lease, self.settings.duration));
        self.observed.note(record, now);
        self.current = lease;
        // A leader renews every third of the duration: after two thirds of silence either it is gone
        // or our watch is.
        self.next_look = now + self.settings.duration * 2 / 3;
        self.answered = true;
        if let Some(holder) = self.observed.holder()
            && before.as_deref() != Some(holder)
        {
            tracing::info!(lease = self.settings.name, holder, "standing by");
        }
    }

    /// Reads the Lease. What the API server does not answer is left to a later look.
    async fn look(&mut self) -> Result<(), LeaseError> {
        let answer = self.bounded(self.api.get_opt(&self.settings.name)).await;
        self.next_look = self.now() + self.settings.retry_interval();
        match answer {
            // What a watch brings may be late; what is read is as of now.
            Ok(Some(lease)) if self.current.as_ref().is_some_and(|was| record::went_back(was, &lease)) => {
                return Err(LeaseError::Restored { words: RESTORED });
            }
            Ok(lease) => self.note(lease),
            Err(failure) if failure.is_refusal() && !self.answered => {
                return Err(self.refused("read", &failure));
            }
            Err(failure) => self.complain("read", &failure),
        }
        Ok(())
    }

    /// Writes ourselves into the Lease as it was last seen. None: somebody was faster, or no answer.
    async fn take(&mut self) -> Result<Option<Won>, LeaseError> {
        let now = Timestamp::now();
        let sent = Instant::now();
        let parameters = PostParams::default();
        let written = match self.current.clone() {
            None => {
                let lease = record::created(self.settings, now);
                self.bounded(self.api.create(&parameters, &lease)).await
            }
            Some(lease) => {
                let lease = record::held(lease, self.settings, now);
                let replace = self.api.replace(&self.settings.name, &parameters, &lease);
                self.bounded(replace).await
            }
        };
        match written {
            Ok(lease) => Ok(Some(Won { lease, fence: Fence::until(sent + self.settings.fence_duration()) })),
            Err(failure) if failure.code() == Some(409) => self.look().await.map(|()| None),
            Err(failure) if failure.code() == Some(404) && self.current.is_some() => {
                self.look().await.map(|()| None)
            }
            Err(failure) if failure.is_refusal() => Err(self.refused("write", &failure)),
            Err(failure) => {
                self.complain("write", &failure);
                Ok(None)
            }
        }
    }

    async fn bounded<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        bounded(self.settings.renew_interval(), request).await
    }

    fn refused(&self, operation: &'static str, failure: &Failure) -> LeaseError {
        LeaseError::Refused {
            operation,
            namespace: self.settings.namespace.clone(),
            name: self.settings.name.clone(),
            message: failure.to_string(),
        }
    }

    /// Logs a failure when it is another one than before, and else once a minute.
    fn complain(&mut self, operation: &str, error: &dyn std::error::Error) {
        let text = chain(error);
        if self.complaint.is_due(&text, Instant::now()) {
            tracing::warn!(lease = self.settings.name, "failed to {operation} the Lease: {text}");
        }
    }
}

struct Every(Duration);

impl Iterator for Every {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0)
    }
}

impl Backoff for Every {
    fn reset(&mut self) {}
}
