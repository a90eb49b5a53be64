//! What can go wrong between this process and Kafka, in words a person can act on.

use std::fmt;

/// A Kafka call that failed, for one object or as a whole.
///
/// Printed as `failed to <operation>: <message>`; the message is the broker's own words where it gave any, else
/// librdkafka's name for the error, with the reason of the broken connection in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to {operation}: {message}")]
pub struct KafkaError {
    /// What was tried, such as `create topic "orders"`.
    pub operation: String,
    /// Class of the error, for decisions.
    pub code: ErrorCode,
    /// Why, for people. Stable between attempts: it holds no times and no counters of this client.
    pub message: String,
}

/// Class of a Kafka error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// No answer in time.
    Timeout,
    /// No broker of the cluster can be reached.
    AllBrokersDown,
    /// A connection broke or could not be made, or a host name was not found.
    Transport,
    /// The broker refused the credentials or the mechanism.
    Authentication,
    /// The TLS handshake failed: untrusted certificate, wrong host name, missing client certificate.
    Ssl,
    /// The topic or partition does not exist, or the broker does not know it yet.
    UnknownTopicOrPartition,
    /// The topic exists already.
    TopicAlreadyExists,
    /// The topic name is not allowed.
    InvalidTopic,
    /// The number of partitions is not allowed, such as fewer than there are.
    InvalidPartitions,
    /// The replication factor is not allowed, such as more than there are brokers.
    InvalidReplicationFactor,
    /// A configuration key or value is not allowed.
    InvalidConfig,
    /// The broker understood the request and finds it wrong.
    InvalidRequest,
    /// A policy of the cluster forbids it.
    PolicyViolation,
    /// The user lacks a right on the topic or the cluster.
    Authorization,
    /// The user lacks a right on the consumer group.
    GroupAuthorization,
    /// The consumer group does not exist.
    GroupIdNotFound,
    /// The consumer group still has members.
    NonEmptyGroup,
    /// The broker asked is not the controller (any more).
    NotController,
    /// The partition has no leader at the moment, or another one than asked.
    LeaderNotAvailable,
    /// The group's coordinator is loading, moving or unknown.
    CoordinatorNotAvailable,
    /// The quota for changes is used up for now.
    ThrottlingQuota,
    /// The broker is too old for the request, or has the feature switched off.
    UnsupportedVersion,
    /// The request never left: a text with a NUL in it, a number out of range, bad settings.
    InvalidInput,
    /// Any other error, with its number (negative ones are librdkafka's own).
    Other(i32),
}

/// An error as librdkafka reports it, before it is tied to an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawError {
    pub code: i32,
    pub message: String,
}

/// What librdkafka calls an invalid argument; also used for what this client refuses itself.
pub(super) const LOCAL_INVALID_ARG: i32 = -186;
/// What librdkafka calls a broken connection.
pub(super) const LOCAL_TRANSPORT: i32 = -195;
/// What librdkafka calls trouble with TLS.
pub(super) const LOCAL_SSL: i32 = -181;
/// What librdkafka calls a time-out.
pub(super) const LOCAL_TIMED_OUT: i32 = -185;
/// What librdkafka calls a response that lacks what was asked for.
pub(super) const LOCAL_BAD_MSG: i32 = -199;
/// The broker that was asked does not coordinate the group (any more).
pub(super) const NOT_COORDINATOR: i32 = 16;
/// What librdkafka calls a handle that is going away.
pub(super) const LOCAL_DESTROY: i32 = -197;

impl RawError {
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The error as the outcome of an operation.
    pub fn of(self, operation: impl Into<String>) -> KafkaError {
        KafkaError {
            operation: operation.into(),
            code: ErrorCode::from_native(self.code),
            message: self.message,
        }
    }
}

impl KafkaError {
    /// An error about input that is never sent.
    #[must_use]
    pub fn invalid_input(operation: impl Into<String>, message: impl Into<String>) -> Self {
        RawError::new(LOCAL_INVALID_ARG, message).of(operation)
    }

    /// True when the same call may well succeed later without anyone changing what was asked for.
    ///
    /// Wrong credentials are not retriable in this sense: a person has to change them (callers still try again
    /// at leisure, since the change may happen on the broker's side).
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self.code {
            ErrorCode::Timeout
            | ErrorCode::AllBrokersDown
            | ErrorCode::Transport
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotController
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::ThrottlingQuota => true,
            ErrorCode::Other(code) => RETRIABLE_OTHERS.contains(&code),
            _ => false,
        }
    }

    /// True when no conversation with the broker took place: down, not found, wrong credentials, TLS trouble.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::Timeout
                | ErrorCode::AllBrokersDown
                | ErrorCode::Transport
                | ErrorCode::Authentication
                | ErrorCode::Ssl
        )
    }

    /// True when the answer to a change proves that the change was not made. Without an answer, or with one about the
    /// cluster's own trouble, it may have been made, or may be yet.
    #[must_use]
    pub fn changed_nothing(&self) -> bool {
        self.tells_absence()
            || matches!(
                self.code,
                ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::TopicAlreadyExists
                    | ErrorCode::InvalidTopic
                    | ErrorCode::InvalidRequest
                    | ErrorCode::InvalidInput
                    | ErrorCode::PolicyViolation
                    | ErrorCode::Authorization
                    | ErrorCode::ThrottlingQuota
                    | ErrorCode::UnsupportedVersion
            )
    }

    /// True when the answer to the creation of a topic proves that there is none of its name: the controller looks for
    /// that before it judges the rest.
    #[must_use]
    pub fn tells_absence(&self) -> bool {
        matches!(
            self.code,
            ErrorCode::InvalidPartitions | ErrorCode::InvalidReplicationFactor | ErrorCode::InvalidConfig
        )
    }

    /// True when the broker refuses a topic because its name, in metrics, would be that of another one: `.` and `_` are
    /// the same there.
    #[must_use]
    pub fn is_name_collision(&self) -> bool {
        self.code == ErrorCode::InvalidTopic && self.message.contains("collides")
    }

    /// True when a broker said that it does not know the topic, which it may say of a topic just created.
    #[must_use]
    pub fn is_unknown_topic(&self) -> bool {
        self.code == ErrorCode::UnknownTopicOrPartition
    }

    /// The same error for another operation: one failed request told to each object in it.
    #[must_use]
    pub fn for_operation(&self, operation: impl Into<String>) -> Self {
        Self { operation: operation.into(), code: self.code, message: self.message.clone() }
    }
}

/// Destroyed handle, critical resource, stale controller or broker epoch, storage error, reassignment,
/// unstable offsets, offset not available, concurrent transactions.
const RETRIABLE_OTHERS: [i32; 9] = [LOCAL_DESTROY, -194, 11, 56, 60, 77, 78, 88, 51];

impl ErrorCode {
    /// Classifies the number librdkafka or the broker uses (negative: librdkafka's own; positive: the protocol's).
    #[must_use]
    pub fn from_native(code: i32) -> Self {
        match code {
            LOCAL_TIMED_OUT | 7 | -192 | -166 => Self::Timeout,
            -187 => Self::AllBrokersDown,
            // Transport, resolve, broker not available, network exception, unknown broker.
            LOCAL_TRANSPORT | -193 | 8 | 13 | -146 => Self::Transport,
            // Authentication, unsupported mechanism, illegal state, refused.
            -169 | 33 | 34 | 58 => Self::Authentication,
            LOCAL_SSL => Self::Ssl,
            3 | -188 | -190 | 100 => Self::UnknownTopicOrPartition,
            36 => Self::TopicAlreadyExists,
            17 => Self::InvalidTopic,
            37 => Self::InvalidPartitions,
            38 => Self::InvalidReplicationFactor,
            40 => Self::InvalidConfig,
            42 => Self::InvalidRequest,
            44 => Self::PolicyViolation,
            29 | 31 => Self::Authorization,
            30 => Self::GroupAuthorization,
            69 => Self::GroupIdNotFound,
            68 => Self::NonEmptyGroup,
            41 => Self::NotController,
            // Leader not available, not the leader, replica not available, fenced or unknown leader epoch.
            5 | 6 | 9 | 74 | 75 => Self::LeaderNotAvailable,
            14..=16 | -180 => Self::CoordinatorNotAvailable,
            89 => Self::ThrottlingQuota,
            35 | -165 => Self::UnsupportedVersion,
            LOCAL_INVALID_ARG => Self::InvalidInput,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(code) => write!(f, "KafkaError{code}"),
            named => write!(f, "{named:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32) -> KafkaError {
        RawError::new(code, "words").of("create topic \"orders\"")
    }

    #[test]
    fn an_error_says_what_failed_and_ends_with_the_brokers_words() {
        let text = RawError::new(38, "Replication factor: 3 larger than available brokers: 1.")
            .of("create topic \"orders\"")
            .to_string();
        assert_eq!(
            text,
            "failed to create topic \"orders\": Replication factor: 3 larger than available brokers: 1."
        );
    }

    #[test]
    fn errors_of_the_connection_are_unreachable_and_errors_of_the_request_are_not() {
        for code in [-185, -187, -195, -193, -169, -181, 58] {
            assert!(error(code).is_unreachable(), "{code}");
        }
        for code in [3, 17, 36, 37, 38, 40, 42, 44, 29, 30, 69, 35] {
            assert!(!error(code).is_unreachable(), "{code}");
        }
    }

    #[test]
    fn only_errors_that_can_pass_by_themselves_are_retriable() {
        for code in [-185, -195, 3, 5, 6, 14, 15, 16, 41, 89, 60] {
            assert!(error(code).is_retriable(), "{code}");
        }
        for code in [17, 36, 37, 38, 40, 42, 44, 29, 58, -181, -186, 35, 9999] {
            assert!(!error(code).is_retriable(), "{code}");
        }
    }

    #[test]
    fn only_an_answer_about_the_request_itself_proves_that_nothing_was_changed() {
        for code in [3, 17, 29, 31, 35, 36, 37, 38, 40, 42, 44, 89, -186] {
            assert!(error(code).changed_nothing(), "{code}");
        }
        // No answer, one that came from a controller on its way out, or one that nobody knows.
        for code in [-185, -195, -187, -197, -169, 7, 41, 5, 15, 58, -1, 9999] {
            assert!(!error(code).changed_nothing(), "{code}");
        }
        for code in [37, 38, 40] {
            assert!(error(code).tells_absence(), "{code}");
        }
        for code in [3, 29, 36, 42, 44, 89, -185] {
            assert!(!error(code).tells_absence(), "{code}");
        }
    }

    #[test]
    fn an_unknown_number_is_kept() {
        assert_eq!(error(9999).code, ErrorCode::Other(9999));
        assert_eq!(ErrorCode::Other(9999).to_string(), "KafkaError9999");
    }
}
