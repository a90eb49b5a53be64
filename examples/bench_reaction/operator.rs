//! The operator as a process: how soon it is ready, what it costs.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::BenchError;
use crate::report::median;

/// Clock ticks a second in `/proc`: the kernel's interface has had this number on every architecture that has pods.
const TICKS: f64 = 100.0;
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
        // A port that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(failed)?;
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
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
    child.wait().map(drop)
}

/// Memory of a process, in MiB.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Resident now.
    pub resident: f64,
    /// The most that ever was.
    pub peak: f64,
}

/// A running process, by its id.
pub struct Process(pub u32);

impl Process {
    /// Its memory.
    pub fn memory(&self) -> Result<Memory, BenchError> {
        let path = self.file("status");
        let text = read(&path)?;
        let field = |name: &'static str| {
            crate::machine::kibibytes(&text, name)
                .map(|kib| kib / 1024.0)
                .ok_or_else(|| BenchError::Missing(path.clone(), name))
        };
        Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// The cores it keeps busy over the next `window`: CPU seconds by the clock's seconds.
    pub async fn cores(&self, window: Duration) -> Result<f64, BenchError> {
        let (began, before) = (Instant::now(), self.cpu_seconds()?);
        tokio::time::sleep(window).await;
        Ok((self.cpu_seconds()? - before) / began.elapsed().as_secs_f64())
    }

    /// User and system time so far.
    fn cpu_seconds(&self) -> Result<f64, BenchError> {
        let path = self.file("stat");
        cpu_ticks(&read(&path)?)
            .map(|ticks| ticks / TICKS)
            .ok_or(BenchError::Missing(path, "utime and stime"))
    }

    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }
}

/// Fields 14 and 15 of `/proc/PID/stat`. The second, the name, may have blanks in it, and ends with the last `)`.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

fn read(path: &Path) -> Result<String, BenchError> {
    fs::read_to_string(path).map_err(|error| BenchError::Read(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_blanks_and_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 20";
        assert_eq!(cpu_ticks(stat), Some(300.0));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }
}
