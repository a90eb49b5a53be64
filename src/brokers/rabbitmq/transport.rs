//! What AMQP runs on: TCP, or TLS over it with the trust that the settings ask for.
//!
//! lapin's own TLS adds certificates to those of the system and brings a store for PKCS#12 with it. Its transport can
//! be any reactor's stream instead: this one is Tokio's, with the handshake done right after the connection.
//!
//! lapin gives each connection a thread, which waits for bytes without a limit until the login is done: a peer that takes
//! connections and says nothing would have a thread more with each attempt. So the stream itself has limits.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures::Stream;
use futures::io::{AsyncRead as FuturesRead, AsyncWrite as FuturesWrite};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

/// How long a connection may take to be made, TLS included.
const OPENING: Duration = Duration::from_secs(10);
/// Silence after which a peer counts as gone: three heartbeats, and lapin gives up after two.
const SILENCE: Duration = Duration::from_secs(30);

/// The runtime that a connection runs on.
pub(super) type Transport = Runtime<RuntimeParts<Tokio, Dialer>>;

/// Tokio's reactor; its connections speak TLS when it is told how.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    tokio: Tokio,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A transport for connections to `host`. Only inside of a Tokio runtime.
pub(super) fn transport(tls: Option<&Arc<ClientConfig>>, host: &str) -> io::Result<Transport> {
    let tls = match tls {
        None => None,
        Some(config) => {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            Some((Arc::clone(config), name))
        }
    };
    let tokio = Tokio::current();
    Ok(Runtime::new(RuntimeParts::new(tokio.clone(), Dialer { tokio, tls })))
}

impl Reactor for Dialer {
    type TcpStream = Compat<Wire>;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// Nobody brings sockets of their own here.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl FuturesRead + FuturesWrite + Send + Unpin + 'static> {
        Err::<Self::TcpStream, _>(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let tls = self.tls.clone();
        async move {
            let open = async {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(match tls {
                    None => Stage::Plain(stream),
                    Some((config, name)) => {
                        Stage::Tls(Box::new(TlsConnector::from(config).connect(name, stream).await?))
                    }
                })
            };
            let stage = tokio::time::timeout(OPENING, open).await.map_err(io::Error::from)??;
            Ok(Wire::new(stage, SILENCE).compat())
        }
    }
}

enum Stage {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One connection; over once its peer has been silent for too long.
pub(super) struct Wire {
    stage: Stage,
    patience: Duration,
    silence: Pin<Box<Sleep>>,
}

impl Wire {
    fn new(stage: Stage, patience: Duration) -> Self {
        Self { stage, patience, silence: Box::pin(sleep(patience)) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        let read = match &mut wire.stage {
            Stage::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stage::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if read.is_ready() {
            wire.silence.as_mut().reset(tokio::time::Instant::now() + wire.patience);
            return read;
        }
        wire.silence.as_mut().poll(cx).map(|()| {
            let words = format!("the broker has been silent for {} seconds", wire.patience.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, words))
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stage {
            Stage::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stage::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stage {
            Stage::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stage::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stage {
            Stage::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stage::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_given_up() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(server.local_addr().expect("bound")).await.expect("taken");
        let (_taken, _) = server.accept().await.expect("a connection");
        let mut wire = Wire::new(Stage::Plain(stream), Duration::from_millis(50));
        let error = wire.read_u8().await.expect_err("nobody writes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
