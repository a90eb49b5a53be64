//! Something between the command line and a broker: it counts requests, and may take its time.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Result, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::bed::{environment, rabbitmq};

/// What is spoken.
#[derive(Clone, Copy)]
enum Language {
    /// HTTP/1.1 with lengths, as the management interface is asked.
    Http,
    /// Frames of Kafka's protocol.
    Kafka,
}

/// It lives as long as the tests do.
pub struct Between {
    port: u16,
    requests: Arc<AtomicUsize>,
}

impl Between {
    /// In front of the bed's Kafka.
    pub fn kafka() -> Self {
        Self::start(Language::Kafka, environment("SPILLWAY_TEST_KAFKA"), Duration::ZERO)
    }

    /// In front of the bed's RabbitMQ, which takes one request after the other, each after a pause.
    pub fn rabbitmq(pause: Duration) -> Self {
        let (url, ..) = rabbitmq();
        Self::start(Language::Http, url.trim_start_matches("http://").trim_end_matches('/').to_owned(), pause)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many requests went through.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// In front of the bed's RabbitMQ, each answer after a pause; from the first request on that has `from` in its first line,
    /// the cluster's id is the value of the global parameter `other`.
    pub fn replaced_rabbitmq(pause: Duration, from: &'static str, other: &str) -> Self {
        let (url, ..) = rabbitmq();
        let target = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let (gone, other) = (Arc::new(AtomicBool::new(false)), other.to_owned());
        Self::start_with(Language::Http, target, pause, move |request| {
            let text = String::from_utf8_lossy(&request);
            let line = text.lines().next().unwrap_or_default();
            if line.contains(from) {
                gone.store(true, Ordering::Relaxed);
            }
            if gone.load(Ordering::Relaxed) && line.contains("internal_cluster_id") {
                return text.replacen("internal_cluster_id", &other, 1).into_bytes();
            }
            request
        })
    }

    fn start(language: Language, target: String, pause: Duration) -> Self {
        Self::start_with(language, target, pause, |request| request)
    }

    fn start_with(
        language: Language,
        target: String,
        pause: Duration,
        edit: impl Fn(Vec<u8>) -> Vec<u8> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let requests = Arc::new(AtomicUsize::new(0));
        let (counted, turn) = (requests.clone(), Arc::new(Mutex::new(())));
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let far_port = far.peer_addr().expect("connected").port();
                let ends = || (near.try_clone().expect("a handle"), far.try_clone().expect("a handle"));
                let (from, to) = ends();
                let (counted, turn, edit) = (counted.clone(), turn.clone(), edit.clone());
                thread::spawn(move || {
                    let _ends_with_the_connection = pass(&from, &to, |from| {
                        let request = language.request(from)?;
                        counted.fetch_add(1, Ordering::Relaxed);
                        if pause > Duration::ZERO {
                            let _turn = turn.lock().expect("no panic while it was held");
                            thread::sleep(pause);
                        }
                        Ok(edit(request))
                    });
                });
                let (to, from) = ends();
                thread::spawn(move || {
                    let _ends_with_the_connection =
                        pass(&from, &to, |from| language.answer(from, (far_port, port)));
                });
            }
        });
        Self { port, requests }
    }
}

/// Forwards one piece after the other until one side ends, and ends the other.
fn pass(
    from: &TcpStream,
    mut to: &TcpStream,
    mut next: impl FnMut(&mut BufReader<&TcpStream>) -> Result<Vec<u8>>,
) -> Result<()> {
    let mut reader = BufReader::new(from);
    let ended = loop {
        match next(&mut reader).and_then(|piece| to.write_all(&piece)) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    to.shutdown(Shutdown::Write)?;
    Err(ended)
}

impl Language {
    fn request(self, from: &mut BufReader<&TcpStream>) -> Result<Vec<u8>> {
        match self {
            Self::Kafka => frame(from),
            Self::Http => request(from),
        }
    }

    fn answer(self, from: &mut BufReader<&TcpStream>, (far, near): (u16, u16)) -> Result<Vec<u8>> {
        match self {
            Self::Kafka => {
                let mut frame = frame(from)?;
                rename(&mut frame, far, near);
                Ok(frame)
            }
            Self::Http => {
                let bytes = from.fill_buf()?.to_vec();
                from.consume(bytes.len());
                if bytes.is_empty() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
            }
        }
    }
}

/// A request of HTTP's, with its body.
pub fn request(from: &mut BufReader<&TcpStream>) -> Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut length = 0;
    loop {
        let begin = request.len();
        if from.read_until(b'\n', &mut request)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&request[begin..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let head = request.len();
    request.resize(head + length, 0);
    from.read_exact(&mut request[head..])?;
    Ok(request)
}

/// A frame of Kafka's, with its length.
fn frame(from: &mut BufReader<&TcpStream>) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = length.to_vec();
    frame.resize(4 + usize::try_from(u32::from_be_bytes(length)).expect("32 bits"), 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// Puts one port in the place of another wherever it follows the host: answers name the broker's own address, to which a
/// client would go past us.
fn rename(frame: &mut [u8], from: u16, to: u16) {
    let [old, new] =
        [from, to].map(|port| [b"127.0.0.1".as_slice(), &i32::from(port).to_be_bytes()].concat());
    let mut at = 0;
    while let Some(found) = frame[at..].windows(old.len()).position(|window| window == old) {
        at += found;
        frame[at..at + new.len()].copy_from_slice(&new);
        at += new.len();
    }
}
