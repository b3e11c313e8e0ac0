//! *Lives here:* the memory of services, from one pass over all processes.
//!
//! *Does not live here:* anything else about processes.

use std::collections::HashMap;
use std::fs;

use gatevisor_wire::Pid;
use rustix::param::page_size;

use crate::files::read_bounded;
use crate::marker::fields_of_stat;

/// Place of the session among the fields behind the program's name.
///
/// **Source:** proc(5): fields 6 and 24 of all, of which two come first.
const SESSION: usize = 3;
/// Place of the resident pages, counted from behind the session.
const RESIDENT_AFTER_SESSION: usize = 17;
/// Bytes of `/proc/<pid>/stat` at the most.
const STAT_BYTES: usize = 4096;

/// What the processes of one session use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Resident memory in bytes; pages shared between its processes count once for each.
    pub memory_bytes: u64,
    /// How many processes there are.
    pub processes: u32,
}

/// Returns what the sessions led by these processes use.
///
/// A supervised service leads a session of its own. Those of which nothing can be seen are left out.
pub fn resident_by_session(leaders: &[Pid]) -> HashMap<Pid, Usage> {
    let mut found: HashMap<Pid, Usage> = HashMap::new();
    let wanted: HashMap<i32, Pid> = leaders.iter().map(|pid| (pid.get(), *pid)).collect();
    if wanted.is_empty() {
        return found;
    }
    let page = u64::try_from(page_size()).unwrap_or(4096);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(Some(stat)) = read_bounded(&entry.path().join("stat"), STAT_BYTES) else { continue };
        let Some((session, pages)) = session_and_pages(&stat) else { continue };
        let Some(leader) = wanted.get(&session) else { continue };
        let usage = found.entry(*leader).or_default();
        usage.memory_bytes = usage.memory_bytes.saturating_add(pages.saturating_mul(page));
        usage.processes = usage.processes.saturating_add(1);
    }
    found
}

fn session_and_pages(stat: &[u8]) -> Option<(i32, u64)> {
    let mut fields = fields_of_stat(stat)?;
    let session = fields.nth(SESSION)?.parse().ok()?;
    let pages = fields.nth(RESIDENT_AFTER_SESSION)?.parse().ok()?;
    Some((session, pages))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn session_and_pages_are_found_behind_any_name() {
        let stat = b"7 (x y) R 1 2 3 0 -1 4 1 0 0 0 1 2 0 0 20 0 1 0 12345 99 1234 18446744073709551615\n";
        assert_eq!(session_and_pages(stat), Some((3, 1234)));
        assert_eq!(session_and_pages(b"7 (x) R 1"), None);
    }

    #[test]
    fn a_session_uses_something() {
        // The session of the test itself may be led from outside of its PID namespace, where it has no number. The
        // shell stays what it is: in the middle of an exec a process has no memory.
        let mut child = Command::new("setsid")
            .args(["sh", "-c", "echo up; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert_eq!(first, "up\n");
        let leader = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
        let usage = resident_by_session(&[leader]);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(usage[&leader].memory_bytes > 100_000, "{usage:?}");
        assert_eq!(usage[&leader].processes, 1);
        assert!(resident_by_session(&[]).is_empty());
    }
}
