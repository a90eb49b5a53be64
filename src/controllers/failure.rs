//! Why a pass did not reach its end, and what that means for the object.
//!
//! Each failure reaches a condition once: its reason from the closed set, its message beginning
//! with what failed and ending with the broker's or the API server's own words.

use std::time::Duration;

use crate::api::conditions::Reason;
use crate::brokers::kafka::{ErrorCode, KafkaError};
use crate::brokers::rabbitmq::{ErrorKind, RabbitError};
use crate::causes::of_kube;
use crate::runtime::lease::Fenced;
use crate::topology::Rejection;

/// Why a pass did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The spec cannot be carried out.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Something that is needed is not there yet, or not usable.
    #[error("{message}")]
    Waiting {
        /// The condition's reason.
        reason: Reason,
        /// What is waited for.
        message: String,
    },
    /// Another object that nobody has come to yet is needed: it wakes this one as soon as somebody has.
    #[error("{message}")]
    OnItsWay {
        /// What is waited for.
        message: String,
    },
    /// Something that will be so after a while.
    #[error("{message}")]
    Soon {
        /// The condition's reason.
        reason: Reason,
        /// What is waited for.
        message: String,
        /// When to look again.
        after: Duration,
    },
    /// Kafka said no, or nothing.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// RabbitMQ said no, or nothing.
    #[error(transparent)]
    Rabbitmq(#[from] RabbitError),
    /// The API server said no, or nothing.
    #[error("failed to {action}: {}", of_kube(source))]
    Kube {
        /// What was tried.
        action: &'static str,
        /// The API server's words.
        source: Box<kube::Error>,
    },
    /// This process may not write any more.
    #[error(transparent)]
    Fenced(#[from] Fenced),
}

impl Failure {
    /// The words in it that came from a broker, at its end: they alone can hold what is secret. All others are Spillway's and
    /// the author's own.
    #[must_use]
    pub fn outside(&self) -> &str {
        match self {
            Self::Kafka(error) => &error.message,
            Self::Rabbitmq(error) => &error.message,
            _ => "",
        }
    }

    /// What it says, with `hide` over the words from outside.
    #[must_use]
    pub fn words(&self, hide: impl FnOnce(&str) -> String) -> String {
        hiding(self.to_string(), self.outside(), hide)
    }

    /// Waiting for something.
    pub fn waiting(reason: Reason, message: impl Into<String>) -> Self {
        Self::Waiting { reason, message: message.into() }
    }

    /// The API server refused `action`.
    pub fn kube(action: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kube { action, source: Box::new(source) }
    }

    /// The condition's reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Rejected(rejection) => rejection.reason,
            Self::Waiting { reason, .. } | Self::Soon { reason, .. } => *reason,
            Self::OnItsWay { .. } => Reason::DependencyNotReady,
            Self::Kafka(error) => match error.code {
                ErrorCode::Authentication => Reason::AuthenticationFailed,
                ErrorCode::Authorization | ErrorCode::GroupAuthorization => Reason::AuthorizationFailed,
                _ if error.is_name_collision() => Reason::NameCollision,
                _ if refused(error) => Reason::BrokerRefused,
                _ if error.is_unreachable() => Reason::BrokerUnreachable,
                _ => Reason::Failed,
            },
            Self::Rabbitmq(error) => match error.kind {
                ErrorKind::Authentication => Reason::AuthenticationFailed,
                ErrorKind::Authorization => Reason::AuthorizationFailed,
                ErrorKind::NotFound | ErrorKind::NoVhost => Reason::DependencyNotReady,
                ErrorKind::Inequivalent | ErrorKind::Invalid | ErrorKind::Locked | ErrorKind::Refused => {
                    Reason::BrokerRefused
                }
                ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Unavailable => {
                    Reason::BrokerUnreachable
                }
                ErrorKind::Protocol => Reason::Failed,
            },
            Self::Kube { .. } | Self::Fenced(_) => Reason::Failed,
        }
    }

    /// Whether it is an ordinary wait, that ends by itself.
    #[must_use]
    pub fn is_foreseen(&self) -> bool {
        matches!(self, Self::Soon { .. } | Self::OnItsWay { .. })
    }

    /// Whether only an edit can help (kstatus' Stalled).
    #[must_use]
    pub fn stalled(&self) -> bool {
        match self {
            Self::Rejected(rejection) => {
                !matches!(rejection.reason, Reason::Conflict | Reason::Contended | Reason::NotRecreated)
            }
            Self::Kafka(error) => refused(error),
            Self::Rabbitmq(error) => {
                matches!(error.kind, ErrorKind::Inequivalent | ErrorKind::Invalid | ErrorKind::Refused)
            }
            _ => false,
        }
    }

    /// Whether it belongs into the object's status: all but what is this process's own trouble. What
    /// the API server refuses (a quota, a webhook, a missing right) is for a person to mend.
    #[must_use]
    pub fn for_the_author(&self) -> bool {
        match self {
            Self::Fenced(_) => false,
            Self::Kube { source, .. } => matches!(source.as_ref(),
                kube::Error::Api(status) if (400..500).contains(&status.code) && !matches!(status.code, 404 | 409 | 429)),
            _ => true,
        }
    }

    /// How long to wait before trying again after the `count`th failure in a row. What only an
    /// edit can help is looked at rarely: the broker's side may have changed.
    #[must_use]
    pub fn retry_after(&self, count: u32) -> Duration {
        if let Self::Soon { after, .. } = self {
            return *after;
        }
        if self.stalled() {
            return Duration::from_secs(120);
        }
        let longest = if matches!(self, Self::Waiting { .. } | Self::Rejected(_)) { 60_000 } else { 15_000 };
        Duration::from_millis((250u64 << count.min(10)).min(longest))
    }
}

/// The broker understood and refuses: trying again changes nothing.
fn refused(error: &KafkaError) -> bool {
    matches!(
        error.code,
        ErrorCode::InvalidConfig
            | ErrorCode::InvalidTopic
            | ErrorCode::InvalidPartitions
            | ErrorCode::InvalidReplicationFactor
            | ErrorCode::InvalidRequest
            | ErrorCode::InvalidInput
            | ErrorCode::PolicyViolation
    )
}

/// The message with `hide` over the words from outside at its end.
pub fn hiding(message: String, outside: &str, hide: impl FnOnce(&str) -> String) -> String {
    match message.strip_suffix(outside) {
        Some(own) if !outside.is_empty() => format!("{own}{}", hide(outside)),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_come_quickly_at_first_and_then_at_most_every_fifteen_seconds() {
        let failure = Failure::Kafka(KafkaError {
            operation: "list topics".into(),
            code: ErrorCode::Timeout,
            message: "timed out".into(),
        });
        assert!(failure.retry_after(0) < Duration::from_secs(1));
        assert_eq!(failure.retry_after(99), Duration::from_secs(15));
    }

    #[test]
    fn a_name_that_collides_is_told_from_one_that_is_not_allowed() {
        let refused = |message: &str| {
            Failure::Kafka(KafkaError {
                operation: "create topic".into(),
                code: ErrorCode::InvalidTopic,
                message: message.into(),
            })
        };
        let collides = refused("Topic 'orders_v1' collides with existing topic: orders.v1");
        assert_eq!(collides.reason(), Reason::NameCollision);
        assert!(collides.stalled() && collides.to_string().ends_with("orders.v1"));
        assert_eq!(refused("Topic name is invalid").reason(), Reason::BrokerRefused);
    }

    #[test]
    fn a_guess_at_a_password_is_told_as_it_is_and_the_password_in_a_brokers_words_is_not() {
        let hide = |text: &str| text.replace("hunter22", "***");
        let message = "login as alice with hunter22 failed";
        let kafka = Failure::Kafka(KafkaError {
            operation: "create topic \"hunter22\"".into(),
            code: ErrorCode::Authentication,
            message: message.into(),
        });
        let rabbit = Failure::Rabbitmq(RabbitError {
            operation: "declare queue \"hunter22\"".into(),
            kind: ErrorKind::Authentication,
            message: message.into(),
        });
        for (failure, what) in [(kafka, "create topic"), (rabbit, "declare queue")] {
            let told = format!("failed to {what} \"hunter22\": login as alice with *** failed");
            assert_eq!(failure.words(hide), told);
        }
        let waits = Failure::waiting(Reason::DependencyNotReady, "waiting for queue \"hunter22\"");
        assert_eq!(waits.words(hide), "waiting for queue \"hunter22\"");
    }

    #[test]
    fn a_refused_config_is_the_authors_to_mend() {
        let failure = Failure::Kafka(KafkaError {
            operation: "create topic".into(),
            code: ErrorCode::InvalidConfig,
            message: "Unknown topic config name: x".into(),
        });
        assert!(failure.stalled());
        assert_eq!(failure.reason(), Reason::BrokerRefused);
    }
}
