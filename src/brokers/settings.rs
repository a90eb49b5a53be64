//! What settings of every broker family have in them. Pure.

use std::fmt;

use sha2::{Digest, Sha256};

/// TLS towards a broker. Certificates and keys are PEM texts, never files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Certificate authorities to trust; `None` trusts those of the system.
    pub ca_pem: Option<String>,
    /// Certificate chain to show to the broker.
    pub client_cert_pem: Option<String>,
    /// Unencrypted private key of that certificate.
    pub client_key_pem: Option<Secret>,
    /// Takes any certificate under any name. For trials only.
    pub insecure_skip_verify: bool,
}

/// A text that must not be shown: neither `Debug` nor `Display` tell anything of it, not even its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A digest that changes whenever one of `parts` or their order does, and tells nothing about them.
pub(super) fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}
