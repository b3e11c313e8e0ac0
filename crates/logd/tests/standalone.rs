//! The logger of one service, and its directories beside genuine s6.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Lines, has_s6, lines_of, program, unstamped};
use gatevisor_logd::{DirError, LogDir, LogLimits};
use gatevisor_logreader::{Clock, Directory, Pick, ReadOptions, ReaderEvent, run};
use gatevisor_wire::tai::Tai64n;
use rustix::process::{Pid, Signal, kill_process};

/// A `log/` directory with settings, and the logger that they are for.
struct Logger {
    temp: tempfile::TempDir,
}

impl Logger {
    fn new(more: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let log = temp.path().join("gateway-coder/log");
        fs::create_dir_all(&log).unwrap();
        fs::write(log.join("run"), format!("#!/x log\ndirectory = \"../../kept\"\n{more}")).unwrap();
        Self { temp }
    }

    fn kept(&self) -> PathBuf {
        self.temp.path().join("kept")
    }

    fn start(&self) -> Child {
        self.start_with("exec \"$0\" log ./run gateway-coder/log")
    }

    fn start_with(&self, script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .arg(program())
            .current_dir(self.temp.path().join("gateway-coder/log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs the logger over `input`; returns what it showed.
    fn log(&self, input: &[u8]) -> String {
        let mut child = self.start();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(output.stderr, b"", "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn texts(directory: &Path) -> Vec<String> {
    lines_of(directory).iter().map(|line| unstamped(line).to_owned()).collect()
}

fn now() -> Tai64n {
    Tai64n::now_from(std::time::SystemTime::now())
}

fn s6_log(directory: &Path, input: &str) -> bool {
    let mut child = Command::new("s6-log")
        .args(["n10", "s4096", "T"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Broken when it could not start.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait().unwrap().success()
}

fn archives(directory: &Path) -> usize {
    let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().starts_with('@')).count()
}

#[test]
fn standard_input_is_kept_and_shown_to_its_end() {
    let logger = Logger::new("");
    assert_eq!(logger.log(b"one\ntwo"), "coder | one\ncoder | two\n");
    assert_eq!(texts(&logger.kept()), ["one", "two"]);
    assert_eq!(fs::metadata(logger.kept().join("current")).unwrap().mode() & 0o777, 0o744);
    assert_eq!(logger.log(b"three\n"), "coder | three\n");
    assert_eq!(texts(&logger.kept()), ["one", "two", "three"]);
    assert_eq!(archives(&logger.kept()), 0);
}

#[test]
fn a_term_ends_it_once_the_pipe_is_empty() {
    let logger = Logger::new("");
    let mut child = logger.start();
    let mut stdin = child.stdin.take().unwrap();
    let mut shown = Lines::new(child.stdout.take().unwrap().into());
    stdin.write_all(b"one\n").unwrap();
    shown.expect("coder | one");
    // Both are there when it looks. It may see them in any order.
    stdin.write_all(b"two\nthree").unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(shown.rest(), ["coder | two", "coder | three"]);
    assert_eq!(texts(&logger.kept()), ["one", "two", "three"]);
}

#[test]
fn a_bad_file_says_why() {
    for (more, exit, why) in [
        ("size = 1\n", 100, "gatevisor: log: cannot start: cannot use log/run: `size`: must be at least"),
        ("label = \"${\"\nkeep = -1", 100, "gatevisor: log: cannot start: cannot use log/run: line 4: "),
    ] {
        let output = Logger::new(more).start().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit));
        assert!(said.starts_with(why) && said.matches('\n').count() == 1, "{said}");
    }
}

#[test]
fn root_keeps_logs_as_the_owner_of_the_file() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        common::skip("only root can give files away");
        return;
    }
    let nobody = gatevisor_sys::user::lookup(b"nobody").unwrap();
    let logger = Logger::new("");
    let run = logger.temp.path().join("gateway-coder/log/run");
    std::os::unix::fs::chown(&run, Some(nobody.uid), None).unwrap();
    std::os::unix::fs::chown(logger.temp.path(), Some(nobody.uid), None).unwrap();
    logger.log(b"one\n");
    assert_eq!(fs::metadata(logger.kept().join("current")).unwrap().uid(), nobody.uid);
}

/// Lines of 100 bytes with their stamp, numbered.
fn numbered(range: std::ops::Range<usize>) -> String {
    range.fold(String::new(), |text, number| text + &format!("{number:068}\n"))
}

#[test]
fn where_files_may_be_no_longer_than_a_limit_of_the_system_more_are_made_and_nobody_waits() {
    const LINES: usize = 5_000;
    let logger = Logger::new("size = 100000000\nkeep = 1000\nforward = \"off\"\n");
    let mut child = logger.start_with("ulimit -f 64; exec \"$0\" log ./run gateway-coder/log");
    let mut stdin = child.stdin.take().unwrap();
    let mut warned = Lines::new(child.stderr.take().unwrap().into());
    stdin.write_all(numbered(0..LINES).as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(warned.rest(), [""; 0]);
    let expected: Vec<String> = numbered(0..LINES).lines().map(str::to_owned).collect();
    assert!(texts(&logger.kept()) == expected, "every line is in a file, whole, once and in order");
    assert!(archives(&logger.kept()) >= 10, "{}", archives(&logger.kept()));
}

#[test]
fn s6_log_continues_our_directory_and_we_continue_its() {
    if !has_s6() {
        return;
    }
    let logger = Logger::new("size = 4096\nforward = \"off\"\n");
    let mut expected = Vec::new();
    for round in 0..6 {
        let text = numbered(round * 100..round * 100 + 100);
        expected.extend(text.lines().map(str::to_owned));
        if round % 2 == 0 {
            logger.log(text.as_bytes());
        } else {
            assert!(s6_log(&logger.kept(), &text), "s6-log takes over");
        }
    }
    // Both delete archives, so what is found is the end, without a gap.
    let found = texts(&logger.kept());
    assert!(found.len() > 300 && expected.ends_with(&found), "{}", found.len());
    assert!(archives(&logger.kept()) <= 10);
    let unclean = fs::read_dir(logger.kept())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|suffix| suffix == "u"));
    assert_eq!(unclean.count(), 0, "each closed it cleanly for the other");
}

#[test]
fn s6_log_and_we_respect_each_others_lock() {
    if !has_s6() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let limits = LogLimits { size: 100_000, keep: 3, ..LogLimits::default() };
    let open = || LogDir::open(rustix::fs::CWD, temp.path(), limits, now());
    let mut ours = open().unwrap();
    ours.write(b"ours\n", now()).unwrap();
    assert!(!s6_log(temp.path(), "theirs\n"), "s6-log does not get our lock");
    ours.close(now()).unwrap();

    // Now the other way round, with an s6-log that shows when it is running.
    let mut theirs = Command::new("s6-log")
        .args(["1", "n3", "s100000"])
        .arg(temp.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = theirs.stdin.take().unwrap();
    let mut shown = Lines::new(theirs.stdout.take().unwrap().into());
    stdin.write_all(b"theirs\n").unwrap();
    shown.expect("theirs");
    assert_eq!(open().unwrap_err(), DirError::Locked);
    drop(stdin);
    assert!(theirs.wait().unwrap().success());
    let mut ours = open().unwrap();
    ours.write(b"ours again\n", now()).unwrap();
    assert_eq!(lines_of(temp.path()), ["ours", "theirs", "ours again"]);
}

#[test]
fn the_standalone_logger_works_under_a_genuine_s6_svscan() {
    if !has_s6() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let service = temp.path().join("scan/gateway-coder");
    fs::create_dir_all(service.join("log")).unwrap();
    let script = |path: &Path, text: &str| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    script(&service.join("run"), "#!/bin/sh\necho started as $1\nexec sleep 1000\n");
    script(
        &service.join("log/run"),
        &format!("#!{} log\ndirectory = \"{}/kept\"\n", program().display(), temp.path().display()),
    );
    let mut scan =
        Command::new("s6-svscan").arg(temp.path().join("scan")).stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = Lines::new(scan.stdout.take().unwrap().into());
    let first = shown.next().unwrap();
    assert!(first.starts_with("coder | started as"), "{first}");
    // A restart of the service goes on in the same file.
    assert!(Command::new("s6-svc").arg("-t").arg(&service).status().unwrap().success());
    let directory = Directory { label: "x".into(), path: temp.path().join("kept"), clock: Clock::Utc };
    let options = ReadOptions { dirs: vec![directory], pick: Pick::default(), lines: None, follow: true };
    let mut seen = 0;
    run(&options, &mut |event| {
        let ReaderEvent::Line(line) = event else { return ControlFlow::Continue(()) };
        assert!(unstamped(&String::from_utf8_lossy(line.bytes)).starts_with("started as"));
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    kill_process(Pid::from_child(&scan), Signal::TERM).unwrap();
    assert!(scan.wait().unwrap().success());
    // The logger ends with its input, a moment after the scanner.
    shown.rest();
    assert_eq!(fs::metadata(temp.path().join("kept/current")).unwrap().mode() & 0o777, 0o744);
}
