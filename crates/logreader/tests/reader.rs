//! Reading logs back, while somebody writes them.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use gatevisor_logd::{LogDir, LogLimits};
use gatevisor_logreader::{
    Clock, Directory, LogReadError, Pick, ReadOptions, ReaderEvent, Time, run, run_until,
};
use gatevisor_wire::tai::Tai64n;
use proptest::prelude::*;
use regex::bytes::Regex;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// How long anything may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(30);

fn now() -> Tai64n {
    Tai64n::now_from(std::time::SystemTime::now())
}

fn writer(path: &Path, size: u64, keep: u32) -> LogDir {
    LogDir::open(rustix::fs::CWD, path, LogLimits { size, keep, ..LogLimits::default() }, now()).unwrap()
}

fn options(dirs: &[&Path], lines: Option<usize>, follow: bool) -> ReadOptions {
    let directory = |path: &&Path| Directory {
        label: path.file_name().unwrap().to_str().unwrap().to_owned(),
        path: path.to_path_buf(),
        clock: Clock::Utc,
    };
    ReadOptions { dirs: dirs.iter().map(directory).collect(), pick: Pick::default(), lines, follow }
}

/// What a reader that does not follow gives, lines as `label:line`.
fn read_with(options: &ReadOptions) -> Vec<String> {
    let mut found = Vec::new();
    run(options, &mut |event| {
        found.extend(shown(event));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

fn shown(event: ReaderEvent<'_>) -> Option<String> {
    match event {
        ReaderEvent::Line(line) => Some(format!("{}:{}", line.label, String::from_utf8_lossy(line.bytes))),
        ReaderEvent::Damaged { label, archive, why } => Some(format!("{label}: damaged {archive}: {why}")),
        ReaderEvent::Idle => None,
    }
}

fn read(dirs: &[&Path], lines: Option<usize>) -> Vec<String> {
    read_with(&options(dirs, lines, false))
}

struct Follower {
    lines: Receiver<String>,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<Result<(), LogReadError>>>,
}

impl Follower {
    fn start(options: ReadOptions) -> Self {
        let (sender, lines): (Sender<String>, _) = channel();
        let (watched, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let thread = std::thread::spawn(move || {
            run_until(&options, Some(watched.as_fd()), &mut |event| match shown(event)
                .map_or(Ok(()), |line| sender.send(line))
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
        // The writer is not far ahead, or archives would be deleted unread. Nor is it in lockstep.
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
            // A later reader begins in the middle of rotations.
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
    if std::process::Command::new("s6-log").output().is_err() {
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
fn a_reader_that_breaks_gets_no_more_lines() {
    let temp = tempfile::tempdir().unwrap();
    writer(temp.path(), 1000, 1).write(b"one\ntwo\n", now()).unwrap();
    let mut count = 0;
    for follow in [false, true] {
        run(&options(&[temp.path()], None, follow), &mut |event| {
            count += usize::from(matches!(event, ReaderEvent::Line(_)));
            ControlFlow::Break(())
        })
        .unwrap();
    }
    assert_eq!(count, 2);
}

/// Compresses an archive as the log daemon does: the new file is in place before the old one goes.
fn compress(path: &Path) {
    let packed = compress_to_vec(fs::read(path).unwrap().as_slice(), CompressionLevel::Fastest);
    let temporary = path.with_file_name("being-compressed");
    fs::write(&temporary, packed).unwrap();
    fs::rename(&temporary, path.with_extension("s.zst")).unwrap();
    fs::remove_file(path).unwrap();
}

fn archives_in(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut archives: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "s")).collect();
    archives.sort();
    archives
}

#[test]
fn compressed_archives_are_read_like_any_others() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("coder");
    let mut dir = writer(&path, 200, 100);
    for number in 0..100 {
        dir.write(format!("line {number:04}\n").as_bytes(), now()).unwrap();
    }
    let all: Vec<String> = (0..100).map(|number| format!("coder:line {number:04}")).collect();
    for archive in archives_in(&path).iter().step_by(2) {
        compress(archive);
        for wanted in [0, 1, 15, 30, 31, 57, 99, 500] {
            assert_eq!(read(&[&path], Some(wanted)), all[all.len().saturating_sub(wanted)..]);
        }
        assert_eq!(read(&[&path], None), all);
    }
}

#[test]
fn every_kind_of_frame_that_zstd_writes_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/frames.zst");
    fs::copy(golden, temp.path().join("@400000006b00d912075bcd15.u.zst")).unwrap();
    fs::write(temp.path().join("current"), "last\n").unwrap();
    let line = |n: u64| {
        let words = "word ".repeat(usize::try_from(n % 9).unwrap());
        let nanos = n * 7919 % 1_000_000_000;
        format!("2026-11-20 10:{:02}:{:02}.{nanos:09}  line {n} {words}", n / 60 % 60, n % 60)
    };
    let found = read(&[temp.path()], None);
    assert_eq!(found.len(), 2001);
    for (number, found) in (0..2000).zip(&found) {
        assert!(found.ends_with(&line(number)), "{found}");
    }
    assert_eq!(read(&[temp.path()], Some(1234)), found[2001 - 1234..]);
}

#[test]
fn a_damaged_archive_is_reported_and_hides_no_other() {
    let temp = tempfile::tempdir().unwrap();
    let name = |seconds| temp.path().join(format!("{}.s.zst", Tai64n::from_unix(seconds, 0)));
    let packed = compress_to_vec(&b"one\n"[..], CompressionLevel::Fastest);
    fs::write(name(1), &packed).unwrap();
    fs::write(name(2), &packed[..packed.len() - 3]).unwrap();
    fs::write(name(3), b"no frame at all").unwrap();
    fs::write(name(4), b"").unwrap();
    fs::write(temp.path().join("current"), "two\n").unwrap();
    let found = read(&[temp.path()], None);
    let label = temp.path().file_name().unwrap().to_str().unwrap();
    let lines: Vec<&String> = found.iter().filter(|line| !line.contains("damaged")).collect();
    assert_eq!(**lines.last().unwrap(), format!("{label}:two"));
    let damaged: Vec<&String> = found.iter().filter(|line| line.contains("damaged")).collect();
    assert_eq!(damaged.len(), 2, "{found:?}");
    assert!(damaged[1].contains(&format!("damaged {}.s", Tai64n::from_unix(3, 0))), "{found:?}");
}

#[test]
fn archives_that_are_compressed_while_they_are_followed_are_given_once() {
    const LINES: usize = 6000;
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("coder");
    let follower = Follower::start(options(&[&path], None, true));
    let thread = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut dir = writer(&path, 400, 100_000);
            for number in 0..LINES {
                // Not all of them differ from their neighbours.
                dir.write(format!("number {}\n", number / 64).as_bytes(), now()).unwrap();
                if number % 40 == 0 {
                    for archive in archives_in(&path) {
                        compress(&archive);
                    }
                }
            }
        }
    });
    for number in 0..LINES {
        assert_eq!(follower.next(), format!("coder:number {}", number / 64), "line {number}");
    }
    thread.join().unwrap();
    assert_eq!(follower.end(), [""; 0]);
    assert_eq!(read(&[&path], None).len(), LINES);
}

/// A line, when it was written, and how its stamp is written.
#[derive(Debug, Clone)]
struct Written {
    at: u32,
    stamp: u8,
    text: String,
}

/// Returns the moments of a model in the middle of a second.
fn moment(at: u32) -> Time {
    Time { seconds: 1_795_168_800 + i64::from(at), nanos: 500_000_000 }
}

fn line_of(written: &Written) -> String {
    let Time { seconds, nanos } = moment(written.at);
    match written.stamp {
        0 => written.text.clone(),
        1 => format!("{} {}", Tai64n::from_unix(seconds, nanos), written.text),
        _ => {
            let at = jiff::Timestamp::new(seconds, i32::try_from(nanos).unwrap()).unwrap();
            format!("{}  {}", at.strftime("%Y-%m-%d %H:%M:%S.%9f"), written.text)
        }
    }
}

fn written() -> impl Strategy<Value = Written> {
    (0..4u32, 0..4u8, "[a-d]{0,3}").prop_map(|(at, stamp, text)| Written { at, stamp, text })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_chosen_lines_are_those_that_a_look_at_every_line_would_choose(
        files in prop::collection::vec((prop::collection::vec(written(), 0..8), any::<bool>()), 1..6),
        since in prop::option::of(0..60u32),
        until in prop::option::of(0..60u32),
        grep in prop::option::of("[a-d]"),
        lines in prop::option::of(0..12usize),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let label = temp.path().file_name().unwrap().to_str().unwrap().to_owned();
        let pick = Pick {
            since: since.map(moment),
            until: until.map(moment),
            grep: grep.map(|grep| Regex::new(&grep).unwrap()),
        };
        let mut clock = 0;
        let mut expected = Vec::new();
        let mut put_away: Option<Time> = None;
        let count = files.len();
        for (index, (mut file, is_compressed)) in files.into_iter().enumerate() {
            let mut text = String::new();
            let mut time = None;
            let mut found = Vec::new();
            for written in &mut file {
                clock += written.at;
                written.at = clock;
                let line = line_of(written);
                text.push_str(&line);
                text.push('\n');
                if written.stamp > 0 {
                    time = Some(moment(clock));
                }
                let in_time = time.is_none_or(|time| {
                    pick.since.is_none_or(|since| time >= since) && pick.until.is_none_or(|until| time <= until)
                });
                if in_time && pick.grep.as_ref().is_none_or(|grep| grep.is_match(written.text.as_bytes())) {
                    found.push(format!("{label}:{line}"));
                }
            }
            let too_late = pick.until.zip(put_away).is_some_and(|(until, before)| before > until);
            if index + 1 == count {
                fs::write(temp.path().join("current"), text).unwrap();
            } else {
                let stamp = Time { nanos: 600_000_000 + u32::try_from(index).unwrap(), ..moment(clock) };
                let name = Tai64n::from_unix(stamp.seconds, stamp.nanos);
                let path = temp.path().join(format!("{name}.s"));
                fs::write(&path, text).unwrap();
                if is_compressed {
                    compress(&path);
                }
                put_away = Some(stamp);
                if pick.since.is_some_and(|since| stamp < since) {
                    found.clear();
                }
            }
            if !too_late {
                expected.extend(found);
            }
        }
        let last = lines.unwrap_or(usize::MAX).min(expected.len());
        let options = ReadOptions { pick, ..options(&[temp.path()], lines, false) };
        prop_assert_eq!(read_with(&options), expected[expected.len() - last..].to_vec());
    }
}

/// Bytes of a file of which hardly any are written.
const HUGE: u64 = 3 << 40;

/// Returns a log directory whose `current` is a hole of three terabytes with text in some places.
fn sparse(temp: &Path, texts: &[(u64, &str)]) -> PathBuf {
    use std::os::unix::fs::FileExt;
    let path = temp.join("coder");
    fs::create_dir(&path).unwrap();
    let file = fs::File::create(path.join("current")).unwrap();
    file.set_len(HUGE).unwrap();
    for (at, text) in texts {
        file.write_all_at(text.as_bytes(), *at).unwrap();
    }
    path
}

const TEN: &str = "2026-11-20 10:00:00.000000000  ten\n";
const ELEVEN: &str = "2026-11-20 11:00:00.000000000  eleven\n";

#[test]
fn holes_of_terabytes_are_not_read() {
    let since = Time { seconds: 1_795_170_600, nanos: 0 };
    let eleven = Regex::new("eleven|nothing").unwrap();
    for (texts, all, late) in [
        (&[][..], 0, 0),
        (&[(0, TEN), (HUGE, ELEVEN)][..], 2, 1),
        (&[(0, TEN), (HUGE / 2, TEN), (HUGE - (1 << 20), ELEVEN)], 3, 1),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let path = sparse(temp.path(), texts);
        let count = |options: &ReadOptions| {
            read_with(options).iter().filter(|line| line.trim_end_matches('\0').ends_with("en")).count()
        };
        let with = |pick: Pick, lines| ReadOptions { pick, ..options(&[&path], lines, false) };
        for lines in [Some(10), Some(usize::MAX), None] {
            assert_eq!(count(&with(Pick::default(), lines)), all, "{texts:?} {lines:?}");
            assert_eq!(
                count(&with(Pick { since: Some(since), ..Pick::default() }, lines)),
                late,
                "{texts:?}"
            );
            let grep = Some(eleven.clone());
            assert_eq!(count(&with(Pick { grep, ..Pick::default() }, lines)), late, "{texts:?} {lines:?}");
        }
    }
}

#[test]
fn a_file_with_holes_of_terabytes_is_followed_like_any_other() {
    let temp = tempfile::tempdir().unwrap();
    let path = sparse(temp.path(), &[(0, TEN)]);
    let follower = Follower::start(options(&[&path], Some(1), true));
    let append = |text: &str| {
        let mut file = fs::File::options().append(true).open(path.join("current")).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append(ELEVEN);
    let first = follower.next();
    assert!(first.contains("ten") || first.contains("eleven"), "{first:?}");
    fs::File::options().write(true).open(path.join("current")).unwrap().set_len(2 * HUGE).unwrap();
    append("more\n");
    follower.lines.iter().find(|line| line.ends_with("more")).unwrap();
    follower.end();
}

#[test]
fn of_a_line_without_an_end_no_more_is_read_than_is_shown() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("coder");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("current"), vec![b'x'; 40 << 20]).unwrap();
    let lines = read(&[&path], Some(2));
    let bytes: usize = lines.iter().map(String::len).sum();
    assert!(bytes <= 4 << 20, "{} lines of {bytes} bytes", lines.len());
}
