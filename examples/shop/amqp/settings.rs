//! How to reach RabbitMQ, and as whom.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use clap::Args;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, ConnectionProperties};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::transport::{Transport, transport};

/// Where distributions, and the shop's image, keep the authorities that everybody trusts.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// A broker that is gone without a word is noticed after two of these.
const HEARTBEAT_SECONDS: u16 = 10;

/// How to reach RabbitMQ.
#[derive(Args, Clone, Debug)]
#[group(id = "rabbitmq")]
pub struct Connection {
    /// RabbitMQ's address, amqp:// or amqps://
    #[arg(long, global = true, env = "SPILLWAY_AMQP_URL", default_value = "amqp://127.0.0.1:5672")]
    amqp_url: String,
    /// The virtual host
    #[arg(long, global = true, env = "SPILLWAY_AMQP_VHOST", default_value = "/")]
    vhost: String,
    /// The user at RabbitMQ
    #[arg(long, global = true, env = "SPILLWAY_AMQP_USERNAME", hide_env_values = true)]
    amqp_username: Option<String>,
    /// The password at RabbitMQ
    #[arg(long, global = true, env = "SPILLWAY_AMQP_PASSWORD", hide_env_values = true)]
    amqp_password: Option<String>,
    /// The authorities that RabbitMQ's certificate may come from, as PEM, with amqps://
    #[arg(long, global = true, env = "SHOP_CA_FILE", default_value = AUTHORITIES)]
    ca_file: PathBuf,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none. It may hold a password, so it is not repeated.
    #[error("SPILLWAY_AMQP_URL is not of the form amqp://host:port or amqps://host:port")]
    Address,
    /// The authorities cannot be read.
    #[error("failed to read the authorities in {path}: {source}")]
    Authorities {
        /// Where they should be.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// RabbitMQ is away, or refuses.
    #[error("failed to connect: {0}")]
    Refused(#[from] lapin::Error),
}

impl Connection {
    /// A connection that the management interface shows under `name`.
    pub async fn open(&self, name: &str) -> Result<lapin::Connection, ConnectError> {
        let uri = self.uri()?;
        let tls = match uri.scheme {
            AMQPScheme::AMQPS => Some(Arc::new(authorities(&self.ca_file)?)),
            AMQPScheme::AMQP => None,
        };
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let (host, port) = (uri.authority.host.clone(), uri.authority.port);
        let runtime = transport(tls.as_ref(), &host).map_err(lapin::Error::from)?;
        let connect = async move |_: AMQPUri, runtime: Transport| {
            let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), port)).await?.collect();
            Ok(AsyncTcpStream::connect(&runtime, addresses).await?)
        };
        Ok(lapin::Connection::connector(uri, runtime, connect, properties).await?)
    }

    fn uri(&self) -> Result<AMQPUri, ConnectError> {
        let mut uri = AMQPUri::from_str(&self.amqp_url).map_err(|_| ConnectError::Address)?;
        uri.vhost.clone_from(&self.vhost);
        uri.query.heartbeat = Some(HEARTBEAT_SECONDS);
        let user = &mut uri.authority.userinfo;
        if let Some(username) = &self.amqp_username {
            user.username.clone_from(username);
        }
        if let Some(password) = &self.amqp_password {
            user.password.clone_from(password);
        }
        Ok(uri)
    }
}

fn authorities(path: &Path) -> Result<ClientConfig, ConnectError> {
    let unreadable = |source| ConnectError::Authorities { path: path.to_owned(), source };
    let pem = std::fs::read(path).map_err(unreadable)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unreadable(std::io::Error::other(error)))?;
        roots.add(certificate).map_err(|error| unreadable(std::io::Error::other(error)))?;
    }
    // Once for the process; a second connection finds it there.
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(url: &str) -> Connection {
        Connection {
            amqp_url: url.to_owned(),
            vhost: "production/eu".to_owned(),
            amqp_username: Some("shop".to_owned()),
            amqp_password: Some("p@ss/word".to_owned()),
            ca_file: AUTHORITIES.into(),
        }
    }

    #[test]
    fn user_and_virtual_host_need_no_escapes() {
        let uri = connection("amqps://rabbitmq:5671").uri().unwrap();
        let user = uri.authority.userinfo;
        assert_eq!((user.username.as_str(), user.password.as_str()), ("shop", "p@ss/word"));
        assert_eq!((uri.vhost.as_str(), uri.authority.port), ("production/eu", 5671));
    }

    #[test]
    fn a_wrong_address_is_refused_without_repeating_its_password() {
        for url in ["http://shop:secret@rabbitmq", "amqp:shop:secret@rabbitmq"] {
            let error = connection(url).uri().unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
