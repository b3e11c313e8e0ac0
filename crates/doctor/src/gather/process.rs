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
