//! `s6-log`: the same cases for Debian's program and for ours.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use proptest::prelude::*;
use rustix::process::Signal;
use tempfile::{TempDir, tempdir};

use crate::both::our_command;
use crate::support::{World, processes, waiting};

/// Who is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Theirs,
    Ours,
}

const BOTH: [Who; 2] = [Who::Theirs, Who::Ours];

/// What a run leaves: output, messages, exit code, and every file with its mode.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    out: String,
    said: String,
    code: Option<i32>,
    files: BTreeMap<String, (u32, String)>,
}

fn command(who: Who, dir: &Path, script: &[&str]) -> Command {
    let mut command = match who {
        Who::Theirs => Command::new("s6-log"),
        Who::Ours => our_command("s6-log"),
    };
    command.args(script).current_dir(dir).env("TZ", "UTC");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(dir: &Path, child: Child) -> Left {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Left {
        out: text(&output.stdout),
        said: text(&output.stderr),
        code: output.status.code(),
        files: files(dir),
    }
}

/// Returns the files below a directory. Archives are numbered, because their names are times.
fn files(dir: &Path) -> BTreeMap<String, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let mut archives = 0;
    for path in entries {
        let mut name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(file, what)| (format!("{name}/{file}"), what)));
            continue;
        }
        if name.starts_with('@') {
            name = format!("@{archives}{}", &name[25..]);
            archives += 1;
        }
        // A logger that works may rename files meanwhile.
        let (Ok(about), Ok(text)) = (path.metadata(), fs::read(&path)) else { continue };
        let mode = about.permissions().mode() & 0o7777;
        found.insert(name, (mode, String::from_utf8_lossy(&text).into_owned()));
    }
    found
}

fn ran_in(who: Who, dir: &Path, script: &[&str], input: &[u8]) -> Left {
    let mut child = command(who, dir, script).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A logger that refuses its script reads nothing.
    let _ = stdin.write_all(input);
    drop(stdin);
    finish(dir, child)
}

/// Checks that both leave the same, except for stamps, and returns it.
fn agree(script: &[&str], input: &[u8]) -> Left {
    let [theirs, ours] = BOTH.map(|who| {
        let dir = tempdir().unwrap();
        without_stamps(ran_in(who, dir.path(), script, input))
    });
    assert_eq!(ours, theirs, "{script:?}, ours first");
    ours
}

fn without_stamps(mut left: Left) -> Left {
    let texts = left.files.values_mut().map(|(_, text)| text).chain([&mut left.out, &mut left.said]);
    for text in texts {
        let mut stripped = String::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let is_tai = rest.starts_with("@4")
                && rest.get(1..25).is_some_and(|t| t.bytes().all(|b| b.is_ascii_hexdigit()));
            let is_iso = rest.len() > 29
                && rest.starts_with("20")
                && rest.as_bytes().get(4) == Some(&b'-')
                && rest.as_bytes().get(19) == Some(&b'.');
            if is_tai || is_iso {
                stripped.push_str(if is_tai { "TAI" } else { "ISO" });
                rest = &rest[if is_tai { 25 } else { 29 }..];
            } else {
                let end = rest.chars().next().unwrap().len_utf8();
                stripped.push_str(&rest[..end]);
                rest = &rest[end..];
            }
        }
        *text = stripped;
    }
    left
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn every_directive_does_what_it_does_in_s6() {
    let input = b"fatal: one\nSTAT two\nthree\n\nfour \xff\n";
    for script in [
        "./d",
        "1",
        "t 1",
        "T 1",
        "T t 1 1",
        "pab 1 p 1",
        "t pab T ./d 1",
        "- +a 1",
        "-- -fatal 1 f 2",
        "+ 1 - 1 f 1",
        "- +fatal: 2 - +^STAT =s f T ./d",
        "E5 2",
        "E7 2 E6 2 E0 2",
        "pab E3 2",
        "^5 =s",
        "^100 =s",
        "^0 =s",
        "^9 px =s",
        "n0 ./d",
        "n3 s4096 S5000 l1000 r500 ./d ./e",
        "-- -^[[:alpha:]]+$ ./d",
        "- +(o|u)r ./d 1",
        "- +a{,2}t 1",
        "- +) 1",
        "./d n5 t",
        "-q ./d +a",
        "-v 1",
        "-b ./d",
        "-p ./d 1",
        "-- 1",
        "1 1",
        "./d 1 +x ./e",
    ] {
        let left = agree(&words(script), input);
        assert_eq!(left.code, Some(0), "{script}: {left:?}");
    }
}

#[test]
fn a_bad_script_is_refused_in_the_same_words() {
    for script in [
        "x ./d",
        "f",
        "fx ./d",
        "t2 ./d",
        "n ./d",
        "nx ./d",
        "n-1 ./d",
        "n4294967296 ./d",
        "s1 l3000 1",
        "l60000 1",
        "1x",
        "=",
        "+( 1",
        "+* 1",
        "+a{ 1",
        "n5",
        "+a",
        "r 1",
        "E 1",
        "^x 1",
        "e",
        "2x",
        "R5 1",
        "-l",
        "-l x 1",
        "-d 2 1",
        "-d x 1",
        "-z",
        "-t 1",
        "-e 2",
        "",
    ] {
        let left = agree(&words(script), b"line\n");
        assert_eq!(left.code, Some(100), "{script}: {left:?}");
    }
    assert_eq!(agree(&[""], b"").code, Some(100));
}

#[test]
fn a_refusal_of_the_system_is_reported_with_exit_code_111() {
    for (prepare, script) in [("", "T ./no/d"), ("d", "./d")] {
        let [theirs, ours] = BOTH.map(|who| {
            let dir = tempdir().unwrap();
            if !prepare.is_empty() {
                fs::write(dir.path().join(prepare), "").unwrap();
            }
            ran_in(who, dir.path(), &words(script), b"line\n")
        });
        assert_eq!((ours.code, ours.said), (Some(111), theirs.said), "{script}");
    }
}

#[test]
fn a_script_whose_end_does_nothing_gets_a_warning() {
    let left = agree(&["1", "+a"], b"line\n");
    assert_eq!(left.said, "s6-log: warning: ignoring extraneous non-action directives\n");
}

#[test]
fn lines_are_cut_at_the_limit() {
    for length in [8191, 8192, 8193, 16_384, 16_385, 20_000] {
        let mut input = vec![b'a'; length];
        input.push(b'\n');
        agree(&["./d"], &input);
        agree(&["-l", "0", "1"], &input);
        agree(&["-l", "1", "1"], &input);
        agree(&["-l100", "1"], &input);
    }
}

/// A difference on purpose: s6-log 2.11 takes a NUL byte for the end of a line.
#[test]
fn a_nul_is_a_byte_as_any_other() {
    for (script, out) in [("-- -cd 1", "\0\n"), ("-- - +b.c 1", "ab\0cd\n"), ("./d 1", "ab\0cd\n\0\n")] {
        let dir = tempdir().unwrap();
        assert_eq!(ran_in(Who::Ours, dir.path(), &words(script), b"ab\0cd\n\0\n").out, out, "{script}");
    }
}

/// A difference on purpose: s6-log drops such a line.
#[test]
fn a_line_without_a_newline_is_no_loss() {
    let dir = tempdir().unwrap();
    assert_eq!(ran_in(Who::Ours, dir.path(), &["1", "./d"], b"a\nbc").out, "a\nbc\n");
    assert_eq!(files(dir.path())["d/current"], (0o744, "a\nbc\n".into()));
}

/// A logger whose input the test keeps open.
struct Logger {
    dir: TempDir,
    child: Child,
}

impl Logger {
    fn start(who: Who, script: &[&str]) -> Self {
        let dir = tempdir().unwrap();
        let child = command(who, dir.path(), script).spawn().unwrap();
        Self { dir, child }
    }

    /// Writes a text and waits until `current` ends with it.
    fn pass(&mut self, text: &str) {
        self.write(text);
        let dir = self.dir.path().join("d");
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        waiting::until(self.dir.path(), "the log directory", || dir.exists().then_some(()));
        waiting::until(&dir, "the line", || {
            fs::read_to_string(dir.join("current")).is_ok_and(|now| now.ends_with(whole)).then_some(())
        });
    }

    fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        processes::signal(i32::try_from(self.child.id()).unwrap(), signal);
    }

    fn archives(&self) -> usize {
        fs::read_dir(self.dir.path().join("d"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with('@'))
            .count()
    }

    fn until_archives(&self, count: usize) {
        waiting::until(&self.dir.path().join("d"), "an archive", || (self.archives() == count).then_some(()));
    }

    /// Waits for its end while its input is still open.
    fn ended(mut self) -> (TempDir, Left) {
        let input = self.child.stdin.take();
        let left = finish(self.dir.path(), self.child);
        drop(input);
        (self.dir, left)
    }
}

#[test]
fn sigalrm_rotates_what_is_not_empty_and_n_archives_are_kept() {
    for who in BOTH {
        let mut logger = Logger::start(who, &["n2", "./d"]);
        for (line, archives) in [("a\n", 1), ("b\n", 2)] {
            logger.pass(line);
            logger.signal(Signal::ALARM);
            logger.until_archives(archives);
        }
        logger.pass("c\n");
        logger.signal(Signal::ALARM);
        let dir = logger.dir.path().join("d");
        waiting::until(&dir, "the oldest to go", || {
            (files(&dir).get("@0.s").is_some_and(|(_, text)| text == "b\n")).then_some(())
        });
        logger.pass("d\n");
        logger.signal(Signal::TERM);
        let (_dir, left) = logger.ended();
        let expected = [
            ("d/@0.s", 0o744, "b\n"),
            ("d/@1.s", 0o744, "c\n"),
            ("d/current", 0o744, "d\n"),
            ("d/lock", 0o644, ""),
            ("d/state", 0o644, ""),
        ];
        let expected = expected.map(|(name, mode, text)| (name.to_owned(), (mode, text.to_owned())));
        assert_eq!((left.code, left.files), (Some(0), expected.into()), "{who:?}");
    }
}

#[test]
fn sigterm_and_sighup_end_it_after_the_line_that_has_begun() {
    for who in BOTH {
        for (options, signal) in [("./d", Signal::TERM), ("./d", Signal::HUP), ("-p ./d", Signal::HUP)] {
            let mut logger = Logger::start(who, &words(options));
            logger.pass("one\ntwo");
            logger.signal(signal);
            logger.write(" ends\n");
            let (_dir, left) = logger.ended();
            let current = &left.files["d/current"];
            assert_eq!((left.code, current), (Some(0), &(0o744, "one\ntwo ends\n".into())), "{who:?}");
        }
    }
    // A difference on purpose: s6-log 2.11 waits for the newline without a limit.
    let mut logger = Logger::start(Who::Ours, &["./d"]);
    logger.pass("one\ntwo");
    logger.signal(Signal::TERM);
    assert_eq!(logger.ended().1.files["d/current"].1, "one\ntwo\n");
}

#[test]
fn with_the_option_for_protection_s6_log_outlives_sigterm() {
    for who in BOTH {
        let mut logger = Logger::start(who, &["-p", "./d"]);
        logger.pass("one\n");
        logger.signal(Signal::TERM);
        logger.pass("two\n");
        logger.signal(Signal::HUP);
        assert_eq!(logger.ended().1.files["d/current"].1, "one\ntwo\n", "{who:?}");
    }
}

#[test]
fn either_continues_what_the_other_left() {
    for (first, second) in [(Who::Theirs, Who::Ours), (Who::Ours, Who::Theirs)] {
        let mut logger = Logger::start(first, &["./d"]);
        logger.pass("one\n");
        logger.signal(Signal::KILL);
        let (dir, _) = logger.ended();
        let left = ran_in(second, dir.path(), &["./d"], b"two\n");
        assert_eq!(left.files["d/@0.u"], (0o644, "one\n".into()));
        let left = ran_in(first, dir.path(), &["./d"], b"three\n");
        assert_eq!(left.files["d/current"], (0o744, "two\nthree\n".into()));
    }
}

#[test]
fn a_directory_has_one_writer() {
    for (first, second) in [(Who::Theirs, Who::Ours), (Who::Ours, Who::Theirs)] {
        let mut logger = Logger::start(first, &["./d"]);
        logger.pass("one\n");
        let left = ran_in(second, logger.dir.path(), &["./d"], b"two\n");
        let said = "s6-log: fatal: unable to lock ./d/lock: ";
        assert!(left.code == Some(111) && left.said.starts_with(said), "{second:?}: {left:?}");
        logger.signal(Signal::TERM);
        assert_eq!(logger.ended().1.files["d/current"].1, "one\n");
    }
}

#[test]
fn files_are_rotated_at_the_same_line() {
    let lines: Vec<String> = (0..300).map(|n| format!("line {n} {}\n", "x".repeat(n % 50))).collect();
    for script in ["s4096 l100 ./d", "s4096 n2 ./d", "s4096 l2048 S5000 n50 ./d"] {
        let [theirs, ours] = BOTH.map(|who| {
            let mut logger = Logger::start(who, &words(script));
            // Lines are written one at a time, because s6-log rotates after a whole buffer.
            for line in &lines {
                logger.write(line);
                let dir = logger.dir.path().join("d");
                waiting::until(logger.dir.path(), "the directory", || dir.exists().then_some(()));
                waiting::until(&dir, "the line", || newest(&dir).ends_with(line.as_str()).then_some(()));
            }
            logger.signal(Signal::TERM);
            logger.ended().1.files
        });
        assert_eq!(ours, theirs, "{script}");
    }
}

/// Returns what was written last: `current`, or the newest archive while `current` is empty.
fn newest(dir: &Path) -> String {
    let found = files(dir);
    let current = found.get("current").map(|(_, text)| text.clone()).unwrap_or_default();
    if !current.is_empty() {
        return current;
    }
    found.into_iter().rfind(|(name, _)| name.starts_with('@')).map(|(_, (_, text))| text).unwrap_or_default()
}

#[test]
fn a_processor_makes_the_archive_and_keeps_a_state() {
    for who in BOTH {
        // s6-log 2.11 closes descriptor 5 if the new state happens to have that number already.
        let state = if who == Who::Ours { "; cat <&4; echo new >&5" } else { "" };
        let command = format!("cat; echo shell{state}");
        for processor in [format!("?{command}"), format!("!/bin/sh -c \"{command}\"")] {
            let mut logger = Logger::start(who, &[&processor, "./d"]);
            for (line, archives) in [("one\n", 1), ("two\n", 2)] {
                logger.pass(line);
                logger.signal(Signal::ALARM);
                logger.until_archives(archives);
            }
            logger.signal(Signal::TERM);
            let files = logger.ended().1.files;
            let new = if who == Who::Ours { "new\n" } else { "" };
            assert_eq!(files["d/@0.s"], (0o744, "one\nshell\n".into()), "{who:?} {processor}");
            assert_eq!(files["d/@1.s"], (0o744, format!("two\nshell\n{new}")), "{who:?}");
            assert_eq!(files["d/state"].1, new, "{who:?}");
            assert!(!files.contains_key("d/previous") && !files.contains_key("d/processed"));
        }
    }
}

#[test]
fn a_processor_that_fails_is_run_again() {
    for who in BOTH {
        let mut logger = Logger::start(who, &["r50", "?cat; test -e ../go || { : > ../go; exit 3; }", "./d"]);
        logger.pass("one\n");
        logger.signal(Signal::ALARM);
        logger.until_archives(1);
        logger.signal(Signal::TERM);
        let left = logger.ended().1;
        assert_eq!(left.files["d/@0.s"].1, "one\n", "{who:?}");
        assert_eq!(left.said, "s6-log: warning: processor failed in ./d\n", "{who:?}");
    }
}

#[test]
fn a_closed_stdout_is_said_once_and_the_file_goes_on() {
    for who in BOTH {
        let dir = tempdir().unwrap();
        let mut child = command(who, dir.path(), &["1", "./d"]).spawn().unwrap();
        drop(child.stdout.take());
        let mut logger = Logger { dir, child };
        logger.pass("one\n");
        logger.pass("two\n");
        logger.signal(Signal::TERM);
        let left = logger.ended().1;
        assert_eq!(left.files["d/current"].1, "one\ntwo\n");
        let said =
            "s6-log: warning: unable to write to stdout, closing the stream - error was: Broken pipe\n";
        assert_eq!((left.code, &*left.said), (Some(0), said), "{who:?}");
    }
}

#[test]
fn s6_log_announces_its_readiness() {
    for who in BOTH {
        let dir = tempdir().unwrap();
        let fifo = waiting::fifo(&dir.path().join("ready"));
        let notify =
            File::options().write(true).custom_flags(libc_nonblock()).open(dir.path().join("ready")).unwrap();
        let mut shell = Command::new("sh");
        let program = env!("CARGO_BIN_EXE_gatevisor");
        let call = if who == Who::Ours { format!("{program} s6 s6-log") } else { "s6-log".into() };
        shell.args(["-c", &format!("exec {call} -d 5 ./d 5>&1 >&2")]).current_dir(dir.path());
        let mut child = shell.stdin(Stdio::piped()).stdout(notify).stderr(Stdio::null()).spawn().unwrap();
        assert!(waiting::readable(&fifo, crate::support::soon()), "{who:?}");
        assert!(dir.path().join("d/current").exists());
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

fn libc_nonblock() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap()
}

/// Upstream's logger, and the same with the script on the interpreter's line.
#[test]
fn a_script_as_the_interpreters_line_logs_with_and_without_the_daemon() {
    let world = World::started();
    let command = world.root().join("command");
    fs::create_dir(&command).unwrap();
    let link = command.join("s6-log");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gatevisor"), &link).unwrap();
    for (name, line, by_daemon) in
        [("daemon", "n5 s5000 T ./logs", true), ("process", "pX n5 T ./logs", false)]
    {
        let mut service = world
            .service(name)
            .run("echo hello; exec sleep 3600")
            .prepare(|dir| {
                let log = dir.join("log");
                fs::create_dir(&log).unwrap();
                crate::support::executable(&log.join("run"), &format!("#!{} {line}\n", link.display()));
            })
            .place();
        service.receive("su");
        let log = service.path("log");
        waiting::until(&log, "the log directory", || log.join("logs").exists().then_some(()));
        let current = log.join("logs/current");
        waiting::until(&log.join("logs"), "the line", || {
            fs::read_to_string(&current).is_ok_and(|text| text.ends_with("hello\n")).then_some(())
        });
        assert_eq!(log.join("supervise").exists(), !by_daemon, "{line}");
    }
}

fn directives() -> impl Strategy<Value = Vec<String>> {
    let pattern = prop_oneof![
        Just("a"),
        Just("^b"),
        Just("c$"),
        Just("[a-c]+"),
        Just("a|b"),
        Just("(ab)*c"),
        Just("."),
        Just("^$"),
        Just(""),
        Just("[^a]"),
        Just("a{2}"),
        Just("b?c"),
    ];
    let selection = (prop_oneof![Just("+"), Just("-")], pattern).prop_map(|(sign, p)| format!("{sign}{p}"));
    let control = prop_oneof![
        Just("f"),
        Just("t"),
        Just("T"),
        Just("pq"),
        Just("p"),
        Just("E3"),
        Just("^4"),
        Just("n0"),
        Just("n1"),
        Just("s4096"),
    ]
    .prop_map(str::to_owned);
    let action =
        prop_oneof![Just("1"), Just("2"), Just("=s"), Just("./d"), Just("./e")].prop_map(str::to_owned);
    let some = prop_oneof![2 => selection, 2 => control, 2 => action];
    proptest::collection::vec(some, 1..8)
}

proptest! {
    // Each case takes two processes.
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn random_scripts_leave_the_same(
        script in directives(),
        lines in proptest::collection::vec("[abc]{0,5}", 0..12),
    ) {
        // The same directory twice means two writers in one process, whose order is not defined.
        prop_assume!(["./d", "./e"].iter().all(|dir| script.iter().filter(|word| word == dir).count() <= 1));
        let script: Vec<&str> = ["--"].into_iter().chain(script.iter().map(String::as_str)).collect();
        let input = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
        agree(&script, input.as_bytes());
    }
}
