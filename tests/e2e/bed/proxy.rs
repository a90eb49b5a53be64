//! A TCP proxy that is closed at first: a part that is not there, and then comes.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Forwards what comes to its address, once it is open.
pub struct Proxy {
    target: String,
    address: SocketAddr,
    /// Keeps the port until the proxy opens: bound, and not listening, so connections are refused.
    reserved: Option<TcpSocket>,
    task: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A closed proxy for `target`.
    pub fn closed(target: &str) -> Self {
        let socket = socket("127.0.0.1:0".parse().expect("an address"));
        let address = socket.local_addr().expect("bound");
        Self { target: target.to_owned(), address, reserved: Some(socket), task: None }
    }

    /// Its address.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Lets connections through from now on.
    pub fn open(&mut self) {
        let socket = self.reserved.take().expect("a proxy that is closed");
        let listener = socket.listen(64).expect("listening");
        let target = self.target.clone();
        self.task = Some(tokio::spawn(forward(listener, target)));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).unwrap_or_else(|error| panic!("bind {address}: {error}"));
    socket
}

async fn forward(listener: TcpListener, target: String) {
    // Aborting this task drops the set, and with it every connection.
    let mut connections = JoinSet::new();
    while let Ok((mut from, _)) = listener.accept().await {
        let target = target.clone();
        connections.spawn(async move {
            if let Ok(mut to) = TcpStream::connect(target).await {
                let _ = copy_bidirectional(&mut from, &mut to).await;
            }
        });
    }
}
