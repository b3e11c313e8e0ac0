//! *Lives here:* what `/proc` tells about a process besides its numbers.
//!
//! *Does not live here:* those numbers (`gatevisor-sys`); signals.

use std::path::Path;
use std::time::{Duration, SystemTime};

use gatevisor_gateways::read_bounded;
use gatevisor_sys::proc::Process;

/// The most bytes of a file of `/proc` that are read.
const BYTES: usize = 1 << 20;
/// The greatest difference between two clocks and a file system.
const SLACK: Duration = Duration::from_secs(2);

fn file(pid: i32, name: &str) -> Option<Vec<u8>> {
    read_bounded(Path::new(&format!("/proc/{pid}/{name}")), BYTES).ok()?
}

/// Returns the name of a process, if there is one.
pub(crate) fn name(pid: i32) -> Option<String> {
    Some(String::from_utf8_lossy(file(pid, "comm")?.trim_ascii_end()).into_owned())
}

/// Returns the user that a process runs as.
pub(super) fn owner(pid: i32) -> Option<u32> {
    let status = file(pid, "status")?;
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    // The second one is the effective user.
    str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Returns the command line of a process; no words if there is no such process.
pub fn words(pid: i32) -> Vec<String> {
    let line = file(pid, "cmdline").unwrap_or_default();
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The unit in whose control group a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdUnit {
    /// As `systemctl` names it.
    pub name: String,
    /// Whether the service manager of a user runs it.
    pub is_users: bool,
}

/// Returns the unit of systemd whose control group a process is in.
pub fn unit(pid: i32) -> Option<SystemdUnit> {
    unit_in(&String::from_utf8_lossy(&file(pid, "cgroup")?))
}

/// Returns the unit in the text of `/proc/PID/cgroup`. A group below that of a unit is another's.
fn unit_in(cgroup: &str) -> Option<SystemdUnit> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut units = paths.filter_map(|path| {
        let (above, name) = path.rsplit_once('/')?;
        let is_users = above.split('/').any(|part| part.starts_with("user@"));
        name.ends_with(".service").then(|| SystemdUnit { name: name.to_owned(), is_users })
    });
    units.next()
}

/// Returns whether a process began before that moment, within the precision of the clocks.
pub(super) fn began_before(process: &Process, moment: SystemTime) -> bool {
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_add(SLACK);
    i64::try_from(since.as_millis()).is_ok_and(|moment_ms| process.began_unix_ms() <= moment_ms)
}

/// Returns whether a process writes logs: our log daemon, our stand-alone logger, or s6-log.
pub(super) fn is_logger(pid: i32) -> bool {
    let words = words(pid);
    let called = words.first().map(|word| Path::new(word).file_name().unwrap_or_default().to_owned());
    let called = called.unwrap_or_default();
    let verb = words.get(1).map(String::as_str);
    called == "s6-log"
        || name(pid).is_some_and(|name| name == "s6-log")
        || matches!(verb, Some("logd" | "log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_process_is_the_last_part_of_its_control_group() {
        let user = "/user.slice/user-1000.slice/user@1000.service";
        for (cgroup, expected) in [
            ("0::/system.slice/hermes-gateway.service\n".to_owned(), Some("hermes-gateway.service")),
            (format!("0::{user}/app.slice/hermes-gateway.service"), Some("hermes-gateway.service")),
            (format!("1:name=systemd:{user}/a.service\n0::/\n"), Some("a.service")),
            (format!("0::{user}/app.slice/terminal.scope"), None),
            ("0::/system.slice/a.service/own".to_owned(), None),
            ("0::/".to_owned(), None),
            (String::new(), None),
        ] {
            let found = unit_in(&cgroup);
            assert_eq!(found.as_ref().map(|unit| &*unit.name), expected, "{cgroup}");
            assert_eq!(found.is_some_and(|unit| unit.is_users), expected.is_some() && cgroup.contains(user));
        }
    }

    #[test]
    fn a_process_has_a_name_words_and_a_beginning() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(name(me).is_some() && !words(me).is_empty());
        let process = Process::of(me).unwrap();
        assert!(began_before(&process, SystemTime::now()));
        assert!(!began_before(&process, SystemTime::UNIX_EPOCH));
        assert!(!is_logger(me));
        assert_eq!((name(-1), words(-1)), (None, vec![String::new()]));
    }
}
