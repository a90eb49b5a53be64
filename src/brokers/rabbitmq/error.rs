//! What can go wrong between this process and RabbitMQ, in words a person can act on. Pure.

use serde::Deserialize;

use super::reason;

/// A call to RabbitMQ that failed.
///
/// Printed as `failed to <operation>: <message>`; the message is RabbitMQ's own `reason` where it gave one, at most
/// 1 KiB of it, and never any other text that a server sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to {operation}: {message}")]
pub struct RabbitError {
    /// What was tried, such as `declare queue "orders"`.
    pub operation: String,
    /// Class of the error, for decisions.
    pub kind: ErrorKind,
    /// Why, for people. Stable between attempts: it holds no times and no counters of this client.
    pub message: String,
}

/// Class of a RabbitMQ error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No connection: refused, broken, host name not found, TLS trouble.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The user or the password is wrong.
    Authentication,
    /// The user lacks a right, or the name is one that RabbitMQ keeps to itself.
    Authorization,
    /// What the call leans on does not exist, such as an end of a binding.
    NotFound,
    /// The virtual host does not exist: RabbitMQ itself says so.
    NoVhost,
    /// The object is there and differs in what cannot be changed.
    Inequivalent,
    /// The request itself is wrong: an argument, a type, a policy's key.
    Invalid,
    /// Another connection has the queue to itself.
    Locked,
    /// A condition of the request does not hold: not empty, in use, a limit is reached.
    Refused,
    /// RabbitMQ cannot do it at the moment: it boots, a node is down, no majority, an error of its own.
    Unavailable,
    /// The answer is not one of RabbitMQ's management interface, or too large.
    Protocol,
}

/// What the management interface says when it cannot do a thing.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    reason: serde_json::Value,
}

/// RabbitMQ's words are cut here.
const MESSAGE_BYTES: usize = 1024;

impl RabbitError {
    pub(super) fn new(operation: impl Into<String>, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { operation: operation.into(), kind, message: message.into() }
    }

    /// The error about a virtual host that is not there.
    pub(super) fn no_vhost(operation: impl Into<String>, vhost: &str) -> Self {
        Self::new(operation, ErrorKind::NoVhost, format!("virtual host {vhost:?} does not exist"))
    }

    /// True when no conversation with the broker took place: down, not found, wrong credentials, TLS trouble.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Authentication)
    }

    /// True when the same call may well succeed later without anyone changing what was asked for.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Locked
        )
    }

    /// True when RabbitMQ understood the request and will not do it: for the author to mend.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.kind, ErrorKind::Inequivalent | ErrorKind::Invalid | ErrorKind::Refused)
    }
}

/// What an answer other than 2xx means: the class, and words for people. `None` for the words of a server that is
/// not RabbitMQ's management interface.
pub(super) fn judge(status: u16, body: &[u8], password: &str) -> (ErrorKind, Option<String>) {
    let refusal = serde_json::from_slice::<Refusal>(body).ok();
    let error = refusal.as_ref().map(|refusal| refusal.error.clone()).unwrap_or_default();
    // Judged before anything is cut or taken out of them.
    let words = refusal.and_then(|refusal| words(&refusal.reason));
    let kind = match (status, words.as_deref()) {
        // RabbitMQ says "not_authorized" of wrong credentials, and "not_authorised" of a right that lacks.
        (401, words) if error == "not_authorised" && !words.is_some_and(login_failed) => {
            ErrorKind::Authorization
        }
        (401, _) => ErrorKind::Authentication,
        (403, _) => ErrorKind::Authorization,
        (404, Some(words)) => reason::not_found(words),
        (405, _) if error.contains("locked") => ErrorKind::Locked,
        (400, Some(words)) => reason::bad_request(words),
        (408 | 429 | 500..=599, _) => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    };
    (kind, words.map(|words| cut(without(words, password))))
}

fn login_failed(words: &str) -> bool {
    words.to_lowercase().starts_with("login failed")
}

fn words(reason: &serde_json::Value) -> Option<String> {
    let text = match reason {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => return None,
        other => other.to_string(),
    };
    Some(one_line(&text)).filter(|text| !text.is_empty())
}

/// RabbitMQ's words as one short line of plain text, without the password.
pub(super) fn plain(words: &str, password: &str) -> String {
    cut(without(one_line(words), password))
}

/// RabbitMQ's words as one line of plain text: it escapes some for HTML.
pub(super) fn one_line(words: &str) -> String {
    let mut text = words.split_whitespace().collect::<Vec<_>>().join(" ");
    for (escaped, plain) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&apos;", "'"), ("&amp;", "&")]
    {
        text = text.replace(escaped, plain);
    }
    text
}

fn without(text: String, password: &str) -> String {
    if password.is_empty() { text } else { text.replace(password, "…") }
}

fn cut(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES {
        let end = (0..=MESSAGE_BYTES - '…'.len_utf8()).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> ErrorKind {
        judge(status, body.as_bytes(), "hunter2").0
    }

    fn refused(error: &str, reason: &str) -> String {
        serde_json::json!({ "error": error, "reason": reason }).to_string()
    }

    #[test]
    fn an_error_says_what_failed_and_ends_with_rabbitmqs_words() {
        let body = refused("bad_request", "inequivalent arg 'x-max-length' for queue 'q1' in vhost '/'");
        let (kind, words) = judge(400, body.as_bytes(), "");
        let error = RabbitError::new("declare queue \"q1\"", kind, words.expect("it is JSON"));
        assert_eq!(
            error.to_string(),
            "failed to declare queue \"q1\": inequivalent arg 'x-max-length' for queue 'q1' in vhost '/'"
        );
        assert!(error.is_refused() && !error.is_retriable());
    }

    #[test]
    fn what_rabbitmq_answers_is_told_apart() {
        let cases = [
            (400, "bad_request", "inequivalent arg 'durable' for queue 'q'", ErrorKind::Inequivalent),
            (400, "bad_request", "invalid arg 'x-max-priority' for queue 'q'", ErrorKind::Invalid),
            (400, "bad_request", "invalid property 'non-durable' for queue 'q'", ErrorKind::Invalid),
            (400, "bad_request", "unknown exchange type 'x-delayed-message'", ErrorKind::Invalid),
            (400, "bad_request", "Validation failed\n\nnot recognised", ErrorKind::Invalid),
            (400, "bad_request", "queue 'q' in vhost '/' not empty", ErrorKind::Refused),
            (400, "bad_request", "exchange 'e' in vhost '/' in use", ErrorKind::Refused),
            (
                400,
                "bad_request",
                "cannot delete queue 'q' in vhost '/'. queue.delete operations with if-empty flag set are not supported by quorum queues",
                ErrorKind::Refused,
            ),
            (
                400,
                "bad_request",
                "Cannot declare quorum queue 'q': cluster_not_formed",
                ErrorKind::Unavailable,
            ),
            (400, "bad_request", "cannot declare queue 'q': queue limit (1) is reached", ErrorKind::Refused),
            (400, "bad_request", "cannot obtain exclusive access to locked queue 'q'", ErrorKind::Locked),
            (400, "bad_request", "operation queue.declare timed out", ErrorKind::Unavailable),
            (401, "not_authorized", "Not_Authorized", ErrorKind::Authentication),
            (401, "not_authorised", "Login failed", ErrorKind::Authentication),
            (401, "not_authorised", "Not management user", ErrorKind::Authorization),
            (401, "not_authorised", "Access refused.", ErrorKind::Authorization),
            (404, "Object Not Found", "Not Found", ErrorKind::NotFound),
            (405, "resource_locked", "locked", ErrorKind::Locked),
            (503, "service_unavailable", "booting", ErrorKind::Unavailable),
        ];
        for (status, error, reason, expected) in cases {
            assert_eq!(kind(status, &refused(error, reason)), expected, "{status} {reason}");
        }
    }

    #[test]
    fn neither_its_length_nor_the_password_changes_what_an_answer_means() {
        let reason = format!("queue '{}' in vhost '{}' in use", "q".repeat(1020), "v".repeat(255));
        let (kind, words) = judge(400, refused("bad_request", &reason).as_bytes(), "in");
        assert_eq!(kind, ErrorKind::Refused);
        assert!(words.is_some_and(|words| words.len() <= 1024));
    }

    #[test]
    fn an_answer_that_is_not_rabbitmqs_is_never_taken_for_not_there_nor_echoed() {
        let (kind, words) = judge(404, b"<html>internal-secret</html>", "");
        assert_eq!((kind, words), (ErrorKind::Protocol, None));
        assert_eq!(judge(404, br#"{"message":"internal-secret"}"#, ""), (ErrorKind::Protocol, None));
        assert_eq!(judge(502, b"Bad Gateway", ""), (ErrorKind::Unavailable, None));
    }

    #[test]
    fn words_are_plain_one_line_short_and_without_the_password() {
        let words = |reason: &str| judge(400, refused("bad_request", reason).as_bytes(), "hunter2").1;
        assert_eq!(
            words("Validation failed\n\n[{&lt;&lt;\"maxx\"&gt;&gt;,5}]\n").as_deref(),
            Some("Validation failed [{<<\"maxx\">>,5}]")
        );
        assert_eq!(words("user alice:hunter2").as_deref(), Some("user alice:…"));
        let long = words(&"ü".repeat(2000)).expect("it is JSON");
        assert!(long.len() <= 1024 && long.ends_with("ü…"));
    }

    #[test]
    fn only_errors_that_can_pass_by_themselves_are_retriable() {
        let error = |kind| RabbitError::new("x", kind, "y");
        for kind in [ErrorKind::Unreachable, ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::Locked] {
            assert!(error(kind).is_retriable() && !error(kind).is_refused(), "{kind:?}");
        }
        for kind in [
            ErrorKind::Inequivalent,
            ErrorKind::Invalid,
            ErrorKind::Refused,
            ErrorKind::NotFound,
            ErrorKind::NoVhost,
        ] {
            assert!(!error(kind).is_retriable() && !error(kind).is_unreachable(), "{kind:?}");
        }
        assert!(error(ErrorKind::Authentication).is_unreachable());
    }
}
