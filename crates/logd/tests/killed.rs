//! The log daemon as a process that is killed at any moment, with what its supervisor keeps for the
//! next one.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(clippy::indexing_slicing, reason = "in a test a panic is the report")]

mod common;

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Lines, answer, lines_of, pipe, program, wait_readable};
use gatevisor_sys::memory;
use gatevisor_sys::socket::{send_with_fds, seqpacket_pair};
use gatevisor_sys::spawn::{Environment, ProcessSpec, start};
use gatevisor_wire::log_counts::LogCounts;
use gatevisor_wire::log_protocol::{JOURNAL_FD, SOCKET_FD, STAGE_FD};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

/// A service as its supervisor knows it.
struct Service {
    name: String,
    directory: OwnedFd,
    reader: OwnedFd,
    /// The pipe of its standard error, where it has one of its own.
    errors: Option<OwnedFd>,
}

/// A supervisor's side: what it keeps while daemons come and go.
struct Keeper {
    temp: TempDir,
    stage: OwnedFd,
    journal: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    services: Vec<Service>,
    daemon: Option<(Pid, OwnedFd, OwnedFd)>,
}

impl Keeper {
    /// Returns a keeper, and what its daemons show and warn of.
    fn new() -> (Self, Lines, Lines) {
        let [(shown, stdout), (warned, stderr)] = [pipe(), pipe()];
        let keeper = Self {
            temp: tempfile::tempdir().unwrap(),
            stage: memory::file("stage").unwrap(),
            journal: memory::file("journal").unwrap(),
            stdout,
            stderr,
            services: Vec::new(),
            daemon: None,
        };
        (keeper, Lines::new(shown), Lines::new(warned))
    }

    fn logs(&self, name: &str) -> PathBuf {
        self.temp.path().join("logs").join(name)
    }

    /// Adds a service and returns the end of the pipe that it writes to.
    fn service(&mut self, name: &str, settings: &str) -> fs::File {
        let path = self.temp.path().join(name);
        fs::create_dir_all(path.join("log")).unwrap();
        let directory = format!("directory = \"{}\"\n", self.logs(name).display());
        fs::write(path.join("log/run"), format!("#!/x log\n{directory}{settings}")).unwrap();
        let (reader, writer) = pipe();
        let directory = fs::File::open(path).unwrap().into();
        self.services.push(Service { name: name.to_owned(), directory, reader, errors: None });
        writer.into()
    }

    /// Gives the last service a pipe for its standard error, and returns the end that it writes to.
    fn stderr(&mut self) -> fs::File {
        let (reader, writer) = pipe();
        self.services.last_mut().unwrap().errors = Some(reader);
        writer.into()
    }

    /// Starts a daemon and hands it everything.
    fn start(&mut self) {
        self.start_as(&[program().to_str().unwrap(), "logd"]);
    }

    /// Starts a daemon that is killed before it makes a certain system call for the `when`th time,
    /// and waits for that.
    fn start_and_kill_before(&mut self, call: &str, when: u32) {
        let inject = format!("inject={call}:signal=KILL:when={when}");
        let program = program();
        self.start_as(&["strace", "-f", "-o", "/dev/null", "-e", &inject, program.to_str().unwrap(), "logd"]);
        let (pid, _socket, _replies) = self.daemon.take().unwrap();
        let exit = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        assert!(wait_readable(exit), "it never came to its {when}th {call}");
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(9), "the {when}th {call}");
    }

    fn start_as(&mut self, argv: &[&str]) {
        let (ours, theirs) = seqpacket_pair().unwrap();
        let here = fs::File::open("/").unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        let argv: Vec<CString> = argv.iter().map(|arg| CString::new(*arg).unwrap()).collect();
        let program = if argv[0].as_c_str() == c"strace" { c"/usr/bin/strace" } else { &argv[0] };
        let starting = start(ProcessSpec {
            directory: here.as_fd(),
            program,
            argv: argv.clone(),
            environment: Rc::new(Environment::new(Vec::new())),
            stdin: null.as_fd(),
            stdout: Some(self.stdout.as_fd()),
            stderr: Some(self.stderr.as_fd()),
            extras: [
                Some((theirs.as_fd(), SOCKET_FD)),
                Some((self.stage.as_fd(), STAGE_FD)),
                Some((self.journal.as_fd(), JOURNAL_FD)),
            ],
            user: None,
            given_back: gatevisor_sys::spawn::GivenBack::default(),
            pool: None,
        })
        .unwrap();
        // The memory that the child uses until it is its program must stay until then.
        assert!(wait_readable(&starting));
        let (replies, reply_pipe) = pipe();
        send_with_fds(&ours, b"V", &[reply_pipe.as_fd()]).unwrap();
        self.daemon = Some((Pid::from_raw(starting.pid()).unwrap(), ours, replies));
        for (id, service) in (1_u32..).zip(&self.services) {
            let packet = [b"A", id.to_le_bytes().as_slice(), service.name.as_bytes()].concat();
            let socket = &self.daemon.as_ref().unwrap().1;
            let mut fds = vec![service.reader.as_fd(), service.directory.as_fd()];
            fds.extend(service.errors.as_ref().map(AsFd::as_fd));
            send_with_fds(socket, &packet, &fds).unwrap();
        }
    }

    fn kill(&mut self) {
        let (pid, _socket, _replies) = self.daemon.take().unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(9), "nothing else ended it");
    }

    /// Has the daemon release a service when everything in its pipe is in the file.
    fn release(&self, id: u32) {
        let (_, socket, replies) = self.daemon.as_ref().unwrap();
        let packet = [b"R", id.to_le_bytes().as_slice()].concat();
        send_with_fds(socket, &packet, &[]).unwrap();
        assert_eq!(answer(replies), packet);
    }

    /// Has everything written, and ends.
    fn quit(mut self) -> TempDir {
        let (pid, socket, _replies) = self.daemon.take().unwrap();
        send_with_fds(&socket, b"Q", &[]).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
        self.temp
    }
}

/// A sequence of numbers that is the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Spins for a time that is too short for a sleep.
fn spin(micros: u64) {
    let until = Instant::now() + Duration::from_micros(micros);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// Writes numbered lines until told to stop; the thread returns how many.
fn write_lines(mut pipe: fs::File, stop: Arc<AtomicBool>, pause_us: u64) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            // Not always whole lines, and lines of all lengths.
            let line = line(number);
            let (head, tail) = line.split_at(if number.is_multiple_of(3) { line.len() / 2 } else { 0 });
            pipe.write_all(head.as_bytes()).unwrap();
            pipe.write_all(tail.as_bytes()).unwrap();
            number += 1;
            spin(pause_us);
        }
        number
    })
}

fn line(number: usize) -> String {
    let rest = "x".repeat(if number.is_multiple_of(97) { 5000 } else { number * 7 % 90 });
    format!("{number} {rest}\n")
}

/// Returns the lines of a log directory, without the stamps in front of them.
fn texts(directory: &Path) -> Vec<String> {
    let unstamped = |line: String| line.rsplit_once("  ").map_or(line.clone(), |(_, text)| text.to_owned());
    lines_of(directory).into_iter().map(unstamped).collect()
}

/// Checks that the file has `count` lines, each once and in its place.
fn check_written(name: &str, texts: &[String], count: usize) {
    for (number, text) in texts.iter().enumerate() {
        assert!(format!("{text}\n") == line(number), "{name}: line {number} is `{text:.60}`");
    }
    assert_eq!(texts.len(), count, "{name}");
}

/// Checks that the service directory tells of exactly these lines and of the bytes of the log.
fn check_counts(name: &str, keeper: &Path, lines: usize) {
    let counts = LogCounts::decode(&fs::read(keeper.join(name).join("log/counts")).unwrap()).unwrap();
    let lines = u64::try_from(lines).unwrap();
    assert_eq!((counts.lines, counts.missing, counts.gaps), (lines, 0, 0), "{name}");
    if name != "chosen" {
        // Those of the other one are compressed.
        let files = fs::read_dir(keeper.join("logs").join(name)).unwrap().map(Result::unwrap);
        let logs =
            files.filter(|file| file.file_name() == "current" || file.file_name().as_bytes()[0] == b'@');
        assert_eq!(counts.bytes, logs.map(|file| file.metadata().unwrap().len()).sum::<u64>(), "{name}");
    }
}

/// Checks what was shown of a stream's `count` lines: in order, none twice, and every gap
/// announced.
fn check_shown(mark: &str, label: &str, shown: &[String], count: usize) {
    let prefix = format!("{label}{mark}");
    let of_label = format!(" of {label} not shown: ");
    let (mut next, mut announced) = (0, 0);
    for line in shown {
        if let Some(text) = line.strip_prefix(&prefix) {
            let text = text.strip_prefix("[gatevisor: line continued] ").unwrap_or(text);
            let Some((number, _)) = text.split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { panic!("`{line}`") };
            assert!(number >= next, "{label}: {number} again, or out of order");
            assert!(number - next <= announced, "{label}: {next} to {number} missing, {announced} announced");
            (next, announced) = (number + 1, 0);
        } else if line.contains(&of_label) {
            let words: Vec<&str> = line.split(' ').collect();
            let lines = words.iter().position(|word| word.starts_with("line")).unwrap();
            announced += words[lines - 1].parse::<usize>().unwrap();
        }
    }
    assert!(count - next <= announced, "{label}: {next} to {count} missing, {announced} announced");
}

/// Services that are logged in all ways, and their writers.
struct Bench {
    keeper: Keeper,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<usize>>,
    /// Writes to the standard error of the last service.
    errors: JoinHandle<usize>,
    reader: JoinHandle<Vec<String>>,
}

const SERVICES: [(&str, &str, u64); 6] = [
    ("plain", "size = 65536\nkeep = 100000\ntimestamp = \"none\"\n", 20),
    ("stamped", "size = 65536\nkeep = 100000\n", 0),
    ("chosen", "size = 65536\nkeep = 100000\nexclude = [\"^never\"]\ncompress = \"zstd\"\n", 50),
    ("slow", "size = 4096\nkeep = 100000\ntimestamp = \"iso-local\"\n", 3000),
    ("hidden", "size = 65536\nkeep = 100000\nforward = \"off\"\n", 10),
    ("both", "size = 65536\nkeep = 100000\n", 10),
];

impl Bench {
    fn new() -> Self {
        let (mut keeper, mut shown, _) = Keeper::new();
        let stop = Arc::new(AtomicBool::new(false));
        let start =
            |(name, settings, pause)| write_lines(keeper.service(name, settings), Arc::clone(&stop), pause);
        let writers = SERVICES.map(start).into_iter().collect();
        let errors = write_lines(keeper.stderr(), Arc::clone(&stop), 30);
        let reader = std::thread::spawn(move || shown.rest());
        Self { keeper, stop, writers, errors, reader }
    }

    /// Lets a last daemon write the rest, and checks everything.
    fn check(mut self) {
        self.keeper.start();
        self.stop.store(true, Ordering::Relaxed);
        let counts: Vec<usize> = self.writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        let errors = self.errors.join().unwrap();
        for id in 1..=SERVICES.len() {
            self.keeper.release(u32::try_from(id).unwrap());
        }
        let temp = self.keeper.quit();
        let shown = self.reader.join().unwrap();
        for ((name, ..), count) in SERVICES.into_iter().zip(counts) {
            let directory = temp.path().join("logs").join(name);
            let (marked, plain): (Vec<String>, Vec<String>) =
                texts(&directory).into_iter().partition(|text| text.starts_with("[stderr] "));
            check_written(name, &plain, count);
            if name == "both" {
                let unmarked: Vec<String> =
                    marked.iter().map(|text| text.replacen("[stderr] ", "", 1)).collect();
                check_written("both's stderr", &unmarked, errors);
                check_shown(" ! ", name, &shown, errors);
            }
            check_counts(name, temp.path(), plain.len() + marked.len());
            let files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
            let unclean = files.filter(|name| name.as_bytes().ends_with(b".u")).count();
            assert_eq!(unclean, 0, "{name}: the restarted daemon goes on with the file");
            if name != "hidden" {
                check_shown(" | ", name, &shown, count);
            }
        }
    }
}

#[test]
fn no_line_is_lost_or_doubled_however_often_the_daemon_is_killed() {
    let mut bench = Bench::new();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..120 {
        bench.keeper.start();
        // First while it starts, then while it works.
        spin(dice.below(20_000));
        bench.keeper.kill();
    }
    bench.check();
}

#[test]
fn no_line_is_lost_or_doubled_between_whichever_two_steps_the_daemon_is_killed() {
    let works = std::process::Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).status();
    if !works.is_ok_and(|status| status.success()) {
        common::skip("strace is not installed, or may not trace here");
        return;
    }
    let mut bench = Bench::new();
    for (call, times) in [
        ("splice", 8),
        ("pread64", 8),
        ("write", 10),
        ("fsync", 3),
        ("fchmod", 6),
        ("renameat", 3),
        ("openat", 8),
    ] {
        for when in 1..=times {
            bench.keeper.start_and_kill_before(call, when);
        }
    }
    bench.check();
}
