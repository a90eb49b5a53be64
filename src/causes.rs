//! Why something failed, beneath words that only say that it did.

use std::error::Error;

use kube::runtime::watcher;

/// What lies beneath an error, outermost first. The outermost words themselves count only where there is nothing beneath:
/// clients of HTTP name the address there, or that it was a client that failed.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // hyper's own outermost words tell nothing but that it was a client.
        if !text.starts_with("client error (") && !told.iter().any(|before| before.contains(&text)) {
            told.push(text);
        }
        cause = error.source();
    }
    if told.is_empty() { error.to_string() } else { told.join(": ") }
}

/// The API server's own words, or why there are none.
#[must_use]
pub fn of_kube(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => {
            format!("it answered {} {}", status.code, status.reason).trim().to_owned()
        }
        kube::Error::Service(_) | kube::Error::HyperError(_) => {
            format!("the API server does not answer: {}", causes(error))
        }
        other => other.to_string(),
    }
}

/// [`of_kube`], of what ended a watch.
#[must_use]
pub fn of_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => of_kube(error),
        watcher::Error::WatchError(status) => of_kube(&kube::Error::Api(status.clone())),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn of(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().expect("one at least");
        Layer { text, source: (!rest.is_empty()).then(|| Box::new(of(rest))) }
    }

    #[test]
    fn what_is_beneath_is_told_and_nothing_twice() {
        let error = of(&["ServiceError", "client error (Connect)", "tcp connect error: refused", "refused"]);
        assert_eq!(causes(&error), "tcp connect error: refused");
        assert_eq!(causes(&of(&["outer", "middle", "inner"])), "middle: inner");
    }

    #[test]
    fn an_api_server_that_is_away_is_told_with_the_reason() {
        let error =
            kube::Error::Service(Box::new(of(&["client error (Connect)", "tcp connect error: refused"])));
        assert_eq!(of_kube(&error), "the API server does not answer: tcp connect error: refused");
    }

    #[test]
    fn a_watch_that_fails_says_why_and_not_what_it_was_about_to_do() {
        let away =
            kube::Error::Service(Box::new(of(&["client error (Connect)", "tcp connect error: refused"])));
        let said = of_watch(&watcher::Error::InitialListFailed(away));
        assert_eq!(said, "the API server does not answer: tcp connect error: refused");
    }

    #[test]
    fn an_error_with_nothing_beneath_speaks_for_itself() {
        assert_eq!(causes(&of(&["alone"])), "alone");
    }
}
