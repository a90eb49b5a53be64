//! How to reach a RabbitMQ cluster. Pure.

use crate::brokers::settings::{self, Secret, TlsSettings};

/// How to reach and speak to one RabbitMQ cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RabbitSettings {
    /// `http://HOST:PORT` or `https://HOST:PORT` of the management interface, with its path prefix if it has one
    /// and without credentials.
    pub management_url: String,
    /// `amqp://HOST:PORT` or `amqps://HOST:PORT`, without credentials and virtual host; `None`: AMQP is not used.
    pub amqp_url: Option<String>,
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// TLS for `https` and `amqps`; `None` trusts the system's certificates and shows none.
    pub tls: Option<TlsSettings>,
}

impl RabbitSettings {
    /// A digest that changes whenever any setting does, secrets included, and tells nothing about them.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        // A setting that is not there differs from an empty one.
        let optional = |text: Option<&str>| text.map_or_else(String::new, |text| format!("={text}"));
        let tls = self.tls.as_ref();
        settings::fingerprint([
            self.management_url.as_str(),
            &optional(self.amqp_url.as_deref()),
            &self.username,
            self.password.expose(),
            if tls.is_some() { "tls" } else { "" },
            &optional(tls.and_then(|tls| tls.ca_pem.as_deref())),
            &optional(tls.and_then(|tls| tls.client_cert_pem.as_deref())),
            &optional(tls.and_then(|tls| tls.client_key_pem.as_ref()).map(Secret::expose)),
            if tls.is_some_and(|tls| tls.insecure_skip_verify) { "insecure" } else { "" },
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> RabbitSettings {
        RabbitSettings {
            management_url: "https://rabbit:15671".into(),
            amqp_url: Some("amqps://rabbit:5671".into()),
            username: "alice".into(),
            password: Secret::new("hunter2"),
            tls: Some(TlsSettings {
                ca_pem: Some("CA".into()),
                client_cert_pem: Some("CERT".into()),
                client_key_pem: Some(Secret::new("KEY")),
                insecure_skip_verify: false,
            }),
        }
    }

    #[test]
    fn the_fingerprint_changes_with_every_setting_and_with_nothing_else() {
        fn tls(settings: &mut RabbitSettings) -> &mut TlsSettings {
            settings.tls.as_mut().expect("set above")
        }
        let changes: [fn(&mut RabbitSettings); 11] = [
            |s| s.management_url.push('1'),
            |s| s.amqp_url = None,
            |s| s.amqp_url = Some(String::new()),
            |s| s.username.push('1'),
            |s| s.password = Secret::new("hunter3"),
            |s| s.tls = None,
            |s| s.tls = Some(TlsSettings::default()),
            |s| tls(s).ca_pem = None,
            |s| tls(s).client_cert_pem = None,
            |s| tls(s).client_key_pem = Some(Secret::new("KEY2")),
            |s| tls(s).insecure_skip_verify = true,
        ];
        let mut seen = vec![full().fingerprint()];
        assert_eq!(full().fingerprint(), seen[0]);
        for (index, change) in changes.into_iter().enumerate() {
            let mut other = full();
            change(&mut other);
            assert!(!seen.contains(&other.fingerprint()), "change {index}");
            seen.push(other.fingerprint());
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let shown = format!("{:?}", full());
        assert!(!shown.contains("hunter2") && !shown.contains("KEY"), "{shown}");
    }
}
