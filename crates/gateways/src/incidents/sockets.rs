//! What is behind the sockets that a process has open.
//!
//! *Lives here:* reading the kernel's tables. *Does not live here:* which sockets a process has.
//!
//! **Source:** `proc_pid_net(5)`, and the kernel's `proc_net_tcp`.

use std::collections::HashMap;
use std::path::PathBuf;

use gatevisor_sys::tcp::address_as_written as address;

use crate::files::read_bounded;

/// The most bytes of one table that are read. A socket in the rest is shown by its number only.
const TABLE_BYTES: usize = 4 << 20;
/// States of TCP by their numbers.
const STATES: [&str; 13] = [
    "?",
    "connected",
    "is connecting",
    "is connecting",
    "closes",
    "closes",
    "time-wait",
    "closed",
    "close-wait",
    "last-ack",
    "listens",
    "closes",
    "is connecting",
];

/// The sockets of a network name space, by the number that a link of `/proc/PID/fd` has.
#[derive(Debug, Default)]
pub(super) struct SocketTable(HashMap<String, String>);

impl SocketTable {
    /// Returns the sockets that a process can see.
    pub(super) fn of(pid: i32) -> Self {
        let mut all = HashMap::new();
        for protocol in ["tcp", "tcp6", "udp", "udp6"] {
            let table = table(pid, protocol);
            all.extend(table.lines().skip(1).filter_map(|line| internet(protocol, line)));
        }
        all.extend(table(pid, "unix").lines().skip(1).filter_map(local));
        Self(all)
    }

    /// Returns what is known of the socket that a link leads to, such as `socket:[4711]`.
    pub(super) fn named(&self, link: &str) -> Option<&str> {
        let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
        self.0.get(inode).map(String::as_str)
    }
}

fn table(pid: i32, name: &str) -> String {
    let path: PathBuf = format!("/proc/{pid}/net/{name}").into();
    let bytes = read_bounded(&path, TABLE_BYTES).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the number of a socket, and its ends.
fn internet(protocol: &str, line: &str) -> Option<(String, String)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (own, other) = (address(words.get(1)?)?, address(words.get(2)?)?);
    let number = usize::from_str_radix(words.get(3)?, 16).ok()?;
    let state = if protocol.starts_with("tcp") { STATES.get(number).copied().unwrap_or("?") } else { "" };
    let ends = if other.port() == 0 {
        format!("{protocol} {own} {state}")
    } else {
        format!("{protocol} {own} {state}, {other}")
    };
    Some(((*words.get(9)?).to_owned(), ends.trim_end().to_owned()))
}

/// Returns the number of a local socket, and its path.
fn local(line: &str) -> Option<(String, String)> {
    let mut words = line.split_ascii_whitespace();
    let inode = words.nth(6)?.to_owned();
    let path = words.collect::<Vec<_>>().join(" ");
    Some((inode, if path.is_empty() { "unix".to_owned() } else { format!("unix {path}") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_socket_are_shown() {
        let line = "  0: 0100007F:21C2 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 x";
        // The test's line comes from a little-endian kernel.
        if cfg!(target_endian = "little") {
            assert_eq!(internet("tcp", line).unwrap(), ("4711".into(), "tcp 127.0.0.1:8642 listens".into()));
            let six = "00000000000000000000000001000000:0016";
            assert_eq!(address(six).unwrap().to_string(), "[::1]:22");
        }
        let line = "0000000000000000: 00000002 00000000 00010000 0001 01 815 /run/a b.sock";
        assert_eq!(local(line).unwrap(), ("815".into(), "unix /run/a b.sock".into()));
        for wrong in ["", "x", "0: x:y 0:0 0A", "0: 0100007F:21C2 0100007F"] {
            assert_eq!(internet("tcp", wrong), None, "{wrong}");
        }
    }
}
