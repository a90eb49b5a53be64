//! What a client knows about its connections: why they fail, and since when.
//!
//! librdkafka retries connections by itself and lets calls wait; a call then ends with "timed out", which helps
//! nobody. This state remembers the reason, puts it into such errors, and ends calls early when waiting is
//! pointless, as with a wrong password.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{self, Instant};

use super::error::{ErrorCode, LOCAL_SSL, LOCAL_TRANSPORT, RawError};
use super::ffi::Notice;

/// How long a refused client lets a call wait for another connection to succeed.
const REFUSED_GRACE: Duration = Duration::from_secs(1);
/// A client that got an answer this recently is not refused as such: one listener of several is at fault.
const RECENT_ANSWER: Duration = Duration::from_secs(60);
/// A cluster that answered this recently answers; Consumers ask each second, or each few.
const HEARD: Duration = Duration::from_secs(5);
/// Broken connections remembered, one per broker.
const MAX_TROUBLES: usize = 16;
/// Log lines let through per [`LOG_WINDOW`].
const LOG_LINES: u32 = 10;
const LOG_WINDOW: Duration = Duration::from_secs(30);

/// The connections of one client.
pub(super) struct Connection {
    state: watch::Sender<State>,
    log: Mutex<LogLimit>,
    /// Its bootstrap servers, for who reads the log.
    cluster: String,
}

#[derive(Default)]
struct State {
    /// By broker address, so that the one told about does not change from call to call.
    troubles: BTreeMap<String, Trouble>,
    answered: Option<Instant>,
}

struct Trouble {
    error: RawError,
    since: Instant,
}

struct LogLimit {
    window: Instant,
    lines: u32,
}

impl Connection {
    /// To the cluster that these servers are of.
    pub fn new(bootstrap_servers: &[String]) -> Self {
        let log = Mutex::new(LogLimit { window: Instant::now(), lines: 0 });
        Self { state: watch::Sender::new(State::default()), log, cluster: bootstrap_servers.join(",") }
    }

    /// Takes in what the polling thread tells.
    pub fn notice(&self, notice: Notice) {
        match notice {
            Notice::Answered => {
                self.state.send_if_modified(|state| {
                    state.answered = Some(Instant::now());
                    !std::mem::take(&mut state.troubles).is_empty()
                });
            }
            Notice::ConnectionError { code, text } => self.failed(code, &text),
            Notice::Log { level, facility, text } => {
                if let Some(words) = closed_connection(&facility, &text) {
                    self.failed(LOCAL_TRANSPORT, words);
                }
                self.log(level, &facility, &text);
            }
        }
    }

    fn failed(&self, code: i32, text: &str) {
        let code = if is_tls_trouble(text) { LOCAL_SSL } else { code };
        let class = ErrorCode::from_native(code);
        if !matches!(class, ErrorCode::Transport | ErrorCode::Authentication | ErrorCode::Ssl) {
            return;
        }
        let (broker, message) = stable_words(text);
        let error = RawError::new(code, message + hint(text));
        self.state.send_modify(|state| {
            // An attempt that is refused again is no news: attempts come about as often as the grace period is long.
            let again = state.troubles.get(&broker).filter(|before| before.error.code == code);
            let since = again.map_or_else(Instant::now, |before| before.since);
            if state.troubles.len() < MAX_TROUBLES || state.troubles.contains_key(&broker) {
                state.troubles.insert(broker, Trouble { error, since });
            }
        });
    }

    fn log(&self, level: i32, facility: &str, text: &str) {
        let suppressed = {
            let mut limit = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut before = 0;
            if limit.window.elapsed() > LOG_WINDOW {
                before = limit.lines.saturating_sub(LOG_LINES);
                *limit = LogLimit { window: Instant::now(), lines: 0 };
            }
            limit.lines = limit.lines.saturating_add(1);
            if limit.lines > LOG_LINES {
                return;
            }
            before
        };
        let bootstrap_servers = &*self.cluster;
        match level {
            ..=2 => tracing::error!(target: "librdkafka", bootstrap_servers, facility, suppressed, "{text}"),
            3..=4 => tracing::warn!(target: "librdkafka", bootstrap_servers, facility, suppressed, "{text}"),
            _ => tracing::debug!(target: "librdkafka", bootstrap_servers, facility, suppressed, "{text}"),
        }
    }

    /// What keeps the client from its brokers at the moment, if anything is known to.
    pub fn trouble(&self) -> Option<RawError> {
        self.state.borrow().worst().map(|trouble| trouble.error.clone())
    }

    /// Whether a connection is broken and no call was answered since.
    pub fn is_broken(&self) -> bool {
        !self.state.borrow().troubles.is_empty()
    }

    /// Whether the cluster answers: it did a moment ago.
    pub fn is_heard(&self) -> bool {
        self.state.borrow().answered.is_some_and(|at| at.elapsed() < HEARD)
    }

    /// The error with the reason of the broken connection, if it came from one.
    pub fn explain(&self, error: RawError) -> RawError {
        let class = ErrorCode::from_native(error.code);
        match self.trouble() {
            Some(reason)
                if matches!(class, ErrorCode::Timeout | ErrorCode::Transport | ErrorCode::AllBrokersDown) =>
            {
                reason
            }
            _ => error,
        }
    }

    /// Waits until it is clear that a call made now is pointless: every attempt is refused, and a grace period
    /// has passed without an answer to any call.
    pub async fn refused(&self) -> RawError {
        let called = Instant::now();
        let mut states = self.state.subscribe();
        loop {
            let refused = states.borrow_and_update().refusal().map(|trouble| trouble.since);
            let changed = match refused {
                Some(since) => time::timeout_at(since.max(called) + REFUSED_GRACE, states.changed()).await,
                None => Ok(states.changed().await),
            };
            // The sender lives as long as `self`, so only the grace period can end the wait otherwise.
            if changed.is_err()
                && let Some(trouble) = states.borrow().refusal()
            {
                return trouble.error.clone();
            }
        }
    }
}

impl State {
    fn worst(&self) -> Option<&Trouble> {
        let refusal = self.troubles.values().find(|trouble| trouble.is_refusal());
        refusal.or_else(|| self.troubles.values().next())
    }

    fn refusal(&self) -> Option<&Trouble> {
        if self.answered.is_some_and(|at| at.elapsed() < RECENT_ANSWER) {
            return None;
        }
        self.troubles.values().find(|trouble| trouble.is_refusal())
    }
}

impl Trouble {
    fn is_refusal(&self) -> bool {
        matches!(ErrorCode::from_native(self.error.code), ErrorCode::Authentication | ErrorCode::Ssl)
    }
}

/// A connection that the other side closed is no error event, only a line in the log, yet it is what a client
/// without TLS sees of a listener that wants it.
fn closed_connection<'a>(facility: &str, text: &'a str) -> Option<&'a str> {
    (facility == "FAIL").then(|| text.split_once("]: ").map_or(text, |(_, words)| words))
}

/// Trouble with TLS that librdkafka calls a broken transport: since TLS 1.3 a client learns only after the
/// handshake, by an alert, that its certificate was refused; and a listener without TLS just hangs up.
fn is_tls_trouble(text: &str) -> bool {
    text.contains("SSL handshake failed")
        || text.contains("SSL connection closed by peer (after ") && text.contains("in state SSL_HANDSHAKE")
        || text.contains("SSL routines:") && text.contains("alert")
}

/// How librdkafka says that the other side closed the connection: by which call of ours found it out first.
const CLOSED: [&str; 3] = ["Disconnected", "Broken pipe", "Connection reset by peer"];

/// What a connection that the broker closed early most likely means.
fn hint(text: &str) -> &'static str {
    let closed = CLOSED.iter().any(|words| text.contains(words));
    let Some((_, circumstances)) = text.rsplit_once(" (after ").filter(|_| closed) else {
        return "";
    };
    let quickly = circumstances.split_once("ms ").is_some_and(|(ms, _)| ms.len() <= 3);
    if circumstances.contains("state SSL_HANDSHAKE") && !text.contains("PLAINTEXT broker listener?") {
        " (before TLS was agreed on: the listener may not want TLS)"
    } else if circumstances.contains("state APIVERSION_QUERY") {
        " (before its first answer: the listener may want TLS)"
    } else if quickly && circumstances.contains("state UP") {
        " (right after connecting: the listener may want SASL credentials)"
    } else {
        ""
    }
}

/// Splits an error of librdkafka into the broker's address and a message without times and counters, so that the
/// same trouble always reads the same.
///
/// `sasl_ssl://kafka:9092/1: SASL authentication error: no (after 3ms in state AUTH_REQ)` becomes `kafka:9092`
/// and `kafka:9092: SASL authentication error: no`.
fn stable_words(text: &str) -> (String, String) {
    let text = text.rsplit_once(" (after ").map_or(text, |(words, _)| words).trim();
    let Some((name, words)) = text.split_once(": ") else {
        return (String::new(), text.to_owned());
    };
    let address = name.split_once("://").map_or(name, |(_, address)| address);
    let address = address.rsplit_once('/').map_or(address, |(address, _)| address);
    (address.to_owned(), format!("{address}: {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHENTICATION: i32 = -169;
    const TRANSPORT: i32 = -195;
    const TIMED_OUT: i32 = -185;

    fn failure(code: i32, text: &str) -> Notice {
        Notice::ConnectionError { code, text: text.to_owned() }
    }

    #[test]
    fn the_same_trouble_reads_the_same_whenever_it_happens() {
        let first = stable_words(
            "sasl_plaintext://127.0.0.1:9093/bootstrap: SASL authentication error: refused (after 312ms in state AUTH_REQ)",
        );
        let later = stable_words(
            "sasl_plaintext://127.0.0.1:9093/1: SASL authentication error: refused (after 5ms in state AUTH_REQ, 3 identical error(s) suppressed)",
        );
        assert_eq!(first, later);
        assert_eq!(first.1, "127.0.0.1:9093: SASL authentication error: refused");
        // librdkafka names no scheme for plain connections.
        assert_eq!(stable_words("a:1/bootstrap: refused"), ("a:1".into(), "a:1: refused".into()));
        assert_eq!(stable_words("no brokers").1, "no brokers");
        assert_eq!(
            stable_words("GroupCoordinator: refused"),
            ("GroupCoordinator".into(), "GroupCoordinator: refused".into())
        );
    }

    #[test]
    fn a_certificate_refused_after_the_handshake_is_tls_trouble() {
        let connection = Connection::new(&["kafka:9092".to_owned()]);
        let alert = "ssl://a:1/bootstrap: Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42 (after 2ms in state APIVERSION_QUERY)";
        connection.notice(failure(TRANSPORT, alert));
        assert_eq!(connection.trouble().map(|error| error.code), Some(LOCAL_SSL));
    }

    #[test]
    fn a_listener_without_tls_that_hangs_up_amid_the_handshake_is_tls_trouble_however_it_is_found_out() {
        let hung_up = |words: &str| {
            let connection = Connection::new(&["kafka:9092".to_owned()]);
            let text = format!("ssl://a:1/bootstrap: {words} (after 0ms in state SSL_HANDSHAKE)");
            connection.notice(failure(TRANSPORT, &text));
            connection.trouble().map(|error| (error.code, error.message)).expect("trouble")
        };
        let (code, message) =
            hung_up("SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?");
        assert_eq!((code, message.contains("may not")), (LOCAL_SSL, false), "{message}");
        let (code, message) = hung_up("Disconnected: SSL connection closed by peer");
        assert_eq!((code, message.contains("the listener may not want TLS")), (LOCAL_SSL, true), "{message}");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_go_on_being_refused_do_not_put_off_giving_up() {
        let connection = Connection::new(&["kafka:9092".to_owned()]);
        let start = Instant::now();
        let attempts = async {
            loop {
                connection.notice(failure(AUTHENTICATION, "ssl://a:1/1: wrong password"));
                time::sleep(REFUSED_GRACE / 3).await;
            }
        };
        tokio::select! { _ = connection.refused() => (), () = attempts => () }
        assert_eq!(start.elapsed(), REFUSED_GRACE);
    }

    #[test]
    fn a_connection_closed_by_the_broker_is_known_from_the_log() {
        let connection = Connection::new(&["kafka:9092".to_owned()]);
        connection.notice(Notice::Log {
            level: 6,
            facility: "FAIL".to_owned(),
            text: "[thrd:a:1/bootstrap]: a:1/bootstrap: Disconnected: by peer (after 3ms in state CONNECT)"
                .into(),
        });
        assert_eq!(connection.trouble(), Some(RawError::new(TRANSPORT, "a:1: Disconnected: by peer")));
    }

    #[test]
    fn a_connection_closed_early_hints_at_the_wrong_protocol() {
        let closed =
            |circumstances: &str| hint(&format!("a:1/1: Disconnected: by peer (after {circumstances})"));
        assert!(closed("3ms in state APIVERSION_QUERY").contains("TLS"));
        assert!(closed("12ms in state UP, 4 identical error(s) suppressed").contains("SASL"));
        assert_eq!(closed("90000ms in state UP"), "");
        for found_out in ["Send failed: Broken pipe", "Receive failed: Connection reset by peer"] {
            assert!(hint(&format!("a:1/1: {found_out} (after 3ms in state UP)")).contains("SASL"));
        }
        assert_eq!(hint("a:1/1: Connection refused (after 3ms in state UP)"), "");
    }

    #[test]
    fn a_time_out_is_explained_by_the_broken_connection_until_a_broker_answers() {
        let connection = Connection::new(&["kafka:9092".to_owned()]);
        let timed_out = RawError::new(TIMED_OUT, "Timed out");
        assert_eq!(connection.explain(timed_out.clone()), timed_out);

        connection
            .notice(failure(TRANSPORT, "plaintext://b:1/2: Connection refused (after 1ms in state CONNECT)"));
        connection
            .notice(failure(TRANSPORT, "plaintext://a:1/1: Connection refused (after 1ms in state CONNECT)"));
        assert_eq!(
            connection.explain(timed_out.clone()),
            RawError::new(TRANSPORT, "a:1: Connection refused")
        );

        connection.notice(Notice::Answered);
        assert_eq!(connection.explain(timed_out.clone()), timed_out);
    }

    #[test]
    fn refused_credentials_outrank_broken_connections_and_leave_the_brokers_words_alone() {
        let connection = Connection::new(&["kafka:9092".to_owned()]);
        connection.notice(failure(TRANSPORT, "ssl://a:1/1: Connection refused"));
        connection.notice(failure(AUTHENTICATION, "ssl://b:1/2: wrong password"));
        assert_eq!(connection.trouble(), Some(RawError::new(AUTHENTICATION, "b:1: wrong password")));
        let exists = RawError::new(36, "Topic 'x' already exists.");
        assert_eq!(connection.explain(exists.clone()), exists);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_client_gives_up_after_the_grace_period() {
        let connection = Connection::new(&["kafka:9092".to_owned()]);
        connection.notice(failure(AUTHENTICATION, "ssl://a:1/1: wrong password"));
        let start = Instant::now();
        let error = connection.refused().await;
        assert_eq!(error, RawError::new(AUTHENTICATION, "a:1: wrong password"));
        assert_eq!(start.elapsed(), REFUSED_GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_within_the_grace_period_keeps_calls_waiting() {
        let connection = Connection::new(&["kafka:9092".to_owned()]);
        connection.notice(failure(AUTHENTICATION, "ssl://a:1/1: wrong password"));
        let answer = async {
            time::sleep(REFUSED_GRACE / 2).await;
            connection.notice(Notice::Answered);
            std::future::pending::<()>().await;
        };
        let gave_up = time::timeout(REFUSED_GRACE * 10, async {
            tokio::select! { _ = connection.refused() => (), () = answer => () }
        });
        assert!(gave_up.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_worked_a_moment_ago_is_not_refused_by_one_bad_listener() {
        let connection = Connection::new(&["kafka:9092".to_owned()]);
        connection.notice(Notice::Answered);
        connection.notice(failure(AUTHENTICATION, "ssl://a:1/1: wrong password"));
        assert!(time::timeout(REFUSED_GRACE * 10, connection.refused()).await.is_err());
        time::advance(RECENT_ANSWER).await;
        assert!(time::timeout(REFUSED_GRACE * 2, connection.refused()).await.is_ok());
    }
}
