//! How deep queues are, asked over AMQP: for brokers whose management interface is slow or not there.
//!
//! A passive declaration tells the ready messages and the consumers of a queue, as of now. It has a channel to itself
//! meanwhile, because a queue that does not exist closes the channel (and nothing else); a few channels are kept for the
//! next. A connection is bound to a virtual host: there is one for each, made when it is needed, and again when it was
//! lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties};
use rustls::ClientConfig;
use tokio::sync::Semaphore;

use super::error::{ErrorKind, RabbitError, plain};
use super::settings::RabbitSettings;
use super::transport::{Transport, transport};
use crate::brokers::settings::Secret;
use crate::brokers::tls;

/// A probe takes no longer unless told otherwise, the connection included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A connection takes no longer to be made: less than a sweep gives a probe, so that all who wait for it hear of it.
const OPENING: Duration = Duration::from_secs(3);
/// A connection on which nothing was answered for so long, while somebody asked, is given up.
const DEAF: Duration = Duration::from_secs(10);
/// Probes under way at a time: each has a channel.
const AT_ONCE: usize = 64;
/// Channels kept open in each virtual host.
const KEPT: usize = 8;
/// A connection that nobody used for so long is closed when another is made.
const IDLE: Duration = Duration::from_secs(300);
const HEARTBEAT_SECONDS: u16 = 10;
/// AMQP's limit for names, in bytes.
const NAME_BYTES: usize = 255;

/// What a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages that no consumer was given.
    pub ready: u32,
    /// Consumers.
    pub consumers: u32,
}

/// Asks for the depth of queues. Clones share the connections.
#[derive(Clone)]
pub struct AmqpProbe {
    shared: Arc<Shared>,
}

struct Shared {
    scheme: AMQPScheme,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    username: String,
    password: Secret,
    vhosts: Mutex<HashMap<String, Arc<Vhost>>>,
    turns: Semaphore,
}

/// The connection of one virtual host.
struct Vhost {
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
    /// Channels that nobody uses at the moment.
    channels: Mutex<Vec<Channel>>,
    used: Mutex<Instant>,
    news: Mutex<News>,
}

/// What the last probes of a virtual host have shown.
struct News {
    /// When one was answered, or the connection was made.
    answered: Instant,
    /// When one failed for a reason that is not its queue's, and why.
    failed: Option<(Instant, Trouble)>,
}

/// Why a probe has no answer.
#[derive(Clone)]
enum Trouble {
    /// The broker's words, or lapin's.
    Told(lapin::Error),
    /// Nothing came for so long.
    Late(Duration),
}

impl From<lapin::Error> for Trouble {
    fn from(error: lapin::Error) -> Self {
        Self::Told(error)
    }
}

impl Vhost {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What failed for others since somebody asked: it would be waited for in vain once more, for each of a thousand queues.
    fn failed_since(&self, asked: Instant) -> Option<Trouble> {
        self.news().failed.as_ref().filter(|(at, _)| *at >= asked).map(|(_, trouble)| trouble.clone())
    }

    fn fail(&self, trouble: &Trouble) {
        self.news().failed = Some((Instant::now(), trouble.clone()));
    }

    /// A probe that was asked for at that time got no answer. One queue may be at fault, unless nobody got one.
    fn late(&self, asked: Instant, limit: Duration) {
        let deaf = {
            let mut news = self.news();
            if news.answered < asked {
                news.failed = Some((Instant::now(), Trouble::Late(limit)));
            }
            news.answered.elapsed() > DEAF
        };
        // Else its channels would be used up one by one. Whoever makes a connection at the moment holds the lock.
        if deaf && let Ok(mut connection) = self.connection.try_lock() {
            *connection = None;
            self.channels.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn kept(&self) -> Option<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|channel| channel.status().connected());
        channels.pop()
    }

    /// Keeps a channel for the next, if there is room.
    async fn keep(&self, channel: Channel) {
        let spare = {
            let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            if channels.len() < KEPT {
                channels.push(channel);
                None
            } else {
                Some(channel)
            }
        };
        if let Some(channel) = spare {
            let _closed_in_any_case = channel.close(200, "seen".into()).await;
        }
    }
}

impl AmqpProbe {
    /// A probe with these settings, if they have an AMQP address. Sends nothing.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub fn connect(settings: &RabbitSettings) -> Result<Option<Self>, RabbitError> {
        let Some(address) = &settings.amqp_url else {
            return Ok(None);
        };
        let refuse = |message: String| {
            RabbitError::new(
                "set up the RabbitMQ client",
                ErrorKind::Invalid,
                format!("the AMQP URL {message}"),
            )
        };
        let url = reqwest::Url::parse(address).map_err(|error| refuse(format!("is none: {error}")))?;
        let scheme = match url.scheme() {
            "amqp" => AMQPScheme::AMQP,
            "amqps" => AMQPScheme::AMQPS,
            _ => return Err(refuse("begins with neither amqp:// nor amqps://".into())),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("holds credentials, which belong into the Secret".into()));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(refuse("has more to it than host and port".into()));
        }
        let host =
            url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| refuse("has no host".into()))?;
        let tls = match scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => {
                let trust = settings.tls.clone().unwrap_or_default();
                let config =
                    tls::client_config(&trust).map_err(|error| refuse(format!("needs TLS: {error}")))?;
                Some(Arc::new(config))
            }
        };
        let shared = Shared {
            port: url.port().unwrap_or_else(|| scheme.default_port()),
            host: host.trim_matches(['[', ']']).to_owned(),
            scheme,
            tls,
            username: settings.username.clone(),
            password: settings.password.clone(),
            vhosts: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        };
        Ok(Some(Self { shared: Arc::new(shared) }))
    }

    /// Ready messages and consumers of a queue; `None` when it does not exist. A virtual host that does not exist is
    /// [`ErrorKind::NoVhost`].
    pub async fn depth(&self, vhost: &str, queue: &str) -> Result<Option<Depth>, RabbitError> {
        self.depth_within(vhost, queue, TIMEOUT).await
    }

    /// [`Self::depth`], with a limit of its own.
    pub async fn depth_within(
        &self,
        vhost: &str,
        queue: &str,
        limit: Duration,
    ) -> Result<Option<Depth>, RabbitError> {
        let operation = format!("read the depth of queue {queue:?}");
        if queue.is_empty() || queue.len() > NAME_BYTES || vhost.len() > NAME_BYTES {
            let message = format!("a name has at least 1 and at most {NAME_BYTES} bytes");
            return Err(RabbitError::new(operation, ErrorKind::Invalid, message));
        }
        let asked = Instant::now();
        let Ok(_turn) = self.shared.turns.acquire().await else {
            return Err(RabbitError::new(operation, ErrorKind::Timeout, "the client is going away"));
        };
        let place = self.shared.place(vhost);
        let answer = if let Some(trouble) = place.failed_since(asked) {
            Err(trouble)
        } else {
            let probe = tokio::time::timeout(limit, self.probe(&place, vhost, queue, asked));
            probe.await.unwrap_or_else(|_| {
                place.late(asked, limit);
                Err(Trouble::Late(limit))
            })
        };
        match answer {
            Ok(depth) => Ok(Some(depth)),
            Err(Trouble::Told(error)) if code(&error) == Some(404) => Ok(None),
            Err(Trouble::Told(error)) => Err(self.shared.explain(operation, vhost, &error)),
            Err(Trouble::Late(limit)) => {
                let message = format!("no answer within {} ms", limit.as_millis());
                Err(RabbitError::new(operation, ErrorKind::Timeout, message))
            }
        }
    }

    async fn probe(&self, place: &Vhost, vhost: &str, queue: &str, asked: Instant) -> Result<Depth, Trouble> {
        if let Some(channel) = place.kept() {
            match look(place, channel, queue).await {
                // It may have gone with its connection just as it was taken.
                Err(error) if code(&error).is_none() => {}
                answer => return Ok(answer?),
            }
        }
        let channel = self.shared.connection(place, vhost, asked).await?.create_channel().await?;
        Ok(look(place, channel, queue).await?)
    }
}

/// Asks on a channel, which is dropped, and so closed, unless it answers.
async fn look(place: &Vhost, channel: Channel, queue: &str) -> lapin::Result<Depth> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
    if found.as_ref().err().is_none_or(|error| code(error).is_some()) {
        place.news().answered = Instant::now();
    }
    let found = found?;
    place.keep(channel).await;
    Ok(Depth { ready: found.message_count(), consumers: found.consumer_count() })
}

impl Shared {
    /// The connection of a virtual host; many who need it wait for one that makes it.
    async fn connection(
        &self,
        place: &Vhost,
        vhost: &str,
        asked: Instant,
    ) -> Result<Arc<Connection>, Trouble> {
        let mut kept = place.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| connection.status().connected()) {
            return Ok(Arc::clone(connection));
        }
        *kept = None;
        if let Some(trouble) = place.failed_since(asked) {
            return Err(trouble);
        }
        let opened = match tokio::time::timeout(OPENING, self.open(vhost)).await {
            Ok(opened) => opened.map_err(Trouble::Told),
            Err(_) => Err(Trouble::Late(OPENING)),
        };
        let connection = Arc::new(opened.inspect_err(|trouble| place.fail(trouble))?);
        place.news().answered = Instant::now();
        *kept = Some(Arc::clone(&connection));
        Ok(connection)
    }

    fn place(&self, vhost: &str) -> Arc<Vhost> {
        let mut vhosts = self.vhosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = vhosts.get(vhost) {
            *place.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            return Arc::clone(place);
        }
        vhosts.retain(|_, place| {
            let used = *place.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.elapsed() < IDLE || Arc::strong_count(place) > 1
        });
        let place = Arc::new(Vhost {
            connection: tokio::sync::Mutex::new(None),
            channels: Mutex::default(),
            used: Mutex::new(Instant::now()),
            news: Mutex::new(News { answered: Instant::now(), failed: None }),
        });
        vhosts.insert(vhost.to_owned(), Arc::clone(&place));
        place
    }

    async fn open(&self, vhost: &str) -> lapin::Result<Connection> {
        let uri = AMQPUri {
            scheme: self.scheme.clone(),
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: self.username.clone(),
                    password: self.password.expose().to_owned(),
                },
                host: self.host.clone(),
                port: self.port,
            },
            vhost: vhost.to_owned(),
            query: AMQPQueryString { heartbeat: Some(HEARTBEAT_SECONDS), ..AMQPQueryString::default() },
        };
        // Recovery stays off: a probe makes a new connection itself.
        let properties = ConnectionProperties::default().with_connection_name("spillway".into());
        let (host, port) = (self.host.clone(), self.port);
        let runtime = transport(self.tls.as_ref(), &host)?;
        let connect = async move |_: AMQPUri, runtime: Transport| {
            let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), port)).await?.collect();
            Ok(AsyncTcpStream::connect(&runtime, addresses).await?)
        };
        Connection::connector(uri, runtime, connect, properties).await
    }

    fn explain(&self, operation: String, vhost: &str, error: &lapin::Error) -> RabbitError {
        let told = words(error);
        let words = plain(&told, self.password.expose());
        let kind = match code(error) {
            None if error.is_io_error() => ErrorKind::Unreachable,
            None => match error.kind() {
                lapin::ErrorKind::MissingHeartbeatError
                | lapin::ErrorKind::InvalidConnectionState(_)
                | lapin::ErrorKind::InvalidChannelState(..) => ErrorKind::Unreachable,
                _ => ErrorKind::Protocol,
            },
            Some(530) if no_such_vhost(&told) => return RabbitError::no_vhost(operation, vhost),
            Some(403) if login_refused(&told) => ErrorKind::Authentication,
            Some(403 | 530) => ErrorKind::Authorization,
            Some(405) => ErrorKind::Locked,
            Some(320 | 506 | 541) => ErrorKind::Unavailable,
            Some(_) => ErrorKind::Protocol,
        };
        RabbitError::new(operation, kind, words)
    }
}

/// Whether a 530 is about a virtual host that is not there. What the words say between their beginning and their end
/// are names, which anyone may choose.
fn no_such_vhost(words: &str) -> bool {
    words.strip_prefix("NOT_ALLOWED - vhost ").is_some_and(|rest| rest.ends_with(" not found"))
}

/// Whether a 403 is about wrong credentials: `Login was refused using …`, or `PLAIN login refused: …`.
fn login_refused(words: &str) -> bool {
    words.strip_prefix("ACCESS_REFUSED - ").is_some_and(|rest| {
        let after = rest.split_once(' ').map_or("", |(_, after)| after);
        rest.starts_with("Login was refused") || after.starts_with("login refused")
    })
}

/// AMQP's number of an error that the broker sent.
fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// The broker's own words, or what broke.
fn words(error: &lapin::Error) -> String {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        lapin::ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_says_what_an_error_says_changes_nothing() {
        assert!(no_such_vhost("NOT_ALLOWED - vhost orders not found"));
        assert!(no_such_vhost("NOT_ALLOWED - vhost not allowed not found"));
        assert!(!no_such_vhost("NOT_ALLOWED - access to vhost 'not found' refused for user 'not found'"));
        assert!(login_refused("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."));
        assert!(login_refused("ACCESS_REFUSED - PLAIN login refused: user 'a' - invalid credentials"));
        assert!(!login_refused(
            "ACCESS_REFUSED - read access to queue 'Login was refused' refused for user 'a'"
        ));
        assert!(!login_refused("ACCESS_REFUSED - read access to queue 'login refused' refused for user 'a'"));
    }
}
