//! What a process costs, from `/proc`.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::machine::kibibytes;

/// Clock ticks a second in `/proc`: the kernel's interface has had this number on every architecture that has pods.
const TICKS: f64 = 100.0;

/// Why a process could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("failed to read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("failed to read {0}: there is no {1} in it")]
    Missing(PathBuf, &'static str),
}

/// Memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now.
    pub resident: f64,
    /// The most that ever was.
    pub peak: f64,
}

/// A running process, by its id.
#[derive(Clone, Copy)]
pub struct Process(pub u32);

impl Process {
    /// Its memory.
    pub fn memory(self) -> Result<Memory, ProcessError> {
        let path = self.file("status");
        let text = read(&path)?;
        let field = |name: &'static str| {
            kibibytes(&text, name)
                .map(|kib| kib / 1024.0)
                .ok_or_else(|| ProcessError::Missing(path.clone(), name))
        };
        Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
    }

    /// The cores it keeps busy over the next `window`: CPU seconds by the clock's seconds.
    pub async fn cores(self, window: Duration) -> Result<f64, ProcessError> {
        let (began, before) = (Instant::now(), self.cpu_seconds()?);
        tokio::time::sleep(window).await;
        Ok((self.cpu_seconds()? - before) / began.elapsed().as_secs_f64())
    }

    /// User and system time so far.
    pub fn cpu_seconds(self) -> Result<f64, ProcessError> {
        let path = self.file("stat");
        cpu_ticks(&read(&path)?)
            .map(|ticks| ticks / TICKS)
            .ok_or(ProcessError::Missing(path, "utime and stime"))
    }

    /// Asks it to end in good order.
    #[allow(dead_code, reason = "not every bench ends one")]
    pub fn terminate(self) -> std::io::Result<()> {
        Command::new("kill").args(["-TERM", &self.0.to_string()]).status().map(drop)
    }

    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }
}

/// An address on loopback whose port was free a moment ago.
pub fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr())
}

/// Fields 14 and 15 of `/proc/PID/stat`. The second, the name, may have blanks in it, and ends with the last `)`.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

fn read(path: &Path) -> Result<String, ProcessError> {
    fs::read_to_string(path).map_err(|error| ProcessError::Read(path.to_owned(), error))
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
