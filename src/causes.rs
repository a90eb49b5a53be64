//! Why something failed, beneath words that only say that it did.

use std::error::Error;

use kube::client::AuthError;
use kube::config::{KubeconfigError, LoadDataError};
use kube::runtime::watcher;

/// What lies beneath an error, outermost first. The outermost words themselves count only where there is nothing beneath:
/// clients of HTTP name the address there, or that it was a client that failed. What may quote a credential is told without.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(guarded) = guarded(error) {
            told.push(guarded);
            break;
        }
        let text = error.to_string();
        // hyper's own outermost words tell nothing but that it was a client.
        if !text.starts_with("client error (") && !told.iter().any(|before| before.contains(&text)) {
            told.push(text);
        }
        cause = error.source();
    }
    if told.is_empty() {
        return guarded(error).unwrap_or_else(|| error.to_string());
    }
    told.join(": ")
}

/// The words of an error whose own words quote what was read, credentials among it.
fn guarded(error: &(dyn Error + 'static)) -> Option<String> {
    let auth = error.downcast_ref::<AuthError>().map(of_auth);
    let kubeconfig = || error.downcast_ref::<KubeconfigError>().map(of_kubeconfig);
    let yaml = || error.downcast_ref::<serde_saphyr::Error>().map(of_yaml);
    auth.or_else(kubeconfig).or_else(yaml)
}

/// Why a kubeconfig cannot be used. Of what stands in it only names are repeated: it holds credentials.
#[must_use]
pub fn of_kubeconfig(error: &KubeconfigError) -> String {
    let data = |what: &str, error: &LoadDataError| match error {
        LoadDataError::DecodeBase64(_) => format!("the {what} is not base64"),
        other => format!("failed to load the {what}: {other}"),
    };
    match error {
        KubeconfigError::Parse(error) => of_yaml(error),
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        KubeconfigError::CurrentContextNotSet => "no context is chosen: set current-context".into(),
        KubeconfigError::LoadContext(name) => format!("there is no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("there is no cluster {name:?}"),
        KubeconfigError::LoadCertificateAuthority(error) => data("certificate authority", error),
        KubeconfigError::LoadClientCertificate(error) => data("client certificate", error),
        KubeconfigError::LoadClientKey(error) => data("client key", error),
        other => other.to_string(),
    }
}

/// What is wrong with a YAML that holds credentials, and where. Neither its lines nor its values are repeated.
#[must_use]
pub fn of_yaml(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as Yaml;
    let error = error.without_snippet();
    let what = match error {
        Yaml::SerdeMissingField { field, .. } => format!("{field} is missing"),
        Yaml::SerdeInvalidType { expected, .. } | Yaml::SerdeInvalidValue { expected, .. } => {
            format!("expected {expected}")
        }
        Yaml::Unexpected { expected, .. } => format!("expected {expected}"),
        Yaml::DuplicateMappingKey { .. } => "a key stands there twice".into(),
        Yaml::ExternalMessage { .. } | Yaml::Eof { .. } | Yaml::ContainerEndMismatch { .. } => {
            "it is not YAML".into()
        }
        Yaml::UnknownAnchor { .. } => "an alias of nothing".into(),
        _ => "it cannot be read".into(),
    };
    match error.location().filter(|location| location.line() > 0) {
        Some(at) => format!("line {}, column {}: {what}", at.line(), at.column()),
        None => what,
    }
}

/// Why there are no credentials. What a plugin printed is left out: that is where it gives a token.
fn of_auth(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => format!("the kubeconfig's exec plugin failed: {}", out.status),
        AuthError::AuthExecParse(error) => {
            format!("failed to read what the kubeconfig's exec plugin printed: {}", of_yaml(error))
        }
        AuthError::ParseTokenKey(_) => "failed to read a token".into(),
        other => other.to_string(),
    }
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
        kube::Error::Auth(error) => of_auth(error),
        kube::Error::InferKubeconfig(error) => of_kubeconfig(error),
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

    /// In every place where a credential can stand, and every way to be wrong around it.
    #[test]
    fn a_kubeconfig_that_cannot_be_read_is_told_without_what_stands_in_it() {
        let user = |user: &str| {
            format!("apiVersion: v1\nkind: Config\nusers:\n- name: a\n  user:\n    {user}\n    username: a\n")
        };
        for (text, place) in [
            (
                user("password: PLANTED-PW-123\n   token: PLANTED-TOKEN-123"),
                "line 7, column 4: it is not YAML",
            ),
            (user("token: [PLANTED-TOKEN-123]"), "line 6, column 12: "),
            (user("token: {a: PLANTED-TOKEN-123}"), "line 6, column 12: "),
            (user("token: \"PLANTED-TOKEN-123"), "it is not YAML"),
            (user("token: a\n    token: PLANTED-TOKEN-123"), "line 7, column 5: "),
            (user("exec: PLANTED-TOKEN-123"), "line 6, column 11: "),
            (user("exec: {interactiveMode: PLANTED-TOKEN-123}"), "line 6, column "),
            (user("token: *PLANTED-TOKEN-123"), "line 6, column 12: "),
            ("PLANTED-TOKEN-123".to_owned(), "line 1, column 1: "),
            ("users: [PLANTED-TOKEN-123]".to_owned(), "line 1, column 9: "),
        ] {
            let error = kube::config::Kubeconfig::from_yaml(&text).expect_err(&text);
            let told = of_kubeconfig(&error);
            assert!(told.contains(place), "{told} of {text}");
            let within = Over(error);
            assert!(!(told + &causes(&within)).contains("PLANTED"), "{} of {text}", causes(&within));
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("over")]
    struct Over(#[source] KubeconfigError);

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
