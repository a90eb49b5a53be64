//! TCP connections of a process, from `/proc`.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// A connection that is established, as `/proc` says it.
const ESTABLISHED: &str = "01";

/// How many established connections a process has to the port of `address`.
pub fn to(process: u32, address: &str) -> usize {
    let Some(port) = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()) else {
        return 0;
    };
    let own = sockets(&Path::new("/proc").join(process.to_string()).join("fd"));
    ["tcp", "tcp6"]
        .iter()
        .filter_map(|file| fs::read_to_string(format!("/proc/{process}/net/{file}")).ok())
        .map(|table| count(&table, port, &own))
        .sum()
}

/// The inodes of all sockets that a process has open.
fn sockets(folder: &Path) -> HashSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

fn count(table: &str, port: u16, own: &HashSet<String>) -> usize {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let remote = fields.get(2)?.rsplit_once(':')?.1;
        let ours = own.contains(*fields.get(9)?) && *fields.get(3)? == ESTABLISHED;
        Some(ours && u16::from_str_radix(remote, 16).ok()? == port)
    };
    table.lines().skip(1).filter(|text| line(text) == Some(true)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_established_connections_of_the_process_to_the_port_count() {
        let table = "  sl  local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode\n\
             0: 0100007F:A000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000 0 0 11 1\n\
             1: 0100007F:A001 0100007F:1F90 06 00000000:00000000 00:00000000 00000000 0 0 12 1\n\
             2: 0100007F:A002 0100007F:0050 01 00000000:00000000 00:00000000 00000000 0 0 13 1\n\
             3: 0100007F:A003 0100007F:1F90 01 00000000:00000000 00:00000000 00000000 0 0 99 1\n";
        let own = ["11", "12", "13"].map(str::to_owned).into();
        assert_eq!(count(table, 8_080, &own), 1);
    }
}
