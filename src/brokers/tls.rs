//! TLS for the clients that speak it through rustls.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::settings::TlsSettings;

/// Makes ring the process's provider of cryptography, which rustls insists on when it could choose. May be
/// called again, also where another provider was installed before.
pub fn install_crypto_provider() {
    if CryptoProvider::get_default().is_none() {
        let _another_thread_was_first = rustls::crypto::ring::default_provider().install_default();
    }
}

/// The configuration that follows from the settings, or what is wrong with them; secrets are not in the words.
pub(super) fn client_config(settings: &TlsSettings) -> Result<ClientConfig, String> {
    install_crypto_provider();
    let builder = ClientConfig::builder();
    let builder = if settings.insecure_skip_verify {
        let provider = CryptoProvider::get_default().map(Arc::clone).ok_or("there is no cryptography")?;
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else if let Some(pem) = &settings.ca_pem {
        builder.with_root_certificates(roots(pem)?)
    } else {
        builder.with_platform_verifier().map_err(|error| format!("the system's certificates: {error}"))?
    };
    let identity = match (&settings.client_cert_pem, &settings.client_key_pem) {
        (None, None) => return Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(_), None) => return Err("the client certificate has no private key with it".into()),
        (None, Some(_)) => return Err("the private key has no client certificate with it".into()),
    };
    let chain = certificates(identity.0, "the client certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.1.expose().as_bytes())
        .map_err(|_| "the private key is no unencrypted private key in PEM")?;
    builder.with_client_auth_cert(chain, key).map_err(|error| format!("the client certificate: {error}"))
}

fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, "the certificate authority")? {
        roots.add(certificate).map_err(|error| format!("the certificate authority: {error}"))?;
    }
    Ok(roots)
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{what} is no certificate in PEM"))?;
    if found.is_empty() {
        return Err(format!("{what} holds no certificate in PEM"));
    }
    Ok(found)
}

/// Takes any certificate under any name, yet only from a peer that has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Secret;
    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_and_a_key_is_never_shown() {
        let error = |settings: TlsSettings| client_config(&settings).expect_err("it is wrong");
        let ca = error(TlsSettings { ca_pem: Some("no PEM".into()), ..TlsSettings::default() });
        assert_eq!(ca, "the certificate authority holds no certificate in PEM");
        let trusting = TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() };
        let alone = error(TlsSettings { client_cert_pem: Some("CERT".into()), ..trusting.clone() });
        assert_eq!(alone, "the client certificate has no private key with it");
        let key = Some(Secret::new("KEY"));
        let alone = error(TlsSettings { client_key_pem: key.clone(), ..trusting.clone() });
        assert_eq!(alone, "the private key has no client certificate with it");
        let both = TlsSettings { client_cert_pem: Some("CERT".into()), client_key_pem: key, ..trusting };
        assert!(!error(both).contains("KEY"));
    }

    #[test]
    fn without_a_client_certificate_none_is_shown() {
        let trusting = TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() };
        let config = client_config(&trusting).expect("it needs nothing");
        assert!(!config.client_auth_cert_resolver.has_certs());
    }
}
