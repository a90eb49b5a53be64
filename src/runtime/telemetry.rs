//! Logs: one line an event, to standard error.

use std::io::{IsTerminal as _, stderr};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt as _, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// The levels, of which each holds those before it.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("failed to read the log filter {filter:?}: {reason}; write it as info,spillway_operator=debug")]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logs were set up before.
    #[error("failed to set up logs: {0}")]
    Installed(String),
}

/// Sends the process's logs to standard error; once in a process. `filter` is a level (`info`) or a
/// list of `target=level`.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter = parse(filter)?.and(filter_fn(may_be_said));
    let lines = fmt::layer().with_writer(stderr);
    match format {
        LogFormat::Text => {
            registry().with(lines.with_ansi(stderr().is_terminal()).with_filter(filter)).try_init()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry().with(lines.with_filter(filter)).try_init()
        }
    }
    .map_err(|error| TelemetryError::Installed(error.to_string()))
}

/// Whether a line may be logged, whatever was asked for. Libraries trace what goes over the wire: of an AMQP connection,
/// that is the password.
fn may_be_said(of: &Metadata<'_>) -> bool {
    *of.level() < Level::TRACE || of.target().starts_with("spillway")
}

/// Whether a filter can be used, as a parser of arguments says it.
pub fn filter(filter: &str) -> Result<String, String> {
    match parse(filter) {
        Ok(_) => Ok(filter.into()),
        Err(TelemetryError::Filter { reason, .. }) => Err(reason),
        Err(error) => Err(error.to_string()),
    }
}

/// Not one that also looks into spans: that costs more than the lines do.
fn parse(filter: &str) -> Result<Targets, TelemetryError> {
    let wrong = |reason| TelemetryError::Filter { filter: filter.into(), reason };
    // A word alone that is no level would be a part of the program by that name: nothing else would be logged.
    for word in filter.split(',').filter(|part| !part.contains('=')) {
        if !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) {
            return Err(wrong(format!("\"{word}\" is no level: {} are", LEVELS.join(", "))));
        }
    }
    filter.parse().map_err(|error: tracing_subscriber::filter::ParseError| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn what_libraries_trace_is_not_logged() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let layer = fmt::layer().with_ansi(false).with_writer(move || Sink(sink.clone()));
        let filter = parse("trace").unwrap().and(filter_fn(may_be_said));
        tracing::subscriber::with_default(registry().with(layer.with_filter(filter)), || {
            tracing::trace!(target: "lapin::io_loop", "the password");
            tracing::debug!(target: "lapin::channels", "a heartbeat");
            tracing::trace!(target: "spillway_operator::controllers", "a pass");
        });
        let lines = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        assert!(lines.contains("a heartbeat") && lines.contains("a pass"), "{lines}");
        assert!(!lines.contains("the password"), "{lines}");
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_level_and_a_list_of_targets_are_filters() {
        assert!(parse("info").is_ok());
        assert!(parse("warn,spillway_operator::scaling=debug,kube=info").is_ok());
    }

    #[test]
    fn a_word_alone_that_is_no_level_is_refused() {
        for words in ["warning", "verbose", "spillway_operator", "info,", "", "info,kube", " info"] {
            let error = parse(words).unwrap_err().to_string();
            assert!(
                error.contains("is no level: off, error, warn, info, debug, trace are"),
                "{words:?}: {error}"
            );
        }
        assert!(parse("WARN").is_ok() && parse("off,kube=warn").is_ok());
    }

    #[test]
    fn a_filter_with_a_level_that_does_not_exist_is_shown_in_the_error() {
        let error = parse("spillway_operator=loud").unwrap_err().to_string();
        assert!(error.contains("\"spillway_operator=loud\""), "{error}");
    }
}
