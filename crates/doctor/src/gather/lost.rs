//! *Lives here:* the supervisor of a home whose scandir was removed or moved while it ran.
//!
//! *Does not live here:* what to do about it.
//!
//! Nobody reaches such a supervisor through its scandir, and it keeps the lock of the home.

use std::path::{Path, PathBuf};

use gatevisor_gateways::earlier::LastScandir;
use gatevisor_gateways::{open_lock, profile};
use rustix::fs::{CWD, readlinkat};

use super::{locks, process};

/// Returns the scandir of a supervisor that `up` became, from its command line.
pub fn scandir_of(words: &[String]) -> Option<PathBuf> {
    let is_ups =
        words.get(1).is_some_and(|verb| verb == "supervise") && !words.iter().any(|word| word == "--");
    words.last().filter(|_| is_ups).map(PathBuf::from)
}

/// Returns whether a process sees the same files as this one, so that its paths mean the same here.
pub fn sees_our_files(pid: i32) -> bool {
    let mounts = |process: &str| readlinkat(CWD, format!("/proc/{process}/ns/mnt"), Vec::new()).ok();
    mounts(&pid.to_string()).is_some_and(|its| Some(its) == mounts("self"))
}

/// Returns the process that holds the lock of a home for a scandir that was removed or moved since.
///
/// The home notes that scandir before the supervisor begins, so one that is just starting does not
/// count.
pub fn lost_supervisor(home: &Path) -> Option<i32> {
    let last = LastScandir::noted_at(home).filter(LastScandir::is_gone)?;
    let pid = locks::holder_of(&open_lock(&home.join(profile::LOCK))?)?.pid;
    let is_its = scandir_of(&process::words(pid)).is_some_and(|scandir| scandir == last.path);
    (is_its && sees_our_files(pid)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scandir_of_a_supervisor_is_its_last_word_unless_others_follow() {
        let scandir = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            scandir_of(&words)
        };
        assert_eq!(scandir("gatevisor supervise --grace-ms 30000 /s"), Some("/s".into()));
        for line in ["gatevisor supervise --command-fd 3 /s -- main-wrapper.sh", "gatevisor up", "flock"] {
            assert_eq!(scandir(line), None, "{line}");
        }
    }
}
