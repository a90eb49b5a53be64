//! A reverse proxy for HTTP: the API server's or the management interface's.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request, Response, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Cut, Fate, Side};

type Failure = Box<dyn Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, Failure>>;

/// Where a proxy forwards to.
#[derive(Clone)]
enum Target {
    /// With the credentials and the TLS of this client.
    Kubernetes(Client),
    /// A host and port that speak plain HTTP.
    Plain(String),
}

/// Forwards requests as its [`Cut`] says. It may be closed: then connections break, and new ones, too.
pub struct HttpProxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl HttpProxy {
    /// In front of the API server of `client`.
    pub async fn kubernetes(client: Client, cut: &Arc<Cut>) -> Self {
        Self::start(Side::Kubernetes, Target::Kubernetes(client), cut).await
    }

    /// In front of a management interface at `host:port`.
    pub async fn rabbitmq(target: &str, cut: &Arc<Cut>) -> Self {
        Self::start(Side::RabbitMq, Target::Plain(target.to_owned()), cut).await
    }

    async fn start(side: Side, target: Target, cut: &Arc<Cut>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (open, opened) = watch::channel(true);
        let task = tokio::spawn(listen(listener, opened, side, target, cut.clone()));
        Self { address, open, task }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks every connection, and those that come.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Forwards again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(
    listener: TcpListener,
    open: watch::Receiver<bool>,
    side: Side,
    target: Target,
    cut: Arc<Cut>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let mut open = open.clone();
        if !*open.borrow_and_update() {
            continue;
        }
        let (target, cut) = (target.clone(), cut.clone());
        connections.spawn(async move {
            let service = service_fn(|request| serve(side, &target, &cut, request));
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = serving => {}
                _ = open.changed() => {}
            }
        });
    }
}

/// One request. Err breaks the connection.
async fn serve(
    side: Side,
    target: &Target,
    cut: &Cut,
    request: Request<Incoming>,
) -> Result<Answer, Failure> {
    let what = format!("{} {}", request.method(), request.uri());
    let fate = cut.judge(side, what.clone(), counts(&request));
    match fate {
        Fate::KillBefore | Fate::DropBefore => return Err("cut before".into()),
        Fate::Answer(code, headers, body) => {
            let mut answer = Response::builder().status(code).header("content-type", "application/json");
            for (name, value) in headers {
                answer = answer.header(name, value);
            }
            let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
            return Ok(answer.body(body.boxed_unsync())?);
        }
        Fate::Late(time) => tokio::time::sleep(time).await,
        Fate::Pass | Fate::KillAfter | Fate::DropAfter => {}
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let answer = target.send(Request::from_parts(head, body)).await?;
    if matches!(fate, Fate::Pass | Fate::Late(_)) {
        return Ok(answer);
    }
    let _whole = answer.into_body().collect().await?;
    if fate == Fate::KillAfter {
        cut.answered();
    }
    Err("cut after".into())
}

/// Whether a request is a write of the work: anything but a look, and what a clock causes.
fn counts(request: &Request<Incoming>) -> bool {
    let path = request.uri().path();
    let report = path.contains("/brokers/") && path.ends_with("/status");
    // Exchanges may be called that, too.
    let of_kubernetes = path.starts_with("/api/v1/") || path.starts_with("/apis/events.k8s.io/");
    let event = of_kubernetes && (path.ends_with("/events") || path.contains("/events/"));
    let clockwork = path.contains("/apis/coordination.k8s.io/") || report || event;
    !matches!(*request.method(), Method::GET | Method::HEAD) && !clockwork
}

impl Target {
    async fn send(&self, request: Request<Bytes>) -> Result<Answer, Failure> {
        let answer = match self {
            Self::Kubernetes(client) => {
                let mut request = request.map(kube::client::Body::from);
                request.headers_mut().remove(http::header::HOST);
                request.headers_mut().remove(CONTENT_LENGTH);
                let (head, body) = client.send(request).await?.into_parts();
                Response::from_parts(head, body.map_err(Failure::from).boxed_unsync())
            }
            Self::Plain(target) => {
                let stream = TcpStream::connect(target).await?;
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
                Response::from_parts(head, body.map_err(Failure::from).boxed_unsync())
            }
        };
        let (mut head, body) = answer.into_parts();
        head.version = Version::HTTP_11;
        for header in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(header);
        }
        Ok(Response::from_parts(head, body))
    }
}
