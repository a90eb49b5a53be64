//! A proxy for Kafka's protocol: it knows the frames, which requests write, and nothing more.
//!
//! Answers name the broker's address, to which a client would go past the proxy; the proxy puts its own
//! port in its place. The host is `127.0.0.1` on both sides, so no length changes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{Cut, Fate, Side};

/// Requests that change something, by their key in Kafka's protocol.
const WRITES: [(i16, &str); 7] = [
    (19, "CreateTopics"),
    (20, "DeleteTopics"),
    (21, "DeleteRecords"),
    (33, "AlterConfigs"),
    (37, "CreatePartitions"),
    (42, "DeleteGroups"),
    (44, "IncrementalAlterConfigs"),
];

/// Stands in front of a Kafka of one node.
pub struct KafkaProxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
    target: watch::Sender<String>,
    task: JoinHandle<()>,
}

impl KafkaProxy {
    /// In front of `127.0.0.1:port`.
    pub async fn start(target: &str, cut: &Arc<Cut>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (open, opened) = watch::channel(true);
        let (target, to) = watch::channel(target.to_owned());
        let task = tokio::spawn(listen(listener, address.port(), opened, to, cut.clone()));
        Self { address, open, target, task }
    }

    /// Its bootstrap server.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Breaks every connection, and those that come.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Forwards again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// From now on another Kafka is behind the same address.
    pub fn swap(&self, target: &str) {
        self.target.send_replace(target.to_owned());
        self.open.send_replace(false);
        self.open.send_replace(true);
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(
    listener: TcpListener,
    port: u16,
    open: watch::Receiver<bool>,
    target: watch::Receiver<String>,
    cut: Arc<Cut>,
) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let mut open = open.clone();
        if !*open.borrow_and_update() {
            continue;
        }
        let (target, cut) = (target.borrow().clone(), cut.clone());
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(&target).await else { return };
            let far_port = target.rsplit(':').next().and_then(|port| port.parse().ok()).expect("host:port");
            let (from_near, to_near) = near.into_split();
            let (from_far, to_far) = far.into_split();
            let marked = Marked::default();
            tokio::select! {
                _ = requests(from_near, to_far, &cut, &marked) => {}
                _ = answers(from_far, to_near, (far_port, port), &cut, &marked) => {}
                _ = open.changed() => {}
            }
        });
    }
}

/// Requests whose answer must not pass, by their correlation id.
type Marked = Mutex<HashMap<[u8; 4], Fate>>;

async fn requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    cut: &Cut,
    marked: &Marked,
) -> std::io::Result<()> {
    loop {
        let frame = frame(&mut from).await?;
        if let [k0, k1, _, _, id @ ..] = frame.as_slice()
            && let Some(id) = id.first_chunk::<4>()
            && let Some((_, name)) = WRITES.iter().find(|(key, _)| *key == i16::from_be_bytes([*k0, *k1]))
        {
            match cut.judge(Side::Kafka, (*name).to_owned(), true) {
                Fate::Pass => {}
                Fate::Late(time) => tokio::time::sleep(time).await,
                fate @ (Fate::KillAfter | Fate::DropAfter) => {
                    marked.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, fate);
                }
                Fate::KillBefore | Fate::DropBefore => return Ok(()),
                Fate::Answer(..) => panic!("no answers can be made up for Kafka"),
            }
        }
        send(&mut to, &frame).await?;
    }
}

async fn answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    (far, near): (u16, u16),
    cut: &Cut,
    marked: &Marked,
) -> std::io::Result<()> {
    loop {
        let mut frame = frame(&mut from).await?;
        let fate = frame
            .first_chunk::<4>()
            .and_then(|id| marked.lock().unwrap_or_else(PoisonError::into_inner).remove(id));
        match fate {
            Some(Fate::KillAfter) => {
                cut.answered();
                return Ok(());
            }
            Some(_) => return Ok(()),
            None => {}
        }
        rename(&mut frame, far, near);
        send(&mut to, &frame).await?;
    }
}

/// Puts one port in the place of another wherever it follows the host.
fn rename(frame: &mut [u8], from: u16, to: u16) {
    let old = [b"127.0.0.1".as_slice(), &i32::from(from).to_be_bytes()].concat();
    let new = [b"127.0.0.1".as_slice(), &i32::from(to).to_be_bytes()].concat();
    let mut at = 0;
    while let Some(found) = frame[at..].windows(old.len()).position(|window| window == old) {
        at += found;
        frame[at..at + new.len()].copy_from_slice(&new);
        at += new.len();
    }
}

async fn frame(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut frame = vec![0; usize::try_from(length).expect("32 bits")];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> std::io::Result<()> {
    to.write_u32(u32::try_from(frame.len()).expect("32 bits")).await?;
    to.write_all(frame).await
}
