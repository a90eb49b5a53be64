//! One request to the API server that ends in time.

use std::time::Duration;

use kube::core::Status;

/// How a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The API server said no.
    #[error("{}", .0.message)]
    Api(Box<Status>),
    /// The API server was not reached, or its answer not understood.
    #[error("{0}")]
    Transport(String),
    /// No answer in time. The request may have been carried out.
    #[error("the API server did not answer within {0:?}")]
    Timeout(Duration),
}

impl Failure {
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api(status) => Some(status.code),
            Self::Transport(_) | Self::Timeout(_) => None,
        }
    }

    /// The API server will say the same tomorrow: no permission, no such namespace.
    pub fn is_refusal(&self) -> bool {
        self.code().is_some_and(|code| (400..500).contains(&code) && !matches!(code, 408 | 409 | 429))
    }
}

/// `request`, for at most `limit`.
pub(super) async fn bounded<T>(
    limit: Duration,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => Err(Failure::Api(status)),
        Ok(Err(error)) => Err(Failure::Transport(chain(&error))),
        Err(_) => Err(Failure::Timeout(limit)),
    }
}

/// An error with its causes, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}
