//! How to reach a Kafka cluster, and the librdkafka configuration that follows from it. Pure.

use crate::brokers::settings::{self, Secret, TlsSettings};

/// How to reach and speak to one Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port` of brokers to ask first; at least one.
    pub bootstrap_servers: Vec<String>,
    /// TLS; `None` speaks in the clear.
    pub tls: Option<TlsSettings>,
    /// SASL; `None` sends no credentials.
    pub sasl: Option<SaslSettings>,
    /// Name the broker logs and meters this client by.
    pub client_id: String,
}

/// SASL credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslSettings {
    /// How the password is proven.
    pub mechanism: SaslMechanism,
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// How a password is proven to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// PLAIN: the password itself; only sensible over TLS.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    /// The mechanism's registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Settings every client gets, whatever the cluster.
///
/// Short reconnect waits let a client find a broker within about a second of its return. With sparse connections they
/// are not kept: a call that waits for a dead controller has librdkafka 2.12 connect again at once, thousands of times
/// a second. A client must never bring a topic into being by asking about it, nor push metrics of its own.
const FIXED: [(&str, &str); 13] = [
    ("enable.sparse.connections", "false"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("retry.backoff.ms", "50"),
    ("retry.backoff.max.ms", "500"),
    ("socket.connection.setup.timeout.ms", "5000"),
    ("socket.timeout.ms", "30000"),
    ("socket.keepalive.enable", "true"),
    ("socket.nagle.disable", "true"),
    ("allow.auto.create.topics", "false"),
    ("enable.metrics.push", "false"),
    ("log.queue", "true"),
    ("enable.auto.commit", "false"),
];

impl KafkaSettings {
    /// Settings for a cluster that needs neither TLS nor credentials.
    #[must_use]
    pub fn plaintext(bootstrap_servers: Vec<String>, client_id: impl Into<String>) -> Self {
        Self { bootstrap_servers, tls: None, sasl: None, client_id: client_id.into() }
    }

    /// The librdkafka configuration, in the order it has to be set. Holds secrets.
    #[must_use]
    pub fn native_config(&self) -> Vec<(&'static str, String)> {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        let mut config = vec![
            ("bootstrap.servers", self.bootstrap_servers.join(",")),
            ("client.id", self.client_id.clone()),
            // A group that is never joined: the handle is a consumer's (see `ffi`).
            ("group.id", format!("{}-admin", self.client_id)),
            ("security.protocol", protocol.to_owned()),
        ];
        if let Some(tls) = &self.tls {
            add_tls(tls, &mut config);
        }
        if let Some(sasl) = &self.sasl {
            config.push(("sasl.mechanism", sasl.mechanism.name().to_owned()));
            config.push(("sasl.username", sasl.username.clone()));
            config.push(("sasl.password", sasl.password.expose().to_owned()));
        }
        config.extend(FIXED.map(|(key, value)| (key, value.to_owned())));
        config
    }

    /// A digest that changes whenever any setting does, secrets included, and tells nothing about them.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let config = self.native_config();
        settings::fingerprint(config.iter().flat_map(|(key, value)| [*key, value.as_str()]))
    }
}

fn add_tls(tls: &TlsSettings, config: &mut Vec<(&'static str, String)>) {
    match &tls.ca_pem {
        Some(pem) => config.push(("ssl.ca.pem", pem.clone())),
        // Also finds the system's certificates when OpenSSL is linked statically.
        None => config.push(("ssl.ca.location", "probe".to_owned())),
    }
    if let Some(pem) = &tls.client_cert_pem {
        config.push(("ssl.certificate.pem", pem.clone()));
    }
    if let Some(pem) = &tls.client_key_pem {
        config.push(("ssl.key.pem", pem.expose().to_owned()));
    }
    let (verify, identify) = if tls.insecure_skip_verify { ("false", "none") } else { ("true", "https") };
    config.push(("enable.ssl.certificate.verification", verify.to_owned()));
    config.push(("ssl.endpoint.identification.algorithm", identify.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(config: &'a [(&'static str, String)], key: &str) -> Option<&'a str> {
        config.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
    }

    fn full() -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: vec!["a:9092".into(), "b:9092".into()],
            tls: Some(TlsSettings {
                ca_pem: Some("CA".into()),
                client_cert_pem: Some("CERT".into()),
                client_key_pem: Some(Secret::new("KEY")),
                insecure_skip_verify: false,
            }),
            sasl: Some(SaslSettings {
                mechanism: SaslMechanism::ScramSha512,
                username: "alice".into(),
                password: Secret::new("hunter2"),
            }),
            client_id: "spillway".into(),
        }
    }

    #[test]
    fn the_protocol_follows_from_tls_and_sasl() {
        let mut settings = full();
        assert_eq!(value(&settings.native_config(), "security.protocol"), Some("sasl_ssl"));
        settings.tls = None;
        assert_eq!(value(&settings.native_config(), "security.protocol"), Some("sasl_plaintext"));
        settings.sasl = None;
        assert_eq!(value(&settings.native_config(), "security.protocol"), Some("plaintext"));
        settings.tls = Some(TlsSettings::default());
        assert_eq!(value(&settings.native_config(), "security.protocol"), Some("ssl"));
    }

    #[test]
    fn certificates_and_credentials_reach_librdkafka_by_value() {
        let config = full().native_config();
        assert_eq!(value(&config, "bootstrap.servers"), Some("a:9092,b:9092"));
        assert_eq!(value(&config, "ssl.ca.pem"), Some("CA"));
        assert_eq!(value(&config, "ssl.certificate.pem"), Some("CERT"));
        assert_eq!(value(&config, "ssl.key.pem"), Some("KEY"));
        assert_eq!(value(&config, "sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(value(&config, "sasl.password"), Some("hunter2"));
        assert_eq!(value(&config, "ssl.ca.location"), None);
    }

    #[test]
    fn certificates_and_host_names_are_verified_unless_told_otherwise() {
        let mut settings = full();
        let config = settings.native_config();
        assert_eq!(value(&config, "enable.ssl.certificate.verification"), Some("true"));
        assert_eq!(value(&config, "ssl.endpoint.identification.algorithm"), Some("https"));
        settings.tls = Some(TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() });
        let config = settings.native_config();
        assert_eq!(value(&config, "enable.ssl.certificate.verification"), Some("false"));
        assert_eq!(value(&config, "ssl.endpoint.identification.algorithm"), Some("none"));
        assert_eq!(value(&config, "ssl.ca.location"), Some("probe"));
    }

    #[test]
    fn asking_about_a_topic_never_creates_it() {
        assert_eq!(value(&full().native_config(), "allow.auto.create.topics"), Some("false"));
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let shown = format!("{:?}", full());
        assert!(!shown.contains("hunter2") && !shown.contains("KEY"), "{shown}");
        assert!(shown.contains("alice"));
    }

    #[test]
    fn the_fingerprint_changes_with_every_setting_and_with_nothing_else() {
        let base = full();
        assert_eq!(base.fingerprint(), base.clone().fingerprint());
        let changes: [fn(&mut KafkaSettings); 6] = [
            |s| s.bootstrap_servers.push("c:9092".into()),
            |s| s.client_id = "other".into(),
            |s| s.tls = None,
            |s| s.sasl = None,
            |s| s.sasl.as_mut().expect("set above").password = Secret::new("hunter3"),
            |s| s.tls.as_mut().expect("set above").ca_pem = None,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(other.fingerprint(), base.fingerprint(), "change {index}");
        }
    }
}
