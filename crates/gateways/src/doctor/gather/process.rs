//! *Lives here:* what `/proc` says of a process.
//!
//! *Does not live here:* signals.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::files::read_bounded;
use crate::marker::fields_of_stat;

/// Bytes of a file of `/proc` that are read at the most.
const BYTES: usize = 1 << 20;
/// Places of fields behind the program's name in `/proc/<pid>/stat`.
const SESSION: usize = 3;
const STARTED: usize = 19;
/// What two clocks and a file system may differ by.
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
    // The effective one is the second.
    str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Returns the words that a process was started with; none if there is no such process.
pub(crate) fn words(pid: i32) -> Vec<String> {
    let line = file(pid, "cmdline").unwrap_or_default();
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn field(pid: i32, place: usize) -> Option<u64> {
    fields_of_stat(&file(pid, "stat")?)?.nth(place)?.parse().ok()
}

/// Returns the first process of the session of a process.
pub(super) fn session(pid: i32) -> Option<i32> {
    i32::try_from(field(pid, SESSION)?).ok()
}

/// Returns when a process began, in the kernel's own ticks since the machine did.
pub(super) fn started(pid: i32) -> Option<u64> {
    field(pid, STARTED)
}

/// Returns whether a process began before that moment, as far as clocks agree.
pub(super) fn began_before(pid: i32, moment: SystemTime) -> bool {
    let began = || {
        let ticks = started(pid)?.checked_div(rustix::param::clock_ticks_per_second())?;
        let stat = read_bounded(Path::new("/proc/stat"), BYTES).ok()??;
        let boot = stat.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"btime "))?;
        let boot: u64 = str::from_utf8(boot).ok()?.trim().parse().ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(boot.checked_add(ticks)?))
    };
    began().is_none_or(|began| began <= moment.checked_add(SLACK).unwrap_or(moment))
}

/// Returns whether a process is one that writes logs: our log daemon, our stand-alone logger, or s6-log.
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
    fn a_process_has_a_name_words_and_a_beginning() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(
            name(me).is_some() && !words(me).is_empty() && started(me).is_some() && session(me).is_some()
        );
        assert!(began_before(me, SystemTime::now()));
        assert!(!began_before(me, SystemTime::UNIX_EPOCH));
        assert!(!is_logger(me));
        assert_eq!((name(-1), words(-1), session(-1)), (None, vec![String::new()], None));
    }
}
