//! Where passwords and certificates come from without a cluster: the documents themselves, a
//! folder as Kubernetes mounts Secrets, the environment. Their values are never printed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::ByteString;
use serde_json::Value;

use crate::api::BrokerSpec;
use crate::api::conditions::Reason;
use crate::controllers::settings::secret_names;
use crate::topology::Rejection;

/// Keys whose values are no secret: a user name in an error message helps.
const PUBLIC_KEYS: [&str; 5] = ["username", "host", "port", "ca.crt", "tls.crt"];
/// Values that are shorter cannot be told from ordinary text.
const SHORTEST: usize = 4;

/// All Secrets that can be read.
#[derive(Default)]
pub struct Secrets {
    documents: BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>,
    folder: Option<PathBuf>,
    /// Values that were read, by the Secret's namespace and name.
    used: Mutex<BTreeMap<(String, String), BTreeSet<String>>>,
}

impl Secrets {
    /// None yet; `folder` holds NAME/KEY and NAMESPACE/NAME/KEY.
    #[must_use]
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, ..Self::default() }
    }

    /// Takes a Secret document. `Err` says what is wrong with it, without a value.
    pub fn add(&mut self, namespace: &str, name: &str, document: &Value) -> Result<(), String> {
        let mut data = BTreeMap::new();
        for (key, value) in fields(document, "data")? {
            let bytes: ByteString = serde_json::from_value(value.clone())
                .map_err(|_| format!("data.{key}: must be text in base64 (stringData takes plain text)"))?;
            data.insert(key.clone(), bytes.0);
        }
        for (key, value) in fields(document, "stringData")? {
            let text = value.as_str().ok_or_else(|| format!("stringData.{key}: must be a text"))?;
            data.insert(key.clone(), text.as_bytes().to_vec());
        }
        self.documents.insert((namespace.to_owned(), name.to_owned()), data);
        Ok(())
    }

    /// The text under a key: from the documents, else from the folder, else from the environment.
    pub fn text(&self, namespace: &str, name: &str, key: &str) -> Result<String, Rejection> {
        let variable = variable(name, key);
        let document = self.documents.get(&(namespace.to_owned(), name.to_owned()));
        let bytes = match document.and_then(|data| data.get(key)) {
            Some(bytes) => bytes.clone(),
            None => match self.file(namespace, name, key)? {
                Some(bytes) => bytes,
                None => std::env::var(&variable).map(String::into_bytes).map_err(|_| {
                    let (reason, what) = match document {
                        Some(_) => (Reason::SecretInvalid, format!("has no key {key:?}")),
                        None => (Reason::SecretNotFound, format!("(key {key:?}) is not in the input")),
                    };
                    let folder = match &self.folder {
                        Some(folder) => format!("not in {}", folder.display()),
                        None => "--secrets is not given".into(),
                    };
                    let message =
                        format!("Secret {namespace}/{name} {what}, {folder}, and {variable} is not set");
                    Rejection::new(reason, message)
                })?,
            },
        };
        let text = String::from_utf8(bytes).map_err(|_| {
            let message = format!("key {key:?} of Secret {namespace}/{name} is not text");
            Rejection::new(Reason::SecretInvalid, message)
        })?;
        let hidden = text.trim();
        if !PUBLIC_KEYS.contains(&key) && hidden.len() >= SHORTEST {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.entry((namespace.to_owned(), name.to_owned())).or_default().insert(hidden.to_owned());
        }
        Ok(text)
    }

    fn file(&self, namespace: &str, name: &str, key: &str) -> Result<Option<Vec<u8>>, Rejection> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let plain =
            |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\\', '\0']);
        if ![namespace, name, key].into_iter().all(plain) {
            let message = format!("Secret {namespace}/{name}: name or key {key:?} is not one of Kubernetes'");
            return Err(Rejection::new(Reason::SecretInvalid, message));
        }
        for path in [folder.join(namespace).join(name).join(key), folder.join(name).join(key)] {
            match std::fs::read(&path) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) => {}
                Err(error) => {
                    let message = format!("failed to read {}: {error}", path.display());
                    return Err(Rejection::new(Reason::SecretInvalid, message));
                }
            }
        }
        Ok(None)
    }

    /// `text` without any value that was read from a Secret which a Broker in this namespace names. Those of others are not in
    /// its words, and who writes a text could try guesses at them.
    #[must_use]
    pub fn redact(&self, broker: &BrokerSpec, namespace: &str, text: &str) -> String {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let named = secret_names(broker);
        let read = named.iter().filter_map(|name| used.get(&(namespace.to_owned(), name.clone())));
        let mut hidden: Vec<&String> = read.flatten().collect();
        // The longest first: one secret may be part of another.
        hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
        hidden.iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), "***"))
    }
}

/// The environment variable for a key: upper case, all but letters and digits as `_`.
#[must_use]
pub fn variable(name: &str, key: &str) -> String {
    let upper = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    };
    format!("SPILLWAY_SECRET_{}_{}", upper(name), upper(key))
}

fn fields<'a>(document: &'a Value, part: &str) -> Result<Vec<(&'a String, &'a Value)>, String> {
    match document.get(part) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(fields)) => Ok(fields.iter().collect()),
        Some(_) => Err(format!("{part}: must be a map of texts")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn data_is_base64_and_string_data_is_plain_and_wins() {
        let mut secrets = Secrets::default();
        let document = json!({"data": {"username": "YWxpY2U=", "password": "b2xk"}, "stringData": {"password": "newer"}});
        secrets.add("default", "kafka", &document).unwrap();
        assert_eq!(secrets.text("default", "kafka", "username").unwrap(), "alice");
        assert_eq!(secrets.text("default", "kafka", "password").unwrap(), "newer");
    }

    #[test]
    fn a_bad_secret_is_told_without_its_value() {
        let mut secrets = Secrets::default();
        let wrong = secrets.add("default", "kafka", &json!({"data": {"password": "hunter22!"}})).unwrap_err();
        assert!(wrong.starts_with("data.password: must be text in base64"), "{wrong}");
        assert!(!wrong.contains("hunter22"));
        let wrong = secrets.add("default", "kafka", &json!({"stringData": {"password": 12345}})).unwrap_err();
        assert!(!wrong.contains("12345"));
    }

    #[test]
    fn a_missing_secret_names_the_three_places() {
        let missing = Secrets::default().text("kafka", "my-user", "password").unwrap_err();
        assert_eq!(missing.reason, Reason::SecretNotFound);
        assert_eq!(
            missing.message,
            "Secret kafka/my-user (key \"password\") is not in the input, --secrets is not given, and SPILLWAY_SECRET_MY_USER_PASSWORD is not set"
        );
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_folder() {
        let secrets = Secrets::new(Some("/".into()));
        for (name, key) in [("..", "passwd"), ("etc/x", "passwd"), ("etc", "../etc/passwd")] {
            assert_eq!(
                secrets.text("etc", name, key).unwrap_err().reason,
                Reason::SecretInvalid,
                "{name} {key}"
            );
        }
    }

    #[test]
    fn what_a_brokers_secrets_hold_is_hidden_and_neither_user_names_nor_what_others_hold() {
        let mut secrets = Secrets::default();
        for (name, password) in [("kafka", "hunter22\n"), ("other", "precious")] {
            let document = json!({"stringData": {"username": "alice", "password": password}});
            secrets.add("default", name, &document).unwrap();
            for key in ["username", "password"] {
                secrets.text("default", name, key).unwrap();
            }
        }
        let broker = json!({"kafka": {"bootstrapServers": ["kafka:9092"], "sasl": {
            "mechanism": "PLAIN", "credentialsSecretRef": {"name": "kafka"},
        }}});
        let broker = serde_json::from_value(broker).unwrap();
        let said = |namespace| secrets.redact(&broker, namespace, "alice: hunter22 is wrong for precious");
        assert_eq!(said("default"), "alice: *** is wrong for precious");
        assert_eq!(said("elsewhere"), "alice: hunter22 is wrong for precious");
    }
}
