//! What the bench ran on, from `/proc`.

use std::fs;

/// The machine, in one line.
pub fn facts() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = kibibytes(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0.0) / 1024.0 / 1024.0;
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(|| "unnamed CPU".to_owned(), |(_, name)| name.trim().to_owned());
    format!("{cores} cores ({model}), {memory:.0} GiB, Linux {}", kernel.trim())
}

/// How many processes wanted a core over the last minute, and over the last five and fifteen.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// A field of `/proc/meminfo` or `/proc/PID/status`.
pub fn kibibytes(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "VmPeak:\t  900 kB\nVmRSS:\t   20480 kB\nThreads:\t4\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(20_480.0));
        assert_eq!(kibibytes(status, "Threads:"), None);
        assert_eq!(kibibytes(status, "VmHWM:"), None);
    }
}
