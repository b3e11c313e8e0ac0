//! What each setting of `log/run` makes of a service's lines, with the daemon as it runs.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::JoinHandle;

use common::{Lines, answer, pipe, wait_readable};
use gatevisor_logd::{DirError, LogDir, LogLimits, OutputOwner, daemon};
use gatevisor_sys::socket::{send_with_fds, seqpacket_pair};
use gatevisor_wire::log_error::LogError;
use gatevisor_wire::tai::Tai64n;
use rustix::fs::inotify;
use tempfile::TempDir;

/// A daemon in a thread, and one service whose lines go to `kept`.
struct Service {
    temp: TempDir,
    socket: OwnedFd,
    replies: OwnedFd,
    thread: JoinHandle<ExitCode>,
    pipe: fs::File,
    shown: Lines,
    warned: Lines,
}

impl Service {
    fn new(settings: &str) -> Self {
        Self::in_directory(tempfile::tempdir().unwrap(), settings)
    }

    fn in_directory(temp: TempDir, settings: &str) -> Self {
        let log = temp.path().join("gateway-coder/log");
        fs::create_dir_all(&log).unwrap();
        fs::write(log.join("run"), format!("#!/x log\ndirectory = \"../../kept\"\n{settings}")).unwrap();
        let directory: OwnedFd = fs::File::open(temp.path().join("gateway-coder")).unwrap().into();
        let ((shown, stdout), (warned, stderr), (read_end, write_end)) = (pipe(), pipe(), pipe());
        let (socket, theirs) = seqpacket_pair().unwrap();
        let thread =
            std::thread::spawn(move || daemon::run_with(theirs, stdout, stderr, None, OutputOwner::Own));
        let (replies, reply_pipe) = pipe();
        send_with_fds(&socket, b"V", &[reply_pipe.as_fd()]).unwrap();
        send_with_fds(&socket, b"A\x01\0\0\0gateway-coder", &[read_end.as_fd(), directory.as_fd()]).unwrap();
        let (shown, warned) = (Lines::new(shown), Lines::new(warned));
        Self { temp, socket, replies, thread, pipe: write_end.into(), shown, warned }
    }

    fn kept(&self) -> PathBuf {
        self.temp.path().join("kept")
    }

    fn note(&self) -> Option<LogError> {
        LogError::decode(&fs::read(self.temp.path().join("gateway-coder/log/error")).ok()?)
    }

    fn write(&mut self, text: impl AsRef<[u8]>) {
        self.pipe.write_all(text.as_ref()).unwrap();
    }

    /// Has the daemon let go of the pipe; everything is written and shown then.
    fn release(&self) {
        send_with_fds(&self.socket, b"R\x01\0\0\0", &[]).unwrap();
        assert_eq!(answer(&self.replies), b"R\x01\0\0\0");
    }

    /// Ends the daemon; returns what was shown and what was warned of since the last line that was
    /// asked for.
    fn end(self) -> (TempDir, Vec<String>, Vec<String>) {
        let Self { temp, socket, replies: _, thread, pipe, mut shown, mut warned } = self;
        send_with_fds(&socket, b"Q", &[]).unwrap();
        assert_eq!(thread.join().unwrap(), ExitCode::SUCCESS);
        drop(pipe);
        (temp, shown.rest(), warned.rest())
    }
}

fn archives(directory: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with('@') && name.ends_with(suffix)
        })
        .collect();
    found.sort();
    found
}

/// Returns what an archive holds, in whichever form.
fn contents(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).unwrap();
    if path.extension().unwrap() == "zst" {
        ruzstd::decoding::StreamingDecoder::new(file).unwrap().read_to_end(&mut bytes).unwrap();
    } else {
        (&file).read_to_end(&mut bytes).unwrap();
    }
    bytes
}

#[test]
fn lines_that_the_patterns_leave_out_are_neither_kept_nor_shown() {
    let mut service = Service::new(
        "timestamp = \"none\"\ninclude = [\"^GET\", \"error\"]\nexclude = ['/health\\b', '\\xff']\n",
    );
    service.write("GET /health 200\nGET /da");
    service.write(b"ta 200\nPOST /x\nan error in /health\nGET \xc3\xbf\nlast error");
    service.release();
    let kept = fs::read_to_string(service.kept().join("current")).unwrap();
    assert_eq!(kept, "GET /data 200\nlast error\n");
    let (_temp, shown, warned) = service.end();
    assert_eq!(shown, ["coder | GET /data 200", "coder | last error"]);
    assert_eq!(warned, [""; 0]);
}

#[test]
fn lines_over_the_rate_are_announced_in_the_file_and_where_they_are_shown() {
    // No clock runs long enough for a second time to begin.
    let mut service = Service::new(
        "timestamp = \"none\"\nrate = { lines = 3, per-ms = 9000000000000 }\nforward = \"raw\"\n",
    );
    for number in 0..10 {
        service.write(format!("line {number}\n"));
    }
    service.release();
    let expected = "line 0\nline 1\nline 2\n[gatevisor: 7 lines left out: over 3 in 9000000000000 ms]\n";
    assert_eq!(fs::read_to_string(service.kept().join("current")).unwrap(), expected);
    let (_temp, shown, _warned) = service.end();
    assert_eq!(shown, expected.lines().collect::<Vec<_>>());
}

#[test]
fn all_archives_together_have_a_bound() {
    let mut service =
        Service::new("timestamp = \"none\"\nsize = 4096\nkeep = 1000\ntotal = 10000\nforward = \"off\"\n");
    for number in 0..500 {
        service.write(format!("{number:099}\n"));
    }
    service.release();
    let kept = archives(&service.kept(), ".s");
    let sum: u64 = kept.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!((kept.len(), sum), (2, 8000), "as many as fit into 10000 bytes");
    let current = fs::read_to_string(service.kept().join("current")).unwrap();
    let first = 500 - 80 - current.len() / 100;
    assert!(contents(&kept[0]).starts_with(format!("{first:099}\n").as_bytes()), "the newest remain");
    service.end();
}

#[test]
fn a_file_older_than_the_period_is_archived_when_a_line_comes() {
    let temp = tempfile::tempdir().unwrap();
    let limits = LogLimits { period_s: Some(60), ..LogLimits::default() };
    let at = |seconds: i64| Tai64n::from_unix(seconds, 0);
    let mut dir = LogDir::open(rustix::fs::CWD, temp.path(), limits, at(1000)).unwrap();
    dir.write(b"1\n", at(5000)).unwrap();
    dir.write(b"2\n3, of which the end comes ", at(5059)).unwrap();
    dir.write(b"late\n", at(5100)).unwrap();
    assert_eq!(archives(temp.path(), ".s").len(), 0, "no line is divided, and an empty file has no age");
    dir.write(b"4\n", at(5101)).unwrap();
    dir.write(b"5\n", at(5160)).unwrap();
    dir.close(at(5160)).unwrap();
    let kept = archives(temp.path(), ".s");
    assert_eq!(kept.len(), 1);
    assert_eq!(contents(&kept[0]), b"1\n2\n3, of which the end comes late\n");
    assert_eq!(fs::read(temp.path().join("current")).unwrap(), b"4\n5\n");
    // The next daemon counts from the time when the file was made. That is now by the disk's clock.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let mut dir = LogDir::open(rustix::fs::CWD, temp.path(), limits, at(now)).unwrap();
    dir.write(b"6\n", at(now)).unwrap();
    assert_eq!(archives(temp.path(), ".s").len(), 1);
    dir.write(b"7\n", at(now + 61)).unwrap();
    assert_eq!(archives(temp.path(), ".s").len(), 2);
}

#[test]
fn archives_are_compressed_in_the_background_and_counted() {
    let temp = tempfile::tempdir().unwrap();
    let kept = temp.path().join("kept");
    fs::create_dir(&kept).unwrap();
    let names = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&names, &kept, inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_TO).unwrap();
    let mut service = Service::in_directory(
        temp,
        "timestamp = \"none\"\nsize = 4096\nkeep = 3\ncompress = \"zstd\"\nforward = \"off\"\n",
    );
    for number in 0..500 {
        service.write(format!("{number:099}\n"));
    }
    service.release();
    // Twelve rotations; the last archives are compressed, whatever became of the first.
    while archives(&kept, ".s.zst").len() != 3 || !archives(&kept, ".s").is_empty() {
        assert!(wait_readable(&names), "not compressed in time: {:?}", archives(&kept, ""));
        let mut events = [0; 4096];
        rustix::io::read(&names, &mut events).unwrap();
    }
    let all: Vec<u8> = archives(&kept, ".zst").iter().flat_map(|path| contents(path)).collect();
    let expected: Vec<u8> = (360..480).flat_map(|number| format!("{number:099}\n").into_bytes()).collect();
    assert!(all == expected, "the three newest, whole");
    let (_temp, _shown, warned) = service.end();
    assert_eq!(warned, [""; 0]);
}

#[test]
fn json_lines_are_objects() {
    let mut service = Service::new("forward = \"json\"\ntimestamp = \"none\"\n");
    service.write(b"plain\n\"quoted\" \x1b[1m\n\xff\n");
    service.write([b'x'; 9000]);
    service.release();
    assert_eq!(fs::read(service.kept().join("current")).unwrap().len(), 6 + 14 + 2 + 9001);
    let (_temp, shown, _warned) = service.end();
    let values: Vec<serde_json::Value> =
        shown.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 5);
    for value in &values {
        assert_eq!((&value["profile"], &value["stream"]), (&"coder".into(), &"stdout".into()));
        let time = value["time"].as_str().unwrap();
        assert!(time.len() == 30 && time.ends_with('Z'), "{time}");
    }
    assert_eq!(values[0]["text"], "plain");
    assert_eq!(values[1]["text"], "\"quoted\" \u{1b}[1m");
    assert_eq!((&values[2]["text"], &values[2]["bytes"]), (&"\u{fffd}".into(), &"/w==".into()));
    let parts: Vec<(usize, bool, bool)> = values[3..]
        .iter()
        .map(|v| (v["text"].as_str().unwrap().len(), v["continued"] == true, v["continues"] == true))
        .collect();
    assert_eq!(parts, [(8192, false, true), (808, true, false)]);
}

#[test]
fn a_hundred_megabytes_without_a_newline_are_kept_byte_for_byte() {
    const SIZE: usize = 100 << 20;
    // The screen gets the line in parts, and the file gets it whole.
    for settings in ["", "exclude = [\"never\"]\n"] {
        let mut service =
            Service::new(&format!("timestamp = \"none\"\nsize = 4096\nforward = \"off\"\n{settings}"));
        // Every byte but the newline, in a pattern that no power of two divides.
        let pattern: Vec<u8> = (0..=u8::MAX).filter(|byte| *byte != b'\n').collect();
        let chunk: Vec<u8> = pattern.into_iter().cycle().take(1 << 20).collect();
        for _ in 0..SIZE / chunk.len() {
            service.write(&chunk);
        }
        service.release();
        let path = service.kept().join("current");
        let mut file = fs::File::open(&path).unwrap();
        let mut found = vec![0; chunk.len()];
        for number in 0..SIZE / chunk.len() {
            file.read_exact(&mut found).unwrap();
            assert!(found == chunk, "megabyte {number} differs");
        }
        found.clear();
        file.read_to_end(&mut found).unwrap();
        assert_eq!(found, b"\n", "only the end that the line lacked is added");
        service.end();
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_noted_for_the_status_while_that_lasts() {
    let temp = tempfile::tempdir().unwrap();
    let other = LogDir::open(rustix::fs::CWD, &temp.path().join("kept"), LogLimits::default(), Tai64n::EPOCH)
        .unwrap();
    fs::create_dir_all(temp.path().join("gateway-coder/log")).unwrap();
    // A daemon that was killed has left this.
    fs::write(temp.path().join("gateway-coder/log/error"), "stale").unwrap();
    let mut service = Service::in_directory(temp, "");
    service.write("one\n");
    service.shown.expect("coder | one");
    let noted = service.note().unwrap();
    assert_eq!(noted.reason, format!("`../../kept`: {}", DirError::Locked));
    assert!(noted.since > Tai64n::EPOCH);
    drop(other);
    // A release tries again, whether or not a second has passed.
    service.release();
    assert!(!service.temp.path().join("gateway-coder/log/error").exists());
    let (_temp, _shown, warned) = service.end();
    assert!(warned[0].contains("it is locked by another writer"), "{warned:?}");
}

#[test]
fn settings_that_cannot_be_used_are_noted_for_the_status() {
    let mut service = Service::new("rate = { lines = 0 }\n");
    service.write("one\n");
    service.shown.expect("coder | one");
    let noted = service.note().unwrap();
    assert_eq!(
        noted.reason,
        "cannot use log/run: `rate.lines`: must be at least 1; leave `rate` out to keep all lines; \
         lines are shown and not kept"
    );
    service.end();
}
