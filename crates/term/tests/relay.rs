//! What runs as another user has a terminal of its own, and the operator's shell keeps the first
//! one.
//!
//! Each test has a session with a terminal and an interactive shell in it. It types and sees what
//! an operator would. A test waits until the terminal shows a word. The terminal also shows what is
//! typed, so the shell puts each such word together from parts. Commands that Ctrl-C interrupts are
//! run by bash, because dash forgets a Ctrl-C that comes while it starts a program.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const WAIT_LIMIT: Duration = Duration::from_mins(1);
/// A user that no system has.
const AGENT: u32 = 23_461;

fn program() -> PathBuf {
    let test = gatevisor_sys::process::own_program().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/own-terminal");
    assert!(path.exists(), "{} is built with the tests", path.display());
    path
}

fn resize(terminal: impl AsFd, ws_row: u16, ws_col: u16) {
    tcsetwinsize(terminal, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// An interactive shell on a terminal.
struct Session {
    terminal: File,
    shell: Child,
    seen: String,
}

impl Session {
    fn new() -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        // Bash reads the size and sets it to what it has read, so nobody may change it meanwhile.
        resize(&terminal, 40, 132);
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let side = File::from(rustix::fs::open(&name, flags, Mode::empty()).unwrap());
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"]);
        command.env("PS1", "ready> ").env("OWN", program()).env("UID_OF_AGENT", AGENT.to_string());
        command.env("own", "").env("HISTFILE", "/dev/null");
        command.stdin(side.try_clone().unwrap()).stdout(side.try_clone().unwrap());
        let shell = command.stderr(side).spawn().expect("setsid(1) and bash are there");
        let mut session = Self { terminal: File::from(terminal), shell, seen: String::new() };
        session.types("own() { \"$OWN\" $UID_OF_AGENT \"$@\"; }; bind 'set enable-bracketed-paste off'; set -b; w=wo; echo ${w}rks\n");
        session.sees("works");
        session
    }

    fn types(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the terminal shows a text, and forgets what was before it.
    #[track_caller]
    fn sees(&mut self, text: &str) -> String {
        let deadline = Instant::now() + WAIT_LIMIT;
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(readable(&self.terminal, deadline), "no {text:?} in {:?}", self.seen);
            let length = self.terminal.read(&mut buffer).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }

    /// Has the shell run a line, and returns what the terminal showed until it was over.
    #[track_caller]
    fn runs(&mut self, line: &str) -> String {
        self.types(&format!("{line}; e=$?; d=do; echo ${{d}}ne=$e=\n"));
        self.sees("done=") + &self.sees("=")
    }

    /// The terminal does what it did for the shell's commands: lines, echo, signals.
    #[track_caller]
    fn is_as_it_was(&mut self) {
        let modes = self.runs("stty -a");
        for mode in ["icanon", "echo", "isig", "opost", "onlcr", "icrnl"] {
            assert!(modes.split_whitespace().any(|word| word == mode), "{mode}: {modes}");
        }
    }

    /// As `runs`; returns the exit code.
    #[track_caller]
    fn code(&mut self, line: &str) -> String {
        let seen = self.runs(line);
        seen.trim_end_matches('=').rsplit('=').next().unwrap().to_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The terminal hangs up, which ends everything in its session.
        self.terminal = File::open("/dev/null").unwrap();
        let _ = self.shell.wait();
    }
}

fn readable(file: &File, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let left =
        Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap(), tv_nsec: left.subsec_nanos().into() };
    poll(&mut [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)], Some(&left)).unwrap() > 0
}

/// Returns a directory that the agent may write to, with a script of Python in it.
fn script(text: &str) -> (tempfile::TempDir, String) {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().unwrap();
    std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let file = temp.path().join("it.py");
    std::fs::write(&file, text).unwrap();
    (temp, file.display().to_string())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn the_command_has_a_terminal_and_it_is_another_one() {
    let mut session = Session::new();
    let ours = session.runs("tty");
    let ours = ours.lines().find(|line| line.starts_with("/dev/pts/")).unwrap().trim().to_owned();
    let theirs = session.runs("own sh -c 'tty; exec 3</dev/tty && echo has-$((1+1))'");
    assert!(theirs.contains("/dev/pts/") && theirs.contains("has-2"), "{theirs}");
    assert!(!theirs.contains(&format!("{ours}\r")), "{theirs}");
    // Neither on a descriptor, nor as the one that controls it.
    let open = session.runs("exec 7</dev/tty 8</etc/hostname; own sh -c 'ls -l /proc/self/fd; ps -o tty= -p $$; echo'; exec 7<&- 8<&-");
    assert!(!open.contains(&format!("{ours}\r")) && !open.contains(&format!("{}\r", &ours[5..])), "{open}");
    assert!(!open.contains("-> /etc/hostname"), "{open}");
}

#[test]
fn exit_codes_and_deaths_by_a_signal_are_those_of_the_command() {
    let mut session = Session::new();
    for (line, code) in [
        ("own sh -c 'exit 0'", "0"),
        ("own sh -c 'exit 42'", "42"),
        ("own sh -c 'exit 255'", "255"),
        ("own sh -c 'kill -TERM $$'", "143"),
        ("own sh -c 'kill -KILL $$'", "137"),
        ("own /no/such/program", "127"),
    ] {
        assert_eq!(session.code(line), code, "{line}");
    }
    // A shell that waits for it learns of the signal itself.
    let said = session.runs("python3 -c 'import subprocess,os; print(\"by\", subprocess.call([os.environ[\"OWN\"], os.environ[\"UID_OF_AGENT\"], \"sh\", \"-c\", \"kill -9 $$\"]))'");
    assert!(said.contains("by -9"), "{said}");
}

#[test]
fn everything_that_was_written_is_shown_before_the_end() {
    let mut session = Session::new();
    for _ in 0..20 {
        let seen = session.runs("own sh -c 'seq 1 5000; echo l''ast'");
        assert!(seen.contains("5000\r\nlast"), "{}", seen.len());
    }
}

#[test]
fn keys_reach_the_command_and_control_c_interrupts_it() {
    let mut session = Session::new();
    session.sees("ready> ");
    session.types(
        "own bash -c 'printf \"na%s\" me:; read n; echo \"hello-$n\"; sleep 1000; echo not reached'\n",
    );
    session.sees("name:");
    session.types("coder\n");
    session.sees("hello-coder");
    session.types("\x03");
    // What is typed before the shell has its terminal again is typed for the command.
    session.sees("ready> ");
    assert_eq!(session.code("(exit $?)"), "130");
    // The terminal is as it was: lines, echo, signals.
    session.is_as_it_was();
}

#[test]
fn the_size_of_the_window_is_handed_on_whenever_it_changes() {
    let mut session = Session::new();
    // Bash does not notice a signal that comes just before it begins to read, so it reads for a
    // second at a time.
    session.types("own bash -c 'trap \"stty size\" WINCH; stty size; while :; do read -t 1 l && break; done'; echo ov''er\n");
    session.sees("40 132");
    resize(&session.terminal, 25, 81);
    session.sees("25 81");
    session.types("\n");
    session.sees("over");
}

#[test]
fn the_command_is_stopped_and_continued_like_any_job() {
    let mut session = Session::new();
    session.types("own sh -c 'echo st''art; read l; echo got-$l; exit 5'; echo co''de=$?=\n");
    session.sees("start");
    session.types("\x1a");
    session.sees("Stopped");
    session.sees("code=148=");
    // The shell has its terminal, in its own modes, and works.
    session.is_as_it_was();
    assert!(session.runs("jobs").contains("Stopped"));
    session.types("bg\n");
    // In the background it wants to read, and is stopped again.
    session.sees("Stopped");
    session.types("fg; echo co''de=$?=\n");
    session.types("word\n");
    session.sees("got-word");
    session.sees("code=5=");
}

#[test]
fn pipes_and_files_stay_what_they_are() {
    let mut session = Session::new();
    let seen = session.runs("own sh -c 'test -t 0 && test -t 1 || echo piped; echo err >&2' | tr a-z A-Z");
    assert!(seen.contains("PIPED") && seen.contains("err"), "{seen}");
    let seen = session.runs("echo from-a-pipe | own sh -c 'cat; test -t 1 && echo on-a-terminal'");
    assert!(seen.contains("from-a-pipe\r\non-a-terminal"), "{seen}");
    let (temp, _) = script("");
    let file = temp.path().join("file");
    session.runs(&format!("own sh -c 'echo in-a-file; exit 3' > {}", file.display()));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "in-a-file\n");
    let seen = session.runs(&format!("own cat < {}", file.display()));
    assert!(seen.contains("in-a-file\r\n"), "{seen}");
    // Binary data passes a pipe unchanged.
    let seen = session.runs("head -c 300000 /dev/zero | own cat | wc -c");
    assert!(seen.contains("300000"), "{seen}");
}

#[test]
fn beside_a_pipe_the_terminal_is_read_by_whoever_wants_to() {
    let mut session = Session::new();
    // The reader of the pipe reads the terminal, and the command beside it does not.
    session.sees("ready> ");
    session.types("own bash -c 'echo data; sleep 1000' | sh -c 'read d; printf \"ke%s\" y:; read k < /dev/tty; echo got-$d-$k'\n");
    session.sees("key:");
    session.types("k\n");
    session.sees("got-data-k");
    session.types("\x03");
    session.sees("ready> ");
    // A command that reads it gets it.
    session.types("own sh -c 'printf \"pass%s\" word: >/dev/tty; read p < /dev/tty; echo got-$p' | cat\n");
    session.sees("password:");
    session.types("secret\n");
    session.sees("got-secret");
}

#[test]
fn without_a_terminal_there_is_none() {
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(program()).args([&rustix::process::geteuid().as_raw().to_string(), "sh", "-c"]);
    command.arg(
        "test -t 0 || test -t 1 || { true < /dev/tty; } 2>/dev/null && echo has; cat; echo $PPID; exit 9",
    );
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"input\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.starts_with("input\n") && output.status.code() == Some(9), "{output:?}");
}

#[test]
fn the_relay_ends_with_the_command_whoever_keeps_the_terminal_open() {
    let (temp, keeper) = script(
        "import os, signal, sys, time\n\
         signal.signal(signal.SIGHUP, signal.SIG_IGN)\n\
         if os.fork() == 0:\n    os.setsid()\n    open(sys.argv[1] + '/alive', 'w').write(str(os.getpid()))\n    \
         while True:\n        time.sleep(1000)\n",
    );
    let mut session = Session::new();
    let directory = temp.path().display();
    for _ in 0..3 {
        assert_eq!(session.code(&format!("own python3 {keeper} {directory}")), "0");
        let alive = temp.path().join("alive");
        let deadline = Instant::now() + WAIT_LIMIT;
        let pid = loop {
            if let Some(pid) = read_pid(&alive) {
                break pid;
            }
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        };
        // No process of ours is left, as a zombie or otherwise.
        let left = session.runs(&format!("ps -eo ppid=,stat=,args= | grep '[o]wn-terminal.*{directory}'"));
        assert!(!left.contains("/own-terminal "), "{left}");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        std::fs::remove_file(alive).unwrap();
    }
}

fn read_pid(path: &Path) -> Option<rustix::process::Pid> {
    let text = std::fs::read_to_string(path).ok()?;
    rustix::process::Pid::from_raw(text.parse().ok()?)
}

#[test]
fn a_process_left_behind_can_neither_type_nor_read() {
    let (temp, attacker) = script(
        "import fcntl, glob, os, signal, sys, termios\n\
         pid = os.fork()\n\
         if pid == 0:\n    \
         log = open(sys.argv[1] + '/log', 'w', 1)\n    \
         signal.signal(signal.SIGHUP, signal.SIG_IGN)\n    \
         signal.signal(signal.SIGTTIN, signal.SIG_IGN)\n    \
         signal.signal(signal.SIGTTOU, signal.SIG_IGN)\n    \
         sys.stdin.read(0)\n    \
         os.read(int(sys.argv[2]), 1)\n    \
         for path in ['/dev/tty', sys.argv[3]]:\n        \
         try:\n            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)\n            log.write('opened ' + path + '\\n')\n            \
         for c in 'touch ' + sys.argv[1] + '/typed\\n': fcntl.ioctl(fd, termios.TIOCSTI, c.encode())\n        \
         except OSError as e: log.write(path + ' ' + str(e) + '\\n')\n    \
         for fd in [0, 1, 2]:\n        \
         try:\n            \
         for c in 'touch ' + sys.argv[1] + '/typed\\n': fcntl.ioctl(fd, termios.TIOCSTI, c.encode())\n            log.write('typed\\n')\n        \
         except OSError as e: log.write(str(fd) + ' ' + str(e) + '\\n')\n        \
         try: log.write('read ' + repr(os.read(fd, 100)) + '\\n')\n        \
         except OSError as e: log.write('read ' + str(e) + '\\n')\n    \
         log.write('tried\\n')\n    os._exit(0)\n",
    );
    if !is_root() {
        return;
    }
    let mut session = Session::new();
    let ours = session.runs("tty");
    let ours = ours.lines().find(|line| line.starts_with("/dev/pts/")).unwrap().trim().to_owned();
    let directory = temp.path().display();
    let fifo = temp.path().join("go");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o666), 0)
        .unwrap();
    session.runs(&format!("chmod 666 {}", fifo.display()));
    // It waits for the end of the command on a FIFO of its own.
    let line =
        format!("own sh -c 'exec 9<>{}; exec python3 {attacker} {directory} 9 {ours}'", fifo.display());
    assert_eq!(session.code(&line), "0");
    std::fs::write(&fifo, "x").unwrap();
    let log = temp.path().join("log");
    let deadline = Instant::now() + WAIT_LIMIT;
    let said = loop {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if said.contains("tried") {
            break said;
        }
        assert!(Instant::now() < deadline, "{said}");
        std::thread::yield_now();
    };
    assert!(!said.contains("opened") && !said.contains("typed"), "{said}");
    session.runs("true");
    assert!(!temp.path().join("typed").exists(), "{said}");
}

#[test]
fn the_terminal_is_as_it_was_whatever_the_command_left_it_in() {
    let mut session = Session::new();
    for line in [
        "own sh -c 'stty raw -echo'",
        "own sh -c 'stty raw -echo; kill -KILL $$'",
        "own sh -c 'stty 300 cols 3'",
    ] {
        session.runs(line);
        session.is_as_it_was();
    }
}
