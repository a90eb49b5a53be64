//! One request to the management interface at a time: credentials, limits, and what an answer means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{CONNECTION, CONTENT_TYPE};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::{ErrorKind, RabbitError, judge};
use super::path::path;
use super::settings::RabbitSettings;
use crate::brokers::lane::Lane;
use crate::brokers::settings::{Secret, TlsSettings};
use crate::brokers::tls;
use crate::causes::causes;
use crate::runtime::lease::{Fence, FencedBody};

/// Requests under way at a time.
const IN_FLIGHT: usize = 16;
/// Of these, how many may be for a resync: the rest is kept for users.
const IN_FLIGHT_RESYNC: usize = 12;
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// RabbitMQ ends an idle connection after five seconds.
const IDLE: Duration = Duration::from_secs(3);
/// Largest answer that is read: about 100,000 queues.
const BODY_BYTES: usize = 64 << 20;
/// Largest refusal that is read.
const REFUSAL_BYTES: usize = 64 << 10;

/// A connection pool to one management interface.
pub(super) struct Http {
    client: reqwest::Client,
    /// The address up to and with `/api/`.
    base: String,
    username: String,
    password: Secret,
    fence: Fence,
    all: Semaphore,
    resync: Semaphore,
    sent: AtomicU64,
    /// The node that answered last is not well: behind one address there may be others, and a connection leads to one.
    sick: AtomicBool,
}

/// What a call needs beside its address.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub lane: Lane,
    pub timeout: Duration,
}

/// One call: what it does in words, and its address.
pub(super) struct Call<'a> {
    pub operation: String,
    pub method: Method,
    pub segments: &'a [&'a str],
    pub query: &'a [(&'a str, &'a str)],
}

impl Http {
    pub fn connect(settings: &RabbitSettings, fence: Fence) -> Result<Arc<Self>, RabbitError> {
        let refuse =
            |message: String| RabbitError::new("set up the RabbitMQ client", ErrorKind::Invalid, message);
        let url = reqwest::Url::parse(&settings.management_url)
            .map_err(|error| refuse(format!("the management URL is none: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("the management URL begins with neither http:// nor https://".into()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("the management URL holds credentials, which belong into the Secret".into()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("the management URL has a query or a fragment".into()));
        }
        let tls = if url.scheme() == "https" {
            tls::client_config(settings.tls.as_ref().unwrap_or(&TlsSettings::default()))
        } else {
            // Never used; without one, the system's certificates would be read.
            tls::client_config(&TlsSettings { insecure_skip_verify: true, ..TlsSettings::default() })
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.map_err(refuse)?)
            .user_agent(concat!("spillway/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IN_FLIGHT)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| refuse(causes(&error)))?;
        Ok(Arc::new(Self {
            client,
            base: format!("{}/api/", url.as_str().trim_end_matches('/')),
            username: settings.username.clone(),
            password: settings.password.clone(),
            fence,
            all: Semaphore::new(IN_FLIGHT),
            resync: Semaphore::new(IN_FLIGHT_RESYNC),
            sent: AtomicU64::new(0),
            sick: AtomicBool::new(false),
        }))
    }

    /// Requests sent since the client was made.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends a request and reads what it answers.
    pub async fn read<T: DeserializeOwned>(&self, call: &Call<'_>, terms: Terms) -> Result<T, RabbitError> {
        self.ask(call, None::<&()>, terms).await
    }

    /// Sends a request with a body, if it has one, and reads what it answers.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        body: Option<&(impl Serialize + Sync)>,
        terms: Terms,
    ) -> Result<T, RabbitError> {
        // On the heap: several of them are part of one look.
        let (_, body) = Box::pin(self.send(call, body, terms)).await?;
        serde_json::from_slice(&body).map_err(|error| {
            self.sick.store(true, Ordering::Relaxed);
            // Its own words would show pieces of the answer.
            let message = format!(
                "the answer is not the one of RabbitMQ's management interface ({:?} error in line {}, column {})",
                error.classify(),
                error.line(),
                error.column()
            );
            RabbitError::new(&call.operation, ErrorKind::Protocol, message)
        })
    }

    /// Sends a request with a body, if it has one; the status of its success.
    pub async fn write(
        &self,
        call: &Call<'_>,
        body: Option<&(impl Serialize + Sync)>,
        terms: Terms,
    ) -> Result<StatusCode, RabbitError> {
        self.send(call, body, terms).await.map(|(status, _)| status)
    }

    async fn send(
        &self,
        call: &Call<'_>,
        body: Option<&(impl Serialize + Sync)>,
        terms: Terms,
    ) -> Result<(StatusCode, Vec<u8>), RabbitError> {
        let fail = |kind, message: String| RabbitError::new(&call.operation, kind, message);
        let path = path(call.segments).map_err(|name| {
            fail(
                ErrorKind::Invalid,
                format!("RabbitMQ's management interface cannot be asked for the name {name:?}"),
            )
        })?;
        let mut request = self
            .client
            .request(call.method.clone(), format!("{}{path}", self.base))
            .query(call.query)
            .basic_auth(&self.username, Some(self.password.expose()))
            .timeout(terms.timeout);
        if let Some(body) = body {
            let body = serde_json::to_string(body).map_err(|error| {
                fail(ErrorKind::Invalid, format!("the request cannot be written: {error}"))
            })?;
            let body = FencedBody::new(body, self.fence.clone());
            request = request.header(CONTENT_TYPE, "application/json").body(reqwest::Body::wrap(body));
        }
        if self.sick.load(Ordering::Relaxed) {
            request = request.header(CONNECTION, "close");
        }
        let _turn = self.turn(terms.lane).await.ok_or_else(|| {
            let message = format!("no turn came within {} seconds: the broker is too slow", TURN.as_secs());
            fail(ErrorKind::Timeout, message)
        })?;
        if call.method != Method::GET {
            // It waited since it was allowed.
            self.fence.check().map_err(|fenced| fail(ErrorKind::Unavailable, fenced.to_string()))?;
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        let broken = |error: reqwest::Error| fail(kind(&error), words(&error, terms.timeout));
        let again = (call.method == Method::GET).then(|| request.try_clone()).flatten();
        let mut response = match (request.send().await, again) {
            // The connection may have been idle for too long just as it was taken. What only reads
            // may be asked twice.
            (Err(error), Some(again)) if error.is_request() && !error.is_timeout() && !error.is_connect() => {
                again.send().await.map_err(broken)?
            }
            (sent, _) => sent.map_err(broken)?,
        };
        let status = response.status();
        self.sick.store(status.is_server_error(), Ordering::Relaxed);
        if status.is_success() {
            let body = read(&mut response, BODY_BYTES).await.map_err(broken)?;
            let body = body.ok_or_else(|| {
                fail(ErrorKind::Protocol, format!("the answer is larger than {} MiB", BODY_BYTES >> 20))
            })?;
            return Ok((status, body));
        }
        let body = read(&mut response, REFUSAL_BYTES).await.map_err(broken)?.unwrap_or_default();
        let (kind, words) = judge(status.as_u16(), &body, self.password.expose());
        // RabbitMQ's own words for it are "Not_Authorized".
        let words = words.map(|words| match kind {
            ErrorKind::Authentication => format!("user name or password refused: {words}"),
            _ => words,
        });
        let message = words.unwrap_or_else(|| {
            let told = if status.is_redirection() { ", a redirect, which is not followed" } else { "" };
            format!("it answered HTTP {status}{told}")
        });
        Err(fail(kind, message))
    }

    /// Waits for a turn. Resync takes its own permit first, so that it never holds more than its share.
    async fn turn(&self, lane: Lane) -> Option<(Option<SemaphorePermit<'_>>, SemaphorePermit<'_>)> {
        let turn = async {
            let resync = match lane {
                Lane::User => None,
                Lane::Resync => Some(self.resync.acquire().await.ok()?),
            };
            Some((resync, self.all.acquire().await.ok()?))
        };
        tokio::time::timeout(TURN, turn).await.ok().flatten()
    }
}

/// The body, unless it is larger than `limit`.
async fn read(response: &mut Response, limit: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn kind(error: &reqwest::Error) -> ErrorKind {
    if error.is_timeout() { ErrorKind::Timeout } else { ErrorKind::Unreachable }
}

fn words(error: &reqwest::Error, timeout: Duration) -> String {
    if error.is_timeout() && !error.is_connect() {
        return format!("no answer within {} ms", timeout.as_millis());
    }
    causes(error)
}
