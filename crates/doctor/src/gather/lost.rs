//! *Lives here:* the supervisor of a home whose scandir was removed or moved while it ran.
//!
//! *Does not live here:* what to do about it.
//!
//! Nobody reaches such a supervisor through its scandir, and it keeps the lock of the home.

use std::fs;
use std::path::{Path, PathBuf};

use gatevisor_gateways::earlier::LastScandir;
use gatevisor_gateways::{open_lock, profile};
use gatevisor_wire::files;
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
    let last = LastScandir::noted_at(home)?;
    let pid = locks::holder_of(&open_lock(&home.join(profile::LOCK))?)?.pid;
    let is_its = scandir_of(&process::words(pid)).is_some_and(|scandir| scandir == last.path);
    let is_lost = || sees_our_files(pid) && (last.is_gone() || has_removed_files(pid) == Some(true));
    (is_its && is_lost()).then_some(pid)
}

/// Returns whether a process has files of a scandir open that were removed, if we may look. Whoever
/// removes a scandir while gateways end may leave the directory itself.
fn has_removed_files(pid: i32) -> Option<bool> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let mut links = files.filter_map(|file| readlinkat(CWD, file.path(), Vec::new()).ok());
    Some(links.any(|link| is_removed(link.as_bytes())))
}

/// Returns whether the link of an open file in `/proc` is that of a supervisor's removed file.
///
/// **Source:** `/proc/PID/fd` in proc(5).
fn is_removed(link: &[u8]) -> bool {
    let files = [files::SVSCAN_CONTROL, files::SVSCAN_LOCK, files::SVSCAN_OURS];
    files.iter().any(|file| link.ends_with(format!("/{file} (deleted)").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_file_of_a_supervisor_is_known_by_its_link() {
        assert!(is_removed(b"/h/run/service/.s6-svscan/lock (deleted)"));
        for link in ["/h/run/service/.s6-svscan/lock", "/h/current (deleted)", "pipe:[77]"] {
            assert!(!is_removed(link.as_bytes()), "{link}");
        }
    }

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
