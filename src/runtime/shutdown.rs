//! SIGTERM and SIGINT as a [`CancellationToken`].

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that the first SIGTERM or SIGINT cancels. The second one ends the process at once, with
/// the exit code that a shell gives that signal (143, 130).
///
/// Needs a Tokio runtime. Fails if the process may not install signal handlers.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        let first = signals.next().await;
        tracing::info!(signal = first.name, "shutting down; a second signal ends the process at once");
        cancel.cancel();
        let second = signals.next().await;
        tracing::warn!(signal = second.name, "ended without cleaning up");
        std::process::exit(second.exit_code);
    });
    Ok(token)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

struct Received {
    name: &'static str,
    exit_code: i32,
}

impl Signals {
    async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.terminate.recv() => Received { name: "SIGTERM", exit_code: 128 + 15 },
            _ = self.interrupt.recv() => Received { name: "SIGINT", exit_code: 128 + 2 },
        }
    }
}
