//! Reading logs back, while somebody writes them.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use common::DEADLINE;
use gatevisor_logd::reader::{Options, ReadError, run, run_until};
use gatevisor_logd::{Limits, LogDir};
use gatevisor_wire::tai::Tai64n;

fn now() -> Tai64n {
    Tai64n::now_from(std::time::SystemTime::now())
}

fn writer(path: &Path, size: u64, keep: u32) -> LogDir {
    LogDir::open(rustix::fs::CWD, path, Limits { size, keep }, now()).unwrap()
}

fn options(dirs: &[&Path], lines: Option<usize>, follow: bool) -> Options {
    let label = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    Options { dirs: dirs.iter().map(|path| (label(path), path.to_path_buf())).collect(), lines, follow }
}

/// The lines that a reader that does not follow gives, as `label:line`.
fn read(dirs: &[&Path], lines: Option<usize>) -> Vec<String> {
    let mut found = Vec::new();
    run(&options(dirs, lines, false), &mut |label, line| {
        found.push(format!("{label}:{}", String::from_utf8_lossy(line)));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

struct Follower {
    lines: Receiver<String>,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<Result<(), ReadError>>>,
}

impl Follower {
    fn start(options: Options) -> Self {
        let (sender, lines): (Sender<String>, _) = channel();
        let (watched, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let thread = std::thread::spawn(move || {
            run_until(&options, Some(watched.as_fd()), &mut |label, line| match sender
                .send(format!("{label}:{}", String::from_utf8_lossy(line)))
            {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        });
        Self { lines, stop: Some(stop), thread: Some(thread) }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(DEADLINE).unwrap()
    }

    fn expect(&self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.next(), *line);
        }
    }

    /// Ends the follower and returns what it gave and nobody took.
    fn end(mut self) -> Vec<String> {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap().unwrap();
        self.lines.try_iter().collect()
    }
}

#[test]
fn the_last_lines_come_from_archives_too() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("coder");
    let mut dir = writer(&path, 30, 10);
    for number in 0..20 {
        dir.write(format!("line {number:04}\n").as_bytes(), now()).unwrap();
    }
    dir.write(b"rest", now()).unwrap();
    let all: Vec<String> =
        (0..20).map(|n| format!("coder:line {n:04}")).chain(["coder:rest".to_owned()]).collect();
    assert!(fs::read_dir(&path).unwrap().count() > 6, "several archives");
    for wanted in [0, 1, 2, 3, 4, 7, 20, 21, 500] {
        let expected = all[all.len().saturating_sub(wanted)..].to_vec();
        assert_eq!(read(&[&path], Some(wanted)), expected, "{wanted}");
    }
    assert_eq!(read(&[&path], None), all);
}

#[test]
fn a_directory_that_is_not_there_has_no_lines() {
    assert_eq!(read(&[Path::new("/nowhere/at/all")], Some(10)), [""; 0]);
    let temp = tempfile::tempdir().unwrap();
    assert_eq!(read(&[temp.path()], None), [""; 0]);
}

#[test]
fn several_directories_are_merged_by_their_stamps() {
    let temp = tempfile::tempdir().unwrap();
    let (a, b) = (temp.path().join("a"), temp.path().join("b"));
    fs::create_dir(&a).unwrap();
    fs::create_dir(&b).unwrap();
    fs::write(
        a.join("current"),
        "2026-11-20 10:00:00.000000001  one\n\tat continued\n2026-11-20 10:00:05.000000000  four\n",
    )
    .unwrap();
    let stamp = |secs| Tai64n::from_unix(secs, 0);
    // 10:00:02 and, from a clock that was set back, 09:59:00; a directory's own order stays.
    fs::write(b.join("current"), format!("{} two\n{} three\n", stamp(1_795_168_802), stamp(1_795_168_740)))
        .unwrap();
    let found: Vec<String> = read(&[&b, &a], None)
        .iter()
        .map(|line| line.rsplit([' ', '\t']).next().unwrap().to_owned())
        .collect();
    assert_eq!(found, ["one", "continued", "two", "three", "four"]);
}

#[test]
fn following_goes_on_across_rotation_without_a_gap_or_a_repeat() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("coder");
    let mut dir = writer(&path, 200, 5);
    dir.write(b"old 1\nold 2\nold 3\nhal", now()).unwrap();
    let follower = Follower::start(options(&[&path], Some(2), true));
    follower.expect(&["coder:old 2", "coder:old 3"]);
    dir.write(b"f\n", now()).unwrap();
    follower.expect(&["coder:half"]);
    for number in 0..2000 {
        dir.write(format!("number {number}\n").as_bytes(), now()).unwrap();
        // Neither far ahead, or archives are deleted unread, nor in lockstep.
        if number % 20 == 19 {
            for expected in number - 19..=number {
                follower.expect(&[&format!("coder:number {expected}")]);
            }
        }
    }
    assert_eq!(follower.end(), [""; 0]);
}

#[test]
fn following_a_writer_at_full_speed_misses_and_repeats_nothing() {
    const LINES: usize = 20_000;
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("coder");
    let follower = Follower::start(options(&[&path], None, true));
    let thread = std::thread::spawn({
        let path = path.clone();
        move || {
            // Nothing is deleted, so nothing may be missing however far behind the follower is.
            let mut dir = writer(&path, 1000, 100_000);
            for number in 0..LINES {
                dir.write(format!("number {number}\n").as_bytes(), now()).unwrap();
            }
        }
    });
    // All lines, whether they were there before following began or came after.
    let mut others = Vec::new();
    for number in 0..LINES {
        assert_eq!(follower.next(), format!("coder:number {number}"));
        if number % 2000 == 1000 {
            // Whoever comes later begins in the middle of rotations.
            others.push(Follower::start(options(&[&path], None, true)));
        }
    }
    for other in others {
        for number in 0..LINES {
            assert_eq!(other.next(), format!("coder:number {number}"));
        }
        assert_eq!(other.end(), [""; 0]);
    }
    thread.join().unwrap();
    assert_eq!(follower.end(), [""; 0]);
}

#[test]
fn following_goes_on_across_restarts_and_crashes_of_the_writer() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("coder");
    let follower = Follower::start(options(&[&path], None, true));
    for round in 0..30 {
        let mut dir = writer(&path, 100, 50);
        dir.write(format!("start {round}\nno newline {round}").as_bytes(), now()).unwrap();
        if round % 2 == 0 {
            dir.close(now()).unwrap();
        } else {
            drop(dir);
        }
    }
    writer(&path, 100, 50).write(b"end\n", now()).unwrap();
    for round in 0..30 {
        follower.expect(&[&format!("coder:start {round}"), &format!("coder:no newline {round}")]);
    }
    follower.expect(&["coder:end"]);
    assert_eq!(follower.end(), [""; 0]);
}

#[test]
fn a_directory_that_does_not_exist_yet_is_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b/coder");
    let other = temp.path().join("other");
    let follower = Follower::start(options(&[&path, &other], Some(10), true));
    let mut dir = writer(&other, 1000, 1);
    dir.write(b"here\n", now()).unwrap();
    follower.expect(&["other:here"]);
    writer(&path, 1000, 1).write(b"one\n", now()).unwrap();
    follower.expect(&["coder:one"]);
    // Removed with all it is in, and made again.
    fs::remove_dir_all(temp.path().join("a")).unwrap();
    writer(&path, 1000, 1).write(b"two\n", now()).unwrap();
    follower.expect(&["coder:two"]);
    fs::remove_dir_all(&path).unwrap();
    writer(&path, 1000, 1).write(b"three\n", now()).unwrap();
    follower.expect(&["coder:three"]);
    fs::rename(&path, temp.path().join("elsewhere")).unwrap();
    writer(&path, 1000, 1).write(b"four\n", now()).unwrap();
    follower.expect(&["coder:four"]);
    // A directory that is removed while its writer has files open in it is not reported as removed.
    let held = fs::File::open(path.join("current")).unwrap();
    fs::remove_dir_all(temp.path().join("a")).unwrap();
    writer(&path, 1000, 1).write(b"five\n", now()).unwrap();
    follower.expect(&["coder:five"]);
    drop(held);
    dir.write(b"still\n", now()).unwrap();
    follower.expect(&["other:still"]);
    assert_eq!(follower.end(), [""; 0]);
}

#[test]
fn many_directories_are_followed_in_the_order_of_arrival() {
    let temp = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..50).map(|n| temp.path().join(format!("p{n}"))).collect();
    let borrowed: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let mut dirs: Vec<LogDir> = paths.iter().map(|path| writer(path, 1000, 1)).collect();
    let follower = Follower::start(options(&borrowed, Some(0), true));
    // The first line shows that following has begun; before that, lines count as old.
    dirs[0].write(b"begin\n", now()).unwrap();
    while !follower.lines.try_iter().any(|line| line == "p0:begin") {
        dirs[0].write(b"begin\n", now()).unwrap();
        if follower.lines.recv_timeout(Duration::from_millis(10)).is_ok() {
            break;
        }
    }
    dirs[0].write(b"begun\n", now()).unwrap();
    while follower.next() != "p0:begun" {}
    for (number, dir) in dirs.iter_mut().enumerate().rev() {
        dir.write(b"line\n", now()).unwrap();
        follower.expect(&[&format!("p{number}:line")]);
    }
    assert_eq!(follower.end(), [""; 0]);
}

#[test]
fn s6_logs_way_of_rotating_is_followed_as_well() {
    const LINES: usize = 20_000;
    if !common::has_s6() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("coder");
    let follower = Follower::start(options(&[&path], None, true));
    let mut s6_log = std::process::Command::new("s6-log")
        .args(["n10000", "s4096"])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = s6_log.stdin.take().unwrap();
    let thread = std::thread::spawn(move || {
        for number in 0..LINES {
            writeln!(input, "line number {number}").unwrap();
        }
    });
    for number in 0..LINES {
        assert_eq!(follower.next(), format!("coder:line number {number}"));
    }
    thread.join().unwrap();
    assert!(s6_log.wait().unwrap().success());
    assert_eq!(follower.end(), [""; 0]);
}

#[test]
fn whoever_has_enough_gets_no_more() {
    let temp = tempfile::tempdir().unwrap();
    writer(temp.path(), 1000, 1).write(b"one\ntwo\n", now()).unwrap();
    let mut count = 0;
    for follow in [false, true] {
        run(&options(&[temp.path()], None, follow), &mut |_, _| {
            count += 1;
            ControlFlow::Break(())
        })
        .unwrap();
    }
    assert_eq!(count, 2);
}
