//! How soon the operator is ready.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::BenchError;
use crate::common::median;
use crate::common::process::{Process, free_address};

/// A start that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the operator is started.
#[derive(Args)]
pub struct Starts {
    /// How often
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    count: u8,
    /// Where its log goes
    #[arg(long)]
    log: PathBuf,
    /// The binary
    binary: PathBuf,
    /// Its arguments; `--http-address` is added
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Starts {
    /// The median of the seconds from spawning the process to the first 200 of `/readyz`.
    pub fn measure(&self) -> Result<f64, BenchError> {
        let seconds: Result<Vec<f64>, BenchError> = (0..self.count).map(|_| self.once()).collect();
        Ok(median(seconds?))
    }

    fn once(&self) -> Result<f64, BenchError> {
        let failed = |error| BenchError::Run(self.binary.clone(), error);
        let address = free_address().map_err(failed)?;
        let log = File::create(&self.log).map_err(|error| BenchError::Write(self.log.clone(), error))?;
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).args(["--http-address", &address.to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
        let began = Instant::now();
        let mut child = command.spawn().map_err(failed)?;
        let ready = self.until_ready(&mut child, address, began);
        end(&mut child).map_err(failed)?;
        ready
    }

    fn until_ready(&self, child: &mut Child, address: SocketAddr, began: Instant) -> Result<f64, BenchError> {
        loop {
            if answers_ok(address).unwrap_or(false) {
                return Ok(began.elapsed().as_secs_f64());
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(BenchError::Ended(status, self.log.clone()));
            }
            if began.elapsed() > PATIENCE {
                return Err(BenchError::Waited(PATIENCE, "the operator to be ready".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether `/readyz` answers 200.
fn answers_ok(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}

/// Ends it in good order, so that its Lease is free for the next one.
fn end(child: &mut Child) -> std::io::Result<()> {
    Process(child.id()).terminate()?;
    child.wait().map(drop)
}
