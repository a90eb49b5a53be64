//! What the kernel says of this process, read when it is asked for: the `process_*` that Prometheus' own client
//! libraries have. A figure that can't be read is left out.

use std::fmt;
use std::fs;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::catalogue::Described;

/// In what `/proc/PID/stat` counts processor time: `USER_HZ`, which is 100 on all that Linux runs on here
/// (`proc_pid_stat(5)`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Name without `_total`, kind, meaning.
const METRICS: [(&str, &str, &str); 6] = [
    ("process_start_time_seconds", "gauge", "When the process began, in seconds since 1970"),
    ("process_cpu_seconds", "counter", "Processor time that the process has taken, in seconds"),
    ("process_resident_memory_bytes", "gauge", "Memory of the process that is resident"),
    ("process_virtual_memory_bytes", "gauge", "Addresses that the process has mapped, resident or not"),
    ("process_open_fds", "gauge", "Files and connections that are open"),
    ("process_max_fds", "gauge", "Files and connections that may be open"),
];

/// This process.
#[derive(Debug)]
pub(super) struct ThisProcess {
    /// In seconds since 1970.
    began: Option<f64>,
}

impl ThisProcess {
    /// This process, which begins now.
    pub fn begins() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self { began: now.ok().map(|now| now.as_secs_f64()) }
    }
}

/// What each metric is.
pub(super) fn described() -> impl Iterator<Item = Described> {
    METRICS.into_iter().map(|(name, kind, help)| {
        let suffix = if kind == "counter" { "_total" } else { "" };
        Described { name: format!("{name}{suffix}"), kind, labels: &[], help }
    })
}

impl Collector for ThisProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let status = read("status");
        // The look at the directory is an open file itself.
        let open = fs::read_dir("/proc/self/fd").map(|files| files.count().saturating_sub(1)).ok();
        let values = [
            self.began,
            cpu_seconds(&read("stat")),
            bytes_of(&status, "VmRSS:"),
            bytes_of(&status, "VmSize:"),
            open.and_then(|open| u32::try_from(open).ok()).map(f64::from),
            most_files(&read("limits")),
        ];
        for ((name, kind, help), value) in METRICS.into_iter().zip(values) {
            let Some(value) = value else { continue };
            // As the registry ends those that are registered with it.
            let help = format!("{help}.");
            if kind == "counter" {
                let metric = ConstCounter::new(value);
                metric.encode(encoder.encode_descriptor(name, &help, None, metric.metric_type())?)?;
            } else {
                let metric = ConstGauge::new(value);
                metric.encode(encoder.encode_descriptor(name, &help, None, metric.metric_type())?)?;
            }
        }
        Ok(())
    }
}

/// From `/proc/PID/stat`. The second field is the program's name, which may hold anything, a parenthesis included.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

/// From `/proc/PID/status`, which counts in kB.
fn bytes_of(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// From `/proc/PID/limits`: the soft one.
fn most_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_a_name_that_looks_like_the_end_of_one() {
        let stat = "7 (a) R 1) S 1 7 7 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 8 0 1234 1000 200 18446744073709551615\n";
        assert_eq!(cpu_seconds(stat), Some(3.25));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn memory_and_limits_are_read_and_what_is_not_there_is_left_out() {
        let status = "Name:\tspillway\nVmSize:\t  123456 kB\nVmRSS:\t   34567 kB\n";
        assert_eq!(bytes_of(status, "VmRSS:"), Some(34567.0 * 1024.0));
        assert_eq!(bytes_of(status, "VmSwap:"), None);
        let limits = "Max cpu time   unlimited  unlimited  seconds\nMax open files            1024                 524288               files\n";
        assert_eq!(most_files(limits), Some(1024.0));
        assert_eq!(most_files("Max open files  unlimited  unlimited  files"), None);
    }
}
