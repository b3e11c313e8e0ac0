//! The log daemon, over a real socket and real pipes.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod common;

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use common::{DEADLINE, Lines, answer, lines_of, pipe, program, unstamped};
use gatevisor_logd::{LogDir, LogLimits, OutputOwner, daemon};
use gatevisor_sys::socket::{send_with_fds, seqpacket_pair};
use gatevisor_wire::tai::Tai64n;
use tempfile::TempDir;

/// A daemon in a thread, and the supervisor's end of everything.
struct Daemon {
    temp: TempDir,
    socket: Option<OwnedFd>,
    /// What the daemon answers.
    replies: OwnedFd,
    thread: JoinHandle<std::process::ExitCode>,
}

impl Daemon {
    /// Starts a daemon; returns it with what it shows and what it warns of.
    fn start() -> (Self, Lines, Lines) {
        let (shown, stdout) = pipe();
        let (daemon, warned) = Self::start_with(stdout);
        (daemon, Lines::new(shown), warned)
    }

    fn start_with(stdout: OwnedFd) -> (Self, Lines) {
        let (warned, stderr) = pipe();
        let (socket, theirs) = seqpacket_pair().unwrap();
        let (replies, reply_pipe) = pipe();
        send_with_fds(&socket, b"V", &[reply_pipe.as_fd()]).unwrap();
        let thread =
            std::thread::spawn(move || daemon::run_with(theirs, stdout, stderr, None, OutputOwner::Own));
        let daemon = Self { temp: tempfile::tempdir().unwrap(), socket: Some(socket), replies, thread };
        (daemon, Lines::new(warned))
    }

    fn logs(&self, name: &str) -> PathBuf {
        self.temp.path().join("logs").join(name)
    }

    /// Makes the directory of a service whose lines go to `logs/<name>`.
    fn service(&self, name: &str, more: &str) -> OwnedFd {
        let directory = self.logs(name);
        self.service_with(name, &format!("directory = \"{}\"\n{more}", directory.display()))
    }

    fn service_with(&self, name: &str, log_run: &str) -> OwnedFd {
        let path = self.temp.path().join(name);
        fs::create_dir_all(path.join("log")).unwrap();
        fs::write(path.join("log/run"), format!("#!/x log\n{log_run}")).unwrap();
        fs::File::open(path).unwrap().into()
    }

    /// Hands the daemon a new pipe and returns the end that the service writes to.
    fn hand_over(&self, id: u32, name: &str, directory: &OwnedFd) -> fs::File {
        let (read_end, write_end) = pipe();
        self.send(
            &[b"A", id.to_le_bytes().as_slice(), name.as_bytes()].concat(),
            &[read_end.as_fd(), directory.as_fd()],
        );
        write_end.into()
    }

    fn send(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) {
        send_with_fds(self.socket.as_ref().unwrap(), packet, fds).unwrap();
    }

    /// Asks the daemon to let go of a pipe, and waits until it has.
    fn release(&self, id: u32) {
        self.send(&[b"R", id.to_le_bytes().as_slice()].concat(), &[]);
        assert_eq!(self.answer(), [b"R", id.to_le_bytes().as_slice()].concat());
    }

    fn answer(&self) -> Vec<u8> {
        answer(&self.replies)
    }

    /// Says `Q` and waits for the end; the directory with everything in it is returned.
    fn quit(self) -> TempDir {
        self.send(b"Q", &[]);
        assert_eq!(self.thread.join().unwrap(), std::process::ExitCode::SUCCESS);
        self.temp
    }
}

fn texts(directory: &Path) -> Vec<String> {
    lines_of(directory).iter().map(|line| unstamped(line).to_owned()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn lines_are_kept_with_a_stamp_and_shown_with_a_label() {
    let (daemon, mut shown, mut warned) = Daemon::start();
    let service = daemon.service("gateway-coder", "");
    let mut pipe = daemon.hand_over(1, "gateway-coder", &service);
    assert!(!daemon.logs("gateway-coder").exists(), "nothing is made before the first byte");
    pipe.write_all(b"hello\nwor").unwrap();
    shown.expect("coder | hello");
    pipe.write_all(b"ld\n").unwrap();
    shown.expect("coder | world");
    let directory = daemon.logs("gateway-coder");
    assert_eq!(texts(&directory), ["hello", "world"]);
    assert_eq!(mode(&directory.join("current")), 0o644);
    let temp = daemon.quit();
    assert_eq!(mode(&directory.join("current")), 0o744);
    assert_eq!(shown.rest(), [""; 0]);
    assert_eq!(warned.rest(), [""; 0]);
    drop(temp);
}

#[test]
fn a_released_pipe_is_drained_and_its_directory_closed() {
    let (daemon, mut shown, _warned) = Daemon::start();
    let coder = daemon.service("coder", "");
    let writer = daemon.service("writer", "label = \"w\"\n");
    let mut pipes = [daemon.hand_over(7, "coder", &coder), daemon.hand_over(8, "writer", &writer)];
    for round in 0..20 {
        // The pipe is released right after the write. What is in the pipe counts.
        pipes[0].write_all(format!("line {round}\nno newline").as_bytes()).unwrap();
        daemon.release(7);
        shown.expect(&format!("coder | line {round}"));
        shown.expect("coder | no newline");
        assert_eq!(mode(&daemon.logs("coder").join("current")), 0o744);
        // The other one is not disturbed.
        pipes[1].write_all(b"alive\n").unwrap();
        shown.expect("w | alive");
        pipes[0] = daemon.hand_over(7, "coder", &coder);
    }
    assert_eq!(texts(&daemon.logs("coder")).len(), 40);
    // A release of a pipe that the daemon does not have is answered, too.
    daemon.release(999);
    daemon.quit();
}

#[test]
fn everything_is_drained_before_the_end() {
    for how in ["Q", "the end of the socket"] {
        let (mut daemon, _shown, _warned) = Daemon::start();
        let mut expected = 0;
        let mut pipes = Vec::new();
        for number in 0..10u32 {
            let name = format!("s{number}");
            let service = daemon.service(&name, "forward = \"off\"\n");
            let mut pipe = daemon.hand_over(number, &name, &service);
            // The pipe is full at the last moment.
            let block = format!("{name} line {:090}\n", 0).repeat(500);
            pipe.write_all(block.as_bytes()).unwrap();
            expected += 500;
            pipes.push(pipe);
        }
        let temp = if how == "Q" {
            daemon.quit()
        } else {
            drop(daemon.socket.take());
            assert_eq!(daemon.thread.join().unwrap(), std::process::ExitCode::SUCCESS);
            daemon.temp
        };
        let found: usize =
            (0..10).map(|number| texts(&temp.path().join(format!("logs/s{number}"))).len()).sum();
        assert_eq!(found, expected, "{how}");
    }
}

#[test]
fn lines_of_many_services_are_never_mixed() {
    const SERVICES: u32 = 8;
    // All of them fit the queue, so none may be left out.
    const LINES: u32 = 1000;
    let (daemon, shown, _warned) = Daemon::start();
    let writers: Vec<JoinHandle<()>> = (0..SERVICES)
        .map(|number| {
            let name = format!("gateway-s{number}");
            let service = daemon.service(&name, "size = 4096\nkeep = 1000\n");
            let mut pipe = daemon.hand_over(number, &name, &service);
            std::thread::spawn(move || {
                for line in 0..LINES {
                    // In two parts, so that others come in between.
                    pipe.write_all(format!("begin{number}-{line}-").as_bytes()).unwrap();
                    pipe.write_all(format!("{}end\n", "x".repeat((line % 50) as usize)).as_bytes()).unwrap();
                }
            })
        })
        .collect();
    let reader = std::thread::spawn(move || {
        let mut shown = shown;
        let mut next = [0; SERVICES as usize];
        for _ in 0..SERVICES * LINES {
            let line = shown.next().unwrap();
            let (label, text) = line.split_once(" | ").unwrap();
            let number: usize = label.strip_prefix('s').unwrap().parse().unwrap();
            let expected = format!("begin{number}-{}-{}end", next[number], "x".repeat(next[number] % 50));
            assert_eq!(text, expected);
            next[number] += 1;
        }
    });
    for writer in writers {
        writer.join().unwrap();
    }
    reader.join().unwrap();
    let temp = daemon.quit();
    for number in 0..SERVICES {
        let texts = texts(&temp.path().join(format!("logs/gateway-s{number}")));
        assert_eq!(texts.len(), LINES as usize);
        for (line, text) in texts.iter().enumerate() {
            assert!(text.starts_with(&format!("begin{number}-{line}-")), "{text}");
        }
    }
}

#[test]
fn a_stalled_output_delays_neither_files_nor_services() {
    const LINES: usize = 200_000;
    // Nobody reads this until the end.
    let (stalled, stdout) = pipe();
    let (daemon, _warned) = Daemon::start_with(stdout);
    let service = daemon.service("coder", "size = 100000000\n");
    let mut pipe = daemon.hand_over(1, "coder", &service);
    let block = format!("{:099}\n", 0).repeat(1000);
    for _ in 0..LINES / 1000 {
        // Returns only because the daemon goes on reading.
        pipe.write_all(block.as_bytes()).unwrap();
    }
    daemon.release(1);
    assert_eq!(texts(&daemon.logs("coder")).len(), LINES);
    // Now somebody reads. Every line is shown, or counted in the place where it is missing.
    let flags = rustix::fs::fcntl_getfl(&stalled).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    let mut shown = Lines::new(stalled);
    let (mut lines, mut missing) = (0, 0);
    while lines + missing < LINES {
        let line = shown.next().unwrap();
        if let Some(rest) = line.strip_prefix("[gatevisor: ") {
            let (count, what) = rest.split_once(' ').unwrap();
            let count: usize = count.parse().unwrap();
            let s = if count == 1 { "" } else { "s" };
            assert_eq!(what, format!("line{s} of coder not shown: output was stalled]"));
            missing += count;
        } else {
            assert!(line.starts_with("coder | 000"), "{line}");
            lines += 1;
        }
    }
    assert_eq!(lines + missing, LINES);
    assert!(lines > 4_000 && missing > 100_000, "{lines} {missing}");
    let again = daemon.service("again", "");
    daemon.hand_over(2, "again", &again).write_all(b"goes on\n").unwrap();
    shown.expect("again | goes on");
    daemon.quit();
}

#[test]
fn the_end_does_not_wait_for_a_stalled_output() {
    let (_stalled, stdout) = pipe();
    let (daemon, _warned) = Daemon::start_with(stdout);
    let service = daemon.service("coder", "");
    let mut pipe = daemon.hand_over(1, "coder", &service);
    pipe.write_all(&b"x\n".repeat(200_000)).unwrap();
    let start = std::time::Instant::now();
    daemon.quit();
    assert!(start.elapsed() < DEADLINE / 3, "{:?}", start.elapsed());
}

#[test]
fn a_closed_output_is_no_error() {
    let (reader, stdout) = pipe();
    drop(reader);
    let (daemon, mut warned) = Daemon::start_with(stdout);
    let service = daemon.service("coder", "");
    let mut pipe = daemon.hand_over(1, "coder", &service);
    for _ in 0..100 {
        pipe.write_all(b"line\n").unwrap();
    }
    let logs = daemon.logs("coder");
    let _temp = daemon.quit();
    assert_eq!(texts(&logs).len(), 100);
    assert_eq!(warned.rest(), [""; 0]);
}

#[test]
fn two_services_with_one_directory_do_not_mix_in_it() {
    let (daemon, mut shown, mut warned) = Daemon::start();
    let log_run = format!("directory = \"{}\"\n", daemon.logs("shared").display());
    let (a, b) = (daemon.service_with("a", &log_run), daemon.service_with("b", &log_run));
    let (mut a, mut b) = (daemon.hand_over(1, "a", &a), daemon.hand_over(2, "b", &b));
    a.write_all(b"one\n").unwrap();
    shown.expect("a | one");
    b.write_all(b"two\n").unwrap();
    shown.expect("b | two");
    let warning = warned.next().unwrap();
    assert!(warning.starts_with("gatevisor: b: log directory `"), "{warning}");
    assert!(warning.contains("it is locked by another writer; lines are only shown"), "{warning}");
    a.write_all(b"three\n").unwrap();
    shown.expect("a | three");
    assert_eq!(texts(&daemon.logs("shared")), ["one", "three"]);
    daemon.quit();
}

#[test]
fn a_service_without_usable_settings_is_shown_all_the_same() {
    let (daemon, mut shown, mut warned) = Daemon::start();
    let bad = daemon.service_with("gateway-bad", "directory = 3\n");
    let unset = daemon.service_with("gateway-unset", "directory = \"${NOT_SET_ANYWHERE}\"\n");
    let none = fs::File::open(daemon.temp.path()).unwrap().into();
    for (id, name, directory, why) in [
        (1, "gateway-bad", &bad, "cannot use log/run: line 2: invalid type"),
        (2, "gateway-unset", &unset, "cannot expand `directory`: the variable NOT_SET_ANYWHERE is not set"),
        (3, "gateway-none", &none, "cannot read log/run: No such file or directory"),
    ] {
        let mut pipe = daemon.hand_over(id, name, directory);
        pipe.write_all(b"line\n").unwrap();
        let label = name.strip_prefix("gateway-").unwrap();
        shown.expect(&format!("{label} | line"));
        let warning = warned.next().unwrap();
        assert!(warning.starts_with(&format!("gatevisor: {label}: {why}")), "{warning}");
        assert!(warning.ends_with("; lines are shown and not kept"), "{warning}");
    }
    daemon.send(b"nonsense", &[]);
    assert_eq!(warned.next().unwrap(), "gatevisor: logd: the supervisor sent `nonsense`; ignored");
    daemon.send(b"A\x09\0\0\0name", &[]);
    assert_eq!(warned.next().unwrap(), "gatevisor: logd: no pipe came with service 9; ignored");
    daemon.quit();
}

#[test]
fn a_relative_directory_lies_below_log() {
    let (daemon, mut shown, _warned) = Daemon::start();
    let service = daemon
        .service_with("coder", "directory = \"./kept/here\"\ntimestamp = \"none\"\nforward = \"raw\"\n");
    let mut pipe = daemon.hand_over(1, "coder", &service);
    pipe.write_all(b"a\0\xff\n").unwrap();
    shown.expect("a\0\u{fffd}");
    let current = daemon.temp.path().join("coder/log/kept/here/current");
    assert_eq!(fs::read(current).unwrap(), b"a\0\xff\n");
    daemon.quit();
}

#[test]
fn a_very_long_line_is_whole_in_the_file_and_in_pieces_on_the_screen() {
    let (daemon, mut shown, _warned) = Daemon::start();
    let service = daemon.service("coder", "size = 4096\n");
    let mut pipe = daemon.hand_over(1, "coder", &service);
    let text = "0123456789".repeat(60_000);
    let reader = std::thread::spawn(move || {
        let mut joined = String::new();
        loop {
            let line = shown.next().unwrap();
            let piece = line.strip_prefix("coder | ").unwrap();
            let piece = piece.strip_prefix("[gatevisor: line continued] ").unwrap_or(piece);
            let Some(piece) = piece.strip_suffix(" [gatevisor: line continues]") else {
                return joined + piece;
            };
            joined.push_str(piece);
        }
    });
    pipe.write_all(text.as_bytes()).unwrap();
    pipe.write_all(b"\nnext\n").unwrap();
    assert!(reader.join().unwrap() == text);
    let logs = daemon.logs("coder");
    let _temp = daemon.quit();
    let texts = texts(&logs);
    assert!(texts.len() == 2 && texts[0] == text && texts[1] == "next");
}

#[test]
fn a_locked_directory_is_taken_once_it_is_free() {
    let (daemon, mut shown, mut warned) = Daemon::start();
    let logs = daemon.logs("coder");
    let limits = LogLimits { size: 1000, keep: 1, ..LogLimits::default() };
    let other = LogDir::open(rustix::fs::CWD, &logs, limits, Tai64n::EPOCH).unwrap();
    let service = daemon.service("coder", "");
    let mut pipe = daemon.hand_over(1, "coder", &service);
    pipe.write_all(b"one\ntwo\n").unwrap();
    shown.expect("coder | one");
    shown.expect("coder | two");
    assert!(warned.next().unwrap().contains("locked by another writer"));
    drop(other);
    // Either the daemon tries again because a second has passed, or because it lets go: letting go
    // always does, so that the count is not lost.
    pipe.write_all(b"three\n").unwrap();
    shown.expect("coder | three");
    daemon.release(1);
    let texts = texts(&logs);
    let missing = "lines are missing here: it is locked by another writer]";
    assert!(
        texts == [format!("[gatevisor: 3 {missing}")]
            || texts == [format!("[gatevisor: 2 {missing}"), "three".to_owned()],
        "{texts:?}"
    );
    daemon.quit();
}

#[test]
fn the_daemon_ignores_signals_that_ask_for_an_end() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("coder/log")).unwrap();
    fs::write(temp.path().join("coder/log/run"), "#!/x log\ndirectory = \"../../logs\"\n").unwrap();
    let (socket, theirs) = seqpacket_pair().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$0\" logd 3<&0"])
        .arg(program())
        .stdin(theirs)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = Lines::new(child.stdout.take().unwrap().into());
    let directory: OwnedFd = fs::File::open(temp.path().join("coder")).unwrap().into();
    let (read_end, write_end) = pipe();
    send_with_fds(&socket, b"A\x01\0\0\0coder", &[read_end.as_fd(), directory.as_fd()]).unwrap();
    let mut pipe = fs::File::from(write_end);
    pipe.write_all(b"first\n").unwrap();
    // It shows lines, so its signals are blocked.
    shown.expect("coder | first");
    let pid = rustix::process::Pid::from_child(&child);
    for signal in [
        rustix::process::Signal::TERM,
        rustix::process::Signal::INT,
        rustix::process::Signal::HUP,
        rustix::process::Signal::QUIT,
    ] {
        rustix::process::kill_process(pid, signal).unwrap();
        pipe.write_all(b"alive\n").unwrap();
        shown.expect("coder | alive");
    }
    drop(socket);
    assert!(child.wait().unwrap().success());
    assert_eq!(texts(&temp.path().join("logs")).len(), 5);
}
