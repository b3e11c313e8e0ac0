//! A log directory that passes between us and the real s6-log, whoever was killed.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use common::{has_s6, lines_of, wait_readable};
use gatevisor_logd::{DirError, LogDir, LogLimits};
use gatevisor_slot::Compress;
use gatevisor_wire::tai::Tai64n;
use rustix::fs::inotify;

const LIMITS: LogLimits =
    LogLimits { size: 4096, keep: 5, total: u64::MAX, period_s: None, compress: Compress::None };

fn now() -> Tai64n {
    Tai64n::now_from(std::time::SystemTime::now())
}

fn ours(path: &Path) -> LogDir {
    LogDir::open(rustix::fs::CWD, path, LIMITS, now()).unwrap()
}

/// The real s6-log on a directory.
struct Theirs {
    child: Child,
    input: Option<ChildStdin>,
}

impl Theirs {
    fn start(path: &Path) -> Self {
        let mut child =
            Command::new("s6-log").args(["n5", "s4096"]).arg(path).stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        Self { child, input }
    }

    fn write(&mut self, text: &str) {
        self.input.as_ref().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// Writes a line, waits until it is in the file, and kills the process.
    fn end_by_force(mut self, path: &Path, text: &str) {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE).unwrap();
        self.write(text);
        while !fs::read_to_string(path.join("current")).unwrap_or_default().ends_with(text) {
            assert!(wait_readable(&watch), "s6-log did not write");
            rustix::io::read(&watch, &mut [0; 4096]).unwrap();
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(path: &Path, suffix: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('@') && name.ends_with(suffix))
        .collect();
    names.sort();
    names
}

#[test]
fn each_continues_a_directory_that_the_other_closed() {
    if !has_s6() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..4 {
        let text = format!("line {round}\n");
        if round % 2 == 0 {
            let mut dir = ours(temp.path());
            dir.write(text.as_bytes(), now()).unwrap();
            dir.close(now()).unwrap();
        } else {
            let mut theirs = Theirs::start(temp.path());
            theirs.write(&text);
            theirs.end();
        }
        expected.push(format!("line {round}"));
        assert_eq!(mode(&temp.path().join("current")), 0o744, "closed cleanly");
        assert_eq!(lines_of(temp.path()), expected);
    }
    assert_eq!(names(temp.path(), ""), [""; 0], "nothing was put away");
    let mut all: Vec<String> =
        fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    assert_eq!(all, ["current", "lock", "state"]);
}

#[test]
fn each_archives_what_the_other_left_when_it_was_killed() {
    if !has_s6() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    // Dropped without being closed, as a process that is killed drops it.
    let mut dir = ours(temp.path());
    dir.write(b"ours, torn", now()).unwrap();
    drop(dir);
    let theirs = Theirs::start(temp.path());
    theirs.end_by_force(temp.path(), "theirs, torn\n");
    assert_eq!(names(temp.path(), ".u").len(), 1, "s6-log put ours away");
    let mut dir = ours(temp.path());
    dir.write(b"ours\n", now()).unwrap();
    dir.close(now()).unwrap();
    let unclean = names(temp.path(), ".u");
    assert_eq!(unclean.len(), 2, "and we theirs");
    let read = |name: &String| fs::read_to_string(temp.path().join(name)).unwrap();
    assert_eq!(unclean.iter().map(read).collect::<Vec<_>>(), ["ours, torn", "theirs, torn\n"]);
    assert_eq!(lines_of(temp.path()), ["ours, torn", "theirs, torn", "ours"]);
}

#[test]
fn each_counts_the_archives_of_the_other() {
    if !has_s6() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let fill = |from: usize| (from..from + 200).map(|n| format!("{n:099}\n")).collect::<Vec<_>>().concat();
    let mut dir = ours(temp.path());
    dir.write(fill(0).as_bytes(), now()).unwrap();
    dir.close(now()).unwrap();
    assert_eq!(names(temp.path(), ".s").len(), 4);
    let mut theirs = Theirs::start(temp.path());
    theirs.write(&fill(200));
    theirs.end();
    assert_eq!(names(temp.path(), ".s").len(), 5, "s6-log deleted the oldest of ours");
    let mut dir = ours(temp.path());
    dir.write(fill(400).as_bytes(), now()).unwrap();
    dir.close(now()).unwrap();
    assert_eq!(names(temp.path(), ".s").len(), 5);
    let last: Vec<String> = lines_of(temp.path());
    assert_eq!(last.last().unwrap(), &format!("{:099}", 599));
}

#[test]
fn each_respects_the_lock_of_the_other() {
    if !has_s6() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let mut theirs = Theirs::start(temp.path());
    // A line in the file says that it has the lock.
    theirs.write("theirs\n");
    let path = temp.path();
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, path, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE).unwrap();
    while fs::read_to_string(path.join("current")).unwrap_or_default().is_empty() {
        assert!(wait_readable(&watch), "s6-log did not write");
        rustix::io::read(&watch, &mut [0; 4096]).unwrap();
    }
    assert_eq!(LogDir::open(rustix::fs::CWD, path, LIMITS, now()).unwrap_err(), DirError::Locked);
    theirs.end();
    let _dir = ours(path);
    let refused =
        Command::new("s6-log").arg(path).stdin(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(!refused.success());
}

#[test]
fn s6_log_goes_on_where_archives_are_compressed_and_leaves_them_alone() {
    if !has_s6() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let compressed = "@400000006b00d4d2075bcd15.s.zst";
    let frame = ruzstd::encoding::compress_to_vec(&b"old\n"[..], ruzstd::encoding::CompressionLevel::Fastest);
    fs::write(temp.path().join(compressed), &frame).unwrap();
    let mut dir = ours(temp.path());
    dir.write(b"ours\n", now()).unwrap();
    dir.close(now()).unwrap();
    let mut theirs = Theirs::start(temp.path());
    theirs.write("theirs\n");
    theirs.end();
    assert_eq!(lines_of(temp.path()), ["old", "ours", "theirs"]);
    // Ours counts them: five remain.
    let mut dir = ours(temp.path());
    for number in 0..300 {
        dir.write(format!("{number:099}\n").as_bytes(), now()).unwrap();
    }
    dir.close(now()).unwrap();
    assert_eq!(names(temp.path(), "").len(), 5);
    assert!(!temp.path().join(compressed).exists());
}
